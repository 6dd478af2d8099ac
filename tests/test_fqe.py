"""Fitted Q evaluation where it is no lesson: the same bits again, agents as functions, tables, frames, refusals."""
import numpy as np
import pandas as pd
import pytest
import torch
from gymnasium.spaces import Box

from bcq_nb.bcq import BCQConfig, DiscreteBCQ
from bcq_nb.buffers import ReplayBuffer
from bcq_nb.dqn import DQNConfig
from bcq_nb.fqe import FQE, SETTLED, FQEConfig, fit_q, moved, start_slots
from bcq_nb.logs import from_frame

SMALL = FQEConfig(hidden=(16,), batch_size=32)


def some_log(n=200, n_actions=3, size=4, **more):
    "Episodes of ten steps, in which action 1 pays"
    rng = np.random.default_rng(0)
    obs, action = rng.normal(size=(n, size)).astype(np.float32), rng.integers(n_actions, size=n)
    ends = np.arange(n) % 10 == 9
    return ReplayBuffer.from_arrays(obs, action, action == 1, np.roll(obs, -1, axis=0), ends, np.zeros(n, bool),
                                    n_actions=n_actions, **more)


def evenly(obs, mask=None):
    return torch.full((len(obs), 3), 1 / 3)


def same_bits(one, other):
    one, other = one.state_dict(), other.state_dict()
    return all(torch.equal(one[name], other[name]) for name in one)


def test_a_seed_decides_every_bit():
    log = some_log()
    before = torch.random.get_rng_state()
    once, again, other = (fit_q(evenly, log, 0.9, SMALL, 60, seed) for seed in (3, 3, 4))
    assert same_bits(once, again) and once.history == again.history
    assert not same_bits(once, other)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("softness", [0.0, 0.5])
def test_an_agent_is_a_function_of_what_it_sees(softness):
    log = some_log()
    agent = DiscreteBCQ(log.obs_space, 3, BCQConfig(hidden=(16,)), seed=1)

    def function(obs, mask=None):
        return agent.policy(obs, softness, mask)

    assert same_bits(fit_q(agent, log, 0.9, SMALL, 60, softness=softness), fit_q(function, log, 0.9, SMALL, 60))


def test_an_imitation_is_valued_as_it_chooses():
    "Softness and masks reach the policy from `state_values`, too"
    agent = DiscreteBCQ(Box(-9, 9, (4,)), 3, BCQConfig(hidden=(16,), threshold=0.0), seed=1)
    model = FQE(agent, agent.obs_space, 3, SMALL, softness=0.3)
    obs = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    mask = np.array([[1, 1, 0]] * 5)
    expected = (agent.policy(obs, 0.3, mask) * model.q_values(obs)).sum(1)
    assert torch.allclose(model.state_values(obs, mask), expected)
    assert not torch.allclose(model.state_values(obs, mask), model.state_values(obs))


def test_history_tells_the_value_at_the_starts():
    log = some_log()
    model = fit_q(evenly, log, 0.9, SMALL, 90)
    starts = start_slots(log)
    assert starts.tolist() == list(range(0, 200, 10))
    assert np.isclose(model.history[-1]["value"], model.state_values(log.transitions(starts).obs).mean())
    assert [row["step"] for row in model.history] == list(range(2, 92, 2)) and model.updates == 90
    assert model.optimizer.param_groups[0]["lr"] == SMALL.lr / 10


def test_too_few_updates_are_noticed():
    log = some_log()
    assert moved(fit_q(evenly, log, 0.9, SMALL, 20), log) > SETTLED > moved(fit_q(evenly, log, 0.9, SMALL, 1500), log)


def test_where_nothing_is_paid_nothing_is_worth_anything():
    log = some_log()
    log.reward.zero_()
    model = fit_q(evenly, log, 1.0, SMALL, 400)
    assert abs(model.history[-1]["value"]) < 0.05 and moved(model, log) < 0.05


def test_a_table_is_read_as_an_agent_reads_it():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"who": np.repeat(np.arange(20), 5), "x": rng.normal(size=100), "y": rng.normal(size=100),
                          "did": rng.choice(["stay", "go"], 100), "paid": rng.normal(size=100)})
    log = from_frame(frame, episode="who", obs=["x", "y"], action="did", reward="paid", ends="terminated")
    model = fit_q(lambda obs, mask: torch.full((len(obs), 2), 0.5), log, 0.9, SMALL, 40)
    turned = frame[["paid", "y", "x", "who", "did"]]
    assert torch.equal(model.state_values(turned), model.state_values(frame[["x", "y"]].to_numpy(np.float32)))


def test_frames_have_settings_of_their_own():
    rng = np.random.default_rng(0)
    obs = rng.integers(256, size=(12, 4, 36, 36), dtype=np.uint8)
    ends = np.arange(12) % 6 == 5
    log = ReplayBuffer.from_arrays(obs, np.arange(12) % 3, np.ones(12), np.roll(obs, -1, axis=0), ends, ~ends & False,
                                   n_actions=3)
    model = fit_q(evenly, log, 0.9, updates=2)
    assert np.isfinite(model.history[-1]["value"]) and model.config.batch_size == 12
    assert not model.config.clip_reward and FQEConfig.atari(lr=0.1).lr == 0.1


@pytest.mark.parametrize(("changes", "words"), [
    ({"policy": lambda obs, mask: torch.full((len(obs), 2), 0.5)}, "2 actions and there are 3"),
    ({"policy": lambda obs, mask: torch.full((len(obs), 3), 0.5)}, "must sum to 1"),
    ({"policy": lambda obs, mask: torch.ones(3) / 3}, "a row for each"),
    ({"policy": DiscreteBCQ(Box(-1, 1, (5,)), 3)}, r"observations \(4,\) and 3 actions, the agent takes \(5,\)"),
    ({"policy": DiscreteBCQ(Box(-1, 1, (4,)), 2)}, "and has 2"),
    ({"buffer": ReplayBuffer(5, Box(-1, 1, (4,)), 3)}, "without starts there is no value"),
    ({"discount": 1.5}, "discount"),
    ({"updates": 0}, "updates is 0"),
    ({"softness": 2.0}, "softness"),
    ({"config": DQNConfig()}, "must be a FQEConfig"),
])
def test_refusals(changes, words):
    with pytest.raises(ValueError, match=words):
        fit_q(**{"policy": evenly, "buffer": some_log(), "discount": 0.9, "updates": 5, **changes})


def test_what_is_no_policy_and_what_is_no_buffer():
    with pytest.raises(TypeError, match="give an agent, or a function"):
        fit_q("clinicians", some_log(), 0.9, updates=5)
    with pytest.raises(TypeError, match="it must be a buffer, such as"):
        fit_q(evenly, pd.DataFrame({"x": [1.0]}), 0.9, updates=5)


def test_episodes_without_their_beginning():
    "A ring that was overwritten holds the end of an episode"
    log = ReplayBuffer(3, Box(-1, 1, (4,)), 3)
    for _ in range(5):
        log.add(np.zeros((1, 4)), [0], [1.0], np.zeros((1, 4)), [False], [False])
    with pytest.raises(ValueError, match="no step with which an episode begins"):
        fit_q(evenly, log, 0.9, updates=5)
