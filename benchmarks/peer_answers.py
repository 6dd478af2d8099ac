"""What another library says of a log: `python benchmarks/peer_answers.py LIBRARY LOG.npz`, as ope_peers.py runs it.

It runs where the other library is installed, and prints a JSON object of estimates. It needs nothing of this package.
The log holds state, action and reward, (n, T) with the padding that ope_peers.py describes; length, (n,); tables of
states and actions for the behavior policy, the policy and the values Q; and the discount.
"""
from __future__ import annotations

import json
import sys
import warnings
from importlib.metadata import version

import numpy as np

PACKAGES = {"scope-rl": "scope-rl", "offline-rl-ope": "offline-rl-ope", "obp": "sb-obp"}


def ask_scope_rl(log: dict[str, np.ndarray]) -> dict[str, float]:
    "Episodes of one length: those that end earlier were padded by steps with ratio 1, reward 0 and value 0"
    from scope_rl.ope import discrete

    state, action = log["state"].ravel(), log["action"].ravel()
    estimators = {
        "importance_sampling": discrete.TrajectoryWiseImportanceSampling,
        "per_decision_importance_sampling": discrete.PerDecisionImportanceSampling,
        "weighted_importance_sampling": discrete.SelfNormalizedTIS,
        "weighted_per_decision_importance_sampling": discrete.SelfNormalizedPDIS,
        "direct_method": discrete.DirectMethod,
        "doubly_robust": discrete.DoublyRobust,
        "weighted_doubly_robust": discrete.SelfNormalizedDR,
    }
    told = {
        "step_per_trajectory": log["state"].shape[1],
        "action": action,
        "reward": log["reward"].ravel(),
        "pscore": log["behavior"][state, action],
        "evaluation_policy_action_dist": log["policy"][state],
        "state_action_value_prediction": log["q"][state],
        "gamma": float(log["discount"]),
    }
    return {name: float(estimator().estimate_policy_value(**told)) for name, estimator in estimators.items()}


def ask_offline_rl_ope(log: dict[str, np.ndarray]) -> dict[str, float]:
    "Episodes as lists, each as long as it is"
    import torch
    from offline_rl_ope.api.StandardEstimators import PDWIS, WDR, WIS, VanillaDR, VanillaISPDIS
    from offline_rl_ope.components.ImportanceSampler import ISWeightOrchestrator
    from offline_rl_ope.components.Policy import Policy
    from offline_rl_ope.OPEEstimators import DirectMethodBase
    from offline_rl_ope.types import TorchPolicyReturn

    torch.set_default_dtype(torch.float64)

    def column(values: np.ndarray) -> list[torch.Tensor]:
        "(length, 1) of each episode"
        return [torch.tensor(row[:end, None], dtype=torch.float64)
                for row, end in zip(values, log["length"], strict=True)]

    def look_up(table: np.ndarray, state: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        return torch.tensor(table[state.numpy().astype(int), action.numpy().astype(int)])

    def follow(table: np.ndarray) -> Policy:
        return Policy(lambda state, action: TorchPolicyReturn(action, look_up(table, state, action)))

    class Model(DirectMethodBase):
        def calculate_v(self, state: torch.Tensor) -> torch.Tensor:
            v = (log["policy"] * log["q"]).sum(axis=1)
            return torch.tensor(v[state.numpy().astype(int)])

        def calculate_q(self, state: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
            return look_up(log["q"], state, action)

    states, actions, rewards = column(log["state"]), column(log["action"]), column(log["reward"])
    weights = ISWeightOrchestrator("vanilla", "per_decision", behav_policy=follow(log["behavior"]))
    weights.update(states=states, actions=actions, eval_policy=follow(log["policy"]))
    model = Model(None)
    estimators = {
        "importance_sampling": ("vanilla", VanillaISPDIS()),
        "per_decision_importance_sampling": ("per_decision", VanillaISPDIS()),
        "weighted_importance_sampling": ("vanilla", WIS()),
        "weighted_per_decision_importance_sampling": ("per_decision", PDWIS()),
        "doubly_robust": ("per_decision", VanillaDR(model)),
        "weighted_doubly_robust": ("per_decision", WDR(model)),
    }
    return {name: float(estimator.predict(
        rewards=rewards, states=states, actions=actions, weights=weights[kind].traj_is_weights,
        discount=float(log["discount"]), is_msk=weights.weight_msk)) for name, (kind, estimator) in estimators.items()}


def ask_obp(log: dict[str, np.ndarray]) -> dict[str, float]:
    "Episodes of one step: a bandit"
    from obp import ope

    state, action = log["state"][:, 0], log["action"][:, 0]
    told = {
        "reward": log["reward"][:, 0],
        "action": action,
        "pscore": log["behavior"][state, action],
        "action_dist": log["policy"][state][:, :, None],
        "estimated_rewards_by_reg_model": log["q"][state][:, :, None],
        "position": np.zeros(len(action), int),
    }
    estimators = {
        "importance_sampling": ope.InverseProbabilityWeighting,
        "weighted_importance_sampling": ope.SelfNormalizedInverseProbabilityWeighting,
        "direct_method": ope.DirectMethod,
        "doubly_robust": ope.DoublyRobust,
        "weighted_doubly_robust": ope.SelfNormalizedDoublyRobust,
    }
    return {name: float(estimator().estimate_policy_value(**told)) for name, estimator in estimators.items()}


ASK = {"scope-rl": ask_scope_rl, "offline-rl-ope": ask_offline_rl_ope, "obp": ask_obp}


def main() -> None:
    library, path = sys.argv[1:]
    warnings.simplefilter("ignore")
    with np.load(path) as log:
        answers = ASK[library](dict(log))
    print(json.dumps({"version": version(PACKAGES[library]), "answers": answers}))


if __name__ == "__main__":
    main()
