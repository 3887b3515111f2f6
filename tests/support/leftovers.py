"""Finds changes to the process that a test has not undone. The next test of the process would see them.

The next test differs from run to run, so a leftover would cause rare failures elsewhere. With this check, it fails the
test that left it.
"""

from __future__ import annotations

import asyncio
import gc
import locale
import logging
import os
import signal
import socket
import sys
import time
import urllib.request
from typing import Any


def state() -> dict[str, Any]:
    """The state of the whole process, by name. An equal value means that nothing was changed."""
    umask = os.umask(0o022)
    os.umask(umask)
    loggers = [logging.getLogger(name) for name in (None, "asyncio", "aiohttp", "sidecar")]
    return {
        "environment variables": {name: os.environ[name] for name in os.environ if name != "PYTEST_CURRENT_TEST"},
        "working directory": os.getcwd(),
        "file mode mask": oct(umask),
        "signal handlers": {number.name: signal.getsignal(number) for number in signal.Signals},
        "blocked signals": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "garbage collection": (gc.isenabled(), gc.get_threshold(), gc.get_debug(), gc.get_freeze_count() > 0),
        "locale": locale.setlocale(locale.LC_ALL),
        "time zone": time.tzname,
        "logging": [
            (logger.name, logger.level, logger.disabled, logger.propagate, [*logger.handlers], [*logger.filters])
            for logger in loggers
        ]
        + [logging.root.manager.disable, logging.getLoggerClass()],
        "event loop policy": type(getattr(asyncio.events, "_event_loop_policy", None)),
        "urllib's opener for all": urllib.request._opener,
        "module search path": [*sys.path],
        "hooks": (sys.excepthook, sys.unraisablehook, sys.displayhook),
        "socket timeout": socket.getdefaulttimeout(),
        "switch interval": sys.getswitchinterval(),
        "recursion limit": sys.getrecursionlimit(),
        "processors": os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None,
    }


def between(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """One line for each difference."""
    return [f"{name}: {_difference(value, after[name])}" for name, value in before.items() if value != after[name]]


def _difference(before: Any, after: Any) -> str:
    if isinstance(before, dict):
        names = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
        return ", ".join(f"{name} was {before.get(name)!r}, is {after.get(name)!r}" for name in sorted(names))
    return f"was {before!r}, is {after!r}"
