"""docs/grpc-clients.md keeps its word: its Python is run as an app and its tests, behind the real sidecar.

What `protoc` would generate for the page's service is written by hand, as far as the page uses it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from textwrap import dedent

import pytest

from sidecar.config.load import loads
from sidecar.testing.grpc_script import GrpcScript
from sidecar.testing.service import ServiceFake
from sidecar.testing.stage import Stage
from tests.support import surroundings, wants
from tests.support.daemon import ROOT
from tests.support.operator import Operator
from tests.support.shown import blocks_of
from tests.testing.inner_run import InnerRun

PAGE = ROOT / "docs" / "grpc-clients.md"
TEXT = PAGE.read_text()

NOT_RUN = {"go": "there is no Go here, nor the module google.golang.org/grpc"}
"""Languages of blocks that no test runs, and why."""

MESSAGES = """
import json


class _Message:
    def __init__(self, **fields):
        self.__dict__.update(self.DEFAULTS | fields)

    def __eq__(self, other):
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def SerializeToString(self):
        return json.dumps(self.__dict__).encode()

    @classmethod
    def FromString(cls, raw):
        return cls(**json.loads(raw))


class GetRequest(_Message):
    DEFAULTS = {"id": 0}


class Venue(_Message):
    DEFAULTS = {"name": ""}
"""
STUB = """
from shop.v1 import venue_pb2


class VenueStub:
    def __init__(self, channel):
        how = {
            "request_serializer": venue_pb2.GetRequest.SerializeToString,
            "response_deserializer": venue_pb2.Venue.FromString,
        }
        self.Get = channel.unary_unary("/shop.v1.Venue/Get", **how)
        self.List = channel.unary_stream("/shop.v1.Venue/List", **how)
        self.Watch = channel.stream_stream("/shop.v1.Venue/Watch", **how)
"""

MORE_TESTS = """
import asyncio


def test_names_by_asyncio(fake, venues):
    fake.shop.grpc(GET).answers(
        lambda call: venue_pb2.Venue(name=f"number {venue_pb2.GetRequest.FromString(call.message).id}")
    )
    assert asyncio.run(venues.names([1, 2, 3])) == ["number 1", "number 2", "number 3"]


def ask(fake, target=None, options=(), metadata=()):
    options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1), *options]
    with grpc.insecure_channel(target or fake.address, options) as channel:
        return channel.unary_unary(GET)(b"{}", timeout=5, metadata=metadata)


def no_claims(fake):
    fake.shop.grpc(reply=b"shop")
    fake.stock.grpc(reply=b"stock")


def test_found_by_the_authority(fake):
    no_claims(fake)
    for name in ("shop", "stock"):
        assert ask(fake, options=[("grpc.default_authority", name)]) == name.encode()


@pytest.mark.parametrize("name", ["x-sidecar-service", "dapr-app-id"])
def test_found_by_metadata_that_stay_here(fake, name):
    no_claims(fake)
    assert ask(fake, metadata=[(name, "stock")]) == b"stock"
    assert name not in fake.stock.grpc_calls[0].metadata


def test_found_by_nothing(fake):
    no_claims(fake)
    fake.allow_unknown()
    with pytest.raises(grpc.RpcError) as error:
        ask(fake)
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert dict(error.value.trailing_metadata())["x-sidecar-reason"] == "unknown_service"


def test_what_two_fakes_have_needs_an_authority(fake):
    fake.shop.grpc(GET, b"shop")
    fake.stock.grpc(GET, b"stock")
    assert ask(fake, metadata=[("x-sidecar-service", "stock")]) == b"stock"


def test_by_http_proxy(fake, monkeypatch):
    no_claims(fake)
    fake.allow_unknown()
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", f"http://{fake.address}")
    assert ask(fake, target=f"dns:///shop:{fake.shop.port}") == b"shop"
    with pytest.raises(grpc.RpcError) as error:
        ask(fake, target="dns:///elsewhere.example:50051")
    assert error.value.code() == grpc.StatusCode.UNAVAILABLE


def test_a_deadline_is_sent_on(fake):
    fake.shop.grpc(GET, b"x")
    ask(fake)
    assert 0 < fake.shop.grpc_calls[0].time_left < 5.1
"""


def section(title: str) -> list[str]:
    """The Python blocks below a heading."""
    text = TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]
    return [block.text for block in blocks_of(text) if block.language == "python"]


def write_app(folder: Path) -> None:
    """The page's app, and what is generated for it."""
    package = folder / "shop" / "v1"
    package.mkdir(parents=True)
    (package / "venue_pb2.py").write_text(MESSAGES)
    (package / "venue_pb2_grpc.py").write_text(STUB)
    (folder / "venues.py").write_text("\n\n".join(section("Python")))


