"""Policy decisions: breaker, retries, balancing, ejection, health and limits, as pure synchronous code.

No module here does I/O or reads a clock. Time (monotonic seconds) and randomness are arguments.
"""
