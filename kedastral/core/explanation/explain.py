# SPDX-License-Identifier: Apache-2.0
"""Why KEDA is told what it is told: `explain` takes an answer apart, stage by stage, from load to replicas; pure.

The last stage equals the answer of `kedastral.core.serving.decide`.
"""

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

import attrs
import numpy as np

from kedastral.core.capacity import MAX_REPLICAS, PlanPolicy, desired_replicas, round_replicas
from kedastral.core.explanation.outage import Outage, find_outage, plan_ends
from kedastral.core.explanation.stages import (
    LIMITS,
    Change,
    Effect,
    Explanation,
    PlannedStep,
    Stage,
    StageName,
    Unit,
    apply,
)
from kedastral.core.explanation.without_limits import LONG, leave_out_each, without_each_limit
from kedastral.core.failures import Failure
from kedastral.core.forecast_status import format_span
from kedastral.core.planning.basis import PlanBasis, make_stages
from kedastral.core.planning.facts import RECENT
from kedastral.core.planning.idleness import Idleness, without_idle_steps
from kedastral.core.planning.service_level import PlanStages, ServiceLevelReport, SteeredBasis
from kedastral.core.planning.snapshot import Mode, Snapshot, lead_window, replicas_at
from kedastral.core.planning.stabilization import (
    DOWN_TOLERANCE,
    SMALL_FALL,
    UP_EXTRA,
    Recommendation,
    highest_within,
    stabilization_window,
)
from kedastral.core.planning.stale_policy import OnStale, StalePolicy
from kedastral.core.planning.uncertainty import upper_path
from kedastral.core.series import MINUTE, Floats
from kedastral.core.serving import Decision, decide, seconds_unchanged

CLEARLY_MORE = 1.1
"""From this ratio on, say that peaks of earlier hours and days raised the load that is planned for."""


def explain(snapshot: Snapshot, now: datetime, policy: StalePolicy, failure: Failure | None = None) -> Explanation:
    """The explanation of `decide` for the same arguments; ``failure`` is why the newest attempt to forecast failed."""
    decision, planned = decide(snapshot, now, policy), replicas_at(snapshot, now)
    outage = find_outage(snapshot, now, policy, failure)
    stages = None if snapshot.basis is None else make_stages(snapshot.basis, snapshot.forecast)
    chain = _make_chain(snapshot, now, decision, policy, stages)
    sentence, variants = f"{_head(decision, planned)}: {_reason(chain)}.", leave_out_each(snapshot, stages)
    chain.add_what_is_left_out(without_each_limit(snapshot, now, variants, policy))
    variant = variants.get(chain.decided_by)
    if variant is not None and replicas_at(variant.snapshot, now) == planned:
        other = _make_chain(variant.snapshot, now, decide(variant.snapshot, now, policy), policy, variant.stages)
        step = _largest_step(variant.snapshot, now)
        at = f" at {show_time(_time_of(snapshot, step))}" if step != _largest_step(snapshot, now) else ""
        chain.add_words(f"; without it, {other.decided_by} leads to as many{at}")
    return Explanation(
        workload=snapshot.workload,
        at=now,
        told=decision.replicas,
        planned=planned,
        stale=decision.stale,
        sentence=sentence,
        decided_by=chain.decided_by,
        next_change=_before(outage, find_next_change(snapshot, now)),
        largest_at=_time_of(snapshot, _largest_step(snapshot, now)),
        stages=tuple(chain.stages),
        plan=tuple(_steps(snapshot, stages)),
        outage=outage,
    )


def find_reason(snapshot: Snapshot, now: datetime, policy: StalePolicy) -> str:
    """Which stage decided, and why, in the words of `explain`.

    It is faster, because it does not compute what the answer would be without each limit.
    """
    stages = None if snapshot.basis is None else make_stages(snapshot.basis, snapshot.forecast)
    return _reason(_make_chain(snapshot, now, decide(snapshot, now, policy), policy, stages))


