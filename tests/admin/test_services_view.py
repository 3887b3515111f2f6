"""What runs, as the admin API tells it."""

from __future__ import annotations

import msgspec
import pytest

from sidecar.admin import answers
from sidecar.runtime import operator
from sidecar.runtime.last_failure import last_failure
from sidecar.runtime.slices import at_once
from tests.admin.stage import START, Source, Stage


def endpoint(stage: Stage, number: int = 0) -> answers.Endpoint:
    return stage.view.one(stage["venue"]).endpoints[number]


def test_a_service_at_a_glance() -> None:
    stage = Stage()
    venue = stage["venue"]
    stage.history.sample([venue], START, 0.0)
    for code, reason in ((200, "ok"), (200, "ok"), (503, "circuit_open"), (499, "client_disconnect")):
        venue.counters.request(code, reason, 0.002)
    for result in ("sent", "failover", "denied_budget"):
        venue.counters.retry(result)
    for step in ("stale", "none"):
        venue.counters.fallback(step)
    stage.loop.now += 1
    found = at_once(stage.view.listed())
    assert (found.generation, found.draining, found.reload.result, found.reload.errors) == (1, False, "ok", 0)
    service, auth = found.services
    assert (service.name, service.requests, service.failures, service.retries, service.fallbacks) == (
        "venue",
        4,
        1,
        2,
        1,
    )
    assert (service.rates.requests_per_s, service.rates.success_rate) == (4.0, 66.667)
    assert (service.budget.ratio, service.budget.balance) == (0.2, 10.0)
    idle = answers.Share(available=True, share=None)
    assert service.endpoints == answers.EndpointSummary(
        total=2, available=2, healthy=2, ejected=0, panic=False, shares=(idle, idle)
    )
    assert (auth.name, auth.endpoints.total, auth.rates.success_rate) == ("auth", 0, None)


def test_what_calls_of_grpc_came_to() -> None:
    stage = Stage("""
services:
  venue: {url: "http://venue:1"}
  shop: {url: "grpc://shop:50051"}
  plain: {url: "h2c://plain:1"}
""")
    counters = stage["shop"].counters
    for route, status in (("", 14), ("", 0), ("/shop.v1.Venue", 0)):
        counters.grpc_call(route, status)
    shown = {one.name: (one.protocol, one.grpc, one.grpc_statuses) for one in at_once(stage.view.listed()).services}
    assert shown == {
        "venue": ("http1", False, {}),
        "shop": ("h2", True, {"OK": 2, "UNAVAILABLE": 1}),
        "plain": ("h2", False, {}),
    }
    assert list(stage.view.one(stage["shop"]).grpc_statuses) == ["OK", "UNAVAILABLE"]


def test_why_requests_failed() -> None:
    stage = Stage()
    venue = stage["venue"]
    venue.counters.request(503, "circuit_open", 0.001)
    stage.history.sample([venue], START, 0.0)
    for code, reason in (
        (200, "ok"),
        (500, "status"),
        (503, "status"),
        (503, "circuit_open"),
        (499, "client_disconnect"),
    ):
        venue.counters.request(code, reason, 0.002)
    assert stage.view.one(venue).last_failure is None
    venue.last_failure = last_failure(START, "status", "10.0.0.0:3002 answered 503", b"the-id")
    for found in (at_once(stage.view.listed()).services[0], stage.view.one(venue)):
        assert found.reasons == {"circuit_open": 2, "status": 2}
        assert found.recent_reasons == {"circuit_open": 1, "status": 2}
        assert found.last_failure == answers.LastFailure(
            at="2025-11-23T01:00:00.000Z", reason="status", detail="10.0.0.0:3002 answered 503", request_id="the-id"
        )


def test_a_breaker_with_its_window_and_when_it_lets_the_next_one_through() -> None:
    stage = Stage()
    venue = stage["venue"]
    breaker = venue.default_route.breaker
    for failed in (False, True, True):
        permit = breaker.admit(START)
        if failed:
            breaker.failure(permit, START)
        else:
            breaker.success(permit, START)
    found = stage.view.one(venue).breaker
    assert (found.state, found.window, found.next_probe) == (
        "closed",
        answers.Window(successes=1, failures=2, seconds=10.0),
        None,
    )
    for _ in range(10):
        breaker.failure(breaker.admit(START), START)
    stage.loop.now += 10
    found = stage.view.one(venue).breaker
    assert (found.state, found.opens, found.retry_after_s) == ("open", 1, 20.0)
    assert (found.since, found.next_probe) == ("2025-11-23T01:00:00.000Z", "2025-11-23T01:00:30.000Z")


def test_a_forced_breaker() -> None:
    stage = Stage()
    operator.force_breaker(stage["venue"], "", "open", START + 60, START)
    found = stage.view.one(stage["venue"]).breaker
    assert (found.state, found.forced, found.forced_until) == ("open", "open", "2025-11-23T01:01:00.000Z")


