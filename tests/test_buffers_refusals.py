"""What checks, files, slots, buffers and frames refuse, and with which words; each notebook shows one refusal."""
import json
import pickle
import zipfile

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from bcq_nb.archives import load_arrays, save_arrays
from bcq_nb.buffers import ReplayBuffer
from bcq_nb.checks import check_above_zero, check_array, check_count, check_probability, refuses
from bcq_nb.files import atomic_path
from bcq_nb.frames import FrameBuffer, make_buffer
from bcq_nb.seals import seal_of, subclass_named
from bcq_nb.slots import Ring
from bcq_nb.tables import Table

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
    with pytest.raises(ValueError, match=r"eps is .*: it must be a number from 0 to 1"):
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


@pytest.mark.parametrize("value", [2**24 + 1, -(2**24) - 1, 1_700_000_060, 2**53 + 1, 2**63 - 1])
def test_integers_that_float32_cannot_hold(value):
    with pytest.raises(ValueError, match=f"reward holds {value}, which float32 cannot hold exactly"):
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
    assert check_array("reward", [0.1, 1e7 / 3], (2,), np.float32).tolist() == np.float32([0.1, 1e7 / 3]).tolist()


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


MASKED = {**GOOD, "mask": [[True, False], [False, True]], "next_mask": [[True, True], [False, True]], "prob": [0.5, 1]}


@pytest.mark.parametrize("name, value, words", [
    ("mask", None, "mask is missing: the buffer was made with masks=True"),
    ("next_mask", None, "next_mask is missing"),
    ("prob", None, "prob is missing: the buffer was made with probs=True"),
    ("mask", [True, False], r"mask has shape \(2,\): it must be \(2, 2\)"),
    ("next_mask", [[True], [True]], r"next_mask has shape \(2, 1\): it must be \(2, 2\)"),
    ("mask", [[1, 0], [0, 1]], "mask has type int64, which would not survive as bool"),
    ("mask", [[True, True], [True, False]], r"action 1 does not exist by its mask, \[True, False\]"),
    ("mask", [[False, False], [True, True]], r"action 0 does not exist by its mask, \[False, False\]"),
    ("next_mask", [[True, True], [False, False]], "next_mask has no action where the episode goes on or was cut"),
    ("prob", [0.5, 0], r"prob is 0.0: an action that was taken had a probability in \(0, 1\]"),
    ("prob", [1.5, 1], "prob is 1.5"),
    ("prob", [NAN, 1], "prob holds NaN"),
])
def test_masks_and_probabilities(name, value, words):
    buffer = ReplayBuffer(100, SPACE, 2, n_envs=2, masks=True, probs=True)
    buffer.add(**MASKED)
    with pytest.raises(ValueError, match=words):
        buffer.add(**{**MASKED, name: value})
    assert len(buffer) == 1 * 2


@pytest.mark.parametrize("name, option", [("mask", "masks"), ("next_mask", "masks"), ("prob", "probs")])
def test_what_a_buffer_does_not_keep(name, option):
    buffer = ReplayBuffer(100, SPACE, 2, n_envs=2)
    with pytest.raises(ValueError, match=f"{name} is given to a buffer that keeps none: make it with {option}=True"):
        buffer.add(**{**GOOD, name: MASKED[name]})


def log_of(n, **changes):
    "A log of n rows, as columns"
    obs = np.arange(n, dtype=float)[:, None] / 10
    columns = {"obs": obs, "action": np.arange(n) % 3, "reward": np.ones(n), "next_obs": obs + 0.1,
               "terminated": np.zeros(n, bool), "truncated": np.zeros(n, bool)}
    return columns | changes


def with_fault(values, k, fault):
    values = np.array(values)
    values[k] = fault
    return values


