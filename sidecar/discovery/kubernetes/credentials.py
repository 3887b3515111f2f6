"""Kubernetes credentials: API server address, token, CA and namespace.

Owns the files and environment variables of a pod, and the options `server`, `token_file` and `ca_file` that override
them. Sends nothing. The rules:

- Without `server`: the pod's own API server (KUBERNETES_SERVICE_HOST and _PORT) with the files of the service account.
  `token_file` and `ca_file` each override one file.
- With `server`: only what is configured. The pod's token is never sent to a configured server. Without `token_file` no
  token is sent (as `kubectl proxy` needs it); without `ca_file` the system's CAs are trusted.
- Tokens rotate (kubelet writes a new one well before the old one ends), and CAs may. A file is checked at most once a
  second and read again if it changed; after a 401 it is checked at once. A file that cannot be read is a Problem, and
  the next request tries it again.
- A token is sent only over TLS, or to a loopback address.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from sidecar.discovery.kubernetes.problem import Problem
from sidecar.policy.settings import KubernetesSettings

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
LOOK_AGAIN_S: Final = 1.0
LARGEST_FILE: Final = 1024 * 1024

_Stamp = tuple[int, int, int]


class _File:
    """A file's text, read again when the file changes."""

    __slots__ = ("_clock", "_looked", "_stamp", "path", "text")

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self.path = path
        self.text = ""
        self._clock = clock
        self._looked = float("-inf")
        self._stamp: _Stamp | None = None

    def look(self, *, at_once: bool = False) -> bool:
        """Read the file if it changed; True if the text changed. Raises Problem.

        A file that was read before but cannot be read now is a problem only with `at_once`: its old text may still be
        valid.
        """
        now = self._clock()
        if now - self._looked < LOOK_AGAIN_S and not at_once:
            return False
        try:
            status = self.path.stat()
            stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
            if stamp == self._stamp and not at_once:
                self._looked = now
                return False
            with self.path.open("rb") as file:
                text = file.read(LARGEST_FILE).decode(errors="replace")
        except OSError as error:
            if self._stamp is not None and not at_once:
                return False
            raise Problem("file", f"{self.path} cannot be read: {error.strerror}") from None
        self._looked = now
        self._stamp = stamp
        changed = text != self.text
        self.text = text
        return changed


class Credentials:
    """The credentials for one API server. `clock` counts seconds; `environ` and `account` belong to the pod."""

    def __init__(
        self,
        settings: KubernetesSettings,
        *,
        environ: Mapping[str, str] = os.environ,
        account: Path = SERVICE_ACCOUNT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server = settings.server
        self._environ = environ
        self._account = account
        in_pod = settings.server is None
        token = Path(settings.token_file) if settings.token_file else account / "token" if in_pod else None
        ca = Path(settings.ca_file) if settings.ca_file else account / "ca.crt" if in_pod else None
        self._token = _File(token, clock) if token else None
        self._ca = _File(ca, clock) if ca else None
        self._tls: ssl.SSLContext | None = None

    @property
    def server(self) -> str:
        """`https://host:port`, plus a path if one is configured, without a slash at the end. Raises Problem."""
        if self._server is not None:
            return self._server.rstrip("/")
        host = self._environ.get("KUBERNETES_SERVICE_HOST")
        port = self._environ.get("KUBERNETES_SERVICE_PORT", "443")
        if not host:
            raise Problem(
                "environment",
                "KUBERNETES_SERVICE_HOST is not set; outside of a pod, discovery by Kubernetes needs "
                "server, token_file and ca_file",
            )
        return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"

    @property
    def token_source(self) -> str:
        """The name of the token in messages."""
        return (
            f"the token in {self._token.path}" if self._token else "a request without a token (token_file is not set)"
        )

    def token(self) -> str | None:
        """The current token; None if no token is to be sent. Raises Problem."""
        if self._token is None:
            return None
        self._token.look()
        token = self._token.text.strip()
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise Problem("file", f"{self._token.path} contains no token")
        if not self._may_carry_a_token():
            raise Problem(
                "plain", f"a token is not sent to {self.server} in plain text; `server` must begin with https://"
            )
        return token

    def _may_carry_a_token(self) -> bool:
        parts = urlsplit(self.server)
        if parts.scheme == "https" or parts.hostname == "localhost":
            return True
        try:
            return ipaddress.ip_address(parts.hostname or "").is_loopback
        except ValueError:
            return False

    def token_was_refused(self) -> bool:
        """Check the file at once; True if it holds another token now. Raises Problem."""
        return self._token is not None and self._token.look(at_once=True)

    def tls(self) -> ssl.SSLContext | None:
        """The TLS context to verify the server; the same object until the CA changes, None for http. Raises Problem."""
        if not self.server.startswith("https:"):
            return None
        changed = self._ca is not None and self._ca.look()
        if self._tls is None or changed:
            self._tls = self._context()
        return self._tls

    def _context(self) -> ssl.SSLContext:
        if self._ca is None:
            context = ssl.create_default_context()
        else:
            try:
                context = ssl.create_default_context(cafile=self._ca.path)
            except OSError:  # ssl.SSLError is one
                raise Problem("file", f"{self._ca.path} contains no CA certificate in PEM format") from None
        # Python 3.13 sets this flag by default. It refuses the CAs that many clusters create for themselves, such as
        # EKS (they have no Authority Key Identifier). Go, and so every other client of the API, does not require it.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context

    def namespace(self) -> str:
        """The pod's own namespace; `default` if there is none (as in kubectl)."""
        if self._server is not None:
            return "default"
        try:
            return (self._account / "namespace").read_text().strip() or "default"
        except (OSError, UnicodeDecodeError):
            return "default"
