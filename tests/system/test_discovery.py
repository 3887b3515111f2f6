"""Endpoints that come and go: DNS answers and EndpointSlices that change, under a steady loop of requests.

The daemon asks the name servers of /etc/resolv.conf, and nothing in its configuration says otherwise; so for DNS it is
run in a mount namespace of its own, in which that file is a test's. Nobody else sees that file.
"""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from tests.support.dns_server import DnsServer, dns_server
from tests.support.eventually import eventually
from tests.support.kubernetes_api import KubernetesApiThread, refuse
from tests.support.rig import Rig
from tests.support.steps import answer, held, silence
from tests.support.traffic import Traffic
from tests.support.upstream import Upstream, side_by_side

HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
ONE, TWO, THREE = (host.encode() for host in HOSTS)


@contextmanager
def upstreams() -> Iterator[dict[str, Upstream]]:
    """On one port; each answers with its address."""
    found = side_by_side(*HOSTS)
    try:
        for host, one in found.items():
            one.play(answer(body=host.encode()))
        yield found
    finally:
        for one in found.values():
            one.stop()


def traffic(rig: Rig) -> Traffic:
    return Traffic(rig.client, lambda client: client.ask("GET", "/venue/"))


def posts(rig: Rig) -> Traffic:
    """Never sent twice, so nothing makes good what a change breaks."""
    return Traffic(rig.client, lambda client: client.ask("POST", "/venue/", body=b"x"))


def moved_to(steady: Traffic, *expected: bytes, timeout: float = 5.0) -> None:
    """Waits until only these get requests, and all of them."""
    eventually(lambda: set(steady.bodies[-20:]) == set(expected), timeout=timeout)


# Kubernetes.


@contextmanager
def in_kubernetes(api: KubernetesApiThread, here: dict[str, Upstream]) -> Iterator[Rig]:
    config = (
        'defaults: {breaker: {mode: "off"}}\n'
        "services: {venue: {discovery: {kubernetes:"
        f" {{service: venue, namespace: shop, port: http, server: '{api.api.url}'}}}}}}}}"
    )
    with Rig(config, upstreams=dict(here)) as rig:
        yield rig


def put(api: KubernetesApiThread, here: dict[str, Upstream], *hosts: str, name: str = "venue-1") -> None:
    port = next(iter(here.values())).port
    ports = [{"name": "http", "port": port, "protocol": "TCP"}, {"name": "metrics", "port": 9, "protocol": "TCP"}]
    api.call(lambda there: there.put(name, "venue", hosts, namespace="shop", ports=ports))


def test_endpoints_of_a_kubernetes_service_are_found_before_the_daemon_is_ready() -> None:
    with upstreams() as here, KubernetesApiThread() as api:
        put(api, here, HOSTS[0])
        put(api, here, HOSTS[1], name="venue-2")
        with in_kubernetes(api, here) as rig:
            with rig.client() as client:
                found = Counter(client.ask("GET", "/venue/").body for _ in range(20))
            assert found == {ONE: 10, TWO: 10}
            assert {one.headers.get("Authorization") for one in api.api.asked} == {None}


def test_slice_that_changes_moves_the_traffic_with_no_failed_request() -> None:
    with upstreams() as here, KubernetesApiThread() as api:
        put(api, here, HOSTS[0])
        with in_kubernetes(api, here) as rig, traffic(rig) as steady, posts(rig) as never_twice:
            assert steady.more(20) == {ONE: 20}
            put(api, here, *HOSTS)
            moved_to(steady, ONE, TWO, THREE)
            put(api, here, *HOSTS[1:])
            moved_to(steady, TWO, THREE)
            moved_to(never_twice, TWO, THREE)
            gone = here[HOSTS[0]]
            assert gone.malformed == []
            eventually(lambda: gone.open_connections == 0)
            hits = gone.hits
            put(api, here, HOSTS[1])
            put(api, here, HOSTS[2], name="venue-2")
            steady.more(20)
            moved_to(steady, TWO, THREE)
            api.call(lambda there: there.delete("venue-1", "shop"))
            moved_to(steady, THREE)
            assert gone.hits == hits
        assert steady.statuses == {200: steady.count}
        assert never_twice.statuses == {200: never_twice.count}


def test_request_in_flight_at_an_endpoint_that_leaves_ends_well() -> None:
    with upstreams() as here, KubernetesApiThread() as api:
        put(api, here, HOSTS[0])
        with in_kubernetes(api, here) as rig, rig.client() as slow:
            leaving = here[HOSTS[0]].play(held(answer(body=b"slow")))
            request = Traffic(lambda: slow, lambda client: client.ask("POST", "/venue/", body=b"x"), every=60)
            with request:
                eventually(lambda: leaving.hits == 1)
                put(api, here, HOSTS[1])
                eventually(lambda: rig.ask("GET", "/venue/", timeout=1).body == TWO)
                leaving.gate.set()
                eventually(lambda: request.count == 1)
            assert request.bodies == [b"slow"]
            assert leaving.hits == 1
            eventually(lambda: leaving.open_connections == 0)


