# SPDX-License-Identifier: Apache-2.0
"""`Reading`: the requests of one tick to Prometheus, which share ten seconds and keep to the data source's limits."""

from collections.abc import Callable
from typing import TypeVar

import attrs
import httpx
import trio

from kedastral.adapters.prometheus_answer import Answer
from kedastral.adapters.prometheus_api import PrometheusApi, Question
from kedastral.adapters.prometheus_memory import Notices
from kedastral.adapters.request_limits import Allowance, RequestLimits, Turn

T = TypeVar("T")


@attrs.frozen(eq=False)
class Reading:
    """One tick's requests through ``client``: ``timeout`` seconds for all of them, waiting for a turn not counted."""

    client: httpx.AsyncClient
    limits: RequestLimits
    notices: Notices
    timeout: float
    _asking: Allowance = attrs.field(init=False)

    @_asking.default
    def _all_of_it(self) -> Allowance:
        return Allowance(self.timeout)

    @property
    def has_time(self) -> bool:
        """Whether there is time for another request, one of the size that may take half of it."""
        return self._asking.left > self.timeout / 2

    async def ask(
        self, question: Question, parse: Callable[[Answer], T], waiting: Allowance | None = None, *, hurried: bool
    ) -> T:
        """What ``parse`` makes of the answer, once it is our turn.

        Raises as `PrometheusApi.ask`, SourceError with reason timeout when the seconds are over, and trio.TooSlowError
        when those of ``waiting`` are over before a request could be sent.
        """

        async def request(turn: Turn) -> T:
            return await self._ask_in_time(question, parse, turn)

        return await self.limits.ask(request, waiting, hurried=hurried)

    async def _ask_in_time(self, question: Question, parse: Callable[[Answer], T], turn: Turn) -> T:
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