@attrs.define
class _Chain:
    """The stages so far, and the number that they lead to."""

    stages: list[Stage] = attrs.field(factory=list)
    number: float | None = None
    held_by: str = "the plan decided"
    """What the stage `StageName.HOLD` stands for, with its verb: it has several causes."""

    def add(self, name: StageName, effect: Effect, value: float | None, unit: Unit, words: str) -> None:
        self.number = apply(effect, self.number, value)
        self.stages.append(Stage(name, effect, unit, words, value, self.number))

    def round(self, policy: PlanPolicy, words: str) -> None:
        self.number = round_replicas(self.number or 0.0, policy.rounding)
        self.stages.append(Stage(StageName.ROUNDING, Effect.ROUNDS, Unit.PODS, words, None, self.number))

    @property
    def decided_by(self) -> StageName:
        """The last limit that changed the number; the forecast if none did."""
        return self._find_decider(self.stages)

    @property
    def decided_by_before_mode(self) -> StageName:
        """`decided_by` as if the mode were scale."""
        return self._find_decider([stage for stage in self.stages if stage.name is not StageName.MODE])

    @staticmethod
    def _find_decider(stages: Sequence[Stage]) -> StageName:
        decided, before = StageName.FORECAST, None
        for stage in stages:
            if stage.name in LIMITS and before is not None and stage.result != before:
                decided = stage.name
            before = stage.result
        return decided

    def add_what_is_left_out(self, without: Mapping[StageName, int | None]) -> None:
        """Note the answer without each stage."""
        self.stages = [attrs.evolve(stage, without=without.get(stage.name)) for stage in self.stages]

    def add_words(self, more: str) -> None:
        """Add to the words of the stage that decided."""
        index = max(i for i, stage in enumerate(self.stages) if stage.name is self.decided_by)
        self.stages[index] = attrs.evolve(self.stages[index], words=self.stages[index].words + more)

    def value_of(self, name: StageName) -> float | None:
        return next((stage.value for stage in self.stages if stage.name is name), None)

    def words_of(self, name: StageName) -> str:
        return next((stage.words for stage in reversed(self.stages) if stage.name is name), "")


def _make_chain(
    snapshot: Snapshot, now: datetime, decision: Decision, policy: StalePolicy, stages: PlanStages | None
) -> _Chain:
    chain = _Chain()
    _add_load(chain, snapshot, now)
    step = _largest_step(snapshot, now)
    _add_lead_time(chain, snapshot, now, step)
    if stages is None or snapshot.basis is None:
        chain.add(StageName.FORECAST, Effect.SHOWN, float(snapshot.forecast.values[step]), Unit.LOAD, "the forecast")
    else:
        _add_plan(chain, snapshot, snapshot.basis, stages, step)
    _add_hold(chain, snapshot, stages, step)
    _add_floor(chain, snapshot)
    _add_serving(chain, snapshot, decision, policy, now)
    return chain


def _largest_step(snapshot: Snapshot, now: datetime) -> int:
    """The first of the largest steps within the lead time."""
    first, last = lead_window(snapshot, now)
    return first + int(snapshot.replicas[first : last + 1].argmax())


def _time_of(snapshot: Snapshot, step: int) -> datetime:
    """When a step of the plan begins."""
    return snapshot.made_at + timedelta(seconds=step * snapshot.forecast.step)


def _add_load(chain: _Chain, snapshot: Snapshot, now: datetime) -> None:
    observed = snapshot.observed
    if observed is None:
        chain.add(StageName.NEWEST_LOAD, Effect.SHOWN, None, Unit.LOAD, "the newest load is not known")
        return
    age = max((now - observed.at).total_seconds(), 0.0)
    chain.add(StageName.NEWEST_LOAD, Effect.SHOWN, observed.value, Unit.LOAD, "the newest load that was measured")
    chain.add(StageName.AGE, Effect.SHOWN, age, Unit.SECONDS, f"it was measured at {show_time(observed.at)}")


def _add_lead_time(chain: _Chain, snapshot: Snapshot, now: datetime, step: int) -> None:
    until = now + timedelta(seconds=snapshot.lead_time)
    begins = _time_of(snapshot, step)
    words = (
        f"the plan is read from {show_time(now)} to {show_time(until)}; its largest step begins at {show_time(begins)}"
    )
    chain.add(StageName.LEAD_TIME, Effect.SHOWN, snapshot.lead_time, Unit.SECONDS, words)


