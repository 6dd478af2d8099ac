"""Why a network gains less than a table in notebook 10: `python benchmarks/icu_causes.py` writes icu_causes.csv.

The log is always that of 20,000 patients, and τ is 0.3. Each run changes one thing of the study's settings: the batch
size of an update, up to the whole log; one-hot states in the place of 47 measurements; or one of the settings that
are said to matter. Resumable, as icu_study.py.

A row: onehot (1: a network that is told the number of the state), batch (0: each update takes the whole log), updates,
decay (1: the last quarter at a tenth of the learning rate), penalty (of the logits), scaled (1: the loss in units of
the root mean square of all rewards, those of 0 with them; `scale_reward` leaves these out), seed; then
what the policy claims, its true value, the true value of the best policy within the actions that it allows, and the
true value of its values within the actions that the clinicians' own probabilities allow.
"""
from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from cells import finished, key_of, settle, write
from icu_study import LAST, SETTINGS, UPDATES, judge, make_buffer

from bcq_nb.bcq import BCQConfig, DiscreteBCQ, train_offline
from bcq_nb.buffers import Batch, ReplayBuffer
from bcq_nb.counting import Counted, count_log, likely, one_step_values, plan
from bcq_nb.dqn import move_target
from bcq_nb.extrapolation import constrain, greedy
from bcq_nb.sepsis import Hospital, Log, load_hospital, simulate, survival
from bcq_nb.training import set_bounds, set_scales

SEEDS = range(5)
PATIENTS = 20_000
THRESHOLD = 0.3
BASE = {"onehot": 0, "batch": 1024, "updates": UPDATES, "decay": 1, "penalty": 0.01, "scaled": 0}
CHANGES = (
    {}, {"batch": 0}, {"batch": 64}, {"batch": 256}, {"batch": 4096}, {"decay": 0},
    {"batch": 64, "updates": 16 * UPDATES}, {"penalty": 0.0}, {"scaled": 1}, {"onehot": 1, "batch": 0}, {"onehot": 1},
)
KEY = [*BASE, "seed"]


def true_model(hospital: Hospital) -> Counted:
    "The world itself, as if a log had shown all of it"
    live = np.flatnonzero(~hospital.mdp.terminal)
    n_states, n_actions = hospital.clinicians.shape
    p = hospital.mdp.p[live].reshape(-1, n_states)
    pair, next_state = np.nonzero(p)
    reward = hospital.mdp.r[0, 0, next_state]   # it depends on the next state only
    return Counted(pair, next_state, p[pair, next_state], reward, np.ones((n_states, n_actions)), hospital.clinicians)


class ScaledBCQ(DiscreteBCQ):
    "Its loss is in the unit of its networks, whatever that is"

    def value_loss(self, q: torch.Tensor, batch: Batch) -> torch.Tensor:
        unit = self.network.value_scale
        return F.smooth_l1_loss(q / unit, self.td_target(batch) / unit)


def make_agent(buffer: ReplayBuffer, cell: dict) -> DiscreteBCQ:
    "A new agent with the settings of a cell"
    changes = {"batch_size": cell["batch"] or 1024, "logit_penalty": cell["penalty"],
               "standardize": not cell["onehot"]}
    config = BCQConfig(threshold=THRESHOLD, **{**SETTINGS, **changes})
    kind = ScaledBCQ if cell["scaled"] else DiscreteBCQ
    agent = kind(buffer.obs_space, buffer.n_actions, config, cell["seed"], device="cpu")
    if cell["scaled"]:
        rewards = buffer.reward[buffer.slots()].double()
        for network in (agent.network, agent.target):
            network.scaled = True
            network.value_scale.fill_(rewards.square().mean().sqrt().item())
    return agent


def train(agent: DiscreteBCQ, buffer: ReplayBuffer, cell: dict) -> None:
    "As in the study, with the number of updates and the learning rate of the cell"
    last = cell["updates"] * LAST // UPDATES
    train_offline(agent, buffer, cell["updates"] - last, seed=cell["seed"], progress=False)
    if cell["decay"]:
        agent.optimizer.param_groups[0]["lr"] /= 10
    train_offline(agent, buffer, last, seed=cell["seed"], progress=False)


