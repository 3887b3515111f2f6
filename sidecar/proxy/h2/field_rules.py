"""What fields a request, a response and trailers may have (RFC 9113, sections 8.1 to 8.3).

Names and values have been looked at by then, each for itself (`hpack`); what the fields mean is not known here.
"""

from __future__ import annotations

from typing import Any, Final

NO_LENGTH: Final = -1
MALFORMED: Final = -2

_OF_A_CONNECTION: Final = {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
_LENGTH: Final = 1
_TE: Final = 2
_NOT_HERE: Final = 3
_RULES: Final = {b"content-length": _LENGTH, b"te": _TE, **dict.fromkeys(_OF_A_CONNECTION, _NOT_HERE)}

_METHOD: Final = 1
_SCHEME: Final = 2
_PATH: Final = 4
_AUTHORITY: Final = 8
_WHOLE: Final = _METHOD | _SCHEME | _PATH
_CONNECT: Final = _METHOD | _AUTHORITY
_PSEUDO: Final = {b":method": _METHOD, b":scheme": _SCHEME, b":path": _PATH, b":authority": _AUTHORITY}
_COLON: Final = 0x3A
_MOST_DIGITS: Final = 18


def request_length(fields: list[Any]) -> int:
    """The content-length of a request's head, NO_LENGTH, or MALFORMED where this is none."""
    seen = 0
    length = NO_LENGTH
    regular = connect = False
    for field in fields:
        name: bytes = field[0]
        value: bytes = field[1]
        if name[0] == _COLON:
            bit = _PSEUDO.get(name, 0)
            if regular or not bit or seen & bit or not value:
                return MALFORMED
            seen |= bit
            if bit == _METHOD:
                connect = value == b"CONNECT"
        else:
            regular = True
            rule = _RULES.get(name, 0)
            if rule:
                if rule == _LENGTH:
                    length = _one_length(length, value)
                if length == MALFORMED or rule == _NOT_HERE or (rule == _TE and value != b"trailers"):
                    return MALFORMED
    if connect:
        return length if seen == _CONNECT else MALFORMED
    return length if seen & _WHOLE == _WHOLE else MALFORMED


def response_status(fields: list[Any]) -> int:
    """The :status of a response's head, or MALFORMED where this is none."""
    status = MALFORMED
    regular = False
    for field in fields:
        name: bytes = field[0]
        if name[0] == _COLON:
            if regular or status != MALFORMED or name != b":status":
                return MALFORMED
            value: bytes = field[1]
            if len(value) != 3 or not value.isdigit():
                return MALFORMED
            status = int(value)
            if status < 100 or status == 101:  # section 8.6
                return MALFORMED
        else:
            regular = True
            if name in _OF_A_CONNECTION:
                return MALFORMED
    return status


def content_length(fields: list[Any]) -> int:
    """That of a response's head, NO_LENGTH, or MALFORMED."""
    length = NO_LENGTH
    for field in fields:
        if field[0] == b"content-length":
            length = _one_length(length, field[1])
            if length == MALFORMED:
                break
    return length


def are_trailers(fields: list[Any]) -> bool:
    for field in fields:
        name: bytes = field[0]
        if name[0] == _COLON or name in _OF_A_CONNECTION:
            return False
    return True


def method_of(fields: list[Any]) -> bytes:
    for field in fields:
        if field[0] == b":method":
            value: bytes = field[1]
            return value
    return b""


def _one_length(before: int, value: bytes) -> int:
    if not value.isdigit() or len(value) > _MOST_DIGITS:
        return MALFORMED
    length = int(value)
    return length if before in (NO_LENGTH, length) else MALFORMED