def _add_plan(chain: _Chain, snapshot: Snapshot, basis: PlanBasis, stages: PlanStages, step: int) -> None:
    """From the load of ``step`` to its replicas within the bounds and the change limits."""
    policy, facts = stages.policy, basis.facts
    needed, awake = stages.needed, _awake(stages, basis)
    ahead = awake[step : step + policy.prewarm_steps + 1]
    largest = step + int(ahead.argmax())
    _add_need(chain, snapshot, stages, step, largest)
    if awake[largest] != needed[largest]:
        chain.add(StageName.REST, Effect.SETS, 0.0, Unit.PODS, "the workload is idle, and no load is expected")
    chain.round(policy, f"whole pods ({policy.rounding})")
    whole, band = chain.number or 0.0, stages.dead_band
    if band is not None:
        need = np.array([float(awake[largest]) / policy.target_per_pod * policy.headroom])
        keeps = bool(band.keeps(need, policy.rounding)[0])
        words = f"the need differs from the {band.replicas} planned before by more than the noise of the load"
        if keeps and whole < band.replicas:
            words = f"{_pods(whole)} would do by now, but the largest load of the last 15 minutes, with its noise, "
            words += f"needs the {band.replicas} planned before"
        elif keeps:
            words = (
                f"{_pods(whole)} differ from the {band.replicas} planned before by no more than the noise of the load"
            )
        effect = Effect.SETS if keeps else Effect.SHOWN
        chain.add(StageName.DEAD_BAND, effect, float(band.replicas), Unit.PODS, words)
    _add_bounds(chain, policy)
    limited = float(stages.limited[step])
    if facts.idleness is Idleness.SPARSE and chain.number == 0 and limited == 1:
        chain.add(StageName.REST, Effect.AT_LEAST, 1.0, Unit.PODS, "load comes too often to let the last pod go")
    elif limited != chain.number:
        faster = "the plan may not change faster" if limited < (chain.number or 0) else _early(policy)
        chain.add(
            StageName.CHANGE_LIMITS, Effect.SETS, limited, Unit.PODS, f"{_pods(chain.number)} needed, but {faster}"
        )
    else:
        words = f"a step may have {policy.up_max_factor:g} times as many, or {policy.down_max_pct:g} % fewer"
        chain.add(StageName.CHANGE_LIMITS, Effect.SHOWN, limited, Unit.PODS, words)


def _early(policy: PlanPolicy) -> str:
    return f"growth by {policy.up_max_factor:g} times a step, and a fall by {policy.down_max_pct:g} %, take their time"


def _add_need(chain: _Chain, snapshot: Snapshot, stages: PlanStages, step: int, largest: int) -> None:
    """The load of ``step``, or of the later step that it is prewarmed for, and the pods that it needs."""
    policy, ok = stages.policy, snapshot.status.is_ok
    words = f"the load expected at {show_time(_time_of(snapshot, step))}"
    if not ok:
        words = f"a naive forecast (the last value), since {snapshot.status.reason}"
    chain.add(StageName.FORECAST, Effect.SETS, float(stages.expected[step]), Unit.LOAD, words)
    if largest != step:
        at = show_time(_time_of(snapshot, largest))
        words = f"the load expected at {at}, for which the step is prewarmed"
        chain.add(StageName.PREWARM, Effect.SETS, float(stages.expected[largest]), Unit.LOAD, words)
    if isinstance(snapshot.basis, SteeredBasis):
        by_forecast = stages.upper if stages.upper_by_forecast is None else stages.upper_by_forecast
        words = "the load that is exceeded in one window in ten, judging by recent errors"
        if by_forecast[largest] < stages.expected[largest]:
            words += ": most forecasts were too high"
        chain.add(StageName.QUANTILE, Effect.SETS, float(by_forecast[largest]), Unit.LOAD, words)
        if stages.upper_by_forecast is not None:
            words = _regression_words(snapshot.basis)
            chain.add(StageName.PEAK_REGRESSION, Effect.SETS, float(stages.upper[largest]), Unit.LOAD, words)
        report = snapshot.service_level
        words = "the headroom that was set"
        if report is not None and report.level is not None:
            words = _steering_words(report.level, snapshot.mode) + _spent_words(report)
        chain.add(StageName.STEERING, Effect.TIMES, stages.factor, Unit.TIMES, words)
        if stages.cap is not None:
            words = "a little more than the largest load of the week, and at least the newest load"
            chain.add(StageName.LOAD_CAP, Effect.AT_MOST, stages.cap, Unit.LOAD, words)
    chain.add(StageName.TARGET, Effect.DIVIDES, policy.target_per_pod, Unit.LOAD_PER_POD, "what one pod sustains")
    if policy.headroom != 1:
        chain.add(StageName.HEADROOM, Effect.TIMES, policy.headroom, Unit.TIMES, "the headroom that was set")