def test_routes_show_a_breaker_only_where_it_is_their_own() -> None:
    stage = Stage()
    reports, slow = stage.view.one(stage["venue"]).routes
    assert (reports.name, reports.match.path, reports.match.methods) == ("POST /reports", "/reports", ["POST"])
    assert reports.breaker is not None
    assert reports.policy["breaker"]["volume_threshold"].origin == "route"
    assert (slow.breaker, slow.policy["timeout"]["attempt"].value) == (None, "9s")


def test_the_policy_says_who_set_each_value() -> None:
    stage = Stage()
    timeout = stage.view.one(stage["venue"]).policy["timeout"]
    assert (timeout["attempt"].value, timeout["attempt"].origin, timeout["attempt"].line) == ("2s", "service", 5)
    assert (timeout["request"].value, timeout["request"].origin, timeout["request"].line) == ("15s", "default", None)


def test_an_endpoint_by_what_its_attempts_brought() -> None:
    stage = Stage()
    one = stage["venue"].endpoints[0]
    for reason in ("ok", "ok", "reset", "client_disconnect"):
        one.counters.attempt(reason)
    one.active = 3
    found = endpoint(stage)
    assert (found.address, found.requests, found.failures, found.active) == ("10.0.0.0:3002", 4, 1, 3)
    assert found.reasons == {"ok": 2, "reset": 1, "client_disconnect": 1}
    assert (found.healthy, found.known, found.available, found.latency_ms) == (True, False, True, None)
    assert found.share == 100.0


def test_an_endpoint_that_is_drained_ejected_or_skipped() -> None:
    stage = Stage(endpoints=4)
    venue = stage["venue"]
    operator.drain(venue, venue.endpoints[0], START + 10, START)
    operator.eject(venue, venue.endpoints[1], START + 20, START)
    venue.endpoints[2].connect_failed(START)
    venue.changed(START)
    drained, ejected, skipped, available = stage.view.one(venue).endpoints
    assert (drained.drained, drained.forced_until, drained.available) == (True, "2025-11-23T01:00:10.000Z", False)
    assert (ejected.ejected, ejected.forced_until) == (True, "2025-11-23T01:00:20.000Z")
    assert ejected.ejected_until == ejected.forced_until
    assert (skipped.skipped_until, skipped.forced_until) == ("2025-11-23T01:00:01.000Z", None)
    assert (available.available, available.skipped_until) == (True, None)
    summary = stage.view.one(venue).endpoint_summary
    assert (summary.total, summary.healthy, summary.ejected, summary.available) == (4, 3, 1, 1)


def test_what_has_ended_by_the_clock_is_not_shown() -> None:
    stage = Stage()
    venue = stage["venue"]
    operator.drain(venue, venue.endpoints[0], START + 10, START)
    stage.loop.now += 10
    assert not endpoint(stage).drained
    assert endpoint(stage).available


def test_latency_is_known_where_the_balancer_goes_by_it() -> None:
    stage = Stage("services: {venue: {url: http://a:1, balancer: peak_ewma}}")
    latency = stage["venue"].endpoints[0].latency
    assert latency is not None
    latency.observe(0.0032, START)
    assert endpoint(stage).latency_ms == 3.2


@pytest.mark.parametrize(
    ("sources", "kind", "last_success", "problem"),
    [
        ([], "static", None, None),
        ([Source()], "name", "2025-11-23T01:00:00.000Z", None),
        ([Source(), Source(last_success=None, problem="no such name")], "name", None, "no such name"),
        (
            [Source(problem="a"), Source(last_success=START - 60, problem="b")],
            "name",
            "2025-11-23T00:59:00.000Z",
            "a; b",
        ),
    ],
)
def test_discovery_is_as_old_as_its_oldest_source(
    sources: list[Source], kind: str, last_success: str | None, problem: str | None
) -> None:
    stage = Stage()
    stage.sources["venue"] = sources
    found = stage.view.one(stage["venue"])
    assert (found.source, found.discovery) == (
        kind,
        answers.Discovery(kind=kind, last_success=last_success, problem=problem),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("discovery", "kind"), [("dns: {name: venue, port: 1}", "dns"), ("kubernetes: {service: venue}", "kubernetes")]
)
def test_discovery_that_the_file_asks_for(discovery: str, kind: str) -> None:
    stage = Stage(f"services: {{venue: {{discovery: {{{discovery}}}}}}}")
    assert stage.view.one(stage["venue"]).source == kind


def test_history_has_every_service() -> None:
    stage = Stage()
    found = at_once(stage.view.histories())
    assert (found.interval_s, sorted(found.services)) == (5, ["auth", "venue"])


def test_what_is_told_is_what_the_structs_say() -> None:
    """Fields are filled from dictionaries here and there, which no type checker sees."""
    stage = Stage()
    listed, one = at_once(stage.view.listed()), stage.view.one(stage["venue"])
    for kind, found in ((answers.Services, listed), (answers.ServiceDetail, one)):
        msgspec.json.decode(msgspec.json.encode(found), type=kind)
