# SPDX-License-Identifier: Apache-2.0
"""`Evidence`: all that the rules of `kedastral doctor` examine, as frozen values."""

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from enum import Enum, auto

import attrs

from kedastral.core.planning.snapshot import Mode
from kedastral.core.trigger import FROM_ENV, find_value, is_from_variable, key_in
from kedastral.settings.fleet import WorkloadSettings
from kedastral.settings.metadata import describes_a_workload, has_query
from kedastral.simulation.hpa import HpaBehavior

OUR_TYPES = ("external", "external-push")
RESOURCE_TYPES = ("cpu", "memory")
"""Triggers that the HPA serves from the metrics server: KEDA's fallback does not cover them, and to KEDA they are not
active, so that they keep no pod from being scaled to zero."""
CLOCK_TYPES = ("cron",)
"""Triggers that ask nobody, and so never fail."""
KEDA_DEFAULT_MAX = 100
"""``maxReplicaCount`` if it is left out."""
DEFAULT_POLLING = 30
"""``pollingInterval`` if it is left out."""


@attrs.frozen
class Place:
    """The location of something: a file as the user names it, and a line; 0 if the line is unknown."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@attrs.frozen
class ObjectName:
    """A Kubernetes object or a workload; ``namespace`` is empty if its manifest names none."""

    kind: str
    name: str
    namespace: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


TLS_PAIR = ("tlsClientCert", "tlsClientKey")
TLS_PARAMETERS = ("caCert", *TLS_PAIR)
"""What KEDA's external scaler reads from a TriggerAuthentication, and from nowhere else."""


class Owner(Enum):
    """Whose external scaler a trigger is for."""

    US = auto()
    PERHAPS_US = auto()
    OTHERS = auto()


@attrs.frozen
class KedaTrigger:
    """One trigger of a ScaledObject; ``not_text`` are the metadata keys whose values are not text, which KEDA refuses.

    ``is_cached``: with ``useCachedMetrics`` KEDA answers the HPA with what the last poll gave.

    ``metadata`` may hold secrets: rules only show the values of `address` and `workload`.
    """

    kind: str
    place: Place
    metadata: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    metric_type: str = ""
    not_text: tuple[str, ...] = ()
    authentication: str = ""
    authentication_kind: str = "TriggerAuthentication"
    name: str = ""
    is_cached: bool = False
    owner: Owner = Owner.OTHERS

    @property
    def is_external(self) -> bool:
        """Whether it is for an external scaler, or is meant to be: the type may be misspelt, or left out."""
        if self.kind in OUR_TYPES:
            return True
        near = not self.kind or get_close_matches(self.kind.lower()[: len(OUR_TYPES[0])], OUR_TYPES, 1, 0.7)
        return bool(near) and key_in(self.metadata, "scalerAddress") in self.metadata

    @property
    def address(self) -> str:
        """``scalerAddress`` without user and password, in case somebody wrote them there."""
        return self.metadata.get("scalerAddress", "").strip().rpartition("@")[2]

    @property
    def workload(self) -> str:
        """The workload that it names; empty if it names none, or a variable does."""
        key = key_in(self.metadata, "workload")
        return "" if is_from_variable(key) else (find_value(self.metadata, "workload") or "").strip()

    @property
    def workload_is_hidden(self) -> bool:
        """Whether a variable of the scale target's container names the workload: only KEDA can resolve that."""
        return "workload" + FROM_ENV in self.metadata

    @property
    def describes_workload(self) -> bool:
        """Whether its metadata describe their own workload, validly or not; next to a name, only a query does so."""
        is_named = "workload" in self.metadata or self.workload_is_hidden
        return has_query(self.metadata) or (not is_named and describes_a_workload(self.metadata))


def read_boolean(text: str) -> bool | None:
    """What KEDA reads, with Go's ``strconv.ParseBool``; None if that refuses it. An empty text is false."""
    text = text.strip()
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    return False if text in ("", "0", "f", "F", "false", "FALSE", "False") else None


@attrs.frozen
class KedaFallback:
    """``spec.fallback``; a number that is missing or invalid is None."""

    place: Place
    replicas: int | None
    threshold: int | None
    behavior: str = "static"


@attrs.frozen
class TargetRef:
    """``scaleTargetRef``: what is scaled; ``group`` is that of its API, without the version."""

    name: str
    kind: str = "Deployment"
    group: str = "apps"


