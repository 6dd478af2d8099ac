"""Statistics over runs, beside those of rliable 1.2.0"""
import numpy as np
import pytest

from bcq_nb.scores import (
    interquartile_mean,
    interval,
    performance_profile,
    probability_of_improvement,
    resampled,
)

X = np.array([[0.638, 0.76, 0.692], [0.631, 0.639, 0.608], [0.991, 1.084, 0.289], [0.22, 0.613, 0.512],
              [-0.098, 0.734, 0.126], [0.38, 0.637, 0.405], [0.723, 1.113, 0.461]])
Y = np.array([[0.638, 0.2, 0.505], [0.991, 0.428, 0.177], [0.123, 0.263, 0.466], [0.097, 0.337, 0.352],
              [0.562, 0.464, 0.507]])


def test_what_rliable_says():
    assert interquartile_mean(X) == pytest.approx(0.5962727272727274)
    assert interquartile_mean(Y) == pytest.approx(0.3913333333333333)
    assert probability_of_improvement(X, Y) == pytest.approx(0.7047619047619046)
    levels = np.linspace(-0.2, 1.4, 9)
    shares = [1, 0.9523809523809523, 0.9047619047619048, 0.7619047619047619, 0.6190476190476191, 0.14285714285714285,
              0.09523809523809523, 0, 0]
    np.testing.assert_allclose(performance_profile(X, levels), shares)


def test_intervals_are_those_of_rliable_but_for_chance():
    "Its own were drawn 50,000 and 5,000 times"
    np.testing.assert_allclose(interval(interquartile_mean, X, n=20_000), [0.49218, 0.679], atol=0.01)
    np.testing.assert_allclose(interval(probability_of_improvement, X, Y, n=5_000), [0.54286, 0.86667], atol=0.015)


def test_tasks_are_never_mixed():
    columns = np.arange(12.0).reshape(4, 3)
    drawn = resampled(columns, 200, np.random.default_rng(0))
    assert drawn.shape == (200, 4, 3) and (drawn % 3 == np.arange(3)).all()


def test_the_same_seed_gives_the_same_interval():
    assert interval(interquartile_mean, X, seed=3) == interval(interquartile_mean, X, seed=3)
    assert interval(interquartile_mean, X, seed=3) != interval(interquartile_mean, X, seed=4)


@pytest.mark.parametrize("wrong", [X[:1], X[0], np.where(X > 1, np.nan, X)])
def test_what_has_no_interval(wrong):
    with pytest.raises(ValueError, match="at least two runs"):
        interval(interquartile_mean, wrong)
