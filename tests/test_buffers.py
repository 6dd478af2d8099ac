"""Buffers against somebody with all the memory in the world, a list of steps; and a process killed while it saves."""
import os
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from hypothesis import given, settings
from hypothesis import strategies as st

from bcq_nb.archives import load_arrays, save_arrays
from bcq_nb.buffers import Recorder, ReplayBuffer
from bcq_nb.frames import FrameBuffer, make_buffer
from bcq_nb.tables import Table

frame_shape = (2, 3)


@dataclass
class Step:
    row: tuple   # (obs, action, reward, next_obs, terminated, mask, next_mask, prob), arrays as bytes
    first: bool  # nothing that the buffer was given came before, or an episode had ended
    ended: bool
    shown: int   # frames before its own that its stack shows


class World:
    "Environments whose episodes end by chance, and a list of the steps that a buffer should hold, oldest first"
    def __init__(self, n_envs, stack, ends, seed, says_more=False):
        self.n_envs = n_envs
        self.stack = stack
        self.ends = ends
        self.says_more = says_more   # which actions exist, and how likely the one was that was taken
        self.rng = np.random.default_rng(seed)
        self.steps = []
        self.obs = np.zeros((n_envs, stack, *frame_shape), np.uint8)
        self.shown = np.zeros(n_envs, int)
        self.first = np.ones(n_envs, bool)
        self.reset(self.first)

    def reset(self, which):
        "New episodes in these environments"
        self.obs[which] = 0
        self.shown[which] = 0
        self.obs[which, -1] = self.rng.integers(256, size=(which.sum(), *frame_shape))

    def step(self, buffer):
        n, rng, obs = self.n_envs, self.rng, self.obs
        next_obs = np.concatenate([obs[:, 1:], rng.integers(256, size=(n, 1, *frame_shape), dtype=np.uint8)], 1)
        terminated, truncated, life_lost = rng.random((3, n)) < self.ends
        action = rng.integers(3, size=n)
        reward = rng.normal(size=n).astype(np.float32)
        more, kept = self.more(action, terminated | life_lost)
        buffer.add(obs, action, reward, next_obs, terminated | life_lost, truncated, *more)
        ended = terminated | life_lost | truncated
        for e in range(n):
            is_end = terminated[e] | life_lost[e]
            row = (obs[e].tobytes(), action[e], reward[e], next_obs[e].tobytes(), is_end, *kept[e])
            self.steps.append(Step(row, self.first[e], ended[e], self.shown[e]))
        self.forget(buffer.capacity)
        self.obs = next_obs.copy()
        self.first = ended
        self.shown = np.minimum(self.shown + 1, self.stack - 1)
        self.reset(terminated | truncated)
        next_obs[:] = 77   # an environment that goes on using its arrays

    def more(self, action, terminated):
        "Masks and probabilities, as they are given and as a buffer should hold them"
        if not self.says_more:
            return (), [()] * self.n_envs
        mask, next_mask = self.rng.random((2, self.n_envs, 3)) < 0.5
        mask[np.arange(self.n_envs), action] = True
        next_mask[~terminated, 1] = True
        prob = self.rng.uniform(0.1, 1, self.n_envs).astype(np.float32)
        kept = next_mask | ~next_mask.any(1, keepdims=True)   # nothing follows: all actions exist
        return (mask, next_mask, prob), [(mask[e].tobytes(), kept[e].tobytes(), prob[e]) for e in range(self.n_envs)]

    def forget(self, capacity):
        self.steps = self.steps[-capacity:]


def batch_rows(batch):
    "A tuple for each transition, without its probability"
    columns = [column.numpy() for column in batch if column is not None]
    return [tuple(column[k].tobytes() if column.ndim > 1 else column[k] for column in columns)
            for k in range(len(batch.action))]


def rows(buffer, slots):
    "A tuple for each transition: what the buffer holds of it"
    found = batch_rows(buffer.transitions(slots))
    if buffer.prob is None:
        return found
    return [(*row, prob) for row, prob in zip(found, buffer.prob.numpy()[slots], strict=True)]


