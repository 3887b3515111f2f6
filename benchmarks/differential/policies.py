"""A random service for each episode: its endpoints, and the policy that its requests get."""

from __future__ import annotations

from random import Random
from typing import Any, Final

QUICK: Final = {"base": "1ms", "max": "2ms"}
FOREVER: Final = "20m"
FLAVOURS: Final = {
    "plain": 46,
    "breaker": 10,
    "half_open": 4,
    "outlier": 5,
    "failover": 5,
    "fallback": 11,
    "stale": 4,
    "concurrency": 3,
    "connections": 2,
    "timeouts": 3,
    "impatience": 2,
    "half_close": 3,
    "aggregate": 6,
    "hash": 3,
    "balancer": 3,
    "broken": 2,
    "budget": 2,
}
"""How often each kind of policy is taken."""

DEAD: Final = "127.9.0.1"
"""No upstream listens here."""


def endpoint(number: int, at: int) -> str:
    """The address of an episode's endpoint."""
    return f"127.{10 + at}.{number // 250}.{number % 250 + 1}"


def pick_flavour(rng: Random) -> str:
    return rng.choices(list(FLAVOURS), list(FLAVOURS.values()))[0]


def base(rng: Random) -> dict[str, Any]:
    """The keys that each service has: nothing in it depends on how quickly the machine is."""
    retry: dict[str, Any] = {"backoff": QUICK, "budget": {"ratio": 1, "min_per_second": 1000}}
    timeout = {
        "connect": "5s",
        "attempt": "6s",
        "request": "7s",
        "idle": "6s",
        "pool_idle": "60s",
        "client_idle": "60s",
    }
    policy: dict[str, Any] = {
        "timeout": timeout,
        "retry": retry,
        "breaker": {"volume_threshold": 1_000_000, "rolling_count_timeout": FOREVER},
        "outlier": "off",
        "impatience": "ignore",
        "limits": {"max_connection_age": "off"},
    }
    if rng.random() < 0.4:
        retry["max_retries"] = rng.choice((0, 1, 3))
    if rng.random() < 0.15:
        retry["on"] = rng.choice(
            (["reset"], ["bad_response", "500-599"], ["connect_failure", 404, 503], ["reset", 429])
        )
    if rng.random() < 0.15:
        retry["methods"] = rng.choice((["GET"], ["GET", "POST"], ["GET", "PUT", "PATCH"], []))
    if rng.random() < 0.2:
        retry["max_body"] = rng.choice(("0B", "10B", "1KiB"))
    if rng.random() < 0.2:
        policy["breaker"]["failure_status"] = rng.choice(([503], ["500-502", 429], [404], []))
    if rng.random() < 0.1:
        policy["via"] = True
    if rng.random() < 0.2:
        policy["preserve_host"] = True
    if rng.random() < 0.2:
        policy["prefix_aware"] = rng.choice((True, False, "auto"))
    if rng.random() < 0.1:
        policy["allow_methods"] = ["BAN", "QUERY"]
    if rng.random() < 0.1:
        policy["limits"]["max_head"] = rng.choice(("1KiB", "64KiB"))
    if rng.random() < 0.1:
        policy["limits"]["max_header_fields"] = rng.choice((16, 130, 150))
    if rng.random() < 0.1:
        policy["limits"]["max_connection_requests"] = rng.choice((1, 2, 5))
    return policy


def routes(rng: Random) -> list[dict[str, Any]]:
    """Routes for some of the paths that the scenes use."""
    found: list[dict[str, Any]] = []
    paths = rng.sample(("/k0", "/k1", "/k1/deep", "/a"), rng.choice((1, 1, 2)))
    for path in sorted(paths, key=len, reverse=True):  # a route must not hide the next one
        match: dict[str, Any] = {"path": path}
        if rng.random() < 0.4:
            match["methods"] = rng.choice((["GET"], ["POST", "PUT"], ["PURGE", "GET"]))
        choices: dict[str, Any] = {
            "retry": {"max_retries": rng.choice((0, 1, 2)), "methods": rng.choice((["GET", "POST"], ["GET"]))},
            "breaker": {"mode": rng.choice(("off", "observe", "enforce"))},
            "preserve_host": rng.random() < 0.5,
            "half_close": True,
            "timeout": {"attempt": rng.choice(("5s", "4s"))},
        }
        route = {"match": match, **{key: value for key, value in choices.items() if rng.random() < 0.35}}
        found.append(route)
    return found


def fallback_steps(rng: Random, other: str | None) -> list[dict[str, Any]]:
    """One to three steps."""
    found: list[dict[str, Any]] = []
    if other is not None:
        step: dict[str, Any] = {"service": other}
        if rng.random() < 0.4:
            step["path"] = rng.choice(("/instead", "/k1?all=1"))
        if rng.random() < 0.4:
            step["methods"] = rng.choice((["GET", "HEAD", "POST"], ["GET", "PUT"]))
        found.append(step)
    if rng.random() < 0.4:
        stale: dict[str, Any] = {"stale": "10m"}
        if rng.random() < 0.4:
            stale["key_headers"] = ["authorization"]
        found.append(stale)
    if rng.random() < 0.6 or not found:
        static: dict[str, Any] = {"status": rng.choice((200, 203, 404, 503))}
        if rng.random() < 0.6:
            static["headers"] = {"content-type": "application/json", "X-Static": "yes"}
        if rng.random() < 0.7:
            static["body"] = '{"venues": []}'
        if rng.random() < 0.3:
            static["methods"] = ["GET", "HEAD", "POST"]
        found.append(static)
    return found


