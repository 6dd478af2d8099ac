"""Tables in, buffers out: against a slow reference, with faults planted one at a time, in all types that pandas has."""
import datetime
import decimal
import json
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bcq_nb.logs import from_frame, read_table
from bcq_nb.tables import Table

LABELS = {
    "words": ("high", "low", "none"),
    "gaps": (2, 5, 40),
    "negative": (-3, 0, 1),
    "floats": (0.0, 1.0, 2.5),
    "booleans": (False, True),
}


def quietly(frame, **given):
    "The buffer, with its notes and without the warning"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return from_frame(frame, **given)


# A log that is as it should be

COLUMNS = {"obs": ["x", "y"], "action": "a", "reward": "r", "episode": "e", "time": "t"}


def make_log(episodes=4, length=5, labels=("high", "low", "none"), seed=0):
    "Episodes of one length, the even ones terminated, the odd ones cut"
    rng = np.random.default_rng(seed)
    n = episodes * length
    last = np.tile(np.arange(length) == length - 1, episodes)
    even = np.repeat(np.arange(episodes) % 2 == 0, length)
    x, y = rng.normal(size=n), rng.integers(9, size=n)
    return pd.DataFrame({
        "x": x, "y": y, "a": np.array(labels)[rng.integers(len(labels), size=n)], "r": rng.normal(size=n),
        "e": np.repeat([f"stay {k}" for k in range(episodes)], length), "t": np.tile(np.arange(length), episodes),
        "end": (last & even).astype(int), "cut": (last & ~even).astype(int),
        "next_x": np.append(x[1:], 0.5), "next_y": np.append(y[1:], 4), "p": rng.uniform(0.1, 1, size=n),
    })


def content(buffer):
    "All transitions as plain Python, episode after episode"
    found = []
    for slots in buffer.episodes():
        batch = buffer.transitions(slots)
        rows = []
        for k in range(len(slots)):
            row = {name: getattr(batch, name)[k].tolist() for name in batch._fields[:5]}
            if batch.mask is not None:
                row |= {"mask": batch.mask[k].tolist(), "next_mask": batch.next_mask[k].tolist()}
            if buffer.prob is not None:
                row["prob"] = buffer.prob[slots[k]].item()
            rows.append(row | {"first": buffer.first[slots[k]].item(), "ended": buffer.ended[slots[k]].item()})
        found.append(rows)
    return found


def same(a, b):
    "Whether two buffers hold the same transitions, word for word"
    return content(a) == content(b)


# Against a slow reference

def f32(values):
    return np.float32(values).tolist()


def reference(frame, labels, how, has_next, has_mask, has_prob):
    "What the buffer must hold, one row after the other, in plain Python"
    rows = frame.to_dict("records")
    episodes = {}
    for row in rows:
        episodes.setdefault(row["e"], []).append(row)
    found = []
    for episode in episodes.values():
        episode.sort(key=lambda row: row["t"])
        steps = []
        for k, row in enumerate(episode):
            is_last = k == len(episode) - 1
            terminated = is_last and (how == "terminated" or how == "columns" and row["end"] == 1)
            if is_last and not terminated and not has_next:
                continue
            after = row if is_last else episode[k + 1]
            step = {"obs": f32([row["x"], row["y"]]), "action": labels.index(row["a"]), "reward": f32(row["r"]),
                    "next_obs": f32([row["next_x"], row["next_y"]] if has_next else [after["x"], after["y"]]),
                    "terminated": float(terminated)}
            if has_mask:
                step["mask"] = [flag == "1" for flag in row["may"]]
                step["next_mask"] = [flag == "1" for flag in (row["next_may"] if has_next else after["may"])]
                if terminated:
                    step["next_mask"] = [True] * len(labels)
            if has_prob:
                step["prob"] = f32(row["p"])
            steps.append(step)
        for k, step in enumerate(steps):
            step |= {"first": k == 0, "ended": k == len(steps) - 1}
        if steps:
            found.append(steps)
    return found


def random_log(rng, labels):
    "Random episodes of 1 to 6 rows, each terminated or cut, with masks; shuffled"
    rows = []
    for episode in range(rng.integers(1, 6)):
        length = rng.integers(1, 7)
        times = np.sort(rng.choice(20, size=length, replace=False))
        for k in range(length):
            action = rng.integers(len(labels))
            may, next_may = (rng.random(len(labels)) < 0.5 for _ in range(2))
            may[action] = True
            next_may[rng.integers(len(labels))] = True
            rows.append({
                "x": rng.normal(), "y": rng.integers(9), "a": labels[action], "r": rng.normal(), "e": f"stay {episode}",
                "t": times[k], "end": int(k == length - 1 and rng.random() < 0.5), "p": rng.uniform(0.01, 1),
                "next_x": rng.normal(), "next_y": rng.integers(9),
                "may": "".join(map(str, may.astype(int))), "next_may": "".join(map(str, next_may.astype(int)))})
    frame = pd.DataFrame(rows)
    return frame.iloc[rng.permutation(len(frame))].reset_index(drop=True)


