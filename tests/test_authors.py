"""Files as the authors' code writes them, against what really happened. Their code needs gym, so it is not run here."""
import pickle
from dataclasses import dataclass

import numpy as np
import pytest

from bcq_nb.authors import from_authors
from bcq_nb.buffers import ReplayBuffer
from bcq_nb.frames import FrameBuffer

STACK = 4
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")   # what is doubtful is read from the notes


@dataclass
class Step:
    episode: int
    t: int
    action: int
    reward: float
    terminated: bool
    truncated: bool


def play(n_steps, limit, rng):
    "Steps of episodes that terminate by chance, or are cut at the limit"
    steps, episode, t = [], 0, 0
    for _ in range(n_steps):
        terminated = rng.random() < 0.08
        truncated = t == limit - 1
        steps.append(Step(episode, t, int(rng.integers(3)), float(rng.integers(-1, 2)), terminated, truncated))
        t += 1
        if terminated or truncated:
            episode, t = episode + 1, 0
    return steps


def in_ring(rows, capacity):
    "Rows as they lie in a ring, the number of the next row to write, and which rows are left, oldest first"
    n = min(len(rows), capacity)
    memory = [None] * n
    for k, row in enumerate(rows):
        memory[k % capacity] = row
    return memory, len(rows) % capacity, rows[-n:]


# Frames

def frame(episode, t):
    "(3, 2) uint8: never zeros, and no two are alike"
    rng = np.random.default_rng([episode, t])
    return rng.integers(1, 256, (3, 2), dtype=np.uint8)


def save_frames(folder, steps, capacity, chunk, is_live):
    "The files of frames, and which steps they hold, oldest first"
    kept = [step for step in steps if not step.truncated or step.terminated]   # B2
    memory, pointer, left = in_ring(kept, capacity)
    shown = [frame(step.episode, max(step.t, 1 if is_live else 0)) for step in memory]   # B1
    frames = np.stack([*shown, np.zeros((3, 2), np.uint8)])
    prefix = f"{folder}/Default_PongNoFrameskip-v0_0"
    np.save(f"{prefix}_action.npy", np.array([[step.action] for step in memory]))
    np.save(f"{prefix}_reward.npy", np.array([[step.reward] for step in memory]))
    np.save(f"{prefix}_not_done.npy", np.array([[1.0 - step.terminated] for step in memory]))
    np.save(f"{prefix}_first_timestep.npy", np.array([step.t == 0 for step in memory], np.uint8))
    np.save(f"{prefix}_replay_info.npy", [pointer, chunk])
    start = 0
    while start < len(frames):
        end = min(start + chunk, len(frames))
        np.save(f"{prefix}_state_{end}.npy", frames[start:end])
        start = end
    return left


def stack_at(episode, t):
    "What the agent saw, oldest frame first"
    return [frame(episode, k) if k >= 0 else np.zeros((3, 2), np.uint8) for k in range(t - STACK + 1, t + 1)]


def right_frames(left, is_live):
    "The transitions that can be told from the files, as bytes"
    there = {(step.episode, step.t) for step in left}
    right = []
    for step in left:
        seen = range(max(step.t - STACK + 1, 0), step.t + 1)
        has_stack = all((step.episode, t) in there and not (is_live and t == 0) for t in seen)
        has_next = (step.episode, step.t + 1) in there
        if has_stack and (has_next or step.terminated):
            stack = stack_at(step.episode, step.t)
            newest = np.zeros((3, 2), np.uint8) if step.terminated else frame(step.episode, step.t + 1)
            next_stack = [*stack[1:], newest]
            right.append((np.stack(stack).tobytes(), step.action, step.reward, np.stack(next_stack).tobytes(),
                          step.terminated))
    return right


def rows_of(buffer):
    "Every transition of a buffer, oldest first"
    batch = buffer.transitions(buffer.slots())
    return [(obs.numpy().tobytes(), action, reward, next_obs.numpy().tobytes(), bool(terminated))
            for obs, action, reward, next_obs, terminated in
            zip(batch.obs, batch.action.tolist(), batch.reward.tolist(), batch.next_obs, batch.terminated.tolist(),
                strict=True)]


@pytest.mark.parametrize("is_live", [True, False], ids=["as they wrote it", "with B1 mended"])
@pytest.mark.parametrize("seed", range(12))
def test_frames_are_those_that_the_agent_saw(tmp_path, seed, is_live):
    rng = np.random.default_rng(seed)
    n_steps, capacity, chunk = int(rng.integers(60, 300)), int(rng.integers(40, 200)), int(rng.integers(3, 90))
    left = save_frames(tmp_path, play(n_steps, limit=20, rng=rng), capacity, chunk, is_live)
    buffer = from_authors(tmp_path, n_actions=3, stack=STACK)
    assert isinstance(buffer, FrameBuffer)
    assert rows_of(buffer) == right_frames(left, is_live)

    said = {note.rpartition(": ")[0]: int(note.rpartition(": ")[2]) for note in buffer.notes}
    left_out = sum(count for note, count in said.items() if "left out" in note)
    assert len(buffer.slots()) + left_out == len(left)   # each row is a transition or is accounted for
    assert said.get("rows sorted by time, as the ring was full", 0) == (len(left) if len(left) == capacity else 0)


