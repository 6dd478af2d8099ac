"""What search engines, other sites and programs read: descriptions, a picture, the list of pages."""
import re
from html import escape
from pathlib import Path
from xml.sax.saxutils import escape as escape_xml

from pages import cfg, chapters, head

site = cfg["doc_host"] + cfg["doc_baseurl"]
DESCRIPTIONS = {
    "symbols": "Every symbol of the formulas: what it is, its name in the code, its shape and range",
    "references": "The papers and programs that the notebooks lean on",
    "touch": "Three things to try by hand: twelve squares, the threshold, the noise of a log",
    "cite": "How to cite bcq_nb and the papers whose method it implements",
    "changelog": "What has changed in bcq_nb",
    "contributing": "How to change bcq_nb: notebooks are the source",
}


def description_of(app, name: str) -> str:
    "What a page is about, in a sentence"
    path = Path(app.srcdir) / f"{name}.ipynb"
    return head(path)[1] if path.exists() else DESCRIPTIONS.get(name, cfg["description"])


def add_meta(app, pagename: str, templatename: str, context: dict, doctree) -> None:
    "The lines of a page's head for search engines and for links to it"
    words = escape(description_of(app, pagename).replace("`", ""))
    own_title = re.sub(r"<[^>]*>", "", context.get("title", ""))
    title = cfg["title"] if pagename == "index" else escape(f"{own_title} · {cfg['title']}")
    facts = {"og:type": "website", "og:site_name": cfg["title"], "og:title": title, "og:description": words,
             "og:url": f"{site}/{pagename}.html", "og:image": f"{site}/_images/card.png"}
    lines = [f'<meta name="description" content="{words}">', '<meta name="twitter:card" content="summary_large_image">']
    lines += [f'<meta property="{name}" content="{content}">' for name, content in facts.items()]
    context["metatags"] = context.get("metatags", "") + "\n".join(lines)


def write_lists(app, exception) -> None:
    "sitemap.xml, robots.txt and llms.txt, which say what pages there are"
    if exception or app.builder.format != "html":
        return
    names = sorted(name for name in app.env.found_docs if name != "404")
    out = Path(app.outdir)
    urls = "".join(f"<url><loc>{escape_xml(f'{site}/{name}.html')}</loc></url>\n" for name in names)
    (out / "sitemap.xml").write_text('<?xml version="1.0" encoding="UTF-8"?>\n<urlset xmlns="http://www.sitemaps.org/'
                                     f'schemas/sitemap/0.9">\n{urls}</urlset>\n', encoding="utf-8")
    (out / "robots.txt").write_text(f"User-agent: *\nAllow: /\nSitemap: {site}/sitemap.xml\n", encoding="utf-8")
    (out / "llms.txt").write_text(overview(app, names), encoding="utf-8")


def overview(app, names: list[str]) -> str:
    "The site in one text file: what each page is about"
    lines = [f"# {cfg['title']}", "", f"> {cfg['description']}", "",
             f"Install: `pip install {cfg['lib_name']}`. Source: {cfg['git_url']}. License: Apache 2.0."]
    on_the_path = []
    for group, rows in chapters().items():
        lines += ["", f"## {group}", ""]
        for name, answers in rows:
            on_the_path.append(name)
            lines.append(f"- [{head(Path(app.srcdir) / f'{name}.ipynb')[0]}]({site}/{name}.html): {answers}")
    lines += ["", "## Further pages", ""]
    for name in names:
        if name not in on_the_path and name != "index":
            lines.append(f"- [{app.env.titles[name].astext()}]({site}/{name}.html): {description_of(app, name)}")
    return "\n".join(lines) + "\n"
