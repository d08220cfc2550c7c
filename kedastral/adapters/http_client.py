# SPDX-License-Identifier: Apache-2.0
"""What every HTTP call of ours shares: the client, reading an answer within bounds, words for errors and logs."""

import os
import socket
import ssl
from collections.abc import Iterable, Mapping

import httpx
import trio

from kedastral import __version__
from kedastral.errors import ConfigError

PLAIN = {"Accept": "application/json", "Accept-Encoding": "identity"}
"""Sent with every request: an answer that is never inflated cannot be a decompression bomb."""
SHOWN_TEXT = 500
"""The most characters of somebody else's words that one log line carries."""


class AnswerTooLargeError(ValueError):
    """An answer's body exceeds the limit; no more than the limit was read."""


class AnswerEncodedError(ValueError):
    """An answer came compressed though that was not asked for."""


def open_client(
    url: str,
    *,
    auth: httpx.Auth | None = None,
    headers: Mapping[str, str] | None = None,
    verify: ssl.SSLContext | bool = True,
    transport: httpx.AsyncBaseTransport | None = None,
) -> httpx.AsyncClient:
    """A client for paths below ``url``: its path prefix and query parameters are kept, its user and password become
    basic authentication unless ``auth`` is given. Close it, or use it in ``async with``. Raises ConfigError.

    Redirects are not followed: the operator named the server, and a header such as ``X-Api-Key`` would travel along to
    wherever an answer points. A redirect nearly always means that the URL is wrong, which is worth an error.
    """
    given = _parse_base(url)
    if auth is None and given.userinfo:
        auth = httpx.BasicAuth(given.username, given.password)
    try:
        return httpx.AsyncClient(
            base_url=given.copy_with(userinfo=b"", query=None, fragment=None),
            params=given.params,
            auth=auth,
            headers={"User-Agent": f"kedastral/{__version__}", **(headers or {})},
            verify=verify,
            transport=transport,
            follow_redirects=False,
        )
    except (httpx.InvalidURL, ValueError, ImportError) as error:
        words = one_line(str(error), 200)
        raise ConfigError([f"the proxy of HTTP_PROXY, HTTPS_PROXY or ALL_PROXY cannot be used: {words}"]) from None


def _parse_base(url: str) -> httpx.URL:
    try:
        given = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ConfigError([f"the URL cannot be used: {error}"]) from None
    if given.scheme not in ("http", "https") or not given.host or "%" in given.host:
        raise ConfigError(["the URL cannot be used: it must read http://host or https://host"])
    return given


async def read_bounded(response: httpx.Response, limit: int) -> bytes:
    """The body of a streamed answer; raises AnswerTooLargeError as soon as it exceeds ``limit`` bytes."""
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise AnswerEncodedError(f"the answer is encoded as {one_line(encoding, 40)}, which was not asked for")
    body = bytearray()
    # Leaving the loop would abandon httpx's nested generators to the garbage collector; a cancellation unwinds them.
    with trio.CancelScope() as reading:
        async for chunk in response.aiter_bytes():
            if len(body) + len(chunk) > limit:
                reading.cancel()
            else:
                body += chunk
    if reading.cancel_called:
        raise AnswerTooLargeError(f"the answer is larger than {limit >> 20} MiB")
    return bytes(body)


def shown_url(url: httpx.URL) -> str:
    """``url`` for a message: no user, no password, no query."""
    return one_line(str(url.copy_with(userinfo=b"", query=None, fragment=None)).rstrip("/"), 200)


def one_line(text: str, limit: int = SHOWN_TEXT) -> str:
    """``text`` on one line without control characters, cut to ``limit`` characters."""
    line = "".join(char if char.isprintable() else " " for char in text[: 4 * limit])
    line = " ".join(line.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def words_of(error: BaseException) -> str:
    """The words of the deepest cause that has any: on Trio the outer errors of a failed TLS handshake are empty."""
    if isinstance(error, httpx.LocalProtocolError):
        return "the request is malformed"  # its own words may quote a header
    words = [_own_words(cause) for cause in _causes(error)]
    return one_line(next((text for text in reversed(words) if text), type(error).__name__))


def _own_words(error: BaseException) -> str:
    if isinstance(error, ssl.SSLError):
        return _words_of_tls(error)
    if isinstance(error, socket.gaierror):
        return f"its host name cannot be looked up ({(error.strerror or str(error)).lower()})"
    number = error.errno if isinstance(error, OSError) else None
    # the text of the error has the number, and the address once more
    return os.strerror(number).lower() if number is not None and number > 0 else str(error)


def _words_of_tls(error: ssl.SSLError) -> str:
    """OpenSSL's words without its codes and line numbers."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message}"
    if error.reason in ("WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG"):
        return "it does not speak TLS"
    if "_ALERT_" in (error.reason or ""):  # such as TLSV13_ALERT_CERTIFICATE_REQUIRED
        return f"it refuses us: {error.reason.partition('_ALERT_')[2].replace('_', ' ').lower()}"
    return f"TLS failed: {(error.reason or str(error)).replace('_', ' ').lower()}"


def _causes(error: BaseException) -> Iterable[BaseException]:
    seen: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in seen:
        seen.append(current)
        if isinstance(current, BaseExceptionGroup):
            current = current.exceptions[0]
        else:
            current = current.__cause__ or current.__context__  # httpcore suppresses the context that says why
    return seen