def held_episodes(buffer, world):
    "The steps that the buffer can show, by episodes"
    steps, n_envs = world.steps, world.n_envs
    kept = [k for k, step in enumerate(steps) if step.shown <= k // n_envs or type(buffer) is ReplayBuffer]
    episodes = []
    for env in range(n_envs):
        for i, k in enumerate(k for k in kept if k % n_envs == env):
            if i == 0 or steps[k].first:
                episodes.append([])
            episodes[-1].append(steps[k])
    return kept, episodes


def shown_episodes(buffer):
    return [rows(buffer, slots) for slots in buffer.episodes()]


def rows_of(episodes):
    return [[step.row for step in episode] for episode in episodes]


def check_returns(buffer, episodes):
    whole = [episode for episode in episodes if episode[0].first and episode[-1].ended]
    returns = [sum(float(step.row[2]) for step in episode) for episode in whole]
    np.testing.assert_allclose(buffer.episode_returns(), returns, rtol=1e-6, atol=1e-6)


def check(buffer, world, rng):
    "The buffer can give all that it should hold, but for stacks whose frames were overwritten, and nothing else"
    steps = world.steps
    kept, episodes = held_episodes(buffer, world)
    assert len(buffer) == len(steps)
    assert buffer.ring.age(buffer.slots()).tolist() == kept
    assert buffer.ring.slot(np.array(kept, int)).tolist() == buffer.slots().tolist()
    assert rows(buffer, buffer.slots()) == [steps[k].row for k in kept]
    if steps:
        n_columns = 7 if world.says_more else 5
        drawn = batch_rows(buffer.sample(len(buffer), rng))
        assert set(drawn) <= {steps[k].row[:n_columns] for k in kept}
    assert shown_episodes(buffer) == rows_of(episodes)
    check_returns(buffer, episodes)


def check_spares(buffer):
    "A frame is kept apart only where no slot holds it, each under an index of its own, and none of the room is lost"
    store = buffer.store
    used = (store.after[store.after > 0] - 1).tolist()
    assert len(used) == len(set(used))
    assert sorted(used + store.spares.free) == list(range(len(store.spares.frames)))
    newest = buffer.ring.newest_slots() if len(buffer) else []
    ends = [slot for slot in buffer.ring.slot(np.arange(len(buffer))) if buffer.ended[slot] or slot in newest]
    assert set(ends) <= set(np.flatnonzero(store.after > 0))


phases = st.lists(st.tuples(st.integers(0, 15), st.none() | st.integers(0, 20), st.booleans()), min_size=1, max_size=4)


kinds = st.sampled_from([ReplayBuffer, FrameBuffer])
chances = st.sampled_from([0.0, 0.05, 0.4])


def make(kind, world, room):
    "An empty buffer for this world, with room for a stack and so many steps"
    space = Box(0, 255, (world.stack, *frame_shape), np.uint8)
    capacity = (world.stack + room) * world.n_envs
    return kind(capacity, space, 3, world.n_envs, masks=world.says_more, probs=world.says_more)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(kind=kinds, n_envs=st.integers(1, 3), stack=st.integers(1, 4), room=st.integers(0, 12), ends=chances,
       phases=phases, seed=st.integers(0, 2**16), says_more=st.booleans())
def test_against_a_list(tmp_path_factory, kind, n_envs, stack, room, ends, phases, seed, says_more):
    "Add, save, load into any size, go on with the same environments or with new ones, time and again"
    world = World(n_envs, stack, ends, seed, says_more)
    rng = np.random.default_rng(seed)
    buffer = make(kind, world, room)
    path = tmp_path_factory.mktemp("buffer") / "b.npz"
    for n_steps, size, new in phases:
        for _ in range(n_steps):
            world.step(buffer)
            check(buffer, world, rng)
            if kind is FrameBuffer:
                check_spares(buffer)
        buffer.save(path)
        buffer = ReplayBuffer.load(path, None if size is None else (stack + size) * n_envs)
        assert type(buffer) is kind
        world.forget(buffer.capacity)
        check(buffer, world, rng)
        if new:
            world.reset(np.ones(n_envs, bool))
        world.first = np.ones(n_envs, bool)   # what is added after loading begins episodes


logs = st.tuples(st.integers(1, 3), st.integers(0, 12), chances, st.integers(0, 30), st.integers(0, 10))


def record(kind, stack, says_more, seed, log, path):
    "Some steps, a file or none, and some more: a buffer whose ring has gone around or not, and its episodes"
    n_envs, room, ends, before, after = log
    world = World(n_envs, stack, ends, seed, says_more)
    buffer = make(kind, world, room)
    for _ in range(before):
        world.step(buffer)
    if after % 2 == 1:   # what is added after loading begins episodes
        buffer.save(path)
        buffer = ReplayBuffer.load(path)
        world.first = np.ones(n_envs, bool)
        world.reset(world.first)
    for _ in range(after):
        world.step(buffer)
    return buffer, held_episodes(buffer, world)[1]


def go_on(buffer, world, n_steps):
    "One environment adds to a buffer until it goes around: what was there is shown as long as its frames are there"
    is_plain = type(buffer) is ReplayBuffer
    slots = buffer.slots()
    needed = np.zeros(len(slots)) if is_plain else buffer.store.shown[slots]
    old = list(zip(buffer.ring.age(slots), needed, rows(buffer, slots), strict=True))
    n_forgotten = max(len(buffer) + n_steps - buffer.capacity, 0)
    for _ in range(n_steps):
        world.step(buffer)
    kept = [row for age, n_before, row in old if age - n_forgotten >= n_before]
    oldest_new = len(buffer) - len(world.steps)
    new = [step.row for k, step in enumerate(world.steps) if is_plain or step.shown <= oldest_new + k]
    assert rows(buffer, buffer.slots()) == kept + new


@settings(max_examples=150, deadline=None, derandomize=True)
@given(kind=kinds, stack=st.integers(1, 4), one=logs, two=logs, share=st.floats(0.1, 0.9), says_more=st.booleans(),
       more=st.integers(0, 40), seed=st.integers(0, 2**16))
def test_joined_and_split_against_lists(tmp_path_factory, kind, stack, one, two, share, says_more, more, seed):
    "Of two logs, whatever became of their rings: nothing is mixed, and nothing that could be shown is lost"
    path = tmp_path_factory.mktemp("buffer") / "b.npz"
    buffer, episodes = record(kind, stack, says_more, seed, one, path)
    other, other_episodes = record(kind, stack, says_more, seed + 1, two, path)
    before = shown_episodes(other)
    buffer.extend(other)
    episodes += other_episodes
    assert buffer.n_envs == 1 and shown_episodes(other) == before
    assert shown_episodes(buffer) == rows_of(episodes)
    check_returns(buffer, episodes)

    buffer.save(path)
    loaded = ReplayBuffer.load(path)
    assert shown_episodes(loaded) == rows_of(episodes)
    check_split(loaded, episodes, share, seed)
    for part in (buffer, loaded):
        if kind is FrameBuffer:
            check_spares(part)
        go_on(part, World(1, stack, 0.1, seed + 2, says_more), more)


def check_split(buffer, episodes, share, seed):
    "Whole episodes on either side, in order; and the lives of a game, whose stacks go on, on one side"
    everything = rows_of(episodes)
    try:
        parts = buffer.split(share, seed)
    except ValueError as error:
        assert "both parts need at least one" in str(error)
        return
    sides = [shown_episodes(part) for part in parts]
    side_of = [int(episode in sides[1]) for episode in everything]
    for side, part in enumerate(parts):
        own = [episode for episode, k in zip(episodes, side_of, strict=True) if k == side]
        assert sides[side] == rows_of(own)
        check_returns(part, own)
        if type(buffer) is FrameBuffer:
            check_spares(part)
    for k in range(1, len(episodes)):
        last, first = episodes[k - 1][-1], episodes[k][0]
        goes_on = first.first and first.shown > 0 and last.row[3] == first.row[0]
        if type(buffer) is FrameBuffer and goes_on:
            assert side_of[k] == side_of[k - 1]


class Given:
    "Takes the place of a buffer, and keeps what is added to it, row by row"
    capacity = 10_000

    def __init__(self):
        self.steps = []

    def add(self, *step):
        self.steps.append([np.array(column) for column in step])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(kind=kinds, stack=st.integers(1, 4), n_steps=st.integers(1, 30), block=st.integers(1, 12), ends=chances,
       says_more=st.booleans(), seed=st.integers(0, 2**16))
def test_a_log_in_one_call(kind, stack, n_steps, block, ends, says_more, seed):
    "From arrays, in blocks of whatever size, comes what comes step by step; what is added next begins an episode"
    world, given_steps = World(1, stack, ends, seed, says_more), Given()
    for _ in range(n_steps):
        world.step(given_steps)
    *columns, = map(np.concatenate, zip(*given_steps.steps, strict=True))
    more = dict(zip(("mask", "next_mask", "prob"), columns[6:], strict=says_more))

    class Blocks(kind):
        rows_at_once = 1 if kind is FrameBuffer else block

    buffer = Blocks.from_arrays(*columns[:6], n_actions=3, **more)
    straight = make(kind, world, n_steps)
    for step in given_steps.steps:
        straight.add(*step)
    assert buffer.capacity == max(n_steps, stack if kind is FrameBuffer else 1)
    assert rows(buffer, buffer.slots()) == rows(straight, straight.slots())
    assert shown_episodes(buffer) == shown_episodes(straight)
    np.testing.assert_array_equal(buffer.episode_returns(), straight.episode_returns())


def test_a_buffer_twice():
    "A buffer joined with itself"
    world = World(n_envs=2, stack=3, ends=0.1, seed=0)
    buffer = make(FrameBuffer, world, room=7)
    for _ in range(25):
        world.step(buffer)
    once = shown_episodes(buffer)
    buffer.extend(buffer)
    assert shown_episodes(buffer) == once + once


def test_what_goes_along():
    "Names of columns and notes are those of both; room stays"
    table = Table(obs=("age",), action="dose", actions=("none", "low"))
    one, two = (ReplayBuffer(100, Box(-1, 1, (1,)), 2) for _ in range(2))
    for k, buffer in enumerate((one, two)):
        buffer.table, buffer.notes = table, ("both", f"only {k}")
        for t in range(4):
            buffer.add([[t / 4]], [1], [t], [[t / 4]], [t % 2 == 1], [False])
    one.extend(two)
    assert one.table == table and one.notes == ("both", "only 0", "only 1") and two.notes == ("both", "only 1")
    assert one.capacity == 100 and len(one) == 8
    parts = one.split(0.5)
    assert [part.table for part in parts] == [table, table] and [len(part) for part in parts] == [4, 4]
    assert all(part.notes == one.notes for part in parts)
    again = one.split(0.5)
    assert [part.reward.tolist() for part in parts] == [part.reward.tolist() for part in again]
    chosen = {tuple(one.split(0.5, seed)[0].reward.tolist()) for seed in range(8)}
    assert len(chosen) > 1   # another seed, other episodes


def test_a_table_of_a_buffer():
    "Columns in the log's own words, rows by episodes, the cut and the terminated ones; and numbers without a table"
    pandas = pytest.importorskip("pandas")
    table = Table(obs=("age", "sex"), action="dose", actions=("none", "low"), categories={"sex": ("F", "M")})
    buffer = ReplayBuffer(20, Box(-1, 1, (3,)), 2, n_envs=2, masks=True, probs=True)
    mask, next_mask = [[True, True], [False, True]], [[True, False], [True, True]]
    for t in range(3):
        obs = np.array([[t, 0, 1], [10 + t, 1, 0]], np.float32)
        ends = [t == 1, False], [False, t == 2]
        buffer.add(obs, [0, 1], [t, -t], obs + [1, 0, 0], *ends, mask, next_mask, [0.5, 0.25])
    plain = buffer.to_frame()
    assert list(plain) == ["obs0", "obs1", "obs2", "action", "reward", "next_obs0", "next_obs1", "next_obs2",
                           "terminated", "truncated", "episode", "step",
                           "mask_0", "mask_1", "next_mask_0", "next_mask_1", "prob"]
    assert plain["action"].tolist() == [0, 0, 0, 1, 1, 1]
    buffer.table = table
    frame = buffer.to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame)[:3] == ["age", "sex=F", "sex=M"] and "next_sex=M" in frame and "mask_low" in frame
    assert frame["age"].tolist() == [0, 1, 2, 10, 11, 12] and frame["next_age"].tolist() == [1, 2, 3, 11, 12, 13]
    assert frame["action"].tolist() == ["none"] * 3 + ["low"] * 3
    assert frame["episode"].tolist() == [0, 0, 1, 2, 2, 2] and frame["step"].tolist() == [0, 1, 0, 0, 1, 2]
    assert frame["terminated"].tolist() == [False, True, False, False, False, False]
    assert frame["truncated"].tolist() == [False, False, False, False, False, True]
    assert frame["mask_none"].tolist() == [True] * 3 + [False] * 3 and frame["prob"].tolist() == [0.5] * 3 + [0.25] * 3
    assert len(ReplayBuffer(20, Box(-1, 1, (3,)), 2).to_frame()) == 0


