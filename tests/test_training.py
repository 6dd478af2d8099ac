"""What `train_behavioral` puts into its buffer: whole episodes, each from its own beginning."""
import pytest

from bcq_nb import dqn
from bcq_nb.dqn import DQNConfig, train_behavioral
from bcq_nb.frames import make_buffer
from bcq_nb.training import Exploration


@pytest.mark.parametrize("n_envs", [1, 3])
def test_episodes_are_stored_from_their_first_observation(monkeypatch, n_envs):
    made = []

    def make_and_keep(*args, **settings):
        made.append(make_buffer(*args, **settings))
        return made[-1]

    monkeypatch.setattr(dqn, "make_buffer", make_and_keep)
    config = DQNConfig(hidden=(8,), batch_size=8)
    train_behavioral("CartPole-v1", 300, config, Exploration(warmup=60, n_envs=n_envs), eval_episodes=1, progress=False)
    [buffer] = made
    episodes = list(buffer)
    assert len(episodes) > 5
    for episode in episodes:
        assert episode.obs[0].abs().max() <= 0.05          # where CartPole begins
        assert (episode.next_obs[:-1] == episode.obs[1:]).all()
    assert sum(episode.terminated.sum().item() for episode in episodes) >= len(episodes) - n_envs
