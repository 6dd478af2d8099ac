"""tianshou's DiscreteBCQ: `update`, which draws, too.

What differs from ours, as its settings offer nothing else: the target is copied now and then, also for the MLP, which
is less to do. For frames the network is that of its own example of BCQ on Atari, of the same size as ours; pixels are
divided by 255 outside of it, by its environments, and here not at all.
"""
from functools import partial

import gymnasium as gym
import numpy as np
import tianshou
from common import BCQ, CNN, MLP, Run, arguments, log_of_frames, log_of_vectors, repeat, serve, trained
from tianshou.algorithm.imitation.discrete_bcq import DiscreteBCQ, DiscreteBCQPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Batch, ReplayBuffer
from tianshou.env.atari.atari_network import DQNet
from tianshou.utils.net.common import Net
from tianshou.utils.net.discrete import DiscreteActor
from tianshou.utils.torch_utils import policy_within_training_step

given = arguments()


def vectors() -> ReplayBuffer:
    log = log_of_vectors(given.sizes["vectors"])
    never = np.zeros(len(log["action"]), bool)
    return ReplayBuffer.from_data(log["obs"], log["action"], log["reward"], log["terminated"], never,
                                  log["terminated"], log["next_obs"])


def frames() -> ReplayBuffer:
    "Single frames, stacked when they are drawn; the frame after each is not kept twice"
    log = log_of_frames(given.sizes["frames"])
    n = len(log["action"])
    buffer = ReplayBuffer(n, stack_num=CNN["stack"], ignore_obs_next=True)
    for k in range(n):
        buffer.add(Batch(obs=log["frame"][k], act=log["action"][k], rew=log["reward"][k],
                         terminated=log["terminated"][k], truncated=False))
    return buffer


def update(buffer: ReplayBuffer, model, imitator, sizes: dict) -> tuple[Run, int]:
    policy = DiscreteBCQPolicy(model=model, imitator=imitator, target_update_freq=CNN["every"],
                               unlikely_action_threshold=BCQ["threshold"],
                               action_space=gym.spaces.Discrete(sizes["actions"]))
    algorithm = DiscreteBCQ(policy=policy, optim=AdamOptimizerFactory(lr=sizes["lr"], eps=sizes["eps"]),
                            gamma=BCQ["discount"], target_update_freq=CNN["every"],
                            imitation_logits_penalty=BCQ["penalty"])

    def run(n: int) -> None:
        with policy_within_training_step(policy):
            for _ in range(n):
                algorithm.update(buffer=buffer, sample_size=sizes["batch_size"])

    return run, trained(algorithm.optim._optim)


def mlp() -> tuple[Run, int]:
    heads = [Net(state_shape=MLP["numbers"], action_shape=MLP["actions"], hidden_sizes=MLP["hidden"])
             for _ in range(2)]
    return update(vectors(), *heads, MLP)


def cnn() -> tuple[Run, int]:
    features = DQNet(CNN["stack"], CNN["size"], CNN["size"], CNN["actions"], features_only=True)
    heads = [DiscreteActor(preprocess_net=features, action_shape=CNN["actions"], hidden_sizes=CNN["hidden"],
                           softmax_output=False) for _ in range(2)]
    return update(frames(), *heads, CNN)


def sample(make_buffer, sizes: dict) -> tuple[Run, int]:
    buffer = make_buffer()
    return repeat(lambda: buffer.sample(sizes["batch_size"])), 0


serve(tianshou.__version__, {"mlp": mlp, "cnn": cnn, "sample_mlp": partial(sample, vectors, MLP),
                             "sample_cnn": partial(sample, frames, CNN)})
