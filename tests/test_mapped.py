"""Buffers whose observations lie on the disk: the same transitions as in memory, and none of that memory."""
import gc
import os
import subprocess
import sys

import numpy as np
import pytest
from gymnasium.spaces import Box

from bcq_nb.buffers import ReplayBuffer
from bcq_nb.frames import make_buffer
from bcq_nb.generation import generate_buffer
from bcq_nb.mapped import zeros_in

PIXELS = Box(0, 255, (3, 2, 4), np.uint8)
VECTOR = Box(-np.inf, np.inf, (3,), np.float32)


class World:
    "Environments that show random vectors, or stacks of random frames, and whose episodes end by chance"
    def __init__(self, buffer, seed):
        self.n_envs, self.shape = buffer.n_envs, buffer.obs_space.shape
        self.is_stack = len(self.shape) == 3
        self.rng = np.random.default_rng(seed)
        self.obs = self.start()

    def frame(self):
        return self.rng.integers(1, 256, (self.n_envs, 1, *self.shape[1:]), np.uint8)

    def start(self):
        if not self.is_stack:
            return self.rng.normal(size=(self.n_envs, *self.shape))
        before = np.zeros((self.n_envs, self.shape[0] - 1, *self.shape[1:]), np.uint8)
        return np.concatenate([before, self.frame()], axis=1)

    def play(self, buffers, n_steps):
        "The same steps into several buffers"
        for _ in range(n_steps):
            next_obs = np.concatenate([self.obs[:, 1:], self.frame()], axis=1) if self.is_stack else self.start()
            ends = self.rng.random((2, self.n_envs)) < 0.05
            action, reward = self.rng.integers(2, size=self.n_envs), self.rng.normal(size=self.n_envs)
            for buffer in buffers:
                buffer.add(self.obs, action, reward, next_obs, *ends)
            ended = ends.any(axis=0)
            self.obs = next_obs.copy()
            self.obs[ended] = self.start()[ended]


def columns_of(batch):
    return [column.numpy().tobytes() for column in batch[:5]]


def same(buffer, other):
    "Whether two buffers hold the same observations, actions and ends, and draw the same"
    assert (type(buffer), len(buffer), buffer.capacity) == (type(other), len(other), other.capacity)
    slots = buffer.slots()
    assert slots.tolist() == other.slots().tolist()
    for take in (lambda b: b.transitions(slots), lambda b: b.sample(40, np.random.default_rng(5))):
        assert columns_of(take(buffer)) == columns_of(take(other))


def is_on_disk(tensor):
    "Whether its memory is that of a file: Linux lists what is mapped where"
    first = tensor.data_ptr()
    for line in open("/proc/self/maps"):
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        if start <= first < end:
            return int(line.split()[4]) > 0   # the number of a file; 0 where there is none
    raise AssertionError("no such address")


linux = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="asks Linux where memory is")


@linux
@pytest.mark.parametrize("space", [PIXELS, VECTOR], ids=["frames", "vectors"])
@pytest.mark.parametrize("n_envs", [1, 3])
def test_the_same_as_in_memory(tmp_path, space, n_envs):
    "Written, loaded, loaded smaller, joined, split, saved: it makes no difference where observations lie"
    memory, disk = (make_buffer(240, space, 2, n_envs, folder=folder) for folder in (None, tmp_path))
    world = World(memory, seed=0)
    for _ in range(6):   # the ring goes around
        world.play([memory, disk], 60)
        same(memory, disk)
    assert os.listdir(tmp_path) == []
    disk.save(tmp_path / "disk.npz")
    memory.save(tmp_path / "memory.npz")
    assert (tmp_path / "disk.npz").read_bytes() == (tmp_path / "memory.npz").read_bytes()
    for size in (None, 60, 400):
        loaded = ReplayBuffer.load(tmp_path / "disk.npz", size, folder=tmp_path)
        same(ReplayBuffer.load(tmp_path / "disk.npz", size), loaded)
    parts = loaded.split(0.5)
    for part, other in zip(parts, ReplayBuffer.load(tmp_path / "disk.npz", size).split(0.5), strict=True):
        same(other, part)
    parts[0].extend(parts[1])
    for buffer in (disk, loaded, *parts):
        names = ("frames",) if space is PIXELS else ("obs", "next_obs")
        assert all(is_on_disk(getattr(buffer.store, name)) for name in names)


@linux
def test_a_batch_is_written_to_the_disk(tmp_path):
    "While it is generated"
    disk = generate_buffer(lambda obs: np.zeros(len(obs), int), "CartPole-v1", 400, progress=False, folder=tmp_path)
    memory = generate_buffer(lambda obs: np.zeros(len(obs), int), "CartPole-v1", 400, progress=False)
    same(memory, disk)
    assert is_on_disk(disk.store.obs) and not is_on_disk(memory.store.obs)


