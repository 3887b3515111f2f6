"""gRPC calls from an app to endpoints of HTTP/2, through the whole data path: who gets them, and how they end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sidecar.config.schema import Config, EndpointSpec, Service, Url
from sidecar.policy.settings import Policy, RetrySettings
from tests.proxy.fakes import Dial, World
from tests.proxy.h2_peer import GRPC, Peer
from tests.proxy.h2_scene import AppSide
from tests.support.h2_app import Answer

CALL = "/shop.Venue/Get"


class Stage:
    """An app on one connection, and the service `venue` with so many endpoints of gRPC."""

    def __init__(self, world: World, endpoints: int, policy: Policy) -> None:
        self.world = world
        spec = EndpointSpec(url=Url("grpc", "venue-service", 50051))
        service = Service(name="venue", endpoints=(spec,), protocol="h2", grpc=("shop.Venue",), policy=policy)
        world.live.adopt(Config(services={"venue": service}), world.loop.now)
        world.core.adopt()
        addresses = [(spec, f"10.0.0.{number}") for number in range(1, endpoints + 1)]
        world.service.set_endpoints(addresses, world.loop.now)
        self.app = AppSide(world)
        self._peers: dict[int, Peer] = {}

    @property
    def peers(self) -> list[Peer]:
        """The other ends of the connections that were opened; each has read what came."""
        for number, wire in enumerate(self.world.upstreams):
            if number not in self._peers:
                self._peers[number] = Peer(wire).begin()
            if wire.open and not wire.eof_sent:
                self._peers[number].read()
        return [self._peers[number] for number in sorted(self._peers)]

    def call(self, **more: Any) -> Answer:
        answer = self.app.call(CALL, **more)
        assert self.peers
        return answer

    def status(self, answer: Answer) -> tuple[int, str]:
        self.world.settle()
        self.app.news()
        return answer.grpc

    @property
    def asked(self) -> list[int]:
        """How many calls each connection has got."""
        return [len(peer.asked) for peer in self.peers]


Make = Callable[..., Stage]


@pytest.fixture
def stage(make_world: Callable[..., World]) -> Make:
    def make(endpoints: int = 1, **policy: Any) -> Stage:
        return Stage(make_world(), endpoints, Policy(**policy))

    return make


def test_a_call_is_balanced_and_not_a_connection(stage: Make) -> None:
    found = stage(2)
    answers = [found.call() for _ in range(40)]
    assert found.asked == [20, 20]
    for peer in found.peers:
        for number in list(peer.asked):
            peer.answer(number)
    assert {found.status(answer)[0] for answer in answers} == {0}
    assert found.world.service.connections == 2


def test_what_a_service_refused_goes_elsewhere_whatever_its_method(stage: Make) -> None:
    found = stage(2)
    answer = found.call()
    first = found.peers[0]
    first.reset(first.newest, 7)
    assert found.asked == [1, 1]
    second = found.peers[1]
    second.answer(second.newest, b"\0\0\0\0\x02ok")
    assert found.status(answer)[0] == 0
    assert bytes(answer.body) == b"\0\0\0\0\x02ok"


def test_what_is_above_the_last_of_goaway_goes_elsewhere(stage: Make) -> None:
    found = stage(1)
    answers = [found.call() for _ in range(3)]
    found.peers[0].go_away(1)
    assert found.asked == [3, 2], "on another connection to the same endpoint"
    found.peers[0].answer(1)
    for number in list(found.peers[1].asked):
        found.peers[1].answer(number)
    assert [found.status(answer)[0] for answer in answers] == [0, 0, 0]


def test_nothing_else_is_sent_twice(stage: Make) -> None:
    """The service may have been at work on it."""
    found = stage(2)
    answer = found.call()
    found.world.upstreams[0].breaks()
    status, words = found.status(answer)
    assert status == 14
    assert "the connection broke before the response head was complete" in words
    assert found.asked == [1]


@pytest.mark.parametrize(("code", "status"), [(8, 1), (11, 8), (2, 13), (0, 13)])
def test_a_reset_has_the_status_that_grpc_gives_it(stage: Make, code: int, status: int) -> None:
    found = stage(1, retry=RetrySettings(max_retries=0))
    answer = found.call()
    peer = found.peers[0]
    peer.reset(peer.newest, code)
    assert found.status(answer)[0] == status


def test_a_reset_in_the_midst_of_an_answer_ends_it_with_a_status(stage: Make) -> None:
    found = stage(1)
    answer = found.call()
    peer = found.peers[0]
    peer.head(peer.newest).data(peer.newest, b"\0\0\0\0\x02hi").reset(peer.newest, 8)
    assert found.status(answer)[0] == 1
    assert bytes(answer.body) == b"\0\0\0\0\x02hi"


def test_a_call_that_the_app_cancels_is_cancelled_at_the_service(stage: Make) -> None:
    found = stage(1)
    found.call()
    number = max(found.app.app.answers)
    found.app.app.reset(number)
    found.app.talk()
    peer = found.peers[0]
    assert peer.asked[peer.newest].reset == 8
    assert found.world.service.limit.in_flight == 0


def test_an_app_that_leaves_cancels_all_its_calls(stage: Make) -> None:
    found = stage(1)
    for _ in range(5):
        found.call()
    found.peers[0].head(1)
    found.app.wire.breaks()
    peer = found.peers[0]
    assert [one.reset for one in peer.asked.values()] == [8] * 5
    assert found.world.service.endpoints[0].idle == 1


def test_an_endpoint_that_cannot_be_reached_is_passed_by(stage: Make) -> None:
    found = stage(2)
    found.world.loop.network = lambda dial: dial.refuse() if dial.host == "10.0.0.1" else dial.accept()
    answers = [found.call() for _ in range(6)]
    assert found.asked == [6]
    for number in list(found.peers[0].asked):
        found.peers[0].answer(number)
    assert [found.status(answer)[0] for answer in answers] == [0] * 6


def test_a_broken_connection_under_a_hundred_calls_ends_each_once(stage: Make) -> None:
    found = stage(1)
    answers = [found.call() for _ in range(100)]
    found.peers[0].head(1)
    found.world.loop.network = Dial.refuse
    found.world.upstreams[0].breaks()
    statuses = [found.status(answer)[0] for answer in answers]
    assert sorted(statuses) == [13, *[14] * 99], "one had begun"
    assert all(answer.ended for answer in answers)
    found.world.check_at_rest()
    assert found.world.service.connections == 0


def test_what_a_stream_does_not_read_stops_no_other(stage: Make) -> None:
    """An app that takes nothing of one answer holds back that stream's window at the service, and no more."""
    found = stage(1)
    stalled = AppSide(found.world, window=1000, reads=False)
    stuck = stalled.call(CALL)
    peer = found.peers[0]
    number = peer.newest
    peer.head(number)
    sent = 0
    while (room := min(peer.h2.local_flow_control_window(number), 64 * 1024)) > 0 and sent < 4_000_000:
        peer.data(number, bytes(room))
        sent += room
        found.world.settle()
        stalled.hear()
        peer.read()
    assert sent < 1_000_000, "what is held of it is bounded"
    quick = found.call()
    peer = found.peers[0]
    peer.head(peer.newest, GRPC).data(peer.newest, b"\0\0\0\0\0").trailers(peer.newest)
    assert found.status(quick)[0] == 0
    assert not stuck.over
    stalled.wire.breaks()
