"""The times of one call: which deadline is set, and what it means that it has passed.

Owns the clocks of docs/architecture.md, *Time*: one attempt's, the whole request's, and the idle times of bodies on
their way. Who is told of an end is `service_call`'s.
"""

from __future__ import annotations

from math import inf
from typing import Final

from sidecar.policy.deadline import effective, parse_timeout_ms
from sidecar.proxy.downstream.handler import Disconnected
from sidecar.proxy.exchange.outcome import Outcome
from sidecar.proxy.exchange.request import Request
from sidecar.proxy.http1.head_syntax import BadRequest
from sidecar.proxy.upstream.stream import Lost, UpstreamStream
from sidecar.runtime.route import LiveRoute

# What the deadline is of.
ATTEMPT: Final = 0
REQUEST: Final = 1
UPLOAD: Final = 2
DOWNLOAD: Final = 3
NONE: Final = 4


def time_given(request: Request, route: LiveRoute) -> float:
    """What an app's request may take, in seconds, by the policy and by the app."""
    given = request.head.deadline_ms
    if not given:
        return route.request_s
    return effective(route.request_s, *[parse_timeout_ms(one) for one in given])


class Clock:
    """Of a call that may use `limit_s` seconds of its request's time."""

    __slots__ = (
        "_app_deadline",
        "_deadline",
        "_kind",
        "_outcome",
        "_request",
        "_unread",
        "limit_s",
        "limit_words",
        "route",
        "success_due",
    )

    def __init__(self, request: Request, route: LiveRoute, outcome: Outcome, limit_s: float, limit_words: str) -> None:
        self._request = request
        self.route = route
        self._outcome = outcome
        self.limit_s = limit_s
        self.limit_words = limit_words
        """Who set that, as the app is told."""
        self._deadline = inf
        """When that is over: unknown while the app is still sending (Envoy: route.timeout starts at the request's
        end)."""
        self._app_deadline = inf
        """When the app gives a gRPC call up: that is the end of the whole call, not of its wait for an answer."""
        self._kind = NONE
        self._unread = 0
        self.success_due = inf
        """When a response that still streams counts as a success."""

    def begin(self, now: float) -> None:
        """The app has sent the whole request."""
        self._deadline = now + self.limit_s

    def ends_with_app(self, when: float) -> None:
        """A gRPC call, of which the app has said when it is over."""
        self._app_deadline = when

    def left_s(self, now: float) -> float:
        """Of the call's time."""
        deadline = min(self._app_deadline, self._deadline)
        return min(deadline - now, self.limit_s)

    def app_left_s(self, now: float) -> float:
        """Of the time that the app gives a gRPC call; infinity where it does not say."""
        return self._app_deadline - now

    def is_over(self, now: float) -> bool:
        return now >= self._deadline or now >= self._app_deadline

    # Setting it.

    def _arm(self, kind: int, when: float) -> None:
        self._kind = kind
        self._request.stream.arm(min(self._app_deadline, when))

    def connecting(self) -> None:
        self._arm(REQUEST, self._deadline)

    def sleeping(self) -> None:
        """The wait between attempts ends by itself."""
        self._arm(NONE, inf)

    def awaiting_answer(self, now: float) -> None:
        request, body, route = self._request, self._request.body, self.route
        sending = body is not None and not body.complete
        if sending and request.head.expects_continue and body is not None and not body.received:
            sending = request.interim_sent  # until the upstream says 100, it is the one that is waited for
        if sending:
            self._arm_upload(now + route.idle_s)
            return
        latest = now + route.attempt_s
        if self._deadline <= latest:
            self._arm(REQUEST, self._deadline)
        else:
            self._arm(ATTEMPT, latest)

    def uploading(self, now: float) -> None:
        """More of the request's body came, and an answer is awaited."""
        if self._kind != UPLOAD:
            self.awaiting_answer(now)

    def _arm_upload(self, when: float) -> None:
        if self._outcome.is_probe():
            when = min(when, self._outcome.started + self.route.success_s)
        self._arm(UPLOAD, when)

    def downloading(self, now: float) -> None:
        """The answer's body is still coming."""
        self.success_due = now + self.route.success_s
        self._arm_download(now + self.route.idle_s)

    def _arm_download(self, when: float) -> None:
        self._arm(DOWNLOAD, when if self._outcome.told else min(when, self.success_due))

    def resumed(self) -> None:
        """The app takes its answer again."""
        self._unread = 0

    # What its passing means.

    def passed(self, now: float, upstream: UpstreamStream | None) -> Exception | None:
        """Why the waiting is over; None where it goes on."""
        route, kind = self.route, self._kind
        if now >= self._app_deadline:
            return Lost("request_timeout", "no answer within the app's own deadline, its grpc-timeout", ours=True)
        if kind == ATTEMPT:
            return Lost("attempt_timeout", f"no answer within timeout.attempt, {route.attempt_s:g} s")
        if kind == REQUEST:
            return Lost("request_timeout", f"no answer within {self.limit_words}, {self.limit_s:g} s")
        if kind == UPLOAD:
            return self._upload_idle(now, upstream)
        if kind == DOWNLOAD:
            return self._download_idle(now)
        return None

    def _upload_idle(self, now: float, upstream: UpstreamStream | None) -> Exception | None:
        request, route, outcome = self._request, self.route, self._outcome
        if now >= outcome.started + route.success_s and outcome.is_probe():
            outcome.make_room()  # the app may send for as long as it likes, but the others do not wait for it
        latest = request.last_upload + route.idle_s
        if latest > now:
            self._arm_upload(latest)
            return None
        if upstream is not None and upstream.drained_since_last_look():
            self._arm_upload(now + route.idle_s)
            return None
        if upstream is not None and not upstream.writable:
            return Lost("attempt_timeout", f"the service read nothing of the request's body for {route.idle_s:g} s")
        return BadRequest(408, f"no byte of the body arrived for {route.idle_s:g} s")

    def _download_idle(self, now: float) -> Exception | None:
        request, idle_s = self._request, self.route.idle_s
        stream = request.stream
        latest = max(stream.last_activity, request.last_upload) + idle_s
        if stream.writable:
            if latest > now:
                self._arm_download(latest)
                return None
            return Lost("truncated", f"no byte of the body arrived for timeout.idle, {idle_s:g} s", ours=True)
        # We wait for the app: it is idle only if it has taken nothing since the last look.
        unread, self._unread = self._unread, stream.unsent()
        if unread and self._unread >= unread:
            return Disconnected(f"the app read nothing for timeout.idle, {idle_s:g} s")
        self._arm_download(now + idle_s)
        return None

    def __repr__(self) -> str:
        kind = ("attempt", "request", "upload", "download", "none")[self._kind]
        return f"<Clock {kind} limit={self.limit_s:g} s>"
