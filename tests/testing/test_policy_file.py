"""The file that the sidecar of the tests runs on, held against the sidecar's own reading of it and of the app's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sidecar.config.load import load
from sidecar.config.schema import Config
from sidecar.testing.errors import FakeError
from sidecar.testing.policy_file import (
    Tree,
    for_tests,
    grpc_fake,
    http_fake,
    merged,
    read_app_file,
    speaks_grpc,
    with_fakes,
    write,
)

ROOT = Path(__file__).resolve().parents[2]
LISTEN: Tree = {"proxy": ["127.0.0.1:1"], "admin": "127.0.0.1:2", "probe": "127.0.0.1:3"}


def config_of_tests(folder: Path, app: Path, overrides: dict[str, Tree] | None = None) -> Config:
    """What the sidecar makes of it, with a fake for each service."""
    tree = for_tests(read_app_file(app), app.parent)
    ports = {name: 5000 + number for number, name in enumerate(tree["services"])}
    write(
        folder / "tests.yaml",
        LISTEN,
        with_fakes(tree, {name: http_fake(port) for name, port in ports.items()}, overrides or {}),
    )
    return load(folder / "tests.yaml", {})


def app_file(folder: Path, text: str) -> Path:
    path = folder / "sidecar.yaml"
    path.write_text(text)
    return path


def test_the_reference_file_keeps_its_policies(tmp_path: Path) -> None:
    original = load(ROOT / "config" / "sidecar.yaml", {})
    of_tests = config_of_tests(tmp_path, ROOT / "config" / "sidecar.yaml")
    assert of_tests.defaults == original.defaults
    assert of_tests.aggregates == original.aggregates
    assert list(of_tests.services) == list(original.services)
    for number, (name, service) in enumerate(of_tests.services.items()):
        assert service.policy == original.services[name].policy
        assert [str(endpoint.url) for endpoint in service.endpoints] == [f"http://127.0.0.1:{5000 + number}"]


APP = """
listen: {proxy: "0.0.0.0:80"}
admin: {token_file: /nowhere}
checks: {redis: {url: "redis://cache:6379"}}
tracing: {otlp: "http://collector:4318"}
defaults: &base
  breaker: {mode: off}
  health: {path: /health}
services:
  venue:
    url: ${VENUE_URL}
    hosts: [venue-service]
    health: {path: /up}
    timeout: &short {attempt: 250ms}
    fallback: [{status: 200, file: none.json}]
    routes:
      - match: {path: /reports, methods: [POST]}
        breaker: {mode: observe}
        fallback: [{status: 200, file: none.json}]
  payment:
    discovery: {dns: payment.internal, type: SRV}
    timeout:
      <<: *short
      request: 017s
  empty: {endpoints: ["http://10.0.0.7:3002", {url: "http://10.0.0.8:3002", weight: 2}]}
