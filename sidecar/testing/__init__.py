"""Tools to test an app against its services: a real sidecar in front of fake services that the test scripts.

A pytest plugin (`sidecar.testing.plugin`) provides the fixture `fake`. One real sidecar runs for the whole test
session; it is the same program that runs beside the app in production. Behind it, each fake service is a small HTTP
server on a port of 127.0.0.1. It answers, fails, delays or resets as the test says. Retries, breakers and timeouts are
therefore real, not imitated.

- `plugin`: the fixture, and what the report of a failed test contains
- `stage`: what runs for the session, and what each test gets of it; `service`: one fake service
- `script`, `answers`, `calls`, `paths`: what a fake has to do, and the requests it received; no I/O
- `grpc_script`, `grpc_answers`, `grpc_calls`: the same for gRPC; `turns`: what both have in common
- `server`, `grpc_server`: the fakes' sockets, in a thread; `sockets`: what both have in common
- `sidecar_process`, `policy_file`, `admin`, `log_lines`: the sidecar, seen from outside
- `strays`: requests that the sidecar refused before they reached a fake

This package knows the daemon only by its contract: command line, configuration file, admin API and log. Only the plugin
itself is imported before a test asks for the fixture.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sidecar.testing.answers import Answer as Answer
    from sidecar.testing.answers import answer as answer
    from sidecar.testing.calls import Call as Call
    from sidecar.testing.errors import FakeError as FakeError
    from sidecar.testing.grpc_answers import GrpcAnswer as GrpcAnswer
    from sidecar.testing.grpc_answers import grpc_answer as grpc_answer
    from sidecar.testing.grpc_calls import GrpcCall as GrpcCall
    from sidecar.testing.grpc_script import GrpcScript as GrpcScript
    from sidecar.testing.script import Script as Script
    from sidecar.testing.service import ServiceFake as ServiceFake
    from sidecar.testing.stage import Fakes as Fakes

__all__ = [
    "Answer",
    "Call",
    "FakeError",
    "Fakes",
    "GrpcAnswer",
    "GrpcCall",
    "GrpcScript",
    "Script",
    "ServiceFake",
    "answer",
    "grpc_answer",
]

_HOME = {
    "Answer": "answers",
    "Call": "calls",
    "FakeError": "errors",
    "Fakes": "stage",
    "GrpcAnswer": "grpc_answers",
    "GrpcCall": "grpc_calls",
    "GrpcScript": "grpc_script",
    "Script": "script",
    "ServiceFake": "service",
    "answer": "answers",
    "grpc_answer": "grpc_answers",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
