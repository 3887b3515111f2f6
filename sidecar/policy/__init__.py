"""Decisions: pure, synchronous, with no I/O and no clock of their own.

Time (monotonic seconds) and randomness are arguments.
"""
