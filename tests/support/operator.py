"""Runs the commands of a page, with real addresses in place of the page's."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.support.daemon import ROOT, SIDECAR


class Operator:
    """Runs commands in a folder. The page's addresses are replaced by the real ones, and back in the output."""

    def __init__(self, folder: Path, addresses: Mapping[str, str], *, admin: str) -> None:
        self.folder = folder
        self.addresses = dict(addresses)
        self.admin = admin

    def in_real(self, text: str) -> str:
        """A text of the page with the real addresses."""
        for written, real in self.addresses.items():
            text = re.sub(rf"{re.escape(written)}(?!\d)", lambda _, real=real: real, text)
        return text

    def prints(self, command: str) -> str:
        """Both streams of a script, with the page's addresses. `sidecar` in the script runs the sources."""
        command = self.in_real(command)
        shim = f'sidecar() {{ {shlex.join(SIDECAR)} "$@"; }}\n'
        run = subprocess.run(
            ["bash", "-c", shim + re.sub(r"(?<![\w/.])\.venv/bin/sidecar\b", "sidecar", command)],
            cwd=self.folder,
            env=os.environ | {"SIDECAR_ADMIN": self.admin, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        printed = run.stdout
        for written, real in sorted(self.addresses.items(), key=lambda pair: -len(pair[1])):
            printed = printed.replace(real, written)
        return printed
