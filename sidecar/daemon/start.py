"""Start of the sidecar process: checks extras, binds sockets, sets process limits; returns the exit code.

Begins with the steps that an operator can make fail (extras, sockets), so that a taken port gives one line and not half
a daemon.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sidecar.config.load import Origins
from sidecar.config.schema import Config
from sidecar.daemon import open_files
from sidecar.daemon.extras import missing_extra
from sidecar.daemon.serve import serve
from sidecar.net.bind import PortTaken, bind
from sidecar.net.loop import Loop
from sidecar.telemetry import logs
from sidecar.telemetry.line_writer import LineWriter

log = logging.getLogger("sidecar.daemon")

LAST_LINES_S: Final = 1.0
"""How long the process waits at its end for the last log lines to be written."""

KEPT_FREE_BYTES: Final = 8 * 1024 * 1024
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3


def run(
    config: Config,
    path: Path | None = None,
    origins: Origins | None = None,
    at_end: Callable[[], object] = lambda: None,
) -> int:
    """Run until SIGTERM or SIGINT, and end the process with exit code 0. Returns 2 instead if an extra is missing or a
    listener cannot be bound.

    The end is orderly: requests are finished, and all log lines are written. After that nobody is waited for. The
    interpreter would wait for threads of libraries, such as one that looks a name up, for as long as they take.

    `path` is the configuration file, which is read again when it changes. `origins` says where each value was set.
    `at_end` is called last of all: nothing of the caller runs after this.
    """
    writer = LineWriter()
    logs.set_up(config.log.level, writer.write)
    missing = missing_extra(config)
    if missing:
        sys.stderr.write(f"sidecar: {missing}\n")
        return 2
    _keep_freed_memory()
    open_files.raise_limit()
    sockets: dict[str, list[socket.socket]] = {}
    try:
        for name, addresses in (
            ("proxy", config.listen.proxy),
            ("admin", (config.listen.admin,)),
            ("probe", (config.listen.probe,)),
        ):
            sockets[name] = bind(name, addresses)
    except PortTaken as taken:
        for bound in sockets.values():
            for one in bound:
                one.close()
        sys.stderr.write(f"sidecar: {taken}\n")
        return 2
    runner = asyncio.Runner(loop_factory=Loop)
    code = runner.run(serve(config, path, origins or {}, sockets, writer))
    writer.close(LAST_LINES_S)
    at_end()
    sys.stderr.flush()
    os._exit(code)


def _keep_freed_memory() -> None:
    """Let the C library keep freed memory instead of returning it after each large piece of a body.

    The event loop passes bodies on in pieces of up to 256 KiB. glibc would return each piece to the kernel and take it
    back for the next: a third of the CPU time of a large response. On other C libraries this does nothing.
    """
    try:
        from ctypes import CDLL

        libc = CDLL(None)
        libc.mallopt(_M_TRIM_THRESHOLD, KEPT_FREE_BYTES)
        libc.mallopt(_M_MMAP_THRESHOLD, KEPT_FREE_BYTES)
    except (ImportError, OSError, AttributeError):
        log.debug("this C library has no mallopt")
