"""After how many steps is a behavior policy of comparison_more.toml partly trained? The rule is in that file's head.

`python benchmarks/behavior_steps.py ENV [--steps 5000 10000 20000 40000]` prints the returns of three seeds, none of
the study's, at each number of steps, and their median's way from a policy of chance to a good one.
"""
from __future__ import annotations

import argparse
import importlib
from contextlib import closing

import numpy as np

from bcq_nb.dqn import DQN, DQNConfig, train_behavioral
from bcq_nb.environments import make_envs
from bcq_nb.evaluation import evaluate
from bcq_nb.extrapolation import action_values, greedy
from bcq_nb.sepsis import load_hospital, survival
from bcq_nb.training import Exploration

SEEDS = (100, 101, 102)
GOOD = {                             # returns; in intensive care that of the best policy, exactly
    "Acrobot-v1": -100.0,            # the `reward_threshold` of Gymnasium
    "LunarLander-v3": 200.0,         # the `reward_threshold` of Gymnasium
}


def exact_survival(agent: DQN) -> float:
    "The share of patients that live under a policy: as exact as the tables."
    hospital = load_hospital()
    actions = agent.act(hospital.features)
    policy = np.eye(hospital.admissible.shape[1])[actions]
    return survival(hospital, policy)


def by_chance(env_id: str) -> float:
    "The return of random actions, in 200 episodes."
    rng = np.random.default_rng(0)
    with closing(make_envs(env_id)) as envs:
        n_actions = int(envs.single_action_space.n)
    return evaluate(lambda obs: rng.integers(n_actions, size=len(obs)), env_id, 200, seed=100).mean


def best_survival() -> float:
    "The share of patients that live under the best policy, found by policy iteration."
    hospital = load_hospital()
    policy, best = hospital.clinicians, 0.0
    while survival(hospital, policy) > best + 1e-9:
        best = survival(hospital, policy)
        policy = greedy(action_values(hospital.mdp, policy))
    return best


def curve_of(env_id: str, steps: list[int], seed: int) -> dict[int, float]:
    "Steps -> the return after them."
    def train(n: int) -> DQN:
        return train_behavioral(env_id, n, DQNConfig.small(), Exploration.small(), seed, min(steps), 100, device="cpu",
                                progress=False)

    if env_id.startswith("bcq_nb/"):   # chance would hide the difference: it is counted
        curve = {n: exact_survival(train(n)) for n in steps}
    else:
        curve = {row["step"]: row["return"] for row in train(max(steps)).history}
    print(f"seed {seed}: {curve}", flush=True)
    return curve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("env")
    parser.add_argument("--steps", type=int, nargs="+", default=[5_000, 10_000, 20_000, 40_000])
    given = parser.parse_args()
    if given.env.startswith("bcq_nb/"):
        importlib.import_module("icu_env")
        hospital = load_hospital()
        good, chance = best_survival(), survival(hospital, np.full(hospital.clinicians.shape, 1 / 25))
    else:
        good, chance = GOOD[given.env], by_chance(given.env)
    print(f"{given.env}: by chance {chance:.3f}, good {good:.3f}", flush=True)
    curves = [curve_of(given.env, given.steps, seed) for seed in SEEDS]
    for steps in given.steps:
        returns = [curve[steps] for curve in curves]
        way = (np.median(returns) - chance) / (good - chance)
        print(f"{steps:>8,} steps: {way:.0%} of the way", flush=True)


if __name__ == "__main__":
    main()