@pytest.mark.parametrize("changes, words", [
    ({"obs": with_fault(np.zeros((10, 1)), 7, np.nan)}, r"row 7 \(the first is 0\): obs holds NaN"),
    ({"action": with_fault(np.zeros(10, int), 9, -1)}, r"row 9 \(the first is 0\): action is \[-1\]: .* 0 to 2"),
    ({"action": with_fault(np.zeros(10, int), 0, 3)}, r"row 0 \(the first is 0\): action is \[3\]"),
    ({"reward": with_fault(np.zeros(10), 4, np.inf)}, r"row 4 \(the first is 0\): reward holds"),
    ({"reward": with_fault(np.zeros(10, int), 5, 2**24 + 1)}, r"row 5 .*: reward holds 16777217"),
    ({"reward": np.ones(9)}, r"reward has shape \(9,\): it must be \(10,\), a row for each action"),
    ({"next_obs": np.ones((10, 2))}, r"next_obs has shape \(10, 2\): it must be \(10, 1\)"),
    ({"mask": np.ones((10, 2), bool), "next_mask": np.ones((10, 2), bool)}, r"mask has shape \(10, 2\)"),
    ({"mask": np.ones((10, 3), bool)}, "next_mask is missing"),
    ({"next_mask": np.ones((10, 3), bool)}, "next_mask is given to a buffer that keeps none"),
    ({"terminated": np.zeros(10)}, "^terminated has type float64, which would not survive as bool"),
    ({"prob": with_fault(np.ones(10), 6, 0)}, r"row 6 .*: prob is 0.0"),
])
def test_rows_of_a_log(monkeypatch, changes, words):
    "The first wrong row is named, also where it is not in the first block; what is wrong with all rows names none"
    monkeypatch.setattr(ReplayBuffer, "rows_at_once", 4)
    with pytest.raises(ValueError, match=words):
        ReplayBuffer.from_arrays(**log_of(10, **changes), n_actions=3)


@pytest.mark.parametrize("changes, words", [
    ({"action": np.zeros((10, 1), int)}, r"action has shape \(10, 1\)"),
    ({"action": np.zeros(10)}, "action has shape .* type float64: an integer for each row is needed"),
    ({"action": np.full(10, "left")}, "type <U4: an integer for each row is needed"),
    ({"action": np.full(10, 2**40)}, "the largest action is 1099511627776: .* or give n_actions"),
    ({"action": np.full(10, -1)}, r"row 0 .*: action is \[-1\]"),
    ({"obs": np.zeros(10)}, r"obs has shape \(10,\): a row for each transition"),
])
def test_logs_that_do_not_say_what_they_hold(changes, words):
    with pytest.raises(ValueError, match=words):
        ReplayBuffer.from_arrays(**log_of(10, **changes))


def test_empty_logs():
    with pytest.raises(ValueError, match="at least one, is needed"):
        ReplayBuffer.from_arrays(**log_of(0))


def test_stacks_of_a_log_that_do_not_go_on():
    obs = np.concatenate([stack(0, 0, 0, 11), stack(0, 0, 11, 12), stack(0, 11, 12, 13)])
    next_obs = np.concatenate([stack(0, 0, 11, 12), stack(0, 11, 12, 13), stack(11, 12, 13, 14)])
    go_on = {"action": [0, 0, 0], "reward": [0, 0, 0], "terminated": [False] * 3, "truncated": [False] * 3}
    assert len(FrameBuffer.from_arrays(obs, next_obs=next_obs, **go_on)) == 3
    with pytest.raises(ValueError, match=r"row 1 \(the first is 0\): obs .* is not the next_obs of the step before"):
        FrameBuffer.from_arrays(obs[[0, 2, 2]], next_obs=next_obs[[0, 2, 2]], **go_on)


TABLE = Table(obs=("age",), action="dose", actions=("none", "low", "high"))


def with_table(buffer, table):
    buffer.table = table
    return buffer


