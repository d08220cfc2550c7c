# SPDX-License-Identifier: Apache-2.0
"""``GET /api/workloads`` and ``GET /api/workloads/KEY``: the data of the web page, for anyone who may read."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

import attrs
import numpy as np
import trio
from quart import Response
from quart_trio import QuartTrio

from kedastral.cooperative import TimeSlice
from kedastral.core.explanation.explain import explain
from kedastral.core.explanation.outage import find_outage
from kedastral.core.failures import Failure
from kedastral.core.forecast_status import StatusCode
from kedastral.core.planning.snapshot import Mode, Snapshot, replicas_at
from kedastral.core.planning.stale_policy import StalePolicy
from kedastral.core.planning.steering import DAY_MINUTES, SteeringState
from kedastral.core.planning.uncertainty import QUANTILES
from kedastral.core.series import EPOCH, HOUR, epoch_seconds
from kedastral.core.serving import decide
from kedastral.serving.answers import LongAnswers, answer_error, answer_json, mark_stale
from kedastral.serving.recent import RecentLoad, RecentLoads
from kedastral.serving.view import SnapshotView
from kedastral.wire import JsonValue, dump_json, write_explanation, write_snapshot, write_time

SPARK_SPAN = HOUR
"""Seconds of measured load that a row of the list shows."""
SPARK_POINTS = 30
"""How many points of load, and of forecast, a row of the list shows."""
FRESH_FOR = 1.0
"""Seconds for which one list is served to all clients."""
NEEDS_ATTENTION = {StatusCode.STANDING_DOWN, StatusCode.MODEL_FAILED}


@attrs.frozen
class SettingInForce:
    """One setting of a workload as a person would write it, and where it was given."""

    name: str
    value: str
    origin: str


@attrs.frozen
class WorkloadsView:
    """All that is known about the workloads besides snapshots: which are configured, which fail, and their settings."""

    snapshots: SnapshotView
    recent: RecentLoads = attrs.field(factory=lambda: RecentLoads(lambda _: True))
    keys: Callable[[], Iterable[str]] = tuple
    failing: Callable[[], Mapping[str, Failure]] = dict
    settings_of: Callable[[str], Sequence[SettingInForce]] = lambda _: ()


@attrs.frozen
class Condition:
    """How a workload is doing: a word, its urgency (0: look at once, to 3: all is well), and the reason if not ok."""

    state: str
    urgency: int
    reason: str = ""


OK = Condition("ok", 3)


def judge_at(now: datetime, snapshot: Snapshot | None, failure: Failure | None, policy: StalePolicy) -> Condition:
    """`judge` for what KEDA is told at ``now`` by ``policy``; the reason of an outage says also since when it lasts."""
    if snapshot is None:
        return judge(None, failure, stale=False)
    holds = decide(snapshot, now, policy).replicas is None
    condition = judge(snapshot, failure, stale=policy.is_stale(snapshot, now), holds=holds)
    outage = find_outage(snapshot, now, policy, failure)
    if outage is None:
        return condition
    joined = ", " if outage.brief.startswith("since") else "; "
    return attrs.evolve(condition, reason=f"{condition.reason}{joined}{outage.brief}")


def judge(snapshot: Snapshot | None, failure: Failure | None, *, stale: bool, holds: bool = False) -> Condition:
    """The most urgent condition of a workload; ``holds`` says that KEDA is told an error."""
    if snapshot is None:
        words = "there is no forecast yet" if failure is None else failure.words
        return Condition("waiting" if failure is None else "failing", 2 if failure is None else 0, words)
    if stale:
        words = "there is no new forecast" if failure is None else failure.words
        return Condition("stale", 0, words)
    if failure is not None:
        return Condition("failing", 0, failure.words)
    return next(_conditions_of(snapshot, holds=holds), OK)


def _conditions_of(snapshot: Snapshot, *, holds: bool) -> Iterator[Condition]:
    """The conditions that a fresh snapshot shows, the most urgent first; a cause comes before its effects."""
    report, status, lost = snapshot.service_level, snapshot.status, snapshot.findings.lost_series
    is_overspent = report is not None and report.level is not None and report.budget_spent >= 1
    if snapshot.findings.raw_counter:
        yield Condition("raw counter", 1, "the values only ever rise: the query needs a rate() to return a load")
    if snapshot.withheld and holds:  # under default-min KEDA is told the plan anyway
        words = "KEDA holds: it is not known what it was told before the start, and no forecast can be trusted yet"
        yield Condition("withheld", 1, words)
    if snapshot.replicas_without_max is not None:
        most = replicas_at(snapshot, snapshot.made_at)
        words = f"the plan asks for {snapshot.replicas_without_max} replicas, but the maximum is {most}"
        yield Condition("limited by max", 1, words + ("; the error budget is overspent" if is_overspent else ""))
    if report is not None and report.is_factor_at_max:
        yield Condition("at cap", 1, "the steering is at its maximum: look at the lead time and the target per pod")
    if is_overspent:
        words = "more minutes were under-provisioned than the service level allows"
        if report is not None and report.state.steering.is_mostly_at_max:
            words += ", most of them at --max: raise --max, unless done since"
        yield Condition("over error budget", 1, words + _last_short(snapshot))
    if lost is not None:
        yield Condition("lost series", 1, f"{lost.lost} series disappeared with their load, while the pods stayed")
    if snapshot.quality.at_least is not None:
        yield Condition("partial", 1, "the data source gives partial answers; the load is a lower bound")
    if not status.is_ok:
        yield Condition(str(status.code), 1 if status.code in NEEDS_ATTENTION else 2, status.reason)


def _last_short(snapshot: Snapshot) -> str:
    """When the last of the minutes was that spent the error budget, to the day (UTC); empty if unknown."""
    spent = () if snapshot.service_level is None else snapshot.service_level.state.steering.spent
    last = max((day.day for day in spent if day.short), default=None)
    if last is None:
        return ""
    at = EPOCH + timedelta(days=last)
    return f"; the last was {'today' if at.date() == snapshot.made_at.date() else f'on {at.day} {at:%B}'}"


@attrs.define(eq=False)
class _Rows:
    """Writes the list one row at a time, so that KEDA is answered in between; unchanged rows are reused."""

    view: WorkloadsView
    warnings: Callable[[], Sequence[str]]
    _kept: dict[str, tuple[Snapshot, Condition, int | None, int, str]] = attrs.field(factory=dict, init=False)
    _lock: trio.Lock = attrs.field(factory=trio.Lock, init=False)
    _written: tuple[float, str] = attrs.field(default=(-1e9, ""), init=False)

    async def write(self) -> str:
        """The whole response, at most `FRESH_FOR` seconds old."""
        async with self._lock:
            at, text = self._written
            if trio.current_time() - at >= FRESH_FOR:
                text = await self._write()
                self._written = trio.current_time(), text
            return text

    async def _write(self) -> str:
        newest, failing, time_slice = self.view.snapshots.reader.newest(), self.view.failing(), TimeSlice()
        rows: list[tuple[int, str, str]] = []
        for key in sorted({*newest, *self.view.keys()}):
            await time_slice.pause()
            condition, text = self._row(key, newest.get(key), failing.get(key))
            rows.append((condition.urgency, key, text))
        self._kept = {key: kept for key, kept in self._kept.items() if key in newest}
        now = dump_json(write_time(self.view.snapshots.clock.now()))
        warnings = list(self.warnings())
        warned = f'"warnings":{dump_json(warnings)},' if warnings else ""
        return f'{{"at":{now},{warned}"workloads":[{",".join(text for _, _, text in sorted(rows))}]}}\n'

    def _row(self, key: str, snapshot: Snapshot | None, failure: Failure | None) -> tuple[Condition, str]:
        now, policy = self.view.snapshots.clock.now(), self.view.snapshots.policy_of(key)
        told = decide(snapshot, now, policy).replicas
        if snapshot is None:
            condition = judge_at(now, None, failure, policy)
            return condition, dump_json({**_describe(key, None, condition), "told": told})
        planned = replicas_at(snapshot, now)
        condition = judge_at(now, snapshot, failure, policy)
        kept = self._kept.get(key)
        if kept is not None and kept[0] is snapshot and kept[1:4] == (condition, told, planned):
            return condition, kept[4]
        row = _describe(key, snapshot, condition)
        shown = dump_json({**row, "told": told, "planned": planned, **_spark(snapshot, self.view.recent.get(key))})
        self._kept[key] = snapshot, condition, told, planned, shown
        return condition, shown


def _describe(key: str, snapshot: Snapshot | None, condition: Condition) -> dict[str, JsonValue]:
    described: dict[str, JsonValue] = {
        "workload": key,
        "state": condition.state,
        "urgency": condition.urgency,
        "reason": condition.reason,
    }
    if snapshot is None:
        return described
    observed, report = snapshot.observed, snapshot.service_level
    described["mode"] = str(snapshot.mode)
    described["madeAt"] = write_time(snapshot.made_at)
    if observed is not None:
        described |= {"load": _load(observed.value), "loadAt": write_time(observed.at)}
    if report is not None and report.level is not None:
        described |= {"serviceLevel": report.level, "budgetSpent": _short(report.budget_spent)}
        described["budget"] = _budget(report.state.steering, report.level, report.budget_spent)
    return described


def _budget(steering: SteeringState, level: float, spent: float) -> dict[str, JsonValue]:
    """The error budget in minutes, of which ``spent`` is the share; it is at least a day's budget."""
    return {
        "spent": _short(spent),
        "minutesJudged": _short(steering.minutes),
        "minutesShort": _short(steering.minutes_short),
        "minutesAtMax": _short(steering.minutes_at_max),
        "minutesAllowed": _short(max(steering.minutes, DAY_MINUTES) * (1 - level)),
    }


