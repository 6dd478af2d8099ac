"""Off-policy evaluation as a stranger would try it: logs, policies and truths that the notebooks have not seen."""
import json

import numpy as np
import pytest
import torch

from bcq_nb.bcq import BCQConfig, DiscreteBCQ, train_offline
from bcq_nb.buffers import ReplayBuffer
from bcq_nb.evidence import Evidence, action_probabilities, gather, policy_table, read_behavior
from bcq_nb.fqe import FQEConfig
from bcq_nb.imitation import imitate
from bcq_nb.ope import (
    bootstrap,
    direct_method,
    doubly_robust,
    estimate,
    importance_sampling,
    per_decision_importance_sampling,
    weighted_doubly_robust,
    weighted_importance_sampling,
    weighted_per_decision_importance_sampling,
)
from bcq_nb.selection import select, stopping_points
from bcq_nb.verdict import Interval, effective_size, interval_of

FAST = FQEConfig(hidden=(16,), batch_size=64)
WEIGHTS = (importance_sampling, weighted_importance_sampling, per_decision_importance_sampling,
           weighted_per_decision_importance_sampling)
MODELS = (direct_method, doubly_robust, weighted_doubly_robust)


def bandit(n=400, seed=0, share=0.5, pays=(0.2, 0.7), probs=True, masks=False):
    "A log of two arms, one pull an episode"
    rng = np.random.default_rng(seed)
    arm = (rng.random(n) < share).astype(int)
    reward = rng.random(n) < np.array(pays)[arm]
    told = {"prob": np.where(arm == 1, share, 1 - share)} if probs else {}
    if masks:
        told |= {"mask": np.ones((n, 2), bool), "next_mask": np.ones((n, 2), bool)}
    return ReplayBuffer.from_arrays(np.ones((n, 1)), arm, reward, np.ones((n, 1)), np.ones(n, bool), np.zeros(n, bool),
                                    n_actions=2, **told)


def corridor(n=300, steps=4, seed=0, right=0.6, probs=True):
    "Walks of a fixed number of steps: right pays 1, left nothing; the place is the number of steps to the right so far"
    rng = np.random.default_rng(seed)
    went = (rng.random((n, steps)) < right).astype(int)
    place = np.cumsum(went, axis=1) - went
    time = np.tile(np.arange(steps), (n, 1))
    obs = np.stack([place, time], axis=2).reshape(-1, 2)
    after = np.stack([place + went, time + 1], axis=2).reshape(-1, 2)
    last = (time == steps - 1).ravel()
    told = {"prob": np.where(went == 1, right, 1 - right).ravel()} if probs else {}
    went, never = went.ravel(), np.zeros(len(last), bool)
    return ReplayBuffer.from_arrays(obs, went, went.astype(float), after, last, never, n_actions=2, **told)


def constant(*probabilities):
    "A policy that does not look"
    def policy(obs, mask):
        return np.tile(probabilities, (len(obs), 1))
    return policy


def random_evidence(seed, n=30, steps=5):
    "Ratios and rewards of any kind, with values"
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, steps + 1, n)
    held = np.arange(steps) < lengths[:, None]
    reward, ratio = rng.normal(size=(n, steps)) * held, np.where(held, rng.exponential(size=(n, steps)), 1.0)
    q = rng.normal(size=(n, steps)) * held
    v = np.zeros((n, steps + 1))
    v[:, :-1] = rng.normal(size=(n, steps)) * held
    return Evidence(reward, ratio, 0.9, q, v)


# Estimators

@pytest.mark.parametrize("estimator", WEIGHTS + MODELS)
def test_counting_an_episode_twice_is_having_it_twice(estimator):
    evidence = random_evidence(0)
    times = np.ones(30)
    times[3], times[7] = 2, 0
    rows = np.repeat(np.arange(30), times.astype(int))
    longer = Evidence(*(column[rows] for column in (evidence.reward, evidence.ratio)), 0.9, evidence.q[rows],
                      evidence.v[rows])
    assert np.isclose(estimator(evidence, times), estimator(longer))


