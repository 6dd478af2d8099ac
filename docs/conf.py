"""The site, built by Sphinx from the notebooks and their stored outputs: `make docs`. No cell is run."""
import importlib.util
import sys
from pathlib import Path

root = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(root / "docs"), str(root / "tools")]

import api  # noqa: E402
import doorstep  # noqa: E402
import films  # noqa: E402
import pages  # noqa: E402
import toys  # noqa: E402
from pages import cfg  # noqa: E402

project = html_title = cfg["title"]
author, release = cfg["author"], cfg["version"]
copyright = f"{cfg['copyright']} · version {release} · Apache License 2.0"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx.ext.mathjax", "sphinx.ext.intersphinx",
              "sphinx_copybutton"]
exclude_patterns = ["_*", "**/.ipynb_checkpoints", "runs"]
add_module_names = False
toc_object_entries_show_parents = "hide"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "undoc-members": True}
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
python_use_unqualified_type_names = True
intersphinx_mapping = api.write_inventories(root / "docs/inventories", root / "_build/inventories")
intersphinx_disabled_reftypes = ["std:*"]

nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["amsmath", "dollarmath", "html_image"]
myst_dmath_double_inline = True
myst_heading_anchors = 3

# MathJax in one file, with its glyphs, so that no page asks another host for anything
[mathjax_package] = importlib.util.find_spec("sphinx-mathjax-offline").submodule_search_locations
mathjax = Path(mathjax_package) / "static/mathjax/tex-svg-full.js"
mathjax_path = mathjax.name
mathjax3_config = {"options": {"enableMenu": False}}

html_theme = "furo"
html_baseurl = doorstep.site + "/"
pygments_dark_style = "github-dark"
html_favicon = "_static/favicon.svg"
templates_path = ["_templates"]
html_static_path = ["_static", str(mathjax)]
html_css_files = ["site.css"]
html_js_files = [("site.js", {"defer": "defer"})]
html_copy_source = False
html_theme_options = {"top_of_page_buttons": [], "navigation_with_keys": False}


def setup(app):
    app.connect("builder-inited", films.write_film_of_home)
    app.connect("source-read", pages.show_page)
    app.connect("source-read", toys.put_in)
    app.connect("autodoc-process-docstring", api.add_docments)
    app.connect("autodoc-process-signature", api.plain_types, priority=900)    # after autodoc's own
    app.connect("autodoc-skip-member", api.skip_member)
    app.connect("doctree-resolved", films.take_out_films)
    app.connect("html-page-context", doorstep.add_meta)
    app.connect("build-finished", doorstep.write_lists)
    app.add_post_transform(api.LinkSymbols)
