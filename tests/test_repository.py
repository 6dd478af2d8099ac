"""What git cannot know: files in sync, code clean, notebooks in order and short, one notation, one palette, Colab."""
import ast
import json
import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from bcq_nb.evaluation import COLORS

root = Path(__file__).resolve().parents[1]
bin_dir = Path(sys.executable).parent
paths = sorted(root.glob("nbs/*.ipynb"))
numbered = [path for path in paths if path.stem[0].isdigit()]
notebooks = pytest.mark.parametrize("path", paths, ids=lambda path: path.stem)
numbered_notebooks = pytest.mark.parametrize("path", numbered, ids=lambda path: path.stem)


def cells(path, kind=None):
    "The texts of a notebook's cells, of all or of one kind: \"code\", \"markdown\""
    found = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in found if kind in (None, cell["cell_type"])]


def module_of(path):
    "The name of the module that a notebook exports, None where there is none"
    names = re.findall(r"^#\| default_exp (\w+)", "\n".join(cells(path, "code")), re.M)
    return names[0] if names else None


def imported(source):
    "The modules that some code imports: \"numpy\", \"bcq_nb.dqn\""
    magic = re.compile(r"^\s*[%!].*$", re.M)
    nodes = list(ast.walk(ast.parse(magic.sub("", source))))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            own = [f"bcq_nb.{alias.name}" for alias in node.names if not alias.name.startswith("__")]
            names += own if node.module == "bcq_nb" else [node.module]
    return set(names)


# Generated files

def files(folder):
    "Path -> bytes of what the notebooks generate, and of themselves."
    patterns = ("bcq_nb/*.py", "nbs/*.ipynb", "nbs/images/*", "README.md")
    return {path.relative_to(folder): path.read_bytes() for pattern in patterns for path in folder.glob(pattern)}


def test_exports_notebooks_and_readme_are_in_sync(tmp_path):
    for name in ("nbs", "bcq_nb", "tools"):
        shutil.copytree(root / name, tmp_path / name)
    for name in ("settings.ini", "README.md"):
        shutil.copy(root / name, tmp_path)
    tool = [bin_dir / "python", "tools/nb.py"]
    export, clean = [bin_dir / "nbdev_export"], [bin_dir / "nbdev_clean"]
    for command in (export, [*tool, "maps"], clean, [*tool, "pictures"], [*tool, "readme"]):
        subprocess.run(command, cwd=tmp_path, check=True)
    now, then = files(tmp_path), files(root)
    stale = sorted(str(path) for path in now.keys() | then.keys() if now.get(path) != then.get(path))
    assert not stale, f"run `make sync`: {stale}"


# Code

