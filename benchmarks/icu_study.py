"""The study of ICU-Sepsis in notebook 10: `python benchmarks/icu_study.py` writes bcq_nb/results/icu.csv.

Clinicians treat n simulated patients, and the log is all that a learner sees. Each policy's true value is computed
exactly. A row is written when a cell is finished: a study that was stopped goes on where it was. Delete the file to
start anew.

The rule, written down before any of the study's seeds was looked at (settings were tried on seeds 100 to 102):

1. Settings of the network were tried at 20,000 patients and τ = 0.3. Of those that take at most 15 seconds of an idle
   core and whose true value, in the mean over seeds 100 to 102, is within 0.003 of the best, the ones whose claims
   moved least in the last fifth of the training. They are the same for each n and each τ.
2. What counts is the last policy, never the best one.
3. Seeds 0 to 9: of the patients, of the first weights, and of the transitions that are drawn. All learners get the
   same logs.
4. Learners with tables are discrete BCQ with several τ, and SPIBB with pairs known from 10 visits on. Networks are
   discrete BCQ with fewer τ, for the sake of time.
5. Masks need a log without inadmissible actions. There the clinicians' policy is restricted to admissible ones, which
   changes its true value by 0.0002. A network that is told what exists and one that is not get the same log.
6. "Better than the clinicians" is said where the 95 % interval of the mean over seeds lies above their true value.
"""
from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from cells import finished, key_of, settle, write
from gymnasium.spaces import Box

from bcq_nb.bcq import BCQConfig, DiscreteBCQ, train_offline
from bcq_nb.buffers import ReplayBuffer
from bcq_nb.counting import count_log, plan_bcq, plan_spibb
from bcq_nb.sepsis import Hospital, Log, load_hospital, restrict, simulate, survival

PATIENTS = (500, 2_000, 5_000, 20_000, 50_000)
TABLE_THRESHOLDS = (0.0, 0.05, 0.1, 0.3, 0.5, 1.0)
# Cells of networks: patients, kept to admissible actions, thresholds. A study that is stopped has the first of them
DEEP = (
    ((20_000, 2_000), 0, (0.3, 0.0, 1.0)),
    ((20_000,), 1, (0.3, 0.0)),
    ((50_000, 500), 0, (0.3, 0.0, 1.0)),
    ((20_000, 2_000, 50_000, 500), 0, (0.1,)),
    ((5_000,), 0, (0.3, 0.0, 1.0, 0.1)),
    ((2_000,), 1, (0.3, 0.0)),
)
KNOWN_FROM = 10   # visits, of SPIBB

UPDATES = 1_000
LAST = 250        # of them at a tenth of the learning rate: the last policy trembles less
SETTINGS = {"hidden": (128, 128), "lr": 1e-3, "batch_size": 1024, "target_rate": 0.05, "discount": 1.0,
            "standardize": True}

# All columns are numbers. kept: the clinicians kept to admissible actions. deep: a network. masks: it was told what
# exists. spibb: from how many visits on SPIBB takes a pair as known, 0 for discrete BCQ, whose threshold is tau
KEY = ["n", "seed", "kept", "deep", "masks", "spibb", "tau"]


def table_cells(seed: int) -> list[dict]:
    "The cells of learners with tables, those of one log together"
    planned = []
    for n in PATIENTS:
        cell = {"n": n, "seed": seed, "kept": 0, "deep": 0, "masks": 0}
        planned += [{**cell, "spibb": 0, "tau": tau} for tau in TABLE_THRESHOLDS]
        planned += [{**cell, "spibb": KNOWN_FROM, "tau": 0}]
    for patients, kept, thresholds in DEEP:
        for n in patients:
            if kept:
                cell = {"n": n, "seed": seed, "kept": 1, "deep": 0, "masks": 0, "spibb": 0}
                planned += [{**cell, "tau": tau} for tau in thresholds]
    return planned


def deep_cells(part: tuple, seed: int) -> list[dict]:
    "The cells of networks of one part of the study; where the clinicians kept to what exists, told so and not told so"
    patients, kept, thresholds = part
    planned = []
    for n in patients:
        for tau in thresholds:
            cell = {"n": n, "seed": seed, "kept": kept, "deep": 1}
            planned += [{**cell, "masks": masks, "spibb": 0, "tau": tau} for masks in range(kept + 1)]
    return planned


