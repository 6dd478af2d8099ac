"""Other libraries' discrete BCQ on the batches of a study: `PYTHON benchmarks/comparison_peers.py LIBRARY OUT TABLE`.

PYTHON is one where LIBRARY is installed: bcq_nb, d3rlpy or tianshou (`make bench-peers`). OUT is the folder that
`bcq study` wrote; TABLE grows by a row for each agent, and what it holds is not done again.

Written down before a row was seen:

* All learn from the same transitions, drawn one by one, with the same network, optimizer, losses and threshold.
  Target networks are copied every 100 updates and targets are not clipped, since the others offer nothing else.
* `d3rlpy-default` is d3rlpy with its own weight of the penalty, 0.5; the others have the authors' 0.01.
* Each agent then plays 50 episodes alone, without noise, in one environment with the same 50 seeds for all.
* They agree where the intervals of the interquartile means over five seeds overlap.
"""
from __future__ import annotations

import argparse
import csv
import json
import time
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch

HIDDEN = [64, 64]
LR, BATCH_SIZE, EVERY, THRESHOLD, PENALTY = 3e-4, 64, 100, 0.3, 0.01
UPDATES, EPISODES = 12_000, 50
DISCOUNT = {"CartPole-v1": 0.95, "Acrobot-v1": 0.98}
Policy = Callable[[np.ndarray], int]   # an observation -> an action


def read_batch(path: Path) -> dict[str, np.ndarray]:
    "The transitions of a file of 01, of vectors: its arrays come in parts, named by their first row"
    columns: dict[str, list[np.ndarray]] = {}
    with zipfile.ZipFile(path) as archive:
        for part in json.loads(archive.read("meta.json"))["arrays"]:
            _, name = part["name"].split("/")
            with archive.open(f"{part['name']}.npy") as file:
                columns.setdefault(name, []).append(np.lib.format.read_array(file))
    names = ("obs", "action", "reward", "terminated", "next_obs")
    return {name: np.concatenate(columns[name]) for name in names}


def learn_d3rlpy(batch: dict[str, np.ndarray], actions: int, discount: float, seed: int, beta: float) -> Policy:
    "d3rlpy's DiscreteBCQ"
    import d3rlpy
    from d3rlpy.torch_utility import TorchMiniBatch

    d3rlpy.seed(seed)
    config = d3rlpy.algos.DiscreteBCQConfig(
        learning_rate=LR, batch_size=BATCH_SIZE, gamma=discount, action_flexibility=THRESHOLD, beta=beta,
        target_update_interval=EVERY, share_encoder=False, q_func_factory=d3rlpy.models.MeanQFunctionFactory(),
        encoder_factory=d3rlpy.models.VectorEncoderFactory(HIDDEN))
    algo = config.create(device="cpu:0")
    algo.create_impl(batch["obs"].shape[1:], actions)
    tensors = {name: torch.from_numpy(values) for name, values in batch.items()}
    rng = np.random.default_rng(seed)
    for step in range(UPDATES):
        drawn = torch.from_numpy(rng.integers(len(batch["action"]), size=BATCH_SIZE))
        column = {name: tensors[name][drawn, None].float() for name in ("action", "reward", "terminated")}
        algo.impl.update(TorchMiniBatch(
            observations=tensors["obs"][drawn], next_observations=tensors["next_obs"][drawn],
            actions=column["action"], next_actions=column["action"], rewards=column["reward"],
            returns_to_go=column["reward"], terminals=column["terminated"],
            intervals=torch.ones(BATCH_SIZE, 1), device="cpu:0"), step)
    return lambda obs: int(algo.predict(obs[None])[0])


def learn_tianshou(batch: dict[str, np.ndarray], actions: int, discount: float, seed: int, beta: float) -> Policy:
    "tianshou's DiscreteBCQ"
    from tianshou.algorithm.imitation.discrete_bcq import DiscreteBCQ, DiscreteBCQPolicy
    from tianshou.algorithm.optim import AdamOptimizerFactory
    from tianshou.data import Batch, ReplayBuffer
    from tianshou.utils.net.common import Net
    from tianshou.utils.torch_utils import policy_within_training_step

    torch.manual_seed(seed)
    np.random.seed(seed)   # noqa: NPY002 - its buffer draws from there
    heads = [Net(state_shape=batch["obs"].shape[1:], action_shape=actions, hidden_sizes=HIDDEN) for _ in range(2)]
    policy = DiscreteBCQPolicy(model=heads[0], imitator=heads[1], target_update_freq=EVERY,
                               unlikely_action_threshold=THRESHOLD, action_space=gym.spaces.Discrete(actions))
    algorithm = DiscreteBCQ(policy=policy, optim=AdamOptimizerFactory(lr=LR), gamma=discount,
                            target_update_freq=EVERY, imitation_logits_penalty=beta)
    ended = batch["terminated"].astype(bool)
    buffer = ReplayBuffer.from_data(batch["obs"], batch["action"], batch["reward"], ended, np.zeros_like(ended), ended,
                                    batch["next_obs"])
    with policy_within_training_step(policy):
        for _ in range(UPDATES):
            algorithm.update(buffer=buffer, sample_size=BATCH_SIZE)
    policy.eval()
    return lambda obs: int(policy(Batch(obs=obs[None], info=[None])).act[0])


