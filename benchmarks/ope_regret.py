"""What is lost by choosing with each criterion: `python benchmarks/ope_regret.py` writes bcq_nb/results/ope_regret.csv.

Tang & Wiens 2021 (arXiv 2107.11003) let criteria choose among 96 candidates on a simulator of sepsis, ten times. Here
the world is ICU-Sepsis, whose true values are exact. In each of ten repetitions the clinicians write two logs of 10,000
patients. From the first one discrete BCQ learns, with networks on the 47 measurements: six thresholds, two sizes of the
network, and four stopping points, which makes 48 candidates. The second log judges them. It holds the clinicians'
probabilities, and the discount is 1.

    claim     what the candidate believes of itself where stays begin ("own Q")
    td        mean squared TD error of its values, its policy choosing the next action: the smaller, the better
    wis       weighted importance sampling
    wis_soft  the same for a policy that takes a random action in 1 % of its decisions, as theirs
    model     its value in the world as the log counts it (`model_value`)
    fqe       fitted Q evaluation: `fit_q` with its defaults but for two layers of 64, and 400 updates
    wdr       weighted doubly robust, with the values of fqe

What the rule of `bcq_nb.selection` needs is told, too: moved (of fqe), effective (size), mean_weight, and untried
(share).

A row is a candidate. It is written when it is judged: a study that was stopped goes on where it was. Delete the file to
start anew. FQE has as few updates as the time allowed: 480 fits of two seconds.

The rule for reading, written down before any of these seeds was looked at (logs 300 and 1300 were used to find settings
whose cost can be paid):

1. The regret of a choice is the true survival of the best candidate less that of the one that the criterion ranks
   first. As a share, it is divided by the best less the worst. What counts is the mean share over repetitions, with the
   95 % interval by resampling repetitions.
2. Published, by regret: own Q 0.66; WDR and approximate model 0.35; TD error 0.31; WIS 0.135; WIS keeps 12, FQE decides
   0.089; WIS keeps 24, FQE decides 0.078; FQE 0.059. Only the order can be compared, as rewards are others.
3. Two criteria have the published order if the interval of the difference of their regrets, repetition by repetition,
   is on its side of 0. They have the opposite order if it is on the other side. Else this study cannot tell.
4. WIS is `wis_soft`, as theirs is. `wis` stands beside it. Two-stage choices keep the best by `wis_soft`, too. The rule
   of `bcq_nb.selection` is applied as it is, with `wis` and eight finalists.
5. A criterion's ranking is told by its rank correlation (Spearman) with true survival over the 48 candidates.
"""
from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from cells import finished, key_of, settle, write
from fqe_settings import policy_by_features
from icu_study import make_buffer

from bcq_nb.bcq import BCQConfig, DiscreteBCQ
from bcq_nb.buffers import ReplayBuffer
from bcq_nb.counting import Counted, count_log, model_value
from bcq_nb.evidence import Logged, gather, read_behavior, with_values
from bcq_nb.fqe import FQEConfig, fit_q, moved
from bcq_nb.ope import weighted_doubly_robust, weighted_importance_sampling
from bcq_nb.selection import stopping_points
from bcq_nb.sepsis import Hospital, Log, load_hospital, simulate, survival
from bcq_nb.verdict import support_of

REPETITIONS = 10
PATIENTS = 10_000     # in each of the two logs
JUDGING = 1_000       # what is added to a repetition's seed for the log that judges
THRESHOLDS = (0.0, 0.05, 0.1, 0.3, 0.5, 1.0)
WIDTHS = (32, 128)    # of both hidden layers
UPDATES = 600
EVERY = 150           # updates from one stopping point to the next
SETTINGS = {"lr": 1e-3, "batch_size": 256, "target_rate": 0.05, "discount": 1.0, "standardize": True}
SOFTNESS = 0.01
FQE_CONFIG = FQEConfig(hidden=(64, 64))
FQE_UPDATES = 400

KEY = ["repetition", "tau", "width", "updates"]   # all columns are numbers


@dataclass(frozen=True)
class Judge:
    "The log that judges, read once for all candidates of a repetition"
    hospital: Hospital
    log: Log
    logged: Logged
    seed: int

    @cached_property
    def counted(self) -> Counted:
        "The world as this log shows it"
        return count_log(self.log.steps, self.hospital.clinicians.shape)

    @cached_property
    def first(self) -> np.ndarray:
        "(n,) states in which stays begin"
        return self.log.steps.state[self.log.time == 0]

    def td_error(self, policy: np.ndarray, q: np.ndarray) -> float:
        "Mean squared TD error of values (S, A), the policy choosing the next action"
        state, action, reward, next_state, terminated = self.log.steps
        expected = (policy * q).sum(axis=1)
        delta = reward + (1 - terminated) * expected[next_state] - q[state, action]
        return float(np.square(delta).mean())


