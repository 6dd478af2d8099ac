"""What agents answer and learn where some actions do not exist, where numbers differ in size, and of a table."""
import json

import gymnasium as gym
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F
from gymnasium.spaces import Box, Discrete

from bcq_nb.bcq import BCQConfig, DiscreteBCQ, allowed_actions, train_offline
from bcq_nb.buffers import Batch, ReplayBuffer
from bcq_nb.checkpoints import KIND
from bcq_nb.dqn import DQN, DoubleDQN, DQNConfig, train_behavioral
from bcq_nb.evaluation import evaluate
from bcq_nb.tables import Table
from bcq_nb.training import Exploration, mean_and_deviation, watch_bounds
from bcq_nb.weights import load_tensors, save_tensors

VECTOR = Box(-np.inf, np.inf, (4,), np.float32)
FRAMES = Box(0, 255, (2, 36, 36), np.uint8)
N_ACTIONS = 5
AGENTS = [
    (DQN, DQNConfig(hidden=(16,), batch_size=32)),
    (DoubleDQN, DQNConfig(hidden=(16,), batch_size=32)),
    *[(DiscreteBCQ, BCQConfig(hidden=(16,), batch_size=32, threshold=threshold)) for threshold in (0, 0.3, 1)],
]
agents = pytest.mark.parametrize("kind, config", AGENTS, ids=lambda value: getattr(
    value, "__name__", getattr(value, "threshold", "")))


def some_masks(rng, n):
    "Random masks, in each row at least one action"
    masks = rng.random((n, N_ACTIONS)) < 0.4
    masks[np.arange(n), rng.integers(N_ACTIONS, size=n)] = True
    return masks


def columns_of(n=200, masks=True, seed=0):
    "Transitions of no environment, whose actions exist"
    rng = np.random.default_rng(seed)
    obs, next_obs = rng.normal(size=(2, n, 4)).astype(np.float32)
    mask, next_mask = some_masks(rng, n), some_masks(rng, n)
    action = np.array([rng.choice(np.flatnonzero(row)) for row in mask])
    terminated = rng.random(n) < 0.1
    next_mask[terminated] = True
    columns = {"obs": obs, "action": action, "reward": rng.normal(size=n), "next_obs": next_obs,
               "terminated": terminated, "truncated": np.ones(n, bool) & ~terminated}
    return columns | {"mask": mask, "next_mask": next_mask} if masks else columns


def log_of(**changes):
    return ReplayBuffer.from_arrays(**{**columns_of(), **changes}, n_actions=N_ACTIONS)


def whole(buffer):
    return buffer.transitions(buffer.slots())


def same_bits(one, other):
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# Masks

@agents
def test_an_action_that_does_not_exist_is_never_chosen(kind, config):
    log = log_of()
    batch = whole(log)
    agent = kind(VECTOR, N_ACTIONS, config, device="cpu")
    train_offline(agent, log, 50, progress=False)
    rows = np.arange(len(log))
    mask = batch.mask.numpy()
    unconstrained = agent.act(batch.obs, mask=np.ones_like(mask))
    assert (~mask[rows, unconstrained]).mean() > 0.2                    # a mask changes something here
    for eps in (0.0, 0.5, 1.0):
        for given in (mask, mask.astype(np.int8), batch.mask):
            assert mask[rows, agent.act(batch.obs, eps, given)].all()
    assert not (agent.allowed(batch.obs, mask) & ~batch.mask).any()
    assert (agent.policy(batch.obs, 0.5, mask)[~batch.mask] == 0).all()
    alone = np.eye(N_ACTIONS, dtype=bool)[rows % N_ACTIONS]             # a single action exists
    assert (agent.act(batch.obs, mask=alone) == rows % N_ACTIONS).all()
    assert agent.allowed(batch.obs, alone).tolist() == alone.tolist()


