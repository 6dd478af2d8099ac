"""Writes bcq_nb/data/icu_sepsis.npz from the two data files of the package icu-sepsis 2.0.1 (MIT license).

    pip download --no-deps icu-sepsis==2.0.1 && unzip -d icu icu_sepsis-2.0.1-py3-none-any.whl
    python tools/icu_data.py icu/icu_sepsis/envs/assets

Every probability in those files is a fraction of two small integers: so many of the visits. The integers are kept
instead: they take a tenth of the space. `bcq_nb.sepsis` divides them again, and `check` compares the outcome.
"""
from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

DATA = Path(__file__).parents[1] / "bcq_nb" / "data" / "icu_sepsis.npz"
LIVE = 713   # states of a patient in care; three more say how it ended


def as_counts(row: np.ndarray, most: int = 30_000) -> np.ndarray:
    "Probabilities as the smallest integers of which they are the shares"
    for visits in range(1, most):
        counts = row * visits
        if np.abs(counts - counts.round()).max() < 1e-6:
            return counts.round().astype(np.uint16)
    raise ValueError(f"no denominator below {most} makes integers of {row[row > 0][:5]}")


def read_admissible(path: Path) -> list[list[int]]:
    "The actions that may be taken, state by state; the first line says how many each has"
    lines = [[int(word) for word in line.split()] for line in path.read_text().splitlines()]
    sizes, states = lines[0], lines[1:]
    assert [len(actions) for actions in states[:len(sizes)]] == sizes
    return states[:LIVE]


def compress(assets: Path) -> dict[str, np.ndarray]:
    "The arrays of the file"
    given = dict(np.load(assets / "dynamics.npz"))   # read once
    pairs = [(s, a) for s, actions in enumerate(read_admissible(assets / "admissible_actions.txt")) for a in actions]
    rows = np.array([as_counts(given["tx_mat"][s, a]) for s, a in pairs])   # (pairs, 716)
    pair, next_state = np.nonzero(rows)
    return {"pairs": np.array(pairs, np.uint16), "pair": pair.astype(np.uint16),
            "next_state": next_state.astype(np.uint16), "count": rows[pair, next_state],
            "clinicians": np.array([as_counts(row) for row in given["expert_policy"][:LIVE]]),
            "start": as_counts(given["d_0"])[:LIVE],
            "features": given["state_cluster_centers"][:LIVE].astype(np.float32),
            "sofa": given["sofa_scores"][:LIVE].astype(np.float32)}


def check(assets: Path) -> None:
    "Compare what the package reads with what was given"
    from bcq_nb.sepsis import load_hospital

    given, hospital = np.load(assets / "dynamics.npz"), load_hospital()
    for name, ours in (("tx_mat", hospital.mdp.p), ("r_mat", hospital.mdp.r), ("expert_policy", hospital.clinicians),
                       ("d_0", hospital.start), ("state_cluster_centers", hospital.features),
                       ("sofa_scores", hospital.sofa)):
        theirs = given[name][:LIVE] if name != "d_0" else given[name]
        difference = np.abs(theirs - ours[:len(theirs)]).max()
        print(f"{name}: differs by at most {difference:.1e}")


if __name__ == "__main__":
    DATA.parent.mkdir(exist_ok=True)
    np.savez_compressed(DATA, **compress(Path(sys.argv[1])))
    print(f"{DATA.name}: {DATA.stat().st_size / 1024:.0f} KB")
    check(Path(sys.argv[1]))
