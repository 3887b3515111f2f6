"""Who gets no requests: endpoints that fail their checks, say so themselves, or fail requests; and who still must."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.eventually import eventually, settled
from tests.support.rig import Rig
from tests.support.steps import answer, close, raw, read_request, silence, then_reset
from tests.support.traffic import Checked, Traffic, app_hits, check_hits
from tests.support.upstream import RefusedPort, Upstream

CHECKS = "health: {path: /health, interval: 200ms, timeout: 1s}"
CHECKS_UNTIL_BACK = 3
"""The one that finds an endpoint well, and those that a busy machine makes before an app's next request."""

CONFIG = f"""
defaults: {{breaker: {{mode: "off"}}}}
services:
  checked: {{endpoints: ["$a", "$b"], {CHECKS}}}
  own: {{endpoints: ["$own"], {CHECKS}}}
  panicking: {{endpoints: ["$p1", "$p2", "$p3"], {CHECKS}, outlier: {{panic_threshold: 50%}}}}
  calm: {{endpoints: ["$p1", "$p2", "$p3"], {CHECKS}, outlier: {{panic_threshold: 0%}}}}
  tcp: {{endpoints: ["$tcp_well", "$tcp_refused"], health: {{tcp: true, interval: 200ms, timeout: 1s}}}}
  unchecked: {{endpoints: ["$u1", "$u2"]}}
"""
NAMES = ("a", "b", "own", "p1", "p2", "p3", "tcp_well", "u1", "u2")


@pytest.fixture(scope="module")
def module_rig() -> Iterator[Rig]:
    upstreams = {name: Upstream(answer()) for name in NAMES}  # checked from the start
    with Rig(CONFIG, upstreams=upstreams, dead={"tcp_refused": RefusedPort()}) as rig:
        yield rig


@pytest.fixture
def rig(module_rig: Rig) -> Rig:
    """Everything well, and everybody's answer to the app his name."""
    for name in NAMES:
        module_rig[name].play(Checked(answer(body=name.encode())))
    return module_rig


def play(rig: Rig, name: str) -> Checked:
    """A scene whose health can be changed as it goes."""
    checked = Checked(answer(body=name.encode()))
    rig[name].play(checked)
    return checked


def healthy(rig: Rig, service: str, name: str) -> float:
    return rig.daemon.metric("sidecar_endpoint_healthy", service=service, endpoint=rig[name].authority)


def is_healthy(rig: Rig, service: str, name: str, expected: bool) -> None:
    eventually(lambda: healthy(rig, service, name) == expected, every=0.03)


def events(rig: Rig, service: str, name: str) -> list[str]:
    """What the log says of an endpoint, in order."""
    return [
        line["event"].removeprefix("endpoint ").removeprefix("is ")
        for line in rig.daemon.log_lines()
        if line.get("endpoint") == rig[name].authority and line.get("service") == service
        if line["event"].startswith("endpoint ")
    ]


def checks_until_back(rig: Rig, name: str, steady: Traffic) -> int:
    """Of an endpoint that is well again from now on: how often it was checked until it answered the app."""
    before = check_hits(rig[name])
    steady.until_seen(name.encode())
    return check_hits(rig[name]) - before


def traffic(rig: Rig, service: str, **more: Any) -> Traffic:
    return Traffic(rig.client, lambda client: client.ask("GET", f"/{service}/"), **more)


def posts(rig: Rig, service: str, **more: Any) -> Traffic:
    """Of a method that is never sent twice: what an endpoint answers is what the app gets."""
    return Traffic(rig.client, lambda client: client.ask("POST", f"/{service}/", body=b"x"), **more)


def test_endpoint_that_fails_its_checks_gets_no_requests_until_it_is_well(rig: Rig) -> None:
    ill = play(rig, "a")
    with traffic(rig, "checked") as steady:
        eventually(lambda: len(set(steady.bodies)) == 2)
        hits = check_hits(rig["a"]), check_hits(rig["b"])
        # The new scene may have broken a check off: with both unwell it would be a panic. So wait for whole ones.
        eventually(lambda: check_hits(rig["a"]) > hits[0] + 1 and check_hits(rig["b"]) > hits[1] + 1)
        is_healthy(rig, "checked", "a", True)
        is_healthy(rig, "checked", "b", True)
        before = len(events(rig, "checked", "a"))
        ill.health = answer(503)
        is_healthy(rig, "checked", "a", False)
        assert steady.more(60) == {b"b": 60}
        assert healthy(rig, "checked", "b") == 1
        ill.health = answer()
        assert checks_until_back(rig, "a", steady) <= CHECKS_UNTIL_BACK
        assert healthy(rig, "checked", "a") == 1
    assert steady.statuses == {200: steady.count}
    eventually(lambda: events(rig, "checked", "a")[before:] == ["unhealthy", "healthy"])


