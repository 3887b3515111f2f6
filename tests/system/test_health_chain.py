"""`GET /health` of the real daemon, with a real Redis that is stopped, started, paused and locked."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificate import make_certificate
from tests.support.daemon import Daemon
from tests.support.eventually import eventually
from tests.support.redis_server import RedisServer
from tests.support.rig import Daemons, Rig
from tests.support.steps import answer
from tests.support.traffic import Checked, check_hits
from tests.support.upstream import Turn, Upstream

PASSWORD = "hunter2-of-redis"
STATUS = {"healthy": 200, "degraded": 200, "unhealthy": 503}


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer(password=PASSWORD) as server:
        yield server


def health(daemon: Daemon) -> Any:
    """The report, whose form is looked at each time."""
    probed = daemon.probe("/health", timeout=7)
    report = json.loads(probed.body)
    assert set(report) == {"status", "checks", "services"}
    assert probed.status == STATUS[report["status"]]
    assert probed.headers["content-type"] == "application/json"
    assert probed.headers["cache-control"] == "no-store"
    assert not re.search(rb"\d+\.\d+\.\d+\.\d+|localhost|rrno|hunter2", probed.body)
    return report


def becomes(daemon: Daemon, status: str, more: Callable[[Any], bool] = lambda report: True) -> Any:
    """Waits for a report with this status (one is kept for a second) of which `more` is true."""

    def check() -> Any:
        report = health(daemon)
        assert report["status"] == status, report
        assert more(report), report
        return report

    return eventually(check, every=0.05)


def ready(daemon: Daemon) -> bool:
    return daemon.probe("/readyz").status == 200 and daemon.probe("/livez").status == 200


def test_the_three_states_with_redis_stopped_and_started(redis: RedisServer, start: Daemons) -> None:
    with Upstream(answer()) as a, Upstream(answer()) as optional:
        daemon = start(f"""
services:
  venue: {{url: "{a.url}", health: {{path: /health}}}}
  event: {{url: "{a.url}"}}
checks:
  redis: {{url: "redis://:{PASSWORD}@127.0.0.1:{redis.port}/0", required: true, timeout: 500ms}}
  optional: {{url: "{optional.url}/status"}}
""")
        report = becomes(daemon, "healthy")
        assert report["checks"]["redis"].pop("latency_ms") < 500
        assert report["services"]["venue"].pop("latency_ms") < 1000
        del report["checks"]["optional"]["latency_ms"]
        well = {"status": "healthy", "breaker": "closed", "endpoints": {"healthy": 1, "total": 1}}
        assert report == {
            "status": "healthy",
            "checks": {"redis": {"status": "healthy"}, "optional": {"status": "healthy"}},
            "services": {"venue": well, "event": well},
        }

        optional.play(answer(503))
        report = becomes(daemon, "degraded")
        assert report["checks"]["optional"]["reason"] == "status"
        assert report["checks"]["redis"]["status"] == "healthy"

        redis.stop()
        report = becomes(daemon, "unhealthy")
        assert report["checks"]["redis"]["reason"] == "connect_failure"
        assert ready(daemon)
        with pytest.raises(OSError, match="refused"):
            redis.ask("PING")

        redis.start()
        becomes(daemon, "degraded")
        optional.play(answer())
        becomes(daemon, "healthy")
        wanted = [
            ("optional", "unhealthy", "status"),
            ("redis", "unhealthy", "connect_failure"),
            ("redis", "healthy", None),
            ("optional", "healthy", None),
        ]
        eventually(lambda: changes_of_checks(daemon) == wanted)


def changes_of_checks(daemon: Daemon) -> list[tuple[str, str, str | None]]:
    lines = [line for line in daemon.log_lines() if line["event"] == "health of a check changed"]
    return [(line["check"], line["status"], line["reason"]) for line in lines]


def test_a_redis_that_is_not_required_only_degrades(redis: RedisServer, start: Daemons) -> None:
    daemon = start(f"""
