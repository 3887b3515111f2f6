"""Builds the site from the collected pages, or shows it while it is being written.

Owns the folder in which the site generator works, build/docs: a copy of its configuration, the pages, and what it made
of them. site/ is replaced only by a site with which nothing is wrong.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from time import sleep
from typing import Final

from tools.docs import check, pages

CONFIG: Final = Path("docs/zensical.toml")
_COLOUR = re.compile("\x1b\\[[0-9;]*m")
_WATCHED = ("docs", *pages.FROM_THE_TOP)


class BuildError(Exception):
    """What is wrong with the pages, or with the site that was made of them; a line each."""


def build(root: Path, into: Path, work: Path) -> int:
    """Builds the repository's site into a folder, in the folder `work`; returns how many pages it has.

    Raises BuildError, and leaves `into` as it was.
    """
    names = _prepare(root, work)
    shutil.rmtree(work / "site", ignore_errors=True)
    command = [*_generator("build"), "--strict", "--clean"]
    run = subprocess.run(command, check=False, cwd=work, capture_output=True, text=True, timeout=300)
    if run.returncode != 0:
        raise BuildError(_said(run.stdout + run.stderr))
    problems = check.problems_of(work / "site", work / CONFIG.name, names)
    if problems:
        raise BuildError("\n".join(problems))
    shutil.rmtree(into, ignore_errors=True)
    shutil.move(work / "site", into)
    return len(names)


def serve(root: Path, work: Path, address: str) -> None:
    """Shows the site at an address, built anew after each change of a page, until Ctrl-C."""
    _prepare(root, work)
    process = subprocess.Popen([*_generator("serve"), "--dev-addr", address], cwd=work)
    try:
        for _ in _changes([root / name for name in _WATCHED]):
            try:
                _prepare(root, work)
            except BuildError as error:
                print(error, file=sys.stderr)  # the preview goes on with what it has
            if process.poll() is not None:
                break
    finally:
        process.terminate()
        process.wait(10)


def _changes(watched: Sequence[Path]) -> Iterator[None]:
    """Yields each time that a file in these folders, or one of these files, has changed; ends with Ctrl-C."""
    before = _times(watched)
    while True:
        try:
            sleep(0.5)
        except KeyboardInterrupt:
            return
        now = _times(watched)
        if now != before:
            before = now
            yield


def _times(watched: Sequence[Path]) -> dict[Path, int]:
    found = {}
    for one in watched:
        for file in one.rglob("*") if one.is_dir() else [one]:
            with suppress(OSError):  # it is gone meanwhile
                found[file] = file.stat().st_mtime_ns
    return found


def _prepare(root: Path, work: Path) -> list[str]:
    work.mkdir(parents=True, exist_ok=True)
    try:
        names = pages.collect(root, work / "pages")
    except pages.LinkErrors as error:
        raise BuildError(str(error)) from None
    shutil.copyfile(root / CONFIG, work / CONFIG.name)
    return names


def _said(output: str) -> str:
    """What the generator said, without colours and without the traceback by which it ends a strict build."""
    return _COLOUR.sub("", output).partition("Traceback (most recent call last)")[0].strip()


def _generator(command: str) -> list[str]:
    return [sys.executable, "-m", "zensical", command, "--config-file", CONFIG.name]
