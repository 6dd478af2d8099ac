"""The `bcq` command as a shell meets it: wrong words, runs that would mix, that are stopped, readers that leave."""
import json
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from bcq_nb import words
from bcq_nb.atari import AtariConfig
from bcq_nb.bcq import BCQConfig
from bcq_nb.buffers import ReplayBuffer
from bcq_nb.cli import main
from bcq_nb.costs import Cost
from bcq_nb.dqn import DQN, DQNConfig
from bcq_nb.outcome import Video
from bcq_nb.record import by_flag, keeping, only_one
from bcq_nb.runs import Run, batch_phase, bcq_phase
from bcq_nb.settings import DEFAULT_ENV, Behavioral, Generate, Pipeline, Start, Train, default_settings
from bcq_nb.words import COMMANDS, Command, begin, parse

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

    def run(command, *more):
        capfd.readouterr()
        status = 0
        try:
            main([*command.split(), *map(str, more)])
        except SystemExit as stop:
            status = stop.code or 0
        return status, *capfd.readouterr()

    return run


def contents(folder):
    "Name -> bytes of what a reader finds in a folder"
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


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
    "pipeline --preset papre": "invalid choice 'papre' for argument '--preset'. Expected one of ('laptop', 'paper')",
    "generate --seed 8 --preset paper": "`bcq behavioral --env CartPole-v1 --seed 8 --preset paper` makes",
    "pipeline --seed 9 --folder nowhere": "there is no folder 'nowhere': make it, or choose another --folder",
    "pipeline --seed 8 --dry-run --behavioral.steps 100": "the warm-up takes 1000",
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
    assert re.search(r"6\.25e-0?5", bcq(f"train {pong} --help")[1])
    *_, settings = parse("behavioral", f"{pong} --steps 100000".split())
    assert settings == default_settings("ALE/Pong-v5", 100_000).behavioral
    assert (settings.exploration.warmup, settings.exploration.eps_updates) == (2_000, 25_000)
    words = f"{pong} --behavioral.steps=10 --behavioral.exploration.warmup 7 --train.bcq.lr 0.5"
    *_, settings = parse("pipeline", words.split())
    assert settings.behavioral.exploration.warmup == 7
    assert settings.train.bcq == replace(BCQConfig.atari(), lr=0.5)
    run, _, settings = parse("train", ["--atari.frame_skip", "2", "--env=ALE/Pong-v5"])
    assert run == Run("ALE/Pong-v5", atari=AtariConfig(frame_skip=2))
    assert settings == default_settings("ALE/Pong-v5").train


# `main.py` of github.com/sfujim/BCQ, discrete_BCQ, at commit 4876f7e: the settings of the behavior policy and of BCQ
AUTHORS = {   # flag of the pipeline: name there, on Atari, elsewhere
    "behavioral.steps": ("max_timesteps", 1e6, 1e6),
    "behavioral.exploration.warmup": ("start_timesteps", 2e4, 1e3),
    "behavioral.exploration.eps-start": ("initial_eps", 1, 0.1),
    "behavioral.exploration.eps-end": ("end_eps", 1e-2, 0.1),
    "behavioral.exploration.eps-updates": ("eps_decay_period", 25e4, 1),
    "behavioral.exploration.train-every": ("train_freq", 4, 1),
    "behavioral.exploration.capacity": ("buffer_size", 1e6, 1e6),
    "behavioral.exploration.n-envs": ("one environment", 1, 1),
    "behavioral.eval-every": ("eval_freq", 5e4, 5e3),
    "behavioral.eval-episodes": ("eval_episodes of eval_policy", 10, 10),
    "behavioral.dqn.discount": ("discount", 0.99, 0.99),
    "behavioral.dqn.batch-size": ("batch_size", 32, 64),
    "behavioral.dqn.lr": ("optimizer_parameters, lr", 6.25e-5, 3e-4),
    "behavioral.dqn.adam-eps": ("optimizer_parameters, eps", 1.5e-4, 1e-8),
    "behavioral.dqn.target-every": ("target_update_freq", 8e3, 1),
    "behavioral.dqn.target-rate": ("polyak_target_update, tau", 1, 0.005),
    "behavioral.dqn.clip-reward": ("reward_clipping", True, False),
    "behavioral.dqn.hidden": ("the layers of DQN.py", (512,), (256, 256)),
    "generate.steps": ("max_timesteps", 1e6, 1e6),
    "generate.low-noise-p": ("low_noise_p", 0.2, 0.2),
    "generate.rand-action-p": ("rand_action_p", 0.2, 0.2),
    "train.updates": ("max_timesteps", 1e6, 1e6),
    "train.eval-every": ("eval_freq", 5e4, 5e3),
    "train.eval-episodes": ("eval_episodes of eval_policy", 10, 10),
    "train.bcq.threshold": ("BCQ_threshold", 0.3, 0.3),
    "train.bcq.logit-penalty": ("i.pow(2).mean() in discrete_BCQ.py", 1e-2, 1e-2),
}
ALSO_OF_BCQ = ("discount", "batch-size", "lr", "adam-eps", "target-every", "target-rate", "clip-reward", "hidden")


