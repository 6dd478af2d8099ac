"""`bcq fit … --select` and `bcq select` as somebody meets them who has a table and no simulator."""
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bcq_nb import choose, imitation, verdict
from bcq_nb.bcq import DiscreteBCQ
from bcq_nb.choose import three_parts
from bcq_nb.cli import main
from bcq_nb.logs import from_frame

COLUMNS = ["--obs", "taste", "--action", "paper", "--reward", "sold", "--episode", "customer", "--ends", "terminated"]
TINY = ["--report-updates", "20", "--updates", "200", "--eval-every", "100", "--bcq.hidden", "16", "--bcq.lr", "0.003",
        "--fqe-updates", "200"]
SELECT = [*COLUMNS, *TINY, "--thresholds", "0.3,0.9", "--select", "--stops", "2"]
RUN = Path("runs/log/seed0")
CANDIDATES = ["tau0.3_100", "tau0.3_200", "tau0.9_100", "tau0.9_200"]


def make_log(n=200, seed=0):
    "A letter to each of n customers; red paper sells for a positive taste, white for a negative one"
    rng = np.random.default_rng(seed)
    taste = rng.uniform(-1, 1, n)
    paper = np.where(rng.random(n) < 0.6, "red", "white")
    sold = ((paper == "red") == (taste > 0)).astype(float)
    return pd.DataFrame({"customer": np.arange(n), "taste": taste, "paper": paper, "sold": sold})


def contents(folder):
    "Name -> bytes of the files in a folder, and in those within"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*")
            if path.is_file() and not path.name.startswith(".")}


