"""Client for the sidecar's admin API, as far as the fakes need it."""

from __future__ import annotations

import http.client
import json
from typing import Any, Final, Literal
from urllib.parse import quote

from sidecar.testing import strays
from sidecar.testing.errors import AdminError

TIMEOUT_S: Final = 10.0
FORCED_FOR_S: Final = 3600.0
"""How many seconds a breaker stays forced. This is much longer than a test, and the forcing ends with the test anyway.
"""


class Admin:
    """The admin API of the sidecar, at this port of 127.0.0.1. Every method raises AdminError."""

    def __init__(self, port: int) -> None:
        self._port = port

    def reload(self) -> None:
        """Loads the configuration file. AdminError.errors say what is wrong with it."""
        self._ask("POST", "/reload", {})

    def service(self, name: str) -> dict[str, Any]:
        return self._ask("GET", f"/services/{quote(name, safe='')}")

    def refused(self) -> int:
        """How many requests reached no service since the sidecar started; see `strays`."""
        return strays.counted(self._read("GET", "/metrics")[1].decode(errors="replace"))

    def breaker(
        self,
        name: str,
        state: Literal["open", "closed", "auto"],
        route: str | None = None,
        for_s: float = FORCED_FOR_S,
    ) -> None:
        """`route` names a route that has its own breaker, in the sidecar's form: `POST /reports`."""
        wanted: dict[str, str] = {"state": state}
        if state != "auto":
            wanted["for"] = f"{for_s * 1000:.0f}ms"
        if route is not None:
            wanted["route"] = route
        self._ask("POST", f"/services/{quote(name, safe='')}/breaker", wanted)

    def _read(self, method: str, path: str, body: dict[str, str] | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT_S)
        try:
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, path, data, {"Content-Type": "application/json"} if data else {})
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            raise AdminError(0, "no_answer", f"the sidecar's admin API does not answer: {error!r}") from error
        finally:
            connection.close()

    def _ask(self, method: str, path: str, body: dict[str, str] | None = None) -> dict[str, Any]:
        status, content = self._read(method, path, body)
        try:
            found = json.loads(content)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise AdminError(status, "bad_answer", f"the sidecar's admin API answered {status}: {content[:200]!r}")
        if status >= 400:
            raise AdminError(
                status,
                str(found.get("reason", "")),
                str(found.get("detail", "")),
                tuple(_told(error) for error in found.get("errors") or ()),
            )
        return found


def _told(error: dict[str, Any]) -> str:
    """The error's message without file and line, because the user has never seen that file."""
    key, message = error.get("key") or "", error.get("message") or ""
    return f"{key}: {message}" if key else str(message)
