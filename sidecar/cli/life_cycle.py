"""`sidecar wait`, `prestop` and `quit`: commands for the hooks and entrypoints of a pod.

Owns the commands, their messages and exit codes; the calls to the probe listener are `probe_client`. Each command is a
new process with little CPU, so nothing heavy is imported: only `quit` imports the client of the admin API.
"""

from __future__ import annotations

from pathlib import Path

import click

from sidecar.cli.probe_client import DEFAULT_PROBE, ProbeClient, wait_idle, wait_ready
from sidecar.cli.seconds import Seconds

probe_option = click.option(
    "--probe",
    metavar="URL",
    envvar="SIDECAR_PROBE",
    default=DEFAULT_PROBE,
    help=f"The sidecar's probe listener. Default: $SIDECAR_PROBE, then {DEFAULT_PROBE}.",
)


@click.command(
    short_help="Wait until the sidecar is ready.",
    help="""
    Wait until the sidecar is ready. For entrypoints, and for postStart hooks on clusters before 1.29.

    Exits 0 when the sidecar is ready, 1 if it is not ready in time.
    """,
)
@probe_option
@click.option(
    "--timeout", type=Seconds(), default="60s", show_default=True, help="The longest wait. After that it exits 1."
)
def wait(probe: str, timeout: float) -> None:
    from time import monotonic, sleep

    client = _client(probe)
    if not wait_ready(client.ready, timeout, monotonic, sleep):
        raise click.ClickException(f"the sidecar at {client.url} was not ready within {timeout:g} s")


@click.command(
    short_help="Wait until the app makes no more calls: a preStop hook.",
    help="""
    Wait until the app makes no more calls. A preStop hook for a sidecar that is an ordinary container.

    A kubelet ends all containers of a pod at the same time. It sends SIGTERM to the sidecar when this hook has ended. A
    native sidecar does not need the hook.

    \b
    Examples:
      sidecar prestop --idle 2s --max 15s

    Always exits 0: a hook that fails would change nothing.
    """,
)
@probe_option
@click.option("--idle", type=Seconds(), default="2s", show_default=True, help="How long there must be no call.")
@click.option(
    "--max",
    "longest",
    type=Seconds(),
    default="15s",
    show_default=True,
    help="The longest wait. After that it ends anyway.",
)
def prestop(probe: str, idle: float, longest: float) -> None:
    from time import monotonic, sleep

    client = _client(probe)
    how = wait_idle(client.traffic, idle, longest, monotonic, sleep)
    words = {"idle": "no more calls", "late": f"calls still come after {longest:g} s", "gone": "the sidecar is gone"}
    click.echo(words[how], err=True)


@click.command(
    name="quit",
    short_help="Stop the sidecar when a Job's work is done.",
    help="""
    Stop the sidecar in good order, without a question. For the end of a Job's main process on clusters before 1.29.

    A Job with an ordinary sidecar is complete only when the sidecar has ended too. `curl -X POST -H 'Content-Type:
    application/json' -d '{}' localhost:15000/drain` does the same from an image without this command.

    \b
    Examples:
      sidecar quit

    Exits 0 if the sidecar stops or has stopped already, 1 if it refuses.
    """,
)
@click.option(
    "--admin",
    "admin_url",
    metavar="URL",
    envvar="SIDECAR_ADMIN",
    default="http://127.0.0.1:15000",
    show_default=True,
    help="The sidecar's admin listener.",
)
@click.option(
    "--token-file",
    metavar="FILE",
    envvar="SIDECAR_ADMIN_TOKEN_FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file with the admin API's token, if the API needs one.",
)
def quit_(admin_url: str, token_file: Path | None) -> None:
    from sidecar.cli.admin_client import AdminError
    from sidecar.cli.options import admin_client

    client = admin_client(admin_url, token_file)
    try:
        client.post("drain", body={})
    except AdminError as error:
        if error.status or not _nothing_listens(client.url):
            raise


def _nothing_listens(url: str) -> bool:
    """Whether the sidecar is gone. Asked after a failed call: it may have stopped before the call, or during it."""
    import socket
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname, parts.port or 80), timeout=2).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def _client(url: str) -> ProbeClient:
    try:
        return ProbeClient(url)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--probe") from None
