"""A training that was stopped goes on to the same bits, whenever and however it was stopped."""
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from bcq_nb.atari import AtariConfig
from bcq_nb.bcq import BCQConfig, DiscreteBCQ, train_offline
from bcq_nb.buffers import ReplayBuffer
from bcq_nb.checks import refuses
from bcq_nb.dqn import DQN, DQNConfig, train_behavioral
from bcq_nb.evaluation import plot_returns
from bcq_nb.generation import generate_buffer
from bcq_nb.reports import Bar
from bcq_nb.selection import stopping_points
from bcq_nb.stopping import Interrupted, Keeper, Requests
from bcq_nb.training import Exploration

KILLS = int(os.environ.get("BCQ_KILLS", 1))   # of each kind of work
CONFIG = DQNConfig.small(hidden=(16,))
PLAN = Exploration(warmup=100, n_envs=2, train_every=4)
ONLINE = {"env_id": "CartPole-v1", "steps": 600, "config": CONFIG, "exploration": PLAN, "eval_every": 200,
          "eval_episodes": 2, "device": "cpu", "progress": False}
GENERATE = {"env_id": "CartPole-v1", "steps": 400, "n_envs": 2, "progress": False}
OFFLINE = {"steps": 250, "eval_every": 100, "progress": False}


def log_of(n=300, seed=0):
    rng = np.random.default_rng(seed)
    obs = rng.normal(size=(n + 1, 4)).astype(np.float32)
    over = rng.random(n) < 0.05
    return ReplayBuffer.from_arrays(obs[:-1], rng.integers(2, size=n), rng.random(n), obs[1:], over, np.zeros(n, bool))


def new_agent(seed=0, **settings):
    return DiscreteBCQ(log_of().obs_space, 2, BCQConfig(hidden=(16,), **settings), seed, "cpu")


def agent_bits(agent):
    found = hashlib.sha256()
    for name, value in sorted(agent.state_dict().items()):
        found.update(name.encode() + value.contiguous().numpy().tobytes())
    found.update(json.dumps([agent.updates, agent.history, agent.bounds, agent.rng.bit_generator.state]).encode())
    return found.hexdigest()


def buffer_bits(buffer):
    found = hashlib.sha256()
    for name, value in buffer.state(buffer.ring.slot(np.arange(len(buffer)))).items():
        found.update(name.encode() + value.tobytes())
    return found.hexdigest()


# Stopped within a process

class Stopped(gym.Env):
    "Walks up or down. In its process a signal is raised in a certain step, counted over all environments"
    observation_space = gym.spaces.Box(-100, 100, (4,), np.float32)
    action_space = gym.spaces.Discrete(2)
    signum, at, steps = None, 0, 0
    chance = None   # random numbers that no seed decides

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.np_random.normal(size=4).astype(np.float32)
        return self.place, {}

    def step(self, action):
        Stopped.steps += 1
        if Stopped.steps == Stopped.at:
            signal.raise_signal(Stopped.signum)
        noise = 0 if Stopped.chance is None else Stopped.chance.normal()
        self.place = self.place + np.float32(2 * action - 1 + noise)
        return self.place, float(self.place[0]), bool(abs(self.place[1]) > 5), False, {}


gym.register("Stopped-v0", Stopped, max_episode_steps=20)


@pytest.fixture(autouse=True)
def undisturbed():
    "No signal is raised unless a test says so, and nobody answers signals afterwards"
    handlers = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    Stopped.signum, Stopped.at, Stopped.steps, Stopped.chance = None, 0, 0, None
    yield
    assert all(signal.getsignal(signum) == handler for signum, handler in handlers.items())


def stop_at(step, signum=signal.SIGTERM):
    Stopped.signum, Stopped.at, Stopped.steps = signum, step, 0


def online(**changes):
    return train_behavioral(**{**ONLINE, "env_id": "Stopped-v0", **changes})


@pytest.mark.parametrize("at, signum", [(1, signal.SIGTERM), (60, signal.SIGINT), (201, signal.SIGHUP),
                                        (350, signal.SIGTERM), (599, signal.SIGTERM)])   # in the warm-up, and later
