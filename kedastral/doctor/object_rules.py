# SPDX-License-Identifier: Apache-2.0
"""Rules about a ScaledObject as a whole: its target, its fields, and what KEDA says about it."""

import difflib
from collections.abc import Iterator

from kedastral.doctor.diagnosis import RuleBook, Severity, Symptom
from kedastral.doctor.evidence import Evidence, ObjectName, Place, PlainHpa, ScalingObject, TargetRef
from kedastral.doctor.scaled_objects import KEYS_BELOW
from kedastral.doctor.words import fixed_word, shown_path
from kedastral.settings.spelling import find_near

BOOK = RuleBook()
APPS_KINDS = ("Deployment", "StatefulSet", "ReplicaSet")
"""What apps/v1 has, the default of ``apiVersion``, that can be scaled."""
OLD_GROUPS = ("", "extensions")
LISTED = (("apps", "Deployment"), ("apps", "StatefulSet"))
"""Group and kind of what is listed in a cluster."""
STDIN_FILE = "stdin"
"""The name of what is piped in, which is mostly what ``kubectl get`` prints."""
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
        if isinstance(one, PlainHpa) and _is_taken_over(evidence, one):
            continue
        name = evidence.full_name_of(one.name)
        first, place = seen.setdefault((name.namespace, one.target), (name, one.place))
        if first != name and {first, name} & ours:
            words = f"{first} ({place}) scales the same {one.target.kind} {one.target.name}"
            yield Symptom(one.name, words, one.place)


def _is_taken_over(evidence: Evidence, hpa: PlainHpa) -> bool:
    """Whether an annotation makes KEDA take over an HPA, instead of a second one."""
    namespace = evidence.namespace_of(hpa.name)
    return any(
        one.takes_over and one.hpa_name == hpa.name.name and evidence.namespace_of(one.name) == namespace
        for one in evidence.objects
    )


@BOOK.rule(
    "same-object-twice",
    Severity.WARNING,
    title="Two manifests describe the same ScaledObject.",
    why="kubectl apply on the folder takes both, one after the other, and only the last one stays. An info if they are "
    "in different folders, which may be for different clusters.",
    remedy="keep one of them, or give each its own name",
)
def _same_object_twice(evidence: Evidence) -> Iterator[Symptom]:
    seen: dict[ObjectName, list[Place]] = {}
    ours = {evidence.full_name_of(one.name) for one in evidence.scaled_by_us}
    for one in evidence.objects:
        name = evidence.full_name_of(one.name)
        if name not in ours or not name.name:
            continue
        before = seen.setdefault(name, [])
        other = next((place for place in before if _are_both_applied(place, one.place)), None)
        if other is not None:
            words = f"{other} has it, too: of both only the one that is applied last stays"
            yield Symptom(one.name, words, one.place, milder=_folder_of(other) != _folder_of(one.place))
        before.append(one.place)


def _are_both_applied(one: Place, other: Place) -> bool:
    """Whether both are manifests of one set, and not one of them what a cluster has by now."""
    return one.file == other.file or not any(_is_live(place) for place in (one, other))


def _is_live(place: Place) -> bool:
    return not place.line or place.file == STDIN_FILE


def _folder_of(place: Place) -> str:
    return place.file.replace("\\", "/").rpartition("/")[0]


