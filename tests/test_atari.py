"""`bcq_nb.atari` beyond what its notebook shows: every game, every seed, memory that is not shared."""
import ale_py
import cv2
import gymnasium as gym
import numpy as np
import pytest
from ale_py import AtariVectorEnv, roms
from gymnasium.vector import AutoresetMode

from bcq_nb.atari import (
    AtariConfig,
    SeedALE,
    ale_seeds,
    ale_settings,
    is_atari,
    known_games,
    make_atari_env,
    make_atari_envs,
    plain_id,
)


def test_the_gray_formula_on_all_games():
    "Twelve frames of each: the luminance formula is ALE's gray table in all games but two"
    differences = {}
    for rom in known_games().values():
        ale = ale_py.ALEInterface()
        ale.loadROM(roms.get_rom_path(rom))
        actions = np.random.default_rng(0).choice(ale.getMinimalActionSet(), size=12)
        for action in actions:
            ale.act(action)
            by_formula = cv2.cvtColor(ale.getScreenRGB(), cv2.COLOR_RGB2GRAY)
            difference = np.abs(by_formula.astype(int) - ale.getScreenGrayscale()).max()
            differences[rom] = max(differences.get(rom, 0), int(difference))
    assert len(differences) == 104
    assert {rom: largest for rom, largest in differences.items() if largest} == {"laser_gates": 1, "air_raid": 236}


def test_eight_games_are_eight():
    "Compared over whole games: at one moment, two on different paths may show the same picture"
    envs = make_atari_envs("ALE/Seaquest-v5", n_envs=8, seed=0)
    envs.reset()
    actions = np.random.default_rng(0).integers(18, size=150)
    film = np.stack([envs.step(np.full(8, action))[0][:, -1] for action in actions], axis=1)   # (8, 150, 84, 84)
    assert len({game.tobytes() for game in film}) == 8


def test_idle_frames_at_the_start():
    for noop_max, expected in ((0, {0}), (3, {0, 1, 2})):
        envs = make_atari_envs("ALE/Pong-v5", config=AtariConfig(noop_max=noop_max))
        assert {int(envs.reset()[1]["episode_frame_number"][0]) for _ in range(20)} == expected


@pytest.mark.parametrize(("make", "action"), [(make_atari_env, 0), (make_atari_envs, np.array([0]))])
def test_an_observation_is_not_overwritten(make, action):
    env = make("ALE/Pong-v5")
    obs, _ = env.reset()
    before = obs.copy()
    for _ in range(5):
        env.step(action)
    np.testing.assert_array_equal(obs, before)


def test_observations_are_bytes_oldest_first():
    envs = make_atari_envs("ALE/Pong-v5")
    obs, _ = envs.reset()
    assert envs.single_observation_space.dtype == obs.dtype == np.uint8 and obs.max() > 1
    assert obs[0, -1].any() and not obs[0, :-1].any()              # the only frame there is stands last


def test_the_shared_metadata_stay_clean():
    envs = make_atari_envs("ALE/Pong-v5")
    assert envs.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    assert "autoreset_mode" not in gym.vector.VectorEnv.metadata


def test_truncations_until_every_game_was_cut():
    "In Breakout the ball waits for FIRE: an agent that never fires is cut, again and again, and never terminated"
    envs = make_atari_envs("ALE/Breakout-v5", n_envs=2, seed=0, config=AtariConfig(max_episode_steps=200))
    envs.reset()
    cuts = []
    for step in range(1, 501):
        _, _, terminated, truncated, info = envs.step(np.zeros(2, int))
        assert not terminated.any()
        if truncated.any():
            cuts.append((step, truncated.tolist(), info["episode_frame_number"].tolist()))
    assert cuts == [(200, [True, True], [0, 0]), (400, [True, True], [0, 0])]


def last_observation(envs, seed):
    "What the 50th random action of Pong led to"
    envs.reset(seed=seed)
    rng = np.random.default_rng(0)
    for _ in range(50):
        obs, _, terminated, _, info = envs.step(rng.integers(6, size=1))
    assert not terminated[0]
    return info.get("final_obs", obs)[0]


def test_the_last_observation_before_a_cut_is_a_true_one():
    unlimited = last_observation(make_atari_envs("ALE/Pong-v5"), seed=0)
    limited = last_observation(make_atari_envs("ALE/Pong-v5", config=AtariConfig(max_episode_steps=50)), seed=0)
    np.testing.assert_array_equal(limited, unlimited)


def test_the_limit_of_ale_leaves_a_ghost_in_gymnasium_too():
    single = SeedALE(gym.make("ALE/Pong-v5", frameskip=1, max_num_frames_per_episode=200), 0)
    single = gym.wrappers.AtariPreprocessing(single, noop_max=0)
    single.reset()
    rng = np.random.default_rng(0)
    for _ in range(50):
        frame, _, _, truncated, _ = single.step(rng.integers(6))
    assert truncated
    assert (frame != last_observation(make_atari_envs("ALE/Pong-v5"), seed=0)[-1]).any()


@pytest.mark.parametrize("make", [make_atari_env, make_atari_envs])
def test_after_a_seeded_reset_the_stream_goes_on(make):
    "Also where the first reset was given a seed: the one of the constructor does not come back"
    def frames(env, seed=None):
        env.reset(seed=seed)
        actions = np.random.default_rng(0).integers(18, size=60)
        if make is make_atari_envs:
            actions = actions[:, None]                         # (60, 1): one game
        return np.stack([env.step(action)[0] for action in actions])

    env = make("ALE/Seaquest-v5", seed=0)
    of_five = frames(env, seed=5)
    later = frames(env)
    np.testing.assert_array_equal(of_five, frames(make("ALE/Seaquest-v5", seed=5)))
    assert not np.array_equal(later, frames(make("ALE/Seaquest-v5", seed=0)))


def test_the_number_of_threads_changes_nothing():
    "By default ALE takes as many as the machine has; the games of a seed must not depend on the machine"
    def games(num_threads):
        settings = ale_settings(AtariConfig(noop_max=5))
        envs = AtariVectorEnv("breakout", 6, num_threads=num_threads, **settings)
        envs.reset(seed=ale_seeds(3, 6))
        rng = np.random.default_rng(0)
        seen = []
        for _ in range(60):
            obs, reward, terminated, _, _ = envs.step(rng.integers(4, size=6))
            seen += [obs.copy(), reward.copy(), terminated.copy()]
        return b"".join(array.tobytes() for array in seen)

    one = games(1)
    assert games(0) == games(5) == one


def test_an_id_with_its_module():
    "`ale_py:ALE/Pong-v5`, as Gymnasium takes it, is the same game"
    long = "ale_py:ALE/Pong-v5"
    assert plain_id(long) == plain_id("ALE/Pong-v5") == "ALE/Pong-v5"
    assert plain_id("my.module:Mine-v0") == "Mine-v0" and plain_id("CartPole-v1") == "CartPole-v1"
    assert is_atari(long) and is_atari("ale_py:PongNoFrameskip-v4") and not is_atari("ale_py:CartPole-v1")
    for make in (make_atari_env, make_atari_envs):
        first, second = make(long, seed=1), make("ALE/Pong-v5", seed=1)
        np.testing.assert_array_equal(first.reset()[0], second.reset()[0])
        assert first.spec.id == "ALE/Pong-v5"
