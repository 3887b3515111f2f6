"""Certificates in a Secret: made, shared, raced for, renewed, trusted before they are served with."""

from __future__ import annotations

import asyncio
import base64
import copy
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sidecar.discovery.kubernetes.credentials import Credentials
from sidecar.discovery.kubernetes.problem import Problem
from sidecar.kubernetes.authority import CA_LIFETIME, LIFETIME, Material, from_secret
from sidecar.kubernetes.certificates import SETTLE_S, Certificates
from sidecar.kubernetes.objects import Objects
from sidecar.kubernetes.server_tls import BadCertificate, ServerTls
from sidecar.net.tasks import Tasks
from sidecar.policy.settings import KubernetesSettings
from tests.support.kubernetes_api import refuse, until
from tests.support.kubernetes_objects import SECRET, WEBHOOK, ObjectsApi

NOW = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)


class Replica:
    """One injector's certificates; `slept` are its waits, of which none takes any time."""

    def __init__(self, api: ObjectsApi) -> None:
        self.now = NOW
        self.slept: list[float] = []
        self.tls = ServerTls()
        self.objects = Objects(Credentials(KubernetesSettings(service="x", server=api.url)))
        self.certificates = Certificates(
            self.objects,
            self.tls,
            namespace="sidecar-system",
            secret="sidecar-injector-tls",
            webhook="sidecar-injector",
            names=["sidecar-injector.sidecar-system.svc"],
            now=lambda: self.now,
            sleep=self._sleep,
            random=lambda: 0.5,
        )

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)

    async def __aenter__(self) -> Replica:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.objects.close()


def expires(material: Material) -> datetime:
    return datetime.fromtimestamp(material.expires(), UTC)


def bundles(api: ObjectsApi) -> set[bytes]:
    return {base64.b64decode(one["clientConfig"]["caBundle"]) for one in api.objects[WEBHOOK]["webhooks"]}


async def test_the_first_look_makes_everything_and_keeps_what_was_there() -> None:
    async with ObjectsApi() as api, Replica(api) as one:
        before = copy.deepcopy(api.objects)
        await one.certificates.look()
        material = from_secret(api.objects[SECRET]["data"])
        assert material is not None
        assert bundles(api) == {material.bundle}
        assert one.tls.ready
        assert one.certificates.expires == (NOW + LIFETIME).timestamp()
        for path in (SECRET, WEBHOOK):
            for found in (before[path], api.objects[path]):
                found["metadata"].pop("resourceVersion")
        api.objects[SECRET].pop("data")
        for webhook in api.objects[WEBHOOK]["webhooks"]:
            webhook["clientConfig"].pop("caBundle")
        assert api.objects == before


async def test_a_second_look_changes_nothing() -> None:
    async with ObjectsApi() as api, Replica(api) as one:
        await one.certificates.look()
        api.asked.clear()
        await one.certificates.look()
        assert api.asked == [("GET", WEBHOOK), ("GET", SECRET)]
        assert one.tls.loads == 1
        assert one.slept == []


async def test_replicas_that_start_at_once_agree() -> None:
    async with ObjectsApi() as api, Replica(api) as one, Replica(api) as two, Replica(api) as three:
        await asyncio.gather(*(replica.certificates.look() for replica in (one, two, three)))
        material = from_secret(api.objects[SECRET]["data"])
        assert material is not None
        assert bundles(api) == {material.bundle}
        assert {replica.certificates.expires for replica in (one, two, three)} == {material.expires()}
        assert {replica.tls._loaded for replica in (one, two, three)} == {(material.chain, material.key)}
        assert api.count("PUT") >= 2, "they did race"


async def test_renewal_is_picked_up_by_the_others_and_a_new_ca_is_trusted_before_it_is_used() -> None:
    async with ObjectsApi() as api, Replica(api) as one, Replica(api) as two:
        await one.certificates.look()
        await two.certificates.look()
        old = bundles(api)
        one.now = two.now = NOW + LIFETIME - LIFETIME / 3
        await one.certificates.look()
        assert bundles(api) == old
        assert one.slept == [], "the CA is the same"
        await two.certificates.look()
        assert one.tls._loaded == two.tls._loaded
        assert two.tls.loads == 2

        served_while_waiting: list[Any] = []
        sleep = one._sleep

        async def watch(seconds: float) -> None:
            served_while_waiting.append((seconds, one.tls._loaded[0], bundles(api)))
            await sleep(seconds)

        one.certificates._sleep = watch
        one.now = NOW + CA_LIFETIME - CA_LIFETIME / 3
        before = one.tls._loaded[0]
        await one.certificates.look()
        ((seconds, served, trusted),) = served_while_waiting
        assert seconds == SETTLE_S
        assert served == before
        (bundle,) = trusted
        assert bundle.endswith(next(iter(old))), "what the other replica serves with is trusted as well"
        assert one.tls._loaded[0] != before


