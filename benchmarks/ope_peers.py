"""Our estimators beside other libraries' on the same logs: `python benchmarks/ope_peers.py PYTHON`, ope_peers.csv.

PYTHON is the interpreter of an environment of its own, where those libraries are:

    python3 -m venv peers
    peers/bin/pip install torch==2.13.0 scope-rl==0.2.1 offline-rl-ope==7.0.0 jaxtyping==0.3.11 typeguard==2.13.3
    peers/bin/pip install --no-deps sb-obp==0.5.10

Four logs of made-up worlds, in which the behavior policy, the policy and a table Q are known:

* bandit: episodes of one step;
* equal: episodes of 6 steps;
* varying: episodes that end after 1 to 12 steps;
* cut: the same, but every third episode is cut there and does not end.

The other libraries know no cut episodes. They are told what the model says of the rest as a last reward, of a step
whose only action has that value. Doubly robust estimators must come to the same, and the others are not compared on
this log. SCOPE-RL needs episodes of one length, so that those which end earlier are padded: by steps with ratio 1,
reward 0, value 0.

A row: log, library, version, estimator, ours, theirs, difference; same is 0 where a definition differs. That is so for
offline-rl-ope where lengths vary: it divides the weights of a step by their mean over all episodes, in which one that
has ended counts with weight 0, so that they sum to 1 over the episodes that last so long. Of two episodes with ratio 1
and a reward of 1 for each of their steps, one and two of them, it says that 2 is to be expected. An ended episode keeps
its weight here and in SCOPE-RL, and the answer is 1.5, as it is without weights.
"""
from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bcq_nb import ope
from bcq_nb.evidence import Evidence
from bcq_nb.files import write_rows

SEED = 0
EPISODES = 200
STATES, ACTIONS = 6, 3
DISCOUNT = 0.9
LIBRARIES = {"bandit": ("scope-rl", "offline-rl-ope", "obp"), "equal": ("scope-rl", "offline-rl-ope"),
             "varying": ("scope-rl", "offline-rl-ope"), "cut": ("scope-rl", "offline-rl-ope")}
OF_A_MODEL = ("direct_method", "doubly_robust", "weighted_doubly_robust")
BY_STEP = ("weighted_per_decision_importance_sampling", "weighted_doubly_robust")   # weights normalized at each step


@dataclass(frozen=True)
class World:
    "Tables of a world, of two policies in it, and of a model's values"
    p: np.ndarray          # (S, A, S)
    r: np.ndarray          # (S, A)
    behavior: np.ndarray   # (S, A)
    policy: np.ndarray     # (S, A)
    q: np.ndarray          # (S, A)

    @property
    def v(self) -> np.ndarray:
        "(S,) the model's values of states, under the policy"
        return (self.policy * self.q).sum(axis=1)


@dataclass(frozen=True)
class Log:
    "A row an episode; behind its end stand zeros"
    state: np.ndarray    # (n, T) int
    action: np.ndarray   # (n, T) int
    reward: np.ndarray   # (n, T)
    length: np.ndarray   # (n,) int, from 1
    last: np.ndarray     # (n,) int: the state after the last action
    cut: np.ndarray      # (n,) bool: it would have gone on from there


def shares(weight: np.ndarray) -> np.ndarray:
    "Weights, the last dimension made to sum to 1"
    return weight / weight.sum(axis=-1, keepdims=True)


def make_world(rng: np.random.Generator) -> World:
    "Nothing in it is 0, so that each action of the policy can be found in the log"
    return World(
        p=shares(rng.random((STATES, ACTIONS, STATES)) ** 2 + 0.01),
        r=rng.random((STATES, ACTIONS)) * 2 - 1,
        behavior=shares(rng.random((STATES, ACTIONS)) + 0.3),
        policy=shares(rng.random((STATES, ACTIONS)) + 0.3),
        q=rng.random((STATES, ACTIONS)) * 4 - 2)


