"""The studies of selection, benchmarks/ope_regret.py and ope_rank.py, on cases small enough to be checked."""
import sys
from pathlib import Path

import numpy as np
import pytest

from bcq_nb.extrapolation import Transitions
from bcq_nb.sepsis import Log

root = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(root / "benchmarks"))
import ope_rank  # noqa: E402
import ope_regret  # noqa: E402


def test_the_td_error_is_that_of_the_policy_s_next_action():
    "Two steps: 0 -> 1 pays nothing, 1 -> end pays 1. The policy takes action 1 in state 1, which it values at 0.5"
    pays, ends = np.array([0.0, 1.0]), np.array([0.0, 1.0])
    steps = Transitions(np.array([0, 1]), np.array([0, 0]), pays, np.array([1, 2]), ends)
    log = Log(steps, np.zeros(2, int), np.arange(2), np.ones(2))
    q = np.array([[0.2, 9.0], [0.7, 0.5], [5.0, 5.0]])
    policy = np.eye(2)[[0, 1, 0]]
    court = ope_regret.Judge(None, log, None, 0)
    assert court.td_error(policy, q) == pytest.approx(((0.5 - 0.2) ** 2 + (1 - 0.7) ** 2) / 2)
    assert court.first.tolist() == [0]


def test_a_return_of_steps_that_pay_the_same_tells_what_it_is_worth_discounted():
    "Three steps that pay 1, and two that cost 1"
    g = ope_rank.DISCOUNT
    assert ope_rank.discounted(np.array([3.0])) == pytest.approx(1 + g + g**2)
    assert ope_rank.discounted(np.array([3.0, -2.0])) == pytest.approx((1 + g + g**2 - 1 - g) / 2)
