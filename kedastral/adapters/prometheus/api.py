# SPDX-License-Identifier: Apache-2.0
"""Prometheus' query API: the client and its login, the request with its retries, and one clear line per error."""

import logging
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TypeVar, TypeVarTuple

import attrs
import httpx
import trio

from kedastral.adapters.http import (
    PLAIN,
    AnswerEncodedError,
    AnswerTooLargeError,
    BasicAuth,
    BearerAuth,
    SecretText,
    causes_of,
    hide_secrets,
    open_client,
    read_bounded,
    refuse_page,
    shown_url,
    words_of,
    words_of_page,
)
from kedastral.adapters.prometheus.answer import (
    NO_SERIES,
    Load,
    QueryResponse,
    RefusedError,
    error_words,
    parse_answer,
)
from kedastral.adapters.prometheus.limits import LargeAnswer, RequestLimits, RequestSlot, TimeBudget
from kedastral.cooperative import without_garbage_collection
from kedastral.errors import ConfigError, NotServedError, QueryError, SourceError
from kedastral.logs import named
from kedastral.settings.declarations import PrometheusLogin
from kedastral.text import one_line
from kedastral.tls import RotatingContext, TlsFiles, make_client_context

RETRY_PAUSES = (0.1, 0.3)
"""Seconds before each retry."""
CONNECT_TIMEOUT = 2.0
"""Seconds for each attempt. A `TimeBudget` limits all attempts together."""
BODY_LIMIT = 16 * 1024 * 1024
"""Fifty series of 11,000 points, and about 30 MiB of memory once parsed; with more, the query should sum in PromQL."""
LARGE_BODY = 4 * 1024 * 1024
"""Bytes that every answer may have; beyond them, one at a time for each data source is read and parsed."""
LARGE = 2**17
"""Bytes of an answer that takes longer to parse than a call of KEDA should wait: 30 ms per MiB."""
QUERY_SHOWN = 200
"""How many characters of a query logs and errors show."""
STATUSES = {404: ": is --prom-url the base address?", 414: ": the query is too long for a GET request"}
BODY_SHOWN = 100
"""How many characters of a body that is not Prometheus' own error a message quotes: that of a proxy, for instance."""
WITHOUT_LOGIN = "the credentials were not accepted"
WITHOUT_TENANT = "the header X-Scope-OrgID must name a tenant"
NO_TENANT = "no org id"
"""What Mimir and Cortex answer to a request without a tenant."""
CLOCKS_AGREE = 5.0
"""Seconds by which clocks may differ: a Date has whole seconds, and a response takes time."""
QUERY_REFUSED = (400, 414, 422)
"""Statuses with which Prometheus rejects the query itself: it cannot be parsed, sent or executed."""
REMARKS_REMEMBERED = 100
REMARKS_PER_ANSWER = 10

_one_at_a_time: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("kedastral_large_answers")
_NO_LOGIN = PrometheusLogin()

log = logging.getLogger("kedastral.source")

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


def open_prometheus_client(
    url: str, login: PrometheusLogin = _NO_LOGIN, *, transport: httpx.AsyncBaseTransport | None = None
) -> httpx.AsyncClient:
    """A client for the API below ``url``, to be closed or used in ``async with``; ``transport`` is for tests.

    A path prefix of ``url`` is kept. Password and token files are read at each request; rotated certificates are
    reloaded. Raises ConfigError for an invalid URL and certificates that cannot be loaded.
    """
    if ":" in (login.username or ""):
        raise ConfigError(["Prometheus: a username cannot hold a colon"])
    return open_client(
        url,
        auth=_auth_of(login),
        headers=dict(login.headers),
        params=login.query_params,
        tls=_tls_of(login),
        transport=transport,
    )


def _auth_of(login: PrometheusLogin) -> httpx.Auth | None:
    if login.username is not None:
        return BasicAuth(login.username, SecretText("Prometheus password", login.password, login.password_file))
    if login.token is not None or login.token_file is not None:
        return BearerAuth(SecretText("Prometheus token", login.token, login.token_file))
    return None


def _tls_of(login: PrometheusLogin) -> ssl.SSLContext | None:
    if login.ca_file is None and login.cert_file is None:
        return None
    files = TlsFiles(login.cert_file, login.key_file, login.ca_file)
    return RotatingContext("Prometheus", files, make_client_context)


