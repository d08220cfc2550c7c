# SPDX-License-Identifier: Apache-2.0
"""Reads the fleet from flags and documents: every data source and workload, and whether they fit each other."""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

import attrs

from kedastral.cooperative import Pause, Pauses, no_pause, without_garbage_collection
from kedastral.errors import ConfigError
from kedastral.settings.documents import Document, place_in, read_config_documents
from kedastral.settings.files import read_config_files
from kedastral.settings.fleet import (
    DEFAULT_SOURCE,
    ConfiguredFleet,
    DataSourceSettings,
    FleetSettings,
    WorkloadSettings,
    key_of,
)
from kedastral.settings.kinds import ADDRESS, POLICY, POLICY_SETTINGS, QUERY, SOURCE, SOURCE_SETTINGS, WORKLOAD_SETTINGS
from kedastral.settings.layers import Layer, SourceLocation, describe
from kedastral.settings.metadata import read_workload
from kedastral.settings.promql import warn_of_raw_counter
from kedastral.settings.resolve import ProcessInput, Resolved, build, build_source, check, merge, resolve
from kedastral.settings.rules import (
    RULES,
    WARNINGS,
    Destination,
    Finding,
    find_destinations,
    find_faults_of_environment,
)
from kedastral.settings.schema import Setting
from kedastral.settings.spelling import suggest

MAX_PROBLEMS = 200
"""The most problems shown for one configuration; nobody reads more."""


