# SPDX-License-Identifier: Apache-2.0
"""The precedence of settings: flags over variables over documents and trigger metadata over defaults.

`resolve` takes each setting from the first layer that gives it; `load` does that for a command, `_FleetBuilder` for
each workload and data source, `read_workload` for a ScaledObject, and `read_to_replay` for a backtest.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import attrs

from kedastral.cooperative import Rest, Rests, no_rest, without_garbage_collection
from kedastral.core.trigger import describe_value, find_value, key_in
from kedastral.errors import ConfigError
from kedastral.settings.commands import BY_COMMAND, BacktestSettings, DoctorSettings
from kedastral.settings.declarations import ForecastSettings, PrometheusLogin
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
from kedastral.settings.kinds import POLICY, POLICY_SETTINGS, QUERY, SOURCE, SOURCE_SETTINGS, WORKLOAD_SETTINGS
from kedastral.settings.layers import (
    Invalid,
    Layer,
    RawValue,
    SourceLocation,
    Value,
    describe,
    read_environment,
    read_flags,
)
from kedastral.settings.metadata import IN_METADATA, METADATA, one_line, read_metadata, read_workload_name
from kedastral.settings.rules import (
    RULES,
    WARNINGS,
    Destination,
    Origin,
    Rule,
    find_conflicts,
    find_destinations,
    find_faults_of_environment,
)
from kedastral.settings.schema import Setting, groups_of, own_settings_of, settings_of
from kedastral.settings.spelling import find_misspelt_variables, find_near, means_other_name, suggest
from kedastral.settings.types import AUTO, Name, write_duration, write_value

T = TypeVar("T")
MAX_PROBLEMS = 200
"""Lines that are shown of one configuration; whoever has more reads no further."""


# Precedence.


@attrs.define
class Resolved:
    """The resolved values, by name, and what was given for those that have no default.

    ``missing`` are required and nobody gave them; neither they nor what is invalid have a value.
    """

    settings: Mapping[str, Setting]
    values: dict[str, Any] = attrs.field(factory=dict)
    given: dict[str, RawValue] = attrs.field(factory=dict)
    missing: list[Setting] = attrs.field(factory=list)
    problems: list[str] = attrs.field(factory=list)

    @property
    def by_default(self) -> frozenset[str]:
        """The names of the settings that nobody gave."""
        return frozenset(self.values.keys() - self.given.keys())

    @property
    def is_whole(self) -> bool:
        """Whether every setting has a value."""
        return len(self.values) == len(self.settings)


def resolve(settings: Iterable[Setting], layers: Sequence[Layer]) -> Resolved:
    """The value of each of ``settings`` from the first of ``layers`` that gives it, else its default."""
    resolved = Resolved({setting.name: setting for setting in settings})
    for name, setting in resolved.settings.items():
        found = _find_first(setting, layers)
        if isinstance(found, Value):
            resolved.values[name], resolved.given[name] = found.value, found.raw
        elif isinstance(found, Invalid):
            resolved.problems.append(found.problem)
        elif setting.required:
            resolved.missing.append(setting)
        else:
            resolved.values[name] = setting.default_value
    return resolved


def _find_first(setting: Setting, layers: Sequence[Layer]) -> Value | Invalid | None:
    for layer in layers:
        found = layer.find(setting)
        if found is not None:
            return found
    return None


@attrs.frozen
class Finding:
    """A line about a broken rule, and the setting to blame; ``owner`` is whose it is, where a flag broke it."""

    name: str
    line: str
    owner: str = ""


def check(
    resolved: Resolved, rules: Sequence[Rule], place: SourceLocation | None = None, owner: str = ""
) -> Iterator[Finding]:
    """What ``rules`` find in settings that ``place`` could have given; ``owner`` is whose they are."""

    def origin_of(name: str) -> Origin:
        if name in resolved.given:
            return Origin.GIVEN
        return Origin.LEFT_OUT if place is not None and name in place.paths else Origin.DEFAULT

    for conflict in find_conflicts(resolved.values, origin_of, rules):
        name, wrong, remedy = conflict.rule.blames, conflict.wrong, conflict.rule.remedy
        raw = resolved.given.get(name)
        if place is not None:
            by_flags = {one for one, given in resolved.given.items() if not given.path}
            wrong, remedy = place.translate(wrong, by_flags), place.translate(remedy, by_flags)
            if conflict.rule.only is Origin.LEFT_OUT:  # one line, however many leave it out
                yield Finding(name, f"{place.paths[name]} {wrong}; {remedy}", owner)
                continue
        is_own = raw.path != "" if raw is not None else place is not None and name in place.paths
        line = describe(resolved.settings[name], wrong, raw, place, remedy)
        yield Finding(name, line, "" if is_own or place is None else owner)


def merge(findings: Iterable[Finding]) -> list[str]:
    """The lines of ``findings``, each once: a flag that is wrong for a thousand workloads is one problem."""
    owners: dict[str, list[str]] = {}
    for finding in findings:
        owners.setdefault(finding.line, []).append(finding.owner)
    return [line + _name_owners(found) for line, found in owners.items()]


def _name_owners(owners: Sequence[str]) -> str:
    more = f", and {len(owners) - 1} more" if owners[1:] else ""
    return f" ({owners[0]}{more})" if owners[0] else ""


def build(kind: type[T], values: Mapping[str, Any], **more: Any) -> T:
    """A settings class from the values of its settings; ``more`` are its other fields.

    A setting without a value, since another one replaces it, has its default.
    """
    groups = {name: build(group_kind, values) for name, group_kind in groups_of(kind)}
    own = {name: values[name] for name in own_settings_of(kind) if name in values}
    return kind(**groups, **own, **more)


def build_source(values: Mapping[str, Any], **more: Any) -> DataSourceSettings:
    """The settings of a data source; ``more`` is its name, the namespaces that may use it, and its origin."""
    login = PrometheusLogin(**{field.name: values[field.name] for field in attrs.fields(PrometheusLogin)})
    own = {name: values[name] for name in ("url", "timeout", "max_concurrent", "max_per_second")}
    return DataSourceSettings(login=login, **own, **more)


# The fleet: every data source and every workload of flags and documents, and that they fit each other.

_WORKLOAD_NAMES = frozenset(setting.name for setting in POLICY_SETTINGS)
_ADDRESS = frozenset(setting.name for setting in SOURCE_SETTINGS if setting.env)
"""Where Prometheus is, and how to log in there."""
OF_FLEETS = _WORKLOAD_NAMES | _ADDRESS | {"workload"}
"""Settings that are about workloads and data sources; a command that has a fleet judges them there."""


@attrs.frozen
class ProcessInput:
    """The flags and variables for workloads and data sources.

    ``layers`` are the flags and the environment, ``known`` the names of all settings that the command has, ``workload``
    the one that they name. ``has_files`` and ``takes_scaledobjects``: workloads may come from there too.
    """

    layers: tuple[Layer, ...] = ()
    known: frozenset[str] = frozenset()
    workload: str | None = None
    has_files: bool = False
    takes_scaledobjects: bool = False

    def find(self, name: str) -> RawValue | None:
        """What is given for the setting ``name``, sound or not."""
        return next((layer.raw[name] for layer in self.layers if name in layer.raw), None)

    def gives(self, *names: str) -> list[str]:
        """Those of ``names`` that are given, sound or not."""
        return [name for name in names if self.find(name) is not None]

    @property
    def describes_a_workload(self) -> bool:
        """Whether flags and variables are about one workload, rather than about all there are."""
        return bool(self.gives("workload")) or not (self.has_files or self.takes_scaledobjects)

    def layers_of(self, key: str | None) -> tuple[Layer, ...]:
        """What wins over the document of the workload ``key``."""
        return () if self.describes_a_workload and key != self.workload else self.layers

    def without(self, names: Collection[str]) -> "ProcessInput":
        """The same but for ``names``."""
        return attrs.evolve(self, layers=tuple(layer.without(names) for layer in self.layers))


@attrs.define
class _FleetBuilder:
    """Sources and workloads as far as they are sound, problems (each line once), and lines about odd settings."""

    process: ProcessInput
    sources: dict[str, DataSourceSettings] = attrs.field(factory=dict)
    workloads: dict[str, WorkloadSettings] = attrs.field(factory=dict)
    problems: dict[str, None] = attrs.field(factory=dict)
    warnings: list[str] = attrs.field(factory=list)
    _destinations: list[Destination] = attrs.field(factory=list)
    _source_places: dict[str, str] = attrs.field(factory=dict)
    _workload_places: dict[str, str] = attrs.field(factory=dict)
    """Where each was found first, by name; those that are not sound too."""
    _conflicts: list[Finding] = attrs.field(factory=list)
    _odd: list[Finding] = attrs.field(factory=list)
    _overridden: dict[str, list[str]] = attrs.field(factory=dict)

    def add_all(self, documents: Sequence[Document], rest: Rest) -> None:
        """The complete fleet and its problems."""
        self._add_flag_source()
        for document in documents:
            if document.kind == SOURCE:
                self._add_source(document)
        for document in documents:
            rest()
            if document.kind == POLICY:
                self._add_policy(document)
        self._add_flag_workload()
        self._check_flags()
        self._refuse(*merge(self._conflicts))
        self.warnings += merge(self._odd)

    def check_environment(self, env: Mapping[str, str]) -> None:
        """Check that the environment lets each address be reached, those of unsound sources and workloads included."""
        self._refuse(*find_faults_of_environment(self._destinations, env))

    def check_not_empty(self) -> None:
        """Check that at least one workload is or can be configured."""
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
            login = {s.name: s for s in SOURCE_SETTINGS if s.name in _ADDRESS and not s.is_secret}
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
            )

    def _add_flag_workload(self) -> None:
        process, name = self.process, self.process.workload
        if not process.describes_a_workload or name in self._workload_places:
            return
        resolved = self._resolve(WORKLOAD_SETTINGS, process.layers, None)
        if name is None:
            return  # reported where flags are read
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
            )

    def _is_taken(self, places: dict[str, str], name: str, shown: str, place: SourceLocation) -> bool:
        first = places.setdefault(name, str(place))
        if first == str(place):
            return False
        self._refuse(f"{place}: {shown} is there already, from {first}; give one another name")
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
        """The one of the flags, else the only one."""
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
                f"{QUERY.shown} must stand beside --workload, since one workload has one query; set both or neither"
            )


@attrs.frozen
class FleetReader:
    """Reads a fleet: what flags and variables said at the start, and the files at ``path`` as they are now.

    ``env`` has the secrets that documents refer to, and names proxies and authorities.
    """

    process: ProcessInput
    path: Path | None = None
    env: Mapping[str, str] = attrs.field(factory=dict, repr=False)

    def read(self) -> tuple[ConfiguredFleet | None, list[str]]:
        """The fleet, or all the problems there are."""
        try:
            documents, problems = self.read_documents()
        except ConfigError as error:
            return None, list(error.problems)
        return self.assemble(documents, problems)

    def read_again(self) -> ConfiguredFleet:
        """The fleet, read beside an event loop that has other things to do meanwhile. Raises ConfigError."""
        rest = Rests()
        with without_garbage_collection():
            fleet, problems = self.assemble(*self.read_documents(rest), rest)
        if fleet is None:
            raise ConfigError(limit_problems(problems))
        return fleet

    def read_documents(self, rest: Rest = no_rest) -> tuple[list[Document], list[str]]:
        """The documents of the files as they are now, and all problems; ConfigError where a file cannot be read."""
        files = read_config_files(self.path) if self.path is not None else []
        return read_config_documents(files, self.env, rest)

    def assemble(
        self, documents: Sequence[Document], problems: Sequence[str], rest: Rest = no_rest
    ) -> tuple[ConfiguredFleet | None, list[str]]:
        """The fleet of ``documents``, in which ``problems`` were found, or all the problems there are."""
        builder = _FleetBuilder(self.process, problems=dict.fromkeys(problems))
        builder.add_all(documents, rest)
        builder.check_environment(self.env)
        if not builder.problems and (self.path is not None or not self.process.has_files):
            builder.check_not_empty()
        if builder.problems:
            return None, list(builder.problems)
        fleet = ConfiguredFleet(
            settings=FleetSettings(sources=builder.sources, workloads=builder.workloads),
            warnings=tuple(dict.fromkeys(builder.warnings)),
            path=self.path,
            read_again=self.read_again,
            workload_from_metadata=partial(read_workload, builder.sources, self.process),
        )
        return fleet, []


def limit_problems(problems: Sequence[str]) -> list[str]:
    """The first of too many problems, and how many more there are."""
    left = len(problems) - MAX_PROBLEMS
    return [*problems[:MAX_PROBLEMS], f"and {left} more problems"] if left > 0 else list(problems)


# A ScaledObject's trigger metadata.

MIN_INTERVAL = 5.0
"""Seconds. KEDA and the HPA ask every 15 s or less often: a shorter interval only costs the others."""
MAX_POINTS = 50_000
"""Steps of history: a month of minutes. Memory is shared by all who may write a ScaledObject."""


def read_workload(
    sources: Mapping[str, DataSourceSettings],
    process: ProcessInput,
    namespace: str,
    name: str,
    metadata: Mapping[str, str],
) -> WorkloadSettings:
    """The workload of the ScaledObject ``namespace``/``name``; ``process`` has what its metadata leave out.

    Raises ConfigError with all problems at once.
    """
    layer, problems = read_metadata(metadata)
    workload = read_workload_name(metadata, name, problems)
    source = _find_allowed_source(sources, namespace, metadata, problems)
    resolved = resolve(POLICY_SETTINGS, (layer, *(() if process.gives("workload") else process.layers)))
    problems += [describe(setting, "is required", None, METADATA) for setting in resolved.missing]
    whose = f"of {one_line(key_of(name, namespace))}"
    problems += merge(check(resolved, RULES, METADATA, whose))
    if problems or workload is None or source is None:
        raise ConfigError(problems)
    odd = check(resolved, WARNINGS, METADATA, whose)
    built = build(
        WorkloadSettings,
        resolved.values,
        query=resolved.values["query"],
        workload=workload,
        namespace=Name(namespace) if namespace else None,
        data_source=source,
        origin=f"ScaledObject {key_of(name, namespace)}",
        by_default=resolved.by_default,
        warnings=tuple(one.line for one in odd if _is_of_metadata(resolved, one.name)),
    )
    excess = _find_excess(built.forecast)
    if excess:
        raise ConfigError(excess)
    return built


def _is_of_metadata(resolved: Resolved, name: str) -> bool:
    """Whether metadata give a setting, or could; about the process's flags the user was warned when it started."""
    raw = resolved.given.get(name)
    return name in METADATA.paths if raw is None else raw.path != ""


