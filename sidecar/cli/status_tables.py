"""The tables of `sidecar status`.

Makes tables from the answers of the admin API, and nothing else. Each table fits into 80 columns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sidecar.cli.output import (
    UNBOUNDED,
    clock,
    milliseconds,
    natural_width,
    number,
    percent,
    printable,
    seconds,
    styled,
    table,
    terminal_width,
    time_left,
    time_since,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

_SOURCES = {
    "static": "listed in the configuration",
    "name": "all addresses of the host name in the configuration",
    "dns": "DNS records",
    "kubernetes": "EndpointSlices of Kubernetes",
}
_MOST_ERRORS: Final = 3
_LONGEST_NAME: Final = 16
_SINCE_START: Final = (("request", "requests"), ("failure", "failures"), ("retry", "retries"))
"""On a narrow terminal a service's name is cut to this length before a column is left out."""

NO_FAILURES: Final = ("ok", "client_disconnect", "bad_request", "loop", "unknown_service", "stale_connection")
"""As in `sidecar.telemetry.history.is_failure`; a test compares them. The import would double the start time."""

_STYLES = {"closed": "green", "open": "bold red", "half-open": "yellow"}


def all_services(answer: dict[str, Any]) -> list[RenderableType]:
    """A line for each service. If `reload` is that of GET /config, it has the errors themselves, which are shown."""
    services = answer["services"]
    failing = [_mostly(service.get("recent_reasons") or {}) for service in services]
    last = "endpoints; failures" if any(failing) else "endpoints"
    columns: dict[str, list[Any]] = {
        "service": [service["name"] for service in services],
        "breaker": [_breaker(service["breaker"]) for service in services],
        ">ok": [_percent(service["rates"]["success_rate"]) for service in services],
        ">req/s": [number(service["rates"]["requests_per_s"]) for service in services],
        ">p50": [milliseconds(service["rates"]["p50_ms"]) for service in services],
        ">p99": [milliseconds(service["rates"]["p99_ms"]) for service in services],
        ">active": [number(service["in_flight"]) for service in services],
        last: [_endpoints(one["endpoints"], mostly) for one, mostly in zip(services, failing, strict=True)],
    }
    _make_room(columns, (">p50", ">active", ">p99"), longest_first=_LONGEST_NAME)
    count = f"{len(services)} service{'' if len(services) == 1 else 's'}"
    head = f"{count}, generation {answer['generation']}"
    parts: list[RenderableType] = [styled(head, "dim")]
    if answer.get("draining"):
        parts.append(styled("draining: the sidecar is about to stop", "bold yellow"))
    reload = answer.get("reload") or {}
    if reload.get("result") == "rejected":
        parts += _rejected(reload)
    parts += [styled(f"warning: {text}", "yellow") for text in _listed(reload.get("warnings"))]
    return [*parts, table(list(columns), zip(*columns.values(), strict=True))]


def _make_room(columns: dict[str, list[Any]], droppable: tuple[str, ...], *, longest_first: int = UNBOUNDED) -> None:
    """Leave out columns, in the order of `droppable`, until the table fits. The first may be cut to `longest_first`."""
    first = next(iter(columns))
    for name in droppable:
        cut = {**columns, first: [text[:longest_first] for text in columns[first]]}
        if natural_width(list(cut), zip(*cut.values(), strict=True)) <= terminal_width():
            return
        del columns[name]


def _listed(found: Any) -> list[Any]:
    """The list; nothing where the answer only has a number."""
    return found if isinstance(found, list) else []


def _rejected(reload: dict[str, Any]) -> list[RenderableType]:
    """Says that the file on disk is not in force, with its first errors."""
    text = f"the file was rejected at {clock(reload['at'])}; the last good one stays in force:"
    errors = _listed(reload.get("errors"))
    if not errors:
        return [styled(f"{text} `sidecar check` says why", "bold red")]
    shown = [f"  {_mistake(error)}" for error in errors[:_MOST_ERRORS]]
    if len(errors) > _MOST_ERRORS:
        shown.append(f"  and {len(errors) - _MOST_ERRORS} more: sidecar check")
    return [styled(text, "bold red"), *(styled(line, "red") for line in shown)]


def _mistake(error: dict[str, Any]) -> str:
    place = f"{error['file']}:{error['line']}" if error["line"] else error["file"]
    key = f"{error['key']}: " if error["key"] else ""
    return printable(f"{place}: {key}{error['message']}")


