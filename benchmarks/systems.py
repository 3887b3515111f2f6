"""The systems that are compared and their configurations: the same two upstreams, the same routing, similar policies.

This module has the configurations, the requests of each case, and the search for the programs. It starts nothing. Every
proxy maps /venue/* to /* of the upstreams, balances round robin, retries connection failures and 502-504 twice, has the
timeouts of the sidecar's defaults, and ejects endpoints or breaks circuits if it can.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

UPSTREAM_PORTS = (19201, 19202)
HEADERS = {
    "User-Agent": "axios/1.12.2",
    "Accept": "application/json, text/plain, */*",
    "Accept-Encoding": "gzip, compress, deflate, br",
    "Authorization": "Bearer " + "t" * 160,
    "X-Request-Id": "0b7a61a4-1f3c-4c55-8d52-6a8f4f5b2c10",
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "X-Tenant": "acme",
    "Cookie": "session=0123456789abcdef; theme=dark",
}
"""The headers of a typical call inside a cluster."""


@dataclass(frozen=True)
class Case:
    """One kind of request. By default, 64 connections ask for an answer of 150 bytes."""

    name: str
    about: str
    path: str = "/venue/events/42?expand=1"
    connections: int = 64
    body_bytes: int = 0

    def script(self) -> str:
        """The case as a wrk script."""
        lines = [f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in HEADERS.items()]
        if self.body_bytes:
            lines += [
                'wrk.method = "POST"',
                'wrk.headers["Content-Type"] = "application/json"',
                f'wrk.body = string.rep("x", {self.body_bytes})',
            ]
        return "\n".join(lines) + "\n"


CASES = (
    Case("small", "GET, an answer of 150 bytes, 64 connections"),
    Case("post", "POST of 10 KiB, an answer of 150 bytes, 64 connections", body_bytes=10 * 1024),
    Case("big", "GET, an answer of 1 MiB, 8 connections", path="/venue/big", connections=8),
)


@dataclass(frozen=True)
class System:
    """A proxy under test. `configure` writes its configuration into a folder, and returns the command that runs it."""

    name: str
    port: int
    configure: Callable[[Path], list[str]]
    by_default: bool = True
    """Whether it takes part if no systems are named."""


def upstream(folder: Path) -> list[str]:
    """The nginx that answers for both endpoints of venue. Returns its command."""
    (folder / "www").mkdir()
    (folder / "www/big").write_bytes(os.urandom(1 << 20))
    answer = json.dumps({"id": 42, "service": "venue", "note": "n" * 110})
    servers = "".join(
        f"""
        server {{
          listen 127.0.0.1:{port} backlog=4096;
          root {folder}/www;
          location = /big {{ }}
          location / {{ default_type application/json; return 200 '{answer}'; }}
        }}"""
        for port in UPSTREAM_PORTS
    )
    headers = "add_header Cache-Control no-store; add_header ETag abc123; add_header Vary Accept-Encoding;"
    return nginx(folder, "upstream", f"{headers} client_max_body_size 16m; {servers}")


def find(sidecar: str, envoy_command: str | None) -> tuple[list[System], list[str]]:
    """The systems that can run here, the sidecar first; and for each one that cannot, a line about what it needs."""
    systems = [System("sidecar", 19240, lambda folder: _sidecar(folder, 19240, sidecar))]
    left_out = []
    binary = envoy_binary(envoy_command)
    if binary:
        systems.append(System("envoy", 19230, lambda folder: _envoy(folder, 19230, binary)))
    else:
        left_out.append("envoy: not found; name its binary with --envoy or in ENVOY")
    if shutil.which("haproxy"):
        systems.append(System("haproxy", 19220, lambda folder: _haproxy(folder, 19220)))
    else:
        left_out.append("haproxy: not installed; on Debian: apt-get install haproxy")
    systems.append(System("nginx", 19210, lambda folder: _nginx_proxy(folder, 19210)))
    systems.append(System("aiohttp", 19250, lambda _: _aiohttp_proxy(19250), by_default=False))
    return systems, left_out


def envoy_binary(command: str | None) -> str | None:
    """The binary behind `command`, $ENVOY or what is on PATH. Python packages of Envoy wrap it in a script, whose cost
    must not count.
    """
    command = command or os.environ.get("ENVOY") or shutil.which("envoy")
    if command is None or (found := shutil.which(command)) is None:
        return None
    inside = Path(found).resolve().parent.parent.glob("lib/python*/site-packages/envoy/_bin/envoy")
    return str(next(inside, found))


def _sidecar(folder: Path, port: int, command: str) -> list[str]:
    one, two = UPSTREAM_PORTS
    return serve(folder, port, command, f'{{endpoints: ["http://127.0.0.1:{one}", "http://127.0.0.1:{two}"]}}')


def serve(folder: Path, port: int, command: str, venue: str) -> list[str]:
    """Writes the configuration of a sidecar with one service. Returns its command."""
    (folder / "sidecar.yaml").write_text(f"""\
