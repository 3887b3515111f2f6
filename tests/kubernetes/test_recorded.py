"""What real API servers sent, played back byte for byte: reviews to the webhook, and answers about single objects.

tests/kubernetes/recorded/README.md says which servers, and how.
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sidecar.discovery.kubernetes.credentials import Credentials
from sidecar.discovery.kubernetes.problem import Problem
from sidecar.kubernetes.objects import CONFLICT, MISSING, TEST_FAILED, Objects
from sidecar.kubernetes.settings import InjectorSettings
from sidecar.policy.settings import KubernetesSettings
from tests.kubernetes.reviewed import HOST, Running, applied, result_of, running, trust
from tests.support.kubernetes_schema import NATIVE_VERSIONS, NEWEST, OLDEST, pod_problems
from tests.support.replay import Replay

RECORDED = Path(__file__).parent / "recorded"
REVIEWS = sorted(path.stem for path in (RECORDED / "reviews").glob("*.http"))
LEFT_ALONE = {"1.20-host-network", "1.20-not-asked", "1.20-replicaset-again"}
DENIED = {"1.20-denied": "annotation sidecar.dev/image is 'UPPER case'"}
WARNED = {"1.20-replicaset": 1, "1.20-warned": 5, "1.36-dry-run-warned": 2}
SHORT = {"1.20-statefulset"}
"""Its grace period is too short for an ordinary sidecar."""

SECRET = "/api/v1/namespaces/sidecar-system/secrets/sidecar-injector-tls"
WEBHOOK = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/sidecar-injector"


def recorded_review(name: str) -> tuple[bytes, dict[str, Any]]:
    """The request as it went over the wire, and the review's own request."""
    data = (RECORDED / "reviews" / f"{name}.http").read_bytes()
    request = json.loads(data.partition(b"\r\n\r\n")[2])["request"]
    assert isinstance(request, dict)
    return data, request


async def said(found: Running, *requests: bytes) -> list[dict[str, Any]]:
    """What is answered to each, all of them over one connection, as an API server keeps it."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", found.port, ssl=trust(found.material), server_hostname=HOST
    )
    answers = []
    for request in requests:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
        assert head.startswith(b"HTTP/1.1 200 "), head
        assert fields[b"content-type"].startswith(b"application/json")
        assert b"content-encoding" not in fields
        answers.append(result_of(json.loads(await reader.readexactly(int(fields[b"content-length"])))))
    writer.close()
    await writer.wait_closed()
    return answers


def about(request: bytes, pod: dict[str, Any]) -> bytes:
    """The same request with another pod in it."""
    head, _, body = request.partition(b"\r\n\r\n")
    review = json.loads(body)
    review["request"]["object"] = pod
    changed = json.dumps(review).encode()
    return head.replace(b"Content-Length: %d" % len(body), b"Content-Length: %d" % len(changed)) + b"\r\n\r\n" + changed


def without_what_is_added(pod: dict[str, Any]) -> dict[str, Any]:
    """The pod without the sidecar, its volume, its annotations and the variables that an annotation asked for."""
    left = copy.deepcopy(pod)
    spec, metadata = left["spec"], left["metadata"]
    every = [*(spec.get("initContainers") or []), *spec["containers"]]
    mounts = [mount for one in every if one["name"] == "sidecar" for mount in one["volumeMounts"]]
    policy = {mount["name"] for mount in mounts if mount["mountPath"] == "/etc/sidecar"}
    for key in ("containers", "initContainers"):
        spec[key] = [one for one in spec.get(key) or [] if one["name"] != "sidecar"]
        for one in spec[key]:
            one["env"] = [v for v in one.get("env") or [] if v["name"].upper() not in ("HTTP_PROXY", "NO_PROXY")]
    spec["volumes"] = [one for one in spec.get("volumes") or [] if one["name"] not in policy]
    for name in ("sidecar.dev/injected", "kubectl.kubernetes.io/default-container"):
        (metadata.setdefault("annotations", None) or {}).pop(name, None)
    metadata["annotations"] = metadata["annotations"] or None
    return left


def test_there_are_recordings_of_both_servers() -> None:
    assert {name.partition("-")[0] for name in REVIEWS} == {"1.20", "1.36"}
    assert LEFT_ALONE | set(DENIED) | set(WARNED) < set(REVIEWS)


@pytest.mark.parametrize("native", [True, False], ids=["native", "ordinary"])
@pytest.mark.parametrize("name", REVIEWS)
async def test_each_recorded_review_is_answered(name: str, native: bool) -> None:
    sent, request = recorded_review(name)
    pod = request["object"]
    async with running(InjectorSettings(native=native)) as found:
        [answer] = await said(found, sent)
        assert answer["uid"] == request["uid"]
        assert answer["allowed"] is (name not in DENIED)
        assert len(answer.get("warnings", ())) == WARNED.get(name, 0) + (name in SHORT and not native)
        if name in DENIED:
            assert DENIED[name] in answer["status"]["message"]
            return
        assert ("patch" in answer) is (name not in LEFT_ALONE)
        if name in LEFT_ALONE:
            return
        made = applied(answer, pod)
        for version in (NATIVE_VERSIONS[0], NEWEST) if native else (OLDEST, NEWEST):
            assert pod_problems(made, version) == pod_problems(pod, version)
        assert without_what_is_added(made) == without_what_is_added(pod)
        [again] = await said(found, about(sent, made))
        assert set(again) == {"uid", "allowed"}


async def test_all_of_them_over_one_connection() -> None:
    sent = [recorded_review(name)[0] for name in REVIEWS]
    async with running() as found:
        answers = await said(found, *sent)
    assert [one["uid"] for one in answers] == [recorded_review(name)[1]["uid"] for name in REVIEWS]


def test_the_second_review_is_of_the_pod_that_the_first_one_made() -> None:
    """The API server asks again when a plugin changed what a webhook made: here, the sidecar's mount of the token."""
    first, second = (recorded_review(f"1.20-replicaset{which}")[1]["object"]["spec"] for which in ("", "-again"))
    assert [one["name"] for one in first["containers"]] == ["event"]
    assert [one["name"] for one in second["containers"]] == ["sidecar", "event"]
    token = "/var/run/secrets/kubernetes.io/serviceaccount"
    assert token in [one["mountPath"] for one in second["containers"][0]["volumeMounts"]]