@pytest.fixture(scope="module", autouse=True)
def imitations_are_quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(imitation, "PATIENCE", 50)
        yield


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    "A folder with log.csv, and what was chosen from it in runs/log/seed0"
    folder = tmp_path_factory.mktemp("choose")
    make_log().to_csv(folder / "log.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main(["fit", "log.csv", *SELECT])
    return folder


@pytest.fixture
def bcq(tmp_path, story, monkeypatch, capfd):
    "Exit status, output and errors of a command in a folder that holds the log"
    monkeypatch.chdir(tmp_path)
    shutil.copy(story / "log.csv", "log.csv")

    def run(*words):
        capfd.readouterr()
        status = 0
        try:
            main([str(word) for word in words])
        except SystemExit as stop:
            status = stop.code or 0
        return status, *capfd.readouterr()
    return run


# Fit with a choice

def test_a_choice_leaves_all_that_it_found_out(story):
    folder = story / RUN
    found = contents(folder)
    assert sorted(found) == sorted([
        "bcq.csv", "bcq.safetensors", "changes.csv", "config.json", "losses.png", "report.json", "report.png",
        "report.txt", "selection.json", "selection.png", "selection.txt", "verdict.json", "verdict.txt",
        *(f"candidates/{name}.safetensors" for name in CANDIDATES)])
    selection = json.loads(found["selection.json"])
    best = selection["rows"][0]
    assert sorted(row["name"] for row in selection["rows"]) == CANDIDATES
    assert best["fate"] == "chosen" and best["name"].startswith("tau0.3")
    assert found["bcq.safetensors"] == found[f"candidates/{best['name']}.safetensors"]
    rows = pd.read_csv(folder / "bcq.csv")
    assert rows["step"].tolist() == [100, 200][: len(rows)] and rows["held_out_loss"].notna().all()
    support = json.loads(found["verdict.json"])["support"]
    assert support["episodes"] == 40, "a fifth of them has judged"
    agent = DiscreteBCQ.load(folder / "bcq.safetensors")
    assert agent.act(pd.DataFrame({"taste": [-0.5, 0.5]})).tolist() == ["white", "red"]


def test_no_episode_is_in_two_parts():
    log = make_log(100).assign(sold=np.arange(100.0))
    log = pd.concat([log, log.assign(taste=0)]).sort_values("customer", kind="stable")   # two steps each
    batch = from_frame(log, obs="taste", action="paper", reward="sold", episode="customer", ends="terminated")
    parts = [part.reward[part.slots()].tolist() for part in three_parts(batch, 0.15, seed=3)]
    assert [len(part) for part in parts] == [140, 30, 30]
    customers = [set(part) for part in parts]
    assert sum(len(part) for part in customers) == len(set.union(*customers)) == 100


def stopped(*args, **kwargs):
    raise KeyboardInterrupt


def stopped_at_second(function):
    "The same function, which is stopped when it is called again"
    calls = []

    def run(*args, **kwargs):
        calls.append(args)
        return function(*args, **kwargs) if len(calls) == 1 else stopped()
    return run


def test_a_stopped_choice_goes_on_to_the_same_bits(bcq, story, monkeypatch):
    stops = [("stopping_points", stopped_at_second(choose.stopping_points)), ("select", stopped), ("estimate", stopped)]
    before = {}
    for phase, stop in stops:
        with monkeypatch.context() as patch:
            patch.setattr(choose, phase, stop)
            assert bcq("fit", "log.csv", *SELECT)[0] == 130
        assert not (RUN / "bcq.safetensors").exists()
        written = {path: path.stat().st_mtime_ns for path in RUN.rglob("*.*") if path.name != "config.json"}
        assert before.items() < written.items(), "what is finished is not done again"
        before = written
    status, out, _ = bcq("fit", "log.csv", *SELECT)
    assert status == 0 and "train tau0.3 is finished" in out
    assert contents(RUN) == contents(story / RUN)


def test_what_is_finished_is_only_shown_again(bcq, story):
    shutil.copytree(story / "runs", "runs")
    status, out, _ = bcq("fit", "log.csv", *SELECT)
    assert status == 0
    assert (RUN / "selection.txt").read_text() in out and (RUN / "verdict.txt").read_text() in out
    assert contents(RUN) == contents(story / RUN)


def test_a_policy_that_takes_untried_actions_is_not_chosen(bcq):
    log = make_log(300)
    log.loc[:5, ["paper", "sold"]] = ["gold", 5.0]   # six times, with luck
    log.to_csv("log.csv", index=False)
    bcq("fit", "log.csv", *COLUMNS, *TINY, "--thresholds", "0,0.3", "--select", "--stops", "1")
    rows = {row["name"]: row for row in json.loads((RUN / "selection.json").read_text())["rows"]}
    assert rows["tau0_200"]["fate"] == "untried" and rows["tau0_200"]["support"]["untried"] > 0.2
    assert rows["tau0.3_200"]["fate"] == "chosen"


def test_where_none_can_be_judged_none_is_written(bcq, monkeypatch):
    monkeypatch.setattr(verdict, "HARDLY", 1.0)   # as if nothing had been tried
    words = ["fit", "log.csv", *COLUMNS, *TINY, "--thresholds", "0.3", "--select", "--stops", "1"]
    status, out, _ = bcq(*words)
    assert status == 0 and "None of the policies can be judged by this log" in out
    assert out.splitlines()[-1] == f"all of it is in {RUN}, but no bcq.safetensors: no policy was chosen"
    assert not (RUN / "bcq.safetensors").exists() and not (RUN / "verdict.json").exists()
    assert bcq(*words)[0] == 0, "the same again says the same"


@pytest.mark.parametrize("words, answer", [
    (["--thresholds", "0.1,0.3"], "add --select"),
    (["--select", "--threshold", "0.3"], "give --thresholds in its place"),
    (["--select", "--bcq.threshold", "0.1"], "give --thresholds in its place"),
    (["--select", "--thresholds", "0.1;0.3"], "0.1,0.3,0.5"),
    (["--select", "--thresholds", "0.1,1.3"], "thresholds is 1.3"),
    (["--select", "--thresholds", "0.1,0.10"], "name each of them once"),
    (["--select", "--stops", "0"], "stops is 0"),
    (["--select", "--held-out", "0.5"], "must be below 0.5"),
    (["--select", "--held-out", "0.02"], "give a larger one, or a longer log"),
    (["--select", "--bcq.batch-size", "1000"], "batch_size"),
])
def test_what_is_wrong_gets_one_line_and_leaves_nothing(bcq, words, answer):
    status, out, err = bcq("fit", "log.csv", *COLUMNS, *words)
    lines = err.splitlines()
    assert (status, out) == (2, "") and "Traceback" not in err
    assert answer in lines[-1], err
    assert not Path("runs").exists()


def test_one_policy_and_a_choice_do_not_share_a_folder(bcq, story):
    shutil.copytree(story / "runs", "runs")
    status, out, err = bcq("fit", "log.csv", *COLUMNS, *TINY)
    assert (status, out) == (2, "") and "train.select is True there and False here" in err
    assert contents(RUN) == contents(story / RUN)


# Several runs

def test_runs_are_compared_on_episodes_that_none_has_learned_from(bcq, story):
    first, second = story / RUN, Path("other/log/seed0")
    assert bcq("fit", "log.csv", *COLUMNS, *TINY, "--threshold", "0.5", "--out", "other")[0] == 0
    before = contents(story), contents(Path("other"))
    status, out, err = bcq("select", "log.csv", "--out", "told", first, second, "--fqe-updates", "200")
    assert status == 0, err
    told = json.loads(Path("told/selection.json").read_text())
    assert sorted(contents(Path("told"))) == ["config.json", "selection.json", "selection.png", "selection.txt"]
    told_before = Path("told/selection.txt").read_text()
    assert out == told_before
    assert len(told["rows"]) == 5 and {row["support"]["episodes"] for row in told["rows"]} == {40}
    alone = {row["name"]: row for row in json.loads((first / "selection.json").read_text())["rows"]}
    for row in told["rows"]:
        name = row["name"].split("/")[-1]
        if name in alone:
            assert row["wis"] == alone[name]["wis"], "they are the episodes by which the run chose"
    assert (contents(story), contents(Path("other"))) == before
    status, out, err = bcq("select", "log.csv", first, "--out", "told")
    assert (status, out) == (2, "") and "told holds a run with other settings: compared.policies is" in err
    status, again, err = bcq("select", "log.csv", "--out", "told", first, second, "--fqe-updates", "200")
    assert status == 0 and "selection is finished" in again and again.endswith(told_before)


def test_another_log_is_new_as_a_whole(bcq, story):
    make_log(60, seed=1).to_csv("new.csv", index=False)
    agent = story / RUN / "bcq.safetensors"
    status, out, err = bcq("select", "new.csv", agent, "--fqe-updates", "200", "--out", "told")
    assert status == 0, err
    [row] = json.loads(Path("told/selection.json").read_text())["rows"]
    assert row["support"]["episodes"] == 60 and row["name"] == "bcq"


@pytest.mark.parametrize("words", [["--seed", "1"], ["--held-out", "0.3", "--out", "more"]])
def test_runs_that_were_split_differently_are_not_compared_on_their_log(bcq, story, words):
    assert bcq("fit", "log.csv", *COLUMNS, *TINY, *words)[0] == 0
    [other] = [path.parent for path in Path().rglob("bcq.csv")]
    status, out, err = bcq("select", "log.csv", story / RUN, other)
    assert (status, out) == (2, "") and "Traceback" not in err
    assert "held out different episodes" in err.splitlines()[-1]


@pytest.mark.parametrize("words, answer", [
    (["select", "log.csv"], "no run is given"),
    (["select", "log.csv", "."], "there is no policy in '.'"),
    (["select", "log.csv", "log.csv"], "is in no folder of `bcq fit`"),
    (["select", "nothing.csv", "."], "there is no file 'nothing.csv'"),
])
def test_runs_that_are_none_are_named(bcq, words, answer):
    status, out, err = bcq(*words)
    assert (status, out, len(err.splitlines())) == (2, "", 1) and answer in err