@pytest.mark.parametrize("other, words", [
    (ReplayBuffer.from_arrays(**log_of(5), n_actions=4), "n_actions is 3 in one and 4 in the other"),
    (ReplayBuffer(8, SPACE, 3), r"shape of observations is \(1,\) in one and \(2,\) in the other"),
    (ReplayBuffer(8, Box(0, 255, (1,), np.uint8), 3), "type of observations is float32 in one and uint8 in the other"),
    (ReplayBuffer(8, Box(-1, 1, (1,)), 3, masks=True), "masks is False in one and True in the other"),
    (ReplayBuffer(8, Box(-1, 1, (1,)), 3, probs=True), "probs is False in one and True in the other"),
    (with_table(ReplayBuffer(8, Box(-1, 1, (1,)), 3), TABLE), "table is None in one and Table"),
    (FrameBuffer(8, PIXELS, 3), "class is ReplayBuffer in one and FrameBuffer in the other"),
])
def test_buffers_that_cannot_be_joined(other, words):
    buffer = ReplayBuffer.from_arrays(**log_of(5))
    with pytest.raises(ValueError, match=f"cannot be joined: {words}"):
        buffer.extend(other)
    assert len(buffer) == 5


@pytest.mark.parametrize("other", [None, ReplayBuffer.from_arrays(**log_of(5)).to_frame()])
def test_what_is_no_buffer_cannot_be_joined(other):
    with pytest.raises(TypeError, match="it must be a buffer, such as"):
        ReplayBuffer.from_arrays(**log_of(5)).extend(other)


@pytest.mark.parametrize("share, words", [
    (0.1, "a share of 0.1 of 4 episodes is 0: both parts need at least one"),
    (0.9, "a share of 0.9 of 4 episodes is 4"),
    (1.5, "share is 1.5: it must be a number from 0 to 1"),
    (NAN, "share is nan"),
])
def test_shares(share, words):
    buffer = ReplayBuffer.from_arrays(**log_of(8, truncated=np.arange(8) % 2 == 1))
    with pytest.raises(ValueError, match=words):
        buffer.split(share)


def test_nothing_can_be_split():
    with pytest.raises(ValueError, match="of 0 episodes is 0"):
        ReplayBuffer(8, SPACE, 2).split(0.5)


def test_tables_that_cannot_be():
    pytest.importorskip("pandas")
    with pytest.raises(ValueError, match=r"observations have shape \(4, 2, 2\): only vectors become columns"):
        FrameBuffer(8, PIXELS, 2).to_frame()
    table = Table(obs=("step",), action="dose", actions=("none", "low", "high"))
    with pytest.raises(ValueError, match=r"two columns called \['step'\]: give the observations other names"):
        with_table(ReplayBuffer.from_arrays(**log_of(5)), table).to_frame()


GARBLED = [None, "x", "", -1, 0, 7, 10**15, 10**30, 1.5, True, [], {}, ["x"], [3], {"x": 1}]


MAY_DIFFER = ("capacity", "obs_space", "table", "notes")   # with other values some of these make sense, too


NO_OTHER = ("class", "len", "n_envs", "n_actions", "masks", "probs", "arrays", "kind")


@pytest.mark.parametrize("key", [*NO_OTHER, *MAY_DIFFER])
def test_descriptions_that_are_damaged(tmp_path, key):
    "A whole archive whose description lacks a part, or says nonsense there: refused, or the transitions are right"
    buffer = with_table(ReplayBuffer.from_arrays(**log_of(6)), TABLE)
    buffer.save(tmp_path / "b.npz")
    with zipfile.ZipFile(tmp_path / "b.npz") as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    meta = json.loads(contents.pop("meta.json"))
    without = {name: value for name, value in meta.items() if name != key}
    changed = [{**meta, key: value} for value in GARBLED if (value, key) != ([], "notes")]
    if isinstance(meta[key], dict):
        changed += [{**meta, key: {**meta[key], part: value}} for part in meta[key] for value in GARBLED]
    for description in [without, *changed]:
        with zipfile.ZipFile(tmp_path / "changed.npz", "w") as archive:
            for name, data in contents.items():
                archive.writestr(name, data)
            archive.writestr("meta.json", json.dumps(description))
        try:
            loaded = ReplayBuffer.load(tmp_path / "changed.npz")
        except ValueError:
            continue
        assert description is not without and key in MAY_DIFFER
        assert np.allclose(loaded.transitions(loaded.slots()).obs, buffer.store.obs)


