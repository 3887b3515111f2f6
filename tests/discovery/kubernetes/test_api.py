"""The Kubernetes API client over real sockets: lists in pages, lines of watches, and the message of each error."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.discovery.kubernetes import api as api_module
from sidecar.discovery.kubernetes.api import Api, Times
from sidecar.discovery.kubernetes.credentials import Credentials
from sidecar.discovery.kubernetes.problem import Problem
from sidecar.policy.settings import KubernetesSettings
from tests.support.certificate import make_certificate
from tests.support.kubernetes_api import (
    Fault,
    KubernetesApi,
    answer,
    drop,
    endpoint_slice,
    hang,
    line,
    refuse,
    stream,
    until,
)


@pytest.fixture
async def server() -> AsyncIterator[KubernetesApi]:
    async with KubernetesApi() as server:
        yield server


class Clients:
    """Makes clients, and closes them after the test."""

    def __init__(self) -> None:
        self.made: list[Api] = []

    def __call__(self, server: KubernetesApi | str, times: Times | None = None, **settings: Any) -> Api:
        url = server if isinstance(server, str) else server.url
        credentials = Credentials(KubernetesSettings(service="venue", server=url, **settings))
        self.made.append(Api(credentials, times or Times()))
        return self.made[-1]


@pytest.fixture
async def client() -> AsyncIterator[Clients]:
    clients = Clients()
    yield clients
    for made in clients.made:
        await made.close()


class Taken:
    """What a watch took."""

    def __init__(self) -> None:
        self.opened = 0
        self.lines: list[bytes] = []

    async def follow(self, client: Api, version: str = "1000", seconds: int = 60) -> bool:
        return await client.watch(
            "default", "venue", version, seconds=seconds, opened=self._open, take=self.lines.extend
        )

    def _open(self) -> None:
        self.opened += 1

    @property
    def types(self) -> list[str]:
        return [json.loads(text)["type"] for text in self.lines]


async def test_a_list_asks_for_one_service_and_says_where_to_watch_from(server: KubernetesApi, client: Clients) -> None:
    server.put("a", "venue", ["10.0.0.1"])
    server.put("b", "event", ["10.0.0.2"])
    server.put("c", "venue", ["10.0.0.3"], namespace="other")
    found, version = await client(server).slices("default", "venue", "0")
    assert [one.metadata.name for one in found] == ["a"]
    assert version == server.version
    asked = server.last("list")
    assert asked.query == {"labelSelector": "kubernetes.io/service-name=venue", "limit": "500", "resourceVersion": "0"}
    assert asked.headers["Accept-Encoding"] == "identity"
    assert "Authorization" not in asked.headers


async def test_a_list_is_read_page_by_page(server: KubernetesApi, client: Clients) -> None:
    for number in range(7):
        server.put(f"slice-{number}", "venue", [f"10.0.0.{number}"])
    server.largest_page = 3
    found, _ = await client(server).slices("default", "venue", "0")
    assert [one.metadata.name for one in found] == [f"slice-{number}" for number in range(7)]
    assert server.count("list") == 3
    assert "resourceVersion" not in server.last("list").query  # the API refuses it beside `continue`


async def test_a_server_with_a_path(server: KubernetesApi, client: Clients) -> None:
    with pytest.raises(Problem, match="not found") as raised:
        await client(server.url + "/k8s/clusters/c-1").slices("default", "venue")
    assert raised.value.kind == "404"


async def test_a_watch_receives_changes_and_ends_after_its_time(server: KubernetesApi, client: Clients) -> None:
    server.put("a", "venue", ["10.0.0.1"])
    taken = Taken()
    watch = asyncio.ensure_future(taken.follow(client(server), "1000", seconds=1))  # noqa: TID251
    await until(lambda: server.watching)
    server.bookmark()
    server.delete("a")
    assert await watch
    assert (taken.opened, taken.types) == (1, ["ADDED", "BOOKMARK", "DELETED"])
    query = server.last("watch").query
    assert (query["allowWatchBookmarks"], query["resourceVersion"], query["timeoutSeconds"]) == ("true", "1000", "1")


EVENT = line("ADDED", endpoint_slice("a", "venue"))


@pytest.mark.parametrize("end", ["cut", "end"])
async def test_a_line_cut_short_is_dropped(server: KubernetesApi, client: Clients, end: str) -> None:
    server.next_watch = [stream(EVENT + EVENT[:40], end=end)]
    taken = Taken()
    assert await taken.follow(client(server)) is (end == "end")
    assert taken.types == ["ADDED"]


async def test_a_line_comes_whole_from_many_pieces(server: KubernetesApi, client: Clients) -> None:
    server.next_watch = [stream(*(EVENT[at : at + 9] for at in range(0, len(EVENT), 9)), b"\n\n")]
    taken = Taken()
    assert await taken.follow(client(server))
    assert taken.types == ["ADDED"]


async def test_a_line_without_end_ends_the_watch(server: KubernetesApi, client: Clients) -> None:
    server.next_watch = [stream(*[b"x" * 65536] * 17, end="open")]
    with pytest.raises(Problem, match="longer than 1048576") as raised:
        await Taken().follow(client(server))
    assert raised.value.relist


async def test_a_silent_watch_ends_a_little_after_its_time(server: KubernetesApi, client: Clients) -> None:
    server.next_watch = [stream(EVENT, end="open")]
    taken = Taken()
    assert not await taken.follow(client(server, Times(grace=0.1)), seconds=0)
    assert taken.types == ["ADDED"]


REFUSALS: list[tuple[Fault, str, str]] = [
    (refuse(500), "500", "answered 500; its message: scripted"),
    (refuse(302, Location="/elsewhere"), "302", "answered 302"),
    (
        refuse(403, "Forbidden", 'User "system:x" cannot list'),
        "403",
        r"not allowed.*namespace default.*its message: User",
    ),
    (refuse(404, "NotFound"), "404", "Kubernetes 1.21 or newer"),
    (refuse(401, "Unauthorized"), "401", "without a token"),
    (refuse(410, "Expired"), "gone", "410"),
    (refuse(504, "Timeout"), "504", "answered 504"),
    (answer(b"<html>", "text/html", status=502), "502", "answered 502$"),
    (answer(b"<html>log in</html>", "text/html"), "content", "not an EndpointSliceList"),
    (answer(b"{}"), "content", "not an EndpointSliceList"),
    (drop(), "broken", "the connection .* broke: ServerDisconnected"),
]


@pytest.mark.parametrize(("fault", "kind", "words"), REFUSALS)
async def test_the_message_of_each_list_error(
    server: KubernetesApi, client: Clients, fault: Fault, kind: str, words: str
) -> None:
    server.next_list = [fault] * 3  # aiohttp itself tries a dropped GET once more
    with pytest.raises(Problem, match=words) as raised:
        await client(server).slices("default", "venue")
    assert raised.value.kind == kind


@pytest.mark.parametrize(("fault", "kind", "words"), [one for one in REFUSALS if one[1] != "content"])
async def test_the_message_of_each_watch_error(
    server: KubernetesApi, client: Clients, fault: Fault, kind: str, words: str
) -> None:
    server.next_watch = [fault] * 3
    taken = Taken()
    with pytest.raises(Problem, match=words) as raised:
        await taken.follow(client(server))
    assert (raised.value.kind, taken.opened) == (kind, 0)


@pytest.mark.parametrize(("asked", "seconds"), [("7", 7.0), ("0", 0.0), ("soon", 0.0), ("-5", 0.0)])
async def test_retry_after_is_passed_on(server: KubernetesApi, client: Clients, asked: str, seconds: float) -> None:
    server.next_list = [refuse(429, "TooManyRequests", Retry_After=asked)]
    with pytest.raises(Problem, match="asks to wait") as raised:
        await client(server).slices("default", "venue")
    assert raised.value.retry_after_s == seconds


async def test_a_missing_answer_times_out(server: KubernetesApi, client: Clients) -> None:
    server.next_list, server.next_watch = [hang()], [hang()]
    impatient = client(server, Times(head=0.05))
    with pytest.raises(Problem, match=r"no answer .* within 0\.05 s"):
        await impatient.slices("default", "venue")
    with pytest.raises(Problem, match=r"no answer .* within 0\.05 s"):
        await Taken().follow(impatient)


async def test_a_list_that_does_not_end_times_out(server: KubernetesApi, client: Clients) -> None:
    server.next_list = [stream(b'{"kind": "EndpointSliceList"', end="open")]
    with pytest.raises(Problem, match=r"no complete list within 0\.2 s"):
        await client(server, Times(list=0.2)).slices("default", "venue")


async def test_a_whole_list_is_bounded(server: KubernetesApi, client: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        server.put(f"slice-{number}", "venue", ["10.0.0.1"])
    server.largest_page = 1
    sizes = len(json.dumps(endpoint_slice("slice-0", "venue", ["10.0.0.1"])))
    monkeypatch.setattr(api_module, "LARGEST_LIST", sizes * 3)
    with pytest.raises(Problem, match="is larger than"):
        await client(server).slices("default", "venue")
    assert server.count("list") < 5


async def test_an_expired_token_is_replaced_by_the_rotated_one(
    server: KubernetesApi, client: Clients, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("old")
    server.token = "new"
    rotating = client(server, token_file=str(token))
    with pytest.raises(Problem, match=r"does not accept the token in .*token \(401\): it is wrong or has expired"):
        await rotating.slices("default", "venue")
    assert server.count("list") == 1
    token.write_text("new")
    assert await rotating.slices("default", "venue") == ([], server.version)
    server.token = "newer"
    (tmp_path / "fresh").write_text("newer")
    (tmp_path / "fresh").rename(token)
    assert await rotating.slices("default", "venue") == ([], server.version)
    assert [one.token for one in server.asked] == ["old", "old", "new", "new", "newer"]


async def test_over_tls_the_ca_file_is_trusted_and_nothing_else(client: Clients, tmp_path: Path) -> None:
    context, ca = make_certificate(tmp_path)
    (tmp_path / "token").write_text("secret")
    async with KubernetesApi(tls=context, token="secret") as server:
        server.put("a", "venue", ["10.0.0.1"])
        trusted = client(server, ca_file=str(ca), token_file=str(tmp_path / "token"))
        found, version = await trusted.slices("default", "venue")
        assert [one.metadata.name for one in found] == ["a"]
        watch = asyncio.ensure_future(Taken().follow(trusted, version))  # noqa: TID251
        await until(lambda: server.watching)
        server.break_watches("end")
        assert await watch
        with pytest.raises(Problem, match=r"is not trusted: .*; is ca_file its CA") as raised:
            await client(server).slices("default", "venue")
        assert raised.value.kind == "certificate"
        assert len(server.asked) == 2


async def test_a_server_that_does_not_listen(client: Clients) -> None:
    async with KubernetesApi() as gone:
        url = gone.url
    with pytest.raises(Problem, match=r"cannot connect to http://127\.0\.0\.1") as raised:
        await client(url).slices("default", "venue")
    assert raised.value.kind == "connect"


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999", "nonsense", "http://", "ftp://127.0.0.1", "http://[::1"])
async def test_a_server_that_is_not_a_url(client: Clients, url: str) -> None:
    with pytest.raises(Problem, match="is not an http or https URL"):
        await client(url).slices("default", "venue")


async def test_a_cancelled_watch_leaves_its_connection(server: KubernetesApi, client: Clients) -> None:
    watch = asyncio.ensure_future(Taken().follow(client(server)))  # noqa: TID251
    await until(lambda: server.watching)
    watch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watch
    await until(lambda: not server.watching)