@pytest.mark.parametrize("estimator", WEIGHTS + MODELS)
def test_estimates_do_not_depend_on_the_order_or_on_room_behind(estimator):
    evidence = random_evidence(1)
    order = np.random.default_rng(0).permutation(30)
    turned = Evidence(evidence.reward[order], evidence.ratio[order], 0.9, evidence.q[order], evidence.v[order])
    assert np.isclose(estimator(evidence), estimator(turned))
    behind = ((0, 0), (0, 3))
    reward, q, v = (np.pad(column, behind) for column in (evidence.reward, evidence.q, evidence.v))
    wider = Evidence(reward, np.pad(evidence.ratio, behind, constant_values=1.0), 0.9, q, v)
    assert np.isclose(estimator(evidence), estimator(wider))


@pytest.mark.parametrize("estimator", WEIGHTS + MODELS)
def test_many_countings_at_once_are_each_of_them(estimator):
    evidence = random_evidence(2)
    times = np.random.default_rng(0).integers(0, 3, (4, 30)).astype(float)
    together = estimator(evidence, times)
    assert together.shape == (4,)
    assert np.allclose(together, [estimator(evidence, row) for row in times])


@pytest.mark.parametrize("estimator", WEIGHTS)
def test_whoever_wrote_the_log_gets_what_it_got(estimator):
    logged = read_behavior(corridor(), device="cpu")
    evidence = gather(policy_table(constant(0.4, 0.6), logged), logged, 0.9)
    assert np.allclose(evidence.ratio, 1, atol=1e-6)
    assert np.isclose(estimator(evidence), evidence.returns.mean())


@pytest.mark.parametrize("estimator", MODELS)
def test_estimators_that_need_a_model_say_so(estimator):
    with pytest.raises(ValueError, match="holds no values of a model"):
        estimator(Evidence(np.ones((2, 1)), np.ones((2, 1))))


def test_unbiased_ones_are_right_in_the_mean():
    "Over many logs of a world that fits in the head: two steps, right pays 1, the policy goes right nine times in ten"
    found = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        right = rng.random((50, 2)) < 0.5
        ratio = np.where(right, 0.9, 0.1) / 0.5
        wrong = np.full((50, 2), 0.3)   # a model that is wrong does not spoil DR
        evidence = Evidence(right.astype(float), ratio, 1.0, wrong, np.pad(wrong, ((0, 0), (0, 1))))
        found.append([estimator(evidence) for estimator in (importance_sampling, per_decision_importance_sampling,
                                                            doubly_robust)])
    error = np.std(found, axis=0) / np.sqrt(200)
    assert (np.abs(np.mean(found, axis=0) - 1.8) < 4 * error).all()


def test_intervals_hold_the_truth_as_often_as_they_say():
    "The bandit: 200 logs of 200 pulls; 95 % less four standard errors of the share"
    holds = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        arm = rng.random(200) < 0.5
        reward = rng.random(200) < np.where(arm, 0.7, 0.2)
        evidence = Evidence(reward[:, None].astype(float), (arm / 0.5)[:, None])
        drawn = bootstrap(evidence, weighted_importance_sampling, seed)
        interval = interval_of(weighted_importance_sampling(evidence), drawn)
        holds.append(interval.low <= 0.7 <= interval.high)
    assert np.mean(holds) > 0.95 - 4 * np.sqrt(0.95 * 0.05 / 200)


def test_weights_that_no_float_holds_speak_for_nothing():
    evidence = Evidence(np.ones((3, 400)), np.full((3, 400), 1e3))
    assert np.isinf(evidence.weight[:, -1]).all()
    assert effective_size(evidence.weight[:, -1]) == 0


# Verdicts