services: {{}}
checks: {{redis: {{url: "redis://:{PASSWORD}@localhost:{redis.port}"}}}}
""")
    becomes(daemon, "healthy")
    redis.stop()
    becomes(daemon, "degraded")
    redis.start()
    becomes(daemon, "healthy")


def test_tls_and_auth_with_the_password_from_the_environment(start: Daemons, tmp_path: Path) -> None:
    _, certificate = make_certificate(tmp_path)
    with RedisServer(password=PASSWORD, certificate=(certificate, tmp_path / "tls.key")) as redis:
        config = f"""
services: {{}}
checks: {{redis: {{url: "rediss://:${{REDIS_PASSWORD}}@127.0.0.1:{redis.port}", required: true}}}}
"""
        environment = ("env", f"REDIS_PASSWORD={PASSWORD}")
        daemon = start(config, within=(*environment, f"SSL_CERT_FILE={certificate}"))
        becomes(daemon, "healthy")
        redis.stop()
        assert becomes(daemon, "unhealthy")["checks"]["redis"]["reason"] == "connect_failure"
        redis.start()
        becomes(daemon, "healthy")

        distrustful = start(config, within=environment)
        assert becomes(distrustful, "unhealthy")["checks"]["redis"]["reason"] == "connect_failure"


def test_a_wrong_password_is_auth_and_no_secret_is_logged(redis: RedisServer, start: Daemons) -> None:
    daemon = start(f"""
log: {{level: debug}}
services: {{}}
checks:
  redis: {{url: "redis://:hunter2-is-wrong@127.0.0.1:{redis.port}", required: true}}
  user: {{url: "redis://hunter2-user:hunter2-too@127.0.0.1:{redis.port}"}}
  none: {{url: "redis://127.0.0.1:{redis.port}"}}
""")
    report = becomes(daemon, "unhealthy")
    assert [check["reason"] for check in report["checks"].values()] == ["auth"] * 3
    redis.stop()
    becomes(daemon, "unhealthy", lambda report: report["checks"]["redis"]["reason"] == "connect_failure")
    assert daemon.terminate() == 0
    assert '"check":"redis"' in daemon.stdout
    assert "hunter2" not in daemon.log


def test_a_redis_that_hangs_is_a_timeout_and_holds_up_nothing(redis: RedisServer, start: Daemons) -> None:
    with Upstream(answer()) as site:
        daemon = start(f"""
services: {{}}
checks:
  redis: {{url: "redis://:{PASSWORD}@127.0.0.1:{redis.port}", required: true, timeout: 300ms}}
  site: {{url: "{site.url}/"}}
""")
        becomes(daemon, "healthy")
        redis.pause()
        report = becomes(daemon, "unhealthy")
        assert report["checks"]["redis"]["reason"] == "timeout"
        assert 290 < report["checks"]["redis"]["latency_ms"] < 1000
        assert report["checks"]["site"]["status"] == "healthy"
        redis.resume()
        becomes(daemon, "healthy")


def test_the_daemon_ends_while_a_run_is_under_way(redis: RedisServer, start: Daemons) -> None:
    daemon = start(f"""
drain: {{delay: 0s}}
services: {{venue: {{url: "http://127.0.0.1:9"}}}}
checks: {{redis: {{url: "redis://:{PASSWORD}@127.0.0.1:{redis.port}", timeout: 5s}}}}
""")
    redis.pause()
    caller = http.client.HTTPConnection("127.0.0.1", daemon.ports.probe, timeout=10)
    caller.request("GET", "/health")
    assert ready(daemon)  # asked after it, so the run has begun
    assert daemon.terminate(timeout=4) == 0
    caller.close()
    assert {line["level"] for line in daemon.log_lines()} == {"info"}


def test_fifty_callers_make_one_run() -> None:
    def slow(turn: Turn) -> None:
        turn.read()
        turn.wait_for_gate()
        answer()(turn)

    config = """
services:
  venue: {url: "$venue", health: {path: /health, interval: 20s, timeout: 4s}}
checks:
  site: {url: "$site/", timeout: 4s}
