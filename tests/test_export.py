"Exported policies decide as their agents do, whatever the algorithm, the observations and the masks."
import json
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from bcq_nb import export
from bcq_nb.agents import existing
from bcq_nb.algorithms import ALGORITHMS

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

N_ACTIONS = 4
VECTORS = Box(-np.inf, np.inf, (5,), np.float32)
FRAMES = Box(0, 255, (4, 36, 36), np.uint8)
CLOSE = 1e-5   # values nearer than this may change places


def vectors(rng, n):
    return rng.normal(3, 20, (n, 5)).astype(np.float32)


def frames(rng, n):
    return rng.integers(0, 256, (n, *FRAMES.shape), np.uint8)


def masks(rng, n):
    found = rng.random((n, N_ACTIONS)) < 0.5
    found[:, 0] |= ~found.any(1)
    return found


def vector_agent(name, **settings):
    kind = ALGORITHMS[name]
    agent = kind(VECTORS, N_ACTIONS, kind.make_config.small(hidden=(16,), standardize=True, **settings), device="cpu")
    for network in (agent.network, agent.target):
        network.encoder.standardize_by(torch.full((5,), 3.0), torch.full((5,), 20.0))
    return agent


def answers(path, obs, mask=None):
    given = {"obs": obs} if mask is None else {"obs": obs, "mask": mask}
    if path.suffix == ".onnx":
        [found] = onnxruntime.InferenceSession(path).run(["action"], given)
        return found
    loaded = torch.export.load(path).module()
    return loaded(*[torch.from_numpy(value) for value in given.values()]).numpy()


def unexplained(agent, found, obs, mask=None):
    "How many actions differ although the two that were chosen are not worth the same"
    expected = agent.act(obs, mask=mask)
    if (found == expected).all():
        return 0
    values = existing(agent.q_values(obs), None if mask is None else torch.from_numpy(mask)).numpy()
    rows = np.arange(len(obs))
    gap = np.abs(values[rows, expected] - values[rows, found])
    return int(((found != expected) & (gap >= CLOSE)).sum())


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_every_algorithm_decides_alike_on_vectors_with_masks(name, tmp_path):
    agent, rng = vector_agent(name), np.random.default_rng(0)
    agent.export(tmp_path / "policy.onnx", masked=True)
    obs, mask = vectors(rng, 1_000), masks(rng, 1_000)
    found = answers(tmp_path / "policy.onnx", obs, mask)
    assert unexplained(agent, found, obs, mask) == 0
    assert mask[np.arange(1_000), found].all()
    assert len(set(found.tolist())) > 1                                   # a constant would prove nothing
    assert answers(tmp_path / "policy.onnx", obs[:1], mask[:1]) == found[:1]


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_frames_go_in_as_bytes(suffix, tmp_path):
    kind, rng = ALGORITHMS["bcq"], np.random.default_rng(0)
    agent = kind(FRAMES, N_ACTIONS, kind.make_config.atari(hidden=(16,)), device="cpu")
    agent.export(tmp_path / f"policy{suffix}")
    obs = frames(rng, 1_000)
    assert unexplained(agent, answers(tmp_path / f"policy{suffix}", obs), obs) == 0


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_the_threshold_is_inside(threshold, tmp_path):
    agent, rng = vector_agent("bcq", threshold=threshold), np.random.default_rng(1)
    agent.network.imitation[-1].weight.data *= 20   # an imitation with opinions
    agent.export(tmp_path / "policy.onnx")
    obs = vectors(rng, 1_000)
    found = answers(tmp_path / "policy.onnx", obs)
    assert unexplained(agent, found, obs) == 0
    assert agent.allowed(obs)[np.arange(1_000), found].all()


def test_16_bits_are_exported_in_32(tmp_path):
    agent, rng = vector_agent("bcq", bfloat16=True), np.random.default_rng(0)
    agent.export(tmp_path / "policy.onnx")
    assert agent.network.short                           # the agent is as it was
    obs = vectors(rng, 200)
    found = answers(tmp_path / "policy.onnx", obs)
    agent.network.short = False
    assert (found == agent.act(obs)).all()


def test_the_file_says_what_it_is(tmp_path):
    agent = vector_agent("bcq")
    agent.export(tmp_path / "policy.onnx", env_id="CartPole-v1")
    session = onnxruntime.InferenceSession(tmp_path / "policy.onnx")
    about = session.get_modelmeta().custom_metadata_map
    assert about["package"].startswith("bcq_nb ")
    assert about["algorithm"] == "DiscreteBCQ"
    assert about["environment"] == "CartPole-v1"
    assert json.loads(about["obs_shape"]) == [5]
    assert json.loads(about["actions"]) == [0, 1, 2, 3]
    assert [value.name for value in session.get_inputs()] == ["obs"]
    assert session.get_inputs()[0].shape == ["batch", 5]
    extra = {"about.json": ""}
    agent.export(tmp_path / "policy.pt2", env_id="CartPole-v1")
    torch.export.load(tmp_path / "policy.pt2", extra_files=extra)
    assert json.loads(extra["about.json"]) == about


def test_a_table_is_in_the_file(tmp_path):
    pandas = pytest.importorskip("pandas")
    from bcq_nb.logs import from_frame
    frame = pandas.DataFrame({"stay": [1, 1, 2, 2], "age": [40.0, 41.0, 60.0, 61.0], "ward": ["a", "b", "a", "b"],
                              "dose": ["low", "high", "high", "low"], "r": [0.0, 1.0, 0.0, 0.0]})
    buffer = from_frame(frame, obs=["age", "ward"], action="dose", reward="r", episode="stay", ends="terminated",
                        one_hot=["ward"])
    kind = ALGORITHMS["bcq"]
    agent = kind(buffer.obs_space, buffer.n_actions, kind.make_config.small(hidden=(8,)), device="cpu")
    agent.table = buffer.table
    agent.export(tmp_path / "policy.onnx")
    about = onnxruntime.InferenceSession(tmp_path / "policy.onnx").get_modelmeta().custom_metadata_map
    actions = json.loads(about["actions"])
    found = answers(tmp_path / "policy.onnx", buffer.table.observations(frame).astype(np.float32))
    assert [actions[number] for number in found] == list(agent.act(frame))
    assert json.loads(about["table"])["obs"] == ["age", "ward"]


def test_refusals(tmp_path):
    agent = vector_agent("bcq")
    with pytest.raises(ValueError, match="it must end with one of .onnx"):
        agent.export(tmp_path / "policy.bin")
    with patch.dict(sys.modules, {"onnxscript": None}), pytest.raises(ImportError, match=r"bcq_nb\[onnx\]"):
        agent.export(tmp_path / "policy.onnx")
    agent.masked = True
    with pytest.raises(ValueError, match="learned with masks"):
        agent.export(tmp_path / "policy.onnx", masked=False)
    agent.spoiled = "it holds NaN"
    with pytest.raises(FloatingPointError, match="NaN"):
        agent.export(tmp_path / "policy.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_save_leaves_the_old_file(tmp_path):
    agent, path = vector_agent("dqn"), tmp_path / "policy.onnx"
    agent.export(path)
    before = path.read_bytes()
    full = OSError("disk full")
    with patch.object(Path, "write_bytes", side_effect=full), pytest.raises(OSError, match="disk full"):
        export.export_agent(agent, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
