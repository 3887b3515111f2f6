"""Decodes strings in HPACK's Huffman code (RFC 7541, section 5.2 and appendix B).

A state is an inner node of the code's tree; four bits lead from one to the next. Nothing is encoded so: a call's fields
stand in the table mostly, and the others cost more to pack than to send.
"""

from __future__ import annotations

from functools import cache
from typing import Final

EOS: Final = 256

_LENGTHS: Final = """
13 23 28 28 28 28 28 28 28 24 30 28 28 30 28 28 28 28 28 28 28 28 30 28 28 28 28 28 28 28 28 28 6 10 10 12 13 6
8 11 10 10 8 11 8 6 6 6 5 5 5 6 6 6 6 6 6 6 7 8 15 6 12 10 13 6 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 8 7
8 13 19 13 14 6 15 5 6 5 6 5 6 6 6 5 7 7 6 6 6 5 6 7 6 5 5 6 7 7 7 7 7 15 11 14 13 28 20 22 20 20 22 22 22 23 22
23 23 23 23 23 24 23 24 24 22 23 24 23 23 23 23 21 22 23 22 23 23 24 22 21 20 22 22 23 23 21 23 22 22 24 21 22
23 23 21 21 22 21 23 22 23 23 20 22 22 22 23 22 22 23 26 26 20 19 22 23 22 25 26 26 26 27 27 26 24 25 19 21 26
27 27 26 27 24 21 21 26 26 28 27 27 27 20 24 20 21 22 21 21 23 22 22 25 25 24 24 26 23 26 27 26 26 27 27 27 27
27 28 27 27 27 27 27 26 30
"""
"""Of the code of each byte, and of EOS. The code is canonical: from the lengths follows all of it."""

_EMITS: Final = 1 << 8
_FAILS: Final = -1
_MOST_PADDING: Final = 7


class HuffmanError(Exception):
    """The bytes are not the code of a string."""


@cache
def codes() -> list[tuple[int, int]]:
    """The code of each byte and of EOS, and its length in bits."""
    lengths = [int(word) for word in _LENGTHS.split()]
    found = [(0, 0)] * len(lengths)
    code = bits = 0
    for symbol in sorted(range(len(lengths)), key=lambda symbol: (lengths[symbol], symbol)):
        code <<= lengths[symbol] - bits
        bits = lengths[symbol]
        found[symbol] = (code, bits)
        code += 1
    return found


class States:
    """What four bits do in each state."""

    __slots__ = ("accepting", "steps")

    def __init__(self) -> None:
        children: list[list[int]] = [[0, 0]]
        """Of each inner node: below zero stands a symbol (-1 - symbol), above it an inner node."""
        for symbol, (code, bits) in enumerate(codes()):
            node = 0
            for bit in range(bits - 1, 0, -1):
                side = (code >> bit) & 1
                if not children[node][side]:
                    children[node][side] = len(children)
                    children.append([0, 0])
                node = children[node][side]
            children[node][code & 1] = -1 - symbol
        self.steps: list[int] = []
        """At state * 16 + nibble: the next state << 9, and what it emits, with _EMITS."""
        for start in range(len(children)):
            for nibble in range(16):
                self.steps.append(_step(children, start, nibble))
        self.accepting = [False] * len(children)
        """States where a string may end: at a symbol's end, or within padding of ones (section 5.2)."""
        node = 0
        for _ in range(_MOST_PADDING + 1):
            self.accepting[node] = True
            node = children[node][1]


def _step(children: list[list[int]], node: int, nibble: int) -> int:
    emitted = 0
    for bit in (3, 2, 1, 0):
        node = children[node][(nibble >> bit) & 1]
        if node < 0:
            symbol = -1 - node
            if symbol == EOS:
                return _FAILS
            emitted = _EMITS | symbol
            node = 0
    return (node << 9) | emitted


@cache
def states() -> States:
    """Made once, when the first connection asks for it."""
    return States()


def decode(data: bytes, table: States) -> bytes:
    """The string. Raises HuffmanError."""
    steps = table.steps
    found: list[int] = []
    state = 0
    for byte in data:
        step = steps[(state << 4) | (byte >> 4)]
        if step < 0:
            raise HuffmanError("EOS within a string")
        if step & _EMITS:
            found.append(step & 0xFF)
        step = steps[((step >> 9) << 4) | (byte & 15)]
        if step < 0:
            raise HuffmanError("EOS within a string")
        if step & _EMITS:
            found.append(step & 0xFF)
        state = step >> 9
    if not table.accepting[state]:
        raise HuffmanError("a string's padding is not the begin of EOS")
    return bytes(found)
