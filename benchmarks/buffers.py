"""Sampling time, memory and disk of the buffers, as ratios to what one would write first.

`python benchmarks/buffers.py`

Compared on frames of Pong and on vectors:
* `bare gather`: one `index_select` of as many frames, or of two sets of vectors, the least that any layout has to do;
* `list`: a Python list of (obs, action, reward, next_obs, terminated), collated with `np.stack`;
* `loop`: every frame once in NumPy, and for each sampled transition a Python loop that fills its two stacks.

Times are medians of interleaved rounds, so that a busy machine slows all of them alike.

And seconds for a log of a million rows of eight numbers: made of arrays, split, joined again, turned into a table.
"""
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from gymnasium.spaces import Box

from bcq_nb.atari import make_atari_envs
from bcq_nb.buffers import Batch, ReplayBuffer
from bcq_nb.frames import FrameBuffer


def median_times(functions, rounds=300):
    "name -> median seconds"
    times = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in times.items()}


def collate(memory, chosen):
    "A batch from a list of transitions"
    columns = zip(*[memory[k] for k in chosen], strict=True)
    return Batch(*[torch.from_numpy(np.stack(column)) for column in columns])


def fill_stack(stack, frames, ended, end):
    "One stack of four, as far back as the episode goes"
    for back in range(4):
        if end - back < 0 or (back and ended[end - back]):
            break
        stack[3 - back] = frames[end - back]


def loop(buffer, chosen):
    "A batch from frames, one transition after another; one environment, no ring, no cut episodes: less than is needed"
    frames, ended = buffer.store.frames.numpy(), buffer.ended.numpy()
    obs = np.zeros((len(chosen), 4, *frames.shape[1:]), np.uint8)
    next_obs = np.zeros_like(obs)
    for row, k in enumerate(chosen):
        fill_stack(obs[row], frames, ended, k)
        fill_stack(next_obs[row], frames, ended, k + 1)
    return Batch(torch.from_numpy(obs), buffer.action[chosen], buffer.reward[chosen],
                 torch.from_numpy(next_obs), buffer.terminated[chosen])


def fill_with_pong(buffer, memory, steps):
    "Random play"
    envs = make_atari_envs("ALE/Pong-v5")
    rng = np.random.default_rng(0)
    obs, _ = envs.reset()
    for _ in range(steps):
        action = rng.integers(6, size=1)
        next_obs, reward, terminated, truncated, info = envs.step(action)
        ended = (terminated | truncated).any()
        last_obs = info["final_obs"] if ended else next_obs
        buffer.add(obs, action, reward, last_obs, terminated, truncated)
        memory.append((obs[0].copy(), action[0], np.float32(reward[0]), last_obs[0].copy(), np.float32(terminated[0])))
        obs = next_obs
    envs.close()


def report(title, times, base):
    "Microseconds, and how many times the base"
    print(f"\n{title}")
    for name, seconds in times.items():
        print(f"  {name:14} {seconds * 1e6:9.1f} µs   {seconds / times[base]:6.2f} × {base}")


def frames(steps=8000, batch_size=32):
    "Time, memory and disk on Pong"
    buffer = FrameBuffer(steps, Box(0, 255, (4, 84, 84), np.uint8), 6)
    memory = []
    rng = np.random.default_rng(0)
    fill_with_pong(buffer, memory, steps)
    first_slots = np.arange(200)
    check = zip(buffer.transitions(first_slots)[:5], collate(memory, first_slots)[:5], strict=True)
    assert all(torch.equal(a, b) for a, b in check)

    def bare_gather():
        slots = rng.integers(steps, size=5 * batch_size)
        return buffer.store.frames.index_select(0, torch.from_numpy(slots))

    report(f"sample {batch_size} stacked transitions of Pong", median_times({
        "FrameBuffer": lambda: buffer.sample(batch_size, rng),
        "bare gather": bare_gather,
        "list": lambda: collate(memory, rng.integers(steps - 1, size=batch_size)),
        "loop": lambda: loop(buffer, rng.integers(steps - 1, size=batch_size)),
    }), "bare gather")
    stacks = 2 * 4 * 84 * 84 * steps
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pong.npz"
        saving = median_times({"save": lambda: buffer.save(path), "load": lambda: FrameBuffer.load(path)}, rounds=3)
        disk = path.stat().st_size
    print(f"\nmemory: {buffer.nbytes / steps:,.0f} bytes a transition, "
          f"{stacks / buffer.nbytes:.2f} × less than both stacks")
    print(f"disk: {disk / steps:,.0f} bytes a transition, {buffer.nbytes / disk:.0f} × less than memory")
    for name, seconds in saving.items():
        print(f"a million would take {seconds / steps * 1e6:.0f} s to {name}")


def vectors(steps=100_000, batch_size=64):
    "Time on CartPole-like observations"
    buffer = ReplayBuffer(steps, Box(-10, 10, (4,)), 2, n_envs=8)
    rng = np.random.default_rng(0)
    no = np.zeros(8, bool)
    for _ in range(buffer.ring.n_rows):
        action = rng.integers(2, size=8)
        buffer.add(rng.normal(size=(8, 4)), action, np.ones(8), rng.normal(size=(8, 4)), no, no)
    columns = [column.numpy() for column in buffer.transitions(np.arange(steps))[:5]]
    memory = list(zip(*columns, strict=True))

    def bare_gather():
        index = torch.from_numpy(rng.integers(steps, size=batch_size))
        return buffer.store.obs.index_select(0, index), buffer.store.next_obs.index_select(0, index)

    report(f"sample {batch_size} transitions of four numbers", median_times({
        "ReplayBuffer": lambda: buffer.sample(batch_size, rng),
        "bare gather": bare_gather,
        "list": lambda: collate(memory, rng.integers(steps, size=batch_size)),
    }, rounds=2000), "bare gather")


def log(rows=1_000_000, steps=10, n_actions=25):
    "Seconds that a whole log takes, with and without masks"
    rng = np.random.default_rng(0)
    obs = rng.random((rows, 8), np.float32)
    action, reward = rng.integers(n_actions, size=rows), rng.random(rows)
    is_last, never = np.arange(rows) % steps == steps - 1, np.zeros(rows, bool)
    mask = np.ones((rows, n_actions), bool)
    print(f"\na log of {rows:,} rows, episodes of {steps} steps: seconds")
    for name, masks in (("without masks", {}), ("with masks", {"mask": mask, "next_mask": mask})):
        clock = [time.perf_counter()]
        buffer = ReplayBuffer.from_arrays(obs, action, reward, obs, is_last, never, **masks)
        clock.append(time.perf_counter())
        train, held_out = buffer.split(0.8)
        clock.append(time.perf_counter())
        train.extend(held_out)
        clock.append(time.perf_counter())
        buffer.to_frame()
        clock.append(time.perf_counter())
        times = zip(("from arrays", "split", "joined", "a table"), np.diff(clock), strict=True)
        print(f"  {name:14}", ", ".join(f"{what} {seconds:.2f}" for what, seconds in times))


if __name__ == "__main__":
    print(f"{os.cpu_count()} cores, PyTorch {torch.__version__} with {torch.get_num_threads()} threads")
    vectors()
    log()
    frames()