@attrs.frozen
class QueryRequest:
    """One request: ``endpoint`` below ``/api/v1/`` and its parameters, including ``query``."""

    endpoint: str
    params: dict[str, str]

    @property
    def shown_query(self) -> str:
        """The query as logs may show it."""
        return one_line(self.params["query"], QUERY_SHOWN)


@attrs.define
class WarningLog:
    """Logs the warnings and infos of Prometheus' answers, each text once; remembers only the newest texts."""

    _seen: dict[tuple[int, str], None] = attrs.field(factory=dict)

    def log(self, response: QueryResponse) -> None:
        """Log the texts in ``response`` that are new."""
        self._log(logging.WARNING, response.warnings)
        self._log(logging.INFO, response.infos)

    def _log(self, level: int, texts: Sequence[str]) -> None:
        for text in map(one_line, texts[:REMARKS_PER_ANSWER]):
            if (level, text) not in self._seen:
                log.log(level, "Prometheus notes: %s", text)
            self._seen[level, text] = None
            if len(self._seen) > REMARKS_REMEMBERED:
                del self._seen[next(iter(self._seen))]


@attrs.define(eq=False)
class AnswerNotes:
    """What is remembered about the answers of one read, for its error message: see `begin`."""

    _now: datetime | None = None
    _begun: float = 0.0
    _ahead: float | None = None
    _no_load: list[str] = attrs.field(factory=list)
    nothing_newest: bool = False
    """Whether the first answer, that with the newest points, had no series."""
    _is_first: bool = True
    twins_reported: bool = False

    def begin(self, now: datetime) -> None:
        """Begin a read at ``now`` by our wall clock."""
        self._now, self._begun = now, trio.current_time()
        self._ahead, self._no_load = None, []
        self.nothing_newest, self._is_first = False, True

    def note_date(self, header: str) -> None:
        """Compare the ``Date`` header of an answer that has just arrived with our clock."""
        try:
            date = parsedate_to_datetime(header)
        except (ValueError, OverflowError):  # a year or an offset of twenty digits
            return
        if self._now is not None:
            here = self._now + timedelta(seconds=trio.current_time() - self._begun)
            self._ahead = (date.replace(tzinfo=date.tzinfo or UTC) - here).total_seconds()

    def note_load(self, load: Load, request: QueryRequest) -> None:
        """Note that an answer gave ``load``; series that are counted twice cause one warning."""
        if self._is_first:
            self.nothing_newest, self._is_first = load.why_none == NO_SERIES, False
        if load.why_none:
            self._no_load.append(load.why_none)
        if load.twins is not None:
            self.twins_reported = True
            log.warning(
                "one of the series that are summed seems to be counted twice, as with an HA pair of Prometheus without "
                "deduplication: %s and %s; query: %s",
                *(one_line(labels, QUERY_SHOWN) for labels in load.twins),
                request.shown_query,
                extra=named(request.shown_query),
            )

    @property
    def why_no_load(self) -> str:
        """Why no answer of the read had a value, in words; "no series matched" only if that holds for all of them."""
        return next((words for words in self._no_load if words != NO_SERIES), NO_SERIES)

    @property
    def server_ahead(self) -> float:
        """Seconds that the server's clock is ahead of ours; 0 if it is behind, they agree, or it is unknown."""
        return self._ahead if self._ahead is not None and self._ahead >= CLOCKS_AGREE else 0.0

    @property
    def clock_skew(self) -> str:
        """How far the clocks are apart, as the end of a sentence; empty if they agree or it is unknown."""
        if self._ahead is None or abs(self._ahead) < CLOCKS_AGREE:
            return ""
        where = "ahead of" if self._ahead > 0 else "behind"
        return (
            f"; the server's clock is {abs(self._ahead):.0f} s {where} ours, by the Date of its answer: set them right"
        )

    @property
    def lag(self) -> str:
        """`clock_skew`, or that the clocks agree, so that the samples themselves must be late."""
        late = "; its clock agrees with ours: samples reach it late, or no longer, as after a renamed metric or label"
        known = "" if self._ahead is None else late
        return self.clock_skew or known


@attrs.frozen
class _Reply:
    status: int
    body: bytes
    redirect: httpx.Request | None
    sent: httpx.Request

    @property
    def is_worth_a_retry(self) -> bool:
        return self.status == 429 or (self.status >= 500 and self.status != 501)


