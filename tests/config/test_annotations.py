"""What the structs say about keys and types."""

from __future__ import annotations

from msgspec import Struct

from sidecar.config import schema
from sidecar.config.annotations import fields_of, is_group, kind_of, unwrapped
from sidecar.policy import settings


def test_keys_come_in_the_order_of_the_struct() -> None:
    assert list(fields_of(settings.Backoff)) == ["base", "max"]


def test_groups_are_mappings_and_addresses_are_strings() -> None:
    assert is_group(settings.Timeouts)
    assert is_group(schema.Match)
    for hint in (schema.Url, schema.Address, int, settings.Duration, tuple[schema.EndpointSpec, ...]):
        assert not is_group(hint)


def test_kinds_and_bounds_are_read_from_the_annotation() -> None:
    base, meta = unwrapped(settings.Duration)
    assert (base, kind_of(meta)) == (float, "duration")
    base, meta = unwrapped(settings.Percentage)
    assert (base, kind_of(meta), meta.gt, meta.le) == (float, None, 0, 100)
    assert unwrapped(bool)[0] is bool


def test_every_policy_key_has_a_default() -> None:
    """What the file need not say, the structs must know."""

    def defaulted(struct: type[Struct]) -> None:
        struct()
        for hint in fields_of(struct).values():
            if is_group(hint):
                defaulted(hint)

    for struct in (settings.Policy, schema.Listen, schema.Log, schema.Drain):
        defaulted(struct)
