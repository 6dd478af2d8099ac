"What 07b, 07e, 07f and 07g say of logs of which the truth is known, and what they refuse."
import json
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from bcq_nb.bcq import BCQConfig, DiscreteBCQ
from bcq_nb.buffers import ReplayBuffer
from bcq_nb.coverage import Choice, draw_choices, hold_out
from bcq_nb.frames import FrameBuffer
from bcq_nb.generation import action_ratio
from bcq_nb.imitation import Imitation, constant_guess, imitate, reliability
from bcq_nb.overview import find_outliers, mean_interval, overview
from bcq_nb.report import answers, describe
from bcq_nb.tables import Table
from bcq_nb.transfer import numbered

SHARP = {"device": "cpu"}
FAST = {"device": "cpu", "updates": 600}


def log_of(act, episodes=400, steps=20, n_obs=2, n_actions=3, seed=0, mask=None):
    "A log whose states are drawn anew in each step; `act(obs, rng)` gives the actions"
    rng = np.random.default_rng(seed)
    n = episodes * steps
    obs = rng.normal(size=(n, n_obs)).astype(np.float32)
    action = act(obs, rng)
    last = np.arange(n) % steps == steps - 1
    masks = {} if mask is None else {"mask": mask(obs), "next_mask": np.ones((n, n_actions), bool)}
    return ReplayBuffer.from_arrays(obs, action, rng.normal(size=n), obs, last, np.zeros(n, bool), n_actions, **masks)


def favorite(obs):
    return np.digitize(obs[:, 0], [-0.5, 0.5])


def greedy(eps):
    def act(obs, rng):
        return np.where(rng.random(len(obs)) < eps, rng.integers(3, size=len(obs)), favorite(obs))
    return act


# Logs of which the truth is known

def test_a_deterministic_policy_leaves_nothing_to_choose():
    report = describe(log_of(greedy(0)), **SHARP)
    assert report.choice_at == () and report.prediction.accuracy > 0.9
    assert re.match("(No|It seems not):", answers(report)["Is there anything to choose?"])


def test_a_random_policy_leaves_everything():
    report = describe(log_of(greedy(1)), **FAST)
    assert report.choice_at == (0.05, 0.1, 0.2, 0.3, 0.5, 0.7)
    assert set(report.free_at) >= {0.05, 0.1, 0.2, 0.3, 0.5} and report.enough
    assert abs(np.exp(report.prediction.entropy) - 3) < 0.05


@pytest.mark.parametrize("eps", [0.15, 0.3, 0.6])
def test_an_epsilon_greedy_policy_leaves_a_choice_below_its_ratio(eps):
    ratio = action_ratio(eps, 3)
    thresholds = [ratio / 2, ratio * 2]     # not too near to it
    report = describe(log_of(greedy(eps), episodes=800), thresholds, **SHARP)
    assert report.choice_at == report.free_at == (ratio / 2,)


@pytest.mark.parametrize("episodes, words", [
    (3, "Unknown"), (9, "Unknown"), (10, "It seems"), (30, "It seems"), (61, "It seems")])
def test_a_small_log_is_not_enough(episodes, words):
    report = describe(log_of(greedy(0.3), episodes), **FAST)
    assert not report.enough and f"it has {episodes} whole episodes" in report.lacks[0]
    assert answers(report)["Is there anything to choose?"].startswith(words)
    assert answers(report)["Is this log enough?"].startswith("No: ")


def test_more_episodes_are_asked_for_while_they_help():
    "Many actions, many numbers: 100 episodes of five steps are nothing."
    weights = np.random.default_rng(1).normal(size=(10, 8))

    def act(obs, rng):
        return (obs @ weights + rng.gumbel(size=(len(obs), 8))).argmax(1)
    report = describe(log_of(act, episodes=100, steps=5, n_obs=10, n_actions=8), **FAST)
    assert any("more episodes may improve the imitation" in reason for reason in report.lacks)


def test_a_constant_action():
    report = describe(log_of(lambda obs, rng: np.full(len(obs), 1)), **FAST)
    assert report.log.actions == {"0": 0, "1": 8_000, "2": 0}
    assert report.prediction.accuracy == report.prediction.guess_accuracy == 1
    assert report.choice_at == () and report.enough
    assert "never: 0, 2" in str(report)


def test_a_single_action_that_exists():
    report = describe(log_of(lambda obs, rng: np.zeros(len(obs), int), n_actions=1), **FAST)
    assert report.choice_at == report.free_at == () and report.prediction.loss == 0


