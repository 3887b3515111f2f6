"""Certificates swapped in a running server's context, and read from files as they change."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from pathlib import Path
from typing import Any

import pytest

from sidecar.kubernetes.authority import Material
from sidecar.kubernetes.server_tls import BadCertificate, CertificateFiles, ServerTls
from sidecar.net.tasks import Tasks
from tests.kubernetes.reviewed import HOST, listening, new_material, trust
from tests.support.kubernetes_api import until


@contextlib.asynccontextmanager
async def served(tls: ServerTls) -> Any:
    async def handle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(handle, sock=(one := listening()), ssl=tls.context)
    async with server:
        yield one.getsockname()[1]


async def accepts(port: int, material: Material, **options: Any) -> bool:
    context = trust(material)
    for name, value in options.items():
        setattr(context, name, value)
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=HOST)
    except (ssl.SSLError, ConnectionError):
        return False
    writer.close()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()
    return True


async def test_the_next_connection_has_the_new_certificate() -> None:
    tls, one, two = ServerTls(), new_material(), new_material()
    async with served(tls) as port:
        assert not tls.ready
        assert not await accepts(port, one)
        assert tls.load(one.chain, one.key) is True
        assert tls.ready
        assert await accepts(port, one)
        assert not await accepts(port, two)
        assert tls.load(one.chain, one.key) is False
        assert tls.load(two.chain, two.key) is True
        assert await accepts(port, two)
        assert not await accepts(port, one)
        assert await accepts(port, two, maximum_version=ssl.TLSVersion.TLSv1_2)


async def test_what_cannot_be_used_changes_nothing_and_tells_nothing() -> None:
    tls, one, two = ServerTls(), new_material(), new_material()
    async with served(tls) as port:
        tls.load(one.chain, one.key)
        for chain, key in ((two.chain, one.key), (b"", b""), (one.chain, b"garbage"), (b"garbage", one.key)):
            with pytest.raises(BadCertificate) as caught:
                tls.load(chain, key)
            assert "garbage" not in str(caught.value)
            assert "PRIVATE" not in str(caught.value)
        assert await accepts(port, one)
    assert tls.loads == 1


async def test_files_are_read_again_as_they_change(tmp_path: Path, caplog: Any) -> None:
    tls, one, two = ServerTls(), new_material(), new_material()
    files = CertificateFiles(tmp_path, tls)

    def write(material: Material) -> None:
        (tmp_path / "tls.crt").write_bytes(material.chain)
        (tmp_path / "tls.key").write_bytes(material.key)

    with caplog.at_level(logging.INFO, "sidecar.injector"):
        files.look()
        files.look()
        assert [record.levelname for record in caplog.records] == ["ERROR"], "once for one trouble"
        write(one)
        files.look()
        assert tls.loads == 1
        (tmp_path / "tls.crt").write_bytes(two.chain)  # half of a change
        files.look()
        assert tls.loads == 1
        (tmp_path / "tls.key").write_bytes(two.key)
        files.look()
        assert tls.loads == 2
        (tmp_path / "tls.key").unlink()
        files.look()
        assert tls.ready


async def test_looking_goes_on(tmp_path: Path) -> None:
    tls, one = ServerTls(), new_material()
    task = Tasks(logging.getLogger()).start(CertificateFiles(tmp_path, tls).run(0.01), "files")
    await asyncio.sleep(0)
    (tmp_path / "tls.crt").write_bytes(one.chain)
    (tmp_path / "tls.key").write_bytes(one.key)
    await until(lambda: tls.ready)
    task.cancel()
    await asyncio.wait([task])
