"""Random scenes: what an app does in one go, and how the upstreams answer it."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from benchmarks.differential import answers, requests
from benchmarks.differential.scripts import Answer, Op, Scene, Script, Step, tagged

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
HELD: Final[tuple[Op, ...]] = (("gate", None),)


class Stage:
    """What the scenes of one episode have in common, and the numbers of their scripts."""

    def __init__(self, rng: Random, number: int, name: str, address: str, port: int, hosts: list[str]) -> None:
        self.rng = rng
        self.name = name
        self.endpoint = f"{address}:{port}"
        self.hosts = hosts
        self._number = number
        self._next = number * 1000
        self.keyed = False
        """Each request has a key to hash, since chance decides for those without."""
        self.repeatable: frozenset[str] = requests.IDEMPOTENT
        """The methods that some policy of the service may send again."""

    def script(self, answers: tuple[Answer, ...], *, once: bool = False) -> Script:
        self._next += 1
        return Script(self._next, answers, once)

    def request(
        self,
        script: Script,
        method: str = "GET",
        *,
        path: str | None = None,
        more: list[bytes] | None = None,
        line: bytes | None = None,
        minor: int = 1,
    ) -> bytes:
        """A head, without its body. It has the tag of the script."""
        rng = self.rng
        path = rng.choice(requests.PATHS) if path is None else path
        if self.keyed:
            path = f"/k0?user={rng.randrange(4)}"
        host = b"localhost:15001"
        target = f"/{self.name}{path}".encode()
        if self.hosts and rng.random() < 0.3:
            name = rng.choice(self.hosts)
            host = name.replace("*", "81").encode()
            target = (path or "/").encode()
            if rng.random() < 0.4:
                target = b"http://" + host + target
                host = rng.choice((host, b"else.example"))
        elif rng.random() < 0.1:
            host = rng.choice((b"app.example:8080", b"127.0.0.1", b"LOCALHOST."))
        lines = [b"%b %b HTTP/1.%d" % (method.encode(), target, minor) if line is None else line]
        rest = [tagged(script.number), *(more or [])]
        if self.keyed:
            rest = [line for line in rest if not line.startswith((b"X-User", b"Cookie", b"Connection: keep-alive, X"))]
            rest += [b"X-User: " + rng.choice((b"ann", b"bob", b"cyd")), b"Cookie: sid=%d" % rng.randrange(4)]
        if rng.random() < 0.93:
            rest.append(b"X-Request-Id: r%09d" % script.number)
        if minor or rng.random() < 0.5:
            rest.insert(rng.randrange(len(rest)) if rng.random() < 0.3 else 0, b"Host: " + host)
        return b"\r\n".join(lines + rest) + b"\r\n\r\n"

    def once(self, method: str, more: list[bytes]) -> bool:
        """Whether a request may reach the upstreams once only."""
        return method not in self.repeatable and not any(line.lower().startswith(b"idempotency-key") for line in more)

    def method(self) -> str:
        return self.rng.choice(requests.METHODS)


def simple(stage: Stage, *, path: str | None = None) -> Scene:
    """One request and its answer, on a kept connection."""
    rng = stage.rng
    method = stage.method()
    more = requests.fields(rng)
    framing, body = requests.framed(rng, method)
    share = rng.random()
    minor = 0 if share < 0.04 and b"ransfer" not in b"".join(framing) else 1
    if share > 0.97:
        more = [*more, b"Connection: close"]
    if rng.random() < 0.05:
        found: tuple[Answer, ...] = (answers.redirect(rng, stage.name, stage.endpoint),)
    elif rng.random() < 0.03:
        found = (answers.cut_short(rng, method),)
    else:
        found = answers.any_answers(rng, method)
    script = stage.script(found, once=stage.once(method, more))
    data = stage.request(script, method, path=path, more=[*more, *framing], minor=minor) + body
    if rng.random() < 0.05:
        cut = rng.randrange(1, len(data))
        tag = tagged(script.number)
        whole = tag in data[:cut] or tag in data[cut:]
        parts: list[Step] = [("send", 0, data[:cut]), ("sleep", 0.002), ("send", 0, data[cut:])]
        sends = parts if whole else [("send", 0, data)]
    else:
        sends = [("send", 0, data)]
    steps: list[Step] = [("open", 0), *sends, ("answer", 0, method, 0)]
    if any(op[0] == "gate" for one in found for op in one.ops):
        steps.append(("gate", 0))
    return Scene("simple", tuple(steps), (script,))


def failing(stage: Stage) -> Scene:
    """A request that fails, or succeeds where luck has it: for breakers, ejections and fallbacks."""
    rng = stage.rng
    method = rng.choice(("GET", "GET", "GET", "HEAD", "POST", "PUT"))
    more = requests.fields(rng) if rng.random() < 0.3 else []
    framing, body = requests.framed(rng, method)
    maker = rng.choice((answers.failing, answers.retried, answers.retried, answers.good, answers.good))
    found = (maker(rng, method),)
    script = stage.script(found, once=stage.once(method, more))
    data = stage.request(script, method, path=rng.choice(("/k0", "/k1", "/k2?user=7")), more=[*more, *framing]) + body
    return Scene("failing", (("open", 0), ("send", 0, data), ("answer", 0, method, 0)), (script,))


def pipelined(stage: Stage) -> Scene:
    """Several requests at once on one connection."""
    rng = stage.rng
    scripts, data, awaited = [], b"", []
    count = rng.randrange(2, 10)
    for _ in range(count):
        method = stage.method()
        more = requests.fields(rng)
        framing, body = requests.framed(rng, method)
        found = answers.any_answers(rng, method) if rng.random() < 0.3 else (answers.good(rng, method),)
        script = stage.script(found, once=stage.once(method, more))
        scripts.append(script)
        data += stage.request(script, method, more=[*more, *framing]) + body
        if rng.random() < 0.1:
            data += b"\r\n"
        awaited.append(("answer", 1, method))
    return Scene("pipelined", (("new", 1), ("send", 1, data), *awaited), tuple(scripts), count)


def slow_upload(stage: Stage) -> Scene:
    """A body in parts: the next one goes when the upstream has the one before. It may answer before the end."""
    rng = stage.rng
    method = rng.choice(("POST", "PUT", "POST"))
    parts = [b"a" * rng.choice((1, 500, 20_000)), b"b" * rng.choice((1, 300, 70_000)), b"c" * rng.choice((1, 10_000))]
    more = [b"Idempotency-Key: 1"] if rng.random() < 0.2 else []
    if rng.random() < 0.5:
        framing = b"Transfer-Encoding: chunked"
        sent = [b"%x\r\n%b\r\n" % (len(part), part) for part in parts]
        sent[-1] += b"0\r\n\r\n"
    else:
        framing = b"Content-Length: %d" % sum(map(len, parts))
        sent = parts
    kind = rng.randrange(6)
    if kind <= 2:
        found: tuple[Answer, ...] = (answers.good(rng, method),)
    elif kind == 3:  # an early answer
        data = answers.head(rng.choice((200, 401, 413, 503)), [b"Content-Length: 5"]) + b"early"
        found = (Answer((*HELD, ("write", data)), at_head=True),)
    elif kind == 4:  # an early head, and the body of the answer once the request is whole
        begun = answers.head(200, [b"Content-Length: 5"])
        found = (Answer((*HELD, ("write", begun), ("body", None), ("write", b"later")), at_head=True),)
    else:
        found = (Answer((*HELD, (rng.choice(("close", "reset")), None)), at_head=True), answers.good(rng, method))
    script = stage.script(found, once=stage.once(method, more))
    head = stage.request(script, method, more=[framing, *more])
    steps: list[Step] = [("new", 1), ("send", 1, head + sent[0]), ("seen", 0, len(sent[0]))]
    if kind >= 3:
        steps += [("gate", 0), ("sleep", 0.02)]
    steps += [("send", 1, sent[1]), ("seen", 0, len(sent[0] + sent[1])) if kind < 3 else ("sleep", 0.005)]
    steps += [("send", 1, sent[2]), ("answer", 1, method)]
    return Scene(f"slow_upload_{kind}", tuple(steps), (script,))


def expecting(stage: Stage) -> Scene:
    """Expect: 100-continue."""
    rng = stage.rng
    method = rng.choice(("POST", "PUT"))
    body = b"e" * rng.choice((1, 100, 70_000))
    framing = b"Content-Length: %d" % len(body)
    if rng.random() < 0.3:
        framing, body = b"Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    good = answers.good(rng, method)
    kind = rng.randrange(4)
    if kind <= 1:
        answer = Answer((("write", CONTINUE), ("body", None), *good.ops), at_head=True)
    elif kind == 2:
        data = answers.head(rng.choice((401, 413, 417)), [b"Content-Length: 2"]) + b"no"
        answer = Answer((("write", data),), at_head=True)
    else:
        answer = good
    script = stage.script((answer,), once=stage.once(method, []))
    head = stage.request(script, method, more=[framing, b"Expect: 100-continue"])
    if kind == 0:
        steps: list[Step] = [("new", 1), ("send", 1, head), ("interim", 1), ("send", 1, body), ("answer", 1, method)]
    elif kind == 2:
        steps = [("new", 1), ("send", 1, head), ("answer", 1, method)]
    else:
        steps = [("new", 1), ("send", 1, head + body), ("answer", 1, method)]
    return Scene("expecting", tuple(steps), (script,))


def leaving(stage: Stage) -> Scene:
    """The app goes away: while it waits, in the middle of its upload, or of its download."""
    rng = stage.rng
    kind = rng.randrange(4)
    method = "GET" if kind == 0 else "POST"
    more: list[bytes] = []
    body = b""
    ops: tuple[Op, ...] = (("hang", None),)
    if kind == 1:
        more, body = [b"Content-Length: 100"], b"u" * 40
    elif kind == 2:
        more, body = [b"Transfer-Encoding: chunked"], b"5\r\nhello\r\n"
    elif kind == 3:
        ops = (("write", answers.head(200, [b"Content-Length: 1000"]) + b"d" * 100), ("hang", None))
        more, body = [b"Content-Length: 4"], b"body"
    script = stage.script((Answer(ops, at_head=kind in (1, 2)),), once=stage.once(method, more))
    head = stage.request(script, method, more=more)
    size = len(body)
    steps: list[Step] = [("new", 1), ("send", 1, head + body), ("seen", 0, size)]
    if kind == 3:
        steps.append(("bytes", 1, 40))
    steps.append((rng.choice(("close", "reset")), 1))
    return Scene(f"leaving_{kind}", tuple(steps), (script,))


def half_closing(stage: Stage) -> Scene:
    """The app ends its sending side before the answer."""
    rng = stage.rng
    method = rng.choice(("GET", "POST"))
    framing, body = requests.framed(rng, method)
    good = answers.good(rng, method)
    if rng.random() < 0.5:
        script = stage.script((Answer((*HELD, *good.ops)),), once=stage.once(method, []))
        rest: list[Step] = [("seen", 0, 0), ("finish", 1), ("sleep", 0.02), ("gate", 0)]
    else:
        script = stage.script((good,), once=stage.once(method, []))
        rest = [("answer", 1, method), ("finish", 1)]
    data = stage.request(script, method, more=framing) + body
    steps: list[Step] = [("new", 1), ("send", 1, data), *rest]
    if rest[0][0] == "seen":
        steps.append(("answer", 1, method))
    steps.append(("ended", 1))
    return Scene("half_closing", tuple(steps), (script,))


def malformed(stage: Stage) -> Scene:
    """A request that is wrong in some way."""
    rng = stage.rng
    script = stage.script((answers.good(rng, "GET"),))
    kind = rng.randrange(6)
    method = "GET"
    line = None
    more: list[bytes] = requests.fields(rng)
    body = b""
    if kind == 0:
        line = rng.choice(requests.BAD_LINES).replace(b"@", stage.name.encode() + b"/k0")
        method = "HEAD" if line.startswith(b"HEAD") else "GET"
    elif kind <= 2:
        more.insert(rng.randrange(len(more) + 1), rng.choice(requests.BAD_FIELDS))
        if rng.random() < 0.3:
            method = "POST"
    elif kind == 3:
        method = "POST"
        more, body = [b"Transfer-Encoding: chunked"], requests.broken_chunks(rng)
        script = stage.script((answers.good(rng, "POST"),), once=stage.once(method, []))
    elif kind == 4:
        more += [b"X-N%d: 1" % n for n in range(rng.choice((100, 118, 140)))]
    data = stage.request(script, method, more=more, line=line) + body
    if kind == 5:
        at = rng.randrange(len(data) - 4)
        before, after = data[:at], data[at + 1 :]
        changed = before + rng.choice((b"", b"\x00", b"\r", b"\n", b" ", b":", b"\xff", b"\r\n", b"a")) + after
        data = changed if tagged(script.number) in changed.partition(b"\r\n\r\n")[0] else data
        method = "HEAD" if data.startswith(b"HEAD") else method
    steps: list[Step] = [("new", 1), ("send", 1, data), ("nudge", 1), ("answer", 1, method)]
    return Scene(f"malformed_{kind}", tuple(steps), (script,))


def websocket(stage: Stage) -> Scene:
    """An upgrade, and a few bytes both ways."""
    rng = stage.rng
    upgrade = answers.head(101, [b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Accept: x"])
    kind = rng.randrange(6)
    if kind <= 3:
        answer = Answer((("write", upgrade), ("tunnel", None)))
    elif kind == 4:
        answer = answers.good(rng, "GET", rng.choice((200, 400, 426)))
    else:
        answer = Answer((("write", upgrade + b"first"), ("wait", 0.01), ("close", None)))
    script = stage.script((answer,))
    more = [
        b"Connection: keep-alive, Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Key: k",
        b"Sec-WebSocket-Version: 13",
    ]
    head = stage.request(script, "GET", more=more)
    steps: list[Step] = [
        ("new", 1),
        ("send", 1, head + (b"early" if kind == 3 else b"")),
        ("answer", 1, "GET"),
        ("switched", 1),
    ]
    if kind == 3:
        steps.append(("bytes", 1, 5))
    if kind <= 3:
        steps += [("send", 1, b"ping"), ("bytes", 1, 4), ("send", 1, b"p" * 3000), ("bytes", 1, 3000)]
        steps.append((rng.choice(("close", "reset")), 1) if rng.random() < 0.7 else ("finish", 1))
    elif kind == 5:
        steps += [("bytes", 1, 5), ("ended", 1)]
    return Scene(f"websocket_{kind}", tuple(steps), (script,))


def crowd(stage: Stage) -> Scene:
    """A request that is held while others come: for limits."""
    rng = stage.rng
    count = rng.choice((1, 2, 3))
    held = [stage.script((Answer((*HELD, *answers.good(rng, "GET").ops)),)) for _ in range(count)]
    steps: list[Step] = []
    for at, script in enumerate(held):
        steps += [("new", at + 1), ("send", at + 1, stage.request(script, "GET")), ("sleep", 0.1)]
    last = stage.script((answers.good(rng, "GET"),))
    steps += [("new", 9), ("send", 9, stage.request(last, "GET")), ("sleep", 0.1)]
    for at in range(count):
        steps += [("gate", at), ("answer", at + 1, "GET")]
    steps.append(("answer", 9, "GET"))
    return Scene("crowd", tuple(steps), (*held, last), count + 1)


def silent(stage: Stage) -> Scene:
    """An upstream that says nothing, or not the rest."""
    rng = stage.rng
    method = rng.choice(("GET", "POST"))
    kind = rng.randrange(3)
    if kind == 0:
        found: tuple[Answer, ...] = (answers.SILENT, *((answers.good(rng, method),) if rng.random() < 0.6 else ()))
    elif kind == 1:
        found = (Answer((("write", answers.head(200, [b"Content-Length: 10"]) + b"half-"), ("hang", None))),)
    else:
        found = (Answer((("write", b"HTTP/1.1 200 OK\r\nX-Slow: "), ("hang", None))),)
    framing, body = requests.framed(rng, method)
    script = stage.script(found, once=stage.once(method, []))
    data = stage.request(script, method, more=framing) + body
    return Scene(f"silent_{kind}", (("new", 1), ("send", 1, data), ("answer", 1, method)), (script,))


def impatient(stage: Stage) -> Scene:
    """The app's own deadline ends the request."""
    rng = stage.rng
    name = rng.choice((b"x-envoy-upstream-rq-timeout-ms: ", b"x-envoy-expected-rq-timeout-ms: "))
    method = rng.choice(("GET", "POST"))
    more = [name + b"500"]
    framing, body = requests.framed(rng, method)
    script = stage.script((answers.SILENT,), once=stage.once(method, more))
    data = stage.request(script, method, more=[*more, *framing]) + body
    return Scene("impatient", (("open", 0), ("send", 0, data), ("answer", 0, method)), (script,))


