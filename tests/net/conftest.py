"""Sockets for the tests of binding."""

from tests.support.bound import bound

__all__ = ["bound"]
