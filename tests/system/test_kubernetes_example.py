"""deploy/k8s/example as processes: its two services and its policy as they are there, but for the ports."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from benchmarks.ports import free_ports
from tests.support.daemon import ROOT, Ports
from tests.support.eventually import eventually
from tests.support.kustomize import key, render
from tests.support.rig import Daemons
from tests.support.urls import opened

OBJECTS = {key(one): one for one in render(ROOT / "deploy" / "k8s" / "example")}


@contextmanager
def running(name: str, port: int, proxy_port: int) -> Iterator[None]:
    """What the container of this Deployment runs, on a port of loopback."""
    pod = OBJECTS["Deployment", "sidecar-example", name]["spec"]["template"]["spec"]
    (program,) = pod["containers"][0]["args"]
    bound = program.replace('("", 8080)', str(("127.0.0.1", port)))
    bound = bound.replace("localhost:15001", f"127.0.0.1:{proxy_port}")
    with subprocess.Popen([sys.executable, "-c", bound], stderr=subprocess.DEVNULL) as process:
        try:
            eventually(lambda: process.poll() is None and listens(port), timeout=10)
            yield
        finally:
            process.kill()


def listens(port: int) -> bool:
    try:
        opened(f"http://127.0.0.1:{port}/", timeout=5).close()
    except OSError:
        return False
    return True


def test_the_one_that_calls_sees_nothing_of_every_fourth_request_that_fails(start: Daemons) -> None:
    ports = Ports.free()
    venue, event = free_ports(2)
    policy: str = OBJECTS["ConfigMap", "sidecar-example", "sidecar-config"]["data"]["sidecar.yaml"]
    for service, port in (("venue", venue), ("event", event)):
        assert f"http://{service}:8080" in policy
        policy = policy.replace(f"http://{service}:8080", f"http://127.0.0.1:{port}")
    with ExitStack() as stack:
        stack.enter_context(running("venue", venue, ports.proxy))
        daemon = start(policy, ports=ports)
        stack.enter_context(running("event", event, ports.proxy))
        for number in range(12):
            with opened(f"http://127.0.0.1:{event}/{number}") as answer:
                told = json.load(answer)
            wanted = {"service": "venue", "path": f"/{number}", "failed": False}
            assert told == {"service": "event", "venue": wanted}
        assert daemon.metric("sidecar_retries_total", service="venue", result="sent") >= 12 // 4
