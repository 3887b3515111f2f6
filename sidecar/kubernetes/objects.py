"""Client for single objects of the Kubernetes API: get, replace, patch. Each is one request with a time limit.

This module owns the HTTP requests, and turns errors into a Problem whose `kind` is the status. Lists and watches are in
`sidecar.discovery.kubernetes.api`. Both use the same credentials.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import aiohttp
import msgspec
from yarl import URL

from sidecar.discovery.kubernetes import wire
from sidecar.discovery.kubernetes.credentials import Credentials
from sidecar.discovery.kubernetes.problem import Problem
from sidecar.kubernetes.patch_path import Operation

REQUEST_S: Final = 10.0
MOST_BYTES: Final = 3 * 1024 * 1024

CONFLICT: Final = "409"
MISSING: Final = "404"
TEST_FAILED: Final = "422"
"""The API server's status for a JSON patch whose `test` fails."""


class Objects:
    """Create and use it in a running event loop; `close` it at the end. Paths begin with `/api`."""

    def __init__(self, credentials: Credentials, request_s: float = REQUEST_S) -> None:
        self._credentials = credentials
        self._request_s = request_s
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=aiohttp.ThreadedResolver()),  # the loop's, not c-ares
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            trust_env=False,
        )

    async def get(self, path: str) -> dict[str, Any]:
        """Raises Problem; its kind is MISSING if there is no such object."""
        return await self._call("GET", path)

    async def replace(self, path: str, value: dict[str, Any]) -> dict[str, Any]:
        """`value` has the `resourceVersion` that was read. Raises Problem; its kind is CONFLICT if that is not the
        newest.
        """
        return await self._call("PUT", path, "application/json", value)

    async def patch(self, path: str, operations: list[Operation]) -> dict[str, Any]:
        """Sends a JSON patch. Raises Problem; its kind is TEST_FAILED if a `test` fails."""
        return await self._call("PATCH", path, "application/json-patch+json", operations)

    async def close(self) -> None:
        await self._session.close()

    async def _call(self, method: str, path: str, kind: str = "", value: Any = None) -> dict[str, Any]:
        server = self._credentials.server
        try:
            async with asyncio.timeout(self._request_s):
                status, body = await self._send(method, path, kind, value)
                if status == 401 and self._credentials.token_was_refused():
                    status, body = await self._send(method, path, kind, value)
        except TimeoutError:
            raise Problem("slow", f"no answer from {server} within {self._request_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Problem("connect", f"cannot connect to {server}: {_why(error)}") from None
        if status not in (200, 201):
            said = (wire.read_status(body).message or "")[:300]
            words = f"{method} {path} is answered with {status}"
            raise Problem(str(status), f"{words}: {said}" if said else words)
        try:
            return msgspec.json.decode(body, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Problem("content", f"the answer of {server} is not an object") from None

    async def _send(self, method: str, path: str, kind: str, value: Any) -> tuple[int, bytes]:
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "sidecar-injector"}
        if kind:
            headers["Content-Type"] = kind
        if (token := self._credentials.token()) is not None:
            headers["Authorization"] = f"Bearer {token}"
        tls = self._credentials.tls()
        async with self._session.request(
            method,
            URL(self._credentials.server + path, encoded=True),
            headers=headers,
            data=msgspec.json.encode(value) if kind else None,
            allow_redirects=False,
            ssl=True if tls is None else tls,
        ) as response:
            body = bytearray()
            async for data in response.content.iter_any():
                body += data
                if len(body) > MOST_BYTES:
                    raise Problem("size", f"the answer to {method} {path} is larger than {MOST_BYTES} bytes")
            return response.status, bytes(body)


def _why(error: Exception) -> str:
    """The error in an operator's terms. aiohttp's own message contains the memory address of a context object."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        why = getattr(error.certificate_error, "verify_message", "") or error.certificate_error
        return f"its certificate is not trusted: {why}"
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error.strerror or str(error.os_error)
    return str(error) or type(error).__name__
