# SPDX-License-Identifier: Apache-2.0
"""What holds for one workload or data source in the end: the flag, the variable, the document or the default."""

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import attrs

from kedastral.cooperative import Rest, Rests, no_rest, without_garbage_collection
from kedastral.core.trigger import (
    describe_got,
    find_said,
    find_said_twice,
    is_of_variable,
    plain_key,
    read_said,
    said_key,
)
from kedastral.errors import ConfigError
from kedastral.settings.declarations import (
    AUTO,
    DEFAULT_SOURCE,
    BacktestOutput,
    BacktestPlan,
    BacktestRules,
    ConfigFiles,
    DataSourceSettings,
    DefaultWorkload,
    DemoPace,
    FlagWorkload,
    FleetSettings,
    ForecasterListener,
    ForecastSettings,
    FreshnessSettings,
    GrpcTls,
    HistorySettings,
    HttpAccess,
    LeadSettings,
    LogSettings,
    PlanSettings,
    PrometheusLogin,
    PrometheusSettings,
    RemoteAccess,
    RemoteSettings,
    RunListeners,
    ScaledObjectSettings,
    ScalerListeners,
    ServiceLevel,
    ServingSettings,
    StaleSettings,
    WorkloadName,
    WorkloadSettings,
    key_of,
)
from kedastral.settings.files import ConfigFile, Document, read_config_documents, read_config_files
from kedastral.settings.rules import CHECKS, WARNINGS, CrossCheck, find_conflicts
from kedastral.settings.schema import Setting, group, settings_of
from kedastral.settings.sources import (
    BY_DEFAULT,
    NEAR,
    POLICY,
    QUERY,
    SOURCE,
    SOURCE_SETTINGS,
    WORKLOAD_SETTINGS,
    ParsedValues,
    ProcessInput,
    RawValue,
    SourceLocation,
    build,
    default_of,
    describe,
    describe_conflicts,
    policy_place,
    read_given,
    source_place,
    suggest,
)
from kedastral.settings.types import Name, read_key_part, write_duration, write_value

NOTHING: ParsedValues = ParsedValues()


@attrs.frozen
class Line:
    """What is wrong or odd, and the setting to blame; ``whose``, where a flag is to blame for one of many."""

    name: str
    words: str
    whose: str = ""


def say_together(lines: Iterable[Line]) -> list[str]:
    """The words of ``lines``, each once: a flag that is wrong for a thousand workloads is one problem."""
    whose: dict[str, list[str]] = {}
    for line in lines:
        whose.setdefault(line.words, []).append(line.whose)
    return [words + _of_whom(owners) for words, owners in whose.items()]


def _of_whom(owners: Sequence[str]) -> str:
    more = f", and {len(owners) - 1} more" if owners[1:] else ""
    return f" ({owners[0]}{more})" if owners[0] else ""


@attrs.define
class Resolved:
    """What holds; ``conflicts`` are about what does not go together, ``warnings`` about what hardly is meant."""

    reading: ParsedValues = attrs.field(factory=ParsedValues)
    conflicts: list[Line] = attrs.field(factory=list)
    warnings: list[Line] = attrs.field(factory=list)

    @property
    def problems(self) -> list[str]:
        """One line each."""
        return [*self.reading.problems, *say_together(self.conflicts)]

    @property
    def by_default(self) -> frozenset[str]:
        """The names of the settings that nobody gave."""
        return frozenset(name for name, given in self.reading.given.items() if given.is_default)


@attrs.frozen
class Precedence:
    """Where settings of one thing come from, the strongest first.

    ``over`` wins over ``own``, what ``place`` says (None: nothing but flags), which wins over ``under``; then come the
    defaults. ``unknown`` are settings that were given and cannot be read: nobody knows what holds.
    """

    own: ParsedValues = NOTHING
    place: SourceLocation | None = None
    over: Mapping[str, RawValue] = attrs.field(factory=dict)
    under: Mapping[str, RawValue] = attrs.field(factory=dict)
    unknown: frozenset[str] = frozenset()


def resolve(settings: Iterable[Setting], layers: Precedence, whose: str = "") -> Resolved:
    """What holds for ``settings``; ``whose`` names the one they are of, for lines that blame a flag."""
    settled = Resolved()
    known = {setting.name: setting for setting in settings}
    for setting in known.values():
        if setting.name not in layers.unknown:
            _resolve_one(setting, layers, settled.reading)
    settled.conflicts += _describe_all(known, settled, layers, whose, CHECKS)
    settled.warnings += _describe_all(known, settled, layers, whose, WARNINGS)
    return settled


