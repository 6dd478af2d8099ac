"""How long it takes, beside other code and beside what it takes at least: `make bench AUTHORS=path/to/discrete_BCQ`.

`make bench-peers` first makes environments for other libraries. What is not there is left out, and said so. The
authors' code is their folder discrete_BCQ (github.com/sfujim/BCQ), which is not part of this repository.

The rule, so that a busy machine is unjust to nobody:

* each contender is a process of its own, with its own Python and the same number of threads, which lives through the
  whole comparison (`peers/run_*.py`; what each does and where it differs stands there);
* they are asked in turn, one work after the other, in another order in each round; the first round is not counted;
* all learn networks of one size from the same made-up data with the same settings (`peers/common.py`);
* a time is the median of the rounds, with quartiles; a ratio is the median of the ratios of each round, with the
  middle 95 % of 2,000 medians of rounds drawn anew.

Two files: benchmarks/results/speed_rounds.csv has each time, bcq_nb/results/speed.csv what notebook 13a draws. `ms` are
milliseconds an update, a sample, a step of one game or a call; `cpu_ms` those in which a core worked for it, all cores
together; `times` says how much longer it takes than ours, `cpu_times` the same of `cpu_ms`, which other work on the
machine disturbs less.

Ask for no more `--threads` than cores are free: threads wait for each other without giving way, and one that has no
core makes an update many times as long.
"""
from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from bcq_nb.files import write_rows

HERE = Path(__file__).parent
ROUNDS = HERE / "results" / "speed_rounds.csv"
SUMMARY = HERE.parent / "bcq_nb" / "results" / "speed.csv"
ALL = ("ours", "floor", "authors", "d3rlpy", "tianshou")
N_ENVS = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class Work:
    "Something to be done, how often in each round, and by whom: label -> (process, what it is asked)"
    times: int
    by: dict[str, tuple[str, str]]


def alike(name: str, *processes: str) -> dict[str, tuple[str, str]]:
    "All are asked for the same"
    return {process: (process, name) for process in processes}


WORKS = {
    "mlp": Work(200, alike("mlp", *ALL)),
    "mlp_compiled": Work(200, alike("mlp", *ALL) | {"ours": ("ours", "mlp_compiled")}),
    "cnn": Work(10, alike("cnn", *ALL)),
    "cnn_bf16": Work(10, alike("cnn_bf16", "ours", "floor") | {"authors": ("authors", "cnn")}),
    "sample_mlp": Work(500, alike("sample_mlp", *ALL)),
    "sample_cnn": Work(100, alike("sample_cnn", *ALL)),
    "generate": Work(800, alike("generate_8", "ours", "floor") | {
        "ours, bfloat16": ("ours", "generate_8_bf16"), "ALE": ("floor", "ale_8"), "network": ("floor", "forward_8"),
        "authors": ("authors", "generate_1")}),
    "behavioral": Work(400, {"ours": ("ours", "behavioral_8"), "ours, bfloat16": ("ours", "behavioral_8_bf16"),
                             "ours, one game": ("ours", "behavioral_1"), "authors": ("authors", "behavioral_1")}),
    **{f"generate_{n}": Work(800, alike(f"generate_{n}", "ours", "floor")) for n in N_ENVS if n != 8},
}
COMMANDS = {"ours": ["bcq", "--help"], "python": ["python", "-c", "pass"]}   # the work "help"


