"""Discovered endpoints, and the conversion of name lookups to them."""

from __future__ import annotations

from sidecar.config.schema import EndpointSpec, Url
from sidecar.discovery.found import Found, from_specs

URL = Url("http", "venue", 80)


def test_it_is_a_value() -> None:
    assert Found(URL, "10.0.0.1") == Found(Url("http", "venue", 80), "10.0.0.1", 1, 0)
    assert len({Found(URL, "10.0.0.1"), Found(URL, "10.0.0.1"), Found(URL, "10.0.0.1", priority=1)}) == 2


def test_what_a_resolver_pushes_is_converted_in_its_order() -> None:
    pushed: list[list[Found]] = []
    take = from_specs(pushed.append)
    heavy = EndpointSpec(url=URL, weight=3)
    take([(heavy, "10.0.0.2"), (EndpointSpec(url=URL), "10.0.0.1")])
    take([])
    assert pushed == [[Found(URL, "10.0.0.2", 3, 0), Found(URL, "10.0.0.1", 1, 0)], []]
