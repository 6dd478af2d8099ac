"""What the studies have in common: one thread, and a table that grows by a row for each cell that is finished."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from bcq_nb.files import read_rows, write_rows


def settle() -> None:
    "What the command does, too: one thread, and no time spent on numbers too small to matter"
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


def finished(path: Path) -> list[dict]:
    "The rows that an earlier run has written"
    return read_rows(path) if path.is_file() else []


def key_of(row: dict, names: Sequence[str]) -> tuple[float, ...]:
    "What names a cell: its entries under these names, as far as it has them"
    return tuple(float(row[name]) for name in names if name in row)


def write(path: Path, rows: list[dict], names: Sequence[str]) -> None:
    "All rows, in the order of their keys, whatever the order in which they were finished"
    rows = sorted(rows, key=lambda row: key_of(row, names))
    known = [{name: f"{value:.6g}" for name, value in row.items() if not np.isnan(value)} for row in rows]
    write_rows(path, known)   # what is not known stays empty
