"""How long agents learn that learn together, beside the same in turn: `python benchmarks/seeds.py`, five minutes.

The rule: for each size of the networks and each number of agents all ways are asked in turn, in one process with one
thread, each round beginning with another one; the first round is not counted. All agents draw their own transitions and
keep what each update reports. A ratio is the median of the ratios of each round, with the middle 95 % of 2,000 medians
of rounds drawn anew. Compiling is done before and timed by itself, and nothing that was compiled earlier is used.

Two files: benchmarks/results/seeds_rounds.csv has each time, bcq_nb/results/seeds.csv what notebook 07h draws. `ms` are
milliseconds for one update of one agent, `cpu_ms` those in which a core worked for it; `gain` says how many times as
fast as in turn.
"""
from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from speed import cpu_name, in_turn, median_interval

from bcq_nb.bcq import BCQConfig, DiscreteBCQ
from bcq_nb.buffers import ReplayBuffer
from bcq_nb.environments import stream
from bcq_nb.files import write_rows
from bcq_nb.guard import learn
from bcq_nb.seeds import Lessons

HERE = Path(__file__).parent
ROUNDS = HERE / "results" / "seeds_rounds.csv"
SUMMARY = HERE.parent / "bcq_nb" / "results" / "seeds.csv"
HIDDEN = ((64, 64), (256, 256))
N_AGENTS = (1, 2, 4, 8, 16)
N_TRANSITIONS, N_NUMBERS, N_ACTIONS = 20_000, 8, 4
WAYS = ("in turn", "together", "compiled")
UPDATES = 200   # of all agents, in each round


def made_up() -> ReplayBuffer:
    "A batch of random numbers"
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(N_TRANSITIONS + 1, N_NUMBERS)).astype(np.float32)
    terminated = np.arange(N_TRANSITIONS) % 50 == 49
    return ReplayBuffer.from_arrays(seen[:-1], rng.integers(N_ACTIONS, size=N_TRANSITIONS),
                                    rng.normal(size=N_TRANSITIONS), seen[1:], terminated, np.zeros_like(terminated))


def make_way(way: str, buffer: ReplayBuffer, hidden: tuple[int, ...], n_agents: int) -> Callable[[int], object]:
    "A function that lets each agent make so many updates"
    agents = [DiscreteBCQ(buffer.obs_space, buffer.n_actions, BCQConfig(hidden=hidden), seed, device="cpu")
              for seed in range(n_agents)]
    if way != "in turn":
        return Lessons(agents, buffer, range(n_agents), compiled=way == "compiled").learn
    streams = [stream(seed, "sampling") for seed in range(n_agents)]
    return lambda updates: [learn(agent, buffer, updates, rng) for agent, rng in zip(agents, streams, strict=True)]


def compare(hidden: tuple[int, ...], n_agents: int, rounds: int) -> Iterator[dict]:
    "A row for each time"
    buffer = made_up()
    ways = {way: make_way(way, buffer, hidden, n_agents) for way in WAYS}
    start = time.perf_counter()
    ways["compiled"](1)
    same = {"hidden": "-".join(map(str, hidden)), "agents": n_agents,
            "compiling_s": round(time.perf_counter() - start, 1)}
    updates = max(1, UPDATES // n_agents)
    for number in range(rounds + 1):
        for way in in_turn(list(WAYS), number):
            begun = time.perf_counter(), time.process_time()
            ways[way](updates)
            wall, cpu = time.perf_counter() - begun[0], time.process_time() - begun[1]
            times = {"ms": 1e3 * wall / updates / n_agents, "cpu_ms": 1e3 * cpu / updates / n_agents}
            rounded = {name: float(f"{value:.5g}") for name, value in times.items()}
            yield same | {"round": number, "load": round(os.getloadavg()[0], 1), "way": way} | rounded


def summarize(rows: list[dict]) -> list[dict]:
    "A row for each size, number of agents and way; round 0 is not counted"
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        if row["round"] > 0:
            groups.setdefault((row["hidden"], row["agents"], row["way"]), []).append(row)
    summary = []
    sizes = ["-".join(map(str, hidden)) for hidden in HIDDEN]

    def order(key: tuple) -> tuple:
        hidden, n_agents, way = key
        return sizes.index(hidden), n_agents, WAYS.index(way)

    for hidden, n_agents, way in sorted(groups, key=order):
        own = groups[hidden, n_agents, way]
        base = groups[hidden, n_agents, "in turn"]
        ms, cpu_ms = (np.array([row[name] for row in own]) for name in ("ms", "cpu_ms"))
        base_ms, base_cpu_ms = (np.array([row[name] for row in base]) for name in ("ms", "cpu_ms"))
        low, high = median_interval(base_ms / ms)
        numbers = {"updates_per_s": 1e3 / np.median(ms), "ms": np.median(ms), "gain": np.median(base_ms / ms),
                   "gain_low": low, "gain_high": high, "cpu_gain": np.median(base_cpu_ms / cpu_ms),
                   "compiling_s": own[0]["compiling_s"] if way == "compiled" else 0,
                   "load": np.median([row["load"] for row in own])}
        rounded = {name: float(f"{value:.4g}") for name, value in numbers.items()}
        summary.append({"hidden": hidden, "agents": n_agents, "way": way, "rounds": len(own)} | rounded | {
            "torch": torch.__version__, "python": platform.python_version(), "cpu": cpu_name(),
            "cores": os.cpu_count(), "date": str(date.today())})
    return summary


def measure(args: argparse.Namespace) -> None:
    "All sizes and numbers of agents; the files are written again after each"
    rows: list[dict] = []
    for hidden in HIDDEN:
        for n_agents in args.agents:
            rows += compare(hidden, n_agents, args.rounds)
            for path, table in zip(args.out, (rows, summarize(rows)), strict=True):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_rows(path, table)
            print(f"{hidden}, {n_agents} agents: done", flush=True)
    for row in summarize(rows):
        print(f"{row['hidden']:8} {row['agents']:3} agents, {row['way']:9} {row['updates_per_s']:7,.0f} updates/s"
              f"  {row['gain']:5.2f} [{row['gain_low']:.2f}, {row['gain_high']:.2f}] times as fast"
              f" (cpu {row['cpu_gain']:.2f})")


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--agents", type=int, nargs="+", default=N_AGENTS)
    parser.add_argument("--out", type=Path, nargs=2, default=[ROUNDS, SUMMARY], help="the two files")
    args = parser.parse_args(words)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, {"TORCHINDUCTOR_CACHE_DIR": folder}):
        measure(args)


if __name__ == "__main__":
    main()
