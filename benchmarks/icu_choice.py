"""Which policy would one keep, knowing only the log? `python benchmarks/icu_choice.py` writes results/icu_choice.csv.

Clinicians treat n simulated patients (ICU-Sepsis, notebook 08b). The log is split by patient: policies learn from one
part and are judged by the other. Halves, because both parts are needed: what is not learned cannot be chosen, and what
is not judged is chosen by luck. A second split, 80 % to learn from and 20 % to judge by, has fewer cells.

Candidates, all with tables (notebook 08c): discrete BCQ at six thresholds, SPIBB with pairs known from ten visits on,
and the imitation, which draws its actions as often as the learning part has them. A row is a candidate on one log: what
each criterion says of it, and what is true. Notebook 10 chooses by these numbers.

The criteria and rules, written down before any row was looked at (the estimate by the model was tried on other seeds):

1. A criterion picks the candidate for which it says most:
   claim        what the learner itself believes, where stays of the learning part begin
   WIS          weighted importance sampling with the probabilities that the clinicians had
   WIS, counted the same with probabilities counted in the learning part, as one would without knowing them
   model        the value in the world that the judging part shows, each pair with one visit more (`model_value`)
   WDR          weighted doubly robust with this model and the known probabilities
   A criterion that says nothing (no stay has any weight) says least.
2. The rule of notebook 09a with tables. Untried candidates are out: more than 5 % of their decisions, in the states of
   the judging part, have a probability below 1 %. Of those with an effective size of at least `LEAST_EFFECTIVE`, the
   four best by WIS stay; the others are not pruned. Of those that are left the model's best is kept. Where all are
   out, one keeps to what the clinicians do. It comes in two forms, by where probabilities are counted: in the part
   that the candidate learned from (`tried there`), or in the judging part (`tried here`), with three visits more in
   each state, spread as all actions of the part are.
3. A choice is right if the true survival of what is kept is within 0.005 of the best candidate's. It is safe if it is
   not below the clinicians' by more than 0.002.
4. Patients that are needed until a criterion is right 9 times in 10: the smallest n of the list from which on the share
   of right choices is at least 0.9. Its 95 % interval is Wilson's.
5. A policy is said to be better where its effective size is at least `LEAST_EFFECTIVE` and the one-sided lower bound of
   95 % of WIS less the mean return of the judging part lies above 0. That is asked of the candidate that was picked, by
   the part that picked it. How many patients until a gain is shown in 9 of 10 logs is answered as in 4.

Seeds 0 to 29, and up to 49 for 5,000 patients and fewer. Written when a log is finished: a study that was stopped goes
on where it was. Delete the file to start anew.
"""
from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from cells import finished, key_of, settle, write

from bcq_nb.counting import Counted, count_log, plan_bcq, plan_spibb, policy_values
from bcq_nb.evidence import Evidence
from bcq_nb.extrapolation import Transitions
from bcq_nb.ope import bootstrap, direct_method, logged_return, weighted_doubly_robust, weighted_importance_sampling
from bcq_nb.sepsis import LIVE, SURVIVAL, Hospital, Log, load_hospital, simulate
from bcq_nb.verdict import HARDLY, effective_size, interval_of

PATIENTS = (500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000)
SEEDS = 30
MORE_SEEDS = 50              # of logs that cost little
FEW = 5_000                  # patients
JUDGING = (0.5, 0.2)         # share of the patients by whom policies are judged
FEWER_CELLS = (2_000, 5_000, 20_000)   # patients of the logs of which the smaller share judges, too
THRESHOLDS = (0.0, 0.05, 0.1, 0.3, 0.5, 1.0)
KNOWN_FROM = 10              # visits, of SPIBB
PRIOR = 3                    # visits

KEY = ["judging", "n", "seed", "imitates", "spibb", "tau"]
BCQ = tuple({"imitates": 0, "spibb": 0, "tau": tau} for tau in THRESHOLDS)
SPIBB = {"imitates": 0, "spibb": KNOWN_FROM, "tau": 0}
IMITATION = {"imitates": 1, "spibb": 0, "tau": 0}
CANDIDATES = (*BCQ, SPIBB, IMITATION)


def planned() -> Iterator[dict]:
    "Logs, the ones first that are needed first"
    for seed in range(SEEDS):
        yield from ({"judging": JUDGING[0], "n": n, "seed": seed} for n in PATIENTS)
    for seed in range(SEEDS, MORE_SEEDS):
        yield from ({"judging": JUDGING[0], "n": n, "seed": seed} for n in PATIENTS if n <= FEW)
    for seed in range(SEEDS):
        yield from ({"judging": JUDGING[1], "n": n, "seed": seed} for n in FEWER_CELLS)


def part_of(log: Log, rows: np.ndarray) -> Log:
    "The stays of some patients, who are numbered anew"
    _, stay = np.unique(log.stay[rows], return_inverse=True)
    return Log(Transitions(*(column[rows] for column in log.steps)), stay, log.time[rows], log.prob[rows])


def split(log: Log, n: int, judging: float) -> tuple[Log, Log]:
    "The patients who came first are learned from, the others judge"
    learns = log.stay < n - round(judging * n)
    return part_of(log, learns), part_of(log, ~learns)


