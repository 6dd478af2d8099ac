"""What an update and a step in a game cost at least, written as fast as PyTorch and ALE allow, with nothing around it.

* mlp: the matrix products of an update and Adam: no activations, no loss, no target that moves, no sampling;
* cnn: the forwards, the backward and Adam, on batches of float32 that lie there already; cnn_bf16 with autocast;
* sample: one `index_select` of as many frames or vectors;
* ale: games stepped with actions from a table; forward: the network's answers to observations that lie there already;
* generate: both of them, one after the other.

Where there are several ways to write it, all are tried first, and the fastest is measured.
"""
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from ale_py import AtariVectorEnv
from common import CNN, MLP, PLAY, Run, arguments, log_of_frames, log_of_vectors, repeat, serve, trained
from torch import nn

from bcq_nb.atari import AtariConfig, ale_settings, atari_game

given = arguments()
torch.manual_seed(0)


def fastest(ways: list[Callable[[], object]]) -> Callable[[], object]:
    "The one with the smallest median, tried in turn"
    times: list[list[float]] = [[] for _ in ways]
    for _ in range(12):
        for way, seen in zip(ways, times, strict=True):
            start = time.perf_counter()
            way()
            seen.append(time.perf_counter() - start)
    medians = [np.median(seen[2:]) for seen in times]
    return ways[int(np.argmin(medians))]


def adam(weights: list[torch.Tensor], sizes: dict) -> torch.optim.Optimizer:
    return torch.optim.Adam(weights, lr=sizes["lr"], eps=sizes["eps"], fused=True)


def adam_alone(n: int) -> tuple[Callable[[], object], torch.optim.Optimizer]:
    "Adam over so many numbers in one piece"
    flat = torch.nn.Parameter(torch.randn(n))
    flat.grad = torch.randn_like(flat)
    optimizer = adam([flat], MLP)
    return optimizer.step, optimizer


def mlp() -> tuple[Run, int]:
    "Of the online network both heads for obs and next_obs, of the target one for next_obs; back through the former"
    numbers, actions, (hidden, _), batch = MLP["numbers"], MLP["actions"], MLP["hidden"], MLP["batch_size"]
    both = torch.randn(2 * batch, numbers)   # obs and next_obs
    obs, next_obs = both[:batch], both[batch:]
    sizes = [(numbers, hidden), (hidden, hidden), (hidden, actions)]
    first, middle, last = (torch.randn(2, *size) for size in sizes)   # of both heads
    wide = torch.randn(numbers, 2 * hidden)  # both heads' first layers
    gradient = torch.randn(2, batch, actions)

    def target() -> None:
        next_obs @ first[0] @ middle[0] @ last[0]

    def head_by_head() -> None:
        target()
        for head in range(2):
            a = both @ first[head]
            b = a @ middle[head]
            b @ last[head]
            obs.T @ ((gradient[head] @ last[head].T) @ middle[head].T)
            a[:batch].T @ (gradient[head] @ last[head].T)
            b[:batch].T @ gradient[head]

    def heads_together() -> None:
        target()
        a = (both @ wide).view(2 * batch, 2, hidden).transpose(0, 1)   # (2, 2 B, hidden)
        b = a.bmm(middle)
        b.bmm(last)
        to_b = gradient.bmm(last.transpose(1, 2))
        to_a = to_b.bmm(middle.transpose(1, 2))
        b[:, :batch].transpose(1, 2).bmm(gradient)
        a[:, :batch].transpose(1, 2).bmm(to_b)
        obs.T @ to_a.transpose(0, 1).reshape(batch, 2 * hidden)

    step, optimizer = adam_alone(2 * sum(n_in * n_out + n_out for n_in, n_out in sizes))
    with torch.inference_mode():
        products = fastest([head_by_head, heads_together])

    def once() -> None:
        with torch.inference_mode():
            products()
        step()

    return repeat(once), trained(optimizer)


