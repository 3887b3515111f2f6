"""One faked service, as a test holds it: what it answers, where it is, and the sidecar's policy towards it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from sidecar.testing.calls import Call
from sidecar.testing.errors import AdminError, FakeError
from sidecar.testing.paths import ANY, pattern
from sidecar.testing.policy_file import ADDRESSED
from sidecar.testing.script import Script, ServiceScript

if TYPE_CHECKING:
    from sidecar.testing.server import Listener
    from sidecar.testing.stage import Fakes, Stage


class ServiceFake:
    """`fake.venue`. Paths are exact, have `{names}` for segments (`/events/{id}`) or a `*` at the end (`/events/*`)."""

    def __init__(self, stage: Stage, fakes: Fakes, script: ServiceScript, listener: Listener) -> None:
        self._stage = stage
        self._fakes = fakes
        self._script = script
        self._listener = listener
        self.breaker = BreakerOfFake(stage, script.name)

    @property
    def name(self) -> str:
        return self._script.name

    @property
    def url(self) -> str:
        """Where the app calls it: through the sidecar."""
        return f"{self._fakes.url}/{self.name}"

    @property
    def port(self) -> int:
        """Of the fake itself, which only the sidecar should call."""
        return self._listener.port

    def get(self, path: str, *, params: Mapping[str, object] | None = None) -> Script:
        return self.request("GET", path, params=params)

    def head(self, path: str, *, params: Mapping[str, object] | None = None) -> Script:
        return self.request("HEAD", path, params=params)

    def post(self, path: str, *, params: Mapping[str, object] | None = None) -> Script:
        return self.request("POST", path, params=params)

    def put(self, path: str, *, params: Mapping[str, object] | None = None) -> Script:
        return self.request("PUT", path, params=params)

    def patch(self, path: str, *, params: Mapping[str, object] | None = None) -> Script:
        return self.request("PATCH", path, params=params)

    def delete(self, path: str, *, params: Mapping[str, object] | None = None) -> Script:
        return self.request("DELETE", path, params=params)

    def options(self, path: str, *, params: Mapping[str, object] | None = None) -> Script:
        return self.request("OPTIONS", path, params=params)

    def any(self, path: str = "*", *, params: Mapping[str, object] | None = None) -> Script:
        """Of whatever method. A script for one method answers before this."""
        return self.request(ANY, path, params=params)

    def request(self, method: str, path: str, *, params: Mapping[str, object] | None = None) -> Script:
        """The script of these requests: the same each time, to add to it or to look at its calls."""
        return self._script.script(pattern(method, path, params))

    @property
    def calls(self) -> list[Call]:
        """All attempts that came here, scripted or not."""
        return self._script.calls

    def assert_called(self, times: int | None = None) -> None:
        """At least once, or exactly so many `times`."""
        __tracebackhide__ = True
        self._script.check_count("it", self.calls, times)

    def assert_not_called(self) -> None:
        __tracebackhide__ = True
        self._script.check_count("it", self.calls, 0)

    def allow_unexpected(self) -> None:
        """A request that nobody scripted still gets a 501, but does not fail the test."""
        self._script.fails_unexpected = False

    def down(self) -> None:
        """Refuse connections, and reset those that are open, until `up()`."""
        self._stage.server.down(self._listener)

    def up(self) -> None:
        """Listen again, on the same port."""
        self._stage.server.up(self._listener)

    def policy(self, **keys: object) -> None:
        """Keys of the service in the sidecar's file, for this test: `policy(timeout={"attempt": "100ms"})`.

        They go over what the file (or an earlier call) says, key by key. Raises FakeError with the sidecar's words
        where it would not take them; then nothing is changed.
        """
        __tracebackhide__ = True
        for key in ADDRESSED:
            if key in keys:
                raise FakeError(f"{self._script.known_as}.policy(): {key} is not to be set: the service is the fake")
        self._fakes.override(self.name, self._script.known_as, cast("dict[str, Any]", keys))

    def __repr__(self) -> str:
        return f"<fake {self.name} at 127.0.0.1:{self.port}, {len(self.calls)} calls>"


class BreakerOfFake:
    """`fake.venue.breaker`: the sidecar's. What is forced ends with the test.

    It is the one of the service; `route="POST /reports"` means that of a route which has its own.
    """

    def __init__(self, stage: Stage, name: str) -> None:
        self._stage = stage
        self._name = name

    def open(self, route: str | None = None) -> None:
        """Refuse every call: `circuit_open`."""
        self._stage.admin.breaker(self._name, "open", route)

    def close(self, route: str | None = None) -> None:
        """Let every call through, however many fail."""
        self._stage.admin.breaker(self._name, "closed", route)

    def auto(self, route: str | None = None) -> None:
        """Let go of it. One that was forced open then lets a probe through, which decides."""
        self._stage.admin.breaker(self._name, "auto", route)

    @property
    def state(self) -> str:
        """The service's: `closed`, `open` or `half_open`, as of now."""
        return str(self._stage.admin.service(self._name)["breaker"]["state"])

    def __repr__(self) -> str:
        try:
            return f"<breaker of {self._name}: {self.state}>"
        except AdminError as error:
            return f"<breaker of {self._name}: {error}>"