def test_an_agent_that_has_learned_with_masks_asks_for_them(tmp_path):
    agent = DiscreteBCQ(VECTOR, N_ACTIONS, BCQConfig.small(), device="cpu")
    train_offline(agent, log_of(), 1, progress=False)
    agent.save(tmp_path / "agent.safetensors")
    obs = np.zeros((2, 4), np.float32)
    for each in (agent, DiscreteBCQ.load(tmp_path / "agent.safetensors", device="cpu")):
        assert each.q_values(obs).shape == (2, N_ACTIONS)
        for ask in (each.act, each.policy, each.allowed, each.probabilities):
            with pytest.raises(ValueError, match="learned with masks, and none is given"):
                ask(obs)
            ask(obs, mask=np.ones((2, N_ACTIONS)))


@agents
def test_an_action_that_does_not_exist_is_never_bootstrapped(kind, config):
    "Both networks believe that one action is worth a million; it does not exist in the next states"
    columns = columns_of()
    columns["next_mask"][:, 2] = columns["terminated"]
    columns["next_mask"][:, 3] = True
    batch = whole(ReplayBuffer.from_arrays(**columns, n_actions=N_ACTIONS))
    agent = kind(VECTOR, N_ACTIONS, config, device="cpu")
    with torch.no_grad():
        for network in (agent.network, agent.target):
            network.q[-1].bias[2] = 1e6
            if kind is DiscreteBCQ:
                network.imitation[-1].bias[2] = 50.0                    # and that the behavior policy takes no other
    y = agent.td_target(batch)
    assert y.isfinite().all() and y.abs().max() < 100
    without = agent.td_target(batch._replace(next_mask=None))
    assert without.max() > 1e5                                          # the trap is real
    assert torch.equal(without[batch.terminated == 1], y[batch.terminated == 1])


def test_the_target_is_the_best_that_exists_by_a_loop():
    columns = columns_of(n=40)
    batch = whole(ReplayBuffer.from_arrays(**columns, n_actions=N_ACTIONS))
    for kind, config in AGENTS:
        agent = kind(VECTOR, N_ACTIONS, config, device="cpu")
        other = kind(VECTOR, N_ACTIONS, config, seed=1, device="cpu")   # another target network
        agent.target.load_state_dict(other.network.state_dict())
        q, target = agent.network(batch.next_obs).tolist(), agent.target(batch.next_obs).tolist()
        for i, y in enumerate(agent.td_target(batch).tolist()):
            there = np.flatnonzero(batch.next_mask[i]).tolist()
            if kind is DiscreteBCQ:
                odds = np.exp(agent.network.both(batch.next_obs)[1][i].detach().numpy().astype(float))
                most = max(odds[there])
                there = [a for a in there if odds[a] > config.threshold * most or odds[a] == most]
            value = max(target[i][a] for a in there)
            if kind is not DQN:
                value = target[i][max(there, key=q[i].__getitem__)]
            expected = batch.reward[i] + config.discount * (1 - batch.terminated[i]) * value
            assert y == pytest.approx(expected.item(), rel=1e-5, abs=1e-5)


def test_the_imitation_learns_among_existing_actions():
    batch = whole(log_of())
    agent = DiscreteBCQ(VECTOR, N_ACTIONS, BCQConfig(logit_penalty=0.0), device="cpu")
    _, metrics = agent.loss(batch)
    logits = agent.network.both(batch.obs)[1].detach().double().numpy()
    odds = np.exp(logits) * batch.mask.numpy()
    probability = odds / odds.sum(1, keepdims=True)
    by_hand = -np.log(probability[np.arange(len(odds)), batch.action]).mean()
    assert metrics["imitation_loss"].item() == pytest.approx(by_hand, rel=1e-5)
    given = agent.probabilities(batch.obs, batch.mask)
    np.testing.assert_allclose(given, probability, atol=1e-6)
    assert (given[~batch.mask] == 0).all()
    gradients = torch.autograd.grad(agent.loss(batch)[0], agent.weights)
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_the_penalty_stays_on_all_logits():
    batch = whole(log_of())
    light, heavy = (DiscreteBCQ(VECTOR, N_ACTIONS, BCQConfig(logit_penalty=weight), device="cpu") for weight in (0, 2))
    logits = light.network.both(batch.obs)[1]
    gap = heavy.loss(batch)[0] - light.loss(batch)[0]
    assert gap.item() == pytest.approx(2 * logits.square().mean().item(), rel=1e-3)


