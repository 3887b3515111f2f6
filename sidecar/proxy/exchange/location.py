"""Where a redirect leads, said so that the app gets there through the sidecar again.

Owns the rewriting of Location for a service that was called by path; all else passes as it is.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet


def below_prefix(
    location: bytes, prefix: bytes, authorities: AbstractSet[bytes], target: bytes, aware: bool | None, own: bytes = b""
) -> bytes:
    """A path of the service's is one below `prefix` for the app, and so is a URL of one of its own authorities.

    A service that heeds X-Forwarded-Prefix has put the prefix there itself. `aware` says whether it does. If None, a
    path that begins with the prefix has it already, unless the request's own path as the service saw it (`target`)
    began with it too: then the service has such paths of its own.

    `authorities` are lower case, `own` is the authority that the app used if the service was told it. A reference to
    elsewhere, and one relative to the request, stay as they are.
    """
    if location.startswith(b"/"):
        if location.startswith(b"//") or _has_it(location, prefix, target, aware):
            return location
        return prefix + location
    scheme, separator, rest = location.partition(b"://")
    if not separator or scheme.lower() not in (b"http", b"https"):
        return location
    end = min((at for at in (rest.find(b"/"), rest.find(b"?"), rest.find(b"#")) if at >= 0), default=len(rest))
    authority = rest[:end].lower()
    host, colon, port = authority.partition(b":")
    authority = host.removesuffix(b".") + colon + port
    every_port = host.removesuffix(b".") + b":*"
    if authority not in authorities and every_port not in authorities and authority != own.lower():
        return location
    path = rest[end:] if rest[end : end + 1] == b"/" else b"/" + rest[end:]
    return path if _has_it(path, prefix, target, aware) else prefix + path


def _has_it(path: bytes, prefix: bytes, target: bytes, aware: bool | None) -> bool:
    if aware is not None:
        return aware
    return _begins_with(path, prefix) and not _begins_with(target, prefix)


def _begins_with(path: bytes, prefix: bytes) -> bool:
    """Whether a path (with what follows it) begins with these whole segments."""
    return path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in (b"", b"/", b"?", b"#")
