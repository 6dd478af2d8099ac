"""The film of the home page: Q-learning and BCQ side by side and in step, on one narrow log.

Its two halves are the films that nbs/index.ipynb has recorded and stored. Nothing is drawn here, only cut:
the empty sky goes, the first steps are slow, later every fourth is shown.
"""
import re
from base64 import b64decode
from io import BytesIO
from pathlib import Path
from tempfile import NamedTemporaryFile

import nbformat
import numpy as np
from PIL import Image

from bcq_nb.panel import plan
from bcq_nb.video import read_frames, video_writer

FPS = 12           # of the film
SLOW = 24          # steps that are each shown twice
STRIDE = 4         # of the later steps, every fourth is shown
HOLD = 18          # how often the last picture is repeated
SKY = 150          # rows of CartPole's picture in which there is nothing
GROUND = 330       # below this row neither


def films(html: str) -> list[bytes]:
    "The videos in a notebook's HTML, as MP4"
    return [b64decode(data) for data in re.findall(r'src="data:video/mp4;base64,([^"]+)"', html)]


def stored_films(notebook: Path) -> list[bytes]:
    "The videos among a notebook's outputs"
    cells = nbformat.read(notebook, as_version=4).cells
    outputs = [out for cell in cells for out in cell.get("outputs", [])]
    return [film for out in outputs for film in films(out.get("data", {}).get("text/html", ""))]


def frames_of(film: bytes) -> list[np.ndarray]:
    "Every picture of a film: one a step, and the last one some times more"
    with NamedTemporaryFile(suffix=".mp4") as file:
        file.write(film)
        file.flush()
        return [np.asarray(frame) for frame in read_frames(file.name, fps=15, seconds=60)]


def without_sky(frame: np.ndarray) -> np.ndarray:
    "The panel, and below it the strip in which cart and pole are"
    top = plan((400, 600, 3), 2).picture_top
    return np.concatenate([frame[:top], frame[top + SKY : top + GROUND]])


def shown_steps(n: int) -> list[int]:
    "Which of n steps are shown, in order, at `FPS` pictures a second"
    slow = [step for step in range(min(SLOW, n)) for _ in range(2)]
    fast = list(range(SLOW, n, STRIDE))
    return [*slow, *fast, *[n - 1] * HOLD]


def together(pair: list[bytes], axis: int) -> list[np.ndarray]:
    "Two films next to each other (axis 1) or below each other (axis 0); the one that is over keeps its last picture"
    left, right = map(frames_of, pair)
    pictures = []
    for step in shown_steps(max(len(left), len(right))):
        halves = [half[min(step, len(half) - 1)] for half in (left, right)]
        pictures.append(np.concatenate([without_sky(half) for half in halves], axis))
    return pictures


def as_gif(pictures: list[np.ndarray], width: int) -> bytes:
    "The film as a picture that moves, for pages that show no videos"
    height = round(pictures[0].shape[0] * width / pictures[0].shape[1])
    small = [Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS) for picture in pictures]
    palette = Image.fromarray(np.concatenate([np.asarray(frame) for frame in small[::8]])).quantize(48)
    frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in small]
    file = BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=round(1000 / FPS), loop=0)
    return file.getvalue()


def as_mp4(pictures: list[np.ndarray], path: Path) -> None:
    "The film as a video"
    with video_writer(path, FPS) as video:
        for picture in pictures:
            height, width = (side // 2 * 2 for side in picture.shape[:2])
            video.append_data(np.ascontiguousarray(picture[:height, :width]))
