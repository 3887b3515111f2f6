"""One HTTP/2 connection to an endpoint: what the pool asks of it, and how it is named."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from h2.settings import SettingCodes

from sidecar.proxy.upstream.h2_connection import AGE_JITTER, LEAST_LIST, STALE_WITHIN_S, H2UpstreamConnection
from tests.proxy.fakes import Dial
from tests.proxy.h2_bench import Bench, whole


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench().up()
    yield bench
    bench.close()


def test_how_many_calls_it_takes_is_what_the_endpoint_says(bench: Bench) -> None:
    connection = bench.connection()
    bench.peer.settings(max_concurrent_streams=7)
    call = bench.send(body=whole(b"x"))
    assert (connection.most, connection.room, connection.calls) == (7, 6, 1)
    assert call.stream is not None
    call.stream.close()
    assert (connection.most, connection.room, connection.calls) == (7, 7, 0)
    assert connection.requests == 2, "the one that opened it too"


def test_a_head_may_be_as_large_as_trailers_of_grpc_are(bench: Bench) -> None:
    """What limits.max_head says is for HTTP/1.1, where trailers are none of the head."""

    assert bench.peer.h2.remote_settings[SettingCodes.MAX_HEADER_LIST_SIZE] == LEAST_LIST


def test_connections_do_not_all_end_at_once(bench: Bench) -> None:
    connection = H2UpstreamConnection(bench.endpoint, bench.pool, 1024)
    connection.connected(bench.loop.now, 0.2, 0.5)
    assert connection.expires_share == 1 - AGE_JITTER / 2
    assert connection.stale_within_s == 0.4
    connection.connected(bench.loop.now, 0.001, 0.0)
    assert (connection.expires_share, connection.stale_within_s) == (1.0, STALE_WITHIN_S)


def test_the_kernel_knows_that_the_endpoint_has_left(bench: Bench) -> None:
    assert not bench.connection().is_stale()
    bench.wire().peer.close()
    assert bench.connection().is_stale()


def test_one_that_never_came_up_can_be_given_up(bench: Bench) -> None:
    bench.loop.network = Dial.hang
    H2UpstreamConnection(bench.endpoint, bench.pool, 1024).shut()
    assert bench.wire().open


def test_its_name_in_logs(bench: Bench) -> None:
    connection = bench.connection()
    assert repr(connection) == "<H2UpstreamConnection 10.0.0.1:50051 calls=0>"
    call = bench.send(body=whole(b"x"))
    bench.peer.go_away(1 << 30)
    assert repr(connection) == "<H2UpstreamConnection 10.0.0.1:50051 calls=1 leaving>"
    assert call.stream is not None
    call.stream.close()
