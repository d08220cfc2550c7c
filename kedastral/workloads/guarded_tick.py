# SPDX-License-Identifier: Apache-2.0
"""`GuardedTick`: a tick whose expected failures are logged and counted; `ToldLog`: what KEDA is told, in the log.

`log_mode` logs a change of the mode.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import attrs

from kedastral.core.explanation.explain import find_reason
from kedastral.core.forecast_status import StatusCode
from kedastral.core.planning.planner import Workload
from kedastral.core.planning.snapshot import Mode, Snapshot, replicas_at
from kedastral.core.planning.stale_policy import OnStale
from kedastral.core.serving import decide
from kedastral.errors import ModelError, WorkloadError
from kedastral.logs import RepeatLimit, of_many
from kedastral.workloads.tick import ForecastLoop

log = logging.getLogger("kedastral.forecaster")

QUIET_CHANGES = timedelta(seconds=30)
"""Changes of what KEDA is told that are no further apart are logged together."""


@attrs.define
class ToldLog:
    """Logs each change of what KEDA is told about a workload, with the reason; at most once in `QUIET_CHANGES`.

    In mode observe it logs the changes of the plan.
    """

    workload: Workload
    _logged: int | None = attrs.field(default=None, init=False)
    _newest: int | None = attrs.field(default=None, init=False)
    _changes: int = attrs.field(default=0, init=False)
    _logged_at: datetime | None = attrs.field(default=None, init=False)

    def note(self, snapshot: Snapshot, now: datetime) -> None:
        """Log a change in the answer that ``snapshot`` gives at ``now``; the first answer is not logged.

        The reason is worded as in `kedastral explain`. If KEDA is told no number, nothing has changed for it.
        """
        observed = snapshot.mode is Mode.OBSERVE
        replicas = replicas_at(snapshot, now) if observed else decide(snapshot, now, self.workload.stale).replicas
        if replicas is None:
            return
        if self._logged is None:
            self._logged = self._newest = replicas
        if replicas != self._newest:
            self._newest = replicas
            self._changes += 1
        if self._logged_at is not None and abs(now - self._logged_at) < QUIET_CHANGES:
            return
        if replicas != self._logged:
            others = f" ({self._changes} changes)" if self._changes > 1 else ""
            why = find_reason(snapshot, now, self.workload.stale)
            fields = {"workload": self.workload.name}
            words = f"replicas for KEDA %d -> %d{others}: %s"
            if observed:
                words = f"planned replicas %d -> %d{others}, while KEDA is told 0 (observe): %s"
            log.info(words, self._logged, replicas, why, extra=fields)
            self._logged, self._logged_at = replicas, now
        self._changes = 0


def log_mode(before: Mode, workload: Workload, snapshot: Snapshot | None, now: datetime) -> None:
    """Log that the mode of ``workload`` was ``before``, if that has changed, and what KEDA is told from ``now`` on."""
    if workload.mode is before:
        return
    told = decide(snapshot, now, workload.stale).replicas
    words = "gets an error, and holds its replicas" if told is None else f"is told {told} from now on"
    if workload.mode is Mode.OBSERVE and snapshot is not None:
        words += f"; the plan says {replicas_at(snapshot, now)}"
    log.info("mode %s -> %s: KEDA %s", before, workload.mode, words, extra={"workload": workload.name})


def _nothing() -> None:
    pass


@attrs.define
class GuardedTick:
    """The only place where a tick's expected failures end: logged, counted, and left to the next tick.

    ``answers_keda`` says whether this process applies the workload's stale policy, so that it warns about it.
    """

    loop: ForecastLoop
    count_error: Callable[[WorkloadError], None]
    note_success: Callable[[], None] = _nothing
    answers_keda: bool = False
    _failing_since: datetime | None = attrs.field(default=None, init=False)
    _warnings: RepeatLimit = attrs.field(factory=RepeatLimit, init=False)
    """Of the failures of the components that fail now, by component and reason: an overloaded source fails for two
    reasons in turn."""
    _published: bool = attrs.field(default=False, init=False)
    _began: bool = attrs.field(default=False, init=False)
    _warned: bool = attrs.field(default=False, init=False)
    _changes: ToldLog = attrs.field(init=False)

    @_changes.default
    def _make_changes(self) -> ToldLog:
        return ToldLog(self.loop.workload)

    async def tick(self) -> None:
        """`ForecastLoop.tick`, with WorkloadError turned into a log line."""
        name = self.loop.workload.name
        self._begin()
        try:
            await self.loop.tick()
        except WorkloadError as error:
            self.count_error(error)
            self._failing_since = self._failing_since or self.loop.clock.now()
            self._log_failures(error.chain)
            if isinstance(error, ModelError):  # a plan without the model may have been published
                self._note_change()
        else:
            self.note_success()
            log.debug("published a forecast", extra={"workload": name})
            if self._failing_since is not None:
                since = f"{self._failing_since:%Y-%m-%dT%H:%M:%SZ}"
                log.info("forecasts again, after failing since %s", since, extra=of_many(name))
                self._failing_since = None
                self._warnings.clear()
            self._note_first()
            self._warn_of_default_min()
            self._note_change()

    def _log_failures(self, errors: Sequence[WorkloadError]) -> None:
        """Log one line for each of ``errors`` when it begins or its reason is new, and again every `REPEAT_AFTER` s."""
        failing = {error.component for error in errors}
        for component, reason in self._warnings.logged:
            if component not in failing:
                self._warnings.forget((component, reason))
        for error in errors:
            self._log_failure(error, news=self._warnings.is_due((error.component, error.reason)))

    def _log_failure(self, error: WorkloadError, *, news: bool) -> None:
        name = self.loop.workload.name
        fields = of_many(name, component=error.component, reason=error.reason, err=str(error))
        level = logging.WARNING if news else logging.DEBUG
        log.log(level, "no new forecast", extra=fields, exc_info=_shown(error) if news else None)

    def _begin(self) -> None:
        if self._began:
            return
        self._began = True
        self._published = self._has_published()  # by a predecessor, replaced when the settings changed
        if self.loop.workload.mode is Mode.OBSERVE:
            words = (
                "mode observe: KEDA is told 0, whatever is planned. This needs no trigger; in a ScaledObject that has "
                "one, another trigger must decide, or it would scale to the minimum"
            )
            log.warning(words, extra=of_many(self.loop.workload.name))

    def _has_published(self) -> bool:
        snapshot = self.loop.store.get(self.loop.workload.name)
        return snapshot is not None and snapshot.status.code is not StatusCode.LEARNING

    def _note_first(self) -> None:
        snapshot = self.loop.store.get(self.loop.workload.name)
        if self._published or snapshot is None or not self._has_published():
            return
        self._published = True
        load, replicas = snapshot.forecast.values[0], replicas_at(snapshot, self.loop.clock.now())
        words = "first forecast: load %.6g, replicas for KEDA %d"
        if snapshot.mode is Mode.OBSERVE:
            words = "first forecast: load %.6g, planned replicas %d, while KEDA is told 0 (observe)"
        log.info(words, load, replicas, extra=of_many(snapshot.workload))

    def _note_change(self) -> None:
        """Log a change of what KEDA is told, or of the plan in mode observe, if this process answers KEDA.

        What a stale plan changes is logged where KEDA asks.
        """
        snapshot, now = self.loop.store.get(self.loop.workload.name), self.loop.clock.now()
        is_stale = snapshot is None or self.loop.workload.stale.is_stale(snapshot, now)
        if self.answers_keda and snapshot is not None and self._published and not is_stale:
            self._changes.note(snapshot, now)

    def _warn_of_default_min(self) -> None:
        """Log one line as soon as a plan asks for more than KEDA would be told during a Prometheus outage."""
        workload, snapshot = self.loop.workload, self.loop.store.get(self.loop.workload.name)
        stale, is_observed = workload.stale, workload.mode is Mode.OBSERVE
        if self._warned or snapshot is None or not self.answers_keda or is_observed:
            return
        replicas = replicas_at(snapshot, self.loop.clock.now())
        if stale.on_stale is OnStale.DEFAULT_MIN and replicas > stale.default_min:
            self._warned = True
            words = (
                "on-stale is default-min: without a new forecast for %g s KEDA is told %d replicas, and the plan says "
                "%d now; ride-forecast would keep to the plan (--on-stale, or onStale where the workload is described)"
            )
            log.warning(words, stale.stale_after, stale.default_min, replicas, extra=of_many(workload.name))


def _shown(error: WorkloadError) -> WorkloadError | None:
    """``error`` if its traceback should be shown: for a bug in a model. An expected failure's message says it all."""
    return error if error.reason == "exception" else None
