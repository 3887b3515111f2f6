"""A small demo service: an HTTP server on each inherited socket, or on one address; each is a separate endpoint.

An endpoint answers every request with JSON that describes the request. Two requests change its behaviour; send them to
the endpoint itself and not through the sidecar:

    POST /flaky?rate=0.6[&status=503]   from now on this share of the responses is a failure; rate=0 ends it
    POST /slow?ms=300                   from now on every response is delayed this long; ms=0 ends it

With inherited sockets it lives as long as its standard input is open. Its parent process holds the other end of the
pipe, so it ends with the parent even if that was killed. `sidecar.demo.show` starts it like this, and binds the ports.
With `--listen` it lives until SIGTERM or SIGINT. The containers of deploy/compose.yaml start it like this.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import sys
from collections.abc import Callable, Sequence

from aiohttp import web

SHOWN_HEADERS = (
    "host",
    "x-sidecar-loop",
    "x-forwarded-prefix",
    "x-request-id",
    "x-envoy-attempt-count",
    "x-envoy-expected-rq-timeout-ms",
)
"""The headers that the sidecar writes. The app's own headers are not shown, because they would hide these."""

OnEnd = Callable[[Callable[[], None]], None]
"""A function that is given a callback, and calls it when the service has to end."""


class Endpoint:
    """One endpoint: its responses, and the failures and delays that were requested."""

    def __init__(self, service: str, name: str, rng: random.Random) -> None:
        self.service = service
        self.name = name
        self.failure_rate = 0.0
        self.failure_status = 503
        self.delay_ms = 0.0
        self._rng = rng

    def application(self) -> web.Application:
        """The routes. `echo` answers every request except the two switches."""
        application = web.Application()
        application.router.add_post("/flaky", self.flaky)
        application.router.add_post("/slow", self.slow)
        application.router.add_route("*", "/{path:.*}", self.echo)
        return application

    async def echo(self, request: web.Request) -> web.Response:
        """Describe the request, or fail if that was requested."""
        body_bytes = 0
        async for chunk in request.content.iter_any():
            body_bytes += len(chunk)
        await asyncio.sleep(self.delay_ms / 1000)
        seen = {"service": self.service, "endpoint": self.name, "method": request.method, "path": request.raw_path}
        if self._rng.random() < self.failure_rate:
            return _json({**seen, "error": "failed, as requested by POST /flaky"}, self.failure_status)
        headers = {name: request.headers[name] for name in SHOWN_HEADERS if name in request.headers}
        return _json({**seen, "body_bytes": body_bytes, "headers": headers})

    async def flaky(self, request: web.Request) -> web.Response:
        """Set the share of failures (0 to 1) and their status."""
        try:
            rate = float(request.query.get("rate", "0.5"))
            status = int(request.query.get("status", "503"))
        except ValueError:
            rate, status = -1.0, 0
        if not (0 <= rate <= 1 and 400 <= status <= 599):
            return _json({"error": "rate must be from 0 to 1, status from 400 to 599"}, 400)
        self.failure_rate, self.failure_status = rate, status
        return _json({"endpoint": self.name, "failure_rate": rate, "failure_status": status})

    async def slow(self, request: web.Request) -> web.Response:
        """Set the delay of every response."""
        try:
            delay_ms = float(request.query.get("ms", "300"))
        except ValueError:
            delay_ms = -1.0
        if not 0 <= delay_ms <= 60_000:
            return _json({"error": "ms must be from 0 to 60000"}, 400)
        self.delay_ms = delay_ms
        return _json({"endpoint": self.name, "delay_ms": delay_ms})


def _json(content: dict[str, object], status: int = 200) -> web.Response:
    body = json.dumps(content, indent=2).encode() + b"\n"
    return web.Response(body=body, status=status, content_type="application/json")


def endpoints_of(service: str, listeners: Sequence[socket.socket], seed: int | None) -> list[Endpoint]:
    """An endpoint for each listening socket, named by its address. With the same `seed`, each has the same failures
    again.
    """
    found = []
    for index, listener in enumerate(listeners):
        host, port = listener.getsockname()
        rng = random.Random() if seed is None else random.Random(f"{seed}/{service}/{index}")
        found.append(Endpoint(service, f"{host}:{port}", rng))
    return found


async def serve(endpoints: Sequence[Endpoint], listeners: Sequence[socket.socket], on_end: OnEnd) -> None:
    """Serve each endpoint on its listener until `on_end` calls back."""
    ended = asyncio.Event()
    on_end(ended.set)
    runners = []
    for endpoint, listener in zip(endpoints, listeners, strict=True):
        runner = web.AppRunner(endpoint.application(), access_log=None, shutdown_timeout=0)
        await runner.setup()
        await web.SockSite(runner, listener).start()
        runners.append(runner)
    await ended.wait()
    for runner in runners:
        await runner.cleanup()


def on_closed(lifeline: int) -> OnEnd:
    """Calls back when the other end of this pipe (a file descriptor) is closed."""

    def watch(end: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()

        def on_readable() -> None:
            if not os.read(lifeline, 4096):
                loop.remove_reader(lifeline)
                end()

        loop.add_reader(lifeline, on_readable)

    return watch


def on_signal(end: Callable[[], None]) -> None:
    """Calls back at SIGTERM or SIGINT. The first process of a container ignores signals that it has no handler for."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end)


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m sidecar.demo.service SERVICE FD...`: the listening sockets are inherited by descriptor number.

    `python -m sidecar.demo.service SERVICE --listen HOST:PORT` binds one itself. That endpoint has the name of the
    machine, which is the container's.
    """
    parser = argparse.ArgumentParser(prog="python -m sidecar.demo.service")
    parser.add_argument("service")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("descriptors", metavar="FD", type=int, nargs="*", default=[])
    where.add_argument("--listen", metavar="HOST:PORT")
    parser.add_argument(
        "--flaky", metavar="RATE", type=float, default=0.0, help="the share of responses that are a 503"
    )
    parser.add_argument("--seed", type=int)
    options = parser.parse_args(arguments)
    if not 0 <= options.flaky <= 1:
        parser.error("--flaky must be from 0 to 1")
    if options.listen:
        host, _, port = options.listen.rpartition(":")
        listeners = [socket.create_server((host, int(port)), backlog=512)]
    else:
        listeners = [socket.socket(fileno=descriptor) for descriptor in options.descriptors]
    endpoints = endpoints_of(options.service, listeners, options.seed)
    for endpoint in endpoints:
        endpoint.failure_rate = options.flaky
        if options.listen:
            endpoint.name = f"{socket.gethostname()}:{port}"
    asyncio.run(serve(endpoints, listeners, on_signal if options.listen else on_closed(sys.stdin.fileno())))


if __name__ == "__main__":
    main()
