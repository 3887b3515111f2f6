"""The summary of a configuration without mistakes, as `sidecar check` prints it."""

from __future__ import annotations

from sidecar.config.schema import Aggregate, Config, Service
from sidecar.config.units import format_duration
from sidecar.policy.settings import DnsSettings, FallbackService, FallbackStale, FallbackStep, KubernetesSettings


def summary(config: Config) -> str:
    """A few lines: the counts, the listeners, and a line for each service and each aggregate."""
    services = config.services.values()
    endpoints = sum(len(service.endpoints) for service in services)
    routes = sum(len(service.routes) for service in services)
    discovered = sum(service.discovery is not None for service in services)
    found = f" and those of {_count(discovered, 'discovery', 'discoveries')}" if discovered else ""
    width = max((len(name) for name in config.services), default=0)
    listen = config.listen
    endpoint_count = _count(endpoints, "endpoint") + found
    return "\n".join(
        [
            f"{_count(len(config.services), 'service')}, {endpoint_count}, {_count(routes, 'route')}",
            f"listening: proxy {', '.join(map(str, listen.proxy))}; admin {listen.admin}; probe {listen.probe}",
            *(f"  {service.name:<{width}}  {_line(service)}" for service in services),
            *(f"  /_aggregate/{name}  {_parts(aggregate)}" for name, aggregate in config.aggregates.items()),
        ]
    )


def _parts(aggregate: Aggregate) -> str:
    parts = aggregate.parts.items()
    return ", ".join(f"{name} of {part.service}{' (required)' if part.required else ''}" for name, part in parts)


def _line(service: Service) -> str:
    if service.discovery is not None:
        parts = [_discovery(service.discovery)]
    else:
        parts = [", ".join(str(endpoint.url) for endpoint in service.endpoints[:3])]
    if len(service.endpoints) > 3:
        parts.append(f"and {len(service.endpoints) - 3} more")
    if service.h2 and not (service.endpoints and service.endpoints[0].url.scheme in ("h2c", "grpc")):
        parts.append("HTTP/2")
    if service.grpc:
        parts.append(f"grpc {', '.join(service.grpc)}")
    if service.hosts:
        parts.append(f"hosts {', '.join(service.hosts)}")
    if service.routes:
        parts.append(_count(len(service.routes), "route"))
    if service.policy.breaker.mode != "enforce":
        parts.append(f"breaker {service.policy.breaker.mode}")
    if service.policy.fallback:
        parts.append(f"fallback {', '.join(map(_fallback, service.policy.fallback))}")
    return "; ".join(parts)


def _fallback(step: FallbackStep) -> str:
    if isinstance(step, FallbackService):
        return f"service:{step.service}"
    return f"stale {format_duration(step.stale)}" if isinstance(step, FallbackStale) else f"static {step.status}"


def _discovery(discovery: DnsSettings | KubernetesSettings) -> str:
    if isinstance(discovery, DnsSettings):
        return f"dns {discovery.name}" + (" (SRV)" if discovery.srv else f", port {discovery.port}")
    name = f"{discovery.namespace}/{discovery.service}" if discovery.namespace else discovery.service
    port = f", port {discovery.port}" if discovery.port is not None else ""
    server = f", at {discovery.server}" if discovery.server else ""
    return f"kubernetes {name}{port}{server}"


def _count(number: int, noun: str, several: str = "") -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {several or noun + 's'}"
