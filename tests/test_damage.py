"""Damaged, foreign and lying files: each is refused by one error that names it, or is what was saved; at little cost.

`DAMAGED_FILES=10000 pytest tests/test_damage.py` tries more of them.
"""
import io
import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from safetensors.torch import load, save

from bcq_nb.bcq import BCQConfig, DiscreteBCQ
from bcq_nb.buffers import Batch, ReplayBuffer
from bcq_nb.dqn import DQN, DQNConfig
from bcq_nb.files import read_json, read_rows, write_rows
from bcq_nb.frames import FrameBuffer
from bcq_nb.seals import checksum, seal_of
from bcq_nb.tables import Table
from bcq_nb.weights import listed

N = int(os.environ.get("DAMAGED_FILES", "600"))
VECTOR = Box(-np.inf, np.inf, (3,), np.float32)
PIXELS = Box(0, 255, (3, 2, 4), np.uint8)
TABLE = Table(("age", "ward"), "dose", ("none", "low"), {"ward": ("heart", "lung")})


# What is damaged: a file of each kind, and what it holds, comparable

def masks_of(rng, action):
    mask = rng.random((len(action), 2)) < 0.7
    mask[np.arange(len(action)), action] = True
    return {"mask": mask, "next_mask": np.ones((len(action), 2), bool), "prob": rng.random(len(action)) / 2 + 0.5}


def vector_buffer():
    rng = np.random.default_rng(0)
    buffer = ReplayBuffer(1500, VECTOR, 2, n_envs=2, masks=True, probs=True)
    buffer.table, buffer.notes = TABLE, ("a note",)
    for _ in range(650):   # more than one block
        action = rng.integers(2, size=2)
        ends = rng.random((2, 2)) < 0.1
        obs, next_obs = rng.normal(size=(2, 2, 3))
        buffer.add(obs, action, rng.normal(size=2), next_obs, *ends, **masks_of(rng, action))
    return buffer


def frame_buffer():
    rng = np.random.default_rng(1)
    buffer = FrameBuffer(50, PIXELS, 2, masks=True, probs=True)
    stack = None
    for t in range(80):   # the ring has gone around: the oldest stacks are not complete
        frame = rng.integers(1, 256, (1, 1, 2, 4), dtype=np.uint8)
        if stack is None:
            stack = np.concatenate([np.zeros((1, 2, 2, 4), np.uint8), frame], axis=1)
        after = np.concatenate([stack[:, 1:], rng.integers(1, 256, (1, 1, 2, 4), dtype=np.uint8)], axis=1)
        action = rng.integers(2, size=1)
        buffer.add(stack, action, [1], after, [t % 17 == 9], [t % 23 == 5], **masks_of(rng, action))
        stack = None if t % 17 == 9 or t % 23 == 5 else after
    return buffer


def agent(kind, config):
    rng = np.random.default_rng(2)
    made = kind(VECTOR, 2, config, device="cpu")
    obs = torch.from_numpy(rng.normal(size=(8, 3)).astype(np.float32))
    batch = Batch(obs, torch.from_numpy(rng.integers(2, size=8)), torch.ones(8), obs.flip(0), torch.zeros(8))
    for _ in range(3):
        made.update(batch)
    made.table, made.bounds = TABLE, (-1.0, 2.5)
    made.history.append({"step": 3, "loss": 0.25})
    return made


def content(value):
    "All that was in a file, comparable"
    if isinstance(value, ReplayBuffer):
        state = value.state(value.ring.slot(np.arange(len(value))))
        about = (type(value), value.capacity, value.n_envs, value.n_actions, value.obs_space, value.table, value.notes)
        return about, {name: (array.dtype, array.shape, array.tobytes()) for name, array in state.items()}
    if isinstance(value, DQN):
        header = {name: each for name, each in value.header().items()}
        return header, {name: each.numpy().tobytes() for name, each in value.state_dict().items()}
    return value


