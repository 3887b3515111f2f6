"""Log lines as JSON objects on stdout, one a line.

Owns their form. What is worth a line is decided where it happens, through `logging`; further members come as
`extra={"fields": {...}}`.
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
"""Control characters that JSON lets pass as they are: DEL and the C1 controls, which a terminal may obey."""


def json_line(entry: dict[str, Any]) -> bytes:
    """One JSON object without its line end, with every control character escaped."""
    try:
        line = _ENCODER.encode(entry)
    except UnicodeEncodeError:  # half a surrogate pair, as in a file name that is not UTF-8
        line = json.dumps(msgspec.to_builtins(entry, enc_hook=str), default=str).encode()
    if line.isascii() and b"\x7f" not in line:
        return line
    return _UNESCAPED.sub(lambda found: b"\\u00%02x" % found[0][-1], line)


class JsonFormatter(logging.Formatter):
    """`time`, `level`, `event`, `logger`, then the record's own fields."""

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
    """Send what is logged at `level` (debug, info, warning, error) or above to `write`, a whole line at a time."""
    handler = _Lines(write)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.raiseExceptions = False  # a line that cannot be formatted must not stop the data path