@agents
def test_masks_that_leave_everything_change_no_bit(kind, config):
    everything = np.ones((200, N_ACTIONS), bool)
    masked = log_of(mask=everything, next_mask=everything)
    plain = ReplayBuffer.from_arrays(**columns_of(masks=False), n_actions=N_ACTIONS)
    one, other = (kind(VECTOR, N_ACTIONS, config, device="cpu") for _ in range(2))
    train_offline(one, masked, 30, progress=False)
    train_offline(other, plain, 30, progress=False)
    assert same_bits(one, other) and one.history == other.history
    obs = whole(plain).obs
    assert (one.act(obs, mask=everything) == other.act(obs)).all()
    assert torch.equal(one.policy(obs, 0.3, everything), other.policy(obs, 0.3))


def test_allowed_among_existing_at_both_ends():
    logits = torch.tensor([[0.0, -200.0, -1.0], [3.0, 3.0, -500.0]])
    mask = torch.tensor([[False, True, True], [True, False, True]])
    assert torch.equal(allowed_actions(logits, 0, mask), mask)
    assert allowed_actions(logits, 1, mask).tolist() == [[False, False, True], [True, False, False]]


@pytest.mark.parametrize("mask, words", [
    (np.ones((3, N_ACTIONS)), "mask has shape (3, 5): it must be (2, 5)"),
    (np.ones(N_ACTIONS), "mask has shape (5,)"),
    (np.full((2, N_ACTIONS), 0.5), "other than 0 and 1"),
    (np.full((2, N_ACTIONS), np.nan), "other than 0 and 1"),
    (np.eye(2, N_ACTIONS, k=4), "leaves no action in row 1 (the first is 0)"),
])
def test_masks_that_are_refused(mask, words):
    agent = DiscreteBCQ(VECTOR, N_ACTIONS, device="cpu")
    obs = np.zeros((2, 4), np.float32)
    for ask in (agent.act, agent.policy, agent.allowed, agent.probabilities):
        with pytest.raises(ValueError) as error:
            ask(obs, mask=mask)
        assert words in str(error.value)


