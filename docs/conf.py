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
mathjax = Path(importlib.util.find_spec("sphinx-mathjax-offline").submodule_search_locations[0]) / "static/mathjax/tex-svg-full.js"
mathjax_path = mathjax.name
mathjax3_config = {"options": {"enableMenu": False}}

html_theme = "furo"
pygments_dark_style = "github-dark"
html_favicon = "_static/favicon.svg"
html_static_path = ["_static", str(mathjax)]
html_css_files = ["site.css"]
html_copy_source = False
html_theme_options = {"navigation_with_keys": True, "top_of_page_buttons": []}


def title(path: Path) -> str:
    "A notebook's title, for the sidebar: what stands before a colon"
    return "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"]).splitlines()[0].lstrip("# ").partition(":")[0]


def show_notebook(app, docname: str, source: list[str]) -> None:
    "From a notebook as nbdev reads it to one as MyST-NB does: directives obeyed and removed, the module's API at the end"
    path = Path(app.env.doc2path(docname))
    if path.suffix != ".ipynb": return
    nb, cells, module = json.loads(source[0]), [], None
    for cell in nb["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            options = dict(re.findall(r"^#\|\s*([\w-]+):?[ ]*(.*)$", text, re.M))
            module = module or options.get("default_exp")
            if "hide" in options or "default_exp" in options: continue
            text = re.sub(r"^#\|.*\n?", "", text, flags=re.M)
            cell["metadata"] = {"tags": ["remove-input"] if options.get("echo") == "false" else [],
                                "mystnb": {"image": {"alt": options.get("fig-alt", "")}}}
        else:   # badges are pictures from other hosts
            links = rf"\1 [View on GitHub]({in_repository}/{path.name}) {{download}}`Download the notebook <{path.name}>`"
            text = re.sub(r"\[!\[([^\]]*)\]\(https?://[^)]*\)\]", r"[\1]", text)
            text = re.sub(r"(\[Open in Colab\]\([^)]*\))", links, text)
        cells.append({**cell, "source": text})
    def add(text): cells.append({"id": f"site-{len(cells)}", "cell_type": "markdown", "metadata": {}, "source": text})
    if module: add(f"## API of `{cfg['lib_path']}.{module}`\n\n```{{eval-rst}}\n.. automodule:: {cfg['lib_path']}.{module}\n```")
    if docname == "index":
        pages = [f"{title(page)} <{page.stem}>" for page in sorted(path.parent.glob("[0-9]*.ipynb"))]
        add("\n".join(["```{toctree}", ":hidden:", "Home <self>", *pages, "symbols", "references", "Index of names <genindex>", "```"]))
    source[0] = json.dumps({**nb, "cells": cells, "metadata": {"language_info": {"name": "python", "pygments_lexer": "ipython3"}}})


def add_docments(app, what, name, obj, options, lines: list[str]) -> None:
    "The comments beside parameters and fields; and docstrings, whose code and formulas are written as in the notebooks' Markdown"
    fields = re.findall(r"^    (\w+): [^#\n]+# *(.+)$", inspect.getsource(obj), re.M) if what == "class" else []
    notes = docments(obj) if what in ("class", "function", "method") and not fields else dict(fields)
    if what == "module": lines.clear()          # the page says it
    lines.append("")
    for param, note in notes.items():
        if note: lines.append((":returns: " if param == "return" else f":param {param}: ") + " ".join(note.split()))
    for i, line in enumerate(lines):
        lines[i] = re.sub(r"`([^`]+)`|\$([^$]+)\$|(\*\w+\*)|([*|\\])", lambda m: f"``{m[1]}``" if m[1] else
                          f":math:`{m[2]}`" if m[2] else m[3] or "\\" + m[4], line)


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
                literal.replace_self(addnodes.pending_xref("", literal.deepcopy(), refdomain="py", reftype="obj", reftarget=target,
                                                           refdoc=self.env.docname, refexplicit=True, refwarn=True))


def setup(app):
    app.connect("source-read", show_notebook)
    app.connect("autodoc-process-docstring", add_docments)
    app.connect("autodoc-skip-member", skip_member)
    app.add_post_transform(LinkSymbols)