@attrs.define
class _FleetBuilder:
    """The valid sources and workloads, problems (each line once), and lines about odd settings."""

    process: ProcessInput
    sources: dict[str, DataSourceSettings] = attrs.field(factory=dict)
    workloads: dict[str, WorkloadSettings] = attrs.field(factory=dict)
    problems: dict[str, None] = attrs.field(factory=dict)
    warnings: list[str] = attrs.field(factory=list)
    _destinations: list[Destination] = attrs.field(factory=list)
    _source_places: dict[str, str] = attrs.field(factory=dict)
    _workload_places: dict[str, str] = attrs.field(factory=dict)
    """Where each was first found, by name, including invalid ones."""
    _conflicts: list[Finding] = attrs.field(factory=list)
    _odd: list[Finding] = attrs.field(factory=list)
    _overridden: dict[str, list[str]] = attrs.field(factory=dict)

    def add_all(self, documents: Sequence[Document], pause: Pause) -> None:
        """Add the complete fleet and its problems."""
        self._add_flag_source()
        for document in documents:
            if document.kind == SOURCE:
                self._add_source(document)
        for document in documents:
            pause()
            if document.kind == POLICY:
                self._add_policy(document)
        self._add_flag_workload()
        self._check_flags()
        self._refuse(*merge(self._conflicts))
        self.warnings += merge(self._odd)

    def check_environment(self, env: Mapping[str, str]) -> None:
        """Check that the environment allows reaching each address, including those of invalid sources and workloads."""
        self._refuse(*find_faults_of_environment(self._destinations, env))

    def check_not_empty(self) -> None:
        """Check that at least one workload exists or may be added."""
        process = self.process
        is_unknown = any(layer.has_invalid for layer in process.layers)
        may_be_empty = is_unknown or process.takes_scaledobjects or process.describes_a_workload
        if process.has_files and not self.workloads and not may_be_empty:
            self._refuse(
                "--config names no workload; add a ForecastPolicy document, or set --allow-scaledobject-workloads"
            )

    def _refuse(self, *lines: str) -> None:
        self.problems.update(dict.fromkeys(lines))

    def _resolve(
        self, settings: Sequence[Setting], layers: Sequence[Layer], place: SourceLocation | None, owner: str = ""
    ) -> Resolved:
        resolved = resolve(settings, layers)
        self._refuse(*resolved.problems)
        if place is not None:
            self._refuse(*(describe(setting, "is required", None, place) for setting in resolved.missing))
        self._conflicts += check(resolved, RULES, place, owner)
        self._destinations += find_destinations(resolved.values)
        known = self.process.known
        is_for_all = self.process.has_files
        self._odd += [one for one in check(resolved, WARNINGS, place, owner) if is_for_all or one.name in known]
        return resolved

    def _add_flag_source(self) -> None:
        process = self.process
        has_url = bool(process.gives("url"))
        if not has_url and process.has_files:
            login = {s.name: s for s in SOURCE_SETTINGS if s.name in ADDRESS and not s.is_secret}
            self.warnings += [
                f"{login[name].shown} is not used: it goes with --prom-url, which is not given; "
                "DataSource documents have their own"
                for name in process.gives(*login)
            ]
            return
        resolved = self._resolve(SOURCE_SETTINGS, process.layers, None)
        if has_url:
            self._source_places[DEFAULT_SOURCE] = "--prom-url"
        if resolved.is_whole:
            self.sources[DEFAULT_SOURCE] = build_source(resolved.values)

    def _add_source(self, document: Document) -> None:
        place = document.place
        resolved = self._resolve(SOURCE_SETTINGS, (document.layer,), place)
        name = document.name
        if name is None or self._is_taken(self._source_places, name, f"data source {name}", place):
            return
        if not document.problems and resolved.is_whole:
            more = {"name": name, "namespaces": document.namespaces, "origin": place.words}
            self.sources[name] = build_source(resolved.values, **more)

    def _add_policy(self, document: Document) -> None:
        key, place = key_of(document.name or "", document.namespace), document.place
        over = self.process.layers_of(key)
        owner = f"{key or 'a workload'} in {place.words}"
        resolved = self._resolve(POLICY_SETTINGS, (*over, document.layer), place, owner)
        self._note_overridden(document, over, key)
        source = self._find_source(document)
        if document.name is None or self._is_taken(self._workload_places, key, f"workload {key}", place):
            return
        if source and not document.problems and resolved.is_whole:
            self.workloads[key] = build(
                WorkloadSettings,
                resolved.values,
                query=resolved.values["query"],
                workload=document.name,
                namespace=document.namespace,
                data_source=source,
                origin=place.words,
                by_default=resolved.by_default,
                warnings=warn_of_raw_counter(key, resolved.values["query"]),
            )

    def _add_flag_workload(self) -> None:
        process, name = self.process, self.process.workload
        if not process.describes_a_workload or name in self._workload_places:
            return
        resolved = self._resolve(WORKLOAD_SETTINGS, process.layers, None)
        if name is None:
            return  # reported when flags are read
        query = resolve((QUERY,), process.layers)
        if query.missing and (process.has_files or process.takes_scaledobjects):
            self._refuse(describe(QUERY, "is required with --workload, which no document describes", None))
        source = self._choose_flag_source()
        if source and query.is_whole and resolved.is_whole:
            self.workloads[name] = build(
                WorkloadSettings,
                resolved.values,
                query=query.values["query"],
                workload=name,
                data_source=source,
                by_default=resolved.by_default,
                warnings=warn_of_raw_counter(name, query.values["query"]),
            )

    def _is_taken(self, places: dict[str, str], name: str, shown: str, place: SourceLocation) -> bool:
        first = places.setdefault(name, str(place))
        if first == str(place):
            return False
        self._refuse(f"{place}: {shown} already exists, from {first}; give one another name")
        return True

    def _find_source(self, document: Document) -> str | None:
        names = self._source_places
        if document.refers_badly:
            return None
        if document.refers is None:
            return self._choose_source(names, f"{document.place}: spec.dataSource")
        if document.refers in names:
            return document.refers
        hint = suggest(document.refers, names) if names else "there is none"
        where = document.place.at(document.refers_line)
        self._refuse(f"{where}: spec.dataSource must name a DataSource, got {document.refers[:100]!r}; {hint}")
        return None

    def _choose_flag_source(self) -> str | None:
        names = self._source_places
        if DEFAULT_SOURCE in names or len(names) == 1:
            return self._choose_source(names, "")
        if self.process.has_files:
            self._refuse(
                "--prom-url is required with --workload, since no data source of the files is the only one, or is "
                f"called {DEFAULT_SOURCE}; set it with --prom-url or PROM_URL"
            )
        return None

    def _choose_source(self, names: Collection[str], shown: str) -> str | None:
        """The source given by flags, else the only one."""
        if DEFAULT_SOURCE in names:
            return DEFAULT_SOURCE
        if len(names) == 1:
            return next(iter(names))
        some = ", ".join(list(names)[:20])
        choice = f"name one of {some} there" if names else "add a DataSource document, or --prom-url"
        self._refuse(f"{shown} is required; {choice}")
        return None

    def _note_overridden(self, document: Document, over: Sequence[Layer], key: str) -> None:
        for name in dict.fromkeys(name for layer in over for name in layer.raw):
            if name in document.layer.raw:
                self._overridden.setdefault(name, []).append(f"{key} in {document.place.words}")

    def _check_flags(self) -> None:
        process, paths = self.process, place_in(POLICY).paths
        for name, keys in self._overridden.items():
            raw = process.find(name)
            more = f" and {len(keys) - 1} more" if keys[1:] else ""
            if raw is not None:
                self.warnings.append(f"{raw.origin} wins over {paths[name]} of {keys[0]}{more}")
        if not process.describes_a_workload and process.gives("query"):
            self._refuse(
                f"{QUERY.shown} must be given with --workload, since one workload has one query; set both or neither"
            )


