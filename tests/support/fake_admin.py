"""An admin listener without a daemon: the dashboard's files, and plausible answers of the admin API in a chosen state.

It is for work on the dashboard, and for tests that need a state that is slow to reach with a real daemon.
`python -m tests.support.fake_admin forced 15000` shows it in a browser.
"""

from __future__ import annotations

import asyncio
import math
import sys
import threading
import time
from datetime import UTC, datetime
from types import TracebackType
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from sidecar.admin.page import FOLDER, POLICY

STATES = ("calm", "open", "forced", "ejected", "rejected", "hundred", "token", "quiet")
TOKEN = "correct horse"
NAMES = (
    "auth", "venue", "event", "ticket", "payment", "marketplace", "analytics", "notification", "integration",
    "compliance", "queue", "search", "file", "monitoring", "blockchain", "order", "minting", "transfer", "scanning",
)  # fmt: skip
MISTAKES = [f"/etc/sidecar/sidecar.yaml:{12 + n}:5: services.{name}.breakr: unknown key; did you mean breaker?"
            for n, name in enumerate(NAMES[:5])]  # fmt: skip
Json = dict[str, Any]


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def leaf(value: Any, origin: str = "default", line: int | None = None) -> Json:
    return {"value": value, "origin": origin, "line": line}


class Fake:
    """What a daemon would know. Numbers change with the clock, so that charts have something to show."""

    def __init__(self, state: str) -> None:
        assert state in STATES, state
        self.state = state
        self.start = time.time()
        self.names = tuple(f"service-{n:02}" for n in range(100)) if state == "hundred" else NAMES
        self.forced: dict[str, tuple[str, float]] = {}
        self.drained: dict[tuple[str, str], float] = {}
        if state == "forced":
            self.forced["payment"] = ("open", self.start + 252)
        self.events: list[Json] = []
        self._history()

    def _history(self) -> None:
        self.event("reload", None, "configuration in force", {"generation": 3, "trigger": "start"}, ago=3000)
        if self.state in ("open", "hundred"):
            bad = self.names[4]
            window = {"failures": 7, "calls": 12}
            self.event("breaker", bad, "breaker open", window, ago=240)
            self.event("breaker", bad, "breaker half-open", {}, ago=210)
            self.event("breaker", bad, "breaker open", {"reason": "the probe failed"}, ago=209)
        if self.state == "ejected":
            self.event("ejection", "venue", "10.0.0.8:3002 ejected", {"reason": "5 failures in a row"}, ago=20)
        if self.state == "rejected":
            self.event(
                "reload", None, "reload rejected", {"errors": MISTAKES, "trigger": "file", "changed": []}, ago=65
            )

    def event(self, kind: str, service: str | None, text: str, fields: Json, ago: float = 0.0) -> None:
        at = iso(time.time() - ago)
        number = len(self.events) + 1
        self.events.append({"id": number, "time": at, "kind": kind, "service": service, "text": text, "fields": fields})

    def rates(self, name: str, at: float) -> Json:
        n = self.names.index(name)
        if n % 7 == 6 or self.state == "quiet":
            return {"requests_per_s": 0.0, "success_rate": None, "p50_ms": None, "p99_ms": None, "retries_per_s": 0.0}
        wave = 1 + 0.3 * math.sin(at / 60 + n) + 0.12 * math.sin(at / 7 + 3 * n)
        sick = self.state in ("open", "hundred") and n == 4 and at > self.start - 260
        return {
            "requests_per_s": round((3 + 11 * (n * 7 % 5)) * wave, 2),
            "success_rate": 38.5 if sick else 99.6 + 0.4 * math.sin(n) if n % 3 else 100.0,
            "p50_ms": round(2 + n % 5 * wave, 2),
            "p99_ms": round(9 + n * 3 * wave, 2),
            "retries_per_s": 1.4 if sick else 0.1 * (n % 3),
        }

    def breaker(self, name: str, *, whole: bool = False) -> Json:
        now = time.time()
        bad = self.state in ("open", "hundred") and name == self.names[4]
        forced, until = self.forced.get(name, (None, 0.0))
        state = forced or (
            "open" if bad else "half_open" if self.state == "hundred" and name == self.names[9] else "closed"
        )
        found: Json = {
            "state": state, "mode": "enforce",
            "since": iso(now - 209 if bad else self.start - 48 if forced else now - 3000),
            "forced": forced, "forced_until": iso(until) if forced else None, "retry_after_s": 12.0 if bad else 0.0,
        }  # fmt: skip
        if whole:
            window = {"successes": 5 if bad else 140, "failures": 7 if bad else 1, "seconds": 10.0}
            found |= {"window": window, "opens": 2 if bad else 0, "rejects": 4711 if bad else 0}
            found["next_probe"] = iso(now + 12) if bad else None
        return found

    def endpoints(self, name: str) -> list[Json]:
        n = self.names.index(name)
        rows = []
        for at in range(1 + n % 3 if name != "venue" else 3):
            address = f"10.0.{n}.{7 + at}:{3001 + n}"
            ejected = self.state == "ejected" and name == "venue" and at == 1
            unwell = self.state == "ejected" and name == "ticket" and at == 0
            until = self.drained.get((name, address))
            rows.append({
                "address": address, "healthy": not unwell, "known": True, "ejected": ejected,
                "ejected_until": iso(self.start + 75) if ejected else None, "drained": until is not None,
                "forced_until": iso(until) if until else None, "available": not (ejected or unwell or until),
                "skipped_until": None, "weight": 1, "priority": 0, "active": at + 1, "idle": 2, "requests": 41200 + at,
                "failures": 214 if ejected else 3,
                "share": 0.0 if ejected else 50.0 if self.state == "ejected" else 33.3,
                "latency_ms": 3.2 + at, "ejections": int(ejected),
                "reasons": {"ok": 40986, "reset": 160, "status": 54} if ejected else {"ok": 41197, "reset": 3},
            })  # fmt: skip
        return rows

    def last_failure(self, name: str) -> Json | None:
        at = {"open": time.time() - 1, "hundred": time.time() - 1, "quiet": self.start - 40}.get(self.state)
        if at is None or name != self.names[4]:
            return None
        detail = "10.0.4.7:3005 refused the connection"
        return {"at": iso(at), "reason": "connect_failure", "detail": detail, "request_id": "f3a1"}

    def summary(self, name: str) -> Json:
        rows = self.endpoints(name)
        last = self.last_failure(name)
        return {
            "name": name, "source": "static", "breaker": self.breaker(name),
            "protocol": "h2" if name == "search" else "http1", "grpc": name == "search",
            "grpc_statuses": {"OK": 122000, "UNAVAILABLE": 97} if name == "search" else {},
            "endpoints": {
                "total": len(rows), "available": sum(row["available"] for row in rows),
                "healthy": sum(row["healthy"] and not row["drained"] for row in rows),
                "ejected": sum(row["ejected"] for row in rows), "panic": False,
                "shares": [{"available": row["available"], "share": row["share"]} for row in rows][:8],
            },
            "in_flight": len(name) % 4, "requests": 123456, "failures": 97, "retries": 40, "fallbacks": 0,
            "reasons": {"status": 60, "reset": 37}, "last_failure": last,
            "recent_reasons": {"circuit_open": 40, "connect_failure": 7} if last and self.state != "quiet" else {},
            "rates": self.rates(name, time.time()),
            "budget": {"balance": 10.0, "ratio": 0.2, "min_per_second": 10, "spent": 40, "denied": 0},
        }  # fmt: skip

    def detail(self, name: str) -> Json:
        found = self.summary(name)
        found["endpoint_summary"] = found["endpoints"]
        return found | {
            "breaker": self.breaker(name, whole=True),
            "endpoints": self.endpoints(name),
            "discovery": {"kind": "static", "last_success": None, "problem": None},
            "policy": POLICY_TREE,
            "history": self.history(name),
            "routes": [{
                "name": "POST /reports", "match": {"path": "/reports", "methods": ["POST"]}, "policy": POLICY_TREE,
                "breaker": self.breaker(name, whole=True) | {"state": "closed", "forced": None, "forced_until": None},
            }] if name == "venue" else [],
        }  # fmt: skip

    def history(self, name: str) -> Json:
        now = math.floor(time.time() / 5) * 5
        points = [now - 5.0 * (119 - at) for at in range(120)]
        rates = [self.rates(name, at) for at in points]
        found: Json = {key: [rate[key] for rate in rates] for key in rates[0]}
        return found | {"t": points, "in_flight": [1] * 120}

    def config(self) -> Json:
        rejected = self.state == "rejected"
        mistake = "services.venue.timeout.attempt"
        errors = [
            {"file": "/etc/sidecar/sidecar.yaml", "line": 12, "column": 9, "key": mistake,
             "message": "wants a duration"},
            {"file": "/etc/sidecar/sidecar.yaml", "line": 31, "column": 5, "key": "services.venue.breakr",
             "message": "unknown key; did you mean breaker?"},
        ]  # fmt: skip
        reload = {
            "result": "rejected" if rejected else "ok", "at": iso(self.start - 65), "trigger": "file",
            "generation": 3, "errors": errors if rejected else [], "warnings": [], "changed": [],
        }  # fmt: skip
        return {
            "generation": 3, "file": "/etc/sidecar/sidecar.yaml", "loaded_at": iso(self.start - 3000), "reload": reload,
            "warnings": [], "config": {},
        }  # fmt: skip


