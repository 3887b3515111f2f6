"""What becomes of a request: who answers it, the attempts made for it, its fallbacks, and what is recorded."""
