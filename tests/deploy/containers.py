"""Runs what the containers of a compose file run, as processes, where no engine is at hand.

Each container gets a network namespace of its own on one bridge, or the one of the service that its `network_mode`
names; the others are in its /etc/hosts by their names. There is no image: `python` is the Python that runs the tests,
the entry point of the image is the sidecar under test, and a path in a mounted folder is the path in that folder.
What an image and an engine do besides (the user, read-only roots, capabilities) is not done here.

    unshare --net --mount --pid --fork --kill-child python -m tests.deploy.containers compose.yaml

prints the address of each service and READY, and lives until its standard input is closed; then each process gets
SIGTERM, and its exit code is printed. All of it is in namespaces of its own: nothing is left, however it ends.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.support.daemon import SIDECAR

NETWORK = "192.0.2"
"""An address range that is nowhere in use (RFC 5737)."""
ENTRY_POINT = ["sidecar"]
"""The image's; tests/deploy/test_dockerfile.py holds it."""


def network_of(service: str, services: dict[str, Any]) -> str:
    """The service whose network namespace it is in."""
    kind, _, other = services[service].get("network_mode", "").partition(":")
    assert kind in {"", "service"}
    return other or service


def words(service: dict[str, Any], folder: Path) -> list[str]:
    """Its entry point and command, with what there is here in place of what is in the image."""
    found = [str(word) for word in (*service.get("entrypoint", ENTRY_POINT), *service.get("command", []))]
    for volume in service.get("volumes", []):
        source, target, mode = volume.split(":")
        assert mode == "ro"
        found = [word.replace(f"{target}/", f"{(folder / source).resolve()}/") for word in found]
    programs = {"python": [sys.executable], "sidecar": SIDECAR}
    return [*programs[found[0]], *found[1:]]


def run(*command: str) -> None:
    subprocess.run(command, check=True)


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def connect(name: str, address: str) -> None:
    """A network namespace of this name with `address`, on the bridge."""
    run("ip", "netns", "add", name)
    run("ip", "link", "add", f"v-{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
    run("ip", "link", "set", f"v-{name}", "master", "bridge", "up")
    for command in (f"addr add {address}/24 dev eth0", "link set eth0 up", "link set lo up"):
        run("ip", "-n", name, *command.split())


def main(path: Path) -> None:
    services: dict[str, Any] = yaml.safe_load(path.read_text())["services"]
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "bridge", "type", "bridge")
    run("ip", "addr", "add", f"{NETWORK}.1/24", "dev", "bridge")
    run("ip", "link", "set", "bridge", "up")
    networks = sorted({network_of(name, services) for name in services})
    addresses = {name: f"{NETWORK}.{place}" for place, name in enumerate(networks, 2)}
    hosts = "".join(f"{address} {name}\n" for name, address in addresses.items())
    Path("/run/hosts").write_text(f"127.0.0.1 localhost\n::1 localhost\n{hosts}")
    run("mount", "--bind", "/run/hosts", "/etc/hosts")
    for name in networks:
        connect(name, addresses[name])
    processes = {}
    for name, service in services.items():
        inside = ["nsenter", f"--net=/run/netns/{network_of(name, services)}"]
        processes[name] = subprocess.Popen([*inside, *words(service, path.parent)], stdin=subprocess.DEVNULL)
    say(f"{json.dumps(addresses)} READY")
    sys.stdin.read()
    # As compose does it: who depends on others ends before them.
    codes = {}
    for name in sorted(processes, key=lambda name: "network_mode" not in services[name]):
        processes[name].terminate()
        codes[name] = processes[name].wait(30)
    say(json.dumps(codes))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
