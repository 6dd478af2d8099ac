"""What checks, files, slots, buffers and frames refuse, and with which words; each notebook shows one refusal."""
import json
import pickle
import zipfile

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from bcq_nb.buffers import ReplayBuffer
from bcq_nb.checks import check_above_zero, check_array, check_count, check_probability, refuses
from bcq_nb.files import atomic_path, load_arrays, save_arrays, subclass_named
from bcq_nb.frames import FrameBuffer, make_buffer
from bcq_nb.slots import Ring

NAN, INFINITE = float("nan"), float("inf")
SPACE = Box(-np.inf, np.inf, (2,))
PIXELS = Box(0, 255, (4, 2, 2), np.uint8)


@pytest.mark.parametrize("value", [0, -1, 1.0, 1.5, NAN, True, np.True_, "5", None, [1], np.array([1])])
def test_counts(value):
    with pytest.raises(ValueError, match="steps is .*: it must be an integer from 1"):
        check_count("steps", value)


def test_counts_that_are_taken():
    assert check_count("steps", np.int64(3)) == 3 and type(check_count("steps", np.int64(3))) is int
    assert check_count("seed", 0, low=0) == 0
    with pytest.raises(ValueError, match="from 0"):
        check_count("seed", -1, low=0)


@pytest.mark.parametrize("value", [-0.1, 1.1, 20, NAN, INFINITE, True, "0.5", None])
def test_probabilities(value):
    with pytest.raises(ValueError, match=r"eps is .*: a probability is in \[0, 1\]"):
        check_probability("eps", value)


def test_probabilities_that_are_taken():
    assert [check_probability("eps", value) for value in (0, 0.5, 1, np.float32(0.25))] == [0, 0.5, 1, 0.25]


@pytest.mark.parametrize("value", [0, -1, NAN, INFINITE, True, "1", None])
def test_numbers_above_zero(value):
    with pytest.raises(ValueError, match="lr is .*: it must be a number above 0"):
        check_above_zero("lr", value)


@pytest.mark.parametrize("value, words", [
    ([1.5], r"has shape \(1,\): it must be \(2,\)"),
    ([1.5, np.nan], "NaN"),
    ([1.5, np.inf], "infinity"),
    ([1.5, 1e300], "too large for float32"),
    (["1.5", "2.5"], "would not survive as float32"),
    ([1 + 2j, 0], "would not survive as float32"),
])
def test_arrays(value, words):
    with pytest.raises(ValueError, match=words):
        check_array("reward", value, (2,), np.float32)


@pytest.mark.parametrize("value", [2**24 + 1, -(2**24) - 1, 1_700_000_060, 2**53 + 1, 2**63 - 1, -(2**63)])
def test_integers_that_float32_cannot_hold(value):
    with pytest.raises(ValueError, match=f"reward holds the integer {value}, which float32 cannot hold exactly"):
        check_array("reward", [0, value], (2,), np.float32)
    assert check_array("action", [0, value], (2,), np.int64).tolist() == [0, value]


def test_integers_that_float32_holds():
    exact = [0, 1, -1, 2**24, -(2**24), 2**24 + 2, 1_700_000_000, 2**52]
    for dtype in (np.int64, np.uint64):
        values = np.array([value for value in exact if dtype is np.int64 or value >= 0], dtype)
        assert check_array("reward", values, values.shape, np.float32).tolist() == values.tolist()
    with pytest.raises(ValueError, match="cannot hold exactly"):
        check_array("reward", np.array([2**64 - 1], np.uint64), (1,), np.float32)


def test_fractions_may_lose_their_last_digits():
    assert check_array("reward", [0.1, 1e20 / 3], (2,), np.float32).tolist() == np.float32([0.1, 1e20 / 3]).tolist()


def test_refuses_is_strict():
    with pytest.raises(AssertionError, match="nothing was refused"):
        with refuses(ValueError, "bad"):
            pass
    with pytest.raises(AssertionError, match="not with the words"):
        with refuses(ValueError, "bad"):
            raise ValueError("good")
    with pytest.raises(KeyError):   # another kind passes through
        with refuses(ValueError, "bad"):
            raise KeyError("bad")


@pytest.mark.parametrize("capacity, n_envs", [(0, 1), (8, 0), (-3, 1), (2.5, 1), (8, True)])
def test_sizes_of_a_ring(capacity, n_envs):
    with pytest.raises(ValueError, match="must be an integer from 1"):
        Ring(capacity, n_envs)


GOOD = {"obs": [[1, 0], [2, 0]], "action": [0, 1], "reward": [1, 1], "next_obs": [[1, 1], [2, 1]],
        "terminated": [False, False], "truncated": [False, False]}


@pytest.mark.parametrize("name, value, words", [
    ("obs", [[1, 0]], "obs has shape"),
    ("action", [0, 2], "actions are integers from 0 to 1"),
    ("action", [0, -1], "actions are integers from 0 to 1"),
    ("action", [0.5, 1], "would not survive as int64"),
    ("reward", [0, np.nan], "reward holds NaN"),
    ("next_obs", [[1, np.inf], [2, 1]], "next_obs holds NaN, infinity"),
    ("terminated", [0, 1], "terminated has type int64, which would not survive as bool"),
    ("truncated", False, "truncated has shape"),
])
def test_steps(name, value, words):
    buffer = ReplayBuffer(100, SPACE, n_actions=2, n_envs=2)
    buffer.add(**GOOD)
    with pytest.raises(ValueError, match=words):
        buffer.add(**{**GOOD, name: value})
    assert len(buffer) == 1 * 2 and buffer.slots().tolist() == [0, 1]
    buffer.add(**GOOD)   # and it is as good as before


