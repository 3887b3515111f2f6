"""What an operator of the injector decides, as one frozen struct; its defaults are the injector's.

Owns names and defaults. A pod may differ from some of it by annotations (`sidecar.kubernetes.annotations`).
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from sidecar import __version__
from sidecar.kubernetes.quantity import Resources

PROXY_PORT: Final = 15001
ADMIN_PORT: Final = 15000
PROBE_PORT: Final = 15021
"""As config/sidecar.yaml has them: what is injected relies on the listeners being there."""


class InjectorSettings(Struct, frozen=True, kw_only=True):
    """`native` is a sidecar as Kubernetes has known it since 1.29: an init container that is restarted."""

    image: str = f"service-sidecar:{__version__}"
    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    native: bool = True
    config_map: str = "sidecar-config"
    """In the pod's own namespace, for no pod can mount another namespace's."""
    config_key: str = "sidecar.yaml"
    cpu: Resources = Resources(request="50m")
    """No limit: one would not save anything, and throttles every call of the app at each burst."""
    memory: Resources = Resources(request="64Mi", limit="256Mi")
    kubernetes_discovery: bool = False
    """Whether the policy follows EndpointSlices, so that the sidecar needs the service account's token."""
    user: int | None = 65532
    """Numeric, as `runAsNonRoot` needs it to be; None where the cluster assigns users (OpenShift)."""
    no_proxy: tuple[str, ...] = (
        "localhost",
        "127.0.0.1",
        "::1",
        "169.254.169.254",
        "fd00:ec2::254",
        "metadata.google.internal",
        "169.254.170.2",
        "169.254.170.23",
        "fd00:ec2::23",
    )
    """What a container with HTTP_PROXY still calls directly: itself, the cloud's metadata (AWS, Azure and Google share
    an address), and where AWS gives out a pod's credentials (of ECS and of EKS Pod Identity)."""
    fail_closed: bool = False
    """Whether a pod that is to have a sidecar is denied where a defect keeps it from one, and not let pass without."""
    namespace: str = "sidecar-system"
    """The injector's own, in which nothing is injected: its pods must start while there is no injector."""
