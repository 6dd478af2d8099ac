"""What `environments` refuses, and what it says."""
from contextlib import closing

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from bcq_nb.environments import default_eps, make_env, make_envs, plain_errors, policy_of, step_envs, stream
from bcq_nb.evaluation import evaluate
from bcq_nb.film import record_video
from bcq_nb.generation import generate_buffer


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


class Sized(gym.Env):
    "An environment whose constructor needs an argument"
    metadata = {"render_modes": ["rgb_array"]}
    observation_space = Box(0, 1, (3,))
    action_space = Discrete(2)

    def __init__(self, size, render_mode=None):
        self.size = size

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(3, np.float32), {}

    def render(self):
        return np.zeros((self.size, self.size, 3), np.uint8)


for wrong in (Colors, FromOne, NoPicture, Sized):
    gym.register(f"{wrong.__name__}-v0", entry_point=wrong)
gym.register("Sized8-v0", entry_point=Sized, kwargs={"size": 8})


def zeros(obs):
    return np.zeros(len(obs), int)


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


@pytest.mark.parametrize("seed", [None, 1.0, "0", -1, True])
@pytest.mark.parametrize("use", [
    lambda seed: make_envs("CartPole-v1", 1, seed),
    lambda seed: make_env("CartPole-v1", seed),
    lambda seed: make_envs("ALE/Pong-v5", 1, seed),
    lambda seed: make_env("ALE/Pong-v5", seed),
    lambda seed: evaluate(zeros, "CartPole-v1", 2, seed),
    lambda seed: record_video(zeros, "CartPole-v1", "never.mp4", seed),
    lambda seed: generate_buffer(zeros, "CartPole-v1", 8, seed=seed),
])
def test_one_error_for_a_seed(use, seed):
    with pytest.raises(ValueError, match=f"seed is {seed!r}: it must be an integer from 0"):
        use(seed)


@pytest.mark.parametrize("use", [
    make_envs,
    make_env,
    default_eps,
    lambda env: evaluate(zeros, env, 2),
    lambda env: record_video(zeros, env, "never.mp4"),
    lambda env: generate_buffer(zeros, env, 8),
])
@pytest.mark.parametrize("what", ["an environment", "its spec", "its maker", "nothing"])
def test_an_environment_in_place_of_its_name(use, what):
    env = gym.make("CartPole-v1")
    given = {"an environment": env, "its spec": env.spec, "its maker": lambda: env, "nothing": None}[what]
    with pytest.raises(TypeError, match="it must be the id of an environment.*gymnasium.register"):
        use(given)


def test_a_constructor_that_needs_an_argument():
    for make in (make_envs, make_env):
        with pytest.raises(ValueError, match=r"Sized-v0 cannot be made: .*argument: 'size'.*kwargs=\{...\}"):
            make("Sized-v0")
        make("Sized8-v0").close()                # with its argument it is made


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


@pytest.mark.parametrize(("answer", "words"), [
    (0, "answers 0: a stack of 2 observations has 2 integer"),
    ([0], r"answers \[0\]"),
    ([0, 1, 0], r"in an array of shape \(2,\)"),
    ([[0], [1]], "a stack of 2 observations"),
    ([0.0, 1.0], "has 2 integer"),
    ([True, False], "has 2 integer"),
    (None, "answers None"),
    ((np.array([0, 1]), None), "a stack of 2 observations has 2 integer"),
    ((np.array([0, 1]), np.array([[1.0], [2.0], [3.0]])), "a stack of 2 observations has 2 integer"),
    ("01", "has 2 integer"),
])
@pytest.mark.parametrize("eps", [0.0, 0.5])
def test_what_is_no_answer(answer, words, eps):
    with pytest.raises(ValueError, match=words):
        evaluate(lambda obs: answer, "CartPole-v1", 2, eps=eps)


def test_the_predict_of_another_library():
    class Model:
        def predict(self, obs):
            return np.zeros(len(obs), int), None

    with pytest.raises(TypeError, match="is no policy.*a method `act`"):
        evaluate(Model(), "CartPole-v1", 2)
    with pytest.raises(ValueError, match="the policy answers"):
        evaluate(Model().predict, "CartPole-v1", 2)


@pytest.mark.parametrize("use", [
    make_envs,
    make_env,
    lambda env_id: evaluate(zeros, env_id, 1),
    lambda env_id: record_video(zeros, env_id, "never.mp4"),
    lambda env_id: generate_buffer(zeros, env_id, 8),
])
@pytest.mark.parametrize(("env_id", "words"), [
    ("nowhere:CartPole-v1", "nowhere:CartPole-v1: the module 'nowhere', .*could not be imported .*ModuleNotFoundError"),
    ("nowhere.at.all:X-v0", "the module 'nowhere.at.all'"),
    (":X-v0", "the module ''"),
    ("fails_at_import:X-v0", "the module 'fails_at_import', .*could not be imported .ZeroDivisionError"),
    ("registers_walk:Wlak-v0", "there is no environment 'registers_walk:Wlak-v0': did you mean registers_walk:Walk-v0"),
])
def test_ids_with_a_module(env_id, words, use, tmp_path, monkeypatch):
    (tmp_path / "fails_at_import.py").write_text("1 / 0")
    (tmp_path / "registers_walk.py").write_text("import gymnasium; gymnasium.register('Walk-v0', 'gymnasium.envs.x:X')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises((ValueError, ImportError), match=words):
        use(env_id)


def test_a_module_that_is_there():
    for make in (make_envs, make_env):
        with closing(make("gymnasium:CartPole-v1", seed=2)) as named, closing(make("CartPole-v1", seed=2)) as plain:
            np.testing.assert_array_equal(named.reset()[0], plain.reset()[0])
        with closing(make("ale_py:ALE/Pong-v5", seed=2)) as named, closing(make("ALE/Pong-v5", seed=2)) as plain:
            np.testing.assert_array_equal(named.reset()[0], plain.reset()[0])
    assert default_eps("ale_py:ALE/Pong-v5") == 0.001


def test_a_large_seed():
    for seed in (2**32, 2**70):
        first, again = (evaluate(zeros, "CartPole-v1", 2, seed).returns for _ in range(2))
        np.testing.assert_array_equal(first, again)
        make_env("ALE/Pong-v5", seed).reset()


def test_a_policy_that_answers_tensors():
    torch = pytest.importorskip("torch")
    answers = evaluate(lambda obs: torch.zeros(len(obs), dtype=torch.int64, requires_grad=False), "CartPole-v1", 3)
    np.testing.assert_array_equal(answers.returns, evaluate(zeros, "CartPole-v1", 3).returns)


def test_the_error_of_predict_says_how_to_wrap_it():
    class Model:
        def predict(self, obs):
            return np.zeros(len(obs), int), None

    with pytest.raises(TypeError, match=r"lambda obs: model.predict\(obs\)\[0\]"):
        evaluate(Model(), "CartPole-v1", 1)
    model = Model()
    assert evaluate(lambda obs: model.predict(obs)[0], "CartPole-v1", 1).lengths > 0
