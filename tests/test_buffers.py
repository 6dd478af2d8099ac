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

from bcq_nb.buffers import Recorder, ReplayBuffer
from bcq_nb.files import load_arrays, save_arrays
from bcq_nb.frames import FrameBuffer, make_buffer

frame_shape = (2, 3)


@dataclass
class Step:
    row: tuple   # (obs, action, reward, next_obs, terminated), arrays as bytes
    first: bool  # nothing that the buffer was given came before, or an episode had ended
    ended: bool
    shown: int   # frames before its own that its stack shows


class World:
    "Environments whose episodes end by chance, and a list of the steps that a buffer should hold, oldest first"
    def __init__(self, n_envs, stack, ends, seed):
        self.n_envs = n_envs
        self.stack = stack
        self.ends = ends
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
        buffer.add(obs, action, reward, next_obs, terminated | life_lost, truncated)
        ended = terminated | life_lost | truncated
        for e in range(n):
            row = (obs[e].tobytes(), action[e], reward[e], next_obs[e].tobytes(), terminated[e] | life_lost[e])
            self.steps.append(Step(row, self.first[e], ended[e], self.shown[e]))
        self.forget(buffer.capacity)
        self.obs = next_obs.copy()
        self.first = ended
        self.shown = np.minimum(self.shown + 1, self.stack - 1)
        self.reset(terminated | truncated)
        next_obs[:] = 77   # an environment that goes on using its arrays

    def forget(self, capacity):
        self.steps = self.steps[-capacity:]


def rows(batch):
    obs, action, reward, next_obs, terminated = (column.numpy() for column in batch[:5])
    return [(obs[k].tobytes(), action[k], reward[k], next_obs[k].tobytes(), bool(terminated[k]))
            for k in range(len(action))]


def check(buffer, world, rng):
    "The buffer can give all that it should hold, but for stacks whose frames were overwritten, and nothing else"
    steps, n_envs = world.steps, world.n_envs
    kept = [k for k, step in enumerate(steps) if step.shown <= k // n_envs or type(buffer) is ReplayBuffer]
    assert len(buffer) == len(steps)
    assert buffer.ring.age(buffer.slots()).tolist() == kept
    assert buffer.ring.slot(np.array(kept, int)).tolist() == buffer.slots().tolist()
    assert rows(buffer.transitions(buffer.slots())) == [steps[k].row for k in kept]
    if steps:
        assert set(rows(buffer.sample(len(buffer), rng))) <= {steps[k].row for k in kept}

    episodes = []
    for env in range(n_envs):
        for i, k in enumerate(k for k in kept if k % n_envs == env):
            if i == 0 or steps[k].first:
                episodes.append([])
            episodes[-1].append(steps[k])
    assert [rows(batch) for batch in buffer] == [[step.row for step in episode] for episode in episodes]
    whole = [episode for episode in episodes if episode[0].first and episode[-1].ended]
    returns = [sum(float(step.row[2]) for step in episode) for episode in whole]
    np.testing.assert_allclose(buffer.episode_returns(), returns, rtol=1e-6, atol=1e-6)


def check_spares(buffer):
    "A frame is kept apart only where no slot holds it, each under an index of its own, and none of the room is lost"
    store = buffer.store
    used = store.after[store.after >= 0].tolist()
    assert len(used) == len(set(used))
    assert sorted(used + store.spares.free) == list(range(len(store.spares.frames)))
    newest = buffer.ring.newest_slots() if len(buffer) else []
    ends = [slot for slot in buffer.ring.slot(np.arange(len(buffer))) if buffer.ended[slot] or slot in newest]
    assert set(ends) <= set(np.flatnonzero(store.after >= 0))


phases = st.lists(st.tuples(st.integers(0, 15), st.none() | st.integers(0, 20), st.booleans()), min_size=1, max_size=4)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(kind=st.sampled_from([ReplayBuffer, FrameBuffer]), n_envs=st.integers(1, 3), stack=st.integers(1, 4),
       room=st.integers(0, 12), ends=st.sampled_from([0.0, 0.05, 0.4]), phases=phases, seed=st.integers(0, 2**16))
def test_against_a_list(tmp_path_factory, kind, n_envs, stack, room, ends, phases, seed):
    "Add, save, load into any size, go on with the same environments or with new ones, time and again"
    world = World(n_envs, stack, ends, seed)
    rng = np.random.default_rng(seed)
    buffer = kind((stack + room) * n_envs, Box(0, 255, (stack, *frame_shape), np.uint8), n_actions=3, n_envs=n_envs)
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


def test_blocks(tmp_path, monkeypatch):
    "Files larger than one block, loaded smaller, equal and larger"
    monkeypatch.setattr("bcq_nb.files.BLOCK", 7)
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
