"""Kubernetes watches: which service watches which Service, with feeds and clients shared. The daemon uses only this
module.

Owns the sharing. Services of the configuration that name the same Service share one feed (each may choose another
port), and feeds of one server share one client. A feed lasts as long as somebody watches it. On a reload, begin the new
watches before closing the old ones, so that nothing is listed again.

As with names, the complete set is pushed each time, the last good set stays while the API server cannot be asked, and a
watcher that raises ends nothing. An empty set is pushed if the Service really has no endpoint, but not as the first
set.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final

from sidecar.config.schema import Url
from sidecar.discovery.discovered_endpoint import DiscoveredEndpoint, PushEndpoints
from sidecar.discovery.kubernetes.api import TIMES, Api, Times
from sidecar.discovery.kubernetes.credentials import Credentials
from sidecar.discovery.kubernetes.feed import Feed
from sidecar.discovery.kubernetes.slices import Place, select
from sidecar.net.tasks import Tasks
from sidecar.policy.settings import KubernetesSettings

Server = tuple[str | None, str | None, str | None]
"""`server`, `token_file` and `ca_file`. Two configurations with equal values share a client."""

_log = logging.getLogger("sidecar.discovery")


class _Shared:
    """A feed and its watches."""

    __slots__ = ("api", "feed", "task", "watches")

    def __init__(self, api: Api) -> None:
        self.api = api
        self.feed: Feed
        self.task: asyncio.Task[None]
        self.watches: list[Watch] = []

    def changed(self) -> None:
        for watch in tuple(self.watches):
            if watch in self.watches:  # a push may close other watches
                watch._update()


class Watch:
    """The result of `Kubernetes.watch`; `close` ends it. `feed` has the counters and the problem."""

    __slots__ = ("_complaint", "_host", "_known", "_last_usable", "_port", "_push", "_shared", "_source", "_usable")

    kind: Final = "kubernetes"

    def __init__(self, source: Kubernetes, shared: _Shared, port: int | str | None, push: PushEndpoints) -> None:
        self._source = source
        self._shared = shared
        self._port = port
        self._push = push
        self._host = f"{shared.feed.service}.{shared.feed.namespace}.svc"
        self._known: tuple[Place, ...] = ()
        self._complaint = ""
        self._usable = True
        self._last_usable: float | None = None

    @property
    def name(self) -> str:
        return f"{self.feed.namespace}/{self.feed.service}"

    @property
    def endpoints(self) -> int:
        return len(self._known)

    @property
    def updates(self) -> dict[str, int]:
        """Lists and events applied, failed requests, and broken watches (they are resumed)."""
        feed = self.feed
        return {"success": feed.lists + feed.events, "failure": feed.failures, "broken": feed.breaks}

    @property
    def last_success(self) -> float | None:
        """The loop's time at which the server last confirmed the endpoints.

        Slices that cannot be used (the port is gone from them) confirm nothing: then it is the time before they came.
        """
        return self.feed.last_success if self._usable else self._last_usable

    @property
    def feed(self) -> Feed:
        return self._shared.feed

    @property
    def problem(self) -> str | None:
        """Why the last request failed, or what is wrong with the Service; None if all is well."""
        return str(self.feed.problem) if self.feed.problem is not None else self._complaint or None

    @property
    def complaint(self) -> str:
        """What is wrong with the Service's slices, "" if nothing."""
        return self._complaint

    def close(self) -> None:
        """Stop the callbacks. A Service without watches is no longer watched. A second call does nothing."""
        self._source._forget(self)

    def _update(self) -> None:
        selection = select(self.feed.slices.values(), self._port)
        if selection.complaint != self._complaint:
            self._complaint = selection.complaint
            if selection.complaint:
                extra = {"kind": "discovery", "fields": {"source": self.kind, "name": self.name}}
                _log.warning("Service %s: %s", self.name, selection.complaint, extra=extra)
        if self._usable and not selection.usable:
            self._last_usable = self.feed.last_success if self._known else None
        self._usable = selection.usable
        # Compared as sets, because the order of endpoints in a slice means nothing.
        if not selection.usable or set(selection.places) == set(self._known):
            return
        self._known = selection.places
        found = [
            DiscoveredEndpoint(url=Url(scheme, self._host, port), address=address)
            for address, port, scheme in selection.places
        ]
        try:
            self._push(found)
        except Exception:
            _log.exception("the new endpoints of Service %s could not be applied", self._host)