def _resolve_one(setting: Setting, layers: Precedence, reading: ParsedValues) -> None:
    name, own = setting.name, layers.own
    if name in layers.over:
        read_given(setting, layers.over[name], reading)
    elif name in own.values or name in own.given:
        if name in own.values:  # else it was told what is wrong with it
            reading.values[name] = own.values[name]
            reading.given[name] = own.given.get(name) or _assumed(setting, layers.place, "")
    elif name in layers.under:
        read_given(setting, layers.under[name], reading)
    else:
        _resolve_default(setting, layers.place, reading)


def _resolve_default(setting: Setting, place: SourceLocation | None, reading: ParsedValues) -> None:
    given = default_of(setting)
    if setting.required and place is not None:
        reading.problems.append(describe(setting, "is required", _assumed(setting, place, "")))
    elif given is None:
        reading.values[setting.name] = None
        if place is not None and setting.name in place.paths:
            reading.given[setting.name] = _assumed(setting, place, "")
    else:
        read_given(setting, given if place is None else _assumed(setting, place, given.text), reading)


def _assumed(setting: Setting, place: SourceLocation | None, text: str) -> RawValue:
    if place is None or setting.name not in place.paths:
        return RawValue(text, BY_DEFAULT)
    return RawValue(text, place.words, place.paths[setting.name], assumed=True)


def _describe_all(
    known: Mapping[str, Setting], settled: Resolved, layers: Precedence, whose: str, checks: Sequence[CrossCheck]
) -> Iterator[Line]:
    place, given = layers.place, settled.reading.given
    from_flags = {name for name in known if name in given and given[name].path is None}
    for found in find_conflicts(settled.reading.values, settled.reading.who_said, checks):
        name = found.blames
        words, remedy = (t if place is None else place.translate(t, from_flags) for t in (found.wrong, found.remedy))
        if found.left_out and place is not None:  # one line, however many leave it out
            yield Line(name, f"{place.paths[name]} {words}; {remedy}", whose)
            continue
        is_own = place is None or (name in given and name not in from_flags)
        yield Line(name, describe(known[name], words, given.get(name), remedy), "" if is_own else whose)


def resolve_workload(layers: Precedence, whose: str = "", *, needs_query: bool = True) -> Resolved:
    """What holds for a workload; flags alone may leave its query out, which is then told elsewhere."""
    query = (QUERY,) if needs_query else ()
    return resolve((*query, *WORKLOAD_SETTINGS), layers, whose)


def resolve_source(layers: Precedence) -> Resolved:
    """What holds for a data source."""
    return resolve(SOURCE_SETTINGS, layers)


def build_workload(values: Mapping[str, Any], **more: Any) -> WorkloadSettings:
    """The settings of a workload; ``more`` is its name, namespace, data source, origin and ``by_default``."""
    return build(WorkloadSettings, values, query=values["query"], **more)


def build_source(values: Mapping[str, Any], **more: Any) -> DataSourceSettings:
    """The settings of a data source; ``more`` is its name, the namespaces that may use it, and its origin."""
    login = PrometheusLogin(**{field.name: values[field.name] for field in attrs.fields(PrometheusLogin)})
    return DataSourceSettings(
        url=values["url"],
        login=login,
        timeout=values["timeout"],
        max_concurrent=values["max_concurrent"],
        max_per_second=values["max_per_second"],
        **more,
    )


# --- Puts flags and documents together: every data source, every workload, and that they fit each other. Pure.

_LOGIN = {setting.name: setting for setting in SOURCE_SETTINGS if setting.env and setting.name != "url"}