def learn_bcq_nb(batch: dict[str, np.ndarray], actions: int, discount: float, seed: int, beta: float) -> Policy:
    "Ours"
    from bcq_nb.bcq import BCQConfig, DiscreteBCQ
    from bcq_nb.buffers import Batch

    config = BCQConfig.small(hidden=tuple(HIDDEN), lr=LR, discount=discount, target_rate=1.0, target_every=EVERY,
                             clip_target=False, threshold=THRESHOLD, logit_penalty=beta, batch_size=BATCH_SIZE)
    space = gym.spaces.Box(-np.inf, np.inf, batch["obs"].shape[1:], np.float32)
    agent = DiscreteBCQ(space, actions, config, seed, device="cpu")
    rng = np.random.default_rng(seed)
    tensors = {name: torch.from_numpy(values) for name, values in batch.items()}
    for _ in range(UPDATES):
        drawn = torch.from_numpy(rng.integers(len(batch["action"]), size=BATCH_SIZE))
        agent.update(Batch(**{name: values[drawn] for name, values in tensors.items()}))
    return lambda obs: int(agent.act(obs[None])[0])


LEARN = {"bcq_nb": (learn_bcq_nb, PENALTY), "d3rlpy": (learn_d3rlpy, PENALTY),
         "d3rlpy-default": (learn_d3rlpy, 0.5), "tianshou": (learn_tianshou, PENALTY)}


def play(policy: Policy, env_id: str) -> np.ndarray:   # (EPISODES,)
    "The returns of episodes"
    env = gym.make(env_id)
    returns = np.zeros(EPISODES)
    for k in range(EPISODES):
        obs, _ = env.reset(seed=10_000 + k)
        over = False
        while not over:
            obs, reward, terminated, truncated, _ = env.step(policy(obs))
            returns[k] += reward
            over = terminated or truncated
    return returns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", choices=LEARN)
    parser.add_argument("out", type=Path, help="the folder of a study")
    parser.add_argument("table", type=Path, help="where the rows go")
    parser.add_argument("--env", default="CartPole-v1", choices=DISCOUNT)
    parser.add_argument("--batches", nargs="+", default=["mix", "narrow", "wide"])
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()

    torch.set_num_threads(1)
    learn, beta = LEARN[args.library]
    names = ["library", "version", "environment", "batch", "seed", "behavior", "final", "seconds"]
    rows = list(csv.DictReader(args.table.open())) if args.table.is_file() else []
    done = {tuple(row[name] for name in ("library", "environment", "batch", "seed")) for row in rows}
    for batch_name in args.batches:
        for seed in range(args.seeds):
            if (args.library, args.env, batch_name, str(seed)) in done:
                continue
            folder = args.out / args.env
            batch = read_batch(folder / batch_name / "batch" / f"seed{seed}" / "batch.npz")
            behavior = json.loads((folder / "behavior" / f"seed{seed}" / "row.json").read_text())["row"]["final"]
            actions = int(gym.make(args.env).action_space.n)
            begun = time.perf_counter()
            policy = learn(batch, actions, DISCOUNT[args.env], seed, beta)
            seconds = time.perf_counter() - begun
            final = play(policy, args.env).mean()
            rows.append({"library": args.library, "version": version(args.library.removesuffix("-default")),
                         "environment": args.env, "batch": batch_name, "seed": seed,
                         "behavior": round(behavior, 2), "final": round(final, 2), "seconds": round(seconds, 1)})
            print(rows[-1], flush=True)
            beside = args.table.with_suffix(".part")
            with beside.open("w", newline="") as file:
                writer = csv.DictWriter(file, names, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
            beside.replace(args.table)


if __name__ == "__main__":
    main()
