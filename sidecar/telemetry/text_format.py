"""Prometheus text format, version 0.0.4: writes metric families as text.

The writer of prometheus_client gives the same result (the tests compare them) but takes six times as long, because it
sorts and checks labels that are constant here. A scrape is answered on the event loop, so requests wait for it. For the
same reason a long text is written in steps, between which the loop can serve requests.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from math import inf
from typing import Final

from sidecar.telemetry.families import Family

PIECE_BYTES: Final = 64 * 1024
"""The least size of a piece of a text that is written in steps."""


def render(families: Iterable[Family]) -> bytes:
    """Counters, gauges and histograms as text. Samples have no timestamps and no exemplars."""
    quoted: dict[str, str] = {}
    return "".join([_header(family) + _lines(family, quoted) for family in families]).encode()


def rendering(parts: Iterable[Iterable[Family]]) -> Generator[None, None, list[bytes]]:
    """As `render`, with a pause after each part. Returns the text in pieces.

    Several parts may have samples of the same family. In the text they stand together, in the order of the parts, as
    the format requires.
    """
    quoted: dict[str, str] = {}
    found: dict[str, list[str]] = {}
    for families in parts:
        for family in families:
            texts = found.get(family.name)
            if texts is None:
                texts = found[family.name] = [_header(family)]
            texts.append(_lines(family, quoted))
        yield
    pieces: list[bytes] = []
    open_piece: list[str] = []
    size = 0
    for texts in found.values():
        for text in texts:
            open_piece.append(text)
            size += len(text)
            if size >= PIECE_BYTES:
                pieces.append("".join(open_piece).encode())
                open_piece, size = [], 0
                yield
    return [*pieces, "".join(open_piece).encode()]


def _header(family: Family) -> str:
    name = family.full_name
    text = family.documentation.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {name} {text}\n# TYPE {name} {family.type}\n"


def _lines(family: Family, quoted: dict[str, str]) -> str:
    """The samples of a family. `quoted` holds label values as they are written; most lines use the same few."""
    lines: list[str] = []
    for sample in family.samples:
        pairs = []
        for label, value in sample.labels.items():
            if value not in quoted:
                quoted[value] = _quote(value)
            pairs.append(f"{label}={quoted[value]}")
        labels = f"{{{','.join(pairs)}}}" if pairs else ""
        lines.append(f"{sample.name}{labels} {_number(sample.value)}\n")
    return "".join(lines)


def _quote(value: str) -> str:
    escaped = value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return f'"{escaped}"'


def _number(value: float) -> str:
    if value in (inf, -inf):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value) if value == value else "NaN"
