# SPDX-License-Identifier: Apache-2.0
"""Reads manifests: turns YAML or JSON with ScaledObjects, HPAs, Deployments and Pods into the values of the evidence.

Everything else in them is ignored, and Secrets and environments of containers are never read.
"""

import codecs
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

import attrs

from kedastral.doctor.evidence import (
    KedaFallback,
    KedaTrigger,
    ObjectName,
    Place,
    PlainHpa,
    PodStart,
    Scalable,
    ScalingObject,
    TargetRef,
    Unread,
)
from kedastral.doctor.ownership import PRODUCT
from kedastral.settings.yaml import Kind, Node, Rows, Scalar, Table, YamlError, read_documents
from kedastral.simulation.hpa import HpaBehavior, RateKind, RatePolicy, ScalingRules, SelectPolicy
from kedastral.wire import JsonValue

MAX_DEPTH = 60
"""How deep a manifest may be nested: CustomResourceDefinitions are deep."""
MAX_NODES = 20_000_000
"""The most values of one input; a cluster's list of ten thousand pods has a tenth of that."""
PREFIX = "autoscaling.keda.sh/"
PAUSES = ("paused", "paused-replicas", "paused-scale-out", "paused-scale-in")
FALSE = ("0", "f", "F", "false", "FALSE", "False")
"""What Go's ``strconv.ParseBool`` accepts as false."""
SPEC_KEYS = frozenset(
    {
        "scaleTargetRef", "pollingInterval", "initialCooldownPeriod", "cooldownPeriod", "idleReplicaCount",
        "minReplicaCount", "maxReplicaCount", "advanced", "triggers", "fallback",
    }
)  # fmt: skip
"""The keys allowed in ``spec`` of a ScaledObject (KEDA 2.21)."""
_RULES_KEYS = frozenset({"stabilizationWindowSeconds", "selectPolicy", "policies", "tolerance"})
_HPA, _BEHAVIOR = "advanced.horizontalPodAutoscalerConfig", "advanced.horizontalPodAutoscalerConfig.behavior"
KEYS_BELOW: Mapping[str, frozenset[str]] = {
    "": SPEC_KEYS,
    "scaleTargetRef": frozenset({"apiVersion", "kind", "name", "envSourceContainerName"}),
    "fallback": frozenset({"failureThreshold", "replicas", "behavior"}),
    "advanced": frozenset({"horizontalPodAutoscalerConfig", "restoreToOriginalReplicaCount", "scalingModifiers"}),
    "advanced.scalingModifiers": frozenset({"formula", "target", "activationTarget", "metricType"}),
    _HPA: frozenset({"behavior", "name"}),
    _BEHAVIOR: frozenset({"scaleUp", "scaleDown"}),
    f"{_BEHAVIOR}.scaleUp": _RULES_KEYS,
    f"{_BEHAVIOR}.scaleDown": _RULES_KEYS,
}
"""The keys allowed in mappings below ``spec``, by path. Metadata of triggers have their own rules."""
INTEGERS = (
    "pollingInterval", "initialCooldownPeriod", "cooldownPeriod", "idleReplicaCount", "minReplicaCount",
    "maxReplicaCount", "fallback.failureThreshold", "fallback.replicas",
    f"{_BEHAVIOR}.scaleUp.stabilizationWindowSeconds", f"{_BEHAVIOR}.scaleDown.stabilizationWindowSeconds",
)  # fmt: skip
"""The paths below ``spec`` that must be integers."""
API_VERSION, SCALED_OBJECT, SCALED_JOB = "keda.sh/v1alpha1", "ScaledObject", "ScaledJob"
MAX_MERGED = 1_000_000
"""The most keys that merge keys may add to one document: a few lines could add thousands of times as many."""
_REASON = re.compile(r"[A-Za-z]{1,60}")
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(m?)")