class Network(nn.Module):
    "The convolutions of Mnih et al. 2015, and two heads"
    def __init__(self):
        super().__init__()
        [features], actions = CNN["hidden"], CNN["actions"]
        self.body = nn.Sequential(nn.Conv2d(CNN["stack"], 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU(),
                                  nn.Conv2d(64, 64, 3, 1), nn.ReLU(), nn.Flatten())
        self.q, self.imitation = (nn.Sequential(nn.Linear(3136, features), nn.ReLU(), nn.Linear(features, actions))
                                  for _ in range(2))

    def forward(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.body(obs)
        return self.q(features), self.imitation(features)


def cnn(bfloat16: bool = False) -> tuple[Run, int]:
    shape = (CNN["batch_size"], CNN["stack"], CNN["size"], CNN["size"])
    optimizers = []

    def way(memory_format: torch.memory_format) -> Callable[[], object]:
        network, target = (Network().to(memory_format=memory_format) for _ in range(2))
        optimizer = adam(list(network.parameters()), CNN)
        optimizers.append(optimizer)
        obs, next_obs = (torch.rand(shape).contiguous(memory_format=memory_format) for _ in range(2))

        def once() -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                with torch.no_grad():
                    network(next_obs)
                    target.q(target.body(next_obs))
                q, logits = network(obs)
            optimizer.zero_grad()
            torch.autograd.backward([q, logits], [torch.ones_like(q), torch.ones_like(logits)])
            optimizer.step()

        return once

    once = fastest([way(torch.channels_last), way(torch.contiguous_format)])
    return repeat(once), trained(optimizers[0])


def sample_mlp() -> tuple[Run, int]:
    log = log_of_vectors(given.sizes["vectors"])
    obs, next_obs = torch.from_numpy(log["obs"]), torch.from_numpy(log["next_obs"])
    rng = np.random.default_rng(0)

    def once() -> None:
        slots = torch.from_numpy(rng.integers(len(obs), size=MLP["batch_size"]))
        obs.index_select(0, slots), next_obs.index_select(0, slots)

    return repeat(once), 0


def sample_cnn() -> tuple[Run, int]:
    "A window of five frames holds obs and next_obs"
    frames = torch.from_numpy(log_of_frames(given.sizes["frames"])["frame"])
    rng = np.random.default_rng(0)
    n = CNN["batch_size"] * (CNN["stack"] + 1)
    return repeat(lambda: frames.index_select(0, torch.from_numpy(rng.integers(len(frames), size=n)))), 0


def ale(n_envs: int) -> Callable[[], object]:
    envs = AtariVectorEnv(atari_game(PLAY["env_id"]), n_envs, **ale_settings(AtariConfig()))
    envs.reset()
    table = iter(np.random.default_rng(0).integers(CNN["actions"], size=(100_000, n_envs)))
    return lambda: envs.step(next(table))


def forward(n_envs: int) -> Callable[[], object]:
    "Of the values alone: a behavior policy has no other head"
    def way(memory_format: torch.memory_format) -> Callable[[], object]:
        network = Network().to(memory_format=memory_format)
        obs = torch.rand(n_envs, CNN["stack"], CNN["size"], CNN["size"]).contiguous(memory_format=memory_format)

        def once() -> None:
            with torch.inference_mode():
                network.q(network.body(obs))

        return once

    return fastest([way(torch.channels_last), way(torch.contiguous_format)])


def played(n_envs: int, *makers: Callable[[int], Callable[[], object]]) -> tuple[Run, int]:
    "So many steps of a game, all games together"
    parts = [make(n_envs) for make in makers]

    def run(n: int) -> None:
        for _ in range(n // n_envs):
            for part in parts:
                part()

    return run, 0


makers = {"mlp": mlp, "sample_mlp": sample_mlp, "cnn": cnn, "cnn_bf16": partial(cnn, True), "sample_cnn": sample_cnn}
for n in (1, 2, 4, 8, 16, 32):
    makers |= {f"generate_{n}": partial(played, n, ale, forward), f"ale_{n}": partial(played, n, ale),
               f"forward_{n}": partial(played, n, forward)}
serve(torch.__version__, makers)
