"""Read `tls`: where its files are, and whether they fit.

Owns the rules between its keys. A file that is there and no good is an error. One that cannot be read is a warning
(`warnings`): `check` may run where a Secret is not mounted, and the file may come after the start.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from sidecar.config.errors import Reporter
from sidecar.config.merge import build
from sidecar.config.tree import Leaf, Tree, is_valid
from sidecar.policy.settings import TlsSettings

_FILES: Final = ("ca_file", "cert_file", "key_file")
_PAIR: Final = {"cert_file": "key_file", "key_file": "cert_file"}


class TlsReader:
    """For one configuration file, in `directory`. Each group of files is read once."""

    def __init__(self, directory: Path, reporter: Reporter) -> None:
        self._directory = directory
        self._reporter = reporter
        self._problem_of = cache(_problem_of)

    def resolve(self, tree: Tree) -> None:
        """Make the paths in `tls` of this tree relative to the file's directory."""
        tls = tree.get("tls")
        if not isinstance(tls, dict):
            return
        for key in _FILES:
            leaf = tls.get(key)
            if isinstance(leaf, Leaf) and isinstance(leaf.value, str):
                tls[key] = Leaf(str(self._directory / leaf.value), leaf.place, leaf.level)

    def check(self, tree: Tree) -> None:
        """Report what does not fit in an effective `tls`."""
        tls = tree.get("tls")
        if not isinstance(tls, dict) or not is_valid(tls):
            return
        settings = build(TlsSettings, tls)
        for key, other in _PAIR.items():
            leaf = tls.get(key)
            if isinstance(leaf, Leaf) and getattr(settings, key) and not getattr(settings, other):
                self._reporter.report(leaf.place, f"{other} is missing: a client certificate needs its key")
                return
        problem = self._problem_of(settings)
        if problem:
            blamed = tls[problem.partition(" ")[0]]
            assert isinstance(blamed, Leaf)
            self._reporter.report(blamed.place, problem)


def _problem_of(settings: TlsSettings) -> str:
    if not (settings.ca_file or settings.cert_file):
        return ""
    from sidecar.net.tls_contexts import check_files  # with `ssl`, which few files need

    problem, missing = check_files(settings)
    return "" if missing else problem