def clinicians_log(hospital: Hospital, n: int, seed: int, kept: int) -> Log:
    "What the clinicians do, or would do if they kept to admissible actions"
    policy = restrict(hospital.clinicians, hospital.admissible) if kept else hospital.clinicians
    return simulate(hospital, policy, n, seed)


def make_buffer(hospital: Hospital, log: Log, masks: int) -> ReplayBuffer:
    "A log as transitions of features"
    state, action, reward, next_state, terminated = log.steps
    told = {}
    if masks:
        told = {"mask": hospital.admissible[state], "next_mask": hospital.admissible[next_state]}
    return ReplayBuffer.from_arrays(
        hospital.features[state], action, reward, hospital.features[next_state], terminated == 1,
        np.zeros(len(state), bool), n_actions=hospital.clinicians.shape[1],
        obs_space=Box(-np.inf, np.inf, hospital.features.shape[1:], np.float32), **told)


def train(buffer: ReplayBuffer, threshold: float, seed: int) -> DiscreteBCQ:
    "Discrete BCQ; the last updates at a tenth of the learning rate"
    config = BCQConfig(threshold=threshold, **SETTINGS)
    agent = DiscreteBCQ(buffer.obs_space, buffer.n_actions, config, seed, device="cpu")
    train_offline(agent, buffer, UPDATES - LAST, seed=seed, progress=False)
    agent.optimizer.param_groups[0]["lr"] = config.lr / 10
    train_offline(agent, buffer, LAST, seed=seed, progress=False)
    return agent


def judge(hospital: Hospital, agent: DiscreteBCQ, masks: int) -> dict[str, float]:
    "What the agent believes of its policy, and what it does"
    mask = hospital.admissible if masks else None
    policy = agent.policy(hospital.features, mask=mask).numpy()
    q = agent.q_values(hospital.features).numpy()
    allowed = agent.allowed(hospital.features, mask).numpy()
    live = ~hospital.mdp.terminal
    believed = np.where(live, (policy * q).sum(axis=1), 0)
    return {"claims": float(hospital.start @ believed), "true": survival(hospital, policy),
            "allowed": allowed[live].sum(axis=1).mean()}


def run_tables(hospital: Hospital, log: Log, threshold: float, known_from: int) -> dict[str, float]:
    "A learner with tables: what it believes of its policy, and what that does"
    model = count_log(log.steps, hospital.clinicians.shape)
    if known_from:
        policy, v = plan_spibb(model, known_from)
    else:
        policy, v = plan_bcq(model, threshold)
    return {"claims": float(hospital.start @ v), "true": survival(hospital, policy)}


def run_cell(hospital: Hospital, log: Log, cell: dict) -> dict:
    "A row of the table"
    saved = log.steps.reward.sum() / cell["n"]
    if cell["deep"]:
        agent = train(make_buffer(hospital, log, cell["masks"]), cell["tau"], cell["seed"])
        return {**cell, "saved": saved, **judge(hospital, agent, cell["masks"])}
    return {**cell, "saved": saved, **run_tables(hospital, log, cell["tau"], cell["spibb"])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    results = Path(__file__).parents[1] / "bcq_nb" / "results"
    parser.add_argument("--out", type=Path, default=results, help="where the table goes")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)), help="which, 0 to 9 by default")
    args = parser.parse_args()

    settle()
    path = args.out / "icu.csv"
    rows = finished(path)
    done = {key_of(row, KEY) for row in rows}
    hospital = load_hospital()
    log, written = None, None
    planned = [cell for part in DEEP for seed in args.seeds for cell in deep_cells(part, seed)]
    planned += [cell for seed in args.seeds for cell in table_cells(seed)]
    for cell in planned:
        if key_of(cell, KEY) in done:
            continue
        source = cell["n"], cell["seed"], cell["kept"]
        if source != written:   # cells of one log follow each other
            log, written = clinicians_log(hospital, *source), source
        began = time.time()
        rows.append(run_cell(hospital, log, cell))
        write(path, rows, KEY)
        print(*(f"{name} {value:.4g}" for name, value in rows[-1].items()), f"{time.time() - began:.0f} s",
              sep=", ", file=sys.stderr)


if __name__ == "__main__":
    main()
