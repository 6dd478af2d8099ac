"""Studies: what is done is not done again, whoever is killed; the same bits on one process and on several."""
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace

import pytest

from bcq_nb import studies
from bcq_nb.cells import Busy, alone, read_row
from bcq_nb.cli import main
from bcq_nb.crews import LocalCrew
from bcq_nb.plan import read_plan
from bcq_nb.status import read_board, summary
from bcq_nb.studies import Board, study
from bcq_nb.work import run_cell

PROGRAM = [sys.executable, "-c", "from bcq_nb.cli import main; main()"]
HEAD = "seeds = 2\nupdates = 150\neval_every = 75\neval_episodes = 1\nepisodes = 3\n"
REST = """
[behavior]
steps = 700
exploration = { warmup = 300 }
eval_episodes = 1
[batches.mix]
steps = 400
seed = "each"
[algorithms.double-dqn]
[algorithms.bcq]
[environments.CartPole-v1]
"""


def results(folder):
    "Name -> bytes of what cells have made; of rows what does not depend on the clock"
    found = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if path.name == "row.json":
            row = json.loads(path.read_text())["row"]
            found[name] = {key: value for key, value in row.items() if key != "seconds"}
        elif path.is_file() and path.suffix in (".safetensors", ".npz", ".csv") and len(path.parts) > 2:
            found[name] = path.read_bytes()
    return {name: value for name, value in found.items() if "/" in name}


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    path = tmp_path_factory.mktemp("plan") / "tiny.toml"
    path.write_text(HEAD + REST)
    return path


@pytest.fixture(scope="module")
def loop(plan, tmp_path_factory):
    "A study that was run in a loop, in this process"
    out = tmp_path_factory.mktemp("loop")
    for cell in read_plan(plan):
        run_cell(cell, out)
    return results(out)