@attrs.frozen(eq=False)
class PrometheusApi:
    """The query API behind ``client`` (`open_prometheus_client`), used within the ``limits`` of the data source."""

    client: httpx.AsyncClient
    limits: RequestLimits = attrs.field(factory=RequestLimits)
    notes: AnswerNotes = attrs.field(factory=AnswerNotes, init=False)
    _warnings: WarningLog = attrs.field(factory=WarningLog, init=False)

    async def ask(self, request: QueryRequest, time: TimeBudget, *, urgent: bool) -> QueryResponse:
        """A successful answer, after at most two retries: on connection errors, 429 and 5xx.

        Raises NotServedError, or SourceError with reason unreachable, timeout, http_status, refused, bad_answer or
        credentials; NoSlotError if the patience of ``time`` runs out before the request can be sent.
        """
        async with self.limits.slot(time, urgent=urgent) as slot:
            with slot.scope:
                return await self._ask(request, slot, time)
        # It was unusually slow, and had to give way to others that were waiting.
        async with self.limits.slow_slot(time, urgent=urgent) as slot:
            return await self._ask(request, slot, time)

    @contextmanager
    def reading(self, request: QueryRequest, time: TimeBudget) -> Iterator[None]:
        """Spend ``time`` on the answer to ``request``.

        Raises SourceError for anything raised inside, with reason bad_answer or refused, and when the time runs out.
        """
        with self._within(request, time):
            try:
                yield
            except RefusedError as error:
                raise self._error(request, self._quote(request, str(error)), "refused") from error
            except Exception as error:
                what = self._quote(request, str(error) or type(error).__name__)
                raise self._error(request, f"the answer cannot be used: {what}", "bad_answer") from error

    async def _ask(self, request: QueryRequest, slot: RequestSlot, time: TimeBudget) -> QueryResponse:
        with self.limits.large_answer(slot, time) as large:
            reply = await self._send(request, slot, time, large)
            if reply.status != 200:
                raise self._status_error(request, reply)
            with self.reading(request, time):
                refuse_page(reply.body)
                response = await read_apart(len(reply.body), parse_answer, reply.body)
        self._warnings.log(response)
        return response

    async def _send(self, request: QueryRequest, slot: RequestSlot, time: TimeBudget, large: LargeAnswer) -> _Reply:
        """The reply to the first attempt that is not worth retrying, or to the last one."""
        for pause in RETRY_PAUSES:
            await slot.wait_for_turn()
            with self._within(request, time):
                try:
                    reply = await self._attempt(request, large)
                except httpx.TransportError:
                    pass
                else:
                    if not reply.is_worth_a_retry:
                        return reply
                    del reply  # its body may be large
                await trio.sleep(pause)
        await slot.wait_for_turn()
        with self._within(request, time):
            try:
                return await self._attempt(request, large)
            except httpx.TimeoutException as error:
                raise self._error(request, f"no connection within {CONNECT_TIMEOUT:g} s", "timeout") from error
            except httpx.HTTPError as error:
                raise self._error(request, words_of(error), "unreachable") from error

    async def _attempt(self, request: QueryRequest, large: LargeAnswer) -> _Reply:
        """One exchange; raises httpx.TransportError if another attempt may succeed."""
        try:
            async with self.client.stream(
                "GET",
                f"api/v1/{request.endpoint}",
                params=request.params,
                headers=PLAIN,
                timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT),
                follow_redirects=False,
            ) as response:
                self.notes.note_date(response.headers.get("Date", ""))
                body = await _body_of(response, large)
                return _Reply(response.status_code, body, response.next_request, response.request)
        except (AnswerTooLargeError, AnswerEncodedError) as error:
            raise self._error(request, str(error), "bad_answer") from error
        except httpx.InvalidURL as error:
            if "too long" not in str(error):  # httpx reads the address of a redirect, too
                what = f"a redirect to what is no URL: {one_line(str(error))}"
                raise self._error(request, what, "http_status") from error
            length = len(request.params["query"])
            raise self._error(request, f"a query of {length} characters makes no URL: {error}", "refused") from error
        except UnicodeError as error:  # a host name that DNS cannot express; httpx lets it through
            what = f"the host name cannot be looked up: {words_of(error)}"
            raise self._error(request, what, "unreachable") from error

    def _status_error(self, request: QueryRequest, reply: _Reply) -> SourceError:
        error = self._refusal(request, reply)
        error.status = reply.status
        return error

    def _refusal(self, request: QueryRequest, reply: _Reply) -> SourceError:
        words = error_words(reply.body)
        what = f"HTTP {reply.status}"
        what += self._describe_status(request, reply) if words is None else f": {self._quote(request, words, reply)}"
        if reply.status in (404, 405, 501):
            return self._error(request, what, "http_status" if reply.status == 501 else "refused", NotServedError)
        if reply.status in QUERY_REFUSED and (words is not None or reply.status == 414):
            message = str(self._error(request, what, "refused"))
            return QueryError(message, reason="refused", refusal=what)
        refused = 400 <= reply.status < 500 and reply.status != 429
        return self._error(request, what, "refused" if refused else "http_status")

    def _describe_status(self, request: QueryRequest, reply: _Reply) -> str:
        """What a status means that comes without a message from Prometheus, and what its body says."""
        if reply.redirect is not None:
            target = shown_url(reply.redirect.url)
            return f", a redirect to {target}: redirects are not followed, set the URL it should be"
        page = self._quote(request, words_of_page(reply.body), reply)
        said = f"; it says: {one_line(page, BODY_SHOWN)}" if page else ""
        if reply.status in (401, 403):
            is_tenant = NO_TENANT in page
            return f": {WITHOUT_TENANT if is_tenant else WITHOUT_LOGIN}{said}"
        return STATUSES.get(reply.status, "") + said

    @contextmanager
    def _within(self, request: QueryRequest, time: TimeBudget) -> Iterator[None]:
        try:
            with time.asking():
                yield
        except trio.TooSlowError as error:
            raise self._error(request, f"no complete answer within {time.total:g} s", "timeout") from error

    def no_load_error(self, span: str, query: str) -> SourceError:
        """A SourceError for a read of ``query`` that gave no load in all of ``span``; reason empty or no_load."""
        why = self.notes.why_no_load
        words = f"{why}, {span}{self.notes.clock_skew}; query: {query}"
        return SourceError(words, reason="empty" if why == NO_SERIES else "no_load")

    def _error(
        self, request: QueryRequest, what: str, reason: str, kind: type[SourceError] = SourceError
    ) -> SourceError:
        """A SourceError that says where, what, and for which query."""
        where = f"{shown_url(self.client.base_url)} ({request.endpoint})"
        return kind(f"Prometheus at {where}: {what}; query: {request.shown_query}", reason=reason)

    def _quote(self, request: QueryRequest, words: str, reply: _Reply | None = None) -> str:
        """The message of ``reply``, with the query truncated as usual and the secrets that we sent hidden."""
        shown = words if reply is None else hide_secrets(words, self.client, reply.sent)
        return one_line(shown.replace(request.params["query"], request.shown_query))


