"""The study of CartPole in notebook 07: `python benchmarks/cartpole_search.py` writes bcq_nb/results/cartpole_*.csv.

For each seed a behavior policy is trained for 20,000 steps and writes a batch of 20,000 transitions; each configuration of discrete BCQ
learns from its batch and is then evaluated on 20 episodes whose starts its learning curve did not use. Finished rows are kept, so a run
that was stopped goes on where it was; delete the files to start anew.
"""
from __future__ import annotations

import argparse
import csv
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import torch

from bcq_nb.bcq import BCQConfig, DiscreteBCQ, train_offline
from bcq_nb.buffers import atomic_path
from bcq_nb.dqn import DQN, Exploration, train_behavioral
from bcq_nb.episodes import evaluate, stream
from bcq_nb.generation import generate_buffer

ENV, STEPS, EVERY, EPISODES = "CartPole-v1", 20_000, 1_000, 20
CHOSEN = dict(train_every=25, rand_action_p=0.7, threshold=0.3, lr=1e-4, updates=5_000)
CONFIGS = {  # name -> what differs from the choice
    "chosen": {},
    "authors": dict(train_every=1, rand_action_p=0.2, lr=3e-4, updates=20_000),
    "longer": dict(updates=20_000),
    "authors' rate": dict(lr=3e-4),
    "authors' noise": dict(rand_action_p=0.2),
    "no constraint 20%": dict(rand_action_p=0.2, threshold=0.0),
    "low threshold": dict(threshold=0.1),
    "no constraint": dict(threshold=0.0),
    "imitation": dict(threshold=1.0),
}
SEARCHED, HELD_OUT = range(5), range(5, 10)  # the choice was made on the first; the second say what it is worth
RUNS = [(name, seed) for name in CONFIGS for seed in SEARCHED] + [("chosen", seed) for seed in HELD_OUT]
TABLE = ["config", "train_every", "rand_action_p", "threshold", "lr", "updates", "seed",
         "behavior", "batch", "final", "low", "high", "best", "q"]
CURVE = ["config", "seed", "step", "return", "low", "high", "q"]


def settle() -> None:
    "What the command does, too: one thread, and no time spent on numbers too small to matter"
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


def behavior_path(cache: Path, seed: int, train_every: int) -> Path: return cache / f"behavior{seed}_every{train_every}.safetensors"


def train(cache: Path, seed: int, train_every: int) -> None:
    "Train the behavior policy of a seed, if that has not been done"
    settle()
    if (path := behavior_path(cache, seed, train_every)).is_file(): return
    plan = Exploration(train_every=train_every)
    train_behavioral(ENV, STEPS, exploration=plan, seed=seed, device="cpu", progress=False).save(path)


def run(cache: Path, name: str, seed: int) -> tuple[dict, list[dict]]:
    "One configuration on one seed: a row of the table, and its learning curve"
    settle()
    values = {**CHOSEN, **CONFIGS[name]}
    behavior = DQN.load(behavior_path(cache, seed, values["train_every"]), device="cpu")
    buffer = generate_buffer(behavior, ENV, STEPS, rand_action_p=values["rand_action_p"], seed=seed, progress=False)
    config = BCQConfig(threshold=values["threshold"], lr=values["lr"])
    agent = DiscreteBCQ(buffer.obs_space, buffer.n_actions, config, seed, device="cpu")
    rows = train_offline(agent, buffer, values["updates"], ENV, EVERY, seed=seed, progress=False)
    unseen = int(stream(seed, "final evaluation").integers(2**31))   # starts that the curve did not use
    final, own = (evaluate(policy, ENV, EPISODES, unseen) for policy in (agent, behavior))
    row = {"config": name, **values, "seed": seed, "behavior": own.mean, "batch": buffer.episode_returns().mean(), "final": final.mean,
           "low": final.interval[0], "high": final.interval[1], "best": max(r["return"] for r in rows), "q": rows[-1]["q"]}
    return row, [{"config": name, "seed": seed, **{key: r[key] for key in CURVE[2:]}} for r in rows]


def read(path: Path) -> list[dict]:
    if not path.is_file(): return []
    with open(path, newline="") as file: return list(csv.DictReader(file))


def write(path: Path, names: list[str], rows: list[dict]) -> None:
    "All rows, in the order of `RUNS`, whatever the order in which they were finished"
    short = lambda value: round(value, 3) if isinstance(value, float) and value > 0.01 else value
    rows = sorted(rows, key=lambda row: RUNS.index((row["config"], int(row["seed"]))))
    with atomic_path(path) as beside, open(beside, "w", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: short(value) for key, value in row.items()} for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "bcq_nb" / "results", help="where the tables go")
    parser.add_argument("--cache", type=Path, default=Path("_build/cartpole_search"), help="where the behavior policies are kept")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    args = parser.parse_args()
    table, curves = args.out / "cartpole_search.csv", args.out / "cartpole_curves.csv"
    rows, points = read(table), read(curves)
    done = {(row["config"], int(row["seed"])) for row in rows}
    todo = [key for key in RUNS if key not in done]
    print(f"{len(done)} of {len(RUNS)} runs are done", file=sys.stderr)
    with ProcessPoolExecutor(args.jobs) as pool:
        behaviors = sorted({(seed, CONFIGS[name].get("train_every", CHOSEN["train_every"])) for name, seed in todo})
        for future in [pool.submit(train, args.cache, *key) for key in behaviors]: future.result()
        for future in as_completed([pool.submit(run, args.cache, *key) for key in todo]):
            row, curve = future.result()
            points = [p for p in points if (p["config"], int(p["seed"])) != (row["config"], row["seed"])] + curve
            rows.append(row)
            write(curves, CURVE, points)   # first, so that a row of the table says that both are there
            write(table, TABLE, rows)
            print("{config} seed {seed}: behavior {behavior:.0f}, batch {batch:.0f}, BCQ {final:.0f}".format(**row), file=sys.stderr)


if __name__ == "__main__": main()
