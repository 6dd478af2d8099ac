"""Sampling time, memory and disk of the buffers, as ratios to what one would write first. `python benchmarks/buffers.py`

Compared on frames of Pong and on vectors:
* `bare gather`: one `index_select` of as many frames, or of two sets of vectors, the least that any layout has to do;
* `list`: a Python list of (obs, action, reward, next_obs, terminated), collated with `np.stack`;
* `loop`: every frame once in NumPy, and for each sampled transition a Python loop that fills its two stacks.

Times are medians of interleaved rounds, so that a busy machine slows all of them alike.
"""
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from ale_py import AtariVectorEnv
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode

from bcq_nb.buffers import Batch, FrameBuffer, ReplayBuffer


def median_times(functions, rounds=300):
    "name -> median seconds"
    times = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in times.items()}


def collate(memory, at):
    "A batch from a list of transitions"
    obs, action, reward, next_obs, terminated = (np.stack(column) for column in zip(*(memory[k] for k in at), strict=True))
    return Batch(*map(torch.from_numpy, (obs, action, reward, next_obs, terminated)))


def loop(frames, ended, action, reward, terminated, at):
    "A batch from frames, one transition after another; one environment, no ring, no cut episodes: less than is needed"
    obs, next_obs = (np.zeros((len(at), 4, *frames.shape[1:]), np.uint8) for _ in range(2))
    for row, k in enumerate(at):
        for stack, end in ((obs, k), (next_obs, k + 1)):
            for back in range(4):
                if end - back < 0 or (back and ended[end - back]): break
                stack[row, 3 - back] = frames[end - back]
    return Batch(*map(torch.from_numpy, (obs, action[at], reward[at], next_obs, terminated[at])))


def fill_with_pong(buffer, memory, steps):
    "Random play"
    envs = AtariVectorEnv("pong", num_envs=1, noop_max=0, use_fire_reset=False, repeat_action_probability=0.25,
                          autoreset_mode=AutoresetMode.SAME_STEP)
    rng, (obs, _) = np.random.default_rng(0), envs.reset(seed=0)
    for _ in range(steps):
        action = rng.integers(6, size=1)
        next_obs, reward, terminated, truncated, info = envs.step(action)
        last = info["final_obs"] if (terminated | truncated).any() else next_obs
        buffer.add(obs, action, reward, last, terminated, truncated)
        memory.append((obs[0].copy(), action[0], np.float32(reward[0]), last[0].copy(), np.float32(terminated[0])))
        obs = next_obs
    envs.close()


def report(title, times, base):
    print(f"\n{title}")
    for name, seconds in times.items(): print(f"  {name:14} {seconds * 1e6:9.1f} µs   {seconds / times[base]:6.2f} × {base}")


def frames(steps=8000, batch_size=32):
    buffer, memory, rng = FrameBuffer(steps, Box(0, 255, (4, 84, 84), np.uint8), 6), [], np.random.default_rng(0)
    fill_with_pong(buffer, memory, steps)
    ended, columns = buffer.ended.numpy(), [getattr(buffer, name).numpy() for name in ("action", "reward", "terminated")]
    draw = lambda: rng.integers(steps - 1, size=batch_size)
    check, at = buffer.transitions(np.arange(200)), np.arange(200)
    assert all(torch.equal(a, b) for a, b in zip(check, collate(memory, at), strict=True))
    report(f"sample {batch_size} stacked transitions of Pong", median_times({
        "FrameBuffer": lambda: buffer.sample(batch_size, rng),
        "bare gather": lambda: buffer.frames.index_select(0, torch.from_numpy(rng.integers(steps, size=5 * batch_size))),
        "list": lambda: collate(memory, draw()),
        "loop": lambda: loop(buffer.frames.numpy(), ended, *columns, draw()),
    }), "bare gather")
    stacks = 2 * 4 * 84 * 84 * steps
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pong.npz"
        saving = median_times({"save": lambda: buffer.save(path), "load": lambda: FrameBuffer.load(path)}, rounds=3)
        disk = path.stat().st_size
    print(f"\nmemory: {buffer.nbytes / steps:,.0f} bytes a transition, {stacks / buffer.nbytes:.2f} × less than both stacks")
    print(f"disk: {disk / steps:,.0f} bytes a transition, {buffer.nbytes / disk:.0f} × less than memory")
    print("a million would take " + ", ".join(f"{seconds / steps * 1e6:.0f} s to {name}" for name, seconds in saving.items()))


def vectors(steps=100_000, batch_size=64):
    buffer, rng = ReplayBuffer(steps, Box(-10, 10, (4,)), 2, n_envs=8), np.random.default_rng(0)
    no = np.zeros(8, bool)
    for _ in range(buffer.n_rows): buffer.add(rng.normal(size=(8, 4)), rng.integers(2, size=8), np.ones(8), rng.normal(size=(8, 4)), no, no)
    memory = list(zip(*(part.numpy() for part in buffer.transitions(np.arange(steps))), strict=True))
    draw = lambda: rng.integers(steps, size=batch_size)
    report(f"sample {batch_size} transitions of four numbers", median_times({
        "ReplayBuffer": lambda: buffer.sample(batch_size, rng),
        "bare gather": lambda: [column.index_select(0, torch.from_numpy(draw())) for column in (buffer.obs, buffer.next_obs)],
        "list": lambda: collate(memory, draw()),
    }, rounds=2000), "bare gather")


if __name__ == "__main__":
    print(f"{os.cpu_count()} cores, PyTorch {torch.__version__} with {torch.get_num_threads()} threads")
    vectors()
    frames()