def test_online_training_goes_on(tmp_path, signum, at):
    whole = online(replay=tmp_path / "whole.npz")
    stop_at(at, signum)
    path = tmp_path / "agent.safetensors"
    with refuses(Interrupted, "the same call goes on from"):
        online(checkpoint=path, replay=tmp_path / "again.npz")
    assert path.is_file() and not (tmp_path / "again.npz").exists()
    assert DQN.load(path, "cpu").updates <= whole.updates
    stop_at(0)
    again = online(checkpoint=path, replay=tmp_path / "again.npz")
    assert agent_bits(again) == agent_bits(whole)
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()
    assert agent_bits(online(checkpoint=path)) == agent_bits(whole)       # finished: nothing more is learned
    assert agent_bits(DQN.load(path, "cpu")) == agent_bits(whole)


def test_online_training_is_stopped_again_and_again(tmp_path):
    whole = online()
    path = tmp_path / "agent.safetensors"
    for at in (20, 250, 20, 480, 520):      # also while it plays again
        stop_at(at)
        try:
            online(checkpoint=path)
        except Interrupted as stopped:
            assert stopped.signum == signal.SIGTERM
    stop_at(0)
    assert agent_bits(online(checkpoint=path)) == agent_bits(whole)


class Raising:
    "Sends a signal when it is asked for the n-th time"
    def __init__(self, agent, n, signum=signal.SIGINT):
        self.agent, self.left, self.signum = agent, n, signum

    def __call__(self, obs):
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(self.signum)
        return self.agent(obs)


def alternate(obs):
    return (obs[:, 2] > 0).astype(int)


@pytest.mark.parametrize("at", [1, 7, 150, 200])
def test_generation_goes_on(tmp_path, at):
    path = tmp_path / "course.npz"
    settings = {**GENERATE, "rand_action_p": 0.5}
    whole = generate_buffer(alternate, **settings)
    with refuses(Interrupted, "the same call goes on from"):
        generate_buffer(Raising(alternate, at), **settings, checkpoint=path)
    again = generate_buffer(Raising(alternate, 10**9), **settings, checkpoint=path)
    assert buffer_bits(again) == buffer_bits(whole)
    short = 400 - 2 * at
    assert buffer_bits(generate_buffer(Raising(alternate, short), **settings, checkpoint=path)) == buffer_bits(whole)


def stop_update(monkeypatch, at, signum=signal.SIGTERM):
    "A signal in a certain update"
    update, done = DiscreteBCQ.update, 0

    def counted(self, batch):
        nonlocal done
        done += 1
        if done == at:
            signal.raise_signal(signum)
        return update(self, batch)

    monkeypatch.setattr(DiscreteBCQ, "update", counted)


@pytest.mark.parametrize("at", [1, 99, 100, 101, 250])
@pytest.mark.parametrize("same_agent", [True, False])
def test_offline_training_goes_on(tmp_path, monkeypatch, at, same_agent):
    log, unseen, path = log_of(), log_of(seed=1), tmp_path / "agent.safetensors"
    settings = {**OFFLINE, "held_out": unseen}
    whole = new_agent(standardize=True)
    rows = train_offline(whole, log, **settings)
    agent = new_agent(standardize=True)
    with monkeypatch.context() as patch:
        stop_update(patch, at)
        with refuses(Interrupted, "the same call goes on from"):
            train_offline(agent, log, **settings, checkpoint=path)
    assert agent.updates == at                               # the step is whole
    again = agent if same_agent else new_agent(standardize=True)
    assert train_offline(again, log, **settings, checkpoint=path) == rows
    assert agent_bits(again) == agent_bits(whole)
    third = new_agent(standardize=True)
    assert train_offline(third, log, **settings, checkpoint=path) == rows    # finished
    assert agent_bits(third) == agent_bits(whole)


def test_training_that_goes_on_from_an_agent(tmp_path, monkeypatch):
    "An agent that has learned before: the second training is the one that is stopped"
    log, path = log_of(), tmp_path / "agent.safetensors"
    whole, agent = new_agent(), new_agent()
    for one in (whole, agent):
        train_offline(one, log, 30, progress=False)
    agent.save(tmp_path / "before.safetensors")
    rows = train_offline(whole, log, **OFFLINE)
    with monkeypatch.context() as patch:
        stop_update(patch, 120)
        with pytest.raises(Interrupted):
            train_offline(agent, log, **OFFLINE, checkpoint=path)
    again = DiscreteBCQ.load(tmp_path / "before.safetensors", "cpu")
    assert train_offline(again, log, **OFFLINE, checkpoint=path) == rows
    assert agent_bits(again) == agent_bits(whole) and len(rows) == 3 and again.updates == 280


