"""What notebook 12c reads: `python benchmarks/comparison_files.py OUT NAME` writes NAME.csv and NAME_curves.csv.

They go to bcq_nb/results. OUT is the folder that `bcq study` wrote. A row is a training: all that OUT/rows.csv says
of it but the settings, which follow from the plan (benchmarks/comparison*.toml) and the version. A row of the curves
is an evaluation on the way.
"""
from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

RESULTS = Path(__file__).parents[1] / "bcq_nb" / "results"
LEFT_OUT = ["phase", "key", "config", "changes", "updates", "steps_per_episode", "batch_episodes", "warnings"]
CELL = ["environment", "batch", "algorithm", "seed"]


def read_study(
    out: Path,   # the folder of a study
) -> tuple[pd.DataFrame, pd.DataFrame]:
    "Its trainings, and their curves"
    rows = pd.read_csv(out / "rows.csv")
    rows = rows[rows["phase"] == "train"].drop(columns=LEFT_OUT).sort_values(CELL)
    curves = []
    for cell in rows[CELL].itertuples(index=False):
        curve = pd.read_csv(out / cell.environment / cell.batch / cell.algorithm / f"seed{cell.seed}" / "curve.csv")
        curve = curve[["step", "return"]]
        for column in reversed(CELL):
            curve.insert(0, column, getattr(cell, column))
        curves.append(curve)
    return rows[CELL + [column for column in rows if column not in CELL]], pd.concat(curves)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the folder of the study")
    parser.add_argument("name", help="of the tables: comparison, comparison_grid")
    parser.add_argument("--commit", help="of the package, where it was no repository that ran")
    args = parser.parse_args()

    rows, curves = read_study(args.out)
    if args.commit:
        rows["commit"] = args.commit
    numbers = {"index": False, "float_format": "%.6g", "lineterminator": "\n"}
    rows.to_csv(RESULTS / f"{args.name}.csv", **numbers)
    curves.to_csv(RESULTS / f"{args.name}_curves.csv", **numbers)
    print(f"{len(rows)} trainings, {len(curves)} evaluations")


if __name__ == "__main__":
    main()
