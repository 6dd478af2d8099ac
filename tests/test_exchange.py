"""Minari both ways: what an environment gave, what Minari's own reader sees, and back again, bit for bit.

Minari's collector needs jax, so data sets that are Minari's own are written by its `create_dataset_from_buffers` from
`EpisodeBuffer`s that are filled step by step.
"""
import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.toy_text.taxi import TaxiEnv
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, Tuple

from bcq_nb.alignment import PROB
from bcq_nb.buffers import ReplayBuffer
from bcq_nb.exchange import from_minari, to_minari
from bcq_nb.frames import FrameBuffer
from bcq_nb.tables import Table

minari = pytest.importorskip("minari", reason="Minari needs Python 3.11, and comes with bcq_nb[minari]")
EpisodeBuffer = minari.data_collector.EpisodeBuffer

formats = pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")   # of Minari, and what is doubtful is in the notes


@pytest.fixture(autouse=True)
def datasets(tmp_path, monkeypatch):
    "Data sets of a test are its own"
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


def bits(tensor):
    return tensor.numpy().tobytes()


def steps_of(buffer):
    "Every transition, episode after episode: all that a buffer keeps of it, as bytes"
    episodes = []
    for slots in buffer.episodes():
        batch = buffer.transitions(slots)
        prob = [None] * len(slots) if buffer.prob is None else buffer.prob[slots].tolist()
        mask = [None] * len(slots) if batch.mask is None else [bits(row) for row in batch.mask]
        next_mask = [None] * len(slots) if batch.next_mask is None else [bits(row) for row in batch.next_mask]
        columns = ([bits(row) for row in batch.obs], batch.action.tolist(), batch.reward.tolist(),
                   [bits(row) for row in batch.next_obs], batch.terminated.tolist(), mask, next_mask, prob)
        episodes.append(list(zip(*columns, strict=True)))
    return episodes


# What an environment gave

def play(env, n_episodes):
    "Steps as they come from `env.step`, and the same as episodes of Minari"
    steps, episodes = [], []
    for seed in range(n_episodes):
        obs, info = env.reset(seed=seed)
        env.action_space.seed(seed)
        episode = EpisodeBuffer(seed=seed, observations=[obs], actions=[], infos={"action_mask": [mask_in(info, env)]})
        ended = False
        while not ended:
            action = env.action_space.sample(np.asarray(mask_in(info, env)))
            next_obs, reward, terminated, truncated, next_info = env.step(action)
            steps.append((obs, action, reward, next_obs, terminated, truncated, mask_in(info, env),
                          mask_in(next_info, env)))
            episode.observations.append(next_obs)
            episode.actions.append(action)
            episode.rewards.append(reward)
            episode.terminations.append(terminated)
            episode.truncations.append(truncated)
            episode.infos["action_mask"].append(mask_in(next_info, env))
            obs, info, ended = next_obs, next_info, terminated or truncated
        episodes.append(episode)
    return steps, episodes


def mask_in(info, env):
    return info.get("action_mask", np.ones(env.action_space.n, np.int8))


@formats
def test_cartpole_is_what_the_environment_gave(data_format):
    env = gym.make("CartPole-v1", max_episode_steps=14)
    steps, episodes = play(env, 25)
    minari.create_dataset_from_buffers("cartpole-v0", episodes, env=env, data_format=data_format)
    buffer = from_minari("cartpole-v0")
    batch = buffer.transitions(buffer.slots())
    columns = [np.array(column) for column in zip(*steps, strict=True)]
    obs, action, reward, next_obs, terminated, truncated = columns[:6]
    assert terminated.any() and truncated.any()
    assert np.array_equal(batch.obs, obs) and np.array_equal(batch.next_obs, next_obs)
    assert np.array_equal(batch.action, action) and np.array_equal(batch.reward, reward)
    assert np.array_equal(batch.terminated, terminated) and np.array_equal(buffer.ended, terminated | truncated)
    assert batch.mask.all() and batch.next_mask.all()
    assert buffer.obs_space == env.observation_space and buffer.n_actions == 2
    assert buffer.notes == ("left in the data set: the seeds of episodes (25)",)


