"""The webhook's side of TLS: a context whose certificate can be another one for the next connection.

Owns the swap, and the files that certificates are read from where something else renews them (cert-manager). A new
certificate is loaded into a context of its own and takes the old one's place as a whole, so that a key that does not
fit its certificate changes nothing; connections that are open stay as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

log = logging.getLogger("sidecar.injector")

LOOK_S: Final = 5.0
MOST_BYTES: Final = 256 * 1024


class BadCertificate(ValueError):
    """`str()` says what is wrong with it, without any of it."""


class ServerTls:
    """`context` is for `create_server`; it refuses every handshake until something was loaded."""

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
        """PEM; the server's own certificate first. True if it is another one than before. Raises BadCertificate."""
        if (chain, key) == self._loaded:
            return False
        made = _context()
        try:
            with _as_file(key + b"\n" + chain) as path:
                made.load_cert_chain(path)
        except (ssl.SSLError, OSError) as error:
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
    """`tls.crt` and `tls.key` of a folder, as a Secret of type kubernetes.io/tls is mounted."""

    def __init__(self, folder: Path, tls: ServerTls) -> None:
        self._folder = folder
        self._tls = tls
        self._problem = ""

    def look(self) -> None:
        """Load what is there; what cannot be used is logged once, and what is in force stays."""
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
        """Until cancelled. Looking is enough: kubelet itself renews what it mounts only once a minute."""
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


@contextlib.contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """`ssl` reads keys from files only. Where there is memfd (Linux), the key is on no disk."""
    make: Any = getattr(os, "memfd_create", None)
    if make is None:
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            yield file.name
        return
    descriptor = make("certificate")
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
