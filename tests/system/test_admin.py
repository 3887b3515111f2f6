"""The admin API of the real daemon, as an operator's commands and an attacker's page meet it."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from sidecar.net.http_listener import MOST, most_each
from tests.support.daemon import Daemon
from tests.support.eventually import eventually
from tests.support.rig import Rig
from tests.support.steps import answer, held

CONFIG = """
drain: {delay: 200ms, timeout: 5s}
defaults: {breaker: {reset_timeout: 60s}, retry: {max_retries: 0}}
services:
  venue:
    endpoints: ["$a", "$b"]
    outlier: {panic_threshold: 0%}
  auth:
    endpoints: ["$a"]
    routes: [{match: {path: /reports, methods: [POST]}, breaker: {volume_threshold: 5}}]
"""


class Admin:
    """Asks the admin listener of a daemon, each time on a connection of its own."""

    def __init__(self, daemon: Daemon) -> None:
        self.port = daemon.ports.admin

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, timeout: float = 5.0
    ) -> tuple[int, Any]:
        """Status and the body, as JSON where it is that. A dictionary is sent as JSON with its type."""
        sent = {"Host": f"localhost:{self.port}"} | (headers or {})
        if isinstance(body, dict):
            sent = {"Content-Type": "application/json"} | sent
            body = json.dumps(body)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, {name: value for name, value in sent.items() if value})
            found = connection.getresponse()
            content = found.read()
            kind = found.getheader("Content-Type", "")
            if found.status >= 400 and found.status != 503:
                assert kind.startswith("application/problem+json"), (found.status, content)
            return found.status, json.loads(content) if "json" in kind and content else content
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        status, content = self.ask("GET", path)
        assert status == 200, content
        return content

    def post(self, path: str, **body: Any) -> Any:
        status, content = self.ask("POST", path, {name.rstrip("_"): value for name, value in body.items()})
        assert status in (200, 202), content
        return content

    def breaker(self, service: str = "venue") -> Any:
        return self.get(f"/services/{service}")["breaker"]

    def events(self, since: int = 0) -> list[Any]:
        found: list[Any] = self.get(f"/events?since={since}")["events"]
        return found

    def texts(self) -> list[str]:
        return [event["text"] for event in self.events()]


@pytest.fixture(scope="module")
def shared() -> Iterator[Rig]:
    with Rig(CONFIG, "a", "b") as rig:
        yield rig


@pytest.fixture
def rig(shared: Rig) -> Rig:
    """With everything as at the start."""
    for upstream in shared.upstreams.values():
        upstream.play(answer())
    admin = Admin(shared.daemon)
    for service in ("venue", "auth"):
        for state in ("open", "closed"):  # a change of state clears the window
            admin.post(f"/services/{service}/breaker", state=state, for_="1s")
        admin.post(f"/services/{service}/breaker", state="auto")
        for name in ("a", "b") if service == "venue" else ("a",):
            admin.post(f"/services/{service}/endpoints/{shared[name].authority}", action="restore")
    return shared


@pytest.fixture
def admin(rig: Rig) -> Admin:
    return Admin(rig.daemon)


def test_services_as_they_are(rig: Rig, admin: Admin) -> None:
    def nothing_failed() -> bool:  # in the last 10 s, in which the rates are
        return admin.get("/services")["services"][0]["rates"]["success_rate"] in (None, 100)

    eventually(nothing_failed)
    before = admin.get("/services")["services"][0]["requests"]
    for _ in range(8):
        assert rig.ask("GET", "/venue/x").status == 200

    def counted() -> None:
        found = admin.get("/services")
        assert [one["name"] for one in found["services"]] == ["venue", "auth"]
        venue = found["services"][0]
        assert venue["requests"] == before + 8
        assert venue["rates"]["requests_per_s"] > 0
        assert venue["rates"]["success_rate"] == 100
        assert venue["rates"]["p99_ms"] > 0
        assert (venue["breaker"]["state"], venue["source"]) == ("closed", "static")

    eventually(counted)
    detail = admin.get("/services/venue")
    assert [one["address"] for one in detail["endpoints"]] == [rig["a"].authority, rig["b"].authority]
    assert all(one["requests"] >= 4 and one["healthy"] and one["available"] for one in detail["endpoints"])
    assert sum(one["share"] for one in detail["endpoints"]) == pytest.approx(100, abs=0.2)
    assert detail["policy"]["retry"]["max_retries"] == {"value": 0, "origin": "defaults", "line": 4}


def test_a_forced_breaker_refuses_at_once_and_expires_by_itself(rig: Rig, admin: Admin) -> None:
    last = admin.events()[-1]["id"]
    forced = admin.post("/services/venue/breaker", state="open", for_="1s")
    assert (forced["state"], forced["forced"]) == ("open", "open")
    refused = rig.ask("GET", "/venue/x")
    assert (refused.status, refused.get("x-sidecar-reason")) == (503, "circuit_open")
    eventually(lambda: admin.breaker()["forced"] is None, timeout=4)  # with no traffic
    assert rig.ask("GET", "/venue/x").status == 200  # the probe
    eventually(lambda: admin.breaker()["state"] == "closed")
    told = [(event["kind"], event["text"]) for event in admin.events(last)]
    assert ("breaker", "breaker open") in told
    assert ("operator", "an operator forces the breaker open for 1s") in told
    assert ("breaker", "breaker is no longer forced") in told


def test_a_breaker_that_is_held_closed_judges_nothing(rig: Rig, admin: Admin) -> None:
    admin.post("/services/venue/breaker", state="closed", for_="1m")
    for name in ("a", "b"):
        rig[name].play(answer(status=500))
    for _ in range(15):
        assert rig.ask("GET", "/venue/x").status == 500
    assert admin.breaker()["state"] == "closed"
    admin.post("/services/venue/breaker", state="auto")
    rig.ask("GET", "/venue/x")
    eventually(lambda: admin.breaker()["state"] == "open")
    found = admin.get("/explain?target=/venue/x")
    assert found["breaker"]["would"] == "refuse"
    assert "It refuses requests until" in " ".join(found["words"])


def test_a_route_with_its_own_breaker(rig: Rig, admin: Admin) -> None:
    admin.post("/services/auth/breaker", state="open", for_="1m", route="POST /reports")
    assert rig.ask("POST", "/auth/reports", body=b"").status == 503
    assert rig.ask("GET", "/auth/reports").status == 200
    admin.post("/services/auth/breaker", state="auto", route="POST /reports")


@pytest.mark.parametrize("action", ["drain", "eject"])
def test_an_endpoint_gets_no_requests_until_it_is_over(rig: Rig, admin: Admin, action: str) -> None:
    path = f"/services/venue/endpoints/{rig['a'].authority}"
    status, problem = 0, None
    found = admin.post(path, action=action, for_="2s")
    assert found["available"] is False
    hits = rig["a"].hits
    for _ in range(6):
        assert rig.ask("GET", "/venue/x").status == 200
    assert rig["a"].hits == hits
    status, problem = admin.ask("POST", path.replace(rig["a"].authority, rig["b"].authority), {"action": action})
    assert (status, problem["reason"]) == (409, "last_endpoint")
    eventually(lambda: admin.get("/services/venue")["endpoints"][0]["available"], timeout=5)
    for _ in range(4):
        rig.ask("GET", "/venue/x")
    assert rig["a"].hits > hits


def test_a_reload_keeps_what_an_operator_did(rig: Rig, admin: Admin) -> None:
    path = f"/services/venue/endpoints/{rig['a'].authority}"
    admin.post(path, action="drain", for_="1m")
    admin.post("/services/venue/breaker", state="open", for_="1m")
    text = rig.daemon.path.read_text()
    try:
        rig.daemon.path.write_text(text.replace("outlier:", "timeout: {attempt: 3s}\n    outlier:"))
        admin.post("/reload")
        found = admin.get("/services/venue")
        assert found["policy"]["timeout"]["attempt"]["value"] == "3s"
        assert (found["endpoints"][0]["drained"], found["breaker"]["forced"]) == (True, "open")
    finally:
        rig.daemon.path.write_text(text)
        admin.post("/reload")


def test_a_reload_of_a_bad_file_is_a_problem_with_its_lines(rig: Rig, admin: Admin) -> None:
    text = rig.daemon.path.read_text()
    generation = admin.get("/config")["generation"]
    try:
        rig.daemon.path.write_text(text.replace("outlier:", "outlyer:"))
        status, problem = admin.ask("POST", "/reload", {})
        assert (status, problem["reason"]) == (422, "rejected")
        (error,) = problem["errors"]
        assert (error["key"], "outlier" in error["message"]) == ("services.venue.outlyer", True)
        assert error["line"] == 8
        found = admin.get("/config")
        assert (found["generation"], found["reload"]["result"]) == (generation, "rejected")
        assert admin.get("/services")["reload"]["errors"] == 1
    finally:
        rig.daemon.path.write_text(text)
        admin.post("/reload")
    assert any("configuration rejected" in text for text in admin.texts())


def test_the_log_for_a_while(rig: Rig, admin: Admin) -> None:
    assert admin.post("/log", access="all", for_="1s")["access"] == "all"
    rig.ask("GET", "/venue/logged")
    logged = [line for line in rig.daemon.log_lines() if line.get("target") == "/venue/logged"]
    eventually(lambda: any(line.get("target") == "/venue/logged" for line in rig.daemon.log_lines()))
    eventually(lambda: admin.get("/config")["log"]["until"] is None, timeout=4)
    assert admin.get("/config")["log"]["access"] == "errors"
    assert logged == [] or len(logged) == 1
    rig.ask("GET", "/venue/silent")
    rig.ask("GET", "/nowhere")  # is logged, and comes later
    eventually(lambda: any(line.get("reason") == "unknown_service" for line in rig.daemon.log_lines()))
    assert not any(line.get("target") == "/venue/silent" for line in rig.daemon.log_lines())


class Follower:
    """Reads a stream of events."""

    def __init__(self, admin: Admin, last: int | None = None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", admin.port), timeout=5)
        resume = f"Last-Event-ID: {last}\r\n" if last is not None else ""
        head = f"GET /events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n{resume}\r\n"
        self.socket.sendall(head.encode())
        self.file = self.socket.makefile("rb")
        assert b" 200 " in self.file.readline()

    def next(self) -> dict[str, Any]:
        for line in self.file:
            if line.startswith(b"data: "):
                found: dict[str, Any] = json.loads(line[6:])
                return found
        raise AssertionError("the stream has ended")

    def close(self) -> None:
        self.file.close()
        self.socket.close()


def test_events_are_streamed_and_resumed(rig: Rig, admin: Admin) -> None:
    follower = Follower(admin)
    began = time.monotonic()
    admin.post("/services/venue/breaker", state="open", for_="1m")
    opened, told = follower.next(), follower.next()
    assert time.monotonic() - began < 2
    assert (opened["kind"], opened["service"], opened["fields"]["to"]) == ("breaker", "venue", "open")
    assert told["fields"]["by"] == "127.0.0.1"
    follower.close()
    admin.post("/services/venue/breaker", state="auto")
    resumed = Follower(admin, opened["id"])
    assert [resumed.next()["id"], resumed.next()["id"]] == [told["id"], told["id"] + 1]
    resumed.close()


def test_a_stream_tells_of_a_breaker_that_opens(rig: Rig, admin: Admin) -> None:
    follower = Follower(admin)
    for name in ("a", "b"):
        rig[name].play(answer(status=500))
    for _ in range(10):
        rig.ask("GET", "/venue/x")
    began = time.monotonic()
    while (found := follower.next())["kind"] == "ejection":
        pass
    assert (found["text"], time.monotonic() - began < 2) == ("breaker open", True)
    follower.close()


def test_the_page_and_the_document_are_there(admin: Admin) -> None:
    assert admin.get("/openapi.json")["openapi"] == "3.1.0"
    assert b"<html" in admin.get("/")
    assert admin.get("/history")["interval_s"] == 5
    assert b"sidecar_requests_total" in admin.get("/metrics")
    assert admin.get("/readyz") == b"ok\n"
    assert admin.get("/health")["services"]


# Others.


def cross_site(admin: Admin) -> list[dict[str, str]]:
    """What a page in an operator's browser can make it send."""
    ours = f"http://localhost:{admin.port}"
    return [
        {"Content-Type": "text/plain", "Origin": "http://evil.com"},
        {"Content-Type": "application/x-www-form-urlencoded", "Origin": "http://evil.com"},
        {"Content-Type": "multipart/form-data; boundary=x", "Origin": "null"},
        {"Content-Type": "application/json", "Origin": "http://evil.com"},
        {"Content-Type": "application/json", "Origin": "http://localhost:3000"},
        {"Content-Type": "application/json", "Sec-Fetch-Site": "cross-site"},
        {"Content-Type": "application/json", "Origin": ours, "Sec-Fetch-Site": "cross-site"},
        {"Content-Type": "application/json", "Host": "evil.com", "Origin": "http://evil.com"},
        {"Content-Type": "application/json", "Host": f"evil.com:{admin.port}"},
        {"Content-Type": "text/plain"},
        {"Content-Type": ""},
    ]


