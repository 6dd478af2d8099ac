"""The scripts that compare times, on little data: no other library is needed, and no time is asserted."""
import csv
import importlib.util
import sys
from pathlib import Path

import pytest

root = Path(__file__).resolve().parents[1]


def script(name):
    "A script of benchmarks/ as a module"
    spec = importlib.util.spec_from_file_location(name, root / f"benchmarks/{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module   # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


speed = script("speed")


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_times_are_compared_round_by_round():
    "Three times as long in each round, although the second round was slow for both; what round 0 says is not counted"
    times = {"ours": (9.0, 1.0, 10.0, 2.0), "floor": (0.0, 3.0, 30.0, 6.0)}
    rows = [{"work": "mlp", "threads": 1, "contender": contender, "round": number, "ms": ms, "cpu_ms": ms, "load": 1.0}
            for contender, all_ms in times.items() for number, ms in enumerate(all_ms)]
    ours, floor = speed.summarize(rows)
    assert (ours["contender"], ours["ms"], ours["times"]) == ("ours", 2, 1)
    assert (floor["contender"], floor["ms"], floor["rounds"]) == ("floor", 6, 3)
    assert floor["times"] == floor["times_low"] == floor["times_high"] == 3
    assert (floor["low"], floor["high"]) == (4.5, 18)


def test_each_round_begins_with_another_one():
    assert [speed.in_turn(["a", "b", "c"], number)[0] for number in range(4)] == ["a", "b", "c", "a"]


def test_networks_are_of_one_size(tmp_path, capsys):
    "Of the package and of the floor; other code is left out, and said so"
    files = tmp_path / "rounds.csv", tmp_path / "summary.csv"
    speed.main(["--small", "--rounds", "1", "--threads", "1", "--works", "mlp", "cnn", "generate_1", "help",
                "--peers", str(tmp_path), "--out", *map(str, files)])
    said = capsys.readouterr().out
    assert all(f"left out: {name}" in said for name in ("authors", "d3rlpy", "tianshou"))
    rows, summary = map(read, files)
    assert len(rows) == 2 * len(summary) == 16
    learned = {(row["work"], row["contender"]): row["learned"] for row in summary}
    assert learned["mlp", "ours"] == learned["mlp", "floor"] == "138248"
    assert learned["cnn", "ours"] == learned["cnn", "floor"] == "3296428"
    assert all(row["cpu"] and row["date"] and float(row["ms"]) > 0 for row in summary)


def test_a_contender_that_stops_says_why():
    with pytest.raises(RuntimeError, match=r"ours has stopped:\n(.*\n)*.*no_such_file"):
        speed.Contender("ours", [sys.executable, "no_such_file.py"], 1)