@attrs.frozen
class Formula:
    """``scalingModifiers`` as written; ``names`` are the triggers that the formula names."""

    place: Place
    text: str = attrs.field(default="", repr=False)
    target: str = ""
    metric_type: str = ""
    names: tuple[str, ...] = ()


@attrs.frozen
class ScalingObject:
    """A ScaledObject. Numbers that its manifest leaves out are None; ``min`` and ``max`` are ``...ReplicaCount``.

    ``behavior`` is None if it has none of its own. ``tolerances`` are those that are given, ``scaleUp`` and
    ``scaleDown``. ``paused`` are the annotations that pause it; with ``is_forced`` another one keeps it active.
    ``not_ready`` is KEDA's reason if its status says that it is not Ready. ``kind`` and ``api_version`` are as written.
    ``unknown_keys``, ``no_integers`` and ``no_texts`` (values that should be that) and ``refused`` (values of the HPA's
    behavior, with what they must be) are paths below ``spec``; ``repeated_keys`` are paths in the object. Each has its
    line. ``misplaced`` is the path in the object, and the line, where its triggers stand if not in ``spec.triggers``.
    ``hpa_name`` is that of the HPA that KEDA makes, or takes over if ``takes_over``.
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
    initial_cooldown: int | None = None
    fallback: KedaFallback | None = None
    behavior: HpaBehavior | None = None
    behavior_place: Place | None = None
    tolerances: Mapping[str, float] = attrs.field(factory=dict)
    formula: Formula | None = None
    paused: tuple[str, ...] = ()
    is_forced: bool = False
    not_ready: str = ""
    is_in_fallback: bool = False
    hpa_name: str = ""
    takes_over: bool = False
    kind: str = ""
    api_version: str = ""
    unknown_keys: Mapping[str, int] = attrs.field(factory=dict)
    misplaced: tuple[str, int] | None = None
    no_integers: Mapping[str, int] = attrs.field(factory=dict)
    no_texts: Mapping[str, int] = attrs.field(factory=dict)
    refused: Mapping[str, tuple[str, int]] = attrs.field(factory=dict)
    repeated_keys: Mapping[str, int] = attrs.field(factory=dict)

    @property
    def ours(self) -> tuple[KedaTrigger, ...]:
        """The triggers for Kedastral; those that may be for it if none surely is."""
        sure = tuple(trigger for trigger in self.triggers if trigger.owner is Owner.US)
        return sure or tuple(trigger for trigger in self.triggers if trigger.owner is Owner.PERHAPS_US)

    @property
    def is_unsure(self) -> bool:
        """Whether its triggers may be for Kedastral, and none surely is."""
        return any(trigger.owner is Owner.PERHAPS_US for trigger in self.ours)

    @property
    def others(self) -> tuple[KedaTrigger, ...]:
        """The triggers besides ours whose errors KEDA counts, for its fallback or to hold."""
        ours = self.ours
        return tuple(
            one for one in self.triggers if one not in ours and one.kind not in (*RESOURCE_TYPES, *CLOCK_TYPES)
        )

    @property
    def has_formula(self) -> bool:
        """Whether a formula makes one metric of all triggers but cpu and memory."""
        return self.formula is not None and bool(self.formula.text)

    @property
    def may_sleep(self) -> bool:
        """Whether KEDA scales to zero while no trigger is active."""
        return (self.lowest == 0 or self.idle == 0) and not self.is_forced

    @property
    def lowest(self) -> int:
        """The fewest replicas that KEDA scales to; 0 by default."""
        return 0 if self.min is None else self.min

    @property
    def highest(self) -> int:
        """The most replicas that the HPA scales to; 100 by default."""
        return KEDA_DEFAULT_MAX if self.max is None else self.max


@attrs.frozen
class PlainHpa:
    """A HorizontalPodAutoscaler that is not KEDA's."""

    name: ObjectName
    place: Place
    target: TargetRef


@attrs.frozen
class Scalable:
    """A Deployment, StatefulSet or Rollout; ``without_requests`` are its containers without a ``cpu`` or ``memory``
    request, ``sidecars`` those of its init containers that keep running.

    ``replicas`` is what its manifest sets; None for one that comes from a cluster, where each has a number. If it
    ``is_ordered``, its pods start one after the other.
    """

    name: ObjectName
    place: Place
    labels: Mapping[str, str] = attrs.field(factory=dict)
    without_requests: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    sidecars: tuple[str, ...] = ()
    replicas: int | None = None
    is_ordered: bool = False


