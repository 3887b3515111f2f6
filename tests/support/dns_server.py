"""A real DNS server on loopback, UDP and TCP on one port. A test defines its answers, and its faults.

`server.say("venue.test", "A", "10.0.0.1", "10.0.0.2", ttl=5)` may be changed at any time. A name that was never defined
does not exist (NXDOMAIN), and a defined name has no records of other kinds. An answer that does not fit a datagram (512
bytes, or the size that EDNS allows) is truncated, as on any server.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from dnslib import QTYPE, RCODE, RR, DNSRecord


@dataclass
class Said:
    """The answer to one question."""

    records: list[RR] = field(default_factory=list)
    additional: list[RR] = field(default_factory=list)
    rcode: str = "NOERROR"
    delay: float = 0.0
    silent: bool = False
    garbage: bytes | None = None
    tcp_only: bool = False
    """Over UDP, sends only the truncation flag."""
    rotate: bool = False


def records(name: str, kind: str, *data: str, ttl: int = 60) -> list[RR]:
    """Records as in a zone file: `records("a.test", "SRV", "10 5 80 b.test.")`."""
    return [rr for one in data for rr in RR.fromZone(f"{name}. {ttl} IN {kind} {one}")]


class DnsServer:
    """Answers from a separate thread. `asked` counts (name, kind, "udp" or "tcp").

    Names that begin with `silent` get no answer, whatever search domain is behind them.
    """

    def __init__(self, silent: str | None = None) -> None:
        self._silent = silent
        self.asked: Counter[tuple[str, str, str]] = Counter()
        self.address = ""
        self._said: dict[tuple[str, str], Said] = {}
        self._turn = 0

    def say(self, name: str, kind: str, *data: str, ttl: int = 60, **how: Any) -> Said:
        said = self._said[name, kind] = Said(records(name, kind, *data, ttl=ttl), **how)
        return said

    def forget(self, name: str) -> None:
        """The name no longer exists."""
        for key in [key for key in self._said if key[0] == name]:
            del self._said[key]

    def times(self, name: str, kind: str) -> int:
        return self.asked[name, kind, "udp"] + self.asked[name, kind, "tcp"]

    def reply(self, question: bytes, transport: str) -> tuple[float, bytes | None]:
        """Seconds to wait, and the bytes to send then."""
        query = DNSRecord.parse(question)
        name, kind = str(query.q.qname).rstrip(".").lower(), QTYPE[query.q.qtype]
        self.asked[name, kind, transport] += 1
        if self._silent is not None and name.startswith(self._silent):
            return 0.0, None
        said = self._said.get((name, kind))
        if said is None:
            known = any(one == name for one, _ in self._said)
            said = Said(rcode="NOERROR" if known else "NXDOMAIN")
        if said.silent:
            return 0.0, None
        if said.garbage is not None:
            return said.delay, said.garbage
        answer = query.reply()
        answer.header.rcode = getattr(RCODE, said.rcode)
        self._turn += 1
        turn = self._turn % len(said.records) if said.rotate and said.records else 0
        for record in said.records[turn:] + said.records[:turn]:
            answer.add_answer(record)
        for record in said.additional:
            answer.add_ar(record)
        packed = answer.pack()
        if transport == "udp" and (said.tcp_only or len(packed) > self._room(query)):
            short = query.reply()
            short.header.tc = 1
            packed = short.pack()
        return said.delay, packed

    @staticmethod
    def _room(query: DNSRecord) -> int:
        return max([512, *(one.rclass for one in query.ar if one.rtype == QTYPE.OPT)])


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, peer: Any) -> None:
        delay, answer = self._server.reply(data, "udp")
        if answer is not None:
            asyncio.get_running_loop().call_later(delay, self._transport.sendto, answer, peer)


async def _serve(server: DnsServer, sockets: list[socket.socket], started: threading.Event, end: asyncio.Event) -> None:
    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(2), "big")
                delay, answer = server.reply(await reader.readexactly(length), "tcp")
                if answer is None:
                    await end.wait()
                    break
                await asyncio.sleep(delay)
                writer.write(len(answer).to_bytes(2, "big") + answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    datagrams, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Datagrams(server), sock=sockets[0]
    )
    streams = await asyncio.start_server(stream, sock=sockets[1])
    started.set()
    await end.wait()
    streams.close()
    datagrams.close()
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _two_sockets(port: int) -> list[socket.socket]:
    """UDP and TCP sockets on one port; with port 0, on one that is free for both."""
    while True:
        tcp = socket.create_server(("127.0.0.1", port))
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            udp.bind(tcp.getsockname())
        except OSError:
            tcp.close()
            udp.close()
            if port:
                raise
            continue
        udp.setblocking(False)
        return [udp, tcp]


@contextmanager
def dns_server(port: int = 0, silent: str | None = None) -> Iterator[DnsServer]:
    """A running server; `address` is its `ip:port`. `silent`: how the names begin that get no answer."""
    server = DnsServer(silent)
    sockets = _two_sockets(port)
    server.address = f"127.0.0.1:{sockets[0].getsockname()[1]}"
    loop = asyncio.new_event_loop()
    started, end = threading.Event(), asyncio.Event()

    def run() -> None:
        try:
            loop.run_until_complete(_serve(server, sockets, started, end))
        finally:
            loop.close()

    thread = threading.Thread(target=run, name="DNS server")
    thread.start()
    assert started.wait(5)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(5)
        assert not thread.is_alive()
