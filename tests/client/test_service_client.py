"""What is sent with a call and how its answer is judged, by a scripted sidecar; tests/system/ has the real one."""

from __future__ import annotations

import asyncio
import gzip
import inspect
import io
import json
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, cast
from unittest.mock import AsyncMock

import aiohttp
import pytest

from sidecar.client import (
    ClientError,
    InvalidAnswer,
    NotFound,
    ServiceClient,
    ServiceError,
    SidecarError,
    UnknownService,
    decoding,
)
from tests.support.steps import answer, echo, silence
from tests.support.upstream import Received, Step, Upstream


@dataclass
class Venue:
    id: int


@dataclass
class Draft:
    title: str


async def play(scripted: Upstream, step: Step) -> None:
    """A new scene, while the loop sees how the connections of the old one end."""
    await asyncio.to_thread(scripted.play, step)


async def sent(scripted: Upstream, venue: ServiceClient, **options: Any) -> Received:
    await venue.request("POST", "/x", **options)
    return scripted.last


# What is sent.


async def test_verbs(scripted: Upstream, venue: ServiceClient) -> None:
    calls = (venue.get, venue.head, venue.post, venue.put, venue.patch, venue.delete)
    for call in calls:
        assert (await call("/events/1?a=b")).status == 200
    await venue.request("options", "/")
    assert [request.method for request in scripted.requests] == [
        *("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    ]
    assert {request.target for request in scripted.requests[:6]} == {"/venue/events/1?a=b"}


async def test_params_join_the_paths_query(scripted: Upstream, venue: ServiceClient) -> None:
    await venue.get("/x?a=1", params={"b": "é&c", "n": 2})
    assert scripted.last.target == "/venue/x?a=1&b=%C3%A9%26c&n=2"
    await venue.get("/x", params=[("a", "1"), ("a", "2")])
    assert scripted.last.target == "/venue/x?a=1&a=2"
    told = [("a", uuid.UUID(int=7)), ("b", "2")]
    for pairs in (iter(told), (pair for pair in told), zip("ab", "12", strict=True)):
        with pytest.raises(TypeError, match="params must be a mapping or a sequence of pairs, not a "):
            await venue.delete("/x", params=cast(Any, pairs))
    with pytest.raises(TypeError, match="'id' is a UUID"):
        await venue.get("/x", params=cast(Any, {"id": uuid.UUID(int=7)}))
    with pytest.raises(TypeError, match="'id' is a UUID"):
        venue.stream("GET", "/x", params=cast(Any, {"id": uuid.UUID(int=7)}))


async def test_json(scripted: Upstream, venue: ServiceClient) -> None:
    request = await sent(scripted, venue, json=[Venue(1), {"a": None}])
    assert (request.body, request.get("content-type")) == (b'[{"id":1},{"a":null}]', "application/json")
    request = await sent(scripted, venue, json={}, headers={"content-type": "application/merge-patch+json"})
    assert (request.body, request.get("content-type")) == (b"{}", "application/merge-patch+json")
    large = ["x" * 1000] * 2000
    assert json.loads((await sent(scripted, venue, json=large)).body) == large
    assert (await sent(scripted, venue, json=None)).body == b""


async def test_data(scripted: Upstream, venue: ServiceClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    form = aiohttp.FormData({"a": "b"})
    large = bytes(3 * 1024 * 1024)
    for data, body in (
        (b"x", b"x"),
        ("é", "é".encode()),
        (io.BytesIO(b"file"), b"file"),
        (form, b"a=b"),
        (pieces(), b"ab"),
        (bytearray(large), large),
        (large.decode(), large),
        (large, large),
    ):
        assert (await sent(scripted, venue, data=data)).body == body


async def test_a_streamed_body_is_passed_on(scripted: Upstream, venue: ServiceClient) -> None:
    scripted.play(echo())
    async with venue.stream("POST", "/1", data=b"payload") as response:
        assert (await sent(scripted, venue, data=response.content)).body == b"POST /venue/1\npayload"


async def test_json_and_data_are_one_too_many(scripted: Upstream, venue: ServiceClient) -> None:
    with pytest.raises(ValueError, match="either json or data, not both"):
        await venue.post("/", json={}, data=b"")
    assert scripted.hits == 0


async def test_idempotency_key(scripted: Upstream, venue: ServiceClient) -> None:
    keys = {(await sent(scripted, venue, json={}, idempotency_key=True)).get("idempotency-key") for _ in range(2)}
    assert len(keys) == 2
    assert None not in keys
    assert (await sent(scripted, venue, idempotency_key="order-7")).get("idempotency-key") == "order-7"
    assert (await sent(scripted, venue, json={}, idempotency_key=False)).get("idempotency-key") is None


@pytest.mark.parametrize("headers", [{"X-A": "a\r\nX-B: b"}, {"X-A\r\nX-B": "a"}, {"X-A": "a\x00"}])
async def test_header_that_would_be_two_is_not_sent(
    scripted: Upstream, venue: ServiceClient, headers: dict[str, str]
) -> None:
    with pytest.raises(ValueError, match=r"[Nn]ewline|header"):
        await venue.get("/", headers=headers)
    assert scripted.hits == 0


async def test_headers_of_an_incoming_request_do_not_lead_elsewhere(scripted: Upstream, venue: ServiceClient) -> None:
    for headers in ({"Host": "payment"}, {"content-length": "5"}, {"Transfer-Encoding": "chunked"}):
        with pytest.raises(ValueError, match="an app may not set"):
            await venue.get("/", headers=headers)
        with pytest.raises(ValueError, match="an app may not set"):
            venue.stream("GET", "/", headers=headers)
        with pytest.raises(ValueError, match="an app may not set"):
            ServiceClient("venue", headers=headers)
    assert scripted.hits == 0


@pytest.mark.parametrize("path", ["", "x", "/../payment", "/%2e%2e/payment", "/a#b", "http://evil/"])
async def test_path_that_leads_elsewhere_is_not_sent(scripted: Upstream, venue: ServiceClient, path: str) -> None:
    with pytest.raises(ValueError, match="a path"):
        await venue.get(path)
    with pytest.raises(ValueError, match="a path"):
        venue.stream("GET", path)
    assert scripted.hits == 0


# What comes of it.


async def test_raise_for_status(scripted: Upstream, venue: ServiceClient) -> None:
    for status, kind in ((400, ClientError), (404, NotFound), (500, ServiceError), (599, ServiceError)):
        await play(scripted, answer(status, b"why"))
        with pytest.raises(kind) as caught:
            await venue.get("/x")
        assert caught.value.status == status
        assert (await venue.get("/x", raise_for_status=False)).body == b"why"
    async with ServiceClient("venue", base_url=scripted.url, raise_for_status=False) as lenient:
        assert (await lenient.get("/x")).status == 599
        with pytest.raises(ServiceError):
            await lenient.get("/x", raise_for_status=True)
        with pytest.raises(ServiceError):
            await lenient.get_json("/x")
        await play(scripted, answer(503, b"", [("x-sidecar-reason", "internal")]))
        with pytest.raises(SidecarError):
            await lenient.get("/x")


async def test_get_json(scripted: Upstream, venue: ServiceClient) -> None:
    await play(scripted, answer(body=b'{"id": 1}'))
    assert await venue.get_json("/x", type=Venue, params={"a": "b"}) == Venue(1)
    assert await venue.get_json("/x") == {"id": 1}
    assert scripted.requests[0].target == "/venue/x?a=b"
    with pytest.raises(InvalidAnswer, match="Expected `array`, got `object`"):
        await venue.get_json("/x", type=list[Venue])


async def test_get_json_of_what_has_no_body(scripted: Upstream, venue: ServiceClient) -> None:
    for status, words in ((204, "the body is empty"), (200, "the body is empty"), (302, "a redirect"), (304, "a 304 ")):
        await play(scripted, answer(status, b""))
        with pytest.raises(InvalidAnswer, match=words):
            await venue.get_json("/x", type=Venue, headers={"If-None-Match": '"1"'})
    for status in (204, 200):
        await play(scripted, answer(status, b""))
        assert await venue.get_json("/x", type=Venue | None) is None
        assert await venue.get_json("/x") is None


async def test_get_json_of_a_type_that_cannot_be_decoded(scripted: Upstream, venue: ServiceClient) -> None:
    with pytest.raises(TypeError, match="more than one"):
        await venue.get_json("/x", type=Venue | Draft)
    assert scripted.hits == 0


async def test_gzip_without_a_word_of_it(scripted: Upstream, venue: ServiceClient) -> None:
    packed = gzip.compress(b'{"id": 1}')
    for fields in ([], [("Content-Encoding", "gzip")], [("Content-Encoding", "x-gzip")]):
        await play(scripted, answer(body=packed, headers=fields))
        assert await venue.get_json("/x", type=Venue, headers={"Accept-Encoding": "identity"}) == Venue(1)


async def test_body_that_grows_without_end_when_it_is_unpacked(
    scripted: Upstream, venue: ServiceClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = gzip.compress(bytes(100_000))
    await play(scripted, answer(body=packed, headers=[("Content-Encoding", "gzip")]))
    assert len((await venue.get("/x")).body) == 100_000
    monkeypatch.setattr(decoding, "MAX_UNPACKED", 99_999)
    with pytest.raises(InvalidAnswer, match="over 99999 bytes when it is unpacked"):
        await venue.get("/x")
    async with venue.stream("GET", "/x") as answered:
        with pytest.raises(InvalidAnswer, match="over 99999 bytes"):
            await answered.read()
    async with venue.stream("GET", "/x") as answered:
        assert len([piece async for piece in answered.content.iter_chunked(1000)]) == 100
    assert scripted.open_connections <= 1


async def test_json_with_a_byte_order_mark(scripted: Upstream, venue: ServiceClient) -> None:
    await play(scripted, answer(body=b"\xef\xbb\xbf[1]", headers=[("Content-Type", "application/json")]))
    assert await venue.get_json("/x") == await (await venue.get("/x")).json() == [1]
    await play(scripted, answer(422, body=b"\xef\xbb\xbf[1]"))
    with pytest.raises(ClientError) as caught:
        await venue.get("/x")
    assert caught.value.json() == [1]


@pytest.mark.parametrize("status", [429, 404, 503])
async def test_retry_after_of_the_service(scripted: Upstream, venue: ServiceClient, status: int) -> None:
    soon = formatdate(time.time() + 60, usegmt=True)
    for told, least, most in (("7", 7.0, 7.0), (soon, 30.0, 60.0), ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0, 0.0)):
        await play(scripted, answer(status, headers=[("Retry-After", told)]))
        with pytest.raises((ClientError, ServiceError)) as caught:
            await venue.get("/x")
        assert isinstance(caught.value.retry_after, float)
        assert least <= caught.value.retry_after <= most
        assert f"try again in {caught.value.retry_after:.1f} s" in str(caught.value)
    await play(scripted, answer(status, headers=[("Retry-After", "soon")]))
    with pytest.raises((ClientError, ServiceError)) as caught:
        await venue.get("/x")
    assert caught.value.retry_after is None


async def test_missing_is_none_where_that_is_said(scripted: Upstream, venue: ServiceClient) -> None:
    await play(scripted, answer(404))
    assert await venue.get_json("/x", type=Venue, missing_ok=True) is None
    with pytest.raises(NotFound):
        await venue.get_json("/x", type=Venue)
    await play(scripted, answer(404, b"", [("x-sidecar-reason", "unknown_service")]))
    with pytest.raises(UnknownService):
        await venue.get_json("/x", type=Venue, missing_ok=True)
    await play(scripted, answer(410))
    with pytest.raises(ClientError):
        await venue.get_json("/x", type=Venue, missing_ok=True)


@pytest.mark.parametrize(("status", "well"), [(200, True), (204, True), (302, False), (404, False), (503, False)])
async def test_health_check(scripted: Upstream, venue: ServiceClient, status: int, well: bool) -> None:
    await play(scripted, answer(status))
    assert await venue.health_check() is well
    assert scripted.last.target == "/venue/health"
    assert await venue.health_check("/healthz?deep=1") is well
    assert scripted.last.target == "/venue/healthz?deep=1"


async def test_health_check_never_raises_and_never_waits_long(scripted: Upstream, venue: ServiceClient) -> None:
    await play(scripted, silence)
    assert not await venue.health_check(within=0.05)
    checking = asyncio.get_running_loop().create_task(venue.health_check())
    await asyncio.sleep(0)
    checking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await checking


async def test_health_check_made_wrongly_is_false_and_an_error_in_the_log(
    venue: ServiceClient, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere: Any = None
    assert await ServiceClient("venue").health_check() is False
    assert await venue.health_check("no path") is False
    assert await venue.health_check("/a/../b?token=SECRET") is False
    assert await venue.health_check(nowhere) is False
    assert await venue.health_check(within=nowhere) is True  # No limit but the client's own.
    assert await venue.health_check(within=cast(Any, "2s")) is False
    words = (
        "is not open: use it in",
        "a path must begin with /: 'no path'",
        "may not contain the segment . or ..",
        "NoneType",
        "str",
    )
    assert [(record.name, record.levelname) for record in caplog.records] == [("sidecar.client", "ERROR")] * 5
    for message, part in zip(caplog.messages, words, strict=True):
        assert message.startswith("health check of venue could not be made: ")
        assert part in message
    assert "SECRET" not in caplog.text


def test_health_check_of_another_loop_is_false(caplog: pytest.LogCaptureFixture) -> None:
    venue = ServiceClient("venue")
    with asyncio.Runner() as runner:
        runner.run(venue.open())
        with asyncio.Runner() as other:
            assert other.run(venue.health_check()) is False
        runner.run(venue.close())
    assert "was opened in another event loop" in caplog.text


async def test_health_check_that_fails_is_no_error_of_the_app(
    scripted: Upstream, venue: ServiceClient, caplog: pytest.LogCaptureFixture
) -> None:
    """A service that is down is asked again and again: at DEBUG there is why."""
    caplog.set_level("DEBUG", "sidecar.client")
    await play(scripted, answer(503, b"", [("x-sidecar-reason", "circuit_open")]))
    assert not await venue.health_check()
    await play(scripted, silence)
    assert not await venue.health_check(within=0.05)
    assert [record.levelname for record in caplog.records if record.name == "sidecar.client"] == ["DEBUG"] * 2
    assert "the circuit breaker is open" in caplog.text


# Life.


async def test_mocks_of_its_spec_are_awaited() -> None:
    mock = AsyncMock(spec=ServiceClient)
    for name in ("get", "head", "post", "put", "patch", "delete", "request", "get_json", "health_check", "close"):
        assert inspect.iscoroutinefunction(getattr(ServiceClient, name))
        getattr(mock, name).return_value = name
        assert await getattr(mock, name)("/x") == name


async def test_not_open() -> None:
    venue = ServiceClient("venue")
    for call in (venue.get("/"), venue.get_json("/")):
        with pytest.raises(RuntimeError, match="not open"):
            await call
    with pytest.raises(RuntimeError, match="not open"):
        venue.stream("GET", "/")
    await venue.close()
    async with venue:
        with pytest.raises(RuntimeError, match="open already"):
            await venue.open()
    with pytest.raises(RuntimeError, match="not open"):
        await venue.get("/")


def test_of_another_loop() -> None:
    async def use() -> None:
        with pytest.raises(RuntimeError, match="another event loop"):
            await venue.get("/")

    venue = ServiceClient("venue")
    with asyncio.Runner() as runner:
        runner.run(venue.open())
        other = asyncio.new_event_loop()
        other.run_until_complete(use())
        with pytest.raises(RuntimeError, match="another event loop"):
            other.run_until_complete(venue.close())
        other.close()
        runner.run(venue.close())


def test_made_wrongly() -> None:
    with pytest.raises(ValueError, match="cannot be the name"):
        ServiceClient("a/b")
    for seconds in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="positive"):
            ServiceClient("venue", deadline=seconds)


async def test_made_before_the_sidecars_url_is_known(scripted: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIDECAR_URL", raising=False)
    venue = ServiceClient("venue")
    monkeypatch.setenv("SIDECAR_URL", scripted.url)
    async with venue:
        await venue.get("/x")
    assert scripted.last.target == "/venue/x"


def test_repr_names_it() -> None:
    assert repr(ServiceClient("venue", base_url="http://h:1/")) == "<ServiceClient venue at http://h:1>"
