"""What the daemon imports, and when: each library costs memory in every pod."""

from __future__ import annotations

import http.client
import time

from tests.support.daemon import Daemon
from tests.support.eventually import eventually
from tests.support.h2_app import H2Client
from tests.support.rig import Rig
from tests.support.steps import answer

CONFIG = """
services:
  venue: {url: "$venue", health: {path: /health, interval: 100ms}}
"""

NEVER = {"prometheus_client", "rich", "jsonschema", "pydantic", "watchfiles", "anyio", "redis", "cryptography"}
FOR_OPERATORS = {"aiohttp", "multidict", "yarl", "attr"}


def imported(daemon: Daemon) -> set[str]:
    """The top-level names of all modules that the process has imported by now."""
    lines = (line.rpartition("|") for line in daemon.stderr.splitlines() if line.startswith("import time:"))
    return {name.strip().partition(".")[0] for _, _, name in lines}


def test_aiohttp_is_loaded_when_an_operator_comes_and_not_before() -> None:
    with Rig(CONFIG, "venue", within=("env", "PYTHONPROFILEIMPORTTIME=1")) as rig:
        rig["venue"].play(answer(200, b"here"))
        with rig.client() as client:
            assert client.ask("GET", "/venue/x").status == 200
        for path in ("/livez", "/readyz", "/metrics", "/health"):
            assert rig.daemon.probe(path).status == 200
        eventually(lambda: rig.daemon.metric("sidecar_health_checks_total", service="venue") > 0)
        names = imported(rig.daemon)
        assert "sidecar" in names
        assert not names & (NEVER | FOR_OPERATORS)

        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", rig.daemon.ports.admin, timeout=20)
        connection.request("GET", "/services")
        assert connection.getresponse().status == 200
        assert time.monotonic() - began < 15
        connection.close()
        names = imported(rig.daemon)
        assert names >= FOR_OPERATORS
        assert not names & NEVER


def modules_of_http_2(daemon: Daemon) -> set[str]:
    lines = (line.rpartition("|")[2].strip() for line in daemon.stderr.splitlines() if line.startswith("import time:"))
    return {name for name in lines if name.startswith(("sidecar.proxy.h2.", "sidecar.proxy.downstream.h2_"))}


ENGINE = {"sidecar.proxy.h2.sensitive"}
"""Of the engine, the one module that is never compiled: compiled ones import each other without a word."""


def test_http_2_is_loaded_by_the_first_connection_that_speaks_it() -> None:
    with Rig(CONFIG, "venue", within=("env", "PYTHONPROFILEIMPORTTIME=1")) as rig:
        rig["venue"].play(answer(200, b"here"))
        assert rig.ask("GET", "/venue/x").status == 200
        eventually(lambda: rig.daemon.metric("sidecar_health_checks_total", service="venue") > 0)
        assert not modules_of_http_2(rig.daemon) & ENGINE
        with H2Client(rig.ports.proxy) as client:
            assert client.ask("/venue/x").status == 200
        assert modules_of_http_2(rig.daemon) >= ENGINE


def test_with_a_service_of_http_2_it_is_loaded_at_the_start() -> None:
    config = """
services:
  shop: {url: "grpc://127.0.0.1:1"}
"""
    with Rig(config, within=("env", "PYTHONPROFILEIMPORTTIME=1")) as rig:
        assert modules_of_http_2(rig.daemon) >= ENGINE
