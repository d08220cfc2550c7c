# SPDX-License-Identifier: Apache-2.0
"""Reads settings from flags, environment, documents and trigger metadata: raw values, each with its origin.

A `Layer` is the settings of one of them. `kedastral.settings.resolve` applies the precedence.
"""

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs

from kedastral.cooperative import Rest, no_rest
from kedastral.core.trigger import (
    describe_value,
    find_conflict,
    find_value,
    is_from_variable,
    key_in,
    plain_key,
    read_value,
)
from kedastral.settings.declarations import PrometheusLogin, PrometheusQuery, SourceLimits
from kedastral.settings.files import ConfigFile, printable
from kedastral.settings.fleet import WorkloadSettings
from kedastral.settings.rules import SECRET_HEADERS
from kedastral.settings.schema import Setting, settings_of
from kedastral.settings.types import Header, Name, QueryParam, make_query_param, read_headers, read_key_part
from kedastral.settings.yaml import Kind, Node, Rows, Scalar, Table, YamlError, name_of, read_documents

API_VERSION = "kedastral.io/v1alpha1"
POLICY, SOURCE = "ForecastPolicy", "DataSource"
NEAR = 0.65
"""How much alike two words must be for one to be taken for a slip of the other; 1 is equal."""
MAX_SHOWN = 200
"""Characters that are shown of a value."""
_CREDENTIALS = re.compile(r"^(.*?://)?.*@", re.DOTALL)
_URL_QUERY = re.compile(r"([?#]).*", re.DOTALL)


# Which settings each kind of source may set.

_ASKED = {setting.name: setting for setting in settings_of(PrometheusQuery)}
QUERY = attrs.evolve(_ASKED["query"], required=True, unless=())
WORKLOAD_SETTINGS: tuple[Setting, ...] = tuple(settings_of(WorkloadSettings))
"""Every setting of one workload but its name, its data source and its query."""
POLICY_SETTINGS = (QUERY, *WORKLOAD_SETTINGS)
SOURCE_SETTINGS: tuple[Setting, ...] = (
    attrs.evolve(_ASKED["url"], required=True, unless=()),
    *settings_of(PrometheusLogin),
    *settings_of(SourceLimits),
)
"""Every setting of one data source."""

Keys = Mapping[tuple[str, ...], Setting]
"""Settings by where they stand below ``spec``."""


def _keys(settings: Iterable[Setting]) -> Keys:
    return MappingProxyType({setting.path: setting for setting in settings})


HEADERS, PARAMS = "headers", "queryParams"
POLICY_KEYS: Keys = _keys(POLICY_SETTINGS)
SOURCE_KEYS: Keys = _keys(s for s in SOURCE_SETTINGS if not s.is_secret and s.key not in (HEADERS, PARAMS))
SECRET_KEYS: Keys = _keys(setting for setting in SOURCE_SETTINGS if setting.is_secret)
"""Where a document names the variable that holds a secret."""


# Raw values, and the lines about what is wrong with them.


@attrs.frozen
class RawValue:
    """What was given for a setting, in words a user wrote, and where.

    ``origin`` is a flag, a variable, a document such as ``web.yaml, document 2``, or the trigger metadata; ``path``
    leads to it in these, ``line`` is its line in the file. ``hidden``: nobody who reads an error may see the text.
    """

    text: str = attrs.field(repr=False)
    origin: str
    path: str = ""
    line: int = 0
    hidden: bool = False


@attrs.frozen
class Value:
    """A raw value that was read."""

    value: Any = attrs.field(repr=False)
    raw: RawValue


@attrs.frozen
class Invalid:
    """A raw value that cannot be used; ``problem`` is the line about it."""

    raw: RawValue
    problem: str


@attrs.frozen
class SourceLocation:
    """A place where settings can be written other than as flags: a document, or trigger metadata.

    ``paths`` leads to each setting there, by name; ``settings`` are those that have a flag or a variable too.
    """

    words: str
    settings: tuple[Setting, ...] = attrs.field(repr=False)
    paths: Mapping[str, str] = attrs.field(repr=False)
    line: int = 0

    def __str__(self) -> str:
        return self.at(self.line)

    def at(self, line: int) -> str:
        """A line in it, as messages call it."""
        return f"{self.words} (line {line})" if line else self.words

    def translate(self, words: str, but: Collection[str] = ()) -> str:
        """``words`` about settings with the names they have here, except for those in ``but``, which flags set."""
        here = [setting for setting in self.settings if setting.name in self.paths and setting.name not in but]
        names = {name: self.paths[setting.name] for setting in here for name in (setting.flag, setting.env)}
        return _FLAG_OR_VARIABLE.sub(lambda found: names.get(found[0], found[0]), words)


