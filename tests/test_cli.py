"""The `bcq` command as a shell meets it: wrong words, runs that would mix, that are stopped, readers that leave."""
import re
import signal
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from bcq_nb import cli
from bcq_nb.atari import AtariConfig
from bcq_nb.bcq import BCQConfig
from bcq_nb.buffers import ReplayBuffer
from bcq_nb.cli import COMMANDS, DEFAULT_ENV, Command, default_settings, main, parse
from bcq_nb.outcome import Video
from bcq_nb.runs import Behavioral, Generate, Pipeline, Run, Train, check_settings, write_settings

SMALL = ("--behavioral.steps 1200 --behavioral.eval-episodes 1 --generate.steps 500 "
         "--train.updates 20 --train.eval-episodes 1")
PROGRAM = [sys.executable, "-c", "from bcq_nb.cli import main; main()"]


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    "A folder with a finished run in runs/CartPole-v1/seed0"
    folder = tmp_path_factory.mktemp("story")
    main(f"pipeline {SMALL} --episodes 2 --out {folder / 'runs'}".split())
    return folder


@pytest.fixture
def bcq(story, monkeypatch, capfd):
    "Run a command line as the shell would: exit status, output, errors"
    monkeypatch.chdir(story)

    def run(command):
        capfd.readouterr()
        status = 0
        try:
            main(command.split())
        except SystemExit as stop:
            status = stop.code or 0
        return status, *capfd.readouterr()

    return run


def everything(folder):
    "All files of a folder, and when they were written"
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize("command, answer", {
    "fly": "there is no command 'fly'; the commands are pipeline, behavioral, generate, train, evaluate, video",
    "pipline": "did you mean pipeline?",
    "--env CartPole-v1": "there is no command '--env'",
    "pipeline --env CartPole-v9": "there is no environment 'CartPole-v9': did you mean CartPole-v1",
    "pipeline --env Pendulum-v1": "discrete BCQ takes Discrete(n) counted from 0",
    "pipeline --env ALE/Pogn-v5": "ALE/Pong-v5",
    "pipeline --seed 9 --behavioral.steps 100": "the warm-up takes 1000",
    "pipeline --seed 9 --device tpu": "device is 'tpu', which is not here",
    "pipeline --seed -1": "seed is -1: it must be an integer from 0",
    "pipeline --episodes 0": "episodes is 0: it must be an integer from 1",
    "pipeline --out story.txt": "story.txt is not a folder that can be written to: choose another --out",
    "pipeline": "behavioral.steps is 1200 there and 20000 here",
    f"pipeline {SMALL} --atari.frame-skip 2": "atari.frame-skip is 4 there and 2 here",
    "generate --steps 500 --rand-action-p 2": "rand_action_p is 2.0: it must be a number from 0 to 1",
    "generate --seed 8": "seed8/behavioral.safetensors: `bcq behavioral --env CartPole-v1 --seed 8` makes",
    "train --seed 8": "seed8/batch.npz: `bcq generate --env CartPole-v1 --seed 8` makes",
    "train --seed 8 --out elsewhere": "`bcq generate --env CartPole-v1 --seed 8 --out elsewhere` makes",
    "train --updates 0": "updates is 0: it must be an integer from 1",
    "evaluate --seed 8": "`bcq behavioral --env CartPole-v1 --seed 8` makes",
    "evaluate --env Acrobot-v1 --agent runs/CartPole-v1/seed0/bcq.safetensors": "load the agent that was trained on it",
    "evaluate --agent runs/CartPole-v1/seed0/batch.npz": "is not an agent that this package saved",
    "video --seed 8": "`bcq behavioral --env CartPole-v1 --seed 8` makes",
    "video --agent nothing.safetensors": "nothing.safetensors",
}.items())
def test_wrong_input_gets_one_line(bcq, story, command, answer):
    (story / "story.txt").touch()
    before = everything(story)
    status, out, err = bcq(command)
    last_line = err.splitlines()[-1]
    assert (status, out) == (2, "")
    assert last_line.startswith("bcq: ") and answer in last_line
    assert everything(story) == before, "something was left behind: the right command might be refused for it"


