"""One fake service, as a test uses it: its scripts, its address, and the sidecar's policy for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Final, cast

from sidecar.testing.admin import FORCED_FOR_S
from sidecar.testing.answers import UNSET
from sidecar.testing.calls import Call
from sidecar.testing.errors import AdminError, FakeError
from sidecar.testing.grpc_answers import Metadata
from sidecar.testing.grpc_calls import GrpcCall
from sidecar.testing.grpc_script import GrpcScript, GrpcScripts
from sidecar.testing.paths import ANY, Params, pattern
from sidecar.testing.policy_file import ADDRESSED
from sidecar.testing.script import Script, ServiceScript

if TYPE_CHECKING:
    from sidecar.testing.stage import Fakes, Stage


RETRY_AFTER_S: Final = 30.0
"""The Retry-After of a breaker forced open, in seconds; at most the default of `breaker.reset_timeout`."""


class ServiceFake:
    """`fake.venue`. A path is exact, has `{names}` for segments (`/events/{id}`), or a `*` at its end (`/events/*`)."""

    def __init__(self, stage: Stage, fakes: Fakes, script: ServiceScript, grpc: GrpcScripts) -> None:
        self._stage = stage
        self._fakes = fakes
        self._script = script
        self._grpc = grpc
        self.breaker = BreakerOfFake(stage, script.name)

    @property
    def name(self) -> str:
        return self._script.name

    @property
    def url(self) -> str:
        """The URL at which the app calls the service: through the sidecar."""
        return f"{self._fakes.url}/{self.name}"

    @property
    def port(self) -> int:
        """The port of the fake itself. Only the sidecar should call it."""
        return self._fakes.port(self.name).port

    def get(self, path: str, *, params: Params | None = None) -> Script:
        return self.request("GET", path, params=params)

    def head(self, path: str, *, params: Params | None = None) -> Script:
        return self.request("HEAD", path, params=params)

    def post(self, path: str, *, params: Params | None = None) -> Script:
        return self.request("POST", path, params=params)

    def put(self, path: str, *, params: Params | None = None) -> Script:
        return self.request("PUT", path, params=params)

    def patch(self, path: str, *, params: Params | None = None) -> Script:
        return self.request("PATCH", path, params=params)

    def delete(self, path: str, *, params: Params | None = None) -> Script:
        return self.request("DELETE", path, params=params)

    def options(self, path: str, *, params: Params | None = None) -> Script:
        return self.request("OPTIONS", path, params=params)

    def any(self, path: str = "*", *, params: Params | None = None) -> Script:
        """The script for any method. A script for one method takes precedence."""
        return self.request(ANY, path, params=params)

    def request(self, method: str, path: str, *, params: Params | None = None) -> Script:
        """The script for these requests. It is the same object each time, to add answers or to read its calls."""
        wanted = pattern(method, path, params)
        if self.speaks_grpc:
            raise FakeError(f"{self._script.known_as} speaks gRPC, so it gets no {wanted}: use .grpc(path)")
        return self._script.script(wanted)

    def grpc(
        self,
        path: str = "*",
        reply: object = UNSET,
        *,
        status: object = UNSET,
        details: str = "",
        headers: Metadata | None = None,
        trailers: Metadata | None = None,
        every: float = 0.0,
        delay: float = 0.0,
        times: int = 1,
    ) -> GrpcScript:
        """The script for these gRPC calls: `grpc("/shop.v1.Venue/Get")`. It is the same object each time. The fake
        speaks gRPC from now on, and HTTP no longer.

        With a reply, a status or a delay, this adds an answer as well, as `.delays(delay).then(reply, ...)` does.
        """
        script = self._grpc_script(path)
        if reply is UNSET and status is UNSET and not delay:
            if details or headers or trailers or every or times != 1:
                raise FakeError("an answer of gRPC needs a reply or a status")
            return script
        if delay:
            script.delays(delay, times)
        return script.then(
            reply,
            status="OK" if status is UNSET else status,
            details=details,
            headers=headers,
            trailers=trailers,
            every=every,
            times=times,
        )

    def _grpc_script(self, path: str) -> GrpcScript:
        if not self.speaks_grpc and (self._script.used or self._script.calls):
            raise FakeError(
                f"{self._script.known_as} speaks HTTP, because this test has scripted or called it so: "
                "a fake speaks HTTP or gRPC, not both"
            )
        claimed = self._grpc.claims()
        script = self._grpc.script(path)
        if not self.speaks_grpc or self._grpc.claims() != claimed:
            self._fakes.speak_grpc(self.name)
        return script

    @property
    def speaks_grpc(self) -> bool:
        """Whether the fake speaks gRPC; else it speaks HTTP."""
        return self._fakes.speaks_grpc(self.name)

    @property
    def calls(self) -> list[Call]:
        """All attempts that reached this service, scripted or not. Those of gRPC are in `grpc_calls`."""
        return self._script.calls

    @property
    def grpc_calls(self) -> list[GrpcCall]:
        """All attempts of gRPC that reached this service, scripted or not."""
        return self._grpc.calls

    def assert_called(
        self, times: int | None = None, *, json: object = UNSET, headers: Mapping[str, str] | None = None
    ) -> None:
        """Checks that there was at least one call, or exactly `times` calls, with this `json` and these `headers`.

        A fake that speaks gRPC is asked without these two: `fake.venue.grpc(path).assert_called(message=...)`.
        """
        __tracebackhide__ = True
        if self.speaks_grpc and json is UNSET and not headers:
            self._grpc.check_count("it", self.grpc_calls, times)
        else:
            self._script.check_count("it", self.calls, times, json, headers)

    def assert_not_called(self) -> None:
        __tracebackhide__ = True
        self.assert_called(0)

    def allow_unexpected(self) -> None:
        """Requests without a script still get a 501 (UNIMPLEMENTED), but no longer fail the test."""
        self._script.fails_unexpected = False

    def down(self) -> None:
        """Refuses connections, and resets the open ones, until `up()`."""
        self._stage.server.down(self._fakes.port(self.name))

    def up(self) -> None:
        """Listens again, on the same port."""
        self._stage.server.up(self._fakes.port(self.name))

    def policy(self, **keys: object) -> None:
        """Sets keys of the service in the sidecar's file, for this test: `policy(timeout={"attempt": "100ms"})`.

        They override the file and earlier calls, key by key. If the sidecar rejects them, this raises FakeError with
        the sidecar's message and changes nothing.
        """
        __tracebackhide__ = True
        for key in ADDRESSED:
            if key in keys:
                raise FakeError(f"{self._script.known_as}.policy(): {key} cannot be set: the service is the fake")
        self._fakes.override(self.name, self._script.known_as, cast("dict[str, Any]", keys))

    def __repr__(self) -> str:
        return f"<fake {self.name} at 127.0.0.1:{self.port}, {len(self.calls) + len(self.grpc_calls)} calls>"


class _Held:
    """Keeps a breaker forced. A thread renews the forcing, because each one lasts only for its retry_after."""

    def __init__(self, force: Callable[[], None], every_s: float) -> None:
        self._force = force
        self._every_s = every_s
        self._over = Event()
        self._thread = Thread(target=self._run, name="a breaker held open", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """When this returns, the breaker is no longer forced again."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self._every_s):
            try:
                self._force()
            except AdminError:  # the sidecar has ended; the end of the test reports that
                return


