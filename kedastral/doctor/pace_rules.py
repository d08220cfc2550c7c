# SPDX-License-Identifier: Apache-2.0
"""Rules about time: the HPA's ramp and tolerance, KEDA's intervals and pod starts, compared with the lead time."""

import math
from collections.abc import Iterator

from kedastral.core.capacity import ReplicaBounds
from kedastral.core.series import HOUR
from kedastral.doctor.diagnosis import RuleBook, Severity, Symptom
from kedastral.doctor.evidence import Evidence, ScalingObject, each_of_ours, is_observed
from kedastral.settings.fleet import WorkloadSettings
from kedastral.simulation.hpa import Hpa, HpaBehavior, HpaMetric, SelectPolicy

BOOK = RuleBook()
SYNC = 15.0
"""Seconds between two decisions of the HPA; ``--horizontal-pod-autoscaler-sync-period``."""
LONGEST_RAMP = HOUR
"""Seconds after which a ramp counts as endless."""
RUSH = 4
"""The factor by which the load of a rush grows within the lead time, for the rule about the ramp."""
SLOW_SCALE_IN = 120.0
"""Seconds that scaling in may take, where the plan has waited before."""
MODEL_WITH_A_WAIT = "auto"
"""The model whose plan waits before it comes down."""
SHORT_COOLDOWN = 60
SLOW_POLLING = 60
"""Seconds. A workload at zero is activated by a poll, unless a stream does it."""
DEFAULT_LEAD = 300.0


# The HPA.


def ramp_time(behavior: HpaBehavior, first: int, last: int) -> float | None:
    """Seconds that an HPA takes from ``first`` to ``last`` replicas, including the wait for its first sync.

    The ramp ends within the tolerance of ``last``, where the HPA stops; another rule covers that. None if it takes
    longer than `LONGEST_RAMP`. The metric asks for ``last`` right after a sync.
    """
    hpa = Hpa(behavior, ReplicaBounds(1, last))
    enough = math.ceil(last / (1 + behavior.up.tolerance) - 1e-9)
    replicas, now = hpa.recommend(0.0, first, [HpaMetric(float(first))]), 0.0
    while replicas < enough and now < LONGEST_RAMP:
        now += SYNC
        replicas = hpa.recommend(now, replicas, [HpaMetric(float(last))])
    return now if replicas >= enough else None


def fall_time(behavior: HpaBehavior, first: int, last: int) -> float | None:
    """Seconds that an HPA takes down from ``first`` to ``last`` replicas; as `ramp_time`."""
    hpa = Hpa(behavior, ReplicaBounds(1, first))
    few = math.floor(last / (1 - behavior.down.tolerance) + 1e-9) if behavior.down.tolerance < 1 else first
    replicas, now = hpa.recommend(0.0, first, [HpaMetric(float(first))]), 0.0
    while replicas > few and now < LONGEST_RAMP:
        now += SYNC
        replicas = hpa.recommend(now, replicas, [HpaMetric(float(last))])
    return now if replicas <= few else None


def _behavior_of(one: ScalingObject) -> HpaBehavior:
    return HpaBehavior.ABSENT if one.behavior is None else one.behavior


def _lead_of(workload: WorkloadSettings | None) -> float:
    return DEFAULT_LEAD if workload is None else workload.serving.lead_time


def _rush_of(one: ScalingObject, workload: WorkloadSettings | None) -> tuple[int, int]:
    """From how many to how many pods a rush goes: to the maximum from a quarter of it, or from where it wakes up."""
    planned = workload.plan.max_replicas if workload is not None else 0
    last = max(min(one.highest, planned or one.highest), 1)
    first = max(one.lowest, 1, 0 if one.may_sleep else math.ceil(last / RUSH))
    return min(first, last), last