"""


def test_what_belongs_to_where_it_runs_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "none.json").write_text("[]")
    config = config_of_tests(tmp_path, app_file(tmp_path / "app", APP))
    venue, payment = config.services["venue"], config.services["payment"]
    assert config.checks == {}
    assert config.tracing is None
    assert config.admin.token_file is None
    assert venue.policy.health is None
    assert config.defaults.health is None
    assert payment.discovery is None
    assert [len(service.endpoints) for service in config.services.values()] == [1, 1, 1]


def test_what_says_how_calls_are_made_is_kept(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "none.json").write_text("[]")
    config = config_of_tests(tmp_path, app_file(tmp_path / "app", APP))
    venue, payment = config.services["venue"], config.services["payment"]
    assert venue.hosts == ("venue-service",)
    assert venue.policy.timeout.attempt == payment.policy.timeout.attempt == 0.25
    assert payment.policy.timeout.request == 17.0
    assert payment.policy.breaker.mode == "off"
    assert venue.routes[0].policy.breaker.mode == "observe"
    assert venue.policy.fallback is not None


def test_a_test_goes_over_the_file_key_by_key(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "none.json").write_text("[]")
    overrides: dict[str, Tree] = {"venue": {"timeout": {"request": "1s"}, "fallback": "off", "half_close": True}}
    venue = config_of_tests(tmp_path, app_file(tmp_path / "app", APP), overrides).services["venue"]
    assert (venue.policy.timeout.attempt, venue.policy.timeout.request) == (0.25, 1.0)
    assert venue.policy.half_close is True


def test_merging_leaves_both_sides_as_they_were() -> None:
    below: Tree = {"retry": {"on": [1, 2], "max_retries": 1}, "x": "y"}
    over: Tree = {"retry": {"on": [3]}, "x": {"z": 1}}
    assert merged(below, over) == {"retry": {"on": [3], "max_retries": 1}, "x": {"z": 1}}
    assert below["retry"]["on"] == [1, 2]
    assert over["retry"] == {"on": [3]}


def test_without_fakes_nothing_is_named(tmp_path: Path) -> None:
    write(tmp_path / "tests.yaml", LISTEN, with_fakes({"aggregates": {"a": {}}, "services": {"venue": {}}}, {}, {}))
    assert load(tmp_path / "tests.yaml", {}).services == {}


def test_what_a_test_writes_reaches_the_sidecar_as_it_is(tmp_path: Path) -> None:
    body = 'a "quoted" ${word} ä €\n\t☃'
    fallback = [{"status": 200, "body": body.replace("${", "$${")}]
    write(
        tmp_path / "tests.yaml", LISTEN, with_fakes(None, {"venue": http_fake(5000)}, {"venue": {"fallback": fallback}})
    )
    (step,) = load(tmp_path / "tests.yaml", {}).services["venue"].policy.fallback
    assert step.body == body.encode()  # type: ignore[union-attr]


def test_the_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "tests.yaml"
    write(path, LISTEN, {"services": {}})
    with path.open() as before:
        write(path, LISTEN, {"services": {"venue": {}}})
        assert json.load(before)["services"] == {}
    assert [one.name for one in tmp_path.iterdir()] == ["tests.yaml"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("services: [", "is not YAML"),
        ("services: []", "has no services"),
        ("", "has no services"),
        ("defaults: {}", "has no services"),
    ],
)
def test_what_is_no_configuration_at_all(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(FakeError, match=f"^sidecar_config: .*{words}"):
        read_app_file(app_file(tmp_path, text))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FakeError, match="cannot be read: No such file"):
        read_app_file(tmp_path / "sidecar.yaml")


def test_a_fake_that_speaks_grpc_is_found_by_what_it_claims_unless_the_file_says_what() -> None:
    app: Tree = {"services": {"shop": {"grpc": ["shop.v1.*"]}, "venue": {}}}
    fakes = {"shop": grpc_fake(5000, ["shop.v1.Cart"]), "venue": grpc_fake(5001, ["shop.v1.Venue"])}
    found = with_fakes(app, fakes, {})["services"]
    assert found == {
        "shop": {"url": "grpc://127.0.0.1:5000", "grpc": ["shop.v1.*"]},
        "venue": {"url": "grpc://127.0.0.1:5001", "grpc": ["shop.v1.Venue"]},
    }
    assert grpc_fake(5000, []) == {"url": "grpc://127.0.0.1:5000"}


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        ({"url": "grpc://shop:50051"}, True),
        ({"url": "${SHOP_URL:-grpc://shop:50051}"}, True),
        ({"endpoints": [{"url": "grpc://10.0.0.7:50051", "weight": "2"}]}, True),
        ({"url": "h2c://shop:50051", "grpc": ["shop.v1.Venue"]}, True),
        ({"url": "h2c://shop:50051"}, False),
        ({"url": "http://shop:3000"}, False),
        ("http://shop:3000", False),
    ],
)
def test_the_file_says_who_speaks_grpc(service: object, expected: bool) -> None:
    assert speaks_grpc(service) is expected


def test_what_the_file_says_of_the_wire_is_left_out(tmp_path: Path) -> None:
    shop = {"url": "https://shop", "protocol": "h2", "tls": {"ca_file": "ca.pem"}, "grpc": ["shop.v1.*"]}
    found = for_tests({"services": {"shop": shop}, "defaults": {"tls": {"verify": "off"}}}, tmp_path)
    assert found == {"services": {"shop": {"grpc": ["shop.v1.*"]}}, "defaults": {}}
