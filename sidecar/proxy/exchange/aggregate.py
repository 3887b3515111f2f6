"""A request for an aggregate, `GET /_aggregate/<name>`: several services asked side by side, one JSON object answered.

Owns what its parts are sent, when a part has failed, and the answer. Each part is a call like an app's own
(`inner_call`), so every policy of its service applies to it.
"""

from __future__ import annotations

import codecs
import logging
from email.utils import formatdate
from math import inf
from time import monotonic
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from sidecar.config.schema import Aggregate as AggregateConfig
from sidecar.config.schema import AggregatePart
from sidecar.policy.deadline import effective, parse_timeout_ms
from sidecar.proxy.core import ProxyCore
from sidecar.proxy.downstream.handler import Disconnected, Dispatcher, Handler, event
from sidecar.proxy.downstream.stream import DownstreamStream
from sidecar.proxy.exchange.inner_call import MAX_BODY, InnerCall
from sidecar.proxy.exchange.path_values import filled, values_of
from sidecar.proxy.http1.head_syntax import BadRequest, field_lines
from sidecar.proxy.http1.request_head import RequestHead, has_foreign_context
from sidecar.proxy.http1.response_head import ResponseHead
from sidecar.proxy.problem import STATUS, TITLES, Attempt, PartFailure, Problem
from sidecar.telemetry.trace import FOREIGN_CONTEXT, traceparent

_PREFIX: Final = b"/_aggregate/"

UNKNOWN: Final = "no aggregate of that name is configured"

LATER_S: Final = 0.01
"""A part's time is watched so much longer here than by its own call, so that the call itself says how it ended."""

_PASSED_ON: Final = (
    (b"authorization", b"Authorization"),
    (b"cookie", b"Cookie"),
    (b"tracestate", b"tracestate"),
    *[(name, name) for name in FOREIGN_CONTEXT],
)
"""Fields of the request that the parts get; with them go the trace, the request's id, its deadline, and the names by
which a request that leads back here is known."""

_HANDED_ON: Final = field_lines(
    *("content-type", "content-language", "content-encoding", "www-authenticate", "retry-after", "allow")
)
"""Fields of a part's answer that `pass_status` hands on: what the body is, and what the app has to do. Cookies are not
among them, as with every aggregate."""

_OUT_OF_TIME: Final = frozenset({"connect_timeout", "attempt_timeout", "request_timeout"})

_DETAILS: Final = {
    "not_json": "the body is not valid JSON",
    "too_large": f"the body is over {MAX_BODY} bytes",
    "truncated": "the body broke off",
    "head_too_large": "the head of a part's request is over listen.max_head or listen.max_header_fields",
}

_CODINGS: Final = frozenset({"gzip", "x-gzip", "deflate", "br", "zstd", "compress"})
"""Content codings that a problem names. It repeats nothing else of a service's answer."""

log = logging.getLogger("sidecar.proxy")


def name_asked(reserved: bytes) -> tuple[str, bytes] | None:
    """The name of the aggregate that a reserved target is for, and the query; None for another target."""
    if not reserved.startswith(_PREFIX):
        return None
    path, _, query = reserved.partition(b"?")
    return path[len(_PREFIX) :].decode("latin-1"), query


def targets_of(config: AggregateConfig, method: str, query: bytes) -> list[bytes]:
    """The parts' paths and queries. Raises BadRequest."""
    if method not in ("GET", "HEAD"):
        raise BadRequest(405, "an aggregate is for GET and HEAD")
    values = values_of(query)
    return [filled(part.path, values) for part in config.parts.values()]


