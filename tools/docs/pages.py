"""Collects the pages of the site in one folder: docs/, and the pages that stand at the top of the repository.

Owns the links between pages. In the repository a page links to files as they lie there, so that it can be read there
too; here each link gets the place that its target has in the site. A file that is linked to and is no page goes into
the site as it is, under `files/`. A link that leads nowhere is a mistake, and all mistakes are reported at once.

A drawing (SVG) that stands alone on its line becomes part of the page, so that its colours are the page's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Final

from tools.docs.lists import widened

FROM_THE_TOP: Final[Mapping[str, str]] = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "LICENSE": "license.md",
}
"""A file at the top of the repository -> its page. One that is not there has none."""

NOT_PAGES: Final = ("zensical.toml",)
"""What lies in docs/ and is no part of the site."""

_FENCE = re.compile(r"^ *(```+|~~~+)")
_LINK = re.compile(r"(!?\[(?:[^\[\]]|\[[^\]]*\])*\]\()([^)\s]+)(\))")
_PICTURE = re.compile(r"!\[[^\]]*\]\(([^)\s]+\.svg)\)")
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)


class LinkErrors(Exception):
    """Links that lead nowhere, each with its file and line."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


def collect(root: Path, into: Path) -> list[str]:
    """Writes the pages of the repository at `root` into a folder, and returns their names in it, in order.

    A file that would not change is not written again, so a preview builds only what changed. What else is in the folder
    goes. Raises LinkErrors; the folder is not touched then.
    """
    pages = _pages(root)
    contents: dict[str, bytes] = {}
    mistakes: list[str] = []
    for source, page in pages.items():
        if not page.endswith(".md"):
            contents[page] = (root / source).read_bytes()
            continue
        text = (root / source).read_text(encoding="utf-8")
        collected = _Page(root, source, page, pages)
        contents[page] = (
            widened(collected.linked(text)) if source.endswith(".md") else _verbatim(source, text)
        ).encode()
        contents |= {name: (root / file).read_bytes() for name, file in collected.files.items()}
        mistakes += collected.mistakes
    if mistakes:
        raise LinkErrors(mistakes)
    _write(contents, into)
    return sorted(page for page in pages.values() if page.endswith(".md"))


def _pages(root: Path) -> dict[str, str]:
    """File of the repository -> its name in the site."""
    docs = root / "docs"
    found = {f"docs/{name}": name for name in sorted(_names(docs)) if name not in NOT_PAGES}
    return found | {source: page for source, page in FROM_THE_TOP.items() if (root / source).is_file()}


def _names(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield path.relative_to(folder).as_posix()


def _verbatim(source: str, text: str) -> str:
    return f"# {source.capitalize()}\n\n```text\n{text.rstrip()}\n```\n"


class _Page:
    """One page on its way: which files it links to, and which of its links lead nowhere."""

    def __init__(self, root: Path, source: str, page: str, pages: Mapping[str, str]) -> None:
        self.files: dict[str, str] = {}
        self.mistakes: list[str] = []
        self._root = root
        self._source = PurePosixPath(source)
        self._page = PurePosixPath(page)
        self._pages = pages

    def linked(self, text: str) -> str:
        """The text with each link outside of code as the site needs it."""
        lines = []
        fence = ""
        for number, line in enumerate(text.split("\n"), 1):
            marked = _FENCE.match(line)
            if fence:
                fence = "" if marked and marked[1].startswith(fence) else fence
            elif marked:
                fence = marked[1]
            elif drawn := _PICTURE.fullmatch(line):
                line = self._picture(drawn[1], number)
            else:
                line = _LINK.sub(partial(self._link, number), line)
            lines.append(line)
        return "\n".join(lines)

    def _picture(self, written: str, line: int) -> str:
        place = self._target(written, line)
        drawing = self._root / self._source.parent / written
        if not drawing.is_file():
            return place
        return f'<figure class="picture">\n{drawing.read_text(encoding="utf-8").strip()}\n</figure>'

    def _link(self, line: int, found: re.Match[str]) -> str:
        return found[1] + self._target(found[2], line) + found[3]

    def _target(self, written: str, line: int) -> str:
        path, mark, anchor = written.partition("#")
        if not path or _ELSEWHERE.match(path):
            return written
        target = os.path.normpath(self._source.parent / path).replace(os.sep, "/")
        place = self._pages.get(target)
        if place is None:
            if target.startswith("../") or not (self._root / target).is_file():
                self.mistakes.append(f"{self._source}:{line}: {written} leads nowhere")
                return written
            place = f"files/{target}"
            self.files[place] = target
        return os.path.relpath(place, self._page.parent).replace(os.sep, "/") + mark + anchor


def _write(contents: Mapping[str, bytes], into: Path) -> None:
    into.mkdir(parents=True, exist_ok=True)
    for name in set(_names(into)) - set(contents):
        (into / name).unlink()
    for name, content in contents.items():
        path = into / name
        if not path.is_file() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
