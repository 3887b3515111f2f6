"""The webhook over real TLS: reviews, everything that is none, slow and huge and many, and a new certificate."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import json
import logging
import ssl
import time
from typing import Any

import aiohttp
import pytest

from sidecar.kubernetes.settings import InjectorSettings
from sidecar.kubernetes.webhook import MOST_BODY_BYTES
from sidecar.net.http_listener import Bounds
from tests.kubernetes.reviewed import HOST, Running, applied, new_material, review, running, trust
from tests.kubernetes.samples import NAMES, annotated, pod, sample
from tests.support.kubernetes_api import until


async def raw(found: Running) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(
        "127.0.0.1", found.port, ssl=trust(found.material), server_hostname=HOST, limit=1 << 16
    )


HEAD = b"POST /inject HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize("name", NAMES)
async def test_reviews_of_pods_of_charts(name: str) -> None:
    async with running() as found:
        answer = await found.ask(review(sample(name)))
    assert answer["uid"] == "705ab4f5-6393-11e8-b7cc-42010a800002"
    assert answer["allowed"] is True
    if name == "node_exporter":
        assert set(answer) == {"uid", "allowed"}
    else:
        made = applied(answer, sample(name))
        assert made["spec"]["initContainers"][0]["name"] == "sidecar"


async def test_the_two_paths() -> None:
    async with running() as found:
        assert "patch" in await found.ask(review(), "/inject")
        assert "patch" not in await found.ask(review(), "/inject/asked")
        assert "patch" in await found.ask(review(annotated(inject="true")), "/inject/asked")


async def test_denials_and_warnings() -> None:
    async with running() as found:
        denied = await found.ask(review(annotated(image="UPPER")))
        assert denied["allowed"] is False
        assert denied["status"]["code"] == 403
        assert "sidecar.dev/image is 'UPPER'" in denied["status"]["message"]
        warned = await found.ask(review(annotated(cpu="lots")))
        assert warned["allowed"] is True
        assert "patch" in warned
        assert warned["warnings"] == ["annotation sidecar.dev/cpu is 'lots': expected CPU such as 100m or 0.5; ignored"]
        assert found.webhook.counters.injections["denied"] == 1


@pytest.mark.parametrize(
    "request_",
    [
        {"operation": "UPDATE"},
        {"operation": "DELETE", "object": None},
        {"kind": {"group": "apps", "version": "v1", "kind": "Deployment"}},
        {"object": []},
        {"object": "pod"},
        {"namespace": None, "object": {}},
        {"namespace": "sidecar-system"},
    ],
)
async def test_what_is_not_for_a_sidecar_is_allowed_as_it_is(request_: dict[str, Any]) -> None:
    async with running() as found:
        answer = await found.ask(review(**request_))
    assert answer["allowed"] is True
    assert "patch" not in answer


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"apiVersion":"\\ud800"}', ""),
        (b"[" * 100_000, "not an AdmissionReview"),
        (json.dumps(review()).encode().replace(b'"old', b'"x":' + b"[" * 100_000 + b',"old'), ""),
        (json.dumps(review()).encode().replace(b'"image"', b'"x":' + b"[" * 100_000), "too deep"),
        (b"null", "not an AdmissionReview"),
        (b"[]", "not an AdmissionReview"),
        (b"{}", "not an AdmissionReview"),
        (b'{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}', "no request"),
        (b'{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{}}', "not an AdmissionReview"),
        (b'{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1beta1"}', "admissionReviewVersions"),
        (b'{"kind":"Pod","apiVersion":"v1"}', "not an AdmissionReview"),
        (json.dumps(review(uid="")).encode(), "no usable uid"),
        (json.dumps(review(uid="x" * 300)).encode(), "no usable uid"),
        (json.dumps(review(uid=7)).encode(), "not an AdmissionReview"),
    ],
)
async def test_what_is_no_review_is_a_400_that_says_why(body: bytes, words: str) -> None:
    async with running() as found:
        async with await found.post(body) as answer:
            assert answer.status == 400
            assert words in await answer.text()
        assert found.webhook.counters.injections["malformed"] == 1
        assert "patch" in await found.ask(review()), "the connection is still good"


@pytest.mark.parametrize("place", ["review", "request", "kind", "object", "metadata", "spec", "container"])
async def test_any_json_at_any_place_is_answered(place: str) -> None:
    values: list[Any] = [None, True, -1, 1e300, "", "x\u2028\n", [], [None], {}, {"": None}, [[[]]], 2**70]
    async with running() as found:
        for value in values:
            for key in list(_at(review(), place)):
                whole = review()
                _at(whole, place)[key] = value
                async with await found.post(whole) as answer:
                    assert answer.status in (200, 400)
                    if answer.status == 200:
                        assert (await answer.json())["response"]["uid"] == whole["request"]["uid"]
        assert found.webhook.counters.injections["failed"] == 0


def _at(whole: dict[str, Any], place: str) -> dict[str, Any]:
    request = whole["request"]
    found = request["object"]
    made: dict[str, Any] = {
        "review": whole,
        "request": request,
        "kind": request["kind"],
        "object": found,
        "metadata": found["metadata"],
        "spec": found["spec"],
        "container": found["spec"]["containers"][0],
    }[place]
    return made


@pytest.mark.parametrize(
    ("path", "method", "headers", "status"),
    [
        ("/", "POST", {}, 404),
        ("/inject/", "POST", {}, 404),
        ("/metrics", "GET", {}, 404),
        ("/inject/../inject", "POST", {}, 200),
        ("/inject", "GET", {}, 405),
        ("/inject", "PUT", {}, 405),
        ("/inject", "POST", {"Content-Type": "text/plain"}, 415),
        ("/inject", "POST", {"Content-Type": "application/json; charset=utf-8"}, 200),
        ("/inject?timeout=10s", "POST", {}, 200),
        ("/inject", "POST", {"Content-Encoding": "gzip"}, 415),
    ],
)
async def test_wrong_paths_methods_and_types(path: str, method: str, headers: dict[str, str], status: int) -> None:
    async with running() as found, await found.post(review(), path, method=method, headers=headers) as answer:
        assert answer.status == status
        if status == 405:
            assert answer.headers["Allow"] == "POST"


async def test_huge_bodies_by_length_and_by_chunks() -> None:
    async with running() as found:
        async with await found.post(b" " * (MOST_BODY_BYTES + 1)) as answer:
            assert answer.status == 413
        reader, writer = await raw(found)
        writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        try:
            for _ in range(MOST_BODY_BYTES // 0x10000 + 2):
                writer.write(piece)
                await writer.drain()
        except ConnectionError:
            pass
        else:
            assert b"413" in await reader.readline()
        writer.close()
        padded = json.dumps(review()).encode().ljust(MOST_BODY_BYTES)
        async with await found.post(padded) as answer:
            assert answer.status == 200


async def test_a_large_pod_is_patched() -> None:
    env = [{"name": f"N{number}", "value": "x" * 200} for number in range(8_000)]
    large = pod(containers=[{"name": "app", "image": "x", "env": env}])
    async with running() as found:
        answer = await found.ask(review(large))
    assert len(answer["patch"]) < 8_000, "a patch says what is new, whatever was there"


async def test_a_body_that_never_comes_is_a_408() -> None:
    async with running(body_s=0.1) as found:
        reader, writer = await raw(found)
        writer.write(HEAD + b'Content-Length: 100\r\n\r\n{"kind":')
        assert b"408" in await asyncio.wait_for(reader.readline(), 5)
        await asyncio.wait_for(reader.read(), 5)  # closed after it
        writer.close()


async def test_no_body_is_unpacked() -> None:
    """Anybody may send one, and all reviews would wait until it is: held against the time that unpacking it takes."""
    bomb = gzip.compress(bytes(128 * 1024 * 1024))
    began = time.process_time()
    with gzip.open(io.BytesIO(bomb)) as file:
        while file.read(1 << 20):
            pass
    unpacking_s = time.process_time() - began
    async with running() as found:
        began = time.process_time()
        for _ in range(8):
            reader, writer = await raw(found)
            writer.write(HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb)
            assert b"415" in await asyncio.wait_for(reader.readline(), 5)
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await asyncio.wait_for(reader.read(), 5)
            writer.transport.abort()
        assert time.process_time() - began < 4 * unpacking_s


async def test_a_head_that_never_comes_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.net.http_listener._SWEEP_S", 0.05)
    async with running(bounds=Bounds(head_s=0.5)) as found:
        reader, writer = await raw(found)
        writer.write(b"POST /inj")
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        assert "patch" in await found.ask(review())


async def test_connections_that_ask_nothing_keep_no_review_out() -> None:
    async with running(bounds=Bounds(most=2)) as found:
        held = [await raw(found) for _ in range(2)]
        assert "patch" in await found.ask(review())
        assert found.webhook.connections.refused == 0
        for _, writer in held:
            writer.transport.abort()


async def test_past_the_limit_connections_are_refused_before_the_handshake() -> None:
    handshakes = 0

    async with running(bounds=Bounds(most=2)) as found:
        choose = found.tls._choose

        def count(*about: Any) -> int | None:
            nonlocal handshakes
            handshakes += 1
            return choose(*about)

        found.tls.context.sni_callback = count
        held = [await raw(found) for _ in range(2)]
        for _, writer in held:
            writer.write(HEAD + b"Content-Length: 100\r\n\r\n{")
        await until(lambda: found.webhook._reading == 2)
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            await found.ask(review())
        assert found.webhook.connections.refused >= 1
        said = f"sidecar_injector_refused_connections_total {found.webhook.connections.refused}"
        assert said in (await found.probe("/metrics"))[1]
        assert handshakes == 2
        held[0][1].transport.abort()
        await until(lambda: len(found.webhook.connections) == 1)
        assert "patch" in await found.ask(review())
        held[1][1].transport.abort()


async def test_too_many_bytes_at_once_is_a_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.kubernetes.webhook.MOST_BYTES_AT_ONCE", 100)
    async with running() as found, await found.post(review()) as answer:
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "1"


async def test_a_client_that_goes_away_leaves_nothing_behind() -> None:
    async with running() as found:
        for _ in range(20):
            _, writer = await raw(found)
            writer.write(HEAD + b"Content-Length: 100000\r\n\r\n" + b" " * 5000)
            await writer.drain()
            writer.transport.abort()
        assert "patch" in await found.ask(review())
        await until(lambda: found.webhook._reading == 0)


async def test_a_crash_lets_the_pod_pass_with_a_warning_and_an_error_in_the_log(caplog: Any) -> None:
    def crash(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError

    with caplog.at_level(logging.ERROR, "sidecar.injector"):
        async with running(make_patch=crash) as found:
            answer = await found.ask(review())
            assert found.webhook.counters.injections["failed"] == 1
    assert answer["allowed"] is True
    assert "patch" not in answer
    assert "a bug in the injector" in answer["warnings"][0]
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert caplog.records[0].fields["namespace"] == "shop"


CLOSED = InjectorSettings(fail_closed=True)


@pytest.mark.parametrize(
    ("path", "found", "allowed"),
    [
        ("/inject", pod(), False),
        ("/inject", annotated(inject="true"), False),
        ("/inject", annotated(inject="false"), True),
        ("/inject/asked", pod(), True),
        ("/inject/asked", annotated(inject="true"), False),
        ("/inject", pod() | {"metadata": []}, False),
        ("/inject/asked", pod() | {"metadata": []}, True),
    ],
)
async def test_fail_closed_denies_who_is_to_have_one(path: str, found: dict[str, Any], allowed: bool) -> None:
    def crash(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError

    async with running(CLOSED, make_patch=crash) as webhook:
        answer = await webhook.ask(review(found), path)
        assert answer["allowed"] is allowed
        assert ("a bug in the injector" in answer.get("status", {}).get("message", "")) is not allowed
        assert webhook.webhook.counters.injections["failed"] == 1
        assert (await webhook.ask(review(found, namespace="sidecar-system"), path))["allowed"] is True
        async with await webhook.post(b"{}") as malformed:
            assert malformed.status == 400, "for which an API server has failurePolicy: Fail"


async def test_fail_closed_denies_what_is_no_pod_where_one_has_to_be() -> None:
    found = pod() | {"spec": {"containers": "app"}}
    async with running(CLOSED) as webhook:
        denied = await webhook.ask(review(found))
        assert "spec.containers is not a list of objects" in denied["status"]["message"]
        assert (await webhook.ask(review(found), "/inject/asked"))["allowed"] is True
        assert "patch" in await webhook.ask(review())


@pytest.mark.parametrize("path", ["/inject", "/inject/asked"])
@pytest.mark.parametrize("wanted", ["true", "", "false"])
async def test_no_pod_keeps_all_others_waiting(path: str, wanted: str) -> None:
    texts = [text * 60 + "!" for text in ("a", "a.", "a-", "a/", "1", "a,", "_")] + ["a" * 100_000]
    async with running() as found:
        begin = time.process_time()
        for text in texts:
            every = dict.fromkeys(("config", "image", "cpu", "memory", "log_level", "http_proxy", "x" + text), text)
            reviewed = annotated(**every, **({"inject": wanted} if wanted else {}))
            reviewed["spec"]["volumes"] = [{"name": f"sidecar-config-{number}"} for number in range(2, 3000)]
            await found.ask(review(reviewed), path)
        assert time.process_time() - begin < 5


async def test_names_of_any_depth_and_length_are_answered(caplog: Any) -> None:
    deep: Any = "x"
    for _ in range(500):
        deep = [deep]
    port = {"ports": [{"containerPort": 15001}]}
    async with running() as found:
        for name, app in ((deep, "app"), ("x", "a" * 100_000)):
            denied = pod(containers=[{"name": app} | port])
            denied["metadata"]["name"] = name
            answer = await found.ask(review(denied))
            assert len(answer["status"]["message"]) < 500


async def test_probes_and_metrics() -> None:
    async with running(loaded=False) as found:
        assert await found.probe("/livez") == (200, "ok\n")
        assert (await found.probe("/readyz"))[0] == 503
        found.tls.load(found.material.chain, found.material.key)
        assert await found.probe("/readyz") == (200, "ok\n")
        await found.ask(review())
        await found.ask(review(sample("node_exporter")))
        status, text = await found.probe("/metrics")
        assert status == 200
        assert 'sidecar_injections_total{result="injected"} 1' in text
        assert 'sidecar_injections_total{result="skipped"} 1' in text
        assert "process_cpu_seconds_total" in text
        assert (await found.probe("/inject"))[0] == 404
        assert (await found.probe("/readyz", "POST"))[0] == 405
        found.webhook.ending()
        assert (await found.probe("/readyz"))[0] == 503
        assert "patch" in await found.ask(review()), "reviews are answered to the end"


async def test_once_it_ends_each_answer_closes_its_connection() -> None:
    """So that an API server, which keeps its connection, asks the next injector and not this one with old settings."""

    async def closes(found: Running, body: bytes) -> bool:
        async with await found.post(body) as answer:
            await answer.read()
            return answer.headers.get("Connection") == "close"

    async with running() as found:
        assert not await closes(found, review())
        assert not await closes(found, b"no review")
        found.webhook.ending()
        assert await closes(found, review())
        assert await closes(found, b"no review")


async def test_without_a_certificate_no_handshake_succeeds() -> None:
    async with running(loaded=False) as found:
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            await found.ask(review())


async def test_plain_http_and_old_tls_are_not_spoken() -> None:
    async with running() as found:
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            await found.session.post(f"http://127.0.0.1:{found.port}/inject", data=b"{}")


async def test_a_new_certificate_in_mid_traffic() -> None:
    """Connections that are open go on; new ones get the new certificate; no review fails."""
    async with running() as found:
        both = trust(found.material, newer := new_material())
        answered = 0
        stop = asyncio.Event()

        async def traffic() -> None:
            nonlocal answered
            while not stop.is_set():
                # Every other one on a connection of its own.
                headers = {"Connection": "close"} if answered % 2 else {}
                async with await found.post(review(), ssl=both, headers=headers) as answer:
                    assert answer.status == 200
                    await answer.read()
                answered += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(traffic())
            for material in (newer, found.material, newer):
                wanted = answered + 20
                assert found.tls.load(material.chain, material.key)
                await until(lambda: answered >= wanted)  # noqa: B023
            stop.set()
        async with await found.post(review(), ssl=trust(newer), headers={"Connection": "close"}) as answer:
            assert answer.status == 200
        assert found.tls.loads == 4


async def test_two_hundred_reviews_a_second_on_one_core() -> None:
    """By CPU time of this process, the client's share included, so that a busy machine does not matter."""
    async with running(InjectorSettings(kubernetes_discovery=True)) as found:
        body = json.dumps(review(sample("init_containers"))).encode()
        context = trust(found.material)
        for _ in range(20):
            async with await found.post(body, ssl=context) as answer:
                await answer.read()
        count = 300
        began = time.process_time()
        for _ in range(count):
            async with await found.post(body, ssl=context) as answer:
                assert answer.status == 200
                await answer.read()
        rate = count / (time.process_time() - began)
    assert rate > 200, f"{rate:.0f} reviews a second of CPU"
