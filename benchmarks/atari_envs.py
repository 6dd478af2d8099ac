"""Agent steps per second of Gymnasium's wrappers and of ALE's C++ environments, in one run: ratios can be compared.

    python benchmarks/atari_envs.py [ALE/Pong-v5] [steps]
"""

import os
import sys
import time

import numpy as np

from bcq_nb.atari import make_atari_env, make_atari_envs


def single(env_id: str, steps: int) -> float:
    env = make_atari_env(env_id, render_mode=None)
    env.reset()
    start = time.perf_counter()
    for action in np.random.default_rng(0).integers(env.action_space.n, size=steps):
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()
    return steps / (time.perf_counter() - start)


def vector(env_id: str, steps: int, n_envs: int) -> float:
    envs = make_atari_envs(env_id, n_envs)
    envs.reset()
    actions = np.random.default_rng(0).integers(envs.single_action_space.n, size=(-(-steps // n_envs), n_envs))
    start = time.perf_counter()
    for action in actions:
        envs.step(action)
    return actions.size / (time.perf_counter() - start)


def main() -> None:
    env_id = sys.argv[1] if len(sys.argv) > 1 else "ALE/Pong-v5"
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 4_000
    print(f"{env_id}, {steps} agent steps of four frames, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"Gymnasium's wrappers, 1 game   {single(env_id, steps):8.0f} steps/s")
    for n_envs in (1, 2, 4, 8):
        print(f"AtariEnvs (C++), {n_envs} game(s)    {vector(env_id, steps, n_envs):8.0f} steps/s")


if __name__ == "__main__":
    main()
