"""What a hash balancer goes by: one value of the request, as its bytes stand there.

Owns where to look. None where the request has no such value: the balancer then draws.
"""

from __future__ import annotations

from sidecar.policy.settings import HashSettings
from sidecar.proxy.downstream.stream import DownstreamStream
from sidecar.proxy.http1.request_head import RequestHead


def hash_key(settings: HashSettings, request: RequestHead, stream: DownstreamStream) -> bytes | None:
    """The key of a request, whatever it holds; an empty value counts as none."""
    if settings.header is not None:
        return b",".join(request.values(settings.header.lower().encode())) or None
    if settings.cookie is not None:
        return _parameter(b";".join(request.values(b"cookie")), b";", settings.cookie.encode())
    if settings.query is not None:
        return _parameter(request.target.partition(b"?")[2], b"&", settings.query.encode())
    peer = stream.peer()
    return peer.encode() if peer else None


def _parameter(text: bytes, separator: bytes, name: bytes) -> bytes | None:
    for part in text.split(separator):
        found, equals, value = part.strip(b" \t").partition(b"=")
        if found == name and equals:
            return value or None
    return None
