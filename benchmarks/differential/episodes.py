"""Episodes out of a seed: the same seed, round and number give the same episode, on every machine."""

from __future__ import annotations

from random import Random
from typing import Final

from benchmarks.differential.policies import Policies, endpoint, pick_flavour
from benchmarks.differential.requests import IDEMPOTENT
from benchmarks.differential.scenes import Stage, scenes_for
from benchmarks.differential.scripts import Episode

SCENES: Final = 60


def make_episode(seed: int, round_number: int, number: int, port: int, scenes: int = SCENES) -> Episode:
    """The episode; `port` is that of the upstreams."""
    rng = Random(f"{seed}/{round_number}/{number}")
    flavour = pick_flavour(rng)
    policies = Policies(rng, number, flavour, port)
    service = policies.services[policies.name]
    stage = Stage(rng, number, policies.name, endpoint(number, 0), port, service.get("hosts", []))
    stage.keyed = flavour == "hash"
    stage.repeatable = _repeatable(policies)
    return Episode(
        number=number,
        flavour=flavour,
        services=policies.services,
        aggregates=policies.aggregates,
        addresses=frozenset(policies.addresses),
        scenes=scenes_for(stage, flavour, scenes),
        alike=policies.alike,
        loose=policies.loose,
    )


def _repeatable(policies: Policies) -> frozenset[str]:
    """The methods that some service or route of the episode may send again."""
    found = set(IDEMPOTENT)
    for service in policies.services.values():
        for policy in (service, *service.get("routes", ())):
            found |= set(policy.get("retry", {}).get("methods", ()))
    return frozenset(found)