def test_blocks(tmp_path, monkeypatch):
    "Files larger than one block, loaded smaller, equal and larger"
    monkeypatch.setattr("bcq_nb.archives.BLOCK", 7)
    monkeypatch.setattr("bcq_nb.kept.BLOCK", 7)
    world = World(n_envs=2, stack=3, ends=0.1, seed=0)
    buffer = FrameBuffer(60, Box(0, 255, (3, *frame_shape), np.uint8), n_actions=3, n_envs=2)
    for _ in range(50):
        world.step(buffer)
    buffer.save(tmp_path / "b.npz")
    everything = world.steps
    for size in (200, 61, 60, 35, 13, 7):
        world.steps = everything
        loaded = FrameBuffer.load(tmp_path / "b.npz", size)
        world.forget(loaded.capacity)
        check(loaded, world, np.random.default_rng(0))


def test_a_frame_buffer_draws_what_a_plain_one_draws():
    "Fed and asked alike, while no stack has lost a frame, the two give the same bits"
    space = Box(0, 255, (4, *frame_shape), np.uint8)
    world, same_world = World(2, 4, 0.2, seed=3), World(2, 4, 0.2, seed=3)
    plain, frames = ReplayBuffer(80, space, 3, n_envs=2), FrameBuffer(80, space, 3, n_envs=2)
    for _ in range(40):
        world.step(plain)
        same_world.step(frames)
    drawn = [buffer.sample(64, np.random.default_rng(1)) for buffer in (plain, frames)]
    assert all(torch.equal(a, b) for a, b in zip(*[batch[:5] for batch in drawn], strict=True))
    public = {name for name in dir(plain) if not name.startswith("_")}
    assert public <= {name for name in dir(frames)}