@pytest.mark.parametrize(
    ("health", "reason"),
    [
        (silence, "timeout"),
        (close, "reset"),
        (answer(404), "status 404"),
        (answer(headers=[("x-envoy-immediate-health-check-fail", "true")]), "immediate_fail"),
    ],
    ids=["silence", "close", "404", "failed at once"],
)
def test_what_fails_a_check(rig: Rig, health: Any, reason: str) -> None:
    ill = play(rig, "a")
    with traffic(rig, "checked") as steady:
        is_healthy(rig, "checked", "a", True)
        ill.health = health
        is_healthy(rig, "checked", "a", False)
        assert steady.more(20) == {b"b": 20}
        ill.health = answer()
        is_healthy(rig, "checked", "a", True)

    def last_reason() -> object:
        return [one for one in rig.daemon.log_lines() if one["event"] == "endpoint is unhealthy"][-1]["reason"]

    eventually(lambda: last_reason() == reason)


def test_checks_have_connections_of_their_own_and_are_no_requests(rig: Rig) -> None:
    changes = rig.changes()
    upstream = rig["own"]
    with traffic(rig, "own") as steady:
        eventually(lambda: check_hits(upstream) >= 3)
    eventually(lambda: changes("sidecar_requests_total", service="own") == steady.count)
    gain = changes.now()
    assert gain("sidecar_attempts_total", service="own") == steady.count == app_hits(upstream)
    requests = list(upstream.requests)
    of_checks = [one.connection for one in requests if one.target == "/health"]
    of_the_app = {one.connection for one in requests if one.target != "/health"}
    assert len(set(of_checks)) == len(of_checks)
    assert not of_the_app & set(of_checks)
    assert len(of_the_app) == 1
    assert {one.method for one in requests if one.target == "/health"} == {"GET"}


def test_service_without_requests_is_checked_seldom_and_often_again_with_them(rig: Rig) -> None:
    upstream = rig["own"]
    checks = settled(lambda: check_hits(upstream), still_for=0.6)
    with traffic(rig, "own"):
        eventually(lambda: check_hits(upstream) >= checks + 3)  # seldom is once a minute


def test_checks_by_tcp(rig: Rig) -> None:
    refused = f"127.0.0.1:{rig._dead['tcp_refused'].port}"
    is_healthy(rig, "tcp", "tcp_well", True)
    assert rig.daemon.metric("sidecar_endpoint_healthy", service="tcp", endpoint=refused) == 0
    changes = rig.changes()
    with traffic(rig, "tcp") as steady:
        upstream = rig["tcp_well"]
        eventually(lambda: sum(one.bytes_in == 0 for one in upstream.connections) >= 3)
        assert steady.more(40) == {b"tcp_well": 40}
    assert changes("sidecar_attempts_total", service="tcp", endpoint=refused) == 0
    assert {one.target for one in upstream.requests} == {"/"}


def test_endpoint_that_says_itself_that_it_fails(rig: Rig) -> None:
    """In an answer to the app, which does not see it: obeyed at once, until the next good check."""
    saying = [("X-Envoy-Immediate-Health-Check-Fail", "true")]
    ill = play(rig, "a")
    with traffic(rig, "checked") as steady:
        eventually(lambda: len(set(steady.bodies)) == 2)
        is_healthy(rig, "checked", "a", True)
    before = len(events(rig, "checked", "a"))
    ill.health = answer(503)  # no good check until we say so; one failed check alone decides nothing
    ill.app = answer(body=b"a", headers=saying)
    with rig.client() as client:
        answers = [client.ask("GET", "/checked/") for _ in range(2)]
        said = [one for one in answers if one.body == b"a"]
        assert len(said) == 1
        assert said[0].status == 200
        assert said[0].get("x-envoy-immediate-health-check-fail") is None
        after = Counter(client.ask("GET", "/checked/").body for _ in range(30))
        assert after == {b"b": 30}
    assert healthy(rig, "checked", "a") == 0
    ill.health, ill.app = answer(), answer(body=b"a")
    with traffic(rig, "checked") as steady:
        assert checks_until_back(rig, "a", steady) <= CHECKS_UNTIL_BACK
    eventually(lambda: events(rig, "checked", "a")[before:] == ["unhealthy", "healthy"])