@attrs.define
class Manifests:
    """What has been read so far."""

    objects: list[ScalingObject] = attrs.field(factory=list)
    jobs: list[ScalingObject] = attrs.field(factory=list)
    """ScaledJobs."""
    hpas: list[PlainHpa] = attrs.field(factory=list)
    scalables: list[Scalable] = attrs.field(factory=list)
    pods: list[PodStart] = attrs.field(factory=list)
    services: list[ObjectName] = attrs.field(factory=list)
    """The Services of Kedastral."""
    unread: list[Unread] = attrs.field(factory=list)
    count: int = 0
    """How many objects of any kind."""

    def read(self, file: str, content: bytes) -> None:
        """Read a file's documents; one that is not YAML is noted as unread. As in kubectl, it may be UTF-16."""
        try:
            content = _in_utf8(content)
            documents = read_documents(content, max_depth=MAX_DEPTH, max_nodes=MAX_NODES)
            if b"<<" in content:
                documents = [_Merger().merge(document) for document in documents]
        except YamlError as error:
            self.unread.append(Unread(Place(file), str(error)))
            return
        for document in documents:
            self.add(file, document)

    def add(self, file: str, node: Node | None) -> None:
        """Add one object, or each of a list as ``kubectl get`` prints it."""
        if not isinstance(node, Table):
            return
        kind = text_at(node, "kind")
        if kind == "List" or (kind.endswith("List") and isinstance(node.entries.get("items"), Rows)):
            for item in rows_at(node, "items"):
                self.add(file, item)
            return
        self.count += bool(kind)
        match kind:
            case _ if kind.lower() == SCALED_OBJECT.lower():
                self.objects.append(read_scaled_object(node, file))
            case _ if kind.lower() == SCALED_JOB.lower():
                self.jobs.append(read_scaled_object(node, file, SCALED_JOB))
            case "HorizontalPodAutoscaler" if not _is_kedas(node):
                self.hpas.append(_read_hpa(node, file))
            case "Deployment" | "StatefulSet":
                self.scalables.append(_read_scalable(node, file))
            case "Service" if _is_kedastrals(node):
                self.services.append(_name(node, kind))
            case "Pod":
                start = _read_pod(node)
                self.pods += [] if start is None else [start]


def _in_utf8(content: bytes) -> bytes:
    """``content`` converted to UTF-8 if a byte order mark says that it is UTF-16. Raises YamlError."""
    if not content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content
    try:
        return content.decode("utf-16").encode()
    except UnicodeError as error:
        raise YamlError("must be UTF-8 or UTF-16 text; it is truncated, or not text") from error


@attrs.define
class _Merger:
    """Replaces each merge key (``<<: *anchor``) of a document with the keys that it stands for, like kubectl.

    A key of the mapping itself wins, then that of the first merged mapping. Shared nodes stay shared.
    """

    _made: dict[Node, Node] = attrs.field(factory=dict)
    _merged: int = 0

    def merge(self, node: Node | None) -> Node | None:
        """The tree without merge keys. Raises YamlError."""
        return None if node is None else self._merge(node)

    def _merge(self, node: Node) -> Node:
        if isinstance(node, Scalar):
            return node
        if node not in self._made:
            self._made[node] = self._merge_table(node) if isinstance(node, Table) else self._merge_rows(node)
        return self._made[node]

    def _merge_rows(self, rows: Rows) -> Rows:
        return Rows(tuple(map(self._merge, rows.items)), rows.line)

    def _merge_table(self, table: Table) -> Table:
        entries = {key: self._merge(value) for key, value in table.entries.items() if key != MERGE}
        lines = dict(table.lines)
        given = table.entries.get(MERGE)
        for source in given.items if isinstance(given, Rows) else () if given is None else (given,):
            found = self._merge(source)
            if not isinstance(found, Table):
                raise YamlError(
                    f"must merge a mapping, or a list of mappings (line {table.lines.get(MERGE, table.line)})"
                )
            self._merged += len(found.entries)
            if self._merged > MAX_MERGED:
                raise YamlError(f"must merge at most {MAX_MERGED} keys; split it")
            entries = {**found.entries, **entries}
            lines = {**found.lines, **lines}
        return Table(entries, lines, table.line, table.repeated)


MERGE = "<<"