@formats
def test_taxi_is_what_the_environment_gave(data_format):
    "Numbers of states, masks that change, steps that terminate"
    env = gym.wrappers.TimeLimit(TaxiEnv(), 60)
    steps, episodes = play(env, 6)
    data = minari.create_dataset_from_buffers("taxi-v0", episodes, observation_space=env.observation_space,
                                              action_space=env.action_space, data_format=data_format)
    buffer = from_minari(data, observe=lambda state: np.eye(500)[state])
    batch = buffer.transitions(buffer.slots())
    columns = [np.array(column) for column in zip(*steps, strict=True)]
    obs, action, reward, next_obs, terminated, _, mask, next_mask = columns
    assert np.array_equal(batch.obs.argmax(1), obs) and np.array_equal(batch.next_obs.argmax(1), next_obs)
    assert np.array_equal(batch.action, action) and np.array_equal(batch.reward, reward)
    assert np.array_equal(batch.mask, mask) and np.array_equal(batch.next_mask, next_mask)
    assert not mask.all() and np.array_equal(batch.terminated, terminated)
    without = from_minari(data, observe=lambda state: np.eye(500)[state], masks=False)
    assert without.masks is None and any("action_mask" in note for note in without.notes)


# There and back

def made(kind, n_envs, capacity, n_rows, masks=False, probs=False, ends=0.1):
    "A buffer that was played into: episodes terminate, are cut, lose a life (frames) or go on"
    rng = np.random.default_rng(0)
    is_frames = kind is FrameBuffer
    space = Box(0, 255, (4, 6, 5), np.uint8) if is_frames else Box(-np.inf, np.inf, (3,))
    buffer = kind(capacity, space, 5, n_envs, masks, probs)

    def new(n):
        if is_frames:
            return rng.integers(1, 256, (n, 1, 6, 5), dtype=np.uint8)
        return rng.normal(size=(n, 3)).astype(np.float32)

    def begin(n):
        return np.concatenate([np.zeros((n, 3, 6, 5), np.uint8), new(n)], axis=1) if is_frames else new(n)

    obs = begin(n_envs)
    mask = rng.random((n_envs, 5)) < 0.6
    mask[:, 2] = True
    for _ in range(n_rows):
        next_obs = np.concatenate([obs[:, 1:], new(n_envs)], axis=1) if is_frames else new(n_envs)
        terminated, truncated = rng.random((2, n_envs)) < ends
        life = (rng.random(n_envs) < ends) & is_frames
        next_mask = rng.random((n_envs, 5)) < 0.6
        next_mask[:, 2] = True
        extra = {"mask": mask, "next_mask": next_mask} if masks else {}
        if probs:
            extra["prob"] = rng.uniform(0.1, 1, n_envs)
        action = np.array([rng.choice(np.flatnonzero(row)) for row in mask])
        reward = rng.normal(size=n_envs).astype(np.float32)
        buffer.add(obs, action, reward, next_obs, terminated | life, truncated, **extra)
        obs, mask = next_obs.copy(), next_mask.copy()
        ended = terminated | truncated
        obs[ended] = begin(int(ended.sum()))
    return buffer


cases = pytest.mark.parametrize("n_envs, capacity, n_rows", [(1, 200, 90), (3, 200, 60), (1, 70, 200), (3, 90, 100)],
                                ids=["one", "three", "one wrapped", "three wrapped"])


@formats
@cases
@pytest.mark.parametrize("kind", [ReplayBuffer, FrameBuffer])
def test_there_and_back(kind, n_envs, capacity, n_rows, data_format):
    buffer = made(kind, n_envs, capacity, n_rows)
    buffer.notes = ("something was doubtful",)
    data = to_minari(buffer, "test-v0", data_format=data_format)
    assert data.storage.FORMAT == data_format
    again = from_minari("test-v0")
    assert type(again) is kind and again.n_envs == 1
    assert steps_of(again) == steps_of(buffer)
    assert again.obs_space == buffer.obs_space and again.n_actions == 5 and again.notes == buffer.notes
    ours = [bool(buffer.ended[slots[-1]]) for slots in buffer.episodes()]
    theirs = [bool(again.ended[slots[-1]]) for slots in again.episodes()]
    assert all(theirs) and sum(ours) >= len(ours) - n_envs   # what goes on here is cut there
    assert len(again.slots()) == len(buffer.slots())
    begins = [bool(buffer.first[slots[0]]) for slots in buffer.episodes()]
    assert [bool(again.first[slots[0]]) for slots in again.episodes()] == begins


