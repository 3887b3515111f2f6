"""The commands that change a running sidecar: `breaker`, `endpoint`, `log`, `reload` and `drain`.

Each is one POST, and prints in one line what it changed. What an operator forces ends by itself.
"""

from __future__ import annotations

from typing import Any

import click

from sidecar.cli.options import Admin, ServiceName, about, admin_options, for_option
from sidecar.cli.output import clock, print_json, time_left

_LEVELS = ("debug", "info", "warning", "error")
_ACCESS = ("off", "errors", "all")


@click.command(
    short_help="Force a breaker open or closed for a while.",
    help="""
    Force a service's breaker open (calls are refused) or closed (calls pass), or let it decide again (auto).

    \b
    Examples:
      sidecar breaker venue open --for 10m
      sidecar breaker venue open --for 10m --route 'POST /reports'
      sidecar breaker venue auto
    """,
)
@click.argument("service", type=ServiceName())
@click.argument("state", type=click.Choice(["open", "closed", "auto"]))
@for_option("5m", "How long it is forced, at most 24h. Then it decides for itself again.")
@click.option("--route", metavar="NAME", help="The breaker of this route, as `status` names it: 'POST /reports'.")
@admin_options
def breaker(admin: Admin, service: str, state: str, duration: str, route: str | None) -> None:
    lifetime = None if state == "auto" else duration
    with about(admin.client, service):
        answer = admin.client.post(
            "services", service, "breaker", body={"state": state, "for": lifetime, "route": route}
        )
    if admin.as_json:
        print_json(answer)
        return
    whose = f"{service} ({route})" if route else service
    if answer.get("forced"):
        until = answer.get("forced_until")
        click.echo(f"{whose}: breaker forced {answer['forced']} for {time_left(until)}, until {clock(until)}")
    else:
        click.echo(f"{whose}: breaker decides for itself again; it is {answer['state'].replace('_', '-')}")


@click.command(
    short_help="Drain or eject an endpoint for a while.",
    help="""
    Take an endpoint out of a service's rotation for a while, or put it back (restore).

    A drained endpoint gets no new requests, and finishes those that it has. An ejected endpoint is treated like one
    that failed. The last available endpoint cannot be ejected. `sidecar status SERVICE` shows each ADDRESS.

    \b
    Examples:
      sidecar endpoint venue 10.0.0.7:3002 drain --for 10m
      sidecar endpoint venue 10.0.0.7:3002 restore
    """,
)
@click.argument("service", type=ServiceName())
@click.argument("address")
@click.argument("action", type=click.Choice(["drain", "eject", "restore"]))
@for_option("10m", "How long it gets no requests.")
@admin_options
def endpoint(admin: Admin, service: str, address: str, action: str, duration: str) -> None:
    lifetime = None if action == "restore" else duration
    with about(admin.client, service):
        answer = admin.client.post("services", service, "endpoints", address, body={"action": action, "for": lifetime})
    if admin.as_json:
        print_json(answer)
        return
    if action == "restore":
        state = "available" if answer.get("available") else "not available yet"
        click.echo(f"{service}: {address} restored, it is {state}")
        return
    until = answer.get("forced_until") or answer.get("ejected_until")
    done = "drained" if action == "drain" else "ejected"
    click.echo(f"{service}: {address} {done} for {time_left(until)}, until {clock(until)}")


@click.command(
    short_help="Log more or less for a while.",
    help="""
    Log more or less for a while.

    \b
    Examples:
      sidecar log debug --for 10m
      sidecar log --access all --for 2m
    """,
)
@click.argument("level", required=False, type=click.Choice(_LEVELS))
@click.option("--access", type=click.Choice(_ACCESS), help="Which requests are logged.")
@for_option("10m", "How long. Then the values of the configuration are in force again.")
@admin_options
def log(admin: Admin, level: str | None, access: str | None, duration: str) -> None:
    if level is None and access is None:
        raise click.UsageError("expected a LEVEL, --access, or both")
    answer = admin.client.post("log", body={"level": level, "access": access, "for": duration})
    if admin.as_json:
        print_json(answer)
        return
    left = time_left(answer.get("until"))
    end = f" for {left}, until {clock(answer['until'])}" if left else ""
    click.echo(f"log level {answer['level']}, access {answer['access']}{end}")


@click.command(
    short_help="Read the configuration file again.",
    help="""
    Read the configuration file again and put it in force. A file with errors changes nothing.

    The sidecar also does this by itself when the file changes. `sidecar check --against URL` shows in advance what
    would change.

    \b
    Examples:
      sidecar reload
    """,
)
@admin_options
def reload(admin: Admin) -> None:
    answer = admin.client.post("reload", body={})
    if admin.as_json:
        print_json(answer)
        return
    for line in reload_lines(answer):
        click.echo(line)


def reload_lines(report: dict[str, Any]) -> list[str]:
    """The result of a reload, as lines."""
    changed = report.get("changed") or []
    count = f"{len(changed)} key{'' if len(changed) == 1 else 's'}"
    head = f"reloaded: {count} changed" if changed else "reloaded: nothing changed"
    return [head, *(f"  {key}" for key in changed), *(f"warning: {text}" for text in report.get("warnings") or [])]


@click.command(
    short_help="Stop the sidecar in good order, as SIGTERM does.",
    help="""
    Stop the sidecar in good order, as SIGTERM does: /readyz fails, requests in flight finish, the process exits.

    \b
    Examples:
      sidecar drain --yes
    """,
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@admin_options
def drain(admin: Admin, yes: bool) -> None:
    if not yes:
        click.confirm(f"Stop the sidecar at {admin.client.url}?", abort=True, err=True)
    answer = admin.client.post("drain", body={})
    if admin.as_json:
        print_json(answer)
        return
    click.echo(f"the sidecar at {admin.client.url} is draining: new requests are served for drain.delay, then it stops")
