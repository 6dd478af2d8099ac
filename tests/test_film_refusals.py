"""What cannot be filmed or shown: one line says why, and no half-written file is left."""
import sys
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from bcq_nb.evaluation import evaluate
from bcq_nb.film import READABLE, check_film, record_video
from bcq_nb.show import save_gif, show_video
from bcq_nb.video import read_frames, video_writer


def zeros(obs):
    return np.zeros(len(obs), int)


def stumbles(obs):
    "After a few steps, an action that does not exist"
    return [0] if obs[0, 1] > -0.5 else [2]


class Unseen(gym.Env):
    "An environment without a picture"
    observation_space = Box(0, 1, (3,))
    action_space = Discrete(2)


class Drawn(gym.Env):
    "Draws what it was told to draw; its observations are lists"
    metadata = {"render_modes": ["rgb_array"], "render_fps": None}
    observation_space = Box(0, 9, (3,))
    action_space = Discrete(2)

    def __init__(self, drawn, render_mode=None):
        self.drawn = drawn

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return [0.0, 1.0, 2.0], {}

    def step(self, action):
        self.t += 1
        return [float(self.t), 1, 2], 1.0, self.t == 4, False, {}

    def render(self):
        return self.drawn


gym.register("Unseen-v0", entry_point=Unseen)
PICTURES = {
    "color": np.full((40, 60, 3), 200, np.uint8),
    "gray": np.full((40, 60), 200, np.uint8),
    "None": None,
    "fractions": np.full((40, 60, 3), 0.5),
    "whole": np.full((40, 60, 3), 200),
    "four": np.full((40, 60, 4), 200, np.uint8),
    "several": [np.full((40, 60, 3), 200, np.uint8)] * 2,
    "empty": np.zeros((0, 60, 3), np.uint8),
}
for kind, drawn in PICTURES.items():
    gym.register(f"Drawn-{kind}-v0", entry_point=Drawn, kwargs={"drawn": drawn}, disable_env_checker=True)
breakout_agent = SimpleNamespace(act=zeros, obs_space=Box(0, 255, (4, 84, 84), np.uint8), n_actions=4)


@pytest.mark.parametrize(("policy", "settings", "words"), [
    (breakout_agent, {}, "load the agent that was trained on it"),
    (stumbles, {}, "they must be 1 integer"),
    (zeros, {"episodes": 0}, "episodes is 0: it must be an integer from 1"),
    (zeros, {"max_steps": 0}, "max_steps is 0: it must be an integer from 1"),
    (zeros, {"fps": 0}, "fps is 0: it must be a number above 0"),
    (zeros, {"fps": 1e-9}, "fps is 1e-09: it must be a number above 0, from 0.01 to 1,000"),
    (zeros, {"fps": 1e9}, "fps is .*: it must be a number above 0, from 0.01 to 1,000"),
    (zeros, {"eps": -0.1}, r"eps is -0.1: it must be a number from 0 to 1"),
    (zeros, {"path": "film.gif"}, "path is 'film.gif': the name of a video ends in .mp4"),
    (zeros, {"env_id": "ALE/Pog-v5"}, "ALE/Pong-v5"),
    (zeros, {"env_id": "Unseen-v0"}, "Unseen-v0 cannot be filmed: it has no render_mode='rgb_array'"),
])
def test_what_cannot_be_filmed(policy, settings, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        record_video(policy, **{"env_id": "CartPole-v1", "path": tmp_path / "x.mp4", **settings})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("kind", "words"), [
    ("None", "no picture but None: "),
    ("fractions", r"no picture but shape \(40, 60, 3\) and type float64"),
    ("whole", r"\(40, 60, 3\) and type int64: "),
    ("four", r"\(40, 60, 4\) and type uint8"),
    ("several", r"\(2, 40, 60, 3\) and type uint8"),
    ("empty", r"\(0, 60, 3\)"),
])
def test_what_is_no_picture(kind, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        record_video(zeros, f"Drawn-{kind}-v0", tmp_path / "x.mp4")
    assert not list(tmp_path.iterdir())


def test_gray_lists_and_an_unknown_speed(tmp_path):
    seen = []

    def remembers(obs):
        seen.append(obs)
        return zeros(obs)

    for kind in ("gray", "color"):                       # a gray picture is the same as one in three equal colors
        recording = record_video(remembers, f"Drawn-{kind}-v0", tmp_path / f"{kind}.mp4", name="x")
        assert recording.returns == (4.0,) and recording.lengths == (4,)
    gray, color = (read_frames(tmp_path / f"{kind}.mp4", fps=READABLE, seconds=1) for kind in ("gray", "color"))
    assert len(gray) == 5 + READABLE // 2                # and half a second of waiting
    bottom = [np.asarray(frame)[-200:-100] for frame in (gray[0], color[0])]
    assert (bottom[0] == bottom[1]).all() and abs(int(bottom[0][50, 50, 0]) - 200) < 5
    assert seen[0].dtype == np.float32 and seen[0].tolist() == [[0, 1, 2]]
    measured = evaluate(remembers, "Drawn-gray-v0", 1)
    assert measured.returns == 4 and seen[-1].dtype == np.float32


def test_a_missing_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)     # as if it were not installed
    with pytest.raises(ImportError, match="CartPole-v1 needs a package that is not installed"):
        record_video(zeros, "CartPole-v1", tmp_path / "x.mp4")
    assert not list(tmp_path.iterdir())


