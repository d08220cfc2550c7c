# SPDX-License-Identifier: Apache-2.0
"""Rules about ScaledObjects and who else scales: triggers, workloads, bounds, fallback, targets."""

import difflib
import math
import re
from collections.abc import Iterator

import attrs

from kedastral.core.serving import Mode, OnStale
from kedastral.core.trigger import FROM_ENV, ObjectRef, is_from_variable, plain_key
from kedastral.doctor.diagnosis import RuleBook, Severity, Symptom
from kedastral.doctor.evidence import (
    KEDA_KEYS,
    RESOURCE_TYPES,
    Evidence,
    KedaTrigger,
    ObjectName,
    Place,
    PlainHpa,
    ScalingObject,
    TargetRef,
    each_of_ours,
)
from kedastral.doctor.manifests import API_VERSION, KEYS_BELOW, SCALED_OBJECT
from kedastral.errors import BadTriggerError, ConfigError, UnknownWorkloadError
from kedastral.settings.declarations import DataSourceSettings, WorkloadSettings
from kedastral.settings.resolve import ProcessInput, read_workload
from kedastral.settings.sources import METADATA_KEYS, OWN_KEYS, find_near
from kedastral.settings.types import HttpUrl, write_value
from kedastral.workloads.resolver import pick_workload

BOOK = RuleBook()
THRESHOLD_TOO_LOW, THRESHOLD_TOO_HIGH = 0.7, 1.5
"""How far the threshold of a reactive trigger may be from the target per pod, as a ratio."""
SCALABLE_KINDS = ("Deployment", "StatefulSet")
TAKES_NO_PODS = ("currentReplicas", "currentReplicasIfHigher", "scalingModifiers")
PARTLY = "PartialTriggerError"
"""KEDA's reason where some triggers fail and others work."""
FROM_VARIABLE = "(from a variable)"
_API_VERSION = re.compile(r"[a-z0-9.-]{1,40}/v[0-9][a-z0-9]{0,9}")
_GOT = re.compile(r""", got (['"]).*(; [^;]*)$""", re.DOTALL)
"""The value that a problem quotes: it may be a secret that somebody put where it does not belong."""


def _trigger_words(one: ScalingObject, trigger: KedaTrigger) -> str:
    return f"trigger {one.triggers.index(trigger) + 1} ({trigger.kind})"


# The object.


