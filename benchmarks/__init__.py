"""What a request through the sidecar costs, beside its peers, measured on this machine in one run: `make bench`.

`systems` holds what is compared and how each is set up, `measure` the instruments, `__main__` the order of events and
the table. docs/performance.md says how to read the figures.
"""
