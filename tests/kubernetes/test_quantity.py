from __future__ import annotations

import pytest

from sidecar.kubernetes.quantity import BadQuantity, Resources, cpu_resources, memory_resources


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("100m", Resources("100m")),
        ("1", Resources("1")),
        ("0.5/1", Resources("0.5", "1")),
        ("500m/0.5", Resources("500m", "0.5")),
        ("1m", Resources("1m")),
        ("64", Resources("64")),
    ],
)
def test_cpu(text: str, expected: Resources) -> None:
    assert cpu_resources(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("32Mi", Resources("32Mi", "32Mi")),
        ("64Mi/256Mi", Resources("64Mi", "256Mi")),
        ("128M/0.125Gi", Resources("128M", "0.125Gi")),
        ("33554432", Resources("33554432", "33554432")),
    ],
)
def test_memory(text: str, expected: Resources) -> None:
    assert memory_resources(text) == expected


@pytest.mark.parametrize(
    "text", ["", "0", "0m", "0.0001", "-1", "1e3", "100Mi", "1 ", "lots", "2/1", "1/", "/1", "1/2/3", "65", "٣", "100k"]
)
def test_what_is_no_cpu(text: str) -> None:
    with pytest.raises(BadQuantity):
        cpu_resources(text)


@pytest.mark.parametrize(
    "text", ["", "64", "31Mi", "33554431", "64mi", "64MB", "65Gi", "1Gi/512Mi", "64Mi/", "1Ei", "1e9"]
)
def test_what_is_no_memory(text: str) -> None:
    with pytest.raises(BadQuantity):
        memory_resources(text)