_FLAG_OR_VARIABLE = re.compile(r"--[a-z][a-z-]*|\b[A-Z]+(?:_[A-Z]+)+\b")


def _paths(settings: Iterable[Setting]) -> Mapping[str, str]:
    return MappingProxyType({setting.name: "spec." + ".".join(setting.path) for setting in settings})


_PATHS = {POLICY: _paths(POLICY_SETTINGS), SOURCE: _paths(s for s in SOURCE_SETTINGS if s.name != HEADERS)}
_SETTINGS = {POLICY: POLICY_SETTINGS, SOURCE: SOURCE_SETTINGS}


def place_in(kind: str, words: str = "", line: int = 0) -> SourceLocation:
    """A document of ``kind``, such as ``web.yaml, document 2``, that begins in ``line``."""
    return SourceLocation(words, _SETTINGS.get(kind, ()), _PATHS.get(kind, {}), line)


def describe(
    setting: Setting, wrong: str, raw: RawValue | None, place: SourceLocation | None = None, remedy: str = ""
) -> str:
    """The line about a setting: where it is, what must hold, what was given, and how to set it, or the ``remedy``.

    Where ``raw`` is None nobody said anything, though ``place`` could have.
    """
    if raw is not None and raw.path:
        where = f"{raw.origin} (line {raw.line})" if raw.line else raw.origin
        shown, got, usual = f"{where}: {raw.path}", f", got {_shown_text(setting, raw.text)}", "change it there"
    elif raw is None and place is not None and setting.name in place.paths:
        shown, usual = f"{place}: {place.paths[setting.name]}", "set it there"
        got = f", got {_shown_text(setting, setting.default)} by default" if setting.default else ""
    else:
        shown, usual = setting.shown, f"set it with {setting.remedy}"
        text, origin = (setting.default, "by default") if raw is None else (raw.text, f"from {raw.origin}")
        got = "" if text is None else f", got {_shown_text(setting, text)} {origin}"
    if remedy or setting.kind in ("secret", "header", "parameter") or (raw is not None and raw.hidden):
        got = ""
    return f"{shown} {wrong}{got}; {remedy or usual}"


def _shown_text(setting: Setting, text: str) -> str:
    return repr(without_secrets(text, is_url=setting.kind == "URL")[:MAX_SHOWN])


def without_secrets(text: str, *, is_url: bool = False) -> str:
    """``text`` that is or looks like a URL, without its user, password and query, however badly it is written."""
    if not is_url and "://" not in text:
        return text
    return _URL_QUERY.sub(r"\1***", _CREDENTIALS.sub(r"\1***@", text))


OTHERS_NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "minreplicas": ("min",),
        "minreplicacount": ("min",),
        "idlereplicacount": ("min",),
        "maxreplicas": ("max",),
        "maxreplicacount": ("max",),
        "threshold": ("targetPerPod",),
        "target": ("targetPerPod",),
        "targetvalue": ("targetPerPod",),
        "averagevalue": ("targetPerPod",),
        "targetaveragevalue": ("targetPerPod",),
        "activationthreshold": ("activation",),
        "serveraddress": ("dataSource", "url", "promUrl"),
        "prometheusurl": ("dataSource", "url", "promUrl"),
        "metricname": ("metric",),
        "pollinginterval": ("interval",),
        "promql": ("query", "promQuery"),
        "fallback": ("onStale",),
        "buckettime": ("prewarm",),
    }
)
"""The keys of ours that mean what KEDA or the HPA calls by another name, which stands here in small letters."""


def suggest(key: str, known: Iterable[str]) -> str:
    """A hint about an unknown key: the one that was meant, or all there are."""
    everything: Collection[str] = list(known)
    near = find_near(key, everything)
    return f"did you mean {near}?" if near else f"there are {', '.join(everything)}"


