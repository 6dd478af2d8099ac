"""What nbdev leaves to Quarto or to Jupyter: `nb.py run [notebook ...]` stores new outputs, `nb.py readme` writes README.md."""
import re
import subprocess
import sys
from base64 import b64decode
from configparser import ConfigParser
from pathlib import Path

import nbformat
from nbclient import NotebookClient

root = Path(__file__).resolve().parents[1]


def run(*names: str) -> None:
    "Execute notebooks (all, unless named) where they lie, `#| eval: false` cells left out; progress bars and warnings are not stored."
    for path in [Path(name) for name in names] or sorted((root / "nbs").glob("*.ipynb")):
        nb = nbformat.read(path, as_version=4)
        code = [cell for cell in nb.cells if cell.cell_type == "code"]
        for cell in code:
            if re.search(r"^#\s*\|\s*eval:\s*false", cell.source, re.M): cell.metadata["tags"] = ["skip-execution"]
        NotebookClient(nb, timeout=None, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}).execute()
        for cell in code:
            outputs, cell.outputs = cell.outputs, []
            for out in outputs:
                before = cell.outputs[-1] if cell.outputs else {}
                bar = out.get("name") == "stderr" or "application/vnd.jupyter.widget-view+json" in out.get("data", {})
                if out.get("name") == "stdout" == before.get("name"): before.text += out.text   # in how many pieces it came is chance
                elif not bar: cell.outputs.append(out)
        nbformat.write(nb, path)
        subprocess.run([Path(sys.executable).with_name("nbdev_clean"), "--fname", path], cwd=root, check=True)
        print("ran", path.name)


def readme() -> None:
    "README.md from index.ipynb: prose, code, what is printed, pictures (nbs/images/); links by absolute address, as PyPI needs them."
    parser = ConfigParser()
    parser.read(root / "settings.ini", encoding="utf-8")
    cfg = parser["DEFAULT"]
    site = cfg["doc_host"] + cfg["doc_baseurl"]
    images, address = root / "nbs/images", f"https://raw.githubusercontent.com/{cfg['user']}/{cfg['repo']}/{cfg['branch']}/nbs/images"
    images.mkdir(exist_ok=True)
    parts = ["<!-- Written from nbs/index.ipynb by `make sync` -->"]
    for cell in nbformat.read(root / "nbs/index.ipynb", as_version=4).cells:
        source = re.sub(r"^#\|.*\n?", "", cell.source, flags=re.M).strip()
        if cell.cell_type == "markdown":
            parts.append(re.sub(r"\]\((\w+)\.(ipynb|md)", rf"]({site}/\1.html", source))
        elif cell.cell_type == "code" and "#| hide" not in cell.source:
            if "#| echo: false" not in cell.source: parts.append(f"```python\n{source}\n```")
            texts = [out.get("text") or out["data"]["text/plain"] for out in cell.outputs if set(out.get("data", ())) <= {"text/plain"}]
            if text := "".join(texts).rstrip(): parts.append(f"```text\n{text}\n```")
            for png in (out["data"]["image/png"] for out in cell.outputs if "image/png" in out.get("data", ())):
                name = f"readme{len(parts)}.png"
                (images / name).write_bytes(b64decode(png))
                alt = re.search(r"^#\| fig-alt: (.*)$", cell.source, re.M)
                parts.append(f"![{alt[1] if alt else ''}]({address}/{name})")
    (root / "README.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__": {"run": run, "readme": readme}[sys.argv[1]](*sys.argv[2:])
