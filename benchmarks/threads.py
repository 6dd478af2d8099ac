"""What a second thread does to a small network: `python benchmarks/threads.py` writes benchmarks/results/threads.csv.

In each round an update and an act of ten observations are timed with as many threads as PyTorch takes by itself, and
with one, while another process keeps one core busy. `few_threads` (04) is left out: the time is that of the bare work.
"""
import csv
import multiprocessing
import platform
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from gymnasium.spaces import Box

import bcq_nb.agents
from bcq_nb.bcq import DiscreteBCQ
from bcq_nb.buffers import ReplayBuffer

ROUNDS = 9
CALLS = 40       # of each kind in a round


def busy() -> None:
    "Work for ever"
    while True:
        pass


def milliseconds(call) -> float:
    "Of one call, in the mean"
    begin = time.perf_counter()
    for _ in range(CALLS):
        call()
    return 1_000 * (time.perf_counter() - begin) / CALLS


def main() -> None:
    bcq_nb.agents.few_threads = lambda space: nullcontext()
    rng = np.random.default_rng(0)
    space = Box(-1, 1, (8,), np.float32)
    buffer = ReplayBuffer(1_000, space, 4)
    for _ in range(1_000):
        obs, next_obs = rng.normal(size=(2, 1, 8)).astype(np.float32)
        buffer.add(obs, rng.integers(4, size=1), rng.normal(size=1), next_obs, [False], [False])
    agent = DiscreteBCQ(space, 4, device="cpu")
    batch = buffer.sample(64, rng)
    ten = rng.normal(size=(10, 8)).astype(np.float32)
    work = {"update": lambda: agent.update(batch), "act": lambda: agent.act(ten)}
    usual = torch.get_num_threads()
    other = multiprocessing.Process(target=busy, daemon=True)
    other.start()
    rows = []
    for number in range(ROUNDS):
        for name, call in work.items():
            for threads in (usual, 1):
                torch.set_num_threads(threads)
                rows.append({"round": number, "work": name, "threads": threads, "ms": round(milliseconds(call), 3),
                             "torch": torch.__version__, "cores": multiprocessing.cpu_count(),
                             "machine": platform.machine()})
    other.kill()
    path = Path(__file__).parent / "results/threads.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    for name in work:
        medians = {threads: np.median([row["ms"] for row in rows if (row["work"], row["threads"]) == (name, threads)])
                   for threads in (usual, 1)}
        print(f"{name}: " + ", ".join(f"{ms:.2f} ms with {threads} thread(s)" for threads, ms in medians.items()))


if __name__ == "__main__":
    main()
