"""Certificates as Prometheus reads them."""

from __future__ import annotations

from sidecar.net.tls_contexts import Expiration, InForce
from tests.support.fake_metrics import samples, scraped, series

ENDS = "sidecar_tls_certificate_expiration_timestamp_seconds"
REJECTED = "sidecar_tls_files_rejected"


def test_each_certificate_of_a_service_and_whether_its_files_are_good() -> None:
    both = (Expiration("ca", "/etc/ca.pem", 2e9), Expiration("client", "/etc/tls.crt", 1.9e9))
    families = scraped(certificates=[("venue", InForce(both, True)), ("auth", InForce((), False))])
    assert samples(families[ENDS], ENDS) == {
        series(service="venue", kind="ca"): 2e9,
        series(service="venue", kind="client"): 1.9e9,
    }
    assert samples(families[REJECTED], REJECTED) == {series(service="venue"): 1, series(service="auth"): 0}
