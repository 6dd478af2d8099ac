"""How often 95 % intervals hold the truth: `python benchmarks/ope_coverage.py` writes ope_coverage.csv, ope_bands.csv.

Two worlds whose values are known exactly, each with a policy that writes logs and others that are to be valued:

* map: the twelve squares of notebook 00, discount 0.9, in a wind: one move in five goes in a random direction. Logs are
  written by random moves. `careful` takes random moves but none that leads over the cliff without the wind, `eager`
  takes the shortest way in half of its decisions and random moves in the others.
* icu: ICU-Sepsis, without discount. Logs are written by the clinicians. `bcq` is discrete BCQ with tables at τ = 0.3,
  learned from another log of 20,000 patients, `mixture` tosses a coin in each decision between it and the clinicians,
  and `seen` is BCQ at τ = 0: all actions that were seen are allowed.

Episodes are cut after `horizon` decisions, and the truth is what the policy gets within them. 100 decisions are as good
as no limit in ICU-Sepsis. A cell is a world, a horizon and a size of the log. All of its policies and estimators are
given the same 200 logs (100 of 10,000 episodes). Intervals are those of `ope.estimate`, from the first 400 of
the 1,000 logs that `ope.bootstrap` draws, which all logs of a size have in common.

The model of DM, DR and WDR counts (notebook 08c) and plans backward from the horizon. What the policy does in a state
where nobody did it is valued as what was done there, and a state that was never seen as the mean of those that were.
`whole`: the model has counted the log that it is asked about. `halves`: one model for each half of the episodes, which
has counted the other half. `estimated` behavior: the probabilities are counted in the other half, too, with three
visits more in each state, spread as the half's actions are in all states together. Three were chosen on one log of each
of three sizes, by how likely they make the decisions of the other half.

A row of ope_coverage.csv: what it is about; then over the logs, the mean and the root mean squared error of estimates,
the share of logs whose interval holds the truth, the share whose one-sided lower bound of 95 % does, and the medians of
the intervals' widths, of the effective sizes and of the largest weight's share. `silent` is the share of logs in which
no episode has any weight: they have no interval, and count as intervals that do not hold the truth.

A row of ope_bands.csv: of WIS with known behavior, how many logs with even and with odd seeds have an effective size
from `least` up to the next row's, and how many of their intervals and lower bounds hold the truth.

Written when a cell is finished: a study that was stopped goes on where it was. Delete both files to start anew.

The rule, written down before results were looked at (a first look had other seeds): LEAST_EFFECTIVE is the smallest of
5, 10, 20, 50 and 100 such that of all logs with even seeds, known behavior and an effective size of at least that, at
least 90 % of the intervals of WIS hold the truth. It is checked on odd seeds.
"""
from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from bcq_nb.counting import Counted, count_log, one_step_values, plan_bcq
from bcq_nb.evidence import Evidence
from bcq_nb.extrapolation import TabularMDP, Transitions, greedy, hikers, lookahead
from bcq_nb.files import write_rows
from bcq_nb.ope import (
    bootstrap,
    direct_method,
    doubly_robust,
    importance_sampling,
    per_decision_importance_sampling,
    weighted_doubly_robust,
    weighted_importance_sampling,
    weighted_per_decision_importance_sampling,
)
from bcq_nb.sepsis import Log, load_hospital, simulate
from bcq_nb.verdict import effective_size, interval_of

SIZES = {100: 200, 300: 200, 1_000: 200, 3_000: 200, 10_000: 100}   # episodes: logs
WIND = 0.2
ROUNDING = 1e-9
PRIOR = 3          # visits
END = 100          # decisions: no stay takes as long
RESAMPLED = 400
LEARNED_FROM = 20_000
BANDS = (0, 5, 10, 20, 50, 100, 200, 500)
CELLS = (
    *(("icu", END, n) for n in (100, 300, 1_000)),
    *(("icu", horizon, 1_000) for horizon in (5, 10, 20)),
    *(("map", horizon, n) for n in (100, 300, 1_000) for horizon in (5, 10, 20, 40)),
    *(("icu", END, n) for n in (3_000, 10_000)),
    *(("map", horizon, n) for n in (3_000, 10_000) for horizon in (5, 10, 20, 40)),
)