def test_a_worker_is_killed_a_cell_is_wrong_and_all_else_is_as_in_a_loop(plan, loop, tmp_path, monkeypatch, capsys):
    cells = read_plan(plan)
    wrong = replace(cells[-1], name="wrong", settings={**cells[-1].settings, "config": {"lr": -1}})
    killed = []

    class Murder(LocalCrew):
        def wait(self, seconds):
            answers = super().wait(seconds)
            if not killed and self.at_work and any(cell.phase == "train" for cell in self.at_work.values()):
                process = next(iter(self.at_work))
                process.kill()
                killed.append(self.at_work[process].place)
            return answers

    monkeypatch.setattr(studies, "LocalCrew", Murder)
    monkeypatch.setattr(studies, "REST", 0.1)
    rows, given_up = study([*cells, wrong], tmp_path, workers=2)
    said = capsys.readouterr().out
    assert killed and f"{killed[0]} is tried again: its process has ended with status -9" in said
    assert list(given_up) == [wrong.place] and "lr is -1" in given_up[wrong.place]
    assert "lr" in (tmp_path / wrong.place / "error.txt").read_text()
    assert results(tmp_path) == loop
    assert len(rows) == len(cells)
    assert [line for line in summary(read_board(tmp_path)) if line.startswith("given up")]


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_command_is_stopped_and_goes_on(plan, loop, tmp_path):
    words = [*PROGRAM, "study", str(plan), "--out", "out", "--workers", "2"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as first:
        assert "behavior" in first.stdout.readline()
        children = subprocess.run(["pgrep", "-P", str(first.pid)], capture_output=True, text=True).stdout.split()
        first.send_signal(signal.SIGTERM)
        _, errors = first.communicate(timeout=60)
    assert first.returncode == 143, errors
    assert errors.strip().splitlines()[-1] == "bcq: stopped by SIGTERM; the same command goes on from where it was"
    for child in children:
        with suppress(OSError):
            os.kill(int(child), 0)
            pytest.fail("a worker goes on")
    again = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert results(tmp_path / "out") == loop
    assert "cells are done" in again.stdout.splitlines()[0]


@pytest.mark.slow
def test_workers_end_with_whoever_asked_them(plan, tmp_path):
    "Even where it is killed by the signal that cannot be answered."
    program = ("import sys, time; from bcq_nb.crews import LocalCrew; from bcq_nb.plan import read_plan; "
               "cell = read_plan(sys.argv[1])[0]; crew = LocalCrew(sys.argv[2], 1); "
               "from dataclasses import replace; crew.start(replace(cell, settings={**cell.settings, 'steps': 10**6}));"
               "print(next(iter(crew.at_work)).pid, flush=True); time.sleep(60)")
    with subprocess.Popen([sys.executable, "-c", program, str(plan), str(tmp_path)], stdout=subprocess.PIPE,
                          text=True) as asking:
        worker = int(asking.stdout.readline())
        place = tmp_path / "CartPole-v1/behavior/seed0"
        while not (place / ".lock").exists():
            time.sleep(0.1)
        time.sleep(0.5)
        asking.kill()
    for _ in range(100):
        try:
            os.kill(worker, 0)
        except OSError:
            break
        time.sleep(0.1)
    else:
        pytest.fail("the worker goes on")
    assert (place / ".checkpoint.safetensors").exists()   # where the next try goes on


@pytest.mark.slow
def test_two_studies_in_one_folder(plan, loop, tmp_path):
    words = [*PROGRAM, "study", str(plan), "--out", "out", "--workers", "1"]
    both = [subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=100)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert results(tmp_path / "out") == loop


def test_other_settings_are_refused_in_one_line(plan, tmp_path, capsys):
    cells = read_plan(plan)
    run_cell(cells[0], tmp_path)
    other = replace(cells[0], settings={**cells[0].settings, "steps": 800})
    with pytest.raises(ValueError, match="settings.steps is 700 there and 800 here"):
        Board([other], tmp_path)
    row = tmp_path / cells[0].place / "row.json"
    row.write_text(row.read_text().replace('"final"', '"fin4l"'))
    with pytest.raises(ValueError, match="row.json"):
        read_row(cells[0], tmp_path)


def test_a_cell_is_not_lost_by_one_who_waits(plan, tmp_path):
    cell = read_plan(plan)[0]
    with alone(tmp_path / cell.place), pytest.raises(Busy):
        run_cell(cell, tmp_path)


@pytest.mark.parametrize("text, words", [
    ("sedes = 3", "its head: there is no key 'sedes'; did you mean 'seeds' or 'episodes'?"),
    ("seeds = 0", "seeds is 0: it must be an integer from 1"),
    ("seeds = [0, -1]", "seeds is [0, -1]"),
    ("updates = 1.5", "updates is 1.5: it must be an integer from 1"),
    ("seeds = ", "Invalid value"),
    ("imports = ['no_such_module']", "no_such_module"),
    ("[batches.mix]\nrand_action_p = 2", "batches.mix: rand_action_p is 2: it must be a number from 0 to 1"),
    ("[batches.mix]\nsteps = 10", "batches.mix: steps is 10, and an update of bcq draws 64"),
    ("[batches.behavior]", "'behavior' becomes the name of a folder"),
    ("[batches.'a b']", "'a b' becomes the name of a folder"),
    ("batches = 3", "batches is 3: it must be"),
    ("[algorithms.bqc]", "there is no algorithm 'bqc'; did you mean 'bc' or 'bcq'?"),
    ("[algorithms.bcq]\nsettings = {treshold = 1}", "there is no setting 'treshold'; did you mean 'threshold'?"),
    ("[algorithms.bcq]\nsettings = {threshold = 2}", "threshold is 2"),
    ("[algorithms.bcq]\nsettings = {hidden = [0]}", "hidden is [0]"),
    ("[algorithms.bcq]\nsweep = {threshold = 0.1}", "it must be a list of values"),
    ("[algorithms.bcq]\nsweep = {threshold = [0.1, 7]}", "threshold is 7"),
    ("[environments.CartPole-v9]", "CartPole"),
    ("[environments.Pendulum-v1]", "Discrete"),
    ("[environments.CartPole-v1]\nbatches = ['mixed']", "there is no batches 'mixed'"),
    ("[environments.CartPole-v1]\nsettings = {discuont = 0.9}", "did you mean 'discount'?"),
    ("[environments.CartPole-v1]\npreset = 'large'", "preset is 'large': it must be 'small' or 'atari' or 'authors'"),
    ("[environments.CartPole-v1]\nbehavior.steps = 10", "steps is 10 and the warm-up takes"),
    ("[environments.CartPole-v1]\nbehavior.agent = 'none.safetensors'", "none.safetensors"),
    ("[environments.CartPole-v1]\natari = {stack = 0}", "stack is 0"),
    ("[environments.CartPole-v1]\ndevice = 'tpu'", "device is 'tpu'"),
    ("[behavior]\nseed = 'each'", 'say seed = "each"'),
    ("[behavior]\nexploration = {eps_end = 3}", "eps_end is 3"),
])
def test_what_is_wrong_in_a_file_is_one_line(tmp_path, capsys, text, words):
    tables = {"batches": "[batches.mix]", "algorithms": "[algorithms.bcq]",
              "environments": "[environments.CartPole-v1]"}
    rest = [table for name, table in tables.items() if not text.startswith((f"[{name}", f"{name} ="))]
    path = tmp_path / "wrong.toml"
    path.write_text("\n".join([text, *rest]))
    with pytest.raises(SystemExit) as stop:
        main(["study", str(path), "--out", str(tmp_path / "out")])
    errors = capsys.readouterr().err
    assert stop.value.code == 2 and words in errors and len(errors.splitlines()) == 1, errors
    assert not (tmp_path / "out").exists()
