"""Prometheus metrics of the certificates that connections to services use.

Owns the names and labels of `sidecar_tls_*`. `kind` is `ca` or `client`. No label has the path of a file.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from sidecar.telemetry.families import Family, GaugeFamily


class CertificateView(Protocol):
    @property
    def kind(self) -> str: ...
    @property
    def at(self) -> float:
        """When it ends, in Unix time."""


class TlsView(Protocol):
    """What a scrape reads of the TLS files of one service."""

    @property
    def expirations(self) -> Iterable[CertificateView]: ...
    @property
    def rejected(self) -> bool:
        """Whether a file cannot be used now."""


def tls_families(services: Iterable[tuple[str, TlsView]]) -> Iterable[Family]:
    """Metrics for pairs of (service, its files)."""
    ends = GaugeFamily(
        "sidecar_tls_certificate_expiration_timestamp_seconds",
        "Unix time at which the next certificate of a service's cert_file (client) or ca_file (ca) ends",
        labels=["service", "kind"],
    )
    rejected = GaugeFamily(
        "sidecar_tls_files_rejected",
        "1 while a TLS file of the service cannot be used and the last good one stays in force, else 0",
        labels=["service"],
    )
    for service, view in services:
        rejected.add_metric([service], 1 if view.rejected else 0)
        for one in view.expirations:
            ends.add_metric([service, one.kind], one.at)
    yield from (ends, rejected)
