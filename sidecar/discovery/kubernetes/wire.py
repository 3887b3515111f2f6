"""Kubernetes API objects as structs: only the members that are used. Each may be null, as Go writes it.

Owns the JSON, and the splitting of a watch into lines; `slices` owns the meaning. Content that does not come from an
API server is `WrongContent`, never an empty list: a login page or `{}` must not remove all endpoints. Source: the
Kubernetes API reference, discovery.k8s.io/v1 EndpointSlice, and "API concepts" for lists and watches.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct, field

LONGEST_LINE: Final = 1024 * 1024
"""The most bytes of one watch event. A slice of 1,000 endpoints, the most that the API allows, has about 400 KiB."""


class WrongContent(ValueError):
    """The content does not come from an API server; `str()` says what is wrong."""


class Conditions(Struct, frozen=True):
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class EndpointObject(Struct, frozen=True):
    addresses: tuple[str, ...] | None = None
    conditions: Conditions | None = None


class PortObject(Struct, frozen=True, rename="camel"):
    name: str | None = None
    port: int | None = None
    protocol: str | None = None
    app_protocol: str | None = None


class ObjectMeta(Struct, frozen=True, rename="camel"):
    name: str = ""
    resource_version: str = ""


class SliceObject(Struct, frozen=True, rename="camel"):
    """An EndpointSlice. The object of a bookmark has this form too, with only its `resourceVersion` set."""

    metadata: ObjectMeta
    address_type: str = ""
    endpoints: tuple[EndpointObject, ...] | None = None
    ports: tuple[PortObject, ...] | None = None


class ListMeta(Struct, frozen=True, rename="camel"):
    resource_version: str = ""
    continue_: str = field(name="continue", default="")


class SliceList(Struct, frozen=True):
    """One page of a list."""

    kind: str
    metadata: ListMeta
    items: tuple[SliceObject, ...] | None


class StatusDetails(Struct, frozen=True, rename="camel"):
    retry_after_seconds: int | None = None


class Status(Struct, frozen=True):
    """An error of the API, as a response body and as the object of an ERROR event."""

    kind: str = ""
    message: str | None = None
    reason: str | None = None
    code: int | None = None
    details: StatusDetails | None = None

    @property
    def is_gone(self) -> bool:
        return self.code == 410 or self.reason in ("Expired", "Gone")


class Event(Struct, frozen=True):
    type: str
    object: msgspec.Raw


_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_LIST: Final = msgspec.json.Decoder(SliceList)
_EVENT: Final = msgspec.json.Decoder(Event)
_SLICE: Final = msgspec.json.Decoder(SliceObject)
_STATUS: Final = msgspec.json.Decoder(Status)


def read_list(body: bytes | bytearray) -> SliceList:
    """One page of a list. Raises WrongContent."""
    try:
        page = _LIST.decode(body)
    except _UNREADABLE as error:
        raise WrongContent(f"the answer is not an EndpointSliceList: {error}") from None
    if page.kind != "EndpointSliceList" or not page.metadata.resource_version:
        raise WrongContent(f"the answer is not an EndpointSliceList but {page.kind[:40]!r}")
    return page


def read_event(line: bytes) -> tuple[str, SliceObject | Status]:
    """Type and object of one event; the object is a Status for type ERROR. Raises WrongContent."""
    try:
        event = _EVENT.decode(line)
        if event.type == "ERROR":
            return event.type, _STATUS.decode(event.object)
        found = _SLICE.decode(event.object)
    except _UNREADABLE as error:
        raise WrongContent(f"a line is not an event: {error}") from None
    if event.type not in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK"):
        raise WrongContent(f"a line is an event of unknown type {event.type[:40]!r}")
    if not found.metadata.resource_version or not (found.metadata.name or event.type == "BOOKMARK"):
        raise WrongContent(f"the object of a {event.type} event has no name or no resourceVersion")
    return event.type, found


def read_status(body: bytes | bytearray) -> Status:
    """The Status in an error response; an empty one if there is none (the error page of a proxy)."""
    try:
        return _STATUS.decode(body)
    except _UNREADABLE:
        return Status()


class Lines:
    """Splits a stream into lines. The incomplete rest is kept for later, up to `longest` bytes."""

    __slots__ = ("_longest", "_rest")

    def __init__(self, longest: int = LONGEST_LINE) -> None:
        self._longest = longest
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are now complete, without line ends and empty lines. Raises WrongContent."""
        end = data.find(b"\n")
        if end < 0:
            self._rest += data
            self._check(len(self._rest))
            return []
        first, *others = data.split(b"\n")
        lines = [bytes(self._rest) + first, *others[:-1]]
        self._rest = bytearray(others[-1])
        for length in map(len, (*lines, self._rest)):
            self._check(length)
        return [line for line in lines if line.strip()]

    def _check(self, length: int) -> None:
        if length > self._longest:
            raise WrongContent(f"a line is longer than {self._longest} bytes")