async def _body_of(response: httpx.Response, large: LargeAnswer) -> bytes:
    try:
        return await read_bounded(response, BODY_LIMIT, large=LARGE_BODY, admit=large.admit)
    except (AnswerTooLargeError, AnswerEncodedError):
        if response.status_code == 200:
            raise
        return b""  # the body of an error status only adds words to it


async def read_apart(size: int, read: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
    """``read(*arguments)``, in a thread if the answer of ``size`` bytes is large, so that the event loop keeps running.

    One at a time per process: each additional busy thread delays the event loop by another 5 ms.
    """
    if size <= LARGE:
        return read(*arguments)
    try:
        limiter = _one_at_a_time.get()
    except LookupError:
        limiter = trio.CapacityLimiter(1)
        _one_at_a_time.set(limiter)
    found = await trio.to_thread.run_sync(
        partial(_read_uncollected, read, *arguments), abandon_on_cancel=True, limiter=limiter
    )
    if isinstance(found, _Unusable):
        try:
            raise found.error
        finally:
            del found  # see `_read_uncollected`
    return found


@attrs.frozen(eq=False)
class _Unusable:
    """An answer could not be read, because of ``error``."""

    error: Exception


def _read_uncollected(read: Callable[[*Arguments], T], *arguments: *Arguments) -> T | _Unusable:
    """``read(*arguments)``, or why the answer cannot be used.

    Raised in a thread, an error and its frames refer to each other: the answer would stay in memory until the next full
    garbage collection, which is rare (`kedastral.cooperative`).
    """
    with without_garbage_collection():
        try:
            return read(*arguments)
        except (RefusedError, ValueError, RecursionError) as error:
            for cause in causes_of(error):
                cause.__traceback__ = None
            return _Unusable(error)
