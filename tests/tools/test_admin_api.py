"""docs/reference/admin-api.md has every operation and every shape, with links between them."""

from __future__ import annotations

import re

from sidecar.admin.openapi import document
from tools.docs.admin_api import page

PAGE = page()
API = document()
PARTS = {name: text for name, _, text in (part.partition("`\n") for part in PAGE.split("### `")[1:])}


def test_every_operation_and_every_shape_is_there() -> None:
    operations = [f"{method.upper()} {path}" for path, methods in API["paths"].items() for method in methods]
    assert list(PARTS) == [*operations, *sorted(API["components"]["schemas"])]


def test_every_member_is_there() -> None:
    for name, schema in API["components"]["schemas"].items():
        assert re.findall(r"^\| `(\w+)` ", PARTS[name], re.MULTILINE) == list(schema.get("properties", {})), name


def test_what_an_operation_says() -> None:
    responses = API["paths"]["/services/{name}/breaker"]["post"]["responses"]
    assert PARTS["POST /services/{name}/breaker"].splitlines()[3:] == [
        "- takes [`ForceBreaker`](#forcebreaker)",
        "- answers 200 with [`BreakerDetail`](#breakerdetail)",
        f"- answers 404: {responses['404']['description']}",
        f"- answers 409: {responses['409']['description']}",
        "",
    ]
    assert "- `?target=`, required\n" in PARTS["GET /explain"]


def test_what_a_shape_says() -> None:
    assert "| `for` | a string; `5m` without it |\n" in PARTS["ForceBreaker"]
    assert "| `forced_until` | a time or `null` |\n" in PARTS["Breaker"]
    assert "| `services` | a list of [`Service`](#service) |\n" in PARTS["Services"]
