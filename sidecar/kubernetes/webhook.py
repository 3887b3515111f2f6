"""The webhook over HTTPS: one review for each request, on two paths. A second, plain listener serves kubelet and
Prometheus.

    POST /inject        from namespaces that are labelled: a pod gets a sidecar unless it refuses
    POST /inject/asked  from all others: a pod gets one if it asks

This module owns HTTP: paths, methods, types, sizes and times. Every request gets a response. If a bug prevents the
patch, the pod starts without a sidecar, with a warning and an error in the log, because an injector must not stop a
cluster from starting pods. With `fail_closed`, a pod that should have a sidecar is denied instead. A body that is not a
review always gets a status of 400 or more, to which the API server applies the webhook's `failurePolicy`.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from aiohttp import web

from sidecar.kubernetes import pod as pods
from sidecar.kubernetes import review
from sidecar.kubernetes.annotations import wish
from sidecar.kubernetes.counters import InjectorCounters
from sidecar.kubernetes.patch import Result, patch
from sidecar.kubernetes.pod import NotAPod, Object
from sidecar.kubernetes.server_tls import ServerTls
from sidecar.kubernetes.settings import InjectorSettings
from sidecar.net.aiohttp_log import http_logger
from sidecar.net.http_listener import Bounds, HttpListener
from sidecar.telemetry.metrics import CONTENT_TYPE, exposition

log = logging.getLogger("sidecar.injector")

PATHS: Final = {"/inject": False, "/inject/asked": True}
"""The value says whether a pod has to ask."""

MOST_BODY_BYTES: Final = 3 * 1024 * 1024
"""The API server's own limit on what it accepts and sends (`MaxRequestBodyBytes`)."""
MOST_BYTES_AT_ONCE: Final = 24 * 1024 * 1024
"""The limit of all bodies being read at one time, because a review needs several times its size in memory."""
BODY_S: Final = 5.0
REVIEWS: Final = Bounds(head_s=10.0, idle_s=90.0)
"""An API server keeps its connections open, and closes them itself after 90 s."""
PROBES: Final = Bounds(most=64)
SHUTDOWN_S: Final = 5.0

FAILED: Final = Result(
    skipped="failed", warnings=("no sidecar was injected, because of a bug in the injector; its log says more",)
)
NOT_WITHOUT: Final = "the sidecar could not be injected, and no pod may start here without one: "


class _Refused(Exception):
    def __init__(self, status: int, words: str, **headers: str) -> None:
        super().__init__(words)
        self.status = status
        self.headers = headers


