"""The service's side: connections to endpoints, and the pool that keeps them."""
