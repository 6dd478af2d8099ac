"""A video is whole or not there: no ffmpeg, one that is killed, a full disk, a damaged file, an exception."""
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from bcq_nb.video import as_picture, check_ffmpeg, check_mp4, mp4_boxes, picture_size, read_frames, video_writer

rng = np.random.default_rng(0)
NOISE = [rng.integers(256, size=(64, 96, 3), dtype=np.uint8) for _ in range(60)]     # hard to compress: a large file


def film(path, frames=NOISE[:3]):
    with video_writer(path, fps=5) as writer:
        for frame in frames:
            writer.append_data(frame)
    return path


def is_running(process_id):
    return Path(f"/proc/{process_id}").exists()


@pytest.fixture
def old(tmp_path):
    "A folder with a film in it, which is to stay whatever happens"
    folder = tmp_path / "old"
    folder.mkdir()
    film(folder / "x.mp4")
    return folder / "x.mp4"


def stays(old, before):
    return old.read_bytes() == before and list(old.parent.iterdir()) == [old]


def script(path, lines):
    path.write_text("#!/bin/sh\n" + lines)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


NO_FFMPEG = {
    "nothing there": lambda folder: str(folder / "nothing"),
    "a folder": str,
    "text": lambda folder: script(folder / "fails", "exit 1"),
    "another program": lambda folder: script(folder / "echo", "echo hello"),
}


@pytest.mark.parametrize("kind", NO_FFMPEG)
def test_a_program_that_is_no_ffmpeg(kind, old, tmp_path, monkeypatch):
    before = old.read_bytes()
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", NO_FFMPEG[kind](tmp_path))
    for use in (check_ffmpeg, lambda: film(old), lambda: read_frames(old, 5, 1)):
        with pytest.raises(ImportError, match="ffmpeg.*pip install --force-reinstall imageio-ffmpeg"):
            use()
    assert stays(old, before)


def test_no_ffmpeg_at_all(old, monkeypatch):
    def nothing():
        raise RuntimeError("No ffmpeg exe could be found.")

    before = old.read_bytes()
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", nothing)
    with pytest.raises(ImportError, match="No ffmpeg exe could be found.*pip install"):
        film(old)
    assert stays(old, before)


def test_the_question_is_a_short_one():
    check_ffmpeg()
    began = time.perf_counter()
    check_ffmpeg()
    assert time.perf_counter() - began < 0.5          # a twentieth of a second, and others may be at work


@pytest.mark.parametrize("when", [1, 40])
def test_ffmpeg_is_killed(when, old):
    before = old.read_bytes()
    with pytest.raises(OSError, match="x.mp4' could not be written: ffmpeg ended with status -9"):
        with video_writer(old, fps=5) as writer:
            for k, frame in enumerate(NOISE):
                writer.append_data(frame)
                if k == when:
                    writer.process.kill()
    assert stays(old, before)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_an_exception_passes(error, old):
    before = old.read_bytes()
    with pytest.raises(error):
        with video_writer(old, fps=5) as writer:
            writer.append_data(NOISE[0])
            assert is_running(writer.process.pid)
            raise error
    assert not is_running(writer.process.pid) and stays(old, before)


def test_nothing_to_show(old):
    before = old.read_bytes()
    with pytest.raises(ValueError, match="at least one frame"):
        film(old, [])
    assert stays(old, before)


def test_frames_of_two_sizes(old):
    before = old.read_bytes()
    with pytest.raises(ValueError, match=r"\(32, 96, 3\) came after one of \(64, 96, 3\)"):
        film(old, [NOISE[0], NOISE[1][:32]])
    assert stays(old, before)


