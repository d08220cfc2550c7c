# SPDX-License-Identifier: Apache-2.0
"""`RemoteSnapshots`: a forecaster's snapshots, read over HTTP in the background and answered from memory."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto

import attrs
import httpx
import trio

from kedastral.adapters.http import (
    PLAIN,
    AnswerEncodedError,
    AnswerTooLargeError,
    WebPageError,
    one_line,
    quote_error,
    read_bounded,
    refuse_page,
    shown_url,
    words_of,
)
from kedastral.clock import SystemClock, WallClock
from kedastral.core.serving import Snapshot, StalePolicy, keep_served
from kedastral.errors import RemoteError, SourceError
from kedastral.serving.metrics import Metrics
from kedastral.serving.store import ChangeEvents
from kedastral.wire import WireError, read_snapshot

REFRESH_EVERY = 5.0
"""Seconds between two reads of a workload: a sixth of the default interval, so little is added to a forecast's age."""
FIRST_WAIT = 1.0
"""Seconds the very first question about a workload may wait; KEDA allows 3 s in all, with one retry."""
FORGET_AFTER = 3600.0
"""Seconds after which a workload that nobody asks for is not read any more."""
ANSWER_WITHIN = 5.0
"""Seconds for one whole answer."""
MAX_WORKLOADS = 10_000
MAX_CONCURRENT = 8
MAX_ABSENT_PER_REFRESH = 200
"""Workloads without a forecast that one refresh reads. Names that nobody forecasts must not delay the others, and the
first forecast of a thousand is still seen within half a minute."""
MAX_ABSENT_CONCURRENT = 2
"""Of `MAX_CONCURRENT`, the requests that may be spent on those."""
MAX_SKEW = 60.0
"""Seconds by which clocks may differ; a snapshot from further in the future was made before a clock was set back."""
MAX_BYTES = 2**20
"""A snapshot of the longest forecast allowed is about 0.3 MB."""

log = logging.getLogger("kedastral.client")


class _Result(Enum):
    """How the last read of a workload ended."""

    FOUND = auto()
    ABSENT = auto()
    FAILED = auto()


@attrs.define
class _Tracked:
    asked_at: float
    read_at: float = -math.inf
    snapshot: Snapshot | None = None
    ended: _Result = _Result.FOUND
    was_read: trio.Event = attrs.field(factory=trio.Event)


