"""docs/client.md keeps its word: each Python block of it is run, with the real daemon before scripted upstreams.

The blocks share one namespace, in the order of the page; those under *Testing* are an app's tests, and are run by a
pytest of their own.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import re
import subprocess
import sys
import textwrap
import types
import urllib.request
from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, make_mocked_request

import sidecar.client
from sidecar.client import (
    CallError,
    ClientError,
    DeadlineExceeded,
    InvalidAnswer,
    ServiceClient,
    UpstreamTimeout,
    address,
    deadline,
    limit,
    request_context,
    service_client,
    serving,
)
from sidecar.client.aiohttp_server import middleware
from sidecar.policy.settings import RetrySettings
from sidecar.testing.answers import MAX_DELAY_S
from sidecar.testing.script import MAX_CALLS
from sidecar.testing.server import MAX_BODIES
from tests.support.daemon import ROOT, Daemon
from tests.support.steps import answer, answer_chunked, close_on_reuse, raw, response_head, silence, then, then_close
from tests.support.upstream import RefusedPort, Turn, Upstream
from tests.support.urls import opened
from tests.testing.inner_run import InnerRun

PATH = ROOT / "docs" / "client.md"
TEXT = PATH.read_text()
PYTHON = r"^```python\n(.*?)^```$"


def sections() -> dict[str, str]:
    title, found = "", dict[str, str]()
    for line in TEXT.splitlines(keepends=True):
        if line.startswith("## "):
            title = line.removeprefix("## ").strip()
        found[title] = found.get(title, "") + line
    return found


SECTIONS = sections()


def blocks(section: str) -> list[str]:
    return re.findall(PYTHON, SECTIONS[section], re.DOTALL | re.MULTILINE)


def compiled(block: str) -> types.CodeType:
    code: types.CodeType = compile(block, str(PATH), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    return code


def is_typed_at_a_prompt(block: str) -> bool:
    """It awaits at its top: it is run by the test that knows what should come of it."""
    return bool(compiled(block).co_flags & inspect.CO_COROUTINE)


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    languages = re.findall(r"^```(\w+)$", TEXT, re.MULTILINE)
    assert len(re.findall("^```", TEXT, re.MULTILINE)) == 2 * len(languages)
    assert set(languages) <= {"python", "ts"}
    assert languages.count("ts") == 1


class Page:
    """What the page's blocks have defined, and the services that they call."""

    def __init__(self, venue: Upstream, payment: Upstream, notification: Upstream) -> None:
        self.venue, self.payment, self.notification = venue, payment, notification
        self.module = types.ModuleType("docs_client_page")
        sys.modules["docs_client_page"] = self.module  # dataclasses and annotations are looked up there
        for section in SECTIONS:
            if section != "Testing":
                for block in blocks(section):
                    if not is_typed_at_a_prompt(block):
                        exec(compiled(block), self.module.__dict__)

    def __getitem__(self, name: str) -> Any:
        return self.module.__dict__[name]

    async def type(self, section: str, number: int = 0) -> None:
        """Run a block that awaits at its top; what it names is then in the page."""
        (block,) = [block for block in blocks(section) if is_typed_at_a_prompt(block)][number : number + 1]
        await eval(compiled(block), self.module.__dict__)


CONFIG = """
defaults: {retry: {backoff: {base: 1ms, max: 1ms}}}
services:
  venue: {url: $venue}
  payment: {url: $payment}
  notification: {url: $notification}
  away: {url: $away}
aggregates:
  venue-page:
    parts:
      venue: {service: venue, path: "/venues/{query.id}", required: true}
      events: {service: payment, path: "/events?venue={query.id}"}
"""


@pytest.fixture(scope="module")
def stage() -> Iterator[tuple[Page, Daemon]]:
    with RefusedPort() as away, Upstream() as venue, Upstream() as payment, Upstream() as notification:
        config = CONFIG
        for name, url in (("venue", venue.url), ("payment", payment.url), ("notification", notification.url)):
            config = config.replace(f"${name}", url)
        with Daemon(config.replace("$away", away.url)) as daemon:
            yield Page(venue, payment, notification), daemon
    del sys.modules["docs_client_page"]


