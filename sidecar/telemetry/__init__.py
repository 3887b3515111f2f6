"""Telemetry: metrics, logs, events and traces. It does not know the proxy, which counts into plain objects read
here.
"""
