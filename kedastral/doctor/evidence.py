# SPDX-License-Identifier: Apache-2.0
"""`Evidence`: all that the rules of `kedastral doctor` look at, as frozen values."""

import re
from collections.abc import Iterator, Mapping, Sequence

import attrs

from kedastral.core.trigger import FROM_ENV, find_value, is_from_variable, key_in
from kedastral.settings.fleet import WorkloadSettings
from kedastral.settings.metadata import KEDA_KEYS, METADATA_KEYS, OWN_KEYS, brings_a_workload, describes_a_workload
from kedastral.simulation.hpa import HpaBehavior

OUR_TYPES = ("external", "external-push")
RESOURCE_TYPES = ("cpu", "memory")
"""Triggers that the HPA asks the metrics server about; KEDA's fallback is not for them."""
KEDA_DEFAULT_MAX = 100
"""``maxReplicaCount`` where it is left out."""


@attrs.frozen
class Place:
    """Where something stands: a file as the user calls it, and its line there; 0 where no line is known."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@attrs.frozen
class ObjectName:
    """An object of Kubernetes or a workload; ``namespace`` is empty where its manifest names none."""

    kind: str
    name: str
    namespace: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


@attrs.frozen
class KedaTrigger:
    """One trigger of a ScaledObject; ``not_text`` are the keys of metadata that are no text, which KEDA refuses.

    ``metadata`` may hold secrets: a rule shows no value of it but those of `address` and `workload`.
    """

    kind: str
    place: Place
    metadata: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    metric_type: str = ""
    not_text: tuple[str, ...] = ()
    authentication: str = ""

    @property
    def is_ours(self) -> bool:
        """Whether it asks Kedastral: an external scaler of somebody else has other metadata and another address."""
        if self.kind not in OUR_TYPES:
            return False
        keys = {key.removesuffix(FROM_ENV) for key in self.metadata}
        others = keys - KEDA_KEYS
        known = others & {*METADATA_KEYS, *OWN_KEYS}
        return "kedastral" in self.address.lower() or bool(known) or not others

    @property
    def address(self) -> str:
        """``scalerAddress`` without a user and a password, should somebody have written them there."""
        return self.metadata.get("scalerAddress", "").strip().rpartition("@")[2]

    @property
    def workload(self) -> str:
        """The workload it names; empty where it names none, or a variable does."""
        key = key_in(self.metadata, "workload")
        return "" if is_from_variable(key) else (find_value(self.metadata, "workload") or "").strip()

    @property
    def workload_is_hidden(self) -> bool:
        """Whether a variable of the scale target's container names the workload: only KEDA can look it up."""
        return "workload" + FROM_ENV in self.metadata

    @property
    def describes_workload(self) -> bool:
        """Whether its metadata mean a workload of their own, well or badly; beside a name only a query does."""
        is_named = "workload" in self.metadata or self.workload_is_hidden
        return brings_a_workload(self.metadata) or (not is_named and describes_a_workload(self.metadata))

    @property
    def wants_tls(self) -> bool:
        """Whether KEDA speaks TLS with the scaler; where an authentication gives certificates that is only likely."""
        return self.metadata.get("enableTLS", "").strip().lower() == "true"


@attrs.frozen
class KedaFallback:
    """``spec.fallback``; a number that is left out or is none is None."""

    place: Place
    replicas: int | None
    threshold: int | None
    behavior: str = "static"


@attrs.frozen
class TargetRef:
    """``scaleTargetRef``: what is scaled."""

    name: str
    kind: str = "Deployment"