def _steering_words(level: float, mode: Mode) -> str:
    aim = f"so that {level * 100:g} % of minutes have enough"
    return f"not steered in mode observe; in mode scale it is, {aim}" if mode is Mode.OBSERVE else f"steered {aim}"


def _spent_words(report: ServiceLevelReport) -> str:
    """How many of the short minutes a higher maximum would have helped, once the error budget is spent."""
    if report.budget_spent < 1:
        return ""
    steering = report.state.steering
    at_max = f"{steering.minutes_at_max:,.0f} of them at max"
    return f"; the error budget is spent: {steering.minutes_short:,.0f} min short of pods, {at_max}"


def _regression_words(basis: SteeredBasis) -> str:
    """The regression's prediction of the largest load ahead, with its own margin, and its weight."""
    trial, peak = basis.state.uncertainty.regressed, np.array([basis.facts.predicted_peak or 0.0])
    upper = float(upper_path(peak, trial.calibration.margins[0], basis.facts.offset)[0])
    return f"peaks of earlier hours and days say {show_load(upper)}: that counts {trial.weight:.0%}"


def _add_bounds(chain: _Chain, policy: PlanPolicy) -> None:
    bounds, need = policy.bounds, chain.number or 0.0
    least = f"{_pods(need)} would be enough, and min is {bounds.min}" if need < bounds.min else f"min is {bounds.min}"
    chain.add(StageName.MINIMUM, Effect.AT_LEAST, float(bounds.min), Unit.PODS, least)
    if not bounds.max:
        chain.add(StageName.MAXIMUM, Effect.AT_MOST, float(MAX_REPLICAS), Unit.PODS, "no max is set")
        return
    most = f"{_pods(need)} are needed, and max is {bounds.max}" if need > bounds.max else f"max is {bounds.max}"
    chain.add(StageName.MAXIMUM, Effect.AT_MOST, float(bounds.max), Unit.PODS, most)


def _add_hold(chain: _Chain, snapshot: Snapshot, stages: PlanStages | None, step: int) -> None:
    """What scaling in or out, an earlier forecast, or a change of settings since then did to the step."""
    published = float(snapshot.replicas[step])
    if stages is None:
        chain.add(StageName.HOLD, Effect.SETS, published, Unit.PODS, "the plan as it was received")
        return
    limited = float(stages.limited[step])
    if published < limited or (published > limited and not isinstance(snapshot.basis, SteeredBasis)):
        chain.held_by, words = _BY_SETTINGS
        chain.add(StageName.HOLD, Effect.SETS, published, Unit.PODS, words)
        return
    words = "nothing is kept from the last minutes"
    if published > limited:
        chain.held_by, words = _why_held(snapshot, int(limited), step)
    chain.add(StageName.HOLD, Effect.AT_LEAST, published, Unit.PODS, words)


_BY_SETTINGS = "a change of settings decided", "the settings changed after the plan was made"