def test_a_page_in_an_operators_browser_changes_nothing(rig: Rig, admin: Admin) -> None:
    commands = [
        ("/services/venue/breaker", '{"state": "open"}'),
        (f"/services/venue/endpoints/{rig['a'].authority}", '{"action": "drain"}'),
        ("/log", '{"level": "debug"}'),
        ("/reload", "{}"),
        ("/drain", "{}"),
    ]
    last = admin.events()[-1]["id"]
    for path, body in commands:
        for headers in cross_site(admin):
            status, _ = admin.ask("POST", path, body, headers)
            assert status in (403, 415, 421), (path, headers, status)
        status, _ = admin.ask("GET", path)
        assert status == 405
        status, _ = admin.ask(
            "OPTIONS", path, None, {"Origin": "http://evil.com", "Access-Control-Request-Method": "POST"}
        )
        assert status in (403, 415)
    assert admin.events(last) == []
    assert admin.breaker()["forced"] is None
    assert rig.ask("GET", "/venue/x").status == 200


def test_a_rebound_name_reads_nothing(admin: Admin) -> None:
    for path in ("/services", "/config", "/events", "/explain?target=/venue", "/metrics", "/openapi.json", "/"):
        status, _ = admin.ask("GET", path, None, {"Host": f"evil.com:{admin.port}"})
        assert status == 421


