"""Services on a stage, for the tests of the chain: what a live one shows, set by hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sidecar.config.schema import Service
from sidecar.health.active import Result
from sidecar.policy.settings import BreakerSettings, HealthSettings, Policy, TlsSettings


@dataclass
class Breaker:
    state: str = "closed"
    due_in_s: float = 30.0

    def peek(self, now: float) -> str:
        if self.state == "closed":
            return "admit"
        return "refuse" if self.state == "open" and self.due_in_s > 0 else "probe"


@dataclass(eq=False)
class Endpoint:
    """`healthy`: and not skipped; `available`: it gets requests; `says` is the reason of its answer."""

    name: str = "a"
    healthy: bool = True
    available: bool = True
    says: str = "ok"
    address: str = "10.0.0.7"
    port: int = 3002
    tls: bool = False
    h2: bool = False
    server_name: str = "venue-service"
    authority: bytes = b"venue-service:3002"


@dataclass
class StageService:
    """A service with these endpoints; it has a `health.path` where `path` is set."""

    endpoints: list[Endpoint] = field(default_factory=lambda: [Endpoint()])
    name: str = "venue"
    path: str | None = None
    required: bool = False
    mode: Any = "enforce"
    outdated: bool = False
    breakers: list[Breaker] = field(default_factory=lambda: [Breaker()])

    @property
    def config(self) -> Service:
        health = HealthSettings(path=self.path) if self.path else None
        policy = Policy(breaker=BreakerSettings(mode=self.mode), health=health)
        return Service(name=self.name, policy=policy, required=self.required)

    @property
    def present(self) -> list[tuple[Endpoint, bool]]:
        return [(endpoint, endpoint.healthy) for endpoint in self.endpoints]


class Asker:
    """Stands for `Checks.check`: an endpoint answers what it `says`; who was asked is noted."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, target: Any, settings: HealthSettings, tls: TlsSettings) -> Result:
        assert settings.path is not None
        self.asked.append(target.name)
        return Result(target.says == "ok", target.says, 0.0021)
