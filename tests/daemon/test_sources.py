"""Discovery sources: which service is watched by what, from one configuration to the next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

import sidecar.daemon.sources
from sidecar.config.schema import Config, EndpointSpec, Service, Url
from sidecar.daemon.sources import Sources
from sidecar.discovery.addresses import Resolver
from sidecar.policy.settings import DnsSettings, HealthSettings, KubernetesSettings, Policy, Timeouts
from sidecar.runtime.live import Live

ADDRESSES = {"venue-service": ["10.0.0.1", "10.0.0.2"], "auth-service": ["10.0.1.1"], "other-service": ["10.0.2.1"]}


class Names:
    """A name server controlled by the test: `slow` names are answered when `gate` is set."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.slow: set[str] = set()
        self.gate = asyncio.Event()

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        if host in self.slow:
            await self.gate.wait()
        if host not in ADDRESSES:
            raise OSError("no such name")
        return ADDRESSES[host]


def service(name: str, host: str = "", port: int = 80, **policy: Any) -> Service:
    url = Url("http", host or f"{name}-service", port)
    return Service(name=name, endpoints=(EndpointSpec(url=url),), policy=Policy(**policy))


class Stage:
    def __init__(self, names: Names, *services: Service) -> None:
        self.names = names
        self.live = Live(self.config(*services), asyncio.get_running_loop().time(), lambda: 0.0)
        self.sources = Sources(self.live, asyncio.get_running_loop())

    @staticmethod
    def config(*services: Service) -> Config:
        return Config(services={one.name: one for one in services})

    def adopt(self, *services: Service) -> None:
        self.live.adopt(self.config(*services), asyncio.get_running_loop().time())
        self.sources.adopt()

    def addresses(self, name: str) -> list[str]:
        return [endpoint.address for endpoint in self.live.services[name].endpoints]

    def labels(self, name: str) -> list[str]:
        return [endpoint.label for endpoint in self.live.services[name].endpoints]


@pytest.fixture
async def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    names = Names()
    monkeypatch.setattr(sidecar.daemon.sources, "Resolver", lambda: Resolver(resolve=names))
    return names


@pytest.fixture
async def stage(names: Names) -> AsyncIterator[Stage]:
    stage = Stage(names, service("venue"), service("auth"))
    await stage.sources.ready(1.0)
    yield stage
    await stage.sources.close()


async def test_each_service_has_the_addresses_of_its_names(stage: Stage) -> None:
    assert stage.addresses("venue") == ["10.0.0.1", "10.0.0.2"]
    assert stage.addresses("auth") == ["10.0.1.1"]
    assert sorted(stage.names.asked) == ["auth-service", "venue-service"]


async def test_an_unchanged_watch_is_not_looked_up_again(stage: Stage) -> None:
    endpoints = stage.live.services["venue"].endpoints
    views = stage.sources.views_of("venue")
    stage.adopt(service("auth"), service("venue", timeout=Timeouts(idle=5.0)))
    await stage.sources.ready(1.0)
    assert stage.live.services["venue"].endpoints is endpoints
    assert stage.sources.views_of("venue") is views
    assert len(stage.names.asked) == 2


async def test_another_protocol_makes_other_endpoints(stage: Stage) -> None:
    before = stage.live.services["venue"].endpoints
    stage.adopt(service("auth"), replace(service("venue"), protocol="h2"))
    after = stage.live.services["venue"].endpoints
    assert [one.h2 for one in (*before, *after)] == [False, False, True, True]
    assert stage.labels("venue") == ["10.0.0.1:80", "10.0.0.2:80"]
    assert len(stage.names.asked) == 2


async def test_another_port_at_a_known_name_is_there_at_once(stage: Stage) -> None:
    stage.adopt(service("venue", port=81), service("auth"))
    assert stage.labels("venue") == ["10.0.0.1:81", "10.0.0.2:81"]
    assert len(stage.names.asked) == 2


