"Every row of history is logged once, wherever a training was stopped; a file of events is read back."
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from unittest.mock import patch

import numpy as np
import pytest

from bcq_nb.bcq import BCQConfig, DiscreteBCQ, train_offline
from bcq_nb.buffers import ReplayBuffer
from bcq_nb.cli import main
from bcq_nb.dqn import DQNConfig, train_behavioral
from bcq_nb.loggers import Logger, Several, TensorBoard, WandB, event_rows
from bcq_nb.training import Exploration

pytest.importorskip("tensorboard")

ONLINE = {"env_id": "CartPole-v1", "steps": 600, "config": DQNConfig.small(hidden=(16,)), "eval_every": 100,
          "exploration": Exploration(warmup=100, n_envs=2, train_every=4), "eval_episodes": 2, "device": "cpu",
          "progress": False, "checkpoint_every": 0}


def log_of(n=300):
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(n + 1, 4)).astype(np.float32)
    over = rng.random(n) < 0.05
    return ReplayBuffer.from_arrays(obs[:-1], rng.integers(2, size=n), rng.random(n), obs[1:], over, np.zeros(n, bool))


def new_agent(seed=0):
    return DiscreteBCQ(log_of().obs_space, 2, BCQConfig(hidden=(16,)), seed, "cpu")


def train(folder, checkpoint=None, seed=0, logger=None):
    agent = new_agent(seed)
    board = logger or TensorBoard(folder)
    rows = train_offline(agent, log_of(), 250, eval_every=50, progress=False, checkpoint=checkpoint, logger=board)
    board.close()
    return rows


def same(logged, history):
    "Every row, once, in order, and its numbers as float32 has them"
    assert [step for step, _ in logged] == [row["step"] for row in history]
    for (_, values), row in zip(logged, history, strict=True):
        expected = {name: value for name, value in row.items() if name != "step"}
        assert values == pytest.approx(expected, rel=1e-6, nan_ok=True)


class Killed(TensorBoard):
    "A process that dies behind a row, or before one, as a signal would end it"
    def __init__(self, folder, at, after):
        super().__init__(folder)
        self.at, self.after = at, after

    def row(self, step, values):
        if step == self.at and not self.after:
            raise KeyError("killed")
        super().row(step, values)
        if step == self.at:
            raise KeyError("killed")


def test_all_rows_are_read_back(tmp_path):
    same(event_rows(tmp_path / "a"), [])
    history = train(tmp_path / "a")
    same(event_rows(tmp_path / "a"), history)


@pytest.mark.parametrize("at", [50, 250])
@pytest.mark.parametrize("after", [True, False])
def test_a_row_is_neither_lost_nor_twice(at, after, tmp_path):
    history = train(tmp_path / "whole")
    checkpoint = tmp_path / "c.safetensors"
    with pytest.raises(KeyError, match="killed"):
        train(None, checkpoint, logger=Killed(tmp_path / "cut", at, after))
    train(tmp_path / "cut", checkpoint)
    same(event_rows(tmp_path / "cut"), history)
    train(tmp_path / "cut", checkpoint)                  # finished: nothing is added
    same(event_rows(tmp_path / "cut"), history)


def test_a_logger_that_comes_late_gets_what_it_lacks(tmp_path):
    checkpoint = tmp_path / "c.safetensors"
    history = train(tmp_path / "a", checkpoint)
    train(tmp_path / "b", checkpoint)
    same(event_rows(tmp_path / "b"), history)


