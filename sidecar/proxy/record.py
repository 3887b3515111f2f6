"""What is recorded of requests: counts, the last failure of a service, and lines of the log.

Owns what is told of a request that has ended, or that reached no service.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from sidecar.policy.grpc import REASON_STATUS, UNKNOWN, in_words, name_of
from sidecar.proxy.http1.request_head import RequestHead
from sidecar.proxy.problem import Attempt, Problem
from sidecar.runtime.last_failure import last_failure
from sidecar.runtime.live import Live
from sidecar.runtime.route import LiveRoute
from sidecar.runtime.service import LiveService
from sidecar.telemetry.access_log import AccessLog
from sidecar.telemetry.history import is_failure

MESSAGE_LOGGED: Final = 200
"""Bytes of a service's grpc-message that are kept of a failure."""

log = logging.getLogger("sidecar.proxy")


class EndedTunnel(Protocol):
    """What is told of a tunnel at its end."""

    @property
    def seconds(self) -> float: ...
    @property
    def received(self) -> int: ...
    @property
    def sent(self) -> int: ...
    @property
    def ended_by(self) -> str: ...


class Recorder:
    """`clock` gives the loop's time."""

    def __init__(self, live: Live, access_log: AccessLog, clock: Callable[[], float]) -> None:
        self._live = live
        self.access_log = access_log
        self.logs_all = access_log.all
        self._clock = clock

    def request(
        self,
        service: LiveService,
        route: LiveRoute,
        head: RequestHead,
        request_id: bytes,
        attempts: Sequence[Attempt],
        code: int,
        reason: str,
        detail: str,
        seconds: float,
        connecting_s: float,
        backoff_s: float,
        received: int,
        sent: int,
        fallback: str,
        grpc_status: int = -1,
        grpc_message: bytes = b"",
    ) -> None:
        """A request to a service has ended. `received` and `sent` are bytes of bodies.

        Of a call of gRPC, `grpc_status` and `grpc_message` are what the app was told. Without a status it is the
        reason's.
        """
        service.counters.request(code, reason, seconds)
        status_name = ""
        if head.grpc:
            if grpc_status < 0:
                grpc_status = REASON_STATUS.get(reason, UNKNOWN)
            service.counters.grpc_call(route.name, grpc_status)
            status_name = name_of(grpc_status)
            if reason == "status" and not detail and attempts:
                detail = f"{attempts[-1].endpoint} answered {in_words(grpc_status, grpc_message[:MESSAGE_LOGGED])}"
        if reason != "ok":
            self._failed(service, request_id, attempts, code, reason, detail)
        if self.logs_all or (reason != "ok" and self.access_log.errors):
            self.access_log.request(
                service=service.name,
                route=route.name,
                method=head.method,
                target=head.target,
                request_id=request_id,
                traceparent=head.traceparent,
                code=code,
                reason=reason,
                detail=detail,
                attempts=attempts,
                seconds=seconds,
                connecting_s=connecting_s,
                backoff_s=backoff_s,
                received=received,
                sent=sent,
                fallback=fallback,
                grpc_status=status_name,
            )

    def _failed(
        self,
        service: LiveService,
        request_id: bytes,
        attempts: Sequence[Attempt],
        code: int,
        reason: str,
        detail: str,
    ) -> None:
        """Keep why, for who asks for the service's state."""
        if reason == "circuit_open" or not is_failure(reason):
            return
        if reason == "status" and not detail and attempts:
            detail = f"{attempts[-1].endpoint} answered {code}"
        service.last_failure = last_failure(self._clock(), reason, detail, request_id)

    def tunnel(self, service: str, request_id: bytes, endpoint: str, tunnel: EndedTunnel) -> None:
        """A tunnel has ended."""
        if self.logs_all:
            self.access_log.tunnel(
                service=service,
                request_id=request_id,
                endpoint=endpoint,
                seconds=tunnel.seconds,
                received=tunnel.received,
                sent=tunnel.sent,
                ended_by=tunnel.ended_by,
            )

    def refused(self, problem: Problem, head: RequestHead | None) -> None:
        """A request reached no service."""
        self._live.unrouted.request(problem.status, problem.reason, 0.0)
        status_name = ""
        if head is not None and head.grpc:
            self._live.unrouted.grpc_call("", problem.grpc_number)
            status_name = name_of(problem.grpc_number)
        if self.access_log.errors:
            method, target = (head.method, head.target) if head is not None else ("", None)
            if head is not None and head.unusual:
                method = ""  # any word may stand there
            self.access_log.refused(
                problem.request_id, method, problem.status, problem.reason, problem.detail, target, status_name
            )

    def turned_away(self) -> None:
        """A connection was reset without a word: there was no room for it."""
        self._live.unrouted.request(503, "overloaded", 0.0)

    def gone(self) -> None:
        """The app left before its request was begun."""
        self._live.unrouted.request(499, "client_disconnect", 0.0)

    def crashed(self, service: str, request_id: bytes, error: Exception) -> None:
        """A request failed through a defect of ours."""
        fields = {"service": service, "request_id": request_id.decode("latin-1")}
        log.error("a request failed because of a bug in the sidecar", exc_info=error, extra={"fields": fields})
