"""Read the `services` section: names, endpoints, hosts and routes, with their effective policies.

Owns the rules within a service and between services. Policies are merged by `merge` and checked by `checks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, get_args

from msgspec import Struct

from sidecar.config.addresses import service_name_problem
from sidecar.config.annotations import fields_of
from sidecar.config.checks import check_health, check_policy
from sidecar.config.choices import without_replaced
from sidecar.config.errors import Place, Reporter
from sidecar.config.merge import build, merge
from sidecar.config.protocols import (
    built_policy,
    check_http1_health,
    own_timeouts,
    protocol_of,
    without_http1_times,
)
from sidecar.config.schema import EndpointSpec, Match, Route, Service, Url
from sidecar.config.tls import TlsReader
from sidecar.config.tree import INVALID, Leaf, Tree, is_valid
from sidecar.config.walk import Entries, Walker
from sidecar.config.yaml_nodes import Mapping as MappingNode
from sidecar.config.yaml_nodes import Node, Scalar
from sidecar.policy.settings import DnsSettings, HealthSettings, KubernetesSettings, Policy

SERVICE_WIDE = (
    *("limits", "balancer", "slow_start", "health", "outlier", "tls"),
    *("timeout.pool_idle", "timeout.client_idle", "retry.budget"),
)
"""Keys of a policy that a route cannot set: all routes share the endpoints, the connections and the retry budget."""

POLICY_KEYS = fields_of(Policy)


def _keys_with_policy(struct: type[Struct], *, without: tuple[str, ...], first: Mapping[str, Any]) -> Mapping[str, Any]:
    """The keys of a mapping in the file: the struct's own keys, and those of its policy beside them."""
    own = {key: hint for key, hint in fields_of(struct).items() if key not in without}
    return MappingProxyType({**first, **own, **POLICY_KEYS})


_SOURCES = {"url": "a url", "endpoints": "endpoints", "discovery": "discovery"}

SERVICE_KEYS = _keys_with_policy(Service, without=("name", "policy", "own_timeouts"), first={"url": Url})
ROUTE_KEYS = _keys_with_policy(Route, without=("policy", "own_breaker", "own_timeouts"), first={})


class ReadRoute(Struct):
    """A route as it was read. `tree` is what the file sets of its effective policy."""

    match: Match
    place: Place
    tree: Tree
    own_breaker: bool


class ReadService(Struct):
    """A service as it was read. `tree` is what the file sets of its effective policy."""

    name: str
    place: Place
    endpoints: list[EndpointSpec]
    discovery: DnsSettings | KubernetesSettings | None
    protocol: Literal["http1", "h2"]
    hosts: list[tuple[str, Place]]
    grpc: list[tuple[str, Place]]
    required: bool
    tree: Tree
    routes: list[ReadRoute]

    def built(self) -> Service:
        """The struct. Only if nothing was reported."""
        policy = built_policy(self.tree, self.protocol)
        routes = tuple(
            Route(
                match=route.match,
                policy=built_policy(route.tree, self.protocol),
                own_breaker=route.own_breaker,
                own_timeouts=own_timeouts(route.tree),
            )
            for route in self.routes
        )
        return Service(
            name=self.name,
            endpoints=tuple(self.endpoints),
            discovery=self.discovery,
            protocol=self.protocol,
            hosts=tuple(host for host, _ in self.hosts),
            grpc=tuple(claim for claim, _ in self.grpc),
            required=self.required,
            policy=policy,
            own_timeouts=own_timeouts(self.tree),
            routes=routes,
        )


def read_services(
    node: Node, place: Place, defaults: Tree, walker: Walker, reporter: Reporter, tls: TlsReader
) -> list[ReadService]:
    """Each service of the file, also those with mistakes."""
    if not isinstance(node, MappingNode):
        reporter.report(place, "expected a mapping of services: {venue: {url: http://venue-service:3002}}")
        return []
    services = []
    for name, entry in node.entries.items():
        at = place.key(name, entry.line, entry.column)
        if problem := service_name_problem(name):
            reporter.report(at, problem)
        services.append(_ServiceReader(walker, reporter, at, tls).read(name, entry.node, defaults))
    _check_names(services, reporter)
    return services


