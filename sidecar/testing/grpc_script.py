"""Scripts of one fake gRPC service: the answers it gives in turn, and the calls it received. It has no sockets.

As in `script`, the test's thread writes scripts while the calls' threads take answers, under the lock of the service's
script. Problems that fail the test go there too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from inspect import isgeneratorfunction
from typing import Final

from msgspec.structs import replace

from sidecar.testing.answers import UNSET, checked_delay, checked_times
from sidecar.testing.calls import times, told
from sidecar.testing.errors import FakeError
from sidecar.testing.grpc_answers import GrpcAnswer, Metadata, grpc_answer
from sidecar.testing.grpc_calls import GrpcCall, has_messages, messages_told, metadata_told
from sidecar.testing.paths import Pattern, pattern
from sidecar.testing.script import MAX_CALLS, ServiceScript
from sidecar.testing.turns import Turns

MAX_MESSAGES: Final = 64 * 1024 * 1024
"""How many bytes of messages one fake keeps in one test. A test with more fails."""

_KIND: Final = "gRPC"


class GrpcScript:
    """The answers to some calls of one gRPC service, in turn. The last one is repeated.

    Each method adds an answer and returns the script, so that calls can be chained. A fake answers when the app has
    sent its last message; one that `converses` does at once.
    """

    def __init__(self, scripts: GrpcScripts, wanted: Pattern) -> None:
        self._scripts = scripts
        self._pattern = wanted
        self.turns = Turns(grpc_answer())
        """Used under the service's lock."""

    def then(
        self,
        reply: object = UNSET,
        *,
        status: object = "OK",
        details: str = "",
        headers: Metadata | None = None,
        trailers: Metadata | None = None,
        every: float = 0.0,
        times: int = 1,
    ) -> GrpcScript:
        """Adds an answer: see `grpc_answer`. It is given `times` times before the next one of the script."""
        given = grpc_answer(reply, status=status, details=details, headers=headers, trailers=trailers, every=every)
        return self._add(given, times)

    def fails(
        self,
        status: object = "UNAVAILABLE",
        times: int = 1,
        *,
        details: str = "",
        trailers: Metadata | None = None,
    ) -> GrpcScript:
        """Adds an answer without a message, and with an error status: trailers alone, as servers refuse calls."""
        given = grpc_answer(status=status, details=details, trailers=trailers)
        if given.status == "OK":
            raise FakeError(f"{status!r} is no error: .then(status={status!r})")
        return self._add(given, times)

    def answers(self, function: Callable[[GrpcCall], object], times: int = 1) -> GrpcScript:
        """Adds an answer that `function(call)` returns: `grpc_answer(...)`, a message, or a list of messages.

        The function runs in a thread of the call's own, so it may wait. An `async def` runs in the fakes' event loop,
        which is not the test's.
        """
        if not callable(function):
            raise FakeError(f".answers() takes a function of the call, not {function!r}; use .then(reply)")
        return self._add(GrpcAnswer(made_by=function), times)

    def converses(self, function: Callable[..., object], times: int = 1) -> GrpcScript:
        """Adds a conversation: `function(call, messages)` is a generator. It iterates over the app's messages as they
        come, and yields messages in between. A `grpc_answer(...)` that it yields is its last word.
        """
        if not isgeneratorfunction(function):
            raise FakeError(f".converses() takes a generator function, `def talk(call, messages)`, not {function!r}")
        return self._add(GrpcAnswer(how="converses", made_by=function), times)

    def delays(self, seconds: float, times: int = 1) -> GrpcScript:
        """Delays the next answer of the script. If none follows, it delays the one before, or an empty message."""
        delay = checked_delay(seconds)
        with self._scripts.lock:
            self.turns.delay(delay, checked_times(times))
        return self

    def resets(self, times: int = 1) -> GrpcScript:
        """Reads the messages, then resets the connection (TCP RST), with all calls that it carries."""
        return self._add(GrpcAnswer(how="resets"), times)

    def hangs(self, times: int = 1) -> GrpcScript:
        """Reads the messages, then sends nothing until the call is cancelled or the test ends."""
        return self._add(GrpcAnswer(how="hangs"), times)

    def clear(self) -> GrpcScript:
        """Removes all answers, so that the script can be written anew."""
        with self._scripts.lock:
            self.turns.clear()
        return self

    @property
    def calls(self) -> list[GrpcCall]:
        """The calls that match this path, in the order of their arrival, whichever script answered them."""
        return [call for call in self._scripts.calls if match(self._pattern, call.path) is not None]

    def assert_called(
        self,
        times: int | None = None,
        *,
        message: object = UNSET,
        metadata: Mapping[str, str | bytes] | None = None,
    ) -> None:
        """Checks that there was at least one call, or exactly `times` calls. Each attempt that reached the service
        counts.

        With `message`, only calls with this message count (a list: with these messages); with `metadata`, only calls
        that have these.
        """
        __tracebackhide__ = True
        self._scripts.check_count(str(self._pattern), self.calls, times, message, metadata)

    def assert_not_called(self) -> None:
        __tracebackhide__ = True
        self._scripts.check_count(str(self._pattern), self.calls, 0)

    def __repr__(self) -> str:
        return f"<script of {self._scripts.name}: {self._pattern}, called {times(len(self.calls))}>"

    def _add(self, given: GrpcAnswer, times: int) -> GrpcScript:
        count = checked_times(times)
        with self._scripts.lock:
            self.turns.add(given, count)
        return self