@attrs.frozen
class PodStart:
    """Seconds that a never restarted pod took from created to Ready; ``owner`` is its ReplicaSet or similar."""

    namespace: str
    labels: Mapping[str, str]
    seconds: float
    owner: str = ""


@attrs.frozen
class QueryAnswer:
    """What Prometheus says about a workload's query; all times in seconds, None if unknown.

    ``failure`` is why it returns no load, ``reason`` that of `kedastral.errors.SourceError`. ``twins`` says that a
    series is counted twice, ``is_gauge`` that the values fall too often for a counter. ``age`` is that of the newest
    sample, ``scrape`` the interval between samples of what the query reads, ``history`` how far back it has values,
    ``retention`` that of Prometheus, ``rule`` how often the recording rule that it reads is evaluated. ``largest`` is
    the largest load of the last hours. Of what the query takes rate() of, ``rated_kind`` is the type that Prometheus
    knows, and ``rated_falls`` whether its values fall as those of a gauge do, or never, as those of a counter.
    """

    workload: str
    failure: str = ""
    reason: str = ""
    twins: bool = False
    counter: str = ""
    is_gauge: bool = False
    age: float | None = None
    largest: float | None = None
    scrape: float | None = None
    history: float | None = None
    retention: float | None = None
    rule: float | None = None
    rated_kind: str = ""
    rated_falls: bool | None = None


@attrs.frozen
class AddressAnswer:
    """The result of connecting to a ``scalerAddress``: ``problem`` is empty if a gRPC server answers there."""

    address: str
    tls: bool
    problem: str = ""


@attrs.frozen
class WorkloadState:
    """What a running Kedastral says about a workload; ``urgency`` is from 0 (look at once) to 3 (fine)."""

    workload: str
    state: str
    urgency: int
    reason: str = ""


@attrs.frozen
class Unread:
    """Something that should have been examined but could not be read, and why; ``remedy`` if not the rule's own."""

    place: Place
    reason: str
    remedy: str = ""