def test_what_is_too_large_or_not_meant_is_refused(admin: Admin) -> None:
    json_type = {"Content-Type": "application/json"}
    assert admin.ask("POST", "/reload", b" " * 70_000, json_type)[0] == 413
    assert admin.ask("POST", "/services/venue/breaker", b"[" * 60_000, json_type)[0] == 400
    assert admin.ask("POST", "/services/venue/breaker", b"\xff\xfe", json_type)[0] == 400
    assert admin.ask("GET", "/services/" + "x" * 4000)[0] == 404
    assert admin.ask("GET", "/explain?target=" + "x" * 4000)[0] == 200
    for head in (f"GET /{'x' * 54_000} HTTP/1.1", f"GET / HTTP/1.1\r\nX-Long: {'x' * 20_000}", "\x16\x03\x01"):
        with socket.create_connection(("127.0.0.1", admin.port), timeout=5) as one:
            one.sendall(f"{head}\r\nHost: localhost\r\n\r\n".encode())
            assert b" 400 " in one.recv(100)


def test_three_hundred_connections_that_say_nothing(rig: Rig, admin: Admin) -> None:
    """As many as one client may have are kept, the longest idle ones make room for others, and nobody suffers."""
    held_open = [socket.create_connection(("127.0.0.1", admin.port), timeout=5) for _ in range(300)]
    try:
        assert rig.ask("GET", "/venue/x").status == 200
        assert rig.daemon.probe("/readyz").status == 200
        assert admin.ask("GET", "/livez")[0] == 200
        closed = [number for number, one in enumerate(held_open) if _is_closed(one)]
        assert closed == list(range(len(closed)))
        kept = len(held_open) - len(closed)
        assert most_each(MOST) - 16 <= kept < most_each(MOST)
    finally:
        for one in held_open:
            one.close()


