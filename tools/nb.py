"""What nbdev leaves to Quarto or to Jupyter.

`nb.py run [notebook ...]` stores new outputs, `nb.py maps` draws the map at the head of every notebook,
`nb.py pictures` takes from them the pictures that other pages show, `nb.py readme` writes README.md
from the beginning of index.ipynb.
"""
import re
import subprocess
import sys
from base64 import b64decode
from configparser import ConfigParser
from functools import cache
from pathlib import Path

import nbformat
from narrow import as_gif, stored_films, together
from nbclient import NotebookClient

root = Path(__file__).resolve().parents[1]

# The pipeline from top to bottom. The path is numbered; side notebooks have a letter behind the number
MAP = {
    "the problem": ["00_extrapolation", "00a_guarantees"],
    "environment ↓": ["02_atari", "02b_masks", "02d_names", "02e_plain", "03_environments"],
    "behavior policy ↓": ["04_networks", "03d_threads", "04a_checkpoints", "04b_training", "04c_agents", "04d_reports",
                          "04da_loggers", "04e_guard", "04f_stopping", "04g_replay", "04h_resume", "04i_export",
                          "05_dqn", "05a_pretrained"],
    "batch ↓": ["01_buffers", "02a_frames", "02c_stacks", "06_generation", "06b_shards"],
    "your own log ↓": ["08_logs", "07c_doubts", "07g_report", "07b_imitation", "07e_overview", "07f_coverage",
                       "08a_exchange", "07d_alignment", "06a_authors"],
    "policy ↓": ["07_bcq", "07a_cartpole", "07h_seeds", "07j_serving", "07k_curves"],
    "compared ↓": ["11_baselines", "11a_heads", "11b_iql", "12c_comparison", "13_pong"],
    "many runs ↓": ["12_studies", "12a_status", "12b_scores", "11c_algorithms", "11d_cells", "11da_work", "11e_entries",
                    "11ea_plan", "11f_crews", "11g_cluster"],
    "judged": ["03a_evaluation", "03aa_thoughts", "03b_panel", "03ba_show", "03c_film", "08e_inspection",
               "08f_evidence", "08g_fqe", "08h_verdict", "09_ope", "09a_selection", "09b_pitfalls", "09c_intervals",
               "08b_sepsis", "08c_counting", "10_icu"],
    "tools": ["00b_checks", "00i_arguments", "00ia_shapes", "00j_calls", "00bb_locks", "00c_files", "00ca_mapped",
              "00d_slots", "00da_patterns", "00e_tables", "00f_recorder", "00g_transfer", "00h_video", "00k_seals",
              "00l_weights", "00m_archives", "00n_kept", "08d_columns", "13a_speed", "18a_record", "18b_early",
              "18c_settings", "18d_logs", "19a_runs", "19aa_costs", "19b_fit", "19c_outcome", "19d_choose",
              "19e_compare", "19ea_reading", "19f_words", "20_cli"],
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
    "Keep for pages that run no code the picture of each cell that says `#| picture: NAME.png`, and the film of home"
    for path in sorted((root / "nbs").glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            named = re.search(r"^#\| picture: ([\w.]+)$", cell.source, re.M)
            if named:
                [png] = [out["data"]["image/png"] for out in cell.outputs if "image/png" in out.get("data", {})]
                (root / "nbs/images" / named[1]).write_bytes(b64decode(png))
    film = together(stored_films(root / "nbs/index.ipynb"), axis=1)
    (root / "nbs/images/narrow.gif").write_bytes(as_gif(film, width=720))


def for_readme(source: str, site: str, raw: str) -> str:
    "Prose with links and pictures by absolute address, as PyPI needs them"
    source = re.sub(r"\]\((\w+)\.(?:ipynb|md)", rf"]({site}/\1.html", source)
    source = re.sub(r"\]\(#", rf"]({site}/index.html#", source)
    return re.sub(r"\]\((images/[\w.]+)\)", rf"]({raw}/\1)", source)


def badges(repository: str, site: str) -> str:
    "What can be said in a badge and stays true by itself"
    tests = f"[![tests]({repository}/actions/workflows/test.yml/badge.svg)]({repository}/actions/workflows/test.yml)"
    pages = f"[![site]({repository}/actions/workflows/site.yml/badge.svg)]({site})"
    licensed = f"[![License: Apache 2.0](https://img.shields.io/badge/license-Apache_2.0-blue)]({repository}/blob/main/LICENSE)"
    return f"{tests} {pages} {licensed}"


def shown_in_readme(cells: list) -> list:
    "The cells that README takes: up to `<!-- README: stop -->`, and again from `<!-- README: go on -->`"
    shown, stopped = [], False
    for cell in cells:
        stopped = (stopped or "<!-- README: stop -->" in cell.source) and "<!-- README: go on -->" not in cell.source
        if not stopped and "#| hide" not in cell.source:
            shown.append(cell)
    return shown


def readme() -> None:
    "README.md from index.ipynb: prose, code, and what is printed"
    parser = ConfigParser()
    parser.read(root / "settings.ini", encoding="utf-8")
    cfg = parser["DEFAULT"]
    site = cfg["doc_host"] + cfg["doc_baseurl"]
    raw = f"https://raw.githubusercontent.com/{cfg['user']}/{cfg['repo']}/{cfg['branch']}/nbs"
    title, *cells = shown_in_readme(nbformat.read(root / "nbs/index.ipynb", as_version=4).cells)
    parts = ["<!-- Written from nbs/index.ipynb by `make sync` -->", title.source, badges(cfg["git_url"], site)]
    for cell in cells:
        source = re.sub(r"^(#\||<!--).*\n*", "", cell.source, flags=re.M).strip()
        if cell.cell_type == "markdown":
            parts.append(for_readme(source, site, raw))
            continue
        if "#| echo: false" not in cell.source:
            parts.append(f"```python\n{source}\n```")
        for out in cell.outputs:
            text = (out.get("text") or out["data"]["text/plain"]).rstrip()
            parts.append(f"```text\n{text}\n```")
    (root / "README.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    {"run": run, "maps": maps, "pictures": pictures, "readme": readme}[sys.argv[1]](*sys.argv[2:])
