"""`bcq describe`, `bcq fit` and `bcq act` as somebody meets them who has a table and no simulator."""
import json
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from gymnasium.spaces import Box

from bcq_nb.bcq import DiscreteBCQ
from bcq_nb.cli import main

COLUMNS = ["--obs", "age, years,sofa score,unit", "--one-hot", "unit", "--action", "dose", "--reward", "r",
           "--episode", "stay", "--time", "hour", "--ends", "terminated"]
LOOK = ["--report-updates", "200"]
SHORT = [*LOOK, "--updates", "600", "--eval-every", "200"]
PROGRAM = [sys.executable, "-c", "from bcq_nb.cli import main; main()"]
AGENT = "runs/log/seed0/bcq.safetensors"
DOSES = np.array(["high", "low", "none"])


def make_log(n=150, seed=0):
    """Stays of six hours. The right dose is high from 8 on, low from 4 on, else none; half of those given are right

    Only a right dose has a reward. In the surgery there is never a low dose.
    """
    rng = np.random.default_rng(seed)
    rows = 6 * n
    sofa = rng.integers(0, 12, rows)
    surgery = np.repeat(rng.random(n) < 0.5, 6)
    right = np.where(sofa >= 8, 0, np.where((sofa >= 4) & ~surgery, 1, 2))
    chance = rng.integers(3, size=rows)
    given = np.where(rng.random(rows) < 0.5, right, np.where(surgery & (chance == 1), 2, chance))
    return pd.DataFrame({
        "stay": [f"{stay:05}" for stay in np.repeat(np.arange(n), 6)],
        "hour": np.tile(np.arange(6), n),
        "age, years": np.repeat(rng.integers(20, 90, n), 6),
        "sofa score": sofa,
        "unit": np.where(surgery, "surgery", "heart"),
        "dose": DOSES[given],
        "may high": 1,
        "may low": (~surgery).astype(int),
        "may none": 1,
        "r": (given == right).astype(float),
        "right": DOSES[right],
    })


def run_words(words, capfd):
    "Exit status, output and errors of a command, as a shell would see them"
    capfd.readouterr()
    status = 0
    try:
        main(words)
    except SystemExit as stop:
        status = stop.code or 0
    return status, *capfd.readouterr()


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    "A folder with log.csv, and what was learned from it in runs/log/seed0"
    folder = tmp_path_factory.mktemp("fit")
    make_log().to_csv(folder / "log.csv", index=False)
    subprocess.run([*PROGRAM, "fit", "log.csv", *COLUMNS, *SHORT], cwd=folder, check=True, timeout=60)
    return folder


@pytest.fixture
def bcq(story, monkeypatch, capfd):
    monkeypatch.chdir(story)
    return lambda *words: run_words([str(word) for word in words], capfd)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch, capfd):
    "The same in an empty folder"
    monkeypatch.chdir(tmp_path)
    return lambda *words: run_words([str(word) for word in words], capfd)


def everything(folder):
    "All files of a folder, and when they were written"
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def contents(folder):
    "Name -> bytes of the files in a folder"
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def share_right(table, decided):
    "In how many of the rows the decision is the right one"
    return (decided["decision"] == table["right"]).mean()


# Fit

def test_a_fit_leaves_all_that_it_found_out(story):
    folder = story / "runs/log/seed0"
    assert sorted(contents(folder)) == ["bcq.csv", "bcq.safetensors", "changes.csv", "config.json", "losses.png",
                                        "report.json", "report.png", "report.txt"]
    rows = pd.read_csv(folder / "bcq.csv")
    assert rows["step"].tolist() == [200, 400, 600]
    assert rows["held_out_loss"].notna().all() and "return" not in rows
    config = json.loads((folder / "config.json").read_text())
    assert config["train"]["updates"] == 600 and config["log"]["obs"] == "age, years,sofa score,unit"
    changes = pd.read_csv(folder / "changes.csv", keep_default_na=False)
    assert changes["states"].sum() == 6 * 30 and changes["share"].sum() == pytest.approx(1)
    assert set(changes["chosen"]) <= set(DOSES)
    agent = DiscreteBCQ.load(folder / "bcq.safetensors")
    assert agent.table.actions == tuple(DOSES) and agent.table.names[2:] == ["unit=heart", "unit=surgery"]


def test_a_fit_says_where_it_would_do_differently(bcq):
    status, out, _ = bcq("fit", "log.csv", *COLUMNS, *SHORT)
    assert status == 0 and "report is finished" in out and "train is finished" in out
    lines = [line for line in out.splitlines() if line.startswith("none -> high")]
    assert len(lines) == 1 and "sofa score higher" in lines[0]
    assert out.splitlines()[-1] == f"all of it is in runs/log/seed0; to decide: bcq act {AGENT} NEW.csv"


