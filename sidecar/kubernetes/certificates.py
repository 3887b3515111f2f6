"""Certificates of the injector's own: kept in a Secret that all replicas share, renewed in time, trusted by the API
server through `caBundle`.

Owns the order, which is what makes a change go unnoticed:

1. Read the Secret. If something in it is due, make the new and replace the Secret, with the `resourceVersion` that was
   read: of replicas that do so at once one succeeds, and the others read what it wrote.
2. Put the CA bundle into the MutatingWebhookConfiguration, if it is another one there. The bundle has the old CA too.
   It is read before the Secret, and patched only if nobody has changed it since: who read an old Secret cannot undo
   what the replica that renewed it has written.
3. Only then serve with the new certificate, a moment later, for the API server has to hear of its own configuration.

Replicas whose clocks differ agree nevertheless: to the one that is behind, a certificate that the other has just made
is from the future, so it makes another, which is good for both. That is one renewal more each time, and the end of it
while clocks differ by less than two thirds of a serving certificate's life.

The Secret has to be there (the manifests have it, empty): so nothing needs the right to create Secrets, which cannot
be limited to one name.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

from sidecar.discovery.kubernetes.problem import Problem
from sidecar.kubernetes import authority
from sidecar.kubernetes.authority import Material
from sidecar.kubernetes.objects import CONFLICT, MISSING, TEST_FAILED, Objects
from sidecar.kubernetes.patch_path import Operation
from sidecar.kubernetes.server_tls import BadCertificate, ServerTls

log = logging.getLogger("sidecar.injector")

LOOK_S: Final = 60.0
"""How often the Secret is read: so long after one replica renewed it, the others serve with it too."""
SETTLE_S: Final = 3.0
FIRST_WAIT_S: Final = 1.0
TRIES: Final = 8
"""How often in a row another replica may have been faster."""


class Certificates:
    """Keeps `tls` supplied. `now`, `sleep` and `random` in [0, 1) are there for tests."""

    def __init__(
        self,
        objects: Objects,
        tls: ServerTls,
        *,
        namespace: str,
        secret: str,
        webhook: str,
        names: Sequence[str],
        now: Callable[[], datetime] = authority.utc_now,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._objects = objects
        self._tls = tls
        self._secret = f"/api/v1/namespaces/{quote(namespace, safe='')}/secrets/{quote(secret, safe='')}"
        self._webhook = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/" + quote(webhook, safe="")
        self._names = tuple(names)
        self._now = now
        self._sleep = sleep
        self._random = random
        self.expires = 0.0
        """Unix seconds; 0 before there is a certificate."""
        self._unusable: Material | None = None
        """What was in the Secret and could not be served with."""

    async def run(self) -> None:
        """Until cancelled, whatever happens. What is in force stays while the API server cannot be asked."""
        told = ""
        wait_s = FIRST_WAIT_S
        while True:
            try:
                await self.look()
                told, wait_s = "", FIRST_WAIT_S
                await self._sleep(LOOK_S * (0.9 + 0.2 * self._random()))
            except Exception as error:  # of an object that has another shape, say: without a renewal all would end
                is_problem = isinstance(error, Problem)
                kind = error.kind if isinstance(error, Problem) else type(error).__name__
                if kind != told:
                    told = kind
                    detail = str(error) if is_problem else f"a defect: {kind}"
                    log.error(
                        "certificates cannot be looked after",
                        exc_info=None if is_problem else error,
                        extra={"fields": {"detail": detail}},
                    )
                await self._sleep(wait_s * (0.5 + 0.5 * self._random()))
                wait_s = min(wait_s * 2, LOOK_S)

    async def look(self) -> None:
        """Do all that is due. Raises Problem."""
        material, changed = await self._trusted()
        if changed and self._tls.ready:
            await self._sleep(SETTLE_S)
        try:
            is_another = self._tls.load(material.chain, material.key)
        except BadCertificate as bad:
            self._unusable = material
            raise Problem("certificate", f"{self._secret} cannot be served with, and is made anew: {bad}") from None
        if is_another:
            self.expires = material.expires()
            log.info("certificate loaded", extra={"fields": {"expires": round(self.expires)}})

    async def _kept(self) -> Material:
        """What is in the Secret, once that is not due. Raises Problem."""
        for _ in range(TRIES):
            try:
                secret = await self._objects.get(self._secret)
            except Problem as problem:
                if problem.kind == MISSING:
                    words = f"there is no Secret at {self._secret}; the manifests have it, empty: apply them again"
                    raise Problem(MISSING, words) from None
                raise
            found = authority.from_secret(secret.get("data"))
            if found is not None and found == self._unusable:
                found = found.trust_alone()
            material = authority.renewed(found, self._names, self._now())
            if material is None and found is not None:
                return found
            assert material is not None
            secret["data"] = {**(secret.get("data") or {}), **material.to_secret()}
            try:
                await self._objects.replace(self._secret, secret)
            except Problem as problem:
                if problem.kind == CONFLICT:
                    continue
                raise
            log.info("certificate renewed", extra={"fields": {"expires": round(material.expires())}})
            return material
        raise Problem(CONFLICT, f"somebody else keeps changing {self._secret}")

    async def _trusted(self) -> tuple[Material, bool]:
        """See to Secret and `caBundle`; what is kept, and whether `caBundle` had to be changed. Raises Problem."""
        for _ in range(TRIES):
            found = await self._objects.get(self._webhook)
            material = await self._kept()
            operations = _operations(found, base64.b64encode(material.bundle).decode())
            if not operations:
                return material, False
            try:
                await self._objects.patch(self._webhook, operations)
            except Problem as problem:
                if problem.kind in (CONFLICT, TEST_FAILED):
                    continue
                raise
            return material, True
        raise Problem(CONFLICT, f"somebody else keeps changing {self._webhook}")


def _operations(configuration: dict[str, Any], bundle: str) -> list[Operation]:
    """None, or with a test that it is still the configuration which was looked at. Raises Problem."""
    webhooks = configuration.get("webhooks")
    if not isinstance(webhooks, list) or not webhooks:
        raise Problem("content", "the MutatingWebhookConfiguration has no webhooks; apply the manifests again")
    made: list[Operation] = [
        {"op": "add", "path": f"/webhooks/{place}/clientConfig/caBundle", "value": bundle}
        for place, one in enumerate(webhooks)
        if one["clientConfig"].get("caBundle") != bundle
    ]
    version = configuration["metadata"]["resourceVersion"]
    test: Operation = {"op": "test", "path": "/metadata/resourceVersion", "value": version}
    return [test, *made] if made else []
