"""A small synchronous client of the probe listener, for commands that a kubelet runs in the sidecar's container.

Owns the check of readiness, and the two metrics that tell whether the app still calls. It uses only the standard
library: each command is a new process, in a container with little CPU.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

DEFAULT_PROBE: Final = "http://127.0.0.1:15021"
POLL_S: Final = 0.2
CALL_S: Final = 2.0
SHORTEST_S: Final = 0.1
"""The time limit of a call, and its minimum: if less time is left, the call is made anyway and gets this much."""
MOST_BYTES: Final = 64 * 1024 * 1024

_SAMPLE: Final = re.compile(
    rb"^(sidecar_requests_total|sidecar_in_flight_requests)(?:\{[^\n]*\})? ([0-9.e+]+)$", re.MULTILINE
)


class Gone(Exception):
    """Nothing listens at the address."""


@dataclass(frozen=True)
class Traffic:
    """Requests that have ended since the start, and those in flight."""

    ended: float
    in_flight: float


class ProbeClient:
    """Calls the probe listener at `url`. Raises ValueError unless that is an http URL."""

    def __init__(self, url: str = DEFAULT_PROBE) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/"):
            raise ValueError("expected a URL such as http://127.0.0.1:15021")
        self.url = f"http://{parts.netloc}"
        self._host, self._port = parts.hostname, parts.port or 80

    def ready(self, left_s: float = CALL_S) -> bool:
        """Whether `/readyz` answers 200 within `left_s` seconds. Raises Gone."""
        return self._get("/readyz", left_s)[0] == 200

    def traffic(self, left_s: float = CALL_S) -> Traffic | None:
        """The counts in `/metrics`; None if they do not come in time. Raises Gone."""
        status, body = self._get("/metrics", left_s)
        found = _SAMPLE.findall(body)
        if status != 200 or not found:
            return None
        return Traffic(
            sum(float(value) for name, value in found if name == b"sidecar_requests_total"),
            sum(float(value) for name, value in found if name == b"sidecar_in_flight_requests"),
        )

    def _get(self, path: str, left_s: float) -> tuple[int, bytes]:
        import http.client

        within = max(SHORTEST_S, min(CALL_S, left_s))
        connection = http.client.HTTPConnection(self._host, self._port, timeout=within)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read(MOST_BYTES)
        except ConnectionRefusedError:
            raise Gone(f"nothing listens at {self.url}") from None
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()


def wait_ready(
    ready: Callable[[float], bool], timeout_s: float, clock: Callable[[], float], sleep: Callable[[float], None]
) -> bool:
    """Wait until the sidecar is ready. False if `timeout_s` pass first. If nothing listens yet, go on waiting."""
    until = clock() + timeout_s
    while True:
        try:
            if ready(until - clock()):
                return True
        except Gone:
            pass
        left = until - clock()
        if left <= 0:
            return False
        sleep(min(POLL_S, left))


def wait_idle(
    traffic: Callable[[float], Traffic | None],
    idle_s: float,
    max_s: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> str:
    """Wait until no request came and none was in flight for `idle_s`. Returns `idle`, `late` or `gone`."""
    until = clock() + max_s
    quiet_since = clock()
    before: float | None = None
    while True:
        try:
            now = traffic(until - clock())
        except Gone:
            return "gone"
        moment = clock()
        if now is None or now.in_flight or (before is not None and now.ended != before):
            quiet_since = moment
        before = now.ended if now is not None else before
        if moment - quiet_since >= idle_s:
            return "idle"
        if moment >= until:
            return "late"
        sleep(max(0.0, min(POLL_S, until - moment, idle_s - (moment - quiet_since))))
