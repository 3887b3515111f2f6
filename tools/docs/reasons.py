"""The page of every reason, out of the program's own tables.

Owns the page's words, and those for reasons whose answer is not the sidecar's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sidecar.policy.grpc import REASON_STATUS, name_of
from sidecar.policy.settings import RETRY_REASONS, RetrySettings
from sidecar.proxy.exchange.fallback import FALLEN_BACK
from sidecar.proxy.exchange.outcome import BY_IMPATIENCE, ENDPOINT_FAILURES
from sidecar.proxy.problem import STATUS, TITLES
from sidecar.telemetry.history import NO_ANSWER_WANTED
from tools.docs.text import code, prose, table

_HEAD: Final = """\
# Every reason

One word says how a request ended. It is the same word in `x-sidecar-reason`, in the [log](../logs.md), in the
[metrics](../metrics.md), in the commands and on the dashboard. [What to look at](../logs.md#reasons) when one comes up
is on the page about logs.

- **Status** is what the app gets. An answer of the sidecar's own is `application/problem+json` and has the title below.
- **gRPC** is the grpc-status that the app gets for a call of gRPC ([gRPC](../grpc.md)).
- **Retried** says whether `retry.on` may name the reason. A tick in brackets: it may, and by default does not. What
  the service answered, `status`, is retried by the statuses in `retry.on`.
- **Endpoint** says whether an attempt that ends so counts against its endpoint (`outlier`). A tick in brackets: if the
  app gave up, it counts only if the app had waited for long enough ([impatience](../architecture.md#verdicts)).
- **Fallback** says whether a [fallback](../fallback.md) may answer instead.
- **Failed** says whether the request counts as failed in `sidecar status` and on the dashboard.
"""
_WITHOUT_TITLE: Final[Mapping[str, tuple[str, str]]] = {
    "ok": ("the service's", "The service answered, and that is no failure"),
    "status": (
        "the service's",
        "The service answered with a status in `breaker.failure_status` or `failure_grpc_status`",
    ),
    "truncated": ("the service's", "The body broke off, and breaks off for the app too"),
    "stale_connection": (
        "none, another attempt follows",
        "A kept connection was closed as the request was sent on it. It was sent again, at no cost. Of attempts alone",
    ),
    "client_disconnect": ("499, in logs alone", "The app went away before its answer was whole"),
}
_MANY_STATUSES: Final[Mapping[str, str]] = {"bad_request": "400, 405, 408, 414, 431, 501"}
_NOT_BUILT: Final = frozenset({"rate_limited"})
"""A word that is kept for what is not there yet."""


def page() -> str:
    """docs/reference/reasons.md."""
    known = [*_WITHOUT_TITLE, *(reason for reason in TITLES if reason not in _WITHOUT_TITLE)]
    rows = [_row(reason) for reason in known if reason not in _NOT_BUILT]
    return (
        _HEAD
        + "\n"
        + table(("reason", "status", "gRPC", "what happened", "retried", "endpoint", "fallback", "failed"), rows)
    )


def _row(reason: str) -> tuple[str, ...]:
    status, title = _WITHOUT_TITLE.get(reason) or (_MANY_STATUSES.get(reason) or str(STATUS[reason]), TITLES[reason])
    by_default = reason in RetrySettings().on
    retried = ("✓" if by_default else "(✓)") if reason in RETRY_REASONS else ""
    return (
        code(reason),
        status,
        _grpc(reason),
        prose(title),
        retried,
        "(✓)" if reason in BY_IMPATIENCE else _tick(reason in ENDPOINT_FAILURES),
        "✓ if 5xx" if reason == "status" else _tick(reason in FALLEN_BACK),
        _tick(reason != "ok" and reason not in NO_ANSWER_WANTED),
    )


def _grpc(reason: str) -> str:
    if reason in ("ok", "status"):
        return "the service's"
    if reason == "stale_connection" or reason == "aggregate_failed":  # no gRPC call ends so
        return ""
    return name_of(REASON_STATUS[reason])


def _tick(holds: bool) -> str:
    return "✓" if holds else ""
