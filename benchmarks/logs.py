"""Time and memory that a table of a million rows takes on its way into a buffer.

`python benchmarks/logs.py`

The table has eight columns of float64 that are observed, an action, a reward, an episode and a time; its rows are
shuffled. It is then read from a CSV file and from a Parquet file, too. Memory is the most that was allocated on the way
besides the table, the buffer among it, as `tracemalloc` counts it in a second run.
"""
import tempfile
import time
import tracemalloc
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from bcq_nb.logs import from_frame, read_table

ROWS, LENGTH = 1_000_000, 50   # rows; rows of an episode
OBS = [f"x{k}" for k in range(8)]
COLUMNS = {"obs": OBS, "action": "action", "reward": "reward", "episode": "episode", "time": "time",
           "ends": "truncated"}


def make_table(rows=ROWS):
    "Random numbers in shuffled episodes"
    rng = np.random.default_rng(0)
    columns = {name: rng.normal(size=rows) for name in OBS}
    columns |= {"action": rng.integers(5, size=rows), "reward": rng.normal(size=rows),
                "episode": np.arange(rows) // LENGTH, "time": np.arange(rows) % LENGTH * 1.0}
    shuffled = rng.permutation(rows)
    return pd.DataFrame({name: column[shuffled] for name, column in columns.items()})


def seconds_of(function):
    "How long it takes"
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def bytes_of(function):
    "The most that it allocates"
    tracemalloc.start()
    function()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def main():
    warnings.simplefilter("ignore")   # there are gaps, and the episodes are cut
    table = make_table()
    size = table.memory_usage(index=False).sum()
    print(f"a table of {ROWS:,} rows and {size / 1e6:.0f} MB")
    convert = partial(from_frame, table, **COLUMNS)
    seconds, extra = seconds_of(convert), bytes_of(convert)
    print(f"DataFrame {seconds:5.2f} s, {extra / 1e6:.0f} MB besides the table: {extra / size:.2f} times its size")
    with tempfile.TemporaryDirectory() as folder:
        csv, parquet = Path(folder, "log.csv"), Path(folder, "log.parquet")
        table.to_csv(csv, index=False)
        table.to_parquet(parquet)
        for path in (csv, parquet):
            read = partial(read_table, path)
            to_read = seconds_of(read)
            seconds = to_read + seconds_of(partial(from_frame, read(), **COLUMNS))
            print(f"{path.suffix:9} {seconds:5.2f} s, of which {to_read:.2f} s to read it")


if __name__ == "__main__":
    main()
