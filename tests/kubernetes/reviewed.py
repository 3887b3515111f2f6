"""AdmissionReviews as an API server writes them, and a client that speaks as one does."""

from __future__ import annotations

import base64
import io
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import jsonpatch

from sidecar.kubernetes import authority
from sidecar.kubernetes.authority import Material
from sidecar.kubernetes.server_tls import ServerTls
from sidecar.kubernetes.settings import InjectorSettings
from sidecar.kubernetes.webhook import Webhook
from tests.kubernetes.samples import pod

HOST = "sidecar-injector.sidecar-system.svc"


def review(found: Any = None, **request: Any) -> dict[str, Any]:
    """All members that an API server 1.31 sends when a ReplicaSet's pod is created."""
    found = pod() if found is None else found
    if isinstance(found, dict):
        found = {"kind": "Pod", "apiVersion": "v1"} | found
    return {
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
            "requestResource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "shop",
            "operation": "CREATE",
            "userInfo": {
                "username": "system:serviceaccount:kube-system:replicaset-controller",
                "uid": "b6e6b5d4-7c4b-4c1b-8f43-6c5b1f2b9f0e",
                "groups": ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"],
                "extra": {"authentication.kubernetes.io/credential-id": ["JTI=8d0f7a3b-59d3-4d87-9c2a-0a1e5d1f3b77"]},
            },
            "object": found,
            "oldObject": None,
            "dryRun": False,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        }
        | request,
    }


def result_of(answer: dict[str, Any]) -> dict[str, Any]:
    """The response of an AdmissionReview, which has to be a whole one."""
    assert answer["apiVersion"] == "admission.k8s.io/v1"
    assert answer["kind"] == "AdmissionReview"
    response = answer["response"]
    assert isinstance(response, dict)
    assert ("patch" in response) is ("patchType" in response)
    return response


def applied(response: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """The pod that comes of it."""
    assert response["patchType"] == "JSONPatch"
    made = jsonpatch.apply_patch(found, json.loads(base64.b64decode(response["patch"], validate=True)))
    assert isinstance(made, dict)
    return made


def new_material() -> Material:
    made = authority.renewed(None, [HOST], authority.utc_now())
    assert made is not None
    return made


def trust(*materials: Material) -> ssl.SSLContext:
    """What an API server with this caBundle has."""
    return ssl.create_default_context(cadata="".join(one.bundle.decode() for one in materials))


def listening() -> socket.socket:
    made = socket.create_server(("127.0.0.1", 0))
    made.setblocking(False)
    return made


class Running:
    """A webhook on ephemeral ports, and a session that trusts it."""

    def __init__(self, webhook: Webhook, tls: ServerTls, material: Material) -> None:
        self.webhook = webhook
        self.tls = tls
        self.material = material
        self.port = 0
        self.probe_port = 0
        self.session: aiohttp.ClientSession

    async def post(self, body: Any, path: str = "/inject", **options: Any) -> aiohttp.ClientResponse:
        """Bytes as they are, anything else as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} | options.pop("headers", {})
        return await self.session.request(
            options.pop("method", "POST"),
            f"https://127.0.0.1:{self.port}{path}",
            data=io.BytesIO(data),
            headers=headers,
            ssl=options.pop("ssl", None) or trust(self.material),
            server_hostname=HOST,
            **options,
        )

    async def ask(self, body: Any, path: str = "/inject") -> dict[str, Any]:
        """The response of the review that answers."""
        async with await self.post(body, path) as answer:
            assert answer.status == 200, await answer.text()
            assert answer.content_type == "application/json"
            return result_of(await answer.json())

    async def probe(self, path: str, method: str = "GET") -> tuple[int, str]:
        async with self.session.request(method, f"http://127.0.0.1:{self.probe_port}{path}") as answer:
            return answer.status, await answer.text()


@asynccontextmanager
async def running(
    settings: InjectorSettings | None = None, *, loaded: bool = True, **options: Any
) -> AsyncIterator[Running]:
    material, tls = new_material(), ServerTls()
    if loaded:
        tls.load(material.chain, material.key)
    webhook = Webhook(settings or InjectorSettings(), tls, **options)
    reviews, probes = listening(), listening()
    found = Running(webhook, tls, material)
    found.port, found.probe_port = reviews.getsockname()[1], probes.getsockname()[1]
    await webhook.start([reviews], [probes])
    async with aiohttp.ClientSession() as session:
        found.session = session
        try:
            yield found
        finally:
            await webhook.close()
