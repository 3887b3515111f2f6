"""The injector's process: sockets, certificates, the webhook, and an orderly shutdown.

On SIGTERM, `/readyz` fails at once, but reviews are still answered for a while, because a Service's endpoints are used
for a while after they are removed.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from msgspec import Struct

from sidecar import __version__
from sidecar.config.schema import Address
from sidecar.discovery.kubernetes.credentials import Credentials
from sidecar.kubernetes.counters import InjectorCounters
from sidecar.kubernetes.server_tls import CertificateFiles, ServerTls
from sidecar.kubernetes.settings import InjectorSettings
from sidecar.kubernetes.webhook import Webhook
from sidecar.net.bind import PortTaken, bind
from sidecar.net.loop import PlainLoop
from sidecar.net.tasks import Tasks
from sidecar.policy.settings import KubernetesSettings
from sidecar.telemetry import logs
from sidecar.telemetry.line_writer import LineWriter

log = logging.getLogger("sidecar.injector")

LAST_LINES_S: Final = 1.0


class Serving(Struct, frozen=True, kw_only=True):
    """Where and how the injector serves. `certificates` is a folder of files, or None for its own certificates."""

    reviews: Address
    probes: Address
    certificates: Path | None = None
    service: str = "sidecar-injector"
    secret: str = "sidecar-injector-tls"
    webhook: str = "sidecar-injector"
    level: str = "info"
    end_s: float = 5.0
    """How many seconds reviews are still answered after SIGTERM."""
    server: str | None = None
    token_file: str | None = None
    ca_file: str | None = None

    def names(self, namespace: str) -> tuple[str, ...]:
        """The Service's names: as the API server uses it (`NAME.NAMESPACE.svc`), and other common forms."""
        host = f"{self.service}.{namespace}.svc"
        return (host, f"{host}.cluster.local", f"{self.service}.{namespace}")


def run(settings: InjectorSettings, serving: Serving) -> int:
    """Runs until SIGTERM or SIGINT. Returns the exit code: 0 after an orderly shutdown, 2 if a port is taken."""
    writer = LineWriter()
    logs.set_up(serving.level, writer.write)
    with asyncio.Runner(loop_factory=PlainLoop) as runner:
        code = runner.run(_serve(settings, serving))
    writer.close(LAST_LINES_S)
    return code


async def _serve(settings: InjectorSettings, serving: Serving) -> int:
    loop = asyncio.get_running_loop()
    end = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end.set)
    sockets: list[Sequence[object]] = []
    try:
        reviews = bind("reviews", [serving.reviews])
        sockets.append(reviews)
        probes = bind("probes", [serving.probes])
    except PortTaken as taken:
        for bound in sockets:
            for one in bound:
                one.close()  # type: ignore[attr-defined]
        sys.stderr.write(f"sidecar injector: {taken}\n")
        return 2
    tls = ServerTls()
    tasks = Tasks(log)
    if serving.certificates is not None:
        tasks.start(CertificateFiles(serving.certificates, tls).run(), "certificate files")
        webhook = Webhook(settings, tls)
        objects = None
    else:
        from sidecar.kubernetes.certificates import Certificates
        from sidecar.kubernetes.objects import Objects

        place = KubernetesSettings(
            service=serving.service, server=serving.server, token_file=serving.token_file, ca_file=serving.ca_file
        )
        objects = Objects(Credentials(place))
        certificates = Certificates(
            objects,
            tls,
            namespace=settings.namespace,
            secret=serving.secret,
            webhook=serving.webhook,
            names=serving.names(settings.namespace),
        )
        tasks.start(certificates.run(), "certificates")
        counters = InjectorCounters(
            lambda: certificates.expires, lambda: len(webhook.connections), lambda: webhook.connections.refused
        )
        webhook = Webhook(settings, tls, counters)
    await webhook.start(reviews, probes)
    fields = {"version": __version__, "reviews": str(serving.reviews), "probes": str(serving.probes)}
    log.info("ready", extra={"fields": fields})
    await end.wait()
    log.info("ending", extra={"fields": {"after_s": serving.end_s}})
    webhook.ending()
    end.clear()
    with suppress(TimeoutError):
        await asyncio.wait_for(end.wait(), serving.end_s)  # a second signal ends the wait
    await webhook.close()
    tasks.cancel()
    await tasks.ended()
    if objects is not None:
        await objects.close()
    log.info("stopped")
    return 0
