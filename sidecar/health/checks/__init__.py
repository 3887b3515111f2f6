"""What the health chain can ask beside services: Redis, a TCP port, an HTTP server.

Each kind is a function that makes, of a check's URL, what asks it once and returns `ok` or a reason.
"""
