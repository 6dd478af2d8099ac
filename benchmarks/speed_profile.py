"""What an update and a step of a game are made of: `python benchmarks/speed_profile.py` writes speed_profile.csv.

Updates are watched by PyTorch's profiler, which says how long each operation took by itself. What no operation took is
counted as "calls": Python's lines, the choice of transitions, the reports, and PyTorch's way to an operation. Watching
takes time, too, and most of it falls to the calls: `watched` says how much longer an update took.

Steps of games are not watched by anybody: the three things that they are made of are timed, each by itself.
"""
from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from gymnasium.spaces import Box
from torch.profiler import ProfilerActivity, profile

from bcq_nb import generation
from bcq_nb.atari import AtariEnvs
from bcq_nb.bcq import BCQConfig, DiscreteBCQ
from bcq_nb.buffers import ReplayBuffer
from bcq_nb.dqn import DQN, DQNConfig
from bcq_nb.files import write_rows
from bcq_nb.frames import FrameBuffer
from bcq_nb.guard import learn

OUT = Path(__file__).parents[1] / "bcq_nb" / "results" / "speed_profile.csv"
KINDS = {
    "products": ("addmm", "mm", "bmm", "baddbmm", "mkldnn_convolution", "convolution_backward"),
    "Adam": ("_fused_adam_",),
    "target": ("lerp_", "_foreach_lerp_"),
    "copies": ("copy_", "index_select", "cat"),   # drawn transitions, bytes to numbers, one memory format to another
}
OTHER = "other operations"   # activations, the loss, the choice of actions


def kind_of(operation: str) -> str:
    "Of `addmm`, say: products"
    return next((kind for kind, names in KINDS.items() if operation in names), OTHER)


def profile_update(agent: DiscreteBCQ, buffer: ReplayBuffer, updates: int) -> dict[str, float]:
    "Kind -> milliseconds of an update, and how much longer it took to watch it"
    rng = np.random.default_rng(0)

    def milliseconds() -> float:
        start = time.perf_counter()
        learn(agent, buffer, updates, rng)
        return 1e3 * (time.perf_counter() - start) / updates

    milliseconds()   # to get warm
    before = milliseconds()
    with profile(activities=[ProfilerActivity.CPU]) as watch:
        watched = milliseconds()
    after = milliseconds()
    parts = dict.fromkeys([*KINDS, OTHER], 0.0)
    for event in watch.key_averages():
        if event.key.startswith("aten::"):
            parts[kind_of(event.key.removeprefix("aten::"))] += 1e-3 * event.self_cpu_time_total / updates
    return parts | {"calls": watched - sum(parts.values()), "watched": 2 * watched / (before + after)}


def timed(owner: type, name: str, spent: dict[str, float]) -> None:
    "From now on the seconds in this method are added up"
    method: Callable = getattr(owner, name)

    def look_at_the_clock(*args, **kwargs):
        start = time.perf_counter()
        given = method(*args, **kwargs)
        spent[name] = spent.get(name, 0.0) + time.perf_counter() - start
        return given

    setattr(owner, name, look_at_the_clock)


def profile_step(agent: DQN, steps: int, n_envs: int) -> dict[str, float]:
    "Part -> milliseconds of a step of one game; the games are made outside of the time"
    spent: dict[str, float] = {}
    envs = generation.make_envs("ALE/Pong-v5", n_envs)
    envs.reset()   # the first time games are loaded for their seeds
    generation.make_envs = lambda *_: envs
    for owner, name in ((AtariEnvs, "step"), (DQN, "act"), (FrameBuffer, "add")):
        timed(owner, name, spent)
    start = time.perf_counter()
    generation.generate_buffer(agent, "ALE/Pong-v5", steps, n_envs=n_envs, progress=False)
    parts = {"games": spent["step"], "network": spent["act"], "buffer": spent["add"]}
    rest = time.perf_counter() - start - sum(parts.values())
    return {name: 1e3 * seconds / steps for name, seconds in (parts | {"rest": rest}).items()}


def vectors(n: int) -> ReplayBuffer:
    "Made up: what they hold costs nothing"
    rng = np.random.default_rng(0)
    never = np.zeros(n, bool)
    obs = rng.random((n, 8), np.float32)
    return ReplayBuffer.from_arrays(obs, rng.integers(4, size=n), rng.random(n), obs, never, never, n_actions=4)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--updates", type=int, default=50, help="of the CNN; ten times as many of the MLP")
    parser.add_argument("--steps", type=int, default=8_000)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args(words)
    torch.set_num_threads(1)
    player = DQN(Box(0, 255, (4, 84, 84), np.uint8), 6, DQNConfig.atari(), device="cpu")
    frames = generation.generate_buffer(player, "ALE/Pong-v5", max(400, args.steps // 4), progress=False)
    made = {"mlp": (vectors(5_000), BCQConfig(), 10 * args.updates),
            "cnn": (frames, BCQConfig.atari(), args.updates)}
    rows = []
    for work, (buffer, config, updates) in made.items():
        agent = DiscreteBCQ(buffer.obs_space, buffer.n_actions, config, device="cpu")
        parts = profile_update(agent, buffer, updates)
        watched = parts.pop("watched")
        rows += [{"work": work, "part": part, "ms": ms, "watched": watched} for part, ms in parts.items()]
    rows += [{"work": "generate", "part": part, "ms": ms} for part, ms in profile_step(player, args.steps, 8).items()]
    for row in rows:
        print(f"{row['work']:10} {row['part']:18} {row['ms']:8.4f} ms")
    write_rows(args.out, [{name: round(value, 5) if isinstance(value, float) else value
                           for name, value in row.items()} for row in rows])


if __name__ == "__main__":
    main()
