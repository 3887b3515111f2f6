"""Testing an app against its services: a real sidecar in front of fakes that the test scripts.

A pytest plugin (`sidecar.testing.plugin`) gives the fixture `fake`. One real sidecar runs for a whole session, as the
same process that runs beside the app in production; behind it each faked service is a small HTTP server on a port of
127.0.0.1 that answers, fails, delays, resets as the test says. What is tested is then what really happens: retries,
breakers and timeouts are not imitated.

- `plugin`: the fixture, and what a failed test's report says;
- `stage`: what runs for the session, and what a test gets of it; `service`: one faked service;
- `script`, `answers`, `calls`, `paths`: what a fake was told to do and what it was asked; pure;
- `server`: the fakes' sockets, in a thread;
- `sidecar_process`, `policy_file`, `admin`, `log_lines`: the sidecar, from outside;
- `strays`: what it refused before it came to a fake.

Knows the daemon by its contract alone: command line, file, admin API, log. Nothing here is imported before a test asks
for the fixture, apart from the plugin itself.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sidecar.testing.answers import Answer as Answer
    from sidecar.testing.answers import answer as answer
    from sidecar.testing.calls import Call as Call
    from sidecar.testing.errors import FakeError as FakeError
    from sidecar.testing.script import Script as Script
    from sidecar.testing.service import ServiceFake as ServiceFake
    from sidecar.testing.stage import Fakes as Fakes

__all__ = ["Answer", "Call", "FakeError", "Fakes", "Script", "ServiceFake", "answer"]

_HOME = {
    "Answer": "answers",
    "Call": "calls",
    "FakeError": "errors",
    "Fakes": "stage",
    "Script": "script",
    "ServiceFake": "service",
    "answer": "answers",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
