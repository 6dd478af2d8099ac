"""Cloning, CQL, SPIBB and KL control: what the lesson does not show; losses against loops in NumPy"""
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from bcq_nb.baselines import (
    SPIBBDQN,
    BehaviorCloning,
    CloningConfig,
    CQLConfig,
    DiscreteCQL,
    KLConfig,
    KLControl,
    conservative_gap,
    soft_value,
)
from bcq_nb.bcq import DiscreteBCQ, train_offline
from bcq_nb.buffers import Batch, ReplayBuffer
from bcq_nb.dqn import DQN, DoubleDQN
from bcq_nb.guard import learn
from bcq_nb.seeds import train_seeds
from bcq_nb.stopping import Interrupted
from bcq_nb.thoughts import ask

KINDS = [BehaviorCloning, DiscreteCQL, SPIBBDQN, KLControl]
SMALL = {"hidden": (8,), "batch_size": 8, "lr": 1e-2, "target_rate": 0.1}
every_kind = pytest.mark.parametrize("kind", KINDS)


def log_of(n=60, shape=(3,), dtype=np.float32, masks=True, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    obs, next_obs = rng.integers(0, 255, (2, n, *shape)).astype(dtype)
    exists = rng.random((2, n, 4)) < 0.6
    exists[..., 0] = True
    action = np.array([rng.choice(np.flatnonzero(row)) for row in exists[0]])
    ends = rng.random(n) < 0.2
    ends[-1] = True
    given = {"mask": exists[0], "next_mask": exists[1]} if masks else {}
    reward = scale * rng.normal(size=n)
    return ReplayBuffer.from_arrays(obs, action, reward, next_obs, ends, ~ends, n_actions=4, **given)


def made(kind, buffer, seed=0, **settings):
    config = kind.make_config(**{**SMALL, **settings})
    return kind(buffer.obs_space, buffer.n_actions, config, seed, device="cpu")


def trained(kind, buffer, updates=20, **settings):
    agent = made(kind, buffer, **settings)
    learn(agent, buffer, updates, np.random.default_rng(0))
    return agent


def given_to_d3rlpy():
    "The weights and transitions of benchmarks/cql_peer.py, which need no d3rlpy"
    path = Path(__file__).resolve().parents[1] / "benchmarks/cql_peer.py"
    spec = importlib.util.spec_from_file_location("cql_peer", path)
    peer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peer)
    return peer.fixed()


def parts_of(agent, batch):
    "Of each transition, in NumPy and 64 bits: the numbers that a loss is made of."
    with torch.no_grad():
        q, next_q, slow = agent.network(batch.obs), agent.network(batch.next_obs), agent.target(batch.next_obs)
        logits, next_logits = agent.network.both(batch.obs)[1], agent.network.both(batch.next_obs)[1]
    given = (q, next_q, slow, logits, next_logits, batch.action, batch.reward, batch.terminated, batch.mask,
             batch.next_mask)
    return zip(*(value.double().numpy() if value.is_floating_point() else value.numpy() for value in given),
               strict=True)


def huber(error):
    return 0.5 * error**2 if abs(error) < 1 else abs(error) - 0.5


def softmax(z, exists):
    e = np.where(exists, np.exp(z - z[exists].max()), 0)
    return e / e.sum()


# --- Losses, transition by transition

def test_d3rlpy_has_the_same_loss():
    "d3rlpy 2.8.1, `python benchmarks/cql_peer.py`: loss 7.392699241638184, gap 4.815760612487793"
    given = given_to_d3rlpy()
    space = Box(-np.inf, np.inf, (3,), np.float32)
    agent = DiscreteCQL(space, 4, CQLConfig(hidden=(16,), alpha=0.7), device="cpu")
    with torch.no_grad():
        for weights, values in ((agent.weights, given["weights"]), (agent.target_weights, given["target"])):
            for weight, value in zip(weights, values, strict=True):
                weight.copy_(torch.from_numpy(value))
    columns = {name: torch.from_numpy(given[name]) for name in ("obs", "action", "reward", "next_obs", "terminated")}
    loss, metrics = agent.loss(Batch(**columns))
    assert loss.item() == pytest.approx(7.392699241638184, rel=1e-6)
    assert metrics["gap"].item() == pytest.approx(4.815760612487793, rel=1e-6)



