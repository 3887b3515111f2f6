"""Marks a field's value that may stand in no compression table (RFC 7541, section 7.1.3). Not compiled: mypyc has no
subclasses of bytes."""

from __future__ import annotations


class Sensitive(bytes):
    """A value that came as a literal never indexed, and is sent on as one."""

    __slots__ = ()
