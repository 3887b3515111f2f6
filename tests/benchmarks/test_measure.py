"""What is read from a load generator's output."""

from __future__ import annotations

from benchmarks.measure import h2_figures

OUT = """\
finished in 3.00s, 333.33 req/s, 96.87MB/s
requests: 1000 total, 1010 started, 1000 done, 998 succeeded, 2 failed, 0 errored, 0 timeout
status codes: 998 2xx, 0 3xx, 0 4xx, 2 5xx
traffic: 290.62KB (304736) total, 95.68KB (100328) headers (space savings 0.00%), 140.71KB (150000) data
"""
LOG = "".join(f"1796093882087716\t200\t{1000 + number}\n" for number in range(1000))


def test_figures_of_h2load() -> None:
    load = h2_figures(OUT, LOG, 150)
    assert (load.requests, load.per_second, load.errors) == (1000, 333.33, 2)
    assert (load.p50_ms, load.p99_ms) == (1.5, 1.99)


def test_a_call_without_its_message_is_an_error() -> None:
    """A refusal of gRPC is a 200."""
    assert h2_figures(OUT.replace("(150000) data", "(600) data"), LOG, 150).errors == 996