POLICY_TREE: Json = {
    "timeout": {
        "connect": leaf("1s"), "attempt": leaf("2s", "service", 14), "request": leaf("8s", "defaults", 6),
        "idle": leaf("1m"), "pool_idle": leaf("4s"), "client_idle": leaf("1m"),
    },
    "retry": {
        "max_retries": leaf(2),
        "on": leaf(["attempt_timeout", "connect_failure", "connect_timeout", "reset", "502-504"]),
        "methods": leaf(["DELETE", "GET", "HEAD", "OPTIONS", "PUT"]),
        "backoff": {"base": leaf("25ms"), "max": leaf("250ms")},
        "budget": {"ratio": leaf(0.2), "min_per_second": leaf(10)}, "max_body": leaf("64KiB"),
    },
    "breaker": {
        "mode": leaf("enforce"), "error_threshold_percentage": leaf("50%"), "volume_threshold": leaf(10),
        "rolling_count_timeout": leaf("10s"), "reset_timeout": leaf("30s", "service", 17),
        "failure_status": leaf(["500-599"]),
    },
    "balancer": leaf("least_request", "defaults", 9), "health": leaf("off"), "outlier": leaf("off"),
    "limits": {"max_concurrent": leaf(1024), "max_connections": leaf(1024)},
}  # fmt: skip