class Kubernetes:
    """Discovery by EndpointSlices. Create and use it in a running event loop.

    `random` in [0, 1) spreads waits. `sleep` and `credentials` are parameters for tests.
    """

    def __init__(
        self,
        *,
        times: Times = TIMES,
        random: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        credentials: Callable[[KubernetesSettings], Credentials] = Credentials,
    ) -> None:
        self._times = times
        self._random = random
        self._sleep = sleep
        self._credentials = credentials
        self._apis: dict[Server, Api] = {}
        self._feeds: dict[tuple[Server, str, str], _Shared] = {}
        self._retired: list[Api] = []
        """Clients that are no longer used and will be closed."""
        self._tasks = Tasks(_log)
        self._closed = False

    def watch(self, settings: KubernetesSettings, push: PushEndpoints) -> Watch:
        """Call `push` with the complete set: now, if any slice is known, and on each change."""
        if self._closed:
            raise RuntimeError("discovery is closed")
        server = (settings.server, settings.token_file, settings.ca_file)
        credentials = self._credentials(settings)
        namespace = settings.namespace or credentials.namespace()
        key = (server, namespace, settings.service)
        shared = self._feeds.get(key)
        if shared is None:
            api = self._apis.get(server)
            if api is None:
                api = self._apis[server] = Api(credentials, self._times)
            shared = self._feeds[key] = _Shared(api)
            shared.feed = Feed(
                api,
                namespace,
                settings.service,
                shared.changed,
                times=self._times,
                random=self._random,
                sleep=self._sleep,
            )
            shared.task = self._tasks.start(shared.feed.run(), f"slices of {namespace}/{settings.service}")
        watch = Watch(self, shared, settings.port, push)
        shared.watches.append(watch)
        watch._update()
        return watch

    @property
    def feeds(self) -> list[Feed]:
        """The feeds that are watched now, for metrics."""
        return [shared.feed for shared in self._feeds.values()]

    async def ready(self, timeout: float) -> bool:
        """Wait until every watched feed has its first result, good or bad; False after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                for shared in list(self._feeds.values()):
                    await shared.feed.answered.wait()
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Stop all callbacks and cancel all tasks; `closed` waits until the tasks have ended and closes the
        connections.
        """
        self._closed = True
        for shared in self._feeds.values():
            shared.watches.clear()
            shared.feed.answered.set()
        self._feeds.clear()
        self._tasks.cancel()

    async def closed(self) -> None:
        """Wait for the tasks and close the connections. Call it after `close`."""
        await self._tasks.ended()
        for api in (*self._apis.values(), *self._retired):
            await api.close()
        self._apis.clear()
        self._retired.clear()

    def _forget(self, watch: Watch) -> None:
        shared = watch._shared
        if watch not in shared.watches:
            return
        shared.watches.remove(watch)
        if shared.watches:
            return
        self._feeds = {key: other for key, other in self._feeds.items() if other is not shared}
        shared.feed.answered.set()
        shared.task.cancel()
        if any(other.api is shared.api for other in self._feeds.values()):
            return
        self._apis = {key: api for key, api in self._apis.items() if api is not shared.api}
        self._retired.append(shared.api)
        self._tasks.start(self._close_api(shared), "closing an API server's connections")

    async def _close_api(self, shared: _Shared) -> None:
        await asyncio.wait([shared.task])
        await shared.api.close()
        self._retired.remove(shared.api)
