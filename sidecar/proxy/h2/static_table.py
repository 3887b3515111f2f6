"""The static table of HPACK (RFC 7541, appendix A)."""

from __future__ import annotations

from functools import cache
from typing import Final

SIZE: Final = 61

_FIELDS: Final = b"""
:authority
:method GET
:method POST
:path /
:path /index.html
:scheme http
:scheme https
:status 200
:status 204
:status 206
:status 304
:status 400
:status 404
:status 500
accept-charset
accept-encoding gzip, deflate
accept-language
accept-ranges
accept
access-control-allow-origin
age
allow
authorization
cache-control
content-disposition
content-encoding
content-language
content-length
content-location
content-range
content-type
cookie
date
etag
expect
expires
from
host
if-match
if-modified-since
if-none-match
if-range
if-unmodified-since
last-modified
link
location
max-forwards
proxy-authenticate
proxy-authorization
range
referer
refresh
retry-after
server
set-cookie
strict-transport-security
transfer-encoding
user-agent
vary
via
www-authenticate
"""


@cache
def fields() -> list[tuple[bytes, bytes]]:
    """Those of the table, from index 1 on; index 0 is none of it."""
    table = [(b"", b"")]
    for line in _FIELDS.split(b"\n")[1:-1]:
        name, _, value = line.partition(b" ")
        table.append((name, value))
    return table


@cache
def numbers() -> dict[tuple[bytes, bytes], int]:
    """For an encoder: minus the index of each field."""
    return {field: -index for index, field in enumerate(fields()) if index}


@cache
def name_numbers() -> dict[bytes, int]:
    """Minus the first index of each name."""
    found: dict[bytes, int] = {}
    for index, (name, _) in enumerate(fields()):
        if index:
            found.setdefault(name, -index)
    return found
