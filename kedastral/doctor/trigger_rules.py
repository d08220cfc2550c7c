# SPDX-License-Identifier: Apache-2.0
"""Rules about a trigger for Kedastral: its object, its address, its metadata and the workload that it names."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

from kedastral.core.trigger import FROM_ENV, ObjectRef, plain_key
from kedastral.doctor.diagnosis import RuleBook, Severity, Symptom
from kedastral.doctor.evidence import (
    CLOCK_TYPES,
    DEFAULT_POLLING,
    OUR_TYPES,
    RESOURCE_TYPES,
    TLS_PAIR,
    TLS_PARAMETERS,
    Evidence,
    KedaTrigger,
    Place,
    ScalingObject,
    each_of_ours,
    is_observed,
    read_boolean,
)
from kedastral.doctor.ownership import address_key
from kedastral.doctor.scaled_objects import API_VERSION, SCALED_OBJECT
from kedastral.doctor.triggers import problems_of, read_address, ways_to_connect
from kedastral.doctor.words import fixed_word, kind_of, shown_key, shown_path, trigger_words, without_value
from kedastral.errors import BadTriggerError, UnknownWorkloadError
from kedastral.settings.metadata import BESIDE_METADATA, KEDA_KEYS, METADATA_KEYS, OWN_KEYS
from kedastral.settings.spelling import find_near
from kedastral.workloads.resolver import pick_workload

BOOK = RuleBook()
HTTP_PORT = ":8081"
SCALER_ADDRESS_FROM_ENV = "scalerAddress" + FROM_ENV
OF_RESOURCES = "write metricType: Utilization, or AverageValue, beside metadata"
BOOLEANS = ("enableTLS", "unsafeSsl")
MAX_NAMES_SHOWN = 3
IN_A_POLICY = (
    "observe without a trigger first: describe the workload in a ForecastPolicy with mode: observe, and remove the "
    "trigger; add it once two pods of Kedastral run"
)
_API_VERSION = re.compile(r"[a-z0-9.-]{1,40}/v[0-9][a-z0-9]{0,9}")


# The object that it belongs to.


@BOOK.rule(
    "not-a-scaled-object",
    Severity.ERROR,
    title="The kind or the apiVersion of an object with a Kedastral trigger is not that of a ScaledObject.",
    why="The API server refuses the object, or keeps it where no KEDA reads it: keda.k8s.io is the group of KEDA 1.",
    remedy=f"write apiVersion: {API_VERSION} and kind: {SCALED_OBJECT}",
)
def _kind_and_version(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        if one.kind != SCALED_OBJECT:
            yield Symptom(one.name, f"its kind is {fixed_word(one.kind)}, not {SCALED_OBJECT}", one.place)
        if one.api_version != API_VERSION:
            words = one.api_version if _API_VERSION.fullmatch(one.api_version) else "another"
            yield Symptom(one.name, f"its apiVersion is {words if one.api_version else 'missing'}", one.place)


@BOOK.rule(
    "scaled-job",
    Severity.ERROR,
    title="A ScaledJob has a Kedastral trigger.",
    why="Kedastral plans long-running pods. A ScaledJob would start that many jobs again and again.",
    remedy="scale a Deployment with a ScaledObject, or remove the trigger",
)
def _scaled_job(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.jobs:
        for trigger in one.ours:
            yield Symptom(one.name, f"{trigger_words(one, trigger)} plans pods, not jobs", trigger.place)


# The trigger.


@BOOK.rule(
    "metric-type-value",
    Severity.ERROR,
    title="The trigger, or its formula, has metricType Value.",
    why="The HPA then multiplies the answer by the number of pods: 10 on 10 pods asks for 100, up to the maximum.",
    remedy="write metricType: AverageValue, or leave it out: it is KEDA's default",
)
def _metric_type(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        for trigger in one.ours:
            # under a formula that of the formula counts, but Utilization is refused there, too
            if trigger.metric_type in ("", "AverageValue", *(("Value",) if one.has_formula else ())):
                continue
            kind = fixed_word(trigger.metric_type)
            refused = "" if trigger.metric_type == "Value" else ", which KEDA refuses for an external trigger"
            yield Symptom(one.name, f"{trigger_words(one, trigger)} has metricType {kind}{refused}", trigger.place)
        if one.formula is not None and one.formula.metric_type not in ("", "AverageValue"):
            kind = fixed_word(one.formula.metric_type)
            yield Symptom(one.name, f"scalingModifiers has metricType {kind}", one.formula.place)


@BOOK.rule(
    "scaler-address",
    Severity.ERROR,
    title="scalerAddress is missing, is not a host and port, has the port of HTTP, or leads elsewhere from KEDA's pod.",
    why="KEDA dials it as it is: without a port, with a scheme, or with the wrong port, the whole object fails. A name "
    "without a namespace is looked up in KEDA's own, and localhost is KEDA's own pod. KEDA does not read "
    "scalerAddressFromEnv.",
    remedy="write the Service and the gRPC port, such as kedastral.kedastral.svc.cluster.local:8080",
)
def _address_form(evidence: Evidence) -> Iterator[Symptom]:
    for one, trigger, _ in each_of_ours(evidence):
        address = trigger.address
        words = trigger_words(one, trigger)
        if not address:
            hint = ": KEDA does not read scalerAddressFromEnv" if SCALER_ADDRESS_FROM_ENV in trigger.metadata else ""
            yield Symptom(one.name, f"{words} has no scalerAddress{hint}", trigger.place)
        elif "://" in address and read_address(address) is None:
            yield Symptom(one.name, f"the scalerAddress of {words} has a scheme, such as http://", trigger.place)
        elif read_address(address) is None:
            yield Symptom(one.name, f"the scalerAddress of {words} is not host:port", trigger.place)
        elif address.endswith(HTTP_PORT):
            sentence = f"the scalerAddress of {words} has port 8081, where Kedastral speaks HTTP by default, not gRPC"
            yield Symptom(one.name, sentence, trigger.place, milder=True)
        elif address.partition(":")[0].lower() == "localhost":
            sentence = f"the scalerAddress of {words} is localhost, which is the pod of KEDA itself"
            yield Symptom(one.name, sentence, trigger.place)
        elif re.fullmatch(r"(dns:///)?[A-Za-z][A-Za-z0-9-]*:[0-9]+", address):
            sentence = f"the scalerAddress of {words} names no namespace, so that KEDA looks it up in its own"
            remedy = "write the namespace as well, as in kedastral.NAMESPACE.svc.cluster.local:8080"
            yield Symptom(one.name, sentence, trigger.place, remedy, milder=True)


@BOOK.rule(
    "scaler-unreachable",
    Severity.ERROR,
    title="Nothing speaks gRPC at scalerAddress, or only one side speaks TLS.",
    why="KEDA then fails the whole object: no other trigger scales out, and fallback does not begin. Checked with "
    "--check-addresses, from where the doctor runs.",
    remedy="compare the address with the Service of Kedastral, and enableTLS with --grpc-tls-cert-file",
)
def _address_answers(evidence: Evidence) -> Iterator[Symptom]:
    for one, trigger, _ in each_of_ours(evidence):
        tried = [(trigger.address, tls) for tls in ways_to_connect(evidence, one, trigger)]
        problems = [evidence.addresses[way].problem for way in tried if way in evidence.addresses]
        if problems and all(problems):
            yield Symptom(one.name, f"{trigger.address}: {problems[0]}", trigger.place)


@BOOK.rule(
    "unsafe-tls",
    Severity.WARNING,
    title="unsafeSsl is true.",
    why="KEDA then trusts whoever answers in Kedastral's place.",
    remedy="remove unsafeSsl, and set caCert in a TriggerAuthentication",
)
def _unsafe_tls(evidence: Evidence) -> Iterator[Symptom]:
    for one, trigger, _ in each_of_ours(evidence):
        if read_boolean(trigger.metadata.get("unsafeSsl", "")):
            yield Symptom(one.name, f"{trigger_words(one, trigger)} verifies no certificate", trigger.place)


@BOOK.rule(
    "tls-metadata",
    Severity.ERROR,
    title="KEDA does not read a key about TLS in the trigger's metadata or authentication, or refuses its value.",
    why="KEDA then connects without TLS or without a certificate, or refuses the trigger. caCert, tlsClientCert and "
    "tlsClientKey belong in a TriggerAuthentication; tlsCertFile went with KEDA 2.17, which brought enableTLS.",
    remedy='write enableTLS: "true", and certificates into a TriggerAuthentication that authenticationRef names',
)
def _tls_metadata(evidence: Evidence) -> Iterator[Symptom]:
    for one, trigger, _ in each_of_ours(evidence):
        words = trigger_words(one, trigger)
        for key in BOOLEANS:
            if read_boolean(trigger.metadata.get(key, "")) is None:
                yield Symptom(one.name, f"{words}: {key} must be true or false", trigger.place)
            if key + FROM_ENV in trigger.metadata:
                yield Symptom(one.name, f"{words}: KEDA does not read {key}{FROM_ENV}", trigger.place)
        for key in TLS_PARAMETERS:
            if key in trigger.metadata or key + FROM_ENV in trigger.metadata:
                sentence = f"{words}: KEDA reads {key} only from a TriggerAuthentication"
                yield Symptom(one.name, sentence, trigger.place)
        if "tlsCertFile" in trigger.metadata:
            yield Symptom(one.name, f"{words}: KEDA 2.17 and later do not read tlsCertFile", trigger.place)
        given = evidence.parameters_of(trigger, one)
        if given is not None and trigger.authentication:
            yield from (
                Symptom(one.name, f"{words}: {problem}", trigger.place, "correct the parameters of the authentication")
                for problem in _wrong_parameters(given)
            )


def _wrong_parameters(given: Sequence[str]) -> Iterator[str]:
    """What is wrong with the parameters that an authentication gives an external trigger."""
    if not {*given} & {*TLS_PARAMETERS}:
        yield f"its authentication gives none of what KEDA reads for it, which is {', '.join(TLS_PARAMETERS)}"
    first, second = TLS_PAIR
    for one, other in ((first, second), (second, first)):
        if one in given and other not in given:
            yield f"its authentication gives {one} without {other}, so that KEDA shows no certificate"


@BOOK.rule(
    "refused-trigger",
    Severity.ERROR,
    title="KEDA refuses a trigger: its type is unknown, two have the same name, a cpu or memory trigger has no valid "
    "metricType, or useCachedMetrics is set for cpu, memory or cron.",
    why="One such trigger stops the whole object. KEDA 2.18 no longer reads the type of a cpu or memory trigger from "
    "its metadata.",
    remedy="correct it: type external or external-push, names that differ, metricType Utilization or AverageValue",
)
def _refused_trigger(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        for number, trigger in enumerate(one.triggers):
            words = trigger_words(one, trigger)
            if trigger.is_external and trigger.kind not in OUR_TYPES:
                given = f"its type is {fixed_word(trigger.kind)}" if trigger.kind else "it has no type"
                sentence = f"trigger {number + 1} has a scalerAddress, but {given}"
                yield Symptom(one.name, sentence, trigger.place, "write type: external-push, or external")
            if trigger.name and trigger.name in (other.name for other in one.triggers[:number]):
                sentence = f"{words} has the name of another trigger"
                yield Symptom(one.name, sentence, trigger.place, "give each trigger its own name")
            if trigger.is_cached and trigger.kind in (*RESOURCE_TYPES, *CLOCK_TYPES):
                yield Symptom(one.name, f"{words} has useCachedMetrics", trigger.place, "remove it there")
            wrong = _wrong_metric_type(trigger) if trigger.kind in RESOURCE_TYPES else ""
            if wrong:
                yield Symptom(one.name, f"{words} has {wrong}", trigger.place, OF_RESOURCES)


def _wrong_metric_type(trigger: KedaTrigger) -> str:
    """What is wrong with the metricType of a cpu or memory trigger; empty if nothing is."""
    if trigger.metric_type not in ("", "Utilization", "AverageValue"):
        return f"metricType {fixed_word(trigger.metric_type)}"
    if "type" in trigger.metadata:
        return "type in its metadata, which KEDA 2.18 and later refuse"
    return "" if trigger.metric_type else "no metricType"


@BOOK.rule(
    "cached-metrics",
    Severity.WARNING,
    title="The trigger has useCachedMetrics.",
    why="KEDA then answers the HPA with what the last poll gave, up to pollingInterval ago: that much of the lead time "
    "is lost. Kedastral answers from memory, and needs no cache.",
    remedy="remove useCachedMetrics from Kedastral's trigger",
)
def _cached_metrics(evidence: Evidence) -> Iterator[Symptom]:
    for one, trigger, _ in each_of_ours(evidence):
        if trigger.is_cached:
            age = one.polling or DEFAULT_POLLING
            yield Symptom(one.name, f"{trigger_words(one, trigger)}: answers are up to {age} s old", trigger.place)


@BOOK.rule(
    "metadata-not-text",
    Severity.ERROR,
    title="A value of trigger metadata, or another one that must be text, is not text.",
    why="The API server refuses the object.",
    remedy='quote it, as in targetPerPod: "50" or target: "1"',
)
def _metadata_text(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        for trigger in one.triggers:  # KEDA's own too: a single such value makes it refuse the whole object
            if trigger.not_text:
                keys = ", ".join(map(shown_key, trigger.not_text[:5]))
                words = f"{trigger_words(one, trigger)} has values that are empty or without quotes: {keys}"
                yield Symptom(one.name, words, trigger.place)
        for path, line in one.no_texts.items():
            yield Symptom(one.name, f"{shown_path(path)} is not text", Place(one.place.file, line))


@BOOK.rule(
    "bad-metadata",
    Severity.ERROR,
    title="Kedastral refuses the trigger metadata: an unknown key, or a value that cannot be used.",
    why="The scaler answers INVALID_ARGUMENT, and KEDA holds the replicas it has.",
    remedy="correct the metadata as the message says; docs/configuration.md lists the keys",
)
def _bad_metadata(evidence: Evidence) -> Iterator[Symptom]:
    for one, trigger, _ in each_of_ours(evidence):
        for problem in problems_of(evidence, one, trigger):
            words = without_value(problem.removeprefix("trigger metadata: "))
            yield Symptom(one.name, f"{trigger_words(one, trigger)}: {words}", trigger.place)


@BOOK.rule(
    "ignored-metadata",
    Severity.WARNING,
    title="A key of trigger metadata has no effect.",
    why="A trigger with workload and without a query uses a configured workload; these keys are not read.",
    remedy="remove it, correct its name, or set it where the workload is configured",
)
def _ignored_metadata(evidence: Evidence) -> Iterator[Symptom]:
    for one, trigger, _ in each_of_ours(evidence):
        if trigger.describes_workload:
            continue
        for given in trigger.metadata:
            key = plain_key(given)
            if key in KEDA_KEYS or key in ("workload", "activation"):
                continue
            words = f"{trigger_words(one, trigger)}: {shown_key(given)}"
            if key in BESIDE_METADATA:
                yield Symptom(
                    one.name, f"{words} belongs beside metadata, next to type", trigger.place, "move it there"
                )
            elif key in METADATA_KEYS or key in OWN_KEYS:
                yield Symptom(one.name, f"{words} is not read with a configured workload", trigger.place)
            else:
                near = find_near(key, (*METADATA_KEYS, *OWN_KEYS, *KEDA_KEYS))
                hint = f"; did you mean {near}?" if near else ""
                yield Symptom(one.name, f"{words} is unknown{hint}", trigger.place)


# The workload.


@BOOK.rule(
    "unknown-workload",
    Severity.ERROR,
    title="The trigger names a workload that is not configured, or names none although there are several.",
    why="The scaler answers NOT_FOUND or INVALID_ARGUMENT, and KEDA holds. Checked with --config, --workload or --url.",
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
            near = _meant(trigger, one, ref.namespace, names)
            hint = f"; did you mean {near}?" if near and "there is" not in str(error).partition(";")[2] else ""
            words = str(error).replace(" here", "")
            yield Symptom(one.name, f"{trigger_words(one, trigger)}: {words}{hint}", trigger.place)


@BOOK.rule(
    "no-workload",
    Severity.ERROR,
    title="The trigger names no workload, and nothing tells the doctor which ones are configured.",
    why="That works only while exactly one is configured, or with a split scaler that has a --workload: otherwise the "
    "scaler answers INVALID_ARGUMENT, and KEDA holds. A warning unless other triggers for the same scalerAddress name "
    "several workloads.",
    remedy="write workload: NAME in the trigger's metadata, or give the doctor --config, --workload or --url",
)
def _no_workload(evidence: Evidence) -> Iterator[Symptom]:
    if evidence.workloads is not None:  # then it is unknown-workload that judges
        return
    at = defaultdict[str, list[tuple[ScalingObject, KedaTrigger]]](list)
    for one, trigger, _ in each_of_ours(evidence):
        if _has_workload(trigger):
            at[address_key(trigger.address)].append((one, trigger))
    for one, trigger, _ in each_of_ours(evidence):
        if _has_workload(trigger):
            continue
        others = at[address_key(trigger.address)]
        names = _named_by(evidence, others)
        words, several = f"{trigger_words(one, trigger)} names no workload", _are_several(others)
        if several:
            words += f", and other triggers for the same address name {', '.join(names[:MAX_NAMES_SHOWN])}"
        name = one.target.name or one.name.name or "NAME"
        remedy = (
            f"write workload: {name} in the trigger's metadata, if Kedastral has it under that name; to check what it "
            "has, give the doctor --config, --workload or --url"
        )
        yield Symptom(one.name, words, trigger.place, remedy, milder=not several)


def _has_workload(trigger: KedaTrigger) -> bool:
    """Whether it names or describes a workload."""
    return bool(trigger.workload) or trigger.workload_is_hidden or trigger.describes_workload


def _named_by(evidence: Evidence, triggers: Sequence[tuple[ScalingObject, KedaTrigger]]) -> Sequence[str]:
    """The configured workloads that ``triggers`` name, in full if their namespace is known."""
    found = (
        (evidence.namespace_of(one.name), trigger.workload)
        for one, trigger in triggers
        if trigger.workload and not trigger.describes_workload
    )
    names = (name if "/" in name or not namespace else f"{namespace}/{name}" for namespace, name in found)
    return list(dict.fromkeys(names))


def _are_several(triggers: Sequence[tuple[ScalingObject, KedaTrigger]]) -> bool:
    """Whether ``triggers`` surely name several configured workloads: in all namespaces a bare name may mean the same
    one."""
    names = {trigger.workload for _, trigger in triggers if trigger.workload and not trigger.describes_workload}
    in_full = {name for name in names if "/" in name}
    bare = names - in_full - {name.rpartition("/")[2] for name in in_full}
    return len(in_full) + len(bare) > 1


def _meant(trigger: KedaTrigger, one: ScalingObject, namespace: str, names: Sequence[str]) -> str | None:
    """The workload that a trigger probably means; one that names none means that of its Deployment or its object."""
    if trigger.workload:
        return find_near(trigger.workload, names) or find_near(f"{namespace}/{trigger.workload}", names)
    return next(
        (key for key in (f"{namespace}/{name}" for name in (one.target.name, one.name.name)) if key in names), None
    )


@BOOK.rule(
    "observe-alone",
    Severity.ERROR,
    title="A workload in mode observe has no trigger besides Kedastral's, or only cron.",
    why="KEDA is told 0 in that mode: without another trigger the Deployment goes to its minimum, and with only cpu or "
    "memory to zero if it may, because to KEDA these are not active. A warning with cron alone: it reads no load, and "
    "outside of its hours there is only the minimum.",
    remedy="add a trigger that reads the load, or set mode: scale; to observe, no ScaledObject is needed",
)
def _observe_alone(evidence: Evidence) -> Iterator[Symptom]:
    for one, trigger, workload in each_of_ours(evidence):
        if workload is None or not is_observed(workload):
            continue
        others = _beside_ours(one)
        if not others:
            yield Symptom(one.name, f"{workload.key} is in mode observe, and no other trigger decides", trigger.place)
        elif _read_no_load(others):
            least = "zero" if one.may_sleep else f"its minimum of {max(one.lowest, 1)}"
            words = f"{workload.key} is in mode observe, and outside of the hours of cron it goes to {least}"
            yield Symptom(one.name, words, trigger.place, milder=True)
        elif _keep_no_pod(one, others):
            kinds = " or ".join(dict.fromkeys(kind_of(other) for other in others if other.kind in RESOURCE_TYPES))
            is_scheduled = any(other.kind in CLOCK_TYPES for other in others)
            when = "outside of the hours of cron " if is_scheduled else ""
            words = f"{workload.key} is in mode observe, and {when}{kinds} alone keeps no pod from being scaled to zero"
            remedy = "set a minReplicaCount above 0, or mode: scale"
            yield Symptom(one.name, words, trigger.place, remedy, milder=is_scheduled)


def _read_no_load(triggers: Sequence[KedaTrigger]) -> bool:
    return all(trigger.kind in CLOCK_TYPES for trigger in triggers)


def _beside_ours(one: ScalingObject) -> Sequence[KedaTrigger]:
    """The triggers that are not for Kedastral."""
    return [other for other in one.triggers if other not in one.ours]


def _keep_no_pod(one: ScalingObject, others: Sequence[KedaTrigger]) -> bool:
    return one.may_sleep and all(other.kind in (*RESOURCE_TYPES, *CLOCK_TYPES) for other in others)


@BOOK.rule(
    "observe-with-trigger",
    Severity.WARNING,
    title="A workload in mode observe has a trigger on an object that other triggers scale.",
    why="While Kedastral cannot be reached, the object's other triggers stop, and fallback does not begin: KEDA holds "
    "the replicas, even in a rush. Observing needs no trigger. An info if only cpu or memory is beside it: these still "
    "scale out, but not in.",
    remedy="observe without a trigger first: remove it, and leave mode: observe in the ForecastPolicy; add it once two "
    "pods of Kedastral run",
)
def _observe_with_trigger(evidence: Evidence) -> Iterator[Symptom]:
    for one, trigger, workload in each_of_ours(evidence):
        others = _beside_ours(one)
        is_alone = _read_no_load(others) or _keep_no_pod(one, others)
        if workload is None or not is_observed(workload) or is_alone:
            continue  # which is worse, by the rule before
        stopped = [other for other in others if other.kind not in RESOURCE_TYPES]
        named = [trigger_words(one, other) for other in stopped or others]
        verb = "scales" if len(named) == 1 else "scale"
        words = (
            f"{workload.key} is in mode observe, and while Kedastral cannot be reached "
            f"{' and '.join(named[:MAX_NAMES_SHOWN])} no longer {verb}{'' if stopped else ' in'}"
        )
        remedy = IN_A_POLICY if trigger.describes_workload else ""
        yield Symptom(one.name, words, trigger.place, remedy, milder=not stopped)
