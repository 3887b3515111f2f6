"""HTTP/2 and what gRPC makes of it: header compression, frames, connections with their streams, and heads.

It writes to a transport that it is given, and knows no service and no policy.
"""
