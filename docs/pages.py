"""From a notebook as nbdev reads it to a page as MyST-NB does: directives obeyed, what is long is folded."""
import ast
import json
import re
from configparser import ConfigParser
from html import escape
from pathlib import Path

root = Path(__file__).resolve().parents[1]
parser = ConfigParser()
parser.read(root / "settings.ini", encoding="utf-8")
cfg = parser["DEFAULT"]
in_repository = f"{cfg['git_url']}/blob/{cfg['branch']}"
TO_TOUCH = {"00_extrapolation.ipynb": "twelve-squares", "06_generation.ipynb": "the-noise",
            "07_bcq.ipynb": "the-threshold"}
MAP = re.compile(r"<!-- map -->(.*?)<!-- end of map -->", re.S)
FROM_THE_ROOT = {"changelog": "CHANGELOG.md", "contributing": "CONTRIBUTING.md"}


def markdown_cell(text: str) -> dict:
    "A cell that no notebook has"
    return {"id": f"site-{abs(hash(text)):x}", "cell_type": "markdown", "metadata": {}, "source": text}


def source_of(cell: dict) -> str:
    "The text of a cell"
    return "".join(cell["source"])


def head(path: Path) -> tuple[str, str]:
    "A notebook's number and title up to a colon, and what it says of itself"
    first_cell = source_of(json.loads(path.read_text(encoding="utf-8"))["cells"][0])
    title, _, description = first_cell.partition("\n")
    number = path.stem.partition("_")[0]
    short = title.lstrip("# ").partition(":")[0]
    return f"{number} {short}".removeprefix("index "), description.strip("> \n")


# The sidebar

def chapters() -> dict[str, list[tuple[str, str]]]:
    "Group of the path -> its notebooks and what each answers: the table on the home page"
    home = json.loads((root / "nbs/index.ipynb").read_text(encoding="utf-8"))
    text = "\n".join(map(source_of, home["cells"]))
    groups: dict[str, list[tuple[str, str]]] = {}
    group = ""
    for caption, name, answers in re.findall(r"^\| ?([\w ]*?) ?\| \[[^\]]*\]\((\w+)\.ipynb\) \| (.*) \|$", text, re.M):
        group = caption or group
        groups.setdefault(group, []).append((name, answers))
    return groups


def side_groups() -> dict[str, list[str]]:
    "Stage of the pipeline -> its side notebooks, in the order of the map"
    home = json.loads((root / "nbs/index.ipynb").read_text(encoding="utf-8"))
    rows = re.findall(r"^\| ([\w ]+?)(?: ↓)? \| (.*) \|$", "\n".join(map(source_of, home["cells"])), re.M)
    found = {stage: re.findall(r"\*\[[^\]]*\]\((\w+)\.ipynb\)\*", names) for stage, names in rows}
    return {stage: names for stage, names in found.items() if names}


def toctree(caption: str, entries: list[str]) -> str:
    "A group of the sidebar"
    return "\n".join(["```{toctree}", f":caption: {caption}", ":hidden:", "", *entries, "```"])


def sidebar(folder: Path) -> str:
    "The path in its groups, the side notebooks, what one looks up"
    entries = {page.stem: f"{head(page)[0]} <{page.stem}>" for page in sorted(folder.glob("[0-9]*.ipynb"))}
    groups = {"Start": ["Home <self>", "touch"]}
    for group, rows in chapters().items():
        groups[group] = [entries.pop(name) for name, _ in rows]
    more = [name for name in entries if name[2] == "_"]
    if more:
        groups["More"] = [entries.pop(name) for name in more]
    for stage, names in side_groups().items():
        groups[f"Side: {stage}"] = [entries.pop(name) for name in names]
    if entries:
        groups["Side: more"] = list(entries.values())
    groups["To look up"] = ["symbols", "references", "Index of names <genindex>"]
    groups["Project"] = ["cite", "changelog", "contributing", f"Repository <{cfg['git_url']}>"]
    return "\n\n".join(toctree(caption, names) for caption, names in groups.items())


# Cells

def fold(summary: str, text: str) -> str:
    "Markdown that one click opens"
    return f'<details class="fold"><summary>{summary}</summary>\n\n{text}\n\n</details>'


def imports_only(text: str) -> bool:
    "Whether a cell does nothing but import"
    try:
        body = ast.parse(text).body
    except SyntaxError:      # a magic of the notebook
        return False
    return bool(body) and all(isinstance(line, ast.Import | ast.ImportFrom) for line in body)


def draws(cell: dict) -> bool:
    "Whether a cell only draws: what it gives is a picture or a film, and nothing of it is exported"
    kinds = {kind for out in cell.get("outputs", []) for kind in out.get("data", {})}
    return bool(kinds & {"image/png", "image/svg+xml", "text/html"}) and "#| export" not in source_of(cell)


