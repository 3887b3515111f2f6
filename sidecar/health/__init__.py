"""Health checks: finds out which endpoints are well by sending them requests."""