def recovering(stage: Stage) -> Scene:
    """Waits until an open breaker lets a probe through."""
    rng = stage.rng
    probe = rng.choice((answers.good, answers.good, answers.failing_with))
    script = stage.script((probe(rng, "GET"),))
    data = stage.request(script, "GET", path="/k0")
    return Scene("recovering", (("sleep", 1.1), ("open", 0), ("send", 0, data), ("answer", 0, "GET", 0)), (script,))


def aggregate(stage: Stage) -> Scene:
    """A request for an aggregate; each part has answers of its own."""
    rng = stage.rng
    parts = {}
    late = rng.randrange(4)  # the one part that may fail does so when the others are there
    for at in range(3):
        share = rng.random()
        if at != late or share < 0.3:
            body = rng.choice((b'{"a": 1}', b"[1, 2,3]", b'"\xc3\xa9...."'[:8] if at == late else b'"abcdef"'))
            fields = [b"Content-Type: application/json", b"Content-Length: %d" % len(body)]
            found: tuple[Answer, ...] = (Answer((("write", answers.head(200, fields) + body),)),)
        elif share < 0.6:
            found = (answers.good(rng, "GET", rng.choice((204, 401, 404, 500, 301))),)
        else:
            found = answers.any_answers(rng, "GET")
        if at == late:
            found = tuple(Answer((("wait", 0.03), *one.ops)) for one in found)
        parts[b"p%d" % at] = found
    made = stage.script((answers.good(rng, "GET"),))
    script = Script(made.number, made.answers, parts=parts)
    query = rng.choice(("?id=42", "?id=42", "?id=4%2F2&id2=x", "?id=a+b", "", "?id=1&id=2", "?id=.."))
    method = rng.choice(("GET", "GET", "GET", "HEAD", "POST"))
    number = stage.name[1:]
    line = b"%b /_aggregate/a%b%b HTTP/1.1" % (method.encode(), number.encode(), query.encode())
    cookie = b"Cookie: x-r=o%09d" % script.number
    more = [cookie, b"Authorization: Bearer t", b"X-Other: 1"]
    lines = [line, b"Host: localhost", *more, b"X-Request-Id: r%09d" % script.number]
    data = b"\r\n".join(lines) + b"\r\n\r\n"
    return Scene("aggregate", (("open", 0), ("send", 0, data), ("answer", 0, method)), (script,))


