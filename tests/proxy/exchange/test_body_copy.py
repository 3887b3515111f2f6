"""A copy of a body: what went to the app, decoded of its chunks, within its bounds."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sidecar.proxy.body_sink import BodySink, ByteBudget
from sidecar.proxy.exchange.body_copy import BodyCopy


class App(BodySink):
    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def write_body(self, pieces: list[bytes]) -> None:
        self.heard += pieces


def copy_of(app: App, budget: ByteBudget, *, max_bytes: int = 1000, chunked: bool = False) -> BodyCopy:
    return BodyCopy(app, budget, max_bytes, chunked=chunked)


def in_slices(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@given(chunks=st.lists(st.binary(min_size=1, max_size=40), max_size=8), cuts=st.lists(st.integers(0, 500), max_size=8))
def test_chunks_are_decoded_however_they_are_sliced(chunks: list[bytes], cuts: list[int]) -> None:
    app, budget = App(), ByteBudget(10_000)
    copy = copy_of(app, budget, chunked=True)
    framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    for piece in in_slices(framed, cuts):
        copy.write_body([piece])
    assert b"".join(app.heard) == framed
    assert copy.whole() == b"".join(chunks)
    copy.release()
    assert budget.left == 10_000


@given(pieces=st.lists(st.binary(max_size=400), max_size=8))
def test_a_body_over_its_bound_goes_on_to_the_app_and_is_not_kept(pieces: list[bytes]) -> None:
    app, budget = App(), ByteBudget(10_000)
    copy = copy_of(app, budget)
    for piece in pieces:
        copy.write_body([piece])
    whole = b"".join(pieces)
    assert b"".join(app.heard) == whole
    assert copy.whole() == (whole if len(whole) <= 1000 else None)
    copy.release()
    assert budget.left == 10_000


def test_all_copies_share_one_budget() -> None:
    app, budget = App(), ByteBudget(100)
    first, second = copy_of(app, budget), copy_of(app, budget)
    first.add([b"a" * 60])
    second.add([b"b" * 60])
    assert second.whole() is None
    assert first.whole() == b"a" * 60
    first.release()
    second.release()
    assert budget.left == 100
