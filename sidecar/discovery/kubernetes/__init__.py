"""Endpoints from Kubernetes: the EndpointSlices of a Service, listed once and then watched.

How the files build on each other, lowest first:

- `problem`: what keeps the API server from being used, in words that an operator can act on.
- `wire`: the JSON that an API server sends (discovery.k8s.io/v1), and nothing of what it means. Pure.
- `slices`: what it means: from EndpointSlices to the set of endpoints that get requests. Pure.
- `credentials`: which server, with which token and CA; re-read as they rotate.
- `api`: one server's HTTP: a whole list, a watch's lines.
- `feed`: one Service's slices, kept up to date for ever; when to list, to watch, to wait.
- `watcher`: who watches which Service; feeds and servers are shared. The daemon meets this one only.

Written on aiohttp directly: the official client costs too much memory for a sidecar
(docs/decisions/0004-no-official-kubernetes-client.md). aiohttp is imported as the first request is sent.
"""