WEIGHTS_ONLY = {"IS": importance_sampling, "PDIS": per_decision_importance_sampling,
                "WIS": weighted_importance_sampling, "WPDIS": weighted_per_decision_importance_sampling}
WITH_MODEL = {"DM": direct_method, "DR": doubly_robust, "WDR": weighted_doubly_robust}


@dataclass(frozen=True)
class World:
    "Enough of a `Hospital` for `simulate`, and the policies"
    mdp: TabularMDP
    start: np.ndarray                 # (S,) probability that an episode begins in a state
    behavior: np.ndarray              # (S, A) of the policy that writes logs
    policies: dict[str, np.ndarray]   # name: (S, A)


def make_map() -> World:
    "The twelve squares in a wind, two policies and random moves"
    calm, batch = hikers()
    random = np.full(calm.p.shape[:2], 0.25)
    v = np.zeros(len(calm.terminal))
    for _ in range(len(v)):   # no way is longer than the number of squares
        v = lookahead(calm, v).max(axis=1)
    shortest = greedy(lookahead(calm, v))
    falls = (calm.p * (calm.r == calm.r.min())).any(axis=2)
    anywhere = calm.p.mean(axis=1, keepdims=True)
    mdp = replace(calm, p=(1 - WIND) * calm.p + WIND * anywhere)
    stays = np.where(falls, 0, random)
    careful = stays / stays.sum(axis=1, keepdims=True)
    start = np.eye(len(v))[batch.state[0]]
    return World(mdp, start, random, {"careful": careful, "eager": (shortest + random) / 2})


def make_icu() -> World:
    "The hospital, its clinicians and three policies"
    hospital = load_hospital()
    clinicians = hospital.clinicians
    learned_from = simulate(hospital, clinicians, LEARNED_FROM, seed=1_000)
    model = count_log(learned_from.steps, clinicians.shape)
    bcq, _ = plan_bcq(model, 0.3)
    seen, _ = plan_bcq(model, 0.0)
    policies = {"bcq": bcq, "mixture": (bcq + clinicians) / 2, "seen": seen}
    return World(hospital.mdp, hospital.start, clinicians, policies)


def true_value(world: World, policy: np.ndarray, horizon: int) -> float:
    "What a policy gets within the horizon, exactly"
    acting = np.where(world.mdp.terminal[:, None], 0, policy)
    share = np.einsum("sa,sax->sx", acting, world.mdp.p)
    paid = np.einsum("sa,sax,sax->s", acting, world.mdp.p, world.mdp.r)
    v = np.zeros(len(paid))
    for _ in range(horizon):
        v = paid + world.mdp.discount * share @ v
    return float(world.start @ v)


def choose(log: Log, rows: np.ndarray) -> Log:
    "Some steps of a log"
    steps = Transitions(*(column[rows] for column in log.steps))
    return Log(steps, log.stay[rows], log.time[rows], log.prob[rows])


