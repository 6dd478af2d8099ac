"""Files while somebody else writes, dies, fills the disk or lays a trap; and that every buffer's own file is taken."""
import errno
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from bcq_nb.buffers import ReplayBuffer
from bcq_nb.dqn import DQN, DQNConfig
from bcq_nb.files import CannotWrite, atomic_path, check_place, no_other, only_one, write_rows
from bcq_nb.frames import FrameBuffer
from bcq_nb.locks import hold, let_go, own_folder, sweep

posix = pytest.mark.skipif(os.name == "nt", reason="signals, modes and limits of POSIX")
VECTOR = Box(-1, 1, (2,), np.float32)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def filled(n, value=1.0):
    buffer = ReplayBuffer(n, VECTOR, 2)
    for _ in range(n):
        buffer.add([[0, 1]], [0], [value], [[1, 0]], [False], [False])
    return buffer


def started(code, *args):
    "A Python process that prints a line when it is there"
    command = [sys.executable, "-c", code, *map(str, args)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline()
    return process


def end(process):
    process.kill()
    process.wait()
    process.stdout.close()


# Writers that meet

def test_threads_at_one_path(tmp_path):
    "No save fails, no reader meets a damaged file, nothing is left"
    path = tmp_path / "b.npz"
    buffers = [filled(20, value) for value in (1.0, 2.0)]
    buffers[0].save(path)
    errors, done = [], threading.Event()

    def write(buffer):
        try:
            for _ in range(25):
                buffer.save(path)
        except Exception as error:
            errors.append(error)

    def read():
        while not done.is_set():
            try:
                assert set(ReplayBuffer.load(path).reward.tolist()) in ({1.0}, {2.0})
            except Exception as error:
                errors.append(error)

    writers = [threading.Thread(target=write, args=[buffers[k % 2]]) for k in range(4)]
    reader = threading.Thread(target=read)
    for thread in [*writers, reader]:
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert errors == [] and names(tmp_path) == ["b.npz"]


SWEEPERS = """
import sys
from pathlib import Path
from bcq_nb.files import atomic_path
print("here", flush=True)
for k in range(150):
    with atomic_path(Path(sys.argv[1]) / sys.argv[2]) as beside:
        beside.write_text(str(k))
"""


def test_sweepers_leave_the_living_alone(tmp_path):
    "Processes that write side by side sweep one folder at every moment, and none loses what it writes"
    processes = [started(SWEEPERS, tmp_path, f"{k % 2}") for k in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    for process in processes:
        process.stdout.close()
    assert names(tmp_path) == ["0", "1"]
    assert (tmp_path / "0").read_text() == "149"


KILLED = """
import sys, time
from bcq_nb.files import atomic_path
with atomic_path(sys.argv[1]) as beside:
    beside.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


@posix
def test_what_the_dead_leave_is_swept(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    process = started(KILLED, path)
    check_place(path)                           # another write: the living one's folder stays
    stray, = set(names(tmp_path)) - {"file"}
    assert stray.startswith(".file-") and stray.endswith(".tmp")
    os.kill(process.pid, signal.SIGKILL)
    end(process)
    assert path.read_text() == "old" and names(tmp_path) == sorted(["file", stray])
    with atomic_path(tmp_path / "another") as beside:
        beside.write_text("new")
    assert names(tmp_path) == ["another", "file"]


def test_what_is_not_ours_stays(tmp_path):
    for name in (".mine.tmp", ".a-12345678", "b-12345678.tmp", ".c-1234567X.tmp"):
        (tmp_path / name).mkdir(mode=0o700)
    (tmp_path / ".d-12345678.tmp").write_text("a file")
    (tmp_path / ".e-12345678.tmp").mkdir(mode=0o755)
    (tmp_path / ".e-12345678.tmp").chmod(0o755)
    target = tmp_path / "target"
    target.mkdir(mode=0o700)
    (tmp_path / ".f-12345678.tmp").symlink_to(target)
    before = names(tmp_path)
    sweep(tmp_path)
    assert names(tmp_path) == [name for name in before if os.name != "nt" or name != ".e-12345678.tmp"]
    sweep(tmp_path / "nowhere")


def test_a_folder_swept_before_it_was_locked(tmp_path, monkeypatch):
    "The writer makes another"
    import bcq_nb.locks as locks

    real, met = locks.hold, []

    def late(path, answer=True):
        if answer and not met:      # the writer; the sweeper comes first
            met.append(path.parent)
            sweep(tmp_path)
            assert not path.parent.exists()
        return real(path, answer)

    monkeypatch.setattr(locks, "hold", late)
    folder, lock = own_folder(tmp_path / "file")
    assert folder != met[0] and names(tmp_path) == [folder.name]
    os.close(lock)


# One command in a folder

HOLDER = """
import sys, time
from pathlib import Path
from bcq_nb.files import only_one
with only_one(Path(sys.argv[1])):
    print("mine", flush=True)
    time.sleep(60)
"""


def test_one_command_in_a_folder(tmp_path):
    run = tmp_path / "run"
    process = started(HOLDER, run)
    with pytest.raises(ValueError, match=rf"run' is in use by another bcq \(pid {process.pid}\): wait for it"):
        with only_one(run):
            pass
    end(process)
    with only_one(run):
        assert names(run) == [".bcq.lock"]
        with pytest.raises(ValueError, match="in use"), only_one(run):
            pass
        assert names(run) == [".bcq.lock"]
    assert names(run) == []
    with pytest.raises(ZeroDivisionError), only_one(run):
        raise ZeroDivisionError
    assert names(run) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite, match="file.*cannot be written"), only_one(tmp_path / "file"):
        pass


COUNT = """
import sys, time
from pathlib import Path
from bcq_nb.files import only_one
print("here", flush=True)
folder, done = Path(sys.argv[1]), 0
while done < 30:
    try:
        with only_one(folder):
            n = int((folder / "count").read_text())
            time.sleep(0.0005)
            (folder / "count").write_text(str(n + 1))
            done += 1
    except ValueError:
        time.sleep(0.0005)
"""


def test_a_lock_that_is_removed_and_made_again_is_still_one(tmp_path):
    (tmp_path / "count").write_text("0")
    processes = [started(COUNT, tmp_path) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0] * 3
    for process in processes:
        process.stdout.close()
    assert (tmp_path / "count").read_text() == "90"


@posix
def test_a_link_in_the_place_of_a_lock(tmp_path):
    (tmp_path / "victim").write_text("mine")
    (tmp_path / ".bcq.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(CannotWrite), only_one(tmp_path):
        pass
    assert (tmp_path / "victim").read_text() == "mine"
    lock = hold(tmp_path / "lock")
    let_go(tmp_path / "lock", lock)


# Names, links and modes

WRITERS = {"agent": lambda path: DQN(VECTOR, 2, DQNConfig(hidden=(4,)), device="cpu").save(path),
           "buffer": lambda path: filled(3).save(path), "rows": lambda path: write_rows(path, [{"a": 1}])}


@posix
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_modes_and_links(write, tmp_path):
    path, link = tmp_path / "file", tmp_path / "link"
    for mask, mode in ((0o022, 0o644), (0o077, 0o600), (0o002, 0o664)):
        before = os.umask(mask)
        try:
            write(path)
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == mode
        path.unlink()
    write(path)
    path.chmod(0o640)
    link.symlink_to(path)
    old = path.stat().st_ino
    write(link)
    assert link.is_symlink() and stat.S_IMODE(path.stat().st_mode) == 0o640 and path.stat().st_ino != old
    (tmp_path / "open").symlink_to(tmp_path / "not yet" / "there")
    write(tmp_path / "open")
    assert (tmp_path / "not yet" / "there").is_file()


@pytest.mark.parametrize("name", ["lock", ".bcq_nb.lock x", "a b", "ü中", "it's", "-x", "a\nb", "x" * 200, "🙂" * 50])
def test_odd_names(name, tmp_path):
    write_rows(tmp_path / name, [{"a": 1}])
    write_rows(tmp_path / name, [{"a": 2}])
    assert names(tmp_path) == [name]


@posix
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_places_where_nothing_can_be_written(write, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("")
    (tmp_path / "round").symlink_to(tmp_path / "round")
    wrong = {tmp_path: "is a folder",
             tmp_path / "pipe": "is a device, a pipe",
             Path("/dev/null"): "is a device, a pipe",
             tmp_path / "file" / "below": "cannot be written",
             tmp_path / ("x" * 300): "cannot be written",
             tmp_path / "round": "a link to itself",
             tmp_path / "a\0b": "no path",
             Path("/proc/x/y"): "cannot be written"}
    for path, words in wrong.items():
        with pytest.raises(ValueError, match=words) as error:
            write(path)
        assert repr(str(path)) in str(error.value) and "\n" not in str(error.value)
    assert names(tmp_path) == ["file", "pipe", "round"]


def test_errors_of_others_pass(tmp_path):
    elsewhere = FileNotFoundError(errno.ENOENT, "no", "elsewhere")
    for given in (elsewhere, OSError("no number"), BrokenPipeError(32, "pipe")):
        with pytest.raises(OSError) as error, atomic_path(tmp_path / "file"):
            raise given
        assert error.value is given
    with pytest.raises(CannotWrite, match="cannot be written"), atomic_path(tmp_path / "file"):
        pass   # nothing was written
    assert names(tmp_path) == []


def test_no_other(tmp_path):
    for content, words in (("a", None), ("a", None), ("b", "holds something else")):
        if words is None:
            with no_other(tmp_path / "file") as beside:
                beside.write_text(content)
        else:
            with pytest.raises(ValueError, match=words), no_other(tmp_path / "file") as beside:
                beside.write_text(content)
    assert (tmp_path / "file").read_text() == "a" and names(tmp_path) == ["file"]


# Disks that are full

LIMITED = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_files import WRITERS
import torch
path, limit = Path(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
for name, write in WRITERS.items():
    try:
        write(path / name)
    except OSError as error:
        print(name, error)
"""


@posix
def test_files_that_may_not_grow(tmp_path):
    for name in WRITERS:
        (tmp_path / name).write_text("the old one")
    command = [sys.executable, "-c", LIMITED, str(tmp_path), "1", os.path.dirname(__file__)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert len(lines) == 3
    for name, line in zip(WRITERS, lines, strict=True):
        words = "cannot be written (files may not be so large here): raise the limit"
        assert line.startswith(f"{name} '{tmp_path / name}' {words}"), line
        assert (tmp_path / name).read_text() == "the old one"
    assert names(tmp_path) == sorted(WRITERS)


@contextmanager
def small_disk(folder, kilobytes):
    command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    if not sys.platform.startswith("linux") or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("to make a small disk needs Linux and the rights of root")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_full_disks(tmp_path):
    with small_disk(tmp_path, 64):
        for name, write in WRITERS.items():
            (tmp_path / name).write_text("the old one")
            ballast = tmp_path / "ballast"
            with open(ballast, "wb", buffering=0) as file, pytest.raises(OSError):
                while True:
                    file.write(bytes(1024))
            with pytest.raises(OSError, match=f"{name}' cannot be written .the disk is full.: make room"):
                write(tmp_path / name)
            assert (tmp_path / name).read_text() == "the old one"
            ballast.unlink()
            write(tmp_path / name)
        assert names(tmp_path) == sorted(WRITERS)


# Whatever a buffer can be, its own file is taken

def random_play(buffer, rng, steps, stack, lives):
    "Frames or vectors of several environments; with `lives`, an episode may end while the picture goes on"
    n, shape = buffer.n_envs, buffer.obs_space.shape
    obs = None
    for _ in range(steps):
        new = rng.integers(1, 256, (n, 1, *shape[1:])).astype(np.uint8) if stack else rng.random((n, *shape))
        if not stack:
            obs, after = rng.random((n, *shape)), new
        else:
            if obs is None:
                obs = np.concatenate([np.zeros((n, stack - 1, *shape[1:]), np.uint8), new], 1)
            after = np.concatenate([obs[:, 1:], rng.integers(1, 256, (n, 1, *shape[1:])).astype(np.uint8)], 1)
        ends = rng.random((2, n)) < 0.12
        buffer.add(obs, rng.integers(2, size=n), rng.random(n), after, *ends)
        if stack:
            begins = ends.any(0) & (not lives or rng.random(n) < 0.5)
            fresh = np.concatenate([np.zeros((n, stack - 1, *shape[1:]), np.uint8), after[:, -1:]], 1)
            obs = np.where(begins[:, None, None, None], fresh, after)


def same(buffer, path):
    buffer.save(path)
    back = ReplayBuffer.load(path)
    slots = buffer.slots()
    assert [len(part) for part in back.episodes()] == [len(part) for part in buffer.episodes()]
    for one, other in zip(buffer.transitions(slots)[:5], back.transitions(back.slots())[:5], strict=True):
        assert torch.equal(one, other)
    return back


@pytest.mark.parametrize("seed", range(24))
def test_every_buffers_own_file_is_taken(seed, tmp_path):
    "Rings that have gone around, parts, joints, smaller loads, and what is added behind them"
    rng = np.random.default_rng(seed)
    stack, lives, n_envs = (0, 2, 4)[seed % 3], seed % 2 == 0, int(rng.integers(1, 4))
    space = Box(0, 255, (stack, 2, 3), np.uint8) if stack else VECTOR
    kind = FrameBuffer if stack else ReplayBuffer
    path = tmp_path / "b.npz"
    buffers = []
    for _ in range(2):
        buffer = kind(int(rng.integers(20, 60)) * n_envs, space, 2, n_envs)
        random_play(buffer, rng, int(rng.integers(10, 90)), stack, lives)
        buffers.append(same(buffer, path))
    one, other = buffers
    random_play(one, rng, 9, stack, lives)
    same(one, path)
    size = int(rng.integers(4, 30)) * n_envs
    smaller = kind.load(path, size)
    same(smaller, path)
    random_play(smaller, rng, 5, stack, lives)
    smaller = same(smaller, path)
    smaller.extend(other)
    same(smaller, path)
    random_play(smaller, np.random.default_rng(1), 3, stack, lives) if smaller.n_envs == 1 else None
    smaller = same(smaller, path)
    for part in smaller.split(0.5, seed):
        part = same(part, path)
        part.extend(smaller)
        same(part, path)


def test_saves_take_milliseconds(tmp_path):
    "What a save costs besides the disk: a folder, a lock, a look around"
    path = tmp_path / "file"
    times = []
    for _ in range(30):
        start = time.perf_counter()
        check_place(path)
        times.append(time.perf_counter() - start)
    assert sorted(times)[3] < 0.005   # alone on a machine about 0.2 ms
