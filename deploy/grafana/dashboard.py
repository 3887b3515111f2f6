"""Writes the Grafana dashboard to dashboard.json in this folder: `python deploy/grafana/dashboard.py`.

Grafana's JSON is long and its grid needs computed positions; here a panel is one call. A test compares the written file
with this script and checks each query with Prometheus' parser (tests/deploy/test_dashboard.py).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PATH = Path(__file__).with_name("dashboard.json")

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
PODS = 'namespace=~"$namespace", pod=~"$pod"'
SERVICES = f'{PODS}, service=~"$service"'
EACH = "pod, instance"
"""Labels that identify a sidecar, also when the scrape sets no `pod`."""

WIDTH, ROW_HEIGHT = 24, 1

GREEN, YELLOW, RED = "green", "yellow", "red"
Panel = dict[str, Any]


def rate(metric: str, labels: str = SERVICES) -> str:
    return f"rate({metric}{{{labels}}}[$__rate_interval])"


def by(label: str, what: str, function: str = "sum") -> str:
    return f"{function} by ({label}) ({what})"


def quantile(q: float, metric: str, label: str, labels: str = SERVICES) -> str:
    return f"histogram_quantile({q}, {by(f'{label}, le', rate(f'{metric}_bucket', labels))})"


REQUESTS = rate("sidecar_requests_total")
FAILED = (
    rate("sidecar_requests_total", f'{SERVICES}, code=~"5.."')
    + " or "
    + rate("sidecar_requests_total", f'{SERVICES}, code="200", reason="status"')  # calls of gRPC
)
BREAKER = (
    f'2 * sidecar_breaker_state{{{SERVICES}, state="open"}}'
    f' + ignoring(state) sidecar_breaker_state{{{SERVICES}, state="half_open"}}'
)


def success(label: str) -> str:
    """While nothing has failed there is no series of failures, so it is replaced by 0."""
    failed, total = by(label, FAILED), by(label, REQUESTS)
    return f"1 - ({failed} or 0 * {total}) / {total}"


def panel(kind: str, title: str, says: str, width: int, height: int, *queries: tuple[str, str], **more: Any) -> Panel:
    """A panel. `queries` are pairs of (PromQL, legend); `more` is added to the field defaults."""
    return {
        "type": kind,
        "title": title,
        "description": says,
        "datasource": SOURCE,
        "gridPos": {"w": width, "h": height},
        "fieldConfig": {"defaults": more, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + at),
                "datasource": SOURCE,
                "expr": expression,
                "legendFormat": legend,
                "range": True,
            }
            for at, (expression, legend) in enumerate(queries)
        ],
    }


def graph(title: str, says: str, *queries: tuple[str, str], unit: str = "short", width: int = 8, **more: Any) -> Panel:
    """Lines over time. The axis includes zero, so that a small change does not look large."""
    more = {"min": 0} | more
    custom = {"lineWidth": 1, "fillOpacity": 10, "showPoints": "never", "spanNulls": False}
    made = panel("timeseries", title, says, width, 8, *queries, unit=unit, custom=custom, **more)
    made["options"] = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return made


def steps(*at: tuple[float | None, str]) -> dict[str, Any]:
    return {"mode": "absolute", "steps": [{"value": value, "color": colour} for value, colour in at]}


def number(title: str, says: str, expression: str, unit: str = "short", **more: Any) -> Panel:
    made = panel("stat", title, says, 4, 4, (expression, ""), unit=unit, **more)
    made["options"] = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value",
        "graphMode": "area",
        "textMode": "auto",
    }
    return made


def timeline(title: str, says: str, expression: str, legend: str, words: dict[str, tuple[str, str]]) -> Panel:
    """A band for each series. `words` gives text and colour for each value."""
    options = {
        value: {"text": text, "color": colour, "index": at} for at, (value, (text, colour)) in enumerate(words.items())
    }
    made = panel(
        "state-timeline",
        title,
        says,
        WIDTH,
        8,
        (expression, legend),
        mappings=[{"type": "value", "options": options}],
        color={"mode": "thresholds"},
        custom={"fillOpacity": 80, "lineWidth": 0},
    )
    made["options"] = {
        "mergeValues": True,
        "showValue": "auto",
        "rowHeight": 0.8,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "single"},
    }
    return made


def overview() -> list[Panel]:
    return [
        number("Requests a second", "Requests of all services.", f"sum({REQUESTS})", "reqps"),
        number(
            "Success rate",
            "Share of calls that did not end in a 5xx for the app, after retries and fallbacks.",
            success(""),
            "percentunit",
            decimals=2,
            thresholds=steps((None, RED), (0.95, YELLOW), (0.99, GREEN)),
        ),
        number(
            "Breakers not closed",
            "Breakers of services that are open or half-open; each sidecar counts separately.",
            f'sum(1 - sidecar_breaker_state{{{SERVICES}, state="closed"}})',
            thresholds=steps((None, GREEN), (1, RED)),
        ),
        number(
            "Forced breakers",
            "Breakers that an operator has forced open or closed.",
            f"sum(sidecar_breaker_forced{{{SERVICES}}})",
            thresholds=steps((None, GREEN), (1, YELLOW)),
        ),
        number(
            "Endpoints not healthy",
            "Endpoints that are unhealthy, ejected or refuse connections; each sidecar counts separately.",
            f"sum(1 - sidecar_endpoint_healthy{{{SERVICES}}})",
            thresholds=steps((None, GREEN), (1, YELLOW)),
        ),
        number("Sidecars", "Sidecars that Prometheus gets metrics from.", f"sum(sidecar_build_info{{{PODS}}})"),
        graph("Requests a second", "Requests by service.", (by("service", REQUESTS), "{{service}}"), unit="reqps"),
        graph(
            "Success rate",
            "Share of calls that did not end in a 5xx for the app, after retries and fallbacks.",
            (success("service"), "{{service}}"),
            unit="percentunit",
            max=1,
        ),
        graph(
            "Latency",
            "Duration of requests as the app sees it, including retries.",
            (quantile(0.5, "sidecar_request_duration_seconds", "service"), "p50 {{service}}"),
            (quantile(0.99, "sidecar_request_duration_seconds", "service"), "p99 {{service}}"),
            unit="s",
        ),
        timeline(
            "Breakers",
            "The worst state of the service's own breaker in all sidecars.",
            by("service", BREAKER, "max"),
            "{{service}}",
            {"0": ("closed", GREEN), "1": ("half-open", YELLOW), "2": ("open", RED)},
        ),
        graph(
            "Errors and refusals",
            "Failed requests by reason. With reason status the service answered, else the sidecar did.",
            (
                by("service, reason", rate("sidecar_requests_total", f'{SERVICES}, reason!="ok"')),
                "{{service}} {{reason}}",
            ),
            unit="reqps",
        ),
        graph(
            "Retries",
            "Retries made (sent, failover, stale_connection) and refused (denied_...).",
            (by("service, result", rate("sidecar_retries_total")), "{{service}} {{result}}"),
            unit="reqps",
        ),
        graph(
            "Retry budget",
            "Retries that the budget can pay for, in the sidecar with the lowest balance.",
            (by("service", f"sidecar_retry_budget_balance{{{SERVICES}}}", "min"), "{{service}}"),
        ),
        graph(
            "Fallbacks",
            "Failures with a fallback configured, by what answered. none means that the app got an error.",
            (by("service, step", rate("sidecar_fallbacks_total")), "{{service}} {{step}}"),
            unit="reqps",
        ),
        graph(
            "In flight",
            "Requests in flight, which limits.max_concurrent limits, and the tunnels among them.",
            (by("service", f"sidecar_in_flight_requests{{{SERVICES}}}"), "{{service}}"),
            (by("service", f"sidecar_tunnels{{{SERVICES}}}") + " > 0", "tunnels {{service}}"),
        ),
        graph(
            "Aggregates",
            "Requests for aggregates by reason. partial means that an optional part failed.",
            (by("aggregate, reason", rate("sidecar_aggregates_total", PODS)), "{{aggregate}} {{reason}}"),
            unit="reqps",
        ),
    ]


def endpoints() -> list[Panel]:
    failed = rate("sidecar_attempts_total", f'{SERVICES}, reason!~"ok|client_disconnect"')
    healthy = by("service", f"sidecar_endpoint_healthy{{{SERVICES}}}")
    known = by("service", f"sidecar_endpoints{{{SERVICES}}}")
    last_success = f"sidecar_discovery_last_success_timestamp_seconds{{{SERVICES}}}"
    return [
        graph(
            "Attempts by reason",
            "All attempts, including failed ones whose retry succeeded.",
            (by("service, reason", rate("sidecar_attempts_total")), "{{service}} {{reason}}"),
            unit="reqps",
        ),
        graph(
            "Attempts by endpoint",
            "The traffic that each endpoint gets.",
            (by("service, endpoint", rate("sidecar_attempts_total")), "{{service}} {{endpoint}}"),
            unit="reqps",
        ),
        graph(
            "Failed attempts by endpoint",
            "One endpoint that stands out has a problem. If all fail alike, the service or its network has.",
            (by("service, endpoint, reason", failed), "{{service}} {{endpoint}} {{reason}}"),
            unit="reqps",
        ),
        graph(
            "Well endpoints",
            "Share of the service's endpoints that are not unhealthy, ejected or refusing connections.",
            (f"{healthy} / {known}", "{{service}}"),
            unit="percentunit",
            max=1,
        ),
        graph(
            "Ejected",
            "Endpoints that are ejected now, in the sidecar with the most ejections, and services in a panic.",
            (by("service", f"sidecar_ejected_endpoints{{{SERVICES}}}", "max"), "{{service}}"),
            (by("service", f"sidecar_panic{{{SERVICES}}}", "max") + " > 0", "panic {{service}}"),
        ),
        graph(
            "Ejections",
            "Ejections that began, that ended, and that max_ejection_percent prevented.",
            (by("service", rate("sidecar_endpoint_ejections_total")), "{{service}}"),
            (by("service", rate("sidecar_endpoint_returns_total")), "ended {{service}}"),
            (by("service", rate("sidecar_endpoint_ejection_overflows_total")), "not made {{service}}"),
            unit="ops",
        ),
        graph(
            "Failed health checks",
            "Failed active checks, for services that configure checks.",
            (by("service", rate("sidecar_health_checks_total", f'{SERVICES}, result="failure"')), "{{service}}"),
            unit="ops",
        ),
        graph(
            "Connections",
            "Connections to the service's endpoints: all, idle ones, and requests that wait for one.",
            (by("service", f"sidecar_upstream_connections{{{SERVICES}}}"), "{{service}}"),
            (by("service", f"sidecar_upstream_idle_connections{{{SERVICES}}}"), "idle {{service}}"),
            (by("service", f"sidecar_upstream_waiting_requests{{{SERVICES}}}") + " > 0", "waiting {{service}}"),
        ),
        graph(
            "Connections in use by endpoint",
            "A slow endpoint has many connections in use.",
            (by("service, endpoint", f"sidecar_endpoint_active_connections{{{SERVICES}}}"), "{{service}} {{endpoint}}"),
        ),
        graph(
            "Age of the endpoints",
            "Time since discovery last confirmed the endpoints. About 50 years means never.",
            (by("service, source, name", f"time() - {last_success}", "max"), "{{service}} {{source}} {{name}}"),
            unit="s",
            width=12,
        ),
        graph(
            "Known endpoints",
            "The number of known endpoints in the sidecar that knows the fewest.",
            (by("service", f"sidecar_endpoints{{{SERVICES}}}", "min"), "{{service}}"),
            width=12,
        ),
    ]


def itself() -> list[Panel]:
    job = f'job="sidecar", {PODS}'
    one = "{{pod}} {{instance}}"
    return [
        graph(
            "Loop lag",
            "How late the event loop runs; every request waits that long. max covers the last 1 to 2 minutes.",
            (quantile(0.99, "sidecar_loop_lag_seconds", EACH, PODS), f"p99 {one}"),
            (by(EACH, f"sidecar_loop_lag_max_seconds{{{PODS}}}", "max"), f"max {one}"),
            unit="s",
        ),
        graph(
            "CPU",
            "CPU time in cores. A sidecar can use at most one core.",
            (by(EACH, rate("process_cpu_seconds_total", job)), one),
        ),
        graph(
            "Memory",
            "Resident memory.",
            (by(EACH, f"process_resident_memory_bytes{{{job}}}", "max"), one),
            unit="bytes",
        ),
        graph(
            "Connections from the app",
            "Open connections from the app, and all open file descriptors.",
            (by(EACH, f"sidecar_app_connections{{{PODS}}}"), one),
            (by(EACH, f"process_open_fds{{{job}}}"), f"descriptors {one}"),
        ),
        graph(
            "Reloads",
            "Times that the configuration file was read again, by result.",
            (by("result", f"increase(sidecar_config_reloads_total{{{PODS}}}[$__rate_interval])"), "{{result}}"),
            (f"count(sidecar_config_last_reload_successful{{{PODS}}} == 0)", "sidecars whose file is not in force"),
        ),
        graph(
            "Lost log lines",
            "Log lines lost because nobody read them or they could not be written.",
            (by(EACH, f"increase(sidecar_log_lines_dropped_total{{{PODS}}}[$__rate_interval])"), one),
        ),
        graph(
            "Kept responses",
            "Memory of the responses kept for stale fallbacks.",
            (by(EACH, f"sidecar_stale_cache_bytes{{{PODS}}}"), one),
            unit="bytes",
        ),
        graph(
            "Restarts",
            "Restarts in the last hour.",
            (by(EACH, f"changes(process_start_time_seconds{{{job}}}[1h])"), one),
        ),
        graph(
            "Versions",
            "Sidecars by version, compiled or not, and Python version.",
            (
                by("version, compiled, python", f"sidecar_build_info{{{PODS}}}"),
                "{{version}}, compiled: {{compiled}}, Python {{python}}",
            ),
        ),
    ]


def placed(rows: list[tuple[str, list[Panel]]]) -> list[Panel]:
    """Positions for the rows: the title of a row, then its panels from left to right, line by line."""
    found: list[Panel] = []
    y = 0
    for title, panels in rows:
        found.append(
            {"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": {"w": WIDTH, "h": ROW_HEIGHT}}
        )
        found[-1]["gridPos"] |= {"x": 0, "y": y}
        y += ROW_HEIGHT
        x = height = 0
        for one in panels:
            place = one["gridPos"]
            if x + place["w"] > WIDTH:
                x, y, height = 0, y + height, 0
            place |= {"x": x, "y": y}
            x += place["w"]
            height = max(height, place["h"])
            found.append(one)
        y += height
    return [{"id": at, **one} for at, one in enumerate(found, 1)]


def variable(name: str, label: str, query: str) -> dict[str, Any]:
    """A variable with the values of a label. `All` also matches series without the label."""
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def dashboard() -> dict[str, Any]:
    variables = [
        {"type": "datasource", "name": "datasource", "label": "Prometheus", "query": "prometheus", "current": {}},
        variable("namespace", "Namespace", "label_values(sidecar_build_info, namespace)"),
        variable("pod", "Pod", 'label_values(sidecar_build_info{namespace=~"$namespace"}, pod)'),
        variable("service", "Service", f"label_values(sidecar_endpoints{{{PODS}}}, service)"),
    ]
    return {
        "uid": "service-sidecar",
        "title": "Service sidecar",
        "tags": ["sidecar"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "",
        "templating": {"list": variables},
        "annotations": {"list": []},
        "panels": placed([("Overview", overview()), ("Endpoints", endpoints()), ("The sidecar itself", itself())]),
    }


def text() -> str:
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    PATH.write_text(text())
