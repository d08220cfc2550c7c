# SPDX-License-Identifier: Apache-2.0
"""Reads ScaledObjects and ScaledJobs: what they say, and what in them KEDA or Kubernetes refuses or ignores."""

import re
from collections.abc import Iterable, Iterator, Mapping

from kedastral.doctor.evidence import Formula, KedaFallback, KedaTrigger, ScalingObject, TargetRef
from kedastral.doctor.nodes import MERGE, integer_at, is_whole, name_of, node_at, place_of, rows_at, text_at, texts_at
from kedastral.settings.yaml import Kind, Node, Rows, Scalar, Table
from kedastral.simulation.hpa import HpaBehavior, RateKind, RatePolicy, ScalingRules, SelectPolicy

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
API_VERSION, SCALED_OBJECT, SCALED_JOB = "keda.sh/v1alpha1", "ScaledObject", "ScaledJob"
_REASON = re.compile(r"[A-Za-z]{1,60}")
_QUANTITY = re.compile(r"\+?((?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?)([num]?)")
_PER_UNIT = {"": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


def read_scaled_object(node: Table, file: str, kind: str = SCALED_OBJECT) -> ScalingObject:
    """A ScaledObject, as far as the rules need it; for a ScaledJob only the triggers matter."""
    spec = node_at(node, "spec")
    config = node_at(spec, "advanced", "horizontalPodAutoscalerConfig", "behavior")
    annotations = texts_at(node, "metadata", "annotations")
    rows, misplaced = rows_at(spec, "triggers"), None
    if node_at(spec, "triggers") is None:
        rows, misplaced = next(_find_triggers(node), (rows, None))
    return ScalingObject(
        name=name_of(node, kind),
        kind=text_at(node, "kind"),
        api_version=text_at(node, "apiVersion"),
        place=place_of(file, node),
        target=read_target(node_at(spec, "scaleTargetRef")),
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
        behavior_place=None if config is None else place_of(file, config),
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
            if found is not None and not (isinstance(found, Scalar) and is_whole(found)):
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
    if isinstance(tolerance, Scalar) and tolerance.kind is Kind.NUMBER and not is_whole(tolerance):
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


def read_target(node: Node | None) -> TargetRef:
    version = text_at(node, "apiVersion") or "apps/v1"
    return TargetRef(text_at(node, "name"), text_at(node, "kind") or "Deployment", version.rpartition("/")[0])


def _read_formula(node: Node | None, file: str) -> Formula | None:
    if not isinstance(node, Table) or not any(text_at(one) for one in node.entries.values()):
        return None
    text = text_at(node, "formula")
    return Formula(place_of(file, node), text, text_at(node, "target"), text_at(node, "metricType"), _names_of(text))


MAX_FORMULA = 10_000
"""Characters of a formula that are read: the time for what is never unquoted grows with the square."""
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
    text = _QUOTED.sub("''", formula[:MAX_FORMULA])
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
            place=place_of(file, row),
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
    return KedaFallback(place_of(file, node), replicas, threshold, behavior)


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
