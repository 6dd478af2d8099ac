"""The site as a reader meets it: every page opened in headless Chromium. `make test-site`."""
import json
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
read = [name for name in pages if "/" not in name]     # the others show a module's source
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
    const shown = document.querySelector('article, main, body').cloneNode(true);
    for (const word of shown.querySelectorAll('code.literal')) word.remove();   // what prose says of it is no leak
    if (shown.textContent.includes('#|')) problems.push('leaked: #|');
    for (const leak of ['show_doc(', ':::', '$$', '{py:', ':param']) {
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
TOO_WIDE = """[...document.querySelectorAll('html, .content, .cell_input pre, article > section > .highlight pre')]
    .filter((box) => box.scrollWidth > box.clientWidth)
    .map((box) => `${box.scrollWidth} pixels wide, ${box.clientWidth} are there: ${box.tagName} ${box.className}`)"""
CUT_FORMULAS = """() => {
    const cut = [...document.querySelectorAll('.math-wrapper, .output')].filter((box) =>
        box.scrollWidth > box.clientWidth + 1 && !box.classList.contains('scrolls'));
    return cut.map((box) => 'cut without a sign of it: ' + box.innerText.slice(0, 60));
}"""
HEAVIEST = 1.5e6      # bytes of a page with its pictures and the posters of its films, less MathJax


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
    for width in (390, 1100, 1280, 1440):     # a phone, the page without and with its table of contents
        page.set_viewport_size({"width": width, "height": 844})
        page.wait_for_timeout(50)             # a resized page looks again at what must be scrolled
        problems += page.evaluate(TOO_WIDE)
        problems += page.evaluate(CUT_FORMULAS)
    links = page.evaluate("[...document.querySelectorAll('a[href]')].map((a) => a.href)")
    problems += [f"dead link: {link}" for link in links if is_dead(link, server)]
    page.close()
    assert not problems, "\n".join(problems)


def test_search_finds(browser, server):
    page = browser.new_page()
    page.goto(server + "search.html?q=extrapolation")
    page.wait_for_selector("#search-results li a", timeout=10_000)
    page.close()


def wait_for_results(page) -> str:
    "What a search shows first"
    page.wait_for_selector("#search-results li .context", timeout=10_000)
    return page.inner_text("#search-results li .context >> nth=0")


def test_search_shows_prose(browser, server):
    page = browser.new_page()
    page.goto(server + "search.html?q=threshold")
    excerpt = wait_for_results(page)
    page.close()
    assert not re.findall(r"\\\w|assert |\(\)\.|:param", excerpt), excerpt


def test_what_is_folded_is_found_and_opened(browser, server):
    page = browser.new_page()
    page.goto(server + "07_bcq.html#bcq_nb.bcq.DiscreteBCQ")
    page.wait_for_timeout(300)
    assert page.is_visible("[id='bcq_nb.bcq.DiscreteBCQ']")
    page.goto(server + "search.html?q=DiscreteBCQ")
    page.wait_for_selector("#search-results li a", timeout=10_000)
    page.close()


@pytest.mark.parametrize("name", read)
def test_page_can_be_read_by_all(browser, server, name):
    "axe-core's rules: nothing serious, and in the dark no color that cannot be told from what is behind it"
    from axe_playwright_python.sync_playwright import Axe
    page = browser.new_page()
    page.route("**/tex-svg*", lambda route: route.abort())      # formulas take long to be set, and have no colors
    page.goto(server + name, wait_until="load")
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    page.emulate_media(color_scheme="dark")
    in_the_dark = {"resultTypes": ["violations"], "runOnly": ["color-contrast"]}
    found += Axe().run(page, options=in_the_dark).response["violations"]
    page.close()
    serious = [rule for rule in found if rule["impact"] in ("serious", "critical")]
    assert not [(rule["id"], rule["nodes"][0]["html"][:200]) for rule in serious]


@pytest.mark.parametrize("name", read)
def test_page_is_light(name):
    text = (site / name).read_text(encoding="utf-8")
    files = set(re.findall(r'(?:src|href|poster)="((?:_images|_static)/[^"?#]+\.(?:png|svg|jpg|gif|css|js))', text))
    sizes = {file: (site / file).stat().st_size for file in files if "mathjax" not in file and "tex-svg" not in file}
    assert "base64,AAAA" not in text, "a film belongs into a file"
    assert len(text.encode()) + sum(sizes.values()) < HEAVIEST, sorted(sizes.items(), key=lambda item: -item[1])[:5]


# What other programs read

def test_head_and_lists():
    home = (site / "index.html").read_text(encoding="utf-8")
    for part in ('<meta name="description"', 'property="og:image"', '<link rel="canonical"', "version 0."):
        assert part in home
    assert (site / "_images/card.png").stat().st_size < 300_000
    for name in ("404.html", "sitemap.xml", "robots.txt", "llms.txt", "cite.html", "changelog.html"):
        assert (site / name).stat().st_size > 50
    overview = (site / "llms.txt").read_text(encoding="utf-8")
    assert not [name for name in read if name[:2].isdigit() and name not in overview and name != "404.html"]


# Keys and fingers

def test_arrow_keys_stay_on_the_page(browser, server):
    page = browser.new_page()
    page.goto(server + "07_bcq.html", wait_until="load")
    for selector in ("body", ".highlight pre", ".player input"):
        page.eval_on_selector(selector, "box => { box.tabIndex = 0; box.focus() }")
        page.keyboard.press("ArrowRight")
    page.wait_for_timeout(200)
    assert page.url.endswith("07_bcq.html")
    page.close()


def test_film_is_stepped_through(browser, server):
    page = browser.new_page()
    page.goto(server + "index.html", wait_until="load")
    page.eval_on_selector_all(".films video", "films => films.forEach(film => { film.preload = 'auto'; film.load() })")
    page.wait_for_function("[...document.querySelectorAll('.films video')].every(film => film.readyState >= 2)")
    times = "[...document.querySelectorAll('.films video')].map(film => Math.floor(film.currentTime * 15 + 0.1))"
    for _ in range(2):
        page.get_by_role("button", name="One step forth").press("Enter")
        page.wait_for_timeout(300)
    assert page.evaluate(times) == [2, 2]
    page.get_by_role("button", name="One step back").click()
    page.wait_for_timeout(300)
    assert page.evaluate(times) == [1, 1]
    assert page.evaluate("document.querySelectorAll('video[controls]').length") == 0
    page.close()


def test_film_of_home_can_be_stopped(browser, server):
    page = browser.new_page()
    page.goto(server + "index.html", wait_until="load")
    says = "word => document.querySelector('.hero button').textContent === word"
    button = page.locator(".hero button")
    page.evaluate("document.querySelector('video.narrow').pause()")   # a busy browser may not have begun
    page.wait_for_function(says, arg="Play")
    button.click()
    page.wait_for_function(says, arg="Pause")
    button.click()
    page.wait_for_function(says, arg="Play")
    assert page.evaluate("document.querySelector('video.narrow').paused")
    page.close()


@pytest.fixture(params=["keyboard", "touch"])
def toy_page(browser, server, request):
    "The page of things to touch, and how one presses there"
    context = browser.new_context(has_touch=request.param == "touch", viewport={"width": 390, "height": 844})
    page = context.new_page()
    problems = watch(page, server)
    page.goto(server + "touch.html", wait_until="load")

    def press(locator):
        if request.param == "touch":
            locator.tap()
        else:
            locator.focus()
            page.keyboard.press("Space")
    yield page, press
    context.close()
    assert not problems


def believed_and_got(page) -> tuple[float, float]:
    box = page.locator("#toy-squares")
    return float(box.get_attribute("data-believes")), float(box.get_attribute("data-gets"))


def test_squares(toy_page):
    "What the page computes is what the package computes, for the hikers and for a walk of one's own"
    import numpy as np

    from bcq_nb.extrapolation import (
        Transitions,
        batch_constrained_q_learning,
        greedy,
        hikers,
        q_learning,
        state_values,
        walk,
    )

    page, press = toy_page
    mdp, batch = hikers()

    def expected(constrained):
        zeros = np.zeros((12, 4))
        if constrained:
            q, policy = batch_constrained_q_learning(batch, zeros, mdp.discount, 20_000)
            return q[8][policy[8] > 0].max(), state_values(mdp, policy)[8]
        q = q_learning(batch, zeros, mdp.discount, 20_000)
        return q[8].max(), state_values(mdp, greedy(q))[8]

    assert believed_and_got(page) == pytest.approx(expected(False), abs=1e-3)
    box = page.locator("#toy-squares")
    press(box.get_by_role("checkbox"))
    assert believed_and_got(page) == pytest.approx(expected(True), abs=1e-3)
    press(box.get_by_role("checkbox"))
    for name in ("left", "right"):        # against the border, then over the cliff
        press(box.get_by_role("button", name=name, exact=True))
    batch = Transitions.from_rows([*batch.rows(), *walk(mdp, 8, "LR").rows()])
    assert believed_and_got(page) == pytest.approx(expected(False), abs=1e-3)
    assert box.locator("li").count() == 4
    press(box.get_by_role("button", name="empty the log"))
    assert believed_and_got(page)[0] == 0 and box.locator("li").count() == 0
    press(box.get_by_role("button", name=re.compile("^Square 4")))       # the square above S
    assert box.locator("li").inner_text().startswith("↑")
    box.get_by_role("button", name=re.compile("^Square 4")).focus()
    page.keyboard.press("ArrowRight")
    assert box.locator("li").inner_text().startswith("↑ →")


def set_slider(page, press, selector: str, value: float) -> None:
    slider = page.locator(selector)
    slider.scroll_into_view_if_needed()
    low, high = float(slider.get_attribute("min")), float(slider.get_attribute("max"))
    frame = slider.bounding_box()
    if page.evaluate("navigator.maxTouchPoints"):
        knob = 16
        x = knob / 2 + (frame["width"] - knob) * (value - low) / (high - low)
        slider.tap(position={"x": x, "y": frame["height"] / 2})
    else:
        slider.focus()
        page.keyboard.press("Home")
        for _ in range(round((value - low) / float(slider.get_attribute("step")))):
            page.keyboard.press("ArrowRight")


def test_threshold(toy_page):
    page, press = toy_page
    box = page.locator("#toy-threshold")
    states = json.loads(page.inner_text("#data-threshold") or page.evaluate(
        "document.getElementById('data-threshold').textContent"))
    assert all(abs(state["q"][0] - state["q"][1]) < 0.01 * max(state["q"]) for state in states)   # as the page says
    for tau in (0.0, 0.1, 0.4, 0.9):      # 0.244 is where the first state's other action goes
        set_slider(page, press, "#tau", tau)
        shown = float(page.locator("#tau").input_value())
        assert abs(shown - tau) < 0.05
        q, p = states[0]["q"], states[0]["p"]
        allowed = [a for a in (0, 1) if p[a] > shown * max(p)]
        chosen = max(allowed, key=lambda a: q[a])
        names = ["left", "right"]
        assert box.get_attribute("data-allowed") == " ".join(names[a] for a in allowed)
        assert box.get_attribute("data-chosen") == names[chosen]
    set_slider(page, press, "#step", 20)
    assert abs(float(page.locator("#step").input_value()) - 20) < 4


def test_noise(toy_page):
    from bcq_nb.generation import action_ratio, noise_for_ratio
    page, press = toy_page
    box = page.locator("#toy-noise")
    for eps, n, tau in ((0.2, 2, 0.3), (0.8, 18, 0.3), (0.5, 4, 0.1), (1.0, 2, 0.9)):
        for selector, value in (("#eps", eps), ("#n", n), ("#tau-noise", tau)):
            set_slider(page, press, selector, value)
        eps, n, tau = (float(page.locator(selector).input_value()) for selector in ("#eps", "#n", "#tau-noise"))
        ratio = action_ratio(eps, int(n))
        assert float(box.get_attribute("data-ratio")) == pytest.approx(ratio, abs=1e-4)
        assert float(box.get_attribute("data-needed")) == pytest.approx(noise_for_ratio(tau, int(n)), abs=1e-4)
        assert box.get_attribute("data-free") == str(ratio > tau).lower()


def test_toys_can_be_read_without_a_script(browser, server):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(server + "touch.html")
    assert "gets -18.3" in page.inner_text("#toy-squares")
    assert page.locator("#toy-threshold td").count() == 16 and page.locator("#toy-noise td").count() > 15
    context.close()