MADE = {"vector": (vector_buffer, ReplayBuffer.load), "frame": (frame_buffer, ReplayBuffer.load),
        "dqn": (lambda: agent(DQN, DQNConfig(hidden=(8,))), lambda path: DQN.load(path, device="cpu")),
        "bcq": (lambda: agent(DiscreteBCQ, BCQConfig(hidden=(4, 4))), lambda path: DQN.load(path, device="cpu"))}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    found = {}
    for name, (make, _) in MADE.items():
        made = make()
        made.save(folder / name)
        found[name] = (folder / name).read_bytes(), content(made)
    return found


def outcome(name, load, path, original):
    "What becomes of a file: refused by its name, or what was saved; all else is an error"
    try:
        loaded = load(path)
    except (ValueError, FileNotFoundError) as error:
        assert repr(str(path)) in str(error), f"{name}: no name in {error}"
        assert "\n" not in str(error)
        return "refused"
    assert content(loaded) == original, f"{name}: another content, without a word"
    return "same"


# Blind damage: bytes

def damaged(data, rng):
    "The bytes of a file after one of the things that happen to files"
    data, n = bytearray(data), len(data)
    start = int(rng.integers(n))
    end = min(n, start + int(rng.integers(1, 200)))
    kind = rng.integers(8)
    if kind <= 2:
        for k in rng.integers(n, size=1 if kind < 2 else 20):
            data[k] ^= 1 << rng.integers(8)
    elif kind == 3:
        del data[start:]
    elif kind == 4:
        data[start:end] = bytes(end - start)
    elif kind == 5:
        del data[start:end]
    elif kind == 6:
        data[start:start] = data[start:end]
    else:
        other = int(rng.integers(n))
        data[start:end], data[other:other + 50] = data[other:other + 50], data[start:end]
    return bytes(data)


