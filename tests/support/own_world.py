"""A world of its own for a part of a test: a process in private mount and network namespaces, with its own name server.

The system's resolver asks port 53 of what /etc/resolv.conf names, and no setting of the daemon's changes that. So the
process gets a loopback interface and a resolv.conf, hosts and nsswitch.conf of its own, which nobody else sees.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Final

from tests.support import wants
from tests.support.daemon import ROOT

_UNSHARE: Final = (("unshare", "-mn"), ("unshare", "-rmn"))
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 1


@cache
def command() -> tuple[str, ...] | None:
    """What starts a process in namespaces of its own; None where this machine allows no such thing."""
    for unshare in _UNSHARE:
        try:
            tried = subprocess.run(
                (*unshare, "mount", "--bind", "/etc/hosts", "/etc/resolv.conf"), check=False, capture_output=True
            )
        except OSError:
            return None
        if tried.returncode == 0:
            return unshare
    return None


def run(module: str, scene: str, *arguments: str, timeout: float = 60.0) -> None:
    """Calls `module.scene(*arguments)` in such a process. Raises AssertionError, with its output, if that fails."""
    unshare = command()
    if unshare is None:
        wants.skip_for("private mount and network namespaces (unshare -mn)")
    call = f"import sys; from {module} import {scene}; {scene}(*sys.argv[1:])"
    ran = subprocess.run(
        (*unshare, sys.executable, "-c", call, *arguments),
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert ran.returncode == 0, f"{scene} failed\n{ran.stdout}\n{ran.stderr}"


def settle_in(folder: Path, resolv_conf: str) -> None:
    """For that process: its loopback interface is up, and the system's resolver uses this resolv.conf."""
    with socket.socket() as one:
        fcntl.ioctl(one, _SIOCSIFFLAGS, struct.pack("16sh", b"lo", _IFF_UP))
    for name, text in (
        ("resolv.conf", resolv_conf),
        ("hosts", "127.0.0.1 localhost\n::1 localhost\n"),
        ("nsswitch.conf", "hosts: files dns\n"),
    ):
        there = Path("/etc") / name
        if there.exists():
            (folder / name).write_text(text)
            subprocess.run(("mount", "--bind", str(folder / name), str(there)), check=True)