def test_a_process_that_is_killed_online(tmp_path):
    script = f"""
import os, signal
from bcq_nb.dqn import DQNConfig, train_behavioral
from bcq_nb.loggers import TensorBoard
from bcq_nb.training import Exploration
class Dies(TensorBoard):
    def row(self, step, values):
        super().row(step, values)
        if step >= 300: os.kill(os.getpid(), signal.SIGKILL)
plan = Exploration(warmup=100, n_envs=2, train_every=4)
train_behavioral("CartPole-v1", 600, DQNConfig.small(hidden=(16,)), plan, eval_every=100, eval_episodes=2, device="cpu",
                 progress=False, checkpoint={str(tmp_path / 'c.safetensors')!r}, checkpoint_every=0,
                 logger=Dies({str(tmp_path / 'board')!r}))
"""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    assert subprocess.run([sys.executable, "-c", script], env=env, check=False).returncode == -9
    before = [step for step, _ in event_rows(tmp_path / "board")]
    assert before[-1] == 300
    board = TensorBoard(tmp_path / "board")
    agent = train_behavioral(**ONLINE, checkpoint=tmp_path / "c.safetensors", logger=board)
    board.close()
    same(event_rows(tmp_path / "board"), agent.history)


def test_a_torn_event_is_none(tmp_path):
    history = train(tmp_path, tmp_path / "c.safetensors")
    [path] = tmp_path.glob("events.*")
    path.write_bytes(path.read_bytes()[:-7])
    same(event_rows(tmp_path), history[:-1])
    train(tmp_path, tmp_path / "c.safetensors")
    same(event_rows(tmp_path), history)


def test_refusals(tmp_path):
    train(tmp_path / "a", tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="holds the rows of another training"):
        train(tmp_path / "a", tmp_path / "b.safetensors", seed=1)
    train(tmp_path / "n")
    with pytest.raises(ValueError, match="begins anew"):
        train(tmp_path / "n")
    with patch("bcq_nb.loggers.find_spec", return_value=None):
        for kind, extra in ((TensorBoard, "tensorboard"), (WandB, "wandb")):
            with pytest.raises(ImportError, match=rf'pip install "bcq_nb\[{extra}\]"'):
                kind(tmp_path / "x")
    assert isinstance(TensorBoard(tmp_path), Logger)


def test_the_command_logs_both_trainings(tmp_path, capsys):
    words = ["--out", str(tmp_path), "--behavioral.steps", "1500", "--behavioral.eval-every", "500",
             "--generate.steps", "500", "--train.updates", "60", "--train.eval-every", "20", "--episodes", "2"]
    with patch("bcq_nb.words.write_films"):
        assert main(["pipeline", *words, "--log", "tensorboard"]) in (0, None)
    run = tmp_path / "CartPole-v1" / "seed0"
    for phase, steps in (("behavioral", [500, 1000, 1500]), ("train", [20, 40, 60])):
        rows = event_rows(run / "tensorboard" / phase)
        assert [step for step, _ in rows] == steps
        assert {"loss", "q", "return"} <= set(rows[-1][1])
    capsys.readouterr()


def test_the_command_says_what_is_missing(tmp_path, capsys):
    with patch("bcq_nb.loggers.find_spec", return_value=None):
        with pytest.raises(SystemExit) as stop:
            main(["behavioral", "--out", str(tmp_path), "--log", "wandb"])
    told = capsys.readouterr().err
    assert stop.value.code == 2
    assert told.count("\n") == 1
    assert 'pip install "bcq_nb[wandb]"' in told
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(find_spec("wandb") is None, reason="wandb is not here")
def test_wandb_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    board, wandb = TensorBoard(tmp_path / "t"), WandB(tmp_path / "w")
    history = train(None, tmp_path / "c.safetensors", logger=Several([board, wandb]))
    same(event_rows(tmp_path / "t"), history)
    files = list(tmp_path.glob("w/wandb/offline-run-*/*.wandb"))
    assert len(files) == 1
    assert files[0].stat().st_size > 1_000
    note = json.loads((tmp_path / "w" / "training.json").read_text())
    assert note["step"] == 250
    train(None, tmp_path / "c.safetensors", logger=WandB(tmp_path / "w"))   # nothing to add: no new run
    assert len(list(tmp_path.glob("w/wandb/offline-run-*"))) == 1
