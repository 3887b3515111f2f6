"""Many callers at once, each of which makes one call after another, for as long as something happens to the servers."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from tests.support.eventually import eventually
from tests.support.grpc_upstream import App, wishes


@dataclass(frozen=True)
class Made:
    """A call and how it ended. `server` is who answered; times are of the monotonic clock."""

    id: str
    began: float
    took_s: float
    code: str
    details: str
    server: str

    @property
    def ok(self) -> bool:
        return self.code == "OK"


class Callers:
    """`count` threads on one channel, or on one each. Use as a context manager; `made` has the calls in their order."""

    def __init__(
        self, port: int, count: int, *, channels: int = 1, timeout_s: float = 20.0, pause_s: float = 0.002, **wish: Any
    ) -> None:
        self.made: list[Made] = []
        self._apps = [App(port) for _ in range(channels)]
        self._timeout_s, self._pause_s, self._wish = timeout_s, pause_s, wish
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self._defects: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._run, args=(self._apps[number % channels],)) for number in range(count)
        ]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(self._timeout_s + 5)
        for app in self._apps:
            app.channel.close()
        if kind is None and self._defects:
            raise self._defects[0]

    def _run(self, app: App) -> None:
        try:
            while not self._stop.is_set():
                self.made.append(self._call(app))
                self._stop.wait(self._pause_s)
        except BaseException as defect:
            self._defects.append(defect)

    def _call(self, app: App) -> Made:
        name = f"call-{next(self._numbers)}"
        began = time.monotonic()
        call = app.unary.future(b"x", metadata=wishes(x_id=name, **self._wish), timeout=self._timeout_s)
        code, details = call.code(), call.details()
        server = next((str(value) for key, value in call.trailing_metadata() or () if key == "trailing-by"), "")
        return Made(name, began, time.monotonic() - began, code.name, str(details or ""), server)

    @property
    def failures(self) -> Counter[tuple[str, str]]:
        """(status, words) -> how often."""
        return Counter((one.code, one.details) for one in self.made if not one.ok)

    def more(self, count: int) -> None:
        """Waits for so many further calls."""
        goal = len(self.made) + count
        eventually(lambda: len(self.made) >= goal or bool(self._defects), timeout=30)

    def until_served_by(self, server: str) -> float:
        """Waits for a call that begins from now on and is answered by this server. Returns the seconds that it took."""
        now = time.monotonic()
        eventually(lambda: any(one.server == server and one.began >= now for one in self.made[-500:]), timeout=30)
        return time.monotonic() - now


__all__ = ["Callers", "Made"]