def test_a_killed_fit_goes_on_to_the_same_bits(story, tmp_path):
    (tmp_path / "log.csv").write_bytes((story / "log.csv").read_bytes())
    words = [*PROGRAM, "fit", "log.csv", *COLUMNS, *SHORT]
    folder = tmp_path / "runs/log/seed0"
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not (folder / "report.json").exists() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(0.3)
        process.kill()
    assert "bcq.csv" not in contents(folder), "it was killed in the training"
    told = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "report is finished" in told or "report runs again" in told
    assert contents(folder) == contents(story / "runs/log/seed0")


def test_another_log_of_that_name_is_refused(bcq, story, tmp_path):
    before = everything(story / "runs")
    log = pd.read_csv(story / "log.csv", dtype={"stay": str})
    log.assign(hour=log["hour"] + 1).to_csv(tmp_path / "log.csv", index=False)
    status, out, err = bcq("fit", tmp_path / "log.csv", *COLUMNS, *SHORT)
    assert (status, out) == (2, "") and "log.sha256 is" in err
    assert everything(story / "runs") == before
    log.to_csv(tmp_path / "log.csv", index=False)
    assert bcq("fit", tmp_path / "log.csv", *COLUMNS, *SHORT)[0] == 0, "it is the same log, wherever it is"


def words_with(name, value):
    "The words of a fit, one of them another"
    words = COLUMNS.copy()
    words[words.index(name) + 1] = value
    return words


def words_without(name):
    "The words of a fit without a flag"
    place = COLUMNS.index(name)
    return COLUMNS[:place] + COLUMNS[place + 2:]


WRONG = [
    (words_without("--ends"), ["terminated", "truncated"]),
    (words_with("--ends", "end"), ["'end'", "terminated", "truncated"]),
    (words_with("--obs", "age, years,sofa scor,unit"), ["'sofa scor'", "did you mean 'sofa score'"]),
    (words_with("--action", "dos"), ["'dos'", "did you mean 'dose'"]),
    (words_with("--episode", "stays"), ["did you mean 'stay'"]),
    (words_with("--one-hot", "units"), ["units"]),
    (words_without("--one-hot"), ["'unit'", "one_hot"]),
    ([*COLUMNS, "--actions", "high,low"], ["none"]),
    ([*COLUMNS, "--mask", "may high,may low"], ["mask"]),
    ([*COLUMNS, "--terminated", "died"], ["'died'"]),
    ([*COLUMNS, "--device", "tpu"], ["device is 'tpu'"]),
    ([*COLUMNS, "--out", "log.csv"], ["not a folder that can be written to"]),
]
WRONG_IN_TRAINING = [
    ([*COLUMNS, "--bcq.batch-size", "100000"], ["batch_size"]),
    ([*COLUMNS, "--held-out", "0.9999"], ["episode"]),
]


@pytest.mark.parametrize("command, words, answers", [
    *(("fit", *case) for case in [*WRONG, *WRONG_IN_TRAINING]),
    *(("describe", *case) for case in WRONG),
])
def test_what_is_wrong_gets_one_line_and_leaves_nothing(bcq, story, command, words, answers):
    before = everything(story)
    status, out, err = bcq(command, "log.csv", "--seed", "5", *words)
    lines = err.splitlines()
    assert status == 2 and "report" not in out
    assert lines[-1].startswith("bcq: ") and "Traceback" not in err
    assert not [answer for answer in answers if answer not in lines[-1]], lines[-1]
    assert everything(story) == before


@pytest.mark.parametrize("command", [["fit", "nothing.csv", *COLUMNS], ["describe", "nothing.csv", *COLUMNS],
                                     ["act", "nothing.safetensors", "log.csv"], ["act", AGENT, "nothing.csv"],
                                     ["act", "log.csv", "log.csv"]])
def test_a_file_that_is_not_there_or_another_is_named(bcq, story, command):
    before = everything(story)
    status, out, err = bcq(*command)
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert "nothing." in err or "is not an agent" in err
    assert everything(story) == before


@pytest.mark.parametrize("flag, value, words", [
    ("--updates", "0", "updates is 0"), ("--seed", "-1", "seed is -1"), ("--held-out", "1.5", "held_out is 1.5"),
    ("--held-out", "0", "held_out is 0"), ("--threshold", "2", "threshold is 2.0"), ("--bcq.lr", "0", "lr is 0"),
    ("--treshold", "1", "--threshold")])