@pytest.fixture
def daemon(stage: tuple[Page, Daemon], monkeypatch: pytest.MonkeyPatch) -> Daemon:
    monkeypatch.setenv("SIDECAR_URL", f"http://127.0.0.1:{stage[1].proxy_port}")
    return stage[1]


@pytest.fixture
def page(stage: tuple[Page, Daemon], daemon: Daemon) -> Page:
    return stage[0]


EVENT = b'{"id": 42, "title": "Opening night"}'


async def test_the_class_in_place_of_the_axios_class(page: Page) -> None:
    page.venue.play(answer(200, EVENT), answer(204))
    await page.type("From `axios.create` to this")
    assert page["event"] == page["Event"](42, "Opening night")
    assert page["well"] is True
    assert [request.target for request in page.venue.requests] == ["/events/42", "/health"]


async def test_what_the_page_says_of_its_answers(page: Page) -> None:
    async with page["VenueClient"]("venue") as venue:
        page.venue.play(answer(404))
        assert await venue.event(42) is None
        page.venue.play(answer(200, b'{"id": 42, "title": 7}'))
        with pytest.raises(InvalidAnswer, match=r"\$\.title"):
            await venue.event(42)
        page.venue.play(answer(503))
        assert await venue.health_check() is False
        page.venue.play(answer(200))
        assert await venue.health_check(path="/livez") is True
        assert page.venue.last.target == "/livez"
    async with page["VenueClient"]("nobody") as nobody:
        with pytest.raises(sidecar.client.UnknownService):
            await nobody.event(42)
        assert await nobody.health_check() is False


def test_the_page_is_typed(page: Page, tmp_path: Path) -> None:
    """All of its blocks as one module, which knows what is an Event and what may be None."""
    lines = []
    for section in (one for one in SECTIONS if one != "Testing"):
        for number, block in enumerate(blocks(section)):
            if is_typed_at_a_prompt(block):
                block = f"async def typed_{len(lines)}_{number}() -> None:\n{textwrap.indent(block, '    ')}"
            lines.append(block)
    lines.append("""
from typing import assert_type

async def judged(venue: VenueClient, shop: Shop) -> None:
    assert_type(await venue.event(42), Event | None)
    assert_type(await venue.get_json("/events", type=list[Event]), list[Event])
    assert_type(shop.venue, VenueClient)
    assert_type(shop.payment, ServiceClient)
""")
    (tmp_path / "page.py").write_text("\n".join(lines))
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(tmp_path / "page.py")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180)
    assert (run.returncode, run.stdout) == (0, ""), run.stderr


async def test_calls(page: Page) -> None:
    page.venue.play(answer(200, b"[" + EVENT + b"]"))
    async with ServiceClient("venue") as venue:
        assert await page["find"](venue, "St. Pölten") == [page["Event"](42, "Opening night")]
        assert page.venue.last.target == "/events?city=St.+P%C3%B6lten"
        assert page.venue.last.get("accept-language") == "de"
        for path in ("events", "/a/../b", "/a/%2e%2e/b", "/a\\b", "/a#b"):
            with pytest.raises(ValueError, match="path"):
                await venue.get(path)
        page.venue.play(answer(302, headers=[("Location", "http://elsewhere/")]))
        assert (await venue.get("/moved")).status == 302
        page.venue.play(answer(200, headers=[("Set-Cookie", "user=1")]))
        await venue.get("/")
        await venue.get("/")
        assert page.venue.last.get("cookie") is None
        page.venue.play(answer(418))
        assert (await venue.get("/", raise_for_status=False)).status == 418


async def test_an_aggregate(page: Page) -> None:
    page.venue.play(answer(200, b'{"name": "Arena"}'))
    page.payment.play(answer(200, b"[" + EVENT + b"]"))
    found = await page["venue_page"](42)
    assert (found.venue, found.events) == ({"name": "Arena"}, [page["Event"](42, "Opening night")])
    assert [one.last.target for one in (page.venue, page.payment)] == ["/venues/42", "/events?venue=42"]
    page.payment.play(answer(500))
    assert (await page["venue_page"](42)).events is None
    page.venue.play(answer(500))
    with pytest.raises(sidecar.client.AggregateFailed) as failed:
        await page["venue_page"](42)
    assert failed.value.errors["venue"].status == 500