@formats
@pytest.mark.parametrize("kind", [ReplayBuffer, FrameBuffer])
def test_masks_and_probabilities_there_and_back(kind, data_format):
    buffer = made(kind, 2, 100, 90, masks=True, probs=True)
    data = to_minari(buffer, "test-v0", data_format=data_format)
    episode = next(data.iterate_episodes())
    assert episode.infos["action_mask"].dtype == np.int8 and len(episode.infos[PROB]) == len(episode) + 1
    assert steps_of(from_minari(data)) == steps_of(buffer)


@formats
@cases
@pytest.mark.parametrize("kind", [ReplayBuffer, FrameBuffer])
def test_minari_reads_what_we_wrote(kind, n_envs, capacity, n_rows, data_format):
    buffer = made(kind, n_envs, capacity, n_rows)
    to_minari(buffer, "ours/test-v3", data_format=data_format, author="somebody", algorithm_name="chance")
    data = minari.load_dataset("ours/test-v3")
    assert data.total_steps == len(buffer.slots()) and data.action_space == Discrete(5)
    assert data.observation_space == buffer.obs_space and data.storage.metadata["author"] == {"somebody"}
    for theirs, slots in zip(data.iterate_episodes(), buffer.episodes(), strict=True):
        ours = buffer.transitions(slots)
        assert len(theirs.observations) == len(theirs.actions) + 1 == len(slots) + 1
        assert np.array_equal(theirs.observations[:-1], ours.obs)
        assert np.array_equal(theirs.observations[1:], ours.next_obs)
        assert np.array_equal(theirs.actions, ours.action) and np.array_equal(theirs.rewards, ours.reward)
        assert np.array_equal(theirs.terminations, ours.terminated)
        assert not theirs.truncations[:-1].any() and theirs.truncations[-1] == (not theirs.terminations[-1])


@formats
@pytest.mark.parametrize("kind", [ReplayBuffer, FrameBuffer])
def test_long_episodes(kind, data_format):
    "Longer than what is written at once"
    buffer = made(kind, 1, 3000, 2800, ends=0.0005)
    assert max(len(slots) for slots in buffer.episodes()) > 1024
    assert steps_of(from_minari(to_minari(buffer, "test-v0", data_format=data_format))) == steps_of(buffer)


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.int16])
@formats
def test_types_of_observations(dtype, data_format):
    "They are kept as float32 here and in the type of their space there"
    space = Box(-1000, 1000, (2,), dtype)
    buffer = ReplayBuffer(10, space, 2)
    obs = np.random.default_rng(0).integers(-1000, 1000, (11, 1, 2)).astype(dtype)
    for k in range(10):
        buffer.add(obs[k], [k % 2], [k], obs[k + 1], [False], [k == 9])
    data = to_minari(buffer, "test-v0", data_format=data_format)
    [episode] = data.iterate_episodes()
    assert episode.observations.dtype == dtype and np.array_equal(episode.observations, obs[:, 0])
    assert steps_of(from_minari(data)) == steps_of(buffer)


def test_a_table_there_and_back():
    buffer = made(ReplayBuffer, 1, 20, 20)
    buffer.table = Table(("age", "ward", "pulse"), "drug", tuple("abcde"))
    assert from_minari(to_minari(buffer, "test-v0")).table == buffer.table


# Pictures

def pictures(shape, n_steps=6, **about):
    "A data set of random pictures"
    rng = np.random.default_rng(0)
    obs = rng.integers(1, 256, (n_steps + 1, *shape), dtype=np.uint8)
    is_last = np.arange(n_steps) == n_steps - 1
    episode = EpisodeBuffer(observations=obs, actions=rng.integers(2, size=n_steps), rewards=np.zeros(n_steps),
                            terminations=is_last, truncations=np.zeros(n_steps, bool))
    data = minari.create_dataset_from_buffers("pictures-v0", [episode], observation_space=Box(0, 255, shape, np.uint8),
                                              action_space=Discrete(2), **about)
    return obs, data


