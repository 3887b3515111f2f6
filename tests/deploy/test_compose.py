"""deploy/compose.yaml: valid, coherent, and what its containers run does what the page about it says.

docs/docker.md says what was run with an engine.
"""

from __future__ import annotations

import json
import os
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
from tests.support.shown import blocks_of

PATH = ROOT / "deploy" / "compose.yaml"
COMPOSE: dict[str, Any] = yaml.safe_load(PATH.read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
CONFIG = ROOT / "deploy" / "compose" / "sidecar.yaml"
PAGE = (ROOT / "docs" / "docker.md").read_text()
SEE_IT = PAGE.partition("## See it\n")[2].partition("\n## ")[0]
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
    """The containers' processes, and a shell beside them, as on the machine that publishes their ports."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
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
        # Each published port leads to its container, as an engine sees to.
        ways = [
            f"connect-to = localhost:{outer}:{self.addresses[name]}:{inner}\n"
            for name, service in SERVICES.items()
            for _, outer, inner in (port.split(":") for port in service.get("ports", []))
        ]
        (folder / ".curlrc").write_text("".join(ways) + "max-time = 10\n")

    def shell(self, script: str) -> str:
        """What it prints."""
        command = ["nsenter", "-t", self.inside, "-n", "bash", "-c", script]
        environment = os.environ | {"CURL_HOME": str(self._folder)}
        return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, timeout=100).stdout

    def status(self, url: str) -> int:
        return int(self.shell(f"curl -s -o /dev/null -w '%{{http_code}}' {url}"))

    def end(self) -> dict[str, int]:
        """The exit code of each."""
        printed, _ = self.process.communicate(timeout=60)
        codes: dict[str, int] = json.loads(printed.splitlines()[-1])
        return codes

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    found = Running(tmp_path)
    try:
        yield found
    finally:
        found.kill()


@wants.program("curl", "ip", "unshare")
@wants.of_the_machine("root and network namespaces", there=can_have_namespaces())
def test_the_containers_do_what_the_page_says(running: Running) -> None:
    compose, first, failing, healing = [block.text for block in blocks_of(SEE_IT) if block.language == "sh"]
    assert compose == f"docker compose -f {PATH.relative_to(ROOT)} up\n"
    eventually(lambda: running.status("http://localhost:8000/venue/events/42") == 200, timeout=60)

    printed = running.shell(first)
    assert '"service": "venue"' in printed
    assert '"service": "payment"' in printed
    assert running.shell("curl -s http://localhost:15000/").lower().startswith("<!doctype html>")
    assert running.status(f"http://{running.addresses['app']}:15001/venue/events/42") == 0, "the app's alone"

    # What is up to chance is not counted: until one of each was seen.
    for status in (200, 503):
        ask = "-X POST http://localhost:8000/payment/charges"
        eventually(lambda status=status, ask=ask: running.status(ask) == status, timeout=60)

    assert re.search(r"^x-sidecar-reason: circuit_open\r?$", running.shell(failing), re.MULTILINE | re.IGNORECASE)
    assert '"service": "payment"' in running.shell(healing)

    def payment() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(running.shell("curl -s http://localhost:15000/services/payment"))
        return found

    before = payment()["requests"]
    eventually(lambda: payment()["requests"] > before + 5, timeout=60)  # the app calls by itself as well
    began = time.monotonic()
    assert running.end() == {"app": 0, "sidecar": 0, "venue": 0, "payment": 0}
    assert time.monotonic() - began < 60, "nobody waits to be killed"