class _ServiceReader:
    """Reads one service."""

    def __init__(self, walker: Walker, reporter: Reporter, place: Place, tls: TlsReader) -> None:
        self._walker = walker
        self._reporter = reporter
        self._place = place
        self._tls = tls

    def read(self, name: str, node: Node, defaults: Tree) -> ReadService:
        found = self._walker.entries(node, SERVICE_KEYS, self._place)
        own = self._walker.tree(_policy_part(found), POLICY_KEYS, "service")
        self._tls.resolve(own)
        tree = merge(_without_replaced(defaults, own), own)
        self._tls.check(tree)
        check_policy(tree, self._reporter)
        check_health(tree, found, self._reporter)
        if isinstance(node, MappingNode):
            self._check_sources(found)
        endpoints = self._endpoints(found)
        claims = self._names(found, "grpc")
        protocol = self._protocol(found, endpoints)
        if protocol == "h2":
            tree = without_http1_times(tree)
        else:
            check_http1_health(tree, self._place, self._reporter)
        return ReadService(
            name,
            self._place,
            endpoints,
            self._discovery(found),
            protocol,
            self._names(found, "hosts"),
            claims,
            self._required(found),
            tree,
            self._routes(found, tree),
        )

    def _check_sources(self, found: Entries) -> None:
        """Exactly one key must say where the endpoints come from."""
        written = [key for key in _SOURCES if key in found]
        if not written:
            self._reporter.report(self._place, "a service needs a url, endpoints or discovery")
        for key in written[1:]:
            message = f"the service has {_SOURCES[written[0]]} as well: keep one of the two"
            self._reporter.report(found[key][1], message)

    def _endpoints(self, found: Entries) -> list[EndpointSpec]:
        endpoints: list[EndpointSpec] = []
        if "url" in found:
            url = self._walker.value(found["url"][0], Url, found["url"][1])
            endpoints = [] if url is INVALID else [EndpointSpec(url=url)]
        return endpoints + (self._endpoint_list(*found["endpoints"]) if "endpoints" in found else [])

    def _discovery(self, found: Entries) -> DnsSettings | KubernetesSettings | None:
        if "discovery" not in found:
            return None
        node, place = found["discovery"]
        discovery: DnsSettings | KubernetesSettings | None
        discovery = self._walker.value(node, SERVICE_KEYS["discovery"], place)
        return None if discovery is INVALID else discovery

    def _required(self, found: Entries) -> bool:
        if "required" not in found:
            return False
        node, place = found["required"]
        return self._walker.value(node, bool, place) is True

    def _endpoint_list(self, node: Node, place: Place) -> list[EndpointSpec]:
        items = self._walker.items(node, place)
        if items == []:
            self._reporter.report(place, "expected at least one endpoint")
        read = [(self._endpoint(item, at), at) for item, at in items or ()]
        endpoints: list[EndpointSpec] = []
        first_of: dict[Url, Place] = {}
        for endpoint, at in read:
            if endpoint is None:
                continue
            if endpoint.url in first_of:
                self._reporter.report(at, f"repeated endpoint: the same as in line {first_of[endpoint.url].line}")
            elif endpoints and endpoint.url.scheme != endpoints[0].url.scheme:
                self._reporter.report(at, "the endpoints of a service must all have the same scheme")
            first_of.setdefault(endpoint.url, at)
            endpoints.append(endpoint)
        return endpoints

    def _endpoint(self, node: Node, place: Place) -> EndpointSpec | None:
        if isinstance(node, Scalar):
            url = self._walker.value(node, Url, place)
            return None if url is INVALID else EndpointSpec(url=url)
        tree = self._walker.group(EndpointSpec, node, place, "service")
        if isinstance(node, MappingNode) and "url" not in node.entries:
            self._reporter.report(place, "an endpoint needs a url: {url: http://10.0.0.8:3002, weight: 2}")
        return build(EndpointSpec, tree) if "url" in tree and is_valid(tree) else None

    def _protocol(self, found: Entries, endpoints: list[EndpointSpec]) -> Literal["http1", "h2"]:
        written, at = None, self._place
        if "protocol" in found:
            node, at = found["protocol"]
            written = self._walker.value(node, SERVICE_KEYS["protocol"], at)
        scheme = endpoints[0].url.scheme if endpoints else ""
        protocol, problem = protocol_of(scheme, written if written is not INVALID else None, "grpc" in found)
        if problem:
            self._reporter.report(found["grpc"][1] if written is None else at, problem)
        return protocol

    def _names(self, found: Entries, key: str) -> list[tuple[str, Place]]:
        """The names in a list, each with its place."""
        if key not in found:
            return []
        hint = get_args(SERVICE_KEYS[key])[0]
        items = self._walker.items(*found[key])
        names = [(self._walker.value(item, hint, at), at) for item, at in items or ()]
        return [(name, at) for name, at in names if name is not INVALID]

    def _routes(self, found: Entries, service: Tree) -> list[ReadRoute]:
        if "routes" not in found:
            return []
        routes: list[ReadRoute] = []
        for node, place in self._walker.items(*found["routes"]) or ():
            route = self._route(node, place, service)
            if route is None:
                continue
            winner = next((earlier for earlier in routes if _covers(earlier.match, route.match)), None)
            if winner is not None:
                line = winner.place.line
                self._reporter.report(place, f"never matches: the route in line {line} matches all of its requests")
            routes.append(route)
        return routes

    def _route(self, node: Node, place: Place, service: Tree) -> ReadRoute | None:
        found = self._walker.entries(node, ROUTE_KEYS, place)
        own = self._walker.tree(_policy_part(found), POLICY_KEYS, "route", SERVICE_WIDE)
        tree = merge(service, own)
        if own:
            check_policy(tree, self._reporter)
        if not isinstance(node, MappingNode):
            return None
        if "match" not in found:
            self._reporter.report(place, "a route needs a match: {path: /reports, methods: [POST]}")
            return None
        match_node, match_place = found["match"]
        matched = self._walker.group(Match, match_node, match_place, "route")
        if isinstance(match_node, MappingNode) and not match_node.entries:
            self._reporter.report(match_place, "expected a path, methods, or both: {path: /reports, methods: [POST]}")
        methods = matched.get("methods")
        if isinstance(methods, Leaf) and methods.value == frozenset():
            self._reporter.report(methods.place, "expected at least one method; the default is every method")
        if not matched or not is_valid(matched):
            return None
        return ReadRoute(build(Match, matched), place, tree, "breaker" in own)


