"""Scripts of one fake service: the answers it gives in turn, and the calls it received. It has no sockets.

This module decides which answer comes next, what is recorded, and what fails a test at its end. The test's thread
writes scripts while the server's thread takes answers, so both use one lock.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from threading import RLock
from typing import Final

from msgspec.structs import replace

from sidecar.testing.answers import UNSET, Answer, Headers, answer, checked_delay, checked_times, dripping
from sidecar.testing.calls import Call, as_json, bodies, fields, times, told
from sidecar.testing.errors import FakeError
from sidecar.testing.paths import Pattern
from sidecar.testing.turns import Turns

MAX_CALLS: Final = 10_000
"""How many calls one fake records in one test. A test with more is caught in a loop, and fails."""

MAX_KINDS_OF_PROBLEM: Final = 20


class Script:
    """The answers to some requests of one service, in turn. The last one is repeated.

    Each method adds an answer and returns the script, so that calls can be chained.
    """

    def __init__(self, service: ServiceScript, pattern: Pattern) -> None:
        self._service = service
        self._pattern = pattern
        self.turns = Turns(Answer())
        """Used under the service's lock."""

    def then(
        self,
        status: int = 200,
        *,
        json: object = UNSET,
        body: bytes | str = b"",
        headers: Headers | None = None,
        times: int = 1,
    ) -> Script:
        """Adds an answer. It is given `times` times before the next one of the script."""
        return self._add(answer(status, json=json, body=body, headers=headers), times)

    def fails(
        self,
        status: int = 503,
        times: int = 1,
        *,
        json: object = UNSET,
        body: bytes | str = b"",
        headers: Headers | None = None,
    ) -> Script:
        """Adds an answer with an error status, 4xx or 5xx."""
        given = answer(status, json=json, body=body, headers=headers)
        if given.status < 400:
            raise FakeError(f"{status} is not an error status: .then(status={status})")
        return self._add(given, times)

    def answers(self, function: Callable[[Call], object], times: int = 1) -> Script:
        """Adds an answer that `function(call)` returns: `answer(...)`, bytes, text, or an object for JSON.

        The function runs in another thread, so it may wait without delaying the other fakes. An `async def` runs in the
        fakes' event loop, which is not the test's. It must not block, and must not await objects of the test's loop.
        """
        if not callable(function):
            raise FakeError(f".answers() takes a function of the call, not {function!r}; use .then(json=...)")
        return self._add(Answer(made_by=function), times)

    def delays(self, seconds: float, times: int = 1) -> Script:
        """Delays the next answer of the script. If none follows, it delays the one before, or an empty 200."""
        delay = checked_delay(seconds)
        with self._service.lock:
            self.turns.delay(delay, checked_times(times))
        return self

    def resets(self, times: int = 1) -> Script:
        """Reads the request, then resets the connection (TCP RST)."""
        return self._add(Answer(how="resets"), times)

    def closes(self, times: int = 1) -> Script:
        """Reads the request, then closes the connection without an answer."""
        return self._add(Answer(how="closes"), times)

    def truncates(
        self, body: bytes | str = b"{", status: int = 200, *, headers: Headers | None = None, times: int = 1
    ) -> Script:
        """Sends the head and this part of a longer body, then closes the connection."""
        return self._add(replace(answer(status, body=body, headers=headers), how="truncates"), times)

    def drips(
        self,
        pieces: Iterable[bytes | str],
        every: float = 0.05,
        status: int = 200,
        *,
        headers: Headers | None = None,
        times: int = 1,
    ) -> Script:
        """Sends a chunked body in pieces: the first one with the head, and one more every `every` seconds."""
        return self._add(dripping(status, pieces, every, headers), times)

    def hangs(self, times: int = 1) -> Script:
        """Reads the request, then sends nothing until the sidecar gives up or the test ends."""
        return self._add(Answer(how="hangs"), times)

    def clear(self) -> Script:
        """Removes all answers, so that the script can be written anew."""
        with self._service.lock:
            self.turns.clear()
        return self

    @property
    def calls(self) -> list[Call]:
        """The calls that match this path, in the order of their arrival, whichever script answered them."""
        return [call for call in self._service.calls if self._matches(call)]

    def assert_called(
        self, times: int | None = None, *, json: object = UNSET, headers: Mapping[str, str] | None = None
    ) -> None:
        """Checks that there was at least one call, or exactly `times` calls. Each attempt that reached the service
        counts.

        With `json`, only calls with this body count; with `headers`, only calls that have these headers.
        """
        __tracebackhide__ = True
        self._service.check_count(str(self._pattern), self.calls, times, json, headers)

    def assert_not_called(self) -> None:
        __tracebackhide__ = True
        self._service.check_count(str(self._pattern), self.calls, 0)

    def __repr__(self) -> str:
        return f"<script of {self._service.name}: {self._pattern}, called {times(len(self.calls))}>"

    def _matches(self, call: Call) -> bool:
        return self._pattern.match(call.method, call.path, list(call.query.items())) is not None

    def _add(self, given: Answer, times: int) -> Script:
        count = checked_times(times)
        with self._service.lock:
            self.turns.add(given, count)
        return self


