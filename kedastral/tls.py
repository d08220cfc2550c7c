# SPDX-License-Identifier: Apache-2.0
"""TLS from files: contexts for our servers and clients that pick up new certificates when files are rotated."""

import logging
import os
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import httpx
import trio

from kedastral.errors import ConfigError

LOOK_EVERY = 1.0
"""The least seconds between two checks of the files; each is a few KiB, read when somebody connects."""
MAX_FILE = 2**20
"""The most bytes of one file; all authorities of an operating system take a quarter of that."""

_EXPIRED = {9: "is not valid yet", 10: "has expired"}
"""OpenSSL's verify codes X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""

log = logging.getLogger("kedastral.tls")


@attrs.frozen
class TlsFiles:
    """PEM files of one side: ``cert`` with its chain, ``key`` unless ``cert`` holds it, and trusted authorities."""

    cert: Path | None = None
    key: Path | None = None
    ca: Path | None = None

    def read(self) -> tuple[bytes | None, ...]:
        """The content of each file; None for one that is not given or cannot be read."""
        return tuple(_read(path) for path in (self.cert, self.key, self.ca))

    def __str__(self) -> str:
        return " and ".join(str(path) for path in (self.cert, self.key, self.ca) if path is not None)


def _read(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE)
    except OSError:
        return None


def make_server_context(files: TlsFiles, alpn: Sequence[str]) -> ssl.SSLContext:
    """For a server: TLS 1.2 and later; if ``files`` name authorities, a client must have a certificate from them.

    Raises ConfigError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(list(alpn))
    _load(context, files)
    if files.ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def make_client_context(files: TlsFiles) -> ssl.SSLContext:
    """For a client, with a certificate if there is one; it trusts the public authorities if ``files`` name none.

    Raises ConfigError.
    """
    context = make_public_context(os.environ) if files.ca is None else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = max(context.minimum_version, ssl.TLSVersion.TLSv1_2)
    _load(context, files)
    return context


def make_public_context(environ: Mapping[str, str]) -> ssl.SSLContext:
    """For a client that trusts the authorities of ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``, or those of certifi.

    ``SSL_CERT_DIR`` names directories, separated by colons, whose PEM files may have any name, as in Go; other files
    are ignored. Raises ConfigError, with a line for each variable that yields no certificate.
    """
    file = environ.get("SSL_CERT_FILE", "")
    folders = [folder for folder in environ.get("SSL_CERT_DIR", "").split(":") if folder]
    if not file and not folders:
        return httpx.create_ssl_context(trust_env=False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    faults = []
    if file and (words := _load_authorities(context, Path(file))):
        faults.append(f"SSL_CERT_FILE cannot be used: {file}: {words}; correct it, or unset it")
    if folders and (words := _load_folders(context, [Path(folder) for folder in folders])):
        faults.append(f"SSL_CERT_DIR cannot be used: {words}; correct it, or unset it")
    if faults:
        raise ConfigError(faults)
    return context


def _load_folders(context: ssl.SSLContext, folders: Sequence[Path]) -> str | None:
    """Why none of ``folders`` has a certificate, in words; None if one does."""
    found, faults = 0, []
    for folder in folders:
        try:
            files = [file for file in sorted(folder.iterdir()) if file.is_file()]
        except OSError as error:
            faults.append(f"{folder}: {error.strerror}")
            continue
        found += sum(_load_authorities(context, file) is None for file in files)
        faults.append(f"{folder}: it holds no certificate")
    return None if found else ", ".join(faults)


def _load(context: ssl.SSLContext, files: TlsFiles) -> None:
    faults = []
    if files.cert is not None and (words := _load_certificate(context, files.cert, files.key)):
        both = f"{files.cert} and {files.key}" if files.key is not None else str(files.cert)
        faults.append(f"certificate {both} cannot be loaded: {words}")
    if files.ca is not None and (words := _load_authorities(context, files.ca)):
        faults.append(f"CA file {files.ca} cannot be loaded: {words}")
    if faults:
        raise ConfigError(faults)


def _load_certificate(context: ssl.SSLContext, cert: Path, key: Path | None) -> str | None:
    try:
        # With an empty password, an encrypted key is an error; without it, OpenSSL would ask on the terminal.
        context.load_cert_chain(cert, key, password="")
    except OSError as error:
        return _words_of(error)
    return None


def _load_authorities(context: ssl.SSLContext, ca: Path) -> str | None:
    try:
        context.load_verify_locations(ca)
    except OSError as error:
        return _words_of(error)
    return None


def _words_of(error: OSError) -> str:
    reason = getattr(error, "reason", None) or ""  # OpenSSL's, in capitals
    if reason == "KEY_VALUES_MISMATCH":
        return "the key does not belong to the certificate"
    if "_TOO_" in reason:  # such as EE_KEY_TOO_SMALL, CA_MD_TOO_WEAK
        return reason.replace("_", " ").lower()
    unreadable = not isinstance(error, ssl.SSLError) and error.strerror
    return unreadable or "not a PEM file of the right kind"


def find_fault_of_pair(cert: Path, key: Path | None) -> str | None:
    """Why a certificate and its key cannot be used, in words; None if they can."""
    return _load_certificate(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), cert, key)