def test_an_evaluation_is_left_at_once(tmp_path):
    settings = {**OFFLINE, "eval_env": "Stopped-v0", "eval_episodes": 8}
    whole = new_agent()
    rows = train_offline(whole, log_of(), **settings)
    n_steps = Stopped.steps
    agent, path = new_agent(), tmp_path / "agent.safetensors"
    stop_at(n_steps // 2)
    with pytest.raises(Interrupted):
        train_offline(agent, log_of(), **settings, checkpoint=path)
    assert agent.updates in (100, 200) and Stopped.steps == n_steps // 2
    stop_at(0)
    again = new_agent()
    assert train_offline(again, log_of(), **settings, checkpoint=path) == rows
    assert agent_bits(again) == agent_bits(whole)


def test_stopping_points_go_on(tmp_path, monkeypatch):
    log, path = log_of(), tmp_path / "agent"
    whole = stopping_points(new_agent(), log, steps=90, every=40, progress=False)
    with monkeypatch.context() as patch:
        stop_update(patch, 60)
        with pytest.raises(Interrupted):
            stopping_points(new_agent(), log, steps=90, every=40, progress=False, checkpoint=path)
    again = stopping_points(new_agent(), log, steps=90, every=40, progress=False, checkpoint=path)
    assert [agent_bits(agent) for agent in again] == [agent_bits(agent) for agent in whole]
    with monkeypatch.context() as patch:
        stop_update(patch, 60, signal.SIGINT)
        with pytest.warns(UserWarning, match="stopped before the end"):
            copies = stopping_points(new_agent(), log, steps=90, every=40, progress=False)
    assert [agent.updates for agent in copies] == [40, 60]


# Handed back

def test_ctrl_c_hands_back_what_was_done(tmp_path, monkeypatch):
    stop_at(451, signal.SIGINT)      # evaluations play, too
    with pytest.warns(UserWarning, match="stopped before the end"):
        agent = online(replay=tmp_path / "replay.npz")
    steps = [row["step"] for row in agent.history]
    assert 0 < steps[-1] < 600 and steps == sorted(set(steps)) and "q" in agent.history[-1]
    assert len(ReplayBuffer.load(tmp_path / "replay.npz")) == steps[-1]
    ax = plot_returns({"behavior": agent.history})           # the last row has no return
    assert len(ax.lines[0].get_xdata()) == len(steps) - 1 > 0

    with pytest.warns(UserWarning, match="stopped before the end"):
        buffer = generate_buffer(Raising(alternate, 7), **GENERATE)
    assert len(buffer) == 14

    agent = new_agent()
    stop_update(monkeypatch, 130, signal.SIGINT)
    with pytest.warns(UserWarning, match="stopped before the end"):
        rows = train_offline(agent, log_of(), **OFFLINE)
    assert [row["step"] for row in rows] == [100, 130] and agent.history == rows and agent.updates == 130


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_without_a_checkpoint_stop(monkeypatch, signum):
    stop_update(monkeypatch, 50, signum)
    with pytest.raises(Interrupted) as caught:
        train_offline(new_agent(), log_of(), **OFFLINE)
    assert caught.value.signum == signum and isinstance(caught.value, KeyboardInterrupt)


def test_a_second_signal_does_not_wait(tmp_path):
    path, written = tmp_path / "file", []
    done = 0
    with pytest.raises(Interrupted), Keeper(path, 10, lambda: written.append(done)) as keeper:
        for _ in range(5):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            done += 1
            keeper.look()
    assert done == 0 and not written                         # what was left in its middle is not kept


def test_a_signal_in_the_last_step_is_not_lost():
    with pytest.raises(Interrupted) as caught, Keeper(None, 10, print):
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.signum == signal.SIGTERM


def test_what_was_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)    # as nohup does
    try:
        with Requests() as requests:
            signal.raise_signal(signal.SIGHUP)
            requests.look()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_threads_train_as_well():
    from threading import Thread
    agent = new_agent()
    thread = Thread(target=train_offline, args=(agent, log_of(), 20), kwargs={"progress": False})
    thread.start()
    thread.join()
    assert agent.updates == 20


# Whose checkpoint it is