def test_the_loss_of_cql_is_the_papers():
    "Kumar et al. 2020, equation 4, and Double DQN, as the peers have it: with masks, which they do not know"
    buffer = log_of()
    agent = trained(DiscreteCQL, buffer, alpha=0.7)
    batch = buffer.transitions(buffer.slots())
    with torch.no_grad():
        q, next_q, slow = (value.double().numpy() for value in
                           (agent.network(batch.obs), agent.network(batch.next_obs), agent.target(batch.next_obs)))
    total = 0.0
    for i in range(len(q)):
        exists, next_exists = batch.mask[i].numpy(), batch.next_mask[i].numpy()
        a = batch.action[i].item()
        best = max(np.flatnonzero(next_exists), key=lambda b, i=i: next_q[i, b])
        y = batch.reward[i].item() + 0.99 * (1 - batch.terminated[i].item()) * slow[i, best]
        total += huber(q[i, a] - y) + 0.7 * (np.log(np.exp(q[i, exists]).sum()) - q[i, a])
    loss, _ = agent.loss(batch)
    assert loss.item() == pytest.approx(total / len(q), rel=1e-4)


@pytest.mark.parametrize("kind", [SPIBBDQN, KLControl])
def test_the_losses_with_an_imitation(kind):
    buffer = log_of()
    agent = trained(kind, buffer, 60)
    batch = buffer.transitions(buffer.slots())
    losses, logits_squared, n_unknown = [], [], 0
    for q, next_q, slow, z, next_z, a, reward, terminated, exists, next_exists in parts_of(agent, batch):
        g = softmax(next_z, next_exists)
        if kind is SPIBBDQN:
            known = next_exists & (g > 0.3 * g.max())
            best = max(np.flatnonzero(known), key=lambda b, next_q=next_q: next_q[b])
            v = sum(g[b] * slow[best if known[b] else b] for b in np.flatnonzero(next_exists))
            n_unknown += (next_exists & ~known).sum()
        else:
            v = 0.1 * np.log(sum(g[b] * np.exp(slow[b] / 0.1) for b in np.flatnonzero(next_exists)))
        y = reward + 0.99 * (1 - terminated) * v
        losses.append(huber(q[a] - y) - np.log(softmax(z, exists)[a]))
        logits_squared.append(np.mean(z**2))
    loss, _ = agent.loss(batch)
    assert loss.item() == pytest.approx(np.mean(losses) + 0.01 * np.mean(logits_squared), rel=1e-4)
    assert kind is KLControl or n_unknown > 0


def test_the_soft_value_lies_between_mean_and_largest():
    rng = np.random.default_rng(0)
    q = torch.from_numpy(rng.normal(size=(50, 4)))
    log_g = torch.from_numpy(rng.normal(size=(50, 4))).log_softmax(1)
    mean = (log_g.exp() * q).sum(1)
    values = [soft_value(q, log_g, torch.tensor(c, dtype=torch.float64)) for c in (1e-3, 0.1, 1.0, 10.0, 1e4)]
    for lower, higher in zip(values[1:], values, strict=False):
        assert (lower <= higher + 1e-9).all()
    torch.testing.assert_close(values[-1], mean, atol=1e-3, rtol=0)
    torch.testing.assert_close(values[0], q.max(1).values, atol=1e-2, rtol=0)


# --- Ends meet