def _find_allowed_source(
    sources: Mapping[str, DataSourceSettings], namespace: str, metadata: Mapping[str, str], problems: list[str]
) -> str | None:
    wanted = find_value(metadata, "dataSource")
    allowed = [name for name, s in sources.items() if s.namespaces is None or namespace in s.namespaces]
    shown = f"there {'is' if len(allowed) == 1 else 'are'} {', '.join(allowed[:20])}" if allowed else "there is none"
    if wanted is not None:
        if wanted in allowed:
            return wanted
        # one that exists but is not allowed gets the same answer as one that does not: its name is nobody's business
        key = key_in(metadata, "dataSource")
        wrong = f"must be one that namespace {one_line(namespace)} may use{describe_value(key, one_line(wanted))}"
        problems.append(f"{IN_METADATA}: {key} {wrong}; {shown}")
        return None
    if DEFAULT_SOURCE in allowed or len(allowed) == 1:
        return DEFAULT_SOURCE if DEFAULT_SOURCE in allowed else allowed[0]
    problems.append(f"{IN_METADATA}: dataSource is required; {shown} for namespace {one_line(namespace)}")
    return None


def _find_excess(forecast: ForecastSettings) -> list[str]:
    """What one ScaledObject may not take from all the others."""
    problems = []
    if forecast.interval < MIN_INTERVAL:
        must = f"must be at least {write_duration(MIN_INTERVAL)}"
        problems.append(f"{IN_METADATA}: interval {must}; change it there")
    if forecast.history_window / forecast.step > MAX_POINTS:
        problems.append(
            f"{IN_METADATA}: window must be at most {MAX_POINTS} steps of {write_duration(forecast.step)}, "
            f"got {write_duration(forecast.history_window)!r}; change it there"
        )
    return problems


