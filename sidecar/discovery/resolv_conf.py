"""The names that a name may stand for: search domains and `ndots` of resolv.conf(5).

Owns that file's reading, as far as names go; name servers and options of time are c-ares' business. c-ares knows search
domains as well, but only in lookups that hide how each address family fared, or that are not to be had through aiodns.
"""

from __future__ import annotations

from msgspec import Struct

MOST_NDOTS = 15
"""More is taken for so many, as glibc does."""


def canonical(name: str) -> str:
    """Names are compared without regard to case, and to the dot that may end them (RFC 1035, section 2.3.3)."""
    return name.lower().rstrip(".")


class Search(Struct, frozen=True):
    """How a name becomes the names to try."""

    domains: tuple[str, ...] = ()
    ndots: int = 1

    def names(self, name: str) -> list[str]:
        """Those to try, in order: with fewer than `ndots` dots in the search domains first, else as it stands first.

        A name with a trailing dot is meant as it stands.
        """
        plain = canonical(name)
        if name.endswith("."):
            return [plain]
        searched = [f"{plain}.{domain}" for domain in self.domains]
        return [plain, *searched] if plain.count(".") >= self.ndots else [*searched, plain]


def read_search(path: str = "/etc/resolv.conf") -> Search:
    """What the file says; where it cannot be read, names are taken as they stand."""
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
