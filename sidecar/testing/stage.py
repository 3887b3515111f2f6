"""Session and test scope of the fakes: what runs for the whole session, and what one test gets of it.

This module makes sure that no test inherits state from the one before. The sidecar keeps breakers, budgets, ejections
and counts by service name. So at the end of a test its services leave the configuration, and their state goes with
them. Each test's fakes listen on new ports, so that a late retry of one test never reaches a fake of the next.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from contextlib import ExitStack
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sidecar.testing import policy_file, strays
from sidecar.testing.admin import Admin
from sidecar.testing.calls import told
from sidecar.testing.environment import pointed_at
from sidecar.testing.errors import AdminError, FakeError
from sidecar.testing.grpc_script import GrpcScripts
from sidecar.testing.policy_file import Tree
from sidecar.testing.script import ServiceScript, call_of
from sidecar.testing.service import ServiceFake
from sidecar.testing.sidecar_process import SidecarProcess, check

if TYPE_CHECKING:
    from sidecar.testing.grpc_server import GrpcServer
    from sidecar.testing.sockets import Port


class Stage:
    """A running sidecar and the thread of the fakes. Raises FakeError if it cannot start."""

    def __init__(self, app_file: Path | None = None) -> None:
        self.app_file = app_file.absolute() if app_file is not None else None
        self.app: Tree | None = None
        if self.app_file is not None:
            self.app = policy_file.for_tests(policy_file.read_app_file(self.app_file), self.app_file.parent)
        self._folder = Path(tempfile.mkdtemp(prefix="sidecar-testing-"))
        self.process = SidecarProcess(self._folder)
        try:
            # This takes as long as the sidecar's own start, so both run at the same time.
            from sidecar.testing.server import FakeServer

            self.process.wait()
            self.server = FakeServer()
        except BaseException:
            self._leave()
            raise
        self.admin = Admin(self.process.admin_port)
        self._in_use: Fakes | None = None
        self._grpc: GrpcServer | None = None
        self.speaking_grpc = [
            name for name, one in (self.app or {"services": {}})["services"].items() if policy_file.speaks_grpc(one)
        ]
        """The services that speak gRPC by the app's own file."""

    def fakes(self) -> Fakes:
        """Fakes for one test. For more than one test, use a `with` block: it sets SIDECAR_URL, and raises the problems
        at its end.
        """
        if self._in_use is not None and not self._in_use.closed:
            raise FakeError(
                "fakes of a wider scope are in use, and the sidecar serves the fakes of one fixture at a time: "
                "let the test use that fixture"
            )
        if not self.process.running:
            self.process.restart()
            self.admin = Admin(self.process.admin_port)
        self.process.forget_log()
        self._in_use = Fakes(self)
        return self._in_use

    def grpc_port(self, scripts: GrpcScripts) -> Port:
        """A port for a fake that speaks gRPC. Raises FakeError if grpcio is missing."""
        from sidecar.testing.grpc_server import GrpcListener, GrpcServer

        if self._grpc is None:
            self._grpc = GrpcServer(self.server.loop)
        port = GrpcListener(scripts, self._grpc)
        self.server.up(port)
        return port

    def ended(self) -> str:
        """How the sidecar ended by itself; empty while it runs."""
        how = self.process.ended
        return f"the sidecar has ended by itself ({how}); the next test gets a new one" if how else ""

    def put_in_force(self, rest: Tree) -> None:
        """Loads this configuration. If it raises AdminError, the old configuration stays in force."""
        policy_file.write(self.process.path, self.process.listen, rest)
        self.admin.reload()

    def close(self) -> None:
        if self._grpc is not None:
            self._grpc.close()
        self.server.close()
        self._leave()

    def _leave(self) -> None:
        self.process.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class Fakes:
    """The fixture `fake`: services by name, `fake.venue` or `fake["venue-service"]`."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._services: dict[str, ServiceFake] = {}
        self._scripts: dict[str, ServiceScript] = {}
        self._grpc: dict[str, GrpcScripts] = {}
        self._ports: dict[str, Port] = {}
        self._speaking_grpc: set[str] = set()
        self._overrides: dict[str, Tree] = {}
        self._closed = False
        self._environment = ExitStack()
        self._allowed: set[str] | None = set()
        self._refused_before = stage.admin.refused()
        self._lost: list[str] = []
        if stage.app is not None:
            self._add(list(stage.app["services"]))

    def __enter__(self) -> Self:
        self._environment.enter_context(pointed_at(self.url))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._environment.close()
        problems = self.problems()
        self.close()
        if problems and kind is None:
            raise AssertionError("\n".join(problems))

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def url(self) -> str:
        """The URL at which the app calls its services. SIDECAR_URL is set to it during the test."""
        return self._stage.process.url

    def __getitem__(self, name: str) -> ServiceFake:
        __tracebackhide__ = True
        if self._closed:
            raise FakeError("the test of these fakes is over")
        if name not in self._services:
            if self._stage.app is not None:
                raise FakeError(self._unknown(name))
            self._add([name])
        return self._services[name]

    def __getattr__(self, name: str) -> ServiceFake:
        __tracebackhide__ = True
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def __repr__(self) -> str:
        return f"<fakes of {', '.join(self._services) or 'no service yet'} behind {self.url}>"

    @property
    def address(self) -> str:
        """Where the app's gRPC calls go, `localhost:15001` in production: the target of a channel."""
        return self.url.partition("//")[2]

    def port(self, name: str) -> Port:
        """See `ServiceFake.port`."""
        return self._ports[name]

    def speaks_grpc(self, name: str) -> bool:
        """See `ServiceFake.speaks_grpc`."""
        return name in self._speaking_grpc

    def speak_grpc(self, name: str) -> None:
        """See `ServiceFake.grpc`. Later calls tell the sidecar what the scripts claim by now."""
        __tracebackhide__ = True
        if name not in self._speaking_grpc:
            port = self._stage.grpc_port(self._grpc[name])
            self._stage.server.close_all([self._ports[name]])
            self._ports[name] = port
            self._speaking_grpc.add(name)
        self._put_in_force()

    def override(self, name: str, known_as: str, keys: dict[str, Any]) -> None:
        """See `ServiceFake.policy`."""
        __tracebackhide__ = True
        before = dict(self._overrides)
        self._overrides[name] = policy_file.merged(self._overrides.get(name, {}), keys)
        try:
            self._put_in_force()
        except AdminError as error:
            self._overrides = before
            self._put_in_force()
            given = ", ".join(f"{key}={value!r}" for key, value in keys.items())
            words = "\n".join(error.errors) or str(error)
            raise FakeError(f"{known_as}.policy({given}): the sidecar rejects it:\n{words}") from None

    def allow_unknown(self, *names: str) -> None:
        """Requests for these services, which the sidecar does not know, still get a 404 but no longer fail the test.
        Without names, this applies to any service, and to malformed requests (`bad_request`) as well.
        """
        if not names:
            self._allowed = None
        elif self._allowed is not None:
            self._allowed.update(names)

    def assert_all_called(self) -> None:
        """Checks that each script with an answer was used at least once."""
        __tracebackhide__ = True
        left = [f"  {one.name}: {asked}" for one in self._all() for asked in one.not_given()]
        if left:
            told_of = [self.told() or "  there was no call"]
            raise AssertionError("\n".join(["scripted, but never called:", *left, "All calls:", *told_of]))

    def problems(self) -> list[str]:
        """The problems that fail the test at its end."""
        found = [problem for script in self._scripts.values() for problem in script.problems()]
        if not self._closed:
            self._lost = self._what_came_to_no_fake()
        return found + self._lost

    def _what_came_to_no_fake(self) -> list[str]:
        ended = self._stage.ended()
        if ended:
            return [ended]
        if self._allowed is None:
            return []
        try:
            count = self._stage.admin.refused() - self._refused_before
        except AdminError as error:
            return [self._stage.ended() or str(error)]
        if count <= 0:
            return []
        found = self._stage.process.refused(count)
        words = strays.told([one for one in found if one.service not in self._allowed], self._stray)
        if len(found) < count:
            words.append(
                f"the sidecar refused {count} requests (unknown service or malformed); its log shows {len(found)}"
            )
        return words

    def told(self) -> str:
        """The calls of each fake, for the report of a failed test."""
        return "\n".join(f"{one.name}:\n{told(one.calls)}" for one in self._all() if one.calls)

    def sidecar_log(self) -> str:
        """The sidecar's log of this test."""
        return self._stage.process.readable_log()

    def close(self) -> None:
        """Ends calls in progress, and removes the services and all their state from the sidecar."""
        if self._closed:
            return
        self._closed = True
        self._stage.server.close_all(self._ports.values())
        for service in self._services.values():
            service.breaker.let_go()
        if self._services and self._stage.process.running:
            self._stage.put_in_force(policy_file.with_fakes(None, {}, {}))

    def _all(self) -> list[ServiceScript | GrpcScripts]:
        """What was scripted and called, service by service."""
        return [one for name in self._scripts for one in (self._scripts[name], self._grpc[name])]

    def _add(self, names: list[str]) -> None:
        for name in names:
            script = ServiceScript(name, self._known_as(name))
            self._scripts[name] = script
            self._grpc[name] = GrpcScripts(script)
            if name in self._stage.speaking_grpc:
                self._ports[name] = self._stage.grpc_port(self._grpc[name])
                self._speaking_grpc.add(name)
            else:
                self._ports[name] = self._stage.server.listen(script)
            self._services[name] = ServiceFake(self._stage, self, script, self._grpc[name])
        try:
            self._put_in_force()
        except AdminError as error:
            ports = [self._ports.pop(name) for name in names]
            for name in names:
                del self._services[name], self._scripts[name], self._grpc[name]
            self._stage.server.close_all(ports)
            raise FakeError(self._refused(names, error)) from None

    def _put_in_force(self) -> None:
        claims = {name: self._grpc[name].claims() for name in self._speaking_grpc}
        counts = Counter(claim for names in claims.values() for claim in names)
        fakes = {
            # What two fakes have scripted leads to neither: the app has to say which, as in production.
            name: policy_file.grpc_fake(port.port, [claim for claim in claims[name] if counts[claim] == 1])
            if name in claims
            else policy_file.http_fake(port.port)
            for name, port in self._ports.items()
        }
        self._stage.put_in_force(policy_file.with_fakes(self._stage.app, fakes, self._overrides))

    def _refused(self, names: list[str], error: AdminError) -> str:
        ended = self._stage.ended()
        if ended:
            return f"{ended}\n{self._stage.process.log()}".rstrip()
        if self._stage.app_file is None:
            words = "\n".join(error.errors) or str(error)
            return f"the sidecar rejects a service named {names[0]!r}:\n{words}"
        path = self._stage.app_file
        # What was rejected is a file made of the app's own. Checking the app's own file gives messages with its lines.
        words = check(path) or "\n".join(error.errors) or str(error)
        return f"sidecar_config: the sidecar rejects {path}:\n{words}"

    def _known_as(self, name: str) -> str:
        plain = name.isidentifier() and not name.startswith("_") and not hasattr(type(self), name)
        return f"fake.{name}" if plain else f'fake["{name}"]'

    def _stray(self, stray: strays.Stray) -> str:
        """What to do about a call to a service that the sidecar does not know."""
        known_as = self._known_as(stray.service)
        words = f"the app called service {stray.service!r} ({stray.method} {stray.target})"
        if stray.service in self._services:
            words += f" before this test named it: name {known_as} earlier"
        elif self._stage.app is not None:
            words += f": {self._unknown(stray.service)}"
        else:
            script = f"{known_as}.{call_of(stray.method, stray.path)}.then(json={{...}})"
            words += f", which this test does not script\n  script it: {script}"
        words += "\n  (a Host in place of the path counts if it is the service's name without a port)"
        return f"{words}\n  if the app is supposed to get 404 unknown_service: fake.allow_unknown({stray.service!r})"

    def _unknown(self, name: str) -> str:
        assert self._stage.app is not None
        names = list(self._stage.app["services"])
        near = get_close_matches(name.replace("_", "-"), names, n=1, cutoff=0.6) or get_close_matches(name, names, n=1)
        hint = f"; did you mean {self._known_as(near[0])}?" if near else f": it has {', '.join(names)}"
        return f"there is no service {name!r} in {self._stage.app_file}{hint}"
