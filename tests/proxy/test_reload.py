"""Another configuration while requests are under way: each ends as it began, and nothing keeps what is over."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest
from msgspec.structs import replace

from sidecar.config.schema import Config, EndpointSpec, Service, Url
from sidecar.net.tls_contexts import H2, HTTP1
from sidecar.policy.settings import BreakerSettings, FallbackService, FallbackStatic, Limits, Policy, Timeouts
from sidecar.runtime.route import LiveRoute
from tests.proxy.fakes import Dial, Wire, World, ok, problem, status
from tests.proxy.h2_peer import Peer
from tests.proxy.scenes import SWITCH, UNAVAILABLE, ask_tunnel, hits, policy, warm

Make = Callable[..., World]
PLAIN = policy(max_retries=0)


def spec(name: str, scheme: str = "http") -> EndpointSpec:
    return EndpointSpec(url=Url(scheme, name, 3002))


def reload(world: World, **policies: Policy) -> None:
    """The services of these names, with these policies, and no others."""
    services = {
        name: Service(name=name, endpoints=(spec(f"{name}-service"),), policy=one) for name, one in policies.items()
    }
    adopt(world, services)


def adopt(world: World, services: dict[str, Service]) -> None:
    world.live.adopt(Config(services=services), world.loop.now)
    world.core.adopt()
    world.settle()


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What is freed is freed by itself."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def routes() -> list[LiveRoute]:
    return [one for one in gc.get_objects() if isinstance(one, LiveRoute)]


# Under way.


def test_timeouts_are_those_of_the_beginning(make_world: Make) -> None:
    world = make_world(PLAIN)
    app = world.asks()
    reload(world, venue=policy(timeout=Timeouts(attempt=0.1, request=0.1), max_retries=0))
    world.pass_time(0.9)
    assert app.heard == b""
    world.pass_time(0.2)
    assert (status(app.heard), problem(app.heard)["reason"]) == (504, "attempt_timeout")
    later = world.asks()
    world.pass_time(0.2)
    assert status(later.heard) == 504


def test_retries_are_those_of_the_beginning(make_world: Make) -> None:
    world = make_world(policy(max_retries=1))
    app = world.asks()
    reload(world, venue=PLAIN)
    world.upstream.says(UNAVAILABLE)
    world.pass_time(0.2)
    world.upstream.says(ok())
    assert status(app.heard) == 200
    after = world.asks()
    world.upstream.says(UNAVAILABLE)
    assert status(after.heard) == 503
    assert hits(world) == 3


def test_what_a_failure_is_stays_and_the_breaker_of_now_hears_it(make_world: Make) -> None:
    world = make_world(replace(PLAIN, breaker=BreakerSettings(failure_status=frozenset({404}))))
    world.asks()
    reload(world, venue=PLAIN)
    world.upstream.says(ok(status="404 Not Found"))
    assert world.breaker() == (0, 1)
    world.asks()
    world.upstream.says(ok(status="404 Not Found"))
    assert world.breaker() == (1, 1)


def test_an_idle_connection_is_used_on(make_world: Make) -> None:
    world = make_world(PLAIN)
    upstream = warm(world)
    reload(world, venue=policy(timeout=Timeouts(attempt=2.0), max_retries=0), other=PLAIN)
    app = world.asks()
    upstream.says(ok(b"again"))
    assert app.heard.endswith(b"again")
    assert len(world.upstreams) == 1


@pytest.mark.parametrize("mode", ["off", "observe"])
def test_a_request_begun_under_another_mode_ends_well(make_world: Make, mode: str) -> None:
    world = make_world(PLAIN)
    app = world.asks()
    reload(world, venue=replace(PLAIN, breaker=BreakerSettings(mode=mode)))  # type: ignore[arg-type]
    second = world.asks()
    for wire in world.upstreams:
        wire.says(ok())
    reload(world, venue=PLAIN)
    assert (status(app.heard), status(second.heard)) == (200, 200)


# Limits.


def test_connections_above_a_lower_limit_close_idle_ones_at_once_and_others_as_they_end(make_world: Make) -> None:
    world = make_world(PLAIN)
    apps = [world.asks() for _ in range(4)]
    for wire in world.upstreams[:2]:
        wire.says(ok())
    assert world.service.connections == 4
    world.loop.after_settling = lambda: None  # more than the limit, for a while
    reload(world, venue=policy(max_retries=0, limits=Limits(max_connections=1)))
    assert world.service.connections == 2
    for wire in world.upstreams[2:]:
        wire.says(ok())
    assert world.service.connections == 1
    assert [status(app.heard) for app in apps] == [200] * 4
    world.loop.after_settling = world.check
    world.settle()


def test_who_waits_for_a_connection_gets_one_when_the_limit_rises(make_world: Make) -> None:
    world = make_world(policy(max_retries=0, limits=Limits(max_connections=1)))
    world.asks()
    second = world.asks()
    assert len(world.upstreams) == 1
    reload(world, venue=PLAIN)
    assert len(world.upstreams) == 2
    for wire in world.upstreams:
        wire.says(ok())
    assert status(second.heard) == 200


# A service that goes.


def test_a_request_at_a_service_that_goes_ends_well_and_its_connection_closes(make_world: Make) -> None:
    world = make_world(policy(max_retries=1), others={"other": PLAIN})
    idle = warm(world)
    app, second = world.asks(), world.asks()
    assert idle is world.upstreams[0]
    reload(world, other=PLAIN)
    assert status(world.asks().heard) == 404
    for wire in world.upstreams:
        wire.says(ok(b"late"))
    assert app.heard.endswith(b"late")
    assert second.heard.endswith(b"late")
    assert not any(wire.open for wire in world.upstreams)
    assert world.service.connections == 0
    assert world.live.in_flight == 0


def test_an_idle_connection_of_a_service_that_goes_closes_at_once(make_world: Make) -> None:
    world = make_world(PLAIN)
    upstream = warm(world)
    reload(world)
    assert not upstream.open
    assert world.service.connections == 0


def test_a_retry_at_a_service_that_has_gone_has_nowhere_to_go_and_the_last_answer_counts(make_world: Make) -> None:
    world = make_world(policy(max_retries=1))
    app = world.asks()
    reload(world)
    world.upstream.says(UNAVAILABLE)
    world.pass_time(1.0)
    assert status(app.heard) == 503
    assert app.heard.endswith(b"not now")
    assert world.service.limit.in_flight == world.service.connections == 0


@pytest.mark.parametrize("outcome", [Dial.accept, Dial.refuse])
def test_a_connection_that_is_being_opened_to_a_service_that_goes(
    make_world: Make, outcome: Callable[[Dial], None]
) -> None:
    world = make_world(PLAIN)
    world.loop.network = Dial.hang
    app, gone = world.asks(), world.asks()
    reload(world)
    gone.leaves()
    for dial in world.loop.dials:
        outcome(dial)
    world.settle()
    if outcome is Dial.accept:
        world.upstreams[0].says(ok())
        assert status(app.heard) == 200
    else:
        assert problem(app.heard)["reason"] == "connect_failure"
    assert world.service.connections == 0
    assert world.service.limit.in_flight == 0


def test_who_waits_for_a_connection_of_a_service_that_goes_is_served(make_world: Make) -> None:
    world = make_world(policy(max_retries=0, limits=Limits(max_connections=1)))
    first, second = world.asks(), world.asks()
    reload(world)
    world.upstreams[0].says(ok())
    world.upstreams[1].says(ok())
    assert (status(first.heard), status(second.heard)) == (200, 200)
    assert world.service.connections == 0


def test_a_service_that_comes_again_is_another_one(make_world: Make) -> None:
    world = make_world(PLAIN)
    old = world.service
    app = world.asks()
    before = world.upstream
    reload(world)
    reload(world, venue=PLAIN)
    again = world.live.services["venue"]
    assert again is not old
    again.set_endpoints([(spec("venue-service"), "10.0.9.1")], world.loop.now)
    second = world.asks()
    world.upstream.says(ok(b"new"))
    before.says(ok(b"old"))
    assert app.heard.endswith(b"old")
    assert second.heard.endswith(b"new")
    assert old.connections == 0
    assert again.connections == 1


def test_a_fallback_to_a_service_that_goes_meanwhile_is_passed_over(make_world: Make) -> None:
    steps = (FallbackService(service="spare"), FallbackStatic(status=200, body=b"static"))
    world = make_world(replace(PLAIN, fallback=steps), others={"spare": PLAIN})
    app = world.asks()
    reload(world, venue=PLAIN)
    world.upstream.says(UNAVAILABLE)
    assert app.heard.endswith(b"static")


def test_a_fallback_that_is_being_asked_when_its_service_goes_still_answers(make_world: Make) -> None:
    world = make_world(replace(PLAIN, fallback=(FallbackService(service="spare"),)), others={"spare": PLAIN})
    app = world.asks()
    spare = world.live.services["spare"]
    world.upstream.says(UNAVAILABLE)
    reload(world, venue=PLAIN)
    world.upstreams[1].says(ok(b"spare"))
    assert app.heard.endswith(b"spare")
    assert spare.connections == 0
    assert spare.limit.in_flight == 0


# What nothing keeps.


@pytest.mark.usefixtures("no_collector")
def test_an_old_route_goes_with_its_last_request(make_world: Make) -> None:
    world = make_world(PLAIN)
    old = id(world.service.default_route)
    app = world.asks()
    reload(world, venue=policy(max_retries=0, timeout=Timeouts(attempt=2.0)))
    assert old in map(id, routes())
    world.upstream.says(ok())
    assert status(app.heard) == 200
    assert old not in map(id, routes())


@pytest.mark.usefixtures("no_collector")
def test_a_tunnel_keeps_neither_its_route_nor_the_configuration(make_world: Make) -> None:
    world = make_world(PLAIN)
    old, config = world.service.default_route, world.live.config
    app = ask_tunnel(world)
    world.upstream.says(SWITCH)
    reload(world, venue=policy(max_retries=0, timeout=Timeouts(idle=20.0)))
    old_id, config_id = id(old), id(config)
    service = world.service
    del old, config
    assert old_id not in map(id, routes())
    assert config_id not in {id(one) for one in gc.get_objects() if isinstance(one, Config)}
    assert service.counters.tunnels == 1
    app.take()
    world.upstream.says(b"hello")
    assert app.heard == b"hello"
    app.leaves()
    world.upstream.leaves()
    assert service.counters.tunnels == 0


def test_a_tunnel_outlives_its_service_and_keeps_its_own_idle_limit(make_world: Make) -> None:
    world = make_world(PLAIN)  # timeout.idle is 10 s
    app = ask_tunnel(world)
    world.upstream.says(SWITCH)
    app.take()
    reload(world)
    assert world.live.in_flight == 0, "a tunnel is not waited for"
    world.pass_time(9.0)
    world.upstream.says(b"still here")
    assert app.heard == b"still here"
    world.pass_time(11.0)
    assert not app.open
    assert world.service.limit.in_flight == world.service.connections == 0


# TLS.


def test_one_tls_context_is_shared_by_all_that_need_it_and_made_when_first_needed(make_world: Make) -> None:
    world = make_world(PLAIN)
    contexts = world.core._openings.contexts
    assert not contexts._kept
    safe = {name: Service(name=name, endpoints=(spec(name, "https"),), policy=PLAIN) for name in ("safe", "safer")}
    adopt(world, {"venue": world.service.config, **safe})
    assert [kept.alpn for kept in contexts._kept.values()] == [HTTP1]
    made = len(contexts._kept)
    assert contexts.of(safe["safe"].policy.tls) is contexts.of(safe["safer"].policy.tls)
    assert len(contexts._kept) == made
    over_h2 = Service(name="safe", endpoints=(spec("safe", "https"),), protocol="h2", policy=PLAIN)
    adopt(world, {"venue": world.service.config, "safe": over_h2})
    assert [kept.alpn for kept in contexts._kept.values()] == [HTTP1, H2]


def test_a_service_may_turn_to_tls(make_world: Make) -> None:
    world = make_world(PLAIN)
    plain: Wire = warm(world)
    tls = spec("venue-service", "https")
    adopt(world, {"venue": Service(name="venue", endpoints=(tls,), policy=PLAIN)})
    world.service.set_endpoints([(tls, "10.0.0.1")], world.loop.now)
    assert not plain.open
    app = world.asks()
    assert world.loop.dials[-1].server_name == "venue-service"
    world.upstream.says(ok())
    assert status(app.heard) == 200


# HTTP/2.


def test_a_service_may_turn_to_http2_and_back(make_world: Make) -> None:
    """Until discovery has said where it is by the new protocol, requests go by the old one, to where it was."""
    world = make_world(PLAIN)
    plain: Wire = warm(world)
    busy = world.asks()
    before = world.service.config
    h2c = spec("venue-service", "h2c")
    adopt(world, {"venue": Service(name="venue", endpoints=(h2c,), protocol="h2", policy=PLAIN)})
    between = world.asks()
    world.upstream.says(ok(b"as before"))
    assert between.heard.endswith(b"as before")
    world.service.set_endpoints([(h2c, "10.0.0.1")], world.loop.now)
    plain.says(ok(b"begun before"))
    assert busy.heard.endswith(b"begun before")
    app = world.asks()
    peer = Peer(world.upstream).begin().read()
    assert peer.asked[1].value(b":path") == b"/"
    peer.head(1, [(b":status", b"200")]).data(1, b"by HTTP/2", end=True)
    assert status(app.heard) == 200
    assert b"by HTTP/2" in app.heard
    assert not any(wire.open for wire in world.upstreams[:-1])
    adopt(world, {"venue": before})
    world.service.set_endpoints([(before.endpoints[0], "10.0.0.1")], world.loop.now)
    last = world.asks()
    world.upstream.says(ok(b"as ever"))
    assert last.heard.endswith(b"as ever")
    assert world.service.connections == 1
