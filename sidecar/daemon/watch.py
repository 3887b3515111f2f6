"""Notices that a file has changed, however that was done.

Owns how: an editor renames, Kubernetes swaps the `..data` symlink beside a mounted ConfigMap, a script writes in place.
So folders are watched and not the file: that in which it stands, and that to which its links lead. Where the kernel
does not tell (some network and bind mounts), a look every few seconds finds it all the same. What counts is the
content: whoever only touches the file causes nothing.
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

STEP_MS: Final = 200
"""How often the kernel's notices are gathered, and so how late a change is seen."""

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
        self._folders: frozenset[Path] = frozenset()
        self._target = path

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                self._follow()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._told.wait(), self._look_s)
                self._told.clear()
                content = await asyncio.to_thread(content_of, self._path)
                if content != self._seen:
                    self._seen = content
                    await self._on_change()
        finally:
            self._stop.set()

    def _follow(self) -> None:
        """Watch where the file stands now; a link may lead elsewhere than before."""
        folders = folders_of(self._path)
        if folders == self._folders:
            return
        self._folders = folders
        with suppress(OSError, RuntimeError):
            self._target = self._path.resolve()
        self._stop.set()
        self._stop = threading.Event()
        threading.Thread(
            target=self._listen, args=(folders, self._stop), name="configuration watch", daemon=True
        ).start()

    def _concerns(self, _: Change, name: str) -> bool:
        """The file itself, or what Kubernetes swaps beside it; who logs into the same folder should wake nobody."""
        changed = Path(name).name
        return changed == self._path.name or changed.startswith("..") or Path(name) == self._target

    def _listen(self, folders: frozenset[Path], stop: threading.Event) -> None:
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
                self._loop.call_soon_threadsafe(self._told.set)
        except RuntimeError:  # the loop is closed
            return
        except OSError as error:
            fields = {"folders": [str(folder) for folder in folders], "error": str(error)}
            log.warning("changes of the configuration are found by looking only", extra={"fields": fields})


def folders_of(path: Path) -> frozenset[Path]:
    """The folder of the path as it is written, and that of the file which it leads to."""
    found = {path.absolute().parent}
    with suppress(OSError, RuntimeError):
        found.add(path.resolve(strict=True).parent)
    return frozenset(folder for folder in found if folder.is_dir())


def content_of(path: Path) -> bytes:
    """A digest of what stands there; empty where that cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.sha256(stream.read(MAX_BYTES + 1)).digest()
    except OSError:
        return b""
