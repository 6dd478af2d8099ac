"""The site, built by Sphinx from the notebooks and their stored outputs: `make docs`. No cell is run."""
import importlib.util
import inspect
import json
import re
from configparser import ConfigParser
from pathlib import Path

from docutils import nodes
from fastcore.docments import docments
from sphinx import addnodes
from sphinx.transforms.post_transforms import SphinxPostTransform

from bcq_nb._modidx import d as index

root = Path(__file__).resolve().parents[1]
parser = ConfigParser()
parser.read(root / "settings.ini", encoding="utf-8")
cfg = parser["DEFAULT"]
in_repository = f"{cfg['git_url']}/blob/{cfg['branch']}/nbs"

project = html_title = cfg["title"]
author, copyright, release = cfg["author"], cfg["copyright"], cfg["version"]
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx.ext.mathjax", "sphinx_copybutton"]
exclude_patterns = ["_*", "**/.ipynb_checkpoints", "runs"]
add_module_names = False
toc_object_entries_show_parents = "hide"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "undoc-members": True}
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
python_use_unqualified_type_names = True

nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["amsmath", "dollarmath", "html_image"]
myst_dmath_double_inline = True
myst_heading_anchors = 3

# MathJax in one file, with its glyphs, so that no page asks another host for anything
[mathjax_package] = importlib.util.find_spec("sphinx-mathjax-offline").submodule_search_locations
mathjax = Path(mathjax_package) / "static/mathjax/tex-svg-full.js"
mathjax_path = mathjax.name
mathjax3_config = {"options": {"enableMenu": False}}

html_theme = "furo"
pygments_dark_style = "github-dark"
html_favicon = "_static/favicon.svg"
html_static_path = ["_static", str(mathjax)]
html_css_files = ["site.css"]
html_copy_source = False
html_theme_options = {"top_of_page_buttons": []}


def title(path: Path) -> str:
    "A notebook's number and title, for the sidebar: what stands before a colon"
    first_cell = json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"]
    first_line = "".join(first_cell).splitlines()[0]
    number = path.stem.partition("_")[0]
    return f"{number} {first_line.lstrip('# ').partition(':')[0]}"


def toctree(caption: str, entries: list[str]) -> str:
    "A group of the sidebar"
    return "\n".join(["```{toctree}", f":caption: {caption}", ":hidden:", "", *entries, "```"])


def sidebar(folder: Path) -> str:
    "Path, side notebooks, reference"
    pages = sorted(folder.glob("[0-9]*.ipynb"))
    entries = {page: f"{title(page)} <{page.stem}>" for page in pages}
    path = [entry for page, entry in entries.items() if not page.stem[2].isalpha()]
    side = [entry for page, entry in entries.items() if page.stem[2].isalpha()]
    groups = {
        "The path": ["Home <self>", *path],
        "Side notebooks": side,
        "Reference": ["symbols", "references", "Index of names <genindex>"],
    }
    return "\n\n".join(toctree(caption, entries) for caption, entries in groups.items())


def show_code(cell: dict) -> dict:
    "A code cell without its directives, which have become metadata"
    text = "".join(cell["source"])
    options = dict(re.findall(r"^#\|\s*([\w-]+):?[ ]*(.*)$", text, re.M))
    tags = ["remove-input"] if options.get("echo") == "false" else []
    metadata = {"tags": tags, "mystnb": {"image": {"alt": options.get("fig-alt", "")}}}
    return {**cell, "source": re.sub(r"^#\|.*\n?", "", text, flags=re.M), "metadata": metadata}


def show_markdown(cell: dict, file_name: str) -> dict:
    "A text cell; badges are pictures from other hosts, so they become links, with two more beside the one to Colab"
    text = re.sub(r"\[!\[([^\]]*)\]\(https?://[^)]*\)\]", r"[\1]", "".join(cell["source"]))
    links = rf"\1 [View on GitHub]({in_repository}/{file_name}) {{download}}`Download the notebook <{file_name}>`"
    text = re.sub(r"(\[Open in Colab\]\([^)]*\))", links, text)
    return {**cell, "source": text}


def show_notebook(app, docname: str, source: list[str]) -> None:
    "From a notebook as nbdev reads it to one as MyST-NB does: directives obeyed, the module's API at the end"
    path = Path(app.env.doc2path(docname))
    if path.suffix != ".ipynb":
        return
    notebook = json.loads(source[0])
    cells, module = [], None
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            cells.append(show_markdown(cell, path.name))
        elif exports_to := re.search(r"^#\|\s*default_exp (\w+)", text, re.M):
            module = exports_to[1]
        elif not re.search(r"^#\|\s*hide\b", text, re.M):
            cells.append(show_code(cell))
    if module:
        name = f"{cfg['lib_path']}.{module}"
        cells.append(markdown_cell(f"## API of `{name}`\n\n```{{eval-rst}}\n.. automodule:: {name}\n```"))
    if docname == "index":
        cells.append(markdown_cell(sidebar(path.parent)))
    metadata = {"language_info": {"name": "python", "pygments_lexer": "ipython3"}}
    source[0] = json.dumps({**notebook, "cells": cells, "metadata": metadata})


def markdown_cell(text: str) -> dict:
    "A cell that no notebook has"
    return {"id": f"site-{abs(hash(text)):x}", "cell_type": "markdown", "metadata": {}, "source": text}


def as_rst(line: str) -> str:
    "A line of a docstring, whose code and formulas are written as in the notebooks' Markdown"
    def replacement(match: re.Match) -> str:
        code, formula, emphasis, special = match.groups()
        if code:
            return f"``{code}``"
        if formula:
            return f":math:`{formula}`"
        return emphasis or f"\\{special}"
    return re.sub(r"`([^`]+)`|\$([^$]+)\$|(\*\w+\*)|([*|\\])", replacement, line)


def add_docments(app, what, name, obj, options, lines: list[str]) -> None:
    "The comments beside parameters and fields"
    fields = re.findall(r"^    (\w+): [^#\n]+# *(.+)$", inspect.getsource(obj), re.M) if what == "class" else []
    notes = dict(fields)
    if what in ("class", "function", "method") and not fields:
        notes = docments(obj)
    if what == "module":
        lines.clear()          # the page says it
    lines.append("")
    for param, note in notes.items():
        if note:
            field = ":returns:" if param == "return" else f":param {param}:"
            lines.append(f"{field} {' '.join(note.split())}")
    lines[:] = map(as_rst, lines)


def skip_member(app, what, name, obj, skip, options) -> bool | None:
    "Fields stand among the parameters of their class"
    return None if getattr(obj, "__name__", None) == name or isinstance(obj, property) else True


class LinkSymbols(SphinxPostTransform):
    "Code in prose that names a symbol of the package leads to its entry"
    default_priority = 5     # before Sphinx resolves references
    symbols = {full.removeprefix(module + "."): full for module, names in index["syms"].items() for full in names}

    def run(self):
        for literal in list(self.document.findall(nodes.literal)):
            target = self.symbols.get(literal.astext().removesuffix("()"))
            if target and not isinstance(literal.parent, (nodes.reference, addnodes.pending_xref)):
                link = addnodes.pending_xref(
                    "", literal.deepcopy(), refdomain="py", reftype="obj", reftarget=target,
                    refdoc=self.env.docname, refexplicit=True, refwarn=True)
                literal.replace_self(link)


def setup(app):
    app.connect("source-read", show_notebook)
    app.connect("autodoc-process-docstring", add_docments)
    app.connect("autodoc-skip-member", skip_member)
    app.add_post_transform(LinkSymbols)
