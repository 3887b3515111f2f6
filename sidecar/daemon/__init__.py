"""The daemon process: creates all parts of the sidecar and wires them together.

extras    checks that the optional packages of a configuration are installed start     prepares the process: extras,
sockets, limits serve     creates, starts, drains and stops the parts sources   discovery of the endpoints of each
service health    active checks and the health chain reload    applies another configuration watch     notices that the
file has changed
"""

from __future__ import annotations

from sidecar.daemon.extras import missing_extra
from sidecar.daemon.start import run

__all__ = ["missing_extra", "run"]
