"""The running configuration: every service is live and can be found."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from sidecar.config.schema import Address, Aggregate, Config, EndpointSpec, Listen, Service, Url
from sidecar.policy.settings import Policy, Timeouts
from sidecar.runtime.live import Live
from sidecar.runtime.route import LiveRoute
from sidecar.runtime.routing import NotRouted, RoutingTable
from sidecar.runtime.service import LiveService
from sidecar.runtime.slices import at_once


def service(name: str, port: int) -> Service:
    url = Url("http", f"{name}-service", port)
    return Service(name=name, endpoints=(EndpointSpec(url=url),), policy=Policy())


def live(*services: Service) -> Live:
    return Live(Config(listen=Listen(), services={one.name: one for one in services}), 1000.0, lambda: 0.0)


def test_what_is_prepared_is_not_in_force_and_what_leaves_keeps_its_endpoints_until_then() -> None:
    """So that a request which the old table routes meanwhile finds what it always found."""
    running = live(service("a", 1), service("b", 1))
    table, leaves = running.table, running.services["b"]
    leaves.set_endpoints([(leaves.config.endpoints[0], "10.0.0.1")], 1000.0)
    wanted = live(service("a", 1), service("c", 1)).config
    prepared = at_once(running.preparing(wanted, 1001.0))
    assert (running.table, set(running.services), running.generation) == (table, {"a", "b"}, 1)
    assert prepared.table.find("GET", b"/c/x", None)[0] is prepared.services["c"]
    running.put_in_force(prepared)
    assert (running.table, set(running.services), running.generation) == (prepared.table, {"a", "c"}, 2)
    assert leaves.endpoints
    at_once(running.retiring(1001.0))
    assert not leaves.endpoints


def test_each_service_is_live_in_the_order_of_the_file() -> None:
    made = live(service("venue", 3002), service("auth", 3001))
    assert list(made.services) == ["venue", "auth"]
    assert made.services["venue"].config.endpoints[0].url.port == 3002
    assert made.generation == 1


def test_the_table_finds_the_services_that_it_lists() -> None:
    made = live(service("venue", 3002), service("auth", 3001))
    for name, one in made.services.items():
        assert made.table.find("GET", f"/{name}/x".encode(), None)[0] is one


def test_it_begins_without_endpoints_and_with_counters_at_zero() -> None:
    made = live(service("venue", 3002))
    assert made.services["venue"].endpoints == ()
    assert made.services["venue"].pick(1000.0, ()) is None
    assert made.services["venue"].counters.requests == made.unrouted.requests == {}


def test_each_aggregate_is_counted_by_its_name() -> None:
    aggregates = {"page": Aggregate(parts={}), "other": Aggregate(parts={})}
    config = Config(listen=Listen(), services={}, aggregates=aggregates)
    made = Live(config, 1000.0, lambda: 0.0).aggregates
    assert list(made) == ["page", "other"]
    assert made["page"] is not made["other"]
    assert made["page"].requests == {}


def test_the_table_knows_the_listener_s_own_address() -> None:
    made = live(service("venue", 3002))
    found, target, by = made.table.find("GET", b"http://localhost:15001/venue/x", b"localhost:15001")
    assert (found.name, target, by) == ("venue", b"/x", "path")


# Another configuration.


def config(*services: Service, **more: Any) -> Config:
    return Config(services={one.name: one for one in services}, **more)


def addressed(made: Live, name: str, *addresses: str) -> None:
    spec = made.services[name].config.endpoints[0]
    made.services[name].set_endpoints([(spec, address) for address in addresses], 1000.0)


def test_a_service_keeps_its_state_and_a_new_one_is_found() -> None:
    made = live(service("venue", 3002))
    venue = made.services["venue"]
    made.adopt(config(service("auth", 3001), service("venue", 3002)), 1001.0)
    assert made.services["venue"] is venue
    assert list(made.services) == ["auth", "venue"]
    assert made.table.find("GET", b"/auth/x", None)[0] is made.services["auth"]
    assert made.generation == 2
    assert list(made.configured()) == list(made.services.values())


def test_a_removed_service_is_not_found_and_its_endpoints_leave() -> None:
    made = live(service("venue", 3002), service("auth", 3001))
    auth = made.services["auth"]
    addressed(made, "auth", "10.0.0.1")
    made.adopt(config(service("venue", 3002)), 1001.0)
    with pytest.raises(NotRouted):
        made.table.find("GET", b"/auth/x", None)
    assert auth.endpoints == ()
    assert auth.pick(1001.0, ()) is None


def test_requests_of_a_removed_service_are_still_in_flight() -> None:
    made = live(service("venue", 3002))
    venue = made.services["venue"]
    assert venue.limit.acquire()
    made.adopt(config(), 1001.0)
    made.adopt(config(service("venue", 3002)), 1002.0)
    again = made.services["venue"]
    assert again is not venue
    assert again.limit.acquire()
    assert made.in_flight == 2
    venue.limit.release()
    assert made.in_flight == 1


def alive(kind: type[object]) -> int:
    return sum(isinstance(one, kind) for one in gc.get_objects())


def test_removed_services_do_not_accumulate() -> None:
    gc.collect()
    before = alive(LiveService)
    made = live()
    for _ in range(5):
        made.adopt(config(service("venue", 3002)), 1001.0)
        made.adopt(config(), 1001.0)
    made.adopt(config(), 1001.0)
    gc.collect()
    assert alive(LiveService) == before


def test_equal_parts_are_shared() -> None:
    made = live(service("venue", 3002), service("auth", 3001))
    venue, auth = made.config.services.values()
    other = Service(name="auth", endpoints=auth.endpoints, policy=Policy(timeout=Timeouts(idle=5.0)))
    made.adopt(config(service("venue", 3002), other), 1001.0)
    assert made.config.services["venue"] is venue
    assert made.services["venue"].config is venue
    assert made.config.services["auth"] is other


def test_the_listener_s_address_is_what_it_was() -> None:
    made = live(service("venue", 3002))
    made.listens_on([40001])
    made.adopt(config(service("venue", 3002), listen=Listen(proxy=(Address("127.0.0.1", 1),))), 1001.0)
    assert made.config.listen == Listen()
    found, target, by = made.table.find("GET", b"http://127.0.0.1:40001/venue/x", b"127.0.0.1:40001")
    assert (found.name, target, by) == ("venue", b"/x", "path")
    with pytest.raises(NotRouted):
        made.table.find("GET", b"http://127.0.0.1:1/venue/x", b"127.0.0.1:1")


def test_another_url_is_another_authority() -> None:
    made = live(service("venue", 3002))
    made.adopt(config(service("venue", 4002)), 1001.0)
    assert made.table.find("GET", b"http://venue-service:4002/x", None)[0] is made.services["venue"]
    with pytest.raises(NotRouted):
        made.table.find("GET", b"http://venue-service:3002/x", None)


def test_aggregates_keep_their_counters_while_configured() -> None:
    made = Live(Config(services={}, aggregates={"page": Aggregate(parts={})}), 1000.0, lambda: 0.0)
    page = made.aggregates["page"]
    page.request(200, "ok", 0.1)
    made.adopt(
        Config(services={}, aggregates={"page": Aggregate(parts={}, timeout=9.0), "other": Aggregate(parts={})}), 1.0
    )
    assert made.aggregates["page"] is page
    assert made.aggregates["other"].requests == {}
    made.adopt(Config(services={}), 1.0)
    assert made.aggregates == {}


def test_nothing_holds_an_old_configuration() -> None:
    gc.collect()
    routes, tables = alive(LiveRoute), alive(RoutingTable)
    made = live(service("venue", 3002))
    gc.disable()
    try:
        for idle_s in range(1, 6):
            policy = Policy(timeout=Timeouts(idle=idle_s))
            changed = Service(name="venue", endpoints=service("venue", 3002).endpoints, policy=policy)
            made.adopt(config(changed), 1001.0)
            assert (alive(LiveRoute), alive(RoutingTable)) == (routes + 1, tables + 1)
    finally:
        gc.enable()
