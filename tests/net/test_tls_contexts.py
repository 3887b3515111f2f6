"""TLS contexts: shared, read again when their files change, the last good one kept, and ends that are warned of."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from datetime import timedelta
from pathlib import Path
from time import time
from typing import Any

import pytest

from sidecar.net import tls_contexts
from sidecar.net.pem import BadPem
from sidecar.net.tls_contexts import H2, HTTP1, READ_EVERY, SOON_S, TlsContexts, check_files
from sidecar.policy.settings import TlsSettings
from tests.support.certificate import DAY, Authority, Issued, put

PLAIN = TlsSettings()


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


class Stage:
    """The contexts, a folder with a CA file and a pair, and what was logged."""

    def __init__(self, folder: Path, authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "sidecar.tls")
        self.caplog = caplog
        self.now = time()
        self.contexts = TlsContexts(lambda: self.now)
        self.ca = put(folder / "ca.pem", authority.pem)
        self.cert, self.key = authority.issue("client").write(folder)
        self.trusting = TlsSettings(ca_file=str(self.ca))
        self.showing = TlsSettings(ca_file=str(self.ca), cert_file=str(self.cert), key_file=str(self.key))

    def trusted(self, settings: TlsSettings | None = None) -> int:
        return len(self.contexts.of(settings or self.trusting).get_ca_certs())

    async def look(self, *settings: TlsSettings, times: int = 2) -> None:
        """A change is seen at one look and taken at the next."""
        for _ in range(times):
            await self.contexts.look([("venue", one) for one in settings or (self.trusting,)])

    @property
    def told(self) -> list[tuple[str, str]]:
        """The level and the words of each line, with its detail."""
        found = [(one, getattr(one, "fields", {})) for one in self.caplog.records]
        return [
            (one.levelname.lower(), f"{one.getMessage()} {fields.get('detail', '')}".strip()) for one, fields in found
        ]

    @property
    def fields(self) -> list[dict[str, Any]]:
        return [getattr(one, "fields", {}) for one in self.caplog.records]


@pytest.fixture
def stage(tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture) -> Stage:
    return Stage(tmp_path, authority, caplog)


# What a context is made of.


def test_one_context_for_all_with_the_same_settings_and_protocols(stage: Stage) -> None:
    contexts = stage.contexts
    named = TlsSettings(ca_file=str(stage.ca), server_name="venue.internal")
    assert contexts.of(stage.trusting) is contexts.of(stage.trusting, HTTP1) is contexts.of(named)
    assert contexts.of(stage.trusting, H2) is not contexts.of(stage.trusting)
    assert contexts.of(PLAIN) is not contexts.of(stage.trusting)


def test_certificates_and_names_are_verified_by_default(stage: Stage) -> None:
    for settings in (PLAIN, stage.trusting, stage.showing):
        context = stage.contexts.of(settings)
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert context.verify_flags & ssl.VERIFY_X509_PARTIAL_CHAIN
        assert not context.verify_flags & ssl.VERIFY_X509_STRICT


def test_the_file_replaces_the_certificates_of_the_system(stage: Stage) -> None:
    assert stage.trusted() == 1


def test_verification_that_is_off_and_an_old_version(stage: Stage) -> None:
    context = stage.contexts.of(TlsSettings(verify="off", min_version="1.3"))
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3


async def test_a_context_that_is_made_in_a_thread_is_the_same(stage: Stage) -> None:
    made = await stage.contexts.made(stage.trusting)
    assert stage.contexts.of(stage.trusting) is made
    both = await asyncio.gather(*[stage.contexts.made(stage.showing) for _ in range(2)])
    assert both[0] is both[1]


async def test_alpn(authority: Authority, stage: Stage) -> None:
    serving = authority.serving("127.0.0.1")
    serving.set_alpn_protocols(["h2", "http/1.1"])
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=serving)
    port = server.sockets[0].getsockname()[1]
    for alpn, chosen in ((HTTP1, "http/1.1"), (H2, "h2"), ((), None)):
        context = stage.contexts.of(stage.trusting, alpn)
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == chosen
        writer.close()
    server.close()


# The certificates of the system.


@pytest.fixture
def bundle(tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = put(tmp_path / "bundle.pem", authority.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    return path


async def test_the_file_of_the_environment_is_read_again_too(stage: Stage, bundle: Path, authority: Authority) -> None:
    assert stage.trusted(PLAIN) == 1
    put(bundle, authority.pem + Authority().pem)
    await stage.look(PLAIN)
    assert stage.trusted(PLAIN) == 2


async def test_a_file_of_the_environment_that_is_missing_is_named(stage: Stage, bundle: Path) -> None:
    os.unlink(bundle)
    with pytest.raises(BadPem, match=f"^SSL_CERT_FILE {bundle} cannot be read: no such file or directory$"):
        stage.contexts.of(PLAIN)


def test_without_the_environment_the_file_of_openssl_is_trusted(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    expected = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    expected.load_default_certs()
    assert stage.trusted(PLAIN) == len(expected.get_ca_certs())


# Files that change.


async def test_nothing_is_read_while_nothing_changes(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    real = tls_contexts.read_file
    monkeypatch.setattr(tls_contexts, "read_file", lambda path, name: [reads.append(path), real(path, name)][1])
    before = stage.contexts.of(stage.trusting)
    await stage.look(times=READ_EVERY - 1)
    assert reads == [str(stage.ca)]
    await stage.look(times=1)
    assert reads == [str(stage.ca)] * 2, "the status may not show what has changed"
    assert stage.contexts.of(stage.trusting) is before
    assert stage.told == []


async def test_a_file_that_was_renamed_into_place_is_read(stage: Stage, authority: Authority) -> None:
    before = stage.contexts.of(stage.trusting)
    put(stage.ca, authority.pem + Authority().pem)
    await stage.look(times=1)
    assert stage.contexts.of(stage.trusting) is before, "it may still be being written"
    await stage.look(times=1)
    assert stage.trusted() == 2
    assert len(before.get_ca_certs()) == 1, "connections under way keep theirs"
    assert stage.told == [("info", "TLS files were read again")]
    assert stage.fields[0]["files"] == [str(stage.ca)]


async def test_a_folder_that_is_swapped_as_kubernetes_does_it(
    stage: Stage, authority: Authority, tmp_path: Path
) -> None:
    for name, pem in (("one", authority.pem), ("two", authority.pem + Authority().pem)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ca.crt").write_bytes(pem)
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "ca.crt").symlink_to("..data/ca.crt")
    settings = TlsSettings(ca_file=str(tmp_path / "ca.crt"))
    assert stage.trusted(settings) == 1
    (tmp_path / "..data_tmp").symlink_to("two")
    (tmp_path / "..data_tmp").replace(tmp_path / "..data")
    await stage.look(settings)
    assert stage.trusted(settings) == 2


async def test_a_change_that_the_status_does_not_show(stage: Stage, authority: Authority) -> None:
    """Some file systems count times in seconds: here the new file has the old one's status in all."""
    stage.contexts.of(stage.trusting)
    (kept,) = stage.contexts._kept.values()
    put(stage.ca, authority.pem + Authority().pem)
    kept.seen = tls_contexts._status_of(kept.files)
    await stage.look(times=READ_EVERY)
    assert stage.trusted() == 2


