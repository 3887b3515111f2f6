"""Health checks: finds out which endpoints are healthy by sending them requests."""
