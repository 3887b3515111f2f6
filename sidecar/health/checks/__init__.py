"""Checks of the health chain for other things than services: Redis, a TCP port, an HTTP server.

For each kind a function takes the URL of a check and returns a coroutine function. That one runs the check once and
returns `ok` or a reason.
"""
