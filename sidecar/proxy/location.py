"""Where a redirect leads, said so that the app gets there through the sidecar again.

Owns the rewriting of Location for a service that was called by path; all else passes as it is.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet


def below_prefix(location: bytes, prefix: bytes, authorities: AbstractSet[bytes]) -> bytes:
    """A path of the service's is one below `prefix` for the app, and so is a URL of one of its own authorities.

    `authorities` are lower case. A reference to elsewhere, and one relative to the request, stay as they are.
    """
    if location.startswith(b"/"):
        return location if location.startswith(b"//") else prefix + location
    scheme, separator, rest = location.partition(b"://")
    if not separator or scheme.lower() not in (b"http", b"https"):
        return location
    end = min((at for at in (rest.find(b"/"), rest.find(b"?"), rest.find(b"#")) if at >= 0), default=len(rest))
    if rest[:end].lower().removesuffix(b".") not in authorities:
        return location
    return prefix + (rest[end:] if rest[end : end + 1] == b"/" else b"/" + rest[end:])
