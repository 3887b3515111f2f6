"""What is live: services with their policy state and endpoints, and the table that routes requests to them.

Beside that `http_listener`: how the listeners that are not the proxy's take connections.
"""