def whole_loss(agent: DiscreteBCQ, hospital: Hospital, model: Counted) -> torch.Tensor:
    "The agent's loss in the mean over the whole log: each state goes through the networks once"
    n_actions = agent.n_actions
    states = torch.from_numpy(hospital.features)
    pair, next_state = torch.from_numpy(model.pair), torch.from_numpy(model.next_state)
    weight = torch.from_numpy(model.n.ravel()[model.pair] * model.share / model.n.sum()).float()
    q, logits = agent.network.both(states)
    with torch.no_grad():
        v = agent.next_value(states)
        v[torch.from_numpy(hospital.mdp.terminal)] = 0
        y = torch.from_numpy(model.reward).float() + agent.config.discount * v[next_state]
    value_loss = (weight * F.smooth_l1_loss(q.reshape(-1)[pair], y, reduction="none")).sum()
    imitation_loss = -(weight * logits.log_softmax(1).reshape(-1)[pair]).sum()
    visits = torch.from_numpy(model.n.sum(1) / model.n.sum()).float()
    penalty = agent.config.logit_penalty * (visits[:, None] * logits.square()).sum() / n_actions
    return value_loss + imitation_loss + penalty


def train_whole(agent: DiscreteBCQ, hospital: Hospital, model: Counted, buffer: ReplayBuffer, updates: int) -> None:
    "Updates that each take the whole log; the last quarter at a tenth of the learning rate"
    set_scales(agent, buffer)
    set_bounds(agent, buffer)
    for update in range(updates):
        if update == updates - updates * LAST // UPDATES:
            agent.optimizer.param_groups[0]["lr"] /= 10
        agent.optimizer.zero_grad()
        whole_loss(agent, hospital, model).backward()
        agent.optimizer.step()
        move_target(agent.target_weights, agent.weights, agent.config.target_rate)


def run_cell(hospital: Hospital, cell: dict, log: Log, best_values: np.ndarray) -> dict:
    "A row"
    if cell["onehot"]:
        hospital = replace(hospital, features=np.eye(len(hospital.start), dtype=np.float32))
    buffer = make_buffer(hospital, log, 0)
    agent = make_agent(buffer, cell)
    if cell["batch"] == 0:
        train_whole(agent, hospital, count_log(log.steps, hospital.clinicians.shape), buffer, cell["updates"])
    else:
        train(agent, buffer, cell)
    q, allowed = agent.q_values(hospital.features).numpy(), agent.allowed(hospital.features).numpy()
    truly_allowed = likely(hospital.clinicians, THRESHOLD)
    return {**cell, **judge(hospital, agent, 0),
            "own_actions_true_values": survival(hospital, greedy(constrain(best_values, allowed))),
            "true_actions_own_values": survival(hospital, greedy(constrain(q, truly_allowed)))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    results = Path(__file__).parents[1] / "bcq_nb" / "results"
    parser.add_argument("--out", type=Path, default=results, help="where the table goes")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="which")
    args = parser.parse_args()

    settle()
    path = args.out / "icu_causes.csv"
    rows = finished(path)
    done = {key_of(row, KEY) for row in rows}
    hospital = load_hospital()
    allowed = likely(hospital.clinicians, THRESHOLD)
    model = true_model(hospital)
    _, v = plan(model, lambda q: greedy(constrain(q, allowed)))
    best_values = one_step_values(model, v, 1.0)
    for change in CHANGES:
        for seed in args.seeds:
            cell = {**BASE, **change, "seed": seed}
            if key_of(cell, KEY) in done:
                continue
            began = time.time()
            log = simulate(hospital, hospital.clinicians, PATIENTS, seed)
            rows.append(run_cell(hospital, cell, log, best_values))
            write(path, rows, KEY)
            print(cell, f"true {rows[-1]['true']:.4f}, {time.time() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
