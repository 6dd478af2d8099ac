"""Our updates against the authors' arithmetic, written again in NumPy, in 64 bits: layers, losses, Adam, all by hand.

Theirs is `discrete_BCQ/` of github.com/sfujim/BCQ: DQN.py takes the plain maximum of the target network,
discrete_BCQ.py the target's value of the online network's best allowed action; both update by Adam and then let the
target follow, softly or by a copy every so many updates. No PyTorch on that side.
"""
from collections import namedtuple

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from bcq_nb.bcq import BCQConfig, DiscreteBCQ
from bcq_nb.buffers import Batch
from bcq_nb.dqn import DQN, DQNConfig

UPDATES = 20


# --- Layers: each returns its output, and a function that turns the output's gradient into
# --- (the input's gradient, the parameters' gradients)

def linear(x, w, b):
    return x @ w.T + b, lambda g: (g @ w, [g.T @ x, g.sum(0)])


def relu(x):
    return np.maximum(x, 0), lambda g: (g * (x > 0), [])


def flatten(x):
    return x.reshape(len(x), -1), lambda g: (g.reshape(x.shape), [])


def conv(stride):
    "A convolution without padding, as a matrix product over patches (im2col)"
    def forward(x, w, b):
        k = w.shape[2]
        rows = (x.shape[2] - k) // stride + 1
        columns = (x.shape[3] - k) // stride + 1

        def patch(images, i, j):
            "Pixel (i, j) of every window: a view of (B, channels, rows, columns)"
            return images[:, :, i:i + stride * rows:stride, j:j + stride * columns:stride]

        patches = np.stack([patch(x, i, j) for i in range(k) for j in range(k)], 2)   # (B, channels, k², rows, columns)
        flat = patches.transpose(0, 3, 4, 1, 2).reshape(-1, w[0].size)                # (B·rows·columns, channels·k²)
        kernels = w.reshape(len(w), -1)                                               # (filters, channels·k²)
        out = (flat @ kernels.T + b).reshape(len(x), rows, columns, len(w)).transpose(0, 3, 1, 2)

        def backward(g):
            g = g.transpose(0, 2, 3, 1).reshape(-1, len(w))                           # (B·rows·columns, filters)
            back = (g @ kernels).reshape(len(x), rows, columns, x.shape[1], k * k).transpose(0, 3, 4, 1, 2)
            gx = np.zeros_like(x)
            for n in range(k * k):
                patch(gx, *divmod(n, k))[...] += back[:, :, n]
            return gx, [(g.T @ flat).reshape(w.shape), g.sum(0)]

        return out, backward
    return forward


def run(layers, x, parameters):
    "Through the layers, each taking the parameters it needs; returns the output and the function that goes back"
    backs = []
    parameters = iter(parameters)
    for layer in layers:
        own = [] if layer in (relu, flatten) else [next(parameters), next(parameters)]   # weights and biases
        x, back = layer(x, *own)
        backs.append(back)

    def backward(g):
        gradients = []
        for back in reversed(backs):
            g, own = back(g)
            gradients = own + gradients
        return g, gradients
    return x, backward


# --- Networks: encoder, Q head, imitation head, their parameters one after the other in this order

ENCODERS = {"mlp": [], "cnn": [conv(4), relu, conv(2), relu, conv(1), relu, flatten]}
HEADS = {"mlp": [linear, relu, linear, relu, linear], "cnn": [linear, relu, linear]}


class Network:
    "Values, and logits where there is an imitation head"
    def __init__(self, kind, parameters, imitation):
        self.kind = kind
        self.parameters = parameters
        cut = 2 * sum(layer not in (relu, flatten) for layer in ENCODERS[kind])
        per_head = 2 * sum(layer is linear for layer in HEADS[kind])
        self.cuts = [cut, cut + per_head] + [cut + 2 * per_head] * imitation

    def forward(self, obs):
        encoder, *heads = np.split(np.array(self.parameters, object), self.cuts[:-1])
        features, back_encoder = run(ENCODERS[self.kind], obs.astype(np.float64), encoder)
        outputs, backs = zip(*(run(HEADS[self.kind], features, head) for head in heads), strict=True)

        def backward(*gradients):
            through, own = zip(*(back(g) for back, g in zip(backs, gradients, strict=True)), strict=True)
            return back_encoder(sum(through))[1] + [g for head in own for g in head]
        return outputs, backward


