# SPDX-License-Identifier: Apache-2.0
"""Rules about a ScaledObject as a whole: its target, its fields, and what KEDA says about it."""

import difflib
from collections.abc import Iterator

from kedastral.doctor.diagnosis import RuleBook, Severity, Symptom
from kedastral.doctor.evidence import Evidence, ObjectName, Place, PlainHpa, ScalingObject, TargetRef
from kedastral.doctor.manifests import KEYS_BELOW
from kedastral.doctor.words import shown_path

BOOK = RuleBook()
SCALABLE_KINDS = ("Deployment", "StatefulSet")
PARTLY = "PartialTriggerError"
"""KEDA's reason if some triggers fail and others work."""


@BOOK.rule(
    "two-on-one",
    Severity.ERROR,
    title="Two ScaledObjects, or a ScaledObject and a separate HPA, scale the same Deployment.",
    why="Each sets the replicas every 15 s, so the number flaps. KEDA refuses a second ScaledObject, but not an HPA "
    "that is added later.",
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
    title="scaleTargetRef names something that does not exist, or nothing.",
    why="KEDA then scales nothing. Whether the Deployment exists is checked with --cluster.",
    remedy="name a Deployment of the same namespace, or another workload with its kind",
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
    why="The API server refuses it, or drops it silently.",
    remedy="correct the name",
)
def _unknown_field(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        for path, line in one.unknown_keys.items():
            parent, _, key = path.rpartition(".")
            near = difflib.get_close_matches(key, KEYS_BELOW[parent], 1, 0.6) if parent in KEYS_BELOW else []
            words = f"{shown_path(path)} is unknown" + (f"; did you mean {near[0]}?" if near else "")
            yield Symptom(one.name, words, Place(one.place.file, line))


@BOOK.rule(
    "no-whole-number",
    Severity.ERROR,
    title='A number in spec is text, or is not whole, such as maxReplicaCount: "10".',
    why="The API server refuses the object.",
    remedy="write a whole number, without quotes",
)
def _no_whole_number(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        for path, line in one.no_integers.items():
            yield Symptom(one.name, f"{shown_path(path)} is not a whole number", Place(one.place.file, line))


@BOOK.rule(
    "repeated-key",
    Severity.WARNING,
    title="A mapping of a ScaledObject has a key twice.",
    why="kubectl silently takes the last one; other tools refuse the file.",
    remedy="keep one of them",
)
def _repeated_key(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        for path, line in one.repeated_keys.items():
            words = f"{shown_path(path, '')} appears more than once, and the last one counts"
            yield Symptom(one.name, words, Place(one.place.file, line))


@BOOK.rule(
    "paused",
    Severity.WARNING,
    title="The ScaledObject is paused by an annotation.",
    why="KEDA scales nothing while autoscaling.keda.sh/paused or paused-replicas is set; with paused-scale-out or "
    "paused-scale-in it scales only one way. To KEDA an empty value is true.",
    remedy="remove the annotation once its reason no longer applies",
)
def _paused(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        if "paused" in one.paused or "paused-replicas" in one.paused:
            yield Symptom(one.name, "it is paused, so that nothing scales it", one.place)
            continue
        for way, words in (("out", "no pod is ever added"), ("in", "pods are only ever added")):
            if f"paused-scale-{way}" in one.paused:
                yield Symptom(one.name, f"paused-scale-{way} is set: {words}", one.place)


@BOOK.rule(
    "keda-reports",
    Severity.ERROR,
    title="KEDA itself says in the status of a ScaledObject that it is not Ready.",
    why="Then there may be no HPA, or one that gets no number. Checked if there is a status, as with --cluster; a "
    "warning if some triggers work.",
    remedy="read KEDA's message and events, with kubectl describe scaledobject",
)
def _keda_reports(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        if one.not_ready:
            words = f"KEDA says that it is not Ready: {one.not_ready}"
            yield Symptom(one.name, words, one.place, milder=one.not_ready == PARTLY)
