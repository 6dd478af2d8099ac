"""QR-DQN, REM and IQL: what the lessons do not show"""
import itertools

import numpy as np
import pytest
import torch

from bcq_nb.bcq import train_offline
from bcq_nb.buffers import ReplayBuffer
from bcq_nb.dqn import DQN
from bcq_nb.heads import QRDQN, REM, ManyConfig, quantile_loss
from bcq_nb.iql import DiscreteIQL, IQLConfig, expectile_loss
from bcq_nb.seeds import train_seeds
from bcq_nb.stopping import Interrupted
from bcq_nb.thoughts import ask

KINDS = [QRDQN, REM, DiscreteIQL]
SMALL = {"hidden": (8,), "batch_size": 8, "lr": 1e-2, "target_rate": 0.1}


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
    return kind(buffer.obs_space, buffer.n_actions, kind.make_config(**{**SMALL, **settings}), seed, device="cpu")


def test_the_quantile_loss_is_the_double_loop():
    rng = np.random.default_rng(0)
    theta, y = 2 * rng.normal(size=(3, 5)), 2 * rng.normal(size=(4, 5))
    total = 0.0
    for b, (k, j) in itertools.product(range(5), itertools.product(range(3), range(4))):
        error = y[j, b] - theta[k, b]
        huber = 0.5 * error**2 if abs(error) < 1 else abs(error) - 0.5
        total += abs((2 * k + 1) / 6 - (error < 0)) * huber / 4 / 5
    assert quantile_loss(torch.tensor(theta), torch.tensor(y)).item() == pytest.approx(total)


def test_one_quantile_is_half_of_dqn():
    buffer = log_of()
    batch = buffer.transitions(buffer.slots())
    half, _ = made(QRDQN, buffer, n_values=1).loss(batch)
    whole, _ = made(DQN, buffer).loss(batch)
    assert half.item() == pytest.approx(0.5 * whole.item())


def test_expectiles_of_many_values():
    q = torch.from_numpy(np.random.default_rng(0).normal(size=2_000))
    for xi in (0.5, 0.8, 0.99):
        v = q.mean()
        for _ in range(200):                        # the weighted mean that the expectile is, again and again
            weight = torch.where(q < v, 1 - xi, xi)
            v = (weight * q).sum() / weight.sum()
        assert expectile_loss(q - v, xi) < min(expectile_loss(q - v - 0.01, xi), expectile_loss(q - v + 0.01, xi))


@pytest.mark.parametrize("kind", KINDS)
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
    assert view.q.shape == (4,) and view.p is None and (view.allowed == batch.mask[0].numpy()).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_target_knows_the_mask(kind):
    buffer = log_of()
    batch = buffer.transitions(buffer.slots())
    agent = made(kind, buffer)
    only = torch.zeros_like(batch.next_mask)
    only[:, 2] = True
    value = agent.next_value(batch.next_obs, only)
    if kind is REM:
        assert torch.allclose(value, agent.mixed(agent.target, batch.next_obs)[:, 2])
    if kind is QRDQN:
        assert torch.equal(value, agent.target.many(batch.next_obs)[:, :, 2])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bfloat16", [False, True])
def test_frames(kind, bfloat16, tmp_path):
    buffer = log_of(n=20, shape=(2, 36, 36), dtype=np.uint8, masks=False)
    agent = made(kind, buffer, bfloat16=bfloat16)
    train_offline(agent, buffer, 3, progress=False)
    agent.save(tmp_path / "agent.safetensors")
    again = DQN.load(tmp_path / "agent.safetensors", device="cpu")
    obs = buffer.transitions(buffer.slots()).obs
    assert type(again) is kind and torch.equal(again.q_values(obs), agent.q_values(obs))
    assert again.q_values(obs).shape == (20, 4) and again.config == agent.config


@pytest.mark.parametrize("kind", KINDS)
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


@pytest.mark.parametrize("kind", KINDS)
def test_measuring_changes_nothing(kind):
    buffer = log_of()
    alone, watched = made(kind, buffer), made(kind, buffer)
    train_offline(alone, buffer, 20, eval_every=5, progress=False)
    train_offline(watched, buffer, 20, eval_every=5, progress=False, held_out=log_of(seed=1))
    assert all(torch.equal(a, b) for a, b in zip(alone.weights, watched.weights, strict=True))


def test_seeds_at_once():
    buffer = log_of(masks=False)
    with pytest.raises(ValueError, match="the loss of REM draws numbers anew"):
        train_seeds([made(REM, buffer)], buffer, 10)
    for kind in (QRDQN, DiscreteIQL):
        together = [made(kind, buffer, seed) for seed in (0, 1)]
        train_seeds(together, buffer, 15, seeds=[0, 1], eval_every=15, progress=False)
        alone = made(kind, buffer, 1)
        train_offline(alone, buffer, 15, seed=1, eval_every=15, progress=False)
        for one, other in zip(together[1].weights, alone.weights, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("config", [ManyConfig, IQLConfig])
def test_settings_are_checked(config):
    wrong = {ManyConfig: [{"n_values": 0}, {"n_values": 2.5}, {"lr": 0}],
             IQLConfig: [{"expectile": 0.0}, {"expectile": 1}, {"expectile": "0.7"}, {"temperature": float("inf")}]}
    for settings in wrong[config]:
        with pytest.raises(ValueError, match=next(iter(settings))):
            config(**settings)