class Webhook:
    """Serves on sockets that are already bound. Tests set `make_patch`."""

    def __init__(
        self,
        settings: InjectorSettings,
        tls: ServerTls,
        counters: InjectorCounters | None = None,
        *,
        make_patch: Callable[..., Result] = patch,
        bounds: Bounds = REVIEWS,
        body_s: float = BODY_S,
    ) -> None:
        self._settings = settings
        self._tls = tls
        self.counters = counters or InjectorCounters(
            connections=lambda: len(self.connections), refused=lambda: self.connections.refused
        )
        self._make_patch = make_patch
        self._body_s = body_s
        self._reading = 0
        self._ending = False
        self.connections = HttpListener(_server(self._handle, bounds), bounds, tls.context)
        self._probe_connections = HttpListener(_server(self._handle_probe, PROBES), PROBES)

    async def start(self, reviews: Sequence[socket.socket], probes: Sequence[socket.socket]) -> None:
        await self.connections.start(reviews)
        await self._probe_connections.start(probes)

    def ending(self) -> None:
        """From now on `/readyz` fails, so that the Service sends no more reviews. Each answer closes its connection: an
        API server keeps one open for as long as it likes, and the Service has no say in it.
        """
        self._ending = True

    async def close(self) -> None:
        """Stops. Reviews in progress are still answered."""
        await self.connections.end(SHUTDOWN_S)
        await self._probe_connections.end(1.0)

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        try:
            with self.connections.under_way(request.protocol):
                only_if_asked = _checked(request)
                body = await self._body(request)
                question = review.read(body)
        except review.BadReview as bad:
            return self._refusal(request, _Refused(400, str(bad)))
        except _Refused as refused:
            return self._refusal(request, refused)
        result = self._decide(question, only_if_asked)
        return self._last(web.Response(body=review.answer(question.uid, result), content_type="application/json"))

    def _last(self, response: web.Response) -> web.Response:
        """The response, the last one of its connection if the injector is ending."""
        if self._ending:
            response.force_close()
        return response

    def _decide(self, question: review.Question, only_if_asked: bool) -> Result:
        """Never raises. Its cost is proportional to the pod's size, because all other reviews wait for it."""
        if question.pod is None:
            result = Result(skipped="no_pod")
        else:
            try:
                result = self._make_patch(
                    question.pod, self._settings, namespace=question.namespace, only_if_asked=only_if_asked
                )
            except Exception:
                log.exception(
                    "no sidecar was injected, because of a bug in the injector", extra={"fields": _about(question)}
                )
                self.counters.injections["failed"] += 1
                if self._settings.fail_closed and self._must_have_one(question, only_if_asked):
                    return Result(denied=f"{NOT_WITHOUT}a bug in the injector; its log says more")
                return FAILED
        if (
            result.skipped == "malformed"
            and self._settings.fail_closed
            and self._must_have_one(question, only_if_asked)
        ):
            result = Result(denied=NOT_WITHOUT + " ".join(result.warnings))
        if result.denied is not None:
            log.warning("pod denied", extra={"fields": _about(question) | {"detail": result.denied}})
        outcome = "denied" if result.denied is not None else "skipped" if result.skipped is not None else "injected"
        self.counters.injections[outcome] += 1
        return result

    def _must_have_one(self, question: review.Question, only_if_asked: bool) -> bool:
        """Whether a pod must have a sidecar, if the patch cannot say: in a labelled namespace unless it refuses,
        elsewhere if it asks.
        """
        pod: Object = question.pod or {}
        try:
            asked = wish(pods.texts(pod, "annotations"), pods.texts(pod, "labels")).inject
        except NotAPod:
            asked = None
        if asked is False or question.namespace == self._settings.namespace:
            return False
        return asked is True or not only_if_asked

    async def _body(self, request: web.BaseRequest) -> bytearray:
        """Raises _Refused."""
        expected = request.content_length or 0
        if expected > MOST_BODY_BYTES:
            raise _Refused(413, f"a review may have at most {MOST_BODY_BYTES} bytes", Connection="close")
        body = bytearray()
        try:
            async with asyncio.timeout(self._body_s):
                async for data in request.content.iter_any():
                    self._reading += len(data)
                    body += data
                    if len(body) > MOST_BODY_BYTES:
                        raise _Refused(413, f"a review may have at most {MOST_BODY_BYTES} bytes", Connection="close")
                    if self._reading > MOST_BYTES_AT_ONCE:
                        raise _Refused(503, "too many reviews at once", Connection="close", Retry_After="1")
        except TimeoutError:
            raise _Refused(408, f"the review did not arrive within {self._body_s:g} s", Connection="close") from None
        except (web.RequestPayloadError, ValueError):
            raise _Refused(400, "the body broke off", Connection="close") from None
        finally:
            self._reading -= len(body)
        return body

    def _refusal(self, request: web.BaseRequest, refused: _Refused) -> web.Response:
        self.counters.injections["malformed"] += 1
        fields = {"status": refused.status, "detail": str(refused), "from": request.remote}
        log.warning("a request was refused", extra={"fields": fields})
        response = web.Response(
            status=refused.status,
            text=f"{refused}\n",
            headers={name.replace("_", "-"): value for name, value in refused.headers.items()},
        )
        if "Connection" in refused.headers:
            response.force_close()
        return self._last(response)

    async def _handle_probe(self, request: web.BaseRequest) -> web.Response:
        with self._probe_connections.under_way(request.protocol):
            return self._probed(request)

    def _probed(self, request: web.BaseRequest) -> web.Response:
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, text="read only\n", headers={"Allow": "GET, HEAD"})
        if request.path == "/livez":
            return web.Response(text="ok\n")
        if request.path == "/readyz":
            if self._ending or not self._tls.ready:
                return web.Response(status=503, text="ending\n" if self._ending else "no certificate yet\n")
            return web.Response(text="ok\n")
        if request.path == "/metrics":
            return web.Response(body=exposition(self.counters), headers={"Content-Type": CONTENT_TYPE})
        return web.Response(status=404, text="this listener has /livez, /readyz and /metrics\n")


def _server(handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], bounds: Bounds) -> web.Server:
    http_log = http_logger("sidecar.injector.http")
    return web.Server(
        handle,
        access_log=None,
        logger=http_log,
        keepalive_timeout=bounds.idle_s,
        lingering_time=1.0,
        auto_decompress=False,  # compressed bodies are refused; decompressing a bomb first would block all reviews
    )


def _checked(request: web.BaseRequest) -> bool:
    """Whether the pod has to ask, according to the path. Raises _Refused."""
    only_if_asked = PATHS.get(request.path)
    if only_if_asked is None:
        raise _Refused(404, f"reviews are answered at {' and '.join(PATHS)}", Connection="close")
    if request.method != "POST":
        raise _Refused(405, "a review must be sent with POST", Allow="POST", Connection="close")
    if request.content_type != "application/json":
        raise _Refused(415, "a review must be application/json", Connection="close")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise _Refused(415, "a review must not be compressed", Connection="close")
    return only_if_asked


def _about(question: review.Question) -> dict[str, object]:
    """The pod for the log, as far as it is known before it is created."""
    pod: Object = question.pod or {}
    metadata = pod.get("metadata")
    name = (metadata.get("name") or metadata.get("generateName")) if isinstance(metadata, dict) else None
    return {"uid": question.uid, "namespace": question.namespace, "pod": name[:253] if isinstance(name, str) else ""}
