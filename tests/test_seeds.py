"""Agents that learn together are those that learn in turn: classes, settings, masks, histories, and what goes wrong."""
import importlib.util
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from bcq_nb.bcq import BCQConfig, DiscreteBCQ, train_offline
from bcq_nb.buffers import ReplayBuffer
from bcq_nb.checks import refuses
from bcq_nb.dqn import DQN, DoubleDQN, DQNConfig
from bcq_nb.seeds import train_seeds

root = Path(__file__).resolve().parents[1]
N = 300
SMALL = {"hidden": (16, 16), "batch_size": 32}


def log_of(masked=False, reward=1.0):
    "A log of random numbers"
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(N + 1, 5)).astype(np.float32)
    ends = rng.random(N) < 0.1
    action = rng.integers(3, size=N)
    columns = {"obs": seen[:-1], "action": action, "reward": reward * rng.normal(size=N), "next_obs": seen[1:],
               "terminated": ends, "truncated": (np.arange(N) == N - 1) & ~ends}
    if masked:
        exists = rng.random((N + 1, 3)) < 0.7
        exists[np.arange(N), action] = True
        exists[N, 0] = True
        columns |= {"mask": exists[:-1], "next_mask": exists[1:]}
    return ReplayBuffer.from_arrays(**columns, n_actions=3)


LOG = log_of()


def agents_of(n=3, kind=DiscreteBCQ, buffer=LOG, double=False, **settings):
    "New ones"
    config = kind.make_config(**{**SMALL, **settings})
    agents = [kind(buffer.obs_space, buffer.n_actions, config, seed=k, device="cpu") for k in range(n)]
    for agent in agents if double else []:
        agent.network.double()
        agent.target.double()
    return agents


def both_ways(steps, buffer=LOG, seeds=(0, 1, 2), together=None, **given):
    "Agents that have learned together, and the same in turn"
    pair = agents_of(buffer=buffer, **given), agents_of(buffer=buffer, **given)
    train_seeds(pair[0], buffer, steps, seeds=list(seeds), eval_every=25, progress=False, **together or {})
    for agent, seed in zip(pair[1], seeds, strict=True):
        train_offline(agent, buffer, steps, seed=seed, eval_every=25, progress=False)
    return pair


def assert_same(together, alone, rtol, atol=0.0):
    for agent, other in zip(together, alone, strict=True):
        assert agent.updates == other.updates and agent.bounds == other.bounds and agent.masked == other.masked
        state, expected = agent.state_dict(), other.state_dict()
        assert state.keys() == expected.keys()
        for name, value in state.items():
            np.testing.assert_allclose(value, expected[name], rtol, atol, err_msg=name)
        for row, same in zip(agent.history, other.history, strict=True):
            assert row.keys() == same.keys()
            np.testing.assert_allclose(list(row.values()), list(same.values()), rtol, atol)


@pytest.mark.parametrize(("kind", "settings"), [
    (DQN, {}), (DoubleDQN, {}), (DiscreteBCQ, {}), (DiscreteBCQ, {"hidden": ()}),
    (DiscreteBCQ, {"standardize": True, "scale_reward": True, "clip_target": True, "clip_reward": True}),
    (DQN, {"target_every": 7, "target_rate": 1.0, "discount": 0.5}),
], ids=["DQN", "DoubleDQN", "BCQ", "no layers between", "scaled", "copied targets"])
def test_together_is_in_turn(kind, settings):
    "In double precision, whatever the settings: 60 updates, rows of history at 25, 50 and 60"
    together, alone = both_ways(60, kind=kind, double=True, **settings)
    assert [row["step"] for row in together[2].history] == [25, 50, 60]
    assert_same(together, alone, rtol=1e-9, atol=1e-12)


def test_the_masks_are_kept_to():
    together, alone = both_ways(40, log_of(masked=True), double=True)
    assert all(agent.masked for agent in together)
    assert_same(together, alone, rtol=1e-9, atol=1e-12)


def test_in_single_precision():
    "A few updates: rounding is another, and grows"
    together, alone = both_ways(5)
    assert_same(together, alone, rtol=1e-5, atol=1e-6)


def test_in_sixteen_bits():
    together, alone = both_ways(3, bfloat16=True)
    assert_same(together, alone, rtol=0.05, atol=1e-3)


def test_more_updates_than_are_drawn_at_once():
    "With seeds that are not 0, 1, 2"
    together, alone = both_ways(130, seeds=(7, 3, 5), double=True)
    assert_same(together, alone, rtol=1e-7, atol=1e-10)


def test_one_agent_is_a_stack_too():
    together, alone = both_ways(10, seeds=(4,), n=1, double=True)
    assert_same(together, alone, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_compiled():
    together, alone = both_ways(30, together={"compiled": True}, double=True)
    assert_same(together, alone, rtol=1e-9, atol=1e-12)


def test_they_are_agents_as_others(tmp_path):
    "Each has its own memory, can be saved, and goes on alone as one that was alone"
    together, alone = both_ways(20, double=False)
    state = {name: value.clone() for name, value in together[1].state_dict().items()}
    train_offline(together[0], LOG, 3, progress=False)
    train_offline(alone[0], LOG, 3, progress=False)
    assert_same(together[:1], alone[:1], rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, state[name]) for name, value in together[1].state_dict().items())
    together[1].save(tmp_path / "agent.safetensors")
    loaded = DiscreteBCQ.load(tmp_path / "agent.safetensors")
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())