def one_service(answer: dict[str, Any]) -> list[RenderableType]:
    """Facts about the service, then a line for each endpoint."""
    rates, budget, window = answer["rates"], answer["budget"], answer["breaker"].get("window") or {}
    facts: list[tuple[str, Any]] = [("service", answer["name"]), ("endpoints", _SOURCES[answer["source"]])]
    if answer.get("protocol") == "h2":
        facts.append(("protocol", "HTTP/2, gRPC" if answer.get("grpc") else "HTTP/2"))
    facts.append(("breaker", _breaker(answer["breaker"])))
    if window:
        counted = f"{number(window['successes'])} successes, {number(window['failures'])} failures"
        facts.append(("window", f"{counted} in {number(window['seconds'])} s"))
    facts += [
        (f"breaker of {route['name']}", _breaker(route["breaker"]))
        for route in answer.get("routes") or []
        if route.get("breaker")
    ]
    flow = f"{number(rates['requests_per_s'])}/s, {percent(rates['success_rate'])} ok"
    latency = f"p50 {milliseconds(rates['p50_ms'])}, p99 {milliseconds(rates['p99_ms'])}"
    facts += [
        ("requests", f"{flow}, {latency}" if rates["requests_per_s"] else "none in the last ten seconds"),
        ("in flight", str(answer["in_flight"])),
        ("since start", ", ".join(_counted(answer[many], one, many) for one, many in _SINCE_START)),
        *_grpc(answer),
        *_failures(answer),
        ("retry budget", f"{number(budget['balance'])} left, {number(budget['denied'])} denied"),
    ]
    problem = (answer.get("discovery") or {}).get("problem")
    if problem:
        facts.append(("discovery", styled(str(problem), "bold red")))
    if (answer.get("endpoint_summary") or {}).get("panic"):
        facts.append(("panic", styled("too few endpoints are healthy, so all of them get requests", "bold red")))
    named = [(styled(name, "dim"), fact) for name, fact in facts]
    endpoints = answer["endpoints"]
    failing = [(one["address"], by_reason(one["reasons"])) for one in endpoints if by_reason(one["reasons"])]
    parts: list[RenderableType] = [table(["", ""], named, header=False), "", _endpoint_table(endpoints)]
    if failing:
        parts += ["", table(["endpoint", "failures"], failing, whole=True)]
    return parts


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _grpc(answer: dict[str, Any]) -> list[tuple[str, Any]]:
    """Calls of gRPC by status, if there were any."""
    statuses = answer.get("grpc_statuses") or {}
    return [("grpc-status", ", ".join(f"{name} {count}" for name, count in statuses.items()))] if statuses else []


def _failures(answer: dict[str, Any]) -> list[tuple[str, Any]]:
    """The failures by reason, and the last failure."""
    found: list[tuple[str, Any]] = []
    if answer.get("reasons"):
        found.append(("failures", by_reason(answer["reasons"])))
    last = answer.get("last_failure")
    if last:
        words = f"{last['reason']}, {last['detail']}" if last["detail"] else last["reason"]
        found.append(("last failure", printable(f"{time_since(last['at'])} ago: {words}")))
    return found


def by_reason(reasons: dict[str, int]) -> str:
    """`circuit_open 112, status 25`: failures, the most frequent first."""
    failures = [(reason, count) for reason, count in reasons.items() if reason not in NO_FAILURES]
    return ", ".join(f"{reason} {count}" for reason, count in sorted(failures, key=lambda one: -one[1]))


def _mostly(reasons: dict[str, int]) -> str:
    """The most frequent reason. `circuit_open` only where it is the only one: the breaker has a column of its own."""
    why = {reason: count for reason, count in reasons.items() if reason != "circuit_open"} or reasons
    return max(why, key=lambda reason: why[reason], default="")


def _endpoint_table(endpoints: list[dict[str, Any]]) -> RenderableType:
    """A line for each endpoint. On a narrow terminal columns are left out, and the address is never cut."""
    columns: dict[str, list[Any]] = {
        "endpoint": [one["address"] for one in endpoints],
        "state": [_state(one) for one in endpoints],
        ">active": [number(one["active"]) for one in endpoints],
        ">attempts": [number(one["requests"]) for one in endpoints],
        ">failed": [number(one["failures"]) for one in endpoints],
        ">share": [percent(one["share"]) for one in endpoints],
        ">latency": [milliseconds(one["latency_ms"]) for one in endpoints],
    }
    _make_room(columns, (">share", ">failed", ">latency", ">attempts"))
    return table(list(columns), zip(*columns.values(), strict=True), whole=True)


def _breaker(breaker: dict[str, Any]) -> RenderableType:
    """`closed`, `open, probe in 12s`, `open, forced for 4m 10s`, `closed (observe)`."""
    if breaker["mode"] == "off":
        return styled("off", "dim")
    state = str(breaker["state"]).replace("_", "-")
    text = state
    if breaker.get("forced"):
        left = time_left(breaker.get("forced_until"))
        text += f", forced for {left}" if left else ", forced"
    elif state == "open":
        wait = breaker.get("retry_after_s")
        text += f", probe in {seconds(wait)}" if wait else ", probe next"
    if breaker["mode"] == "observe":
        text += " (observe)"
    return styled(text, _STYLES.get(state, ""))


def _percent(value: float | None) -> RenderableType:
    style = "" if value is None or value >= 99 else "bold red" if value < 90 else "yellow"
    return styled(percent(value), style)


def _endpoints(found: dict[str, Any], mostly: str = "") -> RenderableType:
    """`3`, `2 of 3`, `2 of 3, 1 ejected`, `1; connect_failure`."""
    total, available = found["total"], found["available"]
    text = f"{total}" if available == total else f"{available} of {total}"
    if found.get("ejected"):
        text += f", {found['ejected']} ejected"
    if found.get("panic"):
        text += ", panic"
    if mostly:
        text += f"; {mostly}"
    return styled(text, "" if available == total and total else "yellow" if available else "bold red")


def _state(endpoint: dict[str, Any]) -> RenderableType:
    """Why the endpoint gets no requests; else `healthy` if its health check passed, or `available` without a check."""
    if endpoint.get("drained"):
        return styled(_for("drained", endpoint.get("forced_until")), "yellow")
    if endpoint.get("ejected"):
        return styled(_for("ejected", endpoint.get("forced_until") or endpoint.get("ejected_until")), "bold red")
    if not endpoint["healthy"]:
        return styled("unhealthy", "bold red")
    if endpoint.get("skipped_until"):
        return styled(_for("skipped", endpoint["skipped_until"]), "yellow")
    return styled("healthy", "green") if endpoint.get("known") else styled("available", "")


def _for(word: str, until: str | None) -> str:
    left = time_left(until)
    return f"{word} for {left}" if left else word
