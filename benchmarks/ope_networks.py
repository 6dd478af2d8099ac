"""Intervals where nothing is counted: `python benchmarks/ope_networks.py` writes bcq_nb/results/ope_networks.csv.

As ope_coverage.py, with networks in the place of tables: 100 logs of 2,000 patients of ICU-Sepsis, in which the
clinicians' probabilities are not logged. The policy is `bcq` of that study. Networks see the 47 measurements: two
imitations say how likely each decision was (`read_behavior`), and FQE with its defaults says what the policy is worth
(`fit_q`). The estimators are also given the true probabilities, which `behavior` tells.

A row: an estimator on a log, its estimate, whether its interval and its lower bound hold the truth, the interval's
width and the effective size. Written when a log is finished: a study that was stopped goes on where it was.
"""
from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from cells import settle
from fqe_settings import policy_by_features
from icu_study import make_buffer
from ope_coverage import END, WITH_MODEL, World, judge, make_icu, read, true_value

from bcq_nb.evidence import gather, policy_table, read_behavior, with_values
from bcq_nb.files import write_rows
from bcq_nb.fqe import fit_q
from bcq_nb.ope import weighted_importance_sampling
from bcq_nb.sepsis import Hospital, load_hospital, simulate

FIRST_SEED = 90_000
LOGS = 100
PATIENTS = 2_000
ESTIMATORS = {"WIS": weighted_importance_sampling, **WITH_MODEL}


def judge_log(hospital: Hospital, world: World, truth: float, seed: int) -> Iterator[dict]:
    "Rows of a log"
    log = simulate(hospital, world.behavior, PATIENTS, seed)
    buffer = make_buffer(hospital, log, 0)
    policy = policy_by_features(hospital, world.policies["bcq"])
    logged = read_behavior(buffer, seed=seed, device="cpu")
    model = fit_q(policy, buffer, 1.0, seed=seed, device="cpu")
    probabilities = policy_table(policy, logged)
    q = model.q_values(hospital.features[log.steps.state]).numpy()
    nothing = np.zeros(PATIENTS)   # follows on a stay: none was cut
    imitated = with_values(gather(probabilities, logged, 1.0), logged, probabilities, q, nothing)
    taken = world.policies["bcq"][log.steps.state, log.steps.action]
    known = replace(imitated, ratio=logged.padded(taken / log.prob, 1.0))
    for behavior, evidence in (("known", known), ("imitated", imitated)):
        for name, estimator in ESTIMATORS.items():
            judged = judge(evidence, estimator, truth)
            row = {"seed": seed, "behavior": behavior, "estimator": name, "truth": truth, **judged}
            yield {name: value if isinstance(value, str) else f"{value:.6g}" for name, value in row.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    results = Path(__file__).parents[1] / "bcq_nb" / "results"
    parser.add_argument("--out", type=Path, default=results, help="where the table goes")
    args = parser.parse_args()

    settle()
    path = args.out / "ope_networks.csv"
    rows = read(path)
    done = {int(row["seed"]) for row in rows}
    hospital, world = load_hospital(), make_icu()
    truth = true_value(world, world.policies["bcq"], END)
    for seed in range(FIRST_SEED, FIRST_SEED + LOGS):
        if seed in done:
            continue
        began = time.time()
        rows += judge_log(hospital, world, truth, seed)
        write_rows(path, rows)
        print(seed, f"{time.time() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
