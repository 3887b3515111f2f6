"""TLS contexts of connections to services: made once, and made anew when their files change.

Owns which certificates are trusted and shown, and when the files are read again. Every connection to a service or a
check gets its context here. A context that was given out is never altered: new connections get the new one, and those
that exist end by their age.

- The files are looked at once a second, in a thread, by their status; at every tenth look also by their content, for
  some file systems count times in seconds. A changed file counts once its status has stayed the same for one look, so
  one that is still being written is not read half. Renamed files and swapped symlinks (Kubernetes' Secrets,
  cert-manager, SPIFFE's helpers) show in the status of the file that the path leads to.
- A file that is no good keeps the context that was made before it, with a warning. Without such a context, connections
  fail with the same words, until the file is good.
- Without `ca_file` the system's certificates are trusted, or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`, as OpenSSL
  does it. That file is read again too; OpenSSL itself looks into the folder at each handshake.
- A certificate is verified as Go's and Envoy's TLS do it: a trusted intermediate ends the chain, and a CA needs no key
  identifier. Python 3.13 would ask for one.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from math import ceil
from time import time
from typing import Final, NamedTuple

from sidecar.net.pem import BadPem, Unreadable, ends_of, load_authorities, load_pair, read_file
from sidecar.net.threads import in_thread
from sidecar.policy.settings import TlsSettings

HTTP1: Final = ("http/1.1",)
H2: Final = ("h2",)
"""What is offered as application protocol (ALPN). Each has contexts of its own."""

LOOK_S: Final = 1.0
READ_EVERY: Final = 10
"""The content is read at one look of so many, whatever the status says."""

SOON_S: Final = 7 * 86400.0
"""A certificate that ends within this time is warned of."""

_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

log = logging.getLogger("sidecar.tls")


class Expiration(NamedTuple):
    """When a certificate ends. `kind` is `ca` or `client`; `at` is Unix time."""

    kind: str
    file: str
    at: float


class InForce(NamedTuple):
    """What a service uses now; `rejected` says that a file of its settings is no good."""

    expirations: tuple[Expiration, ...]
    rejected: bool


class Files(NamedTuple):
    """The files of a context by the key that names them; the same settings of several services are one entry."""

    ca_file: str | None
    cert_file: str | None
    key_file: str | None
    min_version: str
    verify: bool

    def named(self) -> Iterator[tuple[str, str]]:
        """(key, path) of each file that is read."""
        if self.verify:
            if self.ca_file is not None:
                yield "tls.ca_file", self.ca_file
            elif (path := _system_file()) is not None:
                yield _SYSTEM.openssl_cafile_env, path
        if self.cert_file is not None and self.key_file is not None:
            yield "tls.cert_file", self.cert_file
            yield "tls.key_file", self.key_file


Status = tuple[tuple[int, ...], ...]
"""Of each file: device, inode, size, times of change; empty for one that is not there."""

Service = tuple[str, TlsSettings]
"""The name of a service, and its settings."""

_SYSTEM: Final = ssl.get_default_verify_paths()


class _Made(NamedTuple):
    context: ssl.SSLContext
    expirations: tuple[Expiration, ...]


class _Read(NamedTuple):
    """What was found at the files: a context, or what is wrong with them."""

    status: Status
    digest: bytes
    made: _Made | None
    problem: str
    missing: bool = False


class _Kept:
    """A context that is kept, and what its files were like when it was made."""

    def __init__(self, files: Files, alpn: tuple[str, ...], first: _Read) -> None:
        self.files = files
        self.alpn = alpn
        self.made = first.made
        self.problem = first.problem
        self.seen = first.status
        self.digest = first.digest if first.made is not None else b""
        """Of the content that `made` was made of."""
        self.pending: Status | None = None
        """A status that differs from `seen`, found at the last look."""
        self.until_read = READ_EVERY

    def look(self) -> _Read | None:
        """In a thread: what the files hold if that may be something else; None if they are as they were."""
        status = _status_of(self.files)
        self.until_read -= 1
        if status != self.seen:
            if status != self.pending:
                self.pending = status
                return None
        elif self.until_read > 0:
            return None
        self.until_read = READ_EVERY
        return _read(self.files, self.alpn, self.digest)


class TlsContexts:
    """The contexts in use. All calls on the event loop's thread. `clock` is Unix time."""

    def __init__(self, clock: Callable[[], float] = time) -> None:
        self._kept: dict[tuple[Files, tuple[str, ...]], _Kept] = {}
        self._clock = clock
        self._warned: set[tuple[Expiration, bool]] = set()

    def of(self, settings: TlsSettings, alpn: tuple[str, ...] = HTTP1) -> ssl.SSLContext:
        """The context for a service's settings, made now if this is the first time. Raises BadPem while a file is no
        good and has never been.
        """
        key = (files_of(settings), alpn)
        kept = self._kept.get(key)
        if kept is None:
            kept = self._keep(key, _read(*key))
        if kept.made is None:
            raise BadPem(kept.problem)
        return kept.made.context

    async def made(self, settings: TlsSettings, alpn: tuple[str, ...] = HTTP1) -> ssl.SSLContext:
        """As `of`, and a context that is not there yet is made in a thread: a bundle takes some 10 ms."""
        key = (files_of(settings), alpn)
        if key not in self._kept:
            read = await in_thread(_read, *key)
            if key not in self._kept:
                self._keep(key, read)
        return self.of(settings, alpn)

    def in_force(self, settings: TlsSettings) -> InForce:
        """What is used with these settings. Nothing where no context was needed yet."""
        files = files_of(settings)
        kept = [one for (of, _), one in self._kept.items() if of == files]
        made = next((one.made for one in kept if one.made is not None), None)
        return InForce(() if made is None else made.expirations, any(one.problem for one in kept))

    async def run(self, in_use: Callable[[], Iterable[Service]], look_s: float = LOOK_S) -> None:
        """Look at the files until cancelled. Contexts of settings that `in_use` does not give are given up."""
        while True:
            try:
                await self.look(in_use())
            except OSError as error:  # the system gives no thread now
                log.debug("certificate files could not be looked at: %s", error)
            await asyncio.sleep(look_s)

    async def look(self, in_use: Iterable[Service]) -> None:
        """Read again what has changed, and warn of certificates that end soon."""
        users: dict[Files, list[str]] = {}
        for name, settings in in_use:
            users.setdefault(files_of(settings), []).append(name)
        for key in [key for key in self._kept if key[0] not in users]:
            del self._kept[key]
        watched = [kept for kept in self._kept.values() if next(kept.files.named(), None)]
        if watched:
            found = await in_thread(lambda: [kept.look() for kept in watched])
            for kept, read in zip(watched, found, strict=True):
                if read is not None:
                    self._apply(kept, read)
        self._warn_of_ends(users)

    def _keep(self, key: tuple[Files, tuple[str, ...]], read: _Read) -> _Kept:
        kept = self._kept[key] = _Kept(*key, read)
        if read.problem:
            _warn_of_files(read.problem, kept)
        return kept

    def _apply(self, kept: _Kept, read: _Read) -> None:
        kept.seen = read.status
        kept.pending = None
        if read.made is None and not read.problem:  # the content of the context in use
            kept.problem = ""
        elif read.made is not None:
            kept.made = read.made
            kept.digest, kept.problem = read.digest, ""
            ends = {one.kind: _date(one.at) for one in read.made.expirations}
            fields = {"files": [path for _, path in kept.files.named()], "ends": ends}
            log.info("TLS files were read again", extra={"kind": "certificate", "fields": fields})
        elif read.problem != kept.problem:
            kept.problem = read.problem
            _warn_of_files(read.problem, kept)

    def _warn_of_ends(self, users: Mapping[Files, list[str]]) -> None:
        now = self._clock()
        present: set[tuple[Expiration, bool]] = set()
        for kept in self._kept.values():
            for one in kept.made.expirations if kept.made is not None else ():
                if one.at - now > SOON_S:
                    continue
                warning = (one, one.at <= now)
                if warning not in self._warned and warning not in present:
                    _warn_of_end(one, users.get(kept.files, []), now)
                present.add(warning)
        self._warned = present