@formats
@pytest.mark.parametrize("shape", [(40, 36), (40, 36, 1)])
def test_single_pictures_become_stacks(shape, data_format):
    obs, data = pictures(shape, jpeg_encoding=False, data_format=data_format)
    buffer = from_minari(data, stack=3)
    assert isinstance(buffer, FrameBuffer) and buffer.obs_space == Box(0, 255, (3, 40, 36), np.uint8)
    batch = buffer.transitions(buffer.slots())
    frames = np.concatenate([np.zeros((2, 40, 36), np.uint8), obs.reshape(7, 40, 36)])
    for t in range(6):
        assert np.array_equal(batch.obs[t], frames[t:t + 3]) and np.array_equal(batch.next_obs[t], frames[t + 1:t + 4])
    assert buffer.notes == () and buffer.first[0]


@formats
def test_lossy_pictures_are_told(data_format):
    obs, data = pictures((40, 36), data_format=data_format)
    buffer = from_minari(data, stack=1)
    assert buffer.notes == ("pictures kept as JPEG, so that pixels may not be what was seen: 7",)
    assert not np.array_equal(buffer.transitions(buffer.slots()).obs[:, 0], obs[:-1])


@formats
def test_pictures_are_written_without_loss(data_format):
    "Also where Minari takes a stack for a picture, which it does from 32 frames on"
    rng = np.random.default_rng(0)
    buffer = FrameBuffer(40, Box(0, 255, (32, 32, 32), np.uint8), 2)
    obs = np.zeros((1, 32, 32, 32), np.uint8)
    for _ in range(40):
        next_obs = np.concatenate([obs[:, 1:], rng.integers(1, 256, (1, 1, 32, 32), dtype=np.uint8)], axis=1)
        buffer.add(obs, [0], [0], next_obs, [False], [False])
        obs = next_obs
    data = to_minari(buffer, "test-v0", data_format=data_format)
    assert not data.storage.jpeg_encoding
    again = from_minari(data)
    assert steps_of(again) == steps_of(buffer) and again.notes == ()


def test_pictures_that_are_no_stacks_are_kept_whole():
    "Three colors, one behind the other, are no frames that go on"
    obs, data = pictures((3, 40, 36))
    buffer = from_minari(data)
    assert type(buffer) is ReplayBuffer
    assert np.array_equal(buffer.transitions(buffer.slots()).obs, obs[:-1])


# Other observations, other actions, other ends

def dataset(episodes, space, actions=None, name="test-v0", **about):
    return minari.create_dataset_from_buffers(name, episodes, observation_space=space,
                                              action_space=actions or Discrete(2), **about)


def episode(observations, n_steps=3, terminates=True, **changes):
    is_last = np.arange(n_steps) == n_steps - 1
    given = {"observations": observations, "actions": np.arange(n_steps) % 2, "rewards": np.ones(n_steps),
             "terminations": is_last & terminates, "truncations": is_last & (not terminates)}
    return EpisodeBuffer(**{**given, **changes})


VECTORS = np.arange(8, dtype=np.float32).reshape(4, 2)
SPACE = Box(-99, 99, (2,))


@formats
def test_dictionaries_and_tuples(data_format):
    space = Dict({"goal": Box(0, 9, (1,)), "place": Discrete(4)})
    data = dataset([episode({"goal": VECTORS[:, :1], "place": np.array([3, 1, 0, 2])})], space, data_format=data_format)
    with pytest.raises(ValueError, match="episode 0 of data set 'test-v0': observations are in a dict: .*observe="):
        from_minari(data)
    buffer = from_minari(data, observe=lambda obs: np.concatenate([obs["goal"], np.eye(4)[obs["place"]]], axis=1))
    assert buffer.transitions(buffer.slots()).obs.tolist() == [[0, 0, 0, 0, 1], [2, 0, 1, 0, 0], [4, 1, 0, 0, 0]]
    pair = dataset([episode((VECTORS, VECTORS))], Tuple([SPACE, SPACE]), name="pair-v0", data_format=data_format)
    with pytest.raises(ValueError, match="observations are in a tuple"):
        from_minari(pair)
    assert from_minari(pair, observe=lambda obs: obs[1]).transitions(np.arange(3)).obs.tolist() == VECTORS[:-1].tolist()


