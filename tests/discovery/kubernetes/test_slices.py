"""EndpointSlices: which endpoints get requests, and at which port."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from sidecar.discovery.kubernetes.slices import MOST_ENDPOINTS, Selection, Slice, read, select
from sidecar.discovery.kubernetes.wire import SliceObject
from tests.support.kubernetes_api import endpoint, endpoint_slice


def made(name: str, endpoints: Any = ("10.0.0.1",), **more: Any) -> Slice:
    return read(msgspec.convert(endpoint_slice(name, "venue", endpoints, **more), SliceObject))


def port(number: int | None = 3002, name: str | None = "http", **more: Any) -> dict[str, Any]:
    return {"name": name, "port": number, "protocol": "TCP"} | more


def addresses(*slices: Slice, wanted: int | str | None = None) -> list[str]:
    return [place.address for place in select(slices, wanted).places]


# (ready, serving, terminating) -> ready, leaving or left out, as the API reference defines a nil.
CONDITIONS = [
    ((None, None, None), "ready"),
    ((True, None, None), "ready"),
    ((True, True, False), "ready"),
    ((None, True, None), "ready"),
    ((True, False, False), "ready"),  # `ready` is the word that counts while it does not end
    ((False, None, None), "out"),
    ((False, False, False), "out"),
    ((False, True, False), "out"),
    ((False, True, True), "leaving"),
    ((False, False, True), "out"),
    ((False, None, True), "out"),
    ((None, None, True), "leaving"),
    ((True, True, True), "leaving"),  # publishNotReadyAddresses
    ((True, False, True), "leaving"),
]


@pytest.mark.parametrize(("conditions", "verdict"), CONDITIONS)
def test_the_table_of_conditions(conditions: tuple[bool | None, ...], verdict: str) -> None:
    one = made("a", [endpoint("10.0.0.1", *conditions)])
    assert (list(one.ready), list(one.leaving)) == (
        ["10.0.0.1"] if verdict == "ready" else [],
        ["10.0.0.1"] if verdict == "leaving" else [],
    )


def test_an_endpoint_without_conditions_is_ready() -> None:
    assert addresses(made("a", [{"addresses": ["10.0.0.1"]}])) == ["10.0.0.1"]


def test_terminating_endpoints_get_no_requests_while_one_is_ready_in_any_slice() -> None:
    leaving = made("a", [endpoint("10.0.0.1", False, True, True)])
    assert addresses(leaving, made("b", ["10.0.0.2"])) == ["10.0.0.2"]


def test_terminating_endpoints_that_serve_are_used_where_none_is_ready() -> None:
    last = made("a", [endpoint("10.0.0.1", False, True, True), endpoint("10.0.0.2", False, False, True)])
    selection = select([last, made("b", [endpoint("10.0.0.3", False)])], None)
    assert [place.address for place in selection.places] == ["10.0.0.1"]
    assert "terminating" in selection.complaint
    assert selection.usable


def test_slices_add_up_and_duplicates_are_one() -> None:
    found = addresses(made("b", ["10.0.0.2", "10.0.0.3"]), made("a", ["10.0.0.1", "10.0.0.2"]))
    assert found == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]


def test_a_duplicate_is_ready_if_either_slice_says_so() -> None:
    assert addresses(made("a", [endpoint("10.0.0.1", False, True, True)]), made("b", ["10.0.0.1"])) == ["10.0.0.1"]


def test_both_families_count_and_addresses_have_one_text() -> None:
    six = made("b", ["fd00::1", "FD00:0::1", "fd00::0002"], family="IPv6")
    assert addresses(made("a"), six) == ["10.0.0.1", "fd00::1", "fd00::2"]


@pytest.mark.parametrize(
    "text", ["venue.example.org", "10.0.0.300", "fd00::1", "", "10.0.0.1\x00", "1\u0660.0.0.1", "10.1"]
)
def test_addresses_of_another_family_are_left_out(text: str) -> None:
    assert addresses(made("a", [text, "10.0.0.9"])) == ["10.0.0.9"]


def test_fqdn_and_unknown_families_are_left_out() -> None:
    assert addresses(made("a", ["10.0.0.1"], family="FQDN"), made("b", ["10.0.0.1"], family="")) == []


def test_only_the_first_address_counts() -> None:
    assert addresses(made("a", [{"addresses": ["10.0.0.1", "10.0.0.2"]}, {"addresses": []}, {"addresses": None}])) == [
        "10.0.0.1"
    ]


def test_no_endpoints_is_an_answer() -> None:
    assert select([made("a", None), made("b", [])], None) == Selection((), "", True)
    assert select([], "http") == Selection((), "", True)


HTTP, METRICS = port(3002, "http"), port(9090, "metrics")


@pytest.mark.parametrize(
    ("ports", "wanted", "expected"),
    [
        ([HTTP], None, 3002),
        ([port(3002, None)], None, 3002),
        ([port(3002, "")], None, 3002),
        ([HTTP], "http", 3002),
        ([HTTP], 3002, 3002),
        ([HTTP, METRICS], "metrics", 9090),
        ([HTTP, METRICS], 9090, 9090),
        ([port(53, "dns", protocol="UDP"), HTTP], None, 3002),
        ([port(3002, "http", protocol=None)], "http", 3002),
        ([port(None, None)], 8080, 8080),
        ([], 8080, 8080),
        (None, 8080, 8080),
    ],
)
def test_a_port_is_chosen(ports: Any, wanted: int | str | None, expected: int) -> None:
    selection = select([made("a", ports=ports)], wanted)
    assert [place.port for place in selection.places] == [expected]
    assert selection.complaint == ""


@pytest.mark.parametrize(
    ("ports", "wanted", "words"),
    [
        ([HTTP, METRICS], None, "several ports (its pods have http=3002, metrics=9090)"),
        ([HTTP], "web", "no port named 'web' (its pods have http=3002)"),
        ([HTTP], 80, "no port 80 (its pods have http=3002); use the port of the pods"),
        ([port(53, "dns", protocol="UDP")], "dns", "no port named 'dns' (its slices list no TCP port)"),
        ([port(53, "dns", protocol="UDP")], 53, "no port 53"),
        ([], None, "no TCP port"),
        ([port(None, None)], None, "no TCP port"),
        ([port(0, "http")], None, "no TCP port"),
        ([port(65536, "http")], "http", "no port named"),
    ],
)
def test_without_a_port_the_complaint_says_why_and_the_set_is_unusable(ports: Any, wanted: Any, words: str) -> None:
    selection = select([made("a", ports=ports)], wanted)
    assert words in selection.complaint
    assert (selection.places, selection.usable) == ((), False)


def test_a_port_that_only_some_slices_have_is_used_there() -> None:
    selection = select([made("a", ["10.0.0.1"]), made("b", ["10.0.0.2"], ports=[METRICS])], "http")
    assert [place.address for place in selection.places] == ["10.0.0.1"]
    assert selection.usable
    assert "no port named" in selection.complaint


def test_slices_may_have_different_numbers_under_one_name() -> None:
    found = select([made("a", ["10.0.0.1"]), made("b", ["10.0.0.2"], ports=[port(4000, "http")])], "http")
    assert [(place.address, place.port) for place in found.places] == [("10.0.0.1", 3002), ("10.0.0.2", 4000)]


def test_ports_of_a_slice_without_endpoints_are_ignored() -> None:
    assert select([made("a"), made("b", [], ports=None)], "http").complaint == ""


@pytest.mark.parametrize(
    ("protocol", "scheme"), [("https", "https"), ("HTTPS", "https"), ("http", "http"), (None, "http")]
)
def test_the_application_protocol_says_the_scheme(protocol: str | None, scheme: str) -> None:
    one = made("a", ports=[port(appProtocol=protocol)])
    assert [place.scheme for place in select([one], None).places] == [scheme]


def test_the_number_of_endpoints_is_bounded() -> None:
    many = [f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}" for i in range(MOST_ENDPOINTS + 1)]
    at = select([made("a", many[:-1])], None)
    over = select([made("a", many)], None)
    assert (len(at.places), at.complaint) == (MOST_ENDPOINTS, "")
    assert len(over.places) == MOST_ENDPOINTS
    assert "more than" in over.complaint