def test_without_checks_such_an_answer_is_not_believed(rig: Rig) -> None:
    """There would be no way back. The app does not see it all the same."""
    for name in ("u1", "u2"):
        headers = [("x-envoy-immediate-health-check-fail", "true")]
        rig[name].play(answer(body=name.encode(), headers=headers))
    with rig.client() as client:
        answers = [client.ask("GET", "/unchecked/") for _ in range(20)]
    assert Counter(one.body for one in answers) == {b"u1": 10, b"u2": 10}
    assert {one.get("x-envoy-immediate-health-check-fail") for one in answers} == {None}


def test_checks_are_counted_by_result(rig: Rig) -> None:
    ill = play(rig, "a")
    with traffic(rig, "checked"):
        is_healthy(rig, "checked", "a", True)
        changes = rig.changes()
        eventually(lambda: changes("sidecar_health_checks_total", service="checked", result="success") >= 2)
        ill.health = answer(503)
        changes = rig.changes()
        eventually(lambda: changes("sidecar_health_checks_total", service="checked", result="failure") >= 2)
        ill.health = answer()
        is_healthy(rig, "checked", "a", True)
    assert rig.daemon.metric("sidecar_health_checks_total", service="unchecked") == 0


def test_panic_uses_all(rig: Rig) -> None:
    """1 of 3 well is less than 50%: health is ignored. Where that is turned off, the one gets everything."""

    def told() -> list[tuple[object, ...]]:
        lines = [line for line in rig.daemon.log_lines() if line.get("service") == "panicking" and "of" in line]
        return [(line["level"], line["well"], line["of"]) for line in lines]

    ill = [play(rig, name) for name in ("p1", "p2")]
    with traffic(rig, "panicking") as steady, traffic(rig, "calm") as calm:
        eventually(lambda: len(set(steady.bodies)) == 3)
        # A new scene ends connections, with checks on them; what came of that, a panic too, is over now.
        for name in ("panicking", "calm"):
            for endpoint in ("p1", "p2", "p3"):
                is_healthy(rig, name, endpoint, True)
        eventually(lambda: rig.daemon.metric("sidecar_panic") == 0)
        changes = rig.changes()
        before = 2 * int(rig.daemon.metric("sidecar_panics_total", service="panicking"))
        eventually(lambda: len(told()) == before)
        ill[0].health = answer(503)
        is_healthy(rig, "panicking", "p1", False)
        is_healthy(rig, "calm", "p1", False)
        assert steady.more(30) == {b"p2": 15, b"p3": 15}
        ill[1].health = answer(503)
        is_healthy(rig, "panicking", "p2", False)
        is_healthy(rig, "calm", "p2", False)
        assert steady.more(30) == {b"p1": 10, b"p2": 10, b"p3": 10}
        assert calm.more(30) == {b"p3": 30}
        assert healthy(rig, "panicking", "p3") == 1
        assert [rig.daemon.metric("sidecar_panic", service=name) for name in ("panicking", "calm")] == [1, 0]
        for one in ill:
            one.health = answer()
        is_healthy(rig, "panicking", "p1", True)
        is_healthy(rig, "panicking", "p2", True)
        assert steady.more(30) == {b"p1": 10, b"p2": 10, b"p3": 10}
    assert steady.statuses == {200: steady.count}
    assert calm.statuses == {200: calm.count}

    eventually(lambda: told()[before:] == [("warning", 1, 3), ("info", 2, 3)])
    gain = changes.now()
    assert [gain("sidecar_panics_total", service=name) for name in ("panicking", "calm")] == [1, 0]
    assert rig.daemon.metric("sidecar_panic", service="panicking") == 0


OUTLIER = """
defaults: {breaker: {mode: "off"}}
services:
  two: {endpoints: ["$a", "$b"], outlier: {consecutive_failures: 3, base_ejection_time: 2s}}
  one: {endpoints: ["$only"], outlier: {consecutive_failures: 3, base_ejection_time: 2s}}
  both: {endpoints: ["$c", "$d"], outlier: {consecutive_failures: 3, base_ejection_time: 2s}}
"""
EJECTED_S = 2.0
"""The first time, so each test that ejects has endpoints of its own. What has to happen within it is done in some 0.1 s
on an idle machine."""