@pytest.mark.parametrize("seed", range(6))
def test_ends_of_episodes_of_frames(tmp_path, seed):
    "An episode ends where it terminated or was cut, and goes on where the newest row was left out"
    rng = np.random.default_rng(seed)
    left = save_frames(tmp_path, play(250, limit=20, rng=rng), 150, 64, is_live=True)
    buffer = from_authors(tmp_path, n_actions=3)
    ends = [bool(buffer.ended[slots[-1]]) for slots in buffer.episodes()]
    inside = [buffer.ended[slots[:-1]].any() for slots in buffer.episodes()]
    newest = left[-1]
    is_shown = newest.t > STACK   # so that the step before it is
    assert all(ends[:-1]) and not any(inside) and ends[-1] == (newest.terminated or not is_shown)
    assert not buffer.first[buffer.slots()].any() and len(buffer.episode_returns()) == 0   # no episode is whole
    with_all = from_authors(tmp_path)
    assert with_all.n_actions == 3 and any("give n_actions" in note for note in with_all.notes)


def test_what_was_read_is_saved_joined_and_split(tmp_path):
    rng = np.random.default_rng(0)
    save_frames(tmp_path, play(300, limit=20, rng=rng), 200, 64, is_live=True)
    buffer = from_authors(tmp_path, n_actions=3)
    rows = rows_of(buffer)
    buffer.save(tmp_path / "ours.npz")
    loaded = ReplayBuffer.load(tmp_path / "ours.npz")
    assert rows_of(loaded) == rows and loaded.notes == buffer.notes
    first, second = buffer.split(0.5)
    first.extend(second)
    assert sorted(rows_of(first)) == sorted(rows)


# Vectors

def state(episode, t):
    "(3,) float64"
    return np.random.default_rng([episode, t]).normal(size=3).astype(np.float32).astype(np.float64)


def save_vectors(folder, steps, capacity, is_live=False, n_unwritten=0):
    "The files of vectors, and which steps they hold, oldest first"
    memory, pointer, left = in_ring(steps, capacity)
    prefix = f"{folder}/Default_CartPole-v0_0"
    columns = {"state": [state(step.episode, max(step.t, 1 if is_live else 0)) for step in memory],
               "next_state": [state(step.episode, step.t + 1) for step in memory],
               "action": [[float(step.action)] for step in memory],
               "reward": [[step.reward] for step in memory],
               "not_done": [[1.0 - step.terminated] for step in memory]}
    for name, rows in columns.items():
        unwritten = [np.zeros_like(rows[0])] * n_unwritten   # B6: believed to be there
        np.save(f"{prefix}_{name}.npy", np.array([*rows, *unwritten]))
    np.save(f"{prefix}_ptr.npy", pointer)
    return left


def right_vectors(left, is_live=False):
    return [(state(step.episode, step.t).astype(np.float32).tobytes(), step.action, step.reward,
             state(step.episode, step.t + 1).astype(np.float32).tobytes(), step.terminated)
            for step in left if not (is_live and step.t == 0)]


@pytest.mark.parametrize("is_live", [False, True], ids=["new arrays", "a live array"])
@pytest.mark.parametrize("seed", range(8))
def test_vectors_are_those_that_the_agent_saw(tmp_path, seed, is_live):
    rng = np.random.default_rng(seed)
    steps = play(int(rng.integers(40, 300)), limit=12, rng=rng)
    capacity = int(rng.integers(20, 250))
    left = save_vectors(tmp_path, steps, capacity, is_live)
    buffer = from_authors(tmp_path, n_actions=3)
    assert rows_of(buffer) == right_vectors(left, is_live)

    kept = [step for step in left if not (is_live and step.t == 0)]
    ended = [step.terminated or step.truncated for step in kept[:-1]]
    assert buffer.ended[:-1].tolist() == ended   # the newest may go on
    is_full = len(steps) >= capacity
    first = [step.t == 0 and not is_live for step in kept]
    assert buffer.first[1:].tolist() == first[1:] and bool(buffer.first[0]) == (not is_full and not is_live)


def test_rows_that_were_never_written_are_left_out(tmp_path):
    steps = play(30, limit=12, rng=np.random.default_rng(0))
    left = save_vectors(tmp_path, steps, capacity=50, n_unwritten=4)
    buffer = from_authors(tmp_path, n_actions=3)
    order = [*left[30:], *left[:30]]
    assert rows_of(buffer) == right_vectors(order)
    assert "rows left out, as they were never written: 4" in buffer.notes