class Stairs(gym.Env):
    "Up to the fifth step; action 0 goes up, 1 down, which does not exist at the bottom; 2 exists nowhere"
    observation_space = Box(0, 5, (1,), np.float32)
    action_space = Discrete(3)

    def __init__(self, render_mode=None):
        self.at = 0

    def told(self):
        return np.array([self.at], np.float32), {"action_mask": np.array([1, self.at > 0, 0], np.int8)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 0
        return self.told()

    def step(self, action):
        assert action == 0 or (action == 1 and self.at > 0)
        self.at += 1 if action == 0 else -1
        obs, info = self.told()
        return obs, float(self.at == 5), self.at == 5, False, info


def test_training_where_the_environment_has_masks(tmp_path):
    gym.register("Stairs-v0", Stairs, max_episode_steps=30)
    replay = tmp_path / "replay.npz"
    agent = train_behavioral("Stairs-v0", 600, DQNConfig.small(), Exploration(warmup=100, n_envs=2, eps_start=0.5),
                             eval_every=300, eval_episodes=3, progress=False, replay=replay)
    log = ReplayBuffer.load(replay)
    batch = whole(log)
    rows = torch.arange(len(log))
    assert len(log) == 600 and batch.mask[rows, batch.action].all()
    assert not batch.mask[:, 2].any() and (batch.mask[:, 1] == (batch.obs[:, 0] > 0)).all()
    assert not batch.next_mask[batch.terminated == 0, 2].any()
    assert evaluate(agent, "Stairs-v0", episodes=3, eps=1.0).mean > 0   # not even by chance
    learned = DiscreteBCQ(log.obs_space, 3, BCQConfig.small(), device="cpu")
    rows = train_offline(learned, log, 300, eval_env="Stairs-v0", eval_episodes=3, progress=False)
    assert rows[-1]["return"] == 1


def test_a_replay_that_cannot_be_kept_is_refused_first(tmp_path):
    with pytest.raises(ValueError, match="is a folder: give the path of a file"):
        train_behavioral("CartPole-v1", 10**9, exploration=Exploration(warmup=100), replay=tmp_path)


def test_a_replay_changes_nothing(tmp_path):
    plan = Exploration(warmup=100)
    settings = dict(exploration=plan, eval_every=200, eval_episodes=1, progress=False)
    one = train_behavioral("CartPole-v1", 200, DQNConfig.small(), **settings)
    other = train_behavioral("CartPole-v1", 200, DQNConfig.small(), **settings, replay=tmp_path / "replay.npz")
    assert same_bits(one, other)
    assert len(ReplayBuffer.load(tmp_path / "replay.npz")) == 200


# Scales

def one_step_log(factors=(1, 1, 1), offset=0, pay=1, n=2_000):
    "Tries by chance, over after a step; action 1 is right where the first number is above its mean"
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(n, 3))
    right = (seen[:, 0] > 0).astype(int)
    action = rng.integers(2, size=n)
    obs = (seen * factors + offset).astype(np.float32)
    ends = {"terminated": np.ones(n, bool), "truncated": np.zeros(n, bool)}
    return ReplayBuffer.from_arrays(obs, action, pay * (action == right), obs, **ends), right


def trained(log, kind=DiscreteBCQ, **changes):
    config = BCQConfig.log if kind is DiscreteBCQ else DQNConfig.small
    settings = {"standardize": True, "scale_reward": True, "lr": 1e-3, **changes}
    agent = kind(log.obs_space, log.n_actions, config(**settings), device="cpu")
    train_offline(agent, log, 800, progress=False)
    return agent


@pytest.fixture(scope="module")
def unscaled():
    log, right = one_step_log()
    agent = trained(log, standardize=False, scale_reward=False)
    actions = agent.act(whole(log).obs)
    assert (actions == right).mean() > 0.95
    return actions


@pytest.mark.parametrize("kind", [DiscreteBCQ, DQN])
@pytest.mark.parametrize("change", [
    {"factors": (1e-6, 1, 1e6)}, {"factors": (1e-3, 1, 1e3)}, {"offset": 1e4},
    {"pay": 1e-3}, {"pay": 1e6}, {"factors": (1e-6, 1, 1e6), "pay": 1e6},
], ids=str)
def test_units_do_not_matter(change, kind, unscaled):
    log, right = one_step_log(**change)
    agent = trained(log, kind)
    obs = whole(log).obs
    actions = agent.act(obs)
    assert (actions == right).mean() > 0.95
    assert (actions == unscaled).mean() > 0.95
    pay = change.get("pay", 1)
    values = agent.q_values(obs)
    assert values.max(1).values.mean().item() == pytest.approx(pay, rel=0.1)       # in the log's own unit
    assert agent.bounds[1] == pytest.approx(pay / (1 - agent.config.discount), rel=1e-3)
    assert agent.history[-1]["q"] == pytest.approx(pay / 2, rel=0.2)               # half of the tries were right


def test_rewards_in_another_unit_lead_to_the_same_actions():
    "A factor of two is exact in binary numbers: not a bit of the weights may differ"
    (log, _), (twice, _), (millions, _) = (one_step_log(pay=pay) for pay in (1, 2, 1e6))
    one, other, rich = (trained(each) for each in (log, twice, millions))
    obs = whole(log).obs
    assert all(torch.equal(a, b) for a, b in zip(one.weights, other.weights, strict=True))
    assert torch.equal(2 * one.q_values(obs), other.q_values(obs))
    assert (one.act(obs) == rich.act(obs)).mean() > 0.99


