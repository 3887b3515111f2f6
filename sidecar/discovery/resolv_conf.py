"""resolv.conf: search domains and `ndots`, and the full names that a short name may stand for.

Owns the reading of names only; c-ares reads the name servers and timeouts. c-ares knows search domains too, but only in
functions that hide the result of each address family, or that aiodns does not offer.
"""

from __future__ import annotations

from msgspec import Struct

MOST_NDOTS = 15
"""Larger values count as this one, as in glibc."""


def canonical(name: str) -> str:
    """A name in lower case without a trailing dot: names are compared without regard to either (RFC 1035, section
    2.3.3).
    """
    return name.lower().rstrip(".")


class Search(Struct, frozen=True):
    """How a name becomes the list of names to try."""

    domains: tuple[str, ...] = ()
    ndots: int = 1

    def names(self, name: str) -> list[str]:
        """The names to try, in order.

        With fewer than `ndots` dots the search domains come first, else the name itself. A name with a trailing dot is
        used as it is.
        """
        plain = canonical(name)
        if name.endswith("."):
            return [plain]
        searched = [f"{plain}.{domain}" for domain in self.domains]
        return [plain, *searched] if plain.count(".") >= self.ndots else [*searched, plain]


def read_search(path: str = "/etc/resolv.conf") -> Search:
    """Read the file. If it cannot be read, names are used as they are."""
    domains: list[str] = []
    ndots = 1
    try:
        with open(path, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                match line.split():
                    case ["search" | "domain", *given]:  # the last one counts
                        domains = [plain for plain in map(canonical, given) if plain]
                    case ["options", *options]:
                        for option in options:
                            key, _, value = option.partition(":")
                            if key == "ndots" and value.isascii() and value.isdecimal():
                                ndots = min(int(value), MOST_NDOTS)
    except OSError:
        return Search()
    return Search(tuple(domains), ndots)