def test_a_buffer_is_named_by_what_its_files_begin_with(tmp_path):
    rng = np.random.default_rng(0)
    left = save_vectors(tmp_path, play(30, limit=12, rng=rng), capacity=50)
    save_frames(tmp_path, play(90, limit=20, rng=rng), 50, 64, is_live=True)
    for name in ("Default_CartPole-v0_0", "Default_CartPole-v0_0_action.npy"):
        assert rows_of(from_authors(tmp_path / name, n_actions=3)) == right_vectors(left)
    assert isinstance(from_authors(tmp_path / "Default_PongNoFrameskip-v0_0"), FrameBuffer)
    with pytest.raises(ValueError, match=r"there are 2 buffers in .*: give one of \['.*CartPole.*', '.*Pong.*'\]"):
        from_authors(tmp_path)


# What is refused

@pytest.fixture(params=["vectors", "frames"])
def folder(request, tmp_path):
    "Files of a buffer of 40 rows or so"
    steps = play(60, limit=20, rng=np.random.default_rng(3))
    if request.param == "vectors":
        save_vectors(tmp_path, steps, capacity=40)
    else:
        save_frames(tmp_path, steps, 40, 16, is_live=True)
    return tmp_path


def names_in(folder):
    return sorted(path.name for path in folder.glob("*.npy"))


def each_file(folder, spoil, expected, words):
    "Spoil each file in turn: one error that names it"
    kind = {path.name: path.read_bytes() for path in folder.glob("*.npy")}
    for name, content in kind.items():
        path = folder / name
        spoil(path)
        with pytest.raises(expected, match=words) as caught:
            from_authors(folder / name[:name.index("-v0_0") + 5], n_actions=3)
        # which of two files of different length is the wrong one, nobody knows
        assert "Default_" in str(caught.value) and ".npy" in str(caught.value)
        path.write_bytes(content)
    from_authors(folder, n_actions=3)


def test_missing_files(folder):
    each_file(folder, lambda path: path.unlink(), FileNotFoundError, "there is no file")


class Trap:
    "What fails the test when it is unpickled"
    def __reduce__(self):
        return pytest.fail, ("a stranger's program has run",)


@pytest.mark.parametrize("spoil", [lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"no array"),
                                   lambda path: path.write_bytes(path.read_bytes()[:-3]),
                                   lambda path: np.save(path, np.array([Trap()]), allow_pickle=True),
                                   lambda path: path.write_bytes(pickle.dumps(Trap()))],
                         ids=["empty", "foreign", "cut short", "array of objects", "pickle"])
def test_damaged_files(folder, spoil):
    each_file(folder, spoil, ValueError, "holds no array, or it is damaged")


def test_words_and_archives(folder):
    each_file(folder, lambda path: np.save(path, np.array(["a", "b"])), ValueError, "holds no numbers")


def test_a_row_too_many(folder):
    def longer(path):
        array = np.load(path)
        np.save(path, np.concatenate([array, array[-1:]]) if array.ndim > 0 else np.array([1, 2]))

    each_file(folder, longer, ValueError, "is expected|next_state|row .* is to be written next")


def test_numbers_that_cannot_be(folder):
    prefix = str(folder / names_in(folder)[0]).removesuffix("_action.npy")
    for name, number, words in [("action", 3, "row 5 .*a whole number from 0 to 2"), ("action", -1, "row 5"),
                                ("not_done", 0.5, "row 5 .*from 0 to 1"), ("reward", np.nan, "row 5 .*finite"),
                                ("reward", np.inf, "row 5")]:
        path = f"{prefix}_{name}.npy"
        array = np.load(path)
        wrong = array.astype(np.float64)
        wrong[5] = number
        np.save(path, wrong)
        with pytest.raises(ValueError, match=rf"{name}\.npy' holds .* in {words}"):
            from_authors(folder, n_actions=3)
        np.save(path, array)


def test_folders_without_a_buffer(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no buffer of the authors' code"):
        from_authors(tmp_path)
    with pytest.raises(FileNotFoundError, match="Toy_ptr.npy"):
        from_authors(tmp_path / "Toy")


def test_frames_of_which_no_stack_is_whole(tmp_path):
    steps = [Step(k, t, 0, 0.0, t == 2, False) for k in range(5) for t in range(3)]
    save_frames(tmp_path, steps, 50, 64, is_live=True)
    with pytest.raises(ValueError, match="no row .* has all frames of its stack"):
        from_authors(tmp_path)


def test_frames_of_another_type(tmp_path):
    save_frames(tmp_path, play(60, 20, np.random.default_rng(0)), 40, 100, is_live=True)
    [path] = tmp_path.glob("*_state_*.npy")
    np.save(path, np.load(path).astype(np.float32))
    with pytest.raises(ValueError, match="another type than uint8"):
        from_authors(tmp_path)


@pytest.mark.parametrize("arguments", [{"n_actions": 0}, {"n_actions": 2.0}, {"stack": 0}])
def test_arguments(tmp_path, arguments):
    save_frames(tmp_path, play(60, 20, np.random.default_rng(0)), 40, 100, is_live=True)
    with pytest.raises(ValueError, match="must be an integer from 1"):
        from_authors(tmp_path, **arguments)
