# SPDX-License-Identifier: Apache-2.0
"""`RemoteSnapshots`: the snapshots of forecasters, read over HTTP in the background and answered from memory."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from enum import Enum, auto

import attrs
import httpx
import trio

from kedastral.adapters.http import (
    PLAIN,
    AnswerEncodedError,
    AnswerTooLargeError,
    WebPageError,
    quote_error,
    read_bounded,
    refuse_page,
    shown_url,
    words_of,
)
from kedastral.clock import SystemClock, WallClock
from kedastral.core.planning.snapshot import Snapshot
from kedastral.core.planning.stale_policy import StalePolicy
from kedastral.core.serving import keep_served
from kedastral.errors import RemoteError, SourceError
from kedastral.logs import of_many
from kedastral.serving.asked import AskedWorkloads, MinimumLog
from kedastral.serving.metrics import Metrics
from kedastral.serving.store import MAX_SKEW, ChangeEvents, SeldomWarning
from kedastral.text import one_line
from kedastral.wire import WireError, read_snapshot

REFRESH_EVERY = 5.0
"""Seconds between two reads of a workload: a sixth of the default interval, so it adds little to a forecast's age."""
KEEP_ALIVE = 8.0
"""Seconds that a connection may be idle: longer than `REFRESH_EVERY`, and less than the server's limit of 10 s."""
ANSWER_WITHIN = 5.0
"""Seconds for one whole response."""
MAX_CONCURRENT = 8
MAX_ABSENT_PER_REFRESH = 200
"""How many workloads without a forecast one refresh reads. Names that nobody forecasts must not delay the others, and
with a thousand workloads a first forecast is still seen within half a minute."""
MAX_ABSENT_CONCURRENT = 2
"""How many of `MAX_CONCURRENT` requests may be spent on those."""
OLD = 0.5
"""After this share of the time until a snapshot is stale, the other forecasters are asked for a newer one."""
AVOID_FOR = 15.0
"""Seconds for which a forecaster that failed is asked last, so that not every workload waits for it."""
MAX_BYTES = 2**20
"""The snapshot of the longest allowed forecast is about 0.3 MB."""
MAX_TAG_LENGTH = 200
AHEAD_WORDS = (
    "%s gives forecasts from %.0f s in the future, which do not replace others: its clock or this one's is wrong"
)
NOT_ABOUT_ONE = frozenset({"timeout", "unreachable", "http_status", "credentials"})
"""Reasons for a forecaster's failure that would affect other workloads too."""

log = logging.getLogger("kedastral.client")


class _Result(Enum):
    """How the last read of a workload ended."""

    FOUND = auto()
    ABSENT = auto()
    FAILED = auto()


@attrs.frozen
class TaggedSnapshot:
    """A forecaster's newest snapshot of a workload, None if it is the one with the given ``tag``."""

    snapshot: Snapshot | None
    tag: str


