"""A service sidecar: one light proxy beside each pod, applying breaker, retry, timeout and balancing policies.

The layers, from the bottom: `policy` (pure decisions), `config` and `telemetry`, `discovery`, `runtime` (what is
live), `proxy` (the data path), `admin` (HTTP shells around what runs), and on top `cli` and `daemon`, where everything
is wired together. A layer imports those below it and never those above; import-linter holds that.
"""

__version__ = "0.1.0"