class BreakerOfFake:
    """`fake.venue.breaker`: the sidecar's breaker for this service. Forcing ends with the test.

    `route="POST /reports"` means the breaker of a route that has its own.
    """

    def __init__(self, stage: Stage, name: str) -> None:
        self._stage = stage
        self._name = name
        self._held: dict[str | None, _Held] = {}

    def open(self, route: str | None = None, *, retry_after: float = RETRY_AFTER_S) -> None:
        """Refuses every call: `circuit_open`, with a `retry_after` of so many seconds at first. It then falls, down to
        two thirds, and is renewed, so that no call passes for as long as the test lasts.
        """
        if not 1 <= retry_after <= FORCED_FOR_S:
            raise FakeError(f"retry_after must be 1 to {FORCED_FOR_S:g} seconds, not {retry_after!r}")

        def force() -> None:
            self._stage.admin.breaker(self._name, "open", route, retry_after)

        self._let_go(route)
        force()
        self._held[route] = _Held(force, retry_after / 3)

    def close(self, route: str | None = None) -> None:
        """Lets every call pass, however many fail."""
        self._let_go(route)
        self._stage.admin.breaker(self._name, "closed", route)

    def auto(self, route: str | None = None) -> None:
        """Stops forcing the breaker. If it was forced open, it then lets a probe pass, which decides."""
        self._let_go(route)
        self._stage.admin.breaker(self._name, "auto", route)

    def let_go(self) -> None:
        """Stops renewing, because the test is over."""
        for route in list(self._held):
            self._let_go(route)

    def _let_go(self, route: str | None) -> None:
        held = self._held.pop(route, None)
        if held is not None:
            held.end()

    @property
    def state(self) -> str:
        """The current state of the service's breaker: `closed`, `open` or `half_open`."""
        return str(self._stage.admin.service(self._name)["breaker"]["state"])

    def __repr__(self) -> str:
        try:
            return f"<breaker of {self._name}: {self.state}>"
        except AdminError as error:
            return f"<breaker of {self._name}: {error}>"
