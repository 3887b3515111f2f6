"""Asks a stage to explain a request."""

from __future__ import annotations

from functools import partial

import msgspec

from sidecar.admin import answers
from sidecar.admin.explain import explain, explain_grpc
from sidecar.admin.route_state import RouteState
from tests.admin.stage import Stage


def asked(stage: Stage, target: str, method: str = "GET", host: str = "") -> answers.Explanation:
    """The answer of `GET /explain`, which has the shape of its contract."""
    found = explain(
        stage.live, stage.origins, method, target, host, partial(RouteState, stage, stage.view, stage.clock)
    )
    msgspec.json.decode(msgspec.json.encode(found), type=answers.Explanation)
    return found


def asked_grpc(stage: Stage, target: str, host: str = "", service: str = "") -> answers.Explanation:
    """The same for a call of gRPC."""
    state_of = partial(RouteState, stage, stage.view, stage.clock)
    found = explain_grpc(stage.live, stage.origins, target, host, service, state_of)
    msgspec.json.decode(msgspec.json.encode(found), type=answers.Explanation)
    return found


def story(stage: Stage, target: str = "/venue/events/42", method: str = "GET") -> str:
    return "\n".join(asked(stage, target, method).words)