class Contender:
    "A process that answers with times"
    def __init__(self, name: str, command: list[str], threads: int):
        self.name = name
        self.said = tempfile.TemporaryFile("w+")   # what it prints, for an error
        env = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen([*command, "--threads", str(threads)], env=env, text=True, stderr=self.said,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.learned: dict[str, int] = {}
        self.about = self.read()

    def read(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            self.said.seek(0)
            raise RuntimeError(f"{self.name} has stopped:\n{self.said.read()[-2000:]}")
        return json.loads(line)

    def ask(self, work: str, n: int) -> tuple[float, float]:
        "Milliseconds each time, and those of all cores together"
        self.process.stdin.write(f"{work} {n}\n")
        self.process.stdin.flush()
        answer = self.read()
        if answer["learned"]:
            self.learned[work] = answer["learned"]
        return 1e3 * answer["seconds"] / n, 1e3 * answer["cpu"] / n

    def stop(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.said.close()


def commands(args: argparse.Namespace) -> dict[str, list[str]]:
    "Contender -> how it is started, for those that are there"
    small = ["--small"] if args.small else []
    found = {"ours": [sys.executable], "floor": [sys.executable]}
    if args.authors:
        found["authors"] = [sys.executable]
    else:
        print("left out: authors (--authors path/to/discrete_BCQ)")
    for name in ("d3rlpy", "tianshou"):
        python = args.peers / name / "bin" / "python"
        if python.exists():
            found[name] = [str(python)]
        else:
            print(f"left out: {name} (make bench-peers)")
    for name, command in found.items():
        command += [str(HERE / "peers" / f"run_{name}.py"), *small]
    if args.authors:
        found["authors"] += ["--path", str(args.authors)]
    return found


def in_turn(labels: list[str], number: int) -> list[str]:
    "Each round begins with another one"
    first = number % len(labels)
    return labels[first:] + labels[:first]


def time_commands(number: int) -> Iterator[tuple[str, float]]:
    "Label -> milliseconds from start to end"
    for label in in_turn(list(COMMANDS), number):
        program, *words = COMMANDS[label]
        start = time.perf_counter()
        subprocess.run([Path(sys.executable).with_name(program), *words], stdout=subprocess.DEVNULL, check=True)
        yield label, 1e3 * (time.perf_counter() - start)


def compare(found: dict[str, list[str]], threads: int, args: argparse.Namespace) -> Iterator[dict]:
    "A row for each time"
    with ExitStack() as stack:
        there = {}
        for name, command in found.items():
            there[name] = Contender(name, command, threads)
            stack.callback(there[name].stop)
        here = {"threads": threads, "python": platform.python_version(), "cpu": cpu_name(), "cores": os.cpu_count(),
                "date": str(date.today())}
        for number in range(args.rounds + 1):
            here |= {"round": number, "load": round(os.getloadavg()[0], 1)}
            for name in args.works:
                if name == "help":
                    for label, ms in time_commands(number):
                        yield here | {"work": name, "contender": label, "ms": ms, "cpu_ms": ms}
                    continue
                work = WORKS[name]
                by = {label: (there[process], asked) for label, (process, asked) in work.by.items()
                      if process in there and asked in there[process].about["works"]}
                if "ours" not in by:   # an option that is not there yet
                    continue
                times = min(work.times, 128) if args.small else work.times
                for label in in_turn(list(by), number):
                    contender, asked = by[label]
                    ms, cpu_ms = contender.ask(asked, times)
                    yield here | contender.about | {"work": name, "contender": label, "ms": ms, "cpu_ms": cpu_ms,
                                                    "learned": contender.learned.get(asked)}
            print(f"{threads} thread(s): round {number} of {args.rounds}, load {here['load']}", flush=True)


def cpu_name() -> str:
    "As the kernel calls it"
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def median_interval(values: np.ndarray) -> tuple[float, float]:
    "The middle 95 % of medians of what is drawn anew from these values"
    n = len(values)
    drawn = np.random.default_rng(0).integers(n, size=(2000, n))
    low, high = np.quantile(np.median(values[drawn], axis=1), (0.025, 0.975))
    return float(low), float(high)


def summarize(rows: list[dict]) -> list[dict]:
    "A row for each work, number of threads and contender; round 0 is not counted"
    counted = [row for row in rows if row["round"] > 0]
    works, labels = [*WORKS, "help"], [*COMMANDS, *(label for work in WORKS.values() for label in work.by)]
    counted.sort(key=lambda row: (row["threads"], works.index(row["work"]), labels.index(row["contender"])))
    groups: dict[tuple, list[dict]] = {}
    for row in counted:
        groups.setdefault((row["work"], row["threads"], row["contender"]), []).append(row)
    summary = []
    for (work, threads, contender), own in groups.items():
        ms, cpu_ms = (np.array([row[name] for row in own]) for name in ("ms", "cpu_ms"))
        our_rows = groups[work, threads, "ours"]
        our_ms, our_cpu_ms = (np.array([row[name] for row in our_rows]) for name in ("ms", "cpu_ms"))
        ratio = ms / our_ms
        low, high = np.quantile(ms, (0.25, 0.75))
        ratio_low, ratio_high = median_interval(ratio)
        numbers = {"ms": np.median(ms), "low": low, "high": high, "cpu_ms": np.median(cpu_ms),
                   "times": np.median(ratio), "times_low": ratio_low, "times_high": ratio_high,
                   "cpu_times": np.median(cpu_ms / our_cpu_ms),
                   "load": np.median([row["load"] for row in own])}
        rounded = {name: float(f"{value:.4g}") for name, value in numbers.items()}
        same = {name: own[-1].get(name) for name in ("learned", "version", "torch", "python", "cpu", "cores", "date")}
        summary.append({"work": work, "threads": threads, "contender": contender, "rounds": len(own)} | rounded | same)
    return summary


def report(summary: list[dict]) -> None:
    "A table to read"
    for row in summary:
        print(f"{row['work']:12} {row['threads']} thread(s)  {row['contender']:15} {row['ms']:9.3f} ms"
              f"   {row['times']:6.2f} [{row['times_low']:.2f}, {row['times_high']:.2f}] times ours"
              f" (cpu {row['cpu_times']:.2f})")


def main(words: list[str] | None = None) -> None:
    works = [*WORKS, "help"]
    parser = argparse.ArgumentParser()
    parser.add_argument("--authors", type=Path, help="their folder discrete_BCQ")
    parser.add_argument("--peers", type=Path, default=HERE.parent / "_build" / "peers", help="from make bench-peers")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--works", nargs="+", choices=works, default=works)
    parser.add_argument("--small", action="store_true", help="little data and few updates, to test the script")
    parser.add_argument("--out", type=Path, nargs=2, default=[ROUNDS, SUMMARY], help="the two files")
    args = parser.parse_args(words)
    found = commands(args)
    rows: list[dict] = []
    for threads in args.threads:
        for row in compare(found, threads, args):
            row.pop("works", None)
            row["ms"], row["cpu_ms"] = (float(f"{row[name]:.5g}") for name in ("ms", "cpu_ms"))
            rows.append(row)
        summary = summarize(rows)
        for path, table in zip(args.out, (rows, summary), strict=True):   # again each time: the second may be stopped
            path.parent.mkdir(parents=True, exist_ok=True)
            write_rows(path, table)
    report(summary)


if __name__ == "__main__":
    main()