def test_wrong_numbers_are_explained_before_anything_is_read(bcq, flag, value, words):
    status, out, err = bcq("fit", "nothing.csv", *COLUMNS, flag, value)
    assert (status, out) == (2, "") and words in " ".join(err.split()) and "Traceback" not in err


def test_the_threshold_has_a_short_name(elsewhere, story):
    small = [*LOOK, "--updates", "30", "--bcq.hidden", "8"]
    for words in (["--threshold", "0.05"], ["--bcq.threshold", "0.05"]):
        status, out, _ = elsewhere("fit", story / "log.csv", *COLUMNS, *small, *words)
        assert status == 0
    assert "train is finished" in out
    assert DiscreteBCQ.load(AGENT).config.threshold == 0.05


# Describe

def test_describe_prints_and_writes_only_where_it_is_told(bcq, story, tmp_path):
    before = everything(story)
    words = ["describe", "log.csv", *COLUMNS, "--updates", "200"]
    status, out, _ = bcq(*words)
    assert status == 0 and everything(story) == before
    assert out.strip() == (story / "runs/log/seed0/report.txt").read_text().strip()
    status, again, _ = bcq(*words, "--out", tmp_path / "told")
    assert again.startswith(out)
    assert sorted(contents(tmp_path / "told")) == ["config.json", "report.json", "report.png", "report.txt"]
    before = everything(tmp_path)
    status, again, _ = bcq(*words, "--out", tmp_path / "told")
    assert status == 0 and again.endswith(out) and "report is finished" in again                   # at once
    status, out, err = bcq(*words, "--seed", "1", "--out", tmp_path / "told")
    assert (status, out) == (2, "") and "log.seed is 0 there and 1 here" in err
    assert everything(tmp_path) == before


# Act

def test_decisions_stand_beside_what_the_table_had(bcq, story, tmp_path):
    table = make_log(40, seed=1)
    new = table.drop(columns=["dose", "r", "hour"]).assign(code="007")
    new.to_csv(tmp_path / "new.csv", index=False)
    status, out, _ = bcq("act", AGENT, tmp_path / "new.csv")
    assert status == 0 and out == f"wrote {tmp_path / 'new.decisions.csv'}\n"
    decided = pd.read_csv(tmp_path / "new.decisions.csv", dtype=str)
    kept = ["stay", "may high", "may low", "may none", "right", "code"]
    assert list(decided) == [*kept, "decision", "value", "allowed", "probability"]
    assert decided[kept].equals(new[kept].astype(str)), "00007 must not become 7"
    agent = DiscreteBCQ.load(AGENT)
    assert decided["decision"].tolist() == agent.act(new).tolist()
    assert share_right(table, decided) > 0.9
    assert [row.decision in row.allowed.split("|") for row in decided.itertuples()] == [True] * len(new)
    assert decided["probability"].astype(float).between(0, 1).all()


def test_any_number_of_rows_can_be_decided(bcq, tmp_path):
    for n in (0, 1, 5_000):
        rows = pd.concat([make_log(1_000, seed=2)] * 2).head(n)
        rows.to_csv(tmp_path / f"{n}.csv", index=False)
        status, _, err = bcq("act", AGENT, tmp_path / f"{n}.csv")
        assert status == 0, err
        assert len(pd.read_csv(tmp_path / f"{n}.decisions.csv")) == n


def test_decisions_never_overwrite_anything_else(bcq, tmp_path):
    make_log(5).to_csv(tmp_path / "new.csv", index=False)
    target = tmp_path / "mine.csv"
    for words in ([], ["--out", target]):
        assert bcq("act", AGENT, tmp_path / "new.csv", *words)[0] == 0
        assert bcq("act", AGENT, tmp_path / "new.csv", *words)[0] == 0, "the same again is no harm"
    target.write_text("a day's work\n")
    before = everything(tmp_path)
    for path in (target, tmp_path / "new.csv", tmp_path, tmp_path / "decided.parquet"):
        status, out, err = bcq("act", AGENT, tmp_path / "new.csv", "--out", path)
        assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert everything(tmp_path) == before and target.read_text() == "a day's work\n"


def test_only_an_agent_that_knows_its_columns_decides(bcq, tmp_path):
    agent = DiscreteBCQ(Box(0, 1, (2,)), 2)
    agent.save(tmp_path / "agent.safetensors")
    status, out, err = bcq("act", tmp_path / "agent.safetensors", "log.csv")
    assert (status, out) == (2, "") and "has not learned from a table: use an agent of `bcq fit`" in err