def test_floats_are_no_pixels():
    buffer = FrameBuffer(8, PIXELS, n_actions=2)
    stack = np.zeros((1, 4, 2, 2))
    with pytest.raises(ValueError, match="would not survive as uint8"):
        buffer.add(stack, [0], [0], stack, [False], [False])


@pytest.mark.parametrize("batch_size", [0, 3, -1])
def test_samples(batch_size):
    buffer = ReplayBuffer(100, SPACE, n_actions=2, n_envs=2)
    buffer.add(**GOOD)
    with pytest.raises(ValueError, match="from a buffer that holds 2: batch_size is from 1 to that"):
        buffer.sample(batch_size)


def test_empty_buffers_give_nothing():
    for kind, space in ((ReplayBuffer, SPACE), (FrameBuffer, PIXELS)):
        with pytest.raises(ValueError, match="that holds 0"):
            kind(10, space, 2).sample(1)


@pytest.mark.parametrize("make", [ReplayBuffer, FrameBuffer, make_buffer])
def test_spaces(make):
    with pytest.raises(ValueError, match=r"obs_space is Discrete\(5\): a buffer takes a gymnasium.spaces.Box"):
        make(10, Discrete(5), 2)
    with pytest.raises(ValueError, match="n_actions is 0"):
        make(10, PIXELS, 0)
    with pytest.raises(ValueError, match="n_envs is 0"):
        make(10, PIXELS, 2, n_envs=0)


def test_shapes_of_frames():
    with pytest.raises(ValueError, match=r"observations have shape \(2,\): a FrameBuffer takes \(stack, H, W\)"):
        FrameBuffer(10, SPACE, 2)
    with pytest.raises(ValueError, match="a capacity of 3 steps is less than one stack of 4 frames"):
        FrameBuffer(3, PIXELS, 2)
    with pytest.raises(ValueError, match="a capacity of 3 steps"):
        FrameBuffer(6, PIXELS, 2, n_envs=2)


def stack(*values):
    return np.repeat([values], 4).reshape(1, 4, 2, 2).astype(np.uint8)


@pytest.mark.parametrize("obs, next_obs, words", [
    (stack(0, 0, 0, 21), stack(0, 0, 21, 22), r"obs of environment \[0\] is not the next_obs .* no step may be left"),
    (stack(0, 12, 13, 14), stack(12, 13, 14, 15), "is not the next_obs of the step before"),
    (stack(0, 11, 12, 13), stack(0, 0, 0, 21), "next_obs is not obs moved on by one frame"),
    (stack(0, 11, 12, 13), stack(0, 11, 12, 13), "obs must not be an array that the environment changes"),
    (stack(13, 12, 11, 0), stack(14, 13, 12, 11), "stacks go oldest frame first"),
])
def test_stacks_that_do_not_go_on(obs, next_obs, words):
    buffer = FrameBuffer(20, PIXELS, n_actions=2)
    buffer.add(stack(0, 0, 0, 11), [0], [0], stack(0, 0, 11, 12), [False], [False])
    buffer.add(stack(0, 0, 11, 12), [0], [0], stack(0, 11, 12, 13), [False], [False])
    before = [column.clone() for column in buffer.transitions(buffer.slots())[:5]]
    with pytest.raises(ValueError, match=words):
        buffer.add(obs, [0], [0], next_obs, [False], [True])
    after = buffer.transitions(buffer.slots())[:5]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_paths(tmp_path):
    (tmp_path / "file").write_text("here")
    with pytest.raises(ValueError, match="is a folder: give the path of a file"):
        with atomic_path(tmp_path):
            pass
    with pytest.raises(ValueError, match="cannot be written .*: choose another path"):
        with atomic_path(tmp_path / "file" / "below"):
            pass
    with pytest.raises(FileNotFoundError, match="check the path, or save there first"):
        ReplayBuffer.load(tmp_path / "missing.npz")


class Trap:
    def __reduce__(self):
        return print, ("a stranger's program has run",)


def test_files_of_something_else(tmp_path, capsys):
    "Not an archive, another kind, a pickle, an array that is a pickle: refused, and nothing runs"
    (tmp_path / "text.npz").write_bytes(b"hello")
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps(Trap()))
    save_arrays(tmp_path / "other.npz", "recipe", {}, [])
    with zipfile.ZipFile(tmp_path / "objects.npz", "w") as archive:
        archive.writestr("meta.json", json.dumps({"kind": "test", "arrays": ["trap"]}))
        with archive.open("trap.npy", "w") as member:
            np.lib.format.write_array(member, np.array([Trap()]), allow_pickle=True)
    for name in ("text", "pickle", "other", "objects"):
        with pytest.raises(ValueError, match="is not a test that this package saved, or it is damaged"):
            dict(load_arrays(tmp_path / f"{name}.npz", "test")[1])
    assert capsys.readouterr().out == ""


def test_files_of_another_class(tmp_path):
    ReplayBuffer(8, PIXELS, 2).save(tmp_path / "pairs.npz")
    with pytest.raises(ValueError, match="the file holds a ReplayBuffer, which is no FrameBuffer"):
        FrameBuffer.load(tmp_path / "pairs.npz")
    with pytest.raises(ValueError, match="import the module that defines it first"):
        subclass_named(ReplayBuffer, "SecretBuffer")


@pytest.mark.parametrize("size, words", [(0, "capacity is 0"), (2.5, "capacity is 2.5"), (3, "less than one stack")])
def test_sizes_of_loaded_buffers(tmp_path, size, words):
    FrameBuffer(8, PIXELS, 2).save(tmp_path / "frames.npz")
    with pytest.raises(ValueError, match=words):
        FrameBuffer.load(tmp_path / "frames.npz", size)
