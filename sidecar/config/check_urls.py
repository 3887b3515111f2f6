"""Parse the URLs of `checks`: `redis://`, `rediss://`, `tcp://`, `http://` and `https://`.

A bad URL raises BadValueError. Its message never contains the URL, because that may hold a password.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from sidecar.config.addresses import host_and_port
from sidecar.config.errors import BadValueError
from sidecar.config.http_words import parse_target
from sidecar.config.schema import CheckUrl

_PORTS = {"redis": 6379, "rediss": 6379, "tcp": None, "http": 80, "https": 443}
_EXPECTED = {
    "redis": "expected a URL such as redis://localhost:6379/0",
    "rediss": "expected a URL such as rediss://:password@redis:6380/0",
    "tcp": "expected a URL such as tcp://queue:5672",
    "http": "expected a URL such as http://search:9200/_cluster/health",
    "https": "expected a URL such as https://search:9200/_cluster/health",
}
_DATABASE = re.compile(r"0|[1-9][0-9]{0,5}")
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile("[\x00-\x20\x7f]")


def parse_check_url(text: str) -> CheckUrl:
    """A check's URL with its port filled in; user and password are percent-decoded."""
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in _PORTS:
        raise BadValueError("expected a URL that begins with redis://, rediss://, tcp://, http:// or https://")
    if scheme in ("redis", "rediss"):
        return _redis(scheme, rest)
    if "@" in re.split("[/?#]", rest, maxsplit=1)[0]:
        raise BadValueError(f"only redis:// and rediss:// can have a user name and password: {_EXPECTED[scheme]}")
    if scheme == "tcp":
        host, port = _address(scheme, rest.removesuffix("/"))
        return CheckUrl(scheme, host, port)
    end = min((place for mark in "/?#" if (place := rest.find(mark)) >= 0), default=len(rest))
    host, port = _address(scheme, rest[:end])
    return CheckUrl(scheme, host, port, target=parse_target(rest[end:] or "/"))


def _redis(scheme: str, rest: str) -> CheckUrl:
    # The last @ counts: a password from the environment may contain one, and nothing after it can.
    credentials, at, rest = rest.rpartition("@")
    username, colon, password = credentials.partition(":")
    # `redis://:${REDIS_PASSWORD:-}@redis` is valid without a password too: not every environment has one.
    if at and credentials != ":" and not (colon and password):
        raise BadValueError("expected user:password before the @, or :password without a user")
    if _STRAY_PERCENT.search(credentials) or _CONTROL.search(credentials):
        raise BadValueError("percent-encode spaces, control characters and % in a user name or password (% is %25)")
    authority, slash, database = rest.partition("/")
    host, port = _address(scheme, authority)
    if slash and database and not _DATABASE.fullmatch(database):
        raise BadValueError(f"only the number of a database can follow the /: {_EXPECTED[scheme]}")
    return CheckUrl(
        scheme, host, port, database=int(database or 0), username=unquote(username), password=unquote(password)
    )


def _address(scheme: str, authority: str) -> tuple[str, int]:
    host, port = host_and_port(authority, _EXPECTED[scheme])
    port = _PORTS[scheme] if port is None else port
    if port is None:
        raise BadValueError(f"a port is needed: {_EXPECTED[scheme]}")
    if not 1 <= port <= 65535:
        raise BadValueError("a port must be a number from 1 to 65535")
    return host, port
