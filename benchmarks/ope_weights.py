"""What the effective size does not see: `python benchmarks/ope_weights.py` writes bcq_nb/results/ope_weights.csv.

The first rule, that of ope_coverage.py, has no answer: at no effective size do the intervals of WIS hold the truth in
90 % of the logs. Its logs showed that most of those which miss have weights with a mean far below 1, which is what it
must be over all logs: episodes that the policy would often have are missing. This study asks it of new logs: 200 of
each size, cut at each of the horizons. Worlds, policies and intervals are those of ope_coverage.py.

The second rule, written down before these logs were drawn: LEAST_MEAN (notebook 08h) is the smallest of 0.5, 0.6, 0.7,
0.8 and 0.9 such that of all logs with even seeds, known behavior, an effective size of at least 10 and a mean weight of
at least that, at least 90 % of the intervals of WIS hold the truth. It is checked on odd seeds, and said for each of
the policies.

A row: of the logs of a cell with even or odd seeds, an effective size of at least 10 or less (`enough`), and a mean
weight from `least` up to the next row's, how many there are, and how many intervals and lower bounds hold the truth.
`behavior` is known, or `estimated` as in ope_coverage.py.
"""
from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
from ope_coverage import END, World, choose, estimated, judge, make_icu, make_map, padded, read, true_value

from bcq_nb.counting import count_log
from bcq_nb.evidence import Evidence
from bcq_nb.files import write_rows
from bcq_nb.ope import weighted_importance_sampling
from bcq_nb.sepsis import Log, simulate

FIRST_SEED = 500_000
LOGS = 200
SIZES = (100, 300, 1_000, 3_000)
HORIZONS = {"map": (5, 10, 20, 40), "icu": (5, 10, 20, END)}
MEANS = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.1)
ENOUGH = 10

Counts = dict[tuple, np.ndarray]   # what a row is about: logs, intervals and lower bounds that hold the truth


def count(counted: Counts, key: tuple, evidence: Evidence, truth: float) -> None:
    "Add a log to its row"
    judged = judge(evidence, weighted_importance_sampling, truth)
    mean = evidence.weight[:, -1].mean()
    least = max(limit for limit in MEANS if limit <= mean)
    row = (*key, int(judged["effective"] >= ENOUGH), least)
    counted[row] += np.array([1, judged["holds"], judged["lower_holds"]], int)


def count_log_of(counted: Counts, world: World, log: Log, truths: dict[str, float], key: tuple) -> None:
    "Add a log, with each policy and both kinds of probabilities"
    halves = [count_log(choose(log, log.stay % 2 != parity).steps, world.behavior.shape) for parity in (0, 1)]
    reward = padded(log, log.steps.reward, 0.0)
    for name, policy in world.policies.items():
        taken = policy[log.steps.state, log.steps.action]
        known = Evidence(reward, padded(log, taken / log.prob, 1.0), world.mdp.discount)
        guessed = replace(known, ratio=padded(log, taken / estimated(log, halves), 1.0))
        count(counted, (*key, name, "known"), known, truths[name])
        count(counted, (*key, name, "estimated"), guessed, truths[name])


def rows_of(name: str, world: World, n: int, first_seed: int) -> list[dict]:
    "All logs of a world and a size"
    truths = {horizon: {policy: true_value(world, table, horizon) for policy, table in world.policies.items()}
              for horizon in HORIZONS[name]}
    counted: Counts = defaultdict(lambda: np.zeros(3, int))
    for seed in range(LOGS):
        log = simulate(world, world.behavior, n, first_seed + seed)
        for horizon in HORIZONS[name]:
            key = (name, n, horizon, seed % 2)
            count_log_of(counted, world, choose(log, log.time < horizon), truths[horizon], key)
    names = ("world", "n", "horizon", "odd", "policy", "behavior", "enough", "least", "logs", "holds", "lower_holds")
    return [dict(zip(names, (*row, *counted[row]), strict=True)) for row in sorted(counted)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    results = Path(__file__).parents[1] / "bcq_nb" / "results"
    parser.add_argument("--out", type=Path, default=results, help="where the table goes")
    args = parser.parse_args()

    path = args.out / "ope_weights.csv"
    rows = read(path)
    done = {(row["world"], int(row["n"])) for row in rows}
    worlds = {"map": make_map(), "icu": make_icu()}
    cells = [(name, n) for name in worlds for n in SIZES]
    for number, (name, n) in enumerate(cells):
        if (name, n) in done:
            continue
        began = time.time()
        rows += rows_of(name, worlds[name], n, FIRST_SEED + 1_000 * number)
        write_rows(path, rows)
        print(name, n, f"{time.time() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