def test_where_there_is_no_room(tmp_path):
    "A folder that is not there, a file in its place, a disk that is too small, numbers beyond all disks: one line"
    (tmp_path / "file").write_text("")
    ReplayBuffer(8, VECTOR, 2).save(tmp_path / "b.npz")
    for folder in (tmp_path / "nowhere", tmp_path / "file"):
        for make in (lambda folder=folder: make_buffer(8, VECTOR, 2, folder=folder),
                     lambda folder=folder: ReplayBuffer.load(tmp_path / "b.npz", folder=folder)):
            with pytest.raises(ValueError, match=f"{folder.name}' cannot be written") as error:
                make()
            assert "\n" not in str(error.value)
    for capacity in (10**9, 10**12, 10**30):
        with pytest.raises(ValueError, match="cannot be written"):
            zeros_in(tmp_path, (capacity, 1000, 1000), np.uint8)
    with pytest.raises(ValueError, match="b.npz': .* cannot be written .*size=… makes room for the newest"):
        ReplayBuffer.load(tmp_path / "b.npz", size=10**9, folder="/proc")


@linux
def test_the_file_ends_with_the_buffer(tmp_path):
    "Nothing is left in the folder, and no room is taken any more"
    buffer = make_buffer(1000, Box(0, 255, (4, 84, 84), np.uint8), 2, folder=tmp_path)
    mapped = [line for line in open("/proc/self/maps") if str(tmp_path) in line]
    assert len(mapped) == 1 and "(deleted)" in mapped[0] and os.listdir(tmp_path) == []
    World(buffer, seed=0).play([buffer], 10)
    batch = buffer.sample(4)
    del buffer
    gc.collect()
    assert not [line for line in open("/proc/self/maps") if str(tmp_path) in line]
    assert batch.obs.shape == (4, 4, 84, 84)   # a copy, which stays


LARGER = """
import resource, sys
import numpy as np
import torch
from gymnasium.spaces import Box
from bcq_nb.bcq import BCQConfig, DiscreteBCQ, train_offline
from bcq_nb.buffers import ReplayBuffer
from bcq_nb.frames import FrameBuffer, make_buffer

def own():
    "MB of memory that are no pages of a file"
    [line] = [line for line in open("/proc/self/status") if line.startswith("VmData")]
    return int(line.split()[1]) // 1024

torch.set_num_threads(1)
path, folder, frames = sys.argv[1], sys.argv[2], int(sys.argv[3])
space = Box(0, 255, (4, 84, 84), np.uint8)
agent = DiscreteBCQ(space, 2, BCQConfig.atari(), device="cpu")
first = FrameBuffer(1000, space, 2)
obs = np.zeros((1, 4, 84, 84), np.uint8)
for t in range(1000):
    first.add(obs, [t % 2], [1.0], obs, [False], [t % 100 == 99])
train_offline(agent, first, steps=2, progress=False)   # whatever PyTorch allocates is there

limit = own() + 150
resource.setrlimit(resource.RLIMIT_DATA, (limit << 20,) * 2)
try:
    make_buffer(frames, space, 2).store.frames.fill_(1)
    print("in memory")
except (ValueError, MemoryError) as error:
    print("too large for memory:", error)
buffer = make_buffer(frames, space, 2, folder=folder)
for t in range(0, frames, 1000):
    rows = np.arange(1000)
    buffer.restore(buffer.ring.next_slots(1000), first.state(rows))
    buffer.ring.advance(1000)
buffer.save(path)
del buffer
loaded = ReplayBuffer.load(path, folder=folder)
train_offline(agent, loaded, steps=5, progress=False)
print(f"{len(loaded)} transitions, {loaded.nbytes >> 20} MB, and {own() - limit + 150} MB more than before")
assert loaded.nbytes >> 20 > 150 and own() < limit
"""


@linux
@pytest.mark.parametrize("frames", [40_000, pytest.param(400_000, marks=pytest.mark.slow)])
def test_larger_than_memory(tmp_path, frames):
    "A process that may not have so much memory writes a batch, saves it, loads it and learns from it"
    command = [sys.executable, "-c", LARGER, tmp_path / "b.npz", tmp_path, str(frames)]
    run = subprocess.run(command, capture_output=True, text=True)
    print(run.stdout)
    assert run.returncode == 0, run.stderr
    assert "too large for memory" in run.stdout and f"{frames} transitions" in run.stdout
