"""What `bcq_nb.dqn`, `training` and `checkpoints` refuse, and what the error says; and what a training warns of."""
import math
import warnings

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from safetensors.torch import save_file

from bcq_nb.agents import pick_device
from bcq_nb.buffers import Batch, ReplayBuffer
from bcq_nb.checkpoints import KIND
from bcq_nb.dqn import DQN, DoubleDQN, DQNConfig, train_behavioral
from bcq_nb.evaluation import evaluate
from bcq_nb.training import Exploration, value_bounds, watch_bounds
from bcq_nb.weights import load_tensors, save_tensors

vector = Box(-np.inf, np.inf, (4,), np.float32)


def some_batch(size=4):
    obs = torch.ones(size, 4)
    return Batch(obs, torch.zeros(size, dtype=torch.int64), torch.ones(size), obs, torch.zeros(size))


def same_bits(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(("name", "value", "words"), [
    ("discount", 1.01, "from 0 to 1"),
    ("discount", float("nan"), "from 0 to 1"),
    ("batch_size", 0, "an integer from 1"),
    ("batch_size", 2.5, "an integer from 1"),
    ("lr", float("nan"), "above 0"),
    ("lr", math.inf, "above 0"),
    ("lr", 0, "above 0"),
    ("adam_eps", 0, "above 0"),
    ("target_rate", 0, "above 0"),
    ("target_rate", 1.5, "above 0 and at most 1"),
    ("target_every", 0, "an integer from 1"),
    ("hidden", (256, 0), "hidden is (256, 0): it must be a tuple with an integer from 1"),
])
def test_settings(name, value, words):
    with pytest.raises(ValueError) as error:
        DQNConfig(**{name: value})
    assert name in str(error.value) and words in str(error.value)


@pytest.mark.parametrize(("name", "value", "words"), [
    ("eps_start", 1.2, "it must be a number from 0 to 1"),
    ("eps_end", -0.1, "it must be a number from 0 to 1"),
    ("warmup", 0, "an integer from 1"),
    ("train_every", 0, "an integer from 1"),
    ("eps_updates", 0, "an integer from 1"),
    ("capacity", True, "an integer from 1"),
    ("n_envs", 2.5, "an integer from 1"),
])
def test_exploration(name, value, words):
    with pytest.raises(ValueError) as error:
        Exploration(**{name: value})
    assert name in str(error.value) and words in str(error.value)


@pytest.mark.parametrize(("make", "words"), [
    (lambda: DQN(vector, 2, Exploration()), "an Exploration): it must be a DQNConfig"),
    (lambda: DQN(vector, 2, device="abacus"), "'cpu' always is"),
    (lambda: pick_device("cuda:99"), "which is not here"),
    (lambda: DQN(vector, 0), "n_actions"),
    (lambda: DQN(Box(0, 1, (2, 3)), 2), "obs_space"),
    (lambda: DQN(vector, 2).act(np.zeros(4, np.float32)), "with a batch axis in front"),
    (lambda: DQN(vector, 2).q_values(np.zeros((1, 3), np.float32)), "(1, 3)"),
    (lambda: DQN(vector, 2, DQNConfig(clip_target=True)).update(some_batch()), "clip_target needs to know"),
])
def test_agents(make, words):
    with pytest.raises(ValueError) as error:
        make()
    assert words in str(error.value)


def test_another_networks_weights_change_nothing():
    small, large = DQN(vector, 2, DQNConfig(hidden=(8,))), DQN(vector, 2)
    large.update(some_batch())
    before = {name: value.clone() for name, value in small.state_dict().items()}
    with pytest.raises(ValueError, match="another network's weights"):
        small.load_state_dict(large.state_dict())
    assert same_bits(small.state_dict(), before)


def test_files(tmp_path):
    good, plain = tmp_path / "agent.safetensors", tmp_path / "dqn.safetensors"
    DoubleDQN(vector, 2).save(good)
    DQN(vector, 2).save(plain)
    (tmp_path / "truncated").write_bytes(good.read_bytes()[:-1000])
    (tmp_path / "text").write_text("no weights")
    torch.save({"weights": torch.zeros(3)}, tmp_path / "pickle.pt")
    save_file({"weights": torch.zeros(3)}, tmp_path / "foreign.safetensors")
    for name in ("truncated", "text", "pickle.pt", "foreign.safetensors"):
        with pytest.raises(ValueError, match="is not an agent that this package saved, or it is damaged"):
            DoubleDQN.load(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="check the path"):
        DoubleDQN.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds a DQN, which is no DoubleDQN"):
        DoubleDQN.load(plain)
    with pytest.raises(ValueError, match="'abacus'"):
        DQN.load(good, device="abacus")
    assert type(DQN.load(good)) is DoubleDQN


@pytest.mark.parametrize(("change", "words"), [
    ({"class": "Stranger"}, "import the module that defines it first"),
    ({"config": {"colour": "blue"}}, "damaged"),
    ({"config": {"discount": 7}}, "damaged"),
    ({"obs_space": {}}, "damaged"),
    ({"n_actions": None}, "damaged"),
    ({"n_actions": 3}, "another network's weights"),
    ({"rng": {}}, "damaged"),
    ({"class": ["DQN"]}, "header.class is"),
    ({"class": None}, "header.class is"),
    ({"config": []}, "header.config is"),
    ({"config": {"hidden": 8}}, "damaged"),
    ({"config": {"standardize": "yes"}}, "standardize is 'yes': it must be True or False"),
    ({"obs_space": "Box"}, "header.obs_space is 'Box'"),
    ({"n_actions": True}, "n_actions is True"),
    ({"n_actions": 2.0}, "header.n_actions is 2.0"),
    ({"n_actions": 0}, "n_actions is 0"),
    ({"updates": -1}, "updates is -1"),
    ({"updates": "many"}, "header.updates is 'many'"),
    ({"history": "long"}, "header.history is 'long'"),
    ({"bounds": 3}, "header.bounds is 3"),
    ({"bounds": [1]}, "damaged"),
    ({"bounds": ["low", "high"]}, "damaged"),
    ({"table": ["age"]}, "header.table is ['age']"),
    ({"table": {"obs": ["age"]}}, "damaged"),
    ({"kind": "buffer 3"}, "it holds 'buffer 3', and 'agent 3' was asked for"),
    ({"kind": "agent 4"}, "it holds agent 4, written by a later version of bcq_nb: upgrade"),
    ({"kind": "agent 2"}, "it holds agent 2, of an earlier version of bcq_nb"),
    ({"history": [1]}, "header.history[0]"),
    ({"history": [{"loss": float("nan")}]}, "header.history[0]"),
    ({"bounds": [2, 1]}, "bounds are [2, 1]"),
    ({"masked": 1}, "header.masked is 1"),
    ({"progress": 1}, "header.progress is 1"),
    ({"config": {"hidden": [10**8, 10**8]}}, "another network's weights"),
    ({"updates": None}, None),
])
def test_headers(change, words, tmp_path):
    path = tmp_path / "agent.safetensors"
    DQN(vector, 2).save(path)
    header, tensors = load_tensors(path, KIND)
    if words is None:
        del header["updates"]
        words = "header has no 'updates'"
    else:
        header |= change
    save_tensors(path, header, tensors)
    with pytest.raises(ValueError) as error:
        DQN.load(path)
    assert words in str(error.value)
    assert str(path) in str(error.value) or change == {"class": "Stranger"}


@pytest.mark.parametrize("space,config", [
    (vector, DQNConfig()),
    (Box(0, 255, (2, 36, 36), np.uint8), DQNConfig.atari(target_every=3, batch_size=4)),
])
def test_a_file_in_the_middle_changes_nothing(space, config, tmp_path):
    "The same bits with and without it: networks, moments, exploration, bounds, history"
    def batches(first, last):
        for seed in range(first, last):
            rng = np.random.default_rng(seed)
            obs = torch.from_numpy(rng.integers(0, 200, (8, *space.shape)).astype(space.dtype))
            yield Batch(obs, torch.from_numpy(rng.integers(2, size=8)), torch.ones(8), obs.flip(0), torch.zeros(8))
    straight, halfway = DoubleDQN(space, 2, config), DoubleDQN(space, 2, config)
    for agent in (straight, halfway):
        for batch in batches(0, 5):
            agent.update(batch)
        agent.act(batch.obs, eps=0.5)
        agent.bounds = (-math.inf, 2.5)
        agent.history.append({"step": 5, "q": 1.0})
    halfway.save(tmp_path / "agent.safetensors")
    resumed = DoubleDQN.load(tmp_path / "agent.safetensors")
    for agent in (straight, resumed):
        for batch in batches(5, 10):
            agent.update(batch)
    assert same_bits(resumed.state_dict(), straight.state_dict())
    assert not same_bits(resumed.state_dict(), halfway.state_dict())
    assert resumed.updates == 10 and resumed.bounds == (-math.inf, 2.5)
    assert resumed.history == straight.history and resumed.config == config
    for _ in range(10):
        assert (resumed.act(batch.obs, eps=0.5) == straight.act(batch.obs, eps=0.5)).all()


@pytest.mark.parametrize(("settings", "words"), [
    (dict(steps=0), "steps is 0: it must be an integer from 1"),
    (dict(steps=900), "nothing would be learned"),
    (dict(steps=900, exploration=Exploration(warmup=32)), "warmup is 32, below the batch_size of 64"),
    (dict(steps=900, exploration=Exploration(warmup=100, capacity=10)), "capacity is 10, below the batch_size of 64"),
    (dict(steps=2_000, config=Exploration()), "an Exploration): it must be a DQNConfig"),
    (dict(steps=2_000, exploration=DQNConfig()), "a DQNConfig): it must be an Exploration"),
    (dict(steps=2_000, eval_every=0), "eval_every is 0: it must be an integer from 1"),
    (dict(steps=2_000, eval_episodes=0), "eval_episodes is 0: it must be an integer from 1"),
    (dict(steps=2_000, env_id="CartPole-v7"), "did you mean CartPole-v1"),
    (dict(steps=2_000, env_id="Pendulum-v1"), "discrete BCQ takes Discrete(n)"),
])
def test_training(settings, words):
    with pytest.raises(ValueError) as error:
        train_behavioral(**{"env_id": "CartPole-v1", **settings})
    assert words in str(error.value)


def test_another_environment():
    with pytest.raises(ValueError, match="load the agent that was trained on it"):
        evaluate(DQN(vector, 2), "Acrobot-v1")


def small_buffer(rewards):
    buffer = ReplayBuffer(max(len(rewards), 1), Box(0, 1, (1,), np.float32), 2)
    zero = np.zeros((1, 1), np.float32)
    for reward in rewards:
        buffer.add(zero, [0], [reward], zero, [False], [False])
    return buffer


def test_bounds_need_rewards():
    with pytest.raises(ValueError, match="the buffer is empty"):
        value_bounds(small_buffer([]), 0.9)
    with pytest.raises(ValueError, match="discount"):
        value_bounds(small_buffer([1]), 1.5)


@pytest.mark.parametrize(("rewards", "discount", "expected"), [
    ([1, 2], 0.5, (1, 4)), ([-1, -2], 0.5, (-4, -1)), ([-1, 2], 0.5, (-2, 4)), ([0], 0.5, (0, 0)),
    ([1, 2], 1.0, (1, math.inf)), ([-1, -2], 1.0, (-math.inf, -1)), ([-1, 2], 1.0, (-math.inf, math.inf)),
    ([0], 1.0, (0, 0)),
])
def test_bounds(rewards, discount, expected):
    assert value_bounds(small_buffer(rewards), discount) == expected


def test_bounds_forget_what_the_buffer_forgot():
    buffer = ReplayBuffer(2, Box(0, 1, (1,), np.float32), 2)
    zero = np.zeros((1, 1), np.float32)
    for reward in (50, 1, 2):
        buffer.add(zero, [0], [reward], zero, [False], [False])
    assert value_bounds(buffer, 0.5) == (1, 4)


def test_clipped_targets_are_within():
    agent = DQN(vector, 2, DQNConfig(clip_target=True))
    agent.bounds = (-0.5, 0.25)
    y = agent.td_target(some_batch()._replace(reward=torch.tensor([-9.0, 0.0, 0.1, 9.0])))
    assert y[0] == -0.5 and y[3] == 0.25 and ((y >= -0.5) & (y <= 0.25)).all()


@pytest.mark.parametrize(("low", "high"), [(-3.0, 3.0), (-math.inf, 3.0), (-3.0, math.inf)])
def test_watching(low, high):
    agent = DQN(vector, 2)
    assert not watch_bounds(agent, {"q_min": -1e9, "q_max": 1e9})    # nothing is known yet
    agent.bounds = (low, high)
    assert not watch_bounds(agent, {"step": 1})                      # nothing has been learned yet
    assert not watch_bounds(agent, {"q_min": -3.0, "q_max": 3.0})
    outside = {"q_min": -10.0, "q_max": 10.0}
    if math.isinf(low) or math.isinf(high):
        return
    with pytest.warns(UserWarning, match="believes values from -10 to 10"):
        assert watch_bounds(agent, outside)


def test_a_value_that_is_no_number_is_outside():
    agent = DQN(vector, 2)
    agent.bounds = (-3.0, 3.0)
    with pytest.warns(UserWarning, match="believes values from nan"):
        assert watch_bounds(agent, {"q_min": math.nan, "q_max": math.nan})


def test_one_warning_in_a_training():
    "Settings with which values run away online: one line, although several rows lie outside"
    plan = Exploration(warmup=300, n_envs=4, train_every=3, eps_start=0.5, eps_updates=200)
    config = DQNConfig(target_rate=1.0, target_every=10)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        agent = train_behavioral("CartPole-v1", 2_000, config, plan, seed=4,
                                 eval_every=400, eval_episodes=1, progress=False)
    outside = [row for row in agent.history if row.get("q_max", 0) > 1.1 * agent.bounds[1]]
    assert len(outside) >= 2
    assert [str(w.message).startswith("DQN believes values") for w in caught].count(True) == 1


def test_clip_target_keeps_them_back():
    plan = Exploration(warmup=300, n_envs=4, train_every=3, eps_start=0.5, eps_updates=200)
    config = DQNConfig(target_rate=1.0, target_every=10, clip_target=True)
    agent = train_behavioral("CartPole-v1", 2_000, config, plan, seed=4,
                             eval_every=2_000, eval_episodes=1, progress=False)
    assert agent.history[-1]["q_max"] < 2 * agent.bounds[1]
