# SPDX-License-Identifier: Apache-2.0
"""Puts flags and documents together: every data source, every workload, and that they fit each other. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import attrs

from kedastral.config.documents import Document
from kedastral.config.fields import Setting
from kedastral.config.fleet_settings import DEFAULT_SOURCE, DataSourceSettings, WorkloadSettings, key_of
from kedastral.config.keys import (
    POLICY,
    QUERY,
    SOURCE,
    SOURCE_SETTINGS,
    WORKLOAD_SETTINGS,
    policy_place,
    source_place,
    suggest,
)
from kedastral.config.process import Process
from kedastral.config.reading import Given, describe
from kedastral.config.settling import (
    Layers,
    Line,
    Settled,
    build_source,
    build_workload,
    say_together,
    settle_source,
    settle_workload,
)
from kedastral.config.unhurried import Rest, no_rest

_LOGIN = {setting.name: setting for setting in SOURCE_SETTINGS if setting.env and setting.name != "url"}


@attrs.define
class Assembly:
    """Sources and workloads as far as they are sound, problems, and lines about what is odd."""

    process: Process
    sources: dict[str, DataSourceSettings] = attrs.field(factory=dict)
    workloads: dict[str, WorkloadSettings] = attrs.field(factory=dict)
    problems: list[str] = attrs.field(factory=list)
    warnings: list[str] = attrs.field(factory=list)
    _places: dict[str, dict[str, str]] = attrs.field(factory=lambda: {SOURCE: {}, POLICY: {}})
    """Where each source and each workload was found first, by kind and name; those that are not sound too."""
    _conflicts: list[Line] = attrs.field(factory=list)
    _oddities: list[Line] = attrs.field(factory=list)
    _overridden: dict[str, list[str]] = attrs.field(factory=dict)

    @classmethod
    def of(cls, process: Process, documents: Sequence[Document], *, has_all: bool, rest: Rest = no_rest) -> "Assembly":
        """All of it; unless ``has_all``, something was not readable and what is missing may be there."""
        made = cls(process)
        made._add_flags_source()
        for document in documents:
            if document.kind == SOURCE:
                made._add_source(document)
        for document in documents:
            rest()
            if document.kind == POLICY:
                made._add_policy(document)
        made._add_flags_workload()
        made._check_flags()
        made.problems += say_together(made._conflicts)
        made.warnings += say_together(made._oddities)
        if has_all and not made.problems:
            made._check_not_empty()
        return made

    def _add_flags_source(self) -> None:
        given = {name: self.process.given[name] for name in ("url", *_LOGIN) if name in self.process.given}
        if "url" not in self.process.given and self.process.has_files:
            self.warnings += [
                f"{_LOGIN[name].shown} is not used: it goes with --prom-url, which is not given; "
                "DataSource documents have their own"
                for name in given
                if name in _LOGIN and not _LOGIN[name].is_secret
            ]
            return
        settled = settle_source(Layers(over=given, unknown=self.process.unknown))
        self._take(settled)
        if "url" in given or "url" in self.process.unknown:
            self._places[SOURCE][DEFAULT_SOURCE] = "--prom-url"
        if _is_whole(settled, SOURCE_SETTINGS) and settled.reading.values["url"] is not None:
            self.sources[DEFAULT_SOURCE] = build_source(settled.reading.values)

    def _add_source(self, document: Document) -> None:
        settled = settle_source(Layers(document.reading, source_place(document.place)))
        self._take(settled)
        name = document.name
        if name is None or self._is_taken(SOURCE, name, f"data source {name}", document.place):
            return
        if not document.reading.problems and _is_whole(settled, SOURCE_SETTINGS):
            values = settled.reading.values
            self.sources[name] = build_source(values, name=name, namespaces=document.namespaces, origin=document.place)

    def _add_policy(self, document: Document) -> None:
        key = key_of(document.name or "", document.namespace)
        over = self.process.over(key)
        layers = Layers(document.reading, policy_place(document.place), over, unknown=self.process.unknown)
        settled = settle_workload(layers, f"{key or 'a workload'} in {document.place}")
        self._take(settled)
        self._note_overridden(document, over, key)
        source = self._find_source(document)
        if document.name is None or self._is_taken(POLICY, key, f"workload {key}", document.place):
            return
        if source and not document.reading.problems and _is_whole(settled, (QUERY, *WORKLOAD_SETTINGS)):
            self.workloads[key] = build_workload(
                settled.reading.values,
                workload=document.name,
                namespace=document.namespace,
                data_source=source,
                origin=document.place,
                by_default=settled.by_default,
            )

    def _add_flags_workload(self) -> None:
        process = self.process
        name = process.workload
        if not process.describes_a_workload or name in self._places[POLICY]:
            return
        settled = settle_workload(Layers(over=process.over(name), unknown=process.unknown), needs_query=False)
        self._take(settled)
        if name is None:
            return  # told where flags are read
        if (
            "query" not in process.given
            and "query" not in process.unknown
            and (process.has_files or process.takes_scaledobjects)
        ):
            self.problems.append(describe(QUERY, "is required with --workload, which no document describes", None))
        source = self._flags_choice()
        if source and "query" in process.given and _is_whole(settled, WORKLOAD_SETTINGS):
            values = {**settled.reading.values, "query": QUERY.read(process.given["query"].text)}
            self.workloads[name] = build_workload(
                values, workload=name, data_source=source, by_default=settled.by_default
            )

    def _take(self, settled: Settled) -> None:
        self.problems += settled.reading.problems
        self._conflicts += settled.conflicts
        process = self.process
        self._oddities += [line for line in settled.oddities if process.has_files or line.name in process.known]

    def _is_taken(self, kind: str, name: str, shown: str, place: str) -> bool:
        first = self._places[kind].setdefault(name, place)
        if first is not place:
            self.problems.append(f"{place}: {shown} is there already, from {first}; give one another name")
            return True
        return False

    def _find_source(self, document: Document) -> str | None:
        names = self._places[SOURCE]
        if "data_source" in document.reading.given and document.refers is None:
            return None
        if document.refers is not None:
            if document.refers not in names:
                hint = suggest(document.refers, names) if names else "there is none"
                self.problems.append(
                    f"{document.place}: spec.dataSource must name a DataSource, got {document.refers[:100]!r}; {hint}"
                )
                return None
            return document.refers
        return self._choose_source(names, f"{document.place}: spec.dataSource")

    def _flags_choice(self) -> str | None:
        names = self._places[SOURCE]
        if DEFAULT_SOURCE in names or len(names) == 1 or "url" in self.process.unknown:
            return self._choose_source(names, "")
        if self.process.has_files:
            self.problems.append(
                "--prom-url is required with --workload, since no data source of the files is the only one, or is "
                f"called {DEFAULT_SOURCE}; set it with --prom-url or PROM_URL"
            )
        return None

    def _choose_source(self, names: Collection[str], shown: str) -> str | None:
        """The one of the flags, else the only one."""
        if DEFAULT_SOURCE in names:
            return DEFAULT_SOURCE
        if len(names) == 1:
            return next(iter(names))
        some = ", ".join(list(names)[:20])
        choice = f"name one of {some} there" if names else "add a DataSource document, or --prom-url"
        if "url" not in self.process.unknown:
            self.problems.append(f"{shown} is required; {choice}")
        return None

    def _note_overridden(self, document: Document, over: Mapping[str, Given], key: str) -> None:
        for name in over:
            if name in document.reading.given:
                self._overridden.setdefault(name, []).append(f"{key} in {document.place}")

    def _check_flags(self) -> None:
        process = self.process
        for name, keys in self._overridden.items():
            given, path = process.given[name], policy_place("").paths[name]
            more = f" and {len(keys) - 1} more" if keys[1:] else ""
            self.warnings.append(f"{given.origin} wins over {path} of {keys[0]}{more}")
        if not process.describes_a_workload and "query" in process.given:
            self.problems.append(
                f"{QUERY.shown} must stand beside --workload, since one workload has one query; set both or neither"
            )

    def _check_not_empty(self) -> None:
        process = self.process
        may_be_empty = process.takes_scaledobjects or process.describes_a_workload or process.unknown
        if process.has_files and not self.workloads and not may_be_empty:
            self.problems.append(
                "--config names no workload; add a ForecastPolicy document, or set --allow-scaledobject-workloads"
            )


def _is_whole(settled: Settled, settings: Iterable[Setting]) -> bool:
    values: Mapping[str, Any] = settled.reading.values
    return not settled.problems and all(setting.name in values for setting in settings)
