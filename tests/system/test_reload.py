"""Another configuration takes over in the running daemon, however its file is changed, and nobody notices but for that.

docs/reload.md says it for operators, docs/reliability.md has the figures of the storm.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks.endpoints import EndpointProcess
from benchmarks.ports import free_ports
from benchmarks.reload import EVERY_S, RATE, Reloaded, put, rss_mib, services, storm
from tests.support.client import Client, ask
from tests.support.daemon import Daemon
from tests.support.eventually import eventually
from tests.support.rig import Daemons
from tests.support.steps import answer, held
from tests.support.traffic import Traffic
from tests.support.upstream import Upstream

SEEN_WITHIN_S = 3.0
"""From a change of the file until it is in force: the notice, a moment in which it does not change, the reading."""


@pytest.fixture
def upstreams() -> Iterator[Callable[[], Upstream]]:
    """As many as a test asks for, each answering with its number."""
    with ExitStack() as stack:
        made: list[Upstream] = []

        def make() -> Upstream:
            made.append(stack.enter_context(Upstream(answer(body=b"%d" % len(made)))))
            return made[-1]

        yield make


def venue(upstream: Upstream, more: str = "") -> str:
    return f"services:\n  venue: {{url: {upstream.url}{more}}}\n"


def text(daemon: Daemon, config: str) -> str:
    return daemon.ports.yaml + config


def write(daemon: Daemon, config: str) -> None:
    """Another file in the place of the old one."""
    put(daemon.path, text(daemon, config))


def reloads(daemon: Daemon, result: str) -> int:
    return int(daemon.metric("sidecar_config_reloads_total", result=result))


def reload(daemon: Daemon, config: str, result: str = "ok") -> None:
    """By SIGHUP; returns when what came of it is known, and nothing else is about to come."""
    before = reloads(daemon, result)
    write(daemon, config)
    daemon.signal(signal.SIGHUP)
    eventually(lambda: reloads(daemon, result) > before)


def body(daemon: Daemon, target: str = "/venue/") -> bytes:
    return ask(daemon.proxy_port, "GET", target).body


def said(daemon: Daemon, words: str, times: int = 0) -> list[dict[str, object]]:
    """Its lines with these words, once there are so many: they are written after what they tell of can be seen."""

    def check() -> list[dict[str, object]]:
        lines = [line for line in daemon.log_lines() if words in str(line)]
        assert len(lines) >= times, (words, lines)
        return lines

    return eventually(check)


# However it is changed.


STILL_S = 0.1
"""For how long the content has to be the same until it is taken."""


def in_place(path: Path, config: str) -> None:
    path.write_text(config)


def in_pieces(path: Path, config: str) -> None:
    """What stands there meanwhile may be read, but is not taken."""
    with path.open("w") as stream:
        for line in config.splitlines(keepends=True):
            stream.write(line)
            stream.flush()
            time.sleep(0.01)


def removed_and_made_anew(path: Path, config: str) -> None:
    path.unlink()
    path.write_text(config)


@pytest.mark.parametrize("change", [in_place, in_pieces, put, removed_and_made_anew])
def test_a_changed_file_is_noticed(
    start: Daemons, upstreams: Callable[[], Upstream], change: Callable[[Path, str], None]
) -> None:
    one, two = upstreams(), upstreams()
    for _ in range(10):
        daemon = start(venue(one))
        assert body(daemon) == b"0"
        began = time.monotonic()
        change(daemon.path, text(daemon, venue(two, ", timeout: {attempt: 4s}")))
        if time.monotonic() - began < STILL_S:
            break  # else the machine had no time for this process, and a half that stood still is rightly taken
    eventually(lambda: body(daemon) == b"1", timeout=SEEN_WITHIN_S)
    assert reloads(daemon, "ok") == 1
    assert reloads(daemon, "rejected") == 0
    assert daemon.metric("sidecar_config_generation") == 2
    (line,) = said(daemon, "configuration reloaded", 1)
    assert line["trigger"] == "file"
    assert line["changed"] == ["services.venue.timeout.attempt", "services.venue.endpoints"]


def config_map(folder: Path, version: int, config: str) -> None:
    """What kubelet does: a new folder, a new link to it, renamed over the old one, and the old folder goes."""
    (folder / f"..v{version}").mkdir()
    (folder / f"..v{version}" / "sidecar.yaml").write_text(config)
    (folder / "..data_tmp").symlink_to(f"..v{version}")
    (folder / "..data_tmp").replace(folder / "..data")
    if version:
        (folder / f"..v{version - 1}" / "sidecar.yaml").unlink()
        (folder / f"..v{version - 1}").rmdir()


def test_a_config_map_that_is_swapped_is_noticed_again_and_again(
    start: Daemons, upstreams: Callable[[], Upstream]
) -> None:
    ends = [upstreams() for _ in range(4)]

    def mounted(path: Path, config: str) -> None:
        config_map(path.parent, 0, config)
        path.symlink_to("..data/sidecar.yaml")

    daemon = start(venue(ends[0]), write=mounted)
    assert body(daemon) == b"0"
    for version in (1, 2, 3):
        config_map(daemon.path.parent, version, text(daemon, venue(ends[version])))
        eventually(lambda version=version: body(daemon) == b"%d" % version, timeout=SEEN_WITHIN_S)
    assert reloads(daemon, "ok") == 3


def test_a_file_behind_a_link_in_another_folder_is_watched(
    start: Daemons, upstreams: Callable[[], Upstream], tmp_path: Path
) -> None:
    one, two, three = upstreams(), upstreams(), upstreams()

    def linked(path: Path, config: str) -> None:
        (tmp_path / "real.yaml").write_text(config)
        path.symlink_to(tmp_path / "real.yaml")

    daemon = start(venue(one), write=linked)
    put(tmp_path / "real.yaml", text(daemon, venue(two)))
    eventually(lambda: body(daemon) == b"1", timeout=SEEN_WITHIN_S)
    (tmp_path / "other.yaml").write_text(text(daemon, venue(three)))
    fresh = daemon.path.with_name("fresh")
    fresh.symlink_to(tmp_path / "other.yaml")
    fresh.replace(daemon.path)
    eventually(lambda: body(daemon) == b"2", timeout=SEEN_WITHIN_S)


def test_a_signal_reloads_at_once(start: Daemons, upstreams: Callable[[], Upstream]) -> None:
    one, two = upstreams(), upstreams()
    daemon = start(venue(one))
    write(daemon, venue(two))
    eventually(lambda: body(daemon) == b"1", timeout=SEEN_WITHIN_S)  # it watches now: as it begins to, it looks at once
    daemon.signal(signal.SIGSTOP)  # else it may see the file before this process comes to send the signal
    write(daemon, venue(one))
    daemon.signal(signal.SIGHUP)
    daemon.signal(signal.SIGCONT)
    eventually(lambda: body(daemon) == b"0")
    assert [line["trigger"] for line in said(daemon, "configuration reloaded", 2)] == ["file", "signal"]


def test_a_file_that_was_only_touched_changes_nothing(start: Daemons, upstreams: Callable[[], Upstream]) -> None:
    daemon = start(venue(upstreams()))
    os.utime(daemon.path)
    daemon.signal(signal.SIGHUP)
    eventually(lambda: reloads(daemon, "unchanged") == 1)
    assert daemon.metric("sidecar_config_generation") == 1


def test_many_writes_in_a_row_are_few_reloads(start: Daemons, upstreams: Callable[[], Upstream]) -> None:
    one = upstreams()
    daemon = start(venue(one))
    for number in range(1, 51):
        put(daemon.path, text(daemon, venue(one, f", timeout: {{idle: {number}s}}")))
        time.sleep(0.01)
    eventually(lambda: reloads(daemon, "ok") >= 1, timeout=SEEN_WITHIN_S)
    assert eventually(lambda: reloads(daemon, "ok") + reloads(daemon, "unchanged") <= 3)


# What is wrong with it.


def test_a_bad_file_changes_nothing_and_says_what_is_wrong_and_a_good_one_is_taken_after_it(
    start: Daemons, upstreams: Callable[[], Upstream]
) -> None:
    one, two = upstreams(), upstreams()
    daemon = start(venue(one))
    write(daemon, venue(two, ", timeout: {attemt: 1s}, breaker: {mode: sometimes}"))
    eventually(lambda: reloads(daemon, "rejected") == 1, timeout=SEEN_WITHIN_S)
    assert body(daemon) == b"0"
    assert daemon.metric("sidecar_config_generation") == 1
    (line,) = said(daemon, "configuration rejected", 1)
    errors = line["errors"]
    assert isinstance(errors, list)
    assert len(errors) == 2
    assert "services.venue.timeout.attemt" in errors[0]
    assert "did you mean attempt" in errors[0]
    assert f"{daemon.path}:3" in errors[0]
    write(daemon, venue(two))
    eventually(lambda: body(daemon) == b"1", timeout=SEEN_WITHIN_S)
    assert (reloads(daemon, "ok"), reloads(daemon, "rejected")) == (1, 1)


def test_a_file_that_vanishes_is_reported_and_one_that_comes_again_is_taken(
    start: Daemons, upstreams: Callable[[], Upstream]
) -> None:
    one, two = upstreams(), upstreams()
    daemon = start(venue(one))
    daemon.path.unlink()
    eventually(lambda: reloads(daemon, "rejected") == 1, timeout=SEEN_WITHIN_S)
    assert "cannot be read" in str(said(daemon, "configuration rejected", 1))
    assert body(daemon) == b"0"
    write(daemon, venue(two))
    eventually(lambda: body(daemon) == b"1", timeout=SEEN_WITHIN_S)


def test_where_it_listens_stays_and_says_that_it_needs_a_restart_and_the_rest_is_taken(
    start: Daemons, upstreams: Callable[[], Upstream]
) -> None:
    one, two = upstreams(), upstreams()
    daemon = start(venue(one))
    elsewhere = daemon.ports.yaml.replace(f"127.0.0.1:{daemon.ports.proxy}", "127.0.0.1:1")
    for number, upstream in enumerate((two, one), 1):  # said each time, for as long as it is so
        put(daemon.path, elsewhere + venue(upstream))
        daemon.signal(signal.SIGHUP)
        eventually(lambda number=number: reloads(daemon, "ok") == number)
        said(daemon, "needs a restart", number)
    assert body(daemon) == b"0"
    detail = f"listen.proxy stays 127.0.0.1:{daemon.ports.proxy}; 127.0.0.1:1 needs a restart"
    assert said(daemon, "needs a restart")[-1]["detail"] == detail
    warned = len(said(daemon, "needs a restart"))
    reload(daemon, venue(two))
    assert len(said(daemon, "needs a restart")) == warned, "it is as it was again"


# What stays.


def test_an_open_breaker_stays_open(start: Daemons, upstreams: Callable[[], Upstream]) -> None:
    upstream = upstreams().play(answer(500))
    breaker = ", retry: {max_retries: 0}, breaker: {volume_threshold: 2}"
    daemon = start(venue(upstream, breaker))
    for _ in range(2):
        assert ask(daemon.proxy_port, "GET", "/venue/").status == 500
    assert ask(daemon.proxy_port, "GET", "/venue/").reason == "circuit_open"
    reload(daemon, venue(upstream, breaker + ", timeout: {idle: 5s}"))
    assert ask(daemon.proxy_port, "GET", "/venue/").reason == "circuit_open"
    reload(daemon, venue(upstream, ", retry: {max_retries: 0}, breaker: {volume_threshold: 3, reset_timeout: 10ms}"))
    upstream.play(answer(200))
    assert ask(daemon.proxy_port, "GET", "/venue/").status == 200
    assert daemon.metric("sidecar_breaker_events_total", service="venue", event="open") == 1


def test_idle_connections_are_used_on(start: Daemons, upstreams: Callable[[], Upstream]) -> None:
    upstream = upstreams()
    pooled = ", timeout: {pool_idle: 30s"
    daemon = start(venue(upstream, pooled + "}"))
    with Client(daemon.proxy_port) as client:
        for number in range(1, 6):
            client.assert_open("/venue/")
            reload(daemon, venue(upstream, f"{pooled}, attempt: {number}s}}, hosts: [venue{number}], balancer: random"))
        client.assert_open("/venue/")
    assert upstream.hits == 6
    assert {request.connection for request in upstream.requests} == {upstream.requests[0].connection}


def test_a_request_under_way_ends_with_the_policy_it_began_with_also_where_its_service_goes(
    start: Daemons, upstreams: Callable[[], Upstream]
) -> None:
    slow, other = upstreams().play(held(answer(body=b"slow"))), upstreams()
    daemon = start(venue(slow))
    with Client(daemon.proxy_port) as client:
        client.send(b"GET /venue/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
        eventually(lambda: slow.hits == 1)
        reload(daemon, venue(slow, ", timeout: {attempt: 1ms, request: 1ms}"))
        reload(daemon, f"services:\n  other: {{url: {other.url}}}\n")
        assert ask(daemon.proxy_port, "GET", "/venue/").reason == "unknown_service"
        slow.gate.set()
        assert client.read_response().body == b"slow"
        eventually(lambda: slow.open_connections == 0)
        assert client.ask("GET", "/other/").body == b"1"
    assert daemon.terminate() == 0


def test_traffic_moves_with_the_url_and_no_request_fails(start: Daemons, upstreams: Callable[[], Upstream]) -> None:
    one, two = upstreams(), upstreams()
    daemon = start(venue(one))
    with Traffic(lambda: Client(daemon.proxy_port), lambda client: client.ask("POST", "/venue/", body=b"x")) as traffic:
        for to in (two, one, two, one, two):
            reload(daemon, venue(to))
            traffic.until_seen(b"1" if to is two else b"0")
    assert set(traffic.statuses) == {200}


def test_a_new_service_with_a_name_has_its_addresses_with_its_first_request(
    start: Daemons, upstreams: Callable[[], Upstream]
) -> None:
    one = upstreams()
    daemon = start(venue(one))
    added = f"{venue(one)}  fresh: {{url: 'http://localhost:{one.port}'}}\n"
    statuses: Counter[str | None] = Counter()
    write(daemon, added)
    daemon.signal(signal.SIGHUP)

    def served() -> bool:
        response = ask(daemon.proxy_port, "GET", "/fresh/")
        statuses[response.reason] += 1
        return response.status == 200

    eventually(served, every=0.001)
    assert "no_endpoint" not in statuses


def test_a_url_that_nobody_knows_leaves_the_endpoints_and_is_told_everywhere(
    start: Daemons, upstreams: Callable[[], Upstream]
) -> None:
    one, two = upstreams(), upstreams()
    daemon = start(venue(one))
    reload(daemon, "services:\n  venue: {url: 'http://nobody.invalid:80'}\n")
    assert body(daemon) == b"0"

    def health() -> tuple[str, str | None]:
        part = json.loads(daemon.probe("/health").body)["services"]["venue"]
        return part["status"], part.get("reason")

    eventually(lambda: health() == ("degraded", "discovery"))
    (warned,) = said(daemon, "a service keeps its old endpoints", 1)
    assert (warned["level"], warned["service"], warned["name"]) == ("warning", "venue", "nobody.invalid")
    (failed,) = said(daemon, "lookup of nobody.invalid failed", 1)
    assert str(failed["event"]).endswith("no address is known yet")
    reload(daemon, venue(two))
    assert body(daemon) == b"1"
    eventually(lambda: health() == ("healthy", None))


def test_counts_of_checks_and_of_lookups_go_on_under_other_settings(
    start: Daemons, upstreams: Callable[[], Upstream]
) -> None:
    one = upstreams()

    def config(interval: str, refresh: str) -> str:
        found = f"  found: {{discovery: {{dns: {{name: localhost, port: {one.port}, refresh: {refresh}}}}}}}\n"
        return venue(one, f", health: {{path: /, interval: {interval}, idle_interval: {interval}}}") + found

    def counts() -> tuple[float, float]:
        metrics = daemon.metrics()
        names = ("sidecar_health_checks_total", "sidecar_discovery_updates_total")
        checks, updates = [sum(value for key, value in metrics.items() if key[0] == name) for name in names]
        return checks, updates

    daemon = start(config("100ms", "1s"))
    before = eventually(lambda: min(found := counts()) > 1 and found)
    reload(daemon, config("1h", "1h"))
    assert min(after - then for after, then in zip(counts(), before, strict=True)) >= 0


# Ends.


def test_a_signal_while_it_drains_harms_nothing(start: Daemons, upstreams: Callable[[], Upstream]) -> None:
    one, two = upstreams(), upstreams()
    daemon = start("drain: {delay: 3s, timeout: 1s}\n" + venue(one))
    daemon.signal(signal.SIGTERM)
    said(daemon, "draining", 1)
    write(daemon, "drain: {delay: 3s, timeout: 1s}\n" + venue(two))
    daemon.signal(signal.SIGHUP)
    eventually(lambda: body(daemon) == b"1", timeout=2.9)
    for _ in range(20):
        daemon.signal(signal.SIGHUP)
    assert daemon.wait(10) == 0
    assert not [line for line in daemon.log_lines() if line["level"] == "error"], daemon.log


def test_it_ends_in_time_while_it_watches(start: Daemons, upstreams: Callable[[], Upstream]) -> None:
    daemon = start("drain: {delay: 0s, timeout: 1s}\n" + venue(upstreams()))
    reload(daemon, "drain: {delay: 0s, timeout: 1s}\n" + venue(upstreams()))
    began = time.monotonic()
    assert daemon.terminate(5) == 0
    assert time.monotonic() - began < 2.0


# Under load, and often.

RELOADS = 100
SOME_RELOADS = 300
BORNE_S = 1.0
"""Where each answer comes so soon after its request was due, the machine bears the load."""
GROWTH_MIB = 4.0


@pytest.fixture
def storming(start: Daemons, tmp_path: Path) -> Iterator[tuple[Reloaded, Daemon]]:
    """Before two upstreams that are processes of their own."""
    with ExitStack() as stack:
        urls = [
            stack.enter_context(EndpointProcess(f"e{number}", port, tmp_path / "requests.log")).url
            for number, port in enumerate(free_ports(2))
        ]
        daemon = start("log: {access: errors}\n" + services(urls, 0))
        head = text(daemon, "log: {access: errors}\n")
        yield Reloaded(daemon.path, head, urls, daemon.pid, daemon.probe_port), daemon


def test_a_hundred_reloads_under_a_thousand_requests_a_second_lose_none(storming: tuple[Reloaded, Daemon]) -> None:
    """A machine that is busy with other things may not bear so many, whether or not there are reloads: then fewer."""
    sidecar, daemon = storming
    for rate in (RATE, RATE / 2, RATE / 4):
        before = sidecar.generation()
        sent = storm(daemon.proxy_port, sidecar.reload, RELOADS, rate)
        lost = [one for one in sent if not one.ok]
        if max(one.ended - one.planned for one in sent) < BORNE_S:
            break
    assert not lost, (rate, len(lost), lost[:3])
    assert sidecar.generation() == before + RELOADS
    assert len(sent) > 0.6 * RELOADS * EVERY_S * rate, "there was load"
    assert {one.endpoint for one in sent} == {"e0", "e1"}
    assert reloads(daemon, "rejected") == 0


def test_memory_does_not_grow_with_reloads(storming: tuple[Reloaded, Daemon]) -> None:
    sidecar, daemon = storming
    for _ in range(SOME_RELOADS // 3):
        sidecar.reload()
    settled_mib = rss_mib(daemon.pid)
    for _ in range(SOME_RELOADS):
        sidecar.reload()
    assert rss_mib(daemon.pid) - settled_mib < GROWTH_MIB
