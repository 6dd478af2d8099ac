"""The study of intervals, `python benchmarks/ope_coverage.py`, on cells small enough to be checked."""
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bcq_nb import ope
from bcq_nb.counting import Counted
from bcq_nb.evidence import Evidence
from bcq_nb.extrapolation import state_values

root = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(root / "benchmarks"))
import ope_coverage as study  # noqa: E402

HIKERS = study.make_map()


def true_model():
    "The map itself, as if a log had shown all of it"
    live = np.flatnonzero(~HIKERS.mdp.terminal)
    n_states, n_actions = HIKERS.behavior.shape
    p = np.zeros_like(HIKERS.mdp.p)
    p[live] = HIKERS.mdp.p[live]
    pair, next_state = np.nonzero(p.reshape(-1, n_states))
    n = np.zeros((n_states, n_actions))
    n[live] = 1
    share = p.reshape(-1, n_states)[pair, next_state]
    return Counted(pair, next_state, share, HIKERS.mdp.r[0, 0, next_state], n, HIKERS.behavior)


@pytest.mark.parametrize("name", HIKERS.policies)
def test_truth_and_model_agree_with_the_exact_values(name):
    "Without a limit they are those of notebook 00, and a model that knows the world says what is true within a horizon"
    policy = HIKERS.policies[name]
    exact = HIKERS.start @ state_values(HIKERS.mdp, policy)
    assert study.true_value(HIKERS, policy, 1_000) == pytest.approx(exact)
    q, v = study.model_values(true_model(), policy, HIKERS, 7)
    assert HIKERS.start @ v[0] == pytest.approx(study.true_value(HIKERS, policy, 7))
    live = ~HIKERS.mdp.terminal
    assert np.allclose((policy * q).sum(axis=2)[:, live], v[:, live])


def test_careful_hikers_are_blown_over_only():
    "One move in twenty, from the first square"
    assert study.true_value(HIKERS, HIKERS.policies["careful"], 1) == pytest.approx(0.05 * -20 - 0.95)


def test_drawn_logs_are_those_of_bootstrap():
    "So that an interval of the study is an interval of the package"
    rng = np.random.default_rng(0)
    evidence = Evidence(rng.random((50, 3)), rng.random((50, 3)))
    drawn = ope.weighted_importance_sampling(evidence, study.drawn_logs(50))
    assert np.array_equal(drawn, ope.bootstrap(evidence, ope.weighted_importance_sampling)[:study.RESAMPLED])


def test_a_log_that_tells_all_is_judged_right():
    "The policy that wrote the log: weights are 1, and the estimators of weights are the mean return"
    world = replace(HIKERS, policies={"random": HIKERS.behavior})
    log = study.simulate(world, world.behavior, 300, 0)
    log = study.choose(log, log.time < 5)
    truth = study.true_value(world, world.behavior, 5)
    judged = dict(study.judge_log(world, log, {"random": truth}, 5))
    known = [judged["random", name, "known", "none"] for name in study.WEIGHTS_ONLY]
    assert {round(row["estimate"], 9) for row in known} == {round(known[0]["estimate"], 9)}
    assert known[0]["effective"] == pytest.approx(300)
    assert all(row["holds"] for row in known)
    assert judged["random", "DR", "known", "halves"]["estimate"] == pytest.approx(truth, abs=1)
    nothing = study.judge(Evidence(np.ones((20, 1)), np.zeros((20, 1))), ope.weighted_importance_sampling, 1.0)
    assert not nothing["holds"] and nothing["effective"] == 0
