"""What the site says of a function: the comments beside its parameters, formulas, links from prose."""
import inspect
import re
import zlib
from pathlib import Path

from docutils import nodes
from fastcore.docments import docments
from sphinx import addnodes
from sphinx.transforms.post_transforms import SphinxPostTransform

from bcq_nb._modidx import d as index


def as_rst(line: str) -> str:
    "A line of a docstring, whose code and formulas are written as in the notebooks' Markdown; V^π is a formula too"
    def replacement(match: re.Match) -> str:
        code, formula, value, emphasis, special = match.groups()
        if code:
            return f"``{code}``"
        if formula or value:
            formula = formula or value.replace("π", r"\pi").replace("γ", r"\gamma")
            return f":math:`{formula}`\\ "
        return emphasis or f"\\{special}"
    formulas = r"[vV] = r_π \+ γ p_π v|[VQ]\^[π*]"
    text = re.sub(rf"`([^`]+)`|\$([^$]+)\$|({formulas})|(\*\w+\*)|([*|\\])", replacement, line)
    return re.sub(r"\\ (?=\s|$)", "", text)


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


def without_annotated(words: str) -> str:
    "`Annotated[int, Range(low=1)]` is `int` to a reader: what is allowed, the comment beside the parameter says"
    begin = re.search(r"(?:~?typing\.)?Annotated\[", words)
    if not begin:
        return words
    depth, comma = 1, None
    for end in range(begin.end(), len(words)):
        depth += (words[end] in "[(") - (words[end] in "])")
        if depth == 1 and words[end] == "," and comma is None:
            comma = end
        if depth == 0:
            break
    kept = words[begin.end() : comma]
    return words[: begin.start()] + kept + without_annotated(words[end + 1 :])


def plain_types(app, what, name, obj, options, signature, returns) -> None:
    "The types of a function's parameters, as autodoc has just written them down"
    document = getattr(app.env, "current_document", None)
    written = getattr(document, "autodoc_annotations", None)      # since Sphinx 9
    if written is None:
        written = app.env.temp_data.get("annotations", {})
    for param, words in written.get(name, {}).items():
        written[name][param] = without_annotated(words)


def skip_member(app, what, name, obj, skip, options) -> bool | None:
    "Fields stand among the parameters of their class"
    return None if getattr(obj, "__name__", None) == name or isinstance(obj, property) else True


def is_linked(node: nodes.Node) -> bool:
    "Whether a piece of text is within a link already"
    while node.parent is not None:
        node = node.parent
        if isinstance(node, (nodes.reference, addnodes.pending_xref)):
            return True
    return False


class LinkSymbols(SphinxPostTransform):
    "Code in prose that names a symbol of the package leads to its entry"
    default_priority = 5     # before Sphinx resolves references
    symbols = {full.removeprefix(module + "."): full for module, names in index["syms"].items() for full in names}

    def run(self):
        for literal in list(self.document.findall(nodes.literal)):
            target = self.symbols.get(literal.astext().removesuffix("()"))
            if target and not is_linked(literal):
                link = addnodes.pending_xref(
                    "", literal.deepcopy(), refdomain="py", reftype="obj", reftarget=target,
                    refdoc=self.env.docname, refexplicit=True, refwarn=True)
                literal.replace_self(link)


def write_inventories(source: Path, folder: Path) -> dict[str, tuple[str, str]]:
    """Where names of other libraries are explained, for sphinx.ext.intersphinx, without asking their sites.

    Each file in `source` begins with an address; each further line is a kind, a name as Python has it, and its place.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mapping = {}
    for path in sorted(source.glob("*.txt")):
        address, *lines = path.read_text(encoding="utf-8").splitlines()
        entries = "".join(f"{name} py:{kind} 1 {place} -\n" for kind, name, place in map(str.split, lines))
        top = ["# Sphinx inventory version 2", f"# Project: {path.stem}", "# Version: ", "# Below: zlib", ""]
        inventory = folder / f"{path.stem}.inv"
        inventory.write_bytes("\n".join(top).encode() + zlib.compress(entries.encode()))
        mapping[path.stem] = (address, str(inventory))
    return mapping
