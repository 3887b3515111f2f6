"""Loggers for aiohttp's servers, which leave out what any client could fill the log with."""

from __future__ import annotations

import logging
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError


class _OurFaultsOnly(logging.Filter):
    """Drops log records about invalid HTTP. The sender is told; a traceback for each would let anyone fill the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], (HttpProcessingError, web.RequestPayloadError)))


_OUR_FAULTS_ONLY: Final = _OurFaultsOnly()


def http_logger(name: str) -> logging.Logger:
    """A logger for one of aiohttp's servers."""
    found = logging.getLogger(name)
    found.addFilter(_OUR_FAULTS_ONLY)
    return found
