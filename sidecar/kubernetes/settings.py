"""The injector's settings as one frozen struct, with their defaults.

A pod may override some of them with annotations (`sidecar.kubernetes.annotations`).
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from sidecar import __version__
from sidecar.kubernetes.quantity import Resources

PROXY_PORT: Final = 15001
ADMIN_PORT: Final = 15000
PROBE_PORT: Final = 15021
"""The ports in config/sidecar.yaml. The injected container relies on these listeners."""


class InjectorSettings(Struct, frozen=True, kw_only=True):
    """`native` means a native sidecar (Kubernetes 1.29 and newer): an init container that is restarted."""

    image: str = f"service-sidecar:{__version__}"
    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    native: bool = True
    config_map: str = "sidecar-config"
    """A ConfigMap in the pod's own namespace, because a pod cannot mount one of another namespace."""
    config_key: str = "sidecar.yaml"
    cpu: Resources = Resources(request="50m")
    """There is no CPU limit. A limit would save nothing, and would throttle the app's calls during each burst."""
    memory: Resources = Resources(request="64Mi", limit="256Mi")
    kubernetes_discovery: bool = False
    """Whether the policy uses EndpointSlices. The sidecar then needs the service account's token."""
    user: int | None = 65532
    """A number, because `runAsNonRoot` needs one. None if the cluster assigns users (OpenShift)."""
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
    """What a container with HTTP_PROXY still calls directly: itself, the cloud's metadata service (AWS, Azure and
    Google use the same address), and the AWS services that give credentials to a pod (of ECS and of EKS Pod Identity).
    """
    fail_closed: bool = False
    """Whether a pod that should have a sidecar is denied if a bug prevents the injection. Otherwise it starts without
    one.
    """
    namespace: str = "sidecar-system"
    """The injector's own namespace. Nothing is injected there, because its pods must start without an injector."""