@settings(deadline=None, max_examples=200)
@given(seed=st.integers(0, 2**32), kind=st.sampled_from(list(LABELS)),
       how=st.sampled_from(["columns", "terminated", "truncated"]),
       has_next=st.booleans(), has_mask=st.booleans(), has_prob=st.booleans())
def test_random_logs_against_the_reference(seed, kind, how, has_next, has_mask, has_prob):
    labels = LABELS[kind]
    frame = random_log(np.random.default_rng(seed), labels)
    expected = reference(frame, labels, how, has_next, has_mask, has_prob)
    given = COLUMNS | {"actions": labels}
    given |= {"terminated": "end"} if how == "columns" else {"ends": how}
    given |= {"next_obs": ["next_x", "next_y"]} if has_next else {}
    given |= {"mask": "may"} if has_mask else {}
    given |= {"next_mask": "next_may"} if has_mask and has_next else {}
    given |= {"prob": "p"} if has_prob else {}
    if not expected:
        with pytest.raises(ValueError, match="no row is a transition"):
            quietly(frame, **given)
        return
    buffer = quietly(frame, **given)
    assert content(buffer) == expected
    assert buffer.table.actions == labels and buffer.n_actions == len(labels)
    assert buffer.table.labels(buffer.action.numpy()).tolist() == [labels[k] for k in buffer.action.tolist()]


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32))
def test_the_order_of_rows_does_not_matter(seed):
    log = make_log()
    shuffled = log.iloc[np.random.default_rng(seed).permutation(len(log))]
    one = quietly(log, **COLUMNS, terminated="end")
    other = quietly(shuffled, **COLUMNS, terminated="end")
    assert sorted(map(str, content(one))) == sorted(map(str, content(other)))   # episodes come as they first occur


# There and back

@pytest.mark.parametrize("suffix", [None, ".csv", ".csv.gz", ".parquet"])
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32))
def test_round_trip(suffix, tmp_path_factory, seed):
    labels = LABELS["words"]
    frame = random_log(np.random.default_rng(seed), labels)
    buffer = quietly(frame, **COLUMNS, actions=labels, terminated="end", next_obs=["next_x", "next_y"], mask="may",
                     next_mask="next_may", prob="p")
    table = buffer.to_frame()
    if suffix is not None:
        path = tmp_path_factory.mktemp("tables") / f"log{suffix}"
        table.to_parquet(path) if suffix == ".parquet" else table.to_csv(path, index=False)
        table = read_table(path)
    back = quietly(table, obs=["x", "y"], action="action", reward="reward", episode="episode", time="step",
                   terminated="terminated", truncated="truncated", next_obs=["next_x", "next_y"], prob="prob",
                   mask=[f"mask_{label}" for label in labels], next_mask=[f"next_mask_{label}" for label in labels],
                   actions=labels)
    assert same(back, buffer)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet", ".CSV"])
def test_files_give_the_same_as_the_frame(suffix, tmp_path):
    log = make_log().assign(t=lambda log: pd.Timestamp("2026-01-31") + pd.to_timedelta(log["t"], unit="h"))
    path = tmp_path / f"log{suffix}"
    log.to_parquet(path) if suffix == ".parquet" else log.to_csv(path, index=False)
    assert same(quietly(read_table(path), **COLUMNS, terminated="end"), quietly(log, **COLUMNS, terminated="end"))


# Types: what is the same number or word gives the same buffer

INTEGERS = ["int8", "int16", "int32", "uint8", "uint16", "uint32", "uint64", "float32", "float64", "object",
            "Int8", "Int64", "UInt64", "Float32", "Float64", "int64[pyarrow]", "uint8[pyarrow]", "double[pyarrow]"]
WORDS = ["object", "str", "string", "category", "string[pyarrow]", pd.ArrowDtype(pa.string()),
         pd.ArrowDtype(pa.dictionary(pa.int32(), pa.string()))]
FLAGS = [bool, "boolean", "bool[pyarrow]", "float64", "Int64", "object"]


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_types_of_numbers(dtype):
    log = make_log().astype({"r": int})
    plain = quietly(log, **COLUMNS, terminated="end")
    assert same(quietly(log.astype({"y": dtype, "r": "Int64", "t": dtype}), **COLUMNS, terminated="end"), plain)


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_types_of_actions(dtype):
    log = make_log(labels=(0, 3, 7))
    buffer = quietly(log.astype({"a": dtype}), **COLUMNS, terminated="end")
    assert same(buffer, quietly(log, **COLUMNS, terminated="end"))
    assert buffer.table.actions == (0, 3, 7)
    assert Table.from_json(buffer.table.to_json()) == buffer.table


