"""A steady, open-loop load: each request is sent at its planned time, whatever happened to the requests before it.

This module sends the requests and records their results. A closed loop would send fewer requests just when answers are
late, and so hide what is measured ("coordinated omission"). Latency counts from the planned time for the same reason.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

LIMIT_S = 20.0
"""A request is given up after this many seconds. It is longer than `timeout.request`, so the sidecar must answer first.
"""

MOST_AT_ONCE = 512
"""A machine that cannot keep up has this many requests in progress, and no more: each takes files, and memory. Those
beyond it wait. That is in their latency, which counts from the planned time, and not in LIMIT_S."""


@dataclass(frozen=True)
class Sent:
    """A request and its result. Times are monotonic seconds."""

    method: str
    planned: float
    ended: float
    status: int = 0
    """0 if no complete answer came."""
    reason: str = ""
    """`x-sidecar-reason` if the sidecar made the answer; how the connection ended if there was no answer."""
    endpoint: str = ""
    """The name of the endpoint that answered."""
    attempts: int = 1

    @property
    def ok(self) -> bool:
        return self.status == 200

    @property
    def latency_s(self) -> float:
        return self.ended - self.planned


class SteadyLoad:
    """Sends `rate` GETs and `post_rate` POSTs of `target` a second to `port` of 127.0.0.1, from a thread of its own.

    Use it as a context manager. At its exit it stops sending, and waits for the requests in progress. `sent` grows as
    requests end. Each one has its own `x-test-id`.
    """

    def __init__(self, port: int, target: str, rate: float, post_rate: float = 0.0) -> None:
        self.sent: list[Sent] = []
        self._port, self._target, self._rate, self._post_rate = port, target, rate, post_rate
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._room = asyncio.Semaphore(MOST_AT_ONCE)
        self._stop = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> SteadyLoad:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop = True
        self._thread.join(LIMIT_S + 10)
        if kind is None and self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            asyncio.run(self._send_all())
        except BaseException as error:
            self._error = error

    async def _send_all(self) -> None:
        async with asyncio.TaskGroup() as requests:
            senders = [self._send_steadily(requests, "GET", self._rate)]
            if self._post_rate:
                senders.append(self._send_steadily(requests, "POST", self._post_rate))
            await asyncio.gather(*senders)
        for _, writer in self._idle:
            writer.close()

    async def _send_steadily(self, requests: asyncio.TaskGroup, method: str, rate: float) -> None:
        start, number = time.monotonic(), 0
        while not self._stop:
            planned = start + number / rate
            late = time.monotonic() - planned
            if late < 0:
                await asyncio.sleep(-late)
            requests.create_task(self._one(method, number, planned))
            number += 1

    async def _one(self, method: str, number: int, planned: float) -> None:
        body = b"x" if method == "POST" else b""
        head = f"{method} {self._target} HTTP/1.1\r\nHost: localhost\r\nx-test-id: {method}-{number}\r\n"
        if body:
            head += f"Content-Length: {len(body)}\r\n"
        try:
            async with self._room, asyncio.timeout(LIMIT_S):
                status, fields, answer = await self._ask(head.encode() + b"\r\n" + body)
        except (OSError, EOFError, TimeoutError) as error:
            self.sent.append(Sent(method, planned, time.monotonic(), reason=type(error).__name__))
            return
        reason = fields.get("x-sidecar-reason", "")
        attempts = len(json.loads(answer)["attempts"]) if reason else int(fields["x-attempt"])
        endpoint = fields.get("x-endpoint", "")
        self.sent.append(Sent(method, planned, time.monotonic(), status, reason, endpoint, attempts))

    async def _ask(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
        keep = False
        try:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.splitlines()
            fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await reader.readexactly(int(fields["content-length"]))
            keep = fields.get("connection", "").lower() != "close"
            return int(first.split()[1]), fields, body
        finally:
            if keep:
                self._idle.append((reader, writer))
            else:
                writer.close()

    def until(self, seen: Callable[[Sent], bool], limit_s: float) -> Sent | None:
        """The first request to end, from the beginning of the load, for which `seen` is true. None after `limit_s`
        more.
        """
        deadline = time.monotonic() + limit_s
        looked_at = 0
        while True:
            late = time.monotonic() >= deadline
            while looked_at < len(self.sent):
                if seen(self.sent[looked_at]):
                    return self.sent[looked_at]
                looked_at += 1
            if late or not self._thread.is_alive():
                return None
            time.sleep(0.005)


def percentile(values: list[float], percent: float) -> float:
    """The smallest of `values` that `percent` of them do not exceed (nearest rank). `values` must not be empty."""
    ordered = sorted(values)
    return ordered[max(0, ceil(len(ordered) * percent / 100) - 1)]
