"""The OpenAPI document, and that every answer is what it says."""

from __future__ import annotations

import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from sidecar.admin.openapi import OPERATIONS, document
from sidecar.runtime import operator
from tests.admin.stage import Client, RealTime, Source, serving

DOCUMENT = document()


def strict() -> dict[str, Any]:
    """The schemas, but with no members other than those they name: what is not described must not be answered."""
    schemas: dict[str, Any] = document()["components"]["schemas"]
    for schema in schemas.values():
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
    return schemas


STRICT = strict()


def valid(path: str, method: str, status: int, content: Any) -> None:
    """Raises for an answer that the document does not describe."""
    responses = DOCUMENT["paths"][path][method]["responses"]
    described = responses[str(status)]["content"]
    kind = "application/json" if status < 400 else "application/problem+json"
    Draft202012Validator({**described[kind]["schema"], "components": {"schemas": STRICT}}).validate(content)


def test_every_reference_leads_somewhere_and_every_schema_is_one() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    for found in re.findall(r"'#/components/schemas/(\w+)'", str(DOCUMENT)):
        assert found in schemas
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    assert DOCUMENT["openapi"] == "3.1.0"


def test_every_path_is_described_and_every_description_is_a_path() -> None:
    from sidecar.admin.server import AdminServer

    stage_routes = set()
    for route in AdminServer._routes(_Nobody()):  # type: ignore[arg-type]
        stage_routes.add((route.method.lower(), route.path))
    described = {(method, path) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert stage_routes - described == {("get", "/ui/{name:.+}")}
    assert described <= stage_routes


class _Nobody:
    """Has every handler."""

    def __getattr__(self, name: str) -> object:
        return name


async def busy() -> RealTime:
    """A stage on which much has happened, so that few members are null."""
    stage = RealTime()
    venue, now = stage["venue"], stage.loop.time()
    stage.sources["venue"] = [Source("name", now, "no such name")]
    stage.history.sample([venue], now - 12, 0.0)
    for second in range(1, 12):
        venue.counters.request(200, "ok", 0.002)
        venue.counters.request(503, "status", 0.2)
        venue.endpoints[0].counters.attempt("ok")
        stage.history.sample([venue], now - 12 + second, float(second))
    operator.force_breaker(venue, "POST /reports", "open", now + 60, now)
    operator.drain(venue, venue.endpoints[0], now + 60, now)
    venue.endpoints[1].connect_failed(now)
    venue.changed(now)
    stage.events.add("breaker", "warning", 0.0, "breaker open", {"service": "venue", "to": "open"})
    stage.reload_as = "rejected"
    await stage.reload()
    return stage


READS = [
    ("/services", "/services", 200),
    ("/services/venue", "/services/{name}", 200),
    ("/services/auth", "/services/{name}", 200),
    ("/services/nowhere", "/services/{name}", 404),
    ("/history", "/history", 200),
    ("/config", "/config", 200),
    ("/events", "/events", 200),
    ("/events?limit=x", "/events", 400),
    ("/explain?target=/venue/x", "/explain", 200),
    ("/explain?target=/venue/reports&method=POST", "/explain", 200),
    ("/explain?target=/nowhere", "/explain", 200),
    ("/explain", "/explain", 400),
]
CHANGES = [
    ("/services/venue/breaker", '{"state": "open"}', "/services/{name}/breaker", 200),
    ("/services/venue/breaker", '{"state": "auto"}', "/services/{name}/breaker", 200),
    ("/services/venue/breaker", '{"state": "open", "route": "/slow"}', "/services/{name}/breaker", 409),
    ("/services/venue/breaker", '{"state": "open", "route": "/x"}', "/services/{name}/breaker", 404),
    ("/services/venue/breaker", "{", "/services/{name}/breaker", 400),
    ("/services/venue/endpoints/10.0.0.0:3002", '{"action": "restore"}', "/services/{name}/endpoints/{address}", 200),
    ("/services/venue/endpoints/x", '{"action": "restore"}', "/services/{name}/endpoints/{address}", 404),
    ("/services/venue/endpoints/10.0.0.1:3002", '{"action": "drain"}', "/services/{name}/endpoints/{address}", 200),
    ("/services/venue/endpoints/10.0.0.0:3002", '{"action": "eject"}', "/services/{name}/endpoints/{address}", 409),
    ("/log", '{"level": "debug"}', "/log", 200),
    ("/reload", "{}", "/reload", 422),
    ("/drain", "{}", "/drain", 202),
]


@pytest.mark.parametrize("of", [RealTime, busy])
async def test_every_answer_is_what_the_document_says(of: Any) -> None:
    made = of()
    stage: RealTime = made if isinstance(made, RealTime) else await made
    async with serving(stage) as client:
        for asked, path, status in READS:
            found, content = await client.get(asked)
            assert found == status, asked
            valid(path, "get", status, content)
        if of is busy:
            await _change(client)
            stage.reload_as = "ok"
            status, content = await client.post("/reload")
            assert status == 200
            valid("/reload", "post", 200, content)


async def _change(client: Client) -> None:
    for asked, body, path, status in CHANGES:
        found, content = await client.post(asked, body)
        assert found == status, (asked, content)
        valid(path, "post", status, content)
    for headers, status in (({"Content_Type": "text/plain"}, 415), ({"Host": "evil.com"}, 421)):
        for operation in OPERATIONS:
            if operation.method == "post":
                path = operation.path.replace("{name}", "venue").replace("{address}", "x")
                found, content = await client.post(path, "{}", **headers)
                assert found == status
                valid(operation.path, "post", status, content)


async def test_it_is_served() -> None:
    async with serving(RealTime()) as client:
        assert await client.get("/openapi.json") == (200, DOCUMENT)
