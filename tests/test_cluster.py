"""Two nodes of Ray on one machine: one of them is lost while it works, a worker dies, and no bit is another.

Twenty seconds of it are Ray's. `pytest -m slow tests/test_cluster.py`
"""
import subprocess
import sys
import time

import pytest
from test_studies import results

from bcq_nb import cluster, studies
from bcq_nb.cluster import RayCrew
from bcq_nb.plan import read_plan
from bcq_nb.status import is_held
from bcq_nb.studies import study
from bcq_nb.work import run_cell

pytestmark = pytest.mark.slow

MORTAL = '''"An environment whose first step of all takes its process with it, without a word"
import os
from pathlib import Path

import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv

SIGN = Path(__file__).with_name("has_died")
LEARNS = Path(__file__).with_name("learns")


class Mortal(CartPoleEnv):
    steps = 0

    def step(self, action):
        if not SIGN.exists():
            SIGN.touch()
            os._exit(1)
        Mortal.steps += 1
        if Mortal.steps == 2_000:
            LEARNS.touch()
        return super().step(action)


if "Mortal-v0" not in gym.registry:
    gym.register("Mortal-v0", Mortal, max_episode_steps=200)
'''
PLAN = """
imports = ["mortal"]
device = "cpu"
seeds = 2
updates = 1_500
eval_every = 500
eval_episodes = 2
episodes = 3
[behavior]
steps = 1_500
[batches.mix]
steps = 600
shards = 2
[algorithms.double-dqn]
[algorithms.bcq]
[environments.CartPole-v1]
[environments.Mortal-v0]
"""


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    (folder / "mortal.py").write_text(MORTAL)
    path = folder / "cluster.toml"
    path.write_text(PLAN)
    return path


@pytest.fixture(scope="module")
def loop(plan, tmp_path_factory):
    "The study in a loop, in a process of its own"
    out = tmp_path_factory.mktemp("loop")
    (plan.parent / "has_died").touch()
    program = ("import sys; from bcq_nb.plan import read_plan; from bcq_nb.work import run_cell\n"
               "for cell in read_plan(sys.argv[1]): run_cell(cell, sys.argv[2])")
    subprocess.run([sys.executable, "-c", program, str(plan), str(out)], check=True)
    (plan.parent / "has_died").unlink()
    return results(out)


@pytest.fixture
def nodes(monkeypatch):
    "A head, and a node that may be lost"
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster.import_ray()
    from ray.cluster_utils import Cluster

    some = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
    both = Cluster(initialize_head=True, head_node_args={**some, "include_dashboard": False})
    yield both, both.add_node(**some)
    both.shutdown()


def test_a_node_is_lost_and_a_worker_dies(plan, loop, nodes, tmp_path, monkeypatch, capsys):
    both, node = nodes
    lost = []

    class Unlucky(RayCrew):
        def wait(self, seconds):
            held = [cell.place for cell in self.at_work.values() if is_held(self.out / cell.place / ".lock")]
            if not lost and len(held) == 2:   # both nodes are at work
                both.remove_node(node, allow_graceful=False)
                lost.extend(held)
            return super().wait(min(seconds, 0.2))

    monkeypatch.setattr(studies, "RayCrew", Unlucky)
    cells = read_plan(plan)
    rows, given_up = study(cells, tmp_path, cluster=both.address)
    said = capsys.readouterr().out
    assert not given_up, (given_up, said)
    assert lost and "is tried again: its task is lost" in said and (plan.parent / "has_died").exists()
    assert "WorkerCrashedError" in said, said           # the one that died
    assert len(rows) == len(cells) and results(tmp_path) == loop


def test_what_a_cluster_must_share(plan, nodes, tmp_path, monkeypatch):
    both, _ = nodes
    cell = read_plan(plan)[0]
    with RayCrew(tmp_path, both.address) as crew:
        crew.start(cell)
        answers = []
        while not answers:
            answers = crew.wait(1)
    assert "does not see" in answers[0][1]["error"] and not answers[0][1]["again"]


def test_a_stopped_task_keeps_its_work(plan, nodes, tmp_path):
    both, _ = nodes
    (plan.parent / "has_died").touch()
    cell = next(cell for cell in read_plan(plan) if cell.world.name == "Mortal-v0")
    cell.settings["steps"] = 10**6
    (tmp_path / "cells.json").touch()
    with RayCrew(tmp_path, both.address) as crew:
        crew.start(cell)
        while not (plan.parent / "learns").exists():
            time.sleep(0.1)
        begun = time.monotonic()
    assert time.monotonic() - begun < 30
    assert (tmp_path / cell.place / ".checkpoint.safetensors").exists()


def test_no_cluster_answers(tmp_path):
    with pytest.raises(ConnectionError, match="no cluster answers at"), RayCrew(tmp_path, "127.0.0.1:1"):
        pass


def test_a_shard_is_the_same_wherever_it_is_written(plan, loop, tmp_path):
    (plan.parent / "has_died").touch()
    cells = read_plan(plan)
    last = [cell for cell in cells if cell.phase == "shard"][1]
    run_cell(last.before, tmp_path)
    run_cell(last, tmp_path)   # alone, before the first
    name = f"{last.place}/batch.npz"
    assert (tmp_path / name).read_bytes() == loop[name]
