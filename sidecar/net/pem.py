"""Certificates and keys in PEM files: read, given to a TLS context, and when they end.

Owns what is said of a file that is no good: its name and what is wrong, never its content. `ssl` tells the end of a
certificate only for some of those in a context, so the few fields on the way to it are walked here (X.509, DER).
"""

from __future__ import annotations

import contextlib
import os
import re
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

MOST_BYTES: Final = 4 * 1024 * 1024
"""The largest file that is read. The bundle of a distribution has a quarter of a MiB."""

_CERTIFICATE: Final = re.compile(
    rb"-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----.+?-----END (?:TRUSTED |X509 )?CERTIFICATE-----", re.DOTALL
)
_BEGIN: Final = re.compile(rb"-----BEGIN [A-Z0-9 ]*CERTIFICATE-----")
_KEY: Final = re.compile(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")
_ENCRYPTED: Final = re.compile(rb"-----BEGIN ENCRYPTED PRIVATE KEY-----|^Proc-Type:.*ENCRYPTED", re.MULTILINE)

_TIME: Final = re.compile("[0-9]{14}Z")
_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0
_UTC_TIME: Final = 0x17


class BadPem(ValueError):
    """`str()` names the file and says what is wrong with it."""


class Unreadable(BadPem):
    """The file is not there, or cannot be read."""


def read_file(path: str, name: str) -> bytes:
    """The content of a file, which is called `name` in messages. Raises Unreadable, or BadPem if it is too large."""
    try:
        if not os.path.isfile(path) and os.path.exists(path):  # reading a pipe would wait
            raise Unreadable(f"{name} cannot be read: not a file")
        with open(path, "rb") as stream:
            content = stream.read(MOST_BYTES + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise Unreadable(f"{name} cannot be read: {reason[:1].lower()}{reason[1:]}") from None
    if len(content) > MOST_BYTES:
        raise BadPem(f"{name} is larger than {MOST_BYTES >> 20} MiB")
    return content


def load_authorities(context: ssl.SSLContext, content: bytes, name: str) -> None:
    """Trust the certificates of a bundle. Raises BadPem, also where one of them is cut short."""
    whole, begun = len(_CERTIFICATE.findall(content)), len(_BEGIN.findall(content))
    if not begun:
        raise BadPem(f"{name} holds no certificate in PEM")
    if whole < begun:
        raise BadPem(f"{name} is cut short: its last certificate has no end")
    try:
        with as_file(content) as path:
            context.load_verify_locations(path)
    except (ssl.SSLError, OSError) as error:
        raise BadPem(f"{name} holds a certificate that cannot be read{_why(error)}") from None


def load_pair(context: ssl.SSLContext, chain: bytes, key: bytes, chain_name: str, key_name: str) -> None:
    """Show this certificate, the first of `chain`, to the other side. Raises BadPem."""
    if not _CERTIFICATE.search(chain):
        cut = "a certificate that is cut short" if _BEGIN.search(chain) else "no certificate in PEM"
        raise BadPem(f"{chain_name} holds {cut}")
    if _ENCRYPTED.search(key):
        raise BadPem(f"{key_name} is encrypted: only a key without a passphrase can be used")
    if not _KEY.search(key):
        raise BadPem(f"{key_name} holds no private key in PEM")
    try:
        # `ssl` would ask the terminal for a passphrase, if it found that it needs one after all.
        with as_file(chain) as chain_path, as_file(key) as key_path:
            context.load_cert_chain(chain_path, key_path, password=lambda: b"")
    except (ssl.SSLError, OSError, ValueError) as error:
        if getattr(error, "reason", "") in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
            raise BadPem(f"{key_name} is not the key of the certificate in {chain_name}") from None
        raise BadPem(f"{chain_name} and {key_name} cannot be used{_why(error)}") from None


def ends_of(content: bytes) -> list[float]:
    """When each certificate of a PEM file ends, in Unix time. One that cannot be read is left out."""
    ends = []
    for block in _CERTIFICATE.findall(content):
        text = re.sub(rb"(TRUSTED|X509) ", b"", block).decode("ascii", "replace")
        with contextlib.suppress(ValueError, IndexError):
            ends.append(_end_of(ssl.PEM_cert_to_DER_cert(text)))
    return ends


@contextlib.contextmanager
def as_file(content: bytes) -> Iterator[str]:
    """The content as a file, because `ssl` reads keys only from files. With memfd (Linux) the key is on no disk."""
    make: Any = getattr(os, "memfd_create", None)
    if make is None:
        import tempfile  # here, because it loads much that Linux does not need

        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            yield file.name
        return
    descriptor = make("certificate")
    try:
        with open(descriptor, "wb", closefd=False) as stream:
            stream.write(content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _why(error: Exception) -> str:
    """The reason that OpenSSL gives, as words. It has no content of the file in it."""
    reason = getattr(error, "reason", None) or ""
    return f": {reason.lower().replace('_', ' ')}" if isinstance(reason, str) and reason else ""


def _end_of(der: bytes) -> float:
    """`notAfter` of a certificate (RFC 5280, section 4.1). Raises ValueError or IndexError if there is none."""
    _, at, _ = _element(der, 0, _SEQUENCE)
    _, at, _ = _element(der, at, _SEQUENCE)
    tag, _, end = _element(der, at)
    if tag == _VERSION:
        _, _, end = _element(der, end)
    for _ in ("signature", "issuer"):
        _, _, end = _element(der, end, _SEQUENCE)
    _, at, _ = _element(der, end, _SEQUENCE)
    _, _, end = _element(der, at)
    tag, start, end = _element(der, end)
    text = der[start:end].decode("ascii")
    if tag == _UTC_TIME:  # two digits of the year: 1950 to 2049
        text = ("19" if text[:2] >= "50" else "20") + text
    if not _TIME.fullmatch(text):
        raise ValueError("no time in UTC")
    year, (month, day, hour, minute, second) = int(text[:4]), [int(text[at : at + 2]) for at in range(4, 14, 2)]
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()


def _element(der: bytes, at: int, wanted: int | None = None) -> tuple[int, int, int]:
    """The tag of the element at this place, and where its content begins and ends."""
    tag, length = der[at], der[at + 1]
    start = at + 2
    if length & 0x80:
        digits = length & 0x7F
        length = int.from_bytes(der[start : start + digits])
        start += digits
    if wanted is not None and tag != wanted:
        raise ValueError(f"element {tag:#x} where {wanted:#x} was expected")
    return tag, start, start + length
