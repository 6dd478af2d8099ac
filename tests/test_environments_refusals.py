"""What `environments` refuses, and what it says."""
from contextlib import closing

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from bcq_nb.environments import make_env, make_envs, plain_errors, policy_of, step_envs, stream


class Colors(gym.Env):
    "Observations as a camera gives them: height, width, color"
    observation_space = Box(0, 255, (84, 84, 3), np.uint8)
    action_space = Discrete(2)


class FromOne(gym.Env):
    "Actions 1 and 2"
    observation_space = Box(0, 1, (3,))
    action_space = Discrete(2, start=1)


class NoPicture(gym.Env):
    "Nothing that could be filmed"
    observation_space = Box(0, 1, (3,))
    action_space = Discrete(2)


for wrong in (Colors, FromOne, NoPicture):
    gym.register(f"{wrong.__name__}-v0", entry_point=wrong)


@pytest.mark.parametrize(("env_id", "words"), [
    ("CartPol-v1", "did you mean CartPole-v1"),
    ("CartPole-v7", "did you mean CartPole-v1"),
    ("ALE/Brekout-v5", "ALE/Breakout-v5"),
    ("Pendulum-v1", r"discrete BCQ takes Discrete\(n\)"),
    ("FromOne-v0", "counted from 0"),
    ("FrozenLake-v1", "FlattenObservation"),
    ("Colors-v0", r"\(stack, height, width\)"),
])
def test_an_environment_that_does_not_fit(env_id, words):
    with pytest.raises(ValueError, match=words):
        make_envs(env_id)


@pytest.mark.parametrize("n_envs", [0, -1, 1.5, True, "2", None])
def test_how_many(n_envs):
    with pytest.raises(ValueError, match="n_envs is .*: it must be an integer from 1"):
        make_envs("CartPole-v1", n_envs)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "ALE/Pong-v5"])
@pytest.mark.parametrize("make", [make_envs, make_env])
def test_a_negative_seed(env_id, make):
    with pytest.raises(ValueError, match="seed is -1"):
        make(env_id, seed=-1)


@pytest.mark.parametrize("seed", [-1, 0.5, True, "0", None])
def test_a_stream_without_a_seed(seed):
    with pytest.raises(ValueError, match="seed is .*: it must be an integer from 0"):
        stream(seed, "noise")


@pytest.mark.parametrize("action", [[0, 1, 2], [0, 9], [0, -1], [0.5, 1.0]])
def test_actions_that_do_not_exist(action):
    with closing(make_envs("CartPole-v1", 2)) as envs:
        envs.reset()
        with pytest.raises(ValueError, match="they must be 2 integer"):
            step_envs(envs, np.array(action))


def test_an_environment_without_a_picture():
    with pytest.raises(ValueError, match="cannot be filmed: it has no render_mode='rgb_array'"):
        make_env("NoPicture-v0")


def test_a_missing_package():
    with pytest.raises(ImportError, match="CartPole-v1 needs a package that is not installed: box"):
        with plain_errors("CartPole-v1"):
            raise gym.error.DependencyNotInstalled("box")


def test_an_error_that_is_about_something_else():
    with pytest.raises(gym.error.ResetNeeded):
        with plain_errors("CartPole-v1"):
            raise gym.error.ResetNeeded("call reset")


def test_what_is_no_policy():
    with pytest.raises(TypeError, match="is no policy"):
        policy_of(3)
