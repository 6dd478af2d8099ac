"""What buffers cost: memory, disk, the speed of files, the time of a sample. Written to benchmarks/results/buffers.csv.

`python benchmarks/buffers.py` takes some minutes, 8 GB of memory and 8 GB on the disk of `--folder`; less with fewer
`--steps`.

* A million transitions of Pong, in memory, in a file, and on the disk. Random play of 16,384 steps is repeated as often
  as fits; within a block of a file nothing is repeated.
* Files of four games, played at random: bytes of each transition, and how many are written and read in a second.
* Samples, beside what one would write first: a Python list of (obs, action, reward, next_obs, terminated), collated
  with `np.stack`; every frame once, and a Python loop that fills the stacks of each transition. And beside the least
  that any layout has to do: one `index_select` of as many frames, or of two sets of vectors (`bare gather`).
* A log of a million rows of eight numbers: made of arrays, split, joined again, turned into a table.

Times are medians of interleaved rounds, so that a busy machine slows all of them alike.
"""
from __future__ import annotations

import argparse
import csv
import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cells import settle
from gymnasium.spaces import Box

from bcq_nb.buffers import Batch, ReplayBuffer
from bcq_nb.environments import make_envs, step_envs
from bcq_nb.frames import FrameBuffer
from bcq_nb.slots import BLOCK

FILE = Path(__file__).parent / "results" / "buffers.csv"
GAMES = ("Pong", "Breakout", "SpaceInvaders", "Seaquest")
N_ENVS = 8
PIXELS = Box(0, 255, (4, 84, 84), np.uint8)
rows: list[dict[str, Any]] = []


def cpu() -> str:
    "What the processor is called, where Linux says it"
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} × {names[0] if names else platform.machine()}"


def tell(work: str, value: float, unit: str, of: str) -> None:
    "Print a result, and keep it for the file"
    print(f"{work:36} {value:14,.4g} {unit:18} {of}", flush=True)
    rows.append({"work": work, "value": f"{value:.6g}", "unit": unit, "of": of, "date": date.today().isoformat(),
                 "cpu": cpu(), "torch": torch.__version__, "numpy": np.__version__})


def median_times(functions: dict[str, Callable], rounds: int) -> dict[str, float]:
    "name -> median seconds"
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in times.items()}


# Frames

def random_play(game: str, steps: int, n_envs: int = N_ENVS) -> FrameBuffer:
    "A buffer of so many steps, and nothing else"
    buffer = FrameBuffer(steps, PIXELS, 18, n_envs)
    rng = np.random.default_rng(0)
    with closing(make_envs(f"ALE/{game}-v5", n_envs, seed=0)) as envs:
        n_actions = int(envs.single_action_space.n)
        obs, _ = envs.reset()
        for _ in range(buffer.ring.n_rows):
            action = rng.integers(n_actions, size=n_envs)
            step = step_envs(envs, action, None)
            buffer.add(obs, action, step.reward, step.next_obs, step.terminated, step.truncated)
            obs = step.obs
    return buffer


