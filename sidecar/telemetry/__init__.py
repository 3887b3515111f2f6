"""Events to metrics and logs. Knows nothing of the proxy: others count into plain objects that are read from here."""