@pytest.mark.parametrize("dtype", WORDS, ids=str)
def test_types_of_words(dtype):
    log = make_log()
    buffer = quietly(log.astype({"a": dtype, "e": dtype}), **COLUMNS, terminated="end")
    assert same(buffer, quietly(log, **COLUMNS, terminated="end"))
    assert buffer.table.actions == ("high", "low", "none")
    seen = log.assign(word=log["a"].astype(dtype))
    one_hot = quietly(seen, **COLUMNS | {"obs": ["x", "word"]}, one_hot="word", terminated="end")
    assert one_hot.table.names == ["x", "word=high", "word=low", "word=none"]
    flags = one_hot.store.obs[:, 1:]
    assert torch.equal(flags.argmax(1), one_hot.action) and (flags.sum(1) == 1).all()


@pytest.mark.parametrize("dtype", FLAGS, ids=str)
def test_types_of_flags(dtype):
    log = make_log()
    plain = quietly(log, **COLUMNS, terminated="end", truncated="cut")
    changed = log.astype({"end": dtype, "cut": dtype})
    assert same(quietly(changed, **COLUMNS, terminated="end", truncated="cut"), plain)
    seen = quietly(log.assign(flag=log["y"].gt(4).astype(dtype)), **COLUMNS | {"obs": ["flag"]}, terminated="end")
    assert set(seen.store.obs.flatten().tolist()) == {0, 1}


def test_objects_that_are_numbers():
    log = make_log()
    plain = quietly(log, **COLUMNS, terminated="end")
    for make in (decimal.Decimal, np.float32, lambda value: float(value) if value % 2 else int(value)):
        assert same(quietly(log.assign(y=[make(int(value)) for value in log["y"]]), **COLUMNS, terminated="end"), plain)


TIMES = {
    "dates": lambda t: pd.Timestamp("2150-01-31") + pd.to_timedelta(t, unit="h"),
    "zone": lambda t: (pd.Timestamp("2026-01-31") + pd.to_timedelta(t, unit="h")).dt.tz_localize("Europe/Berlin"),
    "durations": lambda t: pd.to_timedelta(t, unit="h"),
    "text": lambda t: (pd.Timestamp("2026-01-31") + pd.to_timedelta(t, unit="h")).astype(str),
    "days": lambda t: pd.Series([datetime.date(2026, 1, 1 + value) for value in t]),
    "objects": lambda t: pd.Series([datetime.datetime(2026, 1, 1, value) for value in t], dtype=object),
    "arrow": lambda t: (pd.Timestamp("2026-01-31") + pd.to_timedelta(t, unit="h")).astype("timestamp[us][pyarrow]"),
    "nanoseconds": lambda t: (1_700_000_000_000_000_000 + t),
}


@pytest.mark.parametrize("kind", TIMES)
def test_times(kind):
    log = make_log(length=4)
    timed = log.assign(t=TIMES[kind](log["t"]))
    rows = np.random.default_rng(0).permutation(len(log))
    buffer = quietly(timed.iloc[rows], **COLUMNS, terminated="end")
    assert same(buffer, quietly(log.iloc[rows], **COLUMNS, terminated="end"))
    assert not any("steps are longer" in note for note in buffer.notes)
    late = timed["t"].copy()
    late[3] = late[3] + (late[1] - late[0]) * 5 if kind != "text" else "2026-03-01 00:00:00"
    gap = quietly(timed.assign(t=late), **COLUMNS, terminated="end")
    assert any("1 of 12 steps are longer" in note and "row 2 to 3" in note for note in gap.notes)


# Faults, planted one at a time: the column, the row and the number of rows are named

def planted(**changes):
    "A function that plants a value: column -> (rows, value)"
    def plant(log):
        for name, (rows, value) in changes.items():
            column = log[name].tolist()
            for row in rows:
                column[row] = value
            log[name] = pd.Series(column, dtype=object).infer_objects()
        return log
    return plant