@pytest.mark.parametrize("space, observations", [
    (Discrete(9), np.arange(4)), (Box(0, 1, (2, 3)), np.zeros((4, 2, 3), np.float32)),
    (Box(0, 255, (40, 36, 3), np.uint8), np.zeros((4, 40, 36, 3), np.uint8)), (Box(0, 1, ()), np.zeros(4, np.float32))])
def test_observations_that_no_network_takes(space, observations):
    data = dataset([episode(observations)], space)
    with pytest.raises(ValueError, match="episode 0 .*: observations are of shape .*Give observe="):
        from_minari(data)
    assert len(from_minari(data, observe=lambda obs: obs.reshape(4, -1)[:, :1].astype(np.float32))) == 3


def test_bits_are_vectors():
    data = dataset([episode(np.array([[0, 1], [1, 0], [1, 1], [0, 0]], np.int8))], MultiBinary(2))
    assert from_minari(data).transitions(np.arange(3)).obs.tolist() == [[0, 1], [1, 0], [1, 1]]


def test_actions_from_another_number_on():
    data = dataset([episode(VECTORS, actions=np.array([-1, 1, 0]))], SPACE, Discrete(3, start=-1))
    buffer = from_minari(data)
    assert buffer.action.tolist() == [0, 2, 1] and buffer.n_actions == 3
    assert buffer.notes == ("actions that are counted from -1 in the data set, and from 0 here: 3",)


@pytest.mark.parametrize("space", [Box(-1, 1, (2,)), MultiBinary(2), Tuple([Discrete(2)]), Dict({"a": Discrete(2)})])
def test_other_actions_are_refused(space):
    n = {"a": np.zeros(3, int)} if isinstance(space, Dict) else np.zeros((3, 2), np.float32)
    actions = (np.zeros(3, int),) if isinstance(space, Tuple) else n
    data = dataset([episode(VECTORS, actions=actions)], SPACE, space)
    with pytest.raises(ValueError, match=r"data set 'test-v0' has actions .*: discrete BCQ takes Discrete\(n\)"):
        from_minari(data)


@formats
def test_an_episode_without_an_end_is_cut(data_format):
    nothing = np.zeros(3, bool)
    open_end = episode(VECTORS, terminations=nothing, truncations=nothing)
    buffer = from_minari(dataset([open_end, episode(VECTORS)], SPACE, data_format=data_format))
    assert buffer.ended.tolist() == [False, False, True] * 2 and buffer.terminated.tolist() == [0, 0, 0, 0, 0, 1]
    assert buffer.notes == ("episodes without an end, taken as cut after their last step: 1",)
    assert [len(slots) for slots in buffer.episodes()] == [3, 3]


@pytest.mark.parametrize("is_frames", [False, True])
def test_an_end_in_the_middle(is_frames):
    observations, space = VECTORS, SPACE
    if is_frames:
        frames = np.random.default_rng(0).integers(1, 256, (7, 4, 4), dtype=np.uint8)
        observations = np.stack([frames[k:k + 4] for k in range(4)])   # it begins in the middle as well
        space = Box(0, 255, (4, 4, 4), np.uint8)
    both = episode(observations, terminations=np.array([True, False, False]),
                   truncations=np.array([False, False, True]))
    buffer = from_minari(dataset([both], space))
    assert [len(slots) for slots in buffer.episodes()] == [1, 2]
    assert buffer.notes == ("steps that end an episode in its middle, where another is taken to begin: 1",)
    batch = buffer.transitions(buffer.slots())
    assert np.array_equal(batch.obs, observations[:-1]) and np.array_equal(batch.next_obs, observations[1:])


@pytest.mark.parametrize("n_observations", [3, 5])
def test_observations_that_are_not_one_more(n_observations):
    data = dataset([episode(VECTORS), episode(np.zeros((n_observations, 2), np.float32))], SPACE)
    with pytest.raises(ValueError, match=f"episode 1 of .*'test-v0': there are {n_observations} observations for 3"):
        from_minari(data)


