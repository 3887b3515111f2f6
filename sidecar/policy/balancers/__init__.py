"""Balancers: which endpoint an attempt goes to.

`balancer` says what one is, `make` builds the one that is configured. The choices themselves: `round_robin`,
`least_request`, `peak_ewma` (on the estimates of `ewma`), `random_choice`, `ring` (on the circle of `ring_points`, by
the keys of `hashing`); all draws by chance are `weighted_draw`. Around them go `slow_start`, and outermost `priority`:
whether a level of priority is well is asked about its endpoints, not about their warming up.
"""
