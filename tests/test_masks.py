"""Environments whose actions exist only now and then: what is read, handed on, drawn by chance and refused."""
from contextlib import closing

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from bcq_nb.environments import explore, make_env, make_envs, policy_of, reset_envs, step_envs
from bcq_nb.evaluation import evaluate
from bcq_nb.film import record_video
from bcq_nb.generation import generate_buffer
from bcq_nb.masks import mask_of, random_actions, takes_mask
from bcq_nb.panel import Panel, columns_of, plan
from bcq_nb.thoughts import ask

KINDS = {
    "int8": lambda mask: np.array(mask, np.int8),
    "bool": lambda mask: np.array(mask, bool),
    "list": list,
    "floats": lambda mask: np.array(mask, float),
    "tuple": tuple,
}


class Row(gym.Env):
    """Places 0 to 4 in a row, from 2 on; actions: left, right, out. At an end one cannot go on, and `out` is at 4 only.

    `kind` says what a mask is made of, and `faulty` what is wrong with it.
    """
    metadata = {"render_modes": ["rgb_array"]}
    observation_space = Box(0, 4, (1,))
    action_space = Discrete(3)
    made = 0

    def __init__(self, kind="int8", faulty=None, render_mode=None):
        self.kind, self.faulty = kind, faulty
        self.number = Row.made     # environments that step together are told apart by it
        Row.made += 1

    def mask(self):
        return [int(self.place > 0), int(self.place < 4), int(self.place == 4)]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = 2
        return self.look("reset", self.mask())

    def step(self, action):
        assert self.mask()[action], "done what cannot be done"
        out = bool(action == 2)
        self.place += (-1, 1, 0)[action]
        obs, info = self.look("end" if out else "step", [0, 0, 0] if out else self.mask())
        return obs, 1.0, out, False, info

    def look(self, when, mask):
        obs = np.array([self.place], np.float32)
        if self.faulty == when or self.faulty == "one of them" and self.number % 2:
            return obs, {}
        if self.faulty == "zeros" and when == "step":
            mask = [0, 0, 0]
        wrong = {"short": [1, 1], "twos": [2, 1, 0], "deep": [[1, 1, 0]]}
        return obs, {"action_mask": KINDS[self.kind](wrong.get(self.faulty, mask))}

    def render(self):
        return np.full((40, 60, 3), 50 * self.place, np.uint8)


class OneHotTaxi(gym.ObservationWrapper):
    "Taxi, its number of a square as a vector of zeros and a one; the wrapper leaves masks as they are"
    def __init__(self, render_mode=None):
        newest = max(name for name in gym.registry if name.startswith("Taxi-v"))
        super().__init__(gym.make(newest, render_mode=render_mode))
        self.observation_space = Box(0, 1, (500,))

    def observation(self, square):
        return np.eye(500, dtype=np.float32)[square]


for kind in KINDS:
    gym.register(f"Row-{kind}-v0", entry_point=Row, max_episode_steps=6, kwargs={"kind": kind})
for faulty in ("reset", "step", "end", "one of them", "short", "twos", "deep", "zeros"):
    gym.register(f"Row-{faulty.replace(' ', '')}-v0", entry_point=Row, max_episode_steps=6, kwargs={"faulty": faulty})
gym.register("OneHotTaxi-v0", entry_point=OneHotTaxi, max_episode_steps=50)
MASKED = [f"Row-{kind}-v0" for kind in KINDS] + ["OneHotTaxi-v0"]


def first(obs, mask):
    "The first action that exists: in the row, always left, and at the left end right"
    return mask.argmax(axis=1)


def last(obs, mask):
    "The last action that exists: to the right end, and out"
    return mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1)


def zeros(obs):
    return np.zeros(len(obs), int)


@pytest.mark.parametrize("kind", KINDS)
def test_masks_of_every_observation(kind):
    with closing(make_envs(f"Row-{kind}-v0", 3)) as envs:
        obs, mask = reset_envs(envs)
        assert mask.dtype == bool and mask.tolist() == [[True, True, False]] * 3
        ends = 0
        for _ in range(40):
            step = step_envs(envs, np.array([last(obs, mask)[0], *first(obs, mask)[1:]]), mask)
            ended = step.terminated | step.truncated
            ends += ended.sum()
            np.testing.assert_array_equal(step.mask[:, 0], step.obs[:, 0] > 0)
            np.testing.assert_array_equal(step.mask[:, 2], step.obs[:, 0] == 4)
            lasting = ~step.terminated
            np.testing.assert_array_equal(step.next_mask[lasting, 0], step.next_obs[lasting, 0] > 0)
            np.testing.assert_array_equal(step.next_mask[lasting, 2], step.next_obs[lasting, 0] == 4)
            assert step.next_mask[step.terminated].all()                 # nothing follows: all, whatever was said
            np.testing.assert_array_equal(step.next_mask[~ended], step.mask[~ended])
            obs, mask = step.obs, step.mask
        assert ends == 40 // 3 + 2 * (40 // 6)                           # two to the right and out; two cut


