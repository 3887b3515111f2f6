"""JSON logs: writes each log record as one JSON object a line on stdout.

Owns the format. Each module decides what to log, through `logging`; additional members come from `extra={"fields":
{...}}`.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

_ENCODER: Final = msgspec.json.Encoder(enc_hook=str)
_UNESCAPED: Final = re.compile(rb"\xc2[\x80-\x9f]|\x7f")
"""Control characters that JSON does not escape: DEL and the C1 controls. A terminal may act on them."""


def json_line(entry: Any) -> bytes:
    """One JSON object (from a dict or a struct) without its line end, with every control character escaped."""
    try:
        line = _ENCODER.encode(entry)
    except UnicodeEncodeError:  # half a surrogate pair, as in a file name that is not UTF-8
        line = json.dumps(msgspec.to_builtins(entry, enc_hook=str), default=str).encode()
    return escaped(line)


def add_line(entry: Any, lines: bytearray) -> None:
    """Append one JSON object and its line end to `lines`. Call `escaped` before anybody reads them."""
    before = len(lines)
    try:
        _ENCODER.encode_into(entry, lines, before)
    except UnicodeEncodeError:
        lines[before:] = json_line(entry)
    lines += b"\n"


def escaped(lines: bytes) -> bytes:
    """The lines with their control characters escaped."""
    if lines.isascii() and b"\x7f" not in lines:
        return lines
    return _UNESCAPED.sub(lambda found: b"\\u00%02x" % found[0][-1], lines)


class JsonFormatter(logging.Formatter):
    """Formats a record: `time`, `level`, `event`, `logger`, then the record's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        entry: dict[str, Any] = {
            "time": time,
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
        }
        fields = getattr(record, "fields", None)
        if fields:
            entry.update(fields)
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json_line(entry).decode()


class _Lines(logging.Handler):
    def __init__(self, write: Callable[[bytes], None]) -> None:
        super().__init__()
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        self._write(self.format(record).encode() + b"\n")


def set_up(level: str, write: Callable[[bytes], None]) -> None:
    """Send records at `level` (debug, info, warning, error) or above to `write`, one complete line at a time."""
    handler = _Lines(write)
    handler.setFormatter(JsonFormatter())
    logging.getLogger().handlers[:] = [handler]
    set_level(level)
    logging.raiseExceptions = False  # a line that cannot be formatted must not stop the data path


def set_level(level: str) -> None:
    """Set the level for stdout. Records of the sidecar at info and above are always created, because they may be
    events.
    """
    threshold = logging.getLevelNamesMapping()[level.upper()]
    root = logging.getLogger()
    root.setLevel(threshold)
    for handler in root.handlers:
        if isinstance(handler, _Lines):
            handler.setLevel(threshold)
    logging.getLogger("sidecar").setLevel(min(threshold, logging.INFO))