def _spark(snapshot: Snapshot, recent: RecentLoad | None) -> dict[str, JsonValue]:
    """The last `SPARK_SPAN` seconds of load and the forecast, each in at most `SPARK_POINTS` maxima."""
    spark: dict[str, JsonValue] = {"forecast": _thin(snapshot.forecast.values)}
    if recent is not None:
        spark["recent"] = _thin(recent.loads[-max(round(SPARK_SPAN / recent.step), 2) :])
    return spark


def _thin(values: "np.ndarray[tuple[int], np.dtype[np.floating]]") -> list[JsonValue]:
    """``values`` as at most `SPARK_POINTS` maxima of equal parts; None for a part with only gaps."""
    width = -(-len(values) // SPARK_POINTS) or 1
    padded = np.full(-(-len(values) // width) * width, np.nan)
    padded[len(padded) - len(values) :] = values
    parts = padded.reshape(-1, width)
    known = np.isfinite(parts)
    largest = np.where(known, parts, -1.0).max(axis=1)
    return [_load(float(value)) if value >= 0 else None for value in largest]


def _short(value: float) -> float:
    """``value`` to four digits."""
    return float(f"{value:.4g}")


def _load(value: float) -> float:
    """A load as a reader sees it everywhere, to save bytes: to four digits, and a large one to a whole number."""
    return float(round(value)) if abs(value) >= 1000 else _short(value)


def _history(recent: RecentLoad | None) -> dict[str, JsonValue]:
    if recent is None:
        return {}
    start, others = epoch_seconds(recent.start), recent.other_answers
    loads: list[JsonValue] = [float(value) if np.isfinite(value) else None for value in recent.loads]
    return {
        "load": {"start": start, "step": recent.step, "values": loads},
        "planned": {
            "times": recent.planned_at.tolist(),
            "values": [None if math.isnan(one) else int(one) for one in recent.planned],
        },
        "told": [
            {"from": begin, "until": end, "replicas": None if math.isnan(told) else int(told)}
            for begin, end, told in zip(others.begins, others.ends, others.told, strict=True)
        ],
        "expected": {"times": recent.expected_at.tolist(), "values": recent.expected.tolist()},
        "bytes": recent.bytes_used,
    }


async def answer_workload(answers: LongAnswers, view: WorkloadsView, key: str, snapshot: Snapshot | None) -> Response:
    """Everything that the page of one workload shows."""
    snapshots = view.snapshots
    failure, settings = view.failing().get(key), view.settings_of(key)
    now, policy = snapshots.clock.now(), snapshots.policy_of(key)
    stale = snapshot is not None and policy.is_stale(snapshot, now)
    told = decide(snapshot, now, policy).replicas
    document = _describe(key, snapshot, judge_at(now, snapshot, failure, policy))
    document["at"] = write_time(now)
    document["settings"] = [{"name": one.name, "value": one.value, "origin": one.origin} for one in settings]
    document["history"] = _history(view.recent.get_until(snapshot, now))
    if snapshot is None:
        document["told"] = told
        return answer_json(200, document)
    response = await answers.answer_json(lambda: document | _describe_plan(snapshot, now, policy, failure))
    return mark_stale(response, stale=stale)


def _describe_plan(
    snapshot: Snapshot, now: datetime, policy: StalePolicy, failure: Failure | None
) -> dict[str, JsonValue]:
    return {
        "snapshot": write_snapshot(snapshot),
        "explanation": write_explanation(explain(snapshot, now, policy, failure)),
        "staleAfter": policy.stale_after,
        "observed": snapshot.mode is Mode.OBSERVE,
        "accuracy": _accuracy(snapshot),
    }


def _accuracy(snapshot: Snapshot) -> dict[str, JsonValue] | None:
    """How accurate the forecast has been recently; None before its first window has ended, or if it is not judged."""
    report = snapshot.service_level
    if report is None or not report.state.uncertainty.model.windows:
        return None
    model, last = report.state.uncertainty.model, report.state.uncertainty.last
    return {
        "error": _load(model.lead_error),
        "naiveError": _load(last.lead_error),
        "quantile": QUANTILES[0],
        "coverage": _short(model.coverage[0]),
    }


def add_workloads(app: QuartTrio, view: WorkloadsView, warnings: Callable[[], Sequence[str]]) -> None:
    """Add the routes to ``app``; ``warnings`` are about the whole process."""
    rows, answers = _Rows(view, warnings), LongAnswers()

    @app.get("/api/workloads", provide_automatic_options=False)
    async def show_workloads() -> Response:
        return Response(await rows.write(), content_type="application/json")

    @app.get("/api/workloads/<path:workload>", provide_automatic_options=False)
    async def show_workload(workload: str) -> Response:
        snapshot = view.snapshots.reader.get(workload)
        if snapshot is None and workload not in set(view.keys()):
            return answer_error(404, "there is no such workload")
        return await answer_workload(answers, view, workload, snapshot)
