# SPDX-License-Identifier: Apache-2.0
"""`read_to_replay`: the workloads of files that `backtest` replays, and the data sources it reads them from.

What `run` would make of the same files, flags and variables, but for two: ``--workload`` chooses one, and
``--prom-url`` is the way to the data sources of the files from where the backtest runs.
"""

from collections.abc import Mapping, Sequence

import attrs

from kedastral.config.backtest_settings import AUTO
from kedastral.config.documents import Document
from kedastral.config.fleet import ConfiguredFleet, FleetOrigin
from kedastral.config.fleet_settings import DataSourceSettings, FleetSettings, WorkloadSettings, key_of
from kedastral.config.keys import POLICY, SOURCE, SOURCE_SETTINGS, suggest
from kedastral.config.process import Process
from kedastral.config.reading import Given
from kedastral.config.settling import Layers, Settled, build_source, settle_source
from kedastral.errors import ConfigError

MOST_SHOWN = 20
"""Workloads that are named to whoever names one that is not there."""
_ADDRESS = frozenset(setting.name for setting in SOURCE_SETTINGS if setting.env)
_AUTO = "auto"


def read_to_replay(origin: FleetOrigin) -> tuple[ConfiguredFleet | None, list[str]]:
    """The workloads to replay and their data sources, or all the problems that there are."""
    try:
        documents, problems = origin.read_documents()
    except ConfigError as error:
        return None, list(error.problems)
    process = origin.process
    auto, process = _take_auto(process)
    elsewhere, process = _take_address(process, documents)
    wrong, process = _choose(process, [_key(document) for document in documents if document.kind == POLICY])
    address = settle_source(Layers(over=elsewhere, unknown=process.unknown)) if elsewhere else Settled()
    asked = attrs.evolve(origin, process=process)
    fleet, problems = asked.assemble(documents, [*problems, *wrong, *address.problems])
    if fleet is None:
        return None, problems
    workloads = {
        key: _with_auto_target(one) if auto else one
        for key, one in fleet.settings.workloads.items()
        if process.workload is None or key == process.workload
    }
    sources = {name: _reached(one, address, elsewhere) for name, one in fleet.settings.sources.items()}
    return attrs.evolve(fleet, settings=FleetSettings(sources=sources, workloads=workloads)), []


def _key(document: Document) -> str:
    return key_of(document.name or "", document.namespace)


def _without(process: Process, names: frozenset[str]) -> tuple[Mapping[str, Given], Process]:
    """What was given for ``names``, and ``process`` without it."""
    taken = {name: given for name, given in process.given.items() if name in names}
    left = {name: given for name, given in process.given.items() if name not in names}
    return taken, attrs.evolve(process, given=left)


def _take_auto(process: Process) -> tuple[bool, Process]:
    """A pod as large as the history says is no setting of ForecastPolicies; it is put into them in the end."""
    given = process.given.get("target_per_pod")
    if given is None or given.text.strip() != _AUTO:
        return False, process
    return True, _without(process, frozenset({"target_per_pod"}))[1]


def _with_auto_target(workload: WorkloadSettings) -> WorkloadSettings:
    return attrs.evolve(workload, plan=attrs.evolve(workload.plan, target_per_pod=AUTO))


def _take_address(process: Process, documents: Sequence[Document]) -> tuple[Mapping[str, Given], Process]:
    """The address and the login given for the files' data sources: those beside the flag ``--prom-url``.

    The variable PROM_URL is what it is in `run`, a data source of its own: in the Pod of a running Kedastral both
    commands then mean the same.
    """
    url = process.given.get("url")
    has_flag = url is not None and url.origin == "--prom-url"
    if not has_flag or not any(document.kind == SOURCE for document in documents):
        return {}, process
    return _without(process, _ADDRESS)


def _reached(source: DataSourceSettings, address: Settled, elsewhere: Mapping[str, Given]) -> DataSourceSettings:
    """``source`` at the address given, by the login given beside it, else by its own."""
    if not elsewhere:
        return source
    given = build_source(address.reading.values)
    login = given.login if len(elsewhere) > 1 else source.login
    return attrs.evolve(source, url=given.url, login=login)


def _choose(process: Process, keys: Sequence[str]) -> tuple[list[str], Process]:
    """``process`` with the whole key of the workload it names, of ``keys``; or what is wrong with that name.

    A name alone will do where it is that of one only. One that the files do not have may be described by flags.
    """
    name = process.workload
    if name is None or name in keys or "query" in process.given or "query" in process.unknown:
        return [], process
    named = [key for key in dict.fromkeys(keys) if key.rpartition("/")[2] == name]
    if len(named) == 1:
        chosen = attrs.evolve(process.given["workload"], text=named[0])
        return [], attrs.evolve(process, given={**process.given, "workload": chosen})
    if named:
        wrong = f"must say which {name[:100]!r}: {', '.join(named[:MOST_SHOWN])}"
    else:
        known = list(dict.fromkeys(key for key in keys if key))
        more = f" and {len(known) - MOST_SHOWN} more" if len(known) > MOST_SHOWN else ""
        there = f"there are {', '.join(known[:MOST_SHOWN])}{more}" if known else "there is none"
        near = suggest(name, known) if known else ""
        wrong = f"must name a ForecastPolicy of the files, got {name[:100]!r}; {near if '?' in near else there}"
    # the files are judged all the same, as though no flag were about a workload
    given = {name: given for name, given in process.given.items() if name in _ADDRESS}
    return [f"--workload {wrong}"], attrs.evolve(process, given=given)
