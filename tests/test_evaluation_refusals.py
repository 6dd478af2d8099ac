"""What `evaluate` refuses, and what it says."""
import gc
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from gymnasium.spaces import Box

from bcq_nb.atari import AtariConfig
from bcq_nb.evaluation import evaluate, plot_returns


def zeros(obs):
    return np.zeros(len(obs), int)


def sevens(obs):
    return np.full(len(obs), 7)


breakout_agent = SimpleNamespace(act=zeros, obs_space=Box(0, 255, (4, 84, 84), np.uint8), n_actions=4)
three_actions = SimpleNamespace(act=zeros, obs_space=Box(-1, 1, (4,)), n_actions=3)


@pytest.mark.parametrize(("policy", "settings", "words"), [
    (breakout_agent, {}, r"\(4, 84, 84\) and has 4 actions, the environment gives \(4,\) and takes 2"),
    (three_actions, {}, "load the agent that was trained on it"),
    (sevens, {}, "they must be 10 integer"),
    (zeros, {"episodes": 0}, "episodes is 0: it must be an integer from 1"),
    (zeros, {"episodes": 1.5}, "episodes is 1.5: it must be an integer from 1"),
    (zeros, {"n_envs": 0}, "n_envs is 0: it must be an integer from 1"),
    (zeros, {"eps": 2}, r"eps is 2: it must be a number from 0 to 1"),
    (zeros, {"eps": -0.1}, r"eps is -0.1: it must be a number from 0 to 1"),
    (zeros, {"eps": float("nan")}, r"eps is nan: it must be a number from 0 to 1"),
    (zeros, {"seed": -1}, "seed is -1: it must be an integer from 0"),
    (zeros, {"env_id": "CartPol-v1"}, "did you mean CartPole-v1"),
])
def test_what_cannot_be_measured(policy, settings, words):
    with pytest.raises(ValueError, match=words):
        evaluate(policy, **{"env_id": "CartPole-v1", **settings})


@pytest.mark.parametrize("rows", [
    [],
    [{"step": 5, "loss": 0.5}],
])
def test_a_curve_without_returns(rows):
    with pytest.raises(ValueError, match="the history of 'BCQ' has no .*eval_env"):
        plot_returns({"BCQ": rows})


def memory():
    "Megabytes that this process has in memory, less what Python could give back"
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read as Linux tells it")
@pytest.mark.parametrize(("env_id", "episodes", "times"), [("CartPole-v1", 4, 60), ("ALE/Pong-v5", 2, 8)])
def test_memory_does_not_grow(env_id, episodes, times):
    short = AtariConfig(max_episode_steps=20)
    for k in range(times):
        evaluate(zeros, env_id, episodes, seed=k, atari=short)
        if k == 2:
            before, files = memory(), len(os.listdir("/proc/self/fd"))
    assert memory() - before < 8 and len(os.listdir("/proc/self/fd")) <= files
