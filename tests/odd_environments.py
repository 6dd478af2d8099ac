"""Environments as people write them: what is theirs to decide is odd, and what it means is plain.

Each is a twin of `Twin`, whose observation is (episode, step, what was done last) and whose reward depends on both.
Episodes last 3 to 6 steps, by chance from the seed.
"""
import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete

SHARED = np.zeros(3, np.float32)     # an array that all copies of an environment write into


class Twin(gym.Env):
    "The one that behaves"
    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}
    observation_space = Box(-1e9, 1e9, (3,), np.float32)
    action_space = Discrete(2)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode
        self.episode = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode += 1
        self.t, self.last = 0, 0
        self.length = int(self.np_random.integers(3, 7))
        return self.look(self.numbers()), self.tell()

    def step(self, action):
        self.t += 1
        self.last = int(action)
        terminated = self.t >= self.length and self.length % 2 == 0
        truncated = self.t >= self.length and not terminated
        reward = self.pay(0.5 * self.t + self.last)
        return self.look(self.numbers()), reward, self.flag(terminated), self.flag(truncated), self.tell()

    def numbers(self):
        return [float(self.episode), 0.5 * self.t, float(self.last)]

    def look(self, numbers):
        return np.array(numbers, np.float32)

    def pay(self, reward):
        return reward

    def flag(self, flag):
        return flag

    def tell(self):
        return {}

    def render(self):
        return np.full((40, 60, 3), 30 * self.t, np.uint8)


class Reuses(Twin):
    "One array from first to last"
    def look(self, numbers):
        if not hasattr(self, "obs"):
            self.obs = np.zeros(3, np.float32)
        self.obs[:] = numbers
        return self.obs


class Shares(Twin):
    "One array for all copies"
    def look(self, numbers):
        SHARED[:] = numbers
        return SHARED


class Views(Twin):
    "A part of an array that goes on"
    def look(self, numbers):
        if not hasattr(self, "state"):
            self.state = np.zeros((3, 7), np.float32)
        self.state[:, 2] = numbers
        return self.state[:, 2]


class Lists(Twin):
    def look(self, numbers):
        return numbers


class Tuples(Twin):
    def look(self, numbers):
        return tuple(numbers)


class Wide(Twin):
    "float64 in a space of float32"
    def look(self, numbers):
        return np.array(numbers)


class WideSpace(Twin):
    "float64 in a space of float64"
    observation_space = Box(-1e9, 1e9, (3,), np.float64)

    def look(self, numbers):
        return np.array(numbers)


class Doubled(Twin):
    "Twice the numbers, so that they are whole: int64 in a space of float32"
    def numbers(self):
        return [2 * number for number in super().numbers()]


class Whole(Doubled):
    def look(self, numbers):
        return np.array(numbers, np.int64)


class WholeSpace(Whole):
    observation_space = Box(-10**9, 10**9, (3,), np.int64)


class Backward(Twin):
    "The bytes of another machine"
    def look(self, numbers):
        return np.array(numbers, ">f4")


class ReadOnly(Twin):
    def look(self, numbers):
        obs = np.array(numbers, np.float32)
        obs.setflags(write=False)
        return obs


class ArrayReward(Twin):
    "Rewards and ends as arrays"
    def pay(self, reward):
        return np.array(reward)

    def flag(self, flag):
        return np.array(flag)


class RowReward(Twin):
    "Of one entry"
    def pay(self, reward):
        return np.array([reward])


class NumpyNumbers(Twin):
    def pay(self, reward):
        return np.float32(reward)

    def flag(self, flag):
        return np.bool_(flag)


class WholeFlags(Twin):
    "0 and 1"
    def flag(self, flag):
        return int(flag)


class Talks(Twin):
    "Tells what changes its shape"
    def tell(self):
        return {"log": np.arange(self.t), "words": ["a"] * self.t, "x": None if self.t % 2 else {"y": self.t}}


class TellsNothing(Twin):
    def tell(self):
        return None


class Sealed(Twin):
    "No `render_mode` in the constructor, so no picture"
    def __init__(self):
        super().__init__()


class NoModes(Twin):
    "Says nothing of how it can be drawn"
    metadata = {}


class NoSpeed(Twin):
    metadata = {"render_modes": ["rgb_array"], "render_fps": None}


class NaNSpeed(Twin):
    metadata = {"render_modes": ["rgb_array"], "render_fps": float("nan")}


class SlowSpeed(Twin):
    metadata = {"render_modes": ["rgb_array"], "render_fps": 0.5}


class UnsaidSpeed(Twin):
    metadata = {"render_modes": ["rgb_array"]}


class Gray(Twin):
    def render(self):
        return np.full((40, 60), 30 * self.t, np.uint8)


class MaskedTwin(Twin):
    "Both actions exist, but in the first step, where the second does not"
    def tell(self):
        return {"action_mask": np.array([1, self.t > 0], np.int8)}


class MaskedReuses(MaskedTwin):
    "One array of masks from first to last"
    def tell(self):
        if not hasattr(self, "mask"):
            self.mask = np.ones(2, np.int8)
        self.mask[1] = self.t > 0
        return {"action_mask": self.mask}


class MaskedLists(MaskedTwin):
    def tell(self):
        return {"action_mask": [1, int(self.t > 0)]}


NOT_DRAWN = [Sealed, NoModes]
SAME = {     # odd environment -> the one that behaves, and of which it is a twin to the last bit
    Twin: [Reuses, Shares, Views, Lists, Tuples, Wide, WideSpace, Backward, ReadOnly, ArrayReward, RowReward,
           NumpyNumbers, WholeFlags, Talks, TellsNothing, Sealed, NoModes, NoSpeed, NaNSpeed, SlowSpeed,
           UnsaidSpeed, Gray],
    Doubled: [Whole, WholeSpace],
    MaskedTwin: [MaskedReuses, MaskedLists],
}