def test_without_an_api_server_the_last_good_set_stays() -> None:
    with upstreams() as here, KubernetesApiThread() as api:
        put(api, here, *HOSTS[:2])
        with in_kubernetes(api, here) as rig, traffic(rig) as steady:
            moved_to(steady, ONE, TWO)
            api.call(lambda there: there.next_list.extend([refuse(500)] * 50))
            api.call(lambda there: there.next_watch.extend([refuse(500)] * 50))
            asked = len(api.api.asked)
            api.call(lambda there: there.break_watches())
            eventually(lambda: len(api.api.asked) > asked)
            assert steady.more(20) == {ONE: 10, TWO: 10}
            api.stop()
            assert steady.more(60) == {ONE: 30, TWO: 30}
        assert steady.statuses == {200: steady.count}


def test_service_without_endpoints_yet_is_found_later() -> None:
    with upstreams() as here, KubernetesApiThread() as api, in_kubernetes(api, here) as rig:
        answered = rig.ask("GET", "/venue/")
        assert (answered.status, answered.reason) == (503, "no_endpoint")
        put(api, here, HOSTS[0])
        eventually(lambda: rig.ask("GET", "/venue/").body == ONE)


def test_daemon_ends_in_order_with_a_watch_open_and_checks_under_way() -> None:
    with upstreams() as here, KubernetesApiThread() as api:
        here[HOSTS[0]].play(silence)
        put(api, here, HOSTS[0])
        config = (
            "drain: {delay: 0s}\n"
            "services: {venue: {health: {path: /health, interval: 10s, timeout: 9s}, discovery: {kubernetes:"
            f" {{service: venue, namespace: shop, port: http, server: '{api.api.url}'}}}}}}}}"
        )
        with Rig(config) as rig:
            eventually(lambda: here[HOSTS[0]].hits == 1 and api.api.watching == 1)
            began = time.monotonic()
            assert rig.daemon.terminate() == 0
            assert time.monotonic() - began < 2
            assert rig.daemon.stderr == ""
            eventually(lambda: api.api.watching == 0)


# DNS.


@cache
def world_of_its_own() -> tuple[str, ...] | None:
    """The command that gives the daemon a mount namespace; None where this machine allows no such thing."""
    for unshare in (("unshare", "-m"), ("unshare", "-rm")):
        command = (*unshare, "mount", "--bind", "/etc/hosts", "/etc/resolv.conf")
        try:
            if subprocess.run(command, check=False, capture_output=True).returncode == 0:
                return unshare
        except OSError:
            return None
    return None


@contextmanager
def behind_dns(server: DnsServer, here: dict[str, Upstream], folder: Path, more: str = "port: {port}") -> Iterator[Rig]:
    unshare = world_of_its_own()
    if unshare is None:
        pytest.skip("no mount namespace to be had here (unshare -m), and resolv.conf is the only way to a name server")
    resolv_conf = folder / "resolv.conf"
    resolv_conf.write_text(f"nameserver {server.address}\n")
    script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
    port = next(iter(here.values())).port
    config = (
        'defaults: {breaker: {mode: "off"}}\n'
        "services: {venue: {discovery: {dns:"
        f" {{name: venue.test., {more.format(port=port)}, refresh: 1s}}}}}}}}"
    )
    with Rig(config, upstreams=dict(here), within=(*unshare, "sh", "-c", script, str(resolv_conf))) as rig:
        yield rig


def test_dns_answer_that_changes_moves_the_traffic_with_no_failed_request(tmp_path: Path) -> None:
    with upstreams() as here, dns_server() as server:
        server.say("venue.test", "A", *HOSTS[:2], ttl=1)
        with behind_dns(server, here, tmp_path) as rig, traffic(rig) as steady, posts(rig) as never_twice:
            moved_to(steady, ONE, TWO)
            moved_to(never_twice, ONE, TWO)
            server.say("venue.test", "A", *HOSTS[1:], ttl=1)
            moved_to(steady, TWO, THREE, timeout=1.5)
            moved_to(never_twice, TWO, THREE)
            gone = here[HOSTS[0]]
            eventually(lambda: gone.open_connections == 0)
            hits = gone.hits
            asked = server.times("venue.test", "A")
            server.say("venue.test", "A", rcode="SERVFAIL")
            eventually(lambda: server.times("venue.test", "A") >= asked + 2)
            moved_to(steady, TWO, THREE)
            assert gone.hits == hits
        assert steady.statuses == {200: steady.count}
        assert never_twice.statuses == {200: never_twice.count}


def test_srv_records_say_ports_and_weights(tmp_path: Path) -> None:
    with upstreams() as here, dns_server() as server:
        port = here[HOSTS[0]].port
        server.say("venue.test", "SRV", f"0 3 {port} a.test.", f"0 1 {port} b.test.", f"1 1 {port} c.test.", ttl=60)
        for name, host in zip(("a.test", "b.test", "c.test"), HOSTS, strict=True):
            server.say(name, "A", host, ttl=60)
        with behind_dns(server, here, tmp_path, "srv: true") as rig:
            with rig.client() as client:
                found = Counter(client.ask("GET", "/venue/").body for _ in range(40))
            assert found == {ONE: 30, TWO: 10}


def test_refused_connection_has_the_name_looked_up_again(tmp_path: Path) -> None:
    """An endpoint that moved long before its TTL ends."""
    with upstreams() as here, dns_server() as server:
        server.say("venue.test", "A", HOSTS[0], ttl=600)
        with behind_dns(server, here, tmp_path) as rig:
            assert rig.ask("GET", "/venue/").body == ONE
            server.say("venue.test", "A", HOSTS[1], ttl=600)
            here[HOSTS[0]].stop()
            eventually(lambda: rig.ask("GET", "/venue/").body == TWO)
