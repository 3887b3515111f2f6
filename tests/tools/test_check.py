"""A built site is read as a reader's browser would: dead links, pages that nobody finds, loads from other hosts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.docs.check import navigation, problems_of

CONFIG = """
[project]
nav = ["index.md", { "Reference" = [{ "Keys" = "keys.md" }, "decisions/README.md"] }]
"""
PAGES = ("index.md", "keys.md", "decisions/README.md")


def problems(
    at: Path, html: str = "", *, pages: tuple[str, ...] = PAGES, config: str = CONFIG, css: str = ""
) -> list[str]:
    site = at / "site"
    (site / "decisions").mkdir(parents=True, exist_ok=True)
    (site / "index.html").write_text(html)
    (site / "keys.html").write_text('<h2 id="a-key">A key</h2><a name="old">')
    (site / "decisions" / "index.html").write_text('<a href="../keys.html#a-key">keys</a> <a href="../">start</a>')
    (site / "style.css").write_text(css)
    (at / "zensical.toml").write_text(config)
    return problems_of(site, at / "zensical.toml", pages)


def test_a_site_with_nothing_wrong(tmp_path: Path) -> None:
    html = """
      <link rel="stylesheet" href="style.css"><img src="data:image/png;base64,AA">
      <a href="keys.html#old">a</a> <a href="decisions/">b</a> <a href="#here">c</a> <p id="here">
      <a href="https://example.com/nobody-asks">d</a> <a href="mailto:a@example.com">e</a>
    """
    assert problems(tmp_path, html, css="a { background: url(data:x) }") == []


@pytest.mark.parametrize(
    ("html", "problem"),
    [
        ('<a href="gone.html">', "index.html: the link to gone.html leads nowhere"),
        ('<a href="keys.html#gone">', "index.html: the link to keys.html#gone leads to no anchor of that page"),
        ('<a href="#gone">', "index.html: the link to #gone leads to no anchor of that page"),
        ('<a href="/keys.html">', "index.html: the link to /keys.html leads nowhere"),
        ('<img src="gone.svg">', "index.html: the link to gone.svg leads nowhere"),
        ('<script src="https://x.example/a.js"></script>', "index.html: loads https://x.example/a.js"),
        ('<link rel="preconnect" href="https://fonts.example">', "index.html: loads https://fonts.example"),
        ('<img src="//x.example/a.png">', "index.html: loads //x.example/a.png"),
        ('<p style="background: url(http://x.example)">', "index.html: loads http://x.example"),
        ("<style>@import 'https://x.example/a.css'</style>", "index.html: loads https://x.example/a.css"),
        ('<img srcset="a.png 1x, https://x.example 2x" src="style.css">', "index.html: loads https://x.example"),
        (
            '<pre class="mermaid">',
            "index.html: has an element of class mermaid, for which a script is loaded from another host",
        ),
    ],
)
def test_what_is_wrong_with_a_page(tmp_path: Path, html: str, problem: str) -> None:
    assert problems(tmp_path, html) == [problem]


def test_a_style_sheet_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    css = "@import url('https://x.example/a.css'); @font-face { src: url(https://x.example/a.woff2) }"
    assert problems(tmp_path, css=css) == [
        "style.css: loads https://x.example/a.css",
        "style.css: loads https://x.example/a.woff2",
    ]


def test_the_page_for_what_is_not_there_may_link_from_the_root(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site/404.html").write_text('<a href="/keys.html">a</a> <a href="/gone.html">b</a>')
    assert problems(tmp_path) == ["404.html: the link to /gone.html leads nowhere"]


def test_a_page_that_stands_nowhere_in_the_navigation(tmp_path: Path) -> None:
    found = problems(tmp_path, pages=(*PAGES, "orphan.md"))
    assert found == ["orphan.md: stands nowhere in the navigation (`nav` of docs/zensical.toml)"]


def test_a_navigation_that_names_what_is_not_there_or_twice(tmp_path: Path) -> None:
    config = CONFIG.replace('"index.md",', '"index.md", "index.md", "gone.md",')
    assert problems(tmp_path, config=config) == [
        "the navigation names gone.md, which is no page",
        "the navigation names index.md twice",
    ]


def test_the_navigation_in_its_order(tmp_path: Path) -> None:
    (tmp_path / "zensical.toml").write_text(CONFIG)
    assert navigation(tmp_path / "zensical.toml") == list(PAGES)
