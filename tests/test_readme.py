"""README.md as PyPI and GitHub render it: both read GitHub's Markdown first and set formulas afterwards."""
import html
import re
from configparser import ConfigParser
from pathlib import Path

import pytest
from PIL import Image
from readme_renderer.markdown import render

root = Path(__file__).resolve().parents[1]
text = (root / "README.md").read_text(encoding="utf-8")
prose = re.sub(r"```.*?```", "", text, flags=re.S)
formulas = re.findall(r"\$\$(.+?)\$\$|(?<!\$)\$([^$\n]+)\$(?!\$)", prose, re.S)
parser = ConfigParser()
parser.read(root / "settings.ini", encoding="utf-8")
cfg = parser["DEFAULT"]


@pytest.fixture(scope="module")
def page():
    rendered = render(text)
    assert rendered is not None
    return html.unescape(rendered)


def test_formulas_survive(page):
    assert len(formulas) > 3
    assert not [formula for pair in formulas for formula in pair if formula and formula not in page]


def test_no_formula_has_what_only_one_renderer_keeps():
    r"`\,` loses its backslash on PyPI, and GitHub refuses some commands"
    joined = " ".join(formula for pair in formulas for formula in pair)
    assert not re.findall(r"\\[^a-zA-Z]|\\operatorname", joined)


def test_pictures_and_links_survive(page):
    for alt, address in re.findall(r"!\[([^\]]*)\]\(([^)]*)\)", text):
        assert alt and address in page
        assert address.startswith("https://"), "PyPI knows no other files"
    links = re.findall(r"(?<!!)\[(?:[^\[\]]|!?\[[^\]]*\])*\]\(([^)]+)\)", text)
    assert links and not [link for link in links if not link.startswith("https://") or link not in page]


def test_nothing_is_left_over(page):
    assert "<figure" not in text and "<div" not in text and "base64" not in text
    without_code = re.sub(r"<pre.*?</pre>", "", page, flags=re.S)
    visible = re.sub(r"<[^>]*>", "", without_code)
    assert not re.findall(r"!\[|\]\(|\*\*|^#", visible, re.M)


def test_pictures_are_there_and_light():
    raw = f"https://raw.githubusercontent.com/{cfg['user']}/{cfg['repo']}/{cfg['branch']}/"
    names = re.findall(re.escape(raw) + r"(nbs/images/[\w.]+)", text)
    assert len(names) >= 2
    for name in names:
        assert (root / name).stat().st_size <= 1_000_000
    [moving] = [name for name in names if name.endswith(".gif")]
    assert getattr(Image.open(root / moving), "n_frames", 1) > 20


def test_it_begins_with_what_one_needs():
    first_screen = text[: text.index("## ")]
    assert f"pip install {cfg['lib_name']}" in first_screen and cfg["description"] in first_screen
    assert "colab.research.google.com" in first_screen and cfg["git_url"] in first_screen


def test_one_version_and_one_title():
    citation = (root / "CITATION.cff").read_text(encoding="utf-8")
    page = (root / "nbs/cite.md").read_text(encoding="utf-8")
    assert f"\nversion: {cfg['version']}\n" in citation
    assert f"version = {{{cfg['version']}}}" in page
    [title] = re.findall(r'^title: "(.*)"$', citation, re.M)
    assert title.replace("_", r"\_") in page