def find_near(key: str, known: Iterable[str], cutoff: float = NEAR) -> str | None:
    """The one of ``known`` that ``key`` was meant to be: a slip of it, or what KEDA or the HPA calls it.

    ``cutoff`` is how much alike a slip must be; 1 is equal. Hyphens, underscores and capitals do not matter.
    """
    by_letters = {_letters(name): name for name in known}
    letters = _letters(key)
    for name in OTHERS_NAMES.get(letters, ()):
        if name.lower() in by_letters:
            return by_letters[name.lower()]
    near = difflib.get_close_matches(letters, by_letters, n=1, cutoff=cutoff)
    return by_letters[near[0]] if near else None


def means_other_name(key: str) -> bool:
    """Whether ``key`` is what KEDA or the HPA calls something that has another name here."""
    return _letters(key) in OTHERS_NAMES


def _letters(name: str) -> str:
    return re.sub(r"[-_]", "", name).lower()


NEAR_VARIABLE = 0.9
"""How much alike a variable must be to one of ours for it to be taken for a slip; the environment is full of others."""


def find_misspelt_variables(env: Mapping[str, str], known: Iterable[Setting], given: Collection[str]) -> list[str]:
    """A warning for each variable that nobody reads and that looks like one of ``known``, unless that one is set.

    ``given`` are the names of settings that are set in some way. KEDA's names count where they have two words or more.
    """
    names = {setting.env: setting for setting in known}
    by_key = {setting.flag[2:]: setting.env for setting in names.values() if setting.flag is not None}
    lines = []
    for variable in env:
        if "_" not in variable or not env[variable]:
            continue
        near = by_key.get(find_near(variable, by_key, 1.0) or "") if means_other_name(variable) else None
        near = near or find_near(variable, names, NEAR_VARIABLE)
        if near is not None and names[near].name not in given:
            lines.append(f"{printable(variable)} is read by nobody; did you mean {near}?")
    return lines


# Layers: the settings of the flags, the environment, one document or the metadata of one trigger.


@attrs.define
class Layer:
    """The settings of one source, by name. Each value is parsed once, when it is first needed."""

    raw: dict[str, RawValue] = attrs.field(factory=dict)
    _parsed: dict[str, Value | Invalid] = attrs.field(factory=dict, repr=False)

    def find(self, setting: Setting) -> Value | Invalid | None:
        """The value of ``setting``, or what is wrong with it; None where it is not given."""
        found = self._parsed.get(setting.name)
        if found is None and setting.name in self.raw:
            found = self._parsed[setting.name] = parse(setting, self.raw[setting.name])
        return found

    def put(self, name: str, raw: RawValue, found: Value | Invalid) -> None:
        """Set the setting ``name`` to ``found``."""
        self.raw[name], self._parsed[name] = raw, found

    def without(self, names: Collection[str]) -> "Layer":
        """The same but for ``names``."""
        return Layer(
            {name: raw for name, raw in self.raw.items() if name not in names},
            {name: found for name, found in self._parsed.items() if name not in names},
        )

    @property
    def has_invalid(self) -> bool:
        """Whether something was read and cannot be used."""
        return any(isinstance(found, Invalid) for found in self._parsed.values())


def parse(setting: Setting, raw: RawValue) -> Value | Invalid:
    """The value of ``raw``, or what is wrong with it."""
    try:
        value = setting.parse(raw.text)
    except ValueError as error:
        return Invalid(raw, describe(setting, f"must be {error}", raw))
    if setting.kind == "header" and raw.origin == setting.flag:
        # whoever can list processes can read a flag's value
        secret = [name for name, _ in value if name.lower() in SECRET_HEADERS]
        if secret:
            return Invalid(raw, f"{setting.flag} must not carry a secret ({secret[0]}); give it with {setting.env}")
    return Value(value, raw)


def read_flags(known: Iterable[Setting], flags: Mapping[str, str]) -> Layer:
    """The settings of the command line; ``flags`` are texts by flag."""
    return Layer({s.name: RawValue(flags[s.flag], s.flag) for s in known if s.flag is not None and s.flag in flags})


def read_environment(known: Iterable[Setting], env: Mapping[str, str]) -> Layer:
    """The settings of the environment. An empty variable counts as not given, since templates leave one empty."""
    return Layer({s.name: RawValue(env[s.env], s.env) for s in known if env.get(s.env)})


