"""What nbdev leaves to Quarto or to Jupyter.

`nb.py run [notebook ...]` stores new outputs, `nb.py maps` draws the map at the head of every notebook,
`nb.py pictures` takes from them the pictures that other pages show, `nb.py readme` writes README.md.
"""
import re
import subprocess
import sys
from base64 import b64decode
from configparser import ConfigParser
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile

import nbformat
from nbclient import NotebookClient

from bcq_nb.show import save_gif

root = Path(__file__).resolve().parents[1]

# The pipeline from top to bottom. The path is numbered; side notebooks have a letter behind the number
MAP = {
    "the problem": ["00_extrapolation", "00a_guarantees"],
    "environment ↓": ["02_atari", "02b_masks", "02d_names", "02e_plain", "03_environments"],
    "behavior policy ↓": ["04_networks", "04a_checkpoints", "04b_training", "04c_agents", "04d_reports",
                          "04e_guard", "04f_stopping", "04g_replay", "04h_resume", "05_dqn"],
    "batch ↓": ["01_buffers", "02a_frames", "02c_stacks", "06_generation"],
    "your own log ↓": ["08_logs", "07c_doubts", "07g_report", "07b_imitation", "07e_overview", "07f_coverage",
                       "08a_exchange", "07d_alignment", "06a_authors"],
    "policy ↓": ["07_bcq", "07a_cartpole", "07h_seeds"],
    "many runs ↓": ["12_studies", "11d_cells", "11da_work", "11e_entries", "11ea_plan", "11f_crews"],
    "judged": ["03a_evaluation", "03aa_thoughts", "03b_panel", "03ba_show", "03c_film", "08e_inspection",
               "08f_evidence", "08g_fqe", "08h_verdict", "09_ope", "09a_selection", "09b_pitfalls", "09c_intervals",
               "08b_sepsis", "08c_counting", "10_icu"],
    "tools": ["00b_checks", "00i_arguments", "00ia_shapes", "00j_calls", "00bb_locks", "00c_files", "00ca_mapped",
              "00d_slots", "00da_patterns", "00e_tables", "00f_recorder", "00g_transfer", "00h_video", "00k_seals",
              "00l_weights", "00m_archives", "00n_kept", "08d_columns", "13a_speed", "18a_record", "18b_early",
              "18c_settings", "18d_logs", "19a_runs", "19aa_costs", "19b_fit", "19c_outcome", "19d_choose",
              "19e_compare", "19f_words", "20_cli"],
}
MAP_MARKS = re.compile(r"<!-- map -->(.*?<!-- end of map -->)?", re.S)


@cache
def title(name: str) -> str:
    "A notebook's number and its title up to a colon"
    first_line = nbformat.read(root / f"nbs/{name}.ipynb", as_version=4).cells[0].source.splitlines()[0]
    return f"{name.partition('_')[0]} {first_line.lstrip('# ').partition(':')[0]}"


def map_entry(name: str, here: str) -> str:
    "A notebook on the map: a link, but for the one that the reader is in"
    if name == here:
        return f"**► {title(name)}** (you are here)"
    link = f"[{title(name)}]({name}.ipynb)"
    is_side_notebook = name[2].isalpha()
    return f"*{link}*" if is_side_notebook else link


def draw_map(here: str) -> str:
    "The map of all notebooks as a table in Markdown"
    lines = ["| the pipeline | the path, and *side notebooks* to enter when wanted |", "|---|---|"]
    for stage, names in MAP.items():
        lines.append(f"| {stage} | {' · '.join(map_entry(name, here) for name in names)} |")
    return "\n".join(["<!-- map -->", *lines, "<!-- end of map -->"])


def maps() -> None:
    "Draw the map where a notebook has the line `<!-- map -->`"
    for path in sorted((root / "nbs").glob("*.ipynb")):
        nb = nbformat.read(path, as_version=4)
        before = nbformat.writes(nb)
        for cell in nb.cells:
            if cell.cell_type == "markdown":
                new_map = draw_map(path.stem)
                cell.source = MAP_MARKS.sub(lambda _, text=new_map: text, cell.source)
        if nbformat.writes(nb) != before:
            nbformat.write(nb, path)


def without_progress(outputs: list) -> list:
    "Outputs as they are stored: no progress bars, no warnings, and what was printed as one piece"
    kept = []
    for out in outputs:
        is_progress_bar = "application/vnd.jupyter.widget-view+json" in out.get("data", {})
        if out.get("name") == "stderr" or is_progress_bar:
            continue
        if kept and out.get("name") == "stdout" == kept[-1].get("name"):
            kept[-1].text += out.text   # in how many pieces it came is chance
        else:
            kept.append(out)
    return kept