def draw(p: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    "One number for each row of (n, k) probabilities"
    drawn = rng.random((len(p), 1))
    return (p.cumsum(axis=1) < drawn).sum(axis=1).clip(max=p.shape[1] - 1)


def draw_log(world: World, kind: str, rng: np.random.Generator) -> Log:
    "The behavior policy acts; how long an episode is, is drawn before it begins"
    shortest, longest = {"bandit": (1, 1), "equal": (6, 6)}.get(kind, (1, 12))
    length = rng.integers(shortest, longest + 1, EPISODES)
    state, action, reward = (np.zeros((EPISODES, longest), kind) for kind in (int, int, float))
    now = rng.integers(0, STATES, EPISODES)
    last = np.zeros(EPISODES, int)
    for step in range(longest):   # all episodes at once
        lasts = length > step
        chosen = draw(world.behavior[now], rng)
        noise = rng.random(EPISODES) - 0.5
        state[lasts, step] = now[lasts]
        action[lasts, step] = chosen[lasts]
        reward[lasts, step] = (world.r[now, chosen] + noise)[lasts]
        now = draw(world.p[now, chosen], rng)
        last[length == step + 1] = now[length == step + 1]
    cut = (np.arange(EPISODES) % 3 == 0) & (kind == "cut")
    return Log(state, action, reward, length, last, cut)


def make_log(kind: str) -> tuple[World, Log]:
    "The same for the same kind, always"
    rng = np.random.default_rng([SEED, list(LIBRARIES).index(kind)])
    world = make_world(rng)
    return world, draw_log(world, kind, rng)


def gather_log(world: World, log: Log) -> Evidence:
    "The log as our estimators are given it"
    inside = np.arange(log.state.shape[1]) < log.length[:, None]   # (n, T)
    ratio = (world.policy / world.behavior)[log.state, log.action]
    q = world.q[log.state, log.action]
    v = np.zeros((EPISODES, log.state.shape[1] + 1))
    v[:, :-1] = np.where(inside, world.v[log.state], 0)
    v[np.arange(EPISODES), log.length] = np.where(log.cut, world.v[log.last], 0)
    return Evidence(log.reward, np.where(inside, ratio, 1), DISCOUNT, np.where(inside, q, 0), v)


def tell(world: World, log: Log) -> dict[str, np.ndarray]:
    "The log as others are given it: states of their own for the rest of a cut episode, and for the padding"
    only_first = np.tile(np.eye(ACTIONS)[0], (STATES + 1, 1))
    rest = np.zeros((STATES + 1, ACTIONS))
    rest[:STATES, 0] = world.v
    longest = log.state.shape[1] + log.cut.any()
    state, action, reward = (np.zeros((EPISODES, longest), kind) for kind in (int, int, float))
    padding = 2 * STATES
    state[:] = padding
    for episode, end in enumerate(log.length):
        state[episode, :end] = log.state[episode, :end]
        action[episode, :end] = log.action[episode, :end]
        reward[episode, :end] = log.reward[episode, :end]
        if log.cut[episode]:
            state[episode, end] = STATES + log.last[episode]
            reward[episode, end] = world.v[log.last[episode]]
    return {"state": state, "action": action, "reward": reward, "length": log.length + log.cut,
            "behavior": np.concatenate([world.behavior, only_first]),
            "policy": np.concatenate([world.policy, only_first]),
            "q": np.concatenate([world.q, rest]), "discount": np.array(DISCOUNT)}


def ask(python: str, library: str, told: dict[str, np.ndarray]) -> dict:
    "The version of a library, and what its estimators say"
    script = Path(__file__).with_name("peer_answers.py")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.npz"
        np.savez(path, **told)
        done = subprocess.run([python, str(script), library, str(path)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{library} did not answer: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def is_same(kind: str, library: str, estimator: str) -> bool:
    "Whether both mean the same by the estimator, on such a log"
    varies = kind in ("varying", "cut")
    return not (library == "offline-rl-ope" and varies and estimator in BY_STEP)


def compare(python: str, kind: str, library: str) -> list[dict]:
    "The rows of one log and one library"
    world, log = make_log(kind)
    evidence = gather_log(world, log)
    answer = ask(python, library, tell(world, log))
    rows = []
    for estimator, theirs in answer["answers"].items():
        if kind == "cut" and estimator not in OF_A_MODEL:
            continue
        ours = float(getattr(ope, estimator)(evidence))
        rows.append({"log": kind, "library": library, "version": answer["version"], "estimator": estimator,
                     "same": int(is_same(kind, library, estimator)), "ours": repr(ours), "theirs": repr(theirs),
                     "difference": f"{ours - theirs:.3g}"})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    results = Path(__file__).parents[1] / "bcq_nb" / "results"
    parser.add_argument("python", help="the interpreter of the other libraries' environment")
    parser.add_argument("--out", type=Path, default=results, help="where the table goes")
    args = parser.parse_args()

    rows = [row for kind, libraries in LIBRARIES.items() for library in libraries
            for row in compare(args.python, kind, library)]
    write_rows(args.out / "ope_peers.csv", rows)


if __name__ == "__main__":
    main()
