"""The package as `pip install` gives it, in _build/wheel: no repository, no nbdev.

`make test-wheel` builds and installs it.
"""
import json
import os
import subprocess
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
root = Path(__file__).resolve().parents[1]
bin_dir = root / "_build/wheel/bin"
modules = sorted(path.stem for path in root.glob("bcq_nb/[!_]*.py"))


def run_alone(folder, *command):
    "In an empty folder, with the settings that Colab has: figures inline, no display"
    env = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "PYTHONPATH")}
    env["PATH"] = f"{bin_dir}:{env['PATH']}"
    env["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    words = [bin_dir / command[0], *command[1:]]
    run = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_wheel_holds_the_package_and_nothing_else():
    [wheel] = root.glob("dist/*.whl")
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    beside = [f"{folder}/{path.name}" for folder in ("results", "data") for path in root.glob(f"bcq_nb/{folder}/*")]
    files = ["__init__.py", "_modidx.py", "py.typed", *beside, *(f"{module}.py" for module in modules)]
    assert sorted(names) == sorted(f"bcq_nb/{name}" for name in files)


IMPORTS = """
import importlib, os, sys
import gymnasium, torch   # once for all: the rest of an import is quick
for module in sys.argv[1:]:
    if os.fork() == 0:
        importlib.import_module(f"bcq_nb.{module}")
        print(module, *sys.modules, flush=True)
        os._exit(0)
    _, status = os.wait()
    assert status == 0, module
"""


def test_imports_are_light(tmp_path):
    "What draws, films or reads a command line is imported when it is used, and what develops the package never."
    heavy = {"matplotlib", "cv2", "imageio", "PIL", "pandas", "pyarrow", "minari", "h5py", "tyro"}
    developing = {"nbdev", "fastcore", "execnb", "IPython"}
    told = [line.split() for line in run_alone(tmp_path, "python", "-c", IMPORTS, *modules).splitlines()]
    assert [module for module, *_ in told] == modules
    assert {module: found for module, *loaded in told if (found := set(loaded) & (heavy | developing))} == {}


@pytest.mark.parametrize("notebook", sorted(root.glob("nbs/*.ipynb")), ids=lambda path: path.stem)
def test_notebook_runs_alone(notebook, tmp_path):
    "Without the cells marked slow, which `make slow` runs, as nbdev_test leaves them out"
    content = json.loads(notebook.read_text(encoding="utf-8"))
    content["cells"] = [cell for cell in content["cells"] if not "".join(cell["source"]).startswith("#| slow")]
    (tmp_path / notebook.name).write_text(json.dumps(content), encoding="utf-8")
    run_alone(tmp_path, "jupyter-execute", notebook.name)