@pytest.mark.parametrize("command, answer", {
    "pipeline --speed 1": "--seed INT",
    "pipeline --steps 100": "--behavioral.steps INT",
    "pipeline fly": "Unrecognized options: fly",
    "pipeline --behavioral.steps many": "invalid literal for int() with base 10: 'many'",
    "pipeline --train.updates 0": "updates is 0: it must be an integer from 1",
    "behavioral --steps": "Missing value for argument '--steps'",
    "train --bcq.threshold 1.5": "threshold is 1.5: it must be",
    "train --bcq.treshold 0.5": "--bcq.threshold FLOAT",
}.items())
def test_wrong_flags_are_explained_by_tyro(bcq, story, command, answer):
    before = everything(story)
    status, out, err = bcq(command)
    words = " ".join(re.sub(r"[│╭╮╰╯─]", " ", err).split())
    assert (status, out) == (2, "")
    assert answer in words and "Traceback" not in words
    assert everything(story) == before


def test_help_says_what_each_group_and_each_flag_is(bcq):
    status, out, _ = bcq("--help")
    assert status == 0 and all(f"\n  {name} " in out for name in COMMANDS)
    assert bcq("") == (0, out, "")
    for name in COMMANDS:
        status, out, err = bcq(f"{name} --help")
        assert (status, err) == (0, "")
        lines = "\n".join(line.strip("│ ") for line in out.splitlines())
        flags = [" ".join(flag.split()) for flag in re.split(r"\n(?=--)", lines)[1:]]
        assert len(flags) >= (12 if Run in COMMANDS[name].kinds else 2)
        assert not [flag for flag in flags if not re.search(r"^--\S+( \S+){3,} \((default: |required\))", flag)]
        groups = re.findall(r"╭─ (\S+) options.*\n(.*)\n", lines)
        assert not [group for group, explained in groups if explained.startswith("--")]


def test_atari_has_defaults_of_its_own(bcq):
    "They show in the help, shrink with the run, and give way to the user's words"
    pong = "--env ALE/Pong-v5"
    assert "6.25e-05" in bcq(f"train {pong} --help")[1]
    _, settings = parse("behavioral", f"{pong} --steps 100000".split())
    assert settings == default_settings("ALE/Pong-v5", 100_000).behavioral
    assert (settings.exploration.warmup, settings.exploration.eps_updates) == (2_000, 25_000)
    words = f"{pong} --behavioral.steps=10 --behavioral.exploration.warmup 7 --train.bcq.lr 0.5"
    _, settings = parse("pipeline", words.split())
    assert settings.behavioral.exploration.warmup == 7
    assert settings.train.bcq == replace(BCQConfig.atari(), lr=0.5)
    run, settings = parse("train", ["--atari.frame_skip", "2", "--env=ALE/Pong-v5"])
    assert run == Run("ALE/Pong-v5", atari=AtariConfig(frame_skip=2))
    assert settings == default_settings("ALE/Pong-v5").train


def test_the_batch_may_have_another_size_than_the_training():
    _, settings = parse("pipeline", "--behavioral.steps 3000 --generate.steps 5000".split())
    assert (settings.behavioral.steps, settings.generate.steps) == (3_000, 5_000)


@pytest.mark.parametrize("name, value", [
    ("steps", 0), ("steps", 2.5), ("eval_every", 0), ("eval_episodes", -1), ("n_envs", 0), ("low_noise_p", 1.1),
    ("rand_action_p", float("nan")), ("updates", "many"), ("episodes", 0)])
def test_settings_are_checked_before_anything_is_computed(name, value):
    standard = default_settings()
    parts = [standard, standard.behavioral, standard.generate, standard.train]
    parts = [settings for settings in parts if hasattr(settings, name)]
    assert parts
    for settings in parts:
        with pytest.raises(ValueError, match=f"^{name} is "):
            replace(settings, **{name: value})


@pytest.fixture
def settings():
    return default_settings().generate


def test_two_runs_do_not_mix(tmp_path, settings):
    run = Run("CartPole-v1", out=tmp_path)
    write_settings(run, "generate", settings)
    write_settings(run, "generate", settings)                                   # the same again: going on
    write_settings(run, "train", default_settings().train)                      # the next phase
    others = [(run, replace(settings, steps=7)), (replace(run, atari=AtariConfig(stack=2)), settings)]
    for other, changed in others:
        with pytest.raises(ValueError, match=r"a run with other settings: \S+ is \S+ there and \S+ here\. Choose"):
            check_settings(other, "generate", changed)