def test_a_checkpoint_of_another_call_is_refused(tmp_path, monkeypatch):
    log, path = log_of(), tmp_path / "agent.safetensors"
    with monkeypatch.context() as patch:
        stop_update(patch, 60)
        with pytest.raises(Interrupted):
            train_offline(new_agent(), log, **OFFLINE, checkpoint=path)
    kept = path.read_bytes()
    wrong = {
        "steps is 250 there and 251 here": ({"steps": 251}, log, new_agent()),
        "seed is 0 there and 1 here": ({"seed": 1}, log, new_agent()),
        "eval_every is 100 there and 50 here": ({"eval_every": 50}, log, new_agent()),
        "buffer is": ({}, log_of(seed=1), new_agent()),
        "held_out is None there": ({"held_out": log}, log, new_agent()),
        "agent is": ({}, log, new_agent(seed=1)),
        "holds another agent": ({}, log, new_agent(lr=1e-5)),
    }
    for words, (settings, buffer, agent) in wrong.items():
        before = agent_bits(agent)
        with refuses(ValueError, words):
            train_offline(agent, buffer, **{**OFFLINE, **settings}, checkpoint=path)
        assert agent_bits(agent) == before and path.read_bytes() == kept
    further = new_agent()
    train_offline(further, log, 10, progress=False)
    with refuses(ValueError, "its updates is 0 there and 10 here"):
        train_offline(further, log, **OFFLINE, checkpoint=path)


def test_other_files_are_refused(tmp_path):
    log, path = log_of(), tmp_path / "agent.safetensors"
    new_agent().save(path)
    with refuses(ValueError, "holds an agent, and no training"):
        train_offline(new_agent(), log, **OFFLINE, checkpoint=path)
    path.write_bytes(path.read_bytes()[:-7])
    with refuses(ValueError, str(path)):
        train_offline(new_agent(), log, **OFFLINE, checkpoint=path)
    course = tmp_path / "course.npz"
    generate_buffer(alternate, **GENERATE, checkpoint=course)
    with refuses(ValueError, "steps is 400 there and 200 here"):
        generate_buffer(alternate, **{**GENERATE, "steps": 200}, checkpoint=course)
    with refuses(ValueError, "policy is"):
        generate_buffer(lambda obs: np.zeros(len(obs), int), **GENERATE, checkpoint=course)
    course.write_bytes(b"PK nonsense")
    with refuses(ValueError, str(course)):
        generate_buffer(alternate, **GENERATE, checkpoint=course)
    with refuses(ValueError, "folder"):
        train_offline(new_agent(), log, **OFFLINE, checkpoint=tmp_path)


def test_another_number_of_threads_is_said(tmp_path, monkeypatch):
    log, path = log_of(), tmp_path / "agent.safetensors"
    with monkeypatch.context() as patch:
        stop_update(patch, 20)
        with pytest.raises(Interrupted):
            train_offline(new_agent(), log, 25, progress=False, checkpoint=path)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        with pytest.warns(UserWarning, match=rf"{threads} thread\(s\) were used before, and {threads + 1} now"):
            train_offline(new_agent(), log, 25, progress=False, checkpoint=path)
    finally:
        torch.set_num_threads(threads)


def test_an_environment_that_does_not_repeat_itself(tmp_path):
    path = tmp_path / "agent.safetensors"
    Stopped.chance = np.random.default_rng(0)
    stop_at(300)
    with pytest.raises(Interrupted):
        online(checkpoint=path)
    stop_at(0)
    with pytest.warns(UserWarning, match="does not repeat itself"):
        agent = online(checkpoint=path, replay=tmp_path / "replay.npz")
    buffer = ReplayBuffer.load(tmp_path / "replay.npz")
    assert agent.updates == 125 and len(buffer) == 600
    for episode in buffer:
        assert torch.equal(episode.next_obs[:-1], episode.obs[1:])


def test_a_spoiled_agent_is_not_written(tmp_path, monkeypatch):
    log, path = log_of(), tmp_path / "agent.safetensors"
    update = DiscreteBCQ.update

    def spoil(self, batch):
        if self.updates == 130:
            log.reward[:] = np.nan
        return update(self, batch)

    monkeypatch.setattr(DiscreteBCQ, "update", spoil)
    agent = new_agent()
    with refuses(FloatingPointError, "at update 132"):
        train_offline(agent, log, **OFFLINE, checkpoint=path, checkpoint_every=0)
    kept = DiscreteBCQ.load(path, "cpu")
    assert 0 < kept.updates <= 131 and all(value.isfinite().all() for value in kept.state_dict().values())