async def test_touching_changes_nothing(stage: Stage) -> None:
    before = stage.contexts.of(stage.trusting)
    os.utime(stage.ca, (1, 1))
    await stage.look()
    assert stage.contexts.of(stage.trusting) is before
    assert stage.told == []


async def test_a_file_that_is_written_bit_by_bit_is_read_when_it_is_whole(stage: Stage, authority: Authority) -> None:
    before = stage.contexts.of(stage.trusting)
    both = authority.pem + Authority().pem
    for end in range(100, len(both), 100):
        stage.ca.write_bytes(both[:end])
        await stage.look(times=1)
        assert stage.contexts.of(stage.trusting) is before
    stage.ca.write_bytes(both)
    await stage.look()
    assert stage.trusted() == 2
    assert stage.told == [("info", "TLS files were read again")]


async def test_a_bad_file_keeps_the_last_good_one_and_is_warned_of_once(stage: Stage, authority: Authority) -> None:
    before = stage.contexts.of(stage.trusting)
    put(stage.ca, authority.pem[:300])
    await stage.look(times=3 * READ_EVERY)
    assert stage.contexts.of(stage.trusting) is before
    cut = f"tls.ca_file {stage.ca} is cut short: its last certificate has no end"
    kept = "TLS files cannot be used: the last good ones stay in force"
    assert stage.told == [("warning", f"{kept} {cut}")]
    stage.ca.unlink()
    await stage.look(times=3 * READ_EVERY)
    gone = f"tls.ca_file {stage.ca} cannot be read: no such file or directory"
    assert stage.told[1:] == [("warning", f"{kept} {gone}")]
    assert stage.contexts.of(stage.trusting) is before
    put(stage.ca, authority.pem)
    await stage.look()
    assert stage.contexts.of(stage.trusting) is before, "it is what was in force all the time"
    put(stage.ca, Authority().pem)
    await stage.look()
    assert stage.contexts.of(stage.trusting) is not before
    assert stage.told[2:] == [("info", "TLS files were read again")]


