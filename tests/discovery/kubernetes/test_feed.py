"""A Kubernetes feed through everything that an API server does: its requests, and the slices that stay known."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.discovery.kubernetes import feed as feed_module
from sidecar.discovery.kubernetes.api import Api, Times
from sidecar.discovery.kubernetes.credentials import Credentials
from sidecar.discovery.kubernetes.feed import LONGEST_RETRY_AFTER_S, LONGEST_RETRY_S, Feed
from sidecar.policy.settings import KubernetesSettings
from tests.support.kubernetes_api import (
    KubernetesApi,
    answer,
    drop,
    endpoint_slice,
    line,
    refuse,
    status_body,
    stream,
    until,
)


class Waits:
    """Replaces sleeping: the first `free` waits take no time, later ones do not end. Records all of them."""

    def __init__(self, free: int = 1000) -> None:
        self.free = free
        self.asked: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        if len(self.asked) > self.free:
            await asyncio.Event().wait()
        await asyncio.sleep(0)


class Running:
    """A feed of `venue` that runs; `told` has the addresses known each time that it told of a change."""

    def __init__(self, server: KubernetesApi, free: int = 1000, token_file: str | None = None) -> None:
        settings = KubernetesSettings(service="venue", server=server.url, token_file=token_file)
        self.api = Api(Credentials(settings))
        self.waits = Waits(free)
        self.told: list[list[str]] = []
        self.feed = Feed(
            self.api,
            "default",
            "venue",
            self._changed,
            times=Times(),
            random=lambda: 0.5,
            sleep=self.waits,
        )
        self.task = asyncio.ensure_future(self.feed.run())  # noqa: TID251

    def _changed(self) -> None:
        self.told.append(self.known)

    @property
    def known(self) -> list[str]:
        return sorted(address for one in self.feed.slices.values() for address in one.ready)

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])
        assert self.task.cancelled(), self.task.exception()
        await self.api.close()


@pytest.fixture
async def server() -> AsyncIterator[KubernetesApi]:
    async with KubernetesApi() as server:
        server.put("a", "venue", ["10.0.0.1"])
        yield server


class Start:
    def __init__(self) -> None:
        self.running: list[Running] = []

    def __call__(self, server: KubernetesApi, free: int = 1000, token_file: str | None = None) -> Running:
        self.running.append(Running(server, free, token_file))
        return self.running[-1]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    starting = Start()
    yield starting
    for one in starting.running:
        await one.stop()


def versions(server: KubernetesApi, kind: str) -> list[str]:
    return [one.query.get("resourceVersion", "") for one in server.asked if one.kind == kind]


def kinds(server: KubernetesApi) -> list[str]:
    return [one.kind for one in server.asked]


async def test_it_lists_once_and_then_follows(server: KubernetesApi, start: Start) -> None:
    run = start(server)
    await until(lambda: server.watching)
    server.put("b", "venue", ["10.0.0.2"])
    await until(lambda: run.known == ["10.0.0.1", "10.0.0.2"])
    server.put("a", "venue", ["10.0.0.3"])
    await until(lambda: run.known == ["10.0.0.2", "10.0.0.3"])
    server.delete("b")
    await until(lambda: run.known == ["10.0.0.3"])
    assert kinds(server) == ["list", "watch"]
    assert (run.feed.lists, run.feed.watches, run.feed.events, run.feed.failures, run.feed.breaks) == (1, 1, 3, 0, 0)
    assert run.waits.asked == []
    assert run.feed.last_success is not None
    assert run.feed.problem is None


async def test_an_irrelevant_change_is_not_reported(server: KubernetesApi, start: Start) -> None:
    run = start(server)
    await until(lambda: server.watching)
    server.put("a", "venue", ["10.0.0.1"])
    server.put("b", "venue", ["10.0.0.2"])
    await until(lambda: run.feed.events == 2)
    assert run.told == [["10.0.0.1"], ["10.0.0.1", "10.0.0.2"]]


async def test_events_that_arrive_together_are_reported_once(server: KubernetesApi, start: Start) -> None:
    run = start(server)
    await until(lambda: server.watching)
    moved = [endpoint_slice("a", "venue", []), endpoint_slice("b", "venue", ["10.0.0.1"])]
    for number, one in enumerate(moved):
        one["metadata"]["resourceVersion"] = f"200{number}"
    server.send_raw(b"".join(line("MODIFIED", one) for one in moved))
    await until(lambda: run.feed.events == 2)
    assert run.told == [["10.0.0.1"], ["10.0.0.1"]]
    assert list(run.feed.slices) == ["a", "b"]


@pytest.mark.parametrize("how", ["end", "cut"])
async def test_a_watch_that_is_over_is_resumed_where_it_was(server: KubernetesApi, start: Start, how: str) -> None:
    run = start(server)
    await until(lambda: server.watching)
    server.put("b", "venue", ["10.0.0.2"])
    await until(lambda: run.feed.events == 1)
    seen = server.version
    if how == "cut":
        server.send_raw(line("DELETED", endpoint_slice("a", "venue"))[:50])
    server.break_watches(how)
    await until(lambda: server.count("watch") == 2 and server.watching)
    server.put("c", "venue", ["10.0.0.3"])
    await until(lambda: run.known == ["10.0.0.1", "10.0.0.2", "10.0.0.3"])
    assert kinds(server) == ["list", "watch", "watch"]
    assert versions(server, "watch")[-1] == seen
    assert run.waits.asked == [0.375]
    assert (run.feed.breaks, run.feed.failures) == (how == "cut", 0)


async def test_what_happened_between_two_watches_is_not_missed(server: KubernetesApi, start: Start) -> None:
    run = start(server)
    await until(lambda: server.watching)
    server.bookmark()
    server.break_watches("end")
    server.put("b", "venue", ["10.0.0.2"])
    server.delete("a")
    await until(lambda: run.known == ["10.0.0.2"])
    assert server.count("list") == 1


async def test_a_bookmark_moves_on_where_to_resume(server: KubernetesApi, start: Start) -> None:
    run = start(server)
    await until(lambda: server.watching)
    server.move_on()
    server.bookmark()
    await until(lambda: run.feed.version == server.version)
    server.break_watches("end")
    await until(lambda: server.count("watch") == 2)
    assert versions(server, "watch")[-1] == server.version
    assert run.feed.events == 0


@pytest.mark.parametrize("how", ["event", "status"])
async def test_a_lost_history_is_listed_again_at_once(
    server: KubernetesApi, start: Start, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sidecar.discovery")
    run = start(server)
    await until(lambda: server.watching)
    server.bookmark()
    await until(lambda: run.feed.version == server.version)
    server.gone_as = how
    server.put("b", "venue", ["10.0.0.2"], namespace="elsewhere")
    server.break_watches("end")
    server.forget()
    server.put("a", "venue", ["10.0.0.9"])
    await until(lambda: run.known == ["10.0.0.9"])
    await until(lambda: server.watching)
    assert kinds(server) == ["list", "watch", "watch", "list", "watch"]
    assert versions(server, "list") == ["0", ""]  # the second wants the present state
    assert run.waits.asked == [0.375]  # after the watch's end; none after the 410
    assert run.feed.failures == 0
    assert [record.levelname for record in caplog.records] == ["INFO"]


async def test_a_410_in_mid_stream(server: KubernetesApi, start: Start) -> None:
    run = start(server)
    await until(lambda: server.watching)
    server.send_raw(line("ERROR", status_body(410, "Expired", "too old resource version: 1 (2)")))
    await until(lambda: run.feed.lists == 2 and server.watching)
    assert kinds(server) == ["list", "watch", "list", "watch"]
    assert run.told == [["10.0.0.1"], ["10.0.0.1"]]


async def test_waits_grow_while_the_history_stays_lost(server: KubernetesApi, start: Start) -> None:
    server.next_watch = [refuse(410, "Expired")] * 9
    run = start(server)
    await until(lambda: server.count("watch") == 10)
    assert run.waits.asked[:4] == [0.75, 1.5, 3.0, 6.0]
    assert run.feed.lists == 10
    assert run.known == ["10.0.0.1"]


async def test_failures_keep_what_is_known_and_double_the_wait(
    server: KubernetesApi, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sidecar.discovery")
    run = start(server)
    await until(lambda: server.watching)
    server.bookmark()
    server.next_watch = [refuse(500)] * 8 + [refuse(403, "Forbidden")] * 2
    server.break_watches("end")
    await until(lambda: server.count("watch") == 12 and server.watching)
    assert run.waits.asked == [0.375, 0.375, 0.75, 1.5, 3.0, 6.0, 12.0, 22.5, 22.5, 22.5, 22.5]
    assert max(run.waits.asked) <= LONGEST_RETRY_S
    assert run.known == ["10.0.0.1"]
    assert run.told == [["10.0.0.1"]]
    assert server.count("list") == 1
    await until(lambda: run.feed.problem is None)
    assert "; its 1 known slices stay" in caplog.messages[0]
    assert [(record.levelname, record.getMessage()[:66].rstrip()) for record in caplog.records] == [
        ("WARNING", "discovery of Service default/venue failed (the API server answered"),
        ("WARNING", "discovery of Service default/venue failed (not allowed (403): the"),
        ("INFO", "discovery of Service default/venue works again after 10 failures"),
    ]
    assert (run.feed.failures, run.feed.failures_in_a_row) == (10, 0)


@pytest.mark.parametrize(("asked", "waited"), [("7", 7.5), ("86400", LONGEST_RETRY_AFTER_S + 0.5), ("0", 0.375)])
async def test_retry_after_is_honoured_within_reason(
    server: KubernetesApi, start: Start, caplog: pytest.LogCaptureFixture, asked: str, waited: float
) -> None:
    server.next_list = [refuse(429, "TooManyRequests", Retry_After=asked)]
    run = start(server)
    await until(lambda: server.watching)
    assert caplog.messages[0].endswith("; no slice is known yet")
    assert run.waits.asked == [waited]


async def test_an_error_event_may_ask_to_wait_too(server: KubernetesApi, start: Start) -> None:
    run = start(server)
    await until(lambda: server.watching)
    server.send_raw(line("ERROR", status_body(429, "TooManyRequests", "busy", {"retryAfterSeconds": 3})))
    await until(lambda: run.feed.lists == 2)
    assert run.waits.asked == [3.5]
    assert run.feed.failures == 1


@pytest.mark.parametrize(
    "wrong",
    [
        b"<html>log in</html>\n",
        b'{"type": "ADDED", "object": {}}\n',
        b"x" * (1 << 20) + b"xx",
        line("ERROR", status_body(500, "InternalError", "etcd")),
        line("MOVED", {"metadata": {"name": "a", "resourceVersion": "1"}}),
    ],
)
async def test_after_invalid_content_in_a_stream_it_lists_again(
    server: KubernetesApi, start: Start, wrong: bytes
) -> None:
    run = start(server)
    await until(lambda: server.watching)
    server.put("b", "venue", ["10.0.0.2"])
    server.send_raw(wrong)
    await until(lambda: run.feed.lists == 2 and server.watching)
    assert run.known == ["10.0.0.1", "10.0.0.2"]
    assert run.feed.failures == 1
    assert run.waits.asked == [0.375]


async def test_a_problem_in_streams_is_not_ended_by_lists_or_accepted_watches(
    server: KubernetesApi, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    server.next_watch = [stream(b"rubbish\n")] * 4
    run = start(server)
    await until(lambda: server.watching)
    assert run.waits.asked == [0.375, 0.75, 1.5, 3.0]
    assert len(caplog.records) == 1
    assert run.feed.problem is not None
    server.bookmark()
    await until(lambda: run.feed.problem is None)


async def test_events_before_invalid_content_count(server: KubernetesApi, start: Start) -> None:
    found = endpoint_slice("b", "venue", ["10.0.0.2"])
    found["metadata"]["resourceVersion"] = "1005"
    server.next_watch = [stream(line("ADDED", found) + b"rubbish\n")]
    run = start(server, free=0)
    await until(lambda: run.waits.asked)
    assert run.told == [["10.0.0.1"], ["10.0.0.1", "10.0.0.2"]]


@pytest.mark.parametrize("end", ["end", "cut"])
async def test_watches_that_end_at_once_are_a_failure(server: KubernetesApi, start: Start, end: str) -> None:
    server.next_watch = [stream(end=end)] * 3
    run = start(server)
    await until(lambda: server.watching)
    assert run.waits.asked == [0.375, 0.75, 1.5]
    assert (run.feed.failures, run.feed.lists) == (3, 1)


async def test_a_quiet_watch_counts_as_working_after_a_while(
    server: KubernetesApi, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "SETTLED_S", 0.02)
    server.next_watch = [stream(b"rubbish\n")]
    run = start(server)
    await until(lambda: server.watching)
    await until(lambda: run.feed.problem is None)
    assert run.feed.failures_in_a_row == 0


@pytest.mark.parametrize(
    "fault", [answer(b"{}"), answer(b"<html>", "text/html"), answer(b'{"kind": "EndpointSliceList"'), refuse(500)]
)
async def test_an_invalid_list_removes_nothing(server: KubernetesApi, start: Start, fault: Any) -> None:
    run = start(server)
    await until(lambda: server.watching)
    server.next_list = [fault] * 2
    server.send_raw(line("ERROR", status_body(410, "Expired", "old")))
    await until(lambda: run.feed.lists == 2)
    assert run.told == [["10.0.0.1"]] * 2
    assert run.feed.failures == 2


async def test_the_first_result_is_the_answer_good_or_bad(server: KubernetesApi, start: Start) -> None:
    server.next_list = [drop()] * 2
    run = start(server, free=0)
    async with asyncio.timeout(5):
        await run.feed.answered.wait()
    assert (run.feed.lists, run.feed.failures, run.feed.last_success) == (0, 1, None)
    assert run.told == []


async def test_a_token_that_expires_and_rotates(server: KubernetesApi, start: Start, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old")
    server.token = "old"
    run = start(server, token_file=str(token))
    await until(lambda: server.watching)
    server.bookmark()
    server.token = "new"
    server.break_watches("end")
    await until(lambda: run.feed.problem is not None and run.feed.problem.kind == "401")
    token.write_text("new")
    await until(lambda: server.watching)
    server.put("a", "venue", ["10.0.0.2"])
    await until(lambda: run.known == ["10.0.0.2"])
    assert server.count("list") == 1
    assert {one.token for one in server.asked} == {"old", "new"}


async def test_a_missing_service_is_logged(
    server: KubernetesApi, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    server.delete("a")
    run = start(server)
    await until(lambda: server.watching)
    assert "does the Service exist?" in caplog.text
    server.put("a", "venue", ["10.0.0.1"])
    await until(lambda: run.known == ["10.0.0.1"])


async def test_watches_do_not_all_end_together(server: KubernetesApi, start: Start) -> None:
    start(server)
    await until(lambda: server.watching)
    assert server.last("watch").query["timeoutSeconds"] == "270"  # between 240 and 300, by `random`


async def test_an_internal_error_is_logged_and_retried(
    server: KubernetesApi, start: Start, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start(server)
    await until(lambda: server.watching)
    with monkeypatch.context() as patch:
        patch.setattr(feed_module.wire, "read_event", json.loads)
        server.put("b", "venue", ["10.0.0.2"])
        await until(lambda: run.feed.failures)
    await until(lambda: run.known == ["10.0.0.1", "10.0.0.2"])
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


async def test_repr_shows_the_state(server: KubernetesApi, start: Start) -> None:
    run = start(server)
    await until(lambda: server.watching)
    assert repr(run.feed) == f"<Feed default/venue 1 slices at '{server.version}' well>"