@attrs.define
class Assembly:
    """Sources and workloads as far as they are sound, problems, and lines about what is odd."""

    process: ProcessInput
    sources: dict[str, DataSourceSettings] = attrs.field(factory=dict)
    workloads: dict[str, WorkloadSettings] = attrs.field(factory=dict)
    problems: list[str] = attrs.field(factory=list)
    warnings: list[str] = attrs.field(factory=list)
    _places: dict[str, dict[str, str]] = attrs.field(factory=lambda: {SOURCE: {}, POLICY: {}})
    """Where each source and each workload was found first, by kind and name; those that are not sound too."""
    _conflicts: list[Line] = attrs.field(factory=list)
    _warning_lines: list[Line] = attrs.field(factory=list)
    _overridden: dict[str, list[str]] = attrs.field(factory=dict)

    @classmethod
    def of(
        cls, process: ProcessInput, documents: Sequence[Document], *, has_all: bool, rest: Rest = no_rest
    ) -> "Assembly":
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
        made.warnings += say_together(made._warning_lines)
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
        settled = resolve_source(Precedence(over=given, unknown=self.process.unknown))
        self._take(settled)
        if "url" in given or "url" in self.process.unknown:
            self._places[SOURCE][DEFAULT_SOURCE] = "--prom-url"
        if _is_whole(settled, SOURCE_SETTINGS) and settled.reading.values["url"] is not None:
            self.sources[DEFAULT_SOURCE] = build_source(settled.reading.values)

    def _add_source(self, document: Document) -> None:
        settled = resolve_source(Precedence(document.reading, source_place(document.place)))
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
        layers = Precedence(document.reading, policy_place(document.place), over, unknown=self.process.unknown)
        settled = resolve_workload(layers, f"{key or 'a workload'} in {document.place}")
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
        settled = resolve_workload(Precedence(over=process.over(name), unknown=process.unknown), needs_query=False)
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

    def _take(self, settled: Resolved) -> None:
        self.problems += settled.reading.problems
        self._conflicts += settled.conflicts
        process = self.process
        self._warning_lines += [line for line in settled.warnings if process.has_files or line.name in process.known]

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

    def _note_overridden(self, document: Document, over: Mapping[str, RawValue], key: str) -> None:
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


def _is_whole(settled: Resolved, settings: Iterable[Setting]) -> bool:
    values: Mapping[str, Any] = settled.reading.values
    return not settled.problems and all(setting.name in values for setting in settings)


# --- A ScaledObject's trigger metadata as a workload: its words are those of a ForecastPolicy, and never an
# address.

HERE = "trigger metadata"
SHORTEST_INTERVAL = 5.0
"""Seconds. KEDA and the HPA ask every 15 s or more seldom: oftener only costs the others."""
MOST_POINTS = 50_000
"""Steps of history: a month of minutes. Memory is shared by all who may write a ScaledObject."""
ADDRESSES = frozenset({"model_url"})
"""Settings that only the operator makes: a query's author must not choose where Kedastral connects to."""
OWN = frozenset({"workload", "dataSource", "activation"})
KEDA = frozenset({"scalerAddress", "enableTLS", "unsafeSsl", "tlsCertFile", "caCert", "tlsClientCert", "tlsClientKey"})
"""What KEDA's external scaler reads itself; it hands on the whole metadata."""
BESIDE = frozenset({"type", "metricType", "authenticationRef", "useCachedMetrics"})
"""Keys of a trigger itself."""

SETTINGS: tuple[Setting, ...] = tuple(
    setting for setting in (attrs.evolve(QUERY), *WORKLOAD_SETTINGS) if setting.name not in ADDRESSES
)
BY_KEY: Mapping[str, Setting] = {"query" if s.name == "query" else s.key: s for s in SETTINGS}
NEARLY = 0.8
"""How like a word of a workload another one is, from 0 to 1, to be taken for a mistake."""
_WORDS = tuple(key.lower() for key in ("dataSource", *BY_KEY))
_OTHERS = frozenset(key.lower() for key in (*KEDA, "workload", "activation"))
PLACE = SourceLocation(HERE, SETTINGS, {setting.name: key for key, setting in BY_KEY.items()})


def brings_a_workload(metadata: Mapping[str, str]) -> bool:
    """Whether metadata hold a query: other words of a workload beside the name of a configured one are not read."""
    return any(plain_key(key) == "query" for key in metadata)


def describes_a_workload(metadata: Mapping[str, str]) -> bool:
    """Whether metadata mean a workload of their own, rather than naming one that is configured.

    A word that is nearly right counts too: whoever wrote it is told the right one, and not another workload's replicas.
    """
    words = {plain_key(key).lower() for key in metadata} - _OTHERS
    return any(difflib.get_close_matches(word, _WORDS, n=1, cutoff=NEARLY) for word in words)


