"""What the structs say about keys and types."""

from __future__ import annotations

from msgspec import Struct

from sidecar.config import schema
from sidecar.config.annotations import (
    fields_of,
    forms_of,
    group_of,
    is_group,
    keys_below,
    kind_of,
    may_be_none,
    required_keys,
    scalar_hint,
    unwrapped,
)
from sidecar.policy import settings


def test_keys_come_in_the_order_of_the_struct() -> None:
    assert list(fields_of(settings.Backoff)) == ["base", "max"]


def test_groups_are_mappings_and_addresses_are_strings() -> None:
    assert is_group(settings.Timeouts)
    assert is_group(schema.Match)
    for hint in (schema.Url, schema.Address, int, settings.Duration, tuple[schema.EndpointSpec, ...]):
        assert not is_group(hint)


def test_a_group_that_may_be_off_is_one_all_the_same() -> None:
    policy = fields_of(settings.Policy)
    assert group_of(policy["timeout"]) is settings.Timeouts
    assert group_of(policy["outlier"]) is settings.OutlierSettings
    assert [may_be_none(policy[key]) for key in ("timeout", "outlier", "slow_start")] == [False, True, True]
    assert [group_of(policy[key]) for key in ("balancer", "slow_start", "preserve_host")] == [None, None, None]
    assert group_of(fields_of(schema.Service)["discovery"]) is None


def test_forms_are_found_by_their_tags() -> None:
    balancer, discovery = fields_of(settings.Policy)["balancer"], fields_of(schema.Service)["discovery"]
    assert forms_of(balancer) == {"hash": settings.HashSettings}
    assert forms_of(discovery) == {"dns": settings.DnsSettings, "kubernetes": settings.KubernetesSettings}
    assert (scalar_hint(balancer), scalar_hint(discovery)) == (settings.BalancerWord, None)
    assert forms_of(settings.Timeouts) == {}
    # Below its tag a form is a group like any other.
    assert (forms_of(settings.HashSettings), group_of(settings.HashSettings)) == ({}, settings.HashSettings)
    assert scalar_hint(fields_of(settings.HealthSettings)["path"]) == settings.Target


def test_the_keys_below_a_key() -> None:
    assert list(keys_below(fields_of(settings.Policy)["balancer"])) == ["hash"]
    assert list(keys_below(settings.Backoff)) == ["base", "max"]
    assert list(keys_below(settings.Duration)) == []


def test_required_keys_have_no_default() -> None:
    assert required_keys(settings.KubernetesSettings) == ("service",)
    assert required_keys(settings.Policy) == ()


def test_kinds_and_bounds_are_read_from_the_annotation() -> None:
    base, meta = unwrapped(settings.Duration)
    assert (base, kind_of(meta)) == (float, "duration")
    base, meta = unwrapped(settings.Percentage)
    assert (base, kind_of(meta), meta.gt, meta.le) == (float, "percentage", 0, 100)
    base, meta = unwrapped(settings.Count)
    assert (base, kind_of(meta), meta.ge) == (int, None, 0)
    assert unwrapped(bool)[0] is bool


def test_every_policy_key_has_a_default() -> None:
    """What the file need not say, the structs must know."""

    def defaulted(struct: type[Struct]) -> None:
        struct()
        for hint in fields_of(struct).values():
            if group := group_of(hint):
                defaulted(group)

    for struct in (settings.Policy, schema.Listen, schema.Log, schema.Drain):
        defaulted(struct)
