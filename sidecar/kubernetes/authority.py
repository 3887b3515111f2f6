"""A small certificate authority for one webhook: creates a CA and a serving certificate, and knows when to renew them.

This module owns keys, names, lifetimes, and their form in a Secret. It does no I/O: time is an argument. Only the keys
are random. It needs `cryptography` (the extra `injector`).

A certificate is renewed when a third of its lifetime is left. A new CA is added to the old one in the bundle. A client
that trusts the bundle then also trusts the certificate that another replica still serves with. The old CA leaves the
bundle when it expires.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

CA_LIFETIME: Final = timedelta(days=365)
LIFETIME: Final = timedelta(days=60)
SKEW: Final = timedelta(hours=1)
"""A certificate becomes valid this long before it is created, because clocks may be slow."""
MOST_IN_BUNDLE: Final = 3

KEYS: Final = {"bundle": "ca.crt", "ca_key": "ca.key", "chain": "tls.crt", "key": "tls.key"}
"""The names used in Secrets of type kubernetes.io/tls. Only `ca.key` is our own."""

UNUSABLE: Final = (
    ValueError,
    TypeError,
    IndexError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What `cryptography` raises for material that was not created here."""


class Material(Struct, frozen=True):
    """Keys and certificates in PEM. `bundle` begins with the CA that `ca_key` belongs to; older CAs follow. That CA
    signed `chain`.

    A part that the Secret lacks is empty here. `renewed` always returns complete material.
    """

    bundle: bytes
    ca_key: bytes
    chain: bytes
    key: bytes

    def to_secret(self) -> dict[str, str]:
        """The `data` of a Secret."""
        return {name: base64.b64encode(getattr(self, field)).decode() for field, name in KEYS.items()}

    def trust_alone(self) -> Material:
        """What can still be used if the rest cannot."""
        return Material(bundle=self.bundle, ca_key=b"", chain=b"", key=b"")

    def expires(self) -> float:
        """When the serving certificate expires, in Unix seconds."""
        return _certificates(self.chain)[0].not_valid_after_utc.timestamp()


def from_secret(data: Any) -> Material | None:
    """The material in a Secret's data. None if nothing is there, as in a new Secret."""
    if not isinstance(data, Mapping):
        return None
    found = {field: _decoded(data.get(name)) for field, name in KEYS.items()}
    return Material(**found) if any(found.values()) else None


def _decoded(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        return b""


def renewed(found: Material | None, names: Sequence[str], now: datetime) -> Material | None:
    """What must replace `found` for a server with these DNS names; None if `found` is still good.

    Material that cannot be used counts as missing, for whatever reason. CAs that can still be read stay in the bundle,
    because other replicas serve certificates that these CAs signed until they read the new material. To end the trust
    in a CA, delete all material.
    """
    if found is None:
        return _all_new(names, now)
    try:
        return _renewed(found, names, now)
    except UNUSABLE:
        return _all_new(names, now, _still_good(found.bundle, now))


def _renewed(found: Material, names: Sequence[str], now: datetime) -> Material | None:
    """Raises one of UNUSABLE."""
    bundle = _certificates(found.bundle)
    ca_key = _key(found.ca_key)
    leaf, key = _certificates(found.chain)[0], _key(found.key)
    whole = (
        _fits(bundle[0], ca_key)
        and _fits(leaf, key)
        and leaf.issuer == bundle[0].subject
        and _is_signed_by(leaf, bundle[0])
    )
    if not whole or _is_due(bundle[0], CA_LIFETIME, now):
        return _all_new(names, now, _still_good(found.bundle, now))
    if _is_due(leaf, LIFETIME, now) or _names_of(leaf) != set(names):
        return _issued(bundle, ca_key, names, now)
    return None


def _all_new(names: Sequence[str], now: datetime, older: Sequence[x509.Certificate] = ()) -> Material:
    key = ec.generate_private_key(ec.SECP256R1())
    # The name contains the time, because two CAs with the same name in a bundle could not be told apart.
    subject = _name(f"sidecar-injector CA {now:%Y-%m-%dT%H:%M:%SZ} {x509.random_serial_number() % 10**6:06}")
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    certificate = (
        _builder(subject, subject, key, now, CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _issued([certificate, *older][:MOST_IN_BUNDLE], key, names, now)


def _issued(
    bundle: Sequence[x509.Certificate], ca_key: ec.EllipticCurvePrivateKey, names: Sequence[str], now: datetime
) -> Material:
    key = ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    certificate = (
        _builder(_name(names[0][:64]), bundle[0].subject, key, now, LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return Material(
        bundle=b"".join(one.public_bytes(Encoding.PEM) for one in bundle),
        ca_key=_pem(ca_key),
        chain=certificate.public_bytes(Encoding.PEM),
        key=_pem(key),
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + lifetime)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Raises one of UNUSABLE."""
    key = load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("another kind of key")
    return key


def _still_good(bundle: bytes, now: datetime) -> list[x509.Certificate]:
    """The certificates that have not expired. None of them if the bundle cannot be read."""
    try:
        return [one for one in _certificates(bundle) if one.not_valid_after_utc > now]
    except UNUSABLE:
        return []


def _certificates(pem: bytes) -> list[x509.Certificate]:
    """Raises ValueError."""
    return x509.load_pem_x509_certificates(pem)


def _fits(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> bool:
    return certificate.public_key() == key.public_key()


def _is_signed_by(leaf: x509.Certificate, ca: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(ca)
    except InvalidSignature:
        return False
    return True


def _is_due(certificate: x509.Certificate, lifetime: timedelta, now: datetime) -> bool:
    """Whether a third of the lifetime or less is left, or the certificate is from the future (a clock went back)."""
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return now >= ends - lifetime / 3 or now < begins


def _names_of(certificate: x509.Certificate) -> set[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return set(names.get_values_for_type(x509.DNSName))


def utc_now() -> datetime:
    """The current time in whole seconds, as certificates contain it."""
    return datetime.now(UTC).replace(microsecond=0)