@attrs.frozen
class FleetReader:
    """Reads a fleet: flags and variables as of the start, and the files at ``path`` as they are now.

    ``env`` has the secrets that documents refer to, and names proxies and authorities.
    """

    process: ProcessInput
    path: Path | None = None
    env: Mapping[str, str] = attrs.field(factory=dict, repr=False)

    def read(self) -> tuple[ConfiguredFleet | None, list[str]]:
        """The fleet, or all its problems."""
        try:
            documents, problems = self.read_documents()
        except ConfigError as error:
            return None, list(error.problems)
        return self.assemble(documents, problems)

    def read_again(self) -> ConfiguredFleet:
        """The fleet, read while an event loop runs that must not be held up. Raises ConfigError."""
        pause = Pauses()
        with without_garbage_collection():
            fleet, problems = self.assemble(*self.read_documents(pause), pause)
        if fleet is None:
            raise ConfigError(limit_problems(problems))
        return fleet

    def read_documents(self, pause: Pause = no_pause) -> tuple[list[Document], list[str]]:
        """The documents of the files as they are now, and all problems; ConfigError if a file cannot be read."""
        files = read_config_files(self.path) if self.path is not None else []
        return read_config_documents(files, self.env, pause)

    def assemble(
        self, documents: Sequence[Document], problems: Sequence[str], pause: Pause = no_pause
    ) -> tuple[ConfiguredFleet | None, list[str]]:
        """The fleet of ``documents``, in which ``problems`` were found, or all the problems."""
        builder = _FleetBuilder(self.process, problems=dict.fromkeys(problems))
        builder.add_all(documents, pause)
        builder.check_environment(self.env)
        if not builder.problems and (self.path is not None or not self.process.has_files):
            builder.check_not_empty()
        if builder.problems:
            return None, list(builder.problems)
        fleet = ConfiguredFleet(
            settings=FleetSettings(sources=builder.sources, workloads=builder.workloads),
            shared_warnings=tuple(dict.fromkeys(builder.warnings)),
            path=self.path,
            read_again=self.read_again,
            workload_from_metadata=partial(read_workload, builder.sources, self.process),
        )
        return fleet, []


def limit_problems(problems: Sequence[str]) -> list[str]:
    """The first problems if there are too many, and how many more there are."""
    left = len(problems) - MAX_PROBLEMS
    return [*problems[:MAX_PROBLEMS], f"and {left} more problems"] if left > 0 else list(problems)