def test_an_interrupted_film(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        with video_writer(tmp_path / "x.mp4", fps=5) as writer:
            writer.append_data(np.zeros((64, 64, 3), np.uint8))
            raise KeyboardInterrupt                      # somebody loses patience
    assert writer.process.returncode is not None         # no ffmpeg is left running
    assert not list(tmp_path.iterdir())


def test_what_is_no_video(tmp_path):
    text = tmp_path / "text.mp4"
    text.write_text("not a video")
    for use in (show_video, lambda path: save_gif(path, tmp_path / "x.gif")):
        with pytest.raises(FileNotFoundError, match="record_video makes one"):
            use(tmp_path / "missing.mp4")
        with pytest.raises(ValueError, match="is not an MP4, or only a part of one: record_video makes one"):
            use(text)
    assert list(tmp_path.iterdir()) == [text]


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "three.mp4"
    with video_writer(path, fps=4) as writer:
        for brightness in (0, 100, 200):
            writer.append_data(np.full((64, 96, 3), brightness, np.uint8))
    return path


def test_a_caption_is_text(video):
    page = show_video(video, "x < y").source
    assert "x &lt; y" in page and "http" not in page
    assert all(word in page for word in ("controls", "muted", "loop", "playsinline", "poster="))


def test_a_gif(video, tmp_path):
    from PIL import Image

    with Image.open(save_gif(video, tmp_path / "x.gif", width=48, fps=2)) as picture:
        assert picture.size == (48, 32) and picture.n_frames == 2       # of three frames in 3/4 s, those at 0 and 1/2 s
    for wrong in ({"width": 0}, {"fps": 0}, {"seconds": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            save_gif(video, tmp_path / "y.gif", **wrong)
    assert [path.name for path in tmp_path.iterdir()] == ["x.gif"]


class Raises(Drawn):
    "Cannot draw, and finds out late"
    def render(self):
        raise RuntimeError("no display")


class Grows(Drawn):
    "Draws a larger picture each time"
    def render(self):
        return np.zeros((40 + 2 * self.t, 60, 3), np.uint8)


for kind in (Raises, Grows):
    gym.register(f"{kind.__name__}-v0", entry_point=kind, kwargs={"drawn": None})


def test_pictures_of_several_sizes(tmp_path):
    with pytest.raises(ValueError, match=r"a picture of shape \(42, 60, 3\) came after one of \(40, 60, 3\)"):
        record_video(zeros, "Grows-v0", tmp_path / "x.mp4")
    assert not list(tmp_path.iterdir())


class Unsaid(Drawn):
    "Gymnasium makes no such environment"
    metadata = None


gym.register("Unsaid-v0", entry_point=Unsaid, kwargs={"drawn": None})


def test_a_reason_of_gymnasium():
    assert "metadata" in check_film("Unsaid-v0")


@pytest.mark.parametrize(("env_id", "words"), [
    ("Unseen-v0", "Unseen-v0 cannot be filmed: it has no render_mode='rgb_array'"),
    ("Drawn-None-v0", "gave no picture but None"),
    ("Drawn-fractions-v0", "type float64"),
    ("Raises-v0", "render() of the environment fails (RuntimeError: no display)"),
    ("CartPol-v1", "did you mean CartPole-v1"),
    ("ALE/Pog-v5", "ALE/Pong-v5"),
    ("nowhere:X-v0", "could not be imported"),
])
def test_a_film_that_will_fail_is_known_before(env_id, words, tmp_path):
    reason = check_film(env_id)
    assert words in reason and "\n" not in reason
    with pytest.raises((ValueError, ImportError)) as error:
        record_video(zeros, env_id, tmp_path / "x.mp4")
    assert str(error.value) == reason


def test_a_film_that_will_not_fail(monkeypatch):
    for env_id in ("CartPole-v1", "Drawn-gray-v0", "ALE/Pong-v5", "ale_py:ALE/Pong-v5"):
        assert check_film(env_id) is None
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/nowhere/ffmpeg")
    assert "/nowhere/ffmpeg" in check_film("CartPole-v1")
    monkeypatch.delenv("IMAGEIO_FFMPEG_EXE")
    monkeypatch.setitem(sys.modules, "pygame", None)
    assert "CartPole-v1 needs a package that is not installed" in check_film("CartPole-v1")