def test_ffmpeg_fails_and_says_why(old):
    before = old.read_bytes()
    with pytest.raises(OSError, match="ffmpeg ended with status .*not divisible by 2"):
        film(old, [NOISE[0][:63]])
    assert stays(old, before)


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="a disk of a few kilobytes needs root")
@pytest.mark.parametrize("kilobytes", [4, 8, 12, 16, 24, 40, 56, 120, 400])
def test_a_full_disk(kilobytes, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", disk], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("no disk can be mounted here")
    try:
        path = disk / "x.mp4"
        try:
            film(path, NOISE)
        except (OSError, ValueError) as error:
            assert "x.mp4" in str(error) and list(disk.iterdir()) == []
            return
        check_mp4(path)
        assert len(read_frames(path, fps=5, seconds=99)) == len(NOISE)
    finally:
        subprocess.run(["umount", disk], check=True)


FILMS_FOR_EVER = """
import sys
from pathlib import Path
from tests.test_video import NOISE
from bcq_nb.video import video_writer
with video_writer(Path(sys.argv[1]), fps=5) as writer:
    writer.append_data(NOISE[0])
    print(writer.process.pid, flush=True)
    while True:
        writer.append_data(NOISE[0])
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_signal(number, old):
    "ffmpeg does not outlive the one who films; what SIGKILL leaves in the folder is swept by the next who writes"
    before = old.read_bytes()
    films = subprocess.Popen([sys.executable, "-c", FILMS_FOR_EVER, old], stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, cwd=Path(__file__).parent.parent)
    ffmpeg = int(films.stdout.readline())
    assert is_running(ffmpeg)
    films.send_signal(number)
    try:
        films.wait(timeout=10)
    finally:
        films.kill()   # nothing goes on when the test has failed
        films.stdout.close()
    until = time.monotonic() + 5
    while is_running(ffmpeg) and time.monotonic() < until:
        time.sleep(0.02)
    assert not is_running(ffmpeg) and old.read_bytes() == before
    if number == signal.SIGINT:
        assert stays(old, before)


def test_a_part_is_no_video(tmp_path):
    data = film(tmp_path / "x.mp4").read_bytes()
    kinds = mp4_boxes(tmp_path / "x.mp4")
    assert kinds[0] == b"ftyp" and {b"moov", b"mdat"} <= set(kinds)
    part = tmp_path / "part.mp4"
    zeros = bytes(len(data))
    for damaged in (data[:-1], data[:40], data[:8], b"", data + b"\0", data + bytes(8), zeros, b"text " * 99):
        part.write_bytes(damaged)
        for use in (check_mp4, lambda path: read_frames(path, 1, 1)):
            with pytest.raises(ValueError, match="part.mp4' is not an MP4, or only a part of one"):
                use(part)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        check_mp4(tmp_path / "missing.mp4")


def test_a_video_that_is_damaged_inside(tmp_path):
    "Whole by its boxes, with zeros for the table of contents, or for the pictures"
    data = film(tmp_path / "x.mp4").read_bytes()
    bad = tmp_path / "bad.mp4"
    for kind in (b"moov", b"mdat"):
        begins = data.index(kind)
        length = int.from_bytes(data[begins - 4:begins], "big") - 8
        bad.write_bytes(data[:begins + 4] + bytes(length) + data[begins + 4 + length:])
        check_mp4(bad)
        with pytest.raises(ValueError, match="bad.mp4' .*it is damaged"):
            read_frames(bad, 1, 1)


def test_boxes_of_more_than_four_gigabytes(tmp_path):
    path = tmp_path / "x.mp4"
    path.write_bytes(b"".join([(8).to_bytes(4, "big") + b"ftyp", (8).to_bytes(4, "big") + b"moov",
                               (1).to_bytes(4, "big") + b"mdat" + (20).to_bytes(8, "big") + bytes(4)]))
    assert mp4_boxes(path) == [b"ftyp", b"moov", b"mdat"]


@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 1)])
def test_gray_pictures(shape):
    gray = np.arange(8, dtype=np.uint8).reshape(shape)
    picture = as_picture(gray)
    assert picture.shape == (2, 4, 3) and (picture == gray.reshape(2, 4, 1)).all()


@pytest.mark.parametrize("drawn", [
    None, "picture", [], [[1, 2], [3]], [None], np.zeros((2, 4)), np.zeros((2, 4, 4), np.uint8), {"a": 1}, 5,
    np.zeros((2, 4, 3), np.int64), np.zeros((0, 4, 3), np.uint8), np.zeros((2, 0), np.uint8), np.zeros(3, np.uint8),
    [np.zeros((2, 4, 3), np.uint8)], np.zeros((2, 4, 3), bool),
])
def test_what_is_no_picture(drawn):
    with pytest.raises(ValueError, match=r"gave no picture but .*\(height, width, 3\) is taken"):
        as_picture(drawn)


def test_a_picture_of_any_size_has_pixels():
    for size in ((1, 1), (5000, 1), (1, 5000), (3, 7)):
        assert min(picture_size(*size)) >= 1