def run(*names: str) -> None:
    "Execute notebooks (all, unless named) where they lie, `#| eval: false` cells left out, and store their outputs"
    for path in [Path(name) for name in names] or sorted((root / "nbs").glob("*.ipynb")):
        nb = nbformat.read(path, as_version=4)
        code = [cell for cell in nb.cells if cell.cell_type == "code"]
        for cell in code:
            if re.search(r"^#\s*\|\s*eval:\s*false", cell.source, re.M):
                cell.metadata["tags"] = ["skip-execution"]
        resources = {"metadata": {"path": str(path.parent)}}
        NotebookClient(nb, timeout=None, kernel_name="python3", resources=resources).execute()
        for cell in code:
            cell.outputs = without_progress(cell.outputs)
        nb.metadata.pop("widgets", None)
        nbformat.write(nb, path)
        subprocess.run([Path(sys.executable).with_name("nbdev_clean"), "--fname", path], cwd=root, check=True)
        print("ran", path.name)


def pictures() -> None:
    "Keep the picture of each cell that says `#| picture: NAME.png` under that name, for pages that run no code for it"
    for path in sorted((root / "nbs").glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            named = re.search(r"^#\| picture: ([\w.]+)$", cell.source, re.M)
            if named:
                [png] = [out["data"]["image/png"] for out in cell.outputs if "image/png" in out.get("data", {})]
                (root / "nbs/images" / named[1]).write_bytes(b64decode(png))


def films(html: str) -> list[bytes]:
    "The videos in a notebook's HTML, as MP4"
    return [b64decode(data) for data in re.findall(r'src="data:video/mp4;base64,([^"]+)"', html)]


class Readme:
    "README.md in the making: its parts, and the pictures that belong to it"
    def __init__(self):
        parser = ConfigParser()
        parser.read(root / "settings.ini", encoding="utf-8")
        cfg = parser["DEFAULT"]
        self.site = cfg["doc_host"] + cfg["doc_baseurl"]
        self.raw = f"https://raw.githubusercontent.com/{cfg['user']}/{cfg['repo']}/{cfg['branch']}/nbs"
        self.parts = ["<!-- Written from nbs/index.ipynb by `make sync` -->"]

    def add_markdown(self, source: str) -> None:
        "Prose; links and pictures by absolute address, as PyPI needs them"
        source = re.sub(r"\]\((\w+)\.(ipynb|md)", rf"]({self.site}/\1.html", source)
        source = re.sub(r"\]\((images/[\w.]+)\)", rf"]({self.raw}/\1)", source)
        self.parts.append(source)

    def add_picture(self, content: bytes, suffix: str, alt: str) -> None:
        "A picture, stored among the notebooks' images"
        name = f"images/readme{len(self.parts)}.{suffix}"
        (root / "nbs" / name).write_bytes(content)
        self.parts.append(f"![{alt}]({self.raw}/{name})")

    def add_films(self, html: str, caption: str) -> None:
        "Films as animated pictures side by side: where README is shown, videos are dropped"
        pictures = []
        for k, film in enumerate(films(html)):
            name = f"images/readme{len(self.parts)}_{k}.gif"
            with NamedTemporaryFile(suffix=".mp4") as file:
                file.write(film)
                file.flush()
                save_gif(file.name, root / "nbs" / name)
            pictures.append(f"![{caption}]({self.raw}/{name})")
        self.parts.append(" ".join(pictures))

    def add_output(self, out, alt: str) -> None:
        "What a cell gave: text, a picture, or films"
        data = out.get("data", {})
        if "image/png" in data:
            self.add_picture(b64decode(data["image/png"]), "png", alt)
        elif "text/html" in data:
            self.add_films(data["text/html"], alt)
        else:
            text = (out.get("text") or data["text/plain"]).rstrip()
            self.parts.append(f"```text\n{text}\n```")


def readme() -> None:
    "README.md from index.ipynb: prose, code, what is printed, pictures and films"
    page = Readme()
    for old in (root / "nbs/images").glob("readme*"):
        old.unlink()
    for cell in nbformat.read(root / "nbs/index.ipynb", as_version=4).cells:
        source = re.sub(r"^#\|.*\n?", "", cell.source, flags=re.M).strip()
        if cell.cell_type == "markdown":
            page.add_markdown(source)
        elif "#| hide" not in cell.source:
            if "#| echo: false" not in cell.source:
                page.parts.append(f"```python\n{source}\n```")
            alt = re.search(r"^#\| fig-alt: (.*)$", cell.source, re.M)
            for out in cell.outputs:
                page.add_output(out, alt[1] if alt else "")
    (root / "README.md").write_text("\n\n".join(page.parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    {"run": run, "maps": maps, "pictures": pictures, "readme": readme}[sys.argv[1]](*sys.argv[2:])
