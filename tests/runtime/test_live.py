"""The running configuration: every service is live and can be found."""

from __future__ import annotations

from sidecar.config.schema import Aggregate, Config, EndpointSpec, Listen, Service, Url
from sidecar.policy.settings import Policy
from sidecar.runtime.live import Live


def service(name: str, port: int) -> Service:
    url = Url("http", f"{name}-service", port)
    return Service(name=name, endpoints=(EndpointSpec(url=url),), policy=Policy())


def live(*services: Service) -> Live:
    return Live(Config(listen=Listen(), services={one.name: one for one in services}), 1000.0, lambda: 0.0)


def test_each_service_is_live_in_the_order_of_the_file() -> None:
    made = live(service("venue", 3002), service("auth", 3001))
    assert list(made.services) == ["venue", "auth"]
    assert made.services["venue"].config.endpoints[0].url.port == 3002
    assert made.generation == 1


def test_the_table_finds_the_services_that_it_lists() -> None:
    made = live(service("venue", 3002), service("auth", 3001))
    for name, one in made.services.items():
        assert made.table.find("GET", f"/{name}/x".encode(), None)[0] is one


def test_it_begins_with_no_endpoint_and_nothing_counted() -> None:
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
    found, target, by_path = made.table.find("GET", b"http://localhost:15001/venue/x", b"localhost:15001")
    assert (found.name, target, by_path) == ("venue", b"/x", True)
