"""What is said of a configuration that is valid: each rule, once, where it can be changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.load import load_with_origins
from sidecar.config.warnings import STALE_AFTER_S, warnings_of

ROOT = Path(__file__).resolve().parents[2]
VENUE = "services: {venue: {url: http://a:1}}\n"
QUICK = "services: {venue: {url: http://a:1, timeout: {attempt: 500ms}}}\n"
ENDS = ", which ends it first"


def told(folder: Path, text: str) -> list[str]:
    path = folder / "sidecar.yaml"
    path.write_text(text)
    return warnings_of(*load_with_origins(path, {}))


@pytest.mark.parametrize("file", ["config/sidecar.yaml", "sidecar/cli/starter.yaml", "sidecar/demo/sidecar.yaml"])
def test_what_comes_with_the_sidecar_has_none(file: str) -> None:
    assert warnings_of(*load_with_origins(ROOT / file, {})) == []


@pytest.mark.parametrize(("refresh", "is_told"), [("5m", False), ("301s", True), ("1h", True)])
def test_records_that_are_refreshed_less_often_than_the_alert_allows(
    tmp_path: Path, refresh: str, is_told: bool
) -> None:
    text = f"services: {{venue: {{discovery: {{dns: {{name: venue.test, port: 80, refresh: {refresh}}}}}}}}}\n"
    words = (
        f"services.venue.discovery.dns.refresh is {refresh}: the alert SidecarDiscoveryStale takes endpoints for out of"
        " date that were confirmed 5m ago"
    )
    assert told(tmp_path, text) == ([words] if is_told else [])


def test_the_alert_is_the_one_that_is_shipped() -> None:
    rules = (ROOT / "deploy/prometheus/alerts.yaml").read_text()
    assert f"sidecar_discovery_last_success_timestamp_seconds) > {STALE_AFTER_S:g}" in rules


# admin.


def test_a_token_that_cannot_be_read_here(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert told(tmp_path, f"{VENUE}admin:\n  token_file: {missing}\n") == [
        f"admin.token_file: {missing} (line 3) cannot be read here: the admin API would refuse every call"
    ]


def test_a_folder_is_no_token(tmp_path: Path) -> None:
    assert "cannot be read here" in told(tmp_path, f"{VENUE}admin: {{token_file: {tmp_path}}}\n")[0]


def test_without_origins_there_is_no_line(tmp_path: Path) -> None:
    path = tmp_path / "sidecar.yaml"
    path.write_text(f"{VENUE}admin: {{token_file: /nope/token}}\n")
    config, _ = load_with_origins(path, {})
    assert warnings_of(config, {}) == [
        "admin.token_file: /nope/token cannot be read here: the admin API would refuse every call"
    ]


@pytest.mark.parametrize(
    ("host", "is_told"),
    [
        ("127.0.0.1", False),
        ("127.8.0.1", False),
        ("[::1]", False),
        ("[::ffff:127.0.0.1]", False),
        ("localhost", False),
        ("0.0.0.0", True),
        ("[::]", True),
        ("10.0.0.7", True),
        ("sidecar", True),
    ],
)
def test_a_listener_that_others_reach_and_that_asks_for_no_token(tmp_path: Path, host: str, is_told: bool) -> None:
    listen = f'listen: {{admin: "{host}:15000"}}\n'
    warnings = told(tmp_path, listen + VENUE)
    assert bool(warnings) is is_told
    assert all(one.startswith(f"listen.admin is {host}:15000, not loopback, and admin.token_file") for one in warnings)
    token = tmp_path / "token"
    token.write_text("secret")
    assert told(tmp_path, f"admin: {{token_file: {token}}}\n{listen}{VENUE}") == []


# timeout.


def test_an_attempt_that_the_request_ends_first(tmp_path: Path) -> None:
    text = "services:\n  slow:\n    url: http://a:1\n    timeout: {attempt: 2500ms,\n      request: 1s}\n"
    assert told(tmp_path, text) == [
        "services.slow: timeout.attempt (2500ms, line 4) is longer than timeout.request (1s, line 5)" + ENDS
    ]


@pytest.mark.parametrize(
    ("timeout", "words"),
    [
        ("attempt: 20s", "(20s, line 1) is longer than timeout.request (15s, by default)"),
        ("request: 3s", "(5s, by default) is longer than timeout.request (3s, line 1)"),
    ],
)
def test_one_of_the_two_may_be_the_default(tmp_path: Path, timeout: str, words: str) -> None:
    (warning,) = told(tmp_path, f"services: {{venue: {{url: http://a:1, timeout: {{{timeout}}}}}}}")
    assert words in warning


def test_equal_is_well(tmp_path: Path) -> None:
    assert told(tmp_path, "services: {venue: {url: http://a:1, timeout: {attempt: 15s}}}") == []


def test_what_is_inherited_is_said_once_where_it_was_set(tmp_path: Path) -> None:
    text = """\
