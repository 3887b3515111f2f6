"""Reads the built site and says what a reader would stumble over.

Owns three rules that the site generator does not hold: each link in the HTML, whoever wrote it, leads to a page and an
anchor that are there; each page stands in the navigation; no page loads anything from another host. The generator's
script is not searched for addresses, because it names some that it would load for things that no page of ours has:
those things are refused instead. A test with a browser holds that nothing is asked of another host.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

_LOADED: Final[Mapping[str, str]] = {
    **dict.fromkeys(("script", "img", "iframe", "embed", "audio", "video", "source", "track", "input"), "src"),
    "link": "href",
    "object": "data",
    "use": "href",
    "image": "href",
}
"""Tag -> the attribute by which a browser loads something at once."""

_LOADS_MORE: Final = frozenset({"mermaid", "arithmatex", "glightbox", "pyodide", "md-source"})
"""Classes of elements for which the generator's script asks another host: diagrams, formulas, a repository's stars."""

_IN_CSS = re.compile(r"""url\(\s*['"]?([^'")]+)|@import\s+['"]([^'"]+)""")
_NOT_LINKS = ("mailto:", "tel:", "data:", "javascript:")
_AT_ANY_ADDRESS: Final = "404.html"
"""A server answers it for any path, so its links begin at the root. A page's do not: it may be read as a file."""


def problems_of(site: Path, config: Path, pages: Iterable[str]) -> list[str]:
    """What is wrong with a built site: `config` is what it was built by, `pages` what it was built from."""
    read = {path.relative_to(site).as_posix(): _Html.of(path) for path in sorted(site.rglob("*.html"))}
    found = [*_orphans(config, pages)]
    for name, html in read.items():
        found += [f"{name}: {problem}" for problem in (*_dead_links(site, name, html, read), *_loads(html))]
    for path in sorted(site.rglob("*.css")):
        name = path.relative_to(site).as_posix()
        found += [f"{name}: loads {url}" for url in _urls_of(path.read_text(encoding="utf-8")) if _is_elsewhere(url)]
    return found


def navigation(config: Path) -> list[str]:
    """The pages in the navigation, in its order."""
    with config.open("rb") as file:
        return list(_leaves(tomllib.load(file)["project"]["nav"]))


def _leaves(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    elif isinstance(entry, Sequence):
        for part in entry:
            yield from _leaves(part)
    else:
        for part in entry.values():
            yield from _leaves(part)


def _orphans(config: Path, pages: Iterable[str]) -> Iterator[str]:
    listed, there = navigation(config), set(pages)
    for page in sorted(there - set(listed)):
        yield f"{page}: stands nowhere in the navigation (`nav` of docs/{config.name})"
    for page in sorted(set(listed) - there):
        yield f"the navigation names {page}, which is no page"
    for page in sorted({page for page in listed if listed.count(page) > 1}):
        yield f"the navigation names {page} twice"


def _dead_links(site: Path, name: str, html: _Html, read: Mapping[str, _Html]) -> Iterator[str]:
    for link in dict.fromkeys(html.links):
        if link.startswith(_NOT_LINKS) or _is_elsewhere(link):
            continue
        parts = urlsplit(link)
        base = site if name == _AT_ANY_ADDRESS else (site / name).parent
        path = parts.path.removeprefix("/") if name == _AT_ANY_ADDRESS else parts.path
        target = base / unquote(path) if parts.path else site / name
        target = target / "index.html" if target.is_dir() else target
        if not target.is_file():
            yield f"the link to {link} leads nowhere"
            continue
        page = read.get(target.resolve().relative_to(site.resolve()).as_posix())
        if parts.fragment and page is not None and unquote(parts.fragment) not in page.anchors:
            yield f"the link to {link} leads to no anchor of that page"


def _loads(html: _Html) -> Iterator[str]:
    for url in html.loaded:
        if _is_elsewhere(url):
            yield f"loads {url}"
    for word in sorted(html.classes & _LOADS_MORE):
        yield f"has an element of class {word}, for which a script is loaded from another host"


def _urls_of(css: str) -> Iterator[str]:
    for found in _IN_CSS.finditer(css):
        yield found[1] or found[2]


def _is_elsewhere(url: str) -> bool:
    return url.startswith(("http:", "https:", "//"))


class _Html(HTMLParser):
    """What of a page the rules are about."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = {"__skip"}
        self.classes: set[str] = set()
        self._in_style = False

    @classmethod
    def of(cls, path: Path) -> _Html:
        parsed = cls()
        parsed.feed(path.read_text(encoding="utf-8"))
        parsed.close()
        return parsed

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value is not None}
        self._in_style = tag == "style"
        self.anchors.update(values[name] for name in ("id", "name") if name in values)
        self.classes.update(values.get("class", "").split())
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if (attribute := _LOADED.get(tag)) in values:
            self.loaded.append(values[attribute])
            self.links.append(values[attribute])
        self.loaded += [entry.split()[0] for entry in values.get("srcset", "").split(",") if entry.strip()]
        self.loaded += _urls_of(values.get("style", ""))

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.loaded += _urls_of(data)

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False
