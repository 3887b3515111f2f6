"""gRPC servers as processes, and a daemon before them or none: the same calls are made directly and through it.

What a call does directly shows that the apparatus works; what it does through the daemon is what is tested.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol

import grpc

from tests.support.daemon import Daemon
from tests.support.grpc_upstream import App

Call = Callable[[], Any]


class Server(Protocol):
    """Where a service runs."""

    port: int
    url: str


class Stage:
    """One service, `shop`, with an endpoint for each upstream. Use as a context manager.

    `policy` are further keys of the service, `config` further lines of the file; with `direct` there is no daemon, and
    apps call the first upstream.
    """

    def __init__(
        self,
        *upstreams: Server,
        policy: str = "",
        config: str = "",
        direct: bool = False,
        **of_daemon: Any,
    ) -> None:
        self.upstreams = upstreams
        self.daemon: Daemon | None = None
        if direct:
            self.port = upstreams[0].port
            return
        urls = ", ".join(f'"{one.url}"' for one in upstreams)
        more = "".join(f"    {line}\n" for line in policy.strip().splitlines())
        text = f"services:\n  shop:\n    endpoints: [{urls}]\n    grpc: [test.*]\n{more}{config}"
        self.daemon = Daemon(text, **of_daemon)
        self.port = self.daemon.proxy_port

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self.daemon is not None:
            defects = [line for line in self.daemon.log_lines() if line.get("level") == "error"]
            self.daemon.__exit__(kind, error, tb)
            assert not defects or kind is not None, f"the daemon says that it has a defect: {defects[0]}"

    @property
    def log(self) -> str:
        return self.daemon.log if self.daemon is not None else ""

    def app(self, **more: Any) -> App:
        return App(self.port, **more)


def failure(call: Call) -> grpc.RpcError:
    """Makes a call that must fail; returns how: `code()`, `details()`, `trailing_metadata()`."""
    try:
        answer = call()
    except grpc.RpcError as error:
        return error
    raise AssertionError(f"answered with {answer!r:.100}")


def value(metadata: Any, name: str) -> str | bytes | None:
    """What the metadata of an answer say of `name`; None where they do not have it, or have it twice."""
    found = [each for key, each in metadata or () if key == name]
    return found[0] if len(found) == 1 else None