"""
    with Rig(config, upstreams={"venue": Upstream(Checked()), "site": Upstream(answer())}) as rig:
        venue, site = rig["venue"], rig["site"]
        eventually(lambda: check_hits(venue) == 1)  # the active check; the next is far away
        venue.play(Checked(health=slow))
        callers = [http.client.HTTPConnection("127.0.0.1", rig.ports.probe, timeout=10) for _ in range(50)]
        for caller in callers[:25]:
            caller.request("GET", "/health")
        eventually(lambda: check_hits(venue) == 1 and site.hits == 1)
        for caller in callers[25:]:
            caller.request("GET", "/health")
        for caller in callers[:5]:
            caller.close()  # these go away
        venue.gate.set()
        answers = [json.loads(caller.getresponse().read()) for caller in callers[5:]]
        for caller in callers:
            caller.close()
        assert {each["status"] for each in answers} == {"healthy"}
        assert len({json.dumps(each) for each in answers}) == 1
        assert health(rig.daemon) == answers[0], "kept for a second"
        assert (check_hits(venue), site.hits) == (1, 1)
        eventually(lambda: health(rig.daemon) and (check_hits(venue), site.hits) == (2, 2), every=0.1)


def test_endpoints_and_breakers_of_services() -> None:
    config = """
services:
  venue:
    endpoints: ["$a", "$b"]
    required: true
    health: {path: /health, interval: 200ms, idle_interval: 200ms, timeout: 200ms}
  event: {url: "$c", breaker: {volume_threshold: 2, reset_timeout: 2s}, retry: {max_retries: 0}}
  nowhere: {url: "http://nowhere.invalid:1"}
"""
    names = ("a", "b", "c")
    with Rig(config, upstreams={name: Upstream(Checked()) for name in names}) as rig:
        daemon = rig.daemon
        report = becomes(daemon, "degraded", lambda report: report["services"]["venue"]["status"] == "healthy")
        assert report["services"]["nowhere"] == {
            "status": "unhealthy",
            "breaker": "closed",
            "endpoints": {"healthy": 0, "total": 0},
            "reason": "no_endpoint",
        }

        def venue(status: str, healthy: int) -> Callable[[Any], bool]:
            def seen(report: Any) -> bool:
                part = report["services"]["venue"]
                return part["status"] == status and part["endpoints"] == {"healthy": healthy, "total": 2}

            return seen

        rig["a"].play(Checked(health=answer(503)))
        report = becomes(daemon, "degraded", venue("degraded", 1))
        assert report["services"]["venue"]["reason"] == "endpoints"
        rig["b"].play(Checked(health=answer(503)))
        report = becomes(daemon, "unhealthy", venue("unhealthy", 0))
        assert report["services"]["venue"]["reason"] == "status"
        assert ready(daemon)
        for name in ("a", "b"):
            rig[name].play(Checked())
        becomes(daemon, "degraded", venue("healthy", 2))

        def event(breaker: str, status: str) -> Callable[[Any], bool]:
            def seen(report: Any) -> bool:
                part = report["services"]["event"]
                return (part["breaker"], part["status"]) == (breaker, status)

            return seen

        rig["c"].play(Checked(answer(500)))
        for _ in range(2):
            assert rig.ask("GET", "/event/").status == 500
        report = becomes(daemon, "degraded", event("open", "unhealthy"))
        assert report["services"]["event"]["reason"] == "circuit_open"
        becomes(daemon, "degraded", event("half_open", "degraded"))  # with no request
        rig["c"].play(Checked())
        assert rig.ask("GET", "/event/").status == 200
        becomes(daemon, "degraded", event("closed", "healthy"))


def test_head_and_the_admin_listener(start: Daemons) -> None:
    daemon = start("services: {}")
    assert health(daemon) == {"status": "healthy", "checks": {}, "services": {}}
    head = daemon.probe("/health", method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert daemon.probe("/health", method="POST").status == 405
    connection = http.client.HTTPConnection("127.0.0.1", daemon.ports.admin, timeout=5)
    connection.request("GET", "/health")
    assert json.loads(connection.getresponse().read())["status"] == "healthy"
    connection.close()