def test_numbers_of_64_bits():
    space = Box(-np.inf, np.inf, (2,), np.float64)
    minutes = np.array([[0, 0.1], [1, 0.2], [2, 0.3], [2, 0.4]]) / [1440, 1]
    days = np.array([45_292, 0]) + minutes
    buffer = from_minari(dataset([episode(days)], space))
    assert buffer.notes == ("steps that change a number by so little that float32 does not show it: 2",)
    seconds = dataset([episode(np.array([1.7e9, 0]) + 86_400 * minutes)], space, name="seconds-v0")
    with pytest.raises(ValueError, match="row 0 .*obs holds 1700000060.0, which float32 cannot hold exactly"):
        from_minari(seconds)
    huge = dataset([episode(days * 1e100)], space, name="huge-v0")
    with pytest.raises(ValueError, match=r"episode 0 of data set 'huge-v0': row 0 .*too large for float32"):
        from_minari(huge)
    integers = dataset([episode(np.array([[2**24 + 1]] * 4))], Box(0, 2**30, (1,), np.int64), name="integers-v0")
    with pytest.raises(ValueError, match="16777217, which float32 cannot hold exactly"):
        from_minari(integers)


@pytest.mark.parametrize("change, words", [
    ({"rewards": np.array([0, np.nan, 0])}, "row 1 .*reward holds NaN"),
    ({"actions": np.array([0, 1, 2])}, "row 2 .*action is"),
    ({"infos": {"action_mask": np.zeros((4, 2), np.int8)}}, "does not exist by its mask"),
    ({"infos": {"action_mask": np.ones((3, 2), np.int8)}}, "mask has shape"),
    ({"infos": {PROB: np.zeros(4)}}, "prob is 0")])
def test_what_a_buffer_would_not_take(change, words):
    data = dataset([episode(VECTORS), episode(VECTORS, **change)], SPACE)
    if "infos" in change:
        data = dataset([episode(VECTORS, **change)], SPACE, name="other-v0")
    with pytest.raises(ValueError, match=rf"episode \d of data set '\w+-v0': .*{words}"):
        from_minari(data)


@formats
def test_what_is_left_there_is_told(data_format):
    infos = {"speed": np.arange(4.0)[:, None], "wind": np.ones((4, 2))}
    buffer = from_minari(dataset([episode(VECTORS, seed=3, infos=infos)], SPACE, data_format=data_format))
    assert buffer.notes == ("left in the data set: the seeds of episodes (1)",
                            "left in the data set: infos ['speed', 'wind']")


def test_a_part_of_a_data_set():
    data = dataset([episode(VECTORS + k, terminates=k % 2 == 0) for k in range(6)], SPACE)
    some = data.filter_episodes(lambda episode: episode.terminations[-1])
    buffer = from_minari(some)
    assert buffer.transitions(buffer.slots()).obs[::3, 0].tolist() == [0, 2, 4]
    first, second = minari.split_dataset(data, [4, 2], seed=0)
    assert len(from_minari(first)) == 12 and len(from_minari(second)) == 6


def test_an_episode_without_steps():
    none = EpisodeBuffer(observations=VECTORS[:1], actions=np.zeros(0, int), rewards=np.zeros(0),
                         terminations=np.zeros(0, bool), truncations=np.zeros(0, bool))
    data = dataset([episode(VECTORS), none], SPACE, data_format="arrow")
    with pytest.raises(ValueError, match="episode 1 of data set 'test-v0': it has no steps"):
        from_minari(data)


# Opening and writing

def test_nothing_is_downloaded(monkeypatch):
    monkeypatch.setattr(minari.storage.hosting, "download_dataset", lambda *_, **__: pytest.fail("downloaded"))
    with pytest.raises(FileNotFoundError, match="there is no data set 'atari/pong/expert-v0' on this machine"):
        from_minari("atari/pong/expert-v0")


