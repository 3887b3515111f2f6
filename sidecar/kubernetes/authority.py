"""A small certificate authority for one webhook: makes a CA and a serving certificate, and knows when each is due.

Owns keys, names, lifetimes, and how they are kept in a Secret. Pure but for the randomness of keys: time is an
argument, and nothing is sent or written. Needs `cryptography` (the extra `injector`).

A certificate is due with a third of its time left. A new CA joins the old one in the bundle, so that whoever trusts
the bundle trusts what another replica still serves with; the old one leaves it as it ends.
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
"""How far back a certificate reaches, for clocks that are behind."""
MOST_IN_BUNDLE: Final = 3

KEYS: Final = {"bundle": "ca.crt", "ca_key": "ca.key", "chain": "tls.crt", "key": "tls.key"}
"""As Secrets of type kubernetes.io/tls call them; `ca.key` is ours."""

UNUSABLE: Final = (
    ValueError,
    TypeError,
    IndexError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What `cryptography` raises at material that nobody here has made."""


class Material(Struct, frozen=True):
    """All in PEM. `bundle` has the CA that `ca_key` belongs to first, then older ones; `chain` is signed by it.

    What a Secret lacks is empty; `renewed` never gives that back.
    """

    bundle: bytes
    ca_key: bytes
    chain: bytes
    key: bytes

    def to_secret(self) -> dict[str, str]:
        """`data` of a Secret."""
        return {name: base64.b64encode(getattr(self, field)).decode() for field, name in KEYS.items()}

    def trust_alone(self) -> Material:
        """What is left where the rest cannot be used."""
        return Material(bundle=self.bundle, ca_key=b"", chain=b"", key=b"")

    def expires(self) -> float:
        """When the serving certificate ends, in Unix seconds."""
        return _certificates(self.chain)[0].not_valid_after_utc.timestamp()


def from_secret(data: Any) -> Material | None:
    """None where nothing of it is there, as in a Secret that has just been made."""
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
    """What to have instead of `found` for a server of these DNS names; None where `found` will do.

    What cannot be used is as if it were not there, whatever is wrong with it; but CAs that can still be read stay in
    the bundle, for replicas go on serving what these have signed until they read the new. So to end the trust in a CA,
    take all of it away.
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
    # The time in the name: two CAs of one name could not be told apart in a bundle.
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
    """Those that have not ended; none where they cannot be read."""
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
    """With a third of its time left, or where it is from a future that a clock has come back from."""
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return now >= ends - lifetime / 3 or now < begins


def _names_of(certificate: x509.Certificate) -> set[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return set(names.get_values_for_type(x509.DNSName))


def utc_now() -> datetime:
    """Whole seconds, as certificates have them."""
    return datetime.now(UTC).replace(microsecond=0)
