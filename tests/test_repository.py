"""What git cannot know: generated files are what the notebooks give, and every notebook opens in Colab."""
import json
import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

root = Path(__file__).resolve().parents[1]
bin_dir = Path(sys.executable).parent
notebooks = pytest.mark.parametrize("path", sorted(root.glob("nbs/*.ipynb")), ids=lambda path: path.stem)


def files(folder):
    "Path -> bytes of what the notebooks generate, and of themselves."
    patterns = ("bcq_nb/*.py", "nbs/*.ipynb", "nbs/images/*", "README.md")
    return {path.relative_to(folder): path.read_bytes() for pattern in patterns for path in folder.glob(pattern)}


def test_exports_notebooks_and_readme_are_in_sync(tmp_path):
    for name in ("nbs", "bcq_nb", "tools"): shutil.copytree(root / name, tmp_path / name)
    for name in ("settings.ini", "README.md"): shutil.copy(root / name, tmp_path)
    commands = ["nbdev_export", "python tools/nb.py maps", "nbdev_clean", "python tools/nb.py readme"]
    for command in map(str.split, commands):
        subprocess.run([bin_dir / command[0], *command[1:]], cwd=tmp_path, check=True)
    now, then = files(tmp_path), files(root)
    stale = sorted(str(path) for path in now.keys() | then.keys() if now.get(path) != then.get(path))
    assert not stale, f"run `make sync`: {stale}"


def test_ruff():
    run = subprocess.run([bin_dir / "ruff", "check", "--output-format", "concise", "."], cwd=root, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


@notebooks
def test_notebook_is_fit_to_be_read(path):
    assert path.stat().st_size < 1_000_000
    outputs = [out for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] for out in cell.get("outputs", [])]
    assert not [out for out in outputs if out["output_type"] == "error" or out.get("name") == "stderr"]


@notebooks
def test_notebook_opens_in_colab(path):
    "The badge leads to the notebook's own place, and the package is installed there, and only there."
    if path.stem == "index": return
    parser = ConfigParser()
    parser.read(root / "settings.ini", encoding="utf-8")
    cfg = parser["DEFAULT"]
    address = f"https://colab.research.google.com/github/{cfg['user']}/{cfg['repo']}/blob/{cfg['branch']}/nbs/{path.name}"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    prose = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    assert re.findall(r"\]\((https://colab\.research\.google\.com/github/[^)]*)\)", prose) == [address]
    install = [cell for cell in cells if cell["cell_type"] == "code" and f"install -q {cfg['lib_name']}" in "".join(cell["source"])]
    assert len(install) == 1 and '"google.colab" in sys.modules' in "".join(install[0]["source"])