@BOOK.rule(
    "not-a-scaled-object",
    Severity.ERROR,
    title="The kind or the apiVersion of what has a trigger of Kedastral's is not that of a ScaledObject.",
    why="The API server refuses the object, or keeps it where no KEDA reads it: keda.k8s.io is that of KEDA 1.",
    remedy=f"write apiVersion: {API_VERSION} and kind: {SCALED_OBJECT}",
)
def _kind_and_version(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        if one.kind != SCALED_OBJECT:
            yield Symptom(one.name, f"its kind is {_word(one.kind)}, not {SCALED_OBJECT}", one.place)
        if one.api_version != API_VERSION:
            words = one.api_version if _API_VERSION.fullmatch(one.api_version) else "another"
            yield Symptom(one.name, f"its apiVersion is {words if one.api_version else 'missing'}", one.place)


@BOOK.rule(
    "scaled-job",
    Severity.ERROR,
    title="A ScaledJob has a trigger of Kedastral's.",
    why="Kedastral plans pods that stay. As jobs, as many would start again and again.",
    remedy="scale a Deployment by a ScaledObject, or take the trigger away",
)
def _scaled_job(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.jobs:
        for trigger in one.ours:
            yield Symptom(one.name, f"{_trigger_words(one, trigger)} plans pods, not jobs", trigger.place)


# The trigger.


@BOOK.rule(
    "metric-type-value",
    Severity.ERROR,
    title="The trigger, or its formula, has metricType Value.",
    why="The HPA then multiplies the answer by the number of pods: 10 on 10 pods asks for 100, up to the maximum.",
    remedy="write metricType: AverageValue, or leave it away: it is KEDA's default",
)
def _metric_type(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        for trigger in one.ours:
            if trigger.metric_type not in ("", "AverageValue"):
                kind = _word(trigger.metric_type)
                yield Symptom(one.name, f"{_trigger_words(one, trigger)} has metricType {kind}", trigger.place)
        if one.has_formula and one.formula_type not in ("", "AverageValue"):
            kind = _word(one.formula_type)
            yield Symptom(one.name, f"scalingModifiers has metricType {kind}", one.place)


def _word(text: str) -> str:
    """A word that a manifest has where a fixed word belongs; anything else is not shown, since it may be anything."""
    return text if re.fullmatch(r"[A-Za-z]{1,20}", text) else "of another kind"


@BOOK.rule(
    "scaler-address",
    Severity.ERROR,
    title="scalerAddress is missing, or no host and port.",
    why="KEDA dials it as it stands: without a port, or with a scheme, the whole object fails.",
    remedy="write the Service and the gRPC port, such as kedastral.kedastral.svc.cluster.local:8080",
)
def _address_form(evidence: Evidence) -> Iterator[Symptom]:
    for one, trigger, _ in each_of_ours(evidence):
        if is_named_by_variable(trigger, "scalerAddress"):
            continue
        address = trigger.address
        words = _trigger_words(one, trigger)
        if not address:
            yield Symptom(one.name, f"{words} has no scalerAddress", trigger.place)
        elif "://" in address:
            yield Symptom(one.name, f"the scalerAddress of {words} has a scheme, such as http://", trigger.place)
        elif read_address(address) is None:
            yield Symptom(one.name, f"the scalerAddress of {words} is no host:port", trigger.place)


def is_named_by_variable(trigger: KedaTrigger, key: str) -> bool:
    """Whether the value of ``key`` comes from a variable of the scale target, which nobody but KEDA knows."""
    return any(is_from_variable(given) and given.startswith(key) for given in trigger.metadata)


def read_address(address: str) -> tuple[str, int] | None:
    """Host and port of a ``scalerAddress``; None where it is none."""
    found = re.fullmatch(r"(?:dns:///)?(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})", address)
    if found is None or not 0 < int(found[2]) < 65536:
        return None
    return found[1].strip("[]"), int(found[2])


@BOOK.rule(
    "scaler-unreachable",
    Severity.ERROR,
    title="Nobody speaks gRPC at scalerAddress, or only one side speaks TLS.",
    why="KEDA then fails the whole object: no other trigger scales out, and fallback does not begin. With "
    "--check-addresses, from where the doctor runs.",
    remedy="compare the address with the Service of Kedastral, and enableTLS with --grpc-tls-cert-file",
)
def _address_answers(evidence: Evidence) -> Iterator[Symptom]:
    for one, trigger, _ in each_of_ours(evidence):
        answer = evidence.addresses.get((trigger.address, trigger.wants_tls))
        if answer is not None and answer.problem:
            yield Symptom(one.name, f"{trigger.address}: {answer.problem}", trigger.place)


@BOOK.rule(
    "unsafe-tls",
    Severity.WARNING,
    title="unsafeSsl is true.",
    why="KEDA then trusts whoever answers in Kedastral's place.",
    remedy="take unsafeSsl away, and give caCert in a TriggerAuthentication",
)
def _unsafe_tls(evidence: Evidence) -> Iterator[Symptom]:
    for one, trigger, _ in each_of_ours(evidence):
        if trigger.metadata.get("unsafeSsl", "").strip().lower() == "true":
            yield Symptom(one.name, f"{_trigger_words(one, trigger)} verifies no certificate", trigger.place)


@BOOK.rule(
    "metadata-not-text",
    Severity.ERROR,
    title="A value of trigger metadata is not text.",
    why="The API server refuses the object.",
    remedy='quote it, as in targetPerPod: "50"',
)
def _metadata_text(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        for trigger in one.triggers:  # those of KEDA's own too: one such value, and the whole object is refused
            if trigger.not_text:
                words = f"{_trigger_words(one, trigger)} has values without quotes: {', '.join(trigger.not_text[:5])}"
                yield Symptom(one.name, words, trigger.place)


@BOOK.rule(
    "bad-metadata",
    Severity.ERROR,
    title="Kedastral refuses the trigger metadata: an unknown key, or a value that cannot be used.",
    why="The scaler answers INVALID_ARGUMENT, and KEDA holds the replicas it has.",
    remedy="correct the metadata as the sentence says; docs/configuration.md lists the keys",
)
def _bad_metadata(evidence: Evidence) -> Iterator[Symptom]:
    for one, trigger, _ in each_of_ours(evidence):
        for problem in problems_of(evidence, one, trigger):
            words = _GOT.sub(r"\2", problem.removeprefix("trigger metadata: "))
            yield Symptom(one.name, f"{_trigger_words(one, trigger)}: {words}", trigger.place)


def problems_of(evidence: Evidence, one: ScalingObject, trigger: KedaTrigger) -> list[str]:
    """What Kedastral would refuse in the metadata of a trigger, as far as a manifest shows it."""
    problems = []
    activation = trigger.metadata.get("activation")
    if activation is not None and not _is_activation(activation):
        problems.append("activation must be a number of at least 0")
    if not trigger.describes_workload:
        return problems
    try:
        read_brought_workload(evidence, one, trigger)
    except ConfigError as error:
        problems += error.problems
    return problems


def _is_activation(text: str) -> bool:
    try:
        return 0 <= float(text) < math.inf
    except ValueError:
        return False


def read_brought_workload(evidence: Evidence, one: ScalingObject, trigger: KedaTrigger) -> WorkloadSettings:
    """The workload that a trigger brings along. Raises ConfigError.

    What comes from a variable cannot be read, so that its default counts; any data source it names is taken for one
    that there is.
    """
    known = {key: text for key, text in trigger.metadata.items() if not is_from_variable(key)}
    if trigger.metadata.keys() - known.keys() >= {"query" + FROM_ENV}:
        known["query"] = FROM_VARIABLE
    sources = {known.get("dataSource", "default"): DataSourceSettings(url=HttpUrl("http://prometheus"))}
    name, namespace = one.name.name or "unnamed", evidence.namespace_of(one.name)
    workload = read_workload(sources, ProcessInput(), namespace, name, known)
    return attrs.evolve(workload, query="") if workload.query == FROM_VARIABLE else workload


@BOOK.rule(
    "ignored-metadata",
    Severity.WARNING,
    title="A key of trigger metadata has no effect.",
    why="Beside workload, without a query, the settings are those that are configured; these keys are not read.",
    remedy="take it away, correct its name, or set it where the workload is configured",
)
def _ignored_metadata(evidence: Evidence) -> Iterator[Symptom]:
    for one, trigger, _ in each_of_ours(evidence):
        if trigger.describes_workload:
            continue
        for given in trigger.metadata:
            key = plain_key(given)
            if key in KEDA_KEYS or key in ("workload", "activation"):
                continue
            words = f"{_trigger_words(one, trigger)}: {_shown_key(given)}"
            if key in METADATA_KEYS or key in OWN_KEYS:
                yield Symptom(one.name, f"{words} is not read beside a configured workload", trigger.place)
            else:
                near = find_near(key, (*METADATA_KEYS, *OWN_KEYS, *KEDA_KEYS))
                hint = f"; did you mean {near}?" if near else ""
                yield Symptom(one.name, f"{words} is unknown{hint}", trigger.place)


# The workload.


@BOOK.rule(
    "unknown-workload",
    Severity.ERROR,
    title="The trigger names a workload that is not configured, or none where there are several.",
    why="The scaler answers NOT_FOUND or INVALID_ARGUMENT, and KEDA holds. With --config, --workload or --url.",
    remedy="name a configured workload: namespace/name, or the bare name in the ScaledObject's own namespace",
)
def _unknown_workload(evidence: Evidence) -> Iterator[Symptom]:
    for one, trigger, workload in each_of_ours(evidence):
        known = workload is not None or trigger.workload_is_hidden or trigger.describes_workload
        if evidence.workloads is None or known:
            continue
        ref = ObjectRef(one.name.name, evidence.namespace_of(one.name), trigger.metadata)
        try:
            pick_workload(ref, evidence.workloads)
        except (UnknownWorkloadError, BadTriggerError) as error:
            names = [key for key in evidence.workloads if key]
            near = find_near(trigger.workload, names) or find_near(f"{ref.namespace}/{trigger.workload}", names)
            hint = f"; did you mean {near}?" if near and "there is" not in str(error).partition(";")[2] else ""
            words = str(error).replace(" here", "")
            yield Symptom(one.name, f"{_trigger_words(one, trigger)}: {words}{hint}", trigger.place)


@BOOK.rule(
    "observe-alone",
    Severity.ERROR,
    title="A workload in mode observe has no trigger beside Kedastral's.",
    why="KEDA is told 0 in that mode: without another trigger the Deployment goes to its minimum.",
    remedy="add a reactive trigger, or set mode: scale",
)
def _observe_alone(evidence: Evidence) -> Iterator[Symptom]:
    for one, trigger, workload in each_of_ours(evidence):
        if workload is not None and workload.serving.mode is Mode.OBSERVE and len(one.ours) == len(one.triggers):
            yield Symptom(one.name, f"{workload.key} is in mode observe, and nobody else decides", trigger.place)


# Bounds.


@BOOK.rule(
    "bounds",
    Severity.ERROR,
    title="minReplicaCount is above maxReplicaCount, or idleReplicaCount is not below minReplicaCount.",
    why="KEDA refuses the object.",
    remedy="set minReplicaCount between idleReplicaCount and maxReplicaCount",
)
def _bounds(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        if one.lowest > one.highest:
            yield Symptom(
                one.name, f"minReplicaCount {one.lowest} is above maxReplicaCount {_with_default(one)}", one.place
            )
        if one.idle is not None and one.idle >= one.lowest:
            words = f"idleReplicaCount {one.idle} is not below minReplicaCount {one.lowest}"
            yield Symptom(one.name, words, one.place)


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
            yield Symptom(one.name, words, trigger.place)


def _max_of(workload: WorkloadSettings) -> str:
    by_default = "max_replicas" in workload.by_default
    return f"{workload.plan.max_replicas}" + (", the default of max" if by_default else "")


@BOOK.rule(
    "min-differs",
    Severity.WARNING,
    title="minReplicaCount is not the plan's min.",
    why="With a plan's min above it the workload never sleeps; with one below it the HPA keeps more pods than "
    "the metrics show.",
    remedy="set minReplicaCount and min to the same number",
)
def _min_differs(evidence: Evidence) -> Iterator[Symptom]:
    for one, trigger, workload in each_of_ours(evidence):
        if workload is None or one.min is None or one.min == workload.plan.min_replicas:
            continue
        by_default = ", the default of min" if "min_replicas" in workload.by_default else ""
        planned = f"{workload.plan.min_replicas}{by_default}"
        words = f"minReplicaCount is {one.min}, and {workload.key} plans at least {planned}"
        yield Symptom(one.name, words, trigger.place)


@BOOK.rule(
    "min-not-set",
    Severity.WARNING,
    title="minReplicaCount is left out.",
    why="KEDA's default is 0: with every trigger inactive, as under a stale forecast and on-stale "
    "default-min, there are no pods.",
    remedy="set minReplicaCount; to 0 where the workload is to sleep",
)
def _min_not_set(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        if one.min is None:
            yield Symptom(one.name, "minReplicaCount is not set, so that it is 0", one.place)


@BOOK.rule(
    "sleeps-while-stale",
    Severity.ERROR,
    title="minReplicaCount is 0, and the workload's on-stale is default-min.",
    why="A stale forecast then counts as inactive: an outage of Prometheus takes every pod.",
    remedy="set onStale: ride-forecast (--on-stale ride-forecast), or a minReplicaCount above 0",
)
def _sleeps_while_stale(evidence: Evidence) -> Iterator[Symptom]:
    for one, trigger, workload in each_of_ours(evidence):
        if workload is None or not _may_sleep_while_stale(one):
            continue
        if workload.stale.on_stale is OnStale.DEFAULT_MIN:
            words = f"with {workload.key} under on-stale default-min an outage scales to zero"
            yield Symptom(one.name, words, trigger.place)


def _may_sleep_while_stale(one: ScalingObject) -> bool:
    return one.lowest == 0 and len(one.ours) == len(one.triggers)


@BOOK.rule(
    "sleeps-without-stream",
    Severity.WARNING,
    title="minReplicaCount is 0, and the trigger is external, not external-push.",
    why="A workload that sleeps then waits for the next poll of KEDA, which comes out of the lead time.",
    remedy="write type: external-push",
)
def _no_stream(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        if one.min == 0 and all(trigger.kind == "external" for trigger in one.ours):
            words = f"from zero it is woken by a poll, every {one.polling or 30} s"
            yield Symptom(one.name, words, one.ours[0].place)


@BOOK.rule(
    "formula-from-zero",
    Severity.WARNING,
    title="scalingModifiers with a minReplicaCount of 0.",
    why="A formula that fails is inactive to KEDA: when both triggers fail there are no pods.",
    remedy="set a minReplicaCount above 0, or leave the formula away",
)
def _formula_from_zero(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        if one.has_formula and one.min == 0:
            yield Symptom(one.name, "a formula that fails scales it to zero", one.place)


# Fallback.


@BOOK.rule(
    "no-fallback",
    Severity.WARNING,
    title="Kedastral alone decides, and there is no fallback.",
    why="When Kedastral answers with errors KEDA only holds what there is, even one pod.",
    remedy="add fallback with behavior: currentReplicasIfHigher",
)
def _no_fallback(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        if one.fallback is None and not one.others:
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
        if one.fallback is None or workload is None or _may_sleep_while_stale(one):
            continue
        if workload.stale.on_stale is OnStale.DEFAULT_MIN:
            words = f"{workload.key} is under on-stale default-min, which never answers with an error"
            yield Symptom(one.name, words, one.fallback.place)


@BOOK.rule(
    "fallback-for-every-trigger",
    Severity.WARNING,
    title="fallback stands beside a trigger of KEDA's own, such as prometheus.",
    why="When Prometheus fails it begins for that trigger, although the plan is still good: the plan can then "
    "only raise replicas, or is overruled.",
    remedy="leave fallback away, or that trigger: Kedastral serves what the newest load needs by itself",
)
def _fallback_for_all(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        if one.fallback is not None and one.others and not one.has_formula:
            kinds = ", ".join(dict.fromkeys(_kind_of(trigger) for trigger in one.others))
            yield Symptom(one.name, f"fallback begins for the {kinds} trigger as well", one.fallback.place)


def _kind_of(trigger: KedaTrigger) -> str:
    return trigger.kind if re.fullmatch(r"[a-z-]{1,40}", trigger.kind) else "other"


@BOOK.rule(
    "fallback-replicas",
    Severity.ERROR,
    title="fallback.replicas is 0, below minReplicaCount or above maxReplicaCount, or missing; or failureThreshold is.",
    why="With replicas: 0 an error is inactive to KEDA. A number out of bounds has no effect. KEDA refuses a "
    "fallback that lacks either.",
    remedy="set failureThreshold, and replicas between minReplicaCount and maxReplicaCount, above 0",
)
def _fallback_replicas(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        fallback = one.fallback
        if fallback is None:
            continue
        if fallback.replicas is None or fallback.threshold is None:
            missing = "replicas" if fallback.replicas is None else "failureThreshold"
            yield Symptom(one.name, f"fallback.{missing} is missing", fallback.place)
        if fallback.replicas is not None and fallback.replicas <= 0:
            yield Symptom(one.name, f"fallback.replicas is {fallback.replicas}", fallback.place)
        elif fallback.replicas is not None and _is_out_of_bounds(fallback.replicas, one):
            words = f"fallback.replicas is {fallback.replicas}, outside of {one.lowest} to {one.highest}"
            yield Symptom(one.name, words, fallback.place, milder=True)
        if fallback.threshold is not None and fallback.threshold < 0:
            yield Symptom(one.name, f"fallback.failureThreshold is {fallback.threshold}", fallback.place)


def _is_out_of_bounds(replicas: int, one: ScalingObject) -> bool:
    return one.lowest <= one.highest and not one.lowest <= replicas <= one.highest


@BOOK.rule(
    "fallback-takes-pods",
    Severity.WARNING,
    title="fallback.behavior is static, which is the default, or currentReplicasIfLower.",
    why="An error then scales to fallback.replicas, even if more pods run and are needed.",
    remedy="write behavior: currentReplicasIfHigher (KEDA 2.17)",
)
def _fallback_takes_pods(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        if one.fallback is not None and one.fallback.behavior not in TAKES_NO_PODS:
            words = f"fallback with behavior {_word(one.fallback.behavior)} may take pods that are needed"
            yield Symptom(one.name, words, one.fallback.place)


# Other triggers.


@BOOK.rule(
    "threshold-against-target",
    Severity.WARNING,
    title="A prometheus trigger on the same query has a threshold far from the target per pod.",
    why="The larger answer wins. Below 0.7 of the target the forecast seldom decides; above 1.5 pods are "
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
                yield Symptom(
                    one.name,
                    f"the threshold is {write_value(threshold)}, and {workload.key} has {write_value(target)} per pod",
                    other.place,
                    remedy=f"set threshold to about {write_value(round(target / 1.2, 1))}",
                )


def _number(text: str) -> float | None:
    try:
        found = float(text)
    except ValueError:
        return None
    return found if 0 < found < math.inf else None


def _asks_the_same(other: KedaTrigger, workload: WorkloadSettings) -> bool:
    """Whether a prometheus trigger asks the workload's own query, blanks aside; so it is assumed of one not known."""
    asked, known = other.metadata.get("query", ""), workload.query
    return not known or re.sub(r"\s+", "", asked) == re.sub(r"\s+", "", known)


@BOOK.rule(
    "cpu-without-requests",
    Severity.ERROR,
    title="A cpu or memory trigger by Utilization, and a container without that request.",
    why="Without a request on every container the HPA has no utilization, and never scales in.",
    remedy="give every container resources.requests for it",
)
def _without_requests(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        scalable = evidence.find_scalable(one)
        for trigger in one.triggers:
            if scalable is None or trigger.kind not in RESOURCE_TYPES or trigger.metric_type == "AverageValue":
                continue
            container = trigger.metadata.get("containerName")
            names = [name for name in scalable.without_requests[trigger.kind] if container in (None, name)]
            if names:
                words = f"{scalable.name} has no {trigger.kind} request on {', '.join(names[:5])}"
                yield Symptom(one.name, words, trigger.place)


# The whole.


@BOOK.rule(
    "two-on-one",
    Severity.ERROR,
    title="Two ScaledObjects, or one and an HPA of its own, scale the same Deployment.",
    why="Each sets the replicas every 15 s, so they flap. KEDA refuses a second ScaledObject, but no HPA that "
    "comes later.",
    remedy="keep one of them, with the triggers of both",
)
def _two_on_one(evidence: Evidence) -> Iterator[Symptom]:
    seen: dict[tuple[str, TargetRef], tuple[ObjectName, Place]] = {}
    ours = {evidence.full_name_of(one.name) for one in evidence.scaled_by_us}
    everyone: tuple[ScalingObject | PlainHpa, ...] = (*evidence.objects, *evidence.hpas)
    for one in everyone:
        if not one.target.name:
            continue
        name = evidence.full_name_of(one.name)
        first, place = seen.setdefault((name.namespace, one.target), (name, one.place))
        if first != name and {first, name} & ours:
            words = f"{first} ({place}) scales the same {one.target.kind} {one.target.name}"
            yield Symptom(one.name, words, one.place)


@BOOK.rule(
    "no-target",
    Severity.ERROR,
    title="scaleTargetRef names what is not there, or nothing.",
    why="KEDA scales nothing then. A missing Deployment is only looked for with --cluster.",
    remedy="name the Deployment of the same namespace, with its kind where it is another",
)
def _no_target(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        if not one.target.name:
            yield Symptom(one.name, "scaleTargetRef.name is missing", one.place)
            continue
        is_listed = evidence.lists_all_of(evidence.namespace_of(one.name)) and one.target.kind in SCALABLE_KINDS
        if is_listed and evidence.find_scalable(one) is None:
            yield Symptom(one.name, f"there is no {one.target.kind} {one.target.name}", one.place)


@BOOK.rule(
    "unknown-field",
    Severity.ERROR,
    title="spec of a ScaledObject, or a mapping in it, has a key that KEDA does not know.",
    why="The API server refuses it, or drops it without a word.",
    remedy="correct the name",
)
def _unknown_field(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        for path, line in one.unknown_keys.items():
            parent, _, key = path.rpartition(".")
            near = difflib.get_close_matches(key, KEYS_BELOW[parent], 1, 0.6) if parent in KEYS_BELOW else []
            words = f"{_shown_path(path)} is unknown" + (f"; did you mean {near[0]}?" if near else "")
            yield Symptom(one.name, words, Place(one.place.file, line))


@BOOK.rule(
    "no-whole-number",
    Severity.ERROR,
    title='A number of spec is text, or is not whole, such as maxReplicaCount: "10".',
    why="The API server refuses the object.",
    remedy="write a whole number, without quotes",
)
def _no_whole_number(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        for path, line in one.no_integers.items():
            yield Symptom(one.name, f"{_shown_path(path)} is no whole number", Place(one.place.file, line))


@BOOK.rule(
    "repeated-key",
    Severity.WARNING,
    title="A mapping of a ScaledObject has a key twice.",
    why="kubectl takes the last one without a word; other tools refuse the file.",
    remedy="keep one of them",
)
def _repeated_key(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        for path, line in one.repeated_keys.items():
            words = f"{_shown_path(path, '')} is there more than once, and the last one counts"
            yield Symptom(one.name, words, Place(one.place.file, line))


def _shown_path(path: str, root: str = "spec.") -> str:
    return root + ".".join(map(_shown_key, path.split(".")))


def _shown_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z]{1,40}", key) else "(a key)"


@BOOK.rule(
    "paused",
    Severity.WARNING,
    title="The ScaledObject is paused by an annotation.",
    why="KEDA scales nothing while autoscaling.keda.sh/paused or paused-replicas is there, one way only with "
    "paused-scale-out or paused-scale-in. To KEDA an empty value is true.",
    remedy="take the annotation away once the reason is gone",
)
def _paused(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        if "paused" in one.paused or "paused-replicas" in one.paused:
            yield Symptom(one.name, "it is paused, so that nobody scales it", one.place)
            continue
        for way, words in (("out", "no pod is ever added"), ("in", "pods are only ever added")):
            if f"paused-scale-{way}" in one.paused:
                yield Symptom(one.name, f"paused-scale-{way} is set: {words}", one.place)


@BOOK.rule(
    "keda-reports",
    Severity.ERROR,
    title="KEDA itself says in the status of a ScaledObject that it is not Ready.",
    why="There may be no HPA then, or one that gets no number. Looked for where there is a status, as with --cluster; "
    "a warning where some triggers work.",
    remedy="read KEDA's message and events, by kubectl describe scaledobject",
)
def _keda_reports(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        if one.not_ready:
            words = f"KEDA says that it is not Ready: {one.not_ready}"
            yield Symptom(one.name, words, one.place, milder=one.not_ready == PARTLY)
