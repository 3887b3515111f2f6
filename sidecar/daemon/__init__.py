"""The daemon: everything is wired together here, and here alone.

extras    what a configuration needs that may not be installed
start     what has to be had before anything runs: extras, sockets, limits of the process
serve     the parts and their life: made, ready, drained, ended
sources   where endpoints come from
health    active checks, and the health chain
reload    another configuration takes over
watch     notices that the file has changed
"""

from __future__ import annotations

from sidecar.daemon.extras import missing_extra
from sidecar.daemon.start import run

__all__ = ["missing_extra", "run"]