@formats
def test_damaged_data_sets(datasets, data_format):
    dataset([episode(VECTORS), episode(VECTORS)], SPACE, data_format=data_format)
    for path in sorted((datasets / "test-v0").rglob("*")):
        if path.is_file() and path.suffix in (".hdf5", ".arrow") or path == datasets / "test-v0/data/metadata.json":
            content = path.read_bytes()
            path.write_bytes(content[:len(content) // 2])
            with pytest.raises(ValueError, match="Minari cannot read the data set 'test-v0'"):
                from_minari("test-v0")
            path.write_bytes(content)
    assert len(from_minari("test-v0")) == 6


def test_more_steps_than_a_data_set_says():
    data = dataset([episode(VECTORS), episode(VECTORS)], SPACE)
    data.storage.update_metadata({"total_steps": 5})
    with pytest.raises(ValueError, match="data set 'test-v0' has 6 steps, and says that it has 5"):
        from_minari("test-v0")


@pytest.mark.parametrize("ours", ["words", {"table": {"obs": ["a"]}}, {"notes": 3}, {"parts": None}])
def test_damaged_metadata(ours):
    data = to_minari(made(ReplayBuffer, 1, 20, 20), "test-v0")
    data.storage.update_metadata({"bcq_nb": ours})
    with pytest.raises(ValueError, match="Minari cannot read the data set 'test-v0'"):
        from_minari(data)


def test_without_minari(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "minari", None)
    for use in (lambda: from_minari("test-v0"), lambda: to_minari(made(ReplayBuffer, 1, 5, 5), "test-v0")):
        with pytest.raises(ImportError, match=r"pip install 'bcq_nb\[minari\]'"):
            use()


def test_a_log_with_holes_is_refused_and_leaves_nothing(datasets):
    buffer = ReplayBuffer(3, SPACE, 2)
    for k in (0, 1, 2):
        buffer.add([[k, 0]], [0], [0], [[k + 1 + (k == 1), 0]], [False], [False])
    with pytest.raises(ValueError, match="the obs of step 2 is not the next_obs of step 1"):
        to_minari(buffer, "holes-v0")
    assert not (datasets / "holes-v0").exists()
    assert len(to_minari(made(ReplayBuffer, 1, 5, 5), "holes-v0")) > 0   # the name is free


@pytest.mark.parametrize("name", ["cartpole", "cart pole-v0", "-v0", "", "cartpole-v", "a//b-v0"])
def test_names_that_minari_does_not_take(datasets, name):
    with pytest.raises(ValueError, match="dataset_id is .*'cartpole/random-v0'"):
        to_minari(made(ReplayBuffer, 1, 5, 5), name)
    assert not list(datasets.iterdir())


def test_a_name_that_is_taken():
    buffer = made(ReplayBuffer, 1, 5, 5)
    to_minari(buffer, "test-v0")
    with pytest.raises(ValueError, match="there is a data set 'test-v0' already"):
        to_minari(buffer, "test-v0")
    assert steps_of(from_minari("test-v0")) == steps_of(buffer)


def test_an_empty_buffer(datasets):
    with pytest.raises(ValueError, match="the buffer has no transitions"):
        to_minari(ReplayBuffer(3, SPACE, 2), "test-v0")
    assert not list(datasets.iterdir())


def test_an_unknown_environment(datasets):
    with pytest.raises(ValueError, match="there is no environment 'CartPol-v1': did you mean CartPole-v1"):
        to_minari(made(ReplayBuffer, 1, 5, 5), "test-v0", env="CartPol-v1")
    assert not (datasets / "test-v0").exists()


def test_stacks_of_nothing():
    _, data = pictures((40, 36))
    with pytest.raises(ValueError, match="stack is 0: it must be an integer from 1"):
        from_minari(data, stack=0)


def test_the_environment_goes_with_it():
    data = to_minari(made(ReplayBuffer, 1, 5, 5), "test-v0", env="CartPole-v1")
    assert data.recover_environment().spec.id == "CartPole-v1" and data.observation_space.shape == (3,)


def test_one_warning_says_what_is_doubtful():
    nothing = np.zeros(3, bool)
    data = dataset([episode(VECTORS, terminations=nothing, truncations=nothing)], SPACE, Discrete(2, start=0))
    with pytest.warns(UserWarning) as caught:
        buffer = from_minari(data)
    assert [str(warning.message) for warning in caught] == list(buffer.notes)
