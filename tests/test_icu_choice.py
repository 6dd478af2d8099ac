"""The study of choosing, `python benchmarks/icu_choice.py`, on logs small enough to be checked."""
import sys
from pathlib import Path

import numpy as np
import pytest

from bcq_nb import ope
from bcq_nb.counting import count_log, model_value
from bcq_nb.evidence import Evidence
from bcq_nb.sepsis import load_hospital, simulate, survival
from bcq_nb.verdict import interval_of

root = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(root / "benchmarks"))
import icu_choice as study  # noqa: E402

HOSPITAL = load_hospital()
SHAPE = HOSPITAL.clinicians.shape
LOG = simulate(HOSPITAL, HOSPITAL.clinicians, 200, seed=0)


def test_true_values_are_survival():
    "For several policies at once"
    policies = np.stack([HOSPITAL.clinicians, np.full(SHAPE, 1 / 25)])
    assert study.true_values(HOSPITAL, policies) == pytest.approx([survival(HOSPITAL, policy) for policy in policies])


def test_parts_share_no_patient_and_lose_none():
    "The patients who came first learn"
    learning, judging = study.split(LOG, 200, 0.2)
    assert learning.stay.max() == 159 and judging.stay.max() == 39
    states = np.concatenate([learning.steps.state, judging.steps.state])
    assert np.array_equal(states, LOG.steps.state)


def test_the_clinicians_are_judged_by_their_patients():
    "With weights of 1; and the model is the exported one"
    model = count_log(LOG.steps, SHAPE)
    said, stays = study.judge(LOG, model, HOSPITAL.clinicians, HOSPITAL.clinicians)
    mean = LOG.steps.reward.sum() / 200
    assert [said["wis"], said["wis_counted"]] == pytest.approx([mean, mean])
    assert [said["effective"], said["mean_weight"]] == pytest.approx([200, 1])
    assert said["model"] == pytest.approx(model_value(model, HOSPITAL.clinicians, LOG.steps.state[LOG.time == 0]))
    assert stays.returns.mean() == pytest.approx(mean)


def test_bounds_are_those_of_single_policies():
    "Resampled together or one by one"
    rng = np.random.default_rng(0)
    returns = rng.random((50, 1))
    stays = [Evidence(returns, rng.random((50, 1))) for _ in range(3)]
    for each, bound in zip(stays, study.least_gains(stays), strict=True):
        drawn = (ope.bootstrap(each, ope.weighted_importance_sampling) - ope.bootstrap(each, ope.logged_return))
        assert bound == pytest.approx(interval_of(0.0, drawn).at_least)


def test_a_log_has_a_row_for_each_candidate():
    "None of which claims less than nobody or gets more than all"
    rows = study.run_log(HOSPITAL, {"judging": 0.5, "n": 200, "seed": 0})
    assert len(rows) == len(study.CANDIDATES) == 8
    assert len({tuple(row[name] for name in study.KEY) for row in rows}) == 8
    assert all(0 < row["true"] < 1 and -1e-9 < row["claim"] < 1 + 1e-9 for row in rows)