class Wrong(Twin):
    "Misbehaves in the second step"
    wrong = {}

    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        given = {"obs": obs, "reward": reward, "terminated": terminated, "truncated": truncated, "info": info}
        if self.t == 2:
            given |= self.wrong
        return tuple(given.values())


def wrong(**changes):
    return type("Wrong", (Wrong,), {"wrong": changes})


WRONG = {    # environment -> words of the error
    "reward None": (wrong(reward=None), "reward is None: it must be one finite number"),
    "reward NaN": (wrong(reward=float("nan")), "reward is nan: it must be one finite number"),
    "reward inf": (wrong(reward=np.float32("inf")), "reward is .*inf.*: it must be one finite number"),
    "reward text": (wrong(reward="1"), "reward is '1'"),
    "rewards": (wrong(reward=[1.0, 2.0]), r"reward is \[1.0, 2.0\]"),
    "terminated None": (wrong(terminated=None), "terminated is None: it must be True or False"),
    "truncated 2": (wrong(truncated=2), "truncated is 2: it must be True or False"),
    "truncated NaN": (wrong(truncated=float("nan")), "truncated is nan"),
    "terminated text": (wrong(terminated="no"), "terminated is 'no'"),
    "obs None": (wrong(obs=None), "an observation is None, and no array of numbers"),
    "obs text": (wrong(obs=["a", "b", "c"]), "no array of numbers"),
    "obs ragged": (wrong(obs=[[1], [2, 3], []]), "no array of numbers"),
    "obs shape": (wrong(obs=np.zeros(4, np.float32)), r"has shape \(4,\), and the observation space says \(3,\)"),
    "obs number": (wrong(obs=1.0), r"has shape \(\)"),
    "obs column": (wrong(obs=np.zeros((3, 1), np.float32)), r"has shape \(3, 1\)"),
    "obs huge": (wrong(obs=np.array([0, 1e300, 0])), r"float64 holds 1e\+300, which .* float32, cannot hold"),
    "obs id": (wrong(obs=np.array([0, 2**24 + 1, 0])), "int64 holds 16777217, which .* float32, cannot hold"),
    "obs wide NaN": (wrong(obs=[0.0, float("nan"), 0.0]), "float64 holds nan, which .* float32, cannot hold"),
}


class OldReset(Twin):
    "As it was before Gymnasium"
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0]


WRONG["old reset"] = (OldReset, "reset gives .*Gymnasium asks for a pair")


class OldStep(Twin):
    "As it was before Gymnasium: one end, not two"
    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, reward, terminated or truncated, info


WRONG["old step"] = (OldStep, "step does not give the five things that Gymnasium asks for.*got 4")


class Bytes(Twin):
    "Bytes were announced, and fractions come"
    observation_space = Box(0, 255, (3,), np.uint8)


WRONG["fractions as bytes"] = (Bytes, "float32 holds 0.5, which .* uint8, cannot hold")


class Camera(gym.Env):
    "Pictures of one gray: (height, width) as a camera has them, or with three colors in front"
    action_space = Discrete(2)
    metadata = {"render_modes": ["rgb_array"]}

    def __init__(self, colors=False, first=60, render_mode=None):
        self.render_mode = render_mode
        self.colors, self.first = colors, first
        self.observation_space = Box(0, 255, (3, 36, 40) if colors else (36, 40), np.uint8)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.look(), {}

    def step(self, action):
        self.t += 1
        return self.look(), 1.0, self.t == 6, False, {}

    def look(self):
        gray = self.first + 20 * self.t
        if self.colors:
            return np.stack([np.full((36, 40), (gray * k) % 256, np.uint8) for k in (1, 2, 3)])
        return np.full((36, 40), gray, np.uint8)

    def render(self):
        return np.full((40, 60, 3), self.first, np.uint8)


def stacked(padding_type="reset", **options):
    return gym.wrappers.FrameStackObservation(Camera(**options), 4, padding_type=padding_type)


class Floats(gym.ObservationWrapper):
    "The same frames between 0 and 1"
    def __init__(self, env):
        super().__init__(env)
        self.observation_space = Box(0, 1, env.observation_space.shape, np.float32)

    def observation(self, obs):
        return obs.astype(np.float32) / 255


class Endless(Twin):
    "Never ends"
    def step(self, action):
        obs, reward, _, _, info = super().step(action)
        return obs, reward, False, False, info


class MaskedEndless(Endless):
    def tell(self):
        return {"action_mask": np.array([True, self.t % 2 == 0])}


def register():
    "Give each its name; returns the name of the class `kind`"
    kinds = [kind for twin, odd in SAME.items() for kind in (twin, *odd)] + [Endless, MaskedEndless]
    for kind in kinds:
        gym.register(f"{kind.__name__}-v0", entry_point=kind)
    for name, (kind, _) in WRONG.items():
        gym.register(f"Wrong-{name.replace(' ', '_')}-v0", entry_point=kind, max_episode_steps=50)
    gym.register("Color-v0", entry_point=Camera, kwargs={"colors": True})
    gym.register("DarkColor-v0", entry_point=Camera, kwargs={"colors": True, "first": 0})
    gym.register("Copied-v0", entry_point=stacked)
    gym.register("DarkCopied-v0", entry_point=stacked, kwargs={"first": 0})
    gym.register("Padded-v0", entry_point=stacked, kwargs={"padding_type": "zero"})
    gym.register("Floats-v0", entry_point=lambda **options: Floats(stacked("zero", **options)))