@pytest.mark.parametrize("change, answers", [
    (lambda new: new.rename(columns={"sofa score": "sofa"}), ["'sofa score'"]),
    (lambda new: new.assign(**{"sofa score": new["sofa score"].where(new.index != 3)}), ["'sofa score'", "row 3"]),
    (lambda new: new.assign(unit=new["unit"].where(new.index != 4, "eye")), ["'unit'", "eye", "row 4"]),
    (lambda new: new.assign(unit=new["unit"].where(new.index != 4)), ["'unit'", "row 4"]),
    (lambda new: new.assign(**{"age, years": "old"}), ["'age, years'", "row 0"]),
    (lambda new: new.assign(decision="mine"), ["decision", "rename"]),
])
def test_rows_that_cannot_be_decided_are_named(bcq, tmp_path, change, answers):
    change(make_log(5)).to_csv(tmp_path / "new.csv", index=False)
    status, out, err = bcq("act", AGENT, tmp_path / "new.csv")
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert not [answer for answer in answers if answer not in err], err
    assert [path.name for path in tmp_path.iterdir()] == ["new.csv"]


# Other tables

def fit_and_act(run, log, new, words, suffix=".csv"):
    "What is decided for the rows of a table, by a policy learned from another"
    for name, table in (("log", log), ("new", new)):
        if suffix == ".parquet":
            table.to_parquet(f"{name}{suffix}")
        else:
            table.to_csv(f"{name}{suffix}", index=False)
    status, _, err = run("fit", f"log{suffix}", *words, *SHORT)
    assert status == 0, err
    status, _, err = run("act", AGENT, f"new{suffix}")
    assert status == 0, err
    return pd.read_csv("new.decisions.csv", keep_default_na=False)


@pytest.mark.parametrize("suffix", [".parquet", ".csv.gz"])
def test_other_files_say_the_same(elsewhere, story, suffix):
    new = make_log(20, seed=3)
    decided = fit_and_act(elsewhere, make_log(), new, COLUMNS, suffix)
    agent = DiscreteBCQ.load(story / AGENT)
    assert decided["decision"].tolist() == agent.act(new).tolist()


def test_numbers_of_any_size_are_learned_from(elsewhere):
    log, new = make_log(), make_log(50, seed=4)
    for table in (log, new):
        table["sofa score"] = table["sofa score"] * 1e6 + 1e7
        table["age, years"] = table["age, years"] * 1e-6
        table["r"] *= 1e4
    assert share_right(new, fit_and_act(elsewhere, log, new, COLUMNS)) > 0.9


@pytest.mark.parametrize("in_one", [False, True])
def test_only_actions_that_exist_are_decided(elsewhere, in_one):
    log, new = make_log(), make_log(50, seed=5)
    words = [*COLUMNS, "--mask", "may high,may low,may none"]
    if in_one:
        for table in (log, new):
            table["may"] = [f"0{low}1" for low in table["may low"]]
        log = log[log["dose"] != "high"]
        words = [*COLUMNS, "--mask", "may", "--actions", "high,low,none"]
    decided = fit_and_act(elsewhere, log, new, words)
    surgery = new["unit"] == "surgery"
    assert surgery.any() and not (decided["decision"][surgery] == "low").any()
    assert not decided["allowed"][surgery].str.contains("low").any()
    assert decided["allowed"][~surgery].str.contains("low").any()
    if in_one:
        assert not decided["allowed"].str.contains("high").any()


def test_actions_may_be_numbers_with_gaps(elsewhere):
    log, new = make_log(), make_log(20, seed=6)
    number = {"none": 0, "low": 5, "high": 20}
    log["dose"] = log["dose"].map(number)
    decided = fit_and_act(elsewhere, log, new, [*COLUMNS, "--actions", "0,5,10,20"])
    assert set(decided["decision"]) <= {0, 5, 20}
    assert DiscreteBCQ.load(AGENT).table.actions == (0, 5, 10, 20)


def test_none_is_a_word_like_any_other(elsewhere):
    "A dose that is called None is not a missing one"
    log = make_log()
    log["dose"] = log["dose"].replace("none", "None")
    decided = fit_and_act(elsewhere, log, log, COLUMNS)
    assert "None" in set(decided["decision"])


def test_the_command_stays_light():
    "Tables, figures and flags are read by libraries that are imported when they are used"
    code = "import sys, bcq_nb.cli; print([name for name in ('pandas', 'matplotlib', 'tyro') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
