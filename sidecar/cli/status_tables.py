"""How `sidecar status` looks.

Owns the tables alone: what the admin API says goes in, what can be printed comes out. Each fits into 80 columns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sidecar.cli.output import clock, milliseconds, number, percent, seconds, styled, table, time_left

if TYPE_CHECKING:
    from rich.console import RenderableType

_SOURCES = {
    "static": "addresses of the configuration",
    "name": "every address behind a name of the configuration",
    "dns": "by DNS records",
    "kubernetes": "by EndpointSlices of Kubernetes",
}
_STYLES = {"closed": "green", "open": "bold red", "half-open": "yellow"}


def all_services(answer: dict[str, Any]) -> list[RenderableType]:
    """A line for each service."""
    services = answer["services"]
    rows = [
        (
            service["name"],
            _breaker(service["breaker"]),
            _percent(service["rates"]["success_rate"]),
            number(service["rates"]["requests_per_s"]),
            milliseconds(service["rates"]["p50_ms"]),
            milliseconds(service["rates"]["p99_ms"]),
            number(service["in_flight"]),
            _endpoints(service["endpoints"]),
        )
        for service in services
    ]
    count = f"{len(services)} service{'' if len(services) == 1 else 's'}"
    head = f"{count}, configuration {answer['generation']}"
    parts: list[RenderableType] = [styled(head, "dim")]
    if answer.get("draining"):
        parts.append(styled("it drains: it is about to end", "bold yellow"))
    reload = answer.get("reload") or {}
    if reload.get("result") == "rejected":
        text = f"the file was rejected at {clock(reload['at'])}, the last good one stays: `sidecar reload` says why"
        parts.append(styled(text, "bold red"))
    return [*parts, table(["service", "breaker", ">ok", ">req/s", ">p50", ">p99", ">active", "endpoints"], rows)]


def one_service(answer: dict[str, Any]) -> list[RenderableType]:
    """What is known of the service, then a line for each endpoint."""
    rates, budget, window = answer["rates"], answer["budget"], answer["breaker"].get("window") or {}
    facts: list[tuple[str, Any]] = [("service", answer["name"]), ("endpoints", _SOURCES[answer["source"]])]
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
        ("since start", f"{answer['requests']} requests, {answer['failures']} failures, {answer['retries']} retries"),
        ("retry budget", f"{number(budget['balance'])} left, {number(budget['denied'])} denied"),
    ]
    problem = (answer.get("discovery") or {}).get("problem")
    if problem:
        facts.append(("discovery", styled(str(problem), "bold red")))
    if (answer.get("endpoint_summary") or {}).get("panic"):
        facts.append(("panic", styled("too few are available: all endpoints get requests", "bold red")))
    named = [(styled(name, "dim"), fact) for name, fact in facts]
    return [table(["", ""], named, header=False), "", _endpoint_table(answer["endpoints"])]


def _endpoint_table(endpoints: list[dict[str, Any]]) -> RenderableType:
    rows = [
        (
            one["address"],
            _state(one),
            number(one["active"]),
            number(one["requests"]),
            number(one["failures"]),
            percent(one["share"]),
            milliseconds(one["latency_ms"]),
        )
        for one in endpoints
    ]
    return table(["endpoint", "state", ">active", ">requests", ">failed", ">share", ">latency"], rows)


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


def _endpoints(found: dict[str, Any]) -> RenderableType:
    """`3`, `2 of 3`, `2 of 3, 1 ejected`."""
    total, available = found["total"], found["available"]
    text = f"{total}" if available == total else f"{available} of {total}"
    if found.get("ejected"):
        text += f", {found['ejected']} ejected"
    if found.get("panic"):
        text += ", panic"
    return styled(text, "" if available == total and total else "yellow" if available else "bold red")


def _state(endpoint: dict[str, Any]) -> RenderableType:
    """The one thing that keeps requests away from it, or `healthy`."""
    if endpoint.get("drained"):
        return styled(_for("drained", endpoint.get("forced_until")), "yellow")
    if endpoint.get("ejected"):
        return styled(_for("ejected", endpoint.get("forced_until") or endpoint.get("ejected_until")), "bold red")
    if not endpoint["healthy"]:
        return styled("unhealthy", "bold red")
    if endpoint.get("skipped_until"):
        return styled(_for("skipped", endpoint["skipped_until"]), "yellow")
    return styled("healthy" if endpoint.get("known") else "not checked", "green" if endpoint.get("known") else "")


def _for(word: str, until: str | None) -> str:
    left = time_left(until)
    return f"{word} for {left}" if left else word