# --- The two losses and their gradients with respect to the heads' outputs

def huber(q, action, target):
    "Mean smooth L1 loss at the actions, and its gradient for all values"
    gap = q[np.arange(len(q)), action] - target
    gradient = np.zeros_like(q)
    gradient[np.arange(len(q)), action] = np.clip(gap, -1, 1) / len(q)
    return np.where(abs(gap) < 1, gap ** 2 / 2, abs(gap) - 0.5).mean(), gradient


def log_softmax(z):
    z = z - z.max(1, keepdims=True)
    return z - np.log(np.exp(z).sum(1, keepdims=True))


def dqn_loss(online, target, batch, gamma):
    (next_q,), _ = target.forward(batch.next_obs)
    y = batch.reward + (1 - batch.terminated) * gamma * next_q.max(1)
    (q,), backward = online.forward(batch.obs)
    loss, gradient = huber(q, batch.action, y)
    return loss, backward(gradient)


def bcq_loss(online, target, batch, gamma, threshold=0.3):
    rows = np.arange(len(batch.action))
    (next_q, next_z), _ = online.forward(batch.next_obs)
    p = np.exp(log_softmax(next_z))
    allowed = p / p.max(1, keepdims=True) > threshold
    next_action = np.where(allowed, next_q, -1e8).argmax(1)
    y = batch.reward + (1 - batch.terminated) * gamma * target.forward(batch.next_obs)[0][0][rows, next_action]
    (q, z), backward = online.forward(batch.obs)
    q_loss, q_gradient = huber(q, batch.action, y)
    log_p = log_softmax(z)
    done = np.zeros_like(z)
    done[rows, batch.action] = 1
    z_gradient = (np.exp(log_p) - done) / len(z) + 1e-2 * 2 * z / z.size
    return q_loss - log_p[rows, batch.action].mean() + 1e-2 * (z ** 2).mean(), backward(q_gradient, z_gradient)


class Adam:
    "Kingma and Ba 2015, with bias correction"
    def __init__(self, parameters, lr, eps, beta1=0.9, beta2=0.999):
        self.parameters, self.lr, self.eps = parameters, lr, eps
        self.beta1, self.beta2, self.t = beta1, beta2, 0
        self.m = [np.zeros_like(p) for p in parameters]
        self.v = [np.zeros_like(p) for p in parameters]

    def step(self, gradients):
        self.t += 1
        for p, m, v, g in zip(self.parameters, self.m, self.v, gradients, strict=True):
            m += (1 - self.beta1) * (g - m)
            v += (1 - self.beta2) * (g * g - v)
            m_hat = m / (1 - self.beta1 ** self.t)
            v_hat = v / (1 - self.beta2 ** self.t)
            p -= self.lr * m_hat / (np.sqrt(v_hat) + self.eps)


def authors(agent, kind, batches):
    "Losses and weights of both networks after the authors' updates, from the agent's weights"
    c = agent.config
    bcq = isinstance(agent, DiscreteBCQ)
    algorithm = bcq_loss if bcq else dqn_loss
    online = [w.detach().numpy().astype(np.float64).copy() for w in agent.network.parameters()]
    target = [w.detach().numpy().astype(np.float64).copy() for w in agent.target.parameters()]
    networks = [Network(kind, parameters, imitation=bcq) for parameters in (online, target)]
    adam = Adam(online, c.lr, c.adam_eps)
    losses = []
    for t, batch in enumerate(batches, 1):
        batch = batch._replace(reward=batch.reward.astype(np.float64), terminated=batch.terminated.astype(np.float64))
        loss, gradients = algorithm(*networks, batch, c.discount)
        losses.append(loss)
        adam.step(gradients)
        if t % c.target_every == 0:
            for slow, fast in zip(target, online, strict=True):
                slow[...] = c.target_rate * fast + (1 - c.target_rate) * slow
    return losses, online, target


# --- The comparison

N_ACTIONS = 4
SPACES = {"mlp": Box(-np.inf, np.inf, (8,), np.float32), "cnn": Box(0, 255, (4, 44, 52), np.uint8)}
SETTINGS = {   # the authors'; but the hard copy comes within the 20 updates
    "mlp": dict(lr=3e-4, adam_eps=1e-8, discount=0.99, hidden=(256, 256), target_rate=0.005, target_every=1),
    "cnn": dict(lr=6.25e-5, adam_eps=1.5e-4, discount=0.99, hidden=(512,), target_rate=1.0, target_every=8,
                scale_obs=False)}