@attrs.frozen
class Evidence:
    """All that was found out. ``jobs`` are ScaledJobs. ``workloads`` are by key; None, meaning unknown, if no settings
    were given. ``described`` are those that triggers describe, as far as their metadata can be read.

    ``authentications`` are the parameters that each TriggerAuthentication and ClusterTriggerAuthentication gives.
    ``default_requests`` are the namespaces and resources for which a LimitRange fills in what a container leaves out.
    ``namespace`` is that of objects whose manifest names none; empty if that is unknown too. ``is_complete``: these are
    all objects of the cluster, so that one that is not among them does not exist.
    """

    objects: tuple[ScalingObject, ...] = ()
    jobs: tuple[ScalingObject, ...] = ()
    hpas: tuple[PlainHpa, ...] = ()
    scalables: tuple[Scalable, ...] = ()
    pods: tuple[PodStart, ...] = ()
    default_requests: tuple[tuple[str, str], ...] = ()
    authentications: Mapping[ObjectName, tuple[str, ...]] = attrs.field(factory=dict)
    workloads: Mapping[str, WorkloadSettings] | None = None
    described: Mapping["TriggerKey", WorkloadSettings] = attrs.field(factory=dict)
    warnings: tuple[str, ...] = ()
    answers: Mapping[str, QueryAnswer] = attrs.field(factory=dict)
    addresses: Mapping[tuple[str, bool], AddressAnswer] = attrs.field(factory=dict)
    states: tuple[WorkloadState, ...] = ()
    unread: tuple[Unread, ...] = ()
    namespace: str = ""
    is_complete: bool = False

    @property
    def scaled_by_us(self) -> tuple[ScalingObject, ...]:
        """The ScaledObjects that have a trigger for Kedastral, or one that may be."""
        return tuple(one for one in self.objects if one.ours)

    @property
    def perhaps_scaled_by_us(self) -> tuple[ScalingObject, ...]:
        """The ScaledObjects and ScaledJobs whose trigger may be for Kedastral, or for another external scaler."""
        everyone = (*self.objects, *self.jobs)
        sure = {one.name for one in everyone if one.ours and not one.is_unsure}
        return tuple(one for one in everyone if one.is_unsure and one.name not in sure)

    def namespace_of(self, name: ObjectName) -> str:
        """The namespace of an object; empty if unknown."""
        return name.namespace or self.namespace

    def full_name_of(self, name: ObjectName) -> ObjectName:
        """The same name for a manifest that leaves its namespace out and for the object in the cluster."""
        return attrs.evolve(name, namespace=self.namespace_of(name))

    def lists_all_of(self, namespace: str) -> bool:
        """Whether the objects are all those of a namespace."""
        return self.is_complete and bool(namespace) and self.namespace in ("", namespace)

    def find_scalable(self, one: ScalingObject) -> Scalable | None:
        """What a ScaledObject scales, if its manifest is known."""
        for scalable in self.scalables:
            same = (scalable.name.kind, scalable.name.name) == (one.target.kind, one.target.name)
            if same and self.namespace_of(scalable.name) == self.namespace_of(one.name):
                return scalable
        return None

    def parameters_of(self, trigger: KedaTrigger, one: ScalingObject) -> tuple[str, ...] | None:
        """The parameters that a trigger gets from its authentication; None if that is unknown."""
        if not trigger.authentication:
            return ()
        is_clusters = trigger.authentication_kind.startswith("Cluster")
        namespace = "" if is_clusters else self.namespace_of(one.name)
        for name, parameters in self.authentications.items():
            known = "" if is_clusters else self.namespace_of(name)
            if (name.kind, name.name, known) == (trigger.authentication_kind, trigger.authentication, namespace):
                return parameters
        return None

    def wants_tls(self, trigger: KedaTrigger, one: ScalingObject) -> bool | None:
        """Whether KEDA uses TLS with the scaler; None if only its authentication, which is unknown, could say so."""
        if read_boolean(trigger.metadata.get("enableTLS", "")):
            return True
        parameters = self.parameters_of(trigger, one)
        return None if parameters is None else "caCert" in parameters or {*TLS_PAIR} <= {*parameters}

    def starts_of(self, one: ScalingObject) -> list[float]:
        """How long the pods of what a ScaledObject scales took to become Ready, fastest first."""
        scalable = self.find_scalable(one)
        namespace = self.namespace_of(one.name)
        return sorted(pod.seconds for pod in self.pods if pod.namespace == namespace and _belongs(pod, scalable, one))

    def workload_of(self, trigger: KedaTrigger, one: ScalingObject) -> WorkloadSettings | None:
        """The settings of the workload that a trigger names or describes; None if unknown."""
        return self.described.get(key_of(trigger, one)) or find_workload(self, trigger, one)

    def only_observes(self, one: ScalingObject) -> bool:
        """Whether all workloads of its triggers for Kedastral are known, and in mode observe."""
        known = [self.workload_of(trigger, one) for trigger in one.ours]
        return bool(known) and all(workload is not None and is_observed(workload) for workload in known)


TriggerKey = tuple[ObjectName, Place, int]
"""A trigger: its object, the object's place, and its number there. All objects of a cluster have the same place."""


def key_of(trigger: KedaTrigger, one: ScalingObject) -> TriggerKey:
    """The key of a trigger in ``Evidence.described``."""
    return one.name, one.place, one.triggers.index(trigger)


def find_workload(evidence: Evidence, trigger: KedaTrigger, one: ScalingObject) -> WorkloadSettings | None:
    """The configured workload that a trigger names, by the rules of the scaler; None if there is none.

    A bare name of an object whose namespace is unknown is looked up in every namespace, and must be unique.
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
    """Every trigger for Kedastral, with its object, and its workload's settings if known."""
    for one in evidence.scaled_by_us:
        for trigger in one.ours:
            yield one, trigger, evidence.workload_of(trigger, one)


def is_observed(workload: WorkloadSettings) -> bool:
    """Whether KEDA is told 0 about a workload, so that the plan decides nothing."""
    return workload.serving.mode is Mode.OBSERVE


def settings_of_queries(evidence: Evidence) -> Sequence[WorkloadSettings]:
    """The workloads whose query is known."""
    known = {one.key: one for one in (*(evidence.workloads or {}).values(), *evidence.described.values())}
    return [one for one in known.values() if one.query]