@attrs.frozen
class ScalingObject:
    """A ScaledObject. Numbers that its manifest leaves out are None; ``min`` and ``max`` are ``...ReplicaCount``.

    ``behavior`` is None where it has none of its own. ``tolerances`` are those that are written, ``scaleUp`` and
    ``scaleDown``. ``paused`` are the annotations that pause it, ``not_ready`` is KEDA's reason where its status says
    that it is not Ready. ``kind`` and ``api_version`` are as they are written. ``unknown_keys`` and ``no_integers``,
    which should be some, are paths below ``spec``, and ``repeated_keys`` paths of the object, each with its line.
    """

    name: ObjectName
    place: Place
    target: TargetRef
    triggers: tuple[KedaTrigger, ...] = ()
    min: int | None = None
    max: int | None = None
    idle: int | None = None
    polling: int | None = None
    cooldown: int | None = None
    fallback: KedaFallback | None = None
    behavior: HpaBehavior | None = None
    behavior_place: Place | None = None
    tolerances: Mapping[str, float] = attrs.field(factory=dict)
    has_formula: bool = False
    formula_type: str = ""
    paused: tuple[str, ...] = ()
    not_ready: str = ""
    kind: str = ""
    api_version: str = ""
    unknown_keys: Mapping[str, int] = attrs.field(factory=dict)
    no_integers: Mapping[str, int] = attrs.field(factory=dict)
    repeated_keys: Mapping[str, int] = attrs.field(factory=dict)

    @property
    def ours(self) -> tuple[KedaTrigger, ...]:
        """The triggers that ask Kedastral."""
        return tuple(trigger for trigger in self.triggers if trigger.is_ours)

    @property
    def others(self) -> tuple[KedaTrigger, ...]:
        """The triggers of KEDA's own for which its fallback begins as well: neither ours nor cpu and memory."""
        return tuple(one for one in self.triggers if not one.is_ours and one.kind not in RESOURCE_TYPES)

    @property
    def lowest(self) -> int:
        """The fewest replicas that KEDA leaves; 0 by default."""
        return 0 if self.min is None else self.min

    @property
    def highest(self) -> int:
        """The most replicas that the HPA orders; 100 by default."""
        return KEDA_DEFAULT_MAX if self.max is None else self.max


@attrs.frozen
class PlainHpa:
    """A HorizontalPodAutoscaler that is not KEDA's."""

    name: ObjectName
    place: Place
    target: TargetRef


@attrs.frozen
class Scalable:
    """A Deployment or StatefulSet; ``without_requests`` are the containers that request no ``cpu``, no ``memory``."""

    name: ObjectName
    place: Place
    labels: Mapping[str, str] = attrs.field(factory=dict)
    without_requests: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)


@attrs.frozen
class PodStart:
    """How long a pod that never restarted took from created to Ready, in seconds; ``owner`` is its ReplicaSet or so."""

    namespace: str
    labels: Mapping[str, str]
    seconds: float
    owner: str = ""


@attrs.frozen
class QueryAnswer:
    """What Prometheus said of a workload's query; all times in seconds, None where nothing is known.

    ``failure`` is why it gives no load, ``reason`` the word of `kedastral.errors.SourceError`. ``twins`` says that two
    series are one. ``age`` is that of the newest sample, ``scrape`` the time between two samples of what the query
    reads, ``history`` how far back it has values, ``retention`` what Prometheus keeps, ``rule`` how often the recording
    rule it reads is evaluated.
    """

    workload: str
    failure: str = ""
    reason: str = ""
    twins: bool = False
    counter: str = ""
    age: float | None = None
    scrape: float | None = None
    history: float | None = None
    retention: float | None = None
    rule: float | None = None


@attrs.frozen
class AddressAnswer:
    """What came of an attempt to speak to a ``scalerAddress``: ``problem`` is empty where gRPC is spoken there."""

    address: str
    tls: bool
    problem: str = ""


@attrs.frozen
class WorkloadState:
    """What a running Kedastral says of a workload; ``urgency`` 0 is to be looked at once, 3 is fine."""

    workload: str
    state: str
    urgency: int
    reason: str = ""


@attrs.frozen
class Unread:
    """Something that was to be looked at and could not be, with the reason; ``remedy`` where it is not the rule's."""

    place: Place
    reason: str
    remedy: str = ""


