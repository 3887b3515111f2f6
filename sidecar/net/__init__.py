"""What everything that opens sockets shares: look-ups of names, the event loop that uses them, threads that nobody
waits for.
"""
