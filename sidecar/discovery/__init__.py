"""Discovery: where the endpoints of a service come from (names, DNS records, Kubernetes)."""
