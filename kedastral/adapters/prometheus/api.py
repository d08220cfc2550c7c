# SPDX-License-Identifier: Apache-2.0
"""Asks Prometheus' query API: the request, its retries, and an error in one clear line for all that can go wrong."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import attrs
import httpx
import trio

from kedastral.adapters.http import (
    PLAIN,
    AnswerEncodedError,
    AnswerTooLargeError,
    one_line,
    read_bounded,
    shown_url,
    words_of,
)
from kedastral.adapters.prometheus.answer import QueryResponse, RefusedError, error_words, parse_answer
from kedastral.adapters.prometheus.limits import RequestLimits, TimeBudget, Turn
from kedastral.cooperative import without_garbage_collection
from kedastral.errors import NotServedError, QueryError, SourceError

RETRY_PAUSES = (0.1, 0.3)
"""Seconds before each retry."""
CONNECT_TIMEOUT = 2.0
"""Seconds, for each attempt. Whoever calls bounds the whole."""
BODY_LIMIT = 16 * 1024 * 1024
"""Fifty series of 11,000 points, and about 30 MiB of memory once parsed; whoever has more should sum in PromQL."""
LARGE = 2**17
"""Bytes of an answer that takes longer to read than a call of KEDA should have to wait: 30 ms a MiB."""
QUERY_SHOWN = 200
OF_THE_QUERY = (400, 414, 422)
"""Statuses by which Prometheus refuses the query itself: it cannot be parsed, sent or executed."""

_one_at_a_time: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("kedastral_large_answers")

T = TypeVar("T")


@attrs.frozen
class Question:
    """One request: ``endpoint`` below ``/api/v1/`` and its parameters, ``query`` among them."""

    endpoint: str
    params: dict[str, str]

    @property
    def shown_query(self) -> str:
        """The query as logs may carry it."""
        return one_line(self.params["query"], QUERY_SHOWN)


@attrs.frozen
class _Reply:
    status: int
    body: bytes
    redirect: httpx.Request | None

    @property
    def is_worth_a_retry(self) -> bool:
        return self.status == 429 or (self.status >= 500 and self.status != 501)


@attrs.frozen
class PrometheusApi:
    """The query API behind ``client``, whose base URL is that of Prometheus; each attempt waits for its ``turn``."""

    client: httpx.AsyncClient
    turn: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint

    async def ask(self, question: Question) -> QueryResponse:
        """A successful answer, after at most two retries: on connection errors, 429 and 5xx.

        Raises NotServedError, or SourceError with reason unreachable, timeout (of the connection), http_status,
        refused, bad_answer or credentials. Has no timeout of its own beyond that of the connection.
        """
        reply = await self._exchange(question)
        if reply.status != 200:
            raise self._status_error(question, reply)
        try:
            return await self.read_apart(question, lambda: parse_answer(reply.body), len(reply.body))
        except RefusedError as error:
            raise self.error(question, self._quote(question, str(error)), "refused") from error

    def read(self, question: Question, parse: Callable[[], T]) -> T:
        """What ``parse`` makes of the answer to ``question``; whatever it raises is a SourceError, bad_answer."""
        try:
            return parse()
        except RefusedError:
            raise
        except Exception as error:
            what = self._quote(question, str(error) or type(error).__name__)
            raise self.error(question, f"the answer cannot be used: {what}", "bad_answer") from error

    async def read_apart(self, question: Question, parse: Callable[[], T], size: int) -> T:
        """`read`, in a thread where ``size``, of the answer in bytes, is large: nobody else has to wait for it then.

        One at a time in the process: each thread more that computes keeps the event loop from running for 5 ms more.
        """
        if size <= LARGE:
            return self.read(question, parse)
        try:
            limiter = _one_at_a_time.get()
        except LookupError:
            limiter = trio.CapacityLimiter(1)
            _one_at_a_time.set(limiter)
        return await trio.to_thread.run_sync(
            self._read_uncollected, question, parse, abandon_on_cancel=True, limiter=limiter
        )

    def _read_uncollected(self, question: Question, parse: Callable[[], T]) -> T:
        with without_garbage_collection():
            return self.read(question, parse)

    def error(self, question: Question, what: str, reason: str, kind: type[SourceError] = SourceError) -> SourceError:
        """A SourceError that says where, what and for which query."""
        where = f"{shown_url(self.client.base_url)} ({question.endpoint})"
        return kind(f"Prometheus at {where}: {what}; query: {question.shown_query}", reason=reason)

    async def _exchange(self, question: Question) -> _Reply:
        for pause in RETRY_PAUSES:
            try:
                reply = await self._attempt(question)
            except httpx.TransportError:
                pass
            else:
                if not reply.is_worth_a_retry:
                    return reply
            await trio.sleep(pause)
        try:
            return await self._attempt(question)
        except httpx.TimeoutException as error:
            raise self.error(question, f"no connection within {CONNECT_TIMEOUT:g} s", "timeout") from error
        except httpx.HTTPError as error:
            raise self.error(question, words_of(error), "unreachable") from error

    async def _attempt(self, question: Question) -> _Reply:
        """One request; httpx.TransportError is for the caller to retry."""
        await self.turn()
        try:
            async with self.client.stream(
                "GET",
                f"api/v1/{question.endpoint}",
                params=question.params,
                headers=PLAIN,
                timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT),
                follow_redirects=False,
            ) as response:
                return _Reply(response.status_code, await _body_of(response), response.next_request)
        except (AnswerTooLargeError, AnswerEncodedError) as error:
            raise self.error(question, str(error), "bad_answer") from error
        except httpx.InvalidURL as error:
            length = len(question.params["query"])
            raise self.error(question, f"a query of {length} characters makes no URL: {error}", "refused") from error
        except UnicodeError as error:  # a host name that DNS cannot express; httpx lets it through
            raise self.error(
                question, f"the host name cannot be looked up: {words_of(error)}", "unreachable"
            ) from error

    def _status_error(self, question: Question, reply: _Reply) -> SourceError:
        what = f"HTTP {reply.status}"
        words = error_words(reply.body)
        if words is not None:
            what += f": {self._quote(question, words)}"
        elif reply.redirect is not None:
            target = shown_url(reply.redirect.url)
            what += f", a redirect to {target}: redirects are not followed, set the URL it should be"
        elif reply.status in (401, 403):
            what += ": the credentials were not accepted"
        elif reply.status == 414:
            what += ": the query is too long for a GET request"
        elif reply.status == 404:
            what += ": is --prom-url the base address?"
        if reply.status in (404, 405, 501):
            return self.error(question, what, "http_status" if reply.status == 501 else "refused", NotServedError)
        if reply.status in OF_THE_QUERY and (words is not None or reply.status == 414):
            message = str(self.error(question, what, "refused"))
            return QueryError(message, reason="refused", refusal=what)
        refused = 400 <= reply.status < 500 and reply.status != 429
        return self.error(question, what, "refused" if refused else "http_status")

    @staticmethod
    def _quote(question: Question, words: str) -> str:
        """Prometheus' own words, in which the query is cut as everywhere."""
        return one_line(words.replace(question.params["query"], question.shown_query))


