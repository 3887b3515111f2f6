"""Options and argument types of the commands that call a running sidecar, and completion of service names.

Owns how the admin API is found, and the message for a service name that does not exist.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from click.shell_completion import CompletionItem

from sidecar.cli.admin_client import DEFAULT_ADMIN, AdminClient, AdminError

_Command = TypeVar("_Command", bound=Callable[..., Any])

COMPLETION_S: Final = 0.2
"""How long completion waits for names. With the start of Python it takes less than 0.3 s, so the shell feels fast."""

MAX_TOKEN: Final = 64 * 1024


@dataclass(frozen=True)
class Admin:
    """The sidecar that a command calls, and whether to print JSON."""

    client: AdminClient
    as_json: bool


def admin_options(command: _Command) -> _Command:
    """Adds `--admin`, `--token-file` and `--json`. The command gets them as its first argument, an Admin.

    With `--json`, a call that the API refuses prints the API's problem document on stdout too.
    """

    @functools.wraps(command)
    def wrapped(*arguments: Any, admin_url: str, token_file: Path | None, as_json: bool, **options: Any) -> Any:
        admin = Admin(admin_client(admin_url, token_file), as_json)
        try:
            return command(admin, *arguments, **options)
        except AdminError as error:
            if as_json and error.problem is not None:
                from sidecar.cli.output import print_json

                print_json(error.problem)
            raise

    for option in (json_option, token_option, admin_option):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value]


def admin_client(admin_url: str, token_file: Path | None, hint: str = "--admin") -> AdminClient:
    """A client. A bad URL or token file is a usage error, and `hint` is the name of the URL's option in it."""
    try:
        return AdminClient(admin_url, _token(token_file))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=hint) from None


def _token(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        with file.open("rb") as stream:
            token = stream.read(MAX_TOKEN).strip().decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not ASCII text"
        raise click.BadParameter(f"{file} cannot be read: {reason}", param_hint="--token-file") from None
    if not token.isprintable() or not token or " " in token:
        raise click.BadParameter(f"{file} does not hold a token", param_hint="--token-file")
    return token


admin_option = click.option(
    "--admin",
    "admin_url",
    metavar="URL",
    envvar="SIDECAR_ADMIN",
    default=DEFAULT_ADMIN,
    help=f"The sidecar's admin listener. Default: $SIDECAR_ADMIN, then {DEFAULT_ADMIN}.",
)
token_option = click.option(
    "--token-file",
    metavar="FILE",
    envvar="SIDECAR_ADMIN_TOKEN_FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file with the admin API's token, if the API needs one. Default: $SIDECAR_ADMIN_TOKEN_FILE.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


SHORTEST_FOR_S: Final = 1.0
LONGEST_FOR_S: Final = 86400.0
"""The bounds of the admin API (`sidecar.admin.commands`)."""


class Duration(click.ParamType[str]):
    """A duration in the notation of the configuration, such as `10m`. It is passed on as it was typed."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuses a value that the API would refuse, before any call."""
        from sidecar.config.errors import BadValueError
        from sidecar.config.units import parse_duration

        try:
            seconds = parse_duration(value)
        except BadValueError as error:
            self.fail(str(error), param, ctx)
        if not SHORTEST_FOR_S <= seconds <= LONGEST_FOR_S:
            self.fail("expected a duration from 1s to 24h", param, ctx)
        return str(value)


def for_option(default: str | None, purpose: str) -> Callable[[_Command], _Command]:
    """Adds `--for DURATION`: how long a change lasts."""
    return click.option(
        "--for", "duration", metavar="DURATION", type=Duration(), default=default, show_default=True, help=purpose
    )


class ServiceName(click.ParamType[str]):
    """The name of a service; shells complete it."""

    name = "service"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Names from the running sidecar, else from the configuration file. Nothing if that takes too long."""
        return [CompletionItem(name) for name in names_in_time(ctx.params) if name.startswith(incomplete)]


def names_in_time(given: dict[str, Any]) -> list[str]:
    """The names of the services, or none after COMPLETION_S. `given` holds the options that were typed so far."""
    from threading import Thread

    found: list[list[str]] = []
    thread = Thread(target=lambda: found.append(_names(given)), daemon=True)
    thread.start()
    thread.join(COMPLETION_S)
    return found[0] if found else []


def _names(given: dict[str, Any]) -> list[str]:
    try:
        client = AdminClient(given.get("admin_url") or DEFAULT_ADMIN, _token(given.get("token_file")), COMPLETION_S)
        return service_names(client)
    except (AdminError, ValueError, KeyError, TypeError, click.ClickException):
        return _configured_names(given)


def _configured_names(given: dict[str, Any]) -> list[str]:
    from sidecar.cli.config_file import default_config

    path = given.get("path") or default_config()
    if path is None:
        return []
    import os

    from sidecar.config.errors import ConfigErrors
    from sidecar.config.load import load

    try:
        return list(load(path, os.environ).services)
    except ConfigErrors:
        return []


def service_names(client: AdminClient) -> list[str]:
    """The names of the running sidecar's services. Raises AdminError."""
    return [str(service["name"]) for service in client.get("services")["services"]]


@contextmanager
def about(client: AdminClient, service: str) -> Iterator[None]:
    """For calls about one service: if there is none of this name, the error names the one that may be meant."""
    try:
        yield
    except AdminError as error:
        if error.status != 404:
            raise
        names = service_names(client)
        if service in names:
            raise
        raise AdminError(unknown_service(service, names), error.status, error.problem) from None


def unknown_service(name: str, names: list[str]) -> str:
    """The message for a service name that does not exist."""
    import difflib

    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if near:
        return f"there is no service {name!r}; did you mean {near[0]}?"
    known = f"; the services are {', '.join(names)}" if names else ""
    return f"there is no service {name!r}{known}"
