"""docs/commands.md keeps its word: each command prints what the page shows, numbers and times aside.

A line of `...` on the page stands for any lines.
"""

from __future__ import annotations

import http.client
import re
import shlex
from collections.abc import Iterator

import pytest

from sidecar.cli.main import SECTIONS
from tests.support.daemon import ROOT, Daemon
from tests.support.operator import Operator
from tests.support.shown import difference, in_console
from tests.support.steps import answer
from tests.support.upstream import RefusedPort, Upstream

PATH = ROOT / "docs" / "commands.md"
TEXT = PATH.read_text()
CONFIG, WANTED = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    folder = tmp_path_factory.mktemp("commands")
    with RefusedPort() as dead, Upstream(answer()) as one, Upstream(answer()) as two:
        addresses = {"10.0.0.7:3002": one.authority, "10.0.0.8:3002": two.authority, "10.0.0.9:3005": dead.authority}
        config = CONFIG
        for written, real in addresses.items():
            config = config.replace(written, real)
        wanted = WANTED
        for written, real in addresses.items():
            wanted = wanted.replace(written, real)
        with Daemon(config) as daemon:
            listen = daemon.ports.yaml
            (folder / "sidecar.yaml").write_text(config)
            probe = f'probe: "127.0.0.1:{daemon.ports.probe}"'
            listen_wanted = listen.replace(probe, 'probe: "[::]:16021"')
            (folder / "wanted.yaml").write_text(listen_wanted + wanted.partition("\n")[2])
            addresses["http://127.0.0.1:15000"] = f"http://127.0.0.1:{daemon.ports.admin}"
            addresses["[::]:15021"] = f"127.0.0.1:{daemon.ports.probe}"
            for path, times in (("/venue/events/42", 20), ("/payment/charge", 12)):
                for _ in range(times):
                    connection = http.client.HTTPConnection("127.0.0.1", daemon.ports.proxy, timeout=10)
                    connection.request("GET", path)
                    connection.getresponse().read()
                    connection.close()
            yield Operator(folder, addresses, admin=addresses["http://127.0.0.1:15000"])


def test_the_page_shows_what_the_commands_print(operator: Operator) -> None:
    """In the order of the page: one command sees what another did."""
    for command, output in in_console(TEXT):
        unlike = difference(output or "", operator.prints(command))
        assert unlike is None, f"$ {command}\n{unlike}"


def test_each_command_is_on_the_page() -> None:
    in_a_cluster = set(SECTIONS["Kubernetes"])  # docs/kubernetes.md shows them; here they are named
    assert all(f"`sidecar {name}" in TEXT for name in in_a_cluster)
    named = {name for commands in SECTIONS.values() for name in commands} - {"run", "demo"} - in_a_cluster
    assert named <= {shlex.split(one.command)[1] for one in in_console(TEXT)}


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (PATH.parent / target).is_file(), target
