"""`sidecar injector` and `sidecar inject`: add the sidecar to pods, by a webhook or in YAML files.

Owns the options of both, which can be set by environment variables too. aiohttp, cryptography and ruamel.yaml are
imported only by the command that needs them.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from msgspec.structs import replace

from sidecar.cli.seconds import Seconds
from sidecar.kubernetes.annotations import is_config_map, is_image
from sidecar.kubernetes.quantity import BadQuantity, Resources, cpu_resources, memory_resources
from sidecar.kubernetes.settings import InjectorSettings

_Command = TypeVar("_Command", bound=Callable[..., Any])
DEFAULTS: Final = InjectorSettings()
PREFIX: Final = "SIDECAR_INJECTOR_"
CHOSEN: Final = (
    "image",
    "image_pull_policy",
    "image_pull_secrets",
    "native",
    "config_map",
    "cpu",
    "memory",
    "kubernetes_discovery",
    "no_proxy",
    "user",
    "namespace",
)
"""The fields of InjectorSettings that have an option."""

PULL_POLICIES: Final = ("Always", "IfNotPresent", "Never")


class _WithoutExtra(click.ClickException):
    exit_code = 2

    def __init__(self, package: str) -> None:
        super().__init__(f"{package} is not installed: pip install 'service-sidecar[injector]'")


class _Checked(click.ParamType[Any]):
    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except (BadQuantity, ValueError) as error:
            self.fail(str(error), param, ctx)


def _image(text: str) -> str:
    if not is_image(text):
        raise ValueError("expected an image such as registry.example.com/sidecar:1.2")
    return text


def _config_map(text: str) -> str:
    if not is_config_map(text):
        raise ValueError("expected the name of a ConfigMap")
    return text


def _user(text: str) -> int | None:
    if text == "any":
        return None
    if not text.isascii() or not text.isdecimal() or not 0 < int(text) < 2**31:
        raise ValueError("expected a number above 0, or any")
    return int(text)


def _no_proxy(text: str) -> tuple[str, ...]:
    """The injector's own names, then the given ones, without duplicates."""
    given = [name.strip() for name in text.split(",")]
    if not all(name.isascii() and name.isprintable() and " " not in name for name in given):
        raise ValueError("expected host names, separated by commas, such as .example,10.0.0.0/8")
    return tuple(dict.fromkeys((*DEFAULTS.no_proxy, *filter(None, given))))


def _address(text: str) -> Any:
    from sidecar.config.addresses import parse_address
    from sidecar.config.errors import BadValueError

    try:
        return parse_address(text)
    except BadValueError as error:
        raise ValueError(str(error)) from None


def _shown(resources: Resources) -> str:
    return f"{resources.request}/{resources.limit}" if resources.limit else resources.request


def settings_options(command: _Command) -> _Command:
    """Adds the options for what is injected, each also read from SIDECAR_INJECTOR_...; the command gets `settings`."""

    @functools.wraps(command)
    def wrapped(**options: Any) -> Any:
        chosen = {name: options.pop(name) for name in CHOSEN}
        return command(settings=InjectorSettings(**chosen), **options)

    options: list[Callable[[Any], Any]] = [
        _option("--image", _Checked("image", _image), DEFAULTS.image, "The sidecar's image."),
        _option(
            "--image-pull-policy", click.Choice(PULL_POLICIES), DEFAULTS.image_pull_policy, "When the image is pulled."
        ),
        click.option(
            "--image-pull-secret",
            "image_pull_secrets",
            multiple=True,
            envvar=f"{PREFIX}IMAGE_PULL_SECRETS",
            help="A Secret in the pod's namespace for pulling the image, beside the pod's own. May be repeated.",
        ),
        click.option(
            "--native/--ordinary",
            default=True,
            show_default=True,
            envvar=f"{PREFIX}NATIVE",
            help="Inject a native sidecar (Kubernetes 1.29 or newer), or an ordinary container with hooks.",
        ),
        _option(
            "--config-map",
            _Checked("name", _config_map),
            DEFAULTS.config_map,
            "The ConfigMap with the sidecar's configuration, in the pod's namespace.",
        ),
        _option("--cpu", _Checked("cpu", cpu_resources), _shown(DEFAULTS.cpu), "CPU: REQUEST or REQUEST/LIMIT."),
        _option(
            "--memory",
            _Checked("memory", memory_resources),
            _shown(DEFAULTS.memory),
            "Memory: REQUEST or REQUEST/LIMIT.",
        ),
        click.option(
            "--kubernetes-discovery/--no-kubernetes-discovery",
            default=False,
            show_default=True,
            envvar=f"{PREFIX}KUBERNETES_DISCOVERY",
            help="Mount the service account's token. Services with discovery: {kubernetes: ...} need it.",
        ),
        click.option(
            "--no-proxy",
            type=_Checked("names", _no_proxy),
            default="",
            envvar=f"{PREFIX}NO_PROXY",
            help="Host names, separated by commas, to add to the NO_PROXY of containers that get HTTP_PROXY.",
        ),
        _option(
            "--user",
            _Checked("uid", _user),
            str(DEFAULTS.user),
            "The user ID that the sidecar runs as; any: the cluster's choice.",
        ),
        _option(
            "--namespace", click.STRING, DEFAULTS.namespace, "The injector's own namespace. Nothing is injected there."
        ),
    ]
    made: Any = wrapped
    for option in reversed(options):
        made = option(made)
    return made  # type: ignore[no-any-return]


