"""The stale cache: which responses are kept, which requests they answer, and the memory limits."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.policy.cache_fields import Field, field_in
from sidecar.policy.stale_cache import MAX_VARIANTS, MAX_VARY, OVERHEAD, StaleCache, Stored, invalidates, storable


def request(**fields: str) -> Field:
    """`accept_language="de"`."""
    return field_in(block(**fields))


def block(**fields: str) -> bytes:
    return b"".join(f"\r\n{name.replace('_', '-').title()}: {value}".encode() for name, value in fields.items())


ANYBODY = field_in(b"")


class Cache:
    """One of a single service, with a body for each response."""

    def __init__(self, **bounds: int) -> None:
        self.cache = StaleCache(**bounds)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cache, name)

    def keep(
        self,
        body: bytes,
        asked: Field = ANYBODY,
        *,
        now: float = 0.0,
        target: bytes = b"/a",
        key_headers: tuple[bytes, ...] = (),
        status: int = 200,
        fields: bytes = b"",
    ) -> bool:
        return self.cache.store("venue", target, asked, status, b" 200 OK", fields, body, now, key_headers)

    def body(
        self,
        asked: Field = ANYBODY,
        *,
        now: float = 0.0,
        target: bytes = b"/a",
        key_headers: tuple[bytes, ...] = (),
        max_age_s: float = 300.0,
    ) -> bytes | None:
        found = self.cache.find("venue", target, asked, now, max_age_s, key_headers)
        return found.body if found else None


def test_a_response_answers_the_same_target_of_the_same_service() -> None:
    cache = Cache()
    assert cache.keep(b"well", fields=b"\r\nContent-Type: text/plain")
    stored = cache.find("venue", b"/a", request(), 1.0, 300.0)
    assert stored is not None
    assert (stored.status, stored.status_line, stored.body) == (200, b" 200 OK", b"well")
    assert stored.fields == b"\r\nContent-Type: text/plain"
    assert cache.find("venue", b"/a?x", request(), 1.0, 300.0) is None
    assert cache.find("event", b"/a", request(), 1.0, 300.0) is None
    assert (cache.entries, cache.evictions) == (1, 0)


def test_a_newer_response_takes_the_place_of_the_older() -> None:
    cache = Cache()
    cache.keep(b"old")
    used = cache.bytes_used
    cache.keep(b"new", now=1.0)
    assert cache.body(now=1.0) == b"new"
    assert (cache.entries, cache.bytes_used, cache.evictions) == (1, used, 0)


def test_a_response_is_served_up_to_the_allowed_age() -> None:
    cache = Cache()
    cache.keep(b"well", now=10.0)
    assert cache.body(now=310.0) == b"well"
    assert cache.body(now=310.5) is None
    assert cache.body(now=310.5, max_age_s=600.0) == b"well", "another route may allow more"


@pytest.mark.parametrize(
    ("fields", "ages"),
    [("", [0, 0, 1, 90]), ("\r\nAge: 30", [30, 30, 31, 120]), ("\r\nAge: soon", [0, 0, 1, 90])],
)
def test_age_grows_from_its_stored_value(fields: str, ages: list[int]) -> None:
    cache = Cache()
    cache.keep(b"", now=10.0, fields=fields.encode())
    stored = cache.find("venue", b"/a", request(), 10.0, 300.0)
    assert stored is not None
    assert [stored.age(now) for now in (9.0, 10.9, 11.0, 100.0)] == ages
    assert stored.fields == b""


def test_fields_that_the_sender_writes_are_not_kept() -> None:
    cache = Cache()
    lines = b"\r\nETag: x\r\nContent-Length: 1\r\nAge: 1\r\nX-Sidecar-Reason: ok\r\nx-request-id: 1\r\nDate: d"
    assert cache.keep(b"1", fields=lines)
    stored = cache.find("venue", b"/a", request(), 0.0, 1.0)
    assert stored is not None
    assert stored.fields == b"\r\nETag: x\r\nDate: d"


RESPONSES_NOT_KEPT = [
    *("cache-control: no-store", "Cache-Control: max-age=5, Private", 'cache-control: private="set-cookie"'),
    *("cache-control: No-Cache", "cache-control: max-age=5\r\ncache-control: no-store", 'cache-control: x="no-store'),
    *("vary: *", "vary: accept, *", "vary: accept\r\nVary: *", "set-cookie: a=b", "Set-Cookie:"),
    "vary: " + ",".join(f"a{number}" for number in range(MAX_VARY + 1)),
]


@pytest.mark.parametrize("lines", RESPONSES_NOT_KEPT)
def test_responses_that_are_not_kept(lines: str) -> None:
    fields = f"\r\n{lines}".encode()
    assert not storable("GET", request(), 200, fields)
    assert not Cache().keep(b"", fields=fields)


@pytest.mark.parametrize(
    "lines",
    [
        *("cache-control: public, max-age=0", 'cache-control: x="no-store"', "pragma: no-cache", "x-no-store: 1"),
        "vary: " + ",".join(f"a{number}" for number in range(MAX_VARY)),
    ],
)
def test_responses_that_are_kept(lines: str) -> None:
    assert storable("GET", request(), 200, f"\r\n{lines}".encode())


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ({"cache_control": "no-store"}, True),
        ({"cache_control": "max-age=0, No-Store"}, True),
        ({"range": "bytes=0-1"}, False),
        ({"authorization": "Bearer a"}, False),
        ({"authorization": ""}, False),
        ({"cookie": "a=b"}, False),
        ({"content_length": "2"}, False),
        ({"transfer_encoding": "chunked"}, False),
    ],
)
def test_requests_whose_answers_are_not_kept(asked: Mapping[str, str], answered: bool) -> None:
    """And which of them a kept one may answer."""
    cache = Cache()
    assert not cache.keep(b"", request(**asked))
    cache.keep(b"well")
    assert (cache.body(request(**asked)) == b"well") == answered


def test_a_length_of_zero_is_no_body() -> None:
    assert storable("GET", request(content_length="0"), 200, b"")


@pytest.mark.parametrize("status", [201, 202, 204, 206, 301, 304, 404, 500])
def test_other_statuses_are_not_kept(status: int) -> None:
    assert not storable("GET", request(), status, b"")


def test_only_200_and_203_to_get_are_kept() -> None:
    assert storable("GET", request(), 200, b"")
    assert storable("GET", request(), 203, b"")
    assert not storable("HEAD", request(), 200, b"")
    assert not storable("POST", request(), 200, b"")


def test_key_headers_separate_callers() -> None:
    cache, keys = Cache(), (b"authorization",)
    assert cache.keep(b"of a", request(authorization="a"), key_headers=keys)
    assert cache.keep(b"of b", request(authorization="b"), key_headers=keys)
    assert cache.keep(b"of none", request(), key_headers=keys)
    found = [cache.body(request(**one), key_headers=keys) for one in ({"authorization": "a"}, {"authorization": "b"})]
    assert found == [b"of a", b"of b"]
    assert cache.body(request(), key_headers=keys) == b"of none"
    assert cache.body(request(authorization="c"), key_headers=keys) is None
    assert cache.body(request(authorization="a")) is None
    assert cache.body(request(authorization="a", cookie="x"), key_headers=keys) is None


def test_key_headers_are_compared_byte_for_byte() -> None:
    cache, keys = Cache(), (b"cookie",)
    cache.keep(b"well", request(cookie="a=1, b"), key_headers=keys)
    assert cache.body(request(cookie="a=1,b"), key_headers=keys) is None
    assert cache.body(request(cookie="a=1, b"), key_headers=keys) == b"well"
    two_lines = field_in(b"\r\nCookie: a=1\r\nCookie: b")
    assert cache.body(two_lines, key_headers=keys) is None


def test_a_response_kept_without_a_key_header_is_not_served_with_one() -> None:
    """The configuration has changed since."""
    cache = Cache()
    cache.keep(b"of anybody")
    assert cache.body(key_headers=(b"authorization",)) is None
    cache.keep(b"of none", key_headers=(b"authorization", b"x-tenant"))
    assert cache.body(key_headers=(b"authorization",)) == b"of none"


def test_responses_vary_by_the_fields_that_they_name() -> None:
    cache, vary = Cache(), b"\r\nVary: Accept-Language"
    cache.keep(b"de", request(accept_language="de, en"), fields=vary)
    cache.keep(b"fr", request(accept_language="fr"), fields=vary)
    assert cache.body(request(accept_language="de,en")) == b"de"
    assert cache.body(field_in(b"\r\nAccept-Language: de\r\nAccept-Language: en")) == b"de"
    assert cache.body(request(accept_language="fr", accept="x")) == b"fr"
    assert cache.body(request(accept_language="en")) is None
    assert cache.body(request()) is None, "absent matches absent alone"


def test_the_latest_of_several_matches_is_served() -> None:
    cache = Cache()
    cache.keep(b"de", request(accept_language="de"), fields=b"\r\nVary: Accept-Language")
    cache.keep(b"any", request(accept_language="fr"), now=1.0)
    assert cache.body(request(accept_language="de"), now=1.0) == b"any"
    assert cache.body(request(accept_language="de"), now=301.0) == b"any"
    assert cache.entries == 2


@pytest.mark.parametrize(
    ("control", "usable_s"),
    [
        *(("max-age=10", 300.0), ("max-age=10, must-revalidate", 10.0), ("max-age=10, proxy-revalidate", 10.0)),
        *(("s-maxage=20", 20.0), ("s-maxage=20, max-age=5, must-revalidate", 20.0), ('s-maxage="20"', 20.0)),
        *(("s-maxage=x", 0.0), ("must-revalidate", 0.0), ("stale-if-error=1", 300.0)),
    ],
)
def test_a_service_may_forbid_stale_answers(control: str, usable_s: float) -> None:
    cache = Cache()
    cache.keep(b"well", fields=block(cache_control=control))
    assert cache.body(now=usable_s) == b"well"
    assert cache.body(now=usable_s + 0.5) is None


def test_the_age_on_arrival_counts_against_freshness() -> None:
    cache = Cache()
    cache.keep(b"well", fields=block(cache_control="max-age=10, must-revalidate", age="4"))
    assert cache.body(now=6.0) == b"well"
    assert cache.body(now=6.5) is None


def test_a_response_larger_than_max_entry_is_not_kept() -> None:
    cache = Cache(max_entry=10)
    assert cache.keep(b"x" * 10)
    assert not cache.keep(b"x" * 11)
    assert not cache.keep(b"x" * 5, fields=b"\r\na: bc")
    assert cache.entries == 1
    assert not Cache(max_bytes=OVERHEAD).keep(b"")


def test_the_least_recently_used_entry_is_evicted() -> None:
    cache = Cache(max_bytes=3 * (OVERHEAD + 100))
    for target in (b"/1", b"/2", b"/3"):
        cache.keep(b"x", target=target)
    cache.body(target=b"/1")
    cache.keep(b"x", target=b"/4")
    assert [cache.body(target=target) is not None for target in (b"/1", b"/2", b"/3", b"/4")] == [
        True,
        False,
        True,
        True,
    ]
    assert (cache.entries, cache.evictions) == (3, 1)


def test_one_target_does_not_push_out_the_others() -> None:
    cache, vary = Cache(), b"\r\nVary: Accept"
    cache.keep(b"well", target=b"/b")
    cache.keep(b"first", request(accept="first"), fields=vary)
    for number in range(MAX_VARIANTS * 3):
        cache.body(request(accept="first"), now=float(number))
        assert cache.keep(b"x", request(accept=str(number)), fields=vary, now=float(number))
    assert cache.entries == MAX_VARIANTS + 1
    assert cache.body(target=b"/b") == b"well"
    assert cache.body(request(accept="first")) == b"first", "used, so another one gave way"


def test_making_room_may_remove_the_last_variant_of_the_same_target() -> None:
    vary = b"\r\nVary: Accept"
    cache = Cache(max_bytes=2 * OVERHEAD)
    assert cache.keep(b"x", request(accept="1"), fields=vary)
    assert cache.keep(b"x", request(accept="2"), fields=vary)
    assert (cache.entries, cache.evictions) == (1, 1)
    assert cache.body(request(accept="2")) == b"x"


def test_invalidating_forgets_every_variant() -> None:
    cache = Cache()
    cache.keep(b"1", request(accept="1"), fields=b"\r\nVary: Accept")
    cache.keep(b"2", request(accept="2"), fields=b"\r\nVary: Accept")
    cache.keep(b"well", target=b"/b")
    cache.invalidate("venue", b"/a")
    cache.invalidate("venue", b"/never")
    assert cache.body(request(accept="1")) is None
    assert cache.body(target=b"/b") == b"well"
    assert (cache.entries, cache.evictions) == (1, 0)


@pytest.mark.parametrize(
    ("method", "status", "expected"),
    [
        *(("PUT", 200, True), ("DELETE", 204, True), ("POST", 303, True), ("PURGE", 200, True)),
        *(("PUT", 400, False), ("POST", 500, False), ("POST", 101, False), ("OPTIONS", 200, False)),
        *(("GET", 200, False), ("GET", 404, True), ("HEAD", 410, True), ("GET", 403, False), ("GET", 503, False)),
    ],
)
def test_which_responses_invalidate_kept_ones(method: str, status: int, expected: bool) -> None:
    assert invalidates(method, status) is expected


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["keep", "find", "invalidate"]),
        st.integers(0, 4),
        st.sampled_from(["", "a", "b" * 300]),
        st.integers(0, 3000),
        st.sampled_from([b"", b"\r\nVary: Accept", b"\r\nVary: Accept, X"]),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(STEPS, st.integers(1, 12_000))
def test_the_bytes_stay_within_the_limit(steps: list[tuple[str, int, str, int, bytes]], max_bytes: int) -> None:
    cache = Cache(max_bytes=max_bytes, max_entry=2500)
    for now, (what, number, accept, size, fields) in enumerate(steps):
        target, asked = b"/%d" % number, request(accept=accept) if accept else request()
        if what == "keep":
            body = b"%d:" % now + b"x" * size
            kept = cache.keep(body, asked, target=target, now=float(now), fields=fields)
            assert (cache.body(asked, target=target, now=float(now)) == body) is kept
        elif what == "find":
            cache.body(asked, target=target, now=float(now))
        else:
            cache.invalidate("venue", target)
        assert 0 <= cache.bytes_used <= max_bytes
        assert bool(cache.bytes_used) == bool(cache.entries)
    for number in range(5):
        cache.invalidate("venue", b"/%d" % number)
    assert (cache.bytes_used, cache.entries) == (0, 0)


def test_the_counted_size_covers_the_memory_used() -> None:
    """Small entries of many targets: the case in which the tables weigh most."""
    cache = Cache()
    keys = (b"authorization", b"x-tenant")
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(2000):
            fields = b"\r\nVary: Accept\r\nX: %d" % number
            asked = request(accept=f"a{number}", authorization=f"b{number}")
            assert cache.keep(b"%d" % number, asked, target=b"/%d" % number, fields=fields, key_headers=keys)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert cache.entries == 2000
    assert taken <= cache.bytes_used, (taken / 2000, cache.bytes_used / 2000)


def test_a_stored_response_is_independent_of_later_ones() -> None:
    assert Stored(200, b" 200 OK", b"", b"", 5.0, 7).age(6.5) == 8