def read_workload(
    sources: Mapping[str, DataSourceSettings],
    process: Mapping[str, RawValue],
    owner: tuple[str, str],
    metadata: Mapping[str, str],
) -> WorkloadSettings:
    """The workload of the ScaledObject ``owner``, its namespace and name; ``process`` holds what it does not say.

    Raises ConfigError with all problems at once.
    """
    namespace, name = owner
    own = ParsedValues()
    _read_settings(metadata, own)
    said = find_said(metadata, "workload")
    workload = _read_name(said_key(metadata, "workload"), name if said is None else said, own)
    source = _find_source(sources, namespace, metadata, own)
    under = {} if "workload" in process else {key: given for key, given in process.items() if key != "query"}
    settled = resolve_workload(Precedence(own, PLACE, under=under), f"of {_shown(key_of(name, namespace))}")
    problems = [*own.problems, *settled.problems]
    if problems or workload is None or source is None:
        raise ConfigError(problems)
    built = build_workload(
        settled.reading.values,
        workload=workload,
        namespace=Name(namespace) if namespace else None,
        data_source=source,
        origin=f"ScaledObject {key_of(name, namespace)}",
        by_default=settled.by_default,
        warnings=_find_own_oddities(settled),
    )
    excess = _find_excess(built.forecast)
    if excess:
        raise ConfigError(excess)
    return built


def _read_settings(metadata: Mapping[str, str], own: ParsedValues) -> None:
    for given_key in metadata:
        key = plain_key(given_key)
        if key in KEDA:
            continue
        twice = find_said_twice(metadata, key)
        if twice is not None and key != given_key:
            own.problems.append(f"{HERE}: {_shown(twice)}")
        elif key in OWN:
            continue
        elif key in BY_KEY:
            text, hidden = read_said(metadata, given_key), is_of_variable(given_key)
            read_given(BY_KEY[key], RawValue(text, HERE, given_key, hidden=hidden), own)
        elif key in ("modelUrl", "url", "serverAddress"):
            own.problems.append(f"{HERE}: {key} must not stand there; addresses are configured where Kedastral runs")
        elif key in BESIDE:
            own.problems.append(f"{HERE}: {key} must not stand there; it belongs beside metadata, where type stands")
        else:
            own.problems.append(f"{HERE}: {_shown(given_key)} is unknown; {_hint(key)}")


def _hint(key: str) -> str:
    words = {word.lower(): word for word in (*BY_KEY, *OWN, *KEDA)}
    near = difflib.get_close_matches(key.lower(), words, n=1, cutoff=NEAR)
    return f"did you mean {words[near[0]]}?" if near else f"there are {', '.join(('workload', 'dataSource', *BY_KEY))}"


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:100])


def _read_name(key: str, text: str, own: ParsedValues) -> Name | None:
    try:
        return read_key_part(text)
    except ValueError as error:
        own.problems.append(f"{HERE}: {key} must be {error}{describe_got(key, text)}; change it there")
        return None


def _find_source(
    sources: Mapping[str, DataSourceSettings], namespace: str, metadata: Mapping[str, str], own: ParsedValues
) -> str | None:
    wanted = find_said(metadata, "dataSource")
    allowed = [name for name, s in sources.items() if s.namespaces is None or namespace in s.namespaces]
    shown = f"there {'is' if len(allowed) == 1 else 'are'} {', '.join(allowed[:20])}" if allowed else "there is none"
    if wanted is not None:
        if wanted in allowed:
            return wanted
        # one that is there and not allowed is told of as one that is not there: its name is nobody else's business
        key = said_key(metadata, "dataSource")
        wrong = f"must be one that namespace {_shown(namespace)} may use{describe_got(key, _shown(wanted))}"
        own.problems.append(f"{HERE}: {key} {wrong}; {shown}")
        return None
    if DEFAULT_SOURCE in allowed or len(allowed) == 1:
        return DEFAULT_SOURCE if DEFAULT_SOURCE in allowed else allowed[0]
    own.problems.append(f"{HERE}: dataSource is required; {shown} for namespace {_shown(namespace)}")
    return None


def _find_own_oddities(settled: Resolved) -> tuple[str, ...]:
    """What is odd in the metadata themselves; of the process's flags it was told when it started."""
    given = settled.reading.given
    return tuple(line.words for line in settled.warnings if line.name in given and given[line.name].path is not None)


