"""A scripted Kubernetes API server on loopback: lists and watches EndpointSlices in the real wire format.

Like the real server, it keeps slices with a growing `resourceVersion` and a history to watch from, and serves them with
pages, bookmarks and timeouts. Tests change its content (`put`, `delete`), break open watches (`break_watches`,
`send_raw`), and script faults for the next requests (`next_list`, `next_watch`). It runs in the test's own event loop;
`KubernetesApiThread` runs it in a thread, for tests of a daemon as a process.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeVar

from aiohttp import web

T = TypeVar("T")
PATH = "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
LABEL = "kubernetes.io/service-name"

Object = dict[str, Any]
Fault = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def until(check: Callable[[], T], timeout: float = 5.0) -> T:
    """Waits until `check` is true (it may raise AssertionError until then), and returns its result."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while True:
        try:
            if result := check():
                return result
            assert loop.time() < deadline, "did not come true in time"
        except AssertionError:
            if loop.time() >= deadline:
                raise
        await asyncio.sleep(0.002)


def endpoint(
    address: str, ready: bool | None = True, serving: bool | None = None, terminating: bool | None = None
) -> Object:
    """An endpoint as the control plane writes it. A condition that is None is left out."""
    given = {"ready": ready, "serving": serving, "terminating": terminating}
    return {
        "addresses": [address],
        "conditions": {name: value for name, value in given.items() if value is not None},
        "nodeName": "node-1",
        "targetRef": {"kind": "Pod", "namespace": "default", "name": f"pod-{address}", "uid": "0b1c"},
        "zone": "zone-a",
    }


def endpoint_slice(
    name: str,
    service: str,
    endpoints: Iterable[str | Object] | None = (),
    *,
    namespace: str = "default",
    ports: Iterable[Object] | None = ({"name": "http", "port": 3002, "protocol": "TCP"},),
    family: str = "IPv4",
) -> Object:
    """An EndpointSlice. An endpoint may be given as an address only; it is then ready."""
    return {
        "metadata": {
            "name": name,
            "generateName": f"{service}-",
            "namespace": namespace,
            "uid": f"uid-of-{name}",
            "generation": 3,
            "creationTimestamp": "2026-01-02T03:04:05Z",
            "labels": {LABEL: service, "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"},
            "managedFields": [{"manager": "kube-controller-manager", "fieldsV1": {"f:endpoints": {}, "f:ports": {}}}],
            "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": service, "controller": True}],
        },
        "addressType": family,
        "endpoints": None
        if endpoints is None
        else [endpoint(one) if isinstance(one, str) else one for one in endpoints],
        "ports": None if ports is None else list(ports),
    }


def status_body(code: int, reason: str, message: str, details: Object | None = None) -> Object:
    body: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message}
    return body | {"reason": reason, "code": code} | ({"details": details} if details else {})


def refuse(code: int, reason: str = "InternalError", message: str = "scripted", **headers: str) -> Fault:
    """An error in the form of the API server. `Retry_After="7"` becomes a header."""

    async def fault(request: web.Request) -> web.StreamResponse:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.json_response(status_body(code, reason, message), status=code, headers=fields)

    return fault


def answer(body: bytes, content_type: str = "application/json", status: int = 200) -> Fault:
    """Any answer: a login page, half a JSON document, an enormous one."""

    async def fault(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type=content_type, status=status)

    return fault


