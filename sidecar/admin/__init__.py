"""HTTP servers of the daemon, on aiohttp: the admin API and dashboard for operators, and probes for kubelet and
Prometheus.

probe          the probe listener: /livez, /readyz, /health, /metrics; the admin listener answers these too
server         the admin listener: its paths and handlers
guard          refuses cross-site and unauthorised requests
running        the interface to the daemon
answers        the JSON shapes of requests and responses, as structs; openapi builds the document from them
services_view, config_view, explain, route_state
               build responses from live objects; clock: times as text, problem: error responses
commands       requests that change something
stream         events as they happen (Server-Sent Events)
page           the dashboard's files
"""