def test_two_arms():
    verdict = estimate(constant(0, 1), bandit(), discount=1.0, config=FAST, updates=300, device="cpu")
    assert abs(verdict.wis.value - 0.7) < 0.1 and verdict.wis.low < 0.7 < verdict.wis.high
    assert abs(verdict.fqe - verdict.wis.value) < 0.03   # one state: both are the mean reward of arm 1
    assert verdict.gain.at_least > 0 and verdict.answer.startswith("Better")
    assert verdict.claim is None and verdict.cut == 0
    json.dumps(verdict.to_json(), allow_nan=False)


def test_the_order_of_a_log_does_not_matter():
    buffer = corridor()
    episodes = list(buffer.episodes())
    turned = buffer.part([episodes[i] for i in np.random.default_rng(0).permutation(len(episodes))])
    policy = constant(0.2, 0.8)
    first, second = (estimate(policy, log, discount=1.0, config=FAST, updates=20, device="cpu")
                     for log in (buffer, turned))
    assert np.isclose(first.wis.value, second.wis.value)
    assert np.isclose(first.support.effective, second.support.effective)


@pytest.mark.parametrize("probs", [True, False])
def test_a_policy_that_does_what_nobody_did_is_refused(probs):
    log = bandit(share=1.0, probs=probs)
    verdict = estimate(constant(1, 0), log, discount=1.0, config=FAST, updates=100, device="cpu")
    assert verdict.wis is None and verdict.fqe is None and verdict.wdr is None
    assert verdict.support.untried > 0.9
    assert verdict.answer.startswith("This log cannot tell")
    assert "cannot tell" in str(verdict)
    json.dumps(verdict.to_json(), allow_nan=False)


def test_what_nobody_did_is_not_made_up_for_by_what_was_done():
    "Arm 2 is never pulled, and may cost anything: the other 85 % of the policy's pulls do not speak for it"
    log = bandit(400)
    columns = log.transitions(log.slots())
    wider = ReplayBuffer.from_arrays(columns.obs, columns.action, columns.reward, columns.next_obs,
                                     np.ones(400, bool), np.zeros(400, bool), n_actions=3, prob=np.full(400, 0.5))
    verdict = estimate(constant(0, 0.85, 0.15), wider, discount=1.0, config=FAST, device="cpu")
    assert verdict.support.untried > 0.1 and "hardly ever made" in verdict.lacks[0]
    assert verdict.wis is None and verdict.fqe is None and verdict.answer.startswith("This log cannot tell")


def test_estimates_that_contradict_each_other_are_no_answer():
    "One episode in seven has 40 steps and all rewards; the policy prefers what costs, and WIS lacks the weights for it"
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(400):
        steps = 40 if rng.random() < 1 / 7 else 1
        action = rng.integers(2, size=steps)
        cost = -1.0 * (action == 1) if steps == 40 else np.zeros(1)
        rows.append(np.column_stack([np.full(steps, steps == 40), action, cost, np.arange(steps) == steps - 1]))
    is_long, action, reward, last = np.concatenate(rows).T
    obs = is_long[:, None]
    log = ReplayBuffer.from_arrays(obs, action.astype(int), reward, obs, last == 1, np.zeros(len(last), bool),
                                   n_actions=2, prob=np.full(len(last), 0.5))
    verdict = estimate(constant(0.1, 0.9), log, discount=1.0, device="cpu")
    assert verdict.fqe < -3 < verdict.wis.low   # the truth is 0.9 * 40 / 7 lost
    assert "contradict each other" in verdict.answer


def test_what_is_imitated_is_nearly_what_was_logged():
    told, guessed = (read_behavior(corridor(1_000, probs=probs), device="cpu") for probs in (True, False))
    assert told.is_logged and not guessed.is_logged
    assert np.abs(told.behavior - guessed.behavior).mean() < 0.05
    verdict = estimate(constant(0.3, 0.7), guessed, discount=1.0, config=FAST, updates=100, device="cpu")
    assert verdict.calibration.error < 0.05 and "imitated" in str(verdict)


def test_other_episodes_can_be_imitated():
    log, others = corridor(probs=False).split(0.5, seed=0)
    logged = read_behavior(log, others=others, device="cpu")
    assert logged.imitated.shape == (len(log), 2)
    with pytest.raises(ValueError, match="observations"):
        read_behavior(log, others=bandit(), device="cpu")