@attrs.define(eq=False)
class SnapshotServer:
    """The HTTP server of one forecaster. It knows whether it has failed recently."""

    http: httpx.AsyncClient
    is_failing: bool = attrs.field(default=False, init=False)
    _avoided_until: float = attrs.field(default=-math.inf, init=False)
    ahead: SeldomWarning = attrs.field(factory=lambda: SeldomWarning(log, AHEAD_WORDS), init=False)

    @property
    def name(self) -> str:
        """Its name for messages."""
        return f"the forecaster at {shown_url(self.http.base_url)}"

    @property
    def is_avoided(self) -> bool:
        """Whether it failed recently, so that others are asked first."""
        return trio.current_time() < self._avoided_until

    async def read(self, workload: str, tag: str) -> TaggedSnapshot | None:
        """Its newest snapshot, unless that is the one with ``tag``; None if it has none (404), which is not a failure.

        Raises RemoteError.
        """
        try:
            found = await self._read(workload, tag)
        except RemoteError as error:
            if error.reason in NOT_ABOUT_ONE:
                self.is_failing, self._avoided_until = True, trio.current_time() + AVOID_FOR
            raise
        self.is_failing, self._avoided_until = False, -math.inf
        return found

    async def _read(self, workload: str, tag: str) -> TaggedSnapshot | None:
        try:
            with trio.fail_after(ANSWER_WITHIN):
                answer = await self._fetch(workload, tag)
            if answer is None or answer.body is None:
                return None if answer is None else TaggedSnapshot(None, tag)
            refuse_page(answer.body)
            return TaggedSnapshot(_expect(workload, read_snapshot(answer.body)), answer.tag)
        except trio.TooSlowError as error:
            raise RemoteError(f"{self.name} gave no answer within {ANSWER_WITHIN:g} s", reason="timeout") from error
        except SourceError as error:  # the token's file is read again for each request
            raise RemoteError(str(error), reason="credentials") from error
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise RemoteError(f"{self.name} cannot be reached: {words_of(error)}", reason="unreachable") from error
        except (WireError, AnswerTooLargeError, AnswerEncodedError, WebPageError) as error:
            words = one_line(str(error))
            raise RemoteError(f"{self.name} gave an unreadable answer: {words}", reason="bad_answer") from error

    async def _fetch(self, workload: str, tag: str) -> "_TaggedBody | None":
        """The newest snapshot as it was sent; None if the forecaster has none of ``workload``."""
        headers = {**PLAIN, "If-None-Match": tag} if tag else PLAIN
        asked = {"params": {"workload": workload}, "headers": headers, "timeout": None}
        async with self.http.stream("GET", "forecast/current", **asked) as response:  # type: ignore[arg-type]
            status = response.status_code
            if status == httpx.codes.NOT_MODIFIED and tag:
                await read_bounded(response, 0)  # so that the connection is kept
                return _TaggedBody(None, tag)
            if status != httpx.codes.OK:
                said = await quote_error(response, self.http)  # reading it keeps the connection
                if status == httpx.codes.NOT_FOUND:
                    return None
                hint = ": it asks for its token" if status == httpx.codes.UNAUTHORIZED else ""
                raise RemoteError(f"{self.name} answered {status}{hint}{said}", reason="http_status")
            return _TaggedBody(await read_bounded(response, MAX_BYTES), _tag_of(response))


def _tag_of(response: httpx.Response) -> str:
    """The entity tag of a response, empty if it has none that can be sent back."""
    tag: str = response.headers.get("ETag", "")
    return tag if tag.isascii() and tag.isprintable() and len(tag) <= MAX_TAG_LENGTH else ""


@attrs.frozen
class _TaggedBody:
    """The body of a response, None if it has not changed, and its tag."""

    body: bytes | None
    tag: str


@attrs.define
class _Tracked:
    """What is known about a workload; ``tags`` are those of the stored snapshots, by forecaster."""

    read_at: float = -math.inf
    snapshot: Snapshot | None = None
    ended: _Result = _Result.FOUND
    preferred: SnapshotServer | None = None
    tags: dict[SnapshotServer, str] = attrs.field(factory=dict)


