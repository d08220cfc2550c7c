# SPDX-License-Identifier: Apache-2.0
"""What all of Kedastral's HTTP clients share: opening one, credentials, bounded responses, and error messages."""

import base64
import html
import logging
import math
import os
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import attrs
import httpx
import trio

from kedastral import __version__
from kedastral.errors import ConfigError, SourceError
from kedastral.proxies import Proxy, read_proxies
from kedastral.secrets import Secret, fits_header, read_secret_file
from kedastral.text import one_line
from kedastral.tls import make_public_context

PLAIN = {"Accept": "application/json", "Accept-Encoding": "identity"}
"""Headers of every request. A response that is never decompressed cannot be a decompression bomb."""

PAGE_READ = 2**14
"""Bytes of a response in which its message is searched."""
QUOTE_LIMIT = 2**20
"""The most bytes of the body of an error."""
QUOTE_SHOWN = 200
"""How many characters of it are shown."""
QUOTE_WITHIN = 1.0
"""Seconds to read it."""
SHORTEST_HIDDEN = 4
"""Characters of the shortest secret that is hidden in a response: a shorter one appears in ordinary words."""

_TITLE = re.compile(r"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)
_TAGS = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^>]*>", re.IGNORECASE | re.DOTALL)
_SHOWN_HEADERS = frozenset(
    {"accept", "accept-encoding", "connection", "content-length", "content-type", "host", "user-agent", "x-scope-orgid"}
)
"""Headers whose values are not secret; among configured ones, the tenant."""

log = logging.getLogger("kedastral.app")


class AnswerTooLargeError(ValueError):
    """The body of a response exceeds the limit; no more than that was read."""


class AnswerEncodedError(ValueError):
    """A response is compressed, although `PLAIN` asks for an uncompressed one."""


class WebPageError(ValueError):
    """A response is a web page."""


def open_client(
    url: str,
    *,
    auth: httpx.Auth | None = None,
    headers: Mapping[str, str] | None = None,
    params: Sequence[tuple[str, str]] = (),
    tls: ssl.SSLContext | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    keep_alive: float | None = None,
) -> httpx.AsyncClient:
    """A client for paths below ``url``, to be closed or used in ``async with``.

    The path prefix and the query parameters of ``url`` are kept; its user and password become basic authentication
    unless ``auth`` is given. ``headers`` and ``params`` go with each request, whose own win. Raises ConfigError for
    an invalid URL, proxy or authorities.

    The environment names the proxy (`kedastral.proxies`) and, without ``tls``, the trusted authorities
    (`kedastral.tls.make_public_context`); a ``transport`` ignores both.

    An idle connection is kept for ``keep_alive`` seconds, by default httpx's 5 s.

    Redirects are not followed: the operator named the server, and a header such as ``X-Api-Key`` would be sent to
    wherever a response points. A redirect nearly always means that the URL is wrong, which is worth an error.
    """
    given = _parse_base(url)
    if auth is None and given.userinfo:
        auth = httpx.BasicAuth(given.username, given.password)
    proxy = read_proxies(os.environ).find(given) if transport is None else None
    if proxy is not None:
        _log_proxy(shown_url(given), proxy)
    return httpx.AsyncClient(
        base_url=given.copy_with(userinfo=b"", query=None, fragment=None),
        params=[*given.params.multi_items(), *params],
        auth=auth,
        headers={"User-Agent": f"kedastral/{__version__}", **(headers or {})},
        verify=_context_for(given.scheme) if tls is None else tls,
        proxy=None if proxy is None else _open_proxy(proxy),
        transport=transport,
        limits=httpx.Limits(keepalive_expiry=5.0 if keep_alive is None else keep_alive),
        trust_env=False,  # the environment was read above, once
        follow_redirects=False,
    )


def _context_for(scheme: str) -> ssl.SSLContext:
    """The default TLS context for a server; without TLS, the authorities need not even exist."""
    return make_public_context(os.environ) if scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _open_proxy(proxy: Proxy) -> httpx.Proxy:
    return httpx.Proxy(proxy.url, ssl_context=_context_for("https") if proxy.scheme == "https" else None)


@lru_cache
def _log_proxy(server: str, proxy: Proxy) -> None:
    """Logged once per server, however many clients are opened for it."""
    log.info("%s", proxy.describe_for(server))


