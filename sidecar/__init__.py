"""A service sidecar: a small proxy in each pod, with circuit breakers, retries, timeouts and load balancing.

The layers, from the bottom: `policy` (pure decisions); `config` and `telemetry`; `discovery` and `health`; `runtime`
(what is live); `proxy` (the data path); `admin` and `kubernetes` (HTTP servers around what runs); `daemon` (connects
all parts); `demo` and `cli`. A layer imports only layers below it; import-linter checks that. `client` and `testing`
are for apps, and stand apart.
"""

__version__ = "0.1.0"
