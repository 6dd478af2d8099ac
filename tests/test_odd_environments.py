"""Odd environments give the same bits as the one that behaves, or one clear error before anything is learned."""
import warnings

import numpy as np
import odd_environments as odd
import pytest
import torch

from bcq_nb import plain
from bcq_nb.dqn import DQN, DQNConfig, train_behavioral
from bcq_nb.environments import make_env, make_envs
from bcq_nb.evaluation import evaluate
from bcq_nb.film import check_film, record_video
from bcq_nb.generation import generate_buffer
from bcq_nb.training import Exploration

odd.register()
SMALL = DQNConfig(hidden=(8,), batch_size=8)
SHORT = Exploration(warmup=16, n_envs=2)


class Remembers:
    "A policy that depends on all numbers of an observation, and keeps what it was shown"
    def __init__(self):
        self.seen = []

    def act(self, obs, mask=None):
        self.seen.append(np.array(obs, np.float64))
        action = (obs.sum(axis=1) * 2 % 3 > 1).astype(int)
        return action if mask is None else np.where(mask[:, 1], action, 0)


def evaluated(env_id):
    policy = Remembers()
    result = evaluate(policy, env_id, 7, seed=3, n_envs=3)
    return [result.returns, result.lengths, *policy.seen]


def filmed(env_id, tmp_path):
    policy = Remembers()
    recording = record_video(policy, env_id, tmp_path / "x.mp4", seed=3, episodes=2)
    return [np.array(recording.returns), np.array(recording.lengths), *policy.seen]


def written(env_id):
    buffer = generate_buffer(Remembers(), env_id, 45, rand_action_p=0.5, n_envs=3, seed=3, progress=False)
    return list(buffer.state(buffer.slots()).values())


def trained(env_id):
    agent = train_behavioral(env_id, 40, SMALL, SHORT, seed=3, eval_episodes=3, device="cpu", progress=False)
    return [*(weight.detach().numpy() for weight in agent.weights), np.array(list(agent.history[-1].values()))]


@pytest.fixture(scope="module")
def of_twin():
    "What the one that behaves gives, computed once"
    kept = {}

    def results(kind, what, *arguments):
        key = kind, what
        if key not in kept:
            kept[key] = what(f"{kind.__name__}-v0", *arguments)
        return kept[key]

    return results


PAIRS = [(twin, kind) for twin, kinds in odd.SAME.items() for kind in kinds]


@pytest.mark.filterwarnings("error", "ignore:.*render_modes")     # Gymnasium's, of a class that does not name them
@pytest.mark.parametrize(("twin", "kind"), PAIRS, ids=[kind.__name__ for _, kind in PAIRS])
def test_the_same_bits(twin, kind, of_twin, tmp_path):
    uses = [(evaluated,), (written,), (trained,), (filmed, tmp_path)]
    for what, *arguments in uses:
        if what is filmed and kind in odd.NOT_DRAWN:
            name = f"{kind.__name__}-v0"
            assert check_film(name) == f"{name} cannot be filmed: it has no render_mode='rgb_array'"
            continue
        ours, theirs = what(f"{kind.__name__}-v0", *arguments), of_twin(twin, what, *arguments)
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other)


def test_film_and_measurement_see_the_same():
    "The film plays the first of the environments that are measured"
    with make_env("Reuses-v0", seed=3) as alone:
        envs = make_envs("Reuses-v0", 1, seed=3)
        for _ in range(4):
            np.testing.assert_array_equal(alone.reset()[0], envs.reset()[0][0])


