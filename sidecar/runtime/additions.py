"""What the sidecar adds to a request on its way to a service, as values; each protocol writes them in its own form."""

from __future__ import annotations


class Additions:
    """Of one attempt, or of all first attempts of a route.

    `timeout_ms` is the time that the attempt has, at least 1; 0 where the service is not told. `prefix` is what was cut
    off the path of a request that was routed by it. `loop_name` is this process's name in the loop header, and in Via
    with `via`.
    """

    __slots__ = ("attempt", "grpc_timeout", "http1", "http2", "loop_name", "prefix", "timeout_ms", "via")

    def __init__(
        self,
        loop_name: bytes,
        prefix: bytes | None,
        attempt: int,
        timeout_ms: int,
        via: bool,
        grpc_timeout: bytes | None = None,
    ) -> None:
        self.loop_name = loop_name
        self.prefix = prefix
        self.attempt = attempt
        self.timeout_ms = timeout_ms
        self.via = via
        self.grpc_timeout = grpc_timeout
        """What is left of the app's deadline, as a gRPC service reads it."""
        self.http1 = b""
        """The same as field lines, once a connection has written them."""
        self.http2: list[tuple[bytes, bytes]] = []
        """The same as the fields of HTTP/2."""