def _find_excess(forecast: ForecastSettings) -> list[str]:
    """What one ScaledObject may not take from all the others."""
    problems = []
    if forecast.interval < SHORTEST_INTERVAL:
        problems.append(f"{HERE}: interval must be at least {write_duration(SHORTEST_INTERVAL)}; change it there")
    if forecast.history_window / forecast.step > MOST_POINTS:
        problems.append(
            f"{HERE}: window must be at most {MOST_POINTS} steps of {write_duration(forecast.step)}, "
            f"got {write_duration(forecast.history_window)!r}; change it there"
        )
    return problems


# --- `ConfiguredFleet`: what a process forecasts, from flags, the environment and files, and the way to read it
# again. Flags and variables about a workload are about the one that ``--workload`` names. Where files or
# ScaledObjects name the workloads and ``--workload`` none, they are about all of them: they win over files, as
# everywhere, and hold for ScaledObjects that do not say otherwise.

MOST_PROBLEMS = 200
"""Lines that are told of one configuration; whoever has more reads no further."""


def _frozen(given: Mapping[str, str]) -> Mapping[str, str]:
    return MappingProxyType(dict(given))


@attrs.frozen
class FleetOrigin:
    """All that a fleet is read from: what the process was told, the files at ``path``, and variables for secrets."""

    process: ProcessInput
    path: Path | None = None
    env: Mapping[str, str] = attrs.field(factory=dict, converter=_frozen, repr=False, eq=False)

    def read_beside_others(self) -> "ConfiguredFleet":
        """Read the files, now, in a thread whose process has other things to do meanwhile.

        Raises ConfigError with all problems at once.
        """
        files, rest = self._read_files(), Rests()
        with without_garbage_collection():
            fleet, problems = self.assemble(*read_config_documents(files, self.env, rest), rest)
        if fleet is None or problems:
            raise ConfigError(limit_problems(problems))
        return fleet

    def read_as_far_as_possible(self) -> "tuple[ConfiguredFleet | None, list[str]]":
        """The fleet, or all the problems that there are."""
        try:
            documents, problems = self.read_documents()
        except ConfigError as error:
            return None, list(error.problems)
        return self.assemble(documents, problems)

    def read_documents(self) -> tuple[list[Document], list[str]]:
        """The documents of the files as they are now, and all problems; ConfigError where a file cannot be read."""
        return read_config_documents(self._read_files(), self.env)

    def _read_files(self) -> list[ConfigFile]:
        return read_config_files(self.path) if self.path is not None else []

    def assemble(
        self, documents: Sequence[Document], problems: Sequence[str], rest: Rest = no_rest
    ) -> "tuple[ConfiguredFleet | None, list[str]]":
        """The fleet of ``documents``, in which ``problems`` were found, or all the problems that there are."""
        knows_files = self.path is not None or not self.process.has_files
        assembly = Assembly.of(self.process, documents, has_all=not problems and knows_files, rest=rest)
        everything = [*problems, *assembly.problems]
        if everything or self.process.unknown:
            return None, everything
        settings = FleetSettings(sources=assembly.sources, workloads=assembly.workloads)
        return ConfiguredFleet(settings, self, tuple(dict.fromkeys(assembly.warnings))), []


@attrs.frozen
class ConfiguredFleet:
    """What a process forecasts; ``warnings`` are lines about what is odd in it."""

    settings: FleetSettings
    origin: FleetOrigin = attrs.field(eq=False)
    warnings: tuple[str, ...] = attrs.field(default=(), eq=False)

    def read_again(self) -> "ConfiguredFleet":
        """The same flags and variables, and the files as they are now. Blocks; raises ConfigError."""
        return self.origin.read_beside_others()

    def workload_from_metadata(self, namespace: str, name: str, metadata: Mapping[str, str]) -> WorkloadSettings:
        """The workload that a ScaledObject's trigger describes; ``name`` is the ScaledObject's own.

        It is called by the metadata's ``workload``, else ``name``. Raises ConfigError with all problems at once, in
        words for whoever wrote the ScaledObject.
        """
        return read_workload(self.settings.sources, self.origin.process.given, (namespace, name), metadata)