@pytest.mark.parametrize("kind, settings, other, others", [
    (DiscreteCQL, {"alpha": 0.0}, DoubleDQN, {}),
    (SPIBBDQN, {"threshold": 0.0}, DoubleDQN, {}),
    (KLControl, {"kl_price": 0.0}, DQN, {}),
], ids=["CQL", "SPIBB", "KL control"])
@pytest.mark.parametrize("masks", [False, True])
def test_at_one_end_is_dqn_to_the_bit(kind, settings, other, others, masks):
    buffer = log_of(masks=masks)
    one, two = trained(kind, buffer, **settings), trained(other, buffer, **others)
    batch = buffer.transitions(buffer.slots())
    assert torch.equal(one.q_values(batch.obs), two.q_values(batch.obs))
    assert (one.act(batch.obs, mask=batch.mask) == two.act(batch.obs, mask=batch.mask)).all()


def test_spibb_at_the_other_end_goes_on_as_the_batch():
    buffer = log_of()
    agent = trained(SPIBBDQN, buffer, threshold=1.0)
    batch = buffer.transitions(buffer.slots())
    g = agent.probabilities(batch.next_obs, batch.next_mask)
    with torch.no_grad():
        expected = (g * agent.target(batch.next_obs)).sum(1)
        torch.testing.assert_close(agent.next_value(batch.next_obs, batch.next_mask), expected)


def test_cloning_is_bcq_at_threshold_1():
    "From the same weights of the imitation: two heads share nothing where observations are vectors"
    buffer = log_of()
    bcq, clone = made(DiscreteBCQ, buffer, threshold=1.0), made(BehaviorCloning, buffer)
    clone.network.imitation.load_state_dict(bcq.network.imitation.state_dict())
    for agent in (bcq, clone):
        learn(agent, buffer, 40, np.random.default_rng(0))
    batch = buffer.transitions(buffer.slots())
    assert torch.equal(bcq.probabilities(batch.obs, batch.mask), clone.probabilities(batch.obs, batch.mask))
    assert (bcq.act(batch.obs, mask=batch.mask) == clone.act(batch.obs, mask=batch.mask)).all()


def test_kl_control_at_a_high_price_is_its_imitation():
    buffer = log_of()
    agent = trained(KLControl, buffer, kl_price=1e4)
    batch = buffer.transitions(buffer.slots())
    likeliest = agent.probabilities(batch.obs, batch.mask).argmax(1)
    assert (agent.act(batch.obs, mask=batch.mask) == likeliest.numpy()).all()


@pytest.mark.parametrize("kind, settings", [(DiscreteCQL, {"alpha": 0.5}), (KLControl, {"kl_price": 0.5})])
def test_weights_are_in_the_unit_of_the_values(kind, settings):
    "Rewards a thousand times as large: with scale_reward the same actions, and values a thousand times as large"
    kept = []
    for scale in (1.0, 1024.0):
        buffer = log_of(scale=scale, masks=False)
        agent = made(kind, buffer, scale_reward=True, **settings)
        train_offline(agent, buffer, 20, progress=False)
        kept.append(agent.q_values(buffer.transitions(buffer.slots()).obs) / scale)
    torch.testing.assert_close(*kept, rtol=1e-3, atol=1e-4)


def test_values_of_kl_control_stay_within_bounds():
    buffer = log_of()
    batch = buffer.transitions(buffer.slots())
    agent = trained(KLControl, buffer, kl_price=0.5)
    with torch.no_grad():
        slow = agent.target(batch.next_obs)
        value = agent.next_value(batch.next_obs, batch.next_mask)
    assert (value <= slow.where(batch.next_mask, -torch.inf).amax(1) + 1e-4).all()
    assert (value >= slow.where(batch.next_mask, torch.inf).amin(1) - 1e-4).all()


def test_the_gap_is_never_below_0_and_knows_the_mask():
    rng = np.random.default_rng(0)
    q = torch.from_numpy(50 * rng.normal(size=(200, 4)))
    action = torch.from_numpy(rng.integers(0, 4, 200))
    assert all(conservative_gap(q[i:i + 1], action[i:i + 1]) >= 0 for i in range(200))
    only = torch.zeros(200, 4, dtype=torch.bool)
    only[torch.arange(200), action] = True
    assert conservative_gap(q, action, only) == 0


