"""Keeps the injector's certificates: stored in a Secret that all replicas share, renewed in time, and trusted by the
API server through `caBundle`.

This module owns the order of the steps. The order makes sure that no review fails during a change:

1. Read the Secret. If a part of it is due, create new material and replace the Secret, with the `resourceVersion` that
   was read. If several replicas do this at once, one succeeds and the others read what it wrote.
2. Write the CA bundle into the MutatingWebhookConfiguration, if it has a different one. The bundle also has the old CA.
   The configuration is read before the Secret, and patched only if nobody has changed it since. So a replica that read
   an old Secret cannot undo what the replica that renewed it has written.
3. Only then serve with the new certificate, after a short wait, because the API server has to learn of its new
   configuration.

Replicas with different clocks still agree. For a slow clock, a certificate that another replica has just created is
from the future, so this replica creates another one, which is good for both. That costs one more renewal each time. It
works as long as the clocks differ by less than two thirds of a serving certificate's lifetime.

The Secret must exist (the manifests contain it, empty). So nothing needs the right to create Secrets, which cannot be
limited to one name.
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
"""How often the Secret is read, in seconds. When one replica has renewed it, the others follow within this time."""
SETTLE_S: Final = 3.0
FIRST_WAIT_S: Final = 1.0
TRIES: Final = 8
"""How often in a row another replica may be faster."""


class Certificates:
    """Supplies `tls` with certificates. Tests set `now`, `sleep` and `random` (in [0, 1))."""

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
        """When the certificate expires, in Unix seconds; 0 before there is one."""
        self._unusable: Material | None = None
        """Content of the Secret that could not be used to serve."""

    async def run(self) -> None:
        """Runs until cancelled, and survives every error. While the API server does not answer, nothing changes."""
        told = ""
        wait_s = FIRST_WAIT_S
        while True:
            try:
                await self.look()
                told, wait_s = "", FIRST_WAIT_S
                await self._sleep(LOOK_S * (0.9 + 0.2 * self._random()))
            except Exception as error:  # an object with an unexpected shape, for example; renewal must go on
                is_problem = isinstance(error, Problem)
                kind = error.kind if isinstance(error, Problem) else type(error).__name__
                if kind != told:
                    told = kind
                    detail = str(error) if is_problem else f"a bug in the injector: {kind}"
                    log.error(
                        "the certificates could not be checked",
                        exc_info=None if is_problem else error,
                        extra={"fields": {"detail": detail}},
                    )
                await self._sleep(wait_s * (0.5 + 0.5 * self._random()))
                wait_s = min(wait_s * 2, LOOK_S)

    async def look(self) -> None:
        """Does everything that is due. Raises Problem."""
        material, changed = await self._trusted()
        if changed and self._tls.ready:
            await self._sleep(SETTLE_S)
        try:
            is_another = self._tls.load(material.chain, material.key)
        except BadCertificate as bad:
            self._unusable = material
            raise Problem("certificate", f"{self._secret} cannot be used to serve and is created anew: {bad}") from None
        if is_another:
            self.expires = material.expires()
            log.info("certificate loaded", extra={"fields": {"expires": round(self.expires)}})

    async def _kept(self) -> Material:
        """The material in the Secret, renewed if it was due. Raises Problem."""
        for _ in range(TRIES):
            try:
                secret = await self._objects.get(self._secret)
            except Problem as problem:
                if problem.kind == MISSING:
                    words = f"there is no Secret at {self._secret}; the manifests contain it, empty: apply them again"
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
        raise Problem(CONFLICT, f"another client keeps changing {self._secret}")

    async def _trusted(self) -> tuple[Material, bool]:
        """Updates the Secret and `caBundle`. Returns the material and whether `caBundle` changed. Raises Problem."""
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
            fields = {"configuration": self._webhook.rpartition("/")[2], "webhooks": len(operations) - 1}
            log.info("caBundle corrected", extra={"fields": fields})
            return material, True
        raise Problem(CONFLICT, f"another client keeps changing {self._webhook}")


def _operations(configuration: dict[str, Any], bundle: str) -> list[Operation]:
    """The patch for `caBundle`, or none if it is correct. The patch tests that the configuration has not changed since
    it was read. Raises Problem.
    """
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
