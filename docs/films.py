"""Films as files beside the pages, with a poster each; in the notebooks they are part of the page."""
import hashlib
import re
from base64 import b64decode
from pathlib import Path

import imageio_ffmpeg
from docutils import nodes
from narrow import as_mp4, stored_films, together
from PIL import Image, ImageDraw

EMBEDDED = re.compile(r'poster="data:image/jpeg;base64,([^"]+)" src="data:video/mp4;base64,([^"]+)"')


def steps_a_second(path: Path) -> float:
    "How many pictures a second a film has: one a step"
    reader = imageio_ffmpeg.read_frames(str(path))
    facts = next(reader)
    reader.close()
    return facts["fps"]


def as_files(html: str, folder: Path) -> str:
    "HTML whose films lie in a folder `_images`, named after their content"
    def replacement(match: re.Match) -> str:
        poster, film = map(b64decode, match.groups())
        name = f"film-{hashlib.sha256(film).hexdigest()[:12]}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.jpg").write_bytes(poster)
        (folder / f"{name}.mp4").write_bytes(film)
        with Image.open(folder / f"{name}.jpg") as picture:
            width, height = picture.size
        fps = steps_a_second(folder / f"{name}.mp4")
        return (f'poster="_images/{name}.jpg" src="_images/{name}.mp4" width="{width}" height="{height}" '
                f'data-fps="{fps:g}"')
    return EMBEDDED.sub(replacement, html)


def take_out_films(app, doctree, docname: str) -> None:
    "The films of a page, out of it"
    for raw in doctree.findall(nodes.raw):
        if "data:video/mp4" in raw.astext():
            html = as_files(raw.astext(), Path(app.outdir) / "_images")
            raw.children = [nodes.Text(html.replace('preload="auto"', 'preload="metadata"'))]


def write_film_of_home(app) -> None:
    "The home page's film, for wide screens and for narrow ones, its poster, and the picture for links to the site"
    folder = Path(app.outdir) / "_images"
    folder.mkdir(parents=True, exist_ok=True)
    pair = stored_films(Path(app.srcdir) / "index.ipynb")
    wide = together(pair, axis=1)
    as_mp4(wide, folder / "narrow.mp4")
    as_mp4(together(pair, axis=0), folder / "narrow-tall.mp4")
    fallen = Image.fromarray(wide[40])          # one has fallen, the other stands
    fallen.save(folder / "narrow.jpg", quality=70)
    card = Image.new("RGB", (1200, 630), "white")
    pen = ImageDraw.Draw(card)
    pen.text((8, 50), "bcq_nb", "black", font_size=64)
    pen.text((8, 130), "A better policy from a log of decisions, without trying anything", "black", font_size=36)
    card.paste(fallen, (0, 190))
    card.save(folder / "card.png")