class GrpcScripts:
    """All gRPC scripts of one service, and all gRPC calls that it received."""

    def __init__(self, service: ServiceScript) -> None:
        self._service = service
        self.lock = service.lock
        self._scripts: dict[Pattern, GrpcScript] = {}
        self._calls: list[GrpcCall] = []
        self._kept = 0

    @property
    def name(self) -> str:
        return self._service.name

    def script(self, path: str) -> GrpcScript:
        """The script for these calls: the same object each time. Raises FakeError."""
        wanted = grpc_pattern(path)
        with self.lock:
            return self._scripts.setdefault(wanted, GrpcScript(self, wanted))

    def claims(self) -> list[str]:
        """The gRPC services that the scripts name in full: `shop.v1.Venue`."""
        with self.lock:
            named = (one.path.split("/")[1] for one in self._scripts if one.path.count("/") == 2)
            return sorted({name for name in named if "*" not in name and "{" not in name})

    @property
    def calls(self) -> list[GrpcCall]:
        with self.lock:
            return list(self._calls)

    def not_given(self) -> list[str]:
        """The scripted calls that the app never made."""
        with self.lock:
            return [str(one) for one, script in self._scripts.items() if script.turns and not script.turns.taken]

    def begin(self, call: GrpcCall) -> tuple[GrpcCall, GrpcAnswer] | None:
        """As `take`, if the next answer is a conversation, which does not wait for the app's last message."""
        with self.lock:
            found = self._find(call.path)
            if found is None or found[1].turns.peek().how != "converses":
                return None
            return self.take(call)

    def take(self, call: GrpcCall) -> tuple[GrpcCall, GrpcAnswer]:
        """Records the call and returns it with the answer to give."""
        with self.lock:
            found = self._find(call.path)
            if found is not None:
                values, script = found
                given = script.turns.next()
                call = dataclasses.replace(call, path_params=values, answered=str(given))
            else:
                given = self._unscripted(call)
                call = dataclasses.replace(call, answered="UNIMPLEMENTED, nothing is scripted for it")
            self._record(call)
            return call, given

    def gave_up(self, call: GrpcCall) -> None:
        """Records a call that ended before its last message, so that no answer was taken for it."""
        with self.lock:
            self._record(dataclasses.replace(call, answered="nothing: the call ended before its last message"))

    def problem(self, text: str) -> None:
        self._service.problem(text)

    def check_count(
        self,
        what: str,
        calls: list[GrpcCall],
        wanted: int | None,
        message: object = UNSET,
        metadata: Mapping[str, str | bytes] | None = None,
    ) -> None:
        """Raises AssertionError with all calls of this service, unless the number of matching calls is as wanted."""
        __tracebackhide__ = True
        others = calls
        if message is not UNSET:
            calls = [call for call in calls if has_messages(call, message)]
            what += f" with message={message!r}"
        for name, value in (metadata or {}).items():
            calls = [call for call in calls if value in call.metadata.getall(name, [])]
            what += f" with {name}: {value!r}"
        found = len(calls)
        if found == wanted or (wanted is None and found):
            return
        expected = "at least once" if wanted is None else times(wanted)
        others = [call for call in others if call not in calls]
        raise AssertionError(
            f"{self.name}: {what} was called {times(found)}, expected {expected}. All calls of this service:\n"
            + told(self.calls, calls)
            + ("" if message is UNSET else messages_told(others))
            + (metadata_told(others, list(metadata)) if metadata else "")
        )

    def _find(self, path: str) -> tuple[dict[str, str], GrpcScript] | None:
        fitting = [
            (one, values)
            for one, script in self._scripts.items()
            if script.turns and (values := match(one, path)) is not None
        ]
        if not fitting:
            return None
        best, values = max(fitting, key=lambda one: one[0].rank)
        return values, self._scripts[best]

    def _record(self, call: GrpcCall) -> None:
        self._kept += sum(map(len, call.messages))
        if len(self._calls) >= MAX_CALLS:
            self.problem(f"{self.name} was called more than {MAX_CALLS} times: the calls after that are not recorded")
            return
        if self._kept > MAX_MESSAGES:
            self.problem(f"{self.name} got more than {MAX_MESSAGES >> 20} MiB of messages: later ones are not kept")
            call = dataclasses.replace(call, messages=())
        self._calls.append(call)

    def _unscripted(self, call: GrpcCall) -> GrpcAnswer:
        words = [f'nothing is scripted for {call} of the fake "{self.name}"']
        words.append(f'  script it: {self._service.known_as}.grpc("{call.path}").then(b"...")')
        scripted = [str(one) for one, script in self._scripts.items() if script.turns]
        if scripted:
            near = get_close_matches(str(call), scripted, n=1, cutoff=0.6)
            words.append(f"  scripted are: {', '.join(scripted)}" + (f"; did you mean {near[0]}?" if near else ""))
        if self._service.fails_unexpected:
            self.problem("\n".join(words))
        return grpc_answer(status="UNIMPLEMENTED", details=words[0])


def grpc_pattern(path: str) -> Pattern:
    """A checked pattern of a gRPC path. Raises FakeError."""
    found = pattern(_KIND, path)
    whole = path.count("/") == 2 and "" not in path[1:].split("/")
    if found.params or not (path == "*" or path.endswith("*") or whole):
        raise FakeError(
            f'the path of a gRPC call is "/package.Service/Method", not "{path}"; a "*" may stand at its end'
        )
    return replace(found, method=_KIND)  # `pattern` has made it upper case


def match(wanted: Pattern, path: str) -> dict[str, str] | None:
    """The values of the pattern's `{names}` if the path matches, else None."""
    return wanted.match(wanted.method, path, ())