# Trees: the value at a path; nothing if the tree has another shape.


def tree_of(value: JsonValue) -> Node:
    """A tree from JSON values, as a Kubernetes client returns them; without line numbers."""
    if isinstance(value, Mapping):
        return Table({str(key): tree_of(one) for key, one in value.items()}, {}, 0, {})
    if isinstance(value, str):
        return Scalar(Kind.TEXT, value, 0)
    if isinstance(value, Sequence):
        return Rows(tuple(map(tree_of, value)), 0)
    return Scalar(_JSON_KINDS[type(value)], json.dumps(value), 0)


_JSON_KINDS = {type(None): Kind.NOTHING, bool: Kind.BOOLEAN, int: Kind.INTEGER, float: Kind.NUMBER}


def node_at(node: Node | None, *path: str) -> Node | None:
    """What is at ``path`` below ``node``."""
    for key in path:
        node = node.entries.get(key) if isinstance(node, Table) else None
    return node


def text_at(node: Node | None, *path: str) -> str:
    """The text, or the number as written, at ``path``; otherwise an empty string."""
    found = node_at(node, *path)
    return found.text if isinstance(found, Scalar) and found.kind is not Kind.NOTHING else ""


def integer_at(node: Node | None, *path: str) -> int | None:
    """The integer at ``path``; None if there is none."""
    text = text_at(node, *path)
    return int(text) if re.fullmatch(r"-?[0-9]{1,10}", text) else None


def rows_at(node: Node | None, *path: str) -> tuple[Node, ...]:
    """The items of the list at ``path``; empty if there is no list."""
    found = node_at(node, *path)
    return found.items if isinstance(found, Rows) else ()


def texts_at(node: Node | None, *path: str) -> dict[str, str]:
    """The mapping at ``path``, without the lists and mappings in it."""
    found = node_at(node, *path)
    if not isinstance(found, Table):
        return {}
    return {key: one.text for key, one in found.entries.items() if isinstance(one, Scalar)}


def _place(file: str, node: Node | None) -> Place:
    return Place(file, 0 if node is None else node.line)


def _name(node: Table, kind: str) -> ObjectName:
    return ObjectName(kind, text_at(node, "metadata", "name"), text_at(node, "metadata", "namespace"))


# Objects.


def read_scaled_object(node: Table, file: str, kind: str = SCALED_OBJECT) -> ScalingObject:
    """A ScaledObject, as far as the rules need it; for a ScaledJob only the triggers matter."""
    spec = node_at(node, "spec")
    config = node_at(spec, "advanced", "horizontalPodAutoscalerConfig", "behavior")
    modifiers = node_at(spec, "advanced", "scalingModifiers")
    return ScalingObject(
        name=_name(node, kind),
        kind=text_at(node, "kind"),
        api_version=text_at(node, "apiVersion"),
        place=_place(file, node),
        target=_read_target(node_at(spec, "scaleTargetRef")),
        triggers=tuple(_read_triggers(spec, file)),
        min=integer_at(spec, "minReplicaCount"),
        max=integer_at(spec, "maxReplicaCount"),
        idle=integer_at(spec, "idleReplicaCount"),
        polling=integer_at(spec, "pollingInterval"),
        cooldown=integer_at(spec, "cooldownPeriod"),
        fallback=_read_fallback(spec, file),
        behavior=_read_behavior(config),
        behavior_place=None if config is None else _place(file, config),
        tolerances=dict(_read_tolerances(config)),
        has_formula=bool(text_at(modifiers, "formula")),
        formula_type=text_at(modifiers, "metricType"),
        paused=tuple(_read_pauses(node)),
        not_ready=_read_not_ready(node),
        unknown_keys=dict(_unknown_keys(spec)),
        no_integers=dict(_no_integers(spec)),
        repeated_keys=dict(_repeated_keys(node)),
    )


def _read_pauses(node: Table) -> Iterator[str]:
    """The annotations that pause it, without their prefix. As in KEDA, an invalid Go boolean counts as true."""
    annotations = texts_at(node, "metadata", "annotations")
    for ending in PAUSES:
        text = annotations.get(PREFIX + ending)
        if text is not None and (ending == "paused-replicas" or text not in FALSE):
            yield ending


