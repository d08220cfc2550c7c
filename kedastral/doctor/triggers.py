# SPDX-License-Identifier: Apache-2.0
"""What a trigger for Kedastral says: the address of the scaler, and the workload that its metadata describe."""

import re

import attrs

from kedastral.core.trigger import FROM_ENV, is_activation, is_from_variable
from kedastral.doctor.evidence import Evidence, KedaTrigger, ScalingObject
from kedastral.errors import ConfigError
from kedastral.settings.fleet import DataSourceSettings, WorkloadSettings
from kedastral.settings.metadata import read_workload
from kedastral.settings.resolve import ProcessInput
from kedastral.settings.types import HttpUrl

FROM_VARIABLE = "(from a variable)"


def read_address(address: str) -> tuple[str, int] | None:
    """Host and port of a ``scalerAddress``; None if it is invalid."""
    found = re.fullmatch(r"(?:(?:dns|passthrough):///)?(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})", address)
    if found is None or not 0 < int(found[2]) < 65536:
        return None
    return found[1].strip("[]"), int(found[2])


def ways_to_connect(evidence: Evidence, one: ScalingObject, trigger: KedaTrigger) -> tuple[bool, ...]:
    """Whether KEDA connects with TLS; both if nobody knows."""
    wants_tls = evidence.wants_tls(trigger, one)
    return (False, True) if wants_tls is None else (wants_tls,)


def problems_of(evidence: Evidence, one: ScalingObject, trigger: KedaTrigger) -> list[str]:
    """What Kedastral would refuse in the metadata of a trigger, as far as a manifest shows it."""
    if not trigger.describes_workload:
        activation = trigger.metadata.get("activation")
        is_bad = activation is not None and not is_activation(activation)
        return ["activation must be a number of at least 0"] if is_bad else []
    try:
        read_described_workload(evidence, one, trigger)
    except ConfigError as error:
        return list(error.problems)
    return []


def read_described_workload(evidence: Evidence, one: ScalingObject, trigger: KedaTrigger) -> WorkloadSettings:
    """The workload that a trigger describes. Raises ConfigError.

    A value from a variable cannot be read, so its default is used; any data source that it names is assumed to exist.
    """
    known = {key: text for key, text in trigger.metadata.items() if not is_from_variable(key)}
    if trigger.metadata.keys() - known.keys() >= {"query" + FROM_ENV}:
        known["query"] = FROM_VARIABLE
    sources = {known.get("dataSource", "default"): DataSourceSettings(url=HttpUrl("http://prometheus"))}
    name, namespace = one.name.name or "unnamed", evidence.namespace_of(one.name)
    workload = read_workload(sources, ProcessInput(), namespace, name, known)
    return attrs.evolve(workload, query="") if workload.query == FROM_VARIABLE else workload
