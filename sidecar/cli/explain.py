"""`sidecar explain`: show where a request would go, which policy it gets, and what would happen to it.

Owns how the answer is printed. A running sidecar gives the answer; for a file alone `sidecar.admin.explain` does.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import click
from click.core import ParameterSource

from sidecar.cli.admin_client import NothingListens
from sidecar.cli.config_file import config_option, default_config, load_or_exit, refuse_unusable
from sidecar.cli.options import Admin, admin_options
from sidecar.cli.output import milliseconds, origin_of, print_json, printable, seconds, show, styled, table, value_text
from sidecar.cli.settings_tree import leaves


def _method(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"[A-Z][A-Z0-9_-]{0,31}", value):
        raise click.BadParameter("methods are case-sensitive: write them in upper case, such as GET")
    return value


def _target(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    if not value or "#" in value or any(sign <= " " for sign in value):
        raise click.BadParameter(
            "expected the target of a request line, such as /venue/events/42 or http://venue-service:3002/x"
        )
    return value


def _call(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"/[!-~]+/[!-~]+", value):
        raise click.BadParameter("expected a method of gRPC, such as /shop.v1.Venue/Get")
    return value


@click.command(
    short_help="Show where a request would go, and its policy.",
    help="""
    Show what would happen to a request: its service, route, breaker and endpoint, and each value of its policy.

    Nothing is sent to the service. TARGET is what the app asks the sidecar for: /venue/events/42.

    The running sidecar answers. If none runs, and neither --admin nor SIDECAR_ADMIN names one, the answer comes from
    the configuration file that `sidecar run` would take; stderr says so.

    \b
    Examples:
      sidecar explain GET /venue/events/42
      sidecar explain POST /reports/7 --host venue-service
      sidecar explain GET /venue/events/42 --config config/sidecar.yaml
      sidecar explain --grpc /shop.v1.Venue/Get
    """,
)
@click.argument("method", callback=_method, required=False)
@click.argument("target", callback=_target, required=False)
@click.option(
    "--grpc", "call", metavar="/SERVICE/METHOD", callback=_call, help="A call of gRPC, instead of METHOD TARGET."
)
@click.option("--service", metavar="NAME", help="With --grpc: the metadata x-sidecar-service that the app would send.")
@click.option(
    "--host", metavar="HOST", help="The Host header that the app would send, for a service that is found by Host."
)
@config_option("Explain what this file says, and call no sidecar: the route, the policy and the upstream target.")
@admin_options
def explain(
    admin: Admin,
    method: str | None,
    target: str | None,
    call: str | None,
    service: str | None,
    host: str | None,
    path: Path | None,
) -> None:
    asked = _asked(method, target, call, service, host)
    if path is None:
        try:
            answer = admin.client.get("explain", **asked)
        except NothingListens:
            path = _file_instead(admin)
            if path is None:
                raise
    if path is not None:
        answer = _of_file(path, admin, asked)
    if admin.as_json:
        print_json(answer)
        return
    _show(answer)


def _asked(
    method: str | None, target: str | None, call: str | None, service: str | None, host: str | None
) -> dict[str, str | None]:
    """The question as GET /explain takes it."""
    if call is not None:
        if method is not None:
            raise click.UsageError("--grpc is instead of METHOD and TARGET")
        return {"grpc": "true", "target": call, "host": host, "service": service}
    if method is None or target is None:
        raise click.UsageError("Missing argument: write METHOD TARGET, or --grpc /SERVICE/METHOD")
    if service is not None:
        raise click.UsageError("--service is for --grpc: over HTTP/1.1 the path or Host names the service")
    return {"method": method, "target": target, "host": host}


def _of_file(path: Path, admin: Admin, asked: dict[str, str | None]) -> dict[str, Any]:
    import msgspec

    from sidecar.admin.explain import explain, explain_grpc
    from sidecar.runtime.live import Live

    config, origins = load_or_exit(path, as_json=admin.as_json)
    live = Live(config, 0.0, float)
    target, host = asked["target"] or "", asked["host"] or ""
    if "grpc" in asked:
        answer = explain_grpc(live, origins, target, host, asked["service"] or "")
    else:
        answer = explain(live, origins, asked["method"] or "", target, host)
    return cast(dict[str, Any], msgspec.json.decode(msgspec.json.encode(answer)))


def _file_instead(admin: Admin) -> Path | None:
    """The file that `sidecar run` would take, unless the user named a sidecar to ask. stderr says that it is used."""
    if click.get_current_context().get_parameter_source("admin_url") is not ParameterSource.DEFAULT:
        return None
    path = default_config()
    if path is not None:
        refuse_unusable(path)
        click.echo(f"no sidecar listens at {admin.client.url}; this is what {path} says", err=True)
    return path


def _show(answer: dict[str, Any]) -> None:
    for sentence in answer.get("words") or []:
        click.echo(printable(sentence))
    if answer.get("service") is None:
        return
    click.echo()
    show(table(["", ""], _facts(answer), header=False))
    policy = answer.get("policy") or {}
    if policy:
        click.echo()
        show(table(["policy", "set by", "value"], _settings(policy)))


def _facts(answer: dict[str, Any]) -> list[tuple[Any, ...]]:
    facts = [
        ("service", f"{answer['service']}, found by {answer['by']}"),
        ("route", answer["route"] or "none: the service's own policy"),
        ("upstream target", answer["upstream_target"]),
    ]
    if answer.get("deadline_s"):
        facts.append(("deadline", duration_text(answer["deadline_s"])))
    breaker, balancer = answer.get("breaker"), answer.get("balancer")
    if breaker:
        wait = f" for {seconds(breaker['retry_after_s'])}" if breaker.get("retry_after_s") else ""
        would = {"admit": "admits it", "probe": "lets it through as a probe", "refuse": f"refuses it{wait}"}
        facts.append(("breaker", f"{breaker['state'].replace('_', '-')}, {would[breaker['would']]}"))
    if balancer:
        pick = balancer.get("would_pick")
        facts.append(("balancer", balancer["kind"] + (f", picks {pick}" if pick else "")))
        facts += [("  endpoint", f"{one['address']}: {one['why']}") for one in balancer.get("candidates") or []]
    if answer.get("fallback"):
        facts.append(("fallback", ", ".join(value_text(step) for step in answer["fallback"])))
    return facts


def duration_text(value: float) -> str:
    """A duration, such as `250.0 ms` or `15s`."""
    return milliseconds(value * 1000) if value < 1 else seconds(value)


def _settings(policy: dict[str, Any]) -> list[tuple[Any, ...]]:
    """The rows of the policy. What the file sets is bold; the defaults are dim."""
    return [
        (
            styled(key, "" if leaf["origin"] == "default" else "bold"),
            styled(origin_of(leaf), "dim" if leaf["origin"] == "default" else ""),
            value_text(leaf["value"]),
        )
        for key, leaf in leaves(policy)
    ]