@pytest.mark.parametrize("command", ["ruff check --output-format concise .", "mypy bcq_nb"])
def test_code_is_clean(command):
    program, *arguments = command.split()
    run = subprocess.run([bin_dir / program, *arguments], cwd=root, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


@numbered_notebooks
def test_notebook_imports_only_from_notebooks_before_it(path):
    "The order of the files is the order in which they are read: nothing is used before it is explained."
    before = {f"bcq_nb.{module_of(other)}" for other in numbered if other.name < path.name}
    ours = {name for cell in cells(path, "code") for name in imported(cell) if name.startswith("bcq_nb.")}
    own = {f"bcq_nb.{module_of(path)}"}   # a notebook may ask for its own source
    words = {f"bcq_nb.{name}" for name in ("arguments", "shapes", "calls")}   # of signatures, and what keeps them
    assert ours <= before | own | words, sorted(ours - before - own - words)


def test_exported_code_needs_nothing_of_nbdev():
    exported = [cell for path in numbered for cell in cells(path, "code") if cell.startswith("#| export")]
    assert exported
    developing = {"nbdev", "fastcore", "execnb"}
    assert not [cell for cell in exported if developing & {name.partition(".")[0] for name in imported(cell)}]


def test_modules_are_short():
    long = {path.name: lines for path in root.glob("bcq_nb/[!_]*.py")
            if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 265}
    assert not long


# Notebooks

def test_the_way_to_dqn_is_short():
    "The numbered notebooks are the path; those with a letter behind the number are entered when wanted."
    on_the_path = [path for path in numbered if path.stem[2] == "_" and path.stem < "05"]
    assert sum(len(cells(path)) for path in on_the_path) <= 250


@notebooks
def test_notebook_is_fit_to_be_read(path):
    assert path.stat().st_size < 1_000_000
    found = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert len(found) <= 80
    outputs = [out for cell in found for out in cell.get("outputs", [])]
    assert not [out for out in outputs if out["output_type"] == "error" or out.get("name") == "stderr"]


@notebooks
def test_notebook_opens_in_colab(path):
    "The badge leads to the notebook's own place, and the package is installed there, and only there."
    if path.stem == "index":
        return
    parser = ConfigParser()
    parser.read(root / "settings.ini", encoding="utf-8")
    cfg = parser["DEFAULT"]
    address = f"https://colab.research.google.com/github/{cfg['user']}/{cfg['repo']}/blob/{cfg['branch']}/nbs/{path.name}"
    prose = "\n".join(cells(path, "markdown"))
    assert re.findall(r"\]\((https://colab\.research\.google\.com/github/[^)]*)\)", prose) == [address]
    install = [cell for cell in cells(path, "code") if f"install -q {cfg['lib_name']}" in cell]
    assert len(install) == 1 and '"google.colab" in sys.modules' in install[0]


# One notation

GREEK = """alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi
    omega varepsilon vartheta varpi varrho varsigma varphi Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega ell"""
GREEK_LETTER = rf"\\({'|'.join(GREEK.split())})(?![a-z])"
MARKED = r"\\hat\s*\{?(\w)\}?|\\mathcal\s*\{?(\w)\}?"
SYMBOL = re.compile(rf"{MARKED}|{GREEK_LETTER}|\\[a-zA-Z]+|([A-Za-z])")
WORDS = re.compile(r"\\(?:text|mathrm|mathbb|begin|end)\s*\{[^{}]*\}")   # a word says itself what it is
UNIVERSAL = set("ijknmtTed")   # indices, times, Euler's number, the d of a differential
LOCAL = {                      # explained where they are used, and used nowhere else
    "00_extrapolation": {"v"},
    "02_atari": {"P", "f"},
    "05_dqn": {"K", "c"},
    "07h_seeds": {"K", "W", "x"},
    "11_baselines": {r"\lambda", "c"},
    "11a_heads": {"K", r"\varphi"},
    "12b_scores": {"X", "Y", "x"},
    "12c_comparison": {"x"},
    "11b_iql": {r"\beta", r"\xi", "q", "v"},
}


def formulas(text):
    "The formulas of a text in Markdown, code left out"
    text = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.S)
    return [display or inline for display, inline in re.findall(r"\$\$(.+?)\$\$|(?<![\\$])\$([^$]+?)\$", text, re.S)]


def symbols(formula):
    r"The symbols in a formula: `Q_{\theta'}(s, \hat a)` has Q, \theta, s, \hat a. Other commands are notation."
    found = set()
    for hat, script, greek, letter in SYMBOL.findall(WORDS.sub(" ", formula)):
        marked = {rf"\hat {hat}": hat, rf"\mathcal {script}": script, rf"\{greek}": greek}
        found |= {symbol for symbol, present in marked.items() if present} | set(letter)
    return found - UNIVERSAL


def test_symbols_are_found():
    assert symbols(r"y = r + \gamma\, Q_{\theta'}(s', \mathrm{argmax}_{\hat{a}} Q_\theta(s', \hat a))") == {
        "y", "r", r"\gamma", "Q", r"\theta", "s", r"\hat a"}
    assert symbols(r"\text{mean over } \mathcal{B} \to \mathrm{terminated} \cdot \max_k x_k") == {
        r"\mathcal B", "x"}
    assert formulas("costs `$5`, $a$ and\n$$b$$") == ["a", "b"]


@notebooks
def test_symbols_are_in_the_table(path):
    lines = (root / "nbs/symbols.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("| $")]
    table = {symbol for row in rows for formula in formulas(row.split(" | ")[0]) for symbol in symbols(formula)}
    used = {symbol for cell in cells(path, "markdown") for formula in formulas(cell) for symbol in symbols(formula)}
    assert used - table == LOCAL.get(path.stem, set())


@numbered_notebooks
def test_the_palette_is_written_once(path):
    "A color means one kind of policy in all figures: it comes from `COLORS`, before that from a line that says so."
    if path.stem == "03a_evaluation":
        return
    lines = [line for cell in cells(path, "code") for line in ["", *cell.splitlines()]]
    literal = re.compile("|".join(COLORS.values()), re.I)
    says_so = re.compile(r"#.*\bcolors? .*\ball notebooks")
    found = [line for above, line in zip(lines, lines[1:], strict=False)
             if literal.search(line) and not (path.stem < "03a" and says_so.search(f"{above}\n{line}"))]
    assert not found


def test_data_of_others_come_with_their_license():
    for path in root.glob("bcq_nb/data/*.npz"):
        notice = path.with_name(f"{path.stem}_LICENSE.txt").read_text(encoding="utf-8")
        assert "Copyright (c)" in notice and "Permission is hereby granted" in notice
