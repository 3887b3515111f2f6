"""What tests/kubernetes/test_patch.py does not see: the parts by themselves."""

from __future__ import annotations

import pytest

from sidecar.kubernetes.containers import DRAIN_S, config_volume, container, prestop_s, token_volume
from sidecar.kubernetes.quantity import Resources
from sidecar.kubernetes.settings import InjectorSettings
from sidecar.policy.settings import Timeouts


@pytest.mark.parametrize(("grace_s", "expected"), [(0, 0), (1, 0), (2, 1), (29, 14), (30, 15), (31, 16), (120, 105)])
def test_what_the_hook_may_take(grace_s: int, expected: int) -> None:
    assert prestop_s(grace_s) == expected
    assert grace_s - prestop_s(grace_s) >= min(DRAIN_S, grace_s // 2)


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