def _parse_base(url: str) -> httpx.URL:
    try:
        given = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ConfigError([f"the URL cannot be used: {error}"]) from None
    if given.scheme not in ("http", "https") or not given.host or "%" in given.host:
        raise ConfigError(["the URL cannot be used: it must read http://host or https://host"])
    return given


@attrs.frozen
class SecretText:
    """A secret: its text, or the file from which it is read at each use, since Kubernetes rotates such files.

    ``what`` names it in errors. Reading blocks: a few bytes from a mounted volume take less time than a thread would.
    """

    what: str
    given: Secret | None = None
    file: Path | None = None

    def read(self) -> str:
        """The secret, without a trailing newline; raises SourceError naming the file, never the text."""
        if self.file is None:
            return self.given.reveal() if self.given is not None else ""
        try:
            return read_secret_file(self.file)
        except ValueError as error:
            shown = one_line(str(self.file), 200)
            raise SourceError(f"the {self.what} file {shown} {error}", reason="credentials") from error.__cause__


@attrs.frozen
class BasicAuth(httpx.Auth):
    """User and password (RFC 7617, UTF-8)."""

    username: str
    password: SecretText

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Raises SourceError if the password cannot be read."""
        pair = f"{self.username}:{self.password.read()}"
        request.headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        yield request


@attrs.frozen
class BearerAuth(httpx.Auth):
    """A bearer token (RFC 6750)."""

    token: SecretText

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Raises SourceError like `read_token`."""
        request.headers["Authorization"] = f"Bearer {read_token(self.token)}"
        yield request


def read_token(text: SecretText) -> str:
    """A bearer token; raises SourceError if it cannot be read or sent in a header."""
    token = text.read()
    if not fits_header(token):
        raise SourceError(f"the {text.what} holds characters that no header can carry", reason="credentials")
    return token


def find_token(what: str, given: Secret | None, file: Path | None) -> SecretText | None:
    """The token from ``given`` or ``file``, None if both are None; raises ConfigError if it is invalid."""
    if given is None and file is None:
        return None
    text = SecretText(what, given, file)
    try:
        read_token(text)
    except SourceError as error:
        raise ConfigError([str(error)]) from error
    return text


async def _admit_at_once() -> None:
    """Room for any body."""


async def read_bounded(
    response: httpx.Response,
    limit: int,
    *,
    large: float = math.inf,
    admit: Callable[[], Awaitable[None]] = _admit_at_once,
) -> bytes:
    """The body of a streamed response; raises AnswerTooLargeError as soon as it exceeds ``limit`` bytes.

    ``admit`` is awaited before more than ``large`` bytes are held; what it raises is raised here.
    """
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise AnswerEncodedError(f"the answer is encoded as {one_line(encoding, 40)}, which was not asked for")
    body, refused = bytearray(), None
    # Leaving the loop would abandon httpx's nested generators to the garbage collector; a cancellation unwinds them.
    with trio.CancelScope() as reading:
        async for chunk in response.aiter_bytes():
            if len(body) + len(chunk) > limit:
                reading.cancel()
                continue
            if len(body) + len(chunk) > large:
                try:
                    await admit()
                except BaseException as error:  # noqa: BLE001 - raised below, or a cancellation that comes again at once
                    refused = error
                    reading.cancel()
                    continue
            body += chunk
    if refused is not None:
        raise refused
    if reading.cancel_called:
        raise AnswerTooLargeError(f"the answer is larger than {limit >> 20} MiB")
    return bytes(body)


def shown_url(url: httpx.URL) -> str:
    """``url`` for a message: no user, no password, no query."""
    return one_line(str(url.copy_with(userinfo=b"", query=None, fragment=None)).rstrip("/"), 200)


def refuse_page(body: bytes) -> None:
    """Raises WebPageError for HTML instead of JSON: an OAuth proxy answers with it, with status 200."""
    if _is_page(body):
        title = words_of_page(body)
        shown = f" ({one_line(title, 80)!r})" if title else ""
        raise WebPageError(f"it is an HTML page{shown}: is a login in front of it, or is the URL wrong?")


