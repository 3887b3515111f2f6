"""Trees of settings, flattened and compared."""

from __future__ import annotations

from sidecar.cli.settings_tree import Change, changes, hides, leaves, with_heirs
from tests.cli.fake_admin import leaf


def test_leaves_have_their_path() -> None:
    tree = {"log": {"level": leaf("info")}, "services": {"a.b": {"hosts": leaf([])}}, "tracing": leaf("off")}
    assert [key for key, _ in leaves(tree)] == ["log.level", "services.a.b.hosts", "tracing"]


def test_what_differs_and_what_needs_a_restart() -> None:
    old = {"log": {"level": leaf("info")}, "listen": {"admin": leaf("a:1")}, "drain": {"delay": leaf("1s")}}
    new = {"log": {"level": leaf("debug", "file", 3)}, "listen": {"admin": leaf("a:2")}, "drain": {"delay": leaf("1s")}}
    listen, log = changes(old, new)
    assert (listen.key, listen.needs_restart) == ("listen.admin", True)
    assert log == Change("log.level", leaf("info"), leaf("debug", "file", 3))
    assert not log.needs_restart


def test_an_origin_alone_is_no_change() -> None:
    assert changes({"a": {"b": leaf(1)}}, {"a": {"b": leaf(1, "defaults", 3)}}) == []


def test_a_group_that_is_turned_on() -> None:
    old, new = {"defaults": {"outlier": leaf("off")}}, {"defaults": {"outlier": {"interval": leaf("10s")}}}
    assert [(change.key, change.old is None, change.new is None) for change in changes(old, new)] == [
        ("defaults.outlier", False, True),
        ("defaults.outlier.interval", True, False),
    ]


def test_a_service_that_comes_or_goes_is_one_change() -> None:
    one = {"hosts": leaf([]), "required": leaf(value=False)}
    old = {"services": {"a": one, "b": one}, "checks": {}}
    new = {"services": {"a": one, "c": one}}
    gone, come = changes(old, new)
    assert (gone.key, gone.whole, gone.new) == ("services.b", True, None)
    assert (come.key, come.whole, come.old) == ("services.c", True, None)


def test_what_is_only_inherited_is_counted_where_it_is_set() -> None:
    def policy(value: str) -> dict[str, object]:
        return {"timeout": {"attempt": leaf(value)}}

    def tree(value: str, own: str) -> dict[str, object]:
        venue = policy(value) | {"routes[0]": policy(value), "routes[1]": policy("9s")}
        auth = policy(own) | {"routes[0]": policy(own)}
        return {"defaults": policy(value), "services": {"ve.nue": venue, "auth": auth}}

    found = changes(tree("1s", "5s"), tree("2s", "6s"))
    assert len(found) == 5
    assert [(change.key, heirs) for change, heirs in with_heirs(found)] == [
        ("defaults.timeout.attempt", 2),
        ("services.auth.timeout.attempt", 1),
    ]


def test_whether_something_is_hidden() -> None:
    assert hides({"a": {"b": leaf("x")}, "c": leaf([{"path": "/x?***"}])})
    assert hides({"a": leaf({"X-Key": "***"})})
    assert not hides({"a": leaf(5), "b": leaf([{"path": "/*"}, None])})