# A command: its settings, and its fleet.

NEAR_FLAG = 0.75
"""How much alike two flags must be for one to be taken for a slip of the other; 1 is equal."""


@attrs.frozen
class Loaded(Generic[T]):
    """Settings, and for each by name its value, and what was given unless it is the default.

    ``fleet`` is what the command forecasts, where it has one; ``warnings`` are lines about odd settings.
    """

    settings: T
    values: Mapping[str, Any] = attrs.field(repr=False)
    given: Mapping[str, RawValue]
    fleet: ConfiguredFleet | None = None
    warnings: tuple[str, ...] = ()

    def origin_of(self, name: str) -> str:
        """The flag or variable that gave the setting ``name``, or ``default``."""
        return self.given[name].origin if name in self.given else "default"


def load(kind: type[T], flags: Mapping[str, str], env: Mapping[str, str], unknown: Sequence[str] = ()) -> Loaded[T]:
    """Settings of class ``kind`` from ``flags`` (by flag) and ``env`` (by variable; an empty one is not given).

    ``unknown`` are flags that were given and do not exist. Reads the files that the settings name. Raises ConfigError
    with all problems at once.
    """
    known = settings_of(kind)
    layers = (read_flags(known, flags), read_environment(known, env))
    resolved = resolve(known, layers)
    has_fleet = _has_fleet(kind, layers)
    if not has_fleet:  # whatever describes one need not be there
        resolved.missing = [setting for setting in resolved.missing if setting.name not in OF_FLEETS]
    known_flags = {setting.flag for setting in known}
    strangers = [*unknown, *(flag for flag in flags if flag not in known_flags)]
    problems = [*(_describe_unknown(flag, known) for flag in strangers), *resolved.problems]
    problems += _find_missing(resolved)
    resolved.values |= dict.fromkeys([setting.name for setting in resolved.missing])
    judged = attrs.evolve(resolved, values=_without_fleet(resolved.values)) if has_fleet else resolved
    problems += [*merge(check(judged, RULES)), *find_faults_of_environment(find_destinations(resolved.values), env)]
    warnings = merge(check(judged, WARNINGS))
    ours = {setting.env for every in BY_COMMAND.values() for setting in settings_of(every)}
    strange = {variable: env[variable] for variable in env if variable not in ours}
    warnings += find_misspelt_variables(strange, known, resolved.given)
    fleet = None
    if has_fleet:
        reader = FleetReader(
            _read_process(resolved, layers), resolved.values.get("config"), MappingProxyType(dict(env))
        )
        fleet, more = read_to_replay(reader) if kind in READ_ELSEWHERE else reader.read()
        problems = list(dict.fromkeys([*problems, *more]))
        warnings += fleet.warnings if fleet is not None else ()
    if problems:
        raise ConfigError(limit_problems(problems) if has_fleet else problems)
    settings = build(kind, resolved.values, **({"fleet": fleet} if has_fleet else {}))
    return Loaded(settings, resolved.values, resolved.given, fleet, tuple(dict.fromkeys(warnings)))