async def test_a_key_that_does_not_match_is_warned_of_until_both_are_there(stage: Stage, authority: Authority) -> None:
    before = stage.contexts.of(stage.showing)
    newer = authority.issue("client")
    put(stage.cert, newer.chain)
    await stage.look(stage.showing)
    assert stage.contexts.of(stage.showing) is before
    assert stage.contexts.in_force(stage.showing).rejected
    mismatch = f"tls.key_file {stage.key} is not the key of the certificate in tls.cert_file {stage.cert}"
    assert stage.told == [("warning", f"TLS files cannot be used: the last good ones stay in force {mismatch}")]
    put(stage.key, newer.key)
    await stage.look(stage.showing)
    assert stage.contexts.of(stage.showing) is not before
    assert not stage.contexts.in_force(stage.showing).rejected


async def test_no_content_of_a_file_is_logged(stage: Stage, authority: Authority) -> None:
    stage.contexts.of(stage.showing)
    secret = authority.issue("client").key.splitlines()[1]
    for content in (
        secret,
        b"-----BEGIN PRIVATE KEY-----\n" + secret,
        b"-----BEGIN EC PRIVATE KEY-----\n" + secret * 9,
    ):
        put(stage.key, content)
        await stage.look(stage.showing)
    assert len(stage.told) >= 2
    assert secret.decode() not in f"{stage.told} {stage.fields}"


async def test_files_that_come_after_the_start(stage: Stage, tmp_path: Path, authority: Authority) -> None:
    settings = TlsSettings(ca_file=str(tmp_path / "late.pem"))
    for _ in range(2):
        with pytest.raises(BadPem, match=r"late\.pem cannot be read"):
            stage.contexts.of(settings)
    assert [words.partition(" tls.")[0] for _, words in stage.told] == [
        "TLS files cannot be used: connections fail until they can"
    ]
    put(tmp_path / "late.pem", b"half")
    await stage.look(settings, times=READ_EVERY + 2)
    with pytest.raises(BadPem, match="holds no certificate"):
        stage.contexts.of(settings)
    put(tmp_path / "late.pem", authority.pem)
    await stage.look(settings)
    assert stage.trusted(settings) == 1


async def test_what_nobody_uses_any_more_is_given_up(stage: Stage) -> None:
    stage.contexts.of(stage.trusting)
    stage.contexts.of(stage.trusting, H2)
    stage.contexts.of(stage.showing)
    await stage.look(stage.trusting)
    assert {files.cert_file for files, _ in stage.contexts._kept} == {None}
    assert len(stage.contexts._kept) == 2


