"""What is known of an endpoint, and when it is healthy."""

from __future__ import annotations

from itertools import product

from sidecar.policy.endpoint_state import EndpointState


def test_an_endpoint_of_which_nothing_is_known_is_healthy_and_not_yet_available() -> None:
    one = EndpointState()
    assert (one.healthy, one.available) == (True, False)


def test_any_fact_that_speaks_against_it_makes_it_unhealthy_but_a_skip() -> None:
    for passing, ejected, draining, skip_until in product((True, False), (True, False), (True, False), (0.0, 9.0)):
        one = EndpointState()
        one.passing, one.ejected, one.draining, one.skip_until = passing, ejected, draining, skip_until
        assert one.healthy is (passing and not ejected and not draining)
