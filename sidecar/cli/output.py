"""How the commands print: JSON, tables, numbers, times and durations.

Tables are made with `rich`, which is imported when the first one is made. If stdout is not a terminal, a table is as
wide as its content, and no line ends in blanks.
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
"""The width of output that does not go to a terminal."""

_GAP: Final = 2
_FIRST_COLUMN: Final = 12
_LAST_COLUMN: Final = 20
"""On a narrow terminal the first column keeps this width at least, and the last one gets this width if it can."""


def print_json(value: Any) -> None:
    """Print one value as indented JSON."""
    import json

    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def printable(text: str) -> str:
    """Text from elsewhere, made safe to print: one line, without control characters."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def terminal_width() -> int:
    """How wide a line may be: UNBOUNDED if stdout is not a terminal and COLUMNS is not set."""
    import os
    import shutil
    import sys

    if not sys.stdout.isatty() and not os.environ.get("COLUMNS"):
        return UNBOUNDED
    return shutil.get_terminal_size().columns


def console() -> Console:
    """Standard output. It has colour only on a terminal, and none if NO_COLOR is set."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False, width=terminal_width())


def show(*parts: RenderableType, to: Console | None = None) -> None:
    """Print the parts below each other."""
    to = to or console()
    if to.is_terminal:
        to.print(*parts, sep="\n")
        return
    with to.capture() as captured:
        to.print(*parts, sep="\n")
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, header: bool = True, whole: bool = False) -> Table:
    """A table of texts, plain or styled. A column whose title begins with `>` holds numbers and is aligned right.

    If the table is too wide, the first column is cut and the last one is broken into lines: the numbers between them
    have to stay readable. With `whole` the first column is never cut.
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
            max_width=max(_FIRST_COLUMN, terminal_width() - others) if at == 0 and not whole else None,
        )
    for row in cells:
        made.add_row(*row)
    return made


def natural_width(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> int:
    """The width of a table in characters, if nothing is cut. A value is a text, plain or styled."""
    lines = [[title.removeprefix(">") for title in columns], *rows]
    widths = [
        max(len(cell if isinstance(cell, str) else cell.plain) for cell in column)
        for column in zip(*lines, strict=True)
    ]
    return sum(widths) + _GAP * (len(widths) - 1)


def styled(text: str, style: str) -> Text:
    """A text in a colour. The text has to say everything, because the colour may be missing."""
    from rich.text import Text

    return Text(text, style=style)


def milliseconds(value: float | None) -> str:
    """`3.1 ms`, `1.2 s`; `-` if nothing was measured."""
    if value is None:
        return "-"
    if value >= 1000:
        return f"{value / 1000:.1f} s"
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms"


def seconds(value: float) -> str:
    """`4m 10s`: a remaining time, rounded up to whole seconds."""
    whole = max(0, ceil(value))
    parts = [(whole // 3600, "h"), (whole % 3600 // 60, "m"), (whole % 60, "s")]
    words = [f"{number}{unit}" for number, unit in parts if number]
    return " ".join(words[:2]) or "0s"


def percent(value: float | None) -> str:
    """`99.5%`; `-` if nothing was counted."""
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


def value_text(value: Any) -> str:
    """A value of the configuration as YAML, on one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(map(value_text, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {value_text(one)}" for key, one in value.items()) + "}"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def origin_of(setting: dict[str, Any]) -> str:
    """Where a value was set: `default`, or `service, line 12`."""
    line = setting.get("line")
    return f"{setting['origin']}, line {line}" if line else str(setting["origin"])