async def test_a_replica_that_died_between_secret_and_bundle_is_made_up_for() -> None:
    async with ObjectsApi() as api, Replica(api) as one, Replica(api) as two:
        api.faults = [None, None, None, refuse(503)]  # the PATCH, last of all
        with pytest.raises(Problem):
            await one.certificates.look()
        assert not one.tls.ready
        await two.certificates.look()
        material = from_secret(api.objects[SECRET]["data"])
        assert material is not None
        assert bundles(api) == {material.bundle}
        assert api.count("PUT") == 1


async def test_a_bundle_that_somebody_overwrote_is_put_back() -> None:
    async with ObjectsApi() as api, Replica(api) as one:
        await one.certificates.look()
        good = bundles(api)
        api.objects[WEBHOOK]["webhooks"][1]["clientConfig"].pop("caBundle")
        await one.certificates.look()
        assert bundles(api) == good


async def test_a_bundle_that_is_put_right_is_logged_once_a_repair(caplog: Any) -> None:
    caplog.set_level(logging.INFO)

    def repairs() -> list[int]:
        found = [record for record in caplog.records if record.message == "caBundle corrected"]
        assert all(record.fields["configuration"] == "sidecar-injector" for record in found)
        return [record.fields["webhooks"] for record in found]

    async with ObjectsApi() as api, Replica(api) as one, Replica(api) as two:
        await one.certificates.look()
        assert repairs() == [2], "the first one, where there was none"
        for count in (1, 2):
            api.objects[WEBHOOK]["webhooks"][1]["clientConfig"]["caBundle"] = "b3RoZXI="
            await asyncio.gather(one.certificates.look(), two.certificates.look())
            for _ in range(3):
                await one.certificates.look()
                await two.certificates.look()
            assert repairs() == [2, *[1] * count]


async def test_a_secret_with_garbage_is_made_anew() -> None:
    async with ObjectsApi() as api, Replica(api) as one:
        api.objects[SECRET]["data"] = {"tls.crt": "Z2FyYmFnZQ==", "mine": "a2VlcA=="}
        await one.certificates.look()
        assert from_secret(api.objects[SECRET]["data"]) is not None
        assert api.objects[SECRET]["data"]["mine"] == "a2VlcA=="


@pytest.mark.parametrize("part", ["tls.key", "tls.crt", "ca.key"])
@pytest.mark.parametrize("value", [base64.b64encode(b"garbage").decode(), "", None])
async def test_a_secret_that_was_broken_is_mended_with_no_replica_out_of_trust(part: str, value: str | None) -> None:
    """The other one goes on with the old certificate for up to a minute, and the one that mends it while it settles."""
    async with ObjectsApi() as api, Replica(api) as one, Replica(api) as two:
        await one.certificates.look()
        await two.certificates.look()
        (old,) = bundles(api)
        api.objects[SECRET]["data"][part] = value
        await one.certificates.look()
        (new,) = bundles(api)
        assert new.endswith(old)
        assert new != old
        await two.certificates.look()
        assert one.tls._loaded == two.tls._loaded


async def test_a_patch_that_meets_another_change_is_tried_again() -> None:
    async with ObjectsApi() as api, Replica(api) as one:
        api.faults = [None, None, None, refuse(422, "Invalid")]
        await one.certificates.look()
        assert api.count("PATCH") == 2
        assert one.tls.ready


@pytest.mark.parametrize(("path", "words"), [(SECRET, "apply them again"), (WEBHOOK, "is answered with 404")])
async def test_what_is_not_there_is_said(path: str, words: str) -> None:
    async with ObjectsApi() as api, Replica(api) as one:
        del api.objects[path]
        with pytest.raises(Problem, match=words):
            await one.certificates.look()


async def test_a_configuration_without_webhooks_is_said() -> None:
    async with ObjectsApi() as api, Replica(api) as one:
        api.objects[WEBHOOK]["webhooks"] = None
        with pytest.raises(Problem, match="no webhooks"):
            await one.certificates.look()


async def test_who_read_the_secret_before_a_renewal_does_not_undo_what_is_trusted_since() -> None:
    async with ObjectsApi() as api, Replica(api) as one, Replica(api) as two:
        await one.certificates.look()
        renew_at = NOW + CA_LIFETIME - CA_LIFETIME / 3
        api.objects[WEBHOOK]["webhooks"][0]["clientConfig"].pop("caBundle")  # so that `two` has something to patch
        secret = from_secret(api.objects[SECRET]["data"])
        get = two.objects.get

        async def get_and_fall_asleep(path: str) -> dict[str, Any]:
            found = copy.deepcopy(await get(path))
            if path == SECRET:
                two.certificates._objects.get = get  # type: ignore[method-assign]
                one.now = two.now = renew_at
                await one.certificates.look()
            return found

        two.certificates._objects.get = get_and_fall_asleep  # type: ignore[method-assign]
        await two.certificates.look()
        material = from_secret(api.objects[SECRET]["data"])
        assert material is not None
        assert material != secret
        assert bundles(api) == {material.bundle}
        assert two.tls._loaded == one.tls._loaded == (material.chain, material.key)