async def test_the_endpoints_stay_until_a_new_name_is_resolved(stage: Stage) -> None:
    stage.names.slow.add("other-service")
    stage.adopt(service("venue", "other-service"), service("auth"))
    await asyncio.sleep(0)
    assert stage.addresses("venue") == ["10.0.0.1", "10.0.0.2"]
    stage.names.gate.set()
    await stage.sources.ready(1.0)
    assert stage.addresses("venue") == ["10.0.2.1"]
    assert [name for name, _ in stage.sources.views()] == ["venue", "auth"]


async def test_old_endpoints_that_stay_are_logged(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    stage.names.slow.add("other-service")
    assert not stage.live.services["venue"].outdated
    stage.adopt(service("venue", "other-service"), service("auth"), service("new", "nowhere"))
    assert stage.live.services["venue"].outdated
    assert not stage.live.services["auth"].outdated
    assert not stage.live.services["new"].outdated, "it has none at all"
    warned = [record for record in caplog.records if "keeps its old endpoints" in record.getMessage()]
    assert [(one.levelname, one.kind, one.fields) for one in warned] == [  # type: ignore[attr-defined]
        ("WARNING", "discovery", {"service": "venue", "source": "name", "name": "other-service"})
    ]
    stage.names.gate.set()
    await stage.sources.ready(1.0)
    assert stage.addresses("venue") == ["10.0.2.1"]
    assert not stage.live.services["venue"].outdated


async def test_going_back_to_a_known_name_ends_outdated(stage: Stage) -> None:
    stage.adopt(service("venue", "nowhere"), service("auth"))
    stage.adopt(service("venue", "nowhere", timeout=Timeouts(idle=5.0)), service("auth"))
    assert stage.live.services["venue"].outdated, "another reload changes nothing about that"
    stage.adopt(service("venue"), service("auth"))
    await stage.sources.ready(1.0)
    assert not stage.live.services["venue"].outdated
    stage.adopt(service("venue", port=81), service("auth"))
    assert not stage.live.services["venue"].outdated


async def test_the_old_name_is_no_longer_watched(stage: Stage) -> None:
    stage.adopt(service("auth"))
    assert stage.sources.views_of("venue") == ()
    assert stage.sources.resolver.addresses("venue-service") == []
    stage.adopt(service("auth"), service("venue"))
    await stage.sources.ready(1.0)
    assert stage.names.asked.count("venue-service") == 2
    assert stage.addresses("venue") == ["10.0.0.1", "10.0.0.2"]


async def test_names_looked_up_ahead_are_known_when_a_service_watches_them(stage: Stage) -> None:
    wanted = service("other")
    async with stage.sources.known_ahead(stage.config(wanted), 1.0):
        stage.adopt(wanted)
        assert stage.addresses("other") == ["10.0.2.1"]
    assert stage.names.asked.count("other-service") == 1
    assert stage.sources.resolver.addresses("venue-service") == []


@pytest.mark.parametrize("host", ["nowhere", "other-service"])
async def test_an_unknown_name_does_not_delay_a_reload(stage: Stage, host: str) -> None:
    stage.names.slow.add("other-service")
    began = asyncio.get_running_loop().time()
    async with stage.sources.known_ahead(stage.config(service("venue", host)), 0.02):
        assert asyncio.get_running_loop().time() - began < 1.0
    stage.names.gate.set()
    assert stage.sources.resolver.addresses(host) == []


async def test_a_service_that_will_keep_its_endpoints_gives_a_warning(stage: Stage) -> None:
    two = (EndpointSpec(url=Url("http", "nowhere", 1)), EndpointSpec(url=Url("http", "lost", 1)))
    half = (EndpointSpec(url=Url("http", "nowhere", 1)), EndpointSpec(url=Url("http", "10.0.0.1", 1)))
    keeps = "services.venue keeps its old endpoints until {} can be resolved"
    for wanted, expected in (
        (service("venue", "nowhere"), [keeps.format("nowhere")]),
        (replace(service("venue"), endpoints=two), [keeps.format("nowhere, lost")]),
        (replace(service("venue"), endpoints=half), []),
        (service("venue", "other-service"), []),
        (service("venue"), []),
        (service("new", "nowhere"), []),
        (replace(service("venue"), endpoints=(), discovery=DnsSettings(name="nowhere", port=1)), []),
    ):
        async with stage.sources.known_ahead(stage.config(wanted), 1.0) as warned:
            assert list(warned) == expected


async def test_counts_do_not_fall_when_a_source_is_replaced(stage: Stage) -> None:
    found = replace(service("venue"), endpoints=(), discovery=DnsSettings(name="localhost", port=1, refresh=2.0))
    stage.adopt(found)
    (first,) = stage.sources.views_of("venue")
    first.successes = 5  # type: ignore[attr-defined]
    stage.adopt(replace(found, discovery=DnsSettings(name="localhost", port=1, refresh=3.0)))
    (second,) = stage.sources.views_of("venue")
    assert second is not first
    assert second.updates["success"] >= 5
    stage.adopt(replace(found, discovery=DnsSettings(name="other", port=1, refresh=3.0)))
    assert stage.sources.views_of("venue")[0].updates["success"] == 0


async def test_shared_counts_of_a_name_are_not_added_twice(stage: Stage) -> None:
    stage.adopt(service("venue", port=81), service("auth"))
    assert stage.sources.views_of("venue")[0].updates == {"success": 1, "failure": 0}


async def test_a_watch_that_fails_to_start_leaves_the_others(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    follow = stage.sources._follow

    def fails(of: Any) -> Any:
        if of.name == "other":
            raise RuntimeError("half way")
        return follow(of)

    monkeypatch.setattr(stage.sources, "_follow", fails)
    with pytest.raises(RuntimeError):
        stage.adopt(service("venue", port=81), service("auth"), service("other"))
    stage.adopt(service("venue"), service("auth"))
    assert stage.labels("venue") == ["10.0.0.1:80", "10.0.0.2:80"]
    assert not stage.live.services["venue"].outdated
    assert [name for name, _ in stage.sources.views()] == ["venue", "auth"]
    watches = [watch for name in stage.sources.resolver._names.values() for watch in name.watches]
    assert len(watches) == 2


async def test_a_service_may_change_its_kind_of_source(stage: Stage) -> None:
    settings = KubernetesSettings(service="venue", namespace="default", server="http://127.0.0.1:1")
    found = replace(service("venue"), endpoints=(), discovery=settings)
    stage.adopt(found, service("auth"))
    assert stage.addresses("venue") == ["10.0.0.1", "10.0.0.2"], "until it has found something"
    assert [view.kind for view in stage.sources.views_of("venue")] == ["kubernetes"]
    stage.adopt(service("venue"), service("auth"))
    await stage.sources.ready(1.0)
    assert [view.kind for view in stage.sources.views_of("venue")] == ["name"]
    assert stage.addresses("venue") == ["10.0.0.1", "10.0.0.2"]


@pytest.mark.parametrize(
    ("health", "rest_s"),
    [
        (None, 60.0),
        (HealthSettings(path="/", idle_interval=30.0), 30.0),
        (HealthSettings(path="/", idle_interval=240.0), 240.0),
        (HealthSettings(path="/", idle_interval=3600.0), 240.0),
    ],
)
async def test_idle_names_rest_as_long_as_checks_and_never_until_the_alert(
    names: Names, health: HealthSettings | None, rest_s: float
) -> None:
    """SidecarDiscoveryStale takes addresses of 300 s for stale."""
    stage = Stage(names, service("venue", health=health))
    live = stage.live.services["venue"]
    rest = stage.sources._rest(live)
    live.is_idle = lambda *_: True  # type: ignore[method-assign]
    assert rest() == rest_s
    live.is_idle = lambda *_: False  # type: ignore[method-assign]
    assert rest() == 0.0
    await stage.sources.close()
