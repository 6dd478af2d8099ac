"What 00_extrapolation and 00a_guarantees refuse, and in which words."
from dataclasses import replace

import numpy as np
import pytest

from bcq_nb.extrapolation import (
    Transitions,
    batch_constrained_q_learning,
    count_transitions,
    empirical_policy,
    grid_mdp,
    hikers,
    q_learning,
    seen_pairs,
    walk,
)
from bcq_nb.guarantees import batch_mdp

mdp, batch = hikers()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"p": mdp.p / 2}, "sum to 1"),
        ({"p": -mdp.p}, "p is .* probabilities"),
        ({"p": mdp.p * np.nan}, "p is .* probabilities"),
        ({"p": mdp.p[0]}, r"p is .* shape .* \(S, A, S\)"),
        ({"p": mdp.p[:, :, :-1]}, r"p is .* shape .* \(S, A, S\)"),
        ({"r": mdp.r[0]}, r"r is .* shape .* \(S, A, S\)"),
        ({"terminal": mdp.terminal[:-1]}, "1[12] along the axis S, and .* has 1[12]"),
        ({"discount": 1.0}, "discount is 1.0"),
        ({"discount": -0.1}, "discount is -0.1"),
        ({"discount": float("nan")}, "discount is nan"),
    ],
)
def test_tables_that_are_no_world(change, words):
    with pytest.raises(ValueError, match=words):
        replace(mdp, **change)


@pytest.mark.parametrize("rows", [[], [""], ["", ""], ["...", ".."]])
def test_rows_that_are_no_map(rows):
    with pytest.raises(ValueError, match="all of one length"):
        grid_mdp(rows)


def test_a_walk_of_unknown_moves_and_after_the_end():
    with pytest.raises(ValueError, match="'X' is no move"):
        walk(mdp, 8, "UX")
    with pytest.raises(ValueError, match="ends after 'R'"):
        walk(mdp, 8, "RR")


def test_a_batch_of_nothing():
    with pytest.raises(ValueError, match="at least one transition"):
        Transitions.from_rows([])
    with pytest.raises(ValueError, match="at least one transition"):
        walk(mdp, 8, "")
    nothing = Transitions(*(column[:0] for column in batch))
    with pytest.raises(ValueError, match="holds no transition"):
        count_transitions(nothing, (12, 4))


def test_rows_of_another_number_of_columns():
    with pytest.raises(ValueError, match="values to unpack"):
        Transitions.from_rows([(0, 0, 1.0)])


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((8, 4), "state goes from 0 to 8: it must be within 0 and 7"),
        ((11, 4), "next_state goes from 0 to 11"),
        ((12, 2), "action goes from 0 to 2"),
    ],
)
def test_a_batch_that_does_not_fit(shape, words):
    table = np.zeros(shape)
    with pytest.raises(ValueError, match=words):
        count_transitions(batch, shape)
    with pytest.raises(ValueError, match=words):
        seen_pairs(batch, shape)
    with pytest.raises(ValueError, match=words):
        empirical_policy(batch, shape)
    with pytest.raises(ValueError, match=words):
        q_learning(batch, table, 0.9, steps=1)
    with pytest.raises(ValueError, match=words):
        batch_constrained_q_learning(batch, table, 0.9, steps=1)
    with pytest.raises(ValueError, match=words):
        batch_mdp(batch, table, 0.9)


def test_a_negative_state():
    below = batch._replace(next_state=batch.next_state - 5)
    with pytest.raises(ValueError, match="next_state goes from -5"):
        count_transitions(below, (12, 4))
