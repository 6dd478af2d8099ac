"""This package, as it is used: `learn` draws and updates, `generate_buffer` plays, `train_behavioral` does both.

Games are made once, outside of the time, as in the authors' code; and `train_behavioral` evaluates nothing.
"""
from functools import cache, partial

import numpy as np
from common import BCQ, CNN, MLP, PLAY, Run, arguments, log_of_frames, log_of_vectors, repeat, serve, trained
from gymnasium.spaces import Box
from gymnasium.vector import VectorEnv

from bcq_nb import __version__, dqn, generation
from bcq_nb.bcq import BCQConfig, DiscreteBCQ
from bcq_nb.buffers import ReplayBuffer
from bcq_nb.environments import make_envs
from bcq_nb.evaluation import Evaluation
from bcq_nb.frames import FrameBuffer
from bcq_nb.guard import learn
from bcq_nb.seeds import Lessons
from bcq_nb.training import Exploration

given = arguments()
PIXELS = Box(0, 255, (CNN["stack"], CNN["size"], CNN["size"]), np.uint8)


def dqn_settings(sizes: dict) -> dict:
    "What `MLP` or `CNN` says, in our words"
    return {"hidden": sizes["hidden"], "batch_size": sizes["batch_size"], "lr": sizes["lr"],
            "adam_eps": sizes["eps"], "target_rate": sizes["rate"], "target_every": sizes["every"],
            "discount": BCQ["discount"]}


def vectors() -> ReplayBuffer:
    log = log_of_vectors(given.sizes["vectors"])
    never = np.zeros(len(log["action"]), bool)
    return ReplayBuffer.from_arrays(**log, truncated=never, n_actions=MLP["actions"])


def frames() -> FrameBuffer:
    "Written step by step, as an environment would"
    log = log_of_frames(given.sizes["frames"])
    buffer = FrameBuffer(len(log["action"]) - 1, PIXELS, CNN["actions"])
    frame = log["frame"][:, None, None]      # (n, one environment, one frame, H, W)
    zeros = np.zeros((1, *PIXELS.shape), np.uint8)
    never = np.zeros(1, bool)
    before = zeros
    for k in range(buffer.capacity):
        obs = np.concatenate([before[:, 1:], frame[k]], axis=1)
        next_obs = np.concatenate([obs[:, 1:], frame[k + 1]], axis=1)
        now = slice(k, k + 1)
        buffer.add(obs, log["action"][now], log["reward"][now], next_obs, log["terminated"][now], never)
        before = zeros if log["terminated"][k] else obs
    return buffer


def learner(buffer: ReplayBuffer, sizes: dict, **more) -> DiscreteBCQ:
    config = BCQConfig(**dqn_settings(sizes), threshold=BCQ["threshold"], logit_penalty=BCQ["penalty"], **more)
    return DiscreteBCQ(buffer.obs_space, buffer.n_actions, config, device="cpu")


def update(make_buffer, sizes: dict, **more) -> tuple[Run, int]:
    buffer = make_buffer()
    agent = learner(buffer, sizes, **more)
    rng = np.random.default_rng(0)
    return lambda n: learn(agent, buffer, n, rng), trained(agent.optimizer)


def compiled() -> tuple[Run, int]:
    "What `train_seeds` does with one agent and `compiled=True`"
    buffer = vectors()
    lessons = Lessons([learner(buffer, MLP)], buffer, [0], compiled=True)
    return lessons.learn, trained(lessons.stack.optimizer)


def sample(make_buffer, sizes: dict) -> tuple[Run, int]:
    buffer = make_buffer()
    rng = np.random.default_rng(0)
    return repeat(lambda: buffer.sample(sizes["batch_size"], rng)), 0


@cache
def games(env_id: str, n_envs: int) -> VectorEnv:
    "The same in each call; a call closes them, which does nothing"
    envs = make_envs(env_id, n_envs)
    envs.close = lambda: None
    return envs


def generate(n_envs: int, **more) -> tuple[Run, int]:
    agent = dqn.DQN(PIXELS, CNN["actions"], dqn.DQNConfig(**dqn_settings(CNN), **more), device="cpu")
    return lambda n: generation.generate_buffer(agent, PLAY["env_id"], n, n_envs=n_envs, progress=False), 0


def behavioral(n_envs: int, **more) -> tuple[Run, int]:
    config = dqn.DQNConfig(**dqn_settings(CNN), clip_reward=True, **more)
    plan = Exploration(warmup=given.sizes["warmup"], train_every=PLAY["train_every"], eps_start=PLAY["eps"],
                       eps_end=PLAY["eps"], n_envs=n_envs)
    return lambda n: dqn.train_behavioral(PLAY["env_id"], n, config, plan, eval_every=n, device="cpu",
                                          progress=False), 0


generation.make_envs = dqn.make_envs = lambda env_id, n_envs, *_: games(env_id, n_envs)
dqn.evaluate = lambda *_: Evaluation(np.zeros(1), np.ones(1, int))
makers = {"mlp": partial(update, vectors, MLP), "sample_mlp": partial(sample, vectors, MLP),
          "cnn": partial(update, frames, CNN), "sample_cnn": partial(sample, frames, CNN)}
makers |= {f"generate_{n}": partial(generate, n) for n in (1, 2, 4, 8, 16, 32)}
makers |= {f"behavioral_{n}": partial(behavioral, n) for n in (1, 8)}
makers |= {"mlp_compiled": compiled, "cnn_bf16": partial(update, frames, CNN, bfloat16=True),
           "generate_8_bf16": partial(generate, 8, bfloat16=True),
           "behavioral_8_bf16": partial(behavioral, 8, bfloat16=True)}
serve(__version__, makers)
