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
    RESOURCE_TYPES,
    Formula,
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
TRANSFER = "scaledobject.keda.sh/transfer-hpa-ownership"
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
_POLICY_KEYS = frozenset({"type", "value", "periodSeconds"})
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
    f"{_BEHAVIOR}.scaleUp.policies": _POLICY_KEYS,
    f"{_BEHAVIOR}.scaleDown.policies": _POLICY_KEYS,
    "triggers": frozenset({"type", "name", "useCachedMetrics", "metadata", "authenticationRef", "metricType"}),
    "triggers.authenticationRef": frozenset({"name", "kind"}),
}
"""The keys allowed in mappings below ``spec``, by path, which may lead through lists. Metadata of triggers have their
own rules."""
INTEGERS = (
    "pollingInterval", "initialCooldownPeriod", "cooldownPeriod", "idleReplicaCount", "minReplicaCount",
    "maxReplicaCount", "fallback.failureThreshold", "fallback.replicas",
    f"{_BEHAVIOR}.scaleUp.stabilizationWindowSeconds", f"{_BEHAVIOR}.scaleDown.stabilizationWindowSeconds",
    f"{_BEHAVIOR}.scaleUp.policies.value", f"{_BEHAVIOR}.scaleDown.policies.value",
    f"{_BEHAVIOR}.scaleUp.policies.periodSeconds", f"{_BEHAVIOR}.scaleDown.policies.periodSeconds",
)  # fmt: skip
"""The paths below ``spec`` that must be integers; they may lead through lists."""
PARAMETERS = (
    "secretTargetRef", "configMapTargetRef", "env", "boundServiceAccountToken", "hashiCorpVault.secrets",
    "azureKeyVault.secrets", "gcpSecretManager.secrets", "awsSecretManager.secrets",
)  # fmt: skip
"""The lists below ``spec`` of a TriggerAuthentication whose items name a parameter."""
API_VERSION, SCALED_OBJECT, SCALED_JOB = "keda.sh/v1alpha1", "ScaledObject", "ScaledJob"
MAX_MERGED = 1_000_000
"""The most keys that merge keys may add to one document: a few lines could add thousands of times as many."""
_REASON = re.compile(r"[A-Za-z]{1,60}")
_QUANTITY = re.compile(r"\+?((?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?)([num]?)")
_PER_UNIT = {"": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


@attrs.define
class Manifests:
    """What has been read so far."""

    objects: list[ScalingObject] = attrs.field(factory=list)
    jobs: list[ScalingObject] = attrs.field(factory=list)
    """ScaledJobs."""
    hpas: list[PlainHpa] = attrs.field(factory=list)
    scalables: list[Scalable] = attrs.field(factory=list)
    pods: list[PodStart] = attrs.field(factory=list)
    authentications: dict[ObjectName, tuple[str, ...]] = attrs.field(factory=dict)
    """The parameters that each TriggerAuthentication and ClusterTriggerAuthentication gives; never their values."""
    default_requests: list[tuple[str, str]] = attrs.field(factory=list)
    """Namespaces and resources for which a LimitRange fills in what a container leaves out."""
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
            case "Deployment" | "StatefulSet" | "Rollout":
                self.scalables.append(_read_scalable(node, file))
            case _:
                self._add_context(kind, node)

    def _add_context(self, kind: str, node: Table) -> None:
        """Add an object that no rule is about, but some need."""
        match kind:
            case "LimitRange":
                self.default_requests += _read_default_requests(node)
            case "Service" if _is_kedastrals(node):
                self.services.append(_name(node, kind))
            case "TriggerAuthentication" | "ClusterTriggerAuthentication" if node_at(node, "spec", "filePath") is None:
                self.authentications[_name(node, kind)] = tuple(_read_parameters(node))
            case "Pod":
                start = _read_pod(node)
                self.pods += [] if start is None else [start]


def find_patches(kustomization: bytes) -> Sequence[str]:
    """The files that a kustomization applies as patches: parts of objects, which alone would look wrong."""
    try:
        [root, *_] = read_documents(kustomization) or [None]
    except YamlError:
        return []  # it is reported when it is read as a manifest
    rows = [*rows_at(root, "patches"), *rows_at(root, "patchesJson6902")]
    names = [text_at(row, "path") for row in rows] + [text_at(row) for row in rows_at(root, "patchesStrategicMerge")]
    return [name for name in names if name and "\n" not in name]  # a patch may also stand there itself


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
    found = node_at(node, *path)
    if isinstance(found, Scalar) and found.kind is Kind.NUMBER and _is_whole(found):
        whole = float(found.text)  # kubectl reads 2.0 as 2
        return int(whole) if abs(whole) < MOST else None
    text = text_at(found)
    return int(text) if re.fullmatch(r"[-+]?[0-9]{1,10}", text) else None


MOST = 1e10
"""More than any number that is read here."""


def rows_at(node: Node | None, *path: str) -> tuple[Node, ...]:
    """The items of the list at ``path``; empty if there is no list."""
    found = node_at(node, *path)
    return found.items if isinstance(found, Rows) else ()


def texts_at(node: Node | None, *path: str) -> dict[str, str]:
    """The mapping at ``path``, without what is empty, and without the lists and mappings in it."""
    found = node_at(node, *path)
    if not isinstance(found, Table):
        return {}
    scalars = ((key, one) for key, one in found.entries.items() if isinstance(one, Scalar))
    return {key: one.text for key, one in scalars if one.kind is not Kind.NOTHING}


def _place(file: str, node: Node | None) -> Place:
    return Place(file, 0 if node is None else node.line)


def _name(node: Table, kind: str) -> ObjectName:
    return ObjectName(kind, text_at(node, "metadata", "name"), text_at(node, "metadata", "namespace"))


# Objects.


def read_scaled_object(node: Table, file: str, kind: str = SCALED_OBJECT) -> ScalingObject:
    """A ScaledObject, as far as the rules need it; for a ScaledJob only the triggers matter."""
    spec = node_at(node, "spec")
    config = node_at(spec, "advanced", "horizontalPodAutoscalerConfig", "behavior")
    annotations = texts_at(node, "metadata", "annotations")
    rows, misplaced = rows_at(spec, "triggers"), None
    if node_at(spec, "triggers") is None:
        rows, misplaced = next(_find_triggers(node), (rows, None))
    return ScalingObject(
        name=_name(node, kind),
        kind=text_at(node, "kind"),
        api_version=text_at(node, "apiVersion"),
        place=_place(file, node),
        target=_read_target(node_at(spec, "scaleTargetRef")),
        triggers=tuple(_read_triggers(rows, file)),
        misplaced=misplaced,
        min=integer_at(spec, "minReplicaCount"),
        max=integer_at(spec, "maxReplicaCount"),
        idle=integer_at(spec, "idleReplicaCount"),
        polling=integer_at(spec, "pollingInterval"),
        cooldown=integer_at(spec, "cooldownPeriod"),
        initial_cooldown=integer_at(spec, "initialCooldownPeriod"),
        fallback=_read_fallback(spec, file),
        behavior=_read_behavior(config),
        behavior_place=None if config is None else _place(file, config),
        tolerances=dict(_read_tolerances(config)),
        formula=_read_formula(node_at(spec, "advanced", "scalingModifiers"), file),
        paused=tuple(_read_pauses(node)),
        is_forced=_is_true(annotations.get(PREFIX + "force-activation")),
        not_ready=_read_not_ready(node),
        is_in_fallback=any(
            (text_at(one, "type"), text_at(one, "status")) == ("Fallback", "True")
            for one in rows_at(node, "status", "conditions")
        ),
        hpa_name=text_at(spec, *_HPA.split("."), "name"),
        takes_over=annotations.get(TRANSFER) == "true",
        unknown_keys=dict(_unknown_keys(spec)),
        no_integers=dict(_no_integers(spec)),
        no_texts=dict(_no_texts(spec)),
        refused=dict(_find_refused(spec)),
        repeated_keys=dict(_repeated_keys(node)),
    )


def _read_pauses(node: Table) -> Iterator[str]:
    """The annotations that pause it, without their prefix."""
    annotations = texts_at(node, "metadata", "annotations")
    for ending in PAUSES:
        text = annotations.get(PREFIX + ending)
        if _is_true(text) or (text is not None and ending == "paused-replicas"):
            yield ending


def _is_true(annotation: str | None) -> bool:
    """Whether KEDA takes an annotation for true: what is no Go boolean counts as true."""
    return annotation is not None and annotation not in FALSE


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
        for table in _tables_at(spec, *filter(None, path.split("."))):
            yield from (
                (f"{path}.{key}".lstrip("."), table.lines.get(key, 0)) for key in table.entries if key not in known
            )


def _tables_at(node: Node | None, *path: str) -> Iterator[Table]:
    """The mapping at ``path``, and each mapping of the lists that it leads through."""
    if isinstance(node, Rows):
        for item in node.items:
            yield from _tables_at(item, *path)
    elif isinstance(node, Table) and path:
        yield from _tables_at(node.entries.get(path[0]), *path[1:])
    elif isinstance(node, Table):
        yield node


def _no_integers(spec: Node | None) -> Iterator[tuple[str, int]]:
    """The paths below ``spec`` whose value is not an integer although KEDA expects one, each with its line."""
    for path in INTEGERS:
        *parents, key = path.split(".")
        for table in _tables_at(spec, *parents):
            found = table.entries.get(key)
            if found is not None and not (isinstance(found, Scalar) and _is_whole(found)):
                yield path, found.line


TEXTS = (
    "scaleTargetRef.name", "scaleTargetRef.kind", "scaleTargetRef.apiVersion", "advanced.scalingModifiers.formula",
    "advanced.scalingModifiers.target", "advanced.scalingModifiers.activationTarget", f"{_HPA}.name", "triggers.name",
)  # fmt: skip
"""The paths below ``spec`` that must be text, of those that people write as numbers."""


def _no_texts(spec: Node | None) -> Iterator[tuple[str, int]]:
    """The paths below ``spec`` whose value is not text although KEDA expects it, each with its line."""
    for path in TEXTS:
        *parents, key = path.split(".")
        for table in _tables_at(spec, *parents):
            found = table.entries.get(key)
            if found is not None and not (isinstance(found, Scalar) and found.kind in (Kind.TEXT, Kind.NOTHING)):
                yield path, found.line


def _is_whole(value: Scalar) -> bool:
    """Whether it is a whole number, including ``2.0``, or empty, which counts as left out."""
    if value.kind is Kind.NUMBER:
        # infinity and "not a number" have a dot in YAML
        return not value.text.lstrip("+-").lower().startswith((".i", ".n")) and float(value.text).is_integer()
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


def _find_refused(spec: Node | None) -> Iterator[tuple[str, tuple[str, int]]]:
    """The paths below ``spec`` of what Kubernetes refuses in the HPA's behavior, each with what it must be."""
    for way in ("scaleUp", "scaleDown"):
        path = f"{_BEHAVIOR}.{way}"
        rules = node_at(spec, *path.split("."))
        for key, must in _wrong_rules(rules):
            found = node_at(rules, key)
            yield f"{path}.{key}", (must, 0 if found is None else found.line)
        for policy in rows_at(rules, "policies"):
            yield from ((f"{path}.policies.{key}", (must, policy.line)) for key, must in _wrong_policy(policy))


def _wrong_rules(rules: Node | None) -> Iterator[tuple[str, str]]:
    select, tolerance = text_at(rules, "selectPolicy"), node_at(rules, "tolerance")
    if select and select not in list(SelectPolicy):
        yield "selectPolicy", "must be Max, Min or Disabled"
    if not 0 <= (integer_at(rules, "stabilizationWindowSeconds") or 0) <= LONGEST_WINDOW:
        yield "stabilizationWindowSeconds", f"must be from 0 to {LONGEST_WINDOW}"
    if isinstance(tolerance, Scalar) and tolerance.kind is Kind.NUMBER and not _is_whole(tolerance):
        yield "tolerance", "must be in quotes: a number here must be whole"
    elif tolerance is not None and text_at(tolerance) and _QUANTITY.fullmatch(text_at(tolerance)) is None:
        yield "tolerance", "must be a number of at least 0, such as 0 or '0.05'"


def _wrong_policy(policy: Node) -> Iterator[tuple[str, str]]:
    if text_at(policy, "type") not in list(RateKind):
        yield "type", f"must be {' or '.join(RateKind)}"
    if (integer_at(policy, "value") or 0) < 1:
        yield "value", "must be a whole number above 0"
    if not 1 <= (integer_at(policy, "periodSeconds") or 0) <= LONGEST_PERIOD:
        yield "periodSeconds", f"must be from 1 to {LONGEST_PERIOD}"


LONGEST_WINDOW, LONGEST_PERIOD = 3600, 1800
"""Seconds that Kubernetes allows in the HPA's behavior."""


def _read_target(node: Node | None) -> TargetRef:
    version = text_at(node, "apiVersion") or "apps/v1"
    return TargetRef(text_at(node, "name"), text_at(node, "kind") or "Deployment", version.rpartition("/")[0])


def _read_formula(node: Node | None, file: str) -> Formula | None:
    if not isinstance(node, Table) or not any(text_at(one) for one in node.entries.values()):
        return None
    text = text_at(node, "formula")
    return Formula(_place(file, node), text, text_at(node, "target"), text_at(node, "metricType"), _names_of(text))


_QUOTED = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`""")
_VARIABLE = re.compile(r"(?<![\w$.#])[A-Za-z_$][\w$]*(?!\s*\()(?![\w$])")
_LET = re.compile(r"\blet\s+([A-Za-z_$][\w$]*)")
_WORDS = frozenset(
    {
        "nil", "true", "false", "in", "not", "and", "or", "let", "if", "else", "matches", "contains", "startsWith",
        "endsWith",
    }
)  # fmt: skip
"""The words of KEDA's formula language, https://expr-lang.org."""


def _names_of(formula: str) -> tuple[str, ...]:
    """The variables of a formula: the triggers that it names."""
    text = _QUOTED.sub("''", formula)
    own = {*_LET.findall(text), *_WORDS}
    return tuple(dict.fromkeys(name for name in _VARIABLE.findall(text) if name not in own))


def _find_triggers(node: Table) -> Iterator[tuple[tuple[Node, ...], tuple[str, int]]]:
    """The lists that are meant as triggers but stand elsewhere, each with its path and its line."""
    seen: set[Node] = set()
    left: list[tuple[str, Table]] = [("", node)]
    while left:
        path, table = left.pop()
        if table in seen:
            continue
        seen.add(table)
        for key, one in table.entries.items():
            if isinstance(one, Rows) and key.lower() in ("trigger", "triggers"):
                yield one.items, (f"{path}.{key}".lstrip("."), table.lines.get(key, 0))
            elif isinstance(one, Table):
                left.append((f"{path}.{key}", one))


def _read_triggers(rows: Iterable[Node], file: str) -> Iterator[KedaTrigger]:
    for row in rows:
        metadata = node_at(row, "metadata")
        entries = metadata.entries.items() if isinstance(metadata, Table) else ()
        yield KedaTrigger(
            kind=text_at(row, "type"),
            place=_place(file, row),
            metadata=texts_at(metadata),
            metric_type=text_at(row, "metricType"),
            not_text=tuple(key for key, one in entries if not isinstance(one, Scalar) or one.kind is not Kind.TEXT),
            authentication=text_at(row, "authenticationRef", "name"),
            authentication_kind=text_at(row, "authenticationRef", "kind") or "TriggerAuthentication",
            name=text_at(row, "name"),
            is_cached=text_at(row, "useCachedMetrics").lower() == "true",
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
            yield way, float(found[1]) * _PER_UNIT[found[2]]


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
    """Whether KEDA created an HPA: it belongs to a ScaledObject, or has a label or a name as KEDA gives it."""
    owners = {text_at(owner, "kind") for owner in rows_at(node, "metadata", "ownerReferences")}
    labels = texts_at(node, "metadata", "labels")
    is_labelled = "scaledobject.keda.sh/name" in labels or labels.get("app.kubernetes.io/managed-by") == "keda-operator"
    return "ScaledObject" in owners or is_labelled or text_at(node, "metadata", "name").startswith("keda-hpa-")


def _read_parameters(authentication: Table) -> Iterator[str]:
    """The names of the parameters that a TriggerAuthentication gives, from whatever store."""
    for path in PARAMETERS:
        for row in rows_at(authentication, "spec", *path.split(".")):
            yield text_at(row, "parameter")


def _is_kedastrals(service: Table) -> bool:
    """Whether a Service is Kedastral's, by the label that the chart and the manifests of deploy/ give it."""
    found = (texts_at(service, "metadata", "labels"), texts_at(service, "spec", "selector"))
    return any(labels.get("app.kubernetes.io/name") == PRODUCT for labels in found)


def _read_hpa(node: Table, file: str) -> PlainHpa:
    target = _read_target(node_at(node, "spec", "scaleTargetRef"))
    return PlainHpa(_name(node, "HorizontalPodAutoscaler"), _place(file, node), target)


def _read_scalable(node: Table, file: str) -> Scalable:
    pod = node_at(node, "spec", "template", "spec")
    # the HPA adds up what runs all the time, sidecars among the init containers included
    sidecars = [one for one in rows_at(pod, "initContainers") if text_at(one, "restartPolicy") == "Always"]
    containers = [*rows_at(pod, "containers"), *sidecars]
    missing = {
        resource: tuple(text_at(one, "name") for one in containers if not _requests(one, resource))
        for resource in ("cpu", "memory")
    }
    labels = texts_at(node, "spec", "selector", "matchLabels")
    is_live = bool(text_at(node, "metadata", "uid") or text_at(node, "metadata", "resourceVersion"))
    replicas = None if is_live else integer_at(node, "spec", "replicas")
    names = tuple(text_at(one, "name") for one in sidecars)
    kind = text_at(node, "kind")
    is_ordered = kind == "StatefulSet" and text_at(node, "spec", "podManagementPolicy") != "Parallel"
    return Scalable(_name(node, kind), _place(file, node), labels, missing, names, replicas, is_ordered)


def _requests(container: Node, resource: str) -> bool:
    """Whether a container requests some of a resource; a limit alone counts as a request."""
    texts = [text_at(container, "resources", key, resource) for key in ("requests", "limits")]
    return any(text.strip("0.") for text in texts)


def _read_default_requests(limits: Table) -> Iterator[tuple[str, str]]:
    """The namespace of a LimitRange, with each resource of which a container requests some by default."""
    for row in rows_at(limits, "spec", "limits"):
        given = {**texts_at(row, "default"), **texts_at(row, "defaultRequest")}
        if text_at(row, "type") == "Container":
            yield from ((text_at(limits, "metadata", "namespace"), key) for key in given if key in RESOURCE_TYPES)


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
