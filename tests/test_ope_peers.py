"""Our estimators beside other libraries': their answers are in ope_peers.csv, and the logs are drawn again here.

None of these libraries is needed: `python benchmarks/ope_peers.py` asked them.
"""
import csv
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from bcq_nb import ope

root = Path(__file__).resolve().parents[1]
spec = importlib.util.spec_from_file_location("ope_peers", root / "benchmarks/ope_peers.py")
peers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(peers)

# SCOPE-RL adds 1e-10 to what it divides by
ROUNDING = 1e-9


def recorded(kind):
    "The rows of a log"
    with open(root / "bcq_nb/results/ope_peers.csv", newline="") as file:
        return [row for row in csv.DictReader(file) if row["log"] == kind]


@pytest.mark.parametrize("kind", peers.LIBRARIES)
def test_estimators_say_what_other_libraries_say(kind):
    "To rounding, wherever both mean the same"
    evidence = peers.gather_log(*peers.make_log(kind))
    rows = recorded(kind)
    assert {row["library"] for row in rows} == set(peers.LIBRARIES[kind])
    for row in rows:
        ours = getattr(ope, row["estimator"])(evidence)
        assert float(ours) == pytest.approx(float(row["ours"]), abs=1e-12), row
        apart = abs(ours - float(row["theirs"]))
        assert apart < ROUNDING if row["same"] == "1" else apart > 0.1, row


def test_why_one_library_differs_where_lengths_vary():
    "Its weights of a step sum to 1 over the episodes that last so long; ours over all, ended ones with their last"
    world, log = peers.make_log("varying")
    evidence = peers.gather_log(world, log)
    weight = evidence.weight
    lasts = np.arange(weight.shape[1]) < log.length[:, None]
    by_step = (weight * evidence.discounted).sum(axis=0)   # what lies behind an end is 0
    ours = (by_step / weight.sum(axis=0)).sum()
    theirs = (by_step / (weight * lasts).sum(axis=0)).sum()
    said = {row["library"]: row for row in recorded("varying")
            if row["estimator"] == "weighted_per_decision_importance_sampling"}
    assert float(said["scope-rl"]["theirs"]) == pytest.approx(ours, abs=ROUNDING)
    assert float(said["offline-rl-ope"]["theirs"]) == pytest.approx(theirs, abs=ROUNDING)


def test_logs_are_what_they_are_said_to_be():
    lengths = {kind: peers.make_log(kind)[1].length for kind in peers.LIBRARIES}
    assert set(lengths["bandit"]) == {1} and set(lengths["equal"]) == {6}
    assert set(lengths["varying"]) == set(range(1, 13))
    assert 0 < peers.make_log("cut")[1].cut.sum() < peers.EPISODES
