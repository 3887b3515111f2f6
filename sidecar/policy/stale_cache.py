"""Stale cache: keeps the last good response to GET and serves it while a service fails (`fallback: [{stale: 5m}]`).

Owns which responses are kept, which requests they may answer (RFC 9111, for a shared cache), and the size limits. The
cache is used only after a failure. So freshness matters only where the service forbids stale responses.

Only 200 and 203 are kept: complete responses about the resource. 206 is a part; 204, redirects and errors are no good
responses. Never kept:
- Responses with `no-store`, `private` (with field names too) or `no-cache` in Cache-Control. Section 5.2.2.4 requires
  `no-cache` responses to be validated before each use. With `must-revalidate`, `proxy-revalidate` or `s-maxage` a
  response is served only while it is fresh (section 4.2.4 forbids serving it stale).
- Responses with `Vary: *`, or with more than MAX_VARY names: no later request is known to match.
- Responses with Set-Cookie: the cookie is most often one user's session, and another user who gets it would act as that
  user. Serving the response without the cookie would break the requests that follow.
- Responses to requests with `no-store`, with Range, with a body (it is not part of the key), or with Authorization or
  Cookie unless `key_headers` names that header. Such requests get no kept response either, except those with
  `no-store`: it forbids keeping a response, not serving one.

A kept response is served only to requests with the same values of the fields that its Vary and `key_headers` name.

Limits: total bytes, including the overhead of an entry; and variants of one target, so that a client that sends ever
new values cannot push out other targets. The least recently stored or used entry goes first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from math import inf
from typing import Final

from sidecar.policy.cache_fields import (
    Field,
    cache_directives,
    comparable,
    delta_seconds,
    field_in,
    vary_names,
    without_fields,
)

MAX_BYTES: Final = 16 * 1024 * 1024
MAX_ENTRY: Final = 1024 * 1024

MAX_VARIANTS: Final = 16
"""The most entries of one target."""

MAX_VARY: Final = 32
"""The most field names that distinguish the variants of a target."""

OVERHEAD: Final = 1024
"""Bytes counted for an entry in addition to its content: its objects and its places in the tables."""

_GOOD = (200, 203)
_CREDENTIALS = (b"authorization", b"cookie")
_FORBIDDING = (b"no-store", b"private", b"no-cache")

_NOT_KEPT = frozenset(
    {
        # Framing and hop-by-hop fields are written again. Location means nothing in a 200, and its rewrite depends on
        # how the app addressed the service.
        *(b"connection", b"content-length", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade"),
        *(b"proxy-authenticate", b"proxy-authentication-info", b"proxy-connection", b"age", b"location"),
        # Fields that belong to one request only.
        *(b"retry-after", b"x-request-id"),
    }
)
_NOT_KEPT_PREFIXES = (b"x-sidecar-", b"x-envoy-")


class Stored:
    """A kept response. `fields` are the field lines that may be sent again; each begins with CRLF and does not end with
    one.

    The sender adds Age and Content-Length.
    """

    def __init__(self, status: int, status_line: bytes, fields: bytes, body: bytes, stored_at: float, age: int) -> None:
        self.status = status
        self.status_line = status_line
        """The status line after the version: ` 200 OK`."""
        self.fields = fields
        self.body = body
        self.stored_at = stored_at
        self._age = age

    def age(self, now: float) -> int:
        """Age in whole seconds: its value when the response was kept, plus the time since (RFC 9111, section 4.2.3)."""
        return self._age + max(0, int(now - self.stored_at))


class _Entry:
    """A kept response and the field values that a request must have to get it."""

    def __init__(self, key: tuple[str, bytes], stored: Stored, key_headers: frozenset[bytes]) -> None:
        self.key = key
        self.stored = stored
        self.key_headers = key_headers
        self.selecting: list[tuple[bytes, bytes | None]] = []
        self.usable_until = inf
        self.used_at = stored.stored_at
        self.size = 0

    def matches(self, field: Field) -> bool:
        return all(_selecting(field, name, self.key_headers) == value for name, value in self.selecting)


class StaleCache:
    """Last good responses to GET, limited in bytes. The least recently stored or used entry goes first.

    `target` is, as bytes, all that the request URI and authority distinguish: where the app's Host goes upstream too,
    the caller puts it in front. `key_headers` are names in lower case. `now` is seconds of one monotonic clock.
    """

    def __init__(self, max_bytes: int = MAX_BYTES, max_entry: int = MAX_ENTRY) -> None:
        self.max_bytes = max_bytes
        self.max_entry = max_entry
        """The most bytes of body and fields of one response. A caller that collects a body may stop at this size."""
        self.bytes_used = 0
        self.evictions = 0
        """Entries removed to make room. A replacement by a newer response does not count."""
        self._by_use: OrderedDict[int, _Entry] = OrderedDict()
        self._variants: dict[tuple[str, bytes], list[_Entry]] = {}

    @property
    def entries(self) -> int:
        """The number of kept responses."""
        return len(self._by_use)

    def find(
        self,
        service: str,
        target: bytes,
        field: Field,
        now: float,
        max_age_s: float,
        key_headers: Sequence[bytes] = (),
    ) -> Stored | None:
        """A kept response for this GET or HEAD, if one was kept at most `max_age_s` ago."""
        if _may_take_part(field, key_headers):
            # Newest first: when several match, the newest one counts (RFC 9111, section 4.1).
            for entry in reversed(self._variants.get((service, target), ())):
                stored = entry.stored
                if now - stored.stored_at > max_age_s or now > entry.usable_until:
                    continue
                # A response kept under fewer key headers may belong to another caller.
                if entry.key_headers.issuperset(key_headers) and entry.matches(field):
                    self._by_use.move_to_end(id(entry))
                    entry.used_at = now
                    return stored
        return None

    def store(
        self,
        service: str,
        target: bytes,
        field: Field,
        status: int,
        status_line: bytes,
        fields: bytes,
        body: bytes,
        now: float,
        key_headers: Sequence[bytes] = (),
    ) -> bool:
        """Keep a complete response to a GET. It replaces the entries that this request would have matched.

        `field` looks up a field of the request. `fields` are the lines of the response; each begins with CRLF. False if
        the response may not be kept (`storable`) or is larger than `max_entry`.
        """
        if len(fields) + len(body) > self.max_entry or not storable("GET", field, status, fields, key_headers):
            return False
        response = field_in(fields)
        kept = without_fields(fields, _NOT_KEPT, _NOT_KEPT_PREFIXES)
        age = max([delta_seconds(value) or 0 for value in response(b"age")], default=0)
        entry = _Entry((service, target), Stored(status, status_line, kept, body, now, age), frozenset(key_headers))
        names = sorted({*vary_names(response(b"vary")), *key_headers})
        entry.selecting = [(name, _selecting(field, name, entry.key_headers)) for name in names]
        entry.usable_until = now + _usable_s(response, age)
        entry.size = OVERHEAD + len(service) + len(target) + len(status_line) + len(kept) + len(body)
        entry.size += sum(len(name) + len(value or b"") + OVERHEAD // 4 for name, value in entry.selecting)
        if entry.size > self.max_bytes:
            return False
        self._add(entry, field)
        return True

    def forget(self, service: str, target: bytes, field: Field) -> None:
        """Remove the entries that this request would match: the service has given a new response that is not kept."""
        for entry in list(self._variants.get((service, target), ())):
            if entry.matches(field) and _may_take_part(field, tuple(entry.key_headers)):
                self._remove(entry)

    def forget_service(self, service: str) -> None:
        """Remove all entries of a service, because its name now stands for something else."""
        for entry in [entry for entry in self._by_use.values() if entry.key[0] == service]:
            self._remove(entry)

    def invalidate(self, service: str, target: bytes) -> None:
        """Remove every variant of a target; `invalidates` says when to."""
        for entry in list(self._variants.get((service, target), ())):
            self._remove(entry)

    def _add(self, entry: _Entry, field: Field) -> None:
        variants = self._variants.get(entry.key, ())
        for other in [other for other in variants if other.matches(field)]:
            self._remove(other)
        while self.bytes_used + entry.size > self.max_bytes:
            self._evict(next(iter(self._by_use.values())))
        variants = self._variants.setdefault(entry.key, [])
        if len(variants) >= MAX_VARIANTS:
            self._evict(min(variants, key=lambda other: other.used_at))
        # Evicting the last variant drops the list, so it is looked up again.
        self._variants.setdefault(entry.key, []).append(entry)
        self._by_use[id(entry)] = entry
        self.bytes_used += entry.size

    def _evict(self, entry: _Entry) -> None:
        self._remove(entry)
        self.evictions += 1

    def _remove(self, entry: _Entry) -> None:
        del self._by_use[id(entry)]
        self.bytes_used -= entry.size
        variants = self._variants[entry.key]
        variants.remove(entry)
        if not variants:
            del self._variants[entry.key]


def storable(method: str, field: Field, status: int, fields: bytes, key_headers: Sequence[bytes] = ()) -> bool:
    """Whether a response may be kept, decided from the heads alone.

    `field` looks up a field of the request. `fields` are the lines of the response; each begins with CRLF.
    """
    if method != "GET" or status not in _GOOD or not _may_take_part(field, key_headers):
        return False
    if b"no-store" in cache_directives(field(b"cache-control")):
        return False
    response = field_in(fields)
    if response(b"set-cookie"):
        return False
    directives = cache_directives(response(b"cache-control"))
    if any(word in directives for word in _FORBIDDING):
        return False
    names = vary_names(response(b"vary"))
    return b"*" not in names and len(names) <= MAX_VARY


def invalidates(method: str, status: int) -> bool:
    """Whether this response makes the kept responses of its target wrong.

    A change that succeeded does (RFC 9111, section 4.4), and so does the news that the resource is gone.
    """
    if method in ("GET", "HEAD", "OPTIONS", "TRACE"):
        return status in (404, 410)
    return 200 <= status < 400


def _may_take_part(field: Field, key_headers: Sequence[bytes]) -> bool:
    if field(b"range") or field(b"transfer-encoding"):
        return False
    if any(value != b"0" for value in field(b"content-length")):
        return False
    return all(name in key_headers or not field(name) for name in _CREDENTIALS)


def _selecting(field: Field, name: bytes, key_headers: frozenset[bytes]) -> bytes | None:
    """The value that distinguishes variants. Key headers identify the caller, so they are compared byte for byte."""
    values = field(name)
    if name not in key_headers:
        return comparable(values)
    return b"\r\n".join(values) if values else None


def _usable_s(response: Field, age: int) -> float:
    """Seconds from now in which the response may be served, whatever the operator allows (RFC 9111, section 4.2.4)."""
    directives = cache_directives(response(b"cache-control"))
    bound = directives.get(b"s-maxage")
    if bound is None:
        if b"must-revalidate" not in directives and b"proxy-revalidate" not in directives:
            return inf
        bound = directives.get(b"max-age", b"")
    return float((delta_seconds(bound) or 0) - age)