def model_values(model: Counted, policy: np.ndarray, world: World, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    "Q (H, S, A) and V (H, S) of a policy in the world that a log shows; H is the horizon, or 1 where there is no limit"
    n_states, n_actions = policy.shape
    seen = model.n > 0
    visits = model.n.sum(axis=1)
    new = (visits == 0) & ~world.mdp.terminal
    missing = np.where(seen, 0, policy).sum(axis=1, keepdims=True)
    follows = np.where(seen, policy, 0) + missing * model.behavior
    state = model.pair // n_actions
    share = follows.ravel()[model.pair] * model.share
    backward = [np.zeros(n_states)]
    for _ in range(horizon):
        worth = model.reward + world.mdp.discount * backward[-1][model.next_state]
        v = np.bincount(state, share * worth, n_states)
        v[new] = visits @ v / visits.sum()
        backward.append(v)
    values = np.array(backward[::-1])   # (horizon + 1, S)
    steps = 1 if horizon == END else horizon
    q = np.zeros((steps, n_states, n_actions))
    for t in range(steps):
        told = one_step_values(model, values[t + 1], world.mdp.discount)
        usual = (model.behavior * told).sum(axis=1, keepdims=True)
        q[t] = np.where(seen, told, usual)
        q[t, new] = values[t, new, None]
    return q, values[:steps]


def padded(log: Log, numbers: np.ndarray, fill: float) -> np.ndarray:
    "(n, T): a row an episode, a column a step"
    table = np.full((log.stay[-1] + 1, log.time.max() + 1), fill)
    table[log.stay, log.time] = numbers
    return table


def with_model(evidence: Evidence, log: Log, models: list[Counted], policy: np.ndarray, world: World,
               horizon: int) -> Evidence:
    "The evidence with values: of one model, or of two, where episode i asks model i modulo 2"
    told = [model_values(model, policy, world, horizon) for model in models]
    asked = log.stay % len(models)
    t = np.minimum(log.time, len(told[0][0]) - 1)
    state, action = log.steps.state, log.steps.action
    q = np.stack([q for q, _ in told])[asked, t, state, action]
    v = np.stack([v for _, v in told])[asked, t, state]
    behind = np.zeros((log.stay[-1] + 1, 1))   # nothing follows on the horizon
    return replace(evidence, q=padded(log, q, 0.0), v=np.concatenate([padded(log, v, 0.0), behind], axis=1))


def estimated(log: Log, models: list[Counted]) -> np.ndarray:
    "(N,) how likely each decision was, as the other half of the episodes says"
    counts = np.stack([model.n for model in models])        # (2, S, A)
    everywhere = counts.sum(axis=1, keepdims=True) + 1      # (2, 1, A)
    counts = counts + PRIOR * everywhere / everywhere.sum(axis=2, keepdims=True)
    behavior = counts / counts.sum(axis=2, keepdims=True)
    return behavior[log.stay % 2, log.steps.state, log.steps.action]


@lru_cache(maxsize=1)
def drawn_logs(n: int) -> np.ndarray:
    "(RESAMPLED, n) how often each episode counts in the logs that `bootstrap` draws"
    empty = Evidence(np.zeros((n, 1)), np.ones((n, 1)))
    times = bootstrap(empty, lambda evidence, times: times)
    return times[:RESAMPLED].copy()


def judge(evidence: Evidence, estimator: Callable, truth: float) -> dict:
    "An estimate, its interval, and whether they hold the truth"
    with np.errstate(divide="ignore", invalid="ignore"):   # no weight at all
        estimate = float(estimator(evidence))
        drawn = estimator(evidence, drawn_logs(len(evidence.reward)))
    interval = interval_of(estimate, drawn)
    low, high = interval.low - ROUNDING, interval.high + ROUNDING
    is_silent = np.isnan(estimate)
    weight = evidence.weight[:, -1]
    largest = weight.max() / weight.sum() if weight.any() else 0.0
    return {"estimate": estimate, "holds": not is_silent and low <= truth <= high,
            "lower_holds": not is_silent and interval.at_least - ROUNDING <= truth,
            "width": interval.high - interval.low, "effective": effective_size(weight), "largest": largest}


def judge_log(world: World, log: Log, truths: dict[str, float], horizon: int) -> Iterator[tuple[tuple, dict]]:
    "All estimators on one log: (policy, estimator, behavior, model), and how it did"
    shape = world.behavior.shape
    whole = [count_log(log.steps, shape)]
    halves = [count_log(choose(log, log.stay % 2 != parity).steps, shape) for parity in (0, 1)]
    reward = padded(log, log.steps.reward, 0.0)
    for name, policy in world.policies.items():
        taken = policy[log.steps.state, log.steps.action]
        known = Evidence(reward, padded(log, taken / log.prob, 1.0), world.mdp.discount)
        for kind, estimator in WEIGHTS_ONLY.items():
            yield (name, kind, "known", "none"), judge(known, estimator, truths[name])
        guessed = replace(known, ratio=padded(log, taken / estimated(log, halves), 1.0))
        yield (name, "WIS", "estimated", "none"), judge(guessed, weighted_importance_sampling, truths[name])
        for model, models in (("whole", whole), ("halves", halves)):
            evidence = with_model(known, log, models, policy, world, horizon)
            for kind, estimator in WITH_MODEL.items():
                yield (name, kind, "known", model), judge(evidence, estimator, truths[name])


def summarize(key: tuple, judged: list[dict], truth: float) -> dict:
    "A row of ope_coverage.csv"
    columns = {name: np.array([row[name] for row in judged], float) for name in judged[0]}
    estimate = columns["estimate"][~np.isnan(columns["estimate"])]
    row = dict(zip(("policy", "estimator", "behavior", "model"), key, strict=True))
    row |= {"logs": len(judged), "truth": truth, "mean": estimate.mean() if len(estimate) > 0 else np.nan,
            "rmse": ((estimate - truth) ** 2).mean() ** 0.5 if len(estimate) > 0 else np.nan,
            "holds": columns["holds"].mean(), "lower_holds": columns["lower_holds"].mean(),
            "width": np.median(columns["width"]), "effective": np.median(columns["effective"]),
            "largest": np.median(columns["largest"]), "silent": 1 - len(estimate) / len(judged)}
    return {name: value if isinstance(value, str) else f"{value:.5g}" for name, value in row.items()}


def bands(policy: str, judged: list[dict]) -> Iterator[dict]:
    "Rows of ope_bands.csv"
    effective = np.array([row["effective"] for row in judged])
    holds, lower = (np.array([row[name] for row in judged]) for name in ("holds", "lower_holds"))
    for odd in (0, 1):
        for least, below in zip(BANDS, (*BANDS[1:], np.inf), strict=True):
            inside = (np.arange(len(judged)) % 2 == odd) & (effective >= least) & (effective < below)
            if inside.any():
                yield {"policy": policy, "odd": odd, "least": least, "logs": inside.sum(),
                       "holds": holds[inside].sum(), "lower_holds": lower[inside].sum()}


def run_cell(world: World, horizon: int, n: int, first_seed: int) -> dict[tuple, list[dict]]:
    "How each estimator did on each log; the truth of each policy stands in its rows"
    truths = {name: true_value(world, policy, horizon) for name, policy in world.policies.items()}
    judged: dict[tuple, list[dict]] = {}
    for seed in range(SIZES[n]):
        log = simulate(world, world.behavior, n, first_seed + seed)
        log = choose(log, log.time < horizon)
        for key, result in judge_log(world, log, truths, horizon):
            judged.setdefault(key, []).append(result | {"truth": truths[key[0]]})
    return judged


def read(path: Path) -> list[dict]:
    "The rows that an earlier run has written"
    if not path.is_file():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    results = Path(__file__).parents[1] / "bcq_nb" / "results"
    parser.add_argument("--out", type=Path, default=results, help="where the tables go")
    args = parser.parse_args()

    paths = args.out / "ope_coverage.csv", args.out / "ope_bands.csv"
    rows, band_rows = (read(path) for path in paths)
    done = {(row["world"], int(row["horizon"]), int(row["n"])) for row in rows}
    worlds = {"map": make_map(), "icu": make_icu()}
    for number, (name, horizon, n) in enumerate(CELLS):
        if (name, horizon, n) in done:
            continue
        began = time.time()
        judged = run_cell(worlds[name], horizon, n, first_seed=10_000 + 1_000 * number)
        cell = {"world": name, "horizon": horizon, "n": n}
        for key, results_of in judged.items():
            rows.append(cell | summarize(key, results_of, results_of[0]["truth"]))
            if key[1:3] == ("WIS", "known"):
                band_rows += [cell | row for row in bands(key[0], results_of)]
        for path, table in zip(paths, (rows, band_rows), strict=True):
            write_rows(path, table)
        print(cell, f"{time.time() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