def _option(name: str, kind: Any, default: Any, purpose: str) -> Callable[[_Command], _Command]:
    envvar = PREFIX + name.removeprefix("--").replace("-", "_").upper()
    return click.option(name, type=kind, default=default, show_default=True, envvar=envvar, help=purpose)


@click.command(
    short_help="Run the webhook that adds the sidecar to pods.",
    help="""
    Run the admission webhook: it adds the sidecar to the pods that ask for one.

    An environment variable can set each option: SIDECAR_INJECTOR_LOG_LEVEL sets --log-level. The manifests in
    deploy/k8s/ run the webhook in a cluster.

    Exits 0 after an orderly end, 2 if it cannot start.
    """,
)
@settings_options
@_option("--listen", _Checked("address", _address), "[::]:8443", "The address for admission reviews (HTTPS).")
@_option("--probe", _Checked("address", _address), "[::]:8080", "The address of /livez, /readyz and /metrics (HTTP).")
@click.option(
    "--certificates",
    metavar="FOLDER",
    envvar=f"{PREFIX}CERTIFICATES",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder with tls.crt and tls.key, read again when they change. Default: the injector makes its own"
    " certificates and keeps them in --secret.",
)
@_option(
    "--service",
    click.STRING,
    "sidecar-injector",
    "The Service in front of the injector. The certificate has its names.",
)
@_option("--secret", click.STRING, "sidecar-injector-tls", "The Secret in which replicas share the certificates.")
@_option("--webhook", click.STRING, "sidecar-injector", "The MutatingWebhookConfiguration that gets their CA.")
@_option("--log-level", click.Choice(["debug", "info", "warning", "error"]), "info", "The lowest level that is logged.")
@_option("--end", Seconds(), "5s", "How long reviews are still answered after SIGTERM.")
@click.option(
    "--fail-closed",
    is_flag=True,
    envvar=f"{PREFIX}FAIL_CLOSED",
    help="Deny a pod if a defect of the injector prevents the injection. Default: the pod starts without a sidecar.",
)
@click.option(
    "--api-server",
    metavar="URL",
    envvar=f"{PREFIX}API_SERVER",
    help="The API server to call. Default: that of the pod's own cluster.",
)
@click.option("--token-file", metavar="FILE", envvar=f"{PREFIX}TOKEN_FILE", help="The token for --api-server.")
@click.option("--ca-file", metavar="FILE", envvar=f"{PREFIX}CA_FILE", help="The CA certificates for --api-server.")
def injector(settings: InjectorSettings, **options: Any) -> None:
    if options["certificates"] is None and find_spec("cryptography") is None:
        raise _WithoutExtra("cryptography")
    from sidecar.kubernetes import injector as process

    serving = process.Serving(
        reviews=options["listen"],
        probes=options["probe"],
        certificates=options["certificates"],
        service=options["service"],
        secret=options["secret"],
        webhook=options["webhook"],
        level=options["log_level"],
        end_s=options["end"],
        server=options["api_server"],
        token_file=options["token_file"],
        ca_file=options["ca_file"],
    )
    sys.exit(process.run(replace(settings, fail_closed=options["fail_closed"]), serving))


@click.command(
    short_help="Add the sidecar to the workloads in YAML files.",
    help="""
    Print YAML and JSON files with the sidecar added to their workloads. Comments stay; stderr says what was done.

    The command is made for pipes: sidecar inject -f app.yaml | kubectl apply -f -

    \b
    Examples:
      sidecar inject -f -
      sidecar inject -f - --memory 96Mi --ordinary

    Exits 1, and prints nothing, if a workload cannot get a sidecar or a file cannot be read.
    """,
)
@click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    required=True,
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="A file with workloads; - is standard input. May be repeated.",
)
@settings_options
def inject(files: tuple[Path, ...], settings: InjectorSettings) -> None:
    if find_spec("ruamel") is None:
        raise _WithoutExtra("ruamel.yaml")
    from sidecar.kubernetes import files as workloads

    made_of: list[bytes] = []
    for file in files:
        name = "stdin" if str(file) == "-" else str(file)
        try:
            # Bytes, because text streams would change line endings.
            read = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
            made = workloads.inject(read.decode("utf-8"), settings)
            written = made.text.encode("utf-8")
        except UnicodeError as error:
            raise click.ClickException(f"{name}: not valid UTF-8: {error}") from None
        except (workloads.BadFile, OSError) as error:
            raise click.ClickException(f"{name}: {error}") from None
        for note in made.notes:
            click.echo(f"{name}: {note}", err=True)
        made_of.append(written)
    click.echo(_joined(made_of), nl=False)


def _joined(files: Sequence[bytes]) -> bytes:
    """A single file as it is; several files as one stream of YAML documents."""
    if len(files) == 1:
        return files[0]
    made = b""
    for file in files:
        # The first document gets a marker too: kubectl reads a stream that begins with a brace as JSON only.
        marked = file.lstrip().startswith((b"---", b"%"))
        made += (b"" if marked else b"---\n") + file + (b"" if file.endswith(b"\n") or not file else b"\n")
    return made
