"""What BCQ thinks at each step of the home page's film: docs/_static/states.json, for the threshold to be tried on.

The agent is trained as nbs/index.ipynb does it. `python tools/states.py`, half a minute; to be run again after index.
"""
import json
from pathlib import Path

import numpy as np

from bcq_nb.bcq import BCQConfig, DiscreteBCQ, train_offline
from bcq_nb.dqn import DQNConfig, train_behavioral
from bcq_nb.environments import make_env
from bcq_nb.generation import generate_buffer
from bcq_nb.thoughts import ask
from bcq_nb.training import Exploration

STEPS = 60



def rounded(numbers: np.ndarray, digits: int) -> list[float]:
    "As few digits as can be seen"
    return [round(float(number), digits) for number in numbers]


settings = {"hidden": (64, 64), "lr": 1e-3, "discount": 0.95}
online = DQNConfig(**settings, target_rate=0.01)
behavior = train_behavioral("CartPole-v1", 10_000, online, Exploration(train_every=8), progress=False)
log = generate_buffer(behavior, "CartPole-v1", steps=20_000, rand_action_p=0.2, progress=False)
bcq = DiscreteBCQ(log.obs_space, log.n_actions, BCQConfig(**settings, target_rate=0.02, threshold=0.3))
train_offline(bcq, log, steps=4_000, progress=False)

env = make_env("CartPole-v1", 0)
obs, _ = env.reset()
states = []
for _ in range(STEPS):
    view = ask(bcq, obs, 2)
    states.append({"obs": rounded(obs, 4), "q": rounded(view.q, 3), "p": rounded(view.p, 3)})
    obs, *_ = env.step(int(bcq.act(obs[None])[0]))
path = Path(__file__).resolve().parents[1] / "docs/_static/states.json"
path.write_text("[\n" + ",\n".join(map(json.dumps, states)) + "\n]\n", encoding="utf-8")
