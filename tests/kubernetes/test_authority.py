"""The CA: what it makes verifies, what is due is renewed at the right time, and what is broken is made anew."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from msgspec.structs import replace

from sidecar.kubernetes import authority
from sidecar.kubernetes.authority import (
    CA_LIFETIME,
    LIFETIME,
    MOST_IN_BUNDLE,
    SKEW,
    Material,
    from_secret,
    renewed,
)

NAMES = ("sidecar-injector.sidecar-system.svc", "sidecar-injector.sidecar-system")
NOW = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)


def made(now: datetime = NOW) -> Material:
    found = renewed(None, NAMES, now)
    assert found is not None
    return found


def handshake(server: Material, trusting: bytes, at: str = NAMES[0]) -> None:
    """Both sides in memory; raises ssl.SSLError."""
    import tempfile

    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        file.write(server.key + server.chain)
        file.flush()
        theirs.load_cert_chain(file.name)
    ours = ssl.create_default_context(cadata=trusting.decode())
    ours.verify_flags |= ssl.VERIFY_X509_STRICT
    a, b, c, d = (ssl.MemoryBIO() for _ in range(4))
    client, them = ours.wrap_bio(a, b, server_hostname=at), theirs.wrap_bio(b, a, server_side=True)
    del c, d
    for _ in range(4):
        for side in (client, them):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert client.version() in ("TLSv1.2", "TLSv1.3")


def test_what_is_made_verifies_strictly_and_for_its_names_only() -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    found = made(now)
    handshake(found, found.bundle)
    with pytest.raises(ssl.SSLError):
        handshake(found, found.bundle, "other.svc")
    with pytest.raises(ssl.SSLError):
        handshake(found, made(now).bundle)


def test_a_secret_gives_back_what_was_put_in() -> None:
    found = made()
    assert from_secret(found.to_secret()) == found
    assert set(found.to_secret()) == {"ca.crt", "ca.key", "tls.crt", "tls.key"}


@pytest.mark.parametrize("data", [None, {}, [], "x", {"mine": "AAAA"}, dict.fromkeys(made().to_secret(), "")])
def test_a_secret_without_any_of_it_has_nothing(data: object) -> None:
    assert from_secret(data) is None


@pytest.mark.parametrize("damaged", ["ca.key", "tls.crt", "tls.key"])
@pytest.mark.parametrize("value", ["not base64!", "Z2FyYmFnZQ==", "", None, 7])
def test_what_is_damaged_or_missing_is_made_anew_and_the_old_ca_stays_trusted(damaged: str, value: Any) -> None:
    found = made()
    newer = renewed(from_secret(found.to_secret() | {damaged: value}), NAMES, NOW)
    assert newer is not None
    assert newer.bundle.endswith(found.bundle)
    assert newer.bundle != found.bundle
    assert renewed(newer, NAMES, NOW) is None


@pytest.mark.parametrize("value", ["not base64!", "Z2FyYmFnZQ==", "", None, 7])
def test_without_a_ca_that_can_be_read_all_is_new(value: Any) -> None:
    newer = renewed(from_secret(made().to_secret() | {"ca.crt": value}), NAMES, NOW)
    assert newer is not None
    assert len(x509.load_pem_x509_certificates(newer.bundle)) == 1


def test_a_serving_certificate_is_renewed_with_a_third_of_its_time_left() -> None:
    found = made()
    due = NOW + LIFETIME - LIFETIME / 3
    assert renewed(found, NAMES, due - timedelta(seconds=1)) is None
    newer = renewed(found, NAMES, due)
    assert newer is not None
    assert (newer.bundle, newer.ca_key) == (found.bundle, found.ca_key)
    assert newer.chain != found.chain
    assert newer.expires() == (due + LIFETIME).timestamp()


def test_a_new_ca_joins_the_old_one_which_leaves_as_it_ends() -> None:
    found = made()
    due = NOW + CA_LIFETIME - CA_LIFETIME / 3
    newer = renewed(found, NAMES, due)
    assert newer is not None
    assert newer.ca_key != found.ca_key
    assert newer.bundle.endswith(found.bundle)
    assert len(x509.load_pem_x509_certificates(newer.bundle)) == 2
    # The next time the first one is over.
    latest = renewed(newer, NAMES, due + CA_LIFETIME - CA_LIFETIME / 3)
    assert latest is not None
    assert latest.bundle.endswith(newer.bundle.removesuffix(found.bundle))
    assert len(x509.load_pem_x509_certificates(latest.bundle)) == 2


def test_while_a_ca_changes_both_certificates_are_trusted_by_the_new_bundle() -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    long_ago = now - CA_LIFETIME + CA_LIFETIME / 3
    found = renewed(made(long_ago), NAMES, now - timedelta(days=1))  # an old CA, a young serving certificate
    assert found is not None
    newer = renewed(found, NAMES, now)
    if newer is None:  # the step before has changed the CA already
        newer = found
    handshake(newer, newer.bundle)
    assert len(x509.load_pem_x509_certificates(newer.bundle)) <= MOST_IN_BUNDLE


def test_other_names_are_another_certificate_of_the_same_ca() -> None:
    found = made()
    newer = renewed(found, ("elsewhere.svc",), NOW)
    assert newer is not None
    assert newer.bundle == found.bundle
    assert newer.chain != found.chain


def test_a_clock_that_was_ahead_is_put_right() -> None:
    found = made(NOW + timedelta(days=400))
    assert renewed(found, NAMES, NOW + timedelta(days=400) - SKEW) is None
    assert renewed(found, NAMES, NOW) is not None


@pytest.mark.parametrize("member", ["bundle", "ca_key", "chain", "key"])
@pytest.mark.parametrize("how", ["garbage", "empty", "another"])
def test_what_does_not_fit_together_is_made_anew(member: str, how: str) -> None:
    other = made()
    value = {"garbage": b"-----BEGIN x", "empty": b"", "another": getattr(other, member)}[how]
    newer = renewed(replace(made(), **{member: value}), NAMES, NOW)
    assert newer is not None
    assert renewed(newer, NAMES, NOW) is None


@pytest.mark.parametrize("member", ["ca_key", "chain", "key"])
def test_what_others_still_serve_with_stays_trusted_where_it_is_made_anew(member: str) -> None:
    found = made(datetime.now(UTC).replace(microsecond=0))
    newer = renewed(replace(found, **{member: b"garbage"}), NAMES, datetime.now(UTC))
    assert newer is not None
    handshake(newer, newer.bundle)
    handshake(found, newer.bundle)


def test_to_take_all_away_is_to_end_the_trust() -> None:
    found, newer = made(), renewed(None, NAMES, NOW)
    assert newer is not None
    assert found.bundle not in newer.bundle
    over = renewed(replace(found, key=b"garbage"), NAMES, NOW + CA_LIFETIME)
    assert over is not None
    assert found.bundle not in over.bundle


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP224R1()), ed25519.Ed25519PrivateKey.generate()])
def test_another_kind_of_key_is_made_anew(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> None:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    newer = renewed(replace(made(), ca_key=pem), NAMES, NOW)
    assert newer is not None
    assert renewed(newer, NAMES, NOW) is None


@pytest.mark.parametrize("error", [UnsupportedAlgorithm("x"), x509.DuplicateExtension("x", x509.oid.NameOID.TITLE)])
@pytest.mark.parametrize("where", ["_key", "_is_signed_by", "_names_of", "_is_due"])
def test_what_the_library_cannot_do_is_made_anew(where: str, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(*_: object) -> None:
        raise error

    found = made()
    with monkeypatch.context() as patched:
        patched.setattr(authority, where, raises)
        newer = renewed(found, NAMES, NOW)
    assert newer is not None
    assert newer.ca_key != found.ca_key
    assert renewed(newer, NAMES, NOW) is None
