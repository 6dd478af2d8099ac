"""ICU-Sepsis as a Gymnasium environment, `bcq_nb/ICUSepsis-v0`, for `bcq study`: `imports = ["icu_env"]`.

It is the world of notebook 08b: a patient is seen as 47 measurements, a dose is one of 25 actions, and the only reward
is 1 for a patient who lives. An action that is not admissible does what an admissible one drawn at random would do.
"""
from __future__ import annotations

from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete

from bcq_nb.sepsis import DEATH, SURVIVAL, Hospital, load_hospital

LONGEST = 100   # steps of a stay, which takes about ten


@cache
def hospital() -> tuple[Hospital, np.ndarray, np.ndarray]:
    "The tables, with sums of probabilities to draw from: (716,) where a stay begins, (716, 25, 716) what follows."
    tables = load_hospital()
    return tables, tables.start.cumsum(), tables.mdp.p.cumsum(axis=-1)


class ICUSepsis(gym.Env):
    "One patient at a time."

    metadata = {"render_modes": []}

    def __init__(self, render_mode: None = None):
        self.render_mode = render_mode
        self.tables, self.start, self.follows = hospital()
        n_features = self.tables.features.shape[1]
        self.observation_space = Box(-np.inf, np.inf, (n_features,), np.float32)
        self.action_space = Discrete(self.follows.shape[1])
        self.state = DEATH

    def draw(self, sums: np.ndarray) -> int:
        "A place, each as likely as the sums rise there."
        level = self.np_random.random() * sums[-1]
        return int(np.searchsorted(sums, level, side="right"))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.state = self.draw(self.start)
        return self.tables.features[self.state].copy(), {}

    def step(self, action: int):
        self.state = self.draw(self.follows[self.state, action])
        ended = self.state in (DEATH, SURVIVAL)
        reward = float(self.state == SURVIVAL)
        return self.tables.features[self.state].copy(), reward, ended, False, {}


gym.register("bcq_nb/ICUSepsis-v0", entry_point=ICUSepsis, max_episode_steps=LONGEST)
