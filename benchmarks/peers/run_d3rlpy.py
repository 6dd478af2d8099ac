"""d3rlpy's DiscreteBCQ: `update` on what `sample_transition_batch` gives.

What differs from ours, as its settings offer nothing else: the target is copied now and then, also for the MLP, which
is less to do. For frames, its default shares the layer of 512 features between both heads, so that it learns 1.7
instead of 3.3 million weights; without sharing it would have two whole CNNs. `compile_graph` needs CUDA.
Values are one number each (`MeanQFunctionFactory`), as ours.
"""
from functools import partial

import d3rlpy
import numpy as np
from common import BCQ, CNN, MLP, Run, arguments, log_of_frames, log_of_vectors, repeat, serve, trained
from d3rlpy.algos import DiscreteBCQConfig
from d3rlpy.constants import ActionSpace
from d3rlpy.dataset import FrameStackTransitionPicker, MDPDataset
from d3rlpy.models.encoders import PixelEncoderFactory, VectorEncoderFactory
from d3rlpy.models.q_functions import MeanQFunctionFactory
from d3rlpy.optimizers import AdamFactory
from d3rlpy.preprocessing import PixelObservationScaler

given = arguments()


def dataset(log: dict, obs: np.ndarray, actions: int, picker=None) -> MDPDataset:
    return MDPDataset(obs, log["action"][:, None], log["reward"], log["terminated"].astype(np.float32),
                      transition_picker=picker, action_space=ActionSpace.DISCRETE, action_size=actions)


def vectors() -> MDPDataset:
    log = log_of_vectors(given.sizes["vectors"])
    return dataset(log, log["obs"], MLP["actions"])


def frames() -> MDPDataset:
    log = log_of_frames(given.sizes["frames"])
    return dataset(log, log["frame"][:, None], CNN["actions"], FrameStackTransitionPicker(CNN["stack"]))


def update(data: MDPDataset, shape: tuple, sizes: dict, **more) -> tuple[Run, int]:
    config = DiscreteBCQConfig(
        learning_rate=sizes["lr"], optim_factory=AdamFactory(eps=sizes["eps"]), batch_size=sizes["batch_size"],
        q_func_factory=MeanQFunctionFactory(), gamma=BCQ["discount"], action_flexibility=BCQ["threshold"],
        beta=BCQ["penalty"], target_update_interval=CNN["every"], **more)
    algo = config.create(device="cpu")
    algo.create_impl(shape, sizes["actions"])
    return (repeat(lambda: algo.update(data.sample_transition_batch(sizes["batch_size"]))),
            trained(algo.impl.q_function_optim))


def mlp() -> tuple[Run, int]:
    return update(vectors(), (MLP["numbers"],), MLP, share_encoder=False,
                  encoder_factory=VectorEncoderFactory(hidden_units=list(MLP["hidden"])))


def cnn() -> tuple[Run, int]:
    [features] = CNN["hidden"]
    return update(frames(), (CNN["stack"], CNN["size"], CNN["size"]), CNN, observation_scaler=PixelObservationScaler(),
                  encoder_factory=PixelEncoderFactory(feature_size=features))


def sample(make_data, sizes: dict) -> tuple[Run, int]:
    data = make_data()
    return repeat(lambda: data.sample_transition_batch(sizes["batch_size"])), 0


serve(d3rlpy.__version__, {"mlp": mlp, "cnn": cnn, "sample_mlp": partial(sample, vectors, MLP),
                           "sample_cnn": partial(sample, frames, CNN)})