def find_fault_of_authorities(ca: Path) -> str | None:
    """Why a file of authorities cannot be used, in words; None if it can."""
    return _load_authorities(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ca)


def find_expiry(cert: Path, key: Path | None, *, for_client: bool = False) -> str | None:
    """ "has expired" or "is not valid yet" if that is true of a certificate that can be loaded.

    The standard library only checks the dates of a peer's certificate, so this one is made a peer's: in an in-memory
    handshake, in which one side trusts exactly this certificate.
    """
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    judge, other = (server, client) if for_client else (client, server)
    other.verify_mode = ssl.CERT_NONE
    try:
        for context in (server, client):
            context.load_cert_chain(cert, key, password="")
        judge.load_verify_locations(cert)
        judge.verify_mode = ssl.CERT_REQUIRED
        judge.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
        _shake_hands_in_memory(server, client)
    except ssl.SSLCertVerificationError as error:
        return _EXPIRED.get(error.verify_code)
    except OSError:
        return None  # another fault, which `find_fault_of_pair` names
    return None


def _shake_hands_in_memory(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (client.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True))
    for _ in range(4):  # a handshake of TLS 1.3 takes three turns
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue


class RotatingContext(ssl.SSLContext):
    """A context whose handshakes always use the newest files; open connections keep what they have.

    When the files have changed it makes a new context, and each handshake uses the newest: loading a pair into a
    context in use could leave it half loaded. Invalid files, such as half-written ones, change nothing; if the next
    check finds the same, one line is logged. ``make`` may raise ConfigError, which only propagates at the start. Needs
    Trio's clock.
    """

    # the base class would interpret the arguments itself
    def __new__(cls, *_arguments: Any) -> "RotatingContext":
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self, what: str, files: TlsFiles, make: Callable[[TlsFiles], ssl.SSLContext]) -> None:
        self._what, self._files, self._make = what, files, make
        self._alpn: list[str] | None = None
        self._loaded = files.read()
        try:
            self._current = make(files)
        except ConfigError as error:
            raise ConfigError([f"{what}: {problem}" for problem in error.problems]) from error
        self._refused: tuple[bytes | None, ...] | None = None
        self._complained = False
        self._looked_at: float | None = None

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        """Set them for all later handshakes; httpcore does so for each connection."""
        self._alpn = list(alpn_protocols)
        self._current.set_alpn_protocols(self._alpn)

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        """See `ssl.SSLContext.wrap_bio`."""
        now = trio.current_time()
        if self._looked_at is None or now - self._looked_at >= LOOK_EVERY:
            self._looked_at = now
            self._look()
        return self._current.wrap_bio(*arguments, **options)

    def _look(self) -> None:
        found = self._files.read()
        if found == self._loaded:
            self._refused = None
            return
        if found == self._refused and self._complained:
            return
        try:
            fresh = self._make(self._files)
        except ConfigError as error:
            self._refuse(found, str(error))
            return
        if self._files.read() != found:  # they are being written: the next check will find them complete
            return
        if self._alpn is not None:
            fresh.set_alpn_protocols(self._alpn)
        self._current, self._loaded, self._refused = fresh, found, None
        log.info("%s: new certificates are used from %s", self._what, self._files)

    def _refuse(self, found: tuple[bytes | None, ...], why: str) -> None:
        if found != self._refused:
            self._refused, self._complained = found, False
            return
        self._complained = True
        log.warning(
            "%s: new certificates cannot be used; the old ones stay in use: %s", self._what, why.replace("\n", "; ")
        )
