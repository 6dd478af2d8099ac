"What 07_bcq refuses, and that nothing is learned before it does."
import re

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from bcq_nb.bcq import BCQConfig, DiscreteBCQ, one_hot_buffer, train_offline
from bcq_nb.extrapolation import hikers
from bcq_nb.generation import generate_buffer

VECTOR = Box(-np.inf, np.inf, (4,), np.float32)
FRAMES = Box(0, 255, (2, 36, 36), np.uint8)


@pytest.mark.parametrize("settings, words", [
    ({"threshold": 1.2}, "threshold is 1.2: it must be a number from 0 to 1"),
    ({"threshold": -0.1}, "threshold is -0.1"),
    ({"threshold": float("nan")}, "threshold is nan"),
    ({"threshold": "0.3"}, "threshold is '0.3': it must be a number from 0 to 1"),
    ({"threshold": None}, "threshold is None"),
    ({"logit_penalty": True}, "logit_penalty is True: it must be a number from 0"),
    ({"logit_penalty": -1}, "logit_penalty is -1: it must be a number from 0"),
    ({"logit_penalty": float("nan")}, "logit_penalty is nan"),
    ({"logit_penalty": float("inf")}, "logit_penalty is inf"),
    ({"lr": 0}, "lr is 0"),
])
def test_settings(settings, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        BCQConfig(**settings)


@pytest.fixture(scope="module")
def small():
    "400 random steps in CartPole"
    def nobody(obs):
        return np.zeros(len(obs), int)
    return generate_buffer(nobody, "CartPole-v1", steps=400, low_noise_p=0, rand_action_p=1, progress=False)


@pytest.mark.parametrize("settings, words", [
    ({"steps": 0}, "steps is 0: it must be an integer from 1"),
    ({"steps": 2.5}, "steps is 2.5"),
    ({"eval_every": 0}, "eval_every is 0: it must be an integer from 1"),
    ({"eval_episodes": 0}, "eval_episodes is 0: it must be an integer from 1"),
    ({"eval_eps": 1.5}, "eval_eps is 1.5: it must be a number from 0 to 1"),
    ({"eval_env": "Acrobot-v1"}, "load the agent that was trained on it"),
    ({"eval_env": "CartPole-v9"}, "there is no environment 'CartPole-v9': did you mean CartPole-v1"),
])
def test_training_that_cannot_begin(small, settings, words):
    agent = DiscreteBCQ(small.obs_space, small.n_actions)
    before = [weight.clone() for weight in agent.weights]
    with pytest.raises(ValueError, match=re.escape(words)):
        train_offline(agent, small, **{"steps": 10, "progress": False, **settings})
    assert agent.updates == 0 and agent.history == []
    assert all(torch.equal(weight, old) for weight, old in zip(agent.weights, before, strict=True))


@pytest.mark.parametrize("agent, words", [
    (DiscreteBCQ(VECTOR, 3), "has 3: make the agent with buffer.obs_space and buffer.n_actions"),
    (DiscreteBCQ(FRAMES, 2), "the agent takes (2, 36, 36)"),
    (DiscreteBCQ(VECTOR, 2, BCQConfig(batch_size=401)), "the batch holds 400 transitions and an update draws 401"),
])
def test_an_agent_that_does_not_fit_the_batch(small, agent, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        train_offline(agent, small, steps=10, progress=False)
    assert agent.updates == 0


def test_a_state_that_has_no_row():
    _, batch = hikers()
    with pytest.raises(ValueError, match="state"):
        one_hot_buffer(batch, (8, 4))