def learn(model: Counted, first: np.ndarray) -> Iterator[tuple[dict, np.ndarray, float]]:
    "Each candidate: what it is, its policy, and what it claims; `first` are the states in which stays begin"
    for candidate in BCQ:
        policy, v = plan_bcq(model, candidate["tau"])
        yield candidate, policy, v[first].mean()
    policy, v = plan_spibb(model, KNOWN_FROM)
    yield SPIBB, policy, v[first].mean()
    v = (model.behavior * policy_values(model, model.behavior)).sum(axis=1)
    yield IMITATION, model.behavior, v[first].mean()


def true_values(hospital: Hospital, policies: np.ndarray) -> np.ndarray:
    "`survival` of k policies at once, (k, S, A) to (k,): they share the work of reading the world"
    acting = policies[:, :LIVE].transpose(1, 0, 2)                           # (LIVE, k, A)
    follows = np.matmul(acting, hospital.mdp.p[:LIVE]).transpose(1, 0, 2)    # (k, LIVE, S)
    leaves = np.eye(LIVE) - follows[:, :, :LIVE]
    v = np.linalg.solve(leaves, follows[:, :, SURVIVAL, None])               # (k, LIVE, 1)
    return hospital.start[:LIVE] @ v[:, :, 0].T


def smoothed(model: Counted) -> np.ndarray:
    "(S, A) how likely each action is, with `PRIOR` visits more in each state"
    everywhere = model.n.sum(axis=0) / model.n.sum()
    return (model.n + PRIOR * everywhere) / (model.n.sum(axis=1, keepdims=True) + PRIOR)


def padded(log: Log, numbers: np.ndarray, fill: float) -> np.ndarray:
    "(n, T): a row a stay, a column a step"
    table = np.full((log.stay[-1] + 1, log.time.max() + 1), fill)
    table[log.stay, log.time] = numbers
    return table


def judge(log: Log, model: Counted, counted: np.ndarray, policy: np.ndarray) -> tuple[dict, Evidence]:
    "What the judging part says of a policy; and its stays as one step each, whose weight and return are the stay's"
    state, action = log.steps.state, log.steps.action
    taken = policy[state, action]
    ratio = np.divide(taken, counted[state, action], out=np.zeros(len(taken)), where=taken > 0)
    reward = padded(log, log.steps.reward, 0.0)
    q = policy_values(model, policy)
    v = np.concatenate([padded(log, (policy * q).sum(axis=1)[state], 0.0), np.zeros((len(reward), 1))], axis=1)
    known = Evidence(reward, padded(log, taken / log.prob, 1.0), q=padded(log, q[state, action], 0.0), v=v)
    by_counts = replace(known, ratio=padded(log, ratio, 1.0))
    with np.errstate(divide="ignore", invalid="ignore"):   # no weight at all
        said = {"wis": weighted_importance_sampling(known), "wis_counted": weighted_importance_sampling(by_counts),
                "model": direct_method(known), "wdr": weighted_doubly_robust(known)}
    stays = Evidence(known.returns[:, None], known.weight[:, -1:])
    weight = known.weight[:, -1]
    return {**said, "effective": effective_size(weight), "mean_weight": weight.mean()}, stays


def least_gains(stays: list[Evidence]) -> list[float]:
    "The lower bounds of WIS less the mean return, all from the same resampled logs, as `ope.weigh` has them"
    def gains(evidence: Evidence, times: np.ndarray | None = None) -> np.ndarray:
        mean = logged_return(evidence, times)
        return np.stack([weighted_importance_sampling(each, times) - mean for each in stays], axis=-1)

    with np.errstate(divide="ignore", invalid="ignore"):
        values = gains(stays[0])
    drawn = bootstrap(stays[0], gains)   # (logs, k)
    return [interval_of(value, column).at_least for value, column in zip(values, drawn.T, strict=True)]


def run_log(hospital: Hospital, cell: dict) -> list[dict]:
    "A row for each candidate"
    log = simulate(hospital, hospital.clinicians, cell["n"], cell["seed"])
    learning, judging = split(log, cell["n"], cell["judging"])
    shape = hospital.clinicians.shape
    learned_from, judged_by = count_log(learning.steps, shape), count_log(judging.steps, shape)
    candidates = list(learn(learned_from, learning.steps.state[learning.time == 0]))
    true = true_values(hospital, np.stack([policy for _, policy, _ in candidates]))
    likely_here = smoothed(judged_by)
    rows, stays = [], []
    for (candidate, policy, claim), value in zip(candidates, true, strict=True):
        said, evidence = judge(judging, judged_by, learned_from.behavior, policy)
        untried = {name: np.where(probabilities < HARDLY, policy, 0).sum(axis=1)[judging.steps.state].mean()
                   for name, probabilities in (("untried_there", learned_from.behavior), ("untried_here", likely_here))}
        rows.append({**cell, **candidate, "true": value, "claim": claim, **said, **untried})
        stays.append(evidence)
    return [{**row, "gain_at_least": bound} for row, bound in zip(rows, least_gains(stays), strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    results = Path(__file__).parents[1] / "bcq_nb" / "results"
    parser.add_argument("--out", type=Path, default=results, help="where the table goes")
    args = parser.parse_args()

    settle()
    path = args.out / "icu_choice.csv"
    rows = finished(path)
    done = {key_of(row, KEY[:3]) for row in rows}
    hospital = load_hospital()
    for cell in planned():
        if key_of(cell, KEY[:3]) in done:
            continue
        began = time.time()
        rows += run_log(hospital, cell)
        write(path, rows, KEY)
        print(*(f"{name} {value:g}" for name, value in cell.items()), f"{time.time() - began:.1f} s", sep=", ",
              file=sys.stderr)


if __name__ == "__main__":
    main()