@BOOK.rule(
    "slow-ramp",
    Severity.ERROR,
    title="The HPA's behavior is too slow for the lead time.",
    why="Pods that are ordered too late are Ready too late. The ramp to the maximum, from a quarter of it or "
    "from zero, is simulated; more than half of the lead time is a warning.",
    remedy="loosen behavior.scaleUp (policies, stabilizationWindowSeconds, selectPolicy), or set a longer lead time",
)
def _slow_ramp(evidence: Evidence) -> Iterator[Symptom]:
    for one, _, workload in each_of_ours(evidence):
        if one.refused:
            continue  # there is no HPA that could be slow
        first, last = _rush_of(one, workload)
        later = evidence.only_observes(one)
        lead, seconds = _lead_of(workload), ramp_time(_behavior_of(one), first, last)
        starts = evidence.starts_of(one)
        start = starts[len(starts) // 2] if starts else 0.0
        start = start if start <= lead else 0.0  # another rule covers that
        place = one.behavior_place or one.place
        of_lead = f"your {lead:.0f} s" if workload is not None else f"a lead time of {lead:.0f} s, the default"
        if seconds is None:
            words = f"scaling from {first} to {last} pods takes the HPA more than an hour, or never ends"
            yield Symptom(one.name, words, place, later=later)
        elif seconds + start > lead:
            more = f", and a pod {start:.0f} s more to be Ready," if start else ""
            words = f"scaling from {first} to {last} pods takes {seconds:.0f} s{more} of {of_lead}"
            yield Symptom(one.name, words, place, milder=workload is None, later=later)
        elif seconds > lead / 2 and workload is not None:
            words = f"scaling from {first} to {last} pods takes {seconds:.0f} s of {of_lead}"
            yield Symptom(one.name, words, place, milder=True, later=later)


@BOOK.rule(
    "tolerance",
    Severity.WARNING,
    title="The HPA's tolerance swallows single pods.",
    why="By default changes within 10 % are ignored: from 20 pods it never goes to 21. An info if the object has no "
    "behavior at all.",
    remedy="set tolerance: 0 in behavior.scaleUp and behavior.scaleDown (Kubernetes 1.33, KEDA 2.18)",
)
def _tolerance(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        behavior = _behavior_of(one)
        ways = [("up", behavior.up.tolerance), ("down", behavior.down.tolerance)]
        swallowed = [(way, t) for way, t in ways if t > 0 and t * (one.highest - 1) >= 1 - 1e-9]
        if not swallowed or one.highest <= one.lowest or one.refused:
            continue
        way, tolerance = max(swallowed, key=lambda found: found[1])
        pods = max(math.ceil(1 / tolerance - 1e-9), one.lowest)
        words = f"with {pods} pods or more one pod {way} is within the tolerance of {tolerance * 100:g} %"
        later = evidence.only_observes(one)
        yield Symptom(one.name, words, one.behavior_place or one.place, milder=one.behavior is None, later=later)


@BOOK.rule(
    "scale-down",
    Severity.WARNING,
    title="behavior.scaleDown has no stabilization window, or forbids scaling down.",
    why="Without a window each answer counts, and two pods of Kedastral may answer in turn. With selectPolicy "
    "Disabled pods are only ever added.",
    remedy="set stabilizationWindowSeconds: 60, and no selectPolicy Disabled",
)
def _scale_down(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        down = _behavior_of(one).down
        if down.select is SelectPolicy.DISABLED:
            yield Symptom(one.name, "behavior.scaleDown has selectPolicy Disabled", one.behavior_place)
        elif down.stabilization_window == 0:
            words = "behavior.scaleDown has a stabilization window of 0 s"
            yield Symptom(one.name, words, one.behavior_place, later=evidence.only_observes(one))


@BOOK.rule(
    "slow-scale-in",
    Severity.INFO,
    title="Kedastral alone decides, and the HPA takes more than two minutes to scale in.",
    why="With auto the plan itself comes down five minutes after the need, and the HPA's own wait, 300 s by default, "
    "is added to that: pods cost more for longer. The way down from the maximum to a quarter of it, or to one pod, is "
    "simulated.",
    remedy="set stabilizationWindowSeconds: 60 in behavior.scaleDown, and loosen its policies; keep them if pods need "
    "that long to finish their work",
)
def _slow_scale_in(evidence: Evidence) -> Iterator[Symptom]:
    for one, _, workload in each_of_ours(evidence):
        behavior = _behavior_of(one)
        if one.refused or one.others or one.is_unsure or behavior.down.select is SelectPolicy.DISABLED:
            continue
        if workload is not None and (workload.forecast.model != MODEL_WITH_A_WAIT or is_observed(workload)):
            continue
        last, first = _rush_of(one, workload)
        seconds = fall_time(behavior, first, last)
        if seconds is None or seconds > SLOW_SCALE_IN:
            takes = "more than an hour" if seconds is None else f"{seconds:.0f} s"
            words = (
                f"scaling in from {first} to {last} pods takes the HPA {takes}, on top of the plan's own five minutes"
            )
            yield Symptom(one.name, words, one.behavior_place or one.place)


# KEDA's intervals and pod starts.


@BOOK.rule(
    "pace-without-effect",
    Severity.WARNING,
    title="pollingInterval, cooldownPeriod or initialCooldownPeriod is set, with a minReplicaCount above 0.",
    why="They are for workloads that can scale to zero; otherwise the HPA asks every 15 s. pollingInterval also counts "
    "under scalingModifiers and with useCachedMetrics.",
    remedy="delete the line, or set minReplicaCount: 0 if the workload may scale to zero",
)
def _no_effect(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        if one.lowest == 0 or one.idle is not None:  # as KEDA's own warning has it
            continue
        is_cached = any(trigger.is_cached for trigger in one.triggers)
        if one.polling is not None and not one.has_formula and not is_cached:
            yield Symptom(one.name, f"pollingInterval has no effect at minReplicaCount {one.lowest}", one.place)
        for key, given in (("cooldownPeriod", one.cooldown), ("initialCooldownPeriod", one.initial_cooldown)):
            if given is not None:
                yield Symptom(one.name, f"{key} has no effect at minReplicaCount {one.lowest}", one.place)


@BOOK.rule(
    "slow-polling",
    Severity.WARNING,
    title="A workload scaled to zero is polled less often than once a minute.",
    why="Without a stream a poll wakes it, and fallback counts polls: both come that much later.",
    remedy="set pollingInterval: 30, KEDA's default",
)
def _slow_polling(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        counts = one.may_sleep or one.has_formula
        if counts and one.polling is not None and one.polling > SLOW_POLLING:
            yield Symptom(one.name, f"KEDA polls every {one.polling} s", one.place)


@BOOK.rule(
    "short-cooldown",
    Severity.WARNING,
    title="A workload that can scale to zero has a cooldownPeriod of less than a minute.",
    why="A lull then removes the last pod, which has to start again with the next request.",
    remedy="set cooldownPeriod: 300, KEDA's default",
)
def _short_cooldown(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        if one.may_sleep and one.cooldown is not None and one.cooldown < SHORT_COOLDOWN:
            yield Symptom(one.name, f"it is scaled to zero {one.cooldown} s after the last need", one.place)


@BOOK.rule(
    "slow-start",
    Severity.ERROR,
    title="Pods take longer from creation to Ready than the lead time.",
    why="Such pods come too late every time. Checked if Pods are given, as with --cluster; the median of those that "
    "never restarted counts.",
    remedy="set a longer lead time, with half a minute for KEDA and the HPA, or make the pods start faster",
)
def _slow_start(evidence: Evidence) -> Iterator[Symptom]:
    for one, _, workload in each_of_ours(evidence):
        starts = evidence.starts_of(one)
        if not starts or workload is None:
            continue
        lead, middle = workload.serving.lead_time, starts[len(starts) // 2]
        words = (
            f"of {len(starts)} pods the middle one took {middle:.0f} s to be Ready, and the lead time is {lead:.0f} s"
        )
        if middle > lead:
            yield Symptom(one.name, words, one.place, later=evidence.only_observes(one))