listen: {{proxy: ["127.0.0.1:{port}"], admin: "127.0.0.1:{port + 1}", probe: "127.0.0.1:{port + 2}"}}
services:
  venue: {venue}
""")
    return [*command.split(), "run", "--config", str(folder / "sidecar.yaml")]


def nginx(folder: Path, name: str, http: str, connections: int = 8192) -> list[str]:
    """Writes the configuration of an nginx with this `http` block. Returns its command."""
    temporary = " ".join(
        f"{kind}_temp_path {folder}/{name}-{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / f"{name}.conf").write_text(f"""\
daemon off;
worker_processes 1;
{"user root;" if os.geteuid() == 0 else ""}
pid {folder}/{name}.pid;
error_log {folder}/{name}.err;
events {{ worker_connections {connections}; }}
http {{ access_log off; keepalive_timeout 300s; keepalive_requests 100000000; {temporary} {http} }}
""")
    return ["nginx", "-c", str(folder / f"{name}.conf"), "-e", str(folder / f"{name}.err")]


def _nginx_proxy(folder: Path, port: int) -> list[str]:
    servers = " ".join(f"server 127.0.0.1:{port};" for port in UPSTREAM_PORTS)
    return nginx(
        folder,
        "proxy",
        f"""
        client_max_body_size 16m;
        upstream venue {{ {servers} keepalive 256; keepalive_requests 100000000; }}
        server {{
          listen 127.0.0.1:{port} backlog=4096;
          location /venue/ {{
            proxy_pass http://venue/;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_connect_timeout 1s;
            proxy_next_upstream error timeout http_502 http_503 http_504;
          }}
        }}""",
    )


def _aiohttp_proxy(port: int) -> list[str]:
    return [sys.executable, "-m", "benchmarks.aiohttp_proxy", str(port), *map(str, UPSTREAM_PORTS)]


def _haproxy(folder: Path, port: int) -> list[str]:
    return haproxy(folder, port, "", "http-request replace-path /venue/(.*) /\\1")


def haproxy(folder: Path, port: int, protocol: str, rule: str) -> list[str]:
    """Writes the configuration of an HAProxy that speaks `protocol` on both sides. Returns its command."""
    each = f"{protocol} maxconn 1024 check inter 10s observe layer7 error-limit 50 on-error mark-down"
    servers = "\n".join(f"  server s{port} 127.0.0.1:{port} {each}" for port in UPSTREAM_PORTS)
    (folder / "haproxy.cfg").write_text(f"""\
global
  nbthread 1
  maxconn 8000
defaults
  mode http
  timeout connect 1s
  timeout client 60s
  timeout server 15s
  retries 2
  retry-on conn-failure empty-response 502 503 504
  option redispatch
  http-reuse always
frontend outbound
  bind 127.0.0.1:{port} {protocol}
  {rule}
  default_backend venue
backend venue
  balance roundrobin
{servers}
""")
    return ["haproxy", "-f", str(folder / "haproxy.cfg")]


def _envoy(folder: Path, port: int, binary: str) -> list[str]:
    retry = {"retry_on": "gateway-error,connect-failure,reset", "num_retries": 2, "per_try_timeout": "5s"}
    route = {"cluster": "venue", "prefix_rewrite": "/", "timeout": "15s", "retry_policy": retry}
    return envoy(folder, port, binary, {"match": {"prefix": "/venue/"}, "route": route}, {})


def envoy(folder: Path, port: int, binary: str, route: dict[str, object], of_cluster: dict[str, object]) -> list[str]:
    """Writes the configuration of an Envoy with this route and these further keys of its cluster. Returns its command.

    Envoy reads JSON as well as YAML, and JSON is easier to write here.
    """
    filters = "type.googleapis.com/envoy.extensions.filters"

    def address(port: int) -> dict[str, object]:
        return {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}

    manager = {
        "@type": f"{filters}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "outbound",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{filters}.http.router.v3.Router"}}
        ],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    limits = {"max_connections": 1024, "max_requests": 1024, "retry_budget": {"budget_percent": {"value": 20}}}
    cluster = {
        **of_cluster,
        "name": "venue",
        "type": "STATIC",
        "connect_timeout": "1s",
        "lb_policy": "ROUND_ROBIN",
        "outlier_detection": {"consecutive_5xx": 5},
        "circuit_breakers": {"thresholds": [limits]},
        "load_assignment": {
            "cluster_name": "venue",
            "endpoints": [{"lb_endpoints": [{"endpoint": address(port)} for port in UPSTREAM_PORTS]}],
        },
    }
    listener = {"name": "outbound", **address(port), "filter_chains": [chain]}
    (folder / "envoy.json").write_text(
        json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}})
    )
    return [binary, "-c", str(folder / "envoy.json"), "--concurrency", "1", "-l", "error"]
