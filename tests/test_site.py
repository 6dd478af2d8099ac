"""The site as a reader meets it: every page opened in headless Chromium. `make test-site`."""
import re
import shutil
import threading
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urldefrag, urlsplit

import pytest

pytestmark = pytest.mark.slow
site = Path(__file__).resolve().parents[1] / "_build/site"
pages = sorted(str(path.relative_to(site)) for path in site.rglob("*.html"))
chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

PROBLEMS = """async () => {
    if (window.MathJax) await MathJax.startup.promise;
    const problems = [];
    const text = document.querySelector('article, main, body').innerText;
    const all = (selector) => [...document.querySelectorAll(selector)];
    for (const math of all('.math')) {
        if (!math.querySelector('mjx-container')) problems.push('formula not rendered: ' + math.innerText);
    }
    for (const error of all('mjx-merror, [data-mjx-error]')) {
        problems.push('formula refused: ' + error.getAttribute('data-mjx-error'));
    }
    for (const leak of ['#|', 'show_doc(', ':::', '$$', '{py:', ':param']) {
        if (text.includes(leak)) problems.push('leaked: ' + leak);
    }
    for (const image of all('img')) {
        if (!image.complete || !image.naturalWidth) problems.push('picture not shown: ' + image.src.slice(0, 80));
        if (!image.alt || image.alt.includes('_images/')) {
            problems.push('picture without a description: ' + image.src.slice(0, 80));
        }
    }
    for (const video of all('video')) {
        if (!video.muted) problems.push('video with sound');
        if (!video.poster) problems.push('video without a poster');
        if (!video.closest('figure')?.querySelector('figcaption')?.innerText) problems.push('video without a caption');
        video.preload = 'auto';
        for (let i = 0; i < 100 && video.readyState < 2; i++) await new Promise((done) => setTimeout(done, 100));
        if (video.readyState < 2) problems.push('video does not load: readyState ' + video.readyState);
    }
    return problems;
}"""
TOO_WIDE = """[...document.querySelectorAll('html, .content')].filter((box) => box.scrollWidth > box.clientWidth)
    .map((box) => `${box.scrollWidth} pixels wide, ${box.clientWidth} are there`)"""


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="session")
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=site)) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}/"
        httpd.shutdown()


@pytest.fixture(scope="session")
def browser():
    if not chromium:
        pytest.skip("no Chromium here: apt-get install chromium")
    from playwright.sync_api import sync_playwright
    with sync_playwright() as playwright:
        args = ["--no-sandbox", "--disable-gpu", "--disable-quic",
                "--disable-background-networking", "--disable-component-update"]
        yield playwright.chromium.launch(executable_path=chromium, args=args)


@cache
def anchors(path: Path) -> set[str]:
    return set(re.findall(r'\sid="([^"]+)"', path.read_text(encoding="utf-8")))


def test_there_are_pages():
    assert "index.html" in pages, "run `make docs`"


def is_dead(link: str, server: str) -> bool:
    "Whether a link within the site leads to no page, or to no place on it"
    address, fragment = urldefrag(link)
    if not address.startswith(server):
        return False
    target = site / (urlsplit(address).path.lstrip("/") or "index.html")
    if not target.is_file():
        return True
    return bool(fragment) and target.suffix == ".html" and fragment not in anchors(target)


def watch(page, server: str) -> list[str]:
    "A list that fills with what goes wrong on a page: errors, requests to other hosts, files that are not there"
    problems = []

    def on_console(message):
        if message.type == "error":
            problems.append(f"console: {message.text}")

    def on_request(request):
        if not request.url.startswith((server, "data:", "blob:")):
            problems.append(f"asks {request.url}")

    def on_response(response):
        if response.status >= 400:
            problems.append(f"{response.status} {response.url}")

    page.on("console", on_console)
    page.on("pageerror", lambda error: problems.append(f"exception: {error}"))
    page.on("request", on_request)
    page.on("response", on_response)
    return problems


@pytest.mark.parametrize("name", pages)
def test_page(browser, server, name):
    page = browser.new_page()
    problems = watch(page, server)
    page.goto(server + name, wait_until="load")
    problems += page.evaluate(PROBLEMS)
    for width in (390, 1100, 1440):     # a phone, the page without and with its table of contents
        page.set_viewport_size({"width": width, "height": 844})
        problems += page.evaluate(TOO_WIDE)
    links = page.evaluate("[...document.querySelectorAll('a[href]')].map((a) => a.href)")
    problems += [f"dead link: {link}" for link in links if is_dead(link, server)]
    page.close()
    assert not problems, "\n".join(problems)


def test_search_finds(browser, server):
    page = browser.new_page()
    page.goto(server + "search.html?q=extrapolation")
    page.wait_for_selector("#search-results li a", timeout=10_000)
    page.close()
