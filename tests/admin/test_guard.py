"""Who may use the admin listener, and whose browser page may not."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from sidecar.admin import guard
from sidecar.admin.guard import Guard, Token
from sidecar.admin.problem import ApiProblem
from sidecar.config.schema import Address, Admin

LOOPBACK = Address("127.0.0.1", 15000)


def refusal(
    method: str = "GET",
    path: str = "/services",
    *,
    settings: Admin | None = None,
    bound: Address = LOOPBACK,
    repeated: tuple[tuple[str, str], ...] = (),
    **headers: str | None,
) -> tuple[int, str] | None:
    """(status, reason) of what is refused. `content_type` is Content-Type; None leaves a header out."""
    sent: dict[str, str | None] = {"host": "localhost:15000"}
    if method == "POST":
        sent["content_type"] = "application/json"
    sent |= headers
    given: CIMultiDict[str] = CIMultiDict()
    for name, value in sent.items():
        if value is not None:
            given.add(name.replace("_", "-"), value)
    for name, value in repeated:
        given.add(name, value)
    try:
        asyncio.run(Guard(bound).check(make_mocked_request(method, path, headers=given), settings or Admin()))
    except ApiProblem as problem:
        return problem.status, problem.reason
    return None


@pytest.mark.parametrize(
    "host",
    [
        "localhost:15000", "localhost", "LOCALHOST:8080", "localhost.:15000", "127.0.0.1:15000", "127.0.0.1:40001",
        "127.8.8.8:1", "[::1]:15000", "[::1]", "sidecar.localhost:15000",
    ],
)  # fmt: skip
def test_loopback_by_any_name_and_port_for_a_port_forward_has_any(host: str) -> None:
    assert refusal(host=host) is None
    assert refusal("POST", "/reload", host=host, origin=f"http://{host}") is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.com", "evil.com:15000", "localhost.evil.com", "127.0.0.1.evil.com", "evil.com@localhost",
        "10.0.0.7:15000",
        "0.0.0.0:15000", "[::]:15000", "", " ", "localhost:15000,evil.com", "local host", "2130706433", "localhost:",
        "localhost:x", "[::1", "::1", "[fe80::1%25eth0]:15000", "127.0.0.1:15000/", "xn--localhost-",
    ],
)  # fmt: skip
def test_a_name_that_was_made_to_mean_us_is_refused_for_reading_too(host: str) -> None:
    assert refusal(host=host) == (421, "host")
    assert refusal("POST", "/reload", host=host, origin=f"http://{host}") == (421, "host")


@given(st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,40}[a-z])?\.?(:[0-9]{1,5})?", fullmatch=True))
def test_no_other_name_passes(host: str) -> None:
    name = host.partition(":")[0].removesuffix(".")
    if name != "localhost" and not name.endswith(".localhost"):
        assert refusal(host=host) == (421, "host")


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x17F)))
def test_any_host_is_judged(host: str) -> None:
    assert refusal(host=host) in (None, (421, "host"))


def test_without_host_and_with_two() -> None:
    assert refusal(host=None) == (421, "host")
    assert refusal(repeated=(("Host", "localhost:15000"),)) == (421, "host")


@pytest.mark.parametrize("host", ["localhost:15000", "127.0.0.1:40001", "[::1]:15000", "LocalHost"])
def test_the_host_of_an_absolute_form_target_counts_and_not_the_header(host: str) -> None:
    """RFC 9112, section 3.2.2."""
    for scheme in ("http", "HTTP"):
        assert refusal(path=f"{scheme}://{host}/services?x=1", host="evil.com") is None
        origin = f"http://{host}"
        assert refusal("POST", f"{scheme}://{host}/reload", host="evil.com", origin=origin) is None
        evil = "http://evil.com"
        assert refusal("POST", f"{scheme}://{host}/reload", host="evil.com", origin=evil) == (403, "cross_site")


@pytest.mark.parametrize(
    "target",
    [
        "http://evil.com/services", "http://evil.com:15000/services", "HTTP://EVIL.com/services", "http://evil.com",
        "http://u@localhost:15000/services", "http://localhost@evil.com/services",
        "https://localhost:15000/services", "ftp://localhost/services", "//localhost/services@x:/",
    ],
)  # fmt: skip
def test_an_absolute_form_target_of_another_host_is_refused(target: str) -> None:
    expected = None if target.startswith("/") else (421, "host")  # origin-form, whatever is in it
    assert refusal(path=target) == expected
    assert refusal(path=target, host="evil.com") == (421, "host")


def test_a_target_with_a_host_of_its_own_does_not_make_up_for_two_in_the_headers() -> None:
    assert refusal(path="http://localhost/services", repeated=(("Host", "localhost"),)) == (421, "host")


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_a_kubelet_names_us_as_it_likes(path: str) -> None:
    assert refusal(path=path, host="10.1.2.3:15000") is None


def test_metrics_bear_addresses_so_their_host_counts() -> None:
    assert refusal(path="/metrics", host="evil.com") == (421, "host")


@pytest.mark.parametrize(
    ("bound", "host", "refused"),
    [
        ("10.0.0.7", "10.0.0.7:15000", False),
        ("10.0.0.7", "10.0.0.8:15000", True),
        ("0.0.0.0", "10.0.0.8:15000", False),
        ("0.0.0.0", "[fd00::1]:15000", False),
        ("0.0.0.0", "0.0.0.0:15000", True),
        ("0.0.0.0", "evil.com", True),
        ("fd00::1", "[fd00::1]:15000", False),
        ("fd00::1", "[fd00:0::1]:15000", False),
        ("fd00::1", "[fd00::2]:15000", True),
    ],
)
def test_the_address_that_the_listener_is_bound_to(bound: str, host: str, refused: bool) -> None:
    assert (refusal(host=host, bound=Address(bound, 15000)) is not None) is refused


def test_names_of_the_configuration() -> None:
    settings = Admin(hosts=("sidecar.example.com",))
    for host in ("sidecar.example.com", "SIDECAR.example.com:443"):
        assert refusal(host=host, settings=settings) is None
        for scheme in ("http", "https"):  # what stands before us may speak TLS
            assert refusal("POST", "/reload", host=host, origin=f"{scheme}://{host}", settings=settings) is None
    assert refusal(host="example.com", settings=settings) == (421, "host")
    assert refusal("POST", "/reload", origin="https://localhost:15000", settings=settings) == (403, "cross_site")


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.com", "null", "http://localhost:3000", "http://127.0.0.1:15000", "https://localhost:15000",
        "http://localhost", "http://localhost:15000.evil.com", "", "file://",
    ],
)  # fmt: skip
def test_another_origin_may_neither_change_nor_read(origin: str) -> None:
    assert refusal("POST", "/services/venue/breaker", origin=origin) == (403, "cross_site")
    assert refusal(origin=origin) == (403, "cross_site")


@pytest.mark.parametrize(
    ("method", "site", "mode", "refused"),
    [
        ("GET", "same-origin", "cors", False),
        ("GET", "none", "navigate", False),
        ("GET", "cross-site", "no-cors", True),
        ("GET", "same-site", "no-cors", True),
        ("GET", "cross-site", "navigate", False),
        ("POST", "same-origin", "cors", False),
        ("POST", "cross-site", "navigate", True),
        ("POST", "cross-site", "no-cors", True),
        ("POST", "same-site", "cors", True),
    ],
)
def test_what_a_browser_says_of_where_a_request_comes_from(method: str, site: str, mode: str, refused: bool) -> None:
    found = refusal(method, sec_fetch_site=site, sec_fetch_mode=mode)
    assert found == ((403, "cross_site") if refused else None)


@pytest.mark.parametrize(
    ("content_type", "refused"),
    [
        ("application/json", False),
        ("application/json; charset=utf-8", False),
        ("Application/JSON", False),
        (None, True),
        ("", True),
        ("text/plain", True),
        ("application/x-www-form-urlencoded", True),
        ("multipart/form-data; boundary=x", True),
        ("text/plain; application/json", True),
        ("application/jsonp", True),
    ],
)
def test_a_form_changes_nothing(content_type: str | None, refused: bool) -> None:
    assert refusal("POST", "/reload", content_type=content_type) == ((415, "content_type") if refused else None)


def test_two_content_types_are_none() -> None:
    assert refusal("POST", "/reload", repeated=(("Content-Type", "text/plain"),)) == (415, "content_type")


TOKEN = "correct-horse"


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    return path


@pytest.mark.parametrize(
    ("authorization", "refused"),
    [
        (f"Bearer {TOKEN}", False),
        (f"bearer {TOKEN}", False),
        (f"Bearer  {TOKEN} ", False),
        (None, True),
        ("", True),
        ("Bearer", True),
        ("Bearer ", True),
        ("Bearer wrong", True),
        (f"Bearer {TOKEN}x", True),
        (f"Basic {TOKEN}", True),
        (TOKEN, True),
        ("Bearer caf\u00e9", True),
    ],
)
def test_a_token(token_file: Path, authorization: str | None, refused: bool) -> None:
    settings = Admin(token_file=str(token_file))
    for method, path in (("GET", "/services"), ("GET", "/events"), ("GET", "/health"), ("POST", "/reload")):
        found = refusal(method, path, settings=settings, authorization=authorization)
        assert found == ((401, "token") if refused else None)


def test_what_needs_no_token(token_file: Path) -> None:
    for path in ("/livez", "/readyz", "/metrics", "/", "/ui/app.js"):
        assert refusal(path=path, settings=Admin(token_file=str(token_file))) is None


def test_a_token_does_not_make_a_cross_site_request_welcome(token_file: Path) -> None:
    settings = Admin(token_file=str(token_file))
    found = refusal("POST", "/reload", settings=settings, authorization=f"Bearer {TOKEN}", origin="http://evil.com")
    assert found == (403, "cross_site")


def test_the_refusal_says_how_to_ask(token_file: Path) -> None:
    request = make_mocked_request("GET", "/services", headers={"Host": "localhost"})
    with pytest.raises(ApiProblem) as problem:
        asyncio.run(Guard(LOOPBACK).check(request, Admin(token_file=str(token_file))))
    assert problem.value.headers["WWW-Authenticate"].startswith("Bearer")
    assert TOKEN not in str(problem.value)


@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_text(" \n")])
def test_without_a_usable_token_nobody_gets_in(
    token_file: Path, spoil: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    spoil(token_file)
    found = refusal(settings=Admin(token_file=str(token_file)), authorization="Bearer ")
    assert found == (503, "token_file")
    assert "every request is refused" in caplog.text


def test_a_token_that_changes_is_read_again_and_trouble_is_told_once(
    token_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token = Token()
    assert token.read(str(token_file)) == TOKEN.encode()
    token_file.write_text("another")
    os.utime(token_file, ns=(1, 1))
    assert token.read(str(token_file)) == b"another"
    token_file.unlink()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert token.read(str(token_file)) == b""
    assert len(caplog.records) == 1
    token_file.write_text(TOKEN)
    assert token.read(str(token_file)) == TOKEN.encode()


def test_what_is_no_file_is_not_opened(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Opening a FIFO waits for whoever writes to it."""
    fifo = tmp_path / "token"
    os.mkfifo(fifo)
    found: list[bytes] = []
    reading = Thread(target=lambda: found.append(Token().read(str(fifo))), daemon=True)
    reading.start()
    reading.join(5)
    assert found == [b""]
    assert "every request is refused" in caplog.text


async def test_a_file_that_hangs_stops_nothing_else(
    token_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(guard, "LONGEST_READ_S", 0.05)
    released, began = Event(), []
    token = Token()
    read = token.read

    def slow(path: str) -> bytes:
        began.append(path)
        if path == str(token_file):
            released.wait(10)
        return read(path)

    monkeypatch.setattr(token, "read", slow)
    try:
        assert await asyncio.gather(*(token.current(str(token_file)) for _ in range(5))) == [b""] * 5
        assert await token.current(str(token_file)) == b""
        assert began == [str(token_file)], "one thread waits, however many ask"
        other = tmp_path / "other"
        other.write_text("another")
        monkeypatch.setattr(guard, "LONGEST_READ_S", 5.0)
        assert await token.current(str(other)) == b"another"
    finally:
        released.set()
    assert await token.current(str(token_file)) == TOKEN.encode()
