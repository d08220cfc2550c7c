# SPDX-License-Identifier: Apache-2.0
"""Rules about a trigger for Kedastral: its object, its address, its metadata and the workload that it names."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

from kedastral.core.serving import Mode
from kedastral.core.trigger import ObjectRef, plain_key
from kedastral.doctor.diagnosis import RuleBook, Severity, Symptom
from kedastral.doctor.evidence import Evidence, KedaTrigger, ScalingObject, each_of_ours
from kedastral.doctor.manifests import API_VERSION, SCALED_OBJECT
from kedastral.doctor.ownership import address_key
from kedastral.doctor.triggers import is_named_by_variable, problems_of, read_address
from kedastral.doctor.words import fixed_word, shown_key, trigger_words, without_value
from kedastral.errors import BadTriggerError, UnknownWorkloadError
from kedastral.settings.metadata import KEDA_KEYS, METADATA_KEYS, OWN_KEYS
from kedastral.settings.spelling import find_near
from kedastral.workloads.resolver import pick_workload

BOOK = RuleBook()
HTTP_PORT = ":8081"
MAX_NAMES_SHOWN = 3
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
            if trigger.metric_type not in ("", "AverageValue"):
                kind = fixed_word(trigger.metric_type)
                yield Symptom(one.name, f"{trigger_words(one, trigger)} has metricType {kind}", trigger.place)
        if one.has_formula and one.formula_type not in ("", "AverageValue"):
            kind = fixed_word(one.formula_type)
            yield Symptom(one.name, f"scalingModifiers has metricType {kind}", one.place)


@BOOK.rule(
    "scaler-address",
    Severity.ERROR,
    title="scalerAddress is missing, is not a host and port, or has the port of HTTP.",
    why="KEDA dials it as it is: without a port, with a scheme, or with the wrong port, the whole object fails.",
    remedy="write the Service and the gRPC port, such as kedastral.kedastral.svc.cluster.local:8080",
)
def _address_form(evidence: Evidence) -> Iterator[Symptom]:
    for one, trigger, _ in each_of_ours(evidence):
        if is_named_by_variable(trigger, "scalerAddress"):
            continue
        address = trigger.address
        words = trigger_words(one, trigger)
        if not address:
            yield Symptom(one.name, f"{words} has no scalerAddress", trigger.place)
        elif "://" in address:
            yield Symptom(one.name, f"the scalerAddress of {words} has a scheme, such as http://", trigger.place)
        elif read_address(address) is None:
            yield Symptom(one.name, f"the scalerAddress of {words} is not host:port", trigger.place)
        elif address.endswith(HTTP_PORT):
            sentence = f"the scalerAddress of {words} has port 8081, where Kedastral speaks HTTP by default, not gRPC"
            yield Symptom(one.name, sentence, trigger.place, milder=True)


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
        answer = evidence.addresses.get((trigger.address, trigger.wants_tls))
        if answer is not None and answer.problem:
            yield Symptom(one.name, f"{trigger.address}: {answer.problem}", trigger.place)


@BOOK.rule(
    "unsafe-tls",
    Severity.WARNING,
    title="unsafeSsl is true.",
    why="KEDA then trusts whoever answers in Kedastral's place.",
    remedy="remove unsafeSsl, and set caCert in a TriggerAuthentication",
)
def _unsafe_tls(evidence: Evidence) -> Iterator[Symptom]:
    for one, trigger, _ in each_of_ours(evidence):
        if trigger.metadata.get("unsafeSsl", "").strip().lower() == "true":
            yield Symptom(one.name, f"{trigger_words(one, trigger)} verifies no certificate", trigger.place)


@BOOK.rule(
    "metadata-not-text",
    Severity.ERROR,
    title="A value of trigger metadata is not text.",
    why="The API server refuses the object.",
    remedy='quote it, as in targetPerPod: "50"',
)
def _metadata_text(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        for trigger in one.triggers:  # KEDA's own too: a single such value makes it refuse the whole object
            if trigger.not_text:
                keys = ", ".join(map(shown_key, trigger.not_text[:5]))
                words = f"{trigger_words(one, trigger)} has values without quotes: {keys}"
                yield Symptom(one.name, words, trigger.place)


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
            if key in METADATA_KEYS or key in OWN_KEYS:
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
    title="A workload in mode observe has no trigger besides Kedastral's.",
    why="KEDA is told 0 in that mode: without another trigger the Deployment goes to its minimum.",
    remedy="add a reactive trigger, or set mode: scale",
)
def _observe_alone(evidence: Evidence) -> Iterator[Symptom]:
    for one, trigger, workload in each_of_ours(evidence):
        if workload is not None and workload.serving.mode is Mode.OBSERVE and len(one.ours) == len(one.triggers):
            yield Symptom(one.name, f"{workload.key} is in mode observe, and no other trigger decides", trigger.place)
