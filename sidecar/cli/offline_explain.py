"""Explain a request from the configuration file alone: its service, route, policy and upstream target.

Owns the answer, in the shape of `GET /explain`. What only a running sidecar knows (breaker, endpoints) is None. The
answer of a running sidecar is `sidecar.admin.explain`, which imports all that serving needs; this module does not.
"""

from __future__ import annotations

from typing import Any

import msgspec

from sidecar.config.effective import policy_tree
from sidecar.config.load import Origins
from sidecar.config.schema import Config, Route, Service
from sidecar.proxy.exchange.head_asked import aggregate_refusal, head_asked, route_asked
from sidecar.runtime.live import Live
from sidecar.runtime.near_name import near_name
from sidecar.runtime.routing import NotRouted

_AGGREGATES = b"/_aggregate/"
_FOUND_BY = {"path": "first path segment", "host": "Host header", "absolute": "host in the target"}


def explained(config: Config, origins: Origins, method: str, target: str, host: str | None) -> dict[str, Any]:
    """The answer of `GET /explain` as JSON values. `target` is written as in a request line."""
    try:
        head = head_asked(method, target, host or "", config.listen.max_head)
        table = Live(config, 0.0, float).table
        live, upstream, by_path = table.find(head.method, head.target, head.host)
        route = route_asked(head, live, upstream)
    except NotRouted as refused:
        return _not_routed(config, refused, method, target)
    service = live.config
    at = next((at for at, one in enumerate(live.routes) if one is route), None)
    of: Service | Route = service if at is None else service.routes[at]
    by = "path" if by_path else "host" if target[0] in "/*" else "absolute"
    sent = upstream.decode("latin-1")
    whose = (
        f"The route {route.name!r} matches, so its policy applies"
        if route.name
        else "No route matches, so the service's own policy applies"
    )
    return _nothing() | {
        "service": service.name,
        "route": route.name,
        "by": by,
        "upstream_target": sent,
        "policy": _as_json(
            policy_tree(of, f"services.{service.name}" + ("" if at is None else f".routes[{at}]"), origins)
        ),
        "deadline_s": of.policy.timeout.request,
        "words": [
            f"The {_FOUND_BY[by]} selects {service.name!r}, which gets {sent}.",
            f"{whose}.",
            "This comes from the file alone. Only a running sidecar knows what its breaker and balancer would do.",
        ],
    }


def _not_routed(config: Config, refused: NotRouted, method: str, target: str) -> dict[str, Any]:
    name = refused.reserved.partition(b"?")[0].removeprefix(_AGGREGATES).decode("latin-1")
    aggregate = config.aggregates.get(name) if refused.reserved.startswith(_AGGREGATES) else None
    refusal = aggregate_refusal(name, aggregate, method, refused.reserved) if aggregate is not None else None
    if refusal is not None:
        refused, aggregate = refusal, None
    if aggregate is not None:
        asked = ", ".join(part.service for part in aggregate.parts.values())
        words = [f"It is for the aggregate {name!r}: the sidecar calls {asked} and returns one JSON object."]
        return _nothing() | {"by": "aggregate", "deadline_s": aggregate.timeout, "words": words}
    words = [
        f"No service gets it: {refused.detail}.",
        f"The app gets {refused.status} (x-sidecar-reason: {refused.reason}).",
    ]
    if refused.reason == "unknown_service":
        near = near_name(target, config.services)
        words += [f"Did you mean {near!r}?"] if near else []
        words.append(f"Known services: {', '.join(config.services) or 'none'}.")
    problem = {"status": refused.status, "reason": refused.reason, "detail": refused.detail}
    return _nothing() | {"problem": problem, "words": words}


def _nothing() -> dict[str, Any]:
    unknown = ("service", "by", "upstream_target", "problem", "policy", "breaker", "balancer", "retry", "deadline_s")
    return {**dict.fromkeys(unknown), "route": "", "fallback": [], "words": []}


def _as_json(tree: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(tree))
