"""What `sidecar check` says about a file that is fine.

Owns the text alone.
"""

from __future__ import annotations

from sidecar.config.schema import Config, Service


def summary(config: Config) -> str:
    """A few lines: how much there is, who listens where, and a line for each service."""
    services = config.services.values()
    endpoints = sum(len(service.endpoints) for service in services)
    routes = sum(len(service.routes) for service in services)
    width = max((len(name) for name in config.services), default=0)
    listen = config.listen
    return "\n".join(
        [
            f"{_count(len(config.services), 'service')}, {_count(endpoints, 'endpoint')}, {_count(routes, 'route')}",
            f"listening: proxy {', '.join(map(str, listen.proxy))}; admin {listen.admin}; probe {listen.probe}",
            *(f"  {service.name:<{width}}  {_line(service)}" for service in services),
        ]
    )


def _line(service: Service) -> str:
    parts = [", ".join(str(endpoint.url) for endpoint in service.endpoints[:3])]
    if len(service.endpoints) > 3:
        parts.append(f"and {len(service.endpoints) - 3} more")
    if service.hosts:
        parts.append(f"hosts {', '.join(service.hosts)}")
    if service.routes:
        parts.append(_count(len(service.routes), "route"))
    if service.policy.breaker.mode != "enforce":
        parts.append(f"breaker {service.policy.breaker.mode}")
    return "; ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
