"""Notices that a file has changed, however that was done.

Owns how: an editor renames, Kubernetes swaps the `..data` symlink beside a mounted ConfigMap, a script writes in place.
So folders are watched and not the file: that in which it stands, and that to which its links lead. Where the kernel
does not tell (some network and bind mounts, no inotify watches left), a look every few seconds finds it all the same.
What counts is the content: whoever only touches the file causes nothing. It counts once it has been the same for a
moment: a file that is being written in place, or is gone while an editor puts another one there, is not read half.
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

LOOK_S: Final = 5.0
"""How often it is looked at unasked."""

FIRST_LOOK_S: Final = 0.5
"""And how soon after the kernel was asked to tell: what happened just before that it does not."""

STEP_MS: Final = 200
"""How often the kernel's notices are gathered, and so how late a change is seen."""

SETTLED_S: Final = 0.1
"""How long the content has to be the same."""

MOST_LOOKS: Final = 20
"""For how many of these moments one waits: what never comes to rest is taken as it is."""

MAX_BYTES: Final = 4 * 1024 * 1024

log = logging.getLogger("sidecar.daemon")
logging.getLogger("watchfiles").setLevel(logging.WARNING)


class FileWatch:
    """Calls `on_change` each time that the content of the file at `path` is another one. Made on the event loop."""

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
        """Until the content stays the same: only what differs from it is then a change."""
        self._seen = await self._settled(None)

    async def run(self) -> None:
        """Until cancelled."""
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
        """The content, once it is what is known, or stays as it is."""
        content = await asyncio.to_thread(content_of, self._path)
        for _ in range(MOST_LOOKS):
            if content == known:
                break
            await asyncio.sleep(SETTLED_S)
            before, content = content, await asyncio.to_thread(content_of, self._path)
            if content == before:
                break
        return content

    def _follow(self) -> bool:
        """Watch where the file stands now; a link may lead elsewhere than before, a folder may be another one.

        Returns whether watching begins anew.
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
        """The file itself, or what Kubernetes swaps beside it; who logs into the same folder should wake nobody."""
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
        except (OSError, RuntimeError) as error:  # watchfiles says with either that there are no watches left
            fields = {"folders": [str(folder) for folder in folders], "error": str(error)}
            log.warning("changes of the configuration are found by looking only", extra={"fields": fields})

    def _tell(self) -> bool:
        """False where nobody listens any more."""
        try:
            self._loop.call_soon_threadsafe(self._told.set)
        except RuntimeError:  # the loop is closed
            return False
        return True


Folders = frozenset[tuple[Path, int, int]]
"""Each with the device and inode that it has: one that was made anew under the same name is another one."""


def folders_of(path: Path) -> Folders:
    """The folder of the path as it is written, and that of the file which it leads to."""
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
    """A digest of what stands there; empty where that cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.sha256(stream.read(MAX_BYTES + 1)).digest()
    except OSError:
        return b""
