"""What an agent answers, and what it refuses to answer: one clear error, and never an action for what is no number."""
import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from bcq_nb.bcq import BCQConfig, DiscreteBCQ
from bcq_nb.dqn import DQN, DQNConfig

VECTORS = Box(-np.inf, np.inf, (4,), np.float32)
FRAMES = Box(0, 255, (4, 36, 36), np.uint8)
ROW = np.array([[0.1, -0.2, 0.3, 0.4]], np.float32)


def agent(kind, space=VECTORS):
    config = BCQConfig(hidden=(8,)) if kind is DiscreteBCQ else DQNConfig(hidden=(8,))
    return kind(space, 3, config, device="cpu")


def questions(one):
    names = ["act", "q_values", "policy", "allowed"] + ["probabilities"] * hasattr(one, "probabilities")
    return {name: getattr(one, name) for name in names}


@pytest.fixture(scope="module", params=[DQN, DiscreteBCQ])
def asked(request):
    return questions(agent(request.param))


WRONG = {
    "NaN": (np.array([[0, 0, np.nan, 0]]), "obs holds NaN, infinity"),
    "NaN as float32": (np.float32([[0, 0, np.nan, 0]]), "obs holds NaN, infinity"),
    "NaN in a tensor": (torch.tensor([[0, 0, torch.nan, 0]]), "obs holds NaN, infinity"),
    "infinity": (np.array([[0, 0, -np.inf, 0]]), "obs holds NaN, infinity"),
    "half infinity": (np.array([[0, 0, np.inf, 0]], np.float16), "obs holds NaN, infinity"),
    "too large": (np.array([[0, 0, 1e39, 0]]), "too large for float32"),
    "an identifier": (np.array([[0, 0, 2**24 + 1, 0]]), "obs holds 16777217, which float32 cannot hold exactly"),
    "an unsigned one": (np.array([[0, 0, 2**24 + 1, 0]], np.uint64), "which float32 cannot hold exactly"),
    "a time": (np.array([[0, 0, 1_700_000_060.5, 0]]), "float32 cannot hold exactly: subtract"),
    "one observation": (ROW[0], r"obs has shape \(4,\): this agent takes \(4,\) with a batch axis in front"),
    "another length": (ROW[:, :3], r"obs has shape \(1, 3\)"),
    "too many axes": (ROW[None], r"obs has shape \(1, 1, 4\)"),
    "a number": (3.5, r"obs has shape \(\)"),
    "nothing in it": ([], r"obs has shape \(0,\)"),
    "None": (None, "obs is of type NoneType and not an array of numbers"),
    "text": ("obs", "obs is of type str and not"),
    "texts": ([["a", "b", "c", "d"]], "obs is of type list and not"),
    "numbers as text": (ROW.astype(str), "obs is of type ndarray and not"),
    "objects": (np.array([[None] * 4]), "obs is of type ndarray and not"),
    "ragged": ([[1, 2, 3, 4], [1, 2]], "obs is of type list and not"),
    "complex": (ROW.astype(complex), "obs is of type ndarray and not"),
    "a complex tensor": (torch.zeros(1, 4, dtype=torch.complex64), "obs is of type Tensor and not"),
    "times": (np.zeros((1, 4), "datetime64[s]"), "obs is of type ndarray and not"),
    "a dictionary": ({"obs": ROW}, "obs is of type dict and not"),
    "a function": (len, "obs is of type builtin_function_or_method and not"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_observation(asked, name):
    obs, words = WRONG[name]
    for question in asked.values():
        with pytest.raises(ValueError, match=words):
            question(obs)


def test_what_a_reset_gives(asked):
    for begun in (gym.make("CartPole-v1").reset(seed=0), gym.make_vec("CartPole-v1", 2).reset(seed=0)):
        for question in asked.values():
            with pytest.raises(ValueError, match="obs is of type tuple .*env.reset.. gives two things"):
                question(begun)


def test_no_rows_no_answers(asked):
    for name, question in asked.items():
        answers = question(np.empty((0, 4), np.float32))
        assert len(answers) == 0 and tuple(answers.shape) in ((0,), (0, 3)), name
    assert len(asked["act"](np.empty((0, 4)), eps=0.5)) == 0
    assert tuple(asked["policy"](np.empty((0, 4)), softness=0.5).shape) == (0, 3)


@pytest.mark.parametrize("eps", [float("nan"), -0.1, 1.1, float("inf"), None, "0.1", True, [0.1], np.array([0.1, 0.2])])
def test_eps_is_a_probability(asked, eps):
    for name, argument in (("act", "eps"), ("policy", "softness")):
        with pytest.raises((ValueError, TypeError), match=f"{argument} is .*it must be a number from 0 to 1"):
            asked[name](ROW, **{argument: eps})


SAME = {
    "a list": ROW.tolist(), "a tuple": tuple(ROW[0].tolist()), "float64": ROW.astype(np.float64),
    "Fortran's order": np.asfortranarray(ROW), "a view": np.repeat(ROW, 2, axis=1)[:, ::2],
    "a tensor": torch.tensor(ROW),
    "another machine's bytes": ROW.astype(">f4"), "a tensor that learns": torch.tensor(ROW).requires_grad_(),
    "cannot be written": np.broadcast_to(ROW, (1, 4)),
}


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
@pytest.mark.parametrize("name", SAME)
def test_the_same_numbers_the_same_answers(asked, name):
    obs = SAME[name] if name != "a tuple" else (SAME[name],)
    for question in asked.values():
        answer = torch.as_tensor(question(obs)).double()
        torch.testing.assert_close(answer, torch.as_tensor(question(ROW)).double(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", ["bool", "int8", "int16", "int64", "uint8", "uint16", "uint32", "uint64", "float16"])
def test_types_of_numbers(asked, dtype):
    whole = np.array([[0, 1, 1, 0]])
    for question in asked.values():
        answer = torch.as_tensor(question(whole.astype(dtype)))
        torch.testing.assert_close(answer, torch.as_tensor(question(whole.astype(np.float32))))


def test_pixels():
    one = agent(DQN, FRAMES)
    frames = np.random.default_rng(0).integers(256, size=(2, 4, 36, 36), dtype=np.uint8)
    for question in questions(one).values():
        for other in (np.int64, np.int16, np.uint16):                    # whole numbers from 0 to 255 are bytes
            answer = torch.as_tensor(question(frames.astype(other)))
            torch.testing.assert_close(answer, torch.as_tensor(question(frames)))
        for wrong in (frames / 255, frames.astype(np.float32), torch.tensor(frames).half()):
            with pytest.raises(ValueError, match="obs is of type .*float.*this agent takes uint8"):
                question(wrong)
        with pytest.raises(ValueError, match="obs holds numbers from .* to 25[5-9]: this agent takes bytes"):
            question(frames.astype(int) + 3)
        with pytest.raises(ValueError, match="obs holds numbers from -1"):
            question(frames.astype(int) - 1)
    between = agent(DQN, Box(0, 1, FRAMES.shape, np.float32))
    for question in questions(between).values():
        with pytest.raises(ValueError, match="obs is of type torch.uint8: this agent takes float32"):
            question(frames)
