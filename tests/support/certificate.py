"""Creates certificates for the duration of a test: one signed by itself, or a CA and what it signs."""

from __future__ import annotations

import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import trustme

from tests.support import wants

DAY = timedelta(days=1)


def make_certificate(folder: Path, name: str = "localhost") -> tuple[ssl.SSLContext, Path]:
    """A server's context for 127.0.0.1, and the CA file to trust it by. Skips the test if there is no openssl."""
    wants.skip_without("openssl")
    key, certificate = folder / "tls.key", folder / "tls.crt"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", f"/CN={name}"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, certificate


class Issued(NamedTuple):
    """A certificate and its key, in PEM."""

    chain: bytes
    key: bytes

    def write(self, folder: Path, name: str = "tls") -> tuple[Path, Path]:
        """The files of both, as another program would put them there: each whole at once."""
        return put(folder / f"{name}.crt", self.chain), put(folder / f"{name}.key", self.key)


class Authority:
    """A CA."""

    def __init__(self) -> None:
        self._ca = trustme.CA()
        self.pem = self._ca.cert_pem.bytes()

    def issue(self, *names: str, ends_in: timedelta = 30 * DAY) -> Issued:
        """A certificate for these names, for a server or a client. `ends_in` may be negative."""
        ends = datetime.now(UTC) + ends_in
        made = self._ca.issue_cert(*(names or ("127.0.0.1",)), not_before=ends - 60 * DAY, not_after=ends)
        return Issued(b"".join(one.bytes() for one in made.cert_chain_pems), made.private_key_pem.bytes())

    def serving(self, *names: str, ends_in: timedelta = 30 * DAY, clients: Authority | None = None) -> ssl.SSLContext:
        """The context of a server with such a certificate, which may demand one of its clients."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issued = self.issue(*names, ends_in=ends_in)
        trustme.LeafCert(issued.key, issued.chain, []).configure_cert(context)
        if clients is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            clients.trusted_by(context)
        return context

    def trusted_by(self, context: ssl.SSLContext) -> None:
        self._ca.configure_trust(context)


def put(path: Path, content: bytes) -> Path:
    """Write a file beside it and rename it, so that nobody reads half of it."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_bytes(content)
    return beside.replace(path)
