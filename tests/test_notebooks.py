"""Each notebook by nbdev's own command, in a process of its own, so that pytest counts them and runs two at a time."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

root = Path(__file__).resolve().parents[1]
bin_dir = Path(sys.executable).parent
NEEDS = {"08a_exchange": "minari"}   # which is not there for Python 3.10


@pytest.mark.parametrize("notebook", sorted(root.glob("nbs/*.ipynb")), ids=lambda path: path.stem)
def test_notebook(notebook):
    if notebook.stem in NEEDS:
        pytest.importorskip(NEEDS[notebook.stem])
    env = {**os.environ, "PATH": f"{bin_dir}:{os.environ['PATH']}"}
    command = [bin_dir / "nbdev_test", "--path", notebook]
    run = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, timeout=900)
    # its exit status is 0 also where it found nothing to run
    assert run.returncode == 0 and "Success." in run.stdout, run.stdout + run.stderr
