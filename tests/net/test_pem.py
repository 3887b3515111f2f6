"""PEM files: what is loaded of them, what is said of bad ones, and when their certificates end."""

from __future__ import annotations

import os
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sidecar.net.pem import (
    MOST_BYTES,
    BadPem,
    Unreadable,
    as_file,
    ends_of,
    load_authorities,
    load_pair,
    read_file,
)
from tests.support import wants
from tests.support.certificate import DAY, Authority


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def client() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


# Reading.


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(b"content")
    assert read_file(str(tmp_path / "ca.pem"), "ca_file") == b"content"


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"^ca_file cannot be read: no such file or directory$"):
        read_file(str(tmp_path / "missing"), "ca_file")


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(Unreadable, match=r"^ca_file cannot be read: not a file$"):
            read_file(str(path), "ca_file")


@pytest.mark.parametrize(("more", "is_read"), [(0, True), (1, False)])
def test_the_largest_file(tmp_path: Path, more: int, is_read: bool) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(MOST_BYTES + more))
    if is_read:
        assert len(read_file(str(path), "ca_file")) == MOST_BYTES
        return
    with pytest.raises(BadPem, match=r"^ca_file is larger than 4 MiB$"):
        read_file(str(path), "ca_file")


# Authorities.


def test_a_bundle_is_trusted_whatever_stands_around_it(authority: Authority) -> None:
    context = client()
    load_authorities(context, b"# F\xc5\x91tan\xc3\xbas\xc3\xadtv\xc3\xa1ny\n" + authority.pem + Authority().pem, "ca")
    assert len(context.get_ca_certs()) == 2


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "ca holds no certificate in PEM"),
        (b"\x30\x82\x01\x00", "ca holds no certificate in PEM"),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "ca holds a certificate that cannot be read",
        ),
    ],
)
def test_a_bundle_that_is_none(content: bytes, problem: str) -> None:
    with pytest.raises(BadPem, match=f"^{problem}"):
        load_authorities(client(), content, "ca")


def test_a_bundle_that_is_cut_short(authority: Authority) -> None:
    for end in range(len(authority.pem) + 40, 2 * len(authority.pem) - 2, 50):
        with pytest.raises(BadPem, match=r"^ca is cut short: its last certificate has no end$"):
            load_authorities(client(), (authority.pem + authority.pem)[:end], "ca")


# A certificate and its key.


def test_a_pair_is_loaded(authority: Authority) -> None:
    issued = authority.issue("client")
    load_pair(client(), issued.chain, issued.key, "cert", "key")
    both = issued.key + issued.chain
    load_pair(client(), both, both, "cert", "key")


def test_pairs_that_do_not_fit(authority: Authority) -> None:
    one, other = authority.issue("client"), authority.issue("client")
    cases = [
        (one.chain, other.key, "key is not the key of the certificate in cert"),
        (b"", one.key, "cert holds no certificate in PEM"),
        (one.chain[:200], one.key, "cert holds a certificate that is cut short"),
        (one.chain, one.chain, "key holds no private key in PEM"),
        (one.chain, one.key[:60], "cert and key cannot be used"),
    ]
    for chain, key, problem in cases:
        with pytest.raises(BadPem, match=f"^{problem}") as found:
            load_pair(client(), chain, key, "cert", "key")
        assert "-----" not in str(found.value)


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(authority: Authority, tmp_path: Path) -> None:
    wants.skip_without("openssl")
    issued = authority.issue("client")
    (tmp_path / "key").write_bytes(issued.key)
    for form in (["pkcs8", "-topk8"], ["ec", "-aes128"]):
        command = [
            "openssl",
            *form,
            "-in",
            str(tmp_path / "key"),
            "-out",
            str(tmp_path / "out"),
            "-passout",
            "pass:abcd",
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=30)
        with pytest.raises(BadPem, match=r"^key is encrypted: only a key without a passphrase can be used$"):
            load_pair(client(), issued.chain, (tmp_path / "out").read_bytes(), "cert", "key")


# When certificates end.


@pytest.mark.parametrize("ends_in", [-DAY, timedelta(hours=1), 90 * DAY, 40 * 365 * DAY])
def test_the_end_is_the_one_that_the_certificate_says(authority: Authority, ends_in: timedelta) -> None:
    """After 2049 the year has four digits."""
    (end,) = ends_of(authority.issue("client", ends_in=ends_in).chain)
    assert abs(end - (datetime.now(UTC) + ends_in).timestamp()) < 60


def test_the_ends_are_those_that_ssl_reads_of_every_ca_of_this_system() -> None:
    context = client()
    context.load_default_certs()
    expected = sorted(ssl.cert_time_to_seconds(str(one["notAfter"])) for one in context.get_ca_certs())
    pem = b"".join(ssl.DER_cert_to_PEM_cert(der).encode() for der in context.get_ca_certs(binary_form=True))
    assert sorted(ends_of(pem)) == expected


def test_what_is_no_certificate_has_no_end(authority: Authority) -> None:
    body = authority.pem.splitlines(keepends=True)
    assert ends_of(b"") == ends_of(b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n") == []
    cut = b"".join([body[0], *body[1:3], body[-1]])
    assert ends_of(cut) == []


def test_the_file_of_a_content_is_gone_afterwards() -> None:
    with as_file(b"content") as path:
        assert Path(path).read_bytes() == b"content"
    assert not os.path.exists(path)