def words_of_page(body: bytes) -> str:
    """The title of an HTML body, or its text if it has none, or the text of any other; empty if there is none."""
    text = body[:PAGE_READ].decode("utf-8", "replace")
    if _is_page(body):
        title = _TITLE.search(text)
        return one_line(html.unescape(_TAGS.sub(" ", text) if title is None else title[1]))
    return text


async def quote_error(response: httpx.Response, client: httpx.AsyncClient) -> str:
    """What the body of an error says, as the end of a message: its first line, truncated, without secrets that we sent.

    Empty if it says nothing or does not end: it only supplements the status.
    """
    body = b""
    with trio.move_on_after(QUOTE_WITHIN), suppress(httpx.HTTPError, AnswerTooLargeError, AnswerEncodedError):
        body = await read_bounded(response, QUOTE_LIMIT)
    said = hide_secrets(words_of_page(body), client, response.request)
    first = next((line for line in said.splitlines() if line.strip()), "")
    return f"; it says: {one_line(first, QUOTE_SHOWN)}" if first else ""


def _is_page(body: bytes) -> bool:
    return body[:PAGE_READ].lstrip()[:1] == b"<"


def hide_secrets(text: str, client: httpx.AsyncClient, request: httpx.Request) -> str:
    """``text`` without the secrets that were sent with ``request``, in case the response quotes them."""
    secrets = [*client.params.values(), *_secrets_of(request.headers)]
    for secret in sorted(filter(lambda one: len(one) >= SHORTEST_HIDDEN, secrets), key=len, reverse=True):
        text = text.replace(secret, "(hidden)")
    return text


def _secrets_of(headers: httpx.Headers) -> Iterator[str]:
    for name, value in headers.items():
        if name in _SHOWN_HEADERS:
            continue
        yield value
        kind, _, credentials = value.partition(" ")
        yield credentials
        if kind.lower() == "basic":
            with suppress(ValueError):
                yield base64.b64decode(credentials).decode().partition(":")[2]


def words_of(error: BaseException) -> str:
    """The message of the deepest cause that has one: on Trio the outer errors of a failed TLS handshake have none."""
    if isinstance(error, httpx.LocalProtocolError):
        return "the request is malformed"  # its own message may quote a header
    causes = list(causes_of(error))
    words = next((text for text in map(_own_words, reversed(causes)) if text), type(error).__name__)
    if any(isinstance(cause, socket.gaierror) for cause in causes) and _names_a_service(error):
        words += OUTSIDE
    return one_line(words)


OUTSIDE = "; such a name exists only inside its cluster: elsewhere use kubectl port-forward and http://localhost"
_SERVICE = re.compile(r"\.svc(\.|$)", re.IGNORECASE)


def _names_a_service(error: BaseException) -> bool:
    """Whether the request was for a Kubernetes Service by its name in the cluster."""
    request = getattr(error, "_request", None)
    return isinstance(request, httpx.Request) and _SERVICE.search(request.url.host) is not None


def _own_words(error: BaseException) -> str:
    if isinstance(error, ssl.SSLError):
        return _words_of_tls(error)
    if isinstance(error, socket.gaierror):
        return f"its host name cannot be looked up ({(error.strerror or str(error)).lower()})"
    number = error.errno if isinstance(error, OSError) else None
    # str(error) would repeat the number and the address
    return os.strerror(number).lower() if number is not None and number > 0 else str(error)


def _words_of_tls(error: ssl.SSLError) -> str:
    """OpenSSL's message without its codes and line numbers."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message}"
    if error.reason in ("WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG"):
        return "it does not speak TLS"
    if "_ALERT_" in (error.reason or ""):  # such as TLSV13_ALERT_CERTIFICATE_REQUIRED
        return f"it refuses this client: {error.reason.partition('_ALERT_')[2].replace('_', ' ').lower()}"
    return f"TLS failed: {(error.reason or str(error)).replace('_', ' ').lower()}"


def causes_of(error: BaseException) -> Sequence[BaseException]:
    """``error`` and what led to it, the newest first; of a group, the first error."""
    seen: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in seen:
        seen.append(current)
        if isinstance(current, BaseExceptionGroup):
            current = current.exceptions[0]
        else:
            current = current.__cause__ or current.__context__  # httpcore suppresses the context that holds the reason
    return seen
