"""File watch: notices that the configuration file has changed, in whatever way.

An editor renames the file, Kubernetes swaps the `..data` symlink beside a mounted ConfigMap, a script writes in place.
All of them show in the status of the file that the path leads to (device, inode, size, times). So this looks at the
status twice a second. Unlike notifications of the kernel, that works on network mounts too, needs no inotify watch, and
costs neither a library nor a thread that waits.

Only the content counts: touching the file changes nothing. A new content counts once it has stayed the same for a
moment, so a file that is still being written, or that an editor has just removed, is not read half.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from sidecar.net.threads import in_thread

LOOK_S: Final = 0.5
"""The time between two looks at the status, and so the longest delay until a change is seen."""

READ_EVERY: Final = 10
"""The content is read at one look of so many, whatever the status says: some file systems count times in seconds."""

SETTLED_S: Final = 0.1
"""How long the content must stay the same."""

MOST_LOOKS: Final = 20
"""How many of these moments to wait. A file that never stops changing is then taken as it is."""

MAX_BYTES: Final = 4 * 1024 * 1024

log = logging.getLogger("sidecar.daemon")


class FileWatch:
    """Calls `on_change` each time that the content of the file at `path` changes.

    Files are read in threads: one on a dead network mount would hold the event loop, and here delays only the watch.
    """

    def __init__(self, path: Path, on_change: Callable[[], Awaitable[object]], *, look_s: float = LOOK_S) -> None:
        self._path = path
        self._on_change = on_change
        self._look_s = look_s
        self._seen = content_of(path)
        self._status: Status | None = None
        self._until_read = 0
        """How many looks may pass without reading the content."""

    async def at_rest(self) -> None:
        """Wait until the content stays the same; later contents are compared with it."""
        self._seen = await self._settled(None)

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await asyncio.sleep(self._look_s)
            try:
                content = await self._looked()
            except OSError as error:  # the system gives no thread now
                log.debug("the status of the configuration file could not be read: %s", error)
                continue
            if content != self._seen:
                self._seen = content
                await self._on_change()

    async def _looked(self) -> bytes:
        """The content now, read only if the status has changed or it is time to."""
        status = await in_thread(status_of, self._path)
        self._until_read -= 1
        if status == self._status and self._until_read > 0:
            return self._seen
        content = await self._settled(self._seen)
        self._status = status  # from before the content was read: what is written meanwhile has another one
        self._until_read = READ_EVERY
        return content

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


Status = tuple[int, ...]
"""What tells one state of a file from another without reading it: device, inode, size, times of change."""


def status_of(path: Path) -> Status:
    """The status of the file that the path leads to; empty if there is none."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def content_of(path: Path) -> bytes:
    """A digest of the content; empty if the file cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.sha256(stream.read(MAX_BYTES + 1)).digest()
    except OSError:
        return b""
