"""Commands that cannot work: each ends with status 2, says why in one line, at once, and leaves nothing behind."""
import errno
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from bcq_nb import early, outcome
from bcq_nb.cli import main

PROGRAM = [sys.executable, "-c", "from bcq_nb.cli import main; main()"]
TINY = ("--behavioral.steps 1200 --behavioral.eval-episodes 1 --generate.steps 500 "
        "--train.updates 20 --train.eval-episodes 1 --episodes 2")
COLUMNS = "--obs taste --action paper --reward sold --episode customer --ends terminated"
HUGE = 10**12


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    "A folder with a finished run, a log, and what is neither"
    folder = tmp_path_factory.mktemp("wrong")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main(["pipeline", *TINY.split()])
    rng = np.random.default_rng(0)
    taste = rng.uniform(-1, 1, 60).round(3)
    log = {"customer": np.arange(60) // 2, "taste": taste, "paper": np.where(rng.random(60) > 0.5, "red", "white"),
           "sold": rng.integers(2, size=60)}
    pd.DataFrame(log).to_csv(folder / "log.csv", index=False)
    (folder / "a file").write_text("of somebody")
    (folder / "empty.csv").touch()
    (folder / "a folder").mkdir()
    return folder


@pytest.fixture
def bcq(story, monkeypatch, capfd):
    "Exit status, output and errors of a command"
    monkeypatch.chdir(story)

    def run(command):
        capfd.readouterr()
        status = 0
        try:
            main(command if isinstance(command, list) else command.split())
        except SystemExit as stop:
            status = stop.code or 0
        return status, *capfd.readouterr()
    return run


def everything(folder):
    "All that is in a folder, with the times of writing"
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*") if not path.name.startswith("__")}