def test_pong_goes_on(tmp_path):
    atari = AtariConfig(max_episode_steps=60)
    settings = {"env_id": "ALE/Pong-v5", "steps": 80, "config": DQNConfig.atari(hidden=(8,), batch_size=4),
                "exploration": Exploration.atari(warmup=16, n_envs=2), "eval_every": 40, "eval_episodes": 1,
                "atari": atari, "device": "cpu", "progress": False}
    whole = train_behavioral(**settings, replay=tmp_path / "whole.npz")
    path = tmp_path / "agent.safetensors"
    update = DQN.update
    for at in (5, 12):
        def stopping(self, batch, at=at):
            if self.updates == at:
                signal.raise_signal(signal.SIGTERM)
            return update(self, batch)

        DQN.update = stopping
        try:
            with pytest.raises(Interrupted):
                train_behavioral(**settings, checkpoint=path, replay=tmp_path / "again.npz")
        finally:
            DQN.update = update
    again = train_behavioral(**settings, checkpoint=path, replay=tmp_path / "again.npz")
    assert agent_bits(again) == agent_bits(whole)
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()


# Killed

SCRIPT = """
import sys
sys.path.insert(0, sys.argv[3])
from test_resume import *

def work(kind, folder):
    every = {"checkpoint": folder / "checkpoint.npz", "checkpoint_every": 0.02}
    if kind == "online":
        agent = train_behavioral(**{**ONLINE, "steps": 1_500}, **every, replay=folder / "replay.npz")
        return agent_bits(agent) + buffer_bits(ReplayBuffer.load(folder / "replay.npz"))
    if kind == "generation":
        return buffer_bits(generate_buffer(alternate, **{**GENERATE, "steps": 10_000}, **every))
    agent = new_agent()
    rows = train_offline(agent, log_of(), **{**OFFLINE, "steps": 1_500}, **every)
    return agent_bits(agent) + str(rows)

torch.set_num_threads(1)
folder = Path(sys.argv[2])
print("begins", flush=True)
bits = work(sys.argv[1], folder)
(folder / "bits").write_text(bits)
"""


def begin(kind, folder):
    folder.mkdir(exist_ok=True)
    arguments = [kind, folder, Path(__file__).parent]
    return subprocess.Popen([sys.executable, "-c", SCRIPT, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process):
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said.decode()
    return said.decode()


SLOW = () if "BCQ_KILLS" in os.environ else pytest.mark.slow   # each takes some ten seconds


@pytest.mark.parametrize("kind", ["online", pytest.param("generation", marks=SLOW),
                                  pytest.param("offline", marks=SLOW)])
def test_killed_work_goes_on(tmp_path, kind):
    whole = begin(kind, tmp_path / "whole")
    whole.stdout.readline()
    begun = time.monotonic()
    finish(whole)
    seconds = time.monotonic() - begun
    expected = (tmp_path / "whole/bits").read_text()
    rng = np.random.default_rng()
    deaths = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
    killed = 0
    for number in range(KILLS):
        folder = tmp_path / "killed"
        signum = deaths[number % 4]
        process = begin(kind, folder)
        process.stdout.readline()
        time.sleep(rng.uniform(0, 0.7 * seconds))
        process.send_signal(signum)
        process.communicate(timeout=60)
        killed += process.returncode != 0                    # or it was faster
    finish(begin(kind, tmp_path / "killed"))
    assert (tmp_path / "killed/bits").read_text() == expected
    print(f"{kind}: killed {killed} times")


# Bars

@pytest.mark.parametrize("disable, lines", [("", 3), ("1", 0)])
def test_where_nobody_watches_there_is_no_bar(monkeypatch, capsys, disable, lines):
    monkeypatch.setenv("TQDM_DISABLE", disable)
    settings = {**OFFLINE, "progress": True, "eval_env": "CartPole-v1", "eval_episodes": 1}
    train_offline(new_agent(), log_of(), **settings)
    said = capsys.readouterr()
    assert "\r" not in said.err and said.out == ""
    assert said.err.count("\n") == lines == said.err.count("return")


def test_a_terminal_has_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with Bar(None, "counting", True, total=2) as bar:
        bar.update()
        bar.tell(1, "return 3.0")
    assert "counting" in capsys.readouterr().err and not bar.has_lines
    monkeypatch.setattr(sys, "stderr", None)
    Bar(range(2), "counting", True).tell(1, "return 3.0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(Bar(range(2), "counting", False)) == [0, 1]
