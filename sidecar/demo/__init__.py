"""`sidecar demo`: the daemon in front of three small services, to be looked at and played with.

`show` starts everything and says what to try, `upstream` is one of the services (a child process each), `sidecar.yaml`
the configuration. Nothing here is used when the sidecar serves a real app.
"""
