"""A scripted API server for single objects: get, replace, patch, with resourceVersion and its conflicts.

It answers like the real server: a PUT with an old `resourceVersion` is a 409, and a JSON patch whose `test` fails is a
422, each as a Status. If there are `faults`, each request gets the next one instead (see tests.support.kubernetes_api).
"""

from __future__ import annotations

import copy
import ssl
from dataclasses import dataclass, field
from typing import Any

import jsonpatch
from aiohttp import web

from tests.support.kubernetes_api import Fault, Object, status_body

SECRET = "/api/v1/namespaces/sidecar-system/secrets/sidecar-injector-tls"
WEBHOOK = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/sidecar-injector"


def empty_secret() -> Object:
    """The Secret as `kubectl apply` of the manifests creates it."""
    return {
        "kind": "Secret",
        "apiVersion": "v1",
        "metadata": {
            "name": "sidecar-injector-tls",
            "namespace": "sidecar-system",
            "uid": "5f1d6d0a-63c5-4c3c-9f0e-51d3e5f0c0aa",
            "resourceVersion": "100",
            "creationTimestamp": "2026-01-02T03:04:05Z",
            "managedFields": [{"manager": "kubectl-client-side-apply", "operation": "Update", "apiVersion": "v1"}],
        },
        "type": "Opaque",
    }


def webhook_configuration() -> Object:
    """The configuration as the API server returns it, with defaults."""
    webhook: Object = {
        "admissionReviewVersions": ["v1"],
        "clientConfig": {
            "service": {"name": "sidecar-injector", "namespace": "sidecar-system", "path": "/inject", "port": 443}
        },
        "failurePolicy": "Ignore",
        "matchPolicy": "Equivalent",
        "name": "namespace.sidecar.dev",
        "sideEffects": "None",
        "timeoutSeconds": 5,
    }
    other = copy.deepcopy(webhook) | {"name": "pod.sidecar.dev"}
    return {
        "kind": "MutatingWebhookConfiguration",
        "apiVersion": "admissionregistration.k8s.io/v1",
        "metadata": {"name": "sidecar-injector", "uid": "0b1c", "resourceVersion": "101", "generation": 1},
        "webhooks": [webhook, other],
    }


@dataclass
class ObjectsApi:
    """Use as an async context manager. `objects` is by path; `asked` has (method, path) of each request."""

    objects: dict[str, Object] = field(
        default_factory=lambda: {SECRET: empty_secret(), WEBHOOK: webhook_configuration()}
    )
    faults: list[Fault | None] = field(default_factory=list)
    """A None in the list lets one request pass."""
    token: str | None = None
    tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.url = ""
        self._version = 1000

    async def __aenter__(self) -> ObjectsApi:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self.tls).start()
        self.url = f"http{'s' if self.tls else ''}://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def touch(self, path: str) -> None:
        """Another client changes the object."""
        self._version += 1
        self.objects[path]["metadata"]["resourceVersion"] = str(self._version)

    def count(self, method: str) -> int:
        return sum(one == method for one, _ in self.asked)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.method, request.path))
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            return await fault(request)
        if self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}":
            return _status(401, "Unauthorized", "Unauthorized")
        found = self.objects.get(request.path)
        if found is None:
            return _status(404, "NotFound", f"{request.path} not found")
        if request.method == "PUT":
            return self._replace(request.path, found, await request.json())
        if request.method == "PATCH":
            assert request.content_type == "application/json-patch+json"
            return self._patch(request.path, found, await request.json())
        assert request.method == "GET"
        return web.json_response(found)

    def _replace(self, path: str, found: Object, value: Any) -> web.Response:
        if value["metadata"]["resourceVersion"] != found["metadata"]["resourceVersion"]:
            words = "the object has been modified; please apply your changes to the latest version and try again"
            return _status(409, "Conflict", f"Operation cannot be fulfilled on {path}: {words}")
        self.objects[path] = value
        self.touch(path)
        return web.json_response(value)

    def _patch(self, path: str, found: Object, operations: Any) -> web.Response:
        try:
            self.objects[path] = jsonpatch.apply_patch(found, operations)
        except jsonpatch.JsonPatchTestFailed:
            return _status(422, "Invalid", "the server rejected our request due to an error in our request")
        self.touch(path)
        return web.json_response(self.objects[path])


def _status(code: int, reason: str, message: str) -> web.Response:
    return web.json_response(status_body(code, reason, message), status=code)