@asynccontextmanager
async def objects(*answers: str, piece: int = 0) -> AsyncIterator[Objects]:
    recorded = [(RECORDED / "answers" / f"{name}.http").read_bytes() for name in answers]
    async with Replay(recorded, piece) as replay:
        client = Objects(Credentials(KubernetesSettings(service="x", server=replay.url)))
        try:
            yield client
        finally:
            await client.close()


@pytest.mark.parametrize("piece", [0, 1, 100])
async def test_objects_as_they_were_answered(piece: int) -> None:
    answers = ("secret-empty", "secret-replaced", "webhook", "webhook-patched")
    async with objects(*answers, piece=piece) as client:
        secret = await client.get(SECRET)
        assert "data" not in secret
        assert secret["metadata"]["resourceVersion"]
        assert (await client.replace(SECRET, secret))["data"] == {"tls.crt": "bm8gY2VydGlmaWNhdGU="}
        for has in (False, True):
            webhook = await client.get(WEBHOOK)
            assert [one["name"] for one in webhook["webhooks"]] == ["namespace.sidecar.dev", "pod.sidecar.dev"]
            assert ("caBundle" in webhook["webhooks"][0]["clientConfig"]) is has


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        ("secret-conflict", CONFLICT, "the object has been modified"),
        ("secret-missing", MISSING, 'secrets "another" not found'),
        ("secret-forbidden", "403", "cannot get resource"),
        ("secret-unauthorized", "401", "Unauthorized"),
        ("webhook-test-failed", TEST_FAILED, "rejected our request"),
        ("webhook-no-such-path", TEST_FAILED, "rejected our request"),
    ],
)
async def test_refusals_as_they_were_answered(answer: str, kind: str, words: str) -> None:
    async with objects(answer) as client:
        with pytest.raises(Problem) as caught:
            await client.patch(WEBHOOK, [{"op": "test", "path": "/webhooks/0/name", "value": "another"}])
    assert caught.value.kind == kind
    assert words in str(caught.value)