@pytest.mark.filterwarnings("ignore:.*believes values")
def test_without_scales_the_task_is_lost():
    log, right = one_step_log(factors=(1e-3, 1, 1e3))
    agent = trained(log, standardize=False, scale_reward=False)
    assert (agent.act(whole(log).obs) == right).mean() < 0.6


def test_mean_and_deviation_of_a_large_offset():
    rng = np.random.default_rng(0)
    obs = np.column_stack([rng.normal(1e4, 1, 70_000), rng.normal(0, 1e-6, 70_000), np.full(70_000, 0.1)])
    obs = obs.astype(np.float32)
    nothing = np.zeros(70_000)
    log = ReplayBuffer.from_arrays(obs, nothing.astype(int), nothing, obs, nothing > 0, nothing > 0)
    mean, deviation = mean_and_deviation(log)
    exact = obs.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(0), rtol=1e-12)
    np.testing.assert_allclose(deviation[:2], exact.std(0)[:2], rtol=1e-9)
    assert deviation[2] == 0
    agent = DiscreteBCQ(log.obs_space, 1, BCQConfig.log(), device="cpu")
    train_offline(agent, log, 1, progress=False)
    features = agent.network.encoder(whole(log).obs)
    assert (features[:, 2] == 0).all() and agent.network.value_scale == 1   # a constant; no reward at all
    np.testing.assert_allclose(features.std(0)[:2], 1, rtol=1e-3)


@pytest.mark.filterwarnings("ignore:.*believes values")
def test_scales_are_those_of_the_first_batch():
    first, second = one_step_log(factors=(2, 1, 1), pay=10)[0], one_step_log(offset=50, pay=1)[0]
    agent = trained(first)
    before = {name: value.clone() for name, value in agent.state_dict().items() if name.endswith(("mean", "scale"))}
    train_offline(agent, second, 50, progress=False)
    now = agent.state_dict()
    assert len(before) == 6 and all(torch.equal(now[name], value) for name, value in before.items())
    assert agent.network.value_scale.item() == pytest.approx(10)   # half of the tries pay 10, the others nothing


def test_scales_are_not_taken_unless_asked_for():
    agent = trained(one_step_log(factors=(2, 1, 1), pay=10)[0], standardize=False, scale_reward=False)
    encoder = agent.network.encoder
    assert (encoder.mean == 0).all() and (encoder.scale == 1).all() and agent.network.value_scale == 1


@pytest.mark.parametrize("eval_every", [300, 100])
def test_online_scales_come_from_the_warm_up(eval_every):
    "Also where the first evaluation comes before its end"
    agent = train_behavioral("CartPole-v1", 300, DQNConfig.small(standardize=True, scale_reward=True),
                             Exploration(warmup=200), eval_every=eval_every, eval_episodes=1, progress=False)
    assert (agent.network.encoder.scale > 1).all() and agent.network.value_scale == 1     # CartPole pays 1
    assert torch.equal(agent.network.encoder.scale, agent.target.encoder.scale)


def test_standardize_is_for_vectors():
    for kind, config in ((DQN, DQNConfig.atari), (DiscreteBCQ, BCQConfig.atari)):
        with pytest.raises(ValueError, match=r"standardize is for vectors, and .* the shape \(2, 36, 36\)"):
            kind(FRAMES, 3, config(standardize=True), device="cpu")
        kind(FRAMES, 3, config(scale_reward=True), device="cpu")


@pytest.mark.parametrize("name", ["standardize", "scale_reward", "clip_target", "clip_reward", "scale_obs"])
def test_a_switch_is_on_or_off(name):
    with pytest.raises(ValueError, match=f"{name} is 'yes': it must be True or False"):
        DQNConfig(**{name: "yes"})