# Documents: from a tree of YAML to settings, with all that is wrong with it.

_METADATA = ("name", "namespace", "labels", "annotations")
_FROM_CLUSTER = {
    "creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "finalizers", "generateName", "generation",
    "managedFields", "ownerReferences", "resourceVersion", "selfLink", "uid",
}  # fmt: skip
"""What Kubernetes adds to metadata; ``kubectl get -o yaml`` shows it, and it does not matter here."""
_TOP = ("apiVersion", "kind", "metadata", "spec")
_SPEC_PATHS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    POLICY: (*POLICY_KEYS, ("workload",), ("dataSource",)),
    SOURCE: (*SOURCE_KEYS, *SECRET_KEYS, (HEADERS,), (PARAMS,), ("allowedNamespaces",)),
}
"""Where something can stand below ``spec``, by kind."""
_INLINE_SECRETS = {"password": "passwordFile or passwordEnv", "token": "tokenFile or tokenEnv"}
_OF_ALL_NAMESPACES = (
    "must not be given: a DataSource holds for all namespaces; to restrict it, list them in spec.allowedNamespaces"
)


@attrs.define
class Document:
    """The content of one document. ``place`` is its file, number and first line, ``layer`` its settings.

    ``name`` is None where it has none that can be used; then ``problems`` says so. ``refers`` is the data source that a
    policy names, ``refers_badly`` whether it names one in a way that cannot be read. ``namespaces`` are those that a
    source allows.
    """

    kind: str
    place: SourceLocation
    name: Name | None = None
    namespace: Name | None = None
    refers: Name | None = None
    refers_line: int = 0
    refers_badly: bool = False
    namespaces: frozenset[str] | None = None
    layer: Layer = attrs.field(factory=Layer)
    problems: list[str] = attrs.field(factory=list)

    def refuse(self, path: str, wrong: str, line: int) -> None:
        """Add a problem with what stands at ``path``, in ``line``."""
        self.problems.append(f"{self.place.at(line)}: {printable(path)} {wrong}")

    def refuse_setting(self, setting: Setting, raw: RawValue, wrong: str) -> None:
        """Add a problem with the value of ``setting``, which then has none."""
        self.refuse(raw.path, wrong, raw.line)
        self.layer.put(setting.name, raw, Invalid(raw, self.problems[-1]))

    def take(self, setting: Setting, raw: RawValue) -> None:
        """Read the value of ``setting``."""
        found = parse(setting, raw)
        self.layer.put(setting.name, raw, found)
        if isinstance(found, Invalid):
            self.problems.append(found.problem)


def read_config_documents(
    files: Sequence[ConfigFile], env: Mapping[str, str], rest: Rest = no_rest
) -> tuple[list[Document], list[str]]:
    """Every document of ``files``, sound or not, and all problems; ``env`` has the secrets that they refer to."""
    documents: list[Document] = []
    problems: list[str] = []
    for file in files:
        try:
            nodes = read_documents(file.content, rest)
        except YamlError as error:
            problems.append(f"{file.name}: {error}")
            continue
        for number, node in enumerate(nodes, start=1):
            rest()
            if node is not None:
                document = _read_document(f"{file.name}, document {number}", node, env)
                documents.append(document)
                problems += document.problems
    return documents, problems


def _read_document(words: str, node: Node, env: Mapping[str, str]) -> Document:
    document = Document("", place_in("", words, node.line))
    if not isinstance(node, Table):
        wrong = f"must be a mapping with apiVersion, kind, metadata and spec; it is {name_of(node)}"
        document.refuse("it", wrong, node.line)
        return document
    document.kind = _read_kind(document, node)
    if not document.kind:
        return document  # whatever else is in it, it was not meant for us
    document.place = place_in(document.kind, words, node.lines.get("spec", node.line))
    entries = dict(_known_entries(document, node, "", (*_TOP, "status"), _TOP))
    _read_metadata(document, entries.get("metadata"), node.lines.get("metadata", node.line))
    spec, line = entries.get("spec"), node.lines.get("spec", node.line)
    if isinstance(spec, Table):
        _read_spec(document, spec, env)
    elif spec is None:
        document.refuse("spec", "is required; set it there", line)
    else:
        document.refuse("spec", f"must be a mapping, not {name_of(spec)}", line)
    return document


