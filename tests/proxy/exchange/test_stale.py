"""The last good responses: which are kept, whom they answer, and when they are wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from sidecar.config.schema import EndpointSpec, Url
from sidecar.policy.settings import (
    BreakerSettings,
    FallbackService,
    FallbackStale,
    FallbackStatic,
    FallbackStep,
    Policy,
    RetrySettings,
    Timeouts,
)
from tests.proxy.fakes import World, field_of, ok, problem, status

PLAIN = Policy(timeout=Timeouts(attempt=1.0, request=4.0), retry=RetrySettings(max_retries=0))
V1 = FallbackService(service="venue-v1")
STALE = FallbackStale(stale=300.0)
STATIC = FallbackStatic(status=200, body=b"static")
UNAVAILABLE = ok(b"not now", status="503 Service Unavailable")

Make = Callable[..., World]


@pytest.fixture
def falls(make_world: Make) -> Make:
    """`falls(step, ...)`: a world whose venue falls back so."""

    def make(*steps: FallbackStep) -> World:
        policy = Policy(timeout=PLAIN.timeout, retry=PLAIN.retry, fallback=steps)
        return make_world(policy, others={"venue-v1": PLAIN})

    return make


def fallbacks(world: World) -> dict[str, int]:
    return world.service.counters.fallbacks


def good(world: World, body: bytes = b"good", *fields: str, ask: tuple[str, ...] = ()) -> bytes:
    app = world.asks("GET /venue/list?page=1", *ask)
    world.upstream.says(ok(body, *fields))
    return app.heard


def failed(world: World, line: str = "GET /venue/list?page=1", *fields: str) -> bytes:
    app = world.asks(line, *fields)
    world.upstream.says(UNAVAILABLE)
    return app.heard


def test_the_last_good_response_with_its_age(falls: Make) -> None:
    world = falls(STALE)
    good(world, b"first")
    good(world, b"second", "ETag: x", "X-Request-Id: theirs", "Age: 5")
    world.pass_time(7.5)
    answer = failed(world)
    assert answer.endswith(b"second")
    assert field_of(answer, "age") == ["12"]
    assert field_of(answer, "etag") == ["x"]
    assert field_of(answer, "content-length") == ["6"]
    assert len(field_of(answer, "x-request-id")) == 1
    assert field_of(answer, "x-request-id") != ["theirs"]
    assert field_of(answer, "x-sidecar-fallback") == ["stale"]
    assert world.reasons() == {(200, "ok"): 2, (200, "status"): 1}
    assert fallbacks(world) == {"stale": 1}
    assert failed(world, "HEAD /venue/list?page=1").endswith(b"\r\n\r\n")
    world.pass_time(300)
    assert status(failed(world)) == 503


def test_by_target(falls: Make) -> None:
    world = falls(STALE)
    good(world)
    assert status(failed(world, "GET /venue/list?page=2")) == 503
    assert status(failed(world, "POST /venue/list?page=1")) == 503


def test_a_chunked_body_is_kept_whole(falls: Make) -> None:
    world = falls(STALE)
    world.asks("GET /venue/list?page=1")
    world.upstream.says(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", b"c\r\n2\r\nde\r\n", b"0\r\n\r\n"
    )
    answer = failed(world)
    assert answer.endswith(b"\r\n\r\nabcde")
    assert field_of(answer, "content-length") == ["5"]
    assert field_of(answer, "transfer-encoding") == []


def test_a_body_until_the_close_is_kept_whole(falls: Make) -> None:
    world = falls(STALE)
    world.asks("GET /venue/list?page=1")
    world.upstream.says(b"HTTP/1.1 200 OK\r\n\r\nabc", b"de")
    world.upstream.leaves()
    assert failed(world).endswith(b"\r\n\r\nabcde")


def test_a_response_that_broke_off_is_not_kept(falls: Make) -> None:
    world = falls(STALE)
    world.asks("GET /venue/list?page=1")
    world.upstream.says(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf-")
    world.upstream.breaks()
    assert status(failed(world)) == 503
    assert world.core.copy_budget.left > 0


@pytest.mark.parametrize("field", ["Cache-Control: no-store", "Cache-Control: max-age=5, PRIVATE", "Set-Cookie: a=b"])
def test_what_the_service_keeps_to_itself_is_not_kept(falls: Make, field: str) -> None:
    world = falls(STALE)
    good(world, b"secret", field)
    assert status(failed(world)) == 503


@pytest.mark.parametrize("name", ["Authorization", "Cookie"])
def test_credentials_are_answered_only_by_their_own(falls: Make, name: str) -> None:
    world = falls(STALE)
    good(world, b"alice's", ask=(f"{name}: alice",))
    assert status(failed(world, "GET /venue/list?page=1", f"{name}: alice")) == 503
    assert status(failed(world)) == 503
    keyed = falls(FallbackStale(stale=300.0, key_headers=(name.lower(),)))
    good(keyed, b"alice's", ask=(f"{name}: alice",))
    assert failed(keyed, "GET /venue/list?page=1", f"{name}: alice").endswith(b"alice's")
    assert status(failed(keyed, "GET /venue/list?page=1", f"{name}: bob")) == 503
    assert status(failed(keyed)) == 503


def test_vary(falls: Make) -> None:
    world = falls(STALE)
    good(world, b"hallo", "Vary: Accept-Language", ask=("Accept-Language: de",))
    good(world, b"hello", "Vary: Accept-Language", ask=("Accept-Language: en",))
    assert failed(world, "GET /venue/list?page=1", "Accept-Language: de").endswith(b"hallo")
    assert failed(world, "GET /venue/list?page=1", "Accept-Language: en").endswith(b"hello")
    assert status(failed(world, "GET /venue/list?page=1", "Accept-Language: fr")) == 503


def test_the_budget_of_copies_is_given_back(falls: Make) -> None:
    world = falls(STALE)
    left = world.core.copy_budget.left
    app = world.asks("GET /venue/list?page=1")
    world.upstream.says(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf-")
    assert world.core.copy_budget.left == left - 5
    app.leaves()
    assert world.core.copy_budget.left == left


def test_a_body_larger_than_an_entry_passes_and_is_not_kept(falls: Make) -> None:
    world = falls(STALE)
    world.core.stale.max_entry = 100
    assert good(world, b"x" * 200).endswith(b"x" * 200)
    world.asks("GET /venue/list?page=1")
    world.upstream.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nc8\r\n" + b"x" * 200 + b"\r\n0\r\n\r\n")
    assert world.core.stale.entries == 0


def test_stale_comes_after_the_other_service_if_it_stands_there(falls: Make) -> None:
    world = falls(V1, STALE, STATIC)
    good(world)
    app = world.asks("GET /venue/list?page=1")
    world.upstream.says(UNAVAILABLE)
    world.upstream.breaks()
    assert field_of(app.heard, "x-sidecar-fallback") == ["stale"]
    app = world.asks("GET /venue/other")
    world.upstreams[0].says(UNAVAILABLE)
    world.upstream.breaks()
    assert field_of(app.heard, "x-sidecar-fallback") == ["static"]


def test_a_defect_while_falling_back_is_an_answer_still(falls: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    world = falls(STALE)
    good(world)

    def broken(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(world.core.stale, "find", broken)
    monkeypatch.setattr(world.core.recorder, "crashed", lambda *_: None)
    assert problem(failed(world))["reason"] == "internal"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_a_change_that_succeeds_makes_it_wrong(falls: Make, method: str) -> None:
    world = falls(STALE)
    good(world)
    world.asks(f"{method} /venue/list?page=1")
    world.upstream.says(UNAVAILABLE)
    assert failed(world).endswith(b"good")
    world.asks(f"{method} /venue/list?page=1")
    world.upstream.says(ok(status="201 Created"))
    assert status(failed(world)) == 503


def test_so_does_the_news_that_it_is_gone(falls: Make) -> None:
    world = falls(STALE)
    good(world)
    world.asks("GET /venue/list?page=1")
    world.upstream.says(ok(status="404 Not Found"))
    assert status(failed(world)) == 503


@pytest.mark.parametrize("line", ["401 Unauthorized", "403 Forbidden"])
def test_so_is_a_refusal_and_an_answer_that_may_not_be_kept(falls: Make, line: str) -> None:
    world = falls(FallbackStale(stale=300.0, key_headers=("authorization",)))
    for changed in (ok(status=line), ok(b"", "Cache-Control: no-store")):
        good(world, b"alice's", ask=("Authorization: alice",))
        good(world, b"bob's", ask=("Authorization: bob",))
        world.asks("GET /venue/list?page=1", "Authorization: alice")
        world.upstream.says(changed)
        assert status(failed(world, "GET /venue/list?page=1", "Authorization: alice")) == 503
        assert failed(world, "GET /venue/list?page=1", "Authorization: bob").endswith(b"bob's")


def test_a_change_counts_although_the_app_did_not_wait_for_all_of_its_answer(falls: Make) -> None:
    world = falls(STALE)
    good(world)
    app = world.asks("DELETE /venue/list?page=1")
    world.upstream.says(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf-")
    app.leaves()
    assert status(failed(world)) == 503


def test_host_is_no_part_of_it_where_the_service_does_not_see_it(make_world: Make) -> None:
    opens = BreakerSettings(volume_threshold=2, error_threshold_percentage=50)
    world = make_world(Policy(retry=PLAIN.retry, breaker=opens, fallback=(STALE,)))
    good(world, b"good", "Vary: Host")
    assert failed(world).endswith(b"good")
    assert world.asks("GET /venue/list?page=1").heard.endswith(b"good"), "no attempt was made: the breaker is open"


def test_by_path_and_by_host_are_told_apart_where_the_service_says_so(falls: Make) -> None:
    world = falls(STALE)
    good(world, b"links to /venue/", "Vary: X-Forwarded-Prefix")
    app = world.app().says(b"GET /list?page=1 HTTP/1.1\r\nHost: venue\r\n\r\n")
    world.upstream.says(UNAVAILABLE)
    assert status(app.heard) == 503
    assert failed(world).endswith(b"links to /venue/")


def test_with_preserve_host_each_host_has_its_own(make_world: Make) -> None:
    world = make_world(Policy(retry=PLAIN.retry, fallback=(STALE,), preserve_host=True))
    world.app().says(b"GET /a HTTP/1.1\r\nHost: venue\r\n\r\n")
    world.upstream.says(ok(b"venue's"))
    for host, expected in (("venue", 200), ("venue-service", 503)):
        app = world.app().says(f"GET /a HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        world.upstream.says(UNAVAILABLE)
        assert status(app.heard) == expected


def test_another_service_behind_the_name_is_not_answered_for(falls: Make) -> None:
    world = falls(STALE)
    good(world)
    config = world.live.config
    elsewhere = (EndpointSpec(url=Url("http", "elsewhere", 3002)),)
    venue = replace(config.services["venue"], endpoints=elsewhere)
    world.live.adopt(replace(config, services={**config.services, "venue": venue}), world.loop.now)
    world.core.adopt()
    assert status(failed(world)) == 503