def _why_held(snapshot: Snapshot, limited: int, step: int) -> tuple[str, str]:
    """What gives the step more than the ``limited`` replicas, with its verb, and why."""
    basis, published = snapshot.basis, int(snapshot.replicas[step])
    assert isinstance(basis, SteeredBasis)  # noqa: S101 - the caller ensures it
    do = f"{_pods(limited)} would do, but"
    earlier = basis.previous.model_plan
    if earlier is not None and step < len(earlier) and earlier[step] >= published:
        return "the last plan of the model decided", f"{do} the last forecast of the model asked for more"
    last = basis.previous.last_recommendation or basis.state.last_recommendation
    if last is not None and last < published <= limited + math.floor(limited * UP_EXTRA):
        are = "is" if limited == 1 else "are"
        words = f"{_pods(limited)} {are} needed, and a plan that grows gets up to {UP_EXTRA:.0%} more at once"
        return "scaling out adds a little", words
    state = None if snapshot.service_level is None else snapshot.service_level.state
    made = 0 if state is None else state.last_recommendation or 0
    if published > max(made, last or 0):
        return _BY_SETTINGS
    recommendations = () if state is None else state.before_stabilization
    window = stabilization_window(basis.settings.interval_for(snapshot.forecast.step))
    if last is None or published > last or not recommendations:
        return "scaling in keeps more", f"{do} more was recommended within the last {window / MINUTE:g} minutes"
    return "scaling in keeps more", f"{do} {_why_fallen_no_further(recommendations, last, limited, published, window)}"


def _why_fallen_no_further(
    recommendations: Sequence[Recommendation], last: int, limited: int, published: int, window: float
) -> str:
    """Why a plan that asks for ``limited``, fewer than the ``last`` replicas, keeps ``published``.

    ``window`` is `stabilization_window`. The rule, `lowest_kept`, looks at the most that was recommended within it.
    """
    recent, unnoticed = highest_within(recommendations, window), last * (1 - DOWN_TOLERANCE)
    lately = f"{recent:,} {'was' if recent == 1 else 'were'} recommended within the last {window / MINUTE:g} minutes"
    first = f"{lately}, and " if recent > limited else ""
    if limited >= unnoticed:
        return f"a fall of less than {DOWN_TOLERANCE:.0%} changes nothing"
    if recent >= published:
        return lately
    if recent >= unnoticed:
        return f"{first}a fall of less than {DOWN_TOLERANCE:.0%} changes nothing"
    if recent >= last * (1 - SMALL_FALL) and published < last:
        return f"{published:,} were recommended within the last hour"
    if recent >= last * (1 - SMALL_FALL):
        return f"{first}a fall of less than {SMALL_FALL:.0%} is followed once it has lasted for an hour"
    return f"{first}a plan that falls keeps a little more"


def _add_floor(chain: _Chain, snapshot: Snapshot) -> None:
    floor, basis = snapshot.floor, snapshot.basis
    if floor is None:
        chain.add(StageName.FLOOR, Effect.SHOWN, None, Unit.PODS, "the reactive floor is off")
    else:
        words, observed = "what the newest load needs at once", snapshot.observed
        if observed is not None and observed.at > snapshot.made_at:
            words = f"what the load since this plan, at least {show_load(observed.value)}, needs at once"
        elif basis is not None and basis.facts.seasonal > max(basis.facts.peak, basis.facts.for_floor):
            words = f"what a load of {show_load(basis.facts.seasonal)} needs, which other days had at about this time"
        elif basis is not None and basis.facts.peak > basis.facts.for_floor:
            words = f"what a recent peak of {show_load(basis.facts.peak)} needs, or the newest load"
        elif basis is not None and basis.facts.for_floor > (basis.facts.newest or 0.0):
            largest = show_load(basis.facts.for_floor)
            words = (
                f"what the largest load of the last {RECENT / MINUTE:g} minutes, {largest}, needs, just after a start"
            )
        elif basis is not None:
            words = f"what the newest load, {show_load(basis.facts.for_floor)}, needs at once"
        chain.add(StageName.FLOOR, Effect.AT_LEAST, float(floor), Unit.PODS, words)
    resumption = snapshot.resumption
    if resumption is not None and resumption.served is not None:
        since = show_time(resumption.since)
        event = f"the start, the outage or the change of settings of {since}"
        words = f"KEDA was told this before {event}; kept until a forecast has stood for a while"
        chain.add(StageName.RESUMPTION, Effect.AT_LEAST, float(resumption.served), Unit.PODS, words)