_SECONDS = {"s": 1, "m": 60, "h": 3600}


def application(fake: Fake) -> web.Application:
    @web.middleware
    async def guard(request: web.Request, handler: Any) -> web.StreamResponse:
        page = request.path == "/" or request.path.startswith("/ui/")
        if fake.state == "token" and not page and request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.json_response(
                {"status": 401, "title": "Unauthorized", "detail": "a token is needed"}, status=401
            )
        answer = await handler(request)
        if not answer.prepared:
            answer.headers["Content-Security-Policy"] = POLICY
        return answer

    def known(request: web.Request) -> str:
        name = request.match_info["name"]
        if name not in fake.names:
            raise web.HTTPNotFound
        return name

    async def index(request: web.Request) -> web.StreamResponse:
        return web.FileResponse(FOLDER / "index.html")

    async def services(request: web.Request) -> web.Response:
        found = [fake.summary(name) for name in fake.names]
        return web.json_response({"generation": 3, "draining": False, "services": found})

    async def service(request: web.Request) -> web.Response:
        return web.json_response(fake.detail(known(request)))

    async def history(request: web.Request) -> web.Response:
        return web.json_response({"interval_s": 5, "services": {name: fake.history(name) for name in fake.names}})

    async def config(request: web.Request) -> web.Response:
        return web.json_response(fake.config())

    async def events(request: web.Request) -> web.StreamResponse:
        if "text/event-stream" not in request.headers.get("Accept", ""):
            name = request.query.get("service")
            return web.json_response({"events": [one for one in fake.events if name in (None, one["service"])]})
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        seen = int(request.headers.get("Last-Event-ID", "0"))
        while True:
            for event in fake.events[seen:]:
                text = web.json_response(event).text
                await stream.write(f"id: {event['id']}\nevent: {event['kind']}\ndata: {text}\n\n".encode())
            seen = len(fake.events)
            await asyncio.sleep(0.05)

    async def force(request: web.Request) -> web.Response:
        name, body = known(request), await request.json()
        fake.forced.pop(name, None)
        if body["state"] != "auto":
            life = body["for"]
            fake.forced[name] = (body["state"], time.time() + int(life[:-1]) * _SECONDS[life[-1]])
        fake.event("operator", name, f"breaker set to {body['state']}", {"for": body.get("for")})
        return web.json_response(fake.breaker(name, whole=True))

    async def endpoint(request: web.Request) -> web.Response:
        name, body = known(request), await request.json()
        key = (name, unquote(request.match_info["address"]))
        fake.drained.pop(key, None)
        if body["action"] != "restore":
            fake.drained[key] = time.time() + 300
        fake.event("operator", name, f"{body['action']} {key[1]}", {"for": body.get("for")})
        return web.json_response({})

    async def explain(request: web.Request) -> web.Response:
        target = request.query["target"]
        name = target.split("/")[1]
        if name not in fake.names:
            problem = {"status": 404, "reason": "unknown_service", "detail": f"no service {name}"}
            return web.json_response({"service": None, "problem": problem, "words": ["No service has that name."]})
        rows = fake.endpoints(name)
        would = "refuse" if name == fake.names[4] and fake.state == "open" else "admit"
        candidates = [{"address": row["address"], "available": row["available"], "why": "well"} for row in rows]
        return web.json_response({
            "service": name, "route": "", "by": "path", "problem": None,
            "upstream_target": "/" + target.split("/", 2)[-1],
            "policy": POLICY_TREE, "breaker": {**fake.breaker(name, whole=True), "would": would},
            "balancer": {"kind": "round_robin", "would_pick": rows[0]["address"], "candidates": candidates},
            "fallback": [], "deadline_s": 8.0,
            "words": [
                f"The first path segment names the service {name}.",
                "No route matches: the service's policy applies.",
            ],
        })  # fmt: skip

    app = web.Application(middlewares=[guard])
    app.add_routes([
        web.get("/", index), web.static("/ui", FOLDER), web.get("/services", services),
        web.get("/services/{name}", service), web.get("/history", history), web.get("/config", config),
        web.get("/events", events), web.get("/explain", explain),
        web.post("/services/{name}/breaker", force), web.post("/services/{name}/endpoints/{address}", endpoint),
    ])  # fmt: skip
    return app


class FakeAdmin:
    """A fake listener in a thread, as long as the context lasts. `fake` may be changed meanwhile."""

    def __init__(self, state: str) -> None:
        self.fake = Fake(state)
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> FakeAdmin:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    async def _start(self) -> None:
        self._runner = web.AppRunner(application(self.fake), shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _stop(self) -> None:
        await self._runner.cleanup()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


if __name__ == "__main__":
    web.run_app(application(Fake(sys.argv[1])), host="127.0.0.1", port=int(sys.argv[2]))