@pytest.mark.parametrize("name", MADE)
def test_blind_damage(name, originals, tmp_path):
    data, original = originals[name]
    outcomes = []
    for seed in range(N // 8):
        rng = np.random.default_rng((seed, 7))
        (tmp_path / "file").write_bytes(damaged(data, rng))
        outcomes.append(outcome(f"{name} {seed}", MADE[name][1], tmp_path / "file", original))
    assert outcomes.count("refused") > len(outcomes) / 2
    for nothing in (b"", b"hello", bytes(100), data[:8]):
        (tmp_path / "file").write_bytes(nothing)
        assert outcome(name, MADE[name][1], tmp_path / "file", None) == "refused"


# Lies: all checksums are right

def read_archive(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        facts = json.loads(archive.read("meta.json"))
        arrays = [(each["name"], np.load(io.BytesIO(archive.read(f"{each['name']}.npy")))) for each in facts["arrays"]]
    return facts, arrays


def write_archive(facts, arrays):
    "A sealed archive that says of its arrays what they are"
    facts = {**facts, "arrays": [{"name": name, "dtype": array.dtype.str, "shape": list(array.shape),
                                  "sha256": checksum(np.ascontiguousarray(array))} for name, array in arrays]}
    return sealed_archive(facts, arrays)


def sealed_archive(facts, arrays):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays:
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
        archive.writestr("meta.json", json.dumps({**facts, "sha256": seal_of(facts)}))
    return file.getvalue()


JUNK = [None, True, False, -1, 0, 1, 7, 1.5, 2**40, 10**30, float("nan"), float("inf"), "", "text", "ReplayBuffer", [],
        [1], ["a"], [[]], {}, {"a": 1}]
MAY_DIFFER = {"capacity", "notes", "table", "updates", "history", "bounds", "masked", "config", "progress", "rng",
              "obs_space", "n_actions"}   # bounds; a bit more of the same byte of a mask


def lied(data, rng):
    "A description in which one part is another, sealed again; the parts that were changed"
    is_archive = data[:2] == b"PK"
    facts, arrays = read_archive(data) if is_archive else read_agent(data)
    target, keys = facts, []
    while True:
        key = rng.choice(sorted(target)) if isinstance(target, dict) else int(rng.integers(len(target)))
        keys.append(str(key))
        inner = target[key]
        if not isinstance(inner, dict | list) or not inner or rng.random() < 0.3:
            break
        target = inner
    if isinstance(target, dict) and rng.random() < 0.2:
        del target[key]
    else:
        target[key] = JUNK[rng.integers(len(JUNK))]
    return (sealed_archive if is_archive else sealed_agent)(facts, arrays), keys


def read_agent(data):
    n = int.from_bytes(data[:8], "little")
    return json.loads(json.loads(data[8:8 + n])["__metadata__"]["bcq_nb"]), load(data)


def sealed_agent(facts, tensors):
    return save(tensors, {"bcq_nb": json.dumps({**facts, "sha256": seal_of(facts)})})


@pytest.mark.parametrize("name", MADE)
def test_descriptions_that_lie(name, originals, tmp_path):
    data, original = originals[name]
    for seed in range(N // 8):
        changed, keys = lied(data, np.random.default_rng((seed, 8)))
        (tmp_path / "file").write_bytes(changed)
        try:
            loaded = MADE[name][1](tmp_path / "file")
        except ValueError as error:
            assert repr(str(tmp_path / "file")) in str(error), f"{seed} {keys}"
            continue
        about, data_in_it = content(loaded)
        if (about, data_in_it) != original:             # another lawful value cannot be told from the right one
            assert keys[0] in MAY_DIFFER, f"{seed} {keys}"
            assert data_in_it == original[1], f"{seed} {keys}"
            loaded.save(tmp_path / "again")             # and then it is as good as any other
            assert content(MADE[name][1](tmp_path / "again")) == content(loaded), f"{seed} {keys}"


def put(k, value):
    def change(array):
        array = array.copy()
        array[k] = value
        return array
    return change


NAN, INF = float("nan"), float("inf")
LIES = {"reward": [put(3, NAN), put(5, INF), lambda a: a.astype(np.float64), lambda a: a[:-1], lambda a: a[:, None]],
        "action": [put(3, -1), put(4, 2), lambda a: a.astype(np.float32), lambda a: a.astype(np.uint64)],
        "terminated": [put(3, 7), put(3, NAN), put(3, 0.5), lambda a: np.ones_like(a), lambda a: a.astype(bool)],
        "first": [lambda a: ~a, lambda a: np.ones_like(a), lambda a: (a * 2).astype(np.uint8).view(bool)],
        "follows": [lambda a: ~a, lambda a: np.ones_like(a)],
        "ended": [lambda a: ~a, lambda a: np.zeros_like(a), lambda a: a.astype(np.uint8)],
        "mask": [lambda a: np.zeros_like(a), lambda a: a | 1, lambda a: a[:, :0]],
        "next_mask": [lambda a: np.zeros_like(a), lambda a: a | 32],
        "prob": [put(3, 0), put(3, 1.5), put(3, NAN), put(3, -1)]}
VECTOR_LIES = {"obs": [put((3, 1), NAN), put((3, 1), -INF), lambda a: a[:, :2], lambda a: a.astype(np.float64)],
               "next_obs": [put((3, 1), NAN), lambda a: a[::2]]}
FRAME_LIES = {"changes": [lambda a: a.astype(np.float32), lambda a: a[:-2], lambda a: a[:, :, :3]],
              "shown": [put(20, 3), put(20, -1), put(20, 0), put(-1, 2**31 - 1), lambda a: a.astype(np.int64)],
              "spared": [lambda a: ~a, put(-1, False), lambda a: np.ones_like(a), lambda a: np.zeros_like(a)],
              "after": [lambda a: a[:-1], lambda a: a[:0], lambda a: a[:1], lambda a: np.concatenate([a, a])]}


@pytest.mark.parametrize("kind", ["vector", "frame"])
def test_transitions_that_add_refuses(kind, originals, tmp_path):
    "Right checksums, wrong content"
    data, original = originals[kind]
    facts, arrays = read_archive(data)
    path = tmp_path / "file"
    path.write_bytes(write_archive(facts, arrays))
    assert outcome(kind, ReplayBuffer.load, path, original) == "same"   # so what is refused is refused for its content
    for column, changes in (LIES | (VECTOR_LIES if kind == "vector" else FRAME_LIES)).items():
        for number, change in enumerate(changes):
            changed = [(name, change(array) if name == f"0/{column}" else array) for name, array in arrays]
            path.write_bytes(write_archive(facts, changed))
            assert outcome(f"{column} {number}", ReplayBuffer.load, path, None) == "refused", f"{column} {number}"
    for number, other in enumerate([arrays[:-1], arrays[1:], arrays[::-1], [], arrays + arrays[:1],
                                    arrays[:2] + [(arrays[3][0], arrays[2][1]), (arrays[2][0], arrays[3][1])]]):
        path.write_bytes(write_archive(facts, other))
        assert outcome(f"arrays {number}", ReplayBuffer.load, path, None) == "refused", number
    for key, value in {"len": facts["len"] + 2, "n_envs": 5, "n_actions": 1, "n_actions ": 10**12}.items():
        path.write_bytes(write_archive(facts | {key.strip(): value}, arrays))
        assert outcome(key, ReplayBuffer.load, path, None) == "refused", key


@pytest.mark.parametrize("kind", ["dqn", "bcq"])
def test_weights_that_nothing_can_be_learned_from(kind, originals, tmp_path):
    data, original = originals[kind]
    facts, tensors = read_agent(data)
    path = tmp_path / "file"
    path.write_bytes(sealed_agent(facts | {"tensors": listed(tensors)}, tensors))
    assert outcome(kind, MADE[kind][1], path, original) == "same"

    def refused(name, changed):
        path.write_bytes(sealed_agent(facts | {"tensors": listed(changed)}, changed))
        assert outcome(name, MADE[kind][1], path, None) == "refused", name

    for name, tensor in sorted(tensors.items())[::3]:
        refused(f"without {name}", {other: each for other, each in tensors.items() if other != name})
        refused(f"double {name}", tensors | {name: tensor.double()})
        for value in (NAN, INF, -1 if name.endswith(("exp_avg_sq", "step", "scale")) else NAN):
            spoiled = tensor.clone()
            spoiled.view(-1)[-1] = value
            refused(f"{value} in {name}", tensors | {name: spoiled})
    refused("half a step", tensors | {"optimizer.q.0.bias.step": torch.tensor(2.5)})
    refused("one more", tensors | {"network.more": torch.zeros(3)})
    refused("of no training", tensors | {"progress.more": torch.zeros(3)})


def test_restore_changes_nothing(originals, tmp_path):
    path = tmp_path / "file"
    for name in ("dqn", "bcq"):
        path.write_bytes(originals[name][0])
        ours = DQN(VECTOR, 2, DQNConfig(hidden=(8,), lr=0.5), device="cpu")
        before = content(ours)
        with pytest.raises(ValueError, match="holds another agent: its (config|class) is"):
            ours.restore(path)
        path.write_bytes(originals[name][0][:-1] + b"!")
        with pytest.raises(ValueError, match="damaged"):
            ours.restore(path)
        assert content(ours) == before


# Other versions, other things

def test_other_versions(originals, tmp_path):
    path = tmp_path / "file"
    for name, kind in (("vector", "buffer"), ("bcq", "agent")):
        for version, words in ((99, "later version of bcq_nb: upgrade"), (1, "earlier version of bcq_nb")):
            facts, arrays = (read_archive if kind == "buffer" else read_agent)(originals[name][0])
            facts = facts | {"kind": f"{kind} {version}", "news": {}}
            path.write_bytes((sealed_archive if kind == "buffer" else sealed_agent)(facts, arrays))
            with pytest.raises(ValueError, match=f"file': it holds {kind} {version}.*{words}"):
                MADE[name][1](path)


def test_what_is_no_file(originals, tmp_path):
    readers = [each for _, each in MADE.values()] + [read_rows, read_json]
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "closed").write_bytes(originals["dqn"][0])
    (tmp_path / "closed").chmod(0)
    for reader in readers:
        with pytest.raises(FileNotFoundError, match="there is no file .*nowhere"):
            reader(tmp_path / "nowhere")
        with pytest.raises(ValueError, match="pipe' is a pipe"):
            reader(tmp_path / "pipe")
        with pytest.raises(ValueError, match="folder' is a folder"):
            reader(tmp_path / "folder")
        if os.geteuid() != 0:
            with pytest.raises(ValueError, match="closed' cannot be read"):
                reader(tmp_path / "closed")


def test_tables_and_objects(tmp_path):
    "No checksum is in them, so another number is not told; but each is a finite number in a column with a name"
    path = tmp_path / "file"
    rows = [{"step": 100.0, "return": 21.5}, {"step": 200.0, "return": 1 / 3, "loss": 0.25}]
    write_rows(path, rows)
    good = path.read_bytes()
    wrong = ["", "\n", "step\n1", "step,\n1,2\n", "step,step\n1,2\n", "a,b\n1\n", "a,b\n1,2,3\n", "a\nnan\n",
             "a\nx\n", "a\n1\n\n2\n", "a\n\"1\n", "a\n1\0\n", "a\n" + "1" * 200_000 + "\n",
             good.decode() * 2]
    for text in wrong:
        path.write_text(text)
        assert outcome(text[:20], read_rows, path, None) == "refused", text[:20]
    for text in ["", "[1]", "3", "null", "{", '"a"', "{'a': 1}", "[" * 100_000, '{"a": 1}{', "\0", "{" * 50_000]:
        path.write_text(text)
        assert outcome(text[:20], read_json, path, None) == "refused", text[:20]
    path.write_bytes(b'{"a": "\xff"}')
    assert outcome("bytes", read_json, path, None) == "refused"
    for seed in range(N // 4):
        path.write_bytes(damaged(good, np.random.default_rng((seed, 9))))
        try:
            read = read_rows(path)
        except ValueError as error:
            assert repr(str(path)) in str(error)
        else:
            assert all(type(value) is float and np.isfinite(value) for row in read for value in row.values())


@pytest.mark.parametrize("change", [
    {"obs": "age"}, {"obs": [1]}, {"obs": [["age"]]}, {"obs": []}, {"obs": None}, {"action": 3}, {"action": None},
    {"actions": "no"}, {"actions": [None, "low"]}, {"actions": [["none"], "low"]}, {"actions": [{}, 1]}, {"mask": 3},
    {"mask": [3]}, {"categories": []}, {"categories": {"ward": "heart"}}, {"categories": {"ward": [None]}},
])
def test_tables_from_json(change):
    good = TABLE.to_json()
    assert Table.from_json(json.loads(json.dumps(good))) == TABLE
    with pytest.raises(ValueError):
        Table.from_json(good | change)
    for name in good:
        with pytest.raises(ValueError, match=f"table has no '{name}'"):
            Table.from_json({other: value for other, value in good.items() if other != name})


# No more than the file is worth

BOMBS = r"""
import json, resource, sys, time, zipfile
from pathlib import Path
import numpy as np
import torch
from bcq_nb.bcq import DiscreteBCQ
from bcq_nb.buffers import ReplayBuffer
from bcq_nb.dqn import DQN
from bcq_nb.frames import FrameBuffer

peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
torch.set_num_threads(1)
for warm in sorted(Path(sys.argv[1]).glob("warm-*")):
    (ReplayBuffer if "buffer" in warm.name else DQN).load(warm)
for path in sorted(Path(sys.argv[1]).glob("bomb-*")):
    before, start = peak(), time.perf_counter()
    try:
        (ReplayBuffer if "buffer" in path.name else DQN).load(path)
        said = "loaded"
    except ValueError as error:
        said = "refused" if str(path) in str(error) else f"no name: {error}"
    print(json.dumps([path.name, said, peak() - before, time.perf_counter() - start]))
"""


def test_small_files_cost_little(originals, tmp_path):
    "A few kilobytes that claim to be gigabytes: at most 200 MB and 2 seconds each"
    facts, arrays = read_archive(originals["vector"][0])
    empty = facts | {"len": 0, "arrays": [], "table": None, "masks": False}
    huge = {"name": "0/reward", "dtype": "<f4", "shape": [10**9], "sha256": ""}
    zeros = np.zeros(10**7, np.float32)   # 40 MB, in a file of 40 KB
    frames, _ = read_archive(originals["frame"][0])
    space = facts["obs_space"]
    bombs = {"buffer-shape": sealed_archive(facts | {"arrays": [huge]}, [("0/reward", zeros[:10])]),
             "buffer-long": write_archive(facts, [("0/reward", zeros)]),
             "buffer-space": sealed_archive(empty | {"obs_space": space | {"shape": [10**9]}}, []),
             "buffer-spaces": sealed_archive(empty | {"obs_space": space | {"shape": [10**6, 10**6]}}, []),
             "buffer-actions": sealed_archive(empty | {"masks": True, "n_actions": 2**31 - 1}, []),
             "buffer-frames": sealed_archive(frames | {"len": 0, "arrays": [], "capacity": 10**9}, []),
             "buffer-capacity": sealed_archive(empty | {"capacity": 10**15, "n_envs": 1}, []),
             "buffer-nested": sealed_archive(empty | {"notes": []}, [])}
    with zipfile.ZipFile(tmp_path / "bomb-buffer-description", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("meta.json", json.dumps(empty)[:-1] + " " * 10**8 + "}")
    with zipfile.ZipFile(tmp_path / "bomb-buffer-nested-description", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("meta.json", "[" * 10**6)
    facts, tensors = read_agent(originals["bcq"][0])
    config = facts["config"]
    for name, change in {"hidden": {"config": config | {"hidden": [10**8]}},
                         "square": {"config": config | {"hidden": [20_000, 20_000]}},
                         "layers": {"config": config | {"hidden": [1] * 100_000}},
                         "actions": {"n_actions": 10**8}, "more-actions": {"n_actions": 10**12},
                         "space": {"obs_space": facts["obs_space"] | {"shape": [10**9]}},
                         "space-4m": {"obs_space": facts["obs_space"] | {"shape": [4 * 10**6]}},
                         "picture": {"obs_space": {"shape": [1, 2000, 2000], "dtype": "uint8", "low": 0, "high": 255}},
                         }.items():
        bombs[f"agent-{name}"] = sealed_agent(facts | change, tensors)
    for name, data in bombs.items():
        (tmp_path / f"bomb-{name}").write_bytes(data)
    (tmp_path / "warm-buffer").write_bytes(originals["vector"][0])
    (tmp_path / "warm-agent").write_bytes(originals["bcq"][0])
    command = [sys.executable, "-c", BOMBS, str(tmp_path)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert len(lines) == len(bombs) + 2
    for name, said, megabytes, seconds in map(json.loads, lines):
        lawful = name in ("bomb-buffer-frames", "bomb-buffer-nested", "bomb-buffer-actions")   # large and empty
        assert said == "refused" or (said == "loaded" and lawful), (name, said)
        assert megabytes < 200 and seconds < 2, (name, megabytes, seconds)
    print(*lines, sep="\n")
