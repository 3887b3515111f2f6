"""Single objects of an API server, and all that can go wrong with them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sidecar.discovery.kubernetes.credentials import Credentials
from sidecar.discovery.kubernetes.problem import Problem
from sidecar.kubernetes.objects import CONFLICT, MISSING, TEST_FAILED, Objects
from sidecar.policy.settings import KubernetesSettings
from tests.support.certificate import make_certificate
from tests.support.kubernetes_api import answer, drop, hang, refuse
from tests.support.kubernetes_objects import SECRET, WEBHOOK, ObjectsApi


@asynccontextmanager
async def client(api: ObjectsApi, request_s: float = 5.0, **settings: Any) -> AsyncIterator[Objects]:
    objects = Objects(Credentials(KubernetesSettings(service="x", server=api.url, **settings)), request_s)
    try:
        yield objects
    finally:
        await objects.close()


async def test_get_replace_patch() -> None:
    async with ObjectsApi() as api, client(api) as objects:
        secret = await objects.get(SECRET)
        secret["data"] = {"a": "Yg=="}
        newer = await objects.replace(SECRET, secret)
        assert newer["metadata"]["resourceVersion"] != "100"
        made = await objects.patch(WEBHOOK, [{"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}])
        assert made["metadata"]["labels"] == {"a": "b"}


async def test_what_has_a_kind_of_its_own() -> None:
    async with ObjectsApi() as api, client(api) as objects:
        secret = await objects.get(SECRET)
        api.touch(SECRET)
        for kind, call in (
            (CONFLICT, objects.replace(SECRET, secret)),
            (MISSING, objects.get(SECRET + "x")),
            (TEST_FAILED, objects.patch(WEBHOOK, [{"op": "test", "path": "/webhooks/0/name", "value": "x"}])),
        ):
            with pytest.raises(Problem) as caught:
                await call
            assert caught.value.kind == kind


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (refuse(403, "Forbidden", "secrets is forbidden"), "403"),
        (refuse(500), "500"),
        (answer(b"<html>", "text/html"), "content"),
        (answer(b"[]"), "content"),
        (answer(b"{" + b" " * 3_200_000), "size"),
        (hang(), "slow"),
    ],
)
async def test_trouble(fault: Any, kind: str) -> None:
    async with ObjectsApi(faults=[fault]) as api, client(api, 0.5) as objects:
        with pytest.raises(Problem) as caught:
            await objects.get(SECRET)
        assert caught.value.kind == kind


async def test_a_server_that_is_not_there() -> None:
    async with ObjectsApi() as api:
        pass
    async with client(api) as objects:
        with pytest.raises(Problem) as caught:
            await objects.get(SECRET)
        assert caught.value.kind == "connect"
        assert str(caught.value).startswith(f"cannot connect to {api.url}: Connect call failed")


async def test_a_server_that_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    tls, _ = make_certificate(tmp_path / "served")
    _, other = make_certificate(tmp_path)
    async with ObjectsApi(tls=tls) as api, client(api, ca_file=str(other)) as objects:
        with pytest.raises(Problem) as caught:
            await objects.get(SECRET)
        assert caught.value.kind == "connect"
        assert "its certificate is not trusted" in str(caught.value)
        assert "object at" not in str(caught.value)


async def test_a_change_is_never_sent_twice() -> None:
    async with ObjectsApi() as api, client(api) as objects:
        secret = await objects.get(SECRET)
        api.faults = [drop()]
        with pytest.raises(Problem):
            await objects.patch(WEBHOOK, [{"op": "add", "path": "/metadata/labels", "value": secret["metadata"]}])
        assert api.count("PATCH") == 1


async def test_over_tls_with_a_token_that_rotates(tmp_path: Path) -> None:
    tls, ca = make_certificate(tmp_path)
    token = tmp_path / "token"
    token.write_text("one")
    files = {"token_file": str(token), "ca_file": str(ca)}
    async with ObjectsApi(tls=tls, token="one") as api, client(api, **files) as objects:
        assert (await objects.get(SECRET))["kind"] == "Secret"
        api.token = "two"
        token.write_text("two")
        assert (await objects.get(SECRET))["kind"] == "Secret"
        api.token = "three"
        with pytest.raises(Problem) as caught:
            await objects.get(SECRET)
        assert caught.value.kind == "401"
