"""`sidecar events`: list past events, and follow new ones."""

from __future__ import annotations

import json
from typing import Any

import click

from sidecar.cli.admin_client import AdminError
from sidecar.cli.options import Admin, ServiceName, admin_options, service_names, unknown_service
from sidecar.cli.output import print_json, printable

_KIND_WIDTH = 9
_MOST_LISTED = 3


@click.command(
    short_help="List past events, and follow new ones.",
    help="""
    List events: breakers that opened, endpoints that were added or removed, reloads, actions of operators.

    The sidecar keeps the last 1,000 events. With --follow and --json each event is one line of JSON.

    \b
    Examples:
      sidecar events
      sidecar events --service venue --lines 100
      sidecar events --follow
    """,
)
@click.option("-f", "--follow", is_flag=True, help="Then print new events as they happen, until Ctrl-C.")
@click.option("--service", type=ServiceName(), metavar="SERVICE", help="Only the events of this service.")
@click.option(
    "-n", "--lines", type=click.IntRange(0, 1000), default=20, show_default=True, help="How many past events."
)
@admin_options
def events(admin: Admin, follow: bool, service: str | None, lines: int) -> None:
    if service is not None and service not in (names := service_names(admin.client)):
        raise AdminError(unknown_service(service, names))
    past = admin.client.get("events", limit=max(lines, 1), service=service)
    if admin.as_json and not follow:
        print_json({**past, "events": past["events"][-lines:] if lines else []})
        return
    for event in past["events"][-lines:] if lines else []:
        _print(event, admin.as_json)
    if follow:
        try:
            _follow(admin, service, past["events"])
        except KeyboardInterrupt:
            return
        raise AdminError(f"{admin.client.url} closed the stream of events")


def _follow(admin: Admin, service: str | None, past: list[dict[str, Any]]) -> None:
    after = past[-1]["id"] if past else None
    for event in admin.client.events(after, service):
        if "lost" in event:
            click.echo(f"{event['lost']} events were lost: they came faster than they were read", err=True)
        elif (service is None or event.get("service") == service) and (after is None or event["id"] > after):
            _print(event, admin.as_json)


def _print(event: dict[str, Any], as_json: bool) -> None:
    click.echo(json.dumps(event, ensure_ascii=False) if as_json else printable(line_of(event)))


def line_of(event: dict[str, Any]) -> str:
    """`2026-11-23 01:02:03.456Z  breaker    venue: breaker open  from=closed to=open`."""
    time = str(event["time"]).replace("T", " ")
    line = f"{time}  {event['kind']:<{_KIND_WIDTH}}  {event.get('service') or '-'}: {event['text']}"
    fields = [_field(name, value) for name, value in (event.get("fields") or {}).items() if value not in (None, [], "")]
    return "  ".join([line, " ".join(fields)]) if fields else line


def _field(name: str, value: Any) -> str:
    if isinstance(value, list):
        more = f" and {len(value) - _MOST_LISTED} more" if len(value) > _MOST_LISTED else ""
        value = ", ".join(map(str, value[:_MOST_LISTED])) + more
    return f"{name}={json.dumps(value, ensure_ascii=False) if ' ' in str(value) else value}"