def _is_closed(one: socket.socket) -> bool:
    one.setblocking(False)
    try:
        return one.recv(1000) == b""
    except BlockingIOError:
        return False


def test_a_reader_of_events_that_does_not_read_costs_nobody_anything(rig: Rig, admin: Admin) -> None:
    slow = socket.create_connection(("127.0.0.1", admin.port), timeout=5)
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    slow.sendall(b"GET /events?follow=true&since=0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    follower = Follower(admin)
    before = rig.daemon.rss_mib()
    for _ in range(300):
        admin.post("/services/venue/breaker", state="auto")
    for _ in range(300):
        follower.next()
    assert rig.daemon.rss_mib() - before < 10
    follower.close()
    slow.close()


def test_hammering_does_not_break_the_data_path(rig: Rig, admin: Admin) -> None:
    stop = threading.Event()
    failures: list[Any] = []

    def hammer() -> None:
        while not stop.is_set():
            for path in ("/services", "/services/venue", "/explain?target=/venue/x", "/history"):
                status, content = admin.ask("GET", path)
                if status != 200:
                    failures.append((path, status, content))

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        assert all(rig.ask("GET", "/venue/x").status == 200 for _ in range(50))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []


# The end.


def test_the_end_is_in_order() -> None:
    with Rig(CONFIG, "a", "b") as rig:
        admin = Admin(rig.daemon)
        rig["a"].play(held(answer()))
        rig["b"].play(held(answer()))
        follower = Follower(admin)
        status: list[int] = []
        request = threading.Thread(target=lambda: status.append(rig.ask("GET", "/venue/slow").status))
        request.start()
        eventually(lambda: rig["a"].hits + rig["b"].hits == 1)
        assert admin.ask("POST", "/drain", {})[0] == 202
        assert [follower.next()["kind"], follower.next()["kind"]] == ["operator", "drain"]
        eventually(lambda: rig.daemon.probe("/readyz").status == 503)
        assert admin.get("/services")["draining"] is True
        for name in ("a", "b"):
            rig[name].gate.set()
        request.join(5)
        assert status == [200]
        assert rig.daemon.wait(5) == 0
        follower.close()


def test_a_token(tmp_path: Any) -> None:
    token = tmp_path / "token"
    token.write_text("horse\n")
    with Rig(f"admin: {{token_file: {token}}}\n{CONFIG}", "a", "b") as rig:
        admin = Admin(rig.daemon)
        right, wrong = {"Authorization": "Bearer horse"}, {"Authorization": "Bearer zebra"}
        assert [admin.ask("GET", "/services", None, each)[0] for each in (right, wrong, {})] == [200, 401, 401]
        assert [admin.ask("POST", "/reload", {}, each)[0] for each in (right, wrong, {})] == [200, 401, 401]
        assert [admin.ask("GET", path)[0] for path in ("/livez", "/readyz", "/metrics", "/")] == [200] * 4
        token.write_text("zebra")
        eventually(lambda: admin.ask("GET", "/services", None, wrong)[0] == 200)
        assert admin.ask("GET", "/services", None, right)[0] == 401
        token.unlink()
        assert admin.ask("GET", "/services", None, wrong)[0] == 503
        assert "zebra" not in rig.log
        assert "horse" not in rig.log
