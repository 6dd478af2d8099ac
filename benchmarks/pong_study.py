"""The study of Pong in notebook 13: `python benchmarks/pong_study.py OUT` writes bcq_nb/results/pong*.*.

A behavior policy learns online, for a while. It writes two batches, and from each of them several agents learn without
playing. All files lie in OUT, a row is written when a run is finished, and every phase goes on where it was stopped.
`--only behavior` ends after the policy, which it also writes in 16 bits, as it comes with the package. `--only films`
records the films of agents that are there.

The rule, written down before anything but the behavior policy's learning curve had been seen:

1. The behavior policy is partly trained: it is the one of the first evaluation (every 25,000 steps, three episodes)
   whose mean return is at least 3. Measured again in 30 episodes, the mean must lie between 0 and 15.
   From 650,000 steps on its curve swung between -0.3 and -18, and the learning rate was lowered to a fifth by hand, at
   update 214,284. Some 2,000 updates later the rule was fulfilled; a stop takes effect a few steps late. `lr_drop` is
   that fall as a setting.
2. Two batches of 200,000 transitions. The authors' mix: a fifth of the episodes with ε = 0.001, the others with 0.2.
   Less noise: four fifths with ε = 0.001, the others with 0.2.
3. On each learn: discrete BCQ with the paper's threshold 0.3, seeds 0, 1 and 2; DQN, seed 0; and the imitation alone,
   which is BCQ with threshold 1, seed 0. 100,000 updates each, with the settings of the behavior policy and the
   learning rate that it had at last.
4. What counts is the last policy, in 30 episodes whose starts nothing else uses. The best evaluation of the curve, five
   episodes every 5,000 updates, is given beside it.
"""
from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from cells import finished, key_of, settle, write

from bcq_nb.bcq import BCQConfig, DiscreteBCQ, train_offline
from bcq_nb.buffers import ReplayBuffer
from bcq_nb.dqn import DQN, DQNConfig, train_behavioral
from bcq_nb.environments import default_eps
from bcq_nb.evaluation import evaluate
from bcq_nb.files import write_rows
from bcq_nb.film import record_video
from bcq_nb.generation import generate_buffer
from bcq_nb.outcome import final_seed
from bcq_nb.pretrained import save_policy
from bcq_nb.training import Exploration

ENV = "ALE/Pong-v5"
STEPS = 875_032      # of the behavior policy's training: see rule 1
LEARNING = {"lr": 5e-4, "lr_drop": 214_284, "target_every": 500, "discount": 0.97, "bfloat16": True}
OFFLINE = {**LEARNING, "lr": 1e-4, "lr_drop": 0}
EXPLORATION = Exploration.atari(warmup=10_000, eps_end=0.02, eps_updates=15_000, capacity=200_000, n_envs=8)
EPISODES = 30
TRANSITIONS = 200_000
CALM = (0.2, 0.8)    # share of the episodes with ε = 0.001: the authors' mix, and less noise
UPDATES = 100_000
RUNS = [(0.3, 0), (None, 0), (1.0, 0), (0.3, 1), (0.3, 2)]   # threshold, None for DQN; and seed
KEY = ["calm", "threshold", "seed"]
FILMS = {   # of what is filmed the file's name, and that of the agent's
    "DQN": ("pong_dqn.mp4", "agent_0.2_None_0.safetensors"),
    "BCQ": ("pong_bcq.mp4", "agent_0.2_0.3_0.safetensors"),
}
CURVE = ["step", "return", "low", "high", "loss", "q", "q_min", "q_max"]


def behavior_policy(out: Path) -> DQN:
    "The behavior policy, trained if that has not been done"
    path = out / "behavior.safetensors"
    if not path.is_file():
        train_behavioral(ENV, STEPS, DQNConfig.atari(**LEARNING), EXPLORATION, seed=0, eval_every=25_000,
                         eval_episodes=3, checkpoint=path.with_suffix(".checkpoint.safetensors")).save(path)
    return DQN.load(path, device="cpu")


def tell_behavior(out: Path, tables: Path) -> None:
    "Its curve, its return in new episodes, and its weights in 16 bits"
    policy = behavior_policy(out)
    table = tables / "pong_behavior.csv"
    if not (out / "pong.safetensors").is_file():
        returns = evaluate(policy, ENV, EPISODES, final_seed(0), default_eps(ENV)).returns
        how = {"environment": ENV, "steps": STEPS, "seed": 0, "command": "python benchmarks/pong_study.py OUT",
               "returns": [float(value) for value in returns]}
        save_policy(policy, out / "pong.safetensors", how)
    write_rows(table, [{name: row[name] for name in CURVE if name in row} for row in policy.history])