# --- As every algorithm of this package

@every_kind
@pytest.mark.parametrize("scale_reward", [False, True])
def test_what_does_not_exist_is_never_taken(kind, scale_reward):
    buffer = log_of(scale=100.0)
    agent = made(kind, buffer, scale_reward=scale_reward)
    train_offline(agent, buffer, 20, progress=False)
    batch = buffer.transitions(buffer.slots())
    taken = agent.act(batch.next_obs, mask=batch.next_mask)
    assert batch.next_mask.numpy()[np.arange(len(taken)), taken].all()
    assert agent.policy(batch.next_obs, 0.5, batch.next_mask)[~batch.next_mask].max() == 0
    view = ask(agent, batch.obs[0].numpy(), 4, batch.mask[:1].numpy())
    assert (view.q is None) == (kind is BehaviorCloning)
    assert (view.p is None) == (kind is DiscreteCQL)
    if view.p is not None:
        assert view.p[~batch.mask[0].numpy()].sum() == 0 and view.p.sum() == pytest.approx(1)


@every_kind
@pytest.mark.parametrize("bfloat16", [False, True])
def test_frames(kind, bfloat16, tmp_path):
    buffer = log_of(n=20, shape=(2, 36, 36), dtype=np.uint8, masks=False)
    agent = made(kind, buffer, bfloat16=bfloat16)
    train_offline(agent, buffer, 3, progress=False)
    agent.save(tmp_path / "agent.safetensors")
    again = DQN.load(tmp_path / "agent.safetensors", device="cpu")
    obs = buffer.transitions(buffer.slots()).obs
    assert type(again) is kind and again.config == agent.config
    assert (again.act(obs) == agent.act(obs)).all()
    said = "q_values" if kind is DiscreteCQL else "probabilities"
    assert torch.equal(getattr(again, said)(obs), getattr(agent, said)(obs))


@every_kind
def test_a_stopped_training_goes_on_to_the_same_bits(kind, tmp_path, monkeypatch):
    buffer = log_of()
    straight, cut = made(kind, buffer), made(kind, buffer)
    call = {"steps": 40, "eval_every": 10, "progress": False}
    train_offline(straight, buffer, **call)
    update = kind.update

    def stumbles(self, batch):
        if self.updates == 25:
            raise KeyboardInterrupt
        return update(self, batch)

    path = tmp_path / "course.safetensors"
    monkeypatch.setattr(kind, "update", stumbles)
    with pytest.raises((Interrupted, KeyboardInterrupt)):
        train_offline(cut, buffer, checkpoint=path, checkpoint_every=0, **call)
    monkeypatch.undo()
    fresh = made(kind, buffer)
    train_offline(fresh, buffer, checkpoint=path, **call)
    assert fresh.updates == 40
    for name, value in straight.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[name]), name


@every_kind
def test_seeds_at_once(kind):
    buffer = log_of(masks=False)
    together = [made(kind, buffer, seed) for seed in (0, 1)]
    train_seeds(together, buffer, 15, seeds=[0, 1], eval_every=15, progress=False)
    alone = made(kind, buffer, 1)
    train_offline(alone, buffer, 15, seed=1, eval_every=15, progress=False)
    for one, other in zip(together[1].weights, alone.weights, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("config, name", [(CQLConfig, "alpha"), (KLConfig, "kl_price"), (KLConfig, "logit_penalty"),
                                          (CloningConfig, "logit_penalty")])
@pytest.mark.parametrize("wrong", [-1.0, float("inf"), float("nan"), "1", None])
def test_settings_are_checked(config, name, wrong):
    with pytest.raises(ValueError, match=name):
        config(**{name: wrong})
