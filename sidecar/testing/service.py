"""One faked service, as a test holds it: what it answers, where it is, and the sidecar's policy towards it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Final, cast

from sidecar.testing.admin import FORCED_FOR_S
from sidecar.testing.answers import UNSET
from sidecar.testing.calls import Call
from sidecar.testing.errors import AdminError, FakeError
from sidecar.testing.paths import ANY, pattern
from sidecar.testing.policy_file import ADDRESSED
from sidecar.testing.script import Script, ServiceScript

if TYPE_CHECKING:
    from sidecar.testing.server import Listener
    from sidecar.testing.stage import Fakes, Stage


RETRY_AFTER_S: Final = 30.0
"""What an open breaker tells the app: at most the default of `breaker.reset_timeout`."""


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

    def assert_called(
        self, times: int | None = None, *, json: object = UNSET, headers: Mapping[str, str] | None = None
    ) -> None:
        """At least once, or exactly so many `times`: of the calls with this `json` and these `headers`."""
        __tracebackhide__ = True
        self._script.check_count("it", self.calls, times, json, headers)

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


class _Held:
    """A forced breaker, forced anew again and again in a thread of its own: it lasts no longer than its retry_after."""

    def __init__(self, force: Callable[[], None], every_s: float) -> None:
        self._force = force
        self._every_s = every_s
        self._over = Event()
        self._thread = Thread(target=self._run, name="a breaker held open", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Once this returns, nothing is forced any more."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self._every_s):
            try:
                self._force()
            except AdminError:  # the sidecar has ended, which the test's end says
                return


class BreakerOfFake:
    """`fake.venue.breaker`: the sidecar's. What is forced ends with the test.

    It is the one of the service; `route="POST /reports"` means that of a route which has its own.
    """

    def __init__(self, stage: Stage, name: str) -> None:
        self._stage = stage
        self._name = name
        self._held: dict[str | None, _Held] = {}

    def open(self, route: str | None = None, *, retry_after: float = RETRY_AFTER_S) -> None:
        """Refuse every call: `circuit_open`, with a `retry_after` of so many seconds (at first; later, down to two
        thirds of it). It is renewed, so that no call comes through for as long as the test lasts.
        """
        if not 1 <= retry_after <= FORCED_FOR_S:
            raise FakeError(f"retry_after is 1 to {FORCED_FOR_S:g} seconds, not {retry_after!r}")

        def force() -> None:
            self._stage.admin.breaker(self._name, "open", route, retry_after)

        self._let_go(route)
        force()
        self._held[route] = _Held(force, retry_after / 3)

    def close(self, route: str | None = None) -> None:
        """Let every call through, however many fail."""
        self._let_go(route)
        self._stage.admin.breaker(self._name, "closed", route)

    def auto(self, route: str | None = None) -> None:
        """Let go of it. One that was forced open then lets a probe through, which decides."""
        self._let_go(route)
        self._stage.admin.breaker(self._name, "auto", route)

    def let_go(self) -> None:
        """Renew nothing any more: the test is over."""
        for route in list(self._held):
            self._let_go(route)

    def _let_go(self, route: str | None) -> None:
        held = self._held.pop(route, None)
        if held is not None:
            held.end()

    @property
    def state(self) -> str:
        """The service's: `closed`, `open` or `half_open`, as of now."""
        return str(self._stage.admin.service(self._name)["breaker"]["state"])

    def __repr__(self) -> str:
        try:
            return f"<breaker of {self._name}: {self.state}>"
        except AdminError as error:
            return f"<breaker of {self._name}: {error}>"