def limit_problems(problems: list[str]) -> list[str]:
    """The first of too many problems, and how many more there are."""
    left = len(problems) - MOST_PROBLEMS
    return [*problems[:MOST_PROBLEMS], f"and {left} more problems"] if left > 0 else problems


# --- Every setting there is, by command: each command has one class here, made of groups of settings. What a
# process forecasts is its ``fleet``: the workloads that flags, variables and files describe, each with settings of
# its own. The groups beside it are what flags and variables say. A setting says its flag, variable, default,
# meaning, and why that default. Those of a workload are in `workload_settings` and `serving_settings`, of
# Prometheus in `source_settings`, of the process in `process_settings`, of TLS in `tls_settings`, of a backtest
# alone in `backtest_settings`; docs/configuration.md shows the same as tables, and a test keeps them equal.


@attrs.frozen(kw_only=True)
class RunSettings:
    """`kedastral run`."""

    fleet: ConfiguredFleet
    listeners: RunListeners = group(RunListeners)
    grpc_tls: GrpcTls = group(GrpcTls)
    http_access: HttpAccess = group(HttpAccess)
    config: ConfigFiles = group(ConfigFiles)
    scaled_objects: ScaledObjectSettings = group(ScaledObjectSettings)
    name: FlagWorkload = group(FlagWorkload)
    prometheus: PrometheusSettings = group(PrometheusSettings)
    forecast: ForecastSettings = group(ForecastSettings)
    plan: PlanSettings = group(PlanSettings)
    level: ServiceLevel = group(ServiceLevel)
    serving: ServingSettings = group(ServingSettings)
    stale: StaleSettings = group(StaleSettings)
    logs: LogSettings = group(LogSettings)


@attrs.frozen(kw_only=True)
class ForecasterSettings:
    """`kedastral forecaster`."""

    fleet: ConfiguredFleet
    listeners: ForecasterListener = group(ForecasterListener)
    http_access: HttpAccess = group(HttpAccess)
    config: ConfigFiles = group(ConfigFiles)
    name: FlagWorkload = group(FlagWorkload)
    prometheus: PrometheusSettings = group(PrometheusSettings)
    forecast: ForecastSettings = group(ForecastSettings)
    plan: PlanSettings = group(PlanSettings)
    level: ServiceLevel = group(ServiceLevel)
    serving: ServingSettings = group(ServingSettings)
    stale: FreshnessSettings = group(FreshnessSettings)
    logs: LogSettings = group(LogSettings)


@attrs.frozen(kw_only=True)
class ScalerSettings:
    """`kedastral scaler`."""

    listeners: ScalerListeners = group(ScalerListeners)
    grpc_tls: GrpcTls = group(GrpcTls)
    http_access: HttpAccess = group(HttpAccess)
    remote: RemoteSettings = group(RemoteSettings)
    remote_access: RemoteAccess = group(RemoteAccess)
    name: DefaultWorkload = group(DefaultWorkload)
    stale: StaleSettings = group(StaleSettings)
    logs: LogSettings = group(LogSettings)


@attrs.frozen(kw_only=True)
class DemoSettings:
    """`kedastral demo`."""

    pace: DemoPace = group(DemoPace)
    listeners: RunListeners = group(RunListeners)
    name: WorkloadName = group(WorkloadName, workload="demo-shop")
    forecast: ForecastSettings = group(ForecastSettings, model="auto")  # its source has history from the start
    plan: PlanSettings = group(PlanSettings, target_per_pod="100")
    level: ServiceLevel = group(ServiceLevel)
    serving: ServingSettings = group(ServingSettings)
    stale: StaleSettings = group(StaleSettings, stale_after="15m")  # of the demo's time: two real seconds
    logs: LogSettings = group(LogSettings, level="warn")


@attrs.frozen(kw_only=True)
class BacktestSettings:
    """`kedastral backtest`; with ``fleet`` the workloads of files are replayed, by settings of their own."""

    fleet: ConfiguredFleet | None = None
    config: ConfigFiles = group(ConfigFiles)
    history: HistorySettings = group(HistorySettings)
    login: PrometheusLogin = group(PrometheusLogin)
    forecast: ForecastSettings = group(ForecastSettings)
    plan: BacktestPlan = group(BacktestPlan, min_replicas="1", max_replicas="400")  # the rules policies are judged by
    level: ServiceLevel = group(ServiceLevel)
    serving: LeadSettings = group(LeadSettings)
    stale: StaleSettings = group(StaleSettings)
    rules: BacktestRules = group(BacktestRules)
    output: BacktestOutput = group(BacktestOutput)