WRONG = [
    # Words
    "fly", "pipline", "train_", "-x", "--env CartPole-v1", "Pipeline", "''",
    # Where it goes
    "pipeline --seed 1 --out log.csv", "pipeline --seed 1 --out log.csv/deeper", "pipeline --seed 1 --out /proc/none",
    f"describe log.csv {COLUMNS} --out log.csv", f"fit log.csv {COLUMNS} --out log.csv",
    "pipeline --seed 1 --out " + "x" * 300,
    # The environment
    "pipeline --env CartPole-v9", "pipeline --env cartpole", "pipeline --env Pendulum-v1", "pipeline --env ALE/Pogn-v5",
    "pipeline --env nomodule:CartPole-v1", "pipeline --env FrozenLake-v1", "behavioral --env nothing", "train --env x:",
    "evaluate --env CartPole-v9", "video --env CartPole-v9",
    # Values that no phase can take, named by the pipeline before its first phase
    *(f"pipeline --seed 1 --{flag}" for flag in [
        "seed -1", "episodes 0", "episodes -3", "threads 0", "threads 100000", "device tpu", "device meta",
        "behavioral.steps 0", "behavioral.steps 100", "behavioral.steps -5", "behavioral.eval-every 0",
        "behavioral.eval-episodes 0", "behavioral.exploration.warmup 0", "behavioral.exploration.warmup 30000",
        "behavioral.exploration.warmup 10", "behavioral.exploration.capacity 10", "behavioral.exploration.eps-start 2",
        "behavioral.exploration.eps-end nan", "behavioral.exploration.n-envs 0", "behavioral.exploration.train-every 0",
        "behavioral.dqn.lr 0", "behavioral.dqn.lr nan", "behavioral.dqn.lr inf", "behavioral.dqn.discount 1.1",
        "behavioral.dqn.batch-size 0", f"behavioral.dqn.hidden {HUGE}", f"behavioral.dqn.hidden {HUGE} {HUGE} {HUGE}",
        "behavioral.dqn.batch-size 5000", "behavioral.dqn.adam-eps -1", "behavioral.dqn.target-rate 0",
        "generate.steps 0", "generate.low-noise-p 2", "generate.low-noise-p nan", "generate.rand-action-p -0.1",
        "generate.n-envs 0", "generate.n-envs 1000000", f"generate.steps {HUGE}",
        "train.updates 0", "train.updates -1", "train.eval-every 0", "train.eval-episodes 0",
        "train.bcq.batch-size 1000000", "train.bcq.batch-size 0", f"train.bcq.hidden {HUGE}", "train.bcq.lr -1",
        "train.bcq.threshold 1.5", "train.bcq.threshold nan", "train.bcq.discount -1", "train.bcq.logit-penalty -1",
        "atari.frame-skip 0", "atari.stack 0", "atari.frame-size -1", "atari.repeat-action-probability 1",
    ]),
    f"behavioral --seed 1 --exploration.capacity {HUGE} --steps {HUGE}",
    "pipeline --preset papre", "train --preset Paper", "evaluate --preset ''", "pipeline --seed 1 --folder nowhere",
    "pipeline --seed 1 --folder log.csv", "generate --seed 1 --folder log.csv", "behavioral --seed 1 --folder log.csv",
    f"pipeline --seed 1 --dry-run --generate.steps {HUGE}", "generate --seed 8 --dry-run", "train --seed 8 --dry-run",
    # Another run's folder
    "pipeline", f"pipeline {TINY} --threads 2", f"pipeline {TINY} --train.bcq.lr 0.5", "generate --steps 501",
    "evaluate --threads 2", "evaluate --atari.frame-skip 2", "video --atari.stack 2",
    # What is not there, or is something else
    "generate --seed 8", "train --seed 8", "evaluate --seed 8", "video --seed 8",
    "evaluate --agent nothing.safetensors",
    "video --agent nothing.safetensors", "evaluate --agent log.csv", "evaluate --agent .", "evaluate --agent empty.csv",
    "video --agent runs/CartPole-v1/seed0/batch.npz", "evaluate --episodes 0",
    "evaluate --env Acrobot-v1 --agent runs/CartPole-v1/seed0/bcq.safetensors",
    "video --env Acrobot-v1 --agent runs/CartPole-v1/seed0/bcq.safetensors",
    # Tables
    f"describe nothing.csv {COLUMNS}", f"describe empty.csv {COLUMNS}", f"describe . {COLUMNS}",
    f"fit nothing.csv {COLUMNS}", f"fit log.csv {COLUMNS} --updates 0", f"fit log.csv {COLUMNS} --held-out 1",
    f"fit log.csv {COLUMNS} --held-out nan", f"fit log.csv {COLUMNS} --threshold 2", f"fit log.csv {COLUMNS} --seed -1",
    f"fit log.csv {COLUMNS} --bcq.hidden {HUGE}", f"fit log.csv {COLUMNS} --bcq.batch-size 100000",
    f"fit log.csv {COLUMNS} --device meta", f"fit log.csv {COLUMNS} --thresholds 0.1,0.2",
    f"fit log.csv {COLUMNS} --select --stops 0", f"fit log.csv {COLUMNS} --select --held-out 0.6",
    f"fit log.csv {COLUMNS.replace('taste', 'tast')}", f"describe log.csv {COLUMNS.replace('sold', 'paper')}",
    "select log.csv", "select log.csv .", "select nothing.csv .", "select log.csv runs/CartPole-v1/seed0",
    "select log.csv nowhere --fqe-updates 0", "act nothing.safetensors log.csv", "act log.csv log.csv",
    "act runs/CartPole-v1/seed0/bcq.safetensors log.csv",
    "act runs/CartPole-v1/seed0/bcq.safetensors log.csv --out x.txt",
]


def test_wrong_commands_end_at_once_in_one_line_and_leave_nothing(bcq, story):
    before = everything(story)
    answers = {}
    for command in WRONG:
        began = time.monotonic()
        try:
            status, out, err = bcq(command)
        except Exception as error:   # a traceback, for a shell
            status, out, err = 1, "", repr(error)
        lines = err.splitlines()
        wrong = [words for words, is_so in {
            f"status {status}": status != 2, f"printed {out!r}": out != "", f"{len(lines)} lines": len(lines) != 1,
            "slow": time.monotonic() - began > 4, "left something": everything(story) != before,
            "an empty line": not err.removeprefix("bcq: ").strip()}.items() if is_so]
        if wrong:
            answers[command] = (wrong, err[-300:])
            before = everything(story)
    assert len(WRONG) >= 60
    assert not answers, "\n".join(f"{command}: {what}" for command, what in answers.items())


@pytest.mark.parametrize("command", [
    "pipeline --speed 1", "pipeline fly", "pipeline --behavioral.steps many", "behavioral --steps",
    "train --updates 1.5", "train --bcq.treshold 0.5", "fit", "fit log.csv", "act", "evaluate --agent",
    "describe log.csv --obs", "train --seed"])
