"""What tests/kubernetes/test_patch.py does not see: the parts by themselves."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.config.schema import Drain
from sidecar.kubernetes.containers import (
    DRAIN_S,
    LONG_GRACE_S,
    config_volume,
    container,
    is_ours,
    prestop_s,
    token_volume,
)
from sidecar.kubernetes.quantity import Resources
from sidecar.kubernetes.settings import InjectorSettings
from sidecar.policy.settings import Timeouts


@pytest.mark.parametrize(
    ("grace_s", "expected"),
    [(0, 0), (1, 0), (2, 1), (10, 5), (16, 8), (29, 8), (30, 8), (31, 9), (120, 98), (2**62, 86400)],
)
def test_what_the_hook_may_take(grace_s: int, expected: int) -> None:
    assert prestop_s(grace_s) == expected
    assert grace_s - prestop_s(grace_s) >= min(DRAIN_S, grace_s // 2)


def test_draining_has_as_long_as_it_may_take() -> None:
    assert Drain().delay + Drain().timeout == DRAIN_S
    assert all(grace_s - prestop_s(grace_s) > DRAIN_S for grace_s in range(LONG_GRACE_S, 400))


@pytest.mark.parametrize("native", [True, False])
def test_only_a_sidecar_that_hangs_has_a_short_end(native: bool) -> None:
    """The API server refuses the key on a readiness probe."""
    made = container(InjectorSettings(native=native), log_level="", grace_s=30, config_volume="c", token_volume="")
    probes = {name: one for name, one in made.items() if name.endswith("Probe")}
    assert len(probes) == 3
    assert {name: one.get("terminationGracePeriodSeconds") for name, one in probes.items()} == {
        "startupProbe": None,
        "livenessProbe": 5,
        "readinessProbe": None,
    }


def test_what_is_ours_is_known_by_its_name_and_its_port() -> None:
    made = container(InjectorSettings(), log_level="", grace_s=30, config_volume="c", token_volume="")
    assert is_ours(made)
    assert is_ours(made | {"args": None, "startupProbe": None})
    assert not is_ours(made | {"name": "other"})
    assert not is_ours(made | {"ports": None})
    assert not is_ours({"name": "sidecar", "ports": [{"name": "sidecar-probe", "containerPort": 80}]})


@pytest.mark.parametrize(
    ("shared", "expected"),
    [
        ({"cpu", "memory"}, {}),
        ({"cpu"}, {"requests": {"memory": "64Mi"}, "limits": {"memory": "256Mi"}}),
        ({"memory"}, {"requests": {"cpu": "50m"}}),
    ],
)
def test_what_the_pod_as_a_whole_has_is_shared(shared: set[str], expected: dict[str, Any]) -> None:
    made = container(
        InjectorSettings(), log_level="", grace_s=30, config_volume="c", token_volume="", shared=frozenset(shared)
    )
    assert made["resources"] == expected


def test_limits_are_there_where_there_are_some() -> None:
    settings = InjectorSettings(cpu=Resources("1"), memory=Resources("64Mi"))
    made = container(settings, log_level="", grace_s=30, config_volume="c", token_volume="")
    assert made["resources"] == {"requests": {"cpu": "1", "memory": "64Mi"}}
    assert "env" not in made
    assert [one["name"] for one in made["volumeMounts"]] == ["c"]


def test_volumes() -> None:
    assert config_volume(InjectorSettings(config_map="m"), "v") == {"name": "v", "configMap": {"name": "m"}}
    sources = token_volume("t")["projected"]["sources"]
    assert sources[0]["serviceAccountToken"] == {"path": "token", "expirationSeconds": 3607}


def test_a_request_that_waits_for_its_answer_is_longer_than_what_is_called_idle() -> None:
    """`--idle` counts from the last answer, so a slow call is no silence: it is in flight."""
    assert Timeouts().attempt > 2