READ_ELSEWHERE = (BacktestSettings, DoctorSettings)
"""Commands that may read data sources from another place than Kedastral does: `read_to_replay`."""
OF_DOCTOR = ("config", "workload", "query", "allow_scaledobject_workloads")


def _has_fleet(kind: type[Any], layers: Iterable[Layer]) -> bool:
    """Whether workloads are described: by all that forecast, by others where that is given which describes them."""
    field = attrs.fields_dict(kind).get("fleet")
    is_required = field is not None and field.default is attrs.NOTHING
    telling = OF_DOCTOR if kind is DoctorSettings else ("config",)
    return is_required or (field is not None and any(name in layer.raw for layer in layers for name in telling))


def _without_fleet(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in OF_FLEETS}


def _read_process(resolved: Resolved, layers: Sequence[Layer]) -> ProcessInput:
    return ProcessInput(
        tuple(layer.without(resolved.settings.keys() - OF_FLEETS) for layer in layers),
        frozenset(resolved.settings),
        resolved.values.get("workload"),
        has_files=any("config" in layer.raw for layer in layers),
        takes_scaledobjects=bool(resolved.values.get("allow_scaledobject_workloads")),
    )


def _find_missing(resolved: Resolved) -> list[str]:
    """Lines about what is required and not given, unless something else that is given replaces it."""
    lines: list[str] = []
    required = [setting for setting in resolved.settings.values() if setting.required]
    for_files = all("config" in one.unless and one in resolved.missing for one in required)
    for setting in resolved.missing:
        if any(resolved.values.get(name) or _is_invalid(name, resolved) for name in setting.unless):
            continue
        files = f"set it with {setting.remedy}, or name files of workloads with --config"
        lines.append(describe(setting, "is required", None, None, "" if lines or not for_files else files))
    return lines