@pytest.mark.parametrize("junk", ["[]", "3", "null", "{", '"text"'])
def test_descriptions_of_another_kind(tmp_path, junk):
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("meta.json", junk)
    with pytest.raises(ValueError, match="is not a buffer 5 that this package saved, or it is damaged"):
        ReplayBuffer.load(tmp_path / "b.npz")


def test_older_files_are_named(tmp_path):
    save_arrays(tmp_path / "b.npz", "buffer 2", {}, [])
    with pytest.raises(ValueError, match="it holds buffer 2, of an earlier version of bcq_nb.*make it again"):
        ReplayBuffer.load(tmp_path / "b.npz")


def test_floats_are_no_pixels():
    buffer = FrameBuffer(8, PIXELS, n_actions=2)
    stack = np.zeros((1, 4, 2, 2))
    with pytest.raises(ValueError, match="would not survive as uint8"):
        buffer.add(stack, [0], [0], stack, [False], [False])


@pytest.mark.parametrize("batch_size", [0, 3, -1])
def test_samples(batch_size):
    buffer = ReplayBuffer(100, SPACE, n_actions=2, n_envs=2)
    buffer.add(**GOOD)
    with pytest.raises(ValueError, match="batch_size"):
        buffer.sample(batch_size)


def test_empty_buffers_give_nothing():
    for kind, space in ((ReplayBuffer, SPACE), (FrameBuffer, PIXELS)):
        with pytest.raises(ValueError, match="that holds 0"):
            kind(10, space, 2).sample(1)


@pytest.mark.parametrize("make", [ReplayBuffer, FrameBuffer, make_buffer])
def test_spaces(make):
    with pytest.raises(ValueError, match=r"obs_space is .*: it must be a Box"):
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
    listed = {"name": "trap", "dtype": "|O", "shape": [1], "sha256": "0"}
    facts = {"kind": "test", "arrays": [listed]}
    with zipfile.ZipFile(tmp_path / "objects.npz", "w") as archive:
        archive.writestr("meta.json", json.dumps({**facts, "sha256": seal_of(facts)}))
        with archive.open("trap.npy", "w") as member:
            np.lib.format.write_array(member, np.array([Trap()]), allow_pickle=True)
    said = {"text": "damaged", "pickle": "damaged", "other": "it holds 'recipe'", "objects": "trap"}
    for name, words in said.items():
        with pytest.raises(ValueError, match=f"{name}.npz.*{words}"):
            dict(load_arrays(tmp_path / f"{name}.npz", "test")[1])
    assert capsys.readouterr().out == ""


def test_files_of_another_class(tmp_path):
    ReplayBuffer(8, PIXELS, 2).save(tmp_path / "pairs.npz")
    with pytest.raises(ValueError, match="the file holds a ReplayBuffer, which is no FrameBuffer"):
        FrameBuffer.load(tmp_path / "pairs.npz")
    with pytest.raises(ValueError, match="import the module that defines it first"):
        subclass_named(ReplayBuffer, "SecretBuffer")


@pytest.mark.parametrize("size, words", [(0, "size is 0"), (2.5, "size is 2.5"), (3, "less than one stack")])
def test_sizes_of_loaded_buffers(tmp_path, size, words):
    FrameBuffer(8, PIXELS, 2).save(tmp_path / "frames.npz")
    with pytest.raises(ValueError, match=words):
        FrameBuffer.load(tmp_path / "frames.npz", size)


def test_a_table_in_the_place_of_a_buffer():
    "Whoever forgets from_frame is told of it."
    import pandas as pd

    from bcq_nb.bcq import DiscreteBCQ, train_offline
    from bcq_nb.report import describe

    table = pd.DataFrame({"age": [1.0, 2.0], "dose": [0, 1]})
    agent = DiscreteBCQ(Box(0, 1, (1,)), 2, device="cpu")
    for use in (describe, lambda given: train_offline(agent, given, 10)):
        with pytest.raises(TypeError, match=r"a DataFrame of shape \(2, 2\): it must be a buffer, such as from_frame"):
            use(table)
