"""What `bcq_nb.atari` refuses, and what the error says. The notebook shows one of these; here are the others."""
import contextlib
import sys

import gymnasium as gym
import numpy as np
import pytest

from bcq_nb.atari import AtariConfig, ale_seeds, atari_game, is_atari, make_atari_env, make_atari_envs
from bcq_nb.checks import check_actions


@pytest.mark.parametrize(("name", "value", "words"), [
    ("frame_skip", 0, "from 1 to 60"),
    ("frame_skip", 61, "from 1 to 60"),
    ("frame_size", 84.0, "84.0: it must be an integer from 1 to 250"),
    ("frame_size", 251, "from 1 to 250"),
    ("stack", True, "True: it must be an integer from 1 to 16"),
    ("stack", "4", "from 1 to 16"),
    ("max_episode_steps", 0, "from 1 to 10,000,000"),
    ("max_episode_steps", None, "from 1 to 10,000,000"),
    ("noop_max", -1, "from 0 to 1,000"),
    ("repeat_action_probability", 1.0, "below 1"),
    ("repeat_action_probability", -0.1, "from 0 and below 1"),
    ("repeat_action_probability", float("nan"), "from 0 and below 1"),
    ("repeat_action_probability", "0.25", "from 0 and below 1"),
])
def test_settings(name, value, words):
    with pytest.raises(ValueError) as error:
        AtariConfig(**{name: value})
    assert name in str(error.value) and words in str(error.value)


@pytest.mark.parametrize(("env_id", "hint"), [
    ("ALE/Pogn-v5", "ALE/Pong-v5"),                    # a typo
    ("ALE/breakout-v5", "ALE/Breakout-v5"),            # a lower-case name
    ("ALE/Pong-v4", "ALE/Pong-v5"),                    # an old version
    ("PongNoFrameskip-v4", "use 'ALE/Pong-v5'"),       # an old name
    ("ALE/Combat-v5", "two players"),
    ("ALE/xyz", "known_games()"),
    ("ALE/", "known_games()"),
    ("CartPole-v1", "not a game that ALE knows"),
])
def test_names(env_id, hint):
    for make in (atari_game, make_atari_env, make_atari_envs):
        with pytest.raises(ValueError) as error:
            make(env_id)
        assert hint in str(error.value) and env_id in str(error.value)


def test_whose_name_it_is():
    assert is_atari("ALE/Pogn-v5")                     # does not exist: ours to refuse, and to say what was meant
    assert not is_atari("NoSuchThing-v0")


def test_missing_rom(tmp_path, monkeypatch):
    monkeypatch.setenv("ALE_ROMS_DIR", str(tmp_path))
    with contextlib.redirect_stdout(None), pytest.raises(FileNotFoundError, match="unset ALE_ROMS_DIR") as error:
        atari_game("ALE/Pong-v5")
    assert "ALE/Pong-v5" in str(error.value)


def test_missing_opencv(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)      # None: any `import cv2` now fails
    with pytest.raises(ImportError, match="pip install opencv-python-headless"):
        make_atari_env("ALE/Breakout-v5")


@pytest.mark.parametrize("seed", [-1, 0.5, True, "0", None])
def test_seeds(seed):
    with pytest.raises(ValueError, match="seed is .* integer from 0"):
        ale_seeds(seed, 1)
    for make in (make_atari_env, make_atari_envs):     # at once, not at the first reset
        with pytest.raises(ValueError, match="seed"):
            make("ALE/Pong-v5", seed=seed)


@pytest.mark.parametrize("n_envs", [0, -1, 1.5, True])
def test_number_of_games(n_envs):
    with pytest.raises(ValueError, match="n_envs is .* integer from 1"):
        make_atari_envs("ALE/Pong-v5", n_envs=n_envs)


@pytest.mark.parametrize("actions", [
    np.array([0, 1, 4]),
    np.array([0, 1]),
    np.array([0.0, 1.0, 2.0]),
    [0, 1, -1],
    [],
    np.array([[0, 1, 2]]),
    np.array([True, False, True]),
])
def test_actions(actions):
    with pytest.raises(ValueError, match=r"must be 3 integer\(s\) from 0 to 3"):
        check_actions(actions, n=3, n_actions=4)


def test_a_step_that_ale_would_wait_on_for_ever():
    envs = make_atari_envs("ALE/Breakout-v5", n_envs=3)
    envs.reset()
    with pytest.raises(ValueError, match="from 0 to 3"):
        envs.step(np.array([0, 1, 4]))
    envs.step(np.array([0, 1, 3]))


def test_gymnasium_refuses_to_skip_twice():
    with pytest.raises(ValueError, match="Disable frame-skipping"):
        gym.wrappers.AtariPreprocessing(gym.make("ALE/Pong-v5"), frame_skip=4)