def show_code(cell: dict) -> dict:
    "A code cell without its directives, which have become metadata; code that only imports, draws or tests is folded"
    text = source_of(cell)
    options = dict(re.findall(r"^#\|\s*([\w-]+):?[ ]*(.*)$", text, re.M))
    code = re.sub(r"^#\|.*\n?", "", text, flags=re.M)
    metadata: dict = {"tags": [], "mystnb": {"image": {"alt": options.get("fig-alt", "")}}}
    if options.get("echo") == "false":
        metadata["tags"] = ["remove-input"]
    elif "test" in options:
        metadata["tags"] = ["hide-cell"]
        metadata["mystnb"]["code_prompt_show"] = "Show the test"
    elif imports_only(code):
        metadata["tags"] = ["hide-input"]
        metadata["mystnb"]["code_prompt_show"] = "Show what is imported"
    elif draws(cell):
        metadata["tags"] = ["hide-input"]
        metadata["mystnb"]["code_prompt_show"] = "Show the code of this figure"
    return {**cell, "source": code, "metadata": metadata}


def show_markdown(cell: dict, file_name: str) -> dict:
    "A text cell; badges are pictures from other hosts, so they become links, with two more beside the one to Colab"
    text = re.sub(r"\[!\[([^\]]*)\]\(https?://[^)]*\)\]", r"[\1]", source_of(cell))
    if file_name == "index.ipynb":
        return {**cell, "source": show_home(text)}
    links = rf"\1 [View on GitHub]({in_repository}/nbs/{file_name}) {{download}}`Download the notebook <{file_name}>`"
    if file_name in TO_TOUCH:
        links += f" [Try it by hand](touch.md#{TO_TOUCH[file_name]})"
    text = re.sub(r"(\[Open in Colab\]\([^)]*\))", links, text)
    text = MAP.sub(lambda table: fold("The map of all notebooks", table[1]), text)
    return {**cell, "source": text}


def show_home(text: str) -> str:
    "The home page: its first links are buttons, its film a video, its chapters cards, its map folded"
    text = re.sub(r"(?<=\)) ·(?=\n\[)", "", text)
    text = re.sub(r"!\[([^\]]*)\]\(images/narrow\.gif\)\n\n\*(.*?)\*\n", film_of_home, text, flags=re.S)
    text = re.sub(r"^\| \| chapter \|.*?\n\n", lambda _: cards() + "\n\n", text, flags=re.S | re.M)
    return MAP.sub(lambda table: fold("All notebooks", table[1]), text)


def film_of_home(match: re.Match) -> str:
    "The film in place of the moving picture: it can be stopped, and `films.py` makes its files"
    alt, caption = match.groups()
    video = (f'<video class="narrow" aria-label="{escape(alt)}" muted loop playsinline autoplay preload="auto" '
             'poster="_images/narrow.jpg" width="1200" height="446">'
             '<source src="_images/narrow-tall.mp4" type="video/mp4" media="(max-width: 600px)">'
             '<source src="_images/narrow.mp4" type="video/mp4"></video>')
    words = re.sub(r"\[([^\]]*)\]\((#[\w-]+)\)", r'<a href="\2">\1</a>', caption)
    return f'<figure class="hero">{video}<figcaption>{words}</figcaption></figure>\n'


def cards() -> str:
    "A card for each chapter, in the groups of the path"
    parts = []
    for group, rows in chapters().items():
        items = []
        for name, answers in rows:
            title = head(root / f"nbs/{name}.ipynb")[0]
            items.append(f'<li><a href="{name}.html"><b>{escape(title)}</b> <span>{escape(answers)}</span></a></li>')
        parts.append(f'<p class="group" id="group-{len(parts)}">{escape(group)}</p>'
                     f'<ul class="cards" aria-labelledby="group-{len(parts)}">{"".join(items)}</ul>')
    return "\n".join(parts)


def from_the_root(name: str) -> str:
    "A file of the repository as a page: what it links to within nbs is a page too, anything else is on GitHub"
    text = (root / name).read_text(encoding="utf-8")
    text = re.sub(r"\]\(nbs/([\w.]+)\)", r"](\1)", text)
    return re.sub(r"\]\((?!https?:|#)([\w./]+)\)(?<!ipynb\))(?<!symbols\.md\))", rf"]({in_repository}/\1)", text)


def show_page(app, docname: str, source: list[str]) -> None:
    "What Sphinx reads in place of a file"
    path = Path(app.env.doc2path(docname))
    if docname in FROM_THE_ROOT:
        source[0] = from_the_root(FROM_THE_ROOT[docname])
    if path.suffix == ".ipynb":
        source[0] = show_notebook(path, json.loads(source[0]))


def show_notebook(path: Path, notebook: dict) -> str:
    "A notebook with its module's API at the end"
    cells, module = [], None
    for cell in notebook["cells"]:
        text = source_of(cell)
        if cell["cell_type"] == "markdown":
            cells.append(show_markdown(cell, path.name))
        elif exports_to := re.search(r"^#\|\s*default_exp (\w+)", text, re.M):
            module = exports_to[1]
        elif not re.search(r"^#\|\s*hide\b", text, re.M):
            cells.append(show_code(cell))
    if module:
        name = f"{cfg['lib_path']}.{module}"
        api = fold("Every name, its parameters and their types", f"```{{eval-rst}}\n.. automodule:: {name}\n```")
        cells.append(markdown_cell(f"## API of `{name}`\n\n{api}"))
    if path.stem == "index":
        cells.append(markdown_cell(sidebar(path.parent)))
    metadata = {"language_info": {"name": "python", "pygments_lexer": "ipython3"}}
    return json.dumps({**notebook, "cells": cells, "metadata": metadata})
