"ICU-Sepsis: what is refused, and what a log keeps."
import numpy as np
import pytest

from bcq_nb.counting import count_log, plan_bcq
from bcq_nb.logs import from_frame
from bcq_nb.sepsis import ACTIONS, FEATURES, LIVE, load_hospital, restrict, simulate, survival, to_table

hospital = load_hospital()


def test_a_policy_without_allowed_actions_is_refused():
    allowed = np.ones((2, 2), bool)
    allowed[1, 0] = False
    with pytest.raises(ValueError, match="in state 1 the policy takes none of the allowed actions"):
        restrict(np.array([[0.5, 0.5], [1.0, 0.0]]), allowed)


def test_no_patients_are_refused():
    with pytest.raises(ValueError, match="n_patients is -1"):
        simulate(hospital, hospital.clinicians, -1)


def test_patients_depend_on_the_seed_alone():
    logs = [simulate(hospital, hospital.clinicians, 50, seed) for seed in (0, 0, 1)]
    assert all(np.array_equal(a, b) for a, b in zip(logs[0].steps, logs[1].steps, strict=True))
    assert not np.array_equal(logs[0].steps.state[:50], logs[2].steps.state[:50])


def test_what_follows_is_as_frequent_as_it_should_be():
    log = simulate(hospital, hospital.clinicians, 20_000, seed=3)
    starts = np.bincount(log.steps.state[log.time == 0], minlength=716) / 20_000
    assert np.abs(starts - hospital.start).max() < 0.005
    state = np.bincount(log.steps.state).argmax()
    taken = np.bincount(log.steps.action[log.steps.state == state], minlength=25)
    expected = taken.sum() * hospital.clinicians[state]
    assert ((taken - expected) ** 2 / np.maximum(expected, 1)).sum() < 60   # chi square of 25 actions
    assert np.allclose(log.prob, hospital.clinicians[log.steps.state, log.steps.action])


def test_a_log_becomes_a_batch_with_masks():
    kept = restrict(hospital.clinicians, hospital.admissible)
    log = simulate(hospital, kept, 300, seed=1)
    table = to_table(hospital, log, masks=True).sort_values("hour", kind="stable")   # all patients' first rows first
    with pytest.warns(UserWarning):
        buffer = from_frame(table, obs=FEATURES, action="dose", reward="survived", episode="stay", time="hour",
                            terminated="over", actions=ACTIONS, mask="exists", prob="prob")
    batch = buffer.transitions(buffer.slots())
    assert np.array_equal(batch.action.numpy(), log.steps.action)
    assert np.array_equal(batch.obs.numpy(), hospital.features[log.steps.state])
    assert np.array_equal(batch.mask.numpy(), hospital.admissible[log.steps.state])
    goes_on = log.steps.next_state < LIVE
    assert np.array_equal(batch.next_obs.numpy()[goes_on], hospital.features[log.steps.next_state[goes_on]])
    assert np.allclose(buffer.prob.numpy(), log.prob)


def test_an_action_that_does_not_exist_is_refused_in_a_log_with_masks():
    table = to_table(hospital, simulate(hospital, hospital.clinicians, 100, seed=1), masks=True)
    with pytest.raises(ValueError, match="forbids"):
        from_frame(table, obs=FEATURES, action="dose", reward="survived", episode="stay", time="hour",
                   terminated="over", actions=ACTIONS, mask="exists")


def test_a_state_that_was_not_seen_gets_equal_shares():
    log = simulate(hospital, hospital.clinicians, 5, seed=0)
    model = count_log(log.steps, hospital.clinicians.shape)
    unseen = model.n.sum(1) == 0
    assert unseen.sum() > 600 and np.allclose(model.behavior[unseen], 1 / 25)
    policy, v = plan_bcq(model, 0.3)
    assert np.allclose(policy.sum(1), 1) and v[unseen].max() == 0 and 0.7 < survival(hospital, policy) < 0.9
