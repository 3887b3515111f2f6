"""The checks `redis://` and `rediss://`: connect, AUTH if a password is set, SELECT, PING.

Uses redis-py, an extra. It is imported when such a check is created, which is at the start.

Each check opens a new connection. A kept one would cost less, but it would only show that the old Redis still answers,
and not that an app that starts now can connect: it survives a changed password, an expired certificate, a Service that
points elsewhere, and a new firewall rule. There is at most one check a second.

A server that is not Redis may repeat what it received, including the password. So the text of an error is neither shown
nor logged, whatever its type: redis-py may raise any type for an invalid answer. `redis_lines` limits the size.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from sidecar.config.schema import HealthCheck
from sidecar.health.http_check import OK
from sidecar.health.report import AUTH, BAD_RESPONSE, CONNECT_FAILURE, ERROR, TIMEOUT
from sidecar.net.names import look_up

_log = logging.getLogger("sidecar.health")


def redis_check(config: HealthCheck) -> Callable[[], Awaitable[str]]:
    """A function that runs the check once; calls must not overlap. Raises ImportError without redis-py."""
    url = config.url
    connection = _connection(config)

    async def ask() -> str:
        try:
            addresses = await look_up(url.host, url.port)
        except (OSError, UnicodeError):
            return CONNECT_FAILURE
        reason = CONNECT_FAILURE
        for address in addresses:
            reason = await ask_at(address)
            if reason != CONNECT_FAILURE:
                break
        return reason

    async def ask_at(address: str) -> str:
        connection.host = address  # redis-py would look a name up in the event loop's own threads
        try:
            await connection.connect()
            await connection.send_command("PING", check_health=False)
            answer = await connection.read_response()
        except Exception as error:
            _log.debug("check of %s failed: %s", url, type(error).__name__)
            return _reason(error)
        finally:
            await connection.disconnect(nowait=True)
        return OK if answer in (b"PONG", "PONG") else BAD_RESPONSE

    return ask


def _connection(config: HealthCheck) -> Any:
    """A connection that is not open yet and may be opened again after `disconnect`. Its TLS context is created once,
    here.
    """
    from redis.asyncio import Connection, SSLConnection

    from sidecar.health.checks.redis_lines import LineParser

    url = config.url
    options: dict[str, Any] = {
        "host": url.host,
        "port": url.port,
        "db": url.database,
        "username": url.username or None,
        "password": url.password or None,
        "protocol": 2,  # AUTH instead of HELLO, which Redis before version 6 does not know
        "parser_class": LineParser,
        "socket_timeout": config.timeout,
        "socket_connect_timeout": config.timeout,
    }
    if url.scheme == "redis":
        return Connection(**options)

    class Secured(SSLConnection):
        """The certificate is the name's, whatever the address."""

        def _connection_arguments(self) -> Mapping[str, Any]:
            return {**super()._connection_arguments(), "server_hostname": url.host}

    connection = Secured(**options, ssl_cert_reqs="required", ssl_check_hostname=True)
    connection.ssl_context.get()  # reads the system's CA certificates now; later that would block the event loop
    return connection


def _reason(error: Exception) -> str:
    from redis import exceptions

    # The first match counts: in redis-py, some refusals by the server are subclasses of ConnectionError.
    for kinds, reason in (
        ((exceptions.AuthenticationError, exceptions.AuthorizationError, exceptions.NoPermissionError), AUTH),
        ((exceptions.AuthenticationWrongNumberOfArgsError,), AUTH),
        ((exceptions.BusyLoadingError, exceptions.ResponseError), ERROR),
        ((exceptions.InvalidResponse,), BAD_RESPONSE),
        ((exceptions.TimeoutError, TimeoutError), TIMEOUT),
        ((exceptions.ConnectionError, OSError), CONNECT_FAILURE),
        ((exceptions.RedisError,), ERROR),
    ):
        if isinstance(error, kinds):
            return reason
    return BAD_RESPONSE