IN_ROWS = "in 2 of 20 rows, first in row 7"
FAULTS = {
    "missing number": (planted(x=([7, 9], np.nan)), {}, f"column 'x' is missing {IN_ROWS}"),
    "missing object": (planted(y=([7, 9], None)), {}, f"column 'y' is missing {IN_ROWS}"),
    "infinity": (planted(x=([7, 9], np.inf)), {}, f"column 'x' is NaN or infinite {IN_ROWS}"),
    "minus infinity": (planted(r=([7, 9], -np.inf)), {}, f"column 'r' is NaN or infinite {IN_ROWS}"),
    "too large": (planted(x=([7, 9], 1e39)), {}, f"column 'x' holds what float32 cannot hold (1e+39) {IN_ROWS}"),
    "integer": (planted(y=([7, 9], 2**24 + 1)), {}, f"column 'y' holds what float32 cannot hold (16777217) {IN_ROWS}"),
    "seconds": (planted(x=([7, 9], 1_700_000_060.5)), {}, f"float32 cannot hold (1700000060.5) {IN_ROWS}"),
    "huge integer": (planted(y=([7, 9], 2**70)), {}, f"column 'y' holds an integer of more than 64 bits {IN_ROWS}"),
    "reward": (planted(r=([7, 9], np.nan)), {}, f"column 'r' is missing {IN_ROWS}"),
    "action": (planted(a=([7, 9], None)), {}, f"column 'a' is missing {IN_ROWS}"),
    "episode": (planted(e=([7, 9], None)), {}, f"column 'e' is missing {IN_ROWS}"),
    "time": (planted(t=([7, 9], np.nan)), {}, f"column 't' is missing {IN_ROWS}"),
    "end": (planted(end=([9], 0.5)), {}, "column 'end' is neither 0 nor 1 in 1 of 20 rows, first in row 9"),
    "missing end": (planted(end=([9], None)), {}, "column 'end' is missing in 1 of 20 rows, first in row 9"),
    "end in the middle": (planted(end=([7, 8], 1)), {},
                          f"column 'end' is set although rows of the episode follow {IN_ROWS}"),
    "cut in the middle": (planted(cut=([7, 8], 1)), {"truncated": "cut"}, f"rows of the episode follow {IN_ROWS}"),
    "time twice": (planted(t=([7, 8], 17)), {},
                   "column 't' says the same as another row of the episode (rows 7 and 8 of episode stay 1)"),
    "text among numbers": (planted(x=([7, 9], "<1")), {}, f"column 'x' holds what is no number ('<1') {IN_ROWS}"),
    "text for dates": (lambda log: log.assign(t="31.1.2026"), {}, "column 't' holds text that is no date"),
    "no probability": (planted(p=([7, 9], 1.5)), {"prob": "p"}, f"column 'p' is no probability in (0, 1] {IN_ROWS}"),
    "probability 0": (planted(p=([7, 9], 0.0)), {"prob": "p"}, f"column 'p' is no probability in (0, 1] {IN_ROWS}"),
    "next_obs": (planted(next_x=([7, 9], np.nan)), {"next_obs": ["next_x", "next_y"]},
                 f"column 'next_x' is missing {IN_ROWS}"),
    "unknown label": (planted(a=([7, 9], "huge")), {"actions": ["none", "low", "high"]},
                      f"column 'a' holds ['huge'], which is not among ['none', 'low', 'high'], {IN_ROWS}"),
    "lists as actions": (planted(a=([7], [1, 0])), {}, "column 'a' holds lists or the like"),
    "lists as episodes": (planted(e=([7], [1, 0])), {}, "column 'e' holds lists or the like"),
    "lists as numbers": (planted(x=([7], [1, 0])), {}, "column 'x' holds what is no number ([1, 0]) in 1"),
    "list among text masks": (planted(may=([7], [1, 0, 1])), {"mask": "may"}, "column 'may' holds lists or the like"),
    "text among list masks": (planted(may=(range(7), [1, 1, 1])), {"mask": "may"}, "column 'may' holds what is nei"),
    "words": (lambda log: log.assign(x="a"), {}, "name the column in one_hot"),
    "numbers as text": (lambda log: log.assign(x=log["x"].astype(str)), {}, "pd.to_numeric"),
    "categories": (lambda log: log.assign(x=log["a"].astype("category")), {}, "name the column in one_hot"),
    "dates as obs": (lambda log: log.assign(x=pd.Timestamp("2026-01-31")), {}, "give hours since the episode's start"),
    "durations as obs": (lambda log: log.assign(x=pd.Timedelta("1h")), {}, "give hours since the episode's start"),
    "ranges as actions": (lambda log: log.assign(a=pd.cut(log["x"], 3)), {}, "make text, integers or booleans of it"),
    "missing word": (planted(w=([7, 9], None)), {"obs": ["x", "w"], "one_hot": "w"},
                     f"column 'w' is missing {IN_ROWS}"),
    "amounts as actions": (lambda log: pd.DataFrame({**make_log(60).to_dict("list"), "a": np.arange(300) / 7}), {},
                           "column 'a' holds 300 different entries"),
    "empty": (lambda log: log.iloc[:0], {}, "the table has no rows"),
    "twice in the table": (lambda log: pd.concat([log, log["x"]], axis=1), {}, "2 columns are called 'x'"),
    "absent": (lambda log: log.rename(columns={"x": "sofa_score"}), {"obs": ["sofa_scor"]},
               "there is no column 'sofa_scor': did you mean 'sofa_score'?"),
    "one-row episodes": (lambda log: log.assign(e=np.arange(len(log)), end=0), {}, "no row is a transition"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(fault):
    plant, given, words = FAULTS[fault]
    log = plant(make_log().assign(w="heart", may="111"))
    with pytest.raises(ValueError) as error:
        quietly(log, **{**COLUMNS, "terminated": "end", **given})
    assert words in str(error.value)


@settings(deadline=None, max_examples=100)
@given(seed=st.integers(0, 2**32), fault=st.sampled_from(["x", "y", "a", "r", "e", "t", "end"]))
def test_the_row_of_a_fault_is_its_place_in_the_shuffled_table(seed, fault):
    rng = np.random.default_rng(seed)
    log = make_log(seed=seed)
    log = log.iloc[rng.permutation(len(log))]   # with its old index, which is not what rows are counted by
    bad = np.sort(rng.choice(len(log), size=rng.integers(1, 5), replace=False))
    column = log[fault].astype(object).tolist()
    for row in bad:
        column[row] = None
    log[fault] = pd.Series(column, index=log.index, dtype=object)
    words = f"column '{fault}' is missing in {len(bad)} of 20 rows, first in row {bad[0]} "
    with pytest.raises(ValueError, match=words):
        quietly(log, **COLUMNS, terminated="end")


# Masks

MASKS = {"text": lambda rows: ["".join(map(str, row)) for row in rows], "brackets": lambda rows: list(map(str, rows)),
         "lists": lambda rows: rows, "arrays": lambda rows: [np.array(row) for row in rows],
         "booleans": lambda rows: [[bool(flag) for flag in row] for row in rows],
         "arrow": lambda rows: pd.array(rows, dtype=pd.ArrowDtype(pa.list_(pa.int8())))}


def masked_log(seed=0):
    "A log in which each action that was taken existed, and the rows of masks"
    log = make_log()
    flags = np.random.default_rng(seed).random((len(log), 3)) < 0.5
    flags[np.arange(len(log)), [("high", "low", "none").index(action) for action in log["a"]]] = True
    return log, flags.astype(int).tolist()


@pytest.mark.parametrize("form", MASKS)
def test_masks_in_one_column(form):
    log, rows = masked_log()
    for k, label in enumerate(("high", "low", "none")):
        log[f"may_{label}"] = [row[k] for row in rows]
    wide = quietly(log, **COLUMNS, terminated="end", mask=["may_high", "may_low", "may_none"])
    log["may"] = MASKS[form](rows)
    buffer = quietly(log, **COLUMNS, terminated="end", mask="may")
    assert same(buffer, wide)
    assert buffer.table.masks(log).tolist() == np.array(rows, bool).tolist()


@pytest.mark.parametrize("form", MASKS)
@pytest.mark.parametrize("row, words", [
    ([1, 1], "column 'may' does not have 3 entries in 1 of 20 rows, first in row 7"),
    ([1, 1, 2], "column 'may' holds what is neither 0 nor 1 in 1 of 20 rows, first in row 7"),
    ([0, 0, 0], "column 'may' leaves no action in 1 of 20 rows, first in row 7"),
])
def test_masks_that_are_none(form, row, words):
    if form == "booleans" and 2 in row:
        return
    log, rows = masked_log()
    rows[7] = row
    with pytest.raises(ValueError) as error:
        quietly(log.assign(may=MASKS[form](rows)), **COLUMNS, terminated="end", mask="may")
    assert words in str(error.value)


def test_a_mask_that_forbids_what_was_taken():
    log, rows = masked_log()
    log["a"] = np.where(np.arange(len(log)) % 8 == 7, "low", log["a"])
    for k in (7, 15):
        rows[k] = [1, 0, 1]
    words = "column 'may' forbids 'low', which was taken, in 2 of 20 rows, first in row 7"
    with pytest.raises(ValueError, match=words):
        quietly(log.assign(may=MASKS["text"](rows)), **COLUMNS, terminated="end", mask="may")


def test_masks_that_csv_made_numbers_of(tmp_path):
    log, rows = masked_log()
    log.assign(may=MASKS["text"](rows)).to_csv(tmp_path / "log.csv", index=False)
    with pytest.raises(ValueError, match=r"read_table\(path, text=\['may'\]\)"):
        quietly(read_table(tmp_path / "log.csv"), **COLUMNS, terminated="end", mask="may")
    read = quietly(read_table(tmp_path / "log.csv", text=["may"]), **COLUMNS, terminated="end", mask="may")
    assert same(read, quietly(log.assign(may=rows), **COLUMNS, terminated="end", mask="may"))


# What is asked for makes no sense

@pytest.mark.parametrize("given, words", [
    ({"obs": ["x", "r"]}, "column 'r' is given as obs and as reward"),
    ({"obs": ["x", "a"]}, "column 'a' is given as obs and as action"),
    ({"obs": ["x", "end"]}, "column 'end' is given as obs and as terminated"),
    ({"obs": ["x", "e"]}, "column 'e' is given as obs and as episode"),
    ({"obs": ["x", "x"]}, "column 'x' is given as obs and as obs"),
    ({"reward": "a"}, "column 'a' is given as action and as reward"),
    ({"next_obs": ["x", "y"]}, "is given as obs and as next_obs"),
    ({"next_obs": ["next_x"]}, "next_obs names 1 columns and obs 2"),
    ({"obs": []}, "obs is []"),
    ({"obs": [0, 1]}, "obs is [0, 1]: it must be the name of a column, or a list of such names"),
    ({"obs": {"x", "y"}}, "it must be the name of a column, or a list of such names"),   # a set has no order
    ({"obs": 3}, "obs is 3: it must be the name of a column, or a list"),
    ({"reward": None}, "reward is None: it must be the name of one column"),
    ({"action": None}, "action is None: it must be the name of one column"),
    ({"action": ["a", "x"]}, "action is ['a', 'x']: it must be the name of one column"),
    ({"episode": ["e"]}, "episode is ['e']: it must be the name of one column"),
    ({"time": 3}, "time is 3: it must be the name of one column"),
    ({"reward": "R"}, "there is no column 'R': did you mean 'r'?"),
    ({"one_hot": ["z"]}, "one_hot names ['z'], which obs does not"),
    ({"ends": "terminated"}, "ends is 'terminated' and terminated is 'end'"),
    ({"terminated": None}, "let ends be 'terminated' if all are, 'truncated' if none is"),
    ({"terminated": None, "ends": "died"}, "ends is 'died'"),
    ({"actions": ["none", "low", "low", "high"]}, "none of them twice"),
    ({"mask": ["x", "y"]}, "mask names 2 columns and there are 3 actions"),
    ({"next_mask": "x"}, "give it with mask and next_obs"),
    ({"mask": "may", "next_obs": ["next_x", "next_y"]}, "give it with mask and next_obs"),
])
def test_arguments(given, words):
    with pytest.raises(ValueError) as error:
        quietly(make_log().assign(may="111"), **{**COLUMNS, "terminated": "end", **given})
    assert words in str(error.value)


@pytest.mark.parametrize("table", [make_log().to_numpy(), make_log().to_dict(), make_log().to_dict("records"), None])
def test_what_is_no_table(table):
    with pytest.raises(TypeError, match="a pandas.DataFrame is taken"):
        quietly(table, **COLUMNS, ends="truncated")


# What is told

NOTES = {
    "order": (lambda log: log.iloc[[1, 0, *range(2, 20)]], {}, "1 of 20 rows stood above an earlier one"),
    "scattered": (lambda log: log.iloc[[0, 5, *range(1, 5), *range(6, 20)]], {},
                  "the rows of 2 of 4 episodes did not stand together"),
    "one row": (lambda log: log.iloc[4:], {}, "1 of 4 episodes have one row only"),
    "cut": (lambda log: log, {}, "2 of 4 episodes were cut"),
    "gone": (lambda log: log.iloc[:16], {"ends": "truncated", "terminated": None},
             "1 of them had no other row and are gone"),
    "first gone": (lambda log: log.iloc[4:], {"ends": "truncated", "terminated": None}, "1 of them had no other row"),
    "open": (lambda log: log.assign(cut=0), {"truncated": "cut"}, "2 episodes end with neither 'end' nor 'cut' set"),
    "gap": (lambda log: log.assign(t=np.where(log.index == 4, 9, log["t"])), {},
            "1 of 16 steps are longer than 1.5 times the usual one (1), the longest 6 (row 3 to 4)"),
    "one action": (lambda log: log.assign(a="low"), {}, "'low' is the only action: there is nothing to choose"),
    "rare": (lambda log: log, {"actions": ["high", "low", "none", "never"]}, "'never' 0 times"),
    "alike": (lambda log: log.assign(a=["low", "Low ", "high", "none"] * 5), {}, "['Low ', 'low'], which may be"),
    "alike words": (lambda log: log.assign(w=["ICU", "icu"] * 10), {"obs": ["x", "w"], "one_hot": "w"},
                    "['ICU', 'icu']"),
    "constant": (lambda log: log.assign(y=3), {}, "the same in all rows: 'y'"),
    "constant reward": (lambda log: log.assign(r=0), {}, "the reward is the same in all rows"),
    "wide": (lambda log: log.assign(w=[f"code {k}" for k in range(20)]).pipe(
        lambda log: pd.concat([log, log.assign(e=log["e"] + "b", w=log["w"] + "b")], ignore_index=True)),
        {"obs": ["x", "w"], "one_hot": "w"}, "'w' has 40 categories"),
    "float32": (lambda log: log.assign(x=45_292.0 + log["t"] / 1440), {}, "'x': float32 cannot tell"),
    "next_obs": (lambda log: log.assign(next_x=np.where(log.index == 6, 99, log["next_x"])),
                 {"next_obs": ["next_x", "next_y"]}, "in 1 of 16 rows (row 6 and row 7 for example)"),
}


@pytest.mark.parametrize("doubt", NOTES)
def test_notes(doubt):
    change, given, words = NOTES[doubt]
    log = change(make_log().assign(w="heart"))
    with pytest.warns(UserWarning) as warned:
        buffer = from_frame(log, **{**COLUMNS, "terminated": "end", **given})
    assert len(warned) == 1 and warned[0].filename == __file__
    assert any(words in note for note in buffer.notes), buffer.notes
    assert all(f"* {note}" in str(warned[0].message) for note in buffer.notes)


def test_a_sound_log_is_not_warned_of(tmp_path):
    log = make_log(episodes=20, length=10)
    log["end"] |= log["cut"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        buffer = from_frame(log, **COLUMNS, terminated="end")
        assert buffer.notes == ()
        noise = np.random.default_rng(0).normal(size=len(log)) * 1e-12   # in digits that float32 has not
        from_frame(log.assign(x=log["x"] + noise), **COLUMNS, terminated="end")


def test_episodes_side_by_side_are_in_order():
    log = make_log(episodes=20, length=10)
    buffer = quietly(log.sort_values("t", kind="stable"), **COLUMNS, terminated="end")
    assert buffer.notes[1:] == ("the rows of 20 of 20 episodes did not stand together: gathered",)


@pytest.mark.parametrize("dtype", ["datetime64[ns]", "object"])
def test_times_that_differ_by_less_than_a_second(dtype):
    log = make_log()
    times = [f"2026-01-31 08:00:00.00{time}" for time in log["t"]]
    timed = log.assign(t=pd.Series(times, dtype=dtype))
    assert same(quietly(timed, **COLUMNS, terminated="end"), quietly(log, **COLUMNS, terminated="end"))


def test_what_float32_cannot_tell_is_counted_within_episodes():
    "Each episode has a time of its own, a minute after the one before, which is the same in all of its rows."
    log = make_log(episodes=20, length=2)
    buffer = quietly(log.assign(x=45_292.0 + (log.index // 2) / 1440), **COLUMNS, terminated="end")
    assert not any("float32" in note for note in buffer.notes)


@pytest.mark.parametrize("count, is_told", [(9, True), (10, False)])
def test_few_is_less_than_ten(count, is_told):
    log = make_log(episodes=20, length=10).assign(a="none", end=0)
    log.loc[log.index[:count], "a"] = "low"
    buffer = quietly(log.assign(end=log["t"].eq(9)), **COLUMNS, terminated="end")
    assert any(f"'low' {count} times" in note for note in buffer.notes) == is_told


def test_terminated_and_cut_at_once_is_terminated():
    log = make_log()
    both = quietly(log.assign(cut=log["end"] | log["cut"]), **COLUMNS, terminated="end", truncated="cut")
    assert same(both, quietly(log, **COLUMNS, terminated="end"))


def test_ends_of_episodes_that_no_column_says():
    log = make_log()
    by_columns = quietly(log, **COLUMNS, terminated="end", truncated="cut")
    assert same(quietly(log, **COLUMNS, truncated="cut", ends="terminated"), by_columns)
    assert same(quietly(log, **COLUMNS, truncated="cut", ends="truncated"), quietly(log, **COLUMNS, ends="truncated"))


@pytest.mark.parametrize("seed", range(5))
def test_the_row_of_an_end_in_the_middle_is_its_place_in_the_table(seed):
    log = make_log()
    log.loc[7, "end"] = 1
    shuffled = log.iloc[np.random.default_rng(seed).permutation(20)]
    row = shuffled.index.get_loc(7)
    with pytest.raises(ValueError, match=f"rows of the episode follow in 1 of 20 rows, first in row {row} "):
        quietly(shuffled, **COLUMNS, terminated="end")


def test_the_table_stays_with_the_buffer(tmp_path):
    log = make_log(labels=(0, 3, 7))
    buffer = quietly(log, **COLUMNS, terminated="end")
    buffer.save(tmp_path / "log.npz")
    back = type(buffer).load(tmp_path / "log.npz")
    assert back.table == buffer.table and back.notes == buffer.notes and same(back, buffer)
    assert back.table.observations(log).tolist() == np.float32(log[["x", "y"]]).tolist()


def test_a_category_that_only_follows():
    log = make_log().assign(w="heart", next_w="heart")
    log.loc[19, "next_w"] = "home"
    buffer = quietly(log, **COLUMNS | {"obs": ["x", "w"]}, one_hot="w", next_obs=["next_x", "next_w"], terminated="end")
    assert buffer.table.names == ["x", "w=heart", "w=home"]
    assert buffer.store.next_obs[-1].tolist()[1:] == [0, 1] and buffer.store.next_obs[0].tolist()[1:] == [1, 0]


@pytest.mark.parametrize("actions", [[0, 3, 7], np.array([0, 3, 7]), pd.Index([0, 3, 7]), range(8)])
def test_labels_given_in_any_list(actions):
    buffer = quietly(make_log(labels=(0, 3, 7)), **COLUMNS, terminated="end", actions=actions)
    assert Table.from_json(json.loads(json.dumps(buffer.table.to_json()))) == buffer.table
    assert buffer.table.actions == tuple(actions)


def test_categories_come_in_their_own_order():
    log = make_log()
    log["a"] = pd.Categorical(log["a"], ["none", "low", "high", "never"])
    buffer = quietly(log, **COLUMNS, terminated="end")
    assert buffer.table.actions == ("none", "low", "high", "never") and buffer.n_actions == 4


# A table that is acted on

TABLE = Table(("x", "ward"), "a", ("none", "low"), {"ward": ("heart", "surgery")}, mask=("may_none", "may_low"))
NEW = pd.DataFrame({"x": [1.0, 2.0], "ward": ["surgery", "heart"], "may_none": [1, 1], "may_low": [0, 1]})


def test_what_an_agent_is_given():
    assert TABLE.observations(NEW).tolist() == [[1, 0, 1], [2, 1, 0]]
    assert TABLE.masks(NEW).tolist() == [[True, False], [True, True]]
    assert TABLE.observations(NEW.iloc[:0]).shape == (0, 3) and TABLE.masks(NEW.iloc[:0]).shape == (0, 2)


@pytest.mark.parametrize("change, words", [
    ({"x": [1.0, None]}, "column 'x' is missing in 1 of 2 rows, first in row 1"),
    ({"ward": ["surgery", "home"]}, "column 'ward' holds ['home'], which is not among ['heart', 'surgery'],"),
    ({"ward": ["surgery", None]}, "column 'ward' is missing in 1 of 2 rows, first in row 1"),
    ({"ward": [pd.Timestamp("2026-01-31")] * 2}, "column 'ward' holds Timestamp('2026-01-31 00:00:00'), of type"),
])
def test_what_an_agent_is_not_given(change, words):
    with pytest.raises(ValueError) as error:
        TABLE.observations(NEW.assign(**change))
    assert words in str(error.value)


def test_masks_that_leave_no_action():
    with pytest.raises(ValueError, match="column 'may_none may_low' leaves no action in 1 of 2 rows, first in row 0"):
        TABLE.masks(NEW.assign(may_none=0))


@pytest.mark.parametrize("labels", [("a", "b"), (0, 5), (0.5, 1.0), (False, True), (1, "a"), (0, 2.5)])
def test_labels_keep_their_types(labels):
    table = Table.from_json(json.loads(json.dumps(Table(("x",), "a", labels).to_json())))
    found = table.labels([1, 0]).tolist()
    assert found == [labels[1], labels[0]] and [type(label) for label in found] == [type(labels[1]), type(labels[0])]
    assert table.labels(torch.tensor([1])).tolist() == [labels[1]]
    frame = pd.DataFrame({"a": pd.Series(table.labels([1, 0, 1]))})
    assert table.numbers(frame).tolist() == [1, 0, 1]


# Files

@pytest.mark.parametrize("name, bytes_, error, words", [
    ("log.xlsx", b"", ValueError, "is no .csv, .csv.gz or .parquet"),
    ("log.txt", b"", ValueError, "is no .csv, .csv.gz or .parquet"),
    ("log", b"", ValueError, "is no .csv, .csv.gz or .parquet"),
    ("none.csv", None, FileNotFoundError, "there is no file"),
    ("log.csv", b"", ValueError, "cannot be read as a table"),
    ("log.csv", b"a,b,a\n1,2,3\n", ValueError, "several columns are called 'a'"),
    ("log.csv", b"a;b;c\n1;2;3\n", ValueError, "separated by semicolons"),
    ("log.csv", b"a;b;c\n1,5;2;3\n", ValueError, "separated by semicolons"),
    ("log.csv", b"a\tb\tc\n1\t2\t3\n", ValueError, "separated by tabs"),
    ("log.csv", b"a,b\n1,2\n1,2,3,4\n", ValueError, "cannot be read as a table"),
    ("log.csv", b"a,b\n1,2,3\n4,5,6\n", ValueError, "saw 3"),
    ("log.csv", b"a,b\n1,2,\n4,5,\n", ValueError, "saw 3"),
    ("log.csv", b"\xff\xfe\x00", ValueError, "cannot be read as a table"),
    ("log.csv.gz", b"a,b\n1,2\n", ValueError, "cannot be read as a table"),
    ("log.parquet", b"a,b\n1,2\n", ValueError, "cannot be read as a table"),
])
def test_files(name, bytes_, error, words, tmp_path):
    if bytes_ is not None:
        (tmp_path / name).write_bytes(bytes_)
    with pytest.raises(error) as caught:
        read_table(tmp_path / name)
    assert words in str(caught.value)


def test_of_many_columns_some_are_listed():
    wide = make_log().join(pd.DataFrame({f"feature {k}": np.zeros(20) for k in range(2000)}))
    with pytest.raises(ValueError, match=r"there is no column 'zz': the columns are \[.*'feature 8'\] and 1991 more"):
        quietly(wide, **{**COLUMNS, "obs": "zz"}, ends="truncated")


def test_text_names_columns_of_the_file(tmp_path):
    (tmp_path / "log.csv").write_text("ward,dose\n007,1\n")
    assert read_table(tmp_path / "log.csv", text=["ward"])["ward"].tolist() == ["007"]
    with pytest.raises(ValueError, match="there is no column 'wart': did you mean 'ward'?"):
        read_table(tmp_path / "log.csv", text=["wart"])


@pytest.mark.parametrize("module, name", [("pandas", "log.csv"), ("pyarrow", "log.parquet")])
def test_without_pandas(module, name, tmp_path):
    "In a process of its own, in which the module cannot be imported"
    make_log().to_csv(tmp_path / "log.csv")
    make_log().to_parquet(tmp_path / "log.parquet")
    code = f"""
import sys
for name in {['pyarrow', 'fastparquet'] if module == 'pyarrow' else ['pandas']}:
    sys.modules[name] = None
from bcq_nb.logs import read_table
try:
    read_table({str(tmp_path / name)!r})
except ImportError as error:
    assert "pip install 'bcq_nb[data]'" in str(error), error
    print("said")
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout == "said\n", run.stderr