BY_COMMAND: dict[str, type[Any]] = {
    "run": RunSettings,
    "forecaster": ForecasterSettings,
    "scaler": ScalerSettings,
    "demo": DemoSettings,
    "backtest": BacktestSettings,
}
"""The settings of each command."""


# --- From flags, the environment and files to settings: a flag wins over a variable, then the file, then the
# default.

T = TypeVar("T")
NEAR_FLAG = 0.75
"""How much alike two flags must be for one to be taken for a slip of the other; 1 is equal."""
OF_FLEETS = frozenset(
    {"workload", "query"} | {setting.name for setting in (*SOURCE_SETTINGS, *WORKLOAD_SETTINGS) if setting.env}
)
"""Settings that are about workloads and data sources; where a command has a fleet, they are judged there."""


@attrs.frozen
class Loaded(Generic[T]):
    """Settings, and for each by name the value and where it came from; ``warnings`` are lines about odd ones."""

    settings: T
    values: Mapping[str, Any] = attrs.field(repr=False)
    given: Mapping[str, RawValue]
    warnings: tuple[str, ...] = ()


def load(kind: type[T], flags: Mapping[str, str], env: Mapping[str, str], unknown: Sequence[str] = ()) -> Loaded[T]:
    """Settings of class ``kind`` from ``flags`` (by flag) and ``env`` (by variable; an empty one is not given).

    ``unknown`` are flags that were given and do not exist. Reads the files that the settings name. Raises ConfigError
    with all problems at once.
    """
    known = {setting.name: setting for setting in settings_of(kind)}
    known_flags = {setting.flag for setting in known.values()}
    reading = ParsedValues()
    strangers = [*unknown, *(flag for flag in flags if flag not in known_flags)]
    reading.problems += [_describe_unknown(flag, list(known.values())) for flag in strangers]
    for setting in known.values():
        _read_one(setting, flags, env, reading)
    reading.problems += _find_missing(known.values(), reading)
    has_fleet = _has_fleet(kind, reading)
    own = reading
    if has_fleet:
        own = ParsedValues(
            {name: value for name, value in reading.values.items() if name not in OF_FLEETS}, reading.given
        )
    reading.problems += describe_conflicts(known, own)
    warnings = tuple(describe_conflicts(known, own, WARNINGS))
    if not has_fleet:
        if reading.problems:
            raise ConfigError(reading.problems)
        return Loaded(build(kind, reading.values), reading.values, reading.given, warnings)
    origin = _origin_of(known, reading, env)
    fleet, problems = read_to_replay(origin) if kind is BacktestSettings else origin.read_as_far_as_possible()
    problems = [*reading.problems, *problems]
    if fleet is None or problems:
        raise ConfigError(limit_problems(problems))
    settings = build(kind, reading.values, fleet=fleet)
    return Loaded(settings, reading.values, reading.given, (*warnings, *fleet.warnings))


def _has_fleet(kind: type[Any], reading: ParsedValues) -> bool:
    """Whether workloads are described: by all that forecast, and by a backtest where files are given."""
    field = next((field for field in attrs.fields(kind) if field.name == "fleet"), None)
    return field is not None and (field.default is attrs.NOTHING or "config" in reading.given)


def _origin_of(known: Mapping[str, Setting], reading: ParsedValues, env: Mapping[str, str]) -> FleetOrigin:
    given = {
        name: given
        for name, given in reading.given.items()
        if name in OF_FLEETS and name in reading.values and not given.is_default
    }
    process = ProcessInput(
        given=given,
        known=frozenset(known),
        unknown=frozenset(name for name in known if name in OF_FLEETS and name not in reading.values),
        has_files="config" in reading.given,
        takes_scaledobjects=bool(reading.values.get("allow_scaledobject_workloads")),
    )
    return FleetOrigin(process, reading.values.get("config"), env)


def _read_one(setting: Setting, flags: Mapping[str, str], env: Mapping[str, str], reading: ParsedValues) -> None:
    given = _find(setting, flags, env)
    if given is None:
        reading.values[setting.name] = None
    else:
        read_given(setting, given, reading)