def _is_invalid(name: str, resolved: Resolved) -> bool:
    """Whether a setting was given and cannot be read: nobody knows then whether it replaces another."""
    setting = resolved.settings.get(name)
    return setting is not None and name not in resolved.values and setting not in resolved.missing


def _describe_unknown(flag: str, known: Sequence[Setting]) -> str:
    owners = [command for command, kind in BY_COMMAND.items() if flag in {s.flag for s in settings_of(kind)}]
    near = find_near(flag, [s.flag for s in known if s.flag], NEAR_FLAG)
    if owners:
        hint = f"it belongs to {' and '.join(filter(None, (', '.join(owners[:-1]), owners[-1])))}"
        hint += f"; did you mean {near}?" if near and means_other_name(flag) else ""
    else:
        hint = f"did you mean {near}?" if near else "see --help"
    kind = "flag" if flag.startswith("-") else "argument"
    return f"{flag} is an unknown {kind}; {hint}"


def show(setting: Setting, value: Any) -> str:
    """A setting's value as a person would write it; secrets stay hidden."""
    if value is None:
        return "none"
    if setting.is_secret:
        return "(hidden)"
    if setting.kind == "duration":
        return write_duration(value)
    return write_value(value)


# A backtest: what `run` would make of the same files, flags and variables, with two differences. ``--workload`` chooses
# one workload, and ``--prom-url`` is the way to the data sources of the files from where the backtest runs.