def test_an_episode_that_is_over_needs_no_mask():
    with closing(make_envs("Row-end-v0")) as envs:
        obs, mask = reset_envs(envs)
        for _ in range(3):
            step = step_envs(envs, last(obs, mask), mask)
            obs, mask = step.obs, step.mask
        assert step.terminated.all() and step.next_mask.all()


@pytest.mark.parametrize("env_id", MASKED)
def test_the_random_policy_does_what_exists(env_id, tmp_path):
    for policy in (zeros, first):                                        # the environment of Row asserts it, too
        returns = evaluate(policy, env_id, 8, eps=1.0, n_envs=4).returns
        assert (returns == evaluate(policy, env_id, 8, eps=1.0, n_envs=4).returns).all()
    recording = record_video(first, env_id, tmp_path / "x.mp4", episodes=1, eps=1.0, max_steps=30)
    assert recording.lengths[0] >= 3


@pytest.mark.parametrize("env_id", MASKED)
def test_chance_on_the_way(env_id):
    rng = np.random.default_rng(0)
    with closing(make_envs(env_id, 4)) as envs:
        obs, mask = reset_envs(envs)
        n_actions = mask.shape[1]
        for _ in range(300):
            action = explore(first(obs, mask), 0.7, n_actions, rng, mask)
            assert mask[np.arange(4), action].all()
            step = step_envs(envs, action, mask)
            obs, mask = step.obs, step.mask


@pytest.mark.parametrize("env_id", MASKED)
def test_what_is_written_down_exists(env_id):
    batch = generate_buffer(last, env_id, 400, rand_action_p=0.8, n_envs=4, progress=False)
    steps = batch.transitions(np.arange(400))
    assert steps.mask.gather(1, steps.action[:, None]).all()
    for episode in batch:
        assert (episode.next_mask[:-1] == episode.mask[1:]).all()        # within an episode, the same observation
        assert episode.next_mask[-1].all() or not episode.terminated[-1]
    if env_id.startswith("Row"):
        lasting = steps.terminated == 0
        assert (steps.next_mask[lasting][:, 2] == (steps.next_obs[lasting][:, 0] == 4)).all()


def test_a_batch_without_masks():
    batch = generate_buffer(zeros, "CartPole-v1", 40, progress=False)
    assert batch.masks is None and batch.transitions(np.arange(40)).mask is None


def test_a_film_is_what_was_measured(tmp_path):
    for seed in range(3):
        measured = evaluate(first, "Row-int8-v0", 1, seed, eps=0.6)
        filmed = record_video(first, "Row-int8-v0", tmp_path / "x.mp4", seed, eps=0.6)
        assert filmed.returns[0] == measured.returns[0] and filmed.lengths[0] == measured.lengths[0]


def test_a_new_episode_has_its_own_mask(tmp_path):
    "After an episode that is over, all actions are written down, and at the next start `out` does not exist"
    assert evaluate(last, "Row-int8-v0", 9, n_envs=2).returns.tolist() == [3.0] * 9
    assert record_video(last, "Row-int8-v0", tmp_path / "x.mp4", episodes=3).returns == (3.0, 3.0, 3.0)


def test_the_panel_of_what_exists():
    class Sure:
        "Values and permissions that know nothing of masks"
        def q_values(self, obs):
            return np.array([[1.0, 3.0, 99.0]])

        def allowed(self, obs):
            return np.array([[False, True, True]])

    view = ask(Sure(), np.zeros(1), 3, np.array([[True, True, False]]))
    assert view.exists.tolist() == [True, True, False] and view.allowed.tolist() == [False, True, False]
    [values] = columns_of(view, scale=(0, 5), layout=plan((40, 60, 3), 3))
    assert values.values.tolist() == [1, 3, 99] and values.mark is None

    panel = Panel((40, 60, 3), ["left", "right", "out"], "x")
    frame = panel.draw(np.zeros((40, 60, 3), np.uint8), view, action=1, status="")
    assert panel.scale == (0, 5)                                         # the 99 is no measure of the others
    row = panel.layout.row
    rows = [frame[int((3.3 + a) * row):int((4.05 + a) * row), 150:] for a in range(3)]     # numbers and bars of each
    assert (rows[0] < 255).any() and (rows[1] < 255).any() and (rows[2] == 255).all()


def test_taxi_says_so():
    with closing(make_envs("OneHotTaxi-v0", 2)) as envs:
        _, mask = reset_envs(envs)
        taxis = [env.unwrapped for env in envs.envs]
        assert mask.tolist() == [taxi.action_mask(taxi.s).astype(bool).tolist() for taxi in taxis]
        assert not mask.all()