def _read_not_ready(node: Table) -> str:
    """KEDA's one-word reason why an object is not Ready; empty if it is, or if KEDA has not checked yet.

    The message is not read: it may quote the address of another scaler, with a password.
    """
    for condition in rows_at(node, "status", "conditions"):
        reason = text_at(condition, "reason")
        if text_at(condition, "type") == "Ready" and text_at(condition, "status") in ("False", "Unknown"):
            return reason if _REASON.fullmatch(reason) else ""
    return ""


def _unknown_keys(spec: Node | None) -> Iterator[tuple[str, int]]:
    """The paths below ``spec`` that KEDA does not know, each with its line."""
    for path, known in KEYS_BELOW.items():
        table = node_at(spec, *filter(None, path.split(".")))
        if isinstance(table, Table):
            yield from (
                (f"{path}.{key}".lstrip("."), table.lines.get(key, 0)) for key in table.entries if key not in known
            )


def _no_integers(spec: Node | None) -> Iterator[tuple[str, int]]:
    """The paths below ``spec`` whose value is not an integer although KEDA expects one, each with its line."""
    for path in INTEGERS:
        found = node_at(spec, *path.split("."))
        if found is not None and not (isinstance(found, Scalar) and _is_whole(found)):
            yield path, found.line


def _is_whole(value: Scalar) -> bool:
    """Whether it is a whole number, including ``2.0``, or empty, which counts as left out."""
    if value.kind is Kind.NUMBER:
        return float(value.text).is_integer()
    return value.kind in (Kind.INTEGER, Kind.NOTHING)


def _repeated_keys(node: Node) -> Iterator[tuple[str, int]]:
    """The paths of keys that a mapping has more than once, each with the line of the last one.

    What aliases repeat is checked only once: a few lines could hold it a million times.
    """
    seen: set[Node] = set()
    left: list[tuple[str, Node]] = [("", node)]
    while left:
        path, one = left.pop()
        if isinstance(one, Scalar) or one in seen:
            continue
        seen.add(one)
        if isinstance(one, Table):
            yield from ((f"{path}.{key}".lstrip("."), line) for key, line in one.repeated.items() if key != MERGE)
            left += [(f"{path}.{key}", value) for key, value in reversed(list(one.entries.items()))]
        else:
            left += [(path, value) for value in reversed(one.items)]


def _read_target(node: Node | None) -> TargetRef:
    return TargetRef(text_at(node, "name"), text_at(node, "kind") or "Deployment")


def _read_triggers(spec: Node | None, file: str) -> Iterator[KedaTrigger]:
    for row in rows_at(spec, "triggers"):
        metadata = node_at(row, "metadata")
        entries = metadata.entries.items() if isinstance(metadata, Table) else ()
        yield KedaTrigger(
            kind=text_at(row, "type"),
            place=_place(file, row),
            metadata=texts_at(metadata),
            metric_type=text_at(row, "metricType"),
            not_text=tuple(key for key, one in entries if not isinstance(one, Scalar) or one.kind is not Kind.TEXT),
            authentication=text_at(row, "authenticationRef", "name"),
        )


def _read_fallback(spec: Node | None, file: str) -> KedaFallback | None:
    node = node_at(spec, "fallback")
    if not isinstance(node, Table):
        return None
    behavior = text_at(node, "behavior") or "static"
    threshold, replicas = integer_at(node, "failureThreshold"), integer_at(node, "replicas")
    return KedaFallback(_place(file, node), replicas, threshold, behavior)


def _read_tolerances(node: Node | None) -> Iterator[tuple[str, float]]:
    for way in ("scaleUp", "scaleDown"):
        found = _QUANTITY.fullmatch(text_at(node, way, "tolerance"))
        if found is not None:
            yield way, float(found[1]) / (1000 if found[2] else 1)