def _read_kind(document: Document, node: Table) -> str:
    """The kind that is written, or nearly written, there, else nothing; what is wrong with it is reported."""
    version, kind = (_word(node.entries.get(key)) for key in ("apiVersion", "kind"))
    near = difflib.get_close_matches(kind, (SOURCE, POLICY), n=1, cutoff=NEAR)
    if not near and _is_foreign(version, node):
        wrong = f"is of the unexpected kind {kind} of {version}" if kind and version else "has no apiVersion and kind"
        document.refuse("it", f"{wrong}; keep it out of the folder", node.line)
        return ""
    if version != API_VERSION:
        line = node.lines.get("apiVersion", node.line)
        document.refuse("apiVersion", f"must be {API_VERSION}{_got(version)}; change it there", line)
    if kind not in (SOURCE, POLICY) and (near or version in (API_VERSION, "")):
        line = node.lines.get("kind", node.line)
        document.refuse("kind", f"must be {SOURCE} or {POLICY}{_got(kind)}; change it there", line)
    return near[0] if near else ""


def _is_foreign(version: str, node: Table) -> bool:
    """Whether a document was meant for somebody else, such as a Deployment or a kustomization.yaml."""
    if not version:
        return not {"apiVersion", "kind", "spec"} & set(node.entries)
    return not version.lower().startswith("kedastral")


def _word(node: Node | None) -> str:
    return printable(node.text)[:100] if isinstance(node, Scalar) else ""


def _got(word: str) -> str:
    return f", got {word!r}" if word else ""


def _read_metadata(document: Document, node: Node | None, line: int) -> None:
    if not isinstance(node, Table):
        wrong = "is required" if node is None else f"must be a mapping, not {name_of(node)}"
        document.refuse("metadata", f"{wrong}; set metadata.name there", line)
        return
    entries = dict(_known_entries(document, node, "metadata.", (*_METADATA, *_FROM_CLUSTER), _METADATA))
    if "name" in entries:
        document.name = _read_name(document, "metadata.name", entries["name"], node.lines["name"])
    else:
        document.refuse("metadata.name", "is required; set it there", line)
    if "namespace" in entries and document.kind == SOURCE:
        document.refuse("metadata.namespace", _OF_ALL_NAMESPACES, node.lines["namespace"])
    elif "namespace" in entries:
        where = node.lines["namespace"]
        document.namespace = _read_name(document, "metadata.namespace", entries["namespace"], where)


def _read_spec(document: Document, spec: Table, env: Mapping[str, str]) -> None:
    keys = POLICY_KEYS if document.kind == POLICY else SOURCE_KEYS
    secrets: Keys = {} if document.kind == POLICY else SECRET_KEYS
    for path, node, line in _find_leaves(document, spec):
        raw = RawValue("", document.place.words, "spec." + ".".join(path), line)
        if path in keys:
            _read_setting(document, keys[path], raw, node)
        elif path in secrets:
            _read_secret(document, secrets[path], raw, node, env)
        else:
            _read_other(document, path[0], line, node, env)


def _read_other(document: Document, key: str, line: int, node: Node, env: Mapping[str, str]) -> None:
    where = f"spec.{key}"
    match key:
        case "workload":
            document.name = _read_name(document, where, node, line) or document.name
        case "dataSource":
            document.refers, document.refers_line = _read_name(document, where, node, line), line
            document.refers_badly = document.refers is None
        case "allowedNamespaces":
            document.namespaces = _read_names(document, where, node, line)
        case "queryParams":
            raw = RawValue("", document.place.words, where, line)
            document.layer.put("query_params", raw, Value(_read_params(document, node, line), raw))
        case _:
            raw = RawValue("", document.place.words, where, line)
            document.layer.put(HEADERS, raw, Value(_read_headers(document, node, line, env), raw))


def _find_leaves(
    document: Document, table: Table, prefix: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Node, int]]:
    """Where each known value of a spec stands, its node and its line; what is not known is refused."""
    leaves, dotted = _SPEC_PATHS[document.kind], ".".join(("spec", *prefix, ""))
    known = _keys_below(document.kind, prefix)
    for key, node in _known_entries(document, table, dotted, known, known):
        path = (*prefix, key)
        if path in leaves:
            yield path, node, table.lines[key]
        elif isinstance(node, Table):
            yield from _find_leaves(document, node, path)
        else:
            document.refuse(dotted + key, f"must be a mapping; it is {name_of(node)}", table.lines[key])