def test_the_app_of_the_page_passes_its_tests(tmp_path: Path) -> None:
    write_app(tmp_path)
    tests, conftest = section("Testing")
    (tmp_path / "conftest.py").write_text(conftest)
    ended = InnerRun(tmp_path, tests + dedent(MORE_TESTS)).run()
    assert ended.code == 0, ended.output
    assert ended.counts()["passed"] == len(re.findall(r"^def test_", tests + MORE_TESTS, re.MULTILINE)) + 1


NODE_MESSAGES = """
class Message {
  constructor(fields) { this.fields = fields || {}; }
  serializeBinary() { return Buffer.from(JSON.stringify(this.fields)); }
}
class GetRequest extends Message {
  setId(id) { this.fields.id = id; return this; }
}
class Venue extends Message {
  getName() { return this.fields.name || ""; }
  static deserializeBinary(raw) { return new Venue(JSON.parse(raw)); }
}
module.exports = { GetRequest, Venue };
"""
NODE_STUB = """
const grpc = require("@grpc/grpc-js");
const { GetRequest, Venue } = require("./venue_pb");
const VenueClient = grpc.makeGenericClientConstructor({
  get: {
    path: "/shop.v1.Venue/Get",
    requestStream: false,
    responseStream: false,
    requestSerialize: (request) => request.serializeBinary(),
    responseDeserialize: (raw) => Venue.deserializeBinary(raw),
  },
}, "Venue");
module.exports = { VenueClient };
"""
NODE_CALL = """
require("./venues").get(42, (error, name) => {
  console.log(error ? error.message : name);
  process.exit(0);
});
"""


@pytest.mark.packaging
@wants.program("node", "npm")
def test_the_code_for_node_calls_through_the_sidecar(tmp_path: Path) -> None:
    (code,) = (block.text for block in blocks_of(TEXT) if block.language == "js")
    package = tmp_path / "shop" / "v1"
    package.mkdir(parents=True)
    (package / "venue_pb.js").write_text(NODE_MESSAGES)
    (package / "venue_grpc_pb.js").write_text(NODE_STUB)
    (tmp_path / "venues.js").write_text(code)
    (tmp_path / "call.js").write_text(NODE_CALL)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(ROOT / "tests" / "node" / name, tmp_path)
    environment = dict(surroundings.FOUND)

    def run(*command: str) -> str:
        ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
    stage = Stage()
    try:
        with stage.fakes() as fake:
            environment["SIDECAR_URL"] = fake.url
            script = fake.shop.grpc("/shop.v1.Venue/Get", b'{"name": "Arena"}').fails("NOT_FOUND", details="none")
            assert run("node", "call.js") == "Arena\n"
            script.assert_called(times=1, message=b'{"id":42}')
            assert run("node", "call.js") == "no venue 42: 5, the service itself: none\n"
            fake.shop.breaker.open()
            assert run("node", "call.js").startswith("no venue 42: 14, circuit_open: ")
    finally:
        stage.close()


@wants.program("node")
def test_the_code_for_node_can_be_read(tmp_path: Path) -> None:
    (code,) = (block.text for block in blocks_of(TEXT) if block.language == "js")
    (tmp_path / "venues.js").write_text(code)
    assert Operator(tmp_path, {}, admin="").prints("node --check venues.js && echo fine") == "fine\n"


def test_every_file_of_the_page_has_no_warning(tmp_path: Path) -> None:
    files = [block.text for block in blocks_of(TEXT) if block.language == "yaml"]
    assert len(files) == 3
    for text in files:
        (tmp_path / "sidecar.yaml").write_text(text)
        printed = Operator(tmp_path, {}, admin="").prints("sidecar check && echo fine")
        assert printed.endswith("\nfine\n"), printed
        assert "warning" not in printed
        assert all(service.h2 for service in loads(text, PAGE.name, {}).services.values())


def test_every_block_of_the_page_is_of_a_kind_that_is_tested() -> None:
    assert {block.language for block in blocks_of(TEXT)} == {"python", "js", "yaml"} | set(NOT_RUN)


def test_the_steps_of_the_table_are_methods_of_a_fake() -> None:
    rows = re.findall(r"^\| `\.(\S.*?)` \|", TEXT, re.MULTILINE)
    assert len(rows) > 4
    for row in rows:
        for name in re.findall(r"(?:^|`\.|, `?\.)(\w+)", row):
            assert any(hasattr(kind, name) for kind in (ServiceFake, GrpcScript)), name


@pytest.mark.parametrize(("target", "anchor"), re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", TEXT))
def test_links_lead_somewhere(target: str, anchor: str) -> None:
    path = PAGE.parent / target if target else PAGE
    assert path.is_file(), target
    titles = re.findall(r"^#+ `?(.*?)`?$", path.read_text(), re.MULTILINE)
    assert not anchor or anchor in {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in titles}