MAX_NAMED = 20
"""Workloads that are named to whoever names one that is not there."""


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
    if elsewhere:  # the addresses of the files are not asked
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
    """Whether the target per pod comes from the history. ForecastPolicies have no such setting, so it is set last."""
    raw = process.find("target_per_pod")
    if raw is None or raw.text.strip() != repr(AUTO):
        return False, process
    return True, process.without({"target_per_pod"})


def _with_auto_target(workload: WorkloadSettings) -> WorkloadSettings:
    return attrs.evolve(workload, plan=attrs.evolve(workload.plan, target_per_pod=AUTO))


def _take_address(process: ProcessInput, documents: Sequence[Document]) -> tuple[tuple[Layer, ...], ProcessInput]:
    """The address and the login given for the files' data sources: those beside the flag ``--prom-url``.

    The variable PROM_URL is what it is in `run`, a data source of its own: in the Pod of a running Kedastral both
    commands then mean the same.
    """
    url = process.find("url")
    has_flag = url is not None and url.origin == "--prom-url"
    if not has_flag or not any(document.kind == SOURCE for document in documents):
        return (), process
    return process.without(process.known - _ADDRESS).layers, process.without(_ADDRESS)


def _move(source: DataSourceSettings, address: Resolved) -> DataSourceSettings:
    """``source`` at the address given, by the login given beside it, else by its own."""
    given = build_source(address.values)
    return attrs.evolve(source, url=given.url, login=given.login if len(address.given) > 1 else source.login)


def _choose(process: ProcessInput, keys: Sequence[str]) -> tuple[list[str], ProcessInput]:
    """``process`` with the whole key of the workload it names, of ``keys``; or what is wrong with that name.

    A name alone will do where it is that of one only. One that the files do not have may be described by flags.
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
    # the files are judged all the same, as though no flag were about a workload
    return [f"--workload {wrong}"], attrs.evolve(process.without(process.known - _ADDRESS), workload=None)
