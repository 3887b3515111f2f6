"""File watch: notices that the configuration file has changed, in whatever way.

An editor renames the file, Kubernetes swaps the `..data` symlink beside a mounted ConfigMap, a script writes in place.
So this watches folders and not the file: the folder that contains it, and the folder that its links lead to. Some
network and bind mounts send no notifications, or no inotify watch is left; then a check every few seconds finds the
change.

Only the content counts: touching the file changes nothing. A new content counts once it has stayed the same for a
moment, so a file that is still being written, or that an editor has just removed, is not read half.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from watchfiles import Change, watch

from sidecar.net.threads import in_thread

LOOK_S: Final = 5.0
"""The time between two checks without a notification."""

FIRST_LOOK_S: Final = 0.5
"""The time of the first check after a watch begins. The kernel does not report changes just before that."""

STEP_MS: Final = 200
"""How often the kernel's notifications are collected, and so the delay until a change is seen."""

SETTLED_S: Final = 0.1
"""How long the content must stay the same."""

MOST_LOOKS: Final = 20
"""How many of these moments to wait. A file that never stops changing is then taken as it is."""

MAX_BYTES: Final = 4 * 1024 * 1024

log = logging.getLogger("sidecar.daemon")
logging.getLogger("watchfiles").setLevel(logging.WARNING)


class FileWatch:
    """Calls `on_change` each time that the content of the file at `path` changes. Create it on the event loop."""

    def __init__(self, path: Path, on_change: Callable[[], Awaitable[object]], *, look_s: float = LOOK_S) -> None:
        self._path = path
        self._on_change = on_change
        self._look_s = look_s
        self._loop = asyncio.get_running_loop()
        self._told = asyncio.Event()
        self._stop = threading.Event()
        self._seen = content_of(path)
        self._folders: Folders = frozenset()
        self._target = path

    async def at_rest(self) -> None:
        """Wait until the content stays the same; later contents are compared with it."""
        self._seen = await self._settled(None)

    async def run(self) -> None:
        """Watch until cancelled."""
        try:
            while True:
                anew = self._follow()
                with suppress(TimeoutError):
                    # Not wait_for: before Python 3.12 it may swallow a cancellation, and the daemon would end late.
                    async with asyncio.timeout(min(self._look_s, FIRST_LOOK_S) if anew else self._look_s):
                        await self._told.wait()
                self._told.clear()
                content = await self._settled(self._seen)
                if content != self._seen:
                    self._seen = content
                    await self._on_change()
        finally:
            self._stop.set()

    async def _settled(self, known: bytes | None) -> bytes:
        """The content once it equals `known` or stays the same."""
        content = await in_thread(content_of, self._path)
        for _ in range(MOST_LOOKS):
            if content == known:
                break
            await asyncio.sleep(SETTLED_S)
            before, content = content, await in_thread(content_of, self._path)
            if content == before:
                break
        return content

    def _follow(self) -> bool:
        """Watch the folders in which the file is now: a link may lead elsewhere, or a folder may have been replaced.

        Returns whether a new watch was started.
        """
        folders = folders_of(self._path)
        if folders == self._folders:
            return False
        self._folders = folders
        with suppress(OSError, RuntimeError):
            self._target = self._path.resolve()
        self._stop.set()
        self._stop = threading.Event()
        names = [folder for folder, _, _ in folders]
        threading.Thread(target=self._listen, args=(names, self._stop), name="configuration watch", daemon=True).start()
        return True

    def _concerns(self, _: Change, name: str) -> bool:
        """Whether a change concerns the file itself or the link that Kubernetes swaps. Other files in the folder do not
        count.
        """
        changed = Path(name).name
        return changed == self._path.name or changed.startswith("..") or Path(name) == self._target

    def _listen(self, folders: list[Path], stop: threading.Event) -> None:
        try:
            for _ in watch(
                *folders,
                watch_filter=self._concerns,
                step=STEP_MS,
                debounce=5 * STEP_MS,
                stop_event=stop,
                recursive=False,
                raise_interrupt=False,
            ):
                if not self._tell():
                    return
        except (OSError, RuntimeError) as error:  # watchfiles raises either one when no inotify watch is left
            fields = {"folders": [str(folder) for folder in folders], "error": str(error)}
            log.warning(
                "the configuration file is checked every few seconds; the system sends no notifications",
                extra={"fields": fields},
            )

    def _tell(self) -> bool:
        """False when the event loop is closed."""
        try:
            self._loop.call_soon_threadsafe(self._told.set)
        except RuntimeError:  # the loop is closed
            return False
        return True


Folders = frozenset[tuple[Path, int, int]]
"""Folders with device and inode: a folder that was replaced under the same name is a different one."""


def folders_of(path: Path) -> Folders:
    """The folder of the path as written, and the folder of the file that it leads to."""
    parents = {path.absolute().parent}
    with suppress(OSError, RuntimeError):
        parents.add(path.resolve(strict=True).parent)
    found = set()
    for parent in parents:
        with suppress(OSError):
            status = parent.stat()
            found.add((parent, status.st_dev, status.st_ino))
    return frozenset(found)


def content_of(path: Path) -> bytes:
    """A digest of the content; empty if the file cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.sha256(stream.read(MAX_BYTES + 1)).digest()
    except OSError:
        return b""