@cache
def _keys_below(kind: str, prefix: tuple[str, ...]) -> tuple[str, ...]:
    depth = len(prefix)
    return tuple(dict.fromkeys(path[depth] for path in _SPEC_PATHS[kind] if path[:depth] == prefix))


def _known_entries(
    document: Document, table: Table, prefix: str, known: Collection[str], shown: Collection[str]
) -> Iterator[tuple[str, Node]]:
    for key, line in table.repeated.items():
        document.refuse(prefix + key[:100], "stands there twice; take one away", line)
    for key, node in table.entries.items():
        if key in known:
            yield key, node
        elif prefix == "spec.auth." and key in _INLINE_SECRETS:
            wrong = f"must not stand in a file; use {_INLINE_SECRETS[key]}"
            document.refuse(prefix + key, wrong, table.lines[key])
        else:
            document.refuse(prefix + key[:100], f"is unknown; {suggest(key[:100], shown)}", table.lines[key])


def _read_setting(document: Document, setting: Setting, raw: RawValue, node: Node) -> None:
    wrong = _find_wrong_type(setting, node)
    if wrong is not None:
        document.refuse_setting(setting, raw, wrong)
    elif isinstance(node, Scalar):
        document.take(setting, attrs.evolve(raw, text=node.text))


_NATIVE = {"integer": {Kind.INTEGER}, "number": {Kind.INTEGER, Kind.NUMBER}, "boolean": {Kind.BOOLEAN}}
"""The kinds of settings that YAML has types for; all others are text."""
_PLAIN = {
    "integer": "a plain whole number, without quotes",
    "number": "a plain number, without quotes",
    "boolean": "true or false, without quotes",
}


def _find_wrong_type(setting: Setting, node: Node) -> str | None:
    """What is wrong with the type of a value, if something is; a number in quotes is text, and text is no number."""
    if not isinstance(node, Scalar):
        return f"must be a single value; it is {name_of(node)}"
    if node.kind is Kind.NOTHING:
        return "has no value; give it one, or take the line away"
    if node.kind in _NATIVE.get(setting.kind, {Kind.TEXT}):
        return None
    try:
        setting.read(node.text)
    except ValueError as error:
        must = str(error)
    else:
        must = _PLAIN.get(setting.kind, "text, written in quotes")
    return f"must be {must}, got the {node.kind} {_shown_text(setting, node.text)}; change it there"


def _read_secret(document: Document, setting: Setting, raw: RawValue, node: Node, env: Mapping[str, str]) -> None:
    if not isinstance(node, Scalar) or node.kind is not Kind.TEXT:
        document.refuse_setting(setting, raw, f"must be the name of a variable; it is {name_of(node)}")
        return
    text = env.get(node.text.strip(), "")
    if not text.strip():  # what stands there may be the secret itself: it is not shown
        wrong = "must name a variable that is set and not empty; set it where Kedastral runs"
        document.refuse_setting(setting, raw, wrong)
        return
    document.take(setting, attrs.evolve(raw, text=text))


def _read_name(document: Document, where: str, node: Node, line: int) -> Name | None:
    if not isinstance(node, Scalar) or node.kind is not Kind.TEXT:
        document.refuse(where, _not_text(node), line)
        return None
    try:
        return read_key_part(node.text)
    except ValueError as error:
        document.refuse(where, f"must be {error}, got {node.text[:100]!r}; change it there", line)
        return None


def _not_text(node: Node) -> str:
    quotes = "; put it in quotes" if isinstance(node, Scalar) and node.kind is not Kind.NOTHING else ""
    return f"must be text; it is {name_of(node)}{quotes}"


def _read_names(document: Document, where: str, node: Node, line: int) -> frozenset[str] | None:
    if not isinstance(node, Rows):
        document.refuse(where, f"must be a list of names; it is {name_of(node)}", line)
        return None
    names = [_read_name(document, f"{where}[{index}]", item, item.line) for index, item in enumerate(node.items)]
    return frozenset(name for name in names if name is not None)


