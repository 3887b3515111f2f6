"""Which endpoints are well, found out by asking them."""