def test_bounds_are_watched_in_the_unit_of_the_values():
    agent = DQN(VECTOR, 2, device="cpu")
    agent.bounds = (0.0, 0.003)
    row = {"q_min": 0.0, "q_max": 0.5}
    assert not watch_bounds(agent, row)              # within 1
    agent.network.value_scale.fill_(0.001)
    with pytest.warns(UserWarning, match="believes values"):
        assert watch_bounds(agent, row)              # 500 units


# Tables

TABLE = Table(obs=("age", "ward", "pain"), action="dose", actions=("none", "low", "high"),
              categories={"ward": ("heart", "lung")}, mask=("may",))


def patients(n=300, seed=0):
    rng = np.random.default_rng(seed)
    may = [["111", "101", "011"][i] for i in rng.integers(3, size=n)]
    return pd.DataFrame({"pain": rng.normal(size=n), "age": rng.integers(20, 90, size=n), "may": may,
                         "ward": rng.choice(["heart", "lung"], size=n)})


def hospital(n=300):
    "A log of such patients, one visit each"
    frame = patients(n)
    obs, mask = TABLE.observations(frame), TABLE.masks(frame)
    action = np.array([np.flatnonzero(row)[-1] for row in mask])
    reward = np.where(action == 2, frame["pain"], -0.1)
    ends = {"terminated": np.ones(n, bool), "truncated": np.zeros(n, bool)}
    log = ReplayBuffer.from_arrays(obs, action, reward, obs, **ends, n_actions=3,
                                   mask=mask, next_mask=np.ones((n, 3), bool))
    log.table = TABLE
    return log


@pytest.fixture(scope="module")
def doctor():
    log = hospital()
    agent = DiscreteBCQ(log.obs_space, 3, BCQConfig.log(), device="cpu")
    train_offline(agent, log, 100, progress=False)
    return agent


def test_a_table_is_answered_in_its_words(doctor):
    assert doctor.table == TABLE
    frame = patients(50, seed=1)
    obs, mask = TABLE.observations(frame), TABLE.masks(frame)
    answers = doctor.act(frame)
    assert answers.tolist() == [TABLE.actions[a] for a in doctor.act(obs, mask=mask)]
    assert torch.equal(doctor.q_values(frame), doctor.q_values(obs))
    assert torch.equal(doctor.allowed(frame), doctor.allowed(obs, mask))
    assert torch.equal(doctor.probabilities(frame), doctor.probabilities(obs, mask))
    assert torch.equal(doctor.policy(frame, 0.2), doctor.policy(obs, 0.2, mask))
    assert (doctor.act(frame[["may", "ward", "pain", "age"]]) == answers).all()
    assert (doctor.act(frame, mask=np.eye(3)[[0] * 50]) == "none").all()      # a mask that is given counts
    assert set(doctor.act(frame, eps=1.0)) == {"none", "low", "high"}
    assert (doctor.act(obs.astype(np.float64), mask=mask) == doctor.act(obs, mask=mask)).all()


def broken(column, value):
    frame = patients(20)
    frame[column] = frame[column].astype(object)
    frame.loc[17, column] = value
    return frame


@pytest.mark.parametrize("frame, words", [
    (patients(5).drop(columns="age"), "age"),
    (patients(5).rename(columns={"pain": "Pain"}), "pain"),
    (patients(5).drop(columns="may"), "may"),
    (broken("ward", "skin"), "skin"),
    (broken("ward", "skin"), "row 17"),
    (broken("pain", np.nan), "row 17"),
    (broken("age", "old"), "row 17"),
    (broken("may", "000"), "row 17"),
], ids=str)
def test_tables_that_are_refused(doctor, frame, words):
    with pytest.raises(ValueError) as error:
        doctor.act(frame)
    assert words in str(error.value)