def test_a_state_that_is_like_nothing_else():
    log = log_of(greedy(0.3))
    log.table = Table(obs=("age", "weight"), action="dose", actions=("none", "half", "full"))
    obs = log.transitions(log.slots()).obs.numpy()
    obs[20 * 123 + 7, 1] = 700
    planted = ReplayBuffer.from_arrays(obs, log.action.numpy(), log.reward.numpy(), obs, log.terminated.numpy() == 1,
                                       np.zeros(len(obs), bool), n_actions=3)
    planted.table = log.table
    assert find_outliers(log).found == 0
    found = find_outliers(planted)
    first = found.worst[0]
    assert (first.episode, first.step, first.column, first.value) == (123, 7, "weight", 700)
    assert found.found == 1 and found.drawn_share == 0
    assert "Look at the outliers." in answers(describe(planted, **FAST))["What next?"]


def test_masks():
    "Action 2 exists in every second state, and no network can see in which; of those that exist each is as likely."
    def mask(obs):
        is_even = np.floor(1000 * obs[:, 1]) % 2 == 0
        return np.stack([np.ones(len(obs), bool), np.ones(len(obs), bool), is_even], axis=1)

    def act(obs, rng):
        return np.where(mask(obs), rng.random((len(obs), 3)), -1).argmax(1)
    report = describe(log_of(act, mask=mask), **FAST)
    everything = report.choices[0]
    assert abs(everything.allowed - 2.5) < 0.05 and everything.share == everything.choice == everything.logged == 1
    assert set(report.free_at) >= {0.05, 0.1, 0.2, 0.3, 0.5}
    best = (np.log(2) + np.log(3)) / 2
    assert abs(report.prediction.loss - best) < 0.02 and abs(report.prediction.entropy - best) < 0.02
    assert sum(report.prediction.reliability.cases) == everything.allowed * report.prediction.states   # existing ones
    held = hold_out(log_of(act, mask=mask), **FAST)
    assert (held.imitated[~held.mask] == 0).all() and (held.guessed[~held.mask] == 0).all()


def test_masks_that_leave_one_action_leave_no_choice():
    def mask(obs):
        return np.arange(3) == favorite(obs)[:, None]
    report = describe(log_of(greedy(0), mask=mask), **FAST)
    assert report.prediction.loss < 1e-6 and report.choice_at == ()


# Calibration where the truth is known

def test_the_imitation_is_calibrated():
    "Run with 20 seeds before its bounds were set."
    weights = np.array([[2.0, 0, -1], [0, 1, -1]])

    def act(obs, rng):
        return (obs @ weights + rng.gumbel(size=(len(obs), 3))).argmax(1)
    log, other = log_of(act, episodes=1_200), log_of(act, seed=1)
    agent = imitate(log, BCQConfig.log(lr=3e-3, batch_size=256), **FAST)
    batch = other.transitions(other.slots())
    curve = reliability(agent.probabilities(batch.obs).numpy(), batch.action.numpy())
    gaps = np.abs(np.subtract(curve.predicted, curve.happened))
    assert (gaps < 0.01 + 4 * np.array(curve.deviation)).all()
    assert curve.error < curve.by_chance + 0.02


