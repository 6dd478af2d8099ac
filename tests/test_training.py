"""Training: what goes into the buffer, and that no spoiled network comes out, whatever the data and the settings."""
import math

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from bcq_nb.bcq import BCQConfig, DiscreteBCQ, allowed_actions, train_offline
from bcq_nb.buffers import ReplayBuffer
from bcq_nb.checks import refuses
from bcq_nb.dqn import DQN, DQNConfig, train_behavioral
from bcq_nb.fqe import FQE, FQEConfig, fit_q
from bcq_nb.guard import LOOK, check_alive, learn
from bcq_nb.imitation import Imitation, imitate
from bcq_nb.reports import Reports, history_row
from bcq_nb.training import Exploration


@pytest.mark.parametrize("n_envs", [1, 3])
def test_episodes_are_stored_from_their_first_observation(tmp_path, n_envs):
    config = DQNConfig(hidden=(8,), batch_size=8)
    train_behavioral("CartPole-v1", 300, config, Exploration(warmup=60, n_envs=n_envs), eval_episodes=1, progress=False,
                     replay=tmp_path / "replay.npz")
    episodes = list(ReplayBuffer.load(tmp_path / "replay.npz"))
    assert len(episodes) > 5
    for episode in episodes:
        assert episode.obs[0].abs().max() <= 0.05          # where CartPole begins
        assert (episode.next_obs[:-1] == episode.obs[1:]).all()
    assert sum(episode.terminated.sum().item() for episode in episodes) >= len(episodes) - n_envs


# Data and settings that spoil a network

N = 400


def log_of(obs=1.0, reward=1.0, ends=0.1, n_actions=2):
    "A log whose numbers are about so large"
    rng = np.random.default_rng(0)
    seen = (obs * rng.uniform(-1, 1, (N + 1, 3))).astype(np.float32)
    over = rng.random(N) < ends
    cut = np.arange(N) == N - 1
    action = rng.integers(n_actions, size=N)
    rewards = (reward * rng.uniform(-1, 1, N)).astype(np.float32)
    return ReplayBuffer.from_arrays(seen[:-1], action, rewards, seen[1:], over, cut & ~over, n_actions)


def spoiled(column, value, share=1 / N, **numbers):
    "A log with a value written over some entries of a column, by hand"
    log = log_of(**numbers)
    kept = {"obs": log.store.obs, "next_obs": log.store.next_obs}.get(column, getattr(log, column, None))
    kept[np.random.default_rng(1).random(N) < share if share < 1 else slice(None)] = value
    kept[7] = value
    return log


DATA = {
    "sound": log_of,
    "observations of 1e20": lambda: log_of(obs=1e20),
    "observations of 1e30": lambda: log_of(obs=1e30),
    "rewards of 1e30": lambda: log_of(reward=1e30),
    "rewards of 1e38": lambda: log_of(reward=1e38),
    "a reward of 1e38": lambda: spoiled("reward", 1e38),
    "a reward is NaN": lambda: spoiled("reward", math.nan),
    "a reward is infinite": lambda: spoiled("reward", math.inf),
    "all rewards are NaN": lambda: spoiled("reward", math.nan, 1),
    "an observation is NaN": lambda: spoiled("obs", math.nan),
    "a next observation is NaN": lambda: spoiled("next_obs", math.nan),
    "an observation is infinite": lambda: spoiled("obs", -math.inf),
    "terminated is NaN": lambda: spoiled("terminated", math.nan),
    "an action of 5": lambda: spoiled("action", 5),
    "an action of -100": lambda: spoiled("action", -100),
    "constant observations": lambda: log_of(obs=0.0),
    "all terminal": lambda: log_of(ends=1.1),
    "never terminal": lambda: log_of(ends=-1),
    "one action": lambda: log_of(n_actions=1),
}
SETTINGS = {
    "sound": {},
    "lr 10": {"lr": 10.0},
    "lr 1e30": {"lr": 1e30},
    "adam_eps 1e-300": {"adam_eps": 1e-300},
    "logit_penalty 1e30": {"logit_penalty": 1e30},
    "target_rate 1": {"target_rate": 1.0},
    "no discount": {"discount": 1.0},
    "scaled": {"standardize": True, "scale_reward": True, "clip_target": True},
}
CASES = [(data, "sound") for data in DATA] + [("sound", settings) for settings in SETTINGS]
CASES += [(data, "scaled") for data in DATA] + [("never terminal", "no discount"), ("rewards of 1e30", "no discount")]