@pytest.mark.parametrize(("faulty", "words"), [
    ("reset", "missing before a step and there after it"),
    ("step", "missing after a step and there before it"),
    ("oneofthem", "of environment . is None"),
    ("short", r"is \[1 1\]: an environment with masks gives 3 zeros and ones"),
    ("twos", r"is \[2 1 0\]"),
    ("deep", r"is \[\[1 1 0\]\]"),
    ("zeros", r"is \[0 0 0\].*at least one"),
])
def test_what_is_no_mask(faulty, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        evaluate(first if faulty != "reset" else zeros, f"Row-{faulty}-v0", 4)
    if faulty != "oneofthem":
        with pytest.raises(ValueError, match=words):
            record_video(first if faulty != "reset" else zeros, f"Row-{faulty}-v0", tmp_path / "x.mp4")
    assert not list(tmp_path.iterdir())


def test_a_mask_that_is_not_handed_on():
    with closing(make_envs("Row-int8-v0", 2)) as envs:
        reset_envs(envs)
        with pytest.raises(ValueError, match="handed on as `mask`"):
            step_envs(envs, np.array([0, 0]))


def test_an_end_by_time_limit_needs_its_mask():
    "The environment is cut at once by a wrapper that loses the last mask"
    class Loses(gym.Wrapper):
        def step(self, action):
            obs, reward, terminated, truncated, info = self.env.step(action)
            return obs, reward, terminated, truncated, {} if truncated else info

    gym.register("Loses-v0", entry_point=lambda: Loses(gym.wrappers.TimeLimit(Row(), 2)))
    with closing(make_envs("Loses-v0", 2)) as envs:
        obs, mask = reset_envs(envs)
        mask = step_envs(envs, np.array([0, 1]), mask).mask
        with pytest.raises(ValueError, match="of environment 0 is None"):
            step_envs(envs, np.array([0, 1]), mask)


def test_a_policy_that_does_not_look(tmp_path):
    words = r"action 0 of environment 0 does not exist now, by its mask \[0, 1, 0\]: a policy that takes `mask`"
    with pytest.raises(ValueError, match=words):
        evaluate(zeros, "Row-int8-v0", 1)                                # left, left, and once more
    with pytest.raises(ValueError, match=words):
        record_video(zeros, "Row-int8-v0", tmp_path / "x.mp4")
    with pytest.raises(ValueError, match=words):
        generate_buffer(zeros, "Row-int8-v0", 8, low_noise_p=1, n_envs=1, progress=False)
    assert not list(tmp_path.iterdir())


def test_who_is_told():
    class Agent:
        def act(self, obs, eps=0.0, mask=None):
            return first(obs, mask)

    def anything(*args, **kwargs):
        return zeros(args[0])

    mask = np.array([[False, True], [True, True]])
    obs = np.zeros((2, 1))
    assert policy_of(Agent())(obs, mask).tolist() == [1, 0]
    assert policy_of(lambda obs, *, mask: first(obs, mask))(obs, mask).tolist() == [1, 0]
    assert policy_of(anything)(obs, mask).tolist() == [0, 0]
    assert policy_of(lambda obs, mask: zeros(obs) if mask is None else None)(obs, None).tolist() == [0, 0]
    assert not takes_mask(zeros) and not takes_mask(np.add) and not takes_mask(min)


def test_without_masks_chance_is_what_it_was():
    "The numbers of explore before there were masks, in the same order"
    ours, by_hand = np.random.default_rng(3), np.random.default_rng(3)
    action = np.arange(50) % 4
    for eps in (0.0, 0.3, 1.0, np.linspace(0, 1, 50)):
        is_random = by_hand.random(50) < eps
        random_action = by_hand.integers(4, size=50)
        np.testing.assert_array_equal(explore(action, eps, 4, ours), np.where(is_random, random_action, action))
    assert ours.bit_generator.state == by_hand.bit_generator.state
    with closing(make_envs("CartPole-v1", 2)) as envs:
        obs, mask = reset_envs(envs)
        step = step_envs(envs, np.array([0, 1]), mask)
        assert mask is step.mask is step.next_mask is None


def test_each_that_exists_is_as_likely():
    rng = np.random.default_rng(0)
    mask = rng.random((6, 5)) < 0.6
    mask[0] = [False, False, False, False, True]
    mask[1] = True
    mask[:, 4] = True
    drawn = np.array([random_actions(6, 5, rng, mask) for _ in range(4000)])    # (4000, 6)
    for i, row in enumerate(mask):
        shares = np.bincount(drawn[:, i], minlength=5) / 4000
        np.testing.assert_allclose(shares, row / row.sum(), atol=0.035)
        assert (shares[~row] == 0).all()


def test_vector_environments_that_do_not_say_who_gave_one():
    info = {"action_mask": np.array([[1, 0], [1, 1]])}
    assert mask_of(info, 2, 2).tolist() == [[True, False], [True, True]]


def test_one_environment_alone():
    with closing(make_env("OneHotTaxi-v0", seed=4)) as alone, closing(make_envs("OneHotTaxi-v0", 2, seed=4)) as envs:
        assert (alone.reset()[1]["action_mask"] == reset_envs(envs)[1][0]).all()