def test_true_probabilities_are_calibrated():
    "Of bins with enough cases nearly all lie within two deviations, and the error is what chance explains."
    outside, error, by_chance = [], [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        p = rng.dirichlet([1, 1, 1], size=3_000)
        curve = reliability(p, (rng.random((3_000, 1)) > p.cumsum(1)).sum(1))
        gaps = np.abs(np.subtract(curve.predicted, curve.happened))
        outside += (gaps > 2 * np.array(curve.deviation)).tolist()
        error.append(curve.error)
        by_chance.append(curve.by_chance)
    assert 0.02 < np.mean(outside) < 0.09           # 0.046 is expected
    assert abs(np.mean(error) / np.mean(by_chance) - 1) < 0.1


# What is counted

def test_counts_are_those_of_a_loop():
    "Several environments, episodes cut, going on, and one whose beginning was overwritten."
    rng = np.random.default_rng(0)
    log = ReplayBuffer(60, Box(-9, 9, (1,), np.float32), 2, n_envs=3)
    for _ in range(25):
        ends = rng.random(3) < 0.2
        log.add(rng.normal(size=(3, 1)), rng.integers(2, size=3), rng.integers(5, size=3), np.zeros((3, 1)),
                ends & (rng.random(3) < 0.5), ends)
    counted = overview(log)
    episodes = list(log.episodes())
    assert counted.transitions == 60 and counted.episodes == len(episodes)
    returns = log.episode_returns()
    assert counted.whole == len(returns) < len(episodes)
    np.testing.assert_allclose(counted.returns, mean_interval(returns, np.arange(len(returns))))
    assert counted.terminated == sum(log.terminated[slots[-1]].item() for slots in episodes)
    assert counted.terminated + counted.truncated == sum(log.ended[slots[-1]].item() for slots in episodes)
    slots, episode, step = numbered(list(log.episodes()))
    frame = log.to_frame()
    assert slots.tolist() == np.concatenate(episodes).tolist()
    assert episode.tolist() == frame["episode"].tolist() and step.tolist() == frame["step"].tolist()


def test_returns_of_episodes_that_are_not_whole_are_unknown():
    log = ReplayBuffer(50, Box(-9, 9, (1,), np.float32), 2)
    for _ in range(50):
        log.add([[0.0]], [0], [1], [[0.0]], [False], [False])
    report = describe(log, device="cpu")
    assert report.log.whole == 0 and report.to_json()["log"]["returns"] == [None, None, None]
    assert "returns     unknown: no episode is whole" in str(report)


def test_discount_1_gives_no_limits():
    report = describe(log_of(greedy(0.3), episodes=5), config=BCQConfig.log(discount=1), device="cpu")
    assert report.to_json()["bounds"] == [None, None] and "without limits at a discount of 1" in str(report)


def test_notes_come_first():
    log = log_of(greedy(0.3), episodes=5)
    log.notes = ("12 episodes had one step",)
    assert str(describe(log, device="cpu")).startswith("note        12 episodes had one step")


def test_as_json_and_as_a_figure():
    report, again = (describe(log_of(greedy(0.3), episodes=70), updates=50, device="cpu") for _ in range(2))
    assert json.loads(json.dumps(report.to_json(), allow_nan=False)) == report.to_json() == again.to_json()
    assert max(len(line) for line in str(report).splitlines()) <= 110
    figure = report.plot()
    assert len(figure.axes) == 4
    figure.savefig("/dev/null", format="png")
    plt.close(figure)


def test_pictures():
    rng = np.random.default_rng(0)
    log = FrameBuffer(400, Box(0, 255, (2, 36, 36), np.uint8), 2)
    for step in range(400):
        frame = rng.integers(1, 255, size=(36, 36))
        if step % 20 == 0:
            obs = np.stack([np.zeros((36, 36)), frame]).astype(np.uint8)
        next_obs = np.stack([obs[-1], frame]).astype(np.uint8)
        log.add(obs[None], [step % 2], [0], next_obs[None], [step % 20 == 19], [False])
        obs = next_obs
    report = describe(log, updates=20, device="cpu")
    assert report.outliers is None and "not looked for among pictures" in str(report)
    assert report.prediction.states == 80 and len(report.choices) == 8


# Imitation

def test_imitation_is_saved_and_goes_on(tmp_path):
    log = log_of(greedy(0.3), episodes=20)
    agent = imitate(log, updates=50, device="cpu")
    agent.save(tmp_path / "imitation.safetensors")
    loaded = Imitation.load(tmp_path / "imitation.safetensors", device="cpu")
    obs = log.transitions(log.slots()).obs
    assert torch.equal(loaded.probabilities(obs), agent.probabilities(obs))
    for one in (loaded, agent):
        one.update(log.transitions(log.slots()))
    assert torch.equal(loaded.probabilities(obs), agent.probabilities(obs))


def test_imitation_acts_among_existing_actions():
    agent = imitate(log_of(greedy(0.3), episodes=20), updates=50, device="cpu")
    obs = np.zeros((3, 2), np.float32)
    assert (agent.act(obs, mask=np.eye(3)) == [0, 1, 2]).all()
    assert not torch.equal(agent.q_values(obs), DiscreteBCQ(agent.obs_space, 3, device="cpu").q_values(obs) * 0)


def test_constant_guess_of_one_action():
    assert constant_guess(np.array([5]), 2).tolist() == [[1], [1]]


# Refusals

@pytest.mark.parametrize("settings, words", [
    ({"thresholds": (0,)}, "thresholds are (0,): give at least one above 0"),
    ({"thresholds": ()}, "thresholds are (): give at least one above 0"),
    ({"thresholds": (0.3, 1.5)}, "thresholds is (0.3, 1.5): it must be a list, a tuple or an array"),
    ({"updates": 0}, "updates is 0: it must be an integer from 1"),
    ({"device": "nowhere"}, "device is 'nowhere'"),
])
def test_describe_refuses(settings, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        describe(log_of(greedy(0.3), episodes=20), **settings)


def test_an_empty_log_is_refused():
    with pytest.raises(ValueError, match="the buffer is empty: there is nothing to describe"):
        describe(ReplayBuffer(5, Box(-1, 1, (1,), np.float32), 2))


def test_labels_of_two_lines_do_not_touch():
    rows = [Choice(0, 3, 1, 1, 1), Choice(1, 1, 0.33, 0, 0.4)]   # two lines that end near each other
    figure, ax = plt.subplots(figsize=(4.8, 3), layout="constrained")
    draw_choices(ax, rows)
    figure.canvas.draw()
    boxes = sorted((text.get_window_extent() for text in ax.texts), key=lambda box: box.y0)
    plt.close(figure)
    assert len(boxes) == 3
    assert all(below.y1 <= above.y0 for below, above in zip(boxes, boxes[1:], strict=False))