def test_words_that_are_no_flags_are_explained_by_tyro(bcq, story, command):
    before = everything(story)
    status, out, err = bcq(command)
    assert (status, out) == (2, "") and "Traceback" not in err and everything(story) == before


# What the machine lacks

def test_a_disk_without_room_is_said_before_the_first_step(bcq, story, monkeypatch):
    usage = shutil.disk_usage(story)._replace(free=1_000)
    monkeypatch.setattr(early.shutil, "disk_usage", lambda path: usage)
    status, out, err = bcq("pipeline --seed 1")
    assert (status, out) == (2, "") and "has 1 kB left: make room there" in err and len(err.splitlines()) == 1


def test_networks_that_do_not_fit_are_said_before_the_first_step(bcq, story, monkeypatch):
    monkeypatch.setattr(early, "memory_there", lambda: 10_000)
    status, out, err = bcq("pipeline --seed 1")
    assert (status, out) == (2, "") and "of memory, and there are 10 kB" in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("error, answer", [
    (MemoryError("Unable to allocate 673. MiB"), "there is not enough memory"),
    (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), "not enough memory"),
    (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left on device"),
    (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), "quota"),
    (PermissionError(errno.EACCES, os.strerror(errno.EACCES)), "Permission denied"),
    (FloatingPointError("DQN cannot go on, loss is nan at update 312: lower lr (1e+30)"), "lower lr"),
    (ImportError("pandas is missing"), "pandas"),
    (ValueError("one\nand two"), "one and two"),
])
def test_what_goes_wrong_later_is_one_line(bcq, story, monkeypatch, error, answer):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(outcome, "evaluate", fail)
    status, out, err = bcq("evaluate")
    assert (status, out, len(err.splitlines())) == (2, "", 1) and answer in err, err
    assert not [path for path in story.rglob("*") if path.suffix in (".tmp", ".lock")]


def test_without_films_the_table_is_there(bcq, story, monkeypatch, tmp_path):
    def no_ffmpeg():
        raise ImportError("ffmpeg, which writes videos, does not start")

    monkeypatch.setattr("bcq_nb.film.check_ffmpeg", no_ffmpeg)
    status, out, err = bcq(f"pipeline {TINY} --out {tmp_path}")
    assert status == 0 and out.splitlines()[0].startswith("there will be no films: ffmpeg, which writes videos")
    made = {path.name for path in (tmp_path / "CartPole-v1/seed0").iterdir()}
    assert {"results.csv", "curve.png", "bcq.safetensors"} < made and not [name for name in made if "mp4" in name]


# Streams

def run(*words, **options):
    pipes = {"capture_output": True, "text": True, "timeout": 60, **options}
    return subprocess.run([*PROGRAM, *words], **pipes)


@pytest.mark.parametrize("encoding", [
    {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}], ids=str)
def test_help_and_errors_come_in_any_encoding(encoding):
    env = {**os.environ, **encoding}
    done = run("fit", "--help", env=env)
    assert done.returncode == 0 and "usage: bcq" in done.stdout and done.stderr == ""
    done = run("evaluate", "--agent", "größe→.safetensors", env=env)
    assert done.returncode == 2 and done.stderr.startswith("bcq: ") and len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX")
@pytest.mark.parametrize("words, redirection, status", [
    ("", ">&-", 0), ("train --updates 0", "2>&-", 2), ("train --updates 0", "0<&- >&- 2>&-", 2), ("", "2>&-", 0),
    ("", "> /dev/full", 2), ("train --updates 0", "2> /dev/full", 2), ("train --help", "> /dev/full", 2)])
def test_a_closed_or_full_stream_costs_no_traceback(tmp_path, words, redirection, status):
    program = " ".join(f"'{word}'" for word in PROGRAM)
    done = subprocess.run(f"{program} {words} {redirection}", shell=True, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == status and "Traceback" not in done.stderr and "Exception" not in done.stderr, done.stderr
    assert not list(tmp_path.iterdir())


def test_nothing_heavy_is_imported_for_the_first_page():
    code = "import sys; from bcq_nb.cli import main; main([]); print({'torch', 'numpy'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "set()"
    assert run("--version").stdout.startswith("bcq_nb ")