class Policies:
    """What the file has for one episode."""

    def __init__(self, rng: Random, number: int, flavour: str, port: int) -> None:
        self.name = f"s{number}"
        self.services: dict[str, Any] = {}
        self.aggregates: dict[str, Any] = {}
        self.addresses: set[str] = set()
        self.alike = False
        self.loose = False
        self._rng, self._number, self._port = rng, number, port
        service = base(rng)
        self._make(service, flavour)
        if "endpoints" not in service:
            service["endpoints"] = [self._live(0)]
        if flavour in {"plain", "breaker", "fallback"} and rng.random() < 0.3:
            service["routes"] = routes(rng)
        if rng.random() < 0.3:
            service["hosts"] = [f"host{number}", f"own{number}.example:8080", f"any{number}.example:*"]
        self.services[self.name] = service

    def _live(self, at: int) -> str:
        address = endpoint(self._number, at)
        self.addresses.add(address)
        return f"http://{address}:{self._port}"

    def _dead(self) -> str:
        return f"http://{DEAD}:{self._port}"

    def _make(self, service: dict[str, Any], flavour: str) -> None:
        rng = self._rng
        breaker = service["breaker"]
        if flavour == "breaker":
            breaker["volume_threshold"] = rng.choice((2, 3, 5, 10))
            breaker["error_threshold_percentage"] = rng.choice((25, 50, 80, 100))
            breaker["reset_timeout"] = breaker["max_reset_timeout"] = FOREVER
            breaker["mode"] = rng.choice(("enforce", "enforce", "enforce", "observe", "off"))
        elif flavour == "half_open":
            breaker["volume_threshold"] = rng.choice((2, 3))
            breaker["reset_timeout"] = breaker["max_reset_timeout"] = "700ms"
            breaker["half_open_requests"] = rng.choice((1, 1, 2))
        elif flavour == "outlier":
            service["endpoints"] = [self._live(0), self._live(1)]
            self.alike = True
            service["outlier"] = {
                "consecutive_failures": rng.choice((1, 2, 3)),
                "base_ejection_time": FOREVER,
                "max_ejection_time": FOREVER,
                "panic_threshold": rng.choice(("0%", "50%")),
            }
        elif flavour == "failover":
            dead = self._dead()
            service["endpoints"] = [{"url": dead}, {"url": self._live(0), "priority": 1}]
        elif flavour == "fallback":
            other = None
            if rng.random() < 0.6:
                other = f"{self.name}b"
                second = base(rng)
                second["endpoints"] = [self._dead() if rng.random() < 0.2 else self._live(2)]
                self.services[other] = second
            service["fallback"] = fallback_steps(rng, other)
            if rng.random() < 0.3:
                breaker["volume_threshold"] = rng.choice((2, 4))
                breaker["reset_timeout"] = breaker["max_reset_timeout"] = FOREVER
        elif flavour == "stale":
            service["fallback"] = [{"stale": "10m"}]
            if rng.random() < 0.4:
                service["fallback"][0]["key_headers"] = ["authorization", "x-tenant"]
        elif flavour == "concurrency":
            service["limits"]["max_concurrent"] = rng.choice((1, 2))
        elif flavour == "connections":
            service["limits"]["max_connections"] = 1
        elif flavour == "timeouts":
            service["timeout"].update(attempt="400ms", request=rng.choice(("700ms", "3s")), idle="400ms")
        elif flavour == "impatience":
            service["impatience"] = "count"
        elif flavour == "half_close":
            service["half_close"] = True
        elif flavour == "aggregate":
            self._aggregate(service)
        elif flavour == "hash":
            service["endpoints"] = [self._live(at) for at in range(3)]
            service["balancer"] = {
                "hash": rng.choice(({"header": "X-User"}, {"cookie": "sid"}, {"query": "user"}, {"source": True}))
            }
        elif flavour == "balancer":
            self.loose = True
            service["endpoints"] = [{"url": self._live(at), "weight": rng.choice((1, 2))} for at in range(3)]
            service["balancer"] = rng.choice(("round_robin", "least_request", "peak_ewma", "random"))
        elif flavour == "broken":
            service["endpoints"] = [self._dead()]
        elif flavour == "budget":
            service["retry"]["budget"] = {"ratio": 0, "min_per_second": 0}

    def _aggregate(self, service: dict[str, Any]) -> None:
        rng = self._rng
        other = f"{self.name}b"
        second = base(rng)
        second["endpoints"] = [self._dead() if rng.random() < 0.15 else self._live(2)]
        if rng.random() < 0.3:
            second["fallback"] = fallback_steps(rng, None)
        self.services[other] = second
        parts: dict[str, Any] = {}
        for at in range(rng.choice((1, 2, 3))):
            part: dict[str, Any] = {"service": rng.choice((self.name, other))}
            part["path"] = rng.choice((f"/p{at}", f"/p{at}/{{query.id}}", f"/p{at}?venue={{query.id}}&x=1"))
            dead = second["endpoints"] == [self._dead()] and part["service"] == other
            if rng.random() < 0.4 and not dead:  # it would fail while the others are under way or done, by chance
                part["required"] = True
                if rng.random() < 0.5:
                    part["pass_status"] = [401, 404, 503]
            parts[f"part{at}"] = part
        self.aggregates[f"a{self._number}"] = {"timeout": "6s", "parts": parts}