def _find(setting: Setting, flags: Mapping[str, str], env: Mapping[str, str]) -> RawValue | None:
    if setting.flag is not None and setting.flag in flags:
        return RawValue(flags[setting.flag], setting.flag)
    if env.get(setting.env):  # an empty variable is how templates leave one out
        return RawValue(env[setting.env], setting.env)
    return default_of(setting)


def _find_missing(known: Iterable[Setting], reading: ParsedValues) -> list[str]:
    """Lines about what is required and not given; such a setting has no value. Files may say all of it."""
    missing: list[str] = []
    required = [setting for setting in known if setting.required]
    for_files = all("config" in setting.unless and setting.name not in reading.given for setting in required)
    for setting in required:
        if setting.name in reading.given:
            continue
        replaced = [name for name in setting.unless if name in reading.given]
        if any(name not in reading.values or reading.values[name] for name in replaced):
            continue
        files = f"set it with {setting.remedy}, or name files of workloads with --config"
        missing.append(describe(setting, "is required", None, "" if missing or not for_files else files))
    return missing


def _describe_unknown(flag: str, known: Sequence[Setting]) -> str:
    owners = [command for command, kind in BY_COMMAND.items() if flag in {s.flag for s in settings_of(kind)}]
    near = difflib.get_close_matches(flag, [s.flag for s in known if s.flag], n=1, cutoff=NEAR_FLAG)
    if owners:
        hint = (
            f"it belongs to {', '.join(owners[:-1])} and {owners[-1]}" if owners[1:] else f"it belongs to {owners[0]}"
        )
    else:
        hint = f"did you mean {near[0]}?" if near else "see --help"
    return f"{flag} is no setting of this command; {hint}"


def show(setting: Setting, value: Any) -> str:
    """A setting's value as a person would write it; secrets stay hidden."""
    if value is None:
        return "none"
    if setting.is_secret:
        return "(hidden)"
    if setting.kind == "duration":
        return write_duration(value)
    return write_value(value)


# --- `read_to_replay`: the workloads of files that `backtest` replays, and the data sources it reads them from.
# What `run` would make of the same files, flags and variables, but for two: ``--workload`` chooses one, and
# ``--prom-url`` is the way to the data sources of the files from where the backtest runs.

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
    address = resolve_source(Precedence(over=elsewhere, unknown=process.unknown)) if elsewhere else Resolved()
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


def _without(process: ProcessInput, names: frozenset[str]) -> tuple[Mapping[str, RawValue], ProcessInput]:
    """What was given for ``names``, and ``process`` without it."""
    taken = {name: given for name, given in process.given.items() if name in names}
    left = {name: given for name, given in process.given.items() if name not in names}
    return taken, attrs.evolve(process, given=left)


def _take_auto(process: ProcessInput) -> tuple[bool, ProcessInput]:
    """A pod as large as the history says is no setting of ForecastPolicies; it is put into them in the end."""
    given = process.given.get("target_per_pod")
    if given is None or given.text.strip() != _AUTO:
        return False, process
    return True, _without(process, frozenset({"target_per_pod"}))[1]


def _with_auto_target(workload: WorkloadSettings) -> WorkloadSettings:
    return attrs.evolve(workload, plan=attrs.evolve(workload.plan, target_per_pod=AUTO))


def _take_address(process: ProcessInput, documents: Sequence[Document]) -> tuple[Mapping[str, RawValue], ProcessInput]:
    """The address and the login given for the files' data sources: those beside the flag ``--prom-url``.

    The variable PROM_URL is what it is in `run`, a data source of its own: in the Pod of a running Kedastral both
    commands then mean the same.
    """
    url = process.given.get("url")
    has_flag = url is not None and url.origin == "--prom-url"
    if not has_flag or not any(document.kind == SOURCE for document in documents):
        return {}, process
    return _without(process, _ADDRESS)


def _reached(source: DataSourceSettings, address: Resolved, elsewhere: Mapping[str, RawValue]) -> DataSourceSettings:
    """``source`` at the address given, by the login given beside it, else by its own."""
    if not elsewhere:
        return source
    given = build_source(address.reading.values)
    login = given.login if len(elsewhere) > 1 else source.login
    return attrs.evolve(source, url=given.url, login=login)


def _choose(process: ProcessInput, keys: Sequence[str]) -> tuple[list[str], ProcessInput]:
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