def _add_serving(chain: _Chain, snapshot: Snapshot, decision: Decision, policy: StalePolicy, now: datetime) -> None:
    """What KEDA is told: nothing if the plan is withheld; by policy if it is stale; 0 in mode observe."""
    told = None if decision.replicas is None else float(decision.replicas)
    mode = decision.mode
    if mode is Mode.SCALE and snapshot.withheld and told is None:
        words = decision.reason or "it is not known what KEDA was told before the start"
        chain.add(StageName.RESUMPTION, Effect.SETS, None, Unit.PODS, words)
    elif mode is Mode.SCALE and decision.stale:
        is_used_up = policy.on_stale is OnStale.RIDE_FORECAST and told is None
        words = f"{decision.reason}: {_USED_UP if is_used_up else _ON_STALE[policy.on_stale]}"
        chain.add(StageName.STALE, Effect.SETS, told, Unit.PODS, words)
    else:
        age = format_span(snapshot.age(now))
        words = f"the forecast is {age} old, and stale after {format_span(policy.stale_after)} ({policy.on_stale})"
        chain.add(StageName.STALE, Effect.SHOWN, policy.stale_after, Unit.SECONDS, words)
    if mode is Mode.OBSERVE:
        chain.add(StageName.MODE, Effect.SETS, 0.0, Unit.PODS, "in mode observe KEDA is told 0, whatever the plan says")
    else:
        chain.add(StageName.MODE, Effect.SHOWN, None, Unit.PODS, "in mode scale KEDA is told the plan")


_ON_STALE = {
    OnStale.DEFAULT_MIN: "KEDA is told the default minimum",
    OnStale.RIDE_FORECAST: "the old plan counts while it covers the lead time",
    OnStale.ERROR: "KEDA gets an error and holds its replicas",
}
_USED_UP = "the old plan does not cover the lead time, so KEDA gets an error and holds its replicas"


def _head(decision: Decision, planned: int) -> str:
    told = decision.replicas
    if told is None:
        return f"KEDA is told no number and holds its replicas; the plan says {planned}"
    if decision.mode is Mode.OBSERVE:
        return f"KEDA is told 0, since the mode is observe; the plan says {_replicas(planned)}"
    return f"KEDA is told {_replicas(told)}"


def _replicas(number: int) -> str:
    return f"{number} replica{'' if number == 1 else 's'}"


def _reason(chain: _Chain) -> str:
    """What decided the plan, and why; in mode observe too, where the mode decides what KEDA is told."""
    decided_by = chain.decided_by_before_mode
    if decided_by is StageName.FORECAST:
        return f"the forecast decided: {_forecast_words(chain)}"
    subject = chain.held_by if decided_by is StageName.HOLD else f"{_NAMES[decided_by]} decided"
    return f"{subject}: {chain.words_of(decided_by)}"


_NAMES = {
    StageName.REST: "the rule for idle workloads",
    StageName.DEAD_BAND: "the dead band",
    StageName.MINIMUM: "the minimum",
    StageName.MAXIMUM: "the maximum",
    StageName.CHANGE_LIMITS: "the change limits",
    StageName.LOAD_CAP: "the cap on load",
    StageName.FLOOR: "the floor",
    StageName.RESUMPTION: "the start",
    StageName.STALE: "the stale policy",
}


def _forecast_words(chain: _Chain) -> str:
    load = next((s for s in reversed(chain.stages) if s.name in (StageName.PREWARM, StageName.FORECAST)), None)
    target = next((stage for stage in chain.stages if stage.name is StageName.TARGET), None)
    if load is None or load.value is None:
        return "no more details are known"
    if target is None or target.value is None:
        return f"{load.words}, {show_load(load.value)}"
    margin = next((s.value for s in chain.stages if s.name in (StageName.STEERING, StageName.HEADROOM)), 1.0)
    safe = (target.result or 0.0) * target.value
    words = f"{show_load(load.value)} is {load.words}"
    if margin is not None and safe > load.value:
        words += f", {show_load(safe)} to be safe{_raised_words(chain)}"
    elif margin is not None and show_load(safe) != show_load(load.value):
        words += f", but {show_load(safe)} is planned for, {_lowered_words(chain, load.value)}"
    return f"{words}, at {show_load(target.value)} a pod"


