"""Kubernetes watches: the sets that are pushed, and how feeds are shared and ended."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.config.schema import Url
from sidecar.discovery.discovered_endpoint import DiscoveredEndpoint
from sidecar.discovery.kubernetes.credentials import Credentials
from sidecar.discovery.kubernetes.watcher import Kubernetes
from sidecar.policy.settings import KubernetesSettings
from tests.support.kubernetes_api import (
    KubernetesApi,
    KubernetesApiThread,
    endpoint,
    endpoint_slice,
    line,
    refuse,
    until,
)

HTTP = {"name": "http", "port": 3002, "protocol": "TCP"}
METRICS = {"name": "metrics", "port": 9090, "protocol": "TCP"}


class Pushed:
    """Takes sets, as `address:port`."""

    def __init__(self) -> None:
        self.sets: list[list[str]] = []
        self.found: list[DiscoveredEndpoint] = []

    def __call__(self, found: list[DiscoveredEndpoint]) -> None:
        self.found = found
        self.sets.append([f"{one.address}:{one.url.port}" for one in found])

    @property
    def last(self) -> list[str]:
        return self.sets[-1] if self.sets else []


@pytest.fixture
async def server() -> AsyncIterator[KubernetesApi]:
    async with KubernetesApi() as server:
        server.put("a", "venue", ["10.0.0.1"])
        yield server


@pytest.fixture
async def source() -> AsyncIterator[Kubernetes]:
    async def no_wait(seconds: float) -> None:
        await asyncio.sleep(0)

    source = Kubernetes(random=lambda: 0.5, sleep=no_wait)
    yield source
    source.close()
    await source.closed()


def of(server: KubernetesApi, service: str = "venue", **more: Any) -> KubernetesSettings:
    return KubernetesSettings(service=service, server=server.url, **more)


async def test_a_set_is_pushed_as_endpoints(server: KubernetesApi, source: Kubernetes) -> None:
    pushed = Pushed()
    watch = source.watch(of(server), pushed)
    assert pushed.sets == []
    assert await source.ready(5)
    assert pushed.found == [
        DiscoveredEndpoint(url=Url("http", "venue.default.svc", 3002), address="10.0.0.1", weight=1, priority=0)
    ]
    assert pushed.found[0].url.authority == "venue.default.svc:3002"
    assert source.feeds == [watch.feed]


async def test_changes_update_the_set(server: KubernetesApi, source: Kubernetes) -> None:
    pushed = Pushed()
    source.watch(of(server), pushed)
    await until(lambda: server.watching)
    server.put("six", "venue", ["fd00::1"], family="IPv6")
    await until(lambda: pushed.last == ["10.0.0.1:3002", "fd00::1:3002"])
    server.put("a", "venue", [endpoint("10.0.0.1", False, True, True), endpoint("10.0.0.2")])
    await until(lambda: pushed.last == ["10.0.0.2:3002", "fd00::1:3002"])
    server.delete("six")
    server.delete("a")
    await until(lambda: pushed.last == [])
    assert pushed.sets[-1] == []


async def test_the_same_set_in_another_order_is_no_change(server: KubernetesApi, source: Kubernetes) -> None:
    pushed = Pushed()
    watch = source.watch(of(server), pushed)
    await until(lambda: server.watching)
    server.put("a", "venue", ["10.0.0.2", "10.0.0.1"])
    await until(lambda: watch.feed.events == 1)
    server.put("a", "venue", ["10.0.0.1", "10.0.0.2"])
    await until(lambda: watch.feed.events == 2)
    assert len(pushed.sets) == 2


async def test_a_service_without_endpoints_is_not_pushed_as_the_first(
    server: KubernetesApi, source: Kubernetes
) -> None:
    pushed = Pushed()
    source.watch(of(server, "event"), pushed)
    assert await source.ready(5)
    assert pushed.sets == []


async def test_services_that_name_the_same_service_share_a_watch(server: KubernetesApi, source: Kubernetes) -> None:
    server.put("a", "venue", ["10.0.0.1"], ports=[HTTP, METRICS])
    first, second, third = Pushed(), Pushed(), Pushed()
    one = source.watch(of(server, port="http"), first)
    two = source.watch(of(server, port=9090, namespace="default"), second)
    assert await source.ready(5)
    three = source.watch(of(server, port="http"), third)
    assert third.last == ["10.0.0.1:3002"]  # at once: it is known
    await until(lambda: server.watching)
    server.put("a", "venue", ["10.0.0.2"], ports=[HTTP, METRICS])
    await until(lambda: first.last == ["10.0.0.2:3002"])
    assert second.sets == [["10.0.0.1:9090"], ["10.0.0.2:9090"]]
    assert [asked.kind for asked in server.asked] == ["list", "watch"]
    assert one.feed is two.feed is three.feed


async def test_namespaces_and_services_have_watches_of_their_own(server: KubernetesApi, source: Kubernetes) -> None:
    server.put("b", "venue", ["10.0.0.2"], namespace="other")
    here, there = Pushed(), Pushed()
    source.watch(of(server), here)
    source.watch(of(server, namespace="other"), there)
    await until(lambda: server.watching == 2)
    assert (here.last, there.last) == (["10.0.0.1:3002"], ["10.0.0.2:3002"])
    assert there.found[0].url.host == "venue.other.svc"


async def test_a_closed_watch_gets_no_sets_and_the_last_one_ends_the_feed(
    server: KubernetesApi, source: Kubernetes
) -> None:
    first, second = Pushed(), Pushed()
    one, two = source.watch(of(server), first), source.watch(of(server), second)
    await until(lambda: server.watching)
    one.close()
    one.close()
    server.put("a", "venue", ["10.0.0.2"])
    await until(lambda: second.last == ["10.0.0.2:3002"])
    assert first.last == ["10.0.0.1:3002"]
    two.close()
    await until(lambda: not server.watching)
    assert source.feeds == []
    again = Pushed()
    source.watch(of(server), again)
    await until(lambda: again.last == ["10.0.0.2:3002"])


async def test_a_reload_that_watches_before_it_closes_lists_nothing_again(
    server: KubernetesApi, source: Kubernetes
) -> None:
    before, after = Pushed(), Pushed()
    old = source.watch(of(server), before)
    await until(lambda: server.watching)
    source.watch(of(server), after)
    old.close()
    assert after.last == ["10.0.0.1:3002"]
    assert server.count("list") == 1


async def test_a_push_may_close_watches_and_may_fail(
    server: KubernetesApi, source: Kubernetes, caplog: pytest.LogCaptureFixture
) -> None:
    last, quiet = Pushed(), Pushed()

    def faulty(found: list[DiscoveredEndpoint]) -> None:
        doomed.close()
        raise RuntimeError("not today")

    source.watch(of(server), faulty)
    doomed = source.watch(of(server), quiet)
    source.watch(of(server), last)
    await until(lambda: last.sets)
    assert quiet.sets == []
    assert "could not be applied" in caplog.text


async def test_a_port_that_becomes_ambiguous_keeps_the_last_set(
    server: KubernetesApi, source: Kubernetes, caplog: pytest.LogCaptureFixture
) -> None:
    pushed = Pushed()
    watch = source.watch(of(server), pushed)
    await until(lambda: server.watching)
    for number in (2, 3):
        server.put("a", "venue", [f"10.0.0.{number}"], ports=[HTTP, METRICS])
    await until(lambda: watch.feed.events == 2)
    assert pushed.sets == [["10.0.0.1:3002"]]
    assert "several ports" in watch.complaint
    assert caplog.text.count("several ports") == 1
    server.put("a", "venue", ["10.0.0.4"])
    await until(lambda: pushed.last == ["10.0.0.4:3002"])
    assert watch.complaint == ""


async def test_what_a_scrape_reads(server: KubernetesApi, source: Kubernetes) -> None:
    watch = source.watch(of(server), Pushed())
    assert (watch.kind, watch.name, watch.endpoints) == ("kubernetes", "default/venue", 0)
    assert (watch.last_success, watch.updates) == (None, {"success": 0, "failure": 0, "broken": 0})
    await until(lambda: server.watching)
    assert (watch.endpoints, watch.updates["success"]) == (1, 1)
    server.put("a", "venue", ["10.0.0.1", "10.0.0.2"])
    await until(lambda: watch.feed.events == 1)
    assert (watch.endpoints, watch.updates) == (2, {"success": 2, "failure": 0, "broken": 0})
    assert watch.last_success == watch.feed.last_success
    await server.stop()
    await until(lambda: watch.updates["failure"] >= 3)
    assert watch.updates["broken"] == 1
    assert watch.endpoints == 2


async def test_slices_that_cannot_be_used_confirm_nothing(server: KubernetesApi, source: Kubernetes) -> None:
    """The server is well and sends events, but the set is as old as the last slices that had the port."""
    named, other = Pushed(), Pushed()
    watch, never = source.watch(of(server, port="http"), named), source.watch(of(server, port="grpc"), other)
    await until(lambda: server.watching)
    assert never.last_success is None
    assert never.feed.last_success is not None
    for number in (1, 2):
        server.put("a", "venue", [f"10.0.0.{number}"], ports=[METRICS])
        await until(lambda number=number: watch.feed.events == number)
    stale = watch.last_success
    assert stale is not None
    assert stale <= watch.feed.last_success
    await asyncio.sleep(0.01)
    server.put("a", "venue", ["10.0.0.3"], ports=[METRICS])
    await until(lambda: watch.feed.events == 3)
    assert watch.feed.last_success > stale
    assert (watch.last_success, watch.endpoints, never.last_success, never.endpoints) == (stale, 1, None, 0)
    server.put("a", "venue", ["10.0.0.3"], ports=[HTTP])
    await until(lambda: named.last == ["10.0.0.3:3002"])
    await until(lambda: watch.last_success == watch.feed.last_success)
    assert watch.last_success > stale


async def test_the_last_good_set_stays_while_the_server_is_away(server: KubernetesApi, source: Kubernetes) -> None:
    pushed = Pushed()
    watch = source.watch(of(server), pushed)
    await until(lambda: server.watching)
    await server.stop()
    await until(lambda: watch.feed.failures >= 3)
    assert watch.feed.problem is not None
    assert watch.feed.problem.kind == "connect"
    assert pushed.sets == [["10.0.0.1:3002"]]


async def test_ready_is_bounded_and_a_failure_is_an_answer(server: KubernetesApi) -> None:
    source = Kubernetes(sleep=lambda seconds: asyncio.Event().wait())
    server.next_list = [refuse(500)]
    assert await source.ready(0)
    source.watch(of(server), Pushed())
    assert not await source.ready(0)
    assert await source.ready(5)
    source.close()
    await source.closed()


async def test_closing_ends_everything(server: KubernetesApi) -> None:
    source, pushed = Kubernetes(), Pushed()
    waiting = source.watch(of(server), pushed)
    await until(lambda: server.watching)
    gone = source.watch(of(server, namespace="other"), pushed)
    gone.close()
    source.close()
    await source.closed()
    await until(lambda: not server.watching)
    waiting.close()
    with pytest.raises(RuntimeError):
        source.watch(of(server), pushed)


async def test_closing_right_after_the_last_watch_leaves_no_connection(server: KubernetesApi) -> None:
    source = Kubernetes()
    watch = source.watch(of(server), Pushed())
    await until(lambda: server.watching)
    watch.close()
    source.close()
    await source.closed()
    gc.collect()  # an unclosed session would warn here, and warnings are errors
    await until(lambda: not server.watching)


async def test_the_pods_own_namespace_and_files(server: KubernetesApi, tmp_path: Path) -> None:
    (tmp_path / "namespace").write_text("shop")
    server.put("b", "venue", ["10.0.0.7"], namespace="shop")

    url = server.url

    def in_pod(settings: KubernetesSettings) -> Credentials:
        class Here(Credentials):
            @property
            def server(self) -> str:
                return url

            def token(self) -> str:
                return "pod"

        return Here(settings, account=tmp_path)

    source, pushed = Kubernetes(credentials=in_pod), Pushed()
    source.watch(KubernetesSettings(service="venue"), pushed)
    await until(lambda: pushed.last == ["10.0.0.7:3002"])
    assert server.last("list").token == "pod"
    source.close()
    await source.closed()


async def test_outside_of_a_pod_the_problem_is_logged_and_retried(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = Kubernetes(credentials=lambda settings: Credentials(settings, environ={}, account=tmp_path))
    watch = source.watch(KubernetesSettings(service="venue"), Pushed())
    assert await source.ready(5)
    assert watch.feed.problem is not None
    assert "KUBERNETES_SERVICE_HOST is not set" in caplog.text
    source.close()
    await source.closed()


def test_aiohttp_is_imported_as_it_is_used() -> None:
    code = "import sys; import sidecar.discovery.kubernetes.watcher; sys.exit('aiohttp' in sys.modules)"
    root = Path(__file__).resolve().parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, timeout=60).returncode == 0


async def test_an_update_of_one_of_a_hundred_services_is_cheap(server: KubernetesApi, source: Kubernetes) -> None:
    """1,000 endpoints in 100 services; the issue's bound is 5 ms of loop time an update."""
    sets = [Pushed() for _ in range(100)]
    for number, pushed in enumerate(sets):
        server.put(f"s{number}-x", f"s{number}", [f"10.1.{number}.{i}" for i in range(10)])
        source.watch(of(server, f"s{number}"), pushed)
    await until(lambda: server.watching == 100, timeout=30)
    feed = next(feed for feed in source.feeds if feed.service == "s7")
    untouched = [other.slices for other in source.feeds if other is not feed]
    spent = []
    for turn in range(50):
        made = endpoint_slice("s7-x", "s7", [f"10.2.{turn}.{i}" for i in range(10)])
        made["metadata"]["resourceVersion"] = str(5000 + turn)
        text = line("MODIFIED", made)
        began = time.thread_time()
        feed._take([text])
        spent.append(time.thread_time() - began)
    assert sorted(spent)[len(spent) // 2] < 0.005
    assert len(sets[7].sets) == 51
    assert untouched == [other.slices for other in source.feeds if other is not feed]
    assert [len(pushed.sets) for number, pushed in enumerate(sets) if number != 7] == [1] * 99


def test_against_a_server_in_another_thread() -> None:
    """As tests of the daemon as a process have it."""
    with KubernetesApiThread() as thread:
        thread.call(lambda api: api.put("a", "venue", ["10.0.0.1"]))
        pushed = Pushed()

        async def scenario() -> None:
            source = Kubernetes()
            source.watch(of(thread.api), pushed)
            await until(lambda: thread.api.watching)
            thread.call(lambda api: api.put("a", "venue", ["10.0.0.2"]))
            await until(lambda: pushed.last == ["10.0.0.2:3002"])
            source.close()
            await source.closed()

        asyncio.run(scenario())