defaults: {timeout: {request: 4s}}
services:
  a: {url: http://a:1, routes: [{match: {path: /x}}]}
  b: {url: http://b:1}
  c:
    url: http://c:1
    timeout: {attempt: 6s}
    routes:
      - match: {path: /x}
      - match: {path: /y}
        timeout: {request: 5s}
      - match: {path: /z}
        timeout: {attempt: 1s}
"""
    assert told(tmp_path, text) == [
        "defaults: timeout.attempt (5s, by default) is longer than timeout.request (4s, line 1)" + ENDS,
        "services.c: timeout.attempt (6s, line 7) is longer than timeout.request (4s, line 1)" + ENDS,
        "services.c.routes[1]: timeout.attempt (6s, line 7) is longer than timeout.request (5s, line 11)" + ENDS,
    ]


def test_what_no_service_inherits_is_not_said(tmp_path: Path) -> None:
    services = "services: {venue: {url: http://a:1, timeout: {attempt: 1s}}}"
    assert told(tmp_path, "defaults: {timeout: {attempt: 9s, request: 4s}}\n" + services) == []


@given(
    levels=st.lists(
        st.fixed_dictionaries({}, optional={"attempt": st.integers(1, 40), "request": st.integers(1, 40)}),
        min_size=3,
        max_size=3,
    )
)
def test_said_exactly_where_an_attempt_is_longer(
    levels: list[dict[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("levels")
    defaults, service, route = ("{" + ", ".join(f"{key}: {s}s" for key, s in one.items()) + "}" for one in levels)
    text = (
        f"defaults: {{timeout: {defaults}}}\nservices:\n  a:\n    url: http://a:1\n    timeout: {service}\n"
        f"    routes: [{{match: {{path: /x}}, timeout: {route}}}]\n"
    )
    effective = {"attempt": 5, "request": 15}
    said: set[str] = set()
    for at, own in enumerate(levels):
        effective |= own
        if at and effective["attempt"] > effective["request"]:
            said.add(str((effective["attempt"], effective["request"], _setters(levels[: at + 1]))))
    assert len(told(folder, text)) == len(said)


def _setters(levels: list[dict[str, int]]) -> list[int]:
    """Which of the levels set each of the two last; -1: none."""
    return [max((at for at, one in enumerate(levels) if key in one), default=-1) for key in ("attempt", "request")]


# health.


def test_a_check_that_may_outlast_its_interval(tmp_path: Path) -> None:
    text = "services:\n  slow:\n    url: http://a:1\n    health: {path: /health,\n      timeout: 10s, interval: 2s}\n"
    (warning,) = told(tmp_path, text)
    assert warning == (
        "services.slow: health.timeout (10s, line 5) is longer than health.interval (2s, line 5), so an endpoint that"
        " does not answer is checked less often"
    )


@pytest.mark.parametrize(
    ("health", "words"),
    [
        ("tcp: true, timeout: 6s", "(6s, line 1) is longer than health.interval (5s, by default)"),
        ("tcp: true, interval: 500ms", "(1s, by default) is longer than health.interval (500ms, line 1)"),
        ("tcp: true, timeout: 5s", None),
        ("tcp: true", None),
    ],
)
def test_one_of_a_checks_times_may_be_the_default(tmp_path: Path, health: str, words: str | None) -> None:
    warnings = told(tmp_path, f"services: {{venue: {{url: http://a:1, health: {{{health}}}}}}}")
    assert len(warnings) == (words is not None)
    assert all(str(words) in one for one in warnings)


def test_a_check_is_the_services_and_not_said_of_routes(tmp_path: Path) -> None:
    text = """\
defaults: {health: {tcp: true, timeout: 9s}}
services:
  a: {url: http://a:1, routes: [{match: {path: /x}}]}
  b: {url: http://b:1, health: off}
  c: {url: http://c:1, health: {interval: 10s}}
"""
    (warning,) = told(tmp_path, text)
    assert warning.startswith("defaults: health.timeout (9s, line 1) is longer than health.interval (5s, by default)")


# Statuses.

AGAIN = "calls that succeed are repeated"
FAILURES = "calls that succeed count as failures"


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("retry: {on: [503, 200]}", f"retry.on (line 1) has 200: {AGAIN}"),
        ("retry: {on: [200-202, 204, reset]}", f"retry.on (line 1) has 200-202, 204: {AGAIN}"),
        ("retry: {on: [100-599]}", f"retry.on (line 1) has 200-299: {AGAIN}"),
        ("retry: {on: [200], max_retries: 0}", None),
        ("retry: {on: [199, 300, reset]}", None),
        ("retry: {on: []}", None),
        ("breaker: {failure_status: [200, 500-599]}", f"breaker.failure_status (line 1) has 200: {FAILURES}"),
        ("breaker: {failure_status: [299-303]}", f"breaker.failure_status (line 1) has 299: {FAILURES}"),
        ("breaker: {failure_status: [199, 300-599]}", None),
    ],
)
def test_a_success_that_is_taken_for_a_failure(tmp_path: Path, policy: str, words: str | None) -> None:
    expected = [f"services.venue: {words}"] if words else []
    assert told(tmp_path, f"services: {{venue: {{url: http://a:1, {policy}}}}}") == expected


def test_a_success_is_said_once_where_it_was_set(tmp_path: Path) -> None:
    text = """\
defaults: {retry: {on: [200]}}
services:
  a: {url: http://a:1}
  b:
    url: http://b:1
    retry: {on: [502]}
    routes:
      - match: {path: /x}
        breaker: {failure_status: [201]}
"""
    assert told(tmp_path, text) == [
        f"defaults: retry.on (line 1) has 200: {AGAIN}",
        f"services.b.routes[0]: breaker.failure_status (line 9) has 201: {FAILURES}",
    ]


# services.


def test_a_file_without_services(tmp_path: Path) -> None:
    assert told(tmp_path, "log: {access: all}\nservices: {}\n") == [
        "services (line 2) is empty: every call is answered with 404 (unknown_service)"
    ]


# aggregates.


def test_a_part_that_the_whole_ends_first(tmp_path: Path) -> None:
    text = f"""\
{QUICK}aggregates:
  page:
    timeout: 1s
    parts:
      a: {{service: venue, path: /, timeout: 1500ms}}
      b: {{service: venue, path: /, timeout: 1s}}
      c: {{service: venue, path: /, timeout: off}}
  other:
    parts:
      a: {{service: venue, path: /,
          timeout: 3s}}
"""
    assert told(tmp_path, text) == [
        "aggregates.page.parts.a: timeout 1500ms (line 6) is longer than the whole aggregate's 1s (line 4)" + ENDS,
        "aggregates.other.parts.a: timeout 3s (line 12) is longer than the whole aggregate's 2s (by default)" + ENDS,
    ]


def test_without_origins_a_part_has_no_line(tmp_path: Path) -> None:
    path = tmp_path / "sidecar.yaml"
    path.write_text(f"{QUICK}aggregates: {{page: {{parts: {{a: {{service: venue, path: /, timeout: 3s}}}}}}}}\n")
    config, _ = load_with_origins(path, {})
    assert warnings_of(config, {}) == [
        "aggregates.page.parts.a: timeout 3s is longer than the whole aggregate's 2s, which ends it first"
    ]


LATE = "an attempt that hangs is not ended in time for a retry. Set timeout.attempt of these services lower"
BY_DEFAULT = "services.event (5s, by default)"


def test_an_aggregate_that_ends_before_an_attempt(tmp_path: Path) -> None:
    text = """\
services:
  venue: {url: "http://a:1", timeout: {attempt: 1s}}
  event:
    url: "http://b:1"
    routes:
      - {match: {path: /quick, methods: [GET]}, timeout: {attempt: 100ms}}
      - {match: {path: /quick}, timeout: {attempt: 4s}}
aggregates:
  defaults: {parts: {a: {service: event, path: /}, b: {service: event, path: /x}, c: {service: venue, path: /}}}
  whole:
    timeout: 900ms
    parts: {a: {service: venue, path: /}, b: {service: event, path: /slow}}
  part: {parts: {a: {service: venue, path: /, timeout: 1s}, b: {service: venue, path: /, timeout: 999ms}}}
  route:
    timeout: 200ms
    parts: {a: {service: event, path: "/quick/{query.id}?a=/b"}, b: {service: event, path: /quick}}
  near: {timeout: 200ms, parts: {a: {service: event, path: /quickly}}}
"""
    shorter = "is shorter than timeout.attempt of"
    assert told(tmp_path, text) == [
        f"aggregates.defaults: timeout 2s (by default) {shorter} services.event (5s, by default): {LATE}",
        f"aggregates.whole: timeout 900ms (line 11) {shorter} services.venue (1s, line 2), {BY_DEFAULT}: {LATE}",
        f"aggregates.part.parts.b: timeout 999ms (line 13) {shorter} services.venue (1s, line 2): {LATE}",
        f"aggregates.near: timeout 200ms (line 17) {shorter} {BY_DEFAULT}: {LATE}",
    ]


# stale.


STALE = (
    " has a stale step without key_headers: an answer made for one user goes to all who ask for the same URL. If a"
    " header names the user, such as {}, add it to key_headers. A header that no request has changes nothing"
)


@pytest.mark.parametrize(
    ("keys", "where", "header"),
    [
        ("fallback: [{stale: 5m}]", "services.venue: fallback (line 3)", "x-user-id or x-tenant"),
        ("fallback: [{stale: 5m, key_headers: []}]", "services.venue: fallback (line 3)", "x-user-id or x-tenant"),
        (
            "fallback: [{stale: 5m}], balancer: {hash: {header: X-Tenant}}",
            "services.venue: fallback (line 3)",
            "x-tenant, by which its balancer tells requests apart",
        ),
        (
            "routes: [{match: {path: /a}, fallback: [{service: other}, {stale: 5m}]}]",
            "services.venue.routes[0]: fallback (line 3)",
            "x-user-id or x-tenant",
        ),
        ("fallback: [{stale: 5m, key_headers: [x-user-id]}]", "", ""),
        ("fallback: [{stale: 5m, key_headers: [authorization]}]", "", ""),
        ("fallback: [{status: 200}]", "", ""),
    ],
)
def test_stale_answers_for_everybody(tmp_path: Path, keys: str, where: str, header: str) -> None:
    text = f"""\
services:
  other: {{url: "http://a:1"}}
  venue: {{url: "http://a:1", {keys}}}
"""
    assert told(tmp_path, text) == ([where + STALE.format(header)] if where else [])


def test_stale_answers_of_the_defaults_are_one_warning(tmp_path: Path) -> None:
    text = f"{VENUE[:-2]}, event: {{url: http://b:1}}}}\ndefaults: {{fallback: [{{stale: 5m}}]}}\n"
    assert told(tmp_path, text) == ["defaults: fallback (line 2)" + STALE.format("x-user-id or x-tenant")]


# gRPC.

GRPC = "url: 'grpc://shop:50051'"


@pytest.mark.parametrize(
    ("shop", "expected"),
    [
        (GRPC, []),
        (f"{GRPC}, idempotent: true", []),
        (f"{GRPC}, retry: {{methods: [POST]}}", ["services.shop: retry.methods (line 2) says nothing about gRPC"]),
        ("url: 'h2c://shop', retry: {methods: [POST]}", []),
        (
            f"{GRPC}, breaker: {{failure_status: [500]}}",
            ["services.shop: breaker.failure_status (line 2) says nothing about gRPC: the outcome of gRPC is"],
        ),
        (
            f"{GRPC}, routes: [{{match: {{path: /a.B}}, breaker: {{failure_status: [500]}}}}]",
            ["services.shop.routes[0]: breaker.failure_status (line 2) says nothing about gRPC"],
        ),
        (
            "url: 'http://shop', unary: true",
            ["services.shop: unary (line 2) is for gRPC, and services.shop is called by"],
        ),
        (
            "url: 'http://shop', breaker: {failure_grpc_status: [INTERNAL]}",
            ["services.shop: breaker.failure_grpc_status (line 2) is for gRPC"],
        ),
        (
            f"{GRPC}, retry: {{on: [reset, UNAVAILABLE]}}",
            ["services.shop: retry.on (line 2) has UNAVAILABLE, and no call may be sent twice"],
        ),
        (f"{GRPC}, retry: {{on: [UNAVAILABLE], max_retries: 0}}", []),
        (f"{GRPC}, retry: {{on: [UNAVAILABLE]}}, idempotent: true", []),
        (f"{GRPC}, retry: {{on: [UNAVAILABLE]}}, routes: [{{match: {{path: /a.B/Get}}, idempotent: true}}]", []),
        (
            f"{GRPC}, retry: {{on: [503]}}, idempotent: true",
            ["services.shop: retry.on (line 2) has no status of gRPC, such as UNAVAILABLE"],
        ),
        (
            f"{GRPC}, routes: [{{match: {{path: /a.B, methods: [GET]}}}}]",
            ["services.shop.routes[0]: match.methods has no POST: no call of gRPC matches"],
        ),
        (
            f"{GRPC}, fallback: [{{service: other}}]",
            ["services.shop: fallback (line 2) never answers a call of gRPC"],
        ),
        ("url: 'h2c://shop', fallback: [{service: other}]", []),
    ],
)
def test_policies_that_cannot_be_meant(tmp_path: Path, shop: str, expected: list[str]) -> None:
    (tmp_path / "a.yaml").write_text(f"services:\n  shop: {{{shop}}}\n  other: {{url: 'grpc://other:1'}}\n")
    found = warnings_of(*load_with_origins(tmp_path / "a.yaml", {}))
    assert len(found) == len(expected), found
    assert all(one.startswith(start) for one, start in zip(found, expected, strict=True)), found


def test_what_the_defaults_say_is_for_services_of_both(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "defaults: {retry: {methods: [GET], on: [UNAVAILABLE]}, breaker: {failure_status: [500]}, unary: true}\n"
        "services: {shop: {url: 'grpc://shop:50051'}, venue: {url: 'http://venue'}}\n"
    )
    assert warnings_of(*load_with_origins(tmp_path / "a.yaml", {})) == []
