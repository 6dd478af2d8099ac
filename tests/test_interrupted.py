"""`bcq` is stopped at random moments, by all means, and the same command ends in the same bits, with nothing left over.

BCQ_STOPS=100 stops it a hundred times. `pytest -m slow tests/test_interrupted.py` runs the longer ones.
"""
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from bcq_nb.cli import main

STOPS = int(os.environ.get("BCQ_STOPS", 4))
PROGRAM = [sys.executable, "-c", "from bcq_nb.cli import main; print('here', flush=True); main()"]
TINY = ("--behavioral.steps 1500 --behavioral.eval-episodes 1 --generate.steps 800 "
        "--train.updates 300 --train.eval-episodes 1 --episodes 2").split()
PONG = ("--env ALE/Pong-v5 --behavioral.steps 80 --behavioral.exploration.warmup 40 --behavioral.eval-episodes 1 "
        "--generate.steps 40 --train.updates 4 --train.eval-episodes 1 --episodes 1 "
        "--atari.max-episode-steps 10 --atari.frame-size 44").split()
FIT = ("--obs taste --action paper --reward sold --episode customer --ends terminated --report-updates 20 "
       "--updates 400 --eval-every 100 --bcq.hidden 16 --fqe-updates 100 --thresholds 0.3,0.9 "
       "--select --stops 2").split()
WAYS = [getattr(signal, name) for name in ("SIGTERM", "SIGKILL", "SIGINT", "SIGHUP") if hasattr(signal, name)]

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")


def contents(folder):
    "Name -> bytes of all files in a folder, hidden ones too"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def living(words):
    "Processes whose command line holds some words"
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc") if os.path.isdir("/proc") else []):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                line = file.read().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if words in line and int(pid) != os.getpid():
            found.append(line)
    return found


def run_for(words, cwd, seconds, how):
    "Start the command and stop it: exit status, errors. It may have ended before."
    with open(cwd / "errors.txt", "w+") as errors:
        process = subprocess.Popen([*PROGRAM, *words], cwd=cwd, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert process.stdout.readline() == "here\n"
        time.sleep(0.05)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(how)
        process.stdout.read()
        status = process.wait(30)
        errors.seek(0)
        return status, errors.read()


def disturb(words, folder, cwd, undisturbed, stops, seconds, seed):
    "Stop a command again and again, each time at another moment; then let it end, and compare."
    rng = random.Random(seed)
    for k in range(stops):
        how = WAYS[k % len(WAYS)]
        status, errors = run_for(words, cwd, rng.uniform(0, seconds), how)
        said = [line for line in errors.splitlines() if line.startswith("bcq: ")]
        if how == signal.SIGKILL:
            assert status in (-how, 0), errors
        elif status != 0:
            assert status == 128 + how and "Traceback" not in errors, (how.name, status, errors)
            assert said == [f"bcq: stopped by {how.name}; the same command goes on from where it was"], errors
            assert not living(str(folder)), "a program that it had started goes on"
        if status == 0:          # it had ended before it was stopped: begin anew
            assert contents(folder) == undisturbed, "finished"
            for path in sorted(folder.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
    done = subprocess.run([*PROGRAM, *words], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    now = contents(folder)
    assert sorted(now) == sorted(undisturbed)
    assert not [name for name in now if now[name] != undisturbed[name]]


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    "Results of a command that nothing has disturbed"
    folder = tmp_path_factory.mktemp("undisturbed")
    main(["pipeline", *TINY, "--out", str(folder)])
    return contents(folder / "CartPole-v1/seed0")


@pytest.mark.parametrize("how", [way for way in WAYS if way != signal.SIGKILL])
def test_a_signal_after_the_end_changes_no_status(how):
    late = (f"import os, sys; sys.argv = ['bcq', '--version']; {PROGRAM[2]}; "
            f"os.kill(os.getpid(), {int(how)}); print('over')")
    done = subprocess.run([sys.executable, "-c", late], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.endswith("over\n")


def test_a_stopped_pipeline_ends_in_the_same_bits(tmp_path, story):
    words = ["pipeline", *TINY, "--out", str(tmp_path / "runs")]
    disturb(words, tmp_path / "runs/CartPole-v1/seed0", tmp_path, story, STOPS, seconds=6, seed=0)


@pytest.mark.slow
def test_a_stopped_fit_ends_in_the_same_bits(tmp_path):
    rng = np.random.default_rng(0)
    taste = rng.uniform(-1, 1, 200)
    paper = np.where(rng.random(200) < 0.6, "red", "white")
    sold = ((paper == "red") == (taste > 0)).astype(int)
    log = pd.DataFrame({"customer": np.arange(200), "taste": taste, "paper": paper, "sold": sold})
    log.to_csv(tmp_path / "log.csv", index=False)
    words = ["fit", "log.csv", *FIT, "--out"]
    subprocess.run([*PROGRAM, *words, "undisturbed"], cwd=tmp_path, check=True, capture_output=True)
    undisturbed = contents(tmp_path / "undisturbed/log/seed0")
    disturb([*words, "runs"], tmp_path / "runs/log/seed0", tmp_path, undisturbed, max(STOPS // 2, 1), seconds=8, seed=1)


def test_work_is_kept_inside_a_phase(tmp_path):
    "A training that is stopped goes on at the step where it was, and leaves only its checkpoint."
    words = ["behavioral", "--steps", "200000", "--eval-every", "200000"]
    status, errors = run_for(words, tmp_path, 5, signal.SIGTERM)
    folder = tmp_path / "runs/CartPole-v1/seed0"
    assert status == 143, errors
    assert [path.name for path in folder.iterdir()] == [".behavioral.checkpoint"]
    status, errors = run_for([*words, "--dqn.lr", "0.5"], tmp_path, 20, signal.SIGTERM)
    assert status == 2 and "lr" in errors and ".behavioral.checkpoint" in errors and len(errors.splitlines()) == 1
    subprocess.run(["rm", folder / ".behavioral.checkpoint"], check=True)   # as it says
    assert run_for([*words, "--dqn.lr", "0.5"], tmp_path, 3, signal.SIGTERM)[0] == 143


@pytest.mark.parametrize("name, words", [
    ("CartPole-v1", TINY), pytest.param("ALE/Pong-v5", PONG, marks=pytest.mark.slow)])
def test_the_machine_has_no_say_in_the_bits(tmp_path, name, words):
    "However many threads it offers."
    results = []
    for threads in ("1", "2", "4"):
        env = {**os.environ, **{f"{library}_NUM_THREADS": threads for library in ("OMP", "MKL", "OPENBLAS")}}
        subprocess.run([*PROGRAM, "pipeline", *words, "--out", threads], cwd=tmp_path, env=env, check=True,
                       capture_output=True)
        results.append(contents(tmp_path / threads / name / "seed0"))
    assert results[0] == results[1] == results[2]