@pytest.mark.parametrize("env, column", [("ALE/Breakout-v5", 1), ("CartPole-v1", 2)])
def test_the_preset_paper_is_what_the_authors_use(env, column):
    ours = by_flag(asdict(parse("pipeline", ["--env", env, "--preset", "paper"])[-1]))
    theirs = {flag: values[column] for flag, values in AUTHORS.items()}
    theirs |= {f"train.bcq.{name}": theirs[f"behavioral.dqn.{name}"] for name in ALSO_OF_BCQ}
    assert {flag: ours[flag] for flag in theirs} == theirs
    undone = "--behavioral.dqn.no-scale-obs --train.bcq.no-scale-obs --generate.n-envs 1".split()   # 18c: what is ours
    as_they = by_flag(asdict(parse("pipeline", ["--env", env, "--preset", "paper", *undone])[-1]))
    assert {flag: value for flag, value in as_they.items() if value != ours[flag]} == {
        "behavioral.dqn.scale-obs": False, "train.bcq.scale-obs": False, "generate.n-envs": 1}
    not_theirs = {"bfloat16": False, "standardize": False, "clip-target": False, "scale-reward": False}
    assert {flag: ours[flag] for flag in ours if flag.rpartition(".")[2] in not_theirs} == {
        f"{group}.{name}": value for group in ("behavioral.dqn", "train.bcq") for name, value in not_theirs.items()}
    of_atari = AtariConfig()   # atari_preprocessing there
    assert (of_atari.frame_skip, of_atari.frame_size, of_atari.stack, of_atari.max_episode_steps) == (4, 84, 4, 27e3)
    for name in ("behavioral", "generate", "train"):
        phase = asdict(parse(name, ["--env", env, "--preset", "paper"])[-1])
        assert {f"{name}.{flag}": value for flag, value in by_flag(phase).items()}.items() <= ours.items()


def test_words_beside_a_preset_have_the_last_word():
    preset = ["--preset", "paper"]
    told = "--train.bcq.lr 0.5 --train.bcq.bfloat16 --generate.steps 7 --behavioral.exploration.warmup 9".split()
    for order in (preset + told, told + preset):
        *_, settings = parse("pipeline", [*order, "--env", "ALE/Pong-v5"])
        paper = default_settings("ALE/Pong-v5", preset="paper")
        assert settings.train == replace(paper.train, bcq=replace(paper.train.bcq, lr=0.5, bfloat16=True))
        assert settings.generate == replace(paper.generate, steps=7)
        assert settings.behavioral.exploration == replace(paper.behavioral.exploration, warmup=9)
        assert settings.behavioral.steps == 1_000_000


def lines_of(costs):
    "The names and units of an estimate; nothing is said of times"
    found = re.findall(r"^expected (\w+): +(?:less than a )?[\d.]* ?(\w+).*\((.*)\)$", costs, re.M)
    return [(name, re.findall(r"(behavioral|generate|train) ", parts)) for name, _, parts in found]


def test_a_dry_run_says_what_a_run_takes_and_writes_nothing(bcq, story, tmp_path):
    before = everything(story), everything(tmp_path)
    all_three = ["behavioral", "generate", "train"]
    three = [("time", all_three), ("memory", all_three), ("disk", all_three)]
    status, out, err = bcq("pipeline --seed 1 --preset paper --dry-run")
    assert (status, err) == (0, "") and lines_of(out) == three and len(out.splitlines()) == 3
    status, out, err = bcq("pipeline --seed 1 --dry-run --folder", tmp_path)
    assert (status, err) == (0, "") and lines_of(out) == [*three, ("folder", all_three)]
    status, out, err = bcq("behavioral --seed 1 --dry-run --steps 1200")
    assert (status, err) == (0, "") and [parts for _, parts in lines_of(out)] == [["behavioral"]] * 3
    status, out, err = bcq(f"pipeline {SMALL} --dry-run --seed 1")
    assert (status, err) == (0, "") and lines_of(out) == three, "asked for, it is said of a short run, too"
    assert (everything(story), everything(tmp_path)) == before