def open_court(hospital: Hospital, repetition: int) -> Judge:
    "Write and read the log that judges"
    log = simulate(hospital, hospital.clinicians, PATIENTS, repetition + JUDGING)
    imitated = read_behavior(make_buffer(hospital, log, 0), seed=repetition, device="cpu")   # for what is untried
    logged = replace(imitated, behavior=log.prob, is_logged=True)
    return Judge(hospital, log, logged, repetition)


def judge(court: Judge, agent: DiscreteBCQ) -> dict[str, float]:
    "What each criterion says of a candidate, and the truth"
    features, logged, state = court.hospital.features, court.logged, court.log.steps.state
    policy, own_q = agent.policy(features).numpy().astype(float), agent.q_values(features).numpy()
    soft = (1 - SOFTNESS) * policy + SOFTNESS / policy.shape[1]
    by_features = policy_by_features(court.hospital, policy)
    model = fit_q(by_features, logged.buffer, 1.0, FQE_CONFIG, FQE_UPDATES, court.seed, "cpu")
    q = model.q_values(features).numpy()
    evidence = gather(policy[state], logged, 1.0)
    after = np.zeros(PATIENTS)   # no stay was cut
    valued = with_values(evidence, logged, policy[state], q[state], after)
    taken = policy[state, logged.action]
    support = support_of(evidence.weight[:, -1], taken, policy[state], logged.imitated)
    with np.errstate(invalid="ignore"):   # no episode may have any weight
        by_weights = {
            "wis": float(weighted_importance_sampling(evidence)),
            "wis_soft": float(weighted_importance_sampling(gather(soft[state], logged, 1.0))),
            "wdr": float(weighted_doubly_robust(valued))}
    return {
        "true": survival(court.hospital, policy),
        "claim": float((policy * own_q).sum(axis=1)[court.first].mean()), "td": court.td_error(policy, own_q),
        **by_weights, "model": model_value(court.counted, policy, court.first),
        "fqe": float((policy * q).sum(axis=1)[court.first].mean()), "moved": moved(model, logged.buffer),
        "effective": support.effective, "mean_weight": support.mean_weight, "untried": support.untried}


def run_repetition(hospital: Hospital, repetition: int, done: set) -> Iterator[dict]:
    "Rows of the candidates that are not done"
    log = simulate(hospital, hospital.clinicians, PATIENTS, repetition)
    learned_from = make_buffer(hospital, log, 0)
    court = open_court(hospital, repetition)
    for tau in THRESHOLDS:
        for width in WIDTHS:
            cells = [{"repetition": repetition, "tau": tau, "width": width, "updates": updates}
                     for updates in range(EVERY, UPDATES + 1, EVERY)]
            missing = [key_of(cell, KEY) not in done for cell in cells]
            if any(missing):
                agents = learn(learned_from, tau, width, repetition)
                for cell, agent, is_missing in zip(cells, agents, missing, strict=True):
                    if is_missing:
                        yield {**cell, **judge(court, agent)}


def learn(buffer: ReplayBuffer, tau: float, width: int, seed: int) -> list[DiscreteBCQ]:
    "An agent at each stopping point"
    config = BCQConfig(threshold=tau, hidden=(width, width), **SETTINGS)
    agent = DiscreteBCQ(buffer.obs_space, buffer.n_actions, config, seed, device="cpu")
    return stopping_points(agent, buffer, UPDATES, EVERY, seed=seed, progress=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    results = Path(__file__).parents[1] / "bcq_nb" / "results"
    parser.add_argument("--out", type=Path, default=results, help="where the table goes")
    parser.add_argument("--repetitions", type=int, nargs="+", default=list(range(REPETITIONS)), help="which")
    args = parser.parse_args()

    settle()
    path = args.out / "ope_regret.csv"
    rows = finished(path)
    done = {key_of(row, KEY) for row in rows}
    hospital = load_hospital()
    candidates = len(THRESHOLDS) * len(WIDTHS) * UPDATES // EVERY
    for repetition in args.repetitions:
        if sum(key[0] == repetition for key in done) == candidates:
            continue
        began = time.process_time()
        for row in run_repetition(hospital, repetition, done):
            rows.append(row)
            write(path, rows, KEY)
        print(repetition, f"{time.process_time() - began:.0f} s of a core", file=sys.stderr)


if __name__ == "__main__":
    main()
