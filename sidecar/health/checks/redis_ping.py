"""The checks `redis://` and `rediss://`: a PING, after AUTH and SELECT if the URL asks for them.

Owns the few lines of Redis' protocol (RESP2) that this needs. AUTH, SELECT and PING are answered by a simple string or
an error of one line; anything else is a `bad_response` at its first line, so that no server decides how much is read in
the event loop that carries the traffic. Each run has a connection of its own. No text of a server is logged or shown:
it may repeat a password.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import Final

from sidecar.config.schema import CheckUrl, HealthCheck
from sidecar.health.checks.each_address import asking_each
from sidecar.health.http_check import OK
from sidecar.health.report import AUTH, BAD_RESPONSE, CONNECT_FAILURE, ERROR, TIMEOUT
from sidecar.net.pem import BadPem
from sidecar.net.tls_contexts import TlsContexts

LONGEST_LINE: Final = 64 * 1024

_log = logging.getLogger("sidecar.health")


class _Refused(Exception):
    """The check has failed; `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def redis_check(config: HealthCheck, contexts: TlsContexts) -> Callable[[], Awaitable[str]]:
    """A function that runs the check once."""
    url = config.url

    async def ask_at(address: str) -> str:
        try:
            async with asyncio.timeout(config.timeout):
                context = await contexts.made(config.tls, ()) if url.scheme == "rediss" else None
                return await _ask(url, address, context, config.tls.server_name or url.host)
        except _Refused as refused:
            reason = refused.reason
        except TimeoutError:
            reason = TIMEOUT
        except (OSError, BadPem) as error:
            _log.debug("check of %s failed: %s", url, type(error).__name__)
            return CONNECT_FAILURE
        except Exception as error:
            _log.debug("check of %s failed: %s", url, type(error).__name__)
            return BAD_RESPONSE
        _log.debug("check of %s failed: %s", url, reason)
        return reason

    return asking_each(url, ask_at)


async def _ask(url: CheckUrl, address: str, tls: ssl.SSLContext | None, name: str) -> str:
    reader, writer = await asyncio.open_connection(
        address, url.port, ssl=tls, server_hostname=name if tls is not None else None, limit=LONGEST_LINE
    )
    try:
        if url.password or url.username:
            await _command(reader, writer, b"AUTH", *([url.username] if url.username else []), url.password)
        if url.database:
            await _command(reader, writer, b"SELECT", str(url.database))
        return OK if await _command(reader, writer, b"PING") == b"PONG" else BAD_RESPONSE
    finally:
        writer.transport.abort()


async def _command(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: bytes, *arguments: str) -> bytes:
    """Send a command; returns the text of its answer, a simple string. Raises _Refused."""
    words = [name, *(argument.encode() for argument in arguments)]
    writer.write(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words))
    try:
        line = await reader.readline()
    except ValueError:
        raise _Refused(BAD_RESPONSE) from None  # it has no end within LONGEST_LINE
    if line[:1] not in (b"+", b"-", b""):
        raise _Refused(BAD_RESPONSE)
    if not line.endswith(b"\r\n"):
        raise _Refused(CONNECT_FAILURE)  # it broke off
    kind, text = line[:1], line[1:-2]
    if kind == b"-":
        raise _Refused(_reason(name, text))
    if name != b"PING" and text != b"OK":
        raise _Refused(AUTH if name == b"AUTH" else BAD_RESPONSE)
    return text


def _reason(command: bytes, error: bytes) -> str:
    """What an error of the server means, by its first word."""
    word = error.partition(b" ")[0]
    if word in (b"NOAUTH", b"NOPERM", b"WRONGPASS"):
        return AUTH
    # Before version 6, a wrong password is an ERR; so is one that nobody asked for.
    return AUTH if command == b"AUTH" and word == b"ERR" and b"unknown command" not in error else ERROR
