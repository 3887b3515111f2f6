"""Runs `sidecar demo`: binds the ports, starts the services as child processes, prints a guide, runs the daemon.

Owns the child processes, the text of the guide, and the copy of `sidecar.yaml` that the daemon uses. The copy has the
ports filled in, and users may change it. The responses of the services are in `sidecar.demo.service`, the policies in
`sidecar.yaml` beside this file.

The ports are bound here before anything starts, and the child processes inherit the listening sockets. So a taken port
is noticed in one place, and a call that comes before a child process is ready waits in the socket's backlog.
"""

from __future__ import annotations

import itertools
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from sidecar import daemon
from sidecar.config.load import load_with_origins

SERVICES = ("auth", "venue", "payment")
ENDPOINTS_EACH = 2
HOST = "127.0.0.1"
TEMPLATE = Path(__file__).with_name("sidecar.yaml")
GRACE_S = 5.0
"""How long a child process may take to end before it is killed."""

GUIDE = """\
The sidecar stands in front of three small services with two endpoints each: auth (ports {auth_1} and {auth_2}),
venue ({venue_1} and {venue_2}) and payment ({payment_1} and {payment_2}).
The configuration file is {config}.
The dashboard at http://localhost:{admin}/ shows everything as it happens. In another terminal:

1. Call a service by its name. Call it again, and its other endpoint answers.
     curl -s http://localhost:{proxy}/venue/events/42
   This also works for an app that only sets HTTP_PROXY:
     curl -s -x http://localhost:{proxy} http://venue-service/events/42

2. Make one endpoint of payment fail. A failed GET is sent again to the other endpoint, so you see only 200.
     curl -s -X POST 'http://localhost:{payment_1}/flaky?rate=1'
     for i in 1 2 3 4; do
       curl -s -o /dev/null -w '%{{http_code}} %{{content_type}}\\n' http://localhost:{proxy}/payment/cards
     done

3. Make the other endpoint fail too. A POST is never sent twice: 503 application/json comes from payment until the
   breaker opens. Then 503 application/problem+json comes from the sidecar at once, and payment gets no more calls.
     curl -s -X POST 'http://localhost:{payment_2}/flaky?rate=1'
     for i in 1 2 3 4 5 6 7 8; do
       curl -s -o /dev/null -w '%{{http_code}} %{{content_type}}\\n' -X POST http://localhost:{proxy}/payment/charges
     done
     curl -s -X POST http://localhost:{proxy}/payment/charges
   Show what the sidecar sees, and what it would do with the next call and why:
     {status}
     {explain}

4. Repair both endpoints. After 5 s one call passes as a test, and the breaker closes.
     curl -s -X POST 'http://localhost:{payment_1}/flaky?rate=0' 'http://localhost:{payment_2}/flaky?rate=0'
     sleep 5; curl -s -X POST http://localhost:{proxy}/payment/charges

5. Slow down one endpoint of auth. After 1 s without a response (timeout.attempt) the other endpoint is tried.
     curl -s -X POST 'http://localhost:{auth_1}/slow?ms=3000'
     for i in 1 2; do curl -s -w '%{{time_total}} s\\n' http://localhost:{proxy}/auth/me; done

6. Change that to 0.3 s in the file. The sidecar reads a changed file again, without a restart. The events show it.
     sed -i.bak 's/attempt: 1s/attempt: 300ms/' {quoted_config}
     sleep 1
     for i in 1 2; do curl -s -w '%{{time_total}} s\\n' http://localhost:{proxy}/auth/me; done
     {events}

Metrics are at http://localhost:{probe}/metrics. The lines below are the sidecar's log. Ctrl-C stops everything.
"""


class PortTaken(click.ClickException):
    """A port is taken. Shown as one line; the exit code is the one that the daemon has in this case."""

    exit_code = 2