async def test_what_params_may_be(page: Page) -> None:
    page.venue.play(answer(200))
    async with ServiceClient("venue") as venue:
        await venue.get("/", params={"a": ["x", "y"], "b": 1.5})
        assert page.venue.last.target == "/?a=x&a=y&b=1.5"
        for value in (True, False, None):
            with pytest.raises(TypeError):
                await venue.get("/", params={"a": value})  # type: ignore[dict-item]


def force(daemon: Daemon, service: str, state: str) -> None:
    asked = urllib.request.Request(
        f"http://127.0.0.1:{daemon.ports.admin}/services/{service}/breaker",
        json.dumps({"state": state} | ({"for": "30s"} if state == "open" else {})).encode(),
        {"Content-Type": "application/json"},
    )
    with opened(asked) as answered:
        assert answered.status == 200


async def test_errors_are_told_apart(page: Page, daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    charge = page["charge"]
    async with ServiceClient("payment") as payment:
        page.payment.play(answer(201))
        assert await charge(payment, 900) == "paid"
        assert json.loads(page.payment.last.body) == {"amount": 900}
        assert page.payment.last.get("idempotency-key")
        page.payment.play(answer(402, b"no money"))
        assert await charge(payment, 900) == "refused: no money"
        page.payment.play(answer(500))
        assert await charge(payment, 900) == "not now"
        printed = capsys.readouterr().out
        assert re.match(r"payment: POST /charges: the service answered 500", printed)
        assert (page.payment.last.get("x-request-id") or "?") in printed
        await asyncio.to_thread(force, daemon, "payment", "open")
        try:
            assert re.fullmatch(r"try again in \d+ s", await charge(payment, 900))
        finally:
            await asyncio.to_thread(force, daemon, "payment", "closed")
            await asyncio.to_thread(force, daemon, "payment", "auto")
    async with ServiceClient("away") as away:
        assert await charge(away, 900) == "not now"
        assert "reason connect_failure" in capsys.readouterr().out


def table() -> dict[str, tuple[str, ...]]:
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", SECTIONS["Errors"], re.MULTILINE)
    return {name: tuple(cell.strip() for cell in cells.split(" | ")) for name, cells in rows}


def test_every_error_is_in_the_table() -> None:
    bases = {"CallError", "SidecarError", "ResponseError"}
    named = {
        name
        for name in sidecar.client.__all__
        if inspect.isclass(found := getattr(sidecar.client, name)) and issubclass(found, CallError)
    }
    assert set(table()) == named - bases
    assert all(len(cells) == 3 for cells in table().values())


def test_what_the_table_says_of_kinship_holds() -> None:
    for name, (when, *_) in table().items():
        if found := re.search(r"; an? (?:`(\w+)`)(?: and an `(\w+)`)?$", when):
            for base in filter(None, found.groups()):
                kind = TimeoutError if base == "TimeoutError" else getattr(sidecar.client, base)
                assert issubclass(getattr(sidecar.client, name), kind), name


async def test_what_is_told_keeps_what_is_secret(page: Page) -> None:
    page.venue.play(answer(409, b"SECRET", [("Set-Cookie", "SECRET"), ("Retry-After", "7")]))
    async with ServiceClient("venue") as venue:
        with pytest.raises(ClientError) as refused:
            await venue.post(f"/{'x' * 1000}?token=SECRET")
        assert "SECRET" not in str(refused.value)
        assert "SECRET" not in repr(await venue.get("/?token=SECRET", raise_for_status=False))
        assert (len(str(refused.value)) < 800, len(refused.value.path)) == (True, 1001)
        assert refused.value.headers["retry-after"] == "7"


async def test_the_copy_after_a_closed_connection_counts_as_an_attempt(page: Page) -> None:
    async with ServiceClient("venue") as venue:
        page.venue.play(close_on_reuse(answer(200)))
        await venue.get("/")
        assert (await venue.get("/")).attempts == 2
        assert page.venue.hits == 3


async def test_another_server_at_the_sidecars_address(page: Page) -> None:
    page.venue.play(answer(404))
    async with ServiceClient("venue", base_url=page.venue.url) as venue:
        with pytest.raises(sidecar.client.NotFound):
            await venue.get("/")


async def test_what_the_table_says_was_not_sent_was_not(page: Page, daemon: Daemon) -> None:
    async with ServiceClient("away") as away:
        with pytest.raises(sidecar.client.ConnectionFailed) as refused:
            await away.get("/")
        assert (refused.value.reason, refused.value.path) == ("connect_failure", "/")


async def test_the_client_sends_a_call_once(page: Page) -> None:
    async with ServiceClient("payment") as payment:
        page.payment.play(answer(503))
        with pytest.raises(sidecar.client.ServiceError):
            await payment.post("/charges", json={})
        assert page.payment.hits == 1
        page.payment.play(answer(503), answer(201))
        await page["order"](payment, 7)
        assert [request.get("idempotency-key") for request in page.payment.requests] == ["order-7", "order-7"]


async def test_deadlines(page: Page) -> None:
    page.venue.play(answer(200, b"[]"))
    page.payment.play(answer(200, b"{}"))
    async with ServiceClient("venue") as venue, ServiceClient("payment") as payment:
        assert await page["page"](venue, payment) == {"events": [], "prices": {}}
        given = [int(one.last.get("x-envoy-expected-rq-timeout-ms") or 0) for one in (page.venue, page.payment)]
        assert 500 < given[0] <= 2000
        assert 0 < given[1] <= 500
        page.payment.play(silence)
        with pytest.raises(UpstreamTimeout, match="GET /prices"):
            await page["page"](venue, payment)
        async with deadline(-1):
            with pytest.raises(DeadlineExceeded) as late:
                await venue.get("/events")
        assert (late.value.attempts, late.value.status) == (0, None)
    async with ServiceClient("payment", deadline=0.05) as payment:
        with pytest.raises(UpstreamTimeout):
            await payment.get("/prices")


async def test_a_stream_and_a_task_group_in_a_deadline(page: Page) -> None:
    page.venue.play(then(raw(response_head(200, [("Content-Length", "10")])), Turn.wait_closed))
    async with ServiceClient("venue") as venue, ServiceClient("payment") as payment:
        with pytest.raises(TimeoutError) as cut:
            async with deadline(0.1), venue.stream("GET", "/export") as answered:
                await answered.content.read()
        assert not isinstance(cut.value, CallError)
        page.payment.play(silence)
        with pytest.raises(ExceptionGroup) as wrapped:
            async with deadline(0.1), asyncio.TaskGroup() as tasks:
                tasks.create_task(payment.get("/prices"))
        assert wrapped.value.subgroup(UpstreamTimeout) is not None


def test_the_bounds_are_those_of_the_code() -> None:
    assert (limit.TOTAL_S, service_client.HEALTH_S, address.DEFAULT_URL) == (300, 2, "http://localhost:15001")
    assert RetrySettings().max_body == 64 * 1024
    assert RetrySettings().methods == {"GET", "HEAD", "OPTIONS", "PUT", "DELETE"}
    assert (MAX_CALLS, MAX_BODIES, MAX_DELAY_S) == (10_000, 64 << 20, 300)


def test_the_aiohttp_application_has_the_middleware(page: Page) -> None:
    assert list(page["app"].middlewares) == [middleware]


async def test_the_asgi_application_answers(page: Page) -> None:
    sent: list[str] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(f"{message['type']} {request_context().request_id}")

    await page["asgi_app"]({"type": "http", "headers": [(b"x-request-id", b"4f2c")]}, receive, send)
    assert sent == ["http.response.start 4f2c", "http.response.body 4f2c"]


async def test_detached_work_goes_on_by_itself(page: Page) -> None:
    page.notification.play(answer(201))
    request = make_mocked_request("POST", "/orders", headers={"X-Request-Id": "4f2c"})
    answered = await middleware(request, page["handler"])
    assert answered.status == 202
    (task,) = page["receipts"]
    await task
    assert page.notification.last.target == "/receipts"
    assert page.notification.last.get("x-request-id") not in (None, "4f2c")
    with serving({"X-Request-Id": "4f2c"}):
        await page["send_receipt"](42)
    assert page.notification.last.get("x-request-id") == "4f2c"


async def test_streams(page: Page) -> None:
    page.venue.play(answer_chunked(b"one", b"two" * 50_000), answer(204))
    async with ServiceClient("venue") as venue:
        await page["copy"](venue)
        assert page.venue.last.method == "PUT"
        assert page.venue.last.body == b"one" + b"two" * 50_000
        page.venue.play(then_close(raw(response_head(200, [("Content-Length", "10")]) + b"half-")))
        with pytest.raises(sidecar.client.ConnectionFailed) as broken:
            await page["copy"](venue)
        assert broken.value.reason == "truncated"


@asynccontextmanager
async def passing_on(page: Page) -> AsyncIterator[str]:
    """The URL of an application that has the page's `export` and `failures`."""
    app = web.Application(middlewares=[middleware, page["failures"]])
    app.router.add_get("/export", page["export"])
    async with ServiceClient("venue") as venue:
        app[page["VENUE"]] = venue
        async with TestServer(app) as server:
            yield str(server.make_url("/export"))


HALF = then_close(raw(response_head(200, [("Content-Length", "10")]) + b"half-"))


async def test_a_stream_that_is_passed_on(page: Page) -> None:
    async with passing_on(page) as url, aiohttp.ClientSession() as caller:
        page.venue.play(answer_chunked(b"one", b"two" * 50_000))
        async with caller.get(url) as answered:
            assert await answered.read() == b"one" + b"two" * 50_000
        page.venue.play(answer(404))
        async with caller.get(url) as answered:
            assert (answered.status, "request_id" in await answered.json()) == (503, True)
        page.venue.play(HALF)
        async with caller.get(url) as answered:
            assert answered.status == 200
            with pytest.raises(aiohttp.ClientPayloadError):
                await answered.read()


async def test_a_stream_that_is_passed_on_by_asgi(page: Page) -> None:
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    page.venue.play(answer(200, b"whole"))
    await page["asgi_export"]({"type": "http"}, receive, send)
    assert b"".join(message.get("body", b"") for message in sent) == b"whole"
    assert [message.get("more_body", False) for message in sent][-1] is False
    for step, begun in ((answer(404), False), (HALF, True)):
        sent.clear()
        page.venue.play(step)
        with pytest.raises(CallError):
            await page["asgi_export"]({"type": "http"}, receive, send)
        assert [message["type"] for message in sent][:1] == ["http.response.start"] * begun
        assert all(message.get("more_body", True) for message in sent)


async def test_an_app_declares_its_services(page: Page) -> None:
    page.venue.play(answer(200, EVENT))
    page.payment.play(answer(200))
    await page.type("Declaring an app's services")
    assert page["event"] == page["Event"](42, "Opening night")
    assert page["health"] == {"venue": True, "payment": True}
    assert isinstance(page["shop"].venue, page["VenueClient"])
    shop = page["Shop"]()
    shop.venue = AsyncMock(**{"event.return_value": None})
    async with shop:
        assert await shop.venue.event(42) is None


def test_the_tests_of_the_page_pass_as_an_apps_tests(page: Page, tmp_path: Path) -> None:
    shop = [block for section in SECTIONS if section != "Testing" for block in blocks(section)]
    (tmp_path / "shop.py").write_text("\n".join(block for block in shop if not is_typed_at_a_prompt(block)))
    *of_one_test, of_several = blocks("Testing")
    (tmp_path / "test_shared.py").write_text(of_several)  # the page wants it in another file
    tests = "\n".join([*of_one_test, of_several])
    ended = InnerRun(tmp_path, "\n".join(of_one_test)).run()
    assert ended.code == 0, ended.output
    assert ended.counts() == {"passed": len(re.findall(r"^(?:async )?def test_", tests, re.MULTILINE))}


def test_the_import_brings_nothing_of_the_daemon() -> None:
    look = "import sys, sidecar.client; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", look], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert run.returncode == 0, run.stderr
    loaded = set(run.stdout.split())
    ours = {name for name in loaded if name.partition(".")[0] == "sidecar"}
    assert {name for name in ours if not name.startswith("sidecar.client")} == {"sidecar"}
    assert not loaded & {"aiohttp.web", "pytest", "sidecar.client.aiohttp_server", "sidecar.client.asgi"}
    assert (ROOT / "sidecar" / "py.typed").is_file()


def test_links_lead_somewhere() -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", TEXT):
        path = PATH.parent / target if target else PATH
        assert path.is_file(), target
        titles = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
        assert not anchor or anchor in {re.sub(r"[^a-z0-9 -]", "", one.lower()).replace(" ", "-") for one in titles}
