"""A fake daemon for the admin API, with a clock that a test moves."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from sidecar.admin.clock import WallClock
from sidecar.admin.listener import Admin
from sidecar.admin.probe_answers import ProbeAnswers
from sidecar.admin.services_view import ServicesView
from sidecar.config.errors import ConfigError
from sidecar.config.load import _read
from sidecar.config.schema import Address, EndpointSpec, Url
from sidecar.health.report import Report
from sidecar.runtime.live import Live
from sidecar.runtime.reload_report import ReloadReport
from sidecar.runtime.service import LiveService
from sidecar.runtime.slices import Slices
from sidecar.telemetry.events import Events
from sidecar.telemetry.history import History

UNIX = 1763859600.0
START = 1000.0

CONFIG = """
services:
  venue:
    url: http://venue-service:3002
    timeout: {attempt: 2s}
    outlier: {panic_threshold: 0%}
    routes:
      - match: {path: /reports, methods: [POST]}
        breaker: {volume_threshold: 5}
      - match: {path: /slow}
        timeout: {attempt: 9s}
  auth: {url: http://auth-service:3001}
"""


class Loop:
    """The clock of an event loop, and nothing else of it."""

    def __init__(self) -> None:
        self.now = START

    def time(self) -> float:
        return self.now


@dataclass
class Source:
    kind: str = "name"
    last_success: float | None = START
    problem: str | None = None


@dataclass
class LogState:
    level: str = "info"
    access: str = "errors"
    until: float | None = None


class Stage:
    """Implements `sidecar.admin.running.Running`. By default, `venue` has two endpoints and `auth` has none."""

    def __init__(self, config: str = CONFIG, endpoints: int = 2) -> None:
        self.loop: Any = Loop()
        loaded, self.origins = _read(config, "sidecar.yaml", {})
        self.slices = Slices(self.loop)
        self.live = Live(loaded, START, lambda: 0.0)
        for service in self.live.services.values():
            service._clock = self.loop.time
        self.events = Events()
        self.history = History()
        self.draining = False
        self.drained = 0
        self.path: Path | None = Path("/etc/sidecar/sidecar.yaml")
        self.loaded_at = UNIX
        self.last_reload = ReloadReport(result="ok", trigger="start", at=UNIX, generation=1)
        self.log_state = LogState()
        self.sources: dict[str, list[Source]] = {}
        self.reload_as = "ok"
        self.find("venue", endpoints)

    def find(self, service: str, endpoints: int) -> None:
        spec = EndpointSpec(url=Url("http", f"{service}-service", 3002))
        found = [(spec, f"10.0.0.{number}") for number in range(endpoints)]
        self[service].set_endpoints(found, self.loop.time())

    def __getitem__(self, name: str) -> LiveService:
        return self.live.services[name]

    @property
    def clock(self) -> WallClock:
        return WallClock(self.loop.time, lambda: UNIX + self.loop.time() - START)

    @property
    def view(self) -> ServicesView:
        return ServicesView(self, self.clock)

    def sources_of(self, service: str) -> Sequence[Source]:
        return self.sources.get(service, [])

    async def reload(self) -> ReloadReport:
        error = ConfigError("sidecar.yaml", 3, 5, "services.venue.tiemout", "unknown key")
        rejected = self.reload_as == "rejected"
        self.last_reload = ReloadReport(
            result="rejected" if rejected else "ok",
            trigger="api",
            at=UNIX,
            generation=1 if rejected else 2,
            errors=(error,) if rejected else (),
            changed=() if rejected else ("services.venue.timeout.attempt",),
        )
        return self.last_reload

    def drain(self) -> None:
        self.drained += 1

    def set_log(self, level: str | None, access: str | None, for_s: float) -> LogState:
        self.log_state = LogState(level or "info", access or "errors", self.loop.time() + for_s)
        return self.log_state


class Client:
    """A client of an admin listener on loopback."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self.session = session
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    async def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], Any]:
        """Status, headers and the body, decoded if it is JSON."""
        async with self.session.request(method, self.url + path, data=body, headers=headers or {}) as response:
            content: Any = await response.read()
            if "json" in response.content_type and content:
                content = await response.json(content_type=None)
            return response.status, dict(response.headers), content

    async def get(self, path: str, **headers: str) -> tuple[int, Any]:
        status, _, content = await self.ask("GET", path, headers=named(headers))
        return status, content

    async def post(self, path: str, body: bytes | str = b"{}", **headers: str) -> tuple[int, Any]:
        """A valid POST, apart from `headers`."""
        sent = {"Content-Type": "application/json"} | named(headers)
        data = body.encode() if isinstance(body, str) else body
        status, _, content = await self.ask("POST", path, data, sent)
        return status, content


def named(headers: dict[str, str]) -> dict[str, str]:
    """Header names from argument names: `content_type` becomes Content-Type."""
    return {name.replace("_", "-"): value for name, value in headers.items()}


class RealTime(Stage):
    """A Stage with the event loop's own clock, as a server needs it."""

    def __init__(self, config: str = CONFIG, endpoints: int = 2) -> None:
        super().__init__(config, 0)
        self.loop = asyncio.get_running_loop()
        self.slices = Slices(self.loop)
        for service in self.live.services.values():
            service._clock = self.loop.time
        self.find("venue", endpoints)


async def until(true: Callable[[], object]) -> None:
    """Waits until it is true, for at most 10 s."""
    for _ in range(2000):
        if true():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come true")


@asynccontextmanager
async def serving(stage: Stage, bound: str = "127.0.0.1") -> AsyncIterator[Client]:
    """An admin listener for this stage, and a client of it."""

    async def health() -> Report:
        return Report(status="healthy", checks={}, services={})

    one = socket.create_server(("127.0.0.1", 0))
    one.setblocking(False)
    port = one.getsockname()[1]

    async def metrics() -> tuple[list[bytes], int]:
        return [b"metrics 1\n"], 0

    probes = ProbeAnswers(lambda: not stage.draining, metrics, health)
    admin = Admin(stage, probes, Address(bound, port))
    await admin.start([one])
    try:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
            yield Client(session, port)
    finally:
        await admin.close()


__all__ = ["CONFIG", "START", "UNIX", "Client", "LogState", "RealTime", "Source", "Stage", "serving", "until"]
