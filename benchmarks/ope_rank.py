"""Does FQE rank policies as their returns do? `python benchmarks/ope_rank.py` writes bcq_nb/results/ope_rank.csv.

CartPole and Acrobot, three seeds each. A behavior policy is trained online for a while and writes 40,000 transitions
with the authors' mix of noise: no random action in one episode of five, and one in five actions in the others. From
half of the episodes discrete BCQ learns, with five thresholds and four stopping points. The other half judges the 20
policies by `fit_q` with its defaults but for two layers of 64 and batches of 256, and the 1,000 updates that
`updates_needed` asks for. The true return of each is the mean of 100 episodes, the same starts for all.

What FQE estimates is the *discounted* return, so this is told, too: in both worlds each step pays the same until it is
over, and a return tells how many steps paid. Episodes are cut after 500 steps, and FQE values what would follow: at a
discount of 0.98 that is worth less than 0.01 of a full 50.

A row is a policy: its true return and discounted return, what FQE says and how far it moved at last, what the policy
claims, and what share of its decisions was hardly ever made (`untried`). `behavior` is the return of the behavior
policy without noise. Written when a policy is judged: a study that was stopped goes on where it was. Delete the file to
start anew.

The rule for reading, written down before any of these seeds was looked at (seed 100 was used to find what it costs):

1. A ranking is told by the rank correlation (Spearman) over the 20 policies of a seed, of FQE and of the claim, with
   the true return and with the true discounted return.
2. Apart from that, over the policies that `bcq_nb.selection` would not call untried, where they are five at least.
3. Policies whose returns differ by less than the noise of 100 episodes cannot be ranked. So the spread of the true
   returns is told beside the correlations.
"""
from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from cells import finished, key_of, settle, write

from bcq_nb.bcq import BCQConfig, DiscreteBCQ
from bcq_nb.buffers import ReplayBuffer
from bcq_nb.dqn import DQN, DQNConfig, train_behavioral
from bcq_nb.evaluation import evaluate
from bcq_nb.evidence import Logged, gather, policy_table, read_behavior
from bcq_nb.fqe import FQEConfig, fit_q, moved, start_slots
from bcq_nb.generation import generate_buffer
from bcq_nb.outcome import final_seed
from bcq_nb.selection import stopping_points
from bcq_nb.training import Exploration
from bcq_nb.verdict import claim_of, support_of

ENVS = ("CartPole-v1", "Acrobot-v1")   # number 0 and 1 in the table
SEEDS = (0, 1, 2)
BEHAVIOR_STEPS = 20_000                # of training online
TRANSITIONS = 40_000
THRESHOLDS = (0.0, 0.1, 0.3, 0.5, 0.9)
UPDATES = 2_000
EVERY = 500                            # updates from one stopping point to the next
DISCOUNT = 0.98
EPISODES = 100
FQE_CONFIG = FQEConfig(hidden=(64, 64), batch_size=256)
FQE_UPDATES = 1_000

KEY = ["env", "seed", "tau", "updates"]   # all columns are numbers


def behavior_policy(env: int, seed: int) -> DQN:
    "A policy trained for a while"
    return train_behavioral(ENVS[env], BEHAVIOR_STEPS, DQNConfig.small(), Exploration.small(), seed, device="cpu",
                            progress=False)


def learn(buffer: ReplayBuffer, tau: float, seed: int) -> list[DiscreteBCQ]:
    "An agent at each stopping point"
    config = BCQConfig.small(threshold=tau, discount=DISCOUNT)
    agent = DiscreteBCQ(buffer.obs_space, buffer.n_actions, config, seed, device="cpu")
    return stopping_points(agent, buffer, UPDATES, EVERY, seed=seed, progress=False)


def discounted(returns: np.ndarray) -> float:
    "The mean discounted return of episodes in which each step pays 1, or each step costs 1"
    paid = np.abs(returns)
    size = (1 - DISCOUNT ** paid) / (1 - DISCOUNT)
    return float((np.sign(returns) * size).mean())


def judge(env: int, seed: int, agent: DiscreteBCQ, logged: Logged) -> dict[str, float]:
    "What FQE and the agent itself say, and the truth"
    probabilities = policy_table(agent, logged)
    taken = probabilities[np.arange(len(logged.action)), logged.action]
    weight = gather(probabilities, logged, DISCOUNT).weight[:, -1]
    support = support_of(weight, taken, probabilities, logged.imitated)
    model = fit_q(agent, logged.buffer, DISCOUNT, FQE_CONFIG, FQE_UPDATES, seed, "cpu")
    starts = logged.buffer.transitions(start_slots(logged.buffer))
    played = evaluate(agent, ENVS[env], EPISODES, final_seed(seed), n_envs=EPISODES)
    low, high = played.interval
    return {"true": played.mean, "low": low, "high": high, "true_discounted": discounted(played.returns),
            "fqe": model.state_values(starts.obs).mean().item(), "moved": moved(model, logged.buffer),
            "claim": claim_of(agent, logged, probabilities), "untried": support.untried}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    results = Path(__file__).parents[1] / "bcq_nb" / "results"
    parser.add_argument("--out", type=Path, default=results, help="where the table goes")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="which, 0 to 2 by default")
    args = parser.parse_args()

    settle()
    path = args.out / "ope_rank.csv"
    rows = finished(path)
    done = {key_of(row, KEY) for row in rows}
    for seed in args.seeds:
        for env in range(len(ENVS)):
            cells = [{"env": env, "seed": seed, "tau": tau, "updates": updates}
                     for tau in THRESHOLDS for updates in range(EVERY, UPDATES + 1, EVERY)]
            if all(key_of(cell, KEY) in done for cell in cells):
                continue
            began = time.process_time()
            policy = behavior_policy(env, seed)
            behavior = evaluate(policy, ENVS[env], EPISODES, final_seed(seed), n_envs=EPISODES).mean
            log = generate_buffer(policy, ENVS[env], TRANSITIONS, seed=seed, progress=False)
            learned_from, held_out = log.split(0.5, seed)
            logged = read_behavior(held_out, seed=seed, device="cpu")
            agents = [agent for tau in THRESHOLDS for agent in learn(learned_from, tau, seed)]
            for cell, agent in zip(cells, agents, strict=True):
                if key_of(cell, KEY) not in done:
                    rows.append({**cell, "behavior": behavior, **judge(env, seed, agent, logged)})
                    write(path, rows, KEY)
            print(ENVS[env], seed, f"{time.process_time() - began:.0f} s of a core", file=sys.stderr)


if __name__ == "__main__":
    main()