def test_a_table_needs_a_log_that_was_one():
    agent = DiscreteBCQ(VECTOR, 3, device="cpu")
    for ask in (agent.act, agent.q_values, agent.allowed, agent.probabilities, agent.policy):
        with pytest.raises(ValueError, match="this agent knows no table"):
            ask(patients(3))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_what_is_no_number_is_refused(value):
    agent = DiscreteBCQ(VECTOR, 3, device="cpu")
    obs = np.zeros((3, 4))
    obs[1, 2] = value
    for given in (obs, torch.from_numpy(obs)):
        for ask in (agent.act, agent.q_values, agent.allowed, agent.probabilities, agent.policy):
            with pytest.raises(ValueError, match="obs holds NaN, infinity or a number too large"):
                ask(given)


@pytest.mark.parametrize("value", [
    np.zeros((2, 4), complex), np.zeros((2, 4), object), np.full((2, 4), "1"), [["1", "2", "3", "4"]] * 2, None,
    pa.table({name: [0.0, 1.0] for name in "abcd"}),   # as wide as an observation, and who knows in which order
    (np.zeros((1, 4), np.float32), {}),                # what `env.reset()` gives
], ids=["complex", "objects", "text", "lists of text", "None", "pyarrow", "reset"])
def test_what_is_no_array_is_refused(value):
    agent = DiscreteBCQ(VECTOR, 4, device="cpu")
    for ask in (agent.act, agent.q_values, agent.allowed, agent.probabilities, agent.policy):
        with pytest.raises(ValueError, match="obs is of type .* and not an array of numbers"):
            ask(value)
    for ask in (agent.act, agent.allowed, agent.probabilities, agent.policy):
        with pytest.raises(ValueError, match="mask is of type .* and not an array of numbers"):
            ask(np.zeros((2, 4)), mask="1111" if value is None else value)


def test_arrays_in_any_layout_are_the_same_numbers():
    agent = DiscreteBCQ(VECTOR, 3, device="cpu")
    obs = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    turned = np.ascontiguousarray(obs[::-1, ::-1])[::-1, ::-1]
    for given in (obs.tolist(), obs.astype(">f4"), turned, np.asfortranarray(obs), torch.from_numpy(obs)):
        assert torch.equal(agent.q_values(given), agent.q_values(obs))


@pytest.mark.parametrize("eps", [-0.1, 1.5, np.nan, None, "0.5"])
def test_eps_is_a_probability(eps):
    with pytest.raises(ValueError, match="eps is .* it must be a number from 0 to 1"):
        DQN(VECTOR, 2, device="cpu").act(np.zeros((1, 4), np.float32), eps)


def test_another_table_is_refused(doctor):
    log = hospital()
    log.table = Table(obs=TABLE.obs, action="dose", actions=("high", "low", "none"), categories=TABLE.categories)
    with pytest.raises(ValueError, match="another table"):
        train_offline(doctor, log, 1, progress=False)
    with pytest.raises(ValueError, match="another table"):
        train_offline(doctor, hospital(), 1, held_out=log, progress=False)
    assert doctor.updates == 100


# The policy

@agents
def test_policies_are_probabilities(kind, config):
    agent = kind(VECTOR, N_ACTIONS, config, device="cpu")
    batch = whole(log_of())
    for mask in (None, batch.mask):
        greedy = agent.act(batch.obs, mask=mask)
        allowed = agent.allowed(batch.obs, mask)
        for softness in (0, 0.25, 1):
            policy = agent.policy(batch.obs, softness, mask)
            np.testing.assert_allclose(policy.sum(1), 1, rtol=1e-6)
            assert (policy[~allowed] == 0).all()
            expected = softness / allowed.sum(1) + (1 - softness)
            np.testing.assert_allclose(policy[np.arange(200), greedy], expected, rtol=1e-6)
        assert torch.equal(agent.policy(batch.obs, 0, mask).argmax(1), torch.from_numpy(greedy))


@pytest.mark.parametrize("softness", [-0.1, 1.1, np.nan, None])
def test_softness(softness):
    with pytest.raises(ValueError, match="softness is .* it must be a number from 0 to 1"):
        DQN(VECTOR, 2, device="cpu").policy(np.zeros((1, 4), np.float32), softness)


# Files

