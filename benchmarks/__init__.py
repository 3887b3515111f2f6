"""Benchmarks: the cost of a request through the sidecar and through its peers, measured on this machine in one run
(`make bench`).

`systems` has the proxies and their configurations, `measure` the measuring tools, and `__main__` the order of the runs
and the table. docs/performance.md explains the figures.
"""