def train(kind, log, settings, updates=50):
    config = {"hidden": (16,), "batch_size": 32, **settings}
    if kind is not DiscreteBCQ:
        config.pop("logit_penalty", None)
    make = BCQConfig if kind is DiscreteBCQ else DQNConfig
    agent = kind(log.obs_space, log.n_actions, make(**config), device="cpu")
    rows = train_offline(agent, log, updates, progress=False)
    return agent, rows


def is_sound(agent, rows):
    "Whether all that a training gave is finite"
    state = all(value.isfinite().all() for value in agent.state_dict().values())
    return state and all(math.isfinite(value) for row in rows for value in row.values())


@pytest.mark.filterwarnings("ignore:.*believes values")
@pytest.mark.parametrize("kind", [DQN, DiscreteBCQ])
@pytest.mark.parametrize("data, settings", CASES)
def test_training_gives_a_sound_agent_or_an_error(kind, data, settings):
    log = DATA[data]()
    try:
        agent, rows = train(kind, log, SETTINGS[settings])
    except (ValueError, FloatingPointError) as error:
        assert len(str(error)) > 40 and "\n" not in str(error)
    else:
        assert is_sound(agent, rows)
        assert agent.act(np.ones((1, 3), np.float32)).shape == (1,)


@pytest.mark.parametrize("data, settings, words", [
    ("sound", "lr 1e30", "lower lr (1e+30)"),
    ("sound", "adam_eps 1e-300", "raise adam_eps (1e-300)"),
    ("sound", "logit_penalty 1e30", "lower logit_penalty (1e+30)"),
    ("observations of 1e30", "sound", "divide the observations, which reach 1e+30, or set standardize=True"),
    ("rewards of 1e38", "sound", "divide the rewards"),
    ("a reward is NaN", "sound", "reward is NaN or infinite in 1 of 400"),
    ("an observation is NaN", "sound", "obs is NaN or infinite in 1 of 400"),
    ("terminated is NaN", "sound", "terminated is NaN or infinite in 1 of 400"),
    ("an action of 5", "sound", "an action is 5 in the batch"),
])
def test_the_error_tells_what_to_do(data, settings, words):
    with refuses((ValueError, FloatingPointError), words):
        train(DiscreteBCQ, DATA[data](), SETTINGS[settings])


def test_a_spoiled_agent_does_not_act():
    log = log_of()
    for kind in (DQN, DiscreteBCQ, Imitation):
        make = DQNConfig if kind is DQN else BCQConfig
        agent = kind(log.obs_space, 2, make(hidden=(8,), lr=1e30), device="cpu")
        with pytest.raises(FloatingPointError):
            train_offline(agent, log, 50, progress=False)
        for ask in (agent.act, agent.q_values, agent.allowed, agent.policy):
            with refuses(FloatingPointError, "cannot go on"):
                ask(np.ones((1, 3), np.float32))


def test_the_error_tells_the_update():
    log = log_of()
    agent = DQN(log.obs_space, 2, DQNConfig(hidden=(8,), batch_size=N), device="cpu")
    log_rng = np.random.default_rng(0)
    learn(agent, log, 130, log_rng)
    log.reward[:] = math.nan
    with refuses(FloatingPointError, "loss is nan at update 131:"):
        learn(agent, log, 250, log_rng)
    assert agent.updates == 130 + LOOK                     # noticed so many updates later at most


@pytest.mark.parametrize("data", ["observations of 1e30", "a reward is NaN", "an observation is NaN",
                                  "rewards of 1e38"])
def test_evaluation_and_imitation_stop_too(data):
    log = DATA[data]()
    config = FQEConfig(hidden=(8,), batch_size=64, standardize=False, scale_reward=False, clip_target=False)

    def policy(obs, mask=None):
        return torch.full((len(obs), 2), 0.5)

    with pytest.raises((ValueError, FloatingPointError), match="reward|obs"):
        fit_q(policy, log, 0.9, config, updates=100, device="cpu")
    if "reward" not in data:                               # an imitation does not look at rewards
        with pytest.raises((ValueError, FloatingPointError), match="obs"):
            imitate(log, BCQConfig(hidden=(8,)), updates=200, device="cpu")


def test_online_training_stops_too():
    settings = {"exploration": Exploration(warmup=64), "eval_episodes": 1, "progress": False, "device": "cpu"}
    with refuses(FloatingPointError, "DQN cannot go on"):
        train_behavioral("CartPole-v1", 400, DQNConfig(lr=1e30), **settings)


def test_held_out_transitions_are_looked_at():
    log = log_of()
    agent = DiscreteBCQ(log.obs_space, 2, BCQConfig(hidden=(8,)), device="cpu")
    for column in ("obs", "next_obs", "terminated", "reward"):
        with refuses(ValueError, f"{column} is NaN or infinite in 1 of 400"):
            train_offline(agent, log, 10, held_out=spoiled(column, math.nan), progress=False)
    assert agent.updates == 0