def _policy_part(found: Entries) -> Entries:
    return {key: value for key, value in found.items() if key in POLICY_KEYS}


def _without_replaced(defaults: Tree, own: Tree) -> Tree:
    """`defaults` without the keys of `health` that the service's own health check replaces."""
    below, over = defaults.get("health"), own.get("health")
    if not isinstance(below, dict) or not isinstance(over, dict):
        return defaults
    return {**defaults, "health": without_replaced(HealthSettings, below, over)}


def _covers(earlier: Match, later: Match) -> bool:
    """Whether every request that `later` matches is one that `earlier` matches."""
    if earlier.path != "/" and not f"{later.path}/".startswith(f"{earlier.path}/"):
        return False
    return not earlier.methods or (bool(later.methods) and later.methods <= earlier.methods)


def _check_names(services: list[ReadService], reporter: Reporter) -> None:
    """Report names that mean two services. Names and hosts are compared in lower case, as authorities are."""
    named: dict[str, ReadService] = {}
    for service in services:
        other = named.setdefault(service.name.lower(), service)
        if other is not service:
            message = f"differs only in case from the service in line {other.place.line}: a Host cannot tell them apart"
            reporter.report(service.place, message)
    for service in services:
        for host, place in service.hosts:
            namesake = named.get(host, service)
            if namesake is not service:
                reporter.report(place, f"this is the name of another service (line {namesake.place.line})")
    _check_owned("host name", [(one, service) for service in services for one in service.hosts], reporter)
    _check_owned("claim", [(one, service) for service in services for one in service.grpc], reporter)


def _check_owned(what: str, names: list[tuple[tuple[str, Place], ReadService]], reporter: Reporter) -> None:
    """Report names that stand twice."""
    owners: dict[str, tuple[ReadService, Place]] = {}
    for (name, place), service in names:
        owner, first = owners.setdefault(name, (service, place))
        if first is not place:
            whose = "this service" if owner is service else "another service"
            reporter.report(place, f"repeated {what}: {whose} has it in line {first.line}")