def _read_params(document: Document, node: Node, line: int) -> tuple[QueryParam, ...]:
    """The parameters that are sound; the rest is reported without its values."""
    where = f"spec.{PARAMS}"
    if not isinstance(node, Table):
        document.refuse(where, f"must be a mapping of names and values; it is {name_of(node)}", line)
        return ()
    params: list[QueryParam] = []
    for name, value in _known_entries(document, node, f"{where}.", node.entries, ()):
        at = node.lines[name]
        if not isinstance(value, Scalar) or value.kind is not Kind.TEXT:
            document.refuse(f"{where}.{name[:100]}", _not_text(value), at)
            continue
        try:
            params.append(make_query_param(name, "=", value.text))
        except ValueError as error:
            document.refuse(where, f"must be {error}; change it there", at)
    return tuple(params)


# Headers of a data source: rows of ``name`` and one of ``value``, ``valueEnv`` and ``valueFile``.

MAX_VALUE_SIZE = 64 * 1024
_VALUES = ("value", "valueEnv", "valueFile")


class HeaderError(ValueError):
    """What is wrong with one row; ``key`` is where in it."""

    def __init__(self, key: str, words: str) -> None:
        super().__init__(words)
        self.key = key


def _read_headers(document: Document, node: Node, line: int, env: Mapping[str, str]) -> tuple[Header, ...]:
    """The headers that are sound; the rest is reported without its values."""
    where = f"spec.{HEADERS}"
    if not isinstance(node, Rows):
        document.refuse(where, f"must be a list of name and value; it is {name_of(node)}", line)
        return ()
    headers: list[Header] = []
    for index, row in enumerate(node.items):
        try:
            headers.append(_read_row(row, env))
        except HeaderError as error:
            at = row.lines.get(error.key[1:], row.line) if isinstance(row, Table) else row.line
            document.refuse(f"{where}[{index}]{error.key[:100]}", str(error), at)
    return tuple(headers)


def _read_row(row: Node, env: Mapping[str, str]) -> Header:
    if not isinstance(row, Table):
        raise HeaderError("", f"must be a mapping of name and value; it is {name_of(row)}")
    for key in (*row.repeated, *row.entries):
        if key in row.repeated:
            raise HeaderError(f".{key}", "stands there twice; take one away")
        if key not in ("name", *_VALUES):
            raise HeaderError(f".{key}", f"is unknown; {suggest(key[:100], ('name', *_VALUES))}")
    texts = dict(_read_texts(row))
    name = texts.pop("name", None)
    if name is None:
        raise HeaderError(".name", "is required; set it there")
    if len(texts) != 1:
        raise HeaderError("", "must have one of value, valueEnv and valueFile")
    ((key, text),) = texts.items()
    if key == "value" and name.strip().lower() in SECRET_HEADERS:
        raise HeaderError(".value", "must not carry a secret; use valueEnv or valueFile")
    return _make_header(name.strip(), _find_value(key, text, env), key)


def _read_texts(row: Table) -> Iterator[tuple[str, str]]:
    for key, node in row.entries.items():
        if not isinstance(node, Scalar) or node.kind is not Kind.TEXT:
            raise HeaderError(f".{key}", _not_text(node))
        yield key, node.text


def _find_value(key: str, text: str, env: Mapping[str, str]) -> str:
    if key == "valueEnv":
        if not env.get(text, "").strip():
            wrong = "must name a variable that is set and not empty; set it where Kedastral runs"
            raise HeaderError(".valueEnv", wrong)
        return env[text].strip()
    if key == "valueFile":
        try:
            with Path(text).open("rb") as file:
                return file.read(MAX_VALUE_SIZE).decode().strip()
        except (OSError, ValueError) as error:
            words = (error.strerror if isinstance(error, OSError) else None) or "it is not UTF-8 text"
            raise HeaderError(".valueFile", f"must be a file that can be read ({words}); change it there") from None
    return text


def _make_header(name: str, value: str, key: str) -> Header:
    try:
        headers = read_headers(f"{name}: {value}")
    except ValueError:
        headers = ()
    if len(headers) != 1 or headers[0][0] != name:
        where = "" if key == "value" else f".{key}"
        raise HeaderError(where, "must be a name and a value that HTTP can carry in a line")
    return headers[0]


# A ScaledObject's trigger metadata: the words of a ForecastPolicy, beside KEDA's own, and never an address.

