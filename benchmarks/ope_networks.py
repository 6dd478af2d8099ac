"""Intervals where nothing is counted: `python benchmarks/ope_networks.py` writes bcq_nb/results/ope_networks.csv.

As ope_coverage.py, with networks in the place of tables: 50 logs of 2,000 patients of ICU-Sepsis, in which the
clinicians' probabilities are not logged. Networks see the 47 measurements. Two imitations say how likely each decision
was (`read_behavior`). WIS is given that (behavior is imitated) or the truth (known), for the policies `bcq` and
`mixture` of that study, with stays to the end and cut after 10 decisions. FQE with its defaults says what `bcq` is
worth (`fit_q`), for DM, DR and WDR.

A row: an estimator on a log, its estimate, whether its interval and its lower bound hold the truth, the interval's
width, the effective size, the largest weight's share and the mean weight. Written when a log is finished: a study that
was stopped goes on where it was.
"""
from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from cells import settle
from fqe_settings import policy_by_features
from icu_study import make_buffer
from ope_coverage import END, WITH_MODEL, World, judge, make_icu, read, true_value

from bcq_nb.evidence import Evidence, read_behavior, with_values
from bcq_nb.files import write_rows
from bcq_nb.fqe import fit_q
from bcq_nb.ope import weighted_importance_sampling
from bcq_nb.sepsis import Hospital, load_hospital, simulate

FIRST_SEED = 90_000
LOGS = 50
PATIENTS = 2_000
POLICIES = ("bcq", "mixture")
HORIZONS = (10, END)


def row_of(seed: int, policy: str, horizon: int, behavior: str, name: str, evidence: Evidence, truth: float) -> dict:
    "An estimator on a log"
    estimator = {"WIS": weighted_importance_sampling, **WITH_MODEL}[name]
    row = {"seed": seed, "policy": policy, "horizon": horizon, "behavior": behavior, "estimator": name, "truth": truth,
           **judge(evidence, estimator, truth), "mean_weight": evidence.weight[:, -1].mean()}
    return {column: value if isinstance(value, str) else f"{value:.5g}" for column, value in row.items()}


def judge_log(hospital: Hospital, world: World, truths: dict[tuple[str, int], float], seed: int) -> Iterator[dict]:
    "Rows of a log"
    log = simulate(hospital, world.behavior, PATIENTS, seed)
    state, action = log.steps.state, log.steps.action
    buffer = make_buffer(hospital, log, 0)
    logged = read_behavior(buffer, seed=seed, device="cpu")
    reward = logged.padded(log.steps.reward, 0.0)
    for behavior, prob in (("known", log.prob), ("imitated", logged.behavior)):
        for name in POLICIES:
            ratio = logged.padded(world.policies[name][state, action] / prob, 1.0)
            for horizon in HORIZONS:
                cut = Evidence(reward[:, :horizon], ratio[:, :horizon])
                yield row_of(seed, name, horizon, behavior, "WIS", cut, truths[name, horizon])

    table = world.policies["bcq"]
    policy = policy_by_features(hospital, table)
    model = fit_q(policy, buffer, 1.0, seed=seed, device="cpu")
    q = model.q_values(hospital.features[state]).numpy()
    nothing = np.zeros(PATIENTS)   # follows on a stay: none was cut
    for behavior, prob in (("known", log.prob), ("imitated", logged.behavior)):
        without = Evidence(reward, logged.padded(table[state, action] / prob, 1.0))
        evidence = with_values(without, logged, table[state], q, nothing)
        for name in WITH_MODEL:
            yield row_of(seed, "bcq", END, behavior, name, evidence, truths["bcq", END])


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
    truths = {(name, horizon): true_value(world, world.policies[name], horizon)
              for name in POLICIES for horizon in HORIZONS}
    for seed in range(FIRST_SEED, FIRST_SEED + LOGS):
        if seed in done:
            continue
        began = time.time()
        rows += judge_log(hospital, world, truths, seed)
        write_rows(path, rows)
        print(seed, f"{time.time() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
