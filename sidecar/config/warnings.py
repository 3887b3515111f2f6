"""Warnings about a configuration that is valid, but probably not meant as it is written.

Owns these rules and their messages. A configuration with warnings can be used; what cannot be used is an error, of
`load` and `checks`. Only one rule looks outside of the configuration: whether a file can be read here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, Final

from msgspec import Struct

from sidecar.config.annotations import fields_of
from sidecar.config.effective import set_as_written
from sidecar.config.load import Origins
from sidecar.config.schema import AggregatePart, Config, Match, Service
from sidecar.config.tree import Level
from sidecar.config.units import format_duration
from sidecar.net.addresses import is_loopback
from sidecar.policy.grpc import NUMBERS
from sidecar.policy.settings import DnsSettings, FallbackStale, HashSettings, Policy, TlsSettings

STALE_AFTER_S: Final = 300.0
"""As in SidecarDiscoveryStale (deploy/prometheus/alerts.yaml)."""

_NARROW_LAST: Final[tuple[Level, ...]] = ("default", "defaults", "service", "route")


def warnings_of(config: Config, origins: Origins) -> list[str]:
    """One sentence for each warning. It begins with the key, and has the line in the file if `origins` knows it."""
    return list(dict.fromkeys(one for one in found_warnings(config, origins) if one is not None))


def found_warnings(config: Config, origins: Origins) -> Iterator[str | None]:
    """The warnings one by one, some of them more than once. None stands for the end of a service, where a caller may
    pause.
    """
    yield from _admin(config, origins)
    yield from _no_services(config, origins)
    yield from _refreshed_seldom(config)
    yield from _checks(config)
    yield from _tls_unused(config, origins)
    yield from _policies(config, origins)
    yield from _parts_cut_short(config, origins)
    yield from _attempts_outlast_aggregate(config, origins)


def _admin(config: Config, origins: Origins) -> Iterator[str]:
    path = config.admin.token_file
    if path is not None:
        # Not an error: `check` may run where the secret is not mounted. A folder would pass the test for reading.
        if not os.access(path, os.R_OK) or os.path.isdir(path):
            line = _line(origins, "admin.token_file")
            yield f"admin.token_file: {path}{line} cannot be read here: the admin API would refuse every call"
    elif not is_loopback(config.listen.admin.host):
        # Without the line: after a reload the file may name another address than the one that is still bound.
        yield (
            f"listen.admin is {config.listen.admin}, not loopback, and admin.token_file is not set:"
            " anybody who reaches that port can open breakers and stop the sidecar"
        )


def _no_services(config: Config, origins: Origins) -> Iterator[str]:
    """Not an error: someone may want only `checks`, and services may be added to the file while it runs."""
    if not config.services:
        yield f"services{_line(origins, 'services')} is empty: every call is answered with 404 (unknown_service)"


def _refreshed_seldom(config: Config) -> Iterator[str]:
    for name, service in config.services.items():
        found = service.discovery
        if isinstance(found, DnsSettings) and found.refresh > STALE_AFTER_S:
            yield (
                f"services.{name}.discovery.dns.refresh is {format_duration(found.refresh)}: the alert"
                " SidecarDiscoveryStale takes endpoints for out of date that were confirmed"
                f" {format_duration(STALE_AFTER_S)} ago"
            )


def _checks(config: Config) -> Iterator[str]:
    for name, check in config.checks.items():
        if check.tls.verify == "off":
            yield f"checks.{name}.tls.verify is off: any certificate is taken, and a password may go to anybody"
        for key in ("ca_file", "cert_file", "key_file"):
            path = getattr(check.tls, key)
            if path is not None and (not os.access(path, os.R_OK) or os.path.isdir(path)):
                yield f"checks.{name}.tls.{key}: {path} cannot be read here: the check fails until it can"


def _tls_unused(config: Config, origins: Origins) -> Iterator[str]:
    for name, service in config.services.items():
        path = f"services.{name}"
        keys = [key for key in fields_of(TlsSettings) if _level(origins, f"{path}.tls.{key}") == "service"]
        if keys and not any(spec.url.scheme == "https" for spec in service.endpoints):
            line = _line(origins, f"{path}.tls.{keys[0]}")
            yield f"{path}.tls{line} does nothing: the service's endpoints do not use TLS"


def _level(origins: Origins, key: str) -> str:
    known = origins.get(key)
    return known.level if known else ""


def _line(origins: Origins, key: str) -> str:
    known = origins.get(key)
    return f" (line {known.line})" if known else ""


# Policies.


class _Scope(Struct, frozen=True):
    """A service or a route, and its effective policy."""

    path: str
    service: str
    """The path of the service; the same as `path` if this is not a route."""
    policy: Policy
    origins: Origins
    match: Match | None
    """Of a route."""
    of: Service

    def own(self, key: str) -> str | None:
        """The path of the service or route that sets the key itself; None where it does not, or inherits it from
        `defaults`."""
        known = self.origins.get(f"{self.path}.{key}")
        if known is None or known.level not in ("service", "route"):
            return None
        return self.service if known.level == "service" else self.path

    def where(self, *keys: str) -> str | None:
        """The most specific level that set one of the keys. None if the file set none: the defaults fit together."""
        known = [self.origins.get(f"{self.path}.{key}") for key in keys]
        level = max((one.level for one in known if one), key=_NARROW_LAST.index, default="default")
        if level == "default":
            return None
        return {"defaults": "defaults", "service": self.service}.get(level, self.path)

    def line(self, key: str) -> str:
        known = self.origins.get(f"{self.path}.{key}")
        return f"line {known.line}" if known else "by default"


def _policies(config: Config, origins: Origins) -> Iterator[str | None]:
    """The warnings of all policies. Services and routes that inherit all values of a rule give the same sentence."""
    for name, service in config.services.items():
        path = f"services.{name}"
        scopes = [_Scope(path, path, service.policy, origins, None, service)]
        scopes += [
            _Scope(f"{path}.routes[{at}]", path, one.policy, origins, one.match, service)
            for at, one in enumerate(service.routes)
        ]
        for scope in scopes:
            for rule in _RULES:
                yield from rule(scope)
        yield None


def _certificates_taken_blindly(scope: _Scope) -> Iterator[str]:
    where = scope.where("tls.verify")
    if scope.policy.tls.verify == "off" and where is not None:
        yield (
            f"{where}: tls.verify ({scope.line('tls.verify')}) is off: any certificate is taken, so anybody on the way"
            " can read and alter calls and answers"
        )


def _certificate_files(scope: _Scope) -> Iterator[str]:
    """Not an error, as for `admin.token_file`. A file that is there and no good is one (`sidecar.config.tls`)."""
    tls = scope.policy.tls
    for key in ("ca_file", "cert_file", "key_file"):
        path, where = getattr(tls, key), scope.where(f"tls.{key}")
        if path is not None and where is not None and (not os.access(path, os.R_OK) or os.path.isdir(path)):
            line = scope.line(f"tls.{key}")
            yield f"{where}: tls.{key} ({line}): {path} cannot be read here: calls fail until it can"


def _attempt_cut_short(scope: _Scope) -> Iterator[str]:
    timeout = scope.policy.timeout
    longer = _longer(scope, "timeout.attempt", timeout.attempt, "timeout.request", timeout.request)
    if longer:
        yield f"{longer}, which ends it first"


def _check_outlasts_interval(scope: _Scope) -> Iterator[str]:
    """The next check waits until the last one has ended (`sidecar.health.active`)."""
    health = scope.policy.health
    longer = health and _longer(scope, "health.timeout", health.timeout, "health.interval", health.interval)
    if longer:
        yield f"{longer}, so an endpoint that does not answer is checked less often"


def _longer(scope: _Scope, first: str, first_s: float, second: str, second_s: float) -> str | None:
    """The beginning of a sentence which says that the first is longer than the second; None if it is not."""
    where = scope.where(first, second)
    if first_s <= second_s or where is None:
        return None
    return (
        f"{where}: {first} ({format_duration(first_s)}, {scope.line(first)}) is longer than"
        f" {second} ({format_duration(second_s)}, {scope.line(second)})"
    )


def _success_retried(scope: _Scope) -> Iterator[str]:
    retry, where = scope.policy.retry, scope.where("retry.on")
    successes = _successes(retry.on)
    if successes and retry.max_retries and where:
        yield f"{where}: retry.on ({scope.line('retry.on')}) has {successes}: calls that succeed are repeated"


def _success_fails(scope: _Scope) -> Iterator[str]:
    key = "breaker.failure_status"
    successes, where = _successes(scope.policy.breaker.failure_status), scope.where(key)
    if successes and where:
        yield f"{where}: {key} ({scope.line(key)}) has {successes}: calls that succeed count as failures"


def _successes(statuses: frozenset[Any]) -> str:
    """The statuses of 2xx (RFC 9110, section 15.3), as they are written in a file."""
    found = statuses & frozenset(range(200, 300))
    return ", ".join(map(str, set_as_written(found)))


def _stale_for_everybody(scope: _Scope) -> Iterator[str]:
    """A kept answer is told apart by its URL, the answer's Vary, and `key_headers`. Requests with Authorization or
    Cookie are left out by themselves; of other headers nobody knows that they name a user.
    """
    where = scope.where("fallback")
    if where is None or not any(
        isinstance(step, FallbackStale) and not step.key_headers for step in scope.policy.fallback
    ):
        return
    balancer = scope.policy.balancer
    by = balancer.header.lower() if isinstance(balancer, HashSettings) and balancer.header else ""
    named = f"{by}, by which its balancer tells requests apart" if by else "x-user-id or x-tenant"
    yield (
        f"{where}: fallback ({scope.line('fallback')}) has a stale step without key_headers: an answer made for one"
        f" user goes to all who ask for the same URL. If a header names the user, such as {named}, add it to"
        " key_headers. A header that no request has changes nothing"
    )


# Policies that HTTP/1.1 or gRPC does not know. `defaults` is for services of both, so only a service's own keys count.


def _for_http_alone(scope: _Scope) -> Iterator[str]:
    """Keys that do nothing for a service of gRPC."""
    if not scope.of.is_grpc:
        return
    for key, instead in (
        ("retry.methods", "calls of gRPC are all POST; write idempotent: true where they may be sent twice"),
        ("breaker.failure_status", "the outcome of gRPC is the grpc-status; write breaker.failure_grpc_status"),
    ):
        where = scope.own(key)
        if where:
            yield f"{where}: {key} ({scope.line(key)}) says nothing about gRPC: {instead}"


def _for_grpc_alone(scope: _Scope) -> Iterator[str]:
    """Keys that do nothing for a service of HTTP/1.1, to which no call of gRPC goes."""
    if scope.of.h2:
        return
    for key in ("unary", "breaker.failure_grpc_status"):
        where = scope.own(key)
        if where:
            yield (
                f"{where}: {key} ({scope.line(key)}) is for gRPC, and {scope.service} is called by HTTP/1.1: write"
                " h2c://, grpc:// or protocol: h2"
            )


def _retry_of_grpc(scope: _Scope) -> Iterator[str]:
    """Statuses of gRPC are retried only where calls may be sent twice."""
    where, on = scope.own("retry.on"), scope.policy.retry.on
    if not scope.of.is_grpc or not where or not scope.policy.retry.max_retries:
        return
    statuses = [one for one in set_as_written(on) if one in NUMBERS]
    line = f"retry.on ({scope.line('retry.on')})"
    below = scope.of.routes if scope.match is None else ()
    idempotent = scope.policy.idempotent or any(route.policy.idempotent for route in below)
    if statuses and not idempotent and where == scope.path:
        yield (
            f"{where}: {line} has {', '.join(map(str, statuses))}, and no call may be sent twice: write"
            " idempotent: true on the routes of methods that may"
        )
    if not statuses and scope.policy.idempotent:
        yield f"{where}: {line} has no status of gRPC, such as UNAVAILABLE: no answer of the service is retried"


def _no_grpc_call_matches(scope: _Scope) -> Iterator[str]:
    if scope.of.is_grpc and scope.match is not None and scope.match.methods and "POST" not in scope.match.methods:
        yield f"{scope.path}: match.methods has no POST: no call of gRPC matches"


def _fallback_of_grpc(scope: _Scope) -> Iterator[str]:
    where = scope.own("fallback")
    if scope.of.is_grpc and where and scope.policy.fallback:
        yield f"{where}: fallback ({scope.line('fallback')}) never answers a call of gRPC: its answers are HTTP"


_RULES: Final[tuple[Callable[[_Scope], Iterator[str]], ...]] = (
    _certificates_taken_blindly,
    _certificate_files,
    _attempt_cut_short,
    _check_outlasts_interval,
    _success_retried,
    _success_fails,
    _stale_for_everybody,
    _for_http_alone,
    _for_grpc_alone,
    _retry_of_grpc,
    _no_grpc_call_matches,
    _fallback_of_grpc,
)


# Aggregates.


def _parts_cut_short(config: Config, origins: Origins) -> Iterator[str]:
    for name, aggregate in config.aggregates.items():
        path = f"aggregates.{name}"
        for part, one in aggregate.parts.items():
            if one.timeout is None or one.timeout <= aggregate.timeout:
                continue
            here = f"{path}.parts.{part}"
            # Without any origins it is unknown whether this is the default.
            whole = _line(origins, f"{path}.timeout") or (" (by default)" if origins else "")
            yield (
                f"{here}: timeout {format_duration(one.timeout)}{_line(origins, f'{here}.timeout')} is longer than"
                f" the whole aggregate's {format_duration(aggregate.timeout)}{whole}, which ends it first"
            )


def _attempts_outlast_aggregate(config: Config, origins: Origins) -> Iterator[str]:
    """Such a part ends before its attempt does, so a hanging endpoint is never given up for another one. That holds for
    the defaults too.
    """
    for name, aggregate in config.aggregates.items():
        path = f"aggregates.{name}"
        cut: dict[str, list[str]] = {}
        for part, one in aggregate.parts.items():
            attempt, where = _attempt_of(config, origins, one)
            whole = aggregate.timeout if one.timeout is None else min(one.timeout, aggregate.timeout)
            if attempt <= whole:
                continue
            own = one.timeout is not None and one.timeout <= aggregate.timeout
            here = f"{path}.parts.{part}" if own else path
            line = _line(origins, f"{here}.timeout") or (" (by default)" if origins else "")
            words = f"{here}: timeout {format_duration(whole)}{line} is shorter than timeout.attempt"
            cut.setdefault(words, []).append(where)
        for words, attempts in cut.items():
            yield (
                f"{words} of {', '.join(dict.fromkeys(attempts))}: an attempt that hangs is not ended in time for a"
                " retry. Set timeout.attempt of these services lower"
            )


def _attempt_of(config: Config, origins: Origins, part: AggregatePart) -> tuple[float, str]:
    """Seconds of `timeout.attempt` for the calls of a part, and the words for it."""
    service = config.services[part.service]
    policy, path = service.policy, f"services.{part.service}"
    target = "\0".join(part.path.literals).partition("?")[0]
    for at, route in enumerate(service.routes):
        prefix = route.match.path.rstrip("/")
        methods = route.match.methods
        if (not methods or "GET" in methods) and (target == prefix or target.startswith(f"{prefix}/")):
            policy, path = route.policy, f"{path}.routes[{at}]"
            break
    known = origins.get(f"{path}.timeout.attempt")
    line = f", line {known.line}" if known else ", by default" if origins else ""
    return policy.timeout.attempt, f"{path} ({format_duration(policy.timeout.attempt)}{line})"
