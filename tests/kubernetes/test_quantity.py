from __future__ import annotations

import pytest

from sidecar.kubernetes.quantity import BadQuantity, Resources, cpu_resources, memory_resources


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("100m", Resources("100m")),
        ("1", Resources("1")),
        ("0.5/1", Resources("0.5", "1")),
        ("1m/50m", Resources("1m", "50m")),
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
        ("64Mi", Resources("64Mi", "64Mi")),
        ("32Mi/64Mi", Resources("32Mi", "64Mi")),
        ("64Mi/256Mi", Resources("64Mi", "256Mi")),
        ("128M/0.125Gi", Resources("128M", "0.125Gi")),
        ("67108864", Resources("67108864", "67108864")),
    ],
)
def test_memory(text: str, expected: Resources) -> None:
    assert memory_resources(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "0m",
        "0.0001",
        "-1",
        "1e3",
        "100Mi",
        "1 ",
        "lots",
        "2/1",
        "1/",
        "/1",
        "1/2/3",
        "65",
        "٣",
        "100k",
        "1m/49m",
    ],
)
def test_what_is_no_cpu(text: str) -> None:
    with pytest.raises(BadQuantity):
        cpu_resources(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "64",
        "32Mi",
        "63Mi",
        "67108863",
        "31Mi/64Mi",
        "32Mi/63Mi",
        "64mi",
        "64MB",
        "65Gi",
        "1Gi/512Mi",
        "64Mi/",
        "1Ei",
    ],
)
def test_what_is_no_memory(text: str) -> None:
    with pytest.raises(BadQuantity):
        memory_resources(text)
