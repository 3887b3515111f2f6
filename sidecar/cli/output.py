"""What the commands print: JSON, tables, and numbers in words.

Owns the one place where `rich` is imported. Where stdout is no terminal a table is as wide as it needs to be, and no
line ends in blanks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

UNBOUNDED: Final = 1000
"""Columns where nobody looks at a terminal."""

_GAP: Final = 2
_FIRST_COLUMN: Final = 12
_LAST_COLUMN: Final = 20
"""Characters that these two have at least, or would like to have, where there is little room."""


def print_json(value: Any) -> None:
    """One value, to be read by a program and, if need be, by a human."""
    import json

    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def printable(text: str) -> str:
    """A text from elsewhere that is to be one line, and can do nothing to a terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def columns_there() -> int:
    """How wide a line may be."""
    import os
    import shutil
    import sys

    if not sys.stdout.isatty() and not os.environ.get("COLUMNS"):
        return UNBOUNDED
    return shutil.get_terminal_size().columns


def console() -> Console:
    """Standard output. Colour where it is a terminal, unless NO_COLOR is set."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False, width=columns_there())


def show(*parts: RenderableType, to: Console | None = None) -> None:
    """Print them below each other."""
    to = to or console()
    if to.is_terminal:
        to.print(*parts, sep="\n")
        return
    with to.capture() as captured:
        to.print(*parts, sep="\n")
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, header: bool = True, whole: bool = False) -> Table:
    """Columns whose title begins with `>` are numbers, put to the right. A row's values are texts, plain or styled.

    Where they do not fit, the first column is cut and the last broken into lines: names are long, numbers are needed.
    With `whole` the first is never cut.
    """
    from rich.table import Table
    from rich.text import Text

    cells = [[Text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    widths = [max([len(title), *(row[at].cell_len for row in cells)]) for at, title in enumerate(columns)]
    others = sum(widths[1:-1]) + min(widths[-1], _LAST_COLUMN) + _GAP * (len(columns) - 1)
    made = Table(box=None, pad_edge=False, show_header=header, header_style="bold", padding=(0, _GAP, 0, 0))
    for at, title in enumerate(columns):
        last = at == len(columns) - 1
        made.add_column(
            title.removeprefix(">"),
            justify="right" if title.startswith(">") else "left",
            no_wrap=not last,
            overflow="fold" if last else "ellipsis",
            min_width=widths[0] if whole and at == 0 else None,
            max_width=max(_FIRST_COLUMN, columns_there() - others) if at == 0 and not whole else None,
        )
    for row in cells:
        made.add_row(*row)
    return made


def natural_width(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> int:
    """Columns of a terminal that a table takes where nothing is cut; a value is a text, plain or styled."""
    lines = [[title.removeprefix(">") for title in columns], *rows]
    widths = [
        max(len(cell if isinstance(cell, str) else cell.plain) for cell in column)
        for column in zip(*lines, strict=True)
    ]
    return sum(widths) + _GAP * (len(widths) - 1)


def styled(text: str, style: str) -> Text:
    """A text in a colour; the colour never says anything that the text does not."""
    from rich.text import Text

    return Text(text, style=style)


def milliseconds(value: float | None) -> str:
    """`3.1 ms`, `1.2 s`; `-` where nothing was measured."""
    if value is None:
        return "-"
    if value >= 1000:
        return f"{value / 1000:.1f} s"
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms"


def seconds(value: float) -> str:
    """`4m 10s`: a time that is left, to the second that has begun."""
    whole = max(0, ceil(value))
    parts = [(whole // 3600, "h"), (whole % 3600 // 60, "m"), (whole % 60, "s")]
    words = [f"{number}{unit}" for number, unit in parts if number]
    return " ".join(words[:2]) or "0s"


def percent(value: float | None) -> str:
    """`99.5%`; `-` where nothing was counted."""
    return "-" if value is None else f"{value:.1f}%".replace(".0%", "%")


def number(value: float | None) -> str:
    """A rate or a count; whole numbers without a fraction."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value == round(value) else f"{value:.1f}"


def clock(time: str | None) -> str:
    """An ISO 8601 time as `2026-11-23 01:02:03Z`."""
    return "-" if not time else time.replace("T", " ").partition(".")[0].removesuffix("Z") + "Z"


def time_since(at: str) -> str:
    """How long ago an ISO 8601 time was."""
    from datetime import UTC, datetime

    return seconds((datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds())


def time_left(until: str | None) -> str | None:
    """How long it is until an ISO 8601 time; None without one."""
    if not until:
        return None
    from datetime import UTC, datetime

    return seconds((datetime.fromisoformat(until) - datetime.now(UTC)).total_seconds())


def words_of(value: Any) -> str:
    """A value of the configuration on one line, as YAML would have it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(map(words_of, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {words_of(one)}" for key, one in value.items()) + "}"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def origin_of(setting: dict[str, Any]) -> str:
    """Who set a value: `default`, or `service, line 12`."""
    line = setting.get("line")
    return f"{setting['origin']}, line {line}" if line else str(setting["origin"])