@attrs.define(eq=False)
class RemoteSnapshots:
    """Reads the snapshots of the workloads it is asked for, every `REFRESH_EVERY` seconds, and keeps the newest.

    Of several ``servers``, the one that last had the newest snapshot is asked. The others are asked too if that one
    fails, has none, or has an old one (`OLD`); the newest counts, and never one older than the stored one.

    While no forecaster can be reached, or none has a snapshot (after a restart), the last snapshot stays, and becomes
    stale by its age as usual, by this process's clock. Workloads without a forecast are read in turn,
    `MAX_ABSENT_PER_REFRESH` at each refresh; all others are read every time. Memory grows with the workloads tracked
    (`AskedWorkloads`). Those in ``always`` are read from the start, asked for or not. After a forecaster has restarted,
    what KEDA was told before by ``policy`` is held (`keep_served`).
    """

    servers: Sequence[SnapshotServer]
    metrics: Metrics
    always: Sequence[str] = ()
    clock: WallClock = attrs.field(factory=SystemClock)
    policy: StalePolicy = attrs.field(factory=StalePolicy)
    _asked: AskedWorkloads = attrs.field(init=False)
    _minimum: MinimumLog = attrs.field(init=False)
    _tracked: dict[str, _Tracked] = attrs.field(factory=dict, init=False)
    _changes: ChangeEvents = attrs.field(factory=ChangeEvents, init=False)
    _limit: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(MAX_CONCURRENT), init=False)

    def __attrs_post_init__(self) -> None:
        self._asked, self._minimum = AskedWorkloads(self.always), MinimumLog(self.policy)

    def get(self, workload: str) -> Snapshot | None:
        """See `kedastral.core.ports.SnapshotReader.get`."""
        self._asked.note(workload)
        tracked = self._tracked.get(workload)
        if tracked is None or tracked.snapshot is None:
            return None
        self._minimum.note(tracked.snapshot)
        return tracked.snapshot

    def newest(self) -> Mapping[str, Snapshot]:
        """See `kedastral.core.ports.SnapshotReader.newest`."""
        return {name: one.snapshot for name, one in self._tracked.items() if one.snapshot is not None}

    async def track(self, workload: str) -> None:
        """See `kedastral.core.ports.SnapshotReader.track`; raises RemoteError if too many are tracked."""
        await self._asked.track(workload, self._begin, self.metrics.count_error)

    async def wait_for_change(self, *workloads: str) -> None:
        """See `kedastral.core.ports.SnapshotReader.wait_for_change`."""
        await self._changes.wait(*workloads)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep reading until cancelled. A failure is logged and counted, never raised."""
        task_status.started()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_reading, self._present, trio.CapacityLimiter(MAX_CONCURRENT))
            nursery.start_soon(self._keep_reading, self._absent, trio.CapacityLimiter(MAX_ABSENT_CONCURRENT))

    async def _begin(self, workload: str) -> None:
        self._tracked[workload] = _Tracked()
        await self._refresh(workload)

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
        """Some workloads that have no forecast yet, the least recently read first."""
        absent = [name for name, one in self._tracked.items() if one.snapshot is None]
        return sorted(absent, key=lambda name: self._tracked[name].read_at)[:MAX_ABSENT_PER_REFRESH]

    async def _refresh_within(self, limit: trio.CapacityLimiter, workload: str) -> None:
        async with limit:
            await self._refresh(workload)

    async def _refresh(self, workload: str) -> None:
        """Ask one forecaster after the other, until one has a snapshot that is not old."""
        tracked = self._tracked.get(workload)
        if tracked is None:
            return
        tracked.read_at = trio.current_time()
        ended, errors = _Result.ABSENT, list[RemoteError]()
        for server in self._in_order(tracked):
            try:
                async with self._limit:
                    found = await self._ask(server, workload, tracked.tags.get(server, ""))
            except RemoteError as error:
                errors.append(error)
                continue
            if self._tracked.get(workload) is not tracked:
                return  # forgotten meanwhile
            if found is None:
                tracked.tags.pop(server, None)
                continue
            ended = _Result.FOUND
            is_newer = self._keep(tracked, server, found)
            if not is_newer and self._is_ahead(found.snapshot):
                continue  # the others may have one that is newer by this clock
            is_old = tracked.snapshot is None or self._is_old(tracked.snapshot)
            if is_newer or not is_old:
                tracked.preferred = server
            if not is_old:
                break
        if errors and ended is _Result.ABSENT:
            ended = _Result.FAILED
        self._note(workload, ended, errors)

    def _in_order(self, tracked: _Tracked) -> Sequence[SnapshotServer]:
        """All forecasters: the one that had the newest snapshot first, those that failed recently last."""
        return sorted(self.servers, key=lambda one: (one.is_avoided, one is not tracked.preferred))

    async def _ask(self, server: SnapshotServer, workload: str, tag: str) -> TaggedSnapshot | None:
        """Like `SnapshotServer.read`; counts failures, and with several forecasters logs when they begin and end."""
        was_failing = server.is_failing
        try:
            found = await server.read(workload, tag)
        except RemoteError as error:
            self.metrics.count_error(error)
            if len(self.servers) > 1 and server.is_failing and not was_failing:
                log.warning("a forecaster fails; the others are asked", extra={"err": str(error)})
            raise
        if len(self.servers) > 1 and was_failing:
            log.info("%s answers again", server.name)
        return found

    def _keep(self, tracked: _Tracked, server: SnapshotServer, found: TaggedSnapshot) -> bool:
        """Store what was ``found`` unless it is older; returns whether it is newer than what was there."""
        snapshot, before = found.snapshot, tracked.snapshot
        if snapshot is None:
            return False
        if self._is_ahead(snapshot):
            server.ahead.give(snapshot.workload, server.name, _seconds_ahead(snapshot, self.clock.now()))
        if not self._supersedes(snapshot, before):
            tracked.tags.pop(server, None)
            return False
        tracked.tags[server] = found.tag
        tracked.snapshot = kept = keep_served(snapshot, before, self.clock.now(), self.policy)
        if kept != before:
            self._changes.notify(kept.workload)
        return before is None or kept.made_at > before.made_at

    def _supersedes(self, snapshot: Snapshot, before: Snapshot | None) -> bool:
        """Whether ``snapshot`` should replace ``before``: if it is newer, or ``before`` is dated in the future.

        A snapshot that is stale because it comes from the future does not replace one that does not.
        """
        if before is None or self._is_ahead(snapshot) != self._is_ahead(before):
            return before is None or self._is_ahead(before)
        if snapshot.made_at >= before.made_at:
            return True
        return _seconds_ahead(before, self.clock.now()) > MAX_SKEW

    def _is_ahead(self, snapshot: Snapshot | None) -> bool:
        return snapshot is not None and self.policy.is_ahead(snapshot, self.clock.now())

    def _is_old(self, snapshot: Snapshot) -> bool:
        return abs(_seconds_ahead(snapshot, self.clock.now())) > OLD * self.policy.stale_after

    def _note(self, workload: str, ended: _Result, errors: Sequence[RemoteError]) -> None:
        """Log when the outcome of reads changes, not every few seconds."""
        tracked = self._tracked.get(workload)
        if tracked is None or tracked.ended is ended:
            return
        before, tracked.ended = tracked.ended, ended
        fields = of_many(workload)
        if ended is _Result.FAILED:
            words = "; ".join(map(str, errors))
            log.warning("cannot read the snapshot", extra={**fields, "reason": errors[0].reason, "err": words})
        elif ended is _Result.ABSENT:
            log.info("the forecaster is reachable, but has no forecast of %s yet", workload, extra=fields)
        elif before is _Result.ABSENT:
            log.info("the forecaster has a forecast of %s now", workload, extra=fields)
        else:
            log.info("the snapshot can be read again", extra=fields)

    def _forget_unasked(self) -> None:
        for name in self._asked.forget_unasked():
            self._tracked.pop(name, None)
            self._minimum.forget(name)
            self.metrics.forget_workload(name)
            self._changes.notify(name)


def _seconds_ahead(snapshot: Snapshot, now: datetime) -> float:
    """How far in the future ``snapshot`` was made; below 0 in the past."""
    return (snapshot.made_at - now).total_seconds()


def _expect(workload: str, snapshot: Snapshot) -> Snapshot:
    if snapshot.workload != workload:
        raise WireError(f"it is about {snapshot.workload!r}, asked was {workload!r}")
    return snapshot
