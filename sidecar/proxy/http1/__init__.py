"""HTTP/1.1 as bytes: heads, chunks and bodies. It knows no socket and no policy."""
