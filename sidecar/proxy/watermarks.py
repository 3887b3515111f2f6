"""How much may wait to be sent before the sender is paused."""

from __future__ import annotations

from typing import Final

WRITE_HIGH_WATER: Final = 256 * 1024
"""Bytes waiting in a connection's own buffer; one read of the event loop is up to as large."""