def test_what_is_finished_takes_nothing(bcq, story, tmp_path):
    shutil.copytree(story / "runs", tmp_path / "runs")
    (tmp_path / "runs/CartPole-v1/seed0/bcq.csv").unlink()
    before = everything(tmp_path)
    for command in (f"pipeline {SMALL}", "train --updates 20 --eval-episodes 1"):
        status, out, err = bcq(f"{command} --dry-run --out", tmp_path / "runs")
        assert (status, err) == (0, "") and [parts for _, parts in lines_of(out)] == [["train"]] * 3
    assert everything(tmp_path) == before
    assert bcq("generate --steps 500 --dry-run") == (0, "generate is finished\n", "")


def test_a_dry_run_of_a_finished_pipeline_makes_no_table_and_no_film(bcq, story, tmp_path):
    shutil.copytree(story / "runs", tmp_path / "runs")
    for name in ("results.csv", "bcq.mp4"):
        (tmp_path / "runs/CartPole-v1/seed0" / name).unlink()
    before = everything(tmp_path)
    answered = bcq(f"pipeline {SMALL} --episodes 2 --dry-run --out", tmp_path / "runs")
    assert answered == (0, "all phases are finished\n", "")
    assert everything(tmp_path) == before


@pytest.mark.parametrize("env, few", [("ALE/Pong-v5", 1_000), ("ale_py:ALE/Pong-v5", 1_000), ("CartPole-v1", 10_000)])
def test_a_trial_is_made_from_so_many_steps_on(env, few, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(words, "expected", lambda *_: {"behavioral": Cost(121, 1e9, 1e9, 0)})
    usual = default_settings("ALE/Pong-v5", few).behavioral   # with a short warm-up
    for steps, lines in ((few, 0), (few + 1, 3)):
        assert begin(Run(env, out=tmp_path), Start(), {"behavioral": replace(usual, steps=steps)})
        assert len(capsys.readouterr().out.splitlines()) == lines


def test_long_runs_say_what_they_take_and_short_ones_do_not(bcq, tmp_path, monkeypatch):
    status, out, err = bcq("behavioral --steps 1200 --eval-episodes 1 --out", tmp_path / "short")
    assert status == 0 and "expected" not in out
    monkeypatch.setattr(words, "FEW", 0)
    monkeypatch.setattr(words, "LONG", 0)
    status, out, err = bcq("behavioral --steps 1200 --eval-episodes 1 --out", tmp_path / "long")
    assert status == 0 and [name for name, _ in lines_of(out)] == ["time", "memory", "disk"]
    for path in (tmp_path / "short/CartPole-v1/seed0").iterdir():
        assert path.read_bytes() == (tmp_path / "long/CartPole-v1/seed0" / path.name).read_bytes(), "a trial changes it"


def test_working_files_change_nothing(bcq, story, tmp_path):
    (tmp_path / "working").mkdir()
    for command in ("behavioral --steps 1200 --eval-episodes 1", "generate --steps 500",
                    "train --updates 20 --eval-episodes 1"):
        status, _, err = bcq(f"{command} --folder {tmp_path / 'working'} --out", tmp_path / "runs")
        assert status == 0, err
    made, usual = (contents(folder / "runs/CartPole-v1/seed0") for folder in (tmp_path, story))
    for name in ("behavioral.safetensors", "batch.npz", "bcq.safetensors"):
        assert made[name] == usual[name]
    assert not list((tmp_path / "working").iterdir()), "they have no names, and are gone"


def test_a_preset_is_recorded_by_its_settings(bcq, tmp_path):
    command = "behavioral --steps 1050 --eval-episodes 1 --exploration.warmup 1040 --out"
    status, _, err = bcq(f"{command} {tmp_path} --preset paper")
    assert status == 0, err
    recorded = json.loads((tmp_path / "CartPole-v1/seed0/config.json").read_text())
    assert recorded["behavioral"]["dqn"] == json.loads(json.dumps(asdict(DQNConfig()))) and "preset" not in recorded
    status, out, err = bcq(f"{command} {tmp_path}")
    assert (status, out) == (2, "") and "behavioral.dqn.hidden is [256, 256] there and [64, 64] here" in err


def test_the_batch_may_have_another_size_than_the_training():
    *_, settings = parse("pipeline", "--behavioral.steps 3000 --generate.steps 5000".split())
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


def write_batch_of(run, settings, text="a batch"):
    "What the second phase writes, in short"
    with keeping(batch_phase(run, settings)):
        for name in ("batch.npz", "batch.csv"):
            (run.folder / name).write_text(text)


def test_two_runs_do_not_mix(tmp_path, settings):
    run = Run("CartPole-v1", out=tmp_path)
    write_batch_of(run, settings)
    write_batch_of(run, settings)                                               # the same again: going on
    bcq_phase(run, default_settings().train).check()                            # the next phase
    others = [(run, replace(settings, steps=7)), (replace(run, atari=AtariConfig(stack=2)), settings),
              (replace(run, threads=2), settings)]
    for other, changed in others:
        with pytest.raises(ValueError, match=r"a run with other settings: \S+ is \S+ there and \S+ here\. Choose"):
            batch_phase(other, changed).check()


def test_what_somebody_else_put_into_the_folder_is_left_alone(tmp_path, settings):
    run = Run("CartPole-v1", out=tmp_path)
    run.folder.mkdir(parents=True)
    batch_phase(run, settings).check()                                          # an empty folder is welcome
    for name in (".config-77.json", ".batch.npz-ab12cd34.tmp", "thesis.tex"):   # left by a killed process, and by you
        (run.folder / name).touch()
    batch_phase(run, settings).check()
    (run.folder / "batch.npz").write_text("mine")
    with pytest.raises(ValueError, match="batch.npz is there, and this run has not written it: move it away"):
        batch_phase(run, settings).check()
    with pytest.raises(ValueError, match="this run has not written it"):
        write_batch_of(run, settings)
    assert (run.folder / "batch.npz").read_text() == "mine"


def test_what_an_agent_met_is_kept_on_request(bcq, story, tmp_path):
    status, out, _ = bcq(f"behavioral --steps 1200 --eval-episodes 1 --keep-replay --out {tmp_path}")
    folder, usual = tmp_path / "CartPole-v1/seed0", story / "runs/CartPole-v1/seed0"
    assert status == 0 and sorted(contents(folder)) == [
        "behavioral.csv", "behavioral.safetensors", "config.json", "replay.npz"]
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


@pytest.mark.parametrize("words, names", [
    ("generate", ["batch.npz"]), ("behavioral", ["behavioral.safetensors"]), ("train", ["bcq.csv"]),
    ("video", ["bcq.mp4"]), ("evaluate", ["results.csv", "curve.png"])])
def test_a_lost_file_comes_back_and_a_changed_one_is_refused(bcq, story, tmp_path, words, names):
    """The advice of each error is typed as it stands, in folders whose names are strange to a shell."""
    folder = tmp_path / "my $(runs) & 'ours'"
    shutil.copytree(story / "runs", folder)
    where = folder / "CartPole-v1/seed0"
    before = contents(where)
    again = [*SMALL.split(), "--episodes", "2"]
    for name in names:
        (where / name).unlink()
    status, out, err = bcq("pipeline", *again, "--out", folder)
    assert status == 0 and contents(where) == before, err
    assert all(f"{phase} is finished" in out for phase in {"behavioral", "generate", "train", "video"} - {words})
    for name in names:
        (where / name).write_bytes(b"another")
        status, out, err = bcq("pipeline", *again, "--out", folder)
        assert (status, out) == (2, "") and f"{name} is not the file that" in err and len(err.splitlines()) == 1
        assert (where / name).read_bytes() == b"another", "it may be somebody's"
        (where / name).unlink()
        [advice] = re.findall("`(.*)` makes it again", err)
        status, out, err = bcq(*shlex.split(advice)[1:], *(["--episodes", "2"] if words == "evaluate" else []))
        assert status == 0 and contents(where) == before, err


def test_a_damaged_record_is_named(bcq, story, tmp_path):
    shutil.copytree(story / "runs", tmp_path / "runs")
    path = tmp_path / "runs/CartPole-v1/seed0/config.json"
    record = json.loads(path.read_text())
    for text, answer in {
        "": "or it is damaged", "[1]": "or it is damaged", '{"name": "npm"}': "is no record of this version",
        path.read_text()[:90]: "or it is damaged", json.dumps({**record, "version": 99}): "pip install -U bcq_nb",
        json.dumps({**record, "env": "Acrobot-v1"}): "was changed by hand",
    }.items():
        path.write_text(text)
        for command in ("pipeline", "train", "evaluate"):
            status, out, err = bcq(command, "--out", tmp_path / "runs")
            assert (status, out, len(err.splitlines())) == (2, "", 1) and "config.json" in err and answer in err, err


def test_results_of_other_settings_are_not_written(bcq, story):
    before = everything(story)
    for changed in (["--atari.frame-skip", 8], ["--threads", 3]):
        for command in ("evaluate", "video"):
            status, out, err = bcq(command, *changed)
            assert (status, out) == (2, "") and "a run with other settings" in err
    assert everything(story) == before


def test_two_commands_do_not_share_a_folder(bcq, story, tmp_path):
    with only_one(tmp_path / "runs/CartPole-v1/seed0"):
        status, out, err = bcq("pipeline", *SMALL.split(), "--out", tmp_path / "runs")
    assert (status, out) == (2, "") and "is in use by another" in err


def test_a_warning_is_one_line(bcq, monkeypatch):
    def warn(run, settings):
        warnings.warn("values of 340 cannot be", stacklevel=2)

    monkeypatch.setitem(words.COMMANDS, "video", Command(warn, (Run, Video)))
    assert bcq("video") == (0, "", "bcq: values of 340 cannot be\n")


def test_a_mistake_of_ours_shows_its_traceback(bcq, monkeypatch):
    def wrong(run, settings):
        raise KeyError("a mistake")

    monkeypatch.setitem(words.COMMANDS, "video", Command(wrong, (Run, Video)))
    with pytest.raises(KeyError):
        bcq("video")


def test_a_reader_may_leave():
    "As in `bcq --help | head -1`: no message, no traceback"
    with subprocess.Popen([*PROGRAM, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_default_settings_are_those_of_the_phases():
    standard = default_settings()
    assert isinstance(standard, Pipeline)
    for kind, name in ((Behavioral, "behavioral"), (Generate, "generate"), (Train, "train")):
        assert isinstance(getattr(standard, name), kind)
        assert parse(name, []) == (Run(DEFAULT_ENV), Start(), getattr(standard, name))
    assert Path("runs") == Run(DEFAULT_ENV).out


def test_another_algorithm_has_files_of_its_own(bcq, tmp_path):
    out = f"--out {tmp_path}"
    bcq(f"pipeline {SMALL} --episodes 1 {out}")
    folder = tmp_path / "CartPole-v1/seed0"
    before = {path.name: path.read_bytes() for path in folder.glob("bcq.*")}
    told = f"--updates 20 --eval-episodes 1 {out}"
    for algo in ("--algo cql --alpha 0.5", "--algo=bc"):
        status, said, _ = bcq(f"train {algo} {told}")
        assert status == 0 and "wrote" in said
    assert "train-cql is finished" in bcq(f"train --algo cql --alpha 0.5 {told}")[1]
    assert DQN.load(folder / "cql.safetensors").config.alpha == 0.5
    assert {path.name: path.read_bytes() for path in folder.glob("bcq.*")} == before
    said = bcq(f"evaluate --episodes 1 {out}")[1]
    assert [line.split()[0] for line in said.splitlines()[2:]] == ["behavior", "batch", "BCQ", "cql", "bc"]
    assert bcq(f"video {out}")[0] == 0 and {"cql.mp4", "bc.mp4"} <= {path.name for path in folder.iterdir()}
    assert "video is finished" in bcq(f"video {out}")[1]
    (folder / "cql.safetensors").unlink()
    status, _, err = bcq(f"evaluate --episodes 1 {out}")
    assert status == 2 and "`bcq train --algo cql --env CartPole-v1 --seed 0" in err and "--alpha 0.5" in err


@pytest.mark.parametrize("words, told", [
    ("--algo cqll", "there is no algorithm 'cqll'"),
    ("--algo", "--algo needs the name of an algorithm"),
    ("--algo --seed 1", "--algo needs the name of an algorithm"),
    ("--algo cql --alpha -1", "alpha is -1.0"),
    ("--algo cql --threshold 0.5", "Unrecognized options: --threshold"),
    ("--algo cql --bcq.threshold 0.5", "Unrecognized options: --bcq.threshold"),
])
def test_wrong_words_about_an_algorithm(bcq, words, told):
    status, out, err = bcq(f"train {words}")
    assert (status, out) == (2, "") and told in err