def test_cut_episodes_are_told_and_go_on():
    n = 200
    ones = np.ones((n, 1))
    last = np.arange(n) % 4 == 3
    action = np.random.default_rng(0).integers(2, size=n)
    log = ReplayBuffer.from_arrays(ones, action, np.ones(n), ones, np.zeros(n, bool), last, n_actions=2,
                                   prob=np.full(n, 0.5))
    verdict = estimate(constant(0.5, 0.5), log, discount=0.8, config=FAST, updates=600, device="cpu")
    assert verdict.cut == 1
    assert abs(verdict.fqe - 5) < 0.3 and abs(verdict.wdr - 5) < 0.3   # 1 / (1 - 0.8)
    assert np.isclose(verdict.wis.value, 1 + 0.8 + 0.64 + 0.512)         # what was seen


def test_masks_reach_the_policy():
    seen = []

    def policy(obs, mask):
        seen.append(mask is not None)
        return mask.float() / mask.sum(1, keepdim=True)

    estimate(policy, bandit(masks=True), discount=1.0, config=FAST, updates=20, device="cpu")
    assert all(seen)


def test_the_same_seed_gives_the_same_verdict():
    policy, log = constant(0.3, 0.7), corridor(100)
    first, second = (estimate(policy, log, discount=1.0, config=FAST, updates=50, device="cpu") for _ in range(2))
    assert first == second


# Refusals

@pytest.mark.parametrize(("call", "words"), [
    (lambda: estimate(constant(0, 1), bandit(8), discount=1.0), "needs 10"),
    (lambda: estimate(constant(0, 1), bandit()), "give discount"),
    (lambda: estimate(constant(0, 1), bandit(), discount=1.5), "discount"),
    (lambda: estimate(constant(0, 1), bandit(), discount=1.0, softness=2), "softness"),
    (lambda: estimate(constant(0, 0, 1), bandit(), discount=1.0), "3 actions"),
    (lambda: estimate(constant(0.5, 0.4), bandit(), discount=1.0), "sum to"),
    (lambda: estimate(constant(1.5, -0.5), bandit(), discount=1.0), "below 0"),
    (lambda: estimate(constant(np.nan, 1), bandit(), discount=1.0), "sum to"),
    (lambda: estimate(lambda obs, mask: [1, 0], bandit(), discount=1.0), "a row for each"),
    (lambda: select([], bandit()), "at least one"),
    (lambda: select([constant(0, 1)], bandit()), "give discount"),
    (lambda: select([constant(0, 1)], bandit(), discount=1.0, finalists=0), "finalists"),
])
def test_wrong_input_is_refused_in_one_line(call, words):
    with pytest.raises(ValueError, match=words) as error:
        call()
    assert "\n" not in str(error.value)


def test_things_that_are_no_policy_or_no_log():
    with pytest.raises(TypeError, match="give an agent, or a function"):
        estimate(3, bandit(), discount=1.0)
    with pytest.raises(TypeError, match="from_frame"):
        estimate(constant(0, 1), "log.csv", discount=1.0)
    with pytest.raises(ValueError, match="do not exist"):
        action_probabilities(constant(0.5, 0.5), torch.ones(1, 1), torch.tensor([[True, False]]))
    agent = DiscreteBCQ(corridor().obs_space, 2)
    with pytest.raises(ValueError, match="the agent takes"):
        estimate(agent, bandit(), device="cpu")
    with pytest.raises(TypeError, match="must be a list of policies"):
        select(agent, corridor())
    with pytest.raises(ValueError, match="same name"):
        select({1: constant(0, 1), "1": constant(1, 0)}, bandit(), discount=1.0)


# Selection

def fast(threshold=0.3):
    "Settings for agents that learn in a second"
    return BCQConfig.log(threshold=threshold, discount=1.0, hidden=(16,), batch_size=32)


