"""What all that is compared has in common: the made-up data, the sizes, and how a process is asked for times.

A contender is a process that lives through the whole comparison. It is told, a line each, what to do and how often
(`mlp 200`), and answers with the seconds that this took. Its first line says what it is, as JSON. NumPy and PyTorch
are all that is needed here, so that it can be imported in the environment of any library.
"""
import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

# The same for all. `SMALL` is for tests of the scripts: nothing is learned from its times
LARGE = {"vectors": 20_000, "frames": 10_000, "warmup": 100}
SMALL = {"vectors": 400, "frames": 200, "warmup": 40}
MLP = {"numbers": 8, "actions": 4, "hidden": (256, 256), "batch_size": 64, "lr": 3e-4, "eps": 1e-8,
       "rate": 0.005, "every": 1}          # the target moves a little after each update
CNN = {"stack": 4, "size": 84, "actions": 6, "hidden": (512,), "batch_size": 32, "lr": 6.25e-5, "eps": 1.5e-4,
       "rate": 1.0, "every": 8_000}        # it is copied now and then
BCQ = {"threshold": 0.3, "penalty": 0.01, "discount": 0.99}
PLAY = {"env_id": "ALE/Pong-v5", "train_every": 4, "eps": 0.1}

Run = Callable[[int], None]           # does a work so many times


def log_of_vectors(rows: int) -> dict[str, np.ndarray]:
    "Episodes of 200 steps, each ended by a terminal one"
    rng = np.random.default_rng(0)
    seen = rng.standard_normal((rows + 1, MLP["numbers"]), np.float32)
    return {"obs": seen[:-1], "next_obs": seen[1:], "action": rng.integers(MLP["actions"], size=rows),
            "reward": rng.standard_normal(rows, np.float32), "terminated": np.arange(rows) % 200 == 199}


def log_of_frames(rows: int) -> dict[str, np.ndarray]:
    "Single frames of episodes of 500 steps, or half as many rows; stacks are made of them by each library itself"
    rng = np.random.default_rng(0)
    length = min(500, rows // 2)
    return {"frame": rng.integers(256, size=(rows, CNN["size"], CNN["size"]), dtype=np.uint8),
            "action": rng.integers(CNN["actions"], size=rows), "reward": rng.standard_normal(rows, np.float32),
            "terminated": np.arange(rows) % length == length - 1}


def arguments() -> argparse.Namespace:
    "What the command line says; PyTorch is told the number of threads"
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--small", action="store_true", help="little data, for a test of the script")
    parser.add_argument("--path", help="the folder discrete_BCQ of the authors' code")
    parsed = parser.parse_args()
    torch.set_num_threads(parsed.threads)
    parsed.sizes = SMALL if parsed.small else LARGE
    return parsed


def repeat(once: Callable[[], object]) -> Run:
    "The same again and again"
    def run(n: int) -> None:
        for _ in range(n):
            once()
    return run


def trained(optimizer: torch.optim.Optimizer) -> int:
    "Numbers that an optimizer learns, each counted once"
    weights = {id(weight): weight.numel() for group in optimizer.param_groups for weight in group["params"]}
    return sum(weights.values())


def serve(
    version: str,                                      # of what is measured
    makers: dict[str, Callable[[], tuple[Run, int]]],  # name of a work -> what does it, how many numbers it learns
) -> None:
    "Answer until nothing more is asked. A work is made when it is first asked for, outside of the time"
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)   # what libraries print does not come between the answers

    def answer(what: object) -> None:
        answers.write(json.dumps(what) + "\n")
        answers.flush()

    answer({"version": version, "torch": torch.__version__, "python": platform.python_version(),
            "works": list(makers)})
    made: dict[str, Run] = {}
    for line in sys.stdin:
        work, n = line.split()
        learned = None
        if work not in made:
            made[work], learned = makers[work]()
        start, start_cpu = time.perf_counter(), time.process_time()
        made[work](int(n))
        seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
        answer({"seconds": seconds, "cpu": cpu, "learned": learned})
