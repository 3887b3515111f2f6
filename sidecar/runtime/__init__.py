"""Live state: services with their policy state and endpoints, and the table that routes requests to them.

`http_listener` is here too: it accepts connections for all listeners except the proxy's.
"""