async def _body_of(response: httpx.Response) -> bytes:
    try:
        return await read_bounded(response, BODY_LIMIT)
    except (AnswerTooLargeError, AnswerEncodedError):
        if response.status_code == 200:
            raise
        return b""  # the page of an error status only adds words to it


NOTICES_REMEMBERED = 100
NOTICES_PER_ANSWER = 10

log = logging.getLogger("kedastral.source")


@attrs.define
class WarningLog:
    """Logs what Prometheus remarks on an answer, each text once; remembers the newest texts only."""

    _seen: dict[tuple[int, str], None] = attrs.field(factory=dict)

    def log(self, answer: QueryResponse) -> None:
        self._log(logging.WARNING, answer.warnings)
        self._log(logging.INFO, answer.infos)

    def _log(self, level: int, texts: Sequence[str]) -> None:
        for text in map(one_line, texts[:NOTICES_PER_ANSWER]):
            if (level, text) not in self._seen:
                log.log(level, "Prometheus remarks: %s", text)
            self._seen[level, text] = None
            if len(self._seen) > NOTICES_REMEMBERED:
                del self._seen[next(iter(self._seen))]


# --- `HistoryRequest`: the requests of one tick to Prometheus, which share ten seconds and keep to the data source's
# limits.


@attrs.frozen(eq=False)
class HistoryRequest:
    """One tick's requests through ``client``: ``timeout`` seconds for all of them, waiting for a turn not counted."""

    client: httpx.AsyncClient
    limits: RequestLimits
    notices: WarningLog
    timeout: float
    _asking: TimeBudget = attrs.field(init=False)

    @_asking.default
    def _all_of_it(self) -> TimeBudget:
        return TimeBudget(self.timeout)

    @property
    def has_time(self) -> bool:
        """Whether there is time for another request, one of the size that may take half of it."""
        return self._asking.left > self.timeout / 2

    async def ask(
        self,
        question: Question,
        parse: Callable[[QueryResponse], T],
        waiting: TimeBudget | None = None,
        *,
        hurried: bool,
    ) -> T:
        """What ``parse`` makes of the answer, once it is our turn.

        Raises as `PrometheusApi.ask`, SourceError with reason timeout when the seconds are over, and trio.TooSlowError
        when those of ``waiting`` are over before a request could be sent.
        """

        async def request(turn: Turn) -> T:
            return await self._ask_in_time(question, parse, turn)

        return await self.limits.ask(request, waiting, hurried=hurried)

    async def _ask_in_time(self, question: Question, parse: Callable[[QueryResponse], T], turn: Turn) -> T:
        async def wait_for_turn() -> None:
            with self._asking.stopped():
                await turn()

        api = PrometheusApi(self.client, wait_for_turn)
        try:
            with self._asking.running():
                answer = await api.ask(question)
                self.notices.log(answer)
                return await api.read_apart(question, lambda: parse(answer), answer.size)
        except trio.TooSlowError as error:
            raise api.error(question, f"no complete answer within {self.timeout:g} s", "timeout") from error
