"""Endpoints that an operator keeps requests away from: each until its time."""

from __future__ import annotations

from math import inf

from sidecar.config.schema import EndpointSpec, Url
from sidecar.runtime.drains import Drains
from sidecar.runtime.endpoint import Endpoint


def endpoint(address: str = "10.0.0.7") -> Endpoint:
    return Endpoint(EndpointSpec(url=Url("http", "venue-service", 3002)), address)


def test_it_ends_by_itself_when_its_time_is_over() -> None:
    a, b = endpoint(), endpoint("10.0.0.8")
    drains = Drains()
    drains.update([a, b])
    assert drains.due == inf
    drains.begin(a, 10.0)
    drains.begin(b, 20.0)
    assert (drains.due, a.draining, b.draining) == (10.0, True, True)
    assert drains.tick(9.999) == []
    assert drains.tick(10.0) == [a]
    assert (a.draining, a.since, drains.due) == (False, 10.0, 20.0)
    assert drains.tick(100.0) == [b]
    assert drains.due == inf


def test_a_second_time_replaces_the_first() -> None:
    a = endpoint()
    drains = Drains()
    drains.update([a])
    drains.begin(a, 10.0)
    drains.begin(a, 5.0)
    assert (drains.due, a.drained_until) == (5.0, 5.0)


def test_an_endpoint_that_left_is_still_drained_when_it_comes_back() -> None:
    a = endpoint()
    drains = Drains()
    drains.update([a])
    drains.begin(a, 10.0)
    drains.update([])
    assert (drains.due, drains.tick(11.0), a.draining) == (inf, [], True)
    drains.update([a])
    assert drains.tick(11.0) == [a]


def test_it_can_be_ended_before() -> None:
    a = endpoint()
    drains = Drains()
    drains.update([a])
    drains.begin(a, 10.0)
    assert "10.0.0.7:3002" in repr(drains)
    drains.end(a, 3.0)
    assert (a.draining, a.drained_until, a.since, drains.due) == (False, inf, 3.0, inf)
