"""The authors' code (github.com/sfujim/BCQ, folder discrete_BCQ), unchanged; where it lies is told with `--path`.

It was written for gym, whose games are no more to be had. It gets a game from ALE that answers as gym's did, but for
the color picture of each frame, which gym made and this code throws away: that is left out, in its favor. What is
measured are its own classes and its own loop, `interact_with_environment`, without evaluations and without files.
"""
import hashlib
import os
import sys
import tempfile
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import torch
from ale_py import ALEInterface, LoggerMode, roms
from common import BCQ, CNN, MLP, PLAY, Run, arguments, log_of_frames, log_of_vectors, repeat, serve, trained
from gymnasium.spaces import Box, Discrete

given = arguments()
sys.path.insert(0, os.path.abspath(given.path))
sys.modules["gym"] = ModuleType("gym")   # imported there, and not needed for what is measured
import discrete_BCQ  # noqa: E402
import DQN  # noqa: E402
import main  # noqa: E402
import utils  # noqa: E402

folder = tempfile.TemporaryDirectory()
os.chdir(folder.name)
os.mkdir("results")

CPU = torch.device("cpu")
PREPROCESSING = {"frame_skip": 4, "frame_size": CNN["size"], "state_history": CNN["stack"],
                 "done_on_life_loss": False, "reward_clipping": True, "max_episode_timesteps": 27e3}
STACK = (CNN["stack"], CNN["size"], CNN["size"])
ROOM = 100_000   # transitions; a million is the default, of which no more is used here


class Game:
    "Pong, one frame at a time"
    def __init__(self):
        ALEInterface.setLoggerMode(LoggerMode.Error)
        self.ale = ALEInterface()
        self.ale.setFloat("repeat_action_probability", 0.25)
        self.ale.loadROM(roms.get_rom_path("pong"))
        self.actions = self.ale.getMinimalActionSet()
        self.observation_space = Box(0, 255, (210, 160, 3), np.uint8)
        self.action_space = Discrete(len(self.actions))

    def reset(self) -> None:
        self.ale.reset_game()

    def step(self, action: int) -> tuple[None, float, bool, dict]:
        reward = self.ale.act(self.actions[action])
        return None, reward, self.ale.game_over(), {}


def make_game() -> utils.AtariPreprocessing:
    return utils.AtariPreprocessing(SimpleNamespace(env=Game()), **PREPROCESSING)


def vectors() -> utils.StandardBuffer:
    log = log_of_vectors(given.sizes["vectors"])
    buffer = utils.ReplayBuffer(MLP["numbers"], False, {}, MLP["batch_size"], len(log["action"]), CPU)
    for k in range(len(log["action"])):
        done = log["terminated"][k]
        buffer.add(log["obs"][k], log["action"][k], log["next_obs"][k], log["reward"][k], done, done, False)
    return buffer


def frames() -> utils.AtariBuffer:
    log = log_of_frames(given.sizes["frames"])
    buffer = utils.ReplayBuffer(STACK, True, PREPROCESSING, CNN["batch_size"], len(log["action"]), CPU)
    begins = True
    for k in range(len(log["action"])):
        done = log["terminated"][k]
        buffer.add(log["frame"][k:k + 1], log["action"][k], None, log["reward"][k], done, done, begins)
        begins = done
    return buffer


def updates(agent, buffer) -> tuple[Run, int]:
    return repeat(lambda: agent.train(buffer)), trained(agent.Q_optimizer)


def mlp() -> tuple[Run, int]:
    agent = discrete_BCQ.discrete_BCQ(False, MLP["actions"], MLP["numbers"], CPU, BCQ["threshold"], BCQ["discount"],
                                      "Adam", {"lr": MLP["lr"]}, True, MLP["every"], MLP["rate"])
    return updates(agent, vectors())


def cnn() -> tuple[Run, int]:
    agent = discrete_BCQ.discrete_BCQ(True, CNN["actions"], STACK, CPU, BCQ["threshold"], BCQ["discount"], "Adam",
                                      {"lr": CNN["lr"], "eps": CNN["eps"]}, False, CNN["every"], 1)
    return updates(agent, frames())


def sample(make_buffer) -> tuple[Run, int]:
    return repeat(make_buffer().sample), 0


def interact(generates: bool) -> tuple[Run, int]:
    "Its loop, in which it either writes a batch or learns; files and evaluations are left out"
    nothing = lambda *_: None  # noqa: E731
    DQN.DQN.load = DQN.DQN.save = main.eval_policy = nothing
    game = make_game()
    parameters = {"start_timesteps": given.sizes["warmup"], "initial_eps": PLAY["eps"], "end_eps": PLAY["eps"],
                  "eps_decay_period": 1, "eval_freq": 10**9, "eval_eps": 1e-3, "discount": BCQ["discount"],
                  "optimizer": "Adam", "optimizer_parameters": {"lr": CNN["lr"], "eps": CNN["eps"]},
                  "train_freq": PLAY["train_every"], "polyak_target_update": False, "target_update_freq": CNN["every"],
                  "tau": 1}

    def run(n: int) -> None:
        buffer = utils.ReplayBuffer(STACK, True, PREPROCESSING, CNN["batch_size"], ROOM, CPU)
        buffer.save = nothing
        words = SimpleNamespace(env="Pong", seed=0, buffer_name="", generate_buffer=generates,
                                train_behavioral=not generates, max_timesteps=n, low_noise_p=0.2, rand_action_p=0.2)
        main.interact_with_environment(game, buffer, True, CNN["actions"], STACK, CPU, words, parameters)

    return run, 0


def version() -> str:
    "They have no number: the beginning of a checksum over the four files"
    read = b"".join(Path(module.__file__).read_bytes() for module in (main, discrete_BCQ, DQN, utils))
    return hashlib.sha256(read).hexdigest()[:8]


serve(version(), {"mlp": mlp, "cnn": cnn, "sample_mlp": partial(sample, vectors),
                        "sample_cnn": partial(sample, frames), "generate_1": partial(interact, True),
                        "behavioral_1": partial(interact, False)})
