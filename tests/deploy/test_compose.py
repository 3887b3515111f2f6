"""deploy/compose.yaml: valid, coherent, and what its containers run does what the page about it says.

docs/docker.md says what was run with an engine.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.config.load import loads
from tests.deploy.containers import network_of
from tests.support import wants
from tests.support.daemon import ROOT
from tests.support.eventually import eventually
from tests.support.schemas import check_schema, needs_schemas

PATH = ROOT / "deploy" / "compose.yaml"
COMPOSE: dict[str, Any] = yaml.safe_load(PATH.read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
CONFIG = ROOT / "deploy" / "compose" / "sidecar.yaml"
ENGINE = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child"]


def can_have_namespaces() -> bool:
    return bool(shutil.which("unshare")) and subprocess.run([*ENGINE, "true"], capture_output=True).returncode == 0


@needs_schemas
def test_it_is_valid_by_the_schema_of_compose() -> None:
    check_schema("vendor.compose-spec", PATH)


def test_one_service_builds_the_image_and_the_others_use_it() -> None:
    assert {service["image"] for service in SERVICES.values()} == {"service-sidecar:demo"}
    assert [name for name, service in SERVICES.items() if "build" in service] == ["sidecar"]
    assert {service["pull_policy"] for service in SERVICES.values()} == {"build", "never"}
    build = SERVICES["sidecar"]["build"]
    assert ((PATH.parent / build["context"]).resolve(), build["dockerfile"]) == (ROOT, "deploy/Dockerfile")


def test_the_sidecar_is_in_the_network_of_its_app_and_is_reached_from_this_machine_alone() -> None:
    assert network_of("sidecar", SERVICES) == "app"
    assert all(port.startswith("127.0.0.1:") for service in SERVICES.values() for port in service.get("ports", []))
    assert "ports" not in SERVICES["sidecar"], "an engine refuses that beside network_mode"


def test_what_is_mounted_is_there() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            assert (PATH.parent / volume.split(":")[0]).is_dir()
            assert volume.endswith(":ro")


def test_it_names_the_services_and_may_drain_before_it_is_killed() -> None:
    config = loads(CONFIG.read_text(), str(CONFIG), {})
    for name, service in config.services.items():
        (endpoint,) = service.endpoints
        assert (endpoint.url.host, endpoint.url.port) == (name, 8080)
        assert "0.0.0.0:8080" in SERVICES[name]["entrypoint"]
    assert config.drain.delay + config.drain.timeout < float(SERVICES["sidecar"]["stop_grace_period"].removesuffix("s"))


class Running:
    """The containers' processes, and curl from beside them, as from the machine that publishes their ports."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [*ENGINE, sys.executable, "-m", "tests.deploy.containers", str(PATH)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        addresses, _, ready = self.process.stdout.readline().rpartition(" ")
        assert ready == "READY\n"
        self.addresses: dict[str, str] = json.loads(addresses)
        (self.inside,) = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()

    def curl(self, command: str) -> str:
        """What `curl` prints, with each published port where an engine would lead it."""
        published = [port.split(":")[1:] for name in SERVICES for port in SERVICES[name].get("ports", [])]
        ways = [f"--connect-to localhost:{outer}:{self.addresses['app']}:{inner}" for outer, inner in published]
        words = [*" ".join(ways).split(), "--noproxy", "*", "--max-time", "10", "-s", *command.split()]
        run = subprocess.run(["nsenter", "-t", self.inside, "-n", "curl", *words], capture_output=True, text=True)
        return run.stdout

    def status(self, command: str) -> int:
        return int(self.curl(f"-o /dev/null -w %{{http_code}} {command}"))

    def end(self) -> dict[str, int]:
        """The exit code of each."""
        printed, _ = self.process.communicate(timeout=60)
        codes: dict[str, int] = json.loads(printed.splitlines()[-1])
        return codes

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def running() -> Iterator[Running]:
    found = Running()
    try:
        yield found
    finally:
        found.kill()


@wants.program("curl", "ip", "unshare")
@wants.of_the_machine("root and network namespaces", there=can_have_namespaces())
def test_the_containers_do_what_the_page_says(running: Running) -> None:
    def venue() -> dict[str, Any]:
        printed = running.curl("http://localhost:8000/venue/events/42")
        assert printed.startswith("{"), printed
        found: dict[str, Any] = json.loads(printed)
        assert found.get("service") == "venue", found
        return found

    assert eventually(venue, timeout=30)["path"] == "/events/42"
    assert running.curl("http://localhost:15000/").lower().startswith("<!doctype html>")
    assert running.status(f"http://{running.addresses['app']}:15001/venue/events/42") == 0, "the app's alone"

    # What can be counted by chance is not counted: until one of each was seen.
    for status in (200, 503):
        eventually(lambda status=status: running.status("-X POST http://localhost:8000/payment/charges") == status, 20)
    assert running.status("-X POST http://localhost:8000/payment/flaky?rate=1") == 200

    def refused() -> bool:
        printed = running.curl("-i -X POST http://localhost:8000/payment/charges")
        return re.search(r"^x-sidecar-reason: circuit_open\r?$", printed, re.MULTILINE | re.IGNORECASE) is not None

    eventually(refused, timeout=20)

    def payment() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(running.curl("http://localhost:15000/services/payment"))
        return found

    before = payment()["requests"]
    eventually(lambda: payment()["requests"] > before + 5, timeout=20)  # the app calls by itself as well
    began = time.monotonic()
    assert running.end() == {"app": 0, "sidecar": 0, "venue": 0, "payment": 0}
    assert time.monotonic() - began < 20