class Aggregate(Handler):
    """An aggregate on its way; made by the connection that the request came on."""

    code: int = 0
    _sending: bool = False

    def __init__(
        self,
        core: ProxyCore,
        dispatcher: Dispatcher,
        stream: DownstreamStream,
        head: RequestHead,
        name: str,
        config: AggregateConfig,
        targets: list[bytes],
    ) -> None:
        self._core = core
        self._dispatcher = dispatcher
        self.stream = stream
        self.head = head
        self._name = name
        self._config = config
        self._counters = core.live.aggregates[name]
        self._targets = targets
        self._started = monotonic()
        self._request_id = head.request_id or core.outgoing.new_request_id()
        self._traceparent = head.traceparent
        if self._traceparent is None and not has_foreign_context(head):
            tracer = core.tracer
            self._traceparent = traceparent(tracer.root()) if tracer is not None else None
        self._calls: dict[str, InnerCall] = {}
        self._pending: dict[InnerCall, str] = {}
        self._bodies: dict[str, bytes] = {}
        self._fallbacks: dict[str, str] = {}
        """By part, what answered in place of its service, if something did."""
        self._failures: dict[str, PartFailure] = {}
        self._attempts: list[Attempt] = []
        """Of the parts that have been stopped."""

    # Its life, from the top.

    async def _live(self) -> None:
        """Ask all parts at once; the first of those that are needed to fail ends it; else answer with what there is."""
        try:
            self._ask()
            failed = ""
            while self._pending and not failed:
                failed = self._settle(await event())
            if failed and self._passes(failed):
                code, reason = self._pass_on(self._calls[failed]), "passed"
            elif failed:
                self._stop()
                code, reason = self._answer_failure(failed)
            else:
                code, reason = 200, "partial" if self._failures else "ok"
                self._answer()
            await self._sent()
            self._record(code, reason)
        except Disconnected as gone:
            self._record(499, "client_disconnect", str(gone))
            if self.stream.responding:
                self.stream.cut()
        finally:
            self._stop()

    def _ask(self) -> None:
        core = self._core
        given = [parse_timeout_ms(one) for one in self.head.deadline_ms]
        whole_s = effective(self._config.timeout, *given)
        common = self._common_lines()
        peer = self.stream.peer()
        for (name, part), target in zip(self._config.parts.items(), self._targets, strict=True):
            seconds = whole_s if part.timeout is None else min(whole_s, part.timeout)
            line = b"GET /%b%b HTTP/1.1\r\n" % (part.service.encode(), target)
            deadline = b"x-envoy-upstream-rq-timeout-ms: %d\r\n\r\n" % max(int(seconds * 1000), 1)
            call = InnerCall(core, peer, core.answer_budget, self.resume)
            call.due = self._started + seconds + LATER_S
            self._calls[name] = call
            self._pending[call] = name
            call.start(self._dispatcher, line + common + deadline)
        self._watch()

    def _common_lines(self) -> bytes:
        """What the parts are sent, all the same: their Host says nothing, so that the path decides."""
        lines = [
            b"Host: localhost",
            b"Connection: close",
            b"Accept: application/json",
            b"Accept-Encoding: identity",
            b"X-Request-Id: " + self._request_id,
        ]
        if self._traceparent is not None:
            lines.append(b"traceparent: " + self._traceparent)
        for name, written in _PASSED_ON:
            lines += [written + b": " + value for value in self.head.values(name)]
        if self.head.via is not None:
            lines.append(b"Via: " + self.head.via)
        if self.head.loop is not None:
            lines.append(b"x-sidecar-loop: " + self.head.loop)
        if self.head.for_repeated:
            lines.append(b"x-envoy-attempt-count: 2")
        return b"".join([line + b"\r\n" for line in lines])

    def _settle(self, event: Any) -> str:
        """A part has ended, or time has run out for some. Returns a part that the aggregate fails with, if any."""
        ended: list[InnerCall]
        if event is None:
            now = monotonic()
            ended = [call for call in self._pending if call.due <= now + 0.001]  # as Deadlines counts
        else:
            ended = [event]
        failed = ""
        for call in ended:
            name = self._pending.pop(call)
            part = self._config.parts[name]
            failure = self._late(call, part) if event is None else self._judge(call, name, part)
            if failure is not None:
                self._failures[name] = failure
                if part.required:
                    failed = failed or name
        self._watch()
        return failed

    def _late(self, call: InnerCall, part: AggregatePart) -> PartFailure:
        call.cancel()
        return _failure(part, call, STATUS["request_timeout"], "request_timeout")

    def _judge(self, call: InnerCall, name: str, part: AggregatePart) -> PartFailure | None:
        """Keep the body of a part that is well; what is wrong with one that is not."""
        head, reason = call.head, call.reason
        if call.fallback:
            self._fallbacks[name] = call.fallback
        if head is not None and head.status == 431 and reason == "bad_request":
            reason = "head_too_large"  # the sidecar refuses what it made itself: the app's request was in order
        if head is not None and head.status >= 300:
            return _failure(part, call, head.status, reason or "status")
        if call.failure or head is None:
            reason = call.failure or "bad_response"
            return _failure(part, call, STATUS.get(reason, 502), reason)
        body = call.body.removeprefix(codecs.BOM_UTF8)  # a reader may ignore it (RFC 8259, section 8.1)
        if head.status == 204:
            self._bodies[name] = b"null"
        elif not call.coding and is_json(body):
            self._bodies[name] = body
        else:
            call.release()
            return _failure(part, call, 502, "not_json")
        return None

    def _passes(self, name: str) -> bool:
        """Whether the failure of this part is an answer of its service that the app gets as it is."""
        call, part = self._calls[name], self._config.parts[name]
        return (
            self._failures[name].reason == "status"
            and not call.failure
            and call.head is not None
            and call.head.status in part.pass_status
        )

    def _watch(self) -> None:
        soonest = min([call.due for call in self._pending], default=inf)
        self.stream.arm(soonest)

    def _stop(self) -> None:
        """Nothing of it is wanted any more: permits, upstream connections and memory go back."""
        for name, call in self._calls.items():
            call.cancel()
            self._attempts += self._attempts_of(call, self._config.parts[name])
        self._calls.clear()
        self._pending.clear()
        self._bodies.clear()

    def _attempts_of(self, call: InnerCall, part: AggregatePart) -> list[Attempt]:
        """Of one part, with no address. A call notes its last attempt only if that failed; what has not ended is given
        up with the aggregate.
        """
        attempts = [replace(one, endpoint=part.service) for one in call.attempts]
        if len(attempts) < call.attempts_made:
            status = call.head.status if call.head is not None and not call.failure else None
            reason = "client_disconnect" if status is None else "ok"
            took_ms = (call.ended_at - self._started) * 1000 - sum([one.duration_ms for one in attempts])
            attempts.append(Attempt(part.service, reason, status, max(round(took_ms, 1), 0.0)))
        return attempts

    # The answer.

    def _answer(self) -> None:
        pieces = []
        opening = b"{"
        for name in self._config.parts:
            if name in self._bodies:
                pieces += [opening + msgspec.json.encode(name) + b":", self._bodies[name]]
                opening = b","
        if self._fallbacks:
            pieces.append(opening + b'"fallbacks":' + msgspec.json.encode(self._fallbacks))
            opening = b","
        if self._failures:
            pieces.append(opening + b'"errors":' + msgspec.json.encode(self._failures) + b',"partial":true')
        pieces.append(b"}")
        attempts = sum([call.attempts_made for call in self._calls.values()])
        self._respond(200, b" 200 OK", [b"\r\nContent-Type: application/json"], pieces, attempts)

    def _pass_on(self, call: InnerCall) -> int:
        """The answer of a part, as the answer to the app."""
        head, body = call.head, call.body
        assert head is not None
        fields = [
            found[0]
            for found in _HANDED_ON.finditer(call.fields)
            if call.coding or found[1].lower() != b"content-encoding"
        ]
        if call.fallback:
            fields.append(b"\r\nx-sidecar-fallback: " + call.fallback.encode("latin-1"))
        self._stop()
        self._respond(head.status, head.status_line, fields, [body], len(self._attempts))
        return head.status

    def _respond(self, status: int, line: bytes, fields: list[bytes], body: list[bytes], attempts: int) -> None:
        response = ResponseHead()
        response.status = status
        response.status_line = line
        response.keep_alive = True
        response.length = sum([len(piece) for piece in body])
        response.pieces = [
            b"\r\nDate: " + formatdate(usegmt=True).encode(),
            *fields,
            b"\r\nContent-Length: %d\r\nCache-Control: no-store" % response.length,
            b"\r\nX-Request-Id: " + self._request_id,
        ]
        if attempts > 1:
            response.pieces.append(b"\r\nx-envoy-attempt-count: %d" % attempts)
        self.stream.begin_response(self.head, response, [] if self.head.method == "HEAD" else body)
        self.stream.end_response()

    def _answer_failure(self, failed: str) -> tuple[int, str]:
        reason = "request_timeout" if self._failures[failed].reason in _OUT_OF_TIME else "aggregate_failed"
        problem = Problem(
            status=STATUS[reason],
            reason=reason,
            detail=f"{self._name}: the part {failed}, which is required, failed",
            request_id=self._request_id.decode("latin-1"),
            errors=self._failures,
            attempts=tuple(self._attempts),
        )
        self.stream.answer(problem, self.head)
        return problem.status, reason

    async def _sent(self) -> None:
        """Until the app has taken the answer, but for what a connection's own buffer may hold: it counts as long."""
        stream = self.stream
        idle_s = self._core.live.config.defaults.timeout.idle
        self._sending = True
        unread = 0
        while not stream.writable:
            stream.arm(monotonic() + idle_s)
            if await event() is None:
                before, unread = unread, stream.unsent()
                if before and unread >= before:
                    raise Disconnected(f"the app read nothing for timeout.idle, {idle_s:g} s")

    # What the app's side asks and says.

    @property
    def service_name(self) -> str:
        return ""

    @property
    def client_idle_s(self) -> float:
        return self._core.registry.client_idle_s

    @property
    def half_close(self) -> bool:
        return self._core.live.config.defaults.half_close

    def deadline_passed(self, now: float) -> None:
        self.resume(None)

    def pause_download(self) -> None:
        """The whole answer has been written: `_sent` sees whether the app takes it."""

    def resume_download(self) -> None:
        if self._sending:
            self.resume(True)

    # Ends.

    def _record(self, code: int, reason: str, detail: str = "") -> None:
        if self.code:
            return
        self.code = code
        seconds = monotonic() - self._started
        self._counters.request(code, reason, seconds)
        access_log = self._core.recorder.access_log
        if self._core.recorder.logs_all or (reason != "ok" and access_log.errors):
            failed = [f"{name}: {failure.reason}" for name, failure in self._failures.items()]
            access_log.aggregate(
                name=self._name,
                method=self.head.method,
                request_id=self._request_id,
                traceparent=self._traceparent,
                code=code,
                reason=reason,
                detail=detail or ", ".join(failed),
                seconds=seconds,
            )

    def _crashed(self, error: Exception) -> None:
        fields = {"aggregate": self._name, "request_id": self._request_id.decode("latin-1")}
        log.error("an aggregate failed because of a bug in the sidecar", exc_info=error, extra={"fields": fields})
        self._stop()
        self._record(500, "internal", str(error))
        if self.stream.responding:
            self.stream.cut()
        else:
            problem = Problem(
                status=500,
                reason="internal",
                detail="a bug in the sidecar; its log has the details",
                request_id=self._request_id.decode("latin-1"),
            )
            self.stream.answer(problem, self.head)
        self._ended()

    def __repr__(self) -> str:
        return f"<Aggregate {self._name} pending={list(self._pending.values())}>"


def _failure(part: AggregatePart, call: InnerCall, status: int, reason: str) -> PartFailure:
    detail = _DETAILS.get(reason) or TITLES.get(reason) or f"the service answered {status}"
    if reason == "not_json" and call.coding:
        coding = call.coding if call.coding in _CODINGS else "unknown to the sidecar"
        detail = f"the body has a content coding that was not asked for, and that cannot be undone: {coding}"
    return PartFailure(part.service, status, reason, detail)


def is_json(body: bytes) -> bool:
    """Whether a body may stand in the answer as it is (RFC 8259). Nested too deeply to be looked through: no."""
    try:
        body.decode()  # what is only looked through is not decoded, so this is
        msgspec.json.decode(body, type=msgspec.Raw)
    except (ValueError, RecursionError):
        return False
    return True