def test_they_are_evaluated():
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(41, 4)).astype(np.float32)
    batch = ReplayBuffer.from_arrays(seen[:-1], rng.integers(2, size=40), np.ones(40), seen[1:], np.arange(40) % 9 == 8,
                                     np.zeros(40, bool))
    together, alone = (agents_of(2, buffer=batch) for _ in range(2))
    given = {"eval_env": "CartPole-v1", "eval_every": 4, "eval_episodes": 2, "eval_eps": 0.5, "progress": False}
    rows = train_seeds(together, batch, 6, **given)
    in_turn = [train_offline(agent, batch, 6, seed=seed, **given) for seed, agent in enumerate(alone)]
    assert [[row["return"] for row in own] for own in rows] == [[row["return"] for row in own] for own in in_turn]


def test_a_spoiled_agent_stops_all():
    "Rewards so large that the loss is infinite at once"
    agents = agents_of(lr=1e30)
    with pytest.raises(FloatingPointError, match="at update .*lower lr"):
        train_seeds(agents, LOG, 50, progress=False)
    assert any(agent.spoiled for agent in agents)
    assert all(agent.updates == 50 for agent in agents)


def test_a_signal_hands_back_what_there_is(monkeypatch):
    agents = agents_of()
    update = agents[0].optimizer.__class__.step

    def pressed(optimizer, *args):
        "Ctrl-C at the first update"
        signal.raise_signal(signal.SIGINT)
        monkeypatch.setattr(torch.optim.Adam, "step", update)
        return update(optimizer, *args)

    monkeypatch.setattr(torch.optim.Adam, "step", pressed)
    with pytest.warns(UserWarning, match="stopped before the end"):
        rows = train_seeds(agents, LOG, 500, progress=False)
    assert [[row["step"] for row in own] for own in rows] == [[100]] * 3
    assert all(agent.updates == 100 for agent in agents)


def test_what_cannot_learn_together():
    one, two = agents_of(2)
    learned = agents_of(1)[0]
    train_offline(learned, LOG, 1, progress=False)
    frames = [DQN(Box(0, 255, (4, 36, 36), np.uint8), 3, DQNConfig(hidden=(4,)))]
    other = agents_of(1, lr=1e-2)[0]
    double = agents_of(1, kind=DoubleDQN)[0]
    for agents, seeds, said in [([], None, "there are 0 agents"), ([one, one], None, "each of them once"),
                                ([one, two], [0], "2 agents and 1 seeds"), (frames, None, "frames"),
                                ([one, other], None, "another kind"), ([one, double], None, "another kind"),
                                ([one, learned], None, "has made 1 updates")]:
        with refuses(ValueError, said):
            train_seeds(agents, LOG, 5, seeds=seeds)
    with refuses(ValueError, "steps"):
        train_seeds([one, two], LOG, 0)
    assert one.updates == two.updates == 0
    assert isinstance(one.config, BCQConfig)


def test_a_batch_on_the_disk_is_not_copied(tmp_path):
    "One after the other the same agents learn from it"
    LOG.save(tmp_path / "log.npz")
    on_disk = ReplayBuffer.load(tmp_path / "log.npz", folder=tmp_path)
    agents = agents_of(2, buffer=on_disk)
    with refuses(ValueError, "train_offline takes them one after the other"):
        train_seeds(agents, on_disk, 5, progress=False)
    assert all(agent.updates == 0 for agent in agents)
    train_offline(agents[0], on_disk, 5, progress=False)


# The script that compares times; none is asserted

sys.path.insert(0, str(root / "benchmarks"))
spec = importlib.util.spec_from_file_location("seeds_benchmark", root / "benchmarks/seeds.py")
benchmark = importlib.util.module_from_spec(spec)
spec.loader.exec_module(benchmark)


def test_gains_are_compared_round_by_round():
    "Twice as fast in each round; what round 0 says is not counted"
    times = {"in turn": (9.0, 1.0, 10.0, 2.0), "together": (90.0, 0.5, 5.0, 1.0), "compiled": (0.0, 0.1, 1.0, 0.2)}
    rows = [{"hidden": "64-64", "agents": 2, "compiling_s": 7.0, "round": number, "load": 1.0, "way": way, "ms": ms,
             "cpu_ms": ms} for way, all_ms in times.items() for number, ms in enumerate(all_ms)]
    in_turn, together, compiled = benchmark.summarize(rows[::-1])
    assert (in_turn["way"], in_turn["gain"], in_turn["rounds"]) == ("in turn", 1, 3)
    assert together["gain"] == together["gain_low"] == together["cpu_gain"] == 2
    assert (compiled["gain"], compiled["compiling_s"], compiled["updates_per_s"]) == (10, 7, 5000)


def test_all_ways_do_the_same_work():
    buffer = benchmark.made_up()
    in_turn = benchmark.make_way("in turn", buffer, (8,), 2)(3)
    assert [len(reports) for reports in in_turn] == [3, 3]
    benchmark.make_way("together", buffer, (8,), 2)(3)