async def test_without_files_no_thread_is_started(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    blind = TlsSettings(verify="off")
    stage.contexts.of(blind)
    monkeypatch.setattr(tls_contexts, "in_thread", None)
    await stage.look(blind)


async def test_looking_goes_on_when_the_system_gives_no_thread(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.contexts.of(stage.trusting)
    tried = asyncio.Event()

    async def refused(*_: object) -> None:
        tried.set()
        raise OSError("no thread could be started")

    monkeypatch.setattr(tls_contexts, "in_thread", refused)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(stage.contexts.run(lambda: [("venue", stage.trusting)], 0.001))
        for _ in range(2):
            tried.clear()
            await tried.wait()
        running.cancel()


# When certificates end.


def ends(stage: Stage, settings: TlsSettings) -> list[tuple[str, str, int]]:
    """Kind, file and whole days from now."""
    return [
        (one.kind, Path(one.file).name, round((one.at - stage.now) / 86400))
        for one in stage.contexts.in_force(settings).expirations
    ]


def test_the_ends_of_what_is_trusted_and_shown(stage: Stage) -> None:
    assert ends(stage, stage.showing) == [], "no context was needed yet"
    stage.contexts.of(stage.showing)
    (ca, _, _), (client, file, days) = ends(stage, stage.showing)
    assert (ca, client, file, days) == ("ca", "client", "tls.crt", 30)
    stage.contexts.of(PLAIN)
    assert ends(stage, PLAIN) == [], "the many CAs of the system are its own business"


def signed(authority: Authority, *ends_in: timedelta) -> bytes:
    return b"".join(authority.issue("one", ends_in=one).chain for one in ends_in)


def test_of_a_bundle_the_next_end_counts_and_of_a_chain_the_first(stage: Stage, authority: Authority) -> None:
    """A CA that was replaced may have ended, and stay in the bundle for a while."""
    put(stage.ca, signed(authority, -3 * DAY, 20 * DAY, 90 * DAY))
    leaf = authority.issue("client", ends_in=9 * DAY)
    put(stage.cert, leaf.chain + signed(authority, 4 * DAY))
    put(stage.key, leaf.key)
    stage.contexts.of(stage.showing)
    assert ends(stage, stage.showing) == [("ca", "ca.pem", 20), ("client", "tls.crt", 4)]


def test_a_bundle_in_which_all_have_ended(stage: Stage, authority: Authority) -> None:
    put(stage.ca, signed(authority, -30 * DAY, -3 * DAY))
    stage.contexts.of(stage.trusting)
    assert ends(stage, stage.trusting) == [("ca", "ca.pem", -3)]


async def test_an_end_is_warned_of_a_week_ahead_and_again_when_it_has_come(stage: Stage, tmp_path: Path) -> None:
    stage.contexts.of(stage.showing)
    stage.contexts.of(stage.showing, H2)
    (end,) = [one.at for one in stage.contexts.in_force(stage.showing).expirations if one.kind == "client"]
    for now, told in (
        (end - SOON_S - 1, 0),
        (end - SOON_S, 1),
        (end - 1, 1),
        (end, 2),
        (end + DAY.total_seconds(), 2),
    ):
        stage.now = now
        await stage.look(stage.showing, times=3)
        assert len(stage.told) == told, now - end
    assert [words for _, words in stage.told] == [
        "the client certificate ends within 7 days",
        "the client certificate has ended",
    ]
    assert [(one["file"], one["used_by"], one["service"]) for one in stage.fields] == [
        (str(tmp_path / "tls.crt"), ["venue"], "venue")
    ] * 2


async def test_a_certificate_that_was_renewed_is_warned_of_anew(stage: Stage, authority: Authority) -> None:
    for days in (3, 2):
        leaf: Issued = authority.issue("client", ends_in=days * DAY)
        put(stage.cert, leaf.chain)
        put(stage.key, leaf.key)
        stage.contexts.of(stage.showing)
        await stage.look(stage.showing)
    assert [level for level, _ in stage.told] == ["warning", "info", "warning"]


# What `check` says.


def test_what_check_says_of_files(stage: Stage, tmp_path: Path, authority: Authority) -> None:
    assert check_files(PLAIN) == ("", False)
    assert check_files(stage.showing) == ("", False)
    missing = TlsSettings(ca_file=str(tmp_path / "missing"))
    assert check_files(missing) == ("ca_file cannot be read: no such file or directory", True)
    put(stage.key, authority.issue("client").key)
    assert check_files(stage.showing) == ("key_file is not the key of the certificate in cert_file", False)
