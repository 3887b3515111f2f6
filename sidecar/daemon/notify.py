"""Tells a service manager that the sidecar is ready, or is about to end: systemd's sd_notify protocol.

systemd gives a unit of `Type=notify` the address of a datagram socket in NOTIFY_SOCKET; podman gives it to a container
too. Without that variable nothing is sent. See sd_notify(3).
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping
from typing import Final, Literal

log = logging.getLogger("sidecar.daemon")

VARIABLE: Final = "NOTIFY_SOCKET"


def notify(state: Literal["READY=1", "STOPPING=1"], environ: Mapping[str, str]) -> None:
    """Send `state`. A failure is logged and nothing more: the service manager will notice by itself."""
    address = environ.get(VARIABLE)
    if not address:
        return
    if address[0] == "@":  # a name in Linux' abstract namespace
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)
            sender.sendto(state.encode(), address)
    except OSError as error:
        log.warning("the service manager could not be notified of %s", state, extra={"fields": {"detail": str(error)}})
