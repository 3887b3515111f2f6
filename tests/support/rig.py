"""A daemon with scripted upstreams behind it, for black-box tests, with its pytest hooks and fixtures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from string import Template
from types import TracebackType
from typing import Any

import pytest

from tests.support.client import TEST_ID, Client, Response
from tests.support.client import ask as ask_once
from tests.support.daemon import Daemon, Metrics, Ports
from tests.support.eventually import eventually
from tests.support.upstream import ConnectBlackHole, RefusedPort, Upstream

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})


class Rig:
    """Starts the daemon with `config`. In it, `$name` stands for the URL of an upstream, `$port_name` for its port, and
    `$proxy` for the daemon's own proxy port. Use as a context manager; it stops the upstreams too.

    `upstreams` are existing ones; `within` is passed to `Daemon`, and `listen` (keys as YAML) to `Ports`.
    """

    def __init__(
        self,
        config: str,
        *names: str,
        dead: dict[str, RefusedPort | ConnectBlackHole] | None = None,
        upstreams: dict[str, Upstream] | None = None,
        within: tuple[str, ...] = (),
        listen: str = "",
    ) -> None:
        self.upstreams = {name: Upstream() for name in names} | (upstreams or {})
        self._dead = dead or {}
        self.ports = Ports.free(listen)
        values: dict[str, Any] = {"proxy": self.ports.proxy}
        for name, target in [*self.upstreams.items(), *self._dead.items()]:
            values |= {name: target.url, f"port_{name}": target.port}
        try:
            self.daemon = Daemon(Template(config).substitute(values), self.ports, within=within)
        except BaseException:
            self._stop_upstreams()
            raise

    def __enter__(self) -> Rig:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        defects = [line for line in self.daemon.log_lines() if line.get("level") == "error"]
        self.daemon.__exit__(kind, error, tb)
        self._stop_upstreams()
        assert not defects or kind is not None, f"the daemon says that it has a defect: {defects[0]}"

    def _stop_upstreams(self) -> None:
        for target in [*self.upstreams.values(), *self._dead.values()]:
            target.stop()

    def __getitem__(self, name: str) -> Upstream:
        return self.upstreams[name]

    @property
    def log(self) -> str:
        return self.daemon.log

    def client(self, **more: Any) -> Client:
        return Client(self.ports.proxy, **more)

    def ask(
        self, method: str, target: str, headers: Iterable[tuple[str, str]] = (), body: bytes | None = None, **more: Any
    ) -> Response:
        """Sends one request on a new connection."""
        return ask_once(self.ports.proxy, method, target, headers, body, **more)

    def changes(self) -> Changes:
        return Changes(self.daemon)

    def idle(self, service: str) -> None:
        """Waits until nothing is in flight for `service`."""
        eventually(lambda: self.daemon.metric("sidecar_in_flight_requests", service=service) == 0)

    def assert_never_twice(self) -> None:
        """Checks that the upstreams together saw each request that may not be repeated at most once."""
        seen = Counter(
            request.get(TEST_ID)
            for upstream in self.upstreams.values()
            for request in upstream.requests
            if request.method not in IDEMPOTENT and not request.all("idempotency-key")
        )
        del seen[None]
        assert not {test_id: times for test_id, times in seen.items() if times > 1}


class Changes:
    """The increase of the daemon's metrics since this object was created."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._before = daemon.metrics()

    def now(self) -> Callable[..., float]:
        """A function `gain(name, **labels)` over one new scrape."""
        after: Metrics = self._daemon.metrics()
        return lambda name, /, **labels: after.total(name, **labels) - self._before.total(name, **labels)

    def __call__(self, name: str, /, **labels: str) -> float:
        return float(self.now()(name, **labels))

    def when_done(self, service: str, requests: int = 1) -> Callable[..., float]:
        """Waits until `requests` more of `service` have ended and none is in flight; returns `gain(name, **labels)`."""

        def check() -> Callable[..., float]:
            gain = self.now()
            assert gain("sidecar_requests_total", service=service) == requests
            assert gain("sidecar_in_flight_requests", service=service) == 0
            return gain

        return eventually(check)

    def eventually(self, expected: float, name: str, /, **labels: str) -> None:
        """Waits until the gain is `expected`. A request is counted at its end, which its app may see earlier."""

        def check() -> None:
            assert (name, labels, self(name, **labels)) == (name, labels, expected)

        eventually(check)


class Daemons:
    """Starts daemons for one test, and ends those that still run after it."""

    def __init__(self) -> None:
        self._started: list[Daemon] = []

    def __call__(self, config: str, **more: Any) -> Daemon:
        daemon = Daemon(config, **more)
        self._started.append(daemon)
        return daemon

    @property
    def log(self) -> str:
        return "\n".join(daemon.log for daemon in self._started)

    def stop(self) -> None:
        for daemon in self._started:
            daemon.__exit__(None, None, None)


@pytest.fixture
def start() -> Iterator[Daemons]:
    """For tests that need their own daemon: `start(config)`."""
    daemons = Daemons()
    yield daemons
    daemons.stop()


@pytest.fixture(autouse=True)
def never_twice(request: pytest.FixtureRequest) -> Iterator[None]:
    """Checks after every test with a rig that no request was repeated that may not be repeated."""
    yield
    for value in request.node.funcargs.values():
        if isinstance(value, Rig):
            value.assert_never_twice()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds the end of the daemon's log to the report of a failed test."""
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Rig | Daemons):
                report.sections.append(("the daemon's log", "\n".join(value.log.splitlines()[-80:])))
    return report