def repeat(source: FrameBuffer, steps: int, folder: str | None = None) -> FrameBuffer:
    "The same transitions again and again, as often as `steps` has room for them"
    times = max(steps // len(source), 1)
    buffer = FrameBuffer(times * len(source), PIXELS, 18, N_ENVS, folder=folder)
    while len(buffer) < buffer.capacity:
        for start in range(0, len(source), BLOCK):
            ages = np.arange(start, min(start + BLOCK, len(source)))
            n_rows = len(ages) // N_ENVS
            buffer.restore(buffer.ring.next_slots(n_rows), source.state(source.ring.slot(ages)))
            buffer.ring.advance(n_rows)
    return buffer


def peak_memory() -> float:
    "GB that this process has taken at most"
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def file_speed(buffer: FrameBuffer, folder: str, of: str, rounds: int) -> None:
    "Bytes of a file, and transitions a second"
    path = Path(folder) / "buffer.npz"
    times = median_times({"saved": lambda: buffer.save(path), "loaded": lambda: FrameBuffer.load(path)}, rounds)
    tell("on disk", path.stat().st_size / len(buffer) * 1e6 / 1e9, "GB a million", of)
    for name, seconds in times.items():
        tell(name, len(buffer) / seconds, "transitions/s", of)


def large(pong: FrameBuffer, steps: int, folder: str) -> None:
    "As many as one has: memory, file, and loaded onto the disk"
    path = Path(folder) / "large.npz"
    before = peak_memory()
    buffer = repeat(pong, steps)
    n = len(buffer)
    of = f"{n:,} of Pong"
    tell("in memory", (peak_memory() - before) * 1e6 / n, "GB a million", of)
    seconds = {}
    for name, work in {"saved": lambda: buffer.save(path), "loaded": lambda: FrameBuffer.load(path),
                       "loaded onto the disk": lambda: FrameBuffer.load(path, folder=folder)}.items():
        start = time.perf_counter()
        work()
        seconds[name] = time.perf_counter() - start
        if name == "saved":
            del buffer
    tell("on disk", path.stat().st_size / n * 1e6 / 1e9, "GB a million", of)
    for name, value in seconds.items():
        tell(name, n / value, "transitions/s", of)


def collate(memory: list[tuple], chosen: np.ndarray) -> Batch:
    "A batch from a list of transitions"
    columns = zip(*[memory[k] for k in chosen], strict=True)
    return Batch(*[torch.from_numpy(np.stack(column)) for column in columns])


def fill_stack(stack: np.ndarray, frames: np.ndarray, ended: np.ndarray, end: int) -> None:
    "One stack of four, as far back as the episode goes"
    for back in range(4):
        if end - back < 0 or (back and ended[end - back]):
            break
        stack[3 - back] = frames[end - back]


def loop(buffer: FrameBuffer, chosen: np.ndarray) -> Batch:
    "A batch from frames, one transition after another; one environment, no ring, no cut episodes: less than is needed"
    frames, ended = buffer.store.frames.numpy(), buffer.ended.numpy()
    obs = np.zeros((len(chosen), 4, *frames.shape[1:]), np.uint8)
    next_obs = np.zeros_like(obs)
    for row, k in enumerate(chosen):
        fill_stack(obs[row], frames, ended, k)
        fill_stack(next_obs[row], frames, ended, k + 1)
    return Batch(torch.from_numpy(obs), buffer.action[chosen], buffer.reward[chosen],
                 torch.from_numpy(next_obs), buffer.terminated[chosen])


def report(functions: dict[str, Callable], of: str, rounds: int) -> None:
    "Milliseconds of each"
    for name, seconds in median_times(functions, rounds).items():
        tell(f"sample: {name}", seconds * 1e3, "ms", of)


def first_ideas(steps: int = 8000, batch_size: int = 32) -> None:
    "Time of a sample of stacks, beside a list and a loop"
    rng = np.random.default_rng(0)
    buffer = random_play("Pong", steps, n_envs=1)
    memory = [tuple(column.numpy()[0] for column in buffer.transitions(np.array([k]))[:5]) for k in range(steps)]
    check = zip(buffer.transitions(np.arange(200))[:5], collate(memory, np.arange(200))[:5], strict=True)
    assert all(torch.equal(a, b) for a, b in check)

    def bare_gather():
        slots = rng.integers(steps, size=5 * batch_size)
        return buffer.store.frames.index_select(0, torch.from_numpy(slots))

    report({"FrameBuffer": lambda: buffer.sample(batch_size, rng), "bare gather": bare_gather,
            "list": lambda: collate(memory, rng.integers(steps - 1, size=batch_size)),
            "loop": lambda: loop(buffer, rng.integers(steps - 1, size=batch_size))},
           f"{batch_size} stacks of {steps:,}", rounds=300)


def memory_and_disk(pong: FrameBuffer, steps: int, folder: str, batch_size: int = 32) -> None:
    "Time of a sample where frames lie in memory, and on the disk, once the system has read them"
    buffers = {"in memory": repeat(pong, steps), "on the disk": repeat(pong, steps, folder)}
    rng = np.random.default_rng(0)
    samples = {name: lambda buffer=buffer: buffer.sample(batch_size, rng) for name, buffer in buffers.items()}
    median_times(samples, 5000)   # whatever is read for the first time
    times = median_times(samples, 2000)
    of = f"{batch_size} stacks of {len(buffers['in memory']):,}"
    for name, seconds in times.items():
        tell(f"sample: {name}", seconds * 1e3, "ms", of)
    tell("sample: file / memory, where it fits", times["on the disk"] / times["in memory"], "times", of)


# Vectors

def vectors(steps: int = 100_000, batch_size: int = 64) -> None:
    "Time of a sample of CartPole-like observations"
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

    report({"ReplayBuffer": lambda: buffer.sample(batch_size, rng), "bare gather": bare_gather,
            "list": lambda: collate(memory, rng.integers(steps, size=batch_size))},
           f"{batch_size} × 4 numbers of {steps:,}", rounds=2000)


def log(n: int = 1_000_000, steps: int = 10, n_actions: int = 25) -> None:
    "Seconds that a whole log takes, with and without masks"
    rng = np.random.default_rng(0)
    obs = rng.random((n, 8), np.float32)
    action, reward = rng.integers(n_actions, size=n), rng.random(n)
    is_last, never = np.arange(n) % steps == steps - 1, np.zeros(n, bool)
    mask = np.ones((n, n_actions), bool)
    for name, masks in (("", {}), (", with masks", {"mask": mask, "next_mask": mask})):
        clock = [time.perf_counter()]
        buffer = ReplayBuffer.from_arrays(obs, action, reward, obs, is_last, never, **masks)
        clock.append(time.perf_counter())
        train, held_out = buffer.split(0.8)
        clock.append(time.perf_counter())
        train.extend(held_out)
        clock.append(time.perf_counter())
        buffer.to_frame()
        clock.append(time.perf_counter())
        for what, seconds in zip(("from arrays", "split", "joined", "a table"), np.diff(clock), strict=True):
            tell(f"log: {what}", seconds, "s", f"{n:,} rows of 8 numbers{name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000, help="transitions of the large buffer")
    parser.add_argument("--game-steps", type=int, default=16_384, help="steps that are played of each game")
    parser.add_argument("--folder", help="on which disk; by default where temporary files are")
    parser.add_argument("--file", type=Path, default=FILE, help="where results go")
    given = parser.parse_args()
    settle()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        pong = random_play(GAMES[0], given.game_steps)
        large(pong, given.steps, folder)   # first, as memory is measured by its peak
        memory_and_disk(pong, min(given.steps, 200_000), folder)
        for game in GAMES:
            buffer = pong if game == GAMES[0] else random_play(game, given.game_steps)
            file_speed(buffer, folder, f"{len(buffer):,} of {game}", rounds=5)
    first_ideas()
    vectors()
    log()
    given.file.parent.mkdir(exist_ok=True)
    with open(given.file, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
