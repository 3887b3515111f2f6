"""Log lines as JSON objects on stdout, one a line.

Owns their form. What is worth a line is decided where it happens, through `logging`; further members come as
`extra={"fields": {...}}`.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec


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
        return msgspec.json.encode(entry, enc_hook=str).decode()


def set_up(level: str, stream: TextIO | None = None) -> None:
    """Send everything that is logged at `level` (debug, info, warning, error) or above to `stream`, by default stdout."""
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.raiseExceptions = False  # a full disk or a closed pipe must not stop the data path


def write_line(line: bytes) -> None:
    """Write whole lines to stdout as they are, past `logging`; what cannot be written is lost."""
    with suppress(OSError):
        view = memoryview(line)
        while view:
            view = view[os.write(1, view) :]
