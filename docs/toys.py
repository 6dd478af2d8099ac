"""Three things to touch, of what the package computes. Their scripts are docs/_static/{squares,threshold,noise}.js.

Each stands in nbs/touch.md as a line `<!-- toy: NAME -->`. What is put there can be read without a script.
"""
import json
import re
from pathlib import Path

import numpy as np

from bcq_nb.extrapolation import MOVES, batch_constrained_q_learning, greedy, hikers, q_learning, state_values
from bcq_nb.generation import action_ratio

static = Path(__file__).parent / "_static"


def box(name: str, fallback: str, data: dict | list) -> str:
    "What a script finds: the fallback, which it replaces, and its data"
    as_json = json.dumps(data).replace("<", "\\u003c")
    return (f'<div class="toy" id="toy-{name}">{fallback}</div>'
            f'<script type="application/json" id="data-{name}">{as_json}</script>'
            f'<script defer src="_static/{name}.js"></script>')


def squares() -> str:
    "The map of the hikers: where each move leads, what it brings, and their walks"
    mdp, batch = hikers()
    walks: list[list[int]] = [[]]
    for action, terminated in zip(batch.action.tolist(), batch.terminated.tolist(), strict=True):
        walks[-1].append(action)
        if terminated:
            walks.append([])
    next_state = mdp.p.argmax(-1)
    rewards = np.take_along_axis(mdp.r, next_state[:, :, None], axis=2)[:, :, 0]
    data = {"next": next_state.tolist(), "reward": rewards.tolist(), "terminal": mdp.terminal.tolist(), "width": 4,
            "start": int(batch.state[0]), "discount": mdp.discount, "walks": walks[:-1], "moves": list(MOVES),
            "letters": list("........SCCG")}
    q = q_learning(batch, np.zeros((12, 4)), mdp.discount, 20_000)
    q_constrained, policy = batch_constrained_q_learning(batch, np.zeros((12, 4)), mdp.discount, 20_000)
    free, kept = (state_values(mdp, chosen)[8] for chosen in (greedy(q), policy))
    fallback = ("<p>Without a script the map cannot be walked here. From the three hikers Q-learning learns to believe "
                f"in {q[8].max():.1f} and gets {free:.1f}; with the constraint it believes in "
                f"{q_constrained[8, 0]:.1f} and gets {kept:.1f}.</p>")
    return box("squares", fallback, data)


def threshold() -> str:
    "Steps of an episode: the observation, what BCQ believes, and how likely each action is in the log"
    states = json.loads((static / "states.json").read_text(encoding="utf-8"))
    rows = []
    for step in (0, 1, 16, 17):
        q, p = states[step]["q"], states[step]["p"]
        cells = (step, f"{q[0]:.2f}, {q[1]:.2f}", f"{p[0]:.2f}, {p[1]:.2f}", f"{min(p) / max(p):.2f}")
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    heads = "".join(f'<th scope="col">{head}</th>' for head in
                    ("step", "value of left, right", "in the log", "the less likely is allowed where τ is below"))
    return box("threshold", f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>", states)


def noise() -> str:
    "How likely, beside the favorite, each other action of a noisy policy is"
    shares = (0.05, 0.1, 0.2, 0.5, 0.9)
    heads = "".join(f'<th scope="col">ε = {eps:g}</th>' for eps in shares)
    rows = []
    for n in (2, 4, 18):
        cells = "".join(f"<td>{action_ratio(eps, n):.3f}</td>" for eps in shares)
        rows.append(f'<tr><th scope="row">{n} actions</th>{cells}</tr>')
    fallback = f"<table><thead><tr><td></td>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return box("noise", fallback, {"eps": 0.2, "n": 2, "tau": 0.3})


TOYS = {"squares": squares, "threshold": threshold, "noise": noise}


def put_in(app, docname: str, source: list[str]) -> None:
    "The toys, in the places that a page keeps for them"
    if docname == "touch":
        source[0] = re.sub(r"<!-- toy: (\w+) -->", lambda place: TOYS[place[1]](), source[0])
