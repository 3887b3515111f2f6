"""The injector as a process: certificates from a scripted API server or from files, reviews, and an orderly end."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from sidecar.config.schema import Address
from sidecar.kubernetes.injector import Serving
from tests.kubernetes.reviewed import HOST, new_material, result_of, review, trust
from tests.support.daemon import ROOT, free_ports
from tests.support.kubernetes_objects import WEBHOOK, ObjectsApi

COMMAND = [sys.executable, "-c", "from sidecar.cli.injection import injector; injector()"]


@asynccontextmanager
async def process(*arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, int, int]]:
    reviews, probes = free_ports(2)
    listen = ["--listen", f"127.0.0.1:{reviews}", "--probe", f"127.0.0.1:{probes}", "--end", "2s"]
    started = await asyncio.create_subprocess_exec(
        *COMMAND, *listen, *arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        yield started, reviews, probes
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


async def ready(session: aiohttp.ClientSession, port: int) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                async with session.get(f"http://127.0.0.1:{port}/readyz") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.02)


async def ask(session: aiohttp.ClientSession, port: int, context: ssl.SSLContext) -> bool:
    url = f"https://127.0.0.1:{port}/inject"
    async with session.post(url, json=review(), ssl=context, server_hostname=HOST) as answer:
        return "patch" in result_of(await answer.json())


async def test_with_certificates_of_its_own() -> None:
    async with ObjectsApi() as api, process("--api-server", api.url) as (started, reviews, probes):
        async with aiohttp.ClientSession() as session:
            await ready(session, probes)
            (bundle,) = {one["clientConfig"]["caBundle"] for one in api.objects[WEBHOOK]["webhooks"]}
            context = ssl.create_default_context(cadata=base64.b64decode(bundle).decode())
            assert await ask(session, reviews, context)
            started.send_signal(signal.SIGTERM)
            assert await ask(session, reviews, context), "it answers for a while yet"
        assert await asyncio.wait_for(started.wait(), 10) == 0
        assert started.stdout is not None
        lines = [json.loads(line) for line in (await started.stdout.read()).splitlines()]
        assert [line["event"] for line in lines][-2:] == ["ending", "stopped"]
        assert not any("PRIVATE" in json.dumps(line) for line in lines)


async def test_with_certificates_from_files(tmp_path: Path) -> None:
    material = new_material()
    (tmp_path / "tls.crt").write_bytes(material.chain)
    (tmp_path / "tls.key").write_bytes(material.key)
    async with process("--certificates", str(tmp_path)) as (_, reviews, probes), aiohttp.ClientSession() as session:
        await ready(session, probes)
        assert await ask(session, reviews, trust(material))


async def test_a_port_that_is_taken_is_exit_code_2(tmp_path: Path) -> None:
    async with process("--certificates", str(tmp_path)) as (_, reviews, probes), aiohttp.ClientSession() as session:
        async with asyncio.timeout(20):
            while True:
                try:
                    async with session.get(f"http://127.0.0.1:{probes}/livez"):
                        break
                except aiohttp.ClientError:
                    await asyncio.sleep(0.02)
        more = ["--listen", f"127.0.0.1:{reviews}", "--certificates", str(tmp_path)]
        second = await asyncio.create_subprocess_exec(*COMMAND, *more, cwd=ROOT, stderr=asyncio.subprocess.PIPE)
        _, said = await asyncio.wait_for(second.communicate(), 20)
        assert second.returncode == 2
        assert b"already in use" in said


def test_the_names_of_its_certificate() -> None:
    serving = Serving(reviews=Address("::", 8443), probes=Address("::", 8080))
    assert serving.names("sidecar-system")[0] == HOST
