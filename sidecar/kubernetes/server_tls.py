"""TLS of the webhook's server: a context whose certificate can be replaced while the server runs.

This module owns the replacement, and reads certificates from files that another program renews (cert-manager). A new
certificate is loaded into a new context, which then replaces the old one as a whole. So a key that does not match its
certificate changes nothing. Open connections are not affected.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path
from typing import Final

from sidecar.net.pem import as_file

log = logging.getLogger("sidecar.injector")

LOOK_S: Final = 5.0
MOST_BYTES: Final = 256 * 1024


class BadCertificate(ValueError):
    """`str()` says what is wrong with the certificate, without quoting it."""


class ServerTls:
    """`context` is for `create_server`. It refuses every handshake until a certificate is loaded."""

    def __init__(self) -> None:
        self.context = _context()
        self.context.sni_callback = self._choose
        self._current: ssl.SSLContext | None = None
        self._loaded = (b"", b"")
        self.loads = 0

    @property
    def ready(self) -> bool:
        return self._current is not None

    def load(self, chain: bytes, key: bytes) -> bool:
        """Loads PEM, with the server's own certificate first. True if it differs from the last one. Raises
        BadCertificate.
        """
        if (chain, key) == self._loaded:
            return False
        made = _context()
        try:
            with as_file(key + b"\n" + chain) as path:
                made.load_cert_chain(path, password=lambda: b"")  # else `ssl` would ask a terminal for one
        except (ssl.SSLError, OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or type(error).__name__
            raise BadCertificate(f"no certificate with its key in PEM: {reason}") from None
        self._current = made
        self._loaded = (chain, key)
        self.loads += 1
        return True

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> int | None:
        if self._current is None:
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        connection.context = self._current
        return None


class CertificateFiles:
    """The files `tls.crt` and `tls.key` of a folder, where a Secret of type kubernetes.io/tls is mounted."""

    def __init__(self, folder: Path, tls: ServerTls) -> None:
        self._folder = folder
        self._tls = tls
        self._problem = ""

    def look(self) -> None:
        """Loads the files. If they cannot be used, this is logged once and the old certificate stays in force."""
        try:
            chain, key = _read(self._folder / "tls.crt"), _read(self._folder / "tls.key")
            if self._tls.load(chain, key):
                log.info("certificate loaded", extra={"fields": {"folder": str(self._folder)}})
            self._problem = ""
        except (OSError, BadCertificate) as error:
            problem = str(error)
            if problem != self._problem:
                self._problem = problem
                log.error("the certificate cannot be used", extra={"fields": {"detail": problem}})

    async def run(self, look_s: float = LOOK_S) -> None:
        """Runs until cancelled. It polls, because the kubelet itself updates mounted files only once a minute."""
        while True:
            self.look()
            await asyncio.sleep(look_s)


def _context() -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.options |= ssl.OP_NO_RENEGOTIATION
    return made


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MOST_BYTES)