@pytest.fixture(scope="module")
def ejecting() -> Iterator[Rig]:
    with Rig(OUTLIER, "a", "b", "c", "d", "only") as rig:
        yield rig


def test_endpoint_that_fails_requests_is_ejected_for_a_while(ejecting: Rig) -> None:
    ejecting["a"].play(answer(body=b"a"))
    ejecting["b"].play(answer(body=b"b"))
    with ejecting.client() as client:  # b succeeds last: a failing answer counts only if a sibling has succeeded since
        for name in (b"a", b"b"):
            eventually(lambda: client.ask("POST", "/two/", body=b"x").body == name)  # noqa: B023
    changes = ejecting.changes()
    ill = Checked(answer(500, body=b"a"))
    ejecting["a"].play(ill)
    before = time.monotonic()
    with posts(ejecting, "two") as steady:
        eventually(lambda: "ejected" in events(ejecting, "two", "a"), every=0.002)
        ejected = time.monotonic()
        assert ejecting["a"].hits == 3
        assert healthy(ejecting, "two", "a") == 0
        assert ejecting.daemon.metric("sidecar_ejected_endpoints", service="two") == 1
        ill.app = answer(body=b"a")
        first = ejecting["a"].hits
        steady.until_seen(b"a")
        assert time.monotonic() - before >= EJECTED_S
        assert time.monotonic() - ejected < EJECTED_S + 1.0
        assert first == 3
        assert healthy(ejecting, "two", "a") == 1
        assert steady.more(40) == {b"a": 20, b"b": 20}
    assert steady.statuses == {500: 3, 200: steady.count - 3}
    eventually(lambda: events(ejecting, "two", "a") == ["ejected", "returned"])
    gain = changes.now()
    for name, times in [("ejections", 1), ("returns", 1), ("ejection_overflows", 0)]:
        assert gain(f"sidecar_endpoint_{name}_total", service="two") == times
        assert gain(f"sidecar_endpoint_{name}_total", service="one") == 0
    assert ejecting.daemon.metric("sidecar_ejected_endpoints", service="two") == 0


def test_last_available_endpoint_is_never_ejected(ejecting: Rig) -> None:
    changes = ejecting.changes()
    upstream = ejecting["only"].play(then_reset(read_request))
    with ejecting.client() as client:
        answers = [client.ask("POST", "/one/", body=b"x") for _ in range(20)]
    assert {(one.status, one.reason) for one in answers} == {(502, "reset")}
    assert upstream.hits == 20
    assert events(ejecting, "one", "only") == []
    gain = changes.now()
    assert gain("sidecar_endpoint_ejections_total", service="one") == 0
    assert gain("sidecar_endpoint_ejection_overflows_total", service="one") == 6  # every third of 20 in a row
    assert healthy(ejecting, "one", "only") == 1


def test_of_two_that_both_fail_one_is_left(ejecting: Rig) -> None:
    for name in ("c", "d"):
        ejecting[name].play(then_reset(read_request))
    before = [len(events(ejecting, "both", name)) for name in ("c", "d")]
    with ejecting.client() as client:
        answers = [client.ask("POST", "/both/", body=b"x") for _ in range(60)]
    assert {(one.status, one.reason) for one in answers} == {(502, "reset")}
    hits = sorted(ejecting[name].hits for name in ("c", "d"))
    assert hits == [3, 57]

    def since() -> list[list[str]]:
        return [events(ejecting, "both", name)[count:] for name, count in zip(("c", "d"), before, strict=True)]

    eventually(lambda: sorted(since()) == [[], ["ejected"]])


def test_a_service_whose_answers_are_put_right_passes_its_checks_too() -> None:
    """What an app would get passes a check: or an endpoint that serves well would get no requests."""
    health = "{path: /health, interval: 100ms, idle_interval: 100ms, unhealthy_threshold: 1}"
    config = f'services: {{odd: {{endpoints: ["$odd"], health: {health}}}}}'
    sloppy = raw(b"HTTP/1.2  200 OK\nContent-Length: 2\nX-A: b\n c\ncontent-length: 2\n\nok")
    with Rig(config, upstreams={"odd": Upstream(Checked(sloppy, sloppy))}) as rig:
        assert rig.ask("GET", "/odd/").status == 200
        eventually(lambda: check_hits(rig["odd"]) >= 5)
        assert healthy(rig, "odd", "odd") == 1
        what = {"service": "odd", "result": "failure"}
        assert rig.daemon.metric("sidecar_health_checks_total", **what) == 0