@attrs.define(eq=False)
class RemoteSnapshots:
    """Reads the snapshots of the workloads it is asked for, every `REFRESH_EVERY` seconds, and keeps the newest.

    While the forecaster cannot be reached, or has none (it was restarted), the last snapshot stays, and goes stale by
    its age like any other; likewise while another forecaster, behind the same address, has an older one. Workloads
    without a forecast are read in turn, `MAX_ABSENT_PER_REFRESH` at each refresh, all others at every one. Memory grows
    with the workloads tracked, at most `MAX_WORKLOADS`. Those of ``always`` are read from the start, asked for or not.
    After a forecaster has started anew, what was told before by ``policy`` is kept to (`keep_served`).
    """

    http: httpx.AsyncClient
    metrics: Metrics
    always: Sequence[str] = ()
    clock: WallClock = attrs.field(factory=SystemClock)
    policy: StalePolicy = attrs.field(factory=StalePolicy)
    _tracked: dict[str, _Tracked] = attrs.field(factory=dict, init=False)
    _changes: ChangeEvents = attrs.field(factory=ChangeEvents, init=False)
    _limit: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(MAX_CONCURRENT), init=False)

    def get(self, workload: str) -> Snapshot | None:
        """See `kedastral.core.ports.SnapshotReader.get`."""
        tracked = self._tracked.get(workload)
        if tracked is None:
            return None
        tracked.asked_at = trio.current_time()
        return tracked.snapshot

    def newest(self) -> Mapping[str, Snapshot]:
        """See `kedastral.core.ports.SnapshotReader.newest`."""
        return {name: one.snapshot for name, one in self._tracked.items() if one.snapshot is not None}

    async def track(self, workload: str) -> None:
        """See `kedastral.core.ports.SnapshotReader.track`; raises RemoteError where too many are tracked."""
        with trio.move_on_after(FIRST_WAIT):
            tracked = self._tracked.get(workload)
            if tracked is not None:
                await tracked.was_read.wait()
                return
            if len(self._tracked) >= MAX_WORKLOADS:
                raise RemoteError(f"more than {MAX_WORKLOADS} workloads are asked for", reason="too_many_workloads")
            tracked = self._tracked[workload] = _Tracked(trio.current_time())
            try:
                await self._refresh(workload)
            finally:
                tracked.was_read.set()

    async def wait_for_change(self, *workloads: str) -> None:
        """See `kedastral.core.ports.SnapshotReader.wait_for_change`."""
        await self._changes.wait(*workloads)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep reading until cancelled. A failure is logged and counted, never raised."""
        task_status.started()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_reading, self._present, trio.CapacityLimiter(MAX_CONCURRENT))
            nursery.start_soon(self._keep_reading, self._absent, trio.CapacityLimiter(MAX_ABSENT_CONCURRENT))

    async def _keep_reading(self, choose: Callable[[], Sequence[str]], limit: trio.CapacityLimiter) -> None:
        while True:
            for workload in self.always:
                await self.track(workload)
            await trio.sleep(REFRESH_EVERY)
            self._forget_unasked()
            async with trio.open_nursery() as nursery:
                for workload in choose():
                    nursery.start_soon(self._refresh_within, limit, workload)

    def _present(self) -> Sequence[str]:
        return [name for name, one in self._tracked.items() if one.snapshot is not None]

    def _absent(self) -> Sequence[str]:
        """Some that have no forecast yet, the longest unseen first."""
        absent = [name for name, one in self._tracked.items() if one.snapshot is None]
        return sorted(absent, key=lambda name: self._tracked[name].read_at)[:MAX_ABSENT_PER_REFRESH]

    async def _refresh_within(self, limit: trio.CapacityLimiter, workload: str) -> None:
        async with limit:
            await self._refresh(workload)

    async def _refresh(self, workload: str) -> None:
        tracked = self._tracked.get(workload)
        if tracked is None:
            return
        tracked.read_at = trio.current_time()
        try:
            async with self._limit:
                snapshot = await self._read(workload)
        except RemoteError as error:
            self.metrics.count_error(error)
            self._note(workload, _Result.FAILED, error)
            return
        if workload in self._tracked:
            if snapshot is not None and self._supersedes(snapshot, tracked.snapshot):
                snapshot = keep_served(snapshot, tracked.snapshot, self.clock.now(), self.policy)
                changed, tracked.snapshot = snapshot != tracked.snapshot, snapshot
                if changed:
                    self._changes.notify(workload)
            self._note(workload, _Result.FOUND if snapshot else _Result.ABSENT)

    def _supersedes(self, snapshot: Snapshot, before: Snapshot | None) -> bool:
        """Whether to keep ``snapshot``: unless older, and what is newer was not made in what is the future by now."""
        if before is None or snapshot.made_at >= before.made_at:
            return True
        return (before.made_at - self.clock.now()).total_seconds() > MAX_SKEW

    async def _read(self, workload: str) -> Snapshot | None:
        """The forecaster's newest snapshot; None where it has none (404), which is no failure."""
        where = f"the forecaster at {shown_url(self.http.base_url)}"
        try:
            with trio.fail_after(ANSWER_WITHIN):
                body = await self._fetch(workload, where)
            if body is None:
                return None
            refuse_page(body)
            return _expect(workload, read_snapshot(body))
        except trio.TooSlowError as error:
            raise RemoteError(f"{where} gave no answer within {ANSWER_WITHIN:g} s", reason="timeout") from error
        except SourceError as error:  # the token's file is read anew for each request
            raise RemoteError(str(error), reason="credentials") from error
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise RemoteError(f"{where} cannot be reached: {words_of(error)}", reason="unreachable") from error
        except (WireError, AnswerTooLargeError, AnswerEncodedError, WebPageError) as error:
            words = one_line(str(error))
            raise RemoteError(f"{where} gave what cannot be read: {words}", reason="bad_answer") from error

    async def _fetch(self, workload: str, where: str) -> bytes | None:
        """The body of the answer; None where the forecaster has none of ``workload``."""
        asked = {"params": {"workload": workload}, "headers": PLAIN, "timeout": None}
        async with self.http.stream("GET", "forecast/current", **asked) as response:  # type: ignore[arg-type]
            status = response.status_code
            if status != httpx.codes.OK:
                said = await quote_error(response, self.http)  # reading it keeps the connection
                if status == httpx.codes.NOT_FOUND:
                    return None
                hint = ": it asks for its token" if status == httpx.codes.UNAUTHORIZED else ""
                raise RemoteError(f"{where} answered {status}{hint}{said}", reason="http_status")
            return await read_bounded(response, MAX_BYTES)

    def _note(self, workload: str, ended: _Result, error: RemoteError | None = None) -> None:
        """Log when reads begin to end differently, not every few seconds."""
        tracked = self._tracked.get(workload)
        if tracked is None or tracked.ended is ended:
            return
        before, tracked.ended = tracked.ended, ended
        fields = {"workload": workload}
        if error is not None:
            log.warning("cannot read the snapshot", extra={**fields, "reason": error.reason, "err": str(error)})
        elif ended is _Result.ABSENT:
            log.info("the forecaster is reachable, but has no forecast of %s yet", workload, extra=fields)
        elif before is _Result.ABSENT:
            log.info("the forecaster has a forecast of %s now", workload, extra=fields)
        else:
            log.info("the snapshot can be read again", extra=fields)

    def _forget_unasked(self) -> None:
        oldest = trio.current_time() - FORGET_AFTER
        for name in [name for name, one in self._tracked.items() if one.asked_at < oldest]:
            if name not in self.always:
                del self._tracked[name]
                self._changes.notify(name)


def _expect(workload: str, snapshot: Snapshot) -> Snapshot:
    if snapshot.workload != workload:
        raise WireError(f"it is about {snapshot.workload!r}, asked was {workload!r}")
    return snapshot