def test_check_alive_looks_at_everything():
    log = log_of()
    for name in ("network.q.0.weight", "target.q.0.bias", "optimizer.q.2.bias.exp_avg",
                 "optimizer.imitation.2.weight.exp_avg_sq", "optimizer.q.0.weight.step"):
        agent = DiscreteBCQ(log.obs_space, 2, BCQConfig(hidden=(8,)), device="cpu")
        learn(agent, log, 2, np.random.default_rng(0))
        check_alive(agent, log)
        agent.state_dict()[name].view(-1)[-1] = math.inf
        with refuses(FloatingPointError, f"{name} is NaN or infinite after update 2"):
            check_alive(agent, log)


def test_rows_are_those_of_a_list_of_reports():
    "Bit for bit, however many updates, and whenever the table is read"
    rng = np.random.default_rng(0)
    for n in (1, 99, 100, 101, 1_234):
        reports, listed = Reports(), []
        for i in range(n):
            loss, low, high = torch.from_numpy(rng.normal(size=3)).float()
            report = {"loss": loss, "q_min": low, "q_max": high}
            listed.append(report)
            reports.add(report)
            if i % LOOK == LOOK - 1 or rng.random() < 0.01:
                reports.fold()
            if rng.random() < 0.01:
                reports.table()

        def expected(part):
            columns = {name: torch.stack([report[name] for report in part]) for name in part[0]}
            return {"loss": columns["loss"].mean().item(), "q_min": columns["q_min"].min().item(),
                    "q_max": columns["q_max"].max().item()}

        assert len(reports) == n and reports.row() == expected(listed)
        assert reports.row(last=100) == expected(listed[-100:])
        assert history_row(n, reports) == {"step": n, **expected(listed)}
        again = Reports()
        again.restore(reports.names, reports.table())
        assert again.row() == reports.row()
        reports.clear()
        assert len(reports) == 0 and reports.row() == {}


@pytest.mark.parametrize("threshold", [0, 0.3, 1])
def test_something_is_always_allowed(threshold):
    "Whatever the logits; and of the actions that exist only"
    extremes = torch.tensor([0.0, -1.0, 3e38, -3e38, torch.inf, -torch.inf, torch.nan])
    rows = torch.cartesian_prod(extremes, extremes, extremes)
    masks = torch.cartesian_prod(*[torch.tensor([False, True])] * 3)[1:]
    assert allowed_actions(rows, threshold).any(1).all()
    for mask in masks:
        allowed = allowed_actions(rows, threshold, mask.expand(len(rows), 3))
        assert allowed.any(1).all() and not allowed[:, ~mask].any()
    tied = torch.tensor([[2.0, 2.0, 1.0], [torch.inf, torch.inf, 0.0], [torch.nan, 1.0, 1.0]])
    likeliest = [[True, True, False], [True, True, False], [False, True, True]]
    assert allowed_actions(tied, 1).tolist() == likeliest


def test_imitation_is_an_agent_as_well():
    log = log_of()
    agent = Imitation(log.obs_space, 2, BCQConfig(hidden=(8,), lr=1e30), device="cpu")
    with refuses(FloatingPointError, "Imitation cannot go on"):
        train_offline(agent, log, 200, progress=False)
    model = FQE(lambda obs, mask=None: torch.full((len(obs), 2), 0.5), log.obs_space, 2,
                FQEConfig(hidden=(8,), lr=1e30, batch_size=64, clip_target=False), device="cpu")
    with refuses(FloatingPointError, "FQE cannot go on"):
        learn(model, log, 200, np.random.default_rng(0))


@pytest.mark.parametrize(("shape", "threads"), [((4,), 1), ((4, 84, 84), 2)])
def test_small_networks_compute_with_one_thread(shape, threads):
    seen = []

    class Watched(DQN):
        def loss(self, batch):
            seen.append(torch.get_num_threads())
            return super().loss(batch)

        def greedy(self, obs, mask=None):
            seen.append(torch.get_num_threads())
            return super().greedy(obs, mask)

    space = Box(0, 255, shape, np.uint8)
    agent = Watched(space, 2, DQNConfig(hidden=(8,), batch_size=1), device="cpu")
    obs = np.zeros((1, *shape), np.uint8)
    batch = ReplayBuffer(2, space, 2)
    batch.add(obs, [0], [1.0], obs, [False], [False])
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        learn(agent, batch, 1, np.random.default_rng(0))
        agent.act(obs)
        assert seen == [threads, threads] and torch.get_num_threads() == 2
        with pytest.raises(ValueError):
            agent.act(obs[0])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
