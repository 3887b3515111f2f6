"""Lists, from the Markdown that people and code hosts know to the one that the site generator reads.

Owns two differences. In CommonMark what belongs to an item is indented as its first word is, by two for `- `; the
generator's parser, Python-Markdown, wants four for each level. And in CommonMark a list may follow a line of text
without a blank line between them, as an item may follow the second paragraph of the one before. Once the generator
reads CommonMark, which its authors have announced, this file can go.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_MARKER: Final = re.compile(r"([-*+]|\d{1,9}[.)])( +)(?=\S)")
_FENCE: Final = re.compile(r"(```+|~~~+)")
_PER_LEVEL: Final = 4


def widened(text: str) -> str:
    """The text with each line of a list indented by four for each level."""
    return "\n".join(_widened(text.split("\n")))


def _widened(lines: list[str]) -> Iterator[str]:
    contents: list[int] = []  # where the contents of each open item begin, outermost first
    fence, moved = "", 0
    above, several = "", False  # the line above, unless it is blank; whether an item has several blocks
    for line in lines:
        bare = line.lstrip(" ")
        column = len(line) - len(bare)
        if fence:
            yield " " * moved + line if bare else line
            fence = "" if bare.startswith(fence) and not bare.strip("`~ ") else fence
        elif not bare:
            yield line
            several = bool(contents)
        else:
            in_a_list = bool(contents)
            while contents and column < contents[-1]:
                contents.pop()
            marker = _MARKER.match(bare)
            several = several and bool(marker or contents)
            if marker and above and (several or not in_a_list):
                yield ""
            moved = _PER_LEVEL * len(contents) - (contents[-1] if contents else 0)
            yield " " * moved + line
            if marker:
                contents.append(column + marker.end())
            elif opened := _FENCE.match(bare):
                fence = opened[1]
        above = line if bare else ""