def test_scales_and_table_are_in_the_file(doctor, tmp_path):
    path = tmp_path / "doctor.safetensors"
    doctor.save(path)
    back = DQN.load(path, device="cpu")
    assert type(back) is DiscreteBCQ and back.table == TABLE and same_bits(back, doctor)
    assert {"network.value_scale", "network.encoder.mean", "target.encoder.scale"} < back.state_dict().keys()
    frame = patients(50, seed=1)
    assert torch.equal(back.q_values(frame), doctor.q_values(frame)) and (back.act(frame) == doctor.act(frame)).all()
    for agent in (back, doctor):
        agent.update(whole(hospital()))
    assert same_bits(back, doctor)
    fresh = DQN(VECTOR, 2, device="cpu")
    fresh.save(path)
    assert DQN.load(path).table is None


def test_a_file_of_the_version_before_is_refused_by_name(tmp_path):
    path = tmp_path / "old.safetensors"
    DQN(VECTOR, 2, device="cpu").save(path)
    header, tensors = load_tensors(path, KIND)
    for name in ("kind", "table"):
        del header[name]
    names = [name for name in tensors if not name.endswith(("mean", "scale"))]
    save_tensors(path, header, {name: tensors[name] for name in names})
    with pytest.raises(ValueError, match="earlier version") as error:
        DQN.load(path)
    assert str(path) in str(error.value) and "make it again" in str(error.value)


# Held-out transitions

def test_the_loss_on_held_out_transitions():
    log = log_of()
    unseen = ReplayBuffer.from_arrays(**columns_of(seed=1), n_actions=N_ACTIONS)
    for kind, config in AGENTS:
        one, other = (kind(VECTOR, N_ACTIONS, config, device="cpu") for _ in range(2))
        rows = train_offline(one, log, 30, eval_every=10, held_out=unseen, progress=False)
        train_offline(other, log, 30, eval_every=10, progress=False)
        assert same_bits(one, other)                                    # nothing is learned from them
        own = [name for name in other.history[0] if name != "step"]
        assert list(rows[0]) == ["step", *own, *(f"held_out_{name}" for name in own)]
        _, metrics = one.loss(whole(unseen))
        assert rows[-1]["held_out_loss"] == metrics["loss"].item()
        assert json.dumps(rows)


def test_held_out_is_a_fixed_sample():
    n = 5_000
    log = ReplayBuffer.from_arrays(**columns_of(n), n_actions=N_ACTIONS)
    agent = DiscreteBCQ(VECTOR, N_ACTIONS, BCQConfig(lr=1e-12, target_rate=1e-9), device="cpu")
    rows = train_offline(agent, log, 6, eval_every=2, held_out=log, progress=False)
    assert len({round(row["held_out_loss"], 5) for row in rows}) == 1
    assert rows[0]["held_out_loss"] != agent.loss(whole(log))[0].item()  # 4,096 of 5,000


def test_held_out_of_another_kind_is_refused():
    log, other = log_of(), one_step_log()[0]
    agent = DiscreteBCQ(VECTOR, N_ACTIONS, device="cpu")
    with pytest.raises(ValueError, match="make the agent with buffer.obs_space"):
        train_offline(agent, log, 1, held_out=other, progress=False)
    with pytest.raises(ValueError, match="held_out is empty"):
        train_offline(agent, log, 1, held_out=ReplayBuffer(8, VECTOR, N_ACTIONS), progress=False)
    assert agent.updates == 0


def test_cross_entropy_over_existing_actions_has_no_nan():
    logits = torch.randn(4, 3, requires_grad=True)
    mask = torch.tensor([[True, False, False]] * 4)
    loss = F.cross_entropy(logits.where(mask, -torch.inf), torch.zeros(4, dtype=torch.int64))
    assert loss == 0
    assert torch.autograd.grad(loss, logits)[0].abs().max() == 0


def test_a_batch_on_its_way_keeps_its_masks():
    batch = whole(log_of()).to("cpu")
    assert batch.mask.dtype == torch.bool and isinstance(batch, Batch)
