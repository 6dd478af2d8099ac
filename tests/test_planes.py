"""Planes of zeros and ones, as MinAtar shows them, from an environment to a file. MinAtar is not needed."""
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from bcq_nb.bcq import BCQConfig, DiscreteBCQ, train_offline
from bcq_nb.buffers import ReplayBuffer
from bcq_nb.dqn import DQNConfig, train_behavioral
from bcq_nb.environments import make_env, make_envs
from bcq_nb.evaluation import evaluate
from bcq_nb.film import record_video
from bcq_nb.generation import generate_buffer
from bcq_nb.networks import Encoder
from bcq_nb.training import Exploration

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
from minatar_envs import Planes  # noqa: E402

ENV = "Twin/CatchPlanes-v0"
SPACE = Box(0, 1, (6, 10, 10), np.uint8)


class Catch:
    "A game with MinAtar's methods: something falls, and pays 1 where the player stands below it."
    last_action = 0

    def __init__(self):
        self.seed(0)
        self.reset()

    def seed(self, seed):
        self.random = np.random.RandomState(seed)

    def reset(self):
        self.row, self.column, self.player = 0, self.random.randint(10), 5

    def minimal_action_set(self):
        return [0, 1, 3]      # of six: wait, left, right

    def state(self):
        board = np.zeros((10, 10, 6), bool)
        board[self.row, self.column, 0] = True
        board[9, self.player, 1] = True
        return board

    def act(self, action):
        self.player = int(np.clip(self.player + {0: 0, 1: -1, 3: 1}[action], 0, 9))
        self.row += 1
        ended = self.row == 9
        return ended and self.player == self.column, ended


gym.register(ENV, entry_point=lambda render_mode=None: Planes(Catch(), render_mode), max_episode_steps=50)


def test_one_convolution_sees_them_undivided():
    encoder = Encoder(SPACE)
    assert encoder.features == 16 * 8 * 8 and encoder.scale.item() == 1
    weights = dict(encoder.named_parameters())
    assert {name: tuple(weight.shape) for name, weight in weights.items()} == {
        "body.0.weight": (16, 6, 3, 3), "body.0.bias": (16,)}
    assert Encoder(Box(0, 1, (2, 3, 3), np.uint8)).features == 16
    with pytest.raises(ValueError, match="planes .* from 3×3"):
        Encoder(Box(0, 1, (4, 2, 10), np.uint8))
    with pytest.raises(ValueError, match="standardize is for vectors"):
        Encoder(SPACE, standardize=True)


def test_frames_of_that_size_are_no_planes():
    with pytest.raises(ValueError, match="from 36×36"):
        Encoder(Box(0, 255, (4, 10, 10), np.uint8))


def test_from_environment_to_file(tmp_path):
    plan = Exploration(warmup=64, train_every=4)
    behavior = train_behavioral(ENV, 200, DQNConfig(hidden=(128,), batch_size=16), plan, seed=0, eval_every=200,
                                eval_episodes=2, device="cpu", progress=False)
    buffer = generate_buffer(behavior, ENV, 200, seed=0)
    assert type(buffer) is ReplayBuffer and buffer.obs_space == SPACE
    buffer.save(tmp_path / "batch.npz")
    again = ReplayBuffer.load(tmp_path / "batch.npz")
    assert again.obs_space == SPACE
    agent = DiscreteBCQ(again.obs_space, 3, BCQConfig(hidden=(128,), batch_size=16), seed=0, device="cpu")
    train_offline(agent, again, 20, eval_env=ENV, eval_every=20, eval_episodes=2, progress=False)
    agent.save(tmp_path / "agent.safetensors")
    loaded = DiscreteBCQ.load(tmp_path / "agent.safetensors", "cpu")
    obs = again.transitions(again.slots()).obs[:50]
    assert obs.dtype == torch.uint8 and torch.equal(loaded.q_values(obs), agent.q_values(obs))
    assert len(evaluate(loaded, ENV, 3).returns) == 3


def test_export_and_film(tmp_path):
    agent = DiscreteBCQ(SPACE, 3, BCQConfig(hidden=(128,)), seed=0, device="cpu")
    agent.export(tmp_path / "policy.pt2")
    policy = torch.export.load(tmp_path / "policy.pt2").module()
    obs = torch.from_numpy(np.random.default_rng(0).integers(2, size=(40, *SPACE.shape), dtype=np.uint8))
    assert policy(obs).tolist() == agent.act(obs.numpy()).tolist()
    record_video(agent, ENV, tmp_path / "film.mp4")
    assert (tmp_path / "film.mp4").stat().st_size > 0


def test_the_picture():
    env = make_env(ENV)
    assert env.render().shape == (200, 200, 3)
    env.close()
    envs = make_envs(ENV, 2)
    assert envs.single_observation_space == SPACE
    envs.close()
