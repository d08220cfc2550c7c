# SPDX-License-Identifier: Apache-2.0
"""`AskedWorkloads` and `MinimumLog`: what a split scaler reads, for how long, and its warning of a low default-min."""

import logging
from collections.abc import Awaitable, Callable, Collection, Sequence

import attrs
import trio

from kedastral.core.planning.snapshot import Mode, Snapshot
from kedastral.core.planning.stale_policy import OnStale, StalePolicy
from kedastral.core.series import HOUR
from kedastral.errors import RemoteError
from kedastral.logs import of_many

FORGET_AFTER = HOUR
"""Seconds after which a workload that nobody asks for is no longer read."""
FIRST_WAIT = 1.0
"""Seconds that the very first call for a workload may wait; KEDA allows 3 s in all, with one retry."""
MAX_WORKLOADS = 10_000

log = logging.getLogger("kedastral.client")


@attrs.define
class _Question:
    """The latest call for a workload, and whether the first has been answered."""

    at: float
    was_read: trio.Event = attrs.field(factory=trio.Event)


@attrs.define(eq=False)
class AskedWorkloads:
    """The workloads that somebody asks for: `MAX_WORKLOADS` at most, each until `FORGET_AFTER` seconds without a call.
    Those in ``always`` are never forgotten."""

    always: Collection[str] = ()
    _questions: dict[str, _Question] = attrs.field(factory=dict, init=False)

    async def track(
        self, workload: str, read: Callable[[str], Awaitable[None]], count_error: Callable[[RemoteError], None]
    ) -> None:
        """Note a call for ``workload``. The first one runs ``read``, and waits for it `FIRST_WAIT` seconds at most.

        Calls that arrive meanwhile wait as long. Counts and raises RemoteError if there are too many workloads.
        """
        with trio.move_on_after(FIRST_WAIT):
            question = self._questions.get(workload)
            if question is not None:
                question.at = trio.current_time()
                await question.was_read.wait()
                return
            if len(self._questions) >= MAX_WORKLOADS:
                words = f"more than {MAX_WORKLOADS} workloads are asked for"
                error = RemoteError(words, reason="too_many_workloads")
                count_error(error)
                raise error
            question = self._questions[workload] = _Question(trio.current_time())
            try:
                await read(workload)
            finally:
                question.was_read.set()

    def note(self, workload: str) -> None:
        """Note a call for ``workload``, if it is among them."""
        question = self._questions.get(workload)
        if question is not None:
            question.at = trio.current_time()

    def forget_unasked(self) -> Sequence[str]:
        """Forget those that nobody asks for anymore; returns their names."""
        oldest = trio.current_time() - FORGET_AFTER
        unasked = [name for name, one in self._questions.items() if one.at < oldest and name not in self.always]
        for name in unasked:
            del self._questions[name]
        return unasked


@attrs.define(eq=False)
class MinimumLog:
    """Warns if, for a stale forecast, ``policy`` would tell KEDA fewer replicas than any plan of the workload has.

    A split scaler has its own settings, and learns the minimum of a workload from its snapshots.
    """

    policy: StalePolicy
    _warned: dict[str, int] = attrs.field(factory=dict, init=False)
    """The minimum of the last warning, by workload."""

    def note(self, snapshot: Snapshot) -> None:
        """Check ``snapshot``; warns once about the same minimum."""
        policy, least, workload = self.policy, snapshot.min_replicas, snapshot.workload
        is_observed = Mode.OBSERVE in (policy.mode, snapshot.mode)
        if policy.on_stale is not OnStale.DEFAULT_MIN or is_observed or (least or 0) <= policy.default_min:
            self._warned.pop(workload, None)
        elif least is not None and self._warned.get(workload) != least:
            self._warned[workload] = least
            words = (
                "--default-min (%d) is below the workload's minimum (%d): a stale forecast asks for fewer than any plan"
            )
            log.warning(words, policy.default_min, least, extra=of_many(workload))

    def forget(self, workload: str) -> None:
        """Note that nobody asks for ``workload`` anymore."""
        self._warned.pop(workload, None)