def make_agent(kind, algorithm, **changes):
    if algorithm == "DQN":
        return DQN(SPACES[kind], N_ACTIONS, DQNConfig(**SETTINGS[kind]), seed=1, device="cpu")
    config = BCQConfig(**{**SETTINGS[kind], "threshold": 0.3, "logit_penalty": 1e-2, **changes})
    agent = DiscreteBCQ(SPACES[kind], N_ACTIONS, config, seed=1, device="cpu")
    with torch.no_grad():   # an imitation that forbids something from the start
        agent.weights[-1] += torch.tensor([1.0, 0.5, -0.5, -1.0])
    return agent


Columns = namedtuple("Columns", Batch._fields[:5])   # the same in NumPy's arrays


def make_batches(kind, size=8, seed=0):
    "What a buffer would give; frames are unscaled pixels: bright boxes that move over a dark ground"
    rng = np.random.default_rng(seed)
    for _ in range(UPDATES):
        if kind == "mlp":
            obs, next_obs = rng.normal(size=(2, size, 8)).astype(np.float32)
        else:
            scene = np.full((size, 5, 44, 52), 40, np.uint8)
            for movie in scene:
                (row, column), light = rng.integers(0, 30, 2), rng.integers(100, 256)
                for t in range(5):
                    movie[t, row + t:row + t + 10, column + 2 * t:column + 2 * t + 8] = light
            obs, next_obs = scene[:, :4], scene[:, 1:]
        action = rng.choice(N_ACTIONS, size, p=[0.5, 0.3, 0.1, 0.1])
        reward, terminated = 3 * rng.normal(size=size), rng.random(size) < 0.2
        yield Columns(obs, action, reward.astype(np.float32), next_obs, terminated.astype(np.float32))


def ours(agent, batches, dtype):
    "Losses of our updates"
    agent.network.to(dtype)
    agent.target.to(dtype)
    losses = []
    for batch in batches:
        columns = [torch.from_numpy(column) for column in batch[:5]]
        precise = Batch(*(column.to(dtype) if column.is_floating_point() else column for column in columns))
        losses.append(agent.update(precise)["loss"].item())
    return losses


def largest_gap(network, weights):
    "The largest difference between a network's weight and the one given"
    pairs = zip(network.parameters(), weights, strict=True)
    return max(np.abs(own.detach().numpy() - given).max() for own, given in pairs)


def gaps(agent, online, target):
    "The largest difference of a weight, in each network"
    return largest_gap(agent.network, online), largest_gap(agent.target, target)


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
@pytest.mark.parametrize("algorithm", ["DQN", "BCQ"])
def test_twenty_updates_are_the_authors(kind, algorithm):
    batches = [*make_batches(kind)]
    agent, precise = make_agent(kind, algorithm), make_agent(kind, algorithm)
    start = [w.detach().numpy().copy() for w in agent.weights]
    losses, online, target = authors(agent, kind, batches)
    np.testing.assert_allclose(ours(agent, batches, torch.float32), losses, rtol=1e-5)
    assert max(gaps(agent, online, target)) < 1e-5
    # In 64 bits what is left is far below what any difference of a formula would make
    np.testing.assert_allclose(ours(precise, batches, torch.float64), losses, rtol=1e-12)
    assert max(gaps(precise, online, target)) < 1e-12
    # and it was no standstill: every layer moved by many times the tolerance
    assert min(np.abs(x - w).max() for w, x in zip(start, online, strict=True)) > 3e-4


CHANGES = [{"threshold": 0.0}, {"threshold": 1.0}, {"logit_penalty": 0.0}, {"discount": 0.98}]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_a_difference_would_be_seen(change):
    "The constraint and every setting act in these batches: with another value the numbers are not the authors' by far"
    batches = [*make_batches("mlp")]
    agent, other = make_agent("mlp", "BCQ"), make_agent("mlp", "BCQ", **change)
    _, online, target = authors(agent, "mlp", batches)
    ours(other, batches, torch.float32)
    assert gaps(other, online, target)[0] > 1e-4
