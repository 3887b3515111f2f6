"""Explains a request without sending it: the service, route and policy that it would get.

Owns the answer of `GET /explain`, which `sidecar explain --config FILE` gives too. It uses the same parser, table and
routes as the data path. What would happen at this moment is `sidecar.admin.route_state`; without a running sidecar
nobody knows it.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, Final

from sidecar.admin import answers
from sidecar.admin.route_state import RouteState
from sidecar.config.effective import policy_tree, shown_target
from sidecar.config.load import Origins
from sidecar.config.schema import Service
from sidecar.config.units import format_duration
from sidecar.policy.grpc import REASON_STATUS, name_of
from sidecar.policy.settings import FALLBACK_METHODS, FallbackService, FallbackStale, FallbackStep
from sidecar.proxy.exchange.fallback import FIRST_PART
from sidecar.proxy.exchange.head_asked import Routed, grpc_routed, routed
from sidecar.runtime.live import Live
from sidecar.runtime.near_name import near_name
from sidecar.runtime.route import LiveRoute
from sidecar.runtime.routing import NotRouted
from sidecar.runtime.service import LiveService

_FOUND_BY: Final = {
    "path": "The first path segment selects {0!r}, which gets {1}.",
    "host": "The Host header selects {0!r}, which gets {1}.",
    "absolute": "The host in the target selects {0!r}, which gets {1}.",
    "metadata": "The metadata x-sidecar-service selects {0!r}, which gets {1}.",
    "claim": "The service in the path is one that {0!r} claims (services.{0}.grpc). It gets {1}.",
}

_NOTHING: Final[dict[str, Any]] = {
    **dict.fromkeys(
        ("service", "by", "upstream_target", "problem", "policy", "breaker", "balancer", "retry", "deadline_s")
    ),
    "route": "",
    "fallback": [],
}
"""The members of an explanation but its words, where nothing is known."""

StateOf = Callable[[LiveService, LiveRoute, str, bool], RouteState]
"""(service, route, method, whether it is gRPC) -> their state now."""


class BadQuestion(Exception):
    """The question has no valid target; the message says why."""


def explain(
    live: Live, origins: Origins, method: str, target: str, host: str, state_of: StateOf | None = None
) -> answers.Explanation:
    """`target` is written as in a request line, `host` as in Host ("" for none). Raises BadQuestion for no valid
    target.

    Without `state_of` the answer is what the configuration alone says.
    """
    if not target:
        raise BadQuestion("write target as in a request line: /venue/events/42, or http://venue-service:3002/x")
    try:
        found = routed(live, method, target, host)
    except NotRouted as problem:
        return _not_routed(live, problem, target)
    if isinstance(found, str):
        return _aggregate(live, found)
    return _routed(found, origins, method, state_of)


def explain_grpc(
    live: Live, origins: Origins, target: str, host: str, asked: str, state_of: StateOf | None = None
) -> answers.Explanation:
    """The same for a call of gRPC. `target` is its method, `/shop.v1.Venue/Get`; `asked` is the metadata
    x-sidecar-service ("" for none)."""
    if not target:
        raise BadQuestion("write target as a method of gRPC: /shop.v1.Venue/Get")
    try:
        found = grpc_routed(live, target, host, asked)
    except NotRouted as problem:
        return _not_routed(live, problem, "", _grpc_answer(problem))
    return _routed(found, origins, "POST", state_of)


def _grpc_answer(problem: NotRouted) -> str:
    status = problem.grpc_status if problem.grpc_status >= 0 else REASON_STATUS[problem.reason]
    return f"{status} {name_of(status)}"


def _routed(found: Routed, origins: Origins, method: str, state_of: StateOf | None) -> answers.Explanation:
    service, route = found.service, found.route
    state = state_of(service, route, method, found.grpc) if state_of is not None else None
    upstream_target = found.upstream_target.decode("latin-1")
    steps = () if found.grpc else route.policy.fallback  # answers of HTTP, which no library of gRPC would take
    fallback = [_step(step) for step in steps if _is_for(method, step)]
    of_file = "This comes from the file alone. Only a running sidecar knows what its breaker and balancer would do."
    return answers.Explanation(
        service=service.name,
        route=route.name,
        by=found.by,
        upstream_target=upstream_target,
        problem=None,
        policy=_policy_tree(service, route, origins),
        breaker=state.breaker if state is not None else None,
        balancer=state.balancer if state is not None else None,
        retry=state.retry if state is not None else None,
        fallback=fallback,
        deadline_s=_whole_s(found),
        words=[
            _FOUND_BY[found.by].format(service.name, upstream_target),
            _route_words(service, route),
            *_tls_words(service.config),
            *(state.words if state is not None else ()),
            (_grpc_deadline_words if found.grpc else _deadline_words)(route, bool(fallback)),
            f"If all attempts fail: {', then '.join(fallback)}."
            if fallback
            else f"There is no fallback for {'gRPC' if found.grpc else method}: the app gets the error.",
            *((of_file,) if state is None else ()),
        ],
    )


def _aggregate(live: Live, name: str) -> answers.Explanation:
    aggregate = live.config.aggregates[name]
    parts = ", ".join(f"{key} (GET /{part.service}...)" for key, part in aggregate.parts.items())
    words = [f"It is for the aggregate {name!r}: the sidecar calls {parts} and returns one JSON object."]
    return answers.Explanation(**_NOTHING | {"by": "aggregate", "deadline_s": aggregate.timeout}, words=words)


def _not_routed(live: Live, problem: NotRouted, target: str, answer: str = "") -> answers.Explanation:
    words = [
        f"No service gets it: {problem.detail}.",
        f"The app gets {answer or problem.status} (x-sidecar-reason: {problem.reason}).",
    ]
    if problem.reason == "unknown_service":
        near = near_name(target, live.services)
        words += [f"Did you mean {near!r}?"] if near else []
        words.append(f"Known services: {', '.join(live.services) or 'none'}.")
    shown = answers.NotRouted(status=problem.status, reason=problem.reason, detail=problem.detail)
    return answers.Explanation(**_NOTHING | {"problem": shown}, words=words)


def _policy_tree(service: LiveService, route: LiveRoute, origins: Origins) -> dict[str, Any]:
    path = f"services.{service.name}"
    for at, one in enumerate(service.routes):
        if one is route:
            return policy_tree(service.config.routes[at], f"{path}.routes[{at}]", origins)
    return policy_tree(service.config, path, origins)


def _route_words(service: LiveService, route: LiveRoute) -> str:
    if route.match is None:
        routes = len(service.routes)
        none = "It has no routes" if not routes else "Its route does not match"
        none = f"None of its {routes} routes matches" if routes > 1 else none
        return f"{none}, so the service's own policy applies."
    return f"The route {route.name!r} matches, so its policy applies."


def _tls_words(service: Service) -> list[str]:
    """What is verified and shown; nothing for a service that is called in plain text."""
    if not any(spec.url.scheme == "https" for spec in service.endpoints):
        return []
    tls = service.policy.tls
    shows = f" The sidecar shows the one in {tls.cert_file}." if tls.cert_file else ""
    if tls.verify == "off":
        blind = "and any certificate is taken (tls.verify is off)"
        return [f"Connections use TLS {tls.min_version} or newer, {blind}.{shows}"]
    name = tls.server_name or "the host in the endpoint's URL"
    signed = f"a CA in {tls.ca_file}" if tls.ca_file else "a CA that the system trusts"
    return [f"Connections use TLS {tls.min_version} or newer. The certificate must be for {name}, by {signed}.{shows}"]


def _deadline_words(route: LiveRoute, has_fallback: bool) -> str:
    whole, each = format_duration(route.request_s), format_duration(route.attempt_s)
    kept = f" Because there is a fallback, the service itself gets {FIRST_PART:.0%} of it." if has_fallback else ""
    return (
        f"Until the response begins, it has {whole} in total and {each} for each attempt."
        f" An app's own deadline can only shorten that.{kept}"
    )


def _grpc_deadline_words(route: LiveRoute, has_fallback: bool) -> str:
    """Of the times, only those that count for gRPC."""
    limits = [
        f"{format_duration(seconds)} {what}"
        for seconds, what in (
            (route.grpc_request_s, "in total"),
            (route.grpc_attempt_s, "for each attempt"),
            (route.grpc_idle_s, "without a byte in either direction"),
        )
        if seconds != inf
    ]
    if not limits:
        return (
            "Only the app's own deadline (grpc-timeout) limits it: timeout.attempt, request and idle count for gRPC"
            " where the service or route sets them, or says unary: true."
        )
    return f"It has {', '.join(limits)}. An app's own deadline (grpc-timeout) can only shorten that."


def _whole_s(found: Routed) -> float | None:
    """Seconds that the policy gives to the request; None without a limit."""
    whole = found.route.grpc_request_s if found.grpc else found.route.request_s
    return whole if whole != inf else None


def _is_for(method: str, step: FallbackStep) -> bool:
    return method in (FALLBACK_METHODS if isinstance(step, FallbackStale) else step.methods)


def _step(step: FallbackStep) -> str:
    if isinstance(step, FallbackService):
        return f"the service {step.service!r}" + (
            f" is called with {shown_target(step.path)}" if step.path else " is called"
        )
    if isinstance(step, FallbackStale):
        return f"the last good response, at most {format_duration(step.stale)} old"
    return f"the file's own response with status {step.status}"