def test_make_buffer():
    assert type(make_buffer(8, Box(0, 255, (4, 2, 2), np.uint8), 2)) is FrameBuffer
    assert type(make_buffer(8, Box(-1, 1, (4,)), 2, n_envs=2)) is ReplayBuffer
    assert isinstance(make_buffer(8, Box(-1, 1, (4,)), 2), Recorder)


def test_memory(tmp_path):
    "Saving and loading take some tens of MB besides the buffer, however large it is"
    program = """
import resource, sys
import numpy as np
from gymnasium.spaces import Box
from bcq_nb.frames import FrameBuffer
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
buffer = FrameBuffer(40_000, Box(0, 255, (4, 84, 84), np.uint8), 2)
buffer.store.frames[:40_000] = 1
buffer.follows[1:40_000] = True
buffer.store.shown[:40_000] = np.minimum(np.arange(40_000), 3)
buffer.store.after[39_999] = 1 + buffer.store.spares.take(np.zeros((1, 84, 84), np.uint8))[0]
buffer.ring.advance(40_000)
full = peak()
buffer.save(sys.argv[1])
saved = peak()
del buffer
FrameBuffer.load(sys.argv[1])
print(saved - full, peak() - full)
"""
    command = [sys.executable, "-c", program, tmp_path / "b.npz"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    saving, loading = map(float, run.stdout.split())
    assert saving < 200 and loading < 200, "MB, where a second copy of the frames would take 282"


def test_memory_of_a_log():
    "A log in one call takes no memory besides the buffer"
    program = """
import resource
import numpy as np
from bcq_nb.buffers import ReplayBuffer
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
n = 1_000_000
obs, action, ends = np.ones((n, 8)), np.ones(n, np.int64), np.arange(n) % 10 == 9
reward, no = obs[:, 0].copy(), np.zeros(n, bool)
before = peak()
buffer = ReplayBuffer.from_arrays(obs, action, reward, obs, ends, no)
made = peak()
print(buffer.nbytes / 2**20, made - before)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    size, taken = map(float, run.stdout.split())
    assert 75 < size < 85 and taken < size + 20, "MB, where a copy of the observations would take 61 more"


def test_killed_while_saving(tmp_path):
    "A process that dies while it writes over a file leaves the old one whole, and the next save goes well"
    space, path = Box(0, 255, (4, 84, 84), np.uint8), tmp_path / "b.npz"
    buffer = FrameBuffer(8, space, n_actions=2)
    stack = np.zeros((1, 4, 84, 84), np.uint8)
    for _ in range(5):
        buffer.add(stack, [1], [1.0], stack, [False], [False])
    buffer.save(path)
    old = path.read_bytes()
    program = """
import sys
import numpy as np, torch
from gymnasium.spaces import Box
from bcq_nb.frames import FrameBuffer
buffer = FrameBuffer(50_000, Box(0, 255, (4, 84, 84), np.uint8), 2)
buffer.store.frames[:] = torch.randint(256, (1, 84, 84), dtype=torch.uint8)
buffer.ring.advance(50_000)
print("saving", flush=True)
buffer.save(sys.argv[1])
"""
    process = subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE)
    process.stdout.readline()
    beside = []
    while not beside:
        time.sleep(0.01)
        beside = [p for p in tmp_path.iterdir() if p != path and p.stat().st_size > 0]
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert path.read_bytes() == old and len(FrameBuffer.load(path)) == 5
    buffer.save(path)
    assert path.read_bytes() == old


def content(path):
    meta, arrays = load_arrays(path, "test")
    return meta, {name: array.tolist() for name, array in arrays}


def test_damage_is_found(tmp_path):
    "Whichever byte of a file is wrong, the file is refused or the content is what was saved"
    path = tmp_path / "b.npz"
    noise = np.random.default_rng(0).integers(256, size=300, dtype=np.uint8)
    save_arrays(path, "test", {"n": 1}, [("noise", noise), ("zeros", np.zeros(500))])
    whole = path.read_bytes()
    right = content(path)
    silent, refused = [], 0
    for k in range(len(whole)):
        path.write_bytes(whole[:k] + bytes([whole[k] ^ 0x10]) + whole[k + 1:])
        try:
            if content(path) != right:
                silent.append(k)
        except ValueError:
            refused += 1
        path.write_bytes(whole[:k])   # cut short
        with pytest.raises(ValueError):
            content(path)
    assert not silent and refused > len(whole) / 2


def test_an_array_that_claims_to_be_shorter_is_found(tmp_path):
    "Its bytes would be read without coming to the checksum"
    path = tmp_path / "b.npz"
    save_arrays(path, "test", {}, [("noise", np.arange(3000))])
    with zipfile.ZipFile(path) as packed, zipfile.ZipFile(tmp_path / "stored.npz", "w", zipfile.ZIP_STORED) as stored:
        for name in packed.namelist():
            stored.writestr(name, packed.read(name))
    whole = (tmp_path / "stored.npz").read_bytes()
    assert whole.count(b"(3000,)") == 1
    path.write_bytes(whole)
    assert len(content(path)[1]["noise"]) == 3000
    path.write_bytes(whole.replace(b"(3000,)", b"(1000,)"))
    with pytest.raises(ValueError, match="damaged"):
        content(path)


def test_what_arrays_may_be():
    "Views turned around, arrays that cannot be written to, and lists"
    buffer = ReplayBuffer(10, Box(-1, 1, (3,), np.float32), n_actions=2)
    obs = np.arange(3, dtype=np.float64)[None, ::-1]
    fixed = np.broadcast_to(np.float32(0.5), (1, 3))
    buffer.add(obs, np.array([1], np.uint8), np.array([2], np.int32), fixed, [False], np.array([True]))
    batch = buffer.transitions(np.array([0]))
    assert batch.obs.tolist() == [[2, 1, 0]] and batch.next_obs.tolist() == [[0.5] * 3]
    assert batch.action.tolist() == [1] and batch.reward.tolist() == [2] and batch.terminated.tolist() == [0]


def test_empty_buffers_can_be_saved(tmp_path):
    for kind in (ReplayBuffer, FrameBuffer):
        kind(8, Box(0, 255, (4, 2, 2), np.uint8), n_actions=2, n_envs=2).save(tmp_path / "b.npz")
        loaded = ReplayBuffer.load(tmp_path / "b.npz")
        assert type(loaded) is kind and len(loaded) == 0 and loaded.capacity == 8
        assert list(loaded) == [] and loaded.episode_returns().size == 0


def test_a_frame_buffer_needs_its_module(tmp_path):
    "The error of a process that has not imported it says what to import"
    FrameBuffer(8, Box(0, 255, (4, 2, 2), np.uint8), n_actions=2).save(tmp_path / "b.npz")
    program = "import sys\nfrom bcq_nb.buffers import ReplayBuffer\n"
    program += "print(type(ReplayBuffer.load(sys.argv[1])).__name__)"
    command = [sys.executable, "-c", program, tmp_path / "b.npz"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 1
    assert "holds a FrameBuffer" in run.stderr and "import the module that defines it first" in run.stderr
    command[2] = "import bcq_nb.frames\n" + program
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "FrameBuffer\n"
