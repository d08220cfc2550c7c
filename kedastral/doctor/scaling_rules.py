# SPDX-License-Identifier: Apache-2.0
"""Rules about what decides the number of pods: the bounds, the fallback, and KEDA's own triggers."""

import difflib
import math
import re
from collections.abc import Iterator

from kedastral.core.planning.stale_policy import OnStale
from kedastral.doctor.diagnosis import RuleBook, Severity, Symptom
from kedastral.doctor.evidence import (
    DEFAULT_POLLING,
    RESOURCE_TYPES,
    Evidence,
    Formula,
    KedaTrigger,
    ScalingObject,
    each_of_ours,
    is_observed,
)
from kedastral.doctor.words import fixed_word, shown_key, trigger_words
from kedastral.settings.fleet import WorkloadSettings
from kedastral.settings.types import write_value

BOOK = RuleBook()
THRESHOLD_TOO_LOW, THRESHOLD_TOO_HIGH = 0.7, 1.5
"""How far the threshold of a reactive trigger may be from the target per pod, as ratios."""
TAKES_NO_PODS = ("currentReplicas", "currentReplicasIfHigher", "scalingModifiers")
MAX_NAMED = 3
TAKES_PODS = ("static", "currentReplicasIfLower")


# Bounds.


@BOOK.rule(
    "bounds",
    Severity.ERROR,
    title="minReplicaCount is above maxReplicaCount, idleReplicaCount is not below minReplicaCount, or a number is "
    "lower than KEDA allows.",
    why="KEDA refuses the object. A warning if minReplicaCount is maxReplicaCount: then nothing scales.",
    remedy="set minReplicaCount between idleReplicaCount and maxReplicaCount, which is at least 1",
)
def _bounds(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        numbers = (
            ("minReplicaCount", one.min, 0),
            ("maxReplicaCount", one.max, 1),
            ("idleReplicaCount", one.idle, 0),
            ("pollingInterval", one.polling, 1),
            ("cooldownPeriod", one.cooldown, 0),
            ("initialCooldownPeriod", one.initial_cooldown, 0),
        )
        low = [(key, given, least) for key, given, least in numbers if given is not None and given < least]
        for key, given, least in low:
            words = f"{key} is {given}, and must be at least {least}"
            yield Symptom(one.name, words, one.place, remedy=f"set {key} to {least} or more")
        if low:
            continue
        if one.lowest > one.highest:
            yield Symptom(
                one.name, f"minReplicaCount {one.lowest} is above maxReplicaCount {_with_default(one)}", one.place
            )
        elif one.lowest == one.highest:
            words = f"minReplicaCount and maxReplicaCount are both {one.highest}, so that nothing scales"
            yield Symptom(one.name, words, one.place, milder=True)
        if one.idle is not None and one.idle >= (one.lowest if one.min is None else max(one.min, 1)):
            words = f"idleReplicaCount {one.idle} is not below minReplicaCount {one.lowest}"
            yield Symptom(one.name, words, one.place)


@BOOK.rule(
    "idle-not-zero",
    Severity.ERROR,
    title="idleReplicaCount is not 0.",
    why="An HPA rests only at 0 replicas: KEDA scales to the idle count, and the HPA back to minReplicaCount, again "
    "and again.",
    remedy="write idleReplicaCount: 0, or leave it out",
)
def _idle_not_zero(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        if one.idle is not None and 0 < one.idle < one.lowest:
            yield Symptom(one.name, f"idleReplicaCount is {one.idle}; KEDA supports only 0", one.place)


def _with_default(one: ScalingObject) -> str:
    return f"{one.highest}" if one.max is not None else f"{one.highest} (KEDA's default)"


@BOOK.rule(
    "max-below-plan",
    Severity.ERROR,
    title="maxReplicaCount is below the plan's max.",
    why="The plan asks for pods that the HPA never orders, and the metrics do not show it.",
    remedy="set maxReplicaCount and max to the same number",
)
def _max_below_plan(evidence: Evidence) -> Iterator[Symptom]:
    for one, trigger, workload in each_of_ours(evidence):
        if workload is not None and one.highest < workload.plan.max_replicas:
            words = f"maxReplicaCount is {_with_default(one)}, and {workload.key} plans up to {_max_of(workload)}"
            yield Symptom(one.name, words, trigger.place, later=evidence.only_observes(one))


def _max_of(workload: WorkloadSettings) -> str:
    by_default = "max_replicas" in workload.by_default
    return f"{workload.plan.max_replicas}" + (", the default of max" if by_default else "")


@BOOK.rule(
    "min-differs",
    Severity.WARNING,
    title="minReplicaCount is not the plan's min.",
    why="If the plan's min is higher, the workload never scales to zero; if it is lower, the HPA keeps more pods than "
    "the metrics show.",
    remedy="set minReplicaCount and min to the same number",
)
def _min_differs(evidence: Evidence) -> Iterator[Symptom]:
    for one, trigger, workload in each_of_ours(evidence):
        if workload is None or one.min is None:
            continue
        least, sleeps = workload.plan.min_replicas, 0 in (one.min, one.idle)
        if least <= _activation_of(trigger) or one.is_forced if sleeps else least == one.min:
            continue
        later = evidence.only_observes(one)
        by_default = ", the default of min" if "min_replicas" in workload.by_default else ""
        planned = f"{workload.key} plans at least {least}{by_default}"
        if one.idle == 0:
            words = f"idleReplicaCount is 0, and {planned}, so that it is never idle"
            yield Symptom(one.name, words, trigger.place, "set min: 0, or remove idleReplicaCount", later=later)
        else:
            yield Symptom(one.name, f"minReplicaCount is {one.min}, and {planned}", trigger.place, later=later)


def _activation_of(trigger: KedaTrigger) -> float:
    """Above how many replicas the trigger is active."""
    return _number(trigger.metadata.get("activation", "")) or 0.0


@BOOK.rule(
    "min-not-set",
    Severity.WARNING,
    title="minReplicaCount is left out.",
    why="KEDA's default is 0: with every trigger inactive, as under a stale forecast and on-stale "
    "default-min, there are no pods.",
    remedy="set minReplicaCount, to 0 if the workload may scale to zero",
)
def _min_not_set(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        if one.min is None:
            yield Symptom(one.name, "minReplicaCount is not set, so that it is 0", one.place)


@BOOK.rule(
    "sleeps-while-stale",
    Severity.ERROR,
    title="minReplicaCount or idleReplicaCount is 0, and the workload's on-stale is default-min.",
    why="A stale forecast then counts as inactive: an outage of Prometheus removes every pod. A cpu or memory trigger "
    "keeps none, nor does cron outside of its hours.",
    remedy="set onStale: ride-forecast (--on-stale ride-forecast), or a minReplicaCount above 0",
)
def _sleeps_while_stale(evidence: Evidence) -> Iterator[Symptom]:
    for one, trigger, workload in each_of_ours(evidence):
        if workload is None or is_observed(workload) or not _may_sleep_while_stale(one):
            continue  # what is observed is inactive, stale or not, which another rule judges
        if workload.stale.on_stale is OnStale.DEFAULT_MIN:
            words = f"with {workload.key} under on-stale default-min an outage scales to zero"
            yield Symptom(one.name, words, trigger.place)


def _may_sleep_while_stale(one: ScalingObject) -> bool:
    return one.may_sleep and not one.others


@BOOK.rule(
    "sleeps-without-stream",
    Severity.WARNING,
    title="minReplicaCount or idleReplicaCount is 0, and the trigger is external, not external-push.",
    why="A workload scaled to zero then waits for the next poll of KEDA, which uses up part of the lead time.",
    remedy="write type: external-push",
)
def _no_stream(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        if _sleeps_on_purpose(one) and all(trigger.kind == "external" for trigger in one.ours):
            words = f"from zero it is woken by a poll, every {one.polling or DEFAULT_POLLING} s"
            yield Symptom(one.name, words, one.ours[0].place, later=evidence.only_observes(one))


def _sleeps_on_purpose(one: ScalingObject) -> bool:
    """Whether it may sleep, and says so; another rule is about a minReplicaCount that is left out."""
    return one.may_sleep and (one.min is not None or one.idle is not None)


@BOOK.rule(
    "formula-from-zero",
    Severity.WARNING,
    title="scalingModifiers with a minReplicaCount or an idleReplicaCount of 0.",
    why="To KEDA a formula that fails is inactive: when both triggers fail, there are no pods.",
    remedy="set a minReplicaCount above 0, or remove the formula",
)
def _formula_from_zero(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        if one.has_formula and _sleeps_on_purpose(one):
            yield Symptom(one.name, "a formula that fails scales it to zero", one.place)


# Fallback.


@BOOK.rule(
    "no-fallback",
    Severity.WARNING,
    title="Kedastral alone decides, and there is no fallback.",
    why="When Kedastral answers with errors, KEDA only holds the replicas it has, even if that is one pod.",
    remedy="add fallback with behavior: currentReplicasIfHigher",
)
def _no_fallback(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        if one.fallback is None and not one.others and not evidence.only_observes(one):
            yield Symptom(one.name, "there is no fallback for when Kedastral answers with errors", one.place)


@BOOK.rule(
    "fallback-never-begins",
    Severity.WARNING,
    title="fallback is set, and the workload's on-stale is default-min.",
    why="fallback needs errors, and default-min never answers with one.",
    remedy="set onStale: ride-forecast or error (--on-stale)",
)
def _never_begins(evidence: Evidence) -> Iterator[Symptom]:
    for one, _, workload in each_of_ours(evidence):
        if one.fallback is None or workload is None or is_observed(workload) or _may_sleep_while_stale(one):
            continue
        if workload.stale.on_stale is OnStale.DEFAULT_MIN:
            words = f"{workload.key} is under on-stale default-min, which never answers with an error"
            yield Symptom(one.name, words, one.fallback.place)


@BOOK.rule(
    "fallback-for-every-trigger",
    Severity.WARNING,
    title="fallback is used together with one of KEDA's own triggers, such as prometheus.",
    why="When Prometheus fails, fallback begins for that trigger, although the plan is still good: the plan can then "
    "only raise replicas, or is overruled.",
    remedy="remove fallback or that trigger: Kedastral itself asks for what the newest load needs",
)
def _fallback_for_all(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        if evidence.only_observes(one):
            continue  # the other trigger decides alone, and the fallback is for it
        if one.fallback is not None and one.others and not one.has_formula:
            others = " and ".join(trigger_words(one, trigger) for trigger in one.others[:MAX_NAMED])
            yield Symptom(one.name, f"fallback begins for {others} as well", one.fallback.place)


@BOOK.rule(
    "fallback-replicas",
    Severity.ERROR,
    title="fallback.replicas is 0, below minReplicaCount or above maxReplicaCount, or missing; failureThreshold is "
    "missing or negative; or behavior is unknown.",
    why="With replicas: 0 an error is inactive to KEDA, so that a workload that may scale to zero does. A number out "
    "of bounds has no effect. KEDA refuses a fallback that lacks either field, and an unknown behavior.",
    remedy="set failureThreshold, and replicas between minReplicaCount and maxReplicaCount, above 0",
)
def _fallback_replicas(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        fallback = one.fallback
        if fallback is None:
            continue
        for key, given in (("replicas", fallback.replicas), ("failureThreshold", fallback.threshold)):
            if given is None:
                yield Symptom(one.name, f"fallback.{key} is missing, or not a number", fallback.place)
            elif given < 0:
                yield Symptom(one.name, f"fallback.{key} is {given}", fallback.place)
        if fallback.behavior not in (*TAKES_NO_PODS, *TAKES_PODS):
            near = difflib.get_close_matches(fallback.behavior, (*TAKES_NO_PODS, *TAKES_PODS), 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            words = f"fallback.behavior is {fixed_word(fallback.behavior)}, which KEDA does not know{hint}"
            remedy = "write currentReplicasIfHigher, or another behavior that KEDA knows"
            yield Symptom(one.name, words, fallback.place, remedy)
        if fallback.replicas == 0 and one.may_sleep:
            yield Symptom(one.name, "fallback.replicas is 0, so that errors scale to zero", fallback.place)
        elif fallback.replicas is not None and _is_out_of_bounds(fallback.replicas, one):
            words = f"fallback.replicas is {fallback.replicas}, outside of {one.lowest} to {one.highest}"
            if fallback.behavior != "currentReplicas":  # which does not read it
                yield Symptom(one.name, words, fallback.place, milder=True)


def _is_out_of_bounds(replicas: int, one: ScalingObject) -> bool:
    return one.lowest <= one.highest and replicas >= 0 and not one.lowest <= replicas <= one.highest


@BOOK.rule(
    "fallback-takes-pods",
    Severity.WARNING,
    title="fallback.behavior is static, which is the default, or currentReplicasIfLower.",
    why="An error then scales to fallback.replicas, even if more pods run and are needed. At maxReplicaCount it takes "
    "none.",
    remedy="write behavior: currentReplicasIfHigher (KEDA 2.17)",
)
def _fallback_takes_pods(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        fallback = one.fallback
        if fallback is None or (fallback.replicas is not None and fallback.replicas >= one.highest):
            continue
        if fallback.behavior in TAKES_PODS:
            words = f"fallback with behavior {fallback.behavior} may remove pods that are needed"
            yield Symptom(one.name, words, fallback.place)


# The formula.


@BOOK.rule(
    "formula",
    Severity.ERROR,
    title="scalingModifiers cannot work as written: formula or target is missing or wrong, the formula names no "
    "trigger or leaves out Kedastral's, or it and fallback do not fit.",
    why="KEDA refuses the object, or the plan or the fallback has no effect. The plan counts pods, so that a target "
    "other than 1 divides it; KEDA ignores fallback unless target is a whole number without a point.",
    remedy='name each trigger, use the names in the formula, and set target: "1" and behavior: scalingModifiers',
)
def _formula(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        if one.fallback is not None and one.fallback.behavior == "scalingModifiers" and not one.has_formula:
            words = "fallback.behavior is scalingModifiers, and there is no formula"
            remedy = "write another behavior, such as currentReplicasIfHigher"
            yield Symptom(one.name, words, one.fallback.place, remedy)
        if one.formula is not None:
            for words, remedy, milder in _wrong_formula(one, one.formula):
                yield Symptom(one.name, words, one.formula.place, remedy, milder)
            if one.formula.text and not any(trigger.name in one.formula.names for trigger in one.ours):
                words = f"the formula does not name {trigger_words(one, one.ours[0])}, so that the plan has no effect"
                remedy = "give that trigger a name, and use it in the formula"
                yield Symptom(one.name, words, one.formula.place, remedy, later=evidence.only_observes(one))


Wrong = tuple[str, str, bool]
"""What is wrong, the remedy, and whether it is only a warning."""


def _wrong_formula(one: ScalingObject, formula: Formula) -> Iterator[Wrong]:
    if not formula.text:
        yield "scalingModifiers has no formula", "add one, or remove scalingModifiers", False
        return
    yield from _wrong_target(one, formula)
    yield from _wrong_names(one, formula)
    if "??" in formula.text and (one.fallback is None or one.fallback.behavior != "scalingModifiers"):
        words = "?? in the formula has no effect without fallback with behavior: scalingModifiers"
        yield words, "set that behavior, or remove ??", True


def _wrong_target(one: ScalingObject, formula: Formula) -> Iterator[Wrong]:
    target = _number(formula.target)
    if target is None:
        yield "scalingModifiers.target is missing, or not a number above 0", 'write target: "1"', False
        return
    if one.fallback is not None and not re.fullmatch(r"[-+]?[0-9]+", formula.target):
        words = "fallback never begins: scalingModifiers.target is not a whole number without a point"
        yield words, 'write target: "1", and multiply or divide in the formula if need be', False
    takes_the_plan = any(trigger.name in formula.names for trigger in one.ours)
    changes_it = re.search(r"[*/]" if target < 1 else r"[*]", formula.text)
    if takes_the_plan and target != 1 and not changes_it:
        words = f"the formula takes the plan, a number of pods, as it is, and target {formula.target} divides it"
        yield words, 'write target: "1", and divide the other triggers in the formula', True


def _wrong_names(one: ScalingObject, formula: Formula) -> Iterator[Wrong]:
    usable = {trigger.name for trigger in one.triggers if trigger.kind not in RESOURCE_TYPES}
    resources = {trigger.name for trigger in one.triggers if trigger.kind in RESOURCE_TYPES}
    for name in formula.names:
        if name in resources:
            words = f"the formula names {shown_key(name)}, a cpu or memory trigger"
            yield words, "leave it out: the HPA compares it with the formula anyway", False
        elif name not in usable:
            words = f"the formula names {shown_key(name)}, which no trigger has for its name"
            yield words, "correct it, or give the trigger that name; only letters, digits and _ can be used", False


# Other triggers.


@BOOK.rule(
    "threshold-against-target",
    Severity.WARNING,
    title="A prometheus trigger on the same query has a threshold far from the target per pod.",
    why="The larger answer wins. Below 0.7 times the target the forecast seldom decides; above 1.5 times it, pods are "
    "overloaded before the trigger adds more.",
    remedy="set threshold to the target per pod / 1.2",
)
def _threshold(evidence: Evidence) -> Iterator[Symptom]:
    for one, _, workload in each_of_ours(evidence):
        if workload is None:
            continue
        target = workload.plan.target_per_pod
        for other in one.others:
            threshold = _number(other.metadata.get("threshold", ""))
            if (
                other.kind != "prometheus"
                or threshold is None
                or one.has_formula
                or not _asks_the_same(other, workload)
            ):
                continue
            if not THRESHOLD_TOO_LOW <= threshold / target <= THRESHOLD_TOO_HIGH:
                words = (
                    f"the threshold is {write_value(threshold)}, and {workload.key} has {write_value(target)} per pod"
                )
                remedy = f"set threshold to about {write_value(round(target / 1.2, 1))}"
                later = evidence.only_observes(one)
                remedy += " then; until then this trigger decides alone" if later else ""
                yield Symptom(one.name, words, other.place, remedy, later=later)


def _number(text: str) -> float | None:
    try:
        found = float(text)
    except ValueError:
        return None
    return found if 0 < found < math.inf else None


def _asks_the_same(other: KedaTrigger, workload: WorkloadSettings) -> bool:
    """Whether a prometheus trigger has the workload's own query, ignoring blanks; assumed if its query is unknown."""
    asked, known = other.metadata.get("query", ""), workload.query
    return not known or re.sub(r"\s+", "", asked) == re.sub(r"\s+", "", known)


@BOOK.rule(
    "cpu-without-requests",
    Severity.ERROR,
    title="There is a cpu or memory trigger, and a container lacks that request.",
    why="KEDA refuses such an object. Without a request on every container the HPA has no utilization, and never "
    "scales in. A given LimitRange with a default counts.",
    remedy="set resources.requests for it in every container",
)
def _without_requests(evidence: Evidence) -> Iterator[Symptom]:
    defaults = {(namespace or evidence.namespace, kind) for namespace, kind in evidence.default_requests}
    for one in evidence.scaled_by_us:
        scalable = evidence.find_scalable(one)
        for trigger in one.triggers:
            if scalable is None or trigger.kind not in RESOURCE_TYPES:
                continue
            if (evidence.namespace_of(one.name), trigger.kind) in defaults:
                continue
            container = trigger.metadata.get("containerName")
            # KEDA wants a request of every container; only for Utilization does the HPA want one of sidecars, too
            spared = scalable.sidecars if trigger.metric_type == "AverageValue" else ()
            missing = scalable.without_requests[trigger.kind]
            names = [name for name in missing if container in (None, name) and name not in spared]
            if names:
                words = f"{scalable.name} has no {trigger.kind} request on {', '.join(names[:5])}"
                yield Symptom(one.name, words, trigger.place)