def test_the_best_arm_is_chosen_and_the_untried_one_is_out():
    log = bandit(600, share=0.5)
    policies = {"left": constant(1, 0), "coin": constant(0.5, 0.5), "right": constant(0, 1)}
    selection = select(policies, log, discount=1.0, config=FAST, updates=200, device="cpu")
    assert selection.rows[0].name == "right" and selection.chosen == 2
    assert "Chosen: right" in selection.answer
    json.dumps(selection.to_json(), allow_nan=False)
    nobody_right = select(policies, bandit(600, share=0.0), discount=1.0, config=FAST, updates=200, device="cpu")
    assert nobody_right.rows[-1].fate == "untried" and nobody_right.rows[0].name == "left"
    nothing = select({"right": constant(0, 1)}, bandit(600, share=0.0), discount=1.0, device="cpu")
    assert nothing.chosen is None and "keep to what was done" in nothing.answer


def test_weights_prune():
    policies = {f"{p:g}": constant(1 - p, p) for p in (0.1, 0.3, 0.5, 0.7, 0.9)}
    selection = select(policies, bandit(2_000), discount=1.0, finalists=2, config=FAST, updates=200, device="cpu")
    fates = {row.name: row.fate for row in selection.rows}
    assert fates == {"0.9": "chosen", "0.7": "not the best", "0.5": "pruned by WIS", "0.3": "pruned by WIS",
                     "0.1": "pruned by WIS"}
    assert [row.fqe is None for row in selection.rows] == [False, False, True, True, True]


def test_agents_are_named_by_what_tells_them_apart():
    log = corridor(100)
    agents = stopping_points(DiscreteBCQ(log.obs_space, 2, fast(), device="cpu"), log, steps=25, every=10)
    assert [agent.updates for agent in agents] == [10, 20, 25]
    selection = select([*agents, agents[0]], log, config=FAST, updates=20, device="cpu")
    assert {row.name for row in selection.rows} == {
        "DiscreteBCQ τ = 0.3, 10 updates #0", "DiscreteBCQ τ = 0.3, 20 updates", "DiscreteBCQ τ = 0.3, 25 updates",
        "DiscreteBCQ τ = 0.3, 10 updates #3"}
    one, other = agents[0].state_dict(), agents[2].state_dict()
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_of_equal_policies_the_first_is_chosen():
    same = [constant(0.5, 0.5), constant(0.5, 0.5)]
    selection = select((policy for policy in same), bandit(), discount=1.0, config=FAST, updates=200, device="cpu")
    assert selection.chosen == 0


def test_different_discounts_need_one():
    log = corridor(100)
    agents = [DiscreteBCQ(log.obs_space, 2, BCQConfig(discount=discount), device="cpu") for discount in (0.9, 0.99)]
    with pytest.raises(ValueError, match="give one discount"):
        select(agents, log)


def test_from_a_log_to_a_policy_that_is_shown_to_be_better():
    "A world that no notebook has: three steps, right pays; those who wrote the log went right four times in ten"
    train, rest = corridor(3_000, steps=3, right=0.4).split(0.5, seed=0)
    held_out, judges = rest.split(0.5, seed=0)
    agents = [DiscreteBCQ(train.obs_space, 2, fast(threshold), device="cpu") for threshold in (0.1, 1.0)]
    for agent in agents:
        train_offline(agent, train, steps=600, progress=False)
    selection = select(agents, held_out, config=FAST, updates=400, device="cpu")
    assert selection.chosen == 0   # the other one imitates
    verdict = estimate(agents[0], judges, config=FAST, updates=400, device="cpu")
    assert verdict.gain.at_least > 0 and verdict.wis.low <= 3 <= verdict.wis.high + 1e-6
    clone = imitate(train, device="cpu").probabilities
    cloned = estimate(clone, judges, discount=1.0, config=FAST, updates=400, device="cpu")
    assert cloned.wis.low < 1.2 < cloned.wis.high   # three times 0.4


def test_intervals_read_well():
    assert str(Interval(0.12345, 0.1, 0.2, 0.11)) == "0.1235 [0.1, 0.2]"