@pytest.mark.parametrize("name", odd.WRONG)
def test_one_error(name, tmp_path):
    env_id = f"Wrong-{name.replace(' ', '_')}-v0"
    words = f"{env_id}: .*{odd.WRONG[name][1]}"
    for what, *arguments in ((evaluated,), (written,), (trained,), (filmed, tmp_path)):
        with pytest.raises(ValueError, match=words):
            what(env_id, *arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("env_id", ["Color-v0", "DarkColor-v0", "Copied-v0"])
def test_pictures_that_are_no_stacks(env_id, tmp_path):
    for what, *arguments in ((evaluated,), (written,), (trained,), (filmed, tmp_path)):
        with pytest.raises(ValueError, match=rf"{env_id} .*layers.*padding_type=\"zero\""):
            what(env_id, *arguments)


def first_action(obs):
    return np.zeros(len(obs), int)


def test_stacks_that_are_padded(tmp_path):
    for env_id in ("Padded-v0", "DarkCopied-v0"):       # a first frame that is black is the same as its padding
        buffer = generate_buffer(first_action, env_id, 20, n_envs=2, progress=False)
        assert type(buffer).__name__ == "FrameBuffer" and buffer.episode_returns().tolist() == [6, 6]
        assert evaluate(first_action, env_id, 2).returns.tolist() == [6, 6]
        assert record_video(first_action, env_id, tmp_path / "x.mp4").returns == (6.0,)


@pytest.mark.parametrize(("learned", "played"), [("Padded-v0", "Floats-v0"), ("Floats-v0", "Padded-v0")])
def test_pixels_of_another_type(learned, played, tmp_path):
    spaces = {env_id: make_envs(env_id).single_observation_space for env_id in (learned, played)}
    agent = DQN(spaces[learned], 2, SMALL, device="cpu")
    for use in (lambda: evaluate(agent, played, 1),
                lambda: record_video(agent, played, tmp_path / "x.mp4"),
                lambda: generate_buffer(agent, played, 8, n_envs=1, progress=False)):
        with pytest.raises(ValueError, match="the agent takes observations of type .*, and the environment gives"):
            use()
    obs = make_envs(played).reset()[0]
    for use in (agent.act, agent.q_values, agent.policy, agent.allowed):
        with pytest.raises(ValueError, match="obs is of type .*this agent takes"):
            use(obs)
    assert evaluate(agent, learned, 1).lengths.tolist() == [6]


@pytest.mark.parametrize("kind", ["Endless-v0", "MaskedEndless-v0"])
def test_episodes_without_an_end(kind, tmp_path):
    policy = Remembers()
    with pytest.warns(UserWarning, match=f"{kind}: 5 of 5 episodes did not end and were cut after 40 steps.*"
                                         "max_episode_steps.*max_steps"):
        result = evaluate(policy, kind, 5, n_envs=2, max_steps=40)
    assert result.cut == 5 and result.lengths.tolist() == [40] * 5 and "5 of them cut" in str(result)
    assert [obs[0, 1] for obs in policy.seen[:42]] == [*np.arange(40) / 2, 0, 0.5]        # begins anew where it was cut
    assert policy.seen[39][0, 0] + 1 == policy.seen[40][0, 0]                             # with a new episode
    recording = record_video(Remembers(), kind, tmp_path / "x.mp4", max_steps=5)
    assert recording.lengths == (5,) and not recording.whole


def test_the_limit_where_none_is_given():
    with pytest.warns(UserWarning, match="1 of 1 episodes did not end and were cut after 30,000 steps"):
        assert evaluate(first_action, "Endless-v0", 1).lengths.tolist() == [plain.MOST_STEPS]


def test_a_training_whose_evaluations_do_not_end(monkeypatch):
    monkeypatch.setattr(plain, "MOST_STEPS", 25)
    with pytest.warns(UserWarning, match="Endless-v0: 3 of 3 episodes did not end and were cut after 25 steps"):
        trained("Endless-v0")


def test_an_end_at_the_limit_is_no_cut():
    "An episode that ends by itself in the step in which it would be cut"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        longest = evaluate(first_action, "Twin-v0", 20, seed=0)
        again = evaluate(first_action, "Twin-v0", 20, seed=0, max_steps=int(longest.lengths.max()))
    np.testing.assert_array_equal(longest.returns, again.returns)
    assert again.cut == 0
    with pytest.warns(UserWarning, match="Twin-v0: .* of 20 episodes did not end and were cut after 4 steps"):
        shorter = evaluate(first_action, "Twin-v0", 20, seed=0, max_steps=4)
    assert shorter.lengths.max() == 4 and 0 < shorter.cut < 20


def test_precision():
    "Times of this century are no numbers of float32, which would make one of a whole minute"
    from gymnasium.spaces import Box

    from bcq_nb.buffers import ReplayBuffer

    for dtype in (np.int64, np.float64):
        buffer = ReplayBuffer(4, Box(-np.inf, np.inf, (1,), np.float64), 2)
        with pytest.raises(ValueError, match="170000006"):
            now, later = np.array([[1_700_000_000]], dtype), np.array([[1_700_000_060]], dtype)
            buffer.add(now, [0], [0.0], later, [True], [False])
        with pytest.raises(ValueError, match="reward holds .*16777217"):
            buffer.add([[0.0]], [0], np.array([2**24 + 1], dtype), [[0.0]], [True], [False])
    agent = DQN(Box(-np.inf, np.inf, (1,), np.float64), 2, SMALL, device="cpu")
    for obs in (np.array([[2**24 + 1]]), np.array([[1_700_000_060.0]]), torch.tensor([[2**24 + 1]])):
        with pytest.raises(ValueError, match="obs holds .*float32 cannot hold exactly"):
            agent.act(obs)
    agent.act(np.array([[0.1 + 0.2]]))
    agent.act(np.array([[2.0**30]]))
