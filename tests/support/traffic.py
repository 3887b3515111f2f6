"""A steady loop of requests during a test, and the step of an upstream that also answers health checks."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType

from tests.support.client import Client, Response
from tests.support.eventually import eventually
from tests.support.steps import answer
from tests.support.upstream import Step, Turn, Upstream


class Checked:
    """The step of an upstream with a health path. Each of the two answers may be changed at any time."""

    def __init__(self, app: Step | None = None, health: Step | None = None) -> None:
        self.app = app or answer()
        self.health = health or answer()

    def __call__(self, turn: Turn) -> None:
        (self.health if is_check(turn.read_head().target) else self.app)(turn)


def is_check(target: str) -> bool:
    return target == "/health"


def app_hits(upstream: Upstream) -> int:
    """Requests that are not health checks."""
    return sum(not is_check(one.target) for one in list(upstream.requests))


def check_hits(upstream: Upstream) -> int:
    return sum(is_check(one.target) for one in list(upstream.requests))


class Traffic:
    """Runs `ask(client)` again and again on one connection, about `every` seconds after each answer, in its own thread.

    Use as a context manager: at the end it raises the error of the loop, if there was one. `bodies` are the bodies of
    the answers, in order.
    """

    def __init__(
        self, make_client: Callable[[], Client], ask: Callable[[Client], Response], every: float = 0.004
    ) -> None:
        self.statuses: Counter[int] = Counter()
        self.bodies: list[bytes] = []
        self._make_client = make_client
        self._ask = ask
        self._every = every
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(15)
        if kind is None and self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            with self._make_client() as client:
                while not self._stop.is_set():
                    response = self._ask(client)
                    self.statuses[response.status] += 1
                    self.bodies.append(response.body)
                    self._stop.wait(
                        self._every * (0.5 + random.random())
                    )  # random, so that two loops do not synchronise
        except BaseException as error:
            self._error = error

    @property
    def count(self) -> int:
        return len(self.bodies)

    def more(self, requests: int) -> Counter[bytes]:
        """Waits for this many further requests that begin from now on. Returns which upstreams answered them."""
        begin = self.count + 1  # one may be in progress
        eventually(lambda: self.count >= begin + requests or self._error is not None, timeout=10)
        return Counter(self.bodies[begin : begin + requests])

    def until_seen(self, body: bytes, timeout: float = 5.0) -> float:
        """Waits for an answer with this body to a request from now on. Returns the seconds that it took."""
        began, begin = time.monotonic(), self.count + 1
        eventually(lambda: body in self.bodies[begin:], timeout=timeout, every=0.002)
        return time.monotonic() - began
