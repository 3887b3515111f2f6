"""tests/support/leftovers.py: what a test changes of its process, and does not put back, is seen."""

from __future__ import annotations

import gc
import locale
import logging
import os
import signal
import socket
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import leftovers

BEFORE, OPENER = locale.setlocale(locale.LC_ALL), urllib.request._opener


@pytest.mark.parametrize(
    ("change", "undo", "words"),
    [
        (lambda: os.environ.update(A="1"), lambda: os.environ.pop("A"), "environment variables: A was None, is '1'"),
        (lambda: os.umask(0o077), lambda: os.umask(0o022), "file mode mask: was '0o22', is '0o77'"),
        (
            lambda: signal.signal(signal.SIGUSR2, signal.SIG_IGN),
            lambda: signal.signal(signal.SIGUSR2, signal.SIG_DFL),
            "signal handlers: SIGUSR2 was <Handlers.SIG_DFL: 0>, is <Handlers.SIG_IGN: 1>",
        ),
        (gc.disable, gc.enable, "garbage collection: was (True, "),
        (
            lambda: socket.setdefaulttimeout(1),
            lambda: socket.setdefaulttimeout(None),
            "socket timeout: was None, is 1.0",
        ),
        (
            lambda: locale.setlocale(locale.LC_ALL, "C.UTF-8" if BEFORE == "C" else "C"),
            lambda: locale.setlocale(locale.LC_ALL, BEFORE),
            "locale: was ",
        ),
        (
            lambda: logging.getLogger("sidecar").setLevel("CRITICAL"),
            lambda: logging.getLogger("sidecar").setLevel("NOTSET"),
            "logging: was ",
        ),
        (lambda: os.chdir("/"), None, "working directory: was "),
        (
            lambda: setattr(urllib.request, "_opener", urllib.request.build_opener()),
            lambda: setattr(urllib.request, "_opener", OPENER),
            "urllib's opener for all: was ",
        ),
    ],
)
def test_a_change_is_seen(change: Callable[[], object], undo: Callable[[], object] | None, words: str) -> None:
    here = Path.cwd()
    before = leftovers.state()
    change()
    try:
        (line,) = leftovers.between(before, leftovers.state())
    finally:
        (undo or (lambda: os.chdir(here)))()
    assert line.startswith(words)
    assert leftovers.between(before, leftovers.state()) == []
