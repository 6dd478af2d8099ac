"""What `bcq_nb.generation` refuses, and what the error says. The notebook shows one of these; here are the others."""
import numpy as np
import pytest

import bcq_nb.generation
from bcq_nb.environments import make_envs
from bcq_nb.generation import generate_buffer


def always_left(obs):
    return np.zeros(len(obs), int)


@pytest.mark.parametrize(("change", "words"), [
    ({"steps": 0}, "steps is 0: it must be an integer from 1"),
    ({"steps": 2.5}, "an integer from 1"),
    ({"low_noise_p": 1.2}, "low_noise_p is 1.2: it must be a number from 0 to 1"),
    ({"rand_action_p": -0.1}, "rand_action_p is -0.1: it must be a number from 0 to 1"),
    ({"low_noise_eps": float("nan")}, "low_noise_eps is nan: it must be a number from 0 to 1"),
    ({"n_envs": 0}, "n_envs is 0"),
    ({"env_id": "CartPole-v9"}, "did you mean CartPole-v1"),
])
def test_settings(change, words):
    with pytest.raises(ValueError) as error:
        generate_buffer(**{"policy": always_left, "env_id": "CartPole-v1", "steps": 100, **change})
    assert words in str(error.value)


def test_environments_are_closed_when_a_policy_fails(monkeypatch):
    made = []

    def remember(*args):
        made.append(make_envs(*args))
        return made[-1]

    def broken(obs):
        raise RuntimeError("no idea")

    monkeypatch.setattr(bcq_nb.generation, "make_envs", remember)
    with pytest.raises(RuntimeError, match="no idea"):
        generate_buffer(broken, "CartPole-v1", 100, progress=False)
    assert made[0].closed