def files_of(settings: TlsSettings) -> Files:
    """What the context depends on: not the server's name, which each connection says."""
    return Files(settings.ca_file, settings.cert_file, settings.key_file, settings.min_version, settings.verify == "on")


def check_files(settings: TlsSettings) -> tuple[str, bool]:
    """What is wrong with the settings' own files, and whether one of them just cannot be read. The words begin with the
    key that names the file, without its path, which may come from the environment.
    """
    own = ("tls.ca_file", "tls.cert_file", "tls.key_file")
    read = _read(files_of(settings), HTTP1, names={key: key.removeprefix("tls.") for key in own})
    return read.problem, read.missing


def _warn_of_files(problem: str, kept: _Kept) -> None:
    then = "connections fail until they can" if kept.made is None else "the last good ones stay in force"
    log.warning("TLS files cannot be used: %s", then, extra={"kind": "certificate", "fields": {"detail": problem}})


def _warn_of_end(one: Expiration, services: list[str], now: float) -> None:
    whose = "the client certificate" if one.kind == "client" else "a CA certificate"
    days = (one.at - now) / 86400
    text = f"{whose} ends within {ceil(days)} days" if days > 0 else f"{whose} has ended"
    fields = {"file": one.file, "ends": _date(one.at), "used_by": services}
    if len(services) == 1:
        fields["service"] = services[0]
    log.warning(text, extra={"kind": "certificate", "fields": fields})


