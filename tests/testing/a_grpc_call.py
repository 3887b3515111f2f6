"""A gRPC call as the server makes it, without a connection."""

from __future__ import annotations

from collections.abc import Mapping

from multidict import MultiDict, MultiDictProxy

from sidecar.testing.grpc_calls import GrpcCall


def a_grpc_call(
    path: str = "/shop.v1.Venue/Get",
    *messages: bytes,
    metadata: Mapping[str, str | bytes] | None = None,
    at: float = 0.0,
    answered: str = "",
) -> GrpcCall:
    return GrpcCall("venue", path, MultiDictProxy(MultiDict(metadata or {})), messages, at, answered=answered)
