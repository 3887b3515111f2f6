"""Kubernetes discovery: endpoints from the EndpointSlices of a Service, listed once and then watched.

The files, lowest first:

- `problem`: errors of the API server, in words that an operator can act on.
- `wire`: the JSON that an API server sends (discovery.k8s.io/v1), without its meaning. Pure.
- `slices`: the meaning: from EndpointSlices to the set of endpoints that get requests. Pure.
- `credentials`: the server, the token and the CA; read again when they rotate.
- `api`: HTTP to one server: a complete list, the lines of a watch.
- `feed`: the slices of one Service, kept up to date; when to list, to watch and to wait.
- `watcher`: which watches share which Service. The daemon uses only this module.

Written on aiohttp directly, because the official client costs too much memory for a sidecar
(docs/decisions/0004-no-official-kubernetes-client.md). aiohttp is imported when the first request is sent.
"""