@pytest.mark.parametrize("behind", [timedelta(hours=2), timedelta(days=1), timedelta(days=10)])
@pytest.mark.parametrize("faster", ["ahead", "behind"])
async def test_replicas_whose_clocks_differ_agree_after_one_renewal_more(behind: timedelta, faster: str) -> None:
    """Over a year, by looks in turn: the one that is behind, or the one that is ahead, finds first what is due."""
    async with ObjectsApi() as api, Replica(api) as ahead, Replica(api) as back:
        turns = (ahead, back) if faster == "ahead" else (back, ahead)
        renewed_at: list[timedelta] = []
        passed = timedelta()
        while passed <= CA_LIFETIME:
            ahead.now, back.now = NOW + passed, NOW + passed - behind
            before = api.count("PUT")
            for one in (*turns, *turns):
                await one.certificates.look()
            if (puts := api.count("PUT") - before) > 0:
                renewed_at.append(passed)
                assert puts <= 2, "one that was due, and one more at the most"
            material = from_secret(api.objects[SECRET]["data"])
            assert material is not None
            assert bundles(api) == {material.bundle}
            assert ahead.tls._loaded == back.tls._loaded == (material.chain, material.key)
            assert {one.now < expires(material) for one in turns} == {True}
            for one in (*turns, *turns):  # and nothing flaps
                await one.certificates.look()
            assert api.count("PUT") == before + puts
            passed += timedelta(days=10)
        assert len(renewed_at) <= CA_LIFETIME / (LIFETIME * 2 / 3 - behind) + 2


async def test_a_clock_that_is_put_right_is_one_renewal() -> None:
    async with ObjectsApi() as api, Replica(api) as one, Replica(api) as two:
        one.now = NOW + timedelta(days=1)
        await one.certificates.look()
        one.now = two.now = NOW  # NTP has come up
        for replica in (one, two, one, two):
            await replica.certificates.look()
        assert api.count("PUT") == 2
        assert one.tls._loaded == two.tls._loaded


async def test_trouble_is_logged_once_and_tried_again_ever_more_slowly(caplog: Any) -> None:
    async with ObjectsApi() as api, Replica(api) as one:
        api.faults = [refuse(503) for _ in range(9)]
        with caplog.at_level(logging.INFO, "sidecar.injector"):
            task = Tasks(logging.getLogger()).start(one.certificates.run(), "certificates")
            await until(lambda: len(one.slept) > 9)
            task.cancel()
            await asyncio.wait([task])
        assert one.slept[:9] == [0.75, 1.5, 3, 6, 12, 24, 45, 45, 45]
        assert one.slept[9] == 60
        assert [record.levelname for record in caplog.records].count("ERROR") == 1
        assert one.tls.ready


async def test_what_cannot_be_served_with_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ObjectsApi() as api, Replica(api) as one, Replica(api) as two:
        await one.certificates.look()
        old = from_secret(api.objects[SECRET]["data"])
        assert old is not None
        load = two.tls.load

        def refuses_old(chain: bytes, key: bytes) -> bool:
            if chain == old.chain:
                raise BadCertificate("no certificate")
            return load(chain, key)

        monkeypatch.setattr(two.tls, "load", refuses_old)
        with pytest.raises(Problem, match="created anew: no certificate"):
            await two.certificates.look()
        await two.certificates.look()
        made = from_secret(api.objects[SECRET]["data"])
        assert made is not None
        assert made != old
        assert bundles(api) == {made.bundle}
        assert two.tls._loaded == (made.chain, made.key)
        await one.certificates.look()
        assert one.tls._loaded == (made.chain, made.key)


@pytest.mark.parametrize("wrong", [{"webhooks": [{}]}, {"metadata": None}, {"webhooks": [7]}])
async def test_an_object_of_another_shape_ends_nothing(wrong: dict[str, Any], caplog: Any) -> None:
    async with ObjectsApi() as api, Replica(api) as one:
        right = copy.deepcopy(api.objects[WEBHOOK])
        api.objects[WEBHOOK] |= wrong
        with caplog.at_level(logging.INFO, "sidecar.injector"):
            task = Tasks(logging.getLogger()).start(one.certificates.run(), "certificates")
            await until(lambda: len(one.slept) > 3)
            assert not one.tls.ready
            api.objects[WEBHOOK] = right
            await until(lambda: one.tls.ready)
            task.cancel()
            await asyncio.wait([task])
        assert one.slept[:3] == [0.75, 1.5, 3]
        assert [record.levelname for record in caplog.records].count("ERROR") == 1


async def test_no_key_is_ever_logged(caplog: Any) -> None:
    with caplog.at_level(logging.DEBUG):
        async with ObjectsApi() as api, Replica(api) as one:
            await one.certificates.look()
            one.now += timedelta(days=300)
            await one.certificates.look()
            material = from_secret(api.objects[SECRET]["data"])
    assert material is not None
    told = " ".join(str(vars(record)) for record in caplog.records)
    assert "PRIVATE" not in told