def batch(out: Path, calm: float) -> Path:
    "The file of a batch, written if that has not been done"
    path = out / f"batch_{calm}.npz"
    if not path.is_file():
        policy = behavior_policy(out)
        part = out / f"batch_{calm}.checkpoint.npz"
        buffer = generate_buffer(policy, ENV, TRANSITIONS, low_noise_p=calm, n_envs=8, seed=1, checkpoint=part)
        buffer.save(path)
    return path


def learner(buffer: ReplayBuffer, threshold: float | None, seed: int) -> DQN:
    "A new agent"
    if threshold is None:
        return DQN(buffer.obs_space, buffer.n_actions, DQNConfig.atari(**OFFLINE), seed, device="cpu")
    config = BCQConfig.atari(**OFFLINE, threshold=threshold)
    return DiscreteBCQ(buffer.obs_space, buffer.n_actions, config, seed, device="cpu")


def run_cell(out: Path, calm: float, threshold: float | None, seed: int) -> tuple[dict, list[dict]]:
    "Learn from a batch: a row of the table, and the learning curve"
    buffer = ReplayBuffer.load(out / f"batch_{calm}.npz")
    agent = learner(buffer, threshold, seed)
    path = out / f"agent_{calm}_{threshold}_{seed}.safetensors"
    train_offline(agent, buffer, UPDATES, ENV, 5_000, 5, default_eps(ENV), seed, progress=False, checkpoint=path,
                  checkpoint_every=60)
    final = evaluate(agent, ENV, EPISODES, final_seed(seed), default_eps(ENV))
    low, high = final.interval
    cell = {"calm": calm, "threshold": threshold, "seed": seed}
    cell = {name: value for name, value in cell.items() if value is not None}
    last = agent.history[-1]
    row = {**cell, "batch": buffer.episode_returns().mean(), "final": final.mean, "low": low, "high": high,
           "best": max(point["return"] for point in agent.history),
           "q": last["q"], "q_min": last["q_min"], "q_max": last["q_max"],
           "least": agent.bounds[0], "most": agent.bounds[1]}
    return row, [{**cell, **{name: point[name] for name in CURVE}} for point in agent.history]


def film(out: Path, tables: Path) -> None:
    "The first seconds of a game of two that learned, from the start that 13 shows of the behavior policy"
    for name, (mp4, saved) in FILMS.items():
        agent = DQN.load(out / saved, device="cpu")
        record_video(agent, ENV, tables / mp4, seed=1_000, max_steps=240, eps=default_eps(ENV), name=name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tables = Path(__file__).parents[1] / "bcq_nb" / "results"
    parser.add_argument("out", type=Path, help="where policies, batches and checkpoints are kept")
    parser.add_argument("--tables", type=Path, default=tables, help="where the tables go")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--only", choices=["behavior", "films"], help="only this part")
    args = parser.parse_args()

    settle()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.only == "films":
        return film(args.out, args.tables)
    tell_behavior(args.out, args.tables)
    if args.only == "behavior":
        return
    rows, points = finished(args.tables / "pong.csv"), finished(args.tables / "pong_curves.csv")
    done = {key_of(row, KEY) for row in rows}
    with ProcessPoolExecutor(args.jobs, initializer=settle) as pool:
        for written in [pool.submit(batch, args.out, calm) for calm in CALM]:
            written.result()
        cells = [(calm, threshold, seed) for calm in CALM for threshold, seed in RUNS]
        missing = [cell for cell in cells if tuple(value for value in cell if value is not None) not in done]
        for job in as_completed([pool.submit(run_cell, args.out, *cell) for cell in missing]):
            row, curve = job.result()
            rows.append(row)
            points = [point for point in points if key_of(point, KEY) != key_of(row, KEY)] + curve
            print({name: round(value, 2) for name, value in row.items()}, file=sys.stderr)
            # Curves first: a row of the table says that both are there
            write(args.tables / "pong_curves.csv", points, (*KEY, "step"))
            write(args.tables / "pong.csv", rows, KEY)
    film(args.out, args.tables)


if __name__ == "__main__":
    main()
