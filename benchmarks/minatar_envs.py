"""MinAtar's games (Young & Tian 2019) as Gymnasium environments, for `bcq study`: `imports = ["minatar_envs"]`.

`MinAtar/BreakoutPlanes-v0`, `…/SpaceInvadersPlanes-v0`, `…/AsterixPlanes-v0`: (planes, 10, 10) bytes of 0 and 1, only
the actions that the game knows, an action that is repeated with probability 0.1, at most 5,000 steps. MinAtar is under
the GPL and no requirement of the package: `pip install --no-deps MinAtar`, for this study.
"""
from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete

LONGEST = 5_000   # steps of an episode
STICKY = 0.1      # probability that an action is the one before, MinAtar's own
GAMES = {"Breakout": "breakout", "SpaceInvaders": "space_invaders", "Asterix": "asterix"}
COLORS = np.array([(0, 0, 0), (86, 180, 233), (240, 228, 66), (122, 139, 153), (213, 94, 0), (0, 158, 115),
                   (204, 121, 167)], np.uint8)   # of an empty square, and of the things in each plane


def planes_of(board: np.ndarray) -> np.ndarray:
    "(10, 10, planes) bool, as MinAtar gives them, to (planes, 10, 10) uint8."
    return np.ascontiguousarray(board.transpose(2, 0, 1), np.uint8)


def picture_of(planes: np.ndarray) -> np.ndarray:
    "(planes, 10, 10) to (200, 200, 3) uint8: each square in the color of the last plane that has something there."
    places = 1 + np.arange(len(planes))
    kinds = (planes * places[:, None, None]).max(axis=0)
    return COLORS[kinds].repeat(20, axis=0).repeat(20, axis=1)


class Planes(gym.Env):
    "A game that has MinAtar's methods `act`, `state`, `reset`, `seed` and `minimal_action_set`."

    metadata = {"render_modes": ["rgb_array"], "render_fps": 15}

    def __init__(self, game: Any, render_mode: str | None = None):
        self.render_mode = render_mode
        self.game = game
        self.actions = game.minimal_action_set()
        shape = planes_of(game.state()).shape
        self.observation_space = Box(0, 1, shape, np.uint8)
        self.action_space = Discrete(len(self.actions))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        if seed is not None:
            self.game.seed(seed)
            self.game.last_action = 0
        self.game.reset()
        return planes_of(self.game.state()), {}

    def step(self, action: int):
        reward, ended = self.game.act(self.actions[action])
        return planes_of(self.game.state()), float(reward), bool(ended), False, {}

    def render(self) -> np.ndarray:
        return picture_of(planes_of(self.game.state()))


def make(game: str, render_mode: str | None = None) -> Planes:
    "One of MinAtar's games. Raises `ImportError`."
    from minatar import Environment

    return Planes(Environment(game, sticky_action_prob=STICKY), render_mode)


for name, game in GAMES.items():
    gym.register(f"MinAtar/{name}Planes-v0", entry_point=make, kwargs={"game": game}, max_episode_steps=LONGEST)
