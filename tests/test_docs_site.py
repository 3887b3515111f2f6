"""The site in a browser: nothing is asked of another host, pages fit a phone, the search works from a folder too."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from markdown import markdown
from markdown_it import MarkdownIt
from selenium.webdriver.common.action_chains import ActionChains

from tests.support import wants
from tests.support.browser import Browser
from tests.support.daemon import ROOT
from tests.support.eventually import eventually
from tests.support.shown import in_console
from tools.docs.build import CONFIG, build
from tools.docs.check import navigation
from tools.docs.lists import widened

in_a_browser = wants.program("chromedriver", "chromium")
PAGES = navigation(ROOT / CONFIG)
TAGS = ("h1", "h2", "h3", "h4", "ul", "ol", "li", "table", "tr", "pre", "a", "strong", "em")
NO_PAGE_OF_DOCS = {"changelog.md", "contributing.md", "security.md", "license.md"}


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    build(ROOT, folder / "site", folder / "work")
    return folder / "site"


@pytest.fixture(scope="module")
def served(site: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(site))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as running:
        yield running


def complaints(browser: Browser) -> list[Any]:
    """What its console said since it was last asked, but for hints."""
    return [entry for entry in browser.driver.get_log("browser") if entry["level"] != "INFO"]


def html_of(page: str) -> str:
    return page.replace("README.md", "index.md").removesuffix(".md") + ".html"


@in_a_browser
def test_no_page_asks_anything_of_another_host(served: str, browser: Browser) -> None:
    complaints(browser)
    for page in PAGES:
        browser.open(served + html_of(page))
        asked = browser.run("return performance.getEntriesByType('resource').map(one => one.name)")
        assert asked
        assert [url for url in asked if not url.startswith((served, "data:"))] == [], page
    assert complaints(browser) == []


@in_a_browser
def test_pages_fit_a_phone(served: str, browser: Browser) -> None:
    """What is too wide, code and tables, scrolls by itself; the page does not."""
    browser.look(width=390, height=844)
    for page in PAGES:
        browser.open(served + html_of(page))
        assert browser.run("return document.documentElement.scrollWidth") <= 390, page
    browser.look()


@in_a_browser
def test_colours_go_with_the_system_and_with_the_toggle(served: str, browser: Browser) -> None:
    def scheme() -> Any:
        return browser.run("return document.body.dataset.mdColorScheme")

    for dark, expected in ((False, "default"), (True, "slate")):
        browser.look(dark=dark)
        browser.open(served + "logs.html")
        assert scheme() == expected
    browser.look()
    browser.open(served + "logs.html")
    seen = []
    for _ in range(3):  # the system's, light, dark
        browser.run("document.querySelector('form[data-md-component=palette] label:not([hidden])').click()")
        seen.append(scheme())
    assert set(seen) == {"default", "slate"}


@in_a_browser
def test_what_is_copied_from_a_console_are_its_commands(served: str, browser: Browser) -> None:
    browser.open(served + "guides/breaker.html")
    # The button puts the text into an element of its own for the browser's command, which a test may not use.
    browser.run(
        "document.execCommand = () => {"
        " window.copied = document.querySelector('textarea:last-of-type').value; return true; }"
    )
    shown = in_console((ROOT / "docs" / "guides" / "breaker.md").read_text())[:3]

    def copied() -> None:
        browser.run("document.querySelector('.language-console [data-md-type=copy]').click()")
        found = browser.run("return window.copied")
        assert found
        assert [line for line in found.splitlines() if line] == [
            line for one in shown for line in one.command.splitlines()
        ]

    eventually(copied, timeout=10)


@in_a_browser
@pytest.mark.parametrize("how", ["served", "from a folder"])
def test_the_search_finds_a_section(served: str, site: Path, browser: Browser, how: str) -> None:
    base = served if how == "served" else f"{site.as_uri()}/"
    complaints(browser)
    browser.open(base + "logs.html")

    def opens() -> None:
        browser.run("if (!document.activeElement.shadowRoot) document.querySelector('.md-search__button').click()")
        assert browser.run("return document.activeElement.shadowRoot?.querySelector('input')?.value") == ""

    def finds() -> None:
        box, first = browser.run(
            "const root = document.activeElement.shadowRoot;"
            "return [root.querySelector('input').value, root.querySelector('a')?.href]"
        )
        assert box == "sidecarpanic"
        assert first == f"{base}alerts.html?h=sidecarpanic#sidecarpanic"

    eventually(opens, timeout=10)
    ActionChains(browser.driver).send_keys("sidecarpanic").perform()
    eventually(finds, timeout=10)
    assert complaints(browser) == []


@pytest.mark.parametrize("page", [page for page in PAGES if page not in NO_PAGE_OF_DOCS])
def test_a_page_reads_the_same_in_the_repository_and_on_the_site(page: str) -> None:
    """The site's parser knows another Markdown than code hosts do (tools/docs/lists.py bridges what we met)."""
    text = (ROOT / "docs" / page).read_text()
    hosts = MarkdownIt("commonmark").enable("table").render(text)
    extensions = ["attr_list", "md_in_html", "pymdownx.betterem", "pymdownx.superfences", "tables"]
    ours = markdown(widened(text), extensions=extensions)

    def counted(html: str) -> dict[str, int]:
        return {tag: html.count(f"<{tag}>") + html.count(f"<{tag} ") for tag in TAGS}

    assert counted(ours) == counted(hosts)