@attrs.frozen
class Evidence:
    """All that was found out. ``jobs`` are ScaledJobs. ``workloads`` by key, None where no settings were given, so that
    nobody can tell. ``brought`` are those that triggers bring along, as far as their metadata can be read.

    ``namespace`` is that of objects whose manifest names none; empty where that is not known either. ``is_complete``:
    the objects are all that a cluster has, so that what is missing is missing.
    """

    objects: tuple[ScalingObject, ...] = ()
    jobs: tuple[ScalingObject, ...] = ()
    hpas: tuple[PlainHpa, ...] = ()
    scalables: tuple[Scalable, ...] = ()
    pods: tuple[PodStart, ...] = ()
    workloads: Mapping[str, WorkloadSettings] | None = None
    brought: Mapping["TriggerKey", WorkloadSettings] = attrs.field(factory=dict)
    warnings: tuple[str, ...] = ()
    answers: Mapping[str, QueryAnswer] = attrs.field(factory=dict)
    addresses: Mapping[tuple[str, bool], AddressAnswer] = attrs.field(factory=dict)
    states: tuple[WorkloadState, ...] = ()
    unread: tuple[Unread, ...] = ()
    namespace: str = ""
    is_complete: bool = False

    @property
    def scaled_by_us(self) -> tuple[ScalingObject, ...]:
        """The ScaledObjects that have a trigger of ours."""
        return tuple(one for one in self.objects if one.ours)

    def namespace_of(self, name: ObjectName) -> str:
        """The namespace of an object; empty where it is not known."""
        return name.namespace or self.namespace

    def full_name_of(self, name: ObjectName) -> ObjectName:
        """The same for a manifest that leaves its namespace out and for the object in the cluster."""
        return attrs.evolve(name, namespace=self.namespace_of(name))

    def lists_all_of(self, namespace: str) -> bool:
        """Whether the objects are all that there are in a namespace."""
        return self.is_complete and bool(namespace) and self.namespace in ("", namespace)

    def find_scalable(self, one: ScalingObject) -> Scalable | None:
        """What a ScaledObject scales, where its manifest is there."""
        for scalable in self.scalables:
            same = (scalable.name.kind, scalable.name.name) == (one.target.kind, one.target.name)
            if same and self.namespace_of(scalable.name) == self.namespace_of(one.name):
                return scalable
        return None

    def starts_of(self, one: ScalingObject) -> list[float]:
        """How long the pods of what a ScaledObject scales took to be Ready, the quickest first."""
        scalable = self.find_scalable(one)
        namespace = self.namespace_of(one.name)
        return sorted(pod.seconds for pod in self.pods if pod.namespace == namespace and _belongs(pod, scalable, one))

    def workload_of(self, trigger: KedaTrigger, one: ScalingObject) -> WorkloadSettings | None:
        """The settings of the workload that a trigger means, configured or brought along; None where not known."""
        return self.brought.get(key_of(trigger, one)) or find_workload(self, trigger, one)


TriggerKey = tuple[ObjectName, Place, int]
"""A trigger: its object, where that stands, and its number there. Objects of a cluster all stand in one place."""


def key_of(trigger: KedaTrigger, one: ScalingObject) -> TriggerKey:
    """By what ``Evidence.brought`` knows a trigger."""
    return one.name, one.place, one.triggers.index(trigger)


def find_workload(evidence: Evidence, trigger: KedaTrigger, one: ScalingObject) -> WorkloadSettings | None:
    """The configured workload that a trigger names, by the rules of the scaler; None where there is none such.

    A bare name of an object whose namespace is not known is looked for in every namespace, and must be found in one.
    """
    workloads = evidence.workloads or {}
    if trigger.workload_is_hidden or trigger.describes_workload:
        return None
    name, namespace = trigger.workload, evidence.namespace_of(one.name)
    if not name:
        return next(iter(workloads.values())) if len(workloads) == 1 else None
    found = workloads.get(f"{namespace}/{name}") or workloads.get(name)
    if found is None and not namespace:
        near = [settings for key, settings in workloads.items() if key.rpartition("/")[2] == name]
        return near[0] if len(near) == 1 else None
    return found


def _belongs(pod: PodStart, scalable: Scalable | None, one: ScalingObject) -> bool:
    if scalable is not None and scalable.labels:
        return scalable.labels.items() <= pod.labels.items()
    return re.fullmatch(rf"{re.escape(one.target.name)}(-[a-z0-9]+)?", pod.owner) is not None


def each_of_ours(
    evidence: Evidence,
) -> Iterator[tuple[ScalingObject, KedaTrigger, WorkloadSettings | None]]:
    """Every trigger of ours, its object, and its workload's settings where they are known."""
    for one in evidence.scaled_by_us:
        for trigger in one.ours:
            yield one, trigger, evidence.workload_of(trigger, one)


def settings_of_queries(evidence: Evidence) -> Sequence[WorkloadSettings]:
    """The workloads whose query is known."""
    known = {one.key: one for one in (*(evidence.workloads or {}).values(), *evidence.brought.values())}
    return [one for one in known.values() if one.query]
