# SPDX-License-Identifier: Apache-2.0
"""The fleet to replay in a backtest: as in `run` with the same files, flags and variables, with two exceptions.

``--workload`` chooses one workload, and ``--prom-url`` is the address at which the backtest reaches the data sources of
the files.
"""

from collections.abc import Sequence

import attrs

from kedastral.errors import ConfigError
from kedastral.settings.documents import Document
from kedastral.settings.fleet import ConfiguredFleet, DataSourceSettings, FleetSettings, WorkloadSettings, key_of
from kedastral.settings.fleet_reader import FleetReader
from kedastral.settings.kinds import ADDRESS, POLICY, SOURCE, SOURCE_SETTINGS
from kedastral.settings.layers import Layer
from kedastral.settings.resolve import ProcessInput, Resolved, build_source, check, merge, resolve
from kedastral.settings.rules import RULES, find_destinations, find_faults_of_environment
from kedastral.settings.spelling import suggest
from kedastral.settings.types import AUTO

MAX_NAMED = 20
"""How many workloads the error about an unknown workload lists."""


def read_to_replay(reader: FleetReader) -> tuple[ConfiguredFleet | None, list[str]]:
    """The workloads to replay and their data sources, or all the problems there are."""
    try:
        documents, problems = reader.read_documents()
    except ConfigError as error:
        return None, list(error.problems)
    auto, process = _take_auto(reader.process)
    elsewhere, process = _take_address(process, documents)
    wrong, process = _choose(process, [_key(document) for document in documents if document.kind == POLICY])
    address = resolve(SOURCE_SETTINGS, elsewhere)
    problems += [*wrong, *address.problems, *(merge(check(address, RULES)) if elsewhere else ())]
    asked = attrs.evolve(reader, process=process)
    if elsewhere:  # the addresses in the files are not used
        problems += find_faults_of_environment(find_destinations(address.values), reader.env)
        asked = attrs.evolve(asked, env={})
    fleet, problems = asked.assemble(documents, problems)
    if fleet is None:
        return None, problems
    workloads = {
        key: _with_auto_target(one) if auto else one
        for key, one in fleet.settings.workloads.items()
        if process.workload is None or key == process.workload
    }
    sources = {name: _move(one, address) if elsewhere else one for name, one in fleet.settings.sources.items()}
    return attrs.evolve(fleet, settings=FleetSettings(sources=sources, workloads=workloads)), []


def _key(document: Document) -> str:
    return key_of(document.name or "", document.namespace)


def _take_auto(process: ProcessInput) -> tuple[bool, ProcessInput]:
    """Whether the target per pod comes from the history. ForecastPolicies have no such value, so it is set last."""
    raw = process.find("target_per_pod")
    if raw is None or raw.text.strip() != repr(AUTO):
        return False, process
    return True, process.without({"target_per_pod"})


def _with_auto_target(workload: WorkloadSettings) -> WorkloadSettings:
    return attrs.evolve(workload, plan=attrs.evolve(workload.plan, target_per_pod=AUTO))


def _take_address(process: ProcessInput, documents: Sequence[Document]) -> tuple[tuple[Layer, ...], ProcessInput]:
    """The address and login given for the files' data sources: the flag ``--prom-url`` and the login with it.

    The variable PROM_URL is a data source of its own, as in `run`: in the Pod of a running Kedastral both commands then
    mean the same.
    """
    url = process.find("url")
    has_flag = url is not None and url.origin == "--prom-url"
    if not has_flag or not any(document.kind == SOURCE for document in documents):
        return (), process
    return process.without(process.known - ADDRESS).layers, process.without(ADDRESS)


def _move(source: DataSourceSettings, address: Resolved) -> DataSourceSettings:
    """``source`` at the given address, with the login given for it, else with its own."""
    given = build_source(address.values)
    return attrs.evolve(source, url=given.url, login=given.login if len(address.given) > 1 else source.login)


def _choose(process: ProcessInput, keys: Sequence[str]) -> tuple[list[str], ProcessInput]:
    """``process`` with the full key, from ``keys``, of the workload it names; or what is wrong with that name.

    A name alone suffices if it is unique. A workload that the files do not have may be described by flags.
    """
    name = process.workload
    if name is None or name in keys or process.gives("query"):
        return [], process
    named = [key for key in dict.fromkeys(keys) if key.rpartition("/")[2] == name]
    if len(named) == 1:
        return [], attrs.evolve(process, workload=named[0])
    if named:
        wrong = f"must say which {name[:100]!r}: {', '.join(named[:MAX_NAMED])}"
    else:
        known = list(dict.fromkeys(key for key in keys if key))
        more = f" and {len(known) - MAX_NAMED} more" if len(known) > MAX_NAMED else ""
        there = f"there are {', '.join(known[:MAX_NAMED])}{more}" if known else "there is none"
        near = suggest(name, known) if known else ""
        wrong = f"must name a ForecastPolicy of the files, got {name[:100]!r}; {near if '?' in near else there}"
    # the files are checked anyway, as if no flag were about a workload
    return [f"--workload {wrong}"], attrs.evolve(process.without(process.known - ADDRESS), workload=None)
