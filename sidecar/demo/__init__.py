"""`sidecar demo`: the daemon in front of three small services, to look at and try out.

`show` starts everything and prints a guide, `service` is one of the services (each in a child process), and
`sidecar.yaml` is the configuration. Nothing here is used when the sidecar serves a real app.
"""