class ServiceScript:
    """All scripts of one service, and all calls that it received."""

    def __init__(self, name: str, known_as: str) -> None:
        """`known_as` is how a test writes the service: `fake.venue`."""
        self.name = name
        self.known_as = known_as
        self.lock = RLock()
        self.fails_unexpected = True
        self._scripts: dict[Pattern, Script] = {}
        self._calls: list[Call] = []
        self._problems: Counter[str] = Counter()

    def script(self, pattern: Pattern) -> Script:
        """The script for exactly this pattern. Equal patterns return the same script."""
        with self.lock:
            return self._scripts.setdefault(pattern, Script(self, pattern))

    @property
    def used(self) -> bool:
        """Whether a test has named any request."""
        return bool(self._scripts)

    @property
    def calls(self) -> list[Call]:
        with self.lock:
            return list(self._calls)

    def problems(self) -> list[str]:
        """The problems that fail the test at its end: each one once, with how often it occurred."""
        with self.lock:
            return [
                text if count == 1 else f"{text}\n  (this happened {times(count)})"
                for text, count in self._problems.items()
            ]

    def problem(self, text: str) -> None:
        with self.lock:
            if text in self._problems or len(self._problems) < MAX_KINDS_OF_PROBLEM:
                self._problems[text] += 1

    def take(self, call: Call) -> tuple[Call, Answer]:
        """Records the call and returns it with the answer to give."""
        with self.lock:
            params = list(call.query.items())
            methods = ("HEAD", "GET") if call.method == "HEAD" else (call.method,)
            fitting = [
                (pattern, values)
                for pattern, script in self._scripts.items()
                if script.turns and (values := _match(pattern, methods, call.path, params)) is not None
            ]
            if fitting:
                # As in web frameworks: a script for GET also answers HEAD, unless HEAD has its own script.
                pattern, values = max(fitting, key=lambda one: (one[0].method == "HEAD", one[0].rank))
                given = self._scripts[pattern].turns.next()
                call = dataclasses.replace(call, path_params=values, answered=str(given))
            else:
                given = self._unscripted(call)
                call = dataclasses.replace(call, answered="501, nothing is scripted for it")
            self._record(call)
            return call, given

    def not_given(self) -> list[str]:
        """The scripted requests that the app never sent."""
        with self.lock:
            return [
                str(pattern) for pattern, script in self._scripts.items() if script.turns and not script.turns.taken
            ]

    def check_count(
        self,
        what: str,
        calls: list[Call],
        wanted: int | None,
        json: object = UNSET,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Raises AssertionError with all calls of this service, unless the number of matching calls is as wanted."""
        __tracebackhide__ = True
        others = calls
        if json is not UNSET:
            expected_json = as_json(json)
            calls = [call for call in calls if call.is_json(expected_json)]
            what += f" with json={expected_json!r}"
        for name, value in (headers or {}).items():
            calls = [call for call in calls if value in call.headers.getall(name, [])]
            what += f" with {name}: {value}"
        found = len(calls)
        if found == wanted or (wanted is None and found):
            return
        expected = "at least once" if wanted is None else times(wanted)
        others = [call for call in others if call not in calls]
        raise AssertionError(
            f"{self.name}: {what} was called {times(found)}, expected {expected}. All calls of this service:\n"
            + told(self.calls, calls)
            + ("" if json is UNSET else bodies(others))
            + (fields(others, list(headers)) if headers else "")
        )

    def _record(self, call: Call) -> None:
        if len(self._calls) < MAX_CALLS:
            self._calls.append(call)
        else:
            self.problem(f"{self.name} was called more than {MAX_CALLS} times: the calls after that are not recorded")

    def _unscripted(self, call: Call) -> Answer:
        words = [f'nothing is scripted for {call} of the fake "{self.name}"']
        words.append(f"  script it: {self.known_as}.{call_of(call.method, call.path)}.then(json={{...}})")
        scripted = [str(pattern) for pattern, script in self._scripts.items() if script.turns]
        if scripted:
            near = get_close_matches(str(call), scripted, n=1, cutoff=0.6)
            words.append(f"  scripted are: {', '.join(scripted)}" + (f"; did you mean {near[0]}?" if near else ""))
        text = "\n".join(words)
        if self.fails_unexpected:
            self.problem(text)
        return answer(501, body=text + "\n")


def _match(
    pattern: Pattern, methods: Sequence[str], path: str, params: Sequence[tuple[str, str]]
) -> dict[str, str] | None:
    found = (pattern.match(method, path, params) for method in methods)
    return next((values for values in found if values is not None), None)


def call_of(method: str, path: str) -> str:
    """The call as a test writes it: `get("/x")`."""
    if method.lower() in {"get", "head", "post", "put", "patch", "delete", "options"}:
        return f'{method.lower()}("{path}")'
    return f'request("{method}", "{path}")'