@dataclass(frozen=True)
class DemoPorts:
    """The requested ports; 0 means any free port. `upstream` is the first of six consecutive ports."""

    proxy: int = 15001
    admin: int = 15000
    probe: int = 15021
    upstream: int = 19101


def run(ports: DemoPorts, seed: int | None) -> int:
    """Run the demo until SIGTERM or SIGINT; returns the exit code.

    Raises PortTaken if a port is taken.
    """
    with ExitStack() as stack:

        def bound(port: int, option: str) -> socket.socket:
            return stack.enter_context(_bind(port, option))

        own = {name: bound(getattr(ports, name), f"--{name}-port") for name in ("proxy", "admin", "probe")}
        service_ports = itertools.count(ports.upstream) if ports.upstream else itertools.repeat(0)
        listening = {
            service: [bound(next(service_ports), "--upstream-port") for _ in range(ENDPOINTS_EACH)]
            for service in SERVICES
        }
        numbers = {name: _port(listener) for name, listener in own.items()}
        for service, listeners in listening.items():
            numbers |= {f"{service}_{place}": _port(listener) for place, listener in enumerate(listeners, 1)}
        for listener in own.values():
            listener.close()  # the daemon binds these ports itself; binding them here only checked that they are free
        path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sidecar-demo-"))) / TEMPLATE.name
        path.write_text(_filled_in(TEMPLATE.read_text(), numbers))
        config, origins = load_with_origins(path, {})
        for service, listeners in listening.items():
            stack.enter_context(_child(service, listeners, seed))
        commands = {
            "status": _command("status", numbers["admin"]),
            "explain": _command("explain POST /payment/charges", numbers["admin"]),
            "events": _command("events", numbers["admin"]),
        }
        click.echo(GUIDE.format(config=path, quoted_config=shlex.quote(str(path)), **commands, **numbers))
        return daemon.run(config, path, origins, at_end=stack.close)


def _filled_in(template: str, numbers: Mapping[str, int]) -> str:
    """The configuration with a port number in place of each `${DEMO_AUTH_1_PORT:-19101}`."""
    return re.sub(r"\$\{DEMO_(\w+)_PORT:-\d+\}", lambda found: str(numbers[found[1].lower()]), template)


def _command(arguments: str, admin_port: int) -> str:
    """A shell command for `sidecar` with these arguments, in the form in which the demo was started; works in any
    directory.
    """
    started_as = Path(sys.argv[0])
    if started_as.name != "sidecar":  # python -m sidecar
        program = f"{shlex.quote(sys.executable)} -m sidecar"
    elif shutil.which("sidecar") == sys.argv[0]:
        program = "sidecar"
    else:
        program = shlex.quote(str(started_as.absolute()))
    admin = "" if admin_port == DemoPorts.admin else f" --admin http://{HOST}:{admin_port}"
    return f"{program} {arguments}{admin}"


def _port(listener: socket.socket) -> int:
    port: int = listener.getsockname()[1]
    return port


def _bind(port: int, option: str) -> socket.socket:
    try:
        return socket.create_server((HOST, port), backlog=512)
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        raise PortTaken(f"port {port} on {HOST}: {why}; choose another with {option}") from error


@contextmanager
def _child(service: str, listeners: list[socket.socket], seed: int | None) -> Iterator[None]:
    """A child process that serves `service` on `listeners`, which are closed here. It is stopped at the end of the
    context.

    It stays in our process group and lives as long as the pipe to its standard input is open. Ctrl-C goes to the whole
    group, so the child process starts with SIGINT ignored (this is inherited). The services then run until the daemon
    has drained.
    """
    descriptors = [listener.fileno() for listener in listeners]
    command = [sys.executable, "-m", "sidecar.demo.service", service, *map(str, descriptors)]
    if seed is not None:
        command.append(f"--seed={seed}")
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=descriptors)
    finally:
        signal.signal(signal.SIGINT, before)
    for listener in listeners:
        listener.close()
    try:
        yield
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