Maker = Callable[[Stage], Scene]

MIXED: Final[tuple[tuple[Maker, float], ...]] = (
    (simple, 82),
    (pipelined, 8),
    (slow_upload, 2.5),
    (expecting, 1),
    (leaving, 2),
    (half_closing, 1),
    (malformed, 6),
    (websocket, 1.5),
)

BY_FLAVOUR: Final[dict[str, tuple[tuple[Maker, float], ...]]] = {
    "breaker": ((failing, 80), (simple, 15), (leaving, 2), (websocket, 3)),
    "half_open": ((failing, 75), (recovering, 25)),
    "outlier": ((failing, 90), (simple, 10)),
    "failover": ((simple, 90), (pipelined, 10)),
    "fallback": ((failing, 60), (simple, 34), (pipelined, 4), (leaving, 2)),
    "stale": ((failing, 70), (simple, 30)),
    "concurrency": ((crowd, 40), (simple, 50), (leaving, 5), (websocket, 5)),
    "connections": ((crowd, 40), (simple, 60)),
    "timeouts": ((silent, 45), (simple, 55)),
    "impatience": ((impatient, 40), (simple, 60)),
    "half_close": ((half_closing, 30), (simple, 60), (pipelined, 10)),
    "aggregate": ((aggregate, 80), (simple, 20)),
    "balancer": ((simple, 100),),
    "broken": ((failing, 80), (simple, 20)),
    "budget": ((failing, 60), (simple, 40)),
}

SHORT: Final = {"half_open": 12, "timeouts": 14, "impatience": 14, "broken": 15, "concurrency": 25, "connections": 25}
"""Scenes of an episode that takes long, or whose outcome depends on how many there are."""


def scenes_for(stage: Stage, flavour: str, count: int) -> tuple[Scene, ...]:
    """So many scenes at most, of the kinds that fit the policy."""
    kinds = BY_FLAVOUR.get(flavour, MIXED)
    makers = [maker for maker, _ in kinds]
    weights = [weight for _, weight in kinds]
    wanted = min(count, SHORT.get(flavour, count))
    return tuple(maker(stage) for maker in stage.rng.choices(makers, weights, k=wanted))
