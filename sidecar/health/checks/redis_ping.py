"""The checks `redis://` and `rediss://`: connect, AUTH where there is a password, SELECT, PING.

By redis-py, an extra: it is imported when a check of this kind is made, which is at start.

Each check connects anew. A kept connection would cost less, but it says that the Redis of then still answers, not that
an app which starts now gets in: it outlives a changed password, a certificate that has ended, a Service that leads
elsewhere, and a firewall's new rule. There is one a second at most.

A server of another kind may repeat what it was sent, the password too, so an error's text is neither shown nor logged,
whatever the error: redis-py may raise any where a server says what none should. How much it may say is `redis_lines`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from sidecar.config.schema import HealthCheck
from sidecar.health.active import OK
from sidecar.health.checks.names import Names
from sidecar.health.report import AUTH, BAD_RESPONSE, CONNECT_FAILURE, ERROR, TIMEOUT

_log = logging.getLogger("sidecar.health")


def redis_check(config: HealthCheck, names: Names) -> Callable[[], Awaitable[str]]:
    """What asks once; it is not to be called again before it has returned. Raises ImportError without redis-py."""
    url = config.url
    connection = _connection(config)

    async def ask() -> str:
        try:
            # redis-py looks the name up itself, again; what matters is that it does not where nothing would answer.
            await names.addresses(url.host, url.port)
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
    """It connects when it is told to, and may again after `disconnect`; the context of its TLS is made once, here."""
    from redis.asyncio import Connection, SSLConnection

    from sidecar.health.checks.redis_lines import LineParser

    url = config.url
    options: dict[str, Any] = {
        "host": url.host,
        "port": url.port,
        "db": url.database,
        "username": url.username or None,
        "password": url.password or None,
        "protocol": 2,  # AUTH instead of HELLO, which a Redis before 6 does not know
        "parser_class": LineParser,
        "socket_timeout": config.timeout,
        "socket_connect_timeout": config.timeout,
    }
    if url.scheme == "redis":
        return Connection(**options)
    connection = SSLConnection(**options, ssl_cert_reqs="required", ssl_check_hostname=True)
    connection.ssl_context.get()  # reads the system's CA certificates, which takes too long for the event loop later
    return connection


def _reason(error: Exception) -> str:
    from redis import exceptions

    # The first that fits: redis-py derives what a server refuses from ConnectionError too.
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
