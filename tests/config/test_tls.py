"""The keys of `tls`: where files are looked for, what must go together, and files that are there and no good."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.config.errors import ConfigErrors
from sidecar.config.load import load, load_with_origins
from sidecar.config.schema import Config
from sidecar.config.warnings import warnings_of
from sidecar.policy.settings import TlsSettings
from tests.config.mistakes import errors
from tests.support.certificate import Authority, put

NAME_EXPECTED = "expected a DNS name or an IP address without a port, such as venue.shop.svc or 10.0.0.7"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def loaded(folder: Path, text: str, **environ: str) -> Config:
    (folder / "sidecar.yaml").write_text(text)
    return load(folder / "sidecar.yaml", environ)


def service(tls: str, url: str = "https://a:1") -> str:
    return f"services:\n  venue:\n    url: {url}\n    tls: {tls}\n"


def mistakes(folder: Path, text: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigErrors) as found:
        loaded(folder, text, **environ)
    return [f"{one.line} {one.path}: {one.message}" for one in found.value.errors]


# Values.


def test_all_keys(tmp_path: Path, authority: Authority) -> None:
    put(tmp_path / "ca.pem", authority.pem)
    authority.issue("client").write(tmp_path)
    text = service(
        "{ca_file: ca.pem, server_name: Venue.Internal., cert_file: tls.crt, key_file: tls.key, min_version: 1.3,"
        " verify: on}"
    )
    assert loaded(tmp_path, text).services["venue"].policy.tls == TlsSettings(
        ca_file=str(tmp_path / "ca.pem"),
        server_name="venue.internal",
        cert_file=str(tmp_path / "tls.crt"),
        key_file=str(tmp_path / "tls.key"),
        min_version="1.3",
    )


def test_a_service_overrides_single_keys_of_the_defaults(tmp_path: Path) -> None:
    text = service("{ca_file: off, min_version: 1.3}") + "defaults: {tls: {ca_file: /etc/ca.pem, server_name: a.b}}\n"
    config = loaded(tmp_path, text)
    assert config.services["venue"].policy.tls == TlsSettings(server_name="a.b", min_version="1.3")
    assert config.defaults.tls.ca_file == "/etc/ca.pem"


def test_a_check_has_its_own(tmp_path: Path) -> None:
    text = "services: {}\nchecks: {redis: {url: 'rediss://redis:1', tls: {ca_file: ca.pem, server_name: redis.b}}}\n"
    tls = loaded(tmp_path, text).checks["redis"].tls
    assert tls == TlsSettings(ca_file=str(tmp_path / "ca.pem"), server_name="redis.b")


@pytest.mark.parametrize(
    ("written", "name"),
    [("10.0.0.7", "10.0.0.7"), ("'::1'", "::1"), ("'[2001:db8::1]'", "2001:db8::1"), ("off", None)],
)
def test_names_that_are_addresses(tmp_path: Path, written: str, name: str | None) -> None:
    config = loaded(tmp_path, service(f"{{server_name: {written}}}"))
    assert config.services["venue"].policy.tls.server_name == name


@pytest.mark.parametrize(
    ("tls", "mistake"),
    [
        ("{min_version: 1.1}", ".min_version: expected one of 1.2, 1.3"),
        ("{min_version: TLSv1.3}", ".min_version: expected one of 1.2, 1.3"),
        ("{verify: false}", ".verify: expected one of on, off"),
        ("{ca_fle: x}", ".ca_fle: unknown key; did you mean ca_file?"),
        ("{cert_file: tls.crt}", ".cert_file: key_file is missing: a client certificate needs its key"),
        ("{key_file: tls.key}", ".key_file: cert_file is missing: a client certificate needs its key"),
        ("{server_name: 'venue:443'}", f".server_name: {NAME_EXPECTED}, or off"),
        ("off", ": not a mapping: expected keys such as ca_file, server_name, cert_file, key_file"),
    ],
)
def test_mistakes(tls: str, mistake: str) -> None:
    assert errors(service(tls)) == [f"4 services.venue.tls{mistake}"]


def test_a_route_cannot_have_it() -> None:
    text = "services: {venue: {url: https://a:1, routes: [{match: {path: /x}, tls: {verify: off}}]}}"
    assert errors(text) == [
        "1 services.venue.routes[0].tls: a route cannot set this key: it is for the whole service",
    ]


# Files.


def test_files_that_are_there_and_no_good(tmp_path: Path, authority: Authority) -> None:
    put(tmp_path / "ca.pem", b"no certificate")
    authority.issue("client").write(tmp_path)
    put(tmp_path / "other.key", authority.issue("client").key)
    assert mistakes(tmp_path, service("{ca_file: ca.pem}")) == [
        "4 services.venue.tls.ca_file: ca_file holds no certificate in PEM"
    ]
    assert mistakes(tmp_path, service("{cert_file: tls.crt, key_file: other.key}")) == [
        "4 services.venue.tls.key_file: key_file is not the key of the certificate in cert_file"
    ]
    assert mistakes(tmp_path, service("{cert_file: tls.key, key_file: tls.key}")) == [
        "4 services.venue.tls.cert_file: cert_file holds no certificate in PEM"
    ]


def test_the_files_of_a_check(tmp_path: Path) -> None:
    put(tmp_path / "ca.pem", b"no certificate")
    text = "services: {}\nchecks:\n  redis: {url: 'rediss://redis:1', tls: {ca_file: ca.pem}}\n"
    assert mistakes(tmp_path, text) == ["3 checks.redis.tls.ca_file: ca_file holds no certificate in PEM"]


def test_no_path_from_the_environment_is_shown(tmp_path: Path) -> None:
    put(tmp_path / "hunter2", b"no certificate")
    (found,) = mistakes(tmp_path, service("{ca_file: '${CA}'}"), CA="hunter2")
    assert "hunter2" not in found


def test_a_file_that_many_services_use_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sidecar.net import tls_contexts

    read: list[str] = []
    monkeypatch.setattr(tls_contexts, "read_file", lambda path, _: [read.append(path), b""][1])
    services = "".join(f"  s{number}: {{url: 'https://a:{number + 1}'}}\n" for number in range(5))
    with pytest.raises(ConfigErrors):
        loaded(tmp_path, f"defaults: {{tls: {{ca_file: ca.pem}}}}\nservices:\n{services}")
    assert read == [str(tmp_path / "ca.pem")]


# Warnings.


def told(folder: Path, text: str) -> list[str]:
    (folder / "sidecar.yaml").write_text(text)
    return warnings_of(*load_with_origins(folder / "sidecar.yaml", {}))


def test_a_file_that_cannot_be_read_here_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    assert told(tmp_path, service("{ca_file: ca.pem}")) == [
        f"services.venue: tls.ca_file (line 4): {path} cannot be read here: calls fail until it can"
    ]
    text = "services: {}\nchecks: {redis: {url: 'rediss://redis:1', tls: {ca_file: ca.pem}}}\n"
    assert told(tmp_path, text) == [
        "services (line 1) is empty: every call is answered with 404 (unknown_service)",
        f"checks.redis.tls.ca_file: {path} cannot be read here: the check fails until it can",
    ]


def test_verification_that_is_off_is_warned_of(tmp_path: Path) -> None:
    words = "is off: any certificate is taken"
    (found,) = told(tmp_path, service("{verify: off}"))
    assert found.startswith(f"services.venue: tls.verify (line 4) {words}")
    (found,) = told(tmp_path, "defaults: {tls: {verify: off}}\nservices: {venue: {url: 'https://a:1'}}\n")
    assert found.startswith(f"defaults: tls.verify (line 1) {words}")
    text = "services: {a: {url: 'http://a:1'}}\nchecks: {redis: {url: 'rediss://redis:1', tls: {verify: off}}}\n"
    (found,) = told(tmp_path, text)
    assert found.startswith(f"checks.redis.tls.verify {words}")


def test_tls_of_a_service_that_is_called_in_plain_text(tmp_path: Path) -> None:
    found = told(tmp_path, service("{min_version: 1.3}", "http://a:1"))
    assert found == ["services.venue.tls (line 4) does nothing: the service's endpoints do not use TLS"]
    assert told(tmp_path, service("{min_version: 1.3}")) == []