def test_a_folder_of_somebody_else_is_left_alone(tmp_path, settings):
    run = Run("CartPole-v1", out=tmp_path)
    run.folder.mkdir(parents=True)
    check_settings(run, "generate", settings)                                   # an empty folder is welcome
    (run.folder / "thesis.tex").touch()
    with pytest.raises(ValueError, match="holds files, but no run"):
        write_settings(run, "generate", settings)
    assert [path.name for path in run.folder.iterdir()] == ["thesis.tex"]


def test_what_an_agent_met_is_kept_on_request(bcq, story, tmp_path):
    status, out, _ = bcq(f"behavioral --steps 1200 --eval-episodes 1 --keep-replay --out {tmp_path}")
    folder, usual = tmp_path / "CartPole-v1/seed0", story / "runs/CartPole-v1/seed0"
    assert status == 0 and sorted(everything(folder)) == [
        folder / name for name in ("behavioral.csv", "behavioral.safetensors", "config.json", "replay.npz")]
    assert len(ReplayBuffer.load(folder / "replay.npz")) == 1200
    agents = [path / "behavioral.safetensors" for path in (folder, usual)]
    assert agents[0].read_bytes() == agents[1].read_bytes(), "keeping changes nothing"


def test_one_saved_agent_is_played_and_filmed_beside_its_file(bcq, story, tmp_path):
    agent = tmp_path / "mine.safetensors"
    agent.write_bytes((story / "runs/CartPole-v1/seed0/bcq.safetensors").read_bytes())
    before = everything(story)
    status, out, _ = bcq(f"evaluate --seed 5 --episodes 3 --agent {agent}")
    assert status == 0 and re.search(r"mine +\d+\.\d +\[\d+\.\d, \d+\.\d\] +3\n", out)
    status, out, _ = bcq(f"video --seed 5 --agent {agent}")
    assert status == 0 and agent.with_suffix(".mp4").is_file() and str(agent.with_suffix(".mp4")) in out
    assert everything(story) == before, "the folder of a run with that seed must stay free"


def test_a_warning_is_one_line(bcq, monkeypatch):
    def warn(run, settings):
        warnings.warn("values of 340 cannot be", stacklevel=2)

    monkeypatch.setitem(cli.COMMANDS, "video", Command(warn, (Run, Video)))
    assert bcq("video") == (0, "", "bcq: values of 340 cannot be\n")


def test_a_mistake_of_ours_shows_its_traceback(bcq, monkeypatch):
    def wrong(run, settings):
        raise KeyError("a mistake")

    monkeypatch.setitem(cli.COMMANDS, "video", Command(wrong, (Run, Video)))
    with pytest.raises(KeyError):
        bcq("video")


def test_a_reader_may_leave():
    "As in `bcq --help | head -1`: no message, no traceback"
    with subprocess.Popen([*PROGRAM, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_a_stopped_run_goes_on(tmp_path):
    "Stopped while BCQ learns, the run keeps behavior policy and batch, and nothing half-done."
    command = [*PROGRAM, "pipeline", *SMALL.split(), "--episodes", "2"]
    folder = tmp_path / "runs/CartPole-v1/seed0"
    finished = ["batch.csv", "batch.npz", "behavioral.csv", "behavioral.safetensors", "config.json"]
    for stop, status, answer in (("SIGINT", 130, "bcq: stopped; the same command goes on"), ("SIGKILL", -9, "")):
        endless = [*command, "--train.updates", "1000000"]
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(endless, cwd=tmp_path, **pipes) as process:
            errors = ""
            while "DiscreteBCQ:  " not in errors:                               # until BCQ's progress bar is there
                errors += process.stderr.read(1)
            process.send_signal(getattr(signal, stop))
            errors += process.stderr.read()
        assert process.returncode == status and answer in errors and "Traceback" not in errors
        assert sorted(path.name for path in folder.iterdir()) == finished
    before = everything(folder)
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "behavioral is finished" in run.stdout and "wrote runs/CartPole-v1/seed0/bcq.safetensors" in run.stdout
    after = everything(folder)
    assert [name for name in finished if before[folder / name] != after[folder / name]] == ["config.json"]


def test_default_settings_are_those_of_the_phases():
    standard = default_settings()
    assert isinstance(standard, Pipeline)
    for kind, name in ((Behavioral, "behavioral"), (Generate, "generate"), (Train, "train")):
        assert isinstance(getattr(standard, name), kind)
        assert parse(name, []) == (Run(DEFAULT_ENV), getattr(standard, name))
    assert Path("runs") == Run(DEFAULT_ENV).out