IN_METADATA = "trigger metadata"
_ADDRESSES = frozenset({"model_url"})
"""Settings that only the operator makes: a query's author must not choose where Kedastral connects to."""
OWN_KEYS = frozenset({"workload", "dataSource", "activation"})
_KEDA_KEYS = frozenset(
    {"scalerAddress", "enableTLS", "unsafeSsl", "tlsCertFile", "caCert", "tlsClientCert", "tlsClientKey"}
)
"""What KEDA's external scaler reads itself; it hands on the whole metadata."""
_BESIDE = frozenset({"type", "metricType", "authenticationRef", "useCachedMetrics"})
"""Keys of a trigger itself."""

METADATA_KEYS: Mapping[str, Setting] = {
    setting.key: setting for setting in POLICY_SETTINGS if setting.name not in _ADDRESSES
}
"""The settings that metadata can make, by key."""
METADATA = SourceLocation(
    IN_METADATA, tuple(METADATA_KEYS.values()), {setting.name: key for key, setting in METADATA_KEYS.items()}
)
_NEARLY = 0.8
"""How like a word of a workload another one is, from 0 to 1, to be taken for a mistake."""
_WORKLOAD_WORDS = tuple(key.lower() for key in ("dataSource", *METADATA_KEYS))
_OTHER_WORDS = frozenset(key.lower() for key in (*_KEDA_KEYS, "workload", "activation"))


def brings_a_workload(metadata: Mapping[str, str]) -> bool:
    """Whether metadata hold a query: other words of a workload beside the name of a configured one are not read."""
    return any(plain_key(key) == "query" for key in metadata)


def describes_a_workload(metadata: Mapping[str, str]) -> bool:
    """Whether metadata mean a workload of their own, rather than naming one that is configured.

    A misspelt word counts too: the error names the right one, and the author does not get another workload's replicas.
    """
    words = {plain_key(key).lower() for key in metadata} - _OTHER_WORDS
    return any(difflib.get_close_matches(word, _WORKLOAD_WORDS, n=1, cutoff=_NEARLY) for word in words)


def read_metadata(metadata: Mapping[str, str]) -> tuple[Layer, list[str]]:
    """The settings of metadata, and all that is wrong with their keys and values."""
    layer = Layer()
    problems: list[str] = []
    for given_key in metadata:
        key = plain_key(given_key)
        if key in _KEDA_KEYS:
            continue
        conflict = find_conflict(metadata, key)
        if conflict is not None and key != given_key:
            problems.append(f"{IN_METADATA}: {one_line(conflict)}")
        elif key in METADATA_KEYS:
            setting, text = METADATA_KEYS[key], read_value(metadata, given_key)
            raw = RawValue(text, IN_METADATA, given_key, hidden=is_from_variable(given_key))
            found = parse(setting, raw)
            layer.put(setting.name, raw, found)
            problems += [found.problem] if isinstance(found, Invalid) else []
        elif key not in OWN_KEYS:
            problems.append(f"{IN_METADATA}: {_refuse_key(key, given_key)}")
    return layer, problems


def _refuse_key(key: str, given_key: str) -> str:
    if key in ("modelUrl", "url", "serverAddress"):
        return f"{key} must not stand there; addresses are configured where Kedastral runs"
    if key in _BESIDE:
        return f"{key} must not stand there; it belongs beside metadata, where type stands"
    words = {word.lower(): word for word in (*METADATA_KEYS, *OWN_KEYS, *_KEDA_KEYS)}
    near = find_near(key, words.values())
    all_keys = ", ".join(("workload", "dataSource", *METADATA_KEYS))
    hint = f"did you mean {near}?" if near else f"there are {all_keys}"
    return f"{one_line(given_key)} is unknown; {hint}"


def read_workload_name(metadata: Mapping[str, str], default: str, problems: list[str]) -> Name | None:
    """The name that metadata give their workload, else ``default``; what is wrong with it is added to ``problems``."""
    said = find_value(metadata, "workload")
    text = default if said is None else said
    try:
        return read_key_part(text)
    except ValueError as error:
        key = key_in(metadata, "workload")
        problems.append(f"{IN_METADATA}: {key} must be {error}{describe_value(key, text)}; change it there")
        return None


def one_line(text: str) -> str:
    """``text`` of somebody else's, short and on one line."""
    return "".join(c if c.isprintable() else "?" for c in text[:100])