def drop() -> Fault:
    """Closes the connection without an answer."""

    async def fault(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    return fault


def hang() -> Fault:
    """Gives no answer until the client disconnects or the test ends."""

    async def fault(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    return fault


def stream(*pieces: bytes, end: str = "end") -> Fault:
    """A watch that sends these bytes, each piece in its own write. Then it ends (`end`), is `cut` or stays `open`."""

    async def fault(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
        if end == "open":
            await asyncio.Event().wait()
        if end == "cut":
            assert request.transport is not None
            request.transport.close()
        return response

    return fault


def line(kind: str, found: Object) -> bytes:
    """One watch event in the wire format."""
    return json.dumps({"type": kind, "object": found}, separators=(",", ":")).encode() + b"\n"


@dataclass
class Asked:
    """A request; `kind` is `list` or `watch`."""

    kind: str
    namespace: str
    service: str
    query: dict[str, str]
    headers: dict[str, str]

    @property
    def token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")


@dataclass(eq=False)
class _Watching:
    namespace: str
    service: str
    queue: asyncio.Queue[bytes | str] = field(default_factory=asyncio.Queue)


class KubernetesApi:
    """See the module. `token`, if set, is the only accepted one; `tls` is a server's context."""

    def __init__(self, *, token: str | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.token = token
        self.asked: list[Asked] = []
        self.next_list: list[Fault] = []
        self.next_watch: list[Fault] = []
        self.gone_as = "event"
        """How a watch from a version that is too old is refused: an `event` in the stream, or a `status`."""
        self.largest_page = 500
        self.url = ""
        self._tls = tls
        self._objects: dict[tuple[str, str], Object] = {}
        self._history: list[tuple[int, str, Object]] = []
        self._forgotten = 0
        self._version = 1000
        self._watching: set[_Watching] = set()
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> KubernetesApi:
        app = web.Application()
        app.router.add_get(PATH, self._handle)
        # A handler that hangs is cancelled when its client disconnects.
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http{'s' if self._tls else ''}://127.0.0.1:{port}"
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: Any) -> None:
        await self.stop()

    async def stop(self) -> None:
        """From now on its port refuses connections."""
        if self._runner is not None:
            self.break_watches()
            await self._runner.cleanup()
            self._runner = None

    # Content.

    def put(self, *args: Any, **more: Any) -> Object:
        """Creates or changes a slice (arguments of `endpoint_slice`), and sends the event to the watches."""
        made = endpoint_slice(*args, **more)
        key = (made["metadata"]["namespace"], made["metadata"]["name"])
        kind = "MODIFIED" if key in self._objects else "ADDED"
        self._objects[key] = made
        self._record(kind, made)
        return made

    def delete(self, name: str, namespace: str = "default") -> None:
        self._record("DELETED", self._objects.pop((namespace, name)))

    def move_on(self) -> None:
        """Something else in the cluster changes: the version grows, but no watch gets an event."""
        self._version += 1

    def forget(self) -> None:
        """Compacts the history up to now: a watch from an earlier version is refused."""
        self._version += 1
        self._forgotten = self._version
        self._history.clear()

    def bookmark(self) -> None:
        found = {
            "kind": "EndpointSlice",
            "apiVersion": "discovery.k8s.io/v1",
            "metadata": {"resourceVersion": str(self._version), "creationTimestamp": None},
            "addressType": "",
            "endpoints": None,
            "ports": None,
        }
        self.send_raw(line("BOOKMARK", found))

    @property
    def version(self) -> str:
        return str(self._version)

    # Open watches.

    @property
    def watching(self) -> int:
        return len(self._watching)

    def count(self, kind: str) -> int:
        return sum(one.kind == kind for one in self.asked)

    def last(self, kind: str) -> Asked:
        return [one for one in self.asked if one.kind == kind][-1]

    def send_raw(self, data: bytes, service: str | None = None) -> None:
        """Sends bytes, valid or not, to every open watch (of a service)."""
        for one in self._watching:
            if service in (None, one.service):
                one.queue.put_nowait(data)

    def break_watches(self, how: str = "cut") -> None:
        """`cut` closes the connection at once; `end` ends the watch as at its timeout."""
        for one in list(self._watching):
            one.queue.put_nowait(how)

    # Answers.

    def _record(self, kind: str, made: Object) -> None:
        self._version += 1
        made["metadata"]["resourceVersion"] = str(self._version)
        self._history.append((self._version, kind, made))
        for one in self._watching:
            if _wanted(made, one.namespace, one.service):
                one.queue.put_nowait(line(kind, {"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1"} | made))

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        query = dict(request.query)
        name, _, service = query["labelSelector"].partition("=")
        assert name == LABEL, query
        kind = "watch" if query.get("watch") in ("1", "true") else "list"
        asked = Asked(kind, request.match_info["namespace"], service, query, dict(request.headers))
        self.asked.append(asked)
        faults = self.next_watch if kind == "watch" else self.next_list
        if faults:
            return await faults.pop(0)(request)
        if self.token is not None and asked.token != self.token:
            return web.json_response(status_body(401, "Unauthorized", "Unauthorized"), status=401)
        if kind == "watch":
            return await self._watch(request, asked)
        return self._list(asked)

    def _list(self, asked: Asked) -> web.Response:
        found = [one for _, one in sorted(self._objects.items()) if _wanted(one, asked.namespace, asked.service)]
        token = asked.query.get("continue", "")
        assert not (token and asked.query.get("resourceVersion")), "the real one refuses this with 400"
        start = json.loads(base64.b64decode(token))["start"] if token else 0
        end = start + min(int(asked.query["limit"]), self.largest_page)
        meta: Object = {"resourceVersion": self.version}
        if end < len(found):
            meta["continue"] = base64.b64encode(json.dumps({"rv": self._version, "start": end}).encode()).decode()
            meta["remainingItemCount"] = len(found) - end
        page = {"kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1", "metadata": meta}
        body = json.dumps(page | {"items": found[start:end]}, separators=(",", ":")) + "\n"
        return web.Response(text=body, content_type="application/json", headers={"Cache-Control": "no-cache, private"})

    async def _watch(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        since = int(asked.query["resourceVersion"])
        too_old = status_body(410, "Expired", f"too old resource version: {since} ({self._forgotten})")
        if since < self._forgotten and self.gone_as == "status":
            return web.json_response(too_old, status=410)
        response = web.StreamResponse(
            headers={"Content-Type": "application/json", "Cache-Control": "no-cache, private"}
        )
        response.enable_chunked_encoding()
        await response.prepare(request)
        if since < self._forgotten:
            await response.write(line("ERROR", too_old))
            return response
        one = _Watching(asked.namespace, asked.service)
        for version, kind, made in self._history:
            if version > since and _wanted(made, asked.namespace, asked.service):
                one.queue.put_nowait(line(kind, made))
        self._watching.add(one)
        over = asyncio.get_running_loop().call_later(float(asked.query["timeoutSeconds"]), one.queue.put_nowait, "end")
        try:
            while not isinstance(data := await one.queue.get(), str):
                await response.write(data)
            if data == "cut" and request.transport is not None:
                request.transport.close()
        except ConnectionError:
            pass
        finally:
            over.cancel()
            self._watching.discard(one)
        return response


def _wanted(found: Object, namespace: str, service: str) -> bool:
    meta = found["metadata"]
    return bool(meta["namespace"] == namespace and meta["labels"][LABEL] == service)


class KubernetesApiThread:
    """The same in a separate thread. `call(lambda api: api.put(...))` runs there and returns the result."""

    def __init__(self, **options: Any) -> None:
        self.api = KubernetesApi(**options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> KubernetesApiThread:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.api.__aenter__(), self._loop).result(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self.api.stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def stop(self) -> None:
        """The API server is gone: from now on its port refuses connections."""
        asyncio.run_coroutine_threadsafe(self.api.stop(), self._loop).result(10)

    def call(self, what: Callable[[KubernetesApi], T]) -> T:
        async def there() -> T:
            return what(self.api)

        return asyncio.run_coroutine_threadsafe(there(), self._loop).result(10)