def _date(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _system_file() -> str | None:
    """The file of CA certificates that OpenSSL trusts by default; None where there is none."""
    named = os.environ.get(_SYSTEM.openssl_cafile_env)
    if named:
        return named
    return _SYSTEM.openssl_cafile if os.path.isfile(_SYSTEM.openssl_cafile) else None


def _status_of(files: Files) -> Status:
    return tuple([_status(path) for _, path in files.named()])


def _status(path: str) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _read(files: Files, alpn: tuple[str, ...], known: bytes = b"", names: Mapping[str, str] | None = None) -> _Read:
    """Read the files and make a context of them, unless their digest is `known`. `names` are the words for the files in
    problems, by key; a file without any is left out.
    """
    status = _status_of(files)  # from before they are read: what is written meanwhile has another one
    digest = b""
    try:
        named = {key: f"{key} {path}" for key, path in files.named()} if names is None else names
        contents = {key: read_file(path, named[key]) for key, path in files.named() if key in named}
        sums = [hashlib.sha256(content).digest() for content in contents.values()]
        digest = hashlib.sha256(b"".join(sums)).digest()
        made = None if digest == known else _make(files, alpn, contents, named)
    except BadPem as error:
        return _Read(status, digest, None, str(error), isinstance(error, Unreadable))
    return _Read(status, digest, made, "")


def _make(files: Files, alpn: tuple[str, ...], contents: Mapping[str, bytes], named: Mapping[str, str]) -> _Made:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = _VERSIONS[files.min_version]
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if alpn:
        context.set_alpn_protocols(list(alpn))
    expirations = []
    if not files.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif files.ca_file is not None:
        load_authorities(context, contents["tls.ca_file"], named["tls.ca_file"])
        if (end := _next_end(ends_of(contents["tls.ca_file"]))) is not None:
            expirations.append(Expiration("ca", files.ca_file, end))
    else:
        if (bundle := contents.get(_SYSTEM.openssl_cafile_env)) is not None:
            load_authorities(context, bundle, named[_SYSTEM.openssl_cafile_env])
        if (folder := _system_folder()) is not None:
            context.load_verify_locations(capath=folder)
    if files.cert_file is not None and files.key_file is not None:
        chain, key = contents["tls.cert_file"], contents["tls.key_file"]
        load_pair(context, chain, key, named["tls.cert_file"], named["tls.key_file"])
        if ends := ends_of(chain):
            expirations.append(Expiration("client", files.cert_file, min(ends)))
    return _Made(context, tuple(expirations))


def _system_folder() -> str | None:
    folder = os.environ.get(_SYSTEM.openssl_capath_env) or _SYSTEM.openssl_capath
    return folder if any(os.path.isdir(one) for one in folder.split(os.pathsep)) else None


def _next_end(ends: list[float]) -> float | None:
    """The end of the certificate that ends next. While a CA is replaced, the bundle may still hold one that has ended:
    that is not waited for, unless it is all there is.
    """
    coming = [end for end in ends if end > time()]
    return min(coming) if coming else max(ends, default=None)
