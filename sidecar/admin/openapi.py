"""Builds the OpenAPI 3.1 document of the admin API.

This module owns the table of operations. Shapes come from the structs in `sidecar.admin.answers`, so the document
cannot differ from the responses.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

from sidecar import __version__
from sidecar.admin import answers
from sidecar.config import effective
from sidecar.config.docstrings import docstrings
from sidecar.config.effective import Setting
from sidecar.telemetry import events, history

_DESCRIBED: Final = (answers, effective, events, history)
"""Where the structs are."""
_REF: Final = "#/components/schemas/{name}"
_PROBLEMS: Final = {
    "400": "The request is malformed",
    "401": "A bearer token is required, and it is missing or wrong",
    "403": "The request comes from another site's page",
    "404": "Nothing has that name",
    "409": "It cannot be done now; `reason` says why",
    "413": "The body has more than 64 KiB",
    "415": "A change must be sent with Content-Type: application/json",
    "421": "Host is not this listener's",
    "422": "The configuration file was rejected; `errors` lists its mistakes",
    "503": "It cannot be done at this moment",
}
_ALWAYS: Final = ("401", "403", "421")


class Operation(NamedTuple):
    """One method of one path. `takes` and `answers` are structs."""

    method: str
    path: str
    summary: str
    answers: Any
    takes: Any = None
    query: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    status: str = "200"


_CHANGE: Final = ("400", "413", "415")

OPERATIONS: Final = (
    Operation("get", "/services", "Overview of all services", answers.Services),
    Operation("get", "/services/{name}", "One service with all details", answers.ServiceDetail, problems=("404",)),
    Operation("get", "/history", "Rates and latencies of the last ten minutes", answers.History),
    Operation("get", "/config", "The configuration in force, and the last reload", answers.Config),
    Operation(
        "get",
        "/events",
        "The last 1,000 events; a stream of them with Accept: text/event-stream or ?follow=true",
        answers.Events,
        query=("limit", "service", "since", "follow"),
        problems=("400", "503"),
    ),
    Operation(
        "get",
        "/explain",
        "Which policy a request would get, and what would happen to it now",
        answers.Explanation,
        query=("method", "target", "host", "grpc", "service"),
        problems=("400",),
    ),
    Operation(
        "post",
        "/services/{name}/breaker",
        "Force a breaker open or closed for a time, or release it",
        answers.BreakerDetail,
        answers.ForceBreaker,
        problems=(*_CHANGE, "404", "409"),
    ),
    Operation(
        "post",
        "/services/{name}/endpoints/{address}",
        "Keep requests away from an endpoint for a time, or restore it",
        answers.Endpoint,
        answers.SteerEndpoint,
        problems=(*_CHANGE, "404", "409"),
    ),
    Operation(
        "post",
        "/log",
        "Change the log level or the access log for a time",
        answers.Log,
        answers.SetLog,
        problems=_CHANGE,
    ),
    Operation(
        "post",
        "/reload",
        "Reload the configuration file",
        answers.Reload,
        answers.Empty,
        problems=(*_CHANGE, "409", "422", "503"),
    ),
    Operation(
        "post",
        "/drain",
        "Shut down in order, as SIGTERM does",
        answers.Draining,
        answers.Empty,
        (),
        _CHANGE,
        status="202",
    ),
)

_TEXTS: Final = {
    "/metrics": "Prometheus metrics",
    "/livez": "Whether the process is alive",
    "/readyz": "Whether it accepts requests; 503 while it drains",
    "/health": "The report of the health chain",
    "/openapi.json": "This document",
    "/": "The dashboard",
}


def document() -> dict[str, Any]:
    """Builds the whole document."""
    kinds = [one for each in OPERATIONS for one in (each.answers, each.takes) if one is not None]
    _, schemas = msgspec.json.schema_components([*kinds, answers.Problem, Setting], ref_template=_REF)
    for name, schema in schemas.items():
        schema["description"] = _description(name)
    schemas["SettingOrTree"] = {
        "description": "An effective value and where it comes from, or the keys below it",
        "anyOf": [
            {"$ref": "#/components/schemas/Setting"},
            {"type": "object", "additionalProperties": {"$ref": "#/components/schemas/SettingOrTree"}},
        ],
    }
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation)
    for path, summary in _TEXTS.items():
        paths[path] = {"get": {"summary": summary, "responses": {"200": {"description": summary}}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Sidecar admin API", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _description(name: str) -> str:
    """A struct's docstring, from its source: Python keeps none under -OO."""
    struct = next(found for module in _DESCRIBED if (found := getattr(module, name, None)) is not None)
    return docstrings(struct)[""]


def _operation(of: Operation) -> dict[str, Any]:
    responses: dict[str, Any] = {of.status: {"description": of.summary, "content": _json(of.answers)}}
    if of.path == "/events":
        responses["200"]["content"]["text/event-stream"] = {"schema": {"type": "string"}}
    for status in sorted({*_ALWAYS, *of.problems}):
        content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
        responses[status] = {"description": _PROBLEMS[status], "content": content}
    names = [part[1:-1] for part in of.path.split("/") if part.startswith("{")]
    parameters = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    parameters += [
        {"name": name, "in": "query", "required": name == "target", "schema": {"type": "string"}} for name in of.query
    ]
    found: dict[str, Any] = {"summary": of.summary, "parameters": parameters, "responses": responses}
    if of.takes is not None:
        found["requestBody"] = {"required": True, "content": _json(of.takes)}
    return found


def _json(of: Any) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REF.format(name=of.__name__)}}}
