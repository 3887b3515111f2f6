"""Load balancers: choose the endpoint for an attempt.

`balancer` defines the interface and `make` builds the configured balancer. The algorithms are `round_robin`,
`least_request`, `peak_ewma` (with the estimates of `ewma`), `random_choice` and `ring` (with the points of
`ring_points` and the hashes of `hashing`). `weighted_draw` makes all random draws. `slow_start` wraps an algorithm, and
`priority` wraps both: a priority level is judged by how many of its endpoints are healthy, not by how warm they are.
"""
