# SPDX-License-Identifier: Apache-2.0
"""Reads manifests: turns YAML or JSON with ScaledObjects, HPAs, Deployments and Pods into the values of the evidence.

Everything else in them is ignored, and Secrets and environments of containers are never read.
"""

import codecs
import math
from collections.abc import Iterator, Sequence
from datetime import datetime

import attrs

from kedastral.core.series import HOUR
from kedastral.doctor.evidence import (
    RESOURCE_TYPES,
    ObjectName,
    Place,
    PlainHpa,
    PodStart,
    Scalable,
    ScalingObject,
    Unread,
)
from kedastral.doctor.nodes import MERGE, integer_at, name_of, node_at, place_of, rows_at, text_at, texts_at
from kedastral.doctor.ownership import PRODUCT
from kedastral.doctor.scaled_objects import SCALED_JOB, SCALED_OBJECT, read_scaled_object, read_target
from kedastral.settings.yaml import Node, Rows, Scalar, Table, YamlError, read_documents

MAX_DEPTH = 60
"""How deep a manifest may be nested: CustomResourceDefinitions are deep."""
MAX_NODES = 20_000_000
"""The most values of one input; a cluster's list of ten thousand pods has a tenth of that."""
PARAMETERS = (
    "secretTargetRef", "configMapTargetRef", "env", "boundServiceAccountToken", "hashiCorpVault.secrets",
    "azureKeyVault.secrets", "gcpSecretManager.secrets", "awsSecretManager.secrets",
)  # fmt: skip
"""The lists below ``spec`` of a TriggerAuthentication whose items name a parameter."""
MAX_MERGED = 1_000_000
"""The most keys that merge keys may add to one document: a few lines could add thousands of times as many."""


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
                self.services.append(name_of(node, kind))
            case "TriggerAuthentication" | "ClusterTriggerAuthentication" if node_at(node, "spec", "filePath") is None:
                self.authentications[name_of(node, kind)] = tuple(_read_parameters(node))
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
    target = read_target(node_at(node, "spec", "scaleTargetRef"))
    return PlainHpa(name_of(node, "HorizontalPodAutoscaler"), place_of(file, node), target)


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
    return Scalable(name_of(node, kind), place_of(file, node), labels, missing, names, replicas, is_ordered)


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


LONGEST_START = HOUR
"""Seconds; a pod that became Ready later than that has probably been Ready before."""


def _time(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