def _read_behavior(node: Node | None) -> HpaBehavior | None:
    """``spec.behavior`` with Kubernetes' defaults for what it leaves out; None if there is none."""
    if not isinstance(node, Table) or not node.entries:
        return None
    default, tolerances = HpaBehavior.KUBERNETES, dict(_read_tolerances(node))
    up = _read_rules(node_at(node, "scaleUp"), default.up, tolerances.get("scaleUp"))
    return HpaBehavior(up, _read_rules(node_at(node, "scaleDown"), default.down, tolerances.get("scaleDown")))


def _read_rules(node: Node | None, default: ScalingRules, tolerance: float | None) -> ScalingRules:
    window = integer_at(node, "stabilizationWindowSeconds")
    select = text_at(node, "selectPolicy")
    return ScalingRules(
        default.tolerance if tolerance is None else tolerance,
        default.stabilization_window if window is None or window < 0 else float(window),
        tuple(_read_policies(rows_at(node, "policies"))) or default.policies,
        SelectPolicy(select) if select in list(SelectPolicy) else SelectPolicy.MAX,
    )


def _read_policies(rows: Iterable[Node]) -> Iterator[RatePolicy]:
    """The valid policies; the API server refuses others."""
    for row in rows:
        kind, value, period = text_at(row, "type"), integer_at(row, "value"), integer_at(row, "periodSeconds")
        if kind in list(RateKind) and (value or 0) > 0 and (period or 0) > 0:
            yield RatePolicy(RateKind(kind), value or 0, float(period or 0))


def _is_kedas(node: Table) -> bool:
    """Whether KEDA created an HPA: it belongs to a ScaledObject, or has a name as KEDA gives it."""
    owners = {text_at(owner, "kind") for owner in rows_at(node, "metadata", "ownerReferences")}
    return "ScaledObject" in owners or text_at(node, "metadata", "name").startswith("keda-hpa-")


def _is_kedastrals(service: Table) -> bool:
    """Whether a Service is Kedastral's, by the label that the chart and the manifests of deploy/ give it."""
    found = (texts_at(service, "metadata", "labels"), texts_at(service, "spec", "selector"))
    return any(labels.get("app.kubernetes.io/name") == PRODUCT for labels in found)


def _read_hpa(node: Table, file: str) -> PlainHpa:
    target = _read_target(node_at(node, "spec", "scaleTargetRef"))
    return PlainHpa(_name(node, "HorizontalPodAutoscaler"), _place(file, node), target)


def _read_scalable(node: Table, file: str) -> Scalable:
    containers = rows_at(node, "spec", "template", "spec", "containers")
    missing = {
        resource: tuple(
            text_at(one, "name")
            for one in containers
            if not text_at(one, "resources", "requests", resource) and not text_at(one, "resources", "limits", resource)
        )
        for resource in ("cpu", "memory")
    }
    labels = texts_at(node, "spec", "selector", "matchLabels")
    return Scalable(_name(node, text_at(node, "kind")), _place(file, node), labels, missing)


def _read_pod(node: Table) -> PodStart | None:
    """How long a pod took to become Ready; None if it is not Ready, has restarted, or became Ready again."""
    statuses = rows_at(node, "status", "containerStatuses")
    if not statuses or any(integer_at(one, "restartCount") != 0 for one in statuses):
        return None
    ready = [one for one in rows_at(node, "status", "conditions") if text_at(one, "type") == "Ready"]
    created = _time(text_at(node, "metadata", "creationTimestamp"))
    if not ready or text_at(ready[0], "status") != "True" or created is None:
        return None
    at = _time(text_at(ready[0], "lastTransitionTime"))
    seconds = math.nan if at is None else (at - created).total_seconds()
    if not 0 <= seconds <= LONGEST_START:
        return None
    owners = [text_at(owner, "name") for owner in rows_at(node, "metadata", "ownerReferences")]
    namespace = text_at(node, "metadata", "namespace")
    return PodStart(namespace, texts_at(node, "metadata", "labels"), seconds, owners[0] if owners else "")


LONGEST_START = 3600.0
"""Seconds; a pod that became Ready later than that has probably been Ready before."""


def _time(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