def _raised_words(chain: _Chain) -> str:
    """Why the load planned for is so far above the forecast, if past peaks are the reason."""
    before, after = chain.value_of(StageName.QUANTILE), chain.value_of(StageName.PEAK_REGRESSION)
    raised = before is not None and after is not None and after > CLEARLY_MORE * before
    return " by the peaks of earlier hours and days" if raised else ""


def _lowered_words(chain: _Chain, forecast: float) -> str:
    """What most took the load planned for below the ``forecast``: past peaks, past forecasts, or the factor."""
    quantile = chain.value_of(StageName.QUANTILE) or 0.0
    peaks = chain.value_of(StageName.PEAK_REGRESSION)
    factor = chain.value_of(StageName.STEERING) or 1.0
    shares = {
        "as peaks of earlier hours and days were lower": 1.0 if peaks is None or not quantile else peaks / quantile,
        "as most forecasts were too high": quantile / forecast if forecast else 1.0,
        "as fewer pods have been enough": factor,
    }
    return min(shares, key=lambda words: shares[words])


def find_next_change(snapshot: Snapshot, now: datetime) -> Change | None:
    """When the plan's number next changes, read until it no longer covers the lead time."""
    unaging = StalePolicy(stale_after=LONG, on_stale=OnStale.ERROR, mode=Mode.SCALE)
    end = plan_ends(snapshot)
    said, moment = replicas_at(snapshot, now), now
    for _ in range(2 * len(snapshot.replicas) + 4):
        passes = seconds_unchanged(snapshot, moment, unaging)
        if not math.isfinite(passes) or moment + timedelta(seconds=passes) >= end:
            return None
        moment += timedelta(seconds=passes) + timedelta(microseconds=1)  # seconds are rounded to microseconds
        if replicas_at(snapshot, moment) != said:
            return Change(moment, replicas_at(snapshot, moment))
    return None


def _before(outage: Outage | None, change: Change | None) -> Change | None:
    """``change``, if KEDA is still told the plan then; None if it will be told something else by then."""
    over = outage is not None and outage.until is not None and change is not None and change.at >= outage.until
    return None if over else change


def _steps(snapshot: Snapshot, stages: PlanStages | None) -> Iterator[PlannedStep]:
    values = snapshot.forecast.values if stages is None else stages.expected
    upper = values if stages is None else stages.upper
    needed: list[int] = snapshot.replicas.tolist()
    planned_for: list[float] | list[None] = [None] * len(needed)
    if stages is not None:
        loads, policy = _awake(stages, snapshot.basis), stages.policy
        # what each step needs for its own load, within the bounds, whatever comes before and after it
        needed = desired_replicas(loads, attrs.evolve(policy, prewarm_steps=0), None)
        planned_for = [min(load * policy.headroom, sys.float_info.max) for load in loads.tolist()]
    for i, replicas in enumerate(snapshot.replicas.tolist()):
        yield PlannedStep(_time_of(snapshot, i), float(values[i]), float(upper[i]), needed[i], replicas, planned_for[i])


def _awake(stages: PlanStages, basis: PlanBasis | None) -> Floats:
    """The load that each step needs pods for, before a fixed headroom; 0 while the workload is idle."""
    if basis is None:
        return stages.needed
    return without_idle_steps(stages.needed, stages.expected, basis.facts.idleness, stages.policy)


def show_time(moment: datetime) -> str:
    """``12:05:00 UTC``."""
    return f"{moment:%H:%M:%S} UTC"


def show_load(load: float) -> str:
    """A load for a reader, to about four digits."""
    return f"{load:,.0f}" if load >= 1000 else f"{load:.4g}"


def _pods(number: float | None) -> str:
    return f"{number or 0:,.0f} pod{'' if number == 1 else 's'}"