@BOOK.rule(
    "no-target",
    Severity.ERROR,
    title="scaleTargetRef names something that does not exist, or nothing.",
    why="KEDA then scales nothing. Without apiVersion it looks for the kind in apps/v1. Whether the Deployment exists "
    "is checked with --cluster; without, it is a warning if the name of one that is given is nearly the same.",
    remedy="name a Deployment of the same namespace, or another workload with its kind",
)
def _no_target(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        if not one.target.name:
            yield Symptom(one.name, "scaleTargetRef.name is missing", one.place)
            continue
        kind, group = one.target.kind, one.target.group
        if group in OLD_GROUPS and kind in APPS_KINDS:
            words = f"scaleTargetRef: a {kind} has apiVersion apps/v1, and no longer another one"
            yield Symptom(one.name, words, one.place, "write apiVersion: apps/v1, or leave it out")
            continue
        if group == "apps" and kind not in APPS_KINDS:
            words = f"scaleTargetRef.kind is {fixed_word(kind)}, and apps/v1, the default, has none that can be scaled"
            remedy = "correct the kind, or write its apiVersion, such as argoproj.io/v1alpha1 for a Rollout"
            yield Symptom(one.name, words, one.place, remedy)
            continue
        if evidence.find_scalable(one) is not None:
            continue
        near = _find_near_target(evidence, one)
        if (group, kind) in LISTED and evidence.lists_all_of(evidence.namespace_of(one.name)):
            hint = f"; did you mean {near}?" if near else ""
            yield Symptom(one.name, f"there is no {kind} {one.target.name}{hint}", one.place)
        elif near:
            words = f"what you gave has no {kind} {one.target.name}, but {kind} {near}; did you mean that?"
            yield Symptom(one.name, words, one.place, milder=True)


def _find_near_target(evidence: Evidence, one: ScalingObject) -> str | None:
    """The known Deployment, or similar, whose name is near that of the target, and which nothing else scales."""
    namespace = evidence.namespace_of(one.name)
    everyone: tuple[ScalingObject | PlainHpa, ...] = (*evidence.objects, *evidence.hpas)
    scaled = {(evidence.namespace_of(other.name), other.target.kind, other.target.name) for other in everyone}
    free = [
        scalable.name.name
        for scalable in evidence.scalables
        if (scalable.name.kind, evidence.namespace_of(scalable.name)) == (one.target.kind, namespace)
        and (namespace, scalable.name.kind, scalable.name.name) not in scaled
    ]
    return find_near(one.target.name, free)


@BOOK.rule(
    "replicas-in-manifest",
    Severity.WARNING,
    title="The manifest of the Deployment sets replicas, too.",
    why="Each kubectl apply, helm upgrade or sync sets that number again, in the middle of a rush, too.",
    remedy="remove replicas from the manifest, or let your tool ignore it; before kubectl apply, remove it with "
    "kubectl apply edit-last-applied, too, or there is one pod for a moment",
)
def _replicas_in_manifest(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        scalable = evidence.find_scalable(one)
        if scalable is not None and scalable.replicas is not None:
            yield Symptom(one.name, f"{scalable.name} sets replicas: {scalable.replicas}", scalable.place)


@BOOK.rule(
    "one-by-one",
    Severity.WARNING,
    title="A StatefulSet starts its pods one after the other.",
    why="Each pod waits until the one before it is Ready: ten pods that are ordered at once take ten times as long. "
    "The lead time is about one.",
    remedy="set podManagementPolicy: Parallel, for which the StatefulSet has to be created anew, or a longer lead time",
)
def _one_by_one(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        scalable = evidence.find_scalable(one)
        if scalable is not None and scalable.is_ordered and one.highest > one.lowest + 1:
            yield Symptom(one.name, f"{scalable.name} starts its pods one after the other", scalable.place)


@BOOK.rule(
    "refused-behavior",
    Severity.ERROR,
    title="behavior has a value that Kubernetes refuses.",
    why="KEDA takes most of them, and then can make no HPA: nothing scales.",
    remedy="correct the value as the message says",
)
def _refused_behavior(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        for path, (must, line) in one.refused.items():
            if path not in one.no_integers:
                yield Symptom(one.name, f"{shown_path(path)} {must}", Place(one.place.file, line))


@BOOK.rule(
    "unknown-field",
    Severity.ERROR,
    title="spec of a ScaledObject, or a mapping in it, has a key that KEDA does not know.",
    why="The API server refuses it, or drops it silently.",
    remedy="correct the name",
)
def _unknown_field(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        if one.misplaced is not None:
            path, line = one.misplaced
            words = f"{shown_path(path, '')} is not where KEDA reads triggers"
            yield Symptom(one.name, words, Place(one.place.file, line), "move them to spec.triggers")
        for path, line in one.unknown_keys.items():
            if one.misplaced is not None and f"spec.{path}" == one.misplaced[0]:
                continue
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
    title="KEDA itself says in the status of a ScaledObject that it is not Ready, or that its fallback is active.",
    why="Then there may be no HPA, or one that gets no number. Checked if there is a status, as with --cluster; a "
    "warning if some triggers work.",
    remedy="read KEDA's message and events, with kubectl describe scaledobject",
)
def _keda_reports(evidence: Evidence) -> Iterator[Symptom]:
    for one in evidence.scaled_by_us:
        if one.not_ready:
            words = f"KEDA says that it is not Ready: {one.not_ready}"
            yield Symptom(one.name, words, one.place, milder=one.not_ready == PARTLY)
        elif one.is_in_fallback:
            yield Symptom(one.name, "KEDA says that its fallback is active: a trigger fails", one.place)
