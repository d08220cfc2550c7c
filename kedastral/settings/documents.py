# SPDX-License-Identifier: Apache-2.0
"""Turns YAML documents into settings: DataSources and ForecastPolicies, with all that is wrong with them."""

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType

import attrs

from kedastral.cooperative import Pause, no_pause
from kedastral.settings.files import ConfigFile
from kedastral.settings.kinds import (
    API_VERSION,
    HEADERS,
    PARAMS,
    POLICY,
    POLICY_KEYS,
    POLICY_SETTINGS,
    SECRET_KEYS,
    SOURCE,
    SOURCE_KEYS,
    SOURCE_SETTINGS,
    Keys,
)
from kedastral.settings.layers import Invalid, Layer, RawValue, SourceLocation, Value, parse, shown_text
from kedastral.settings.rules import SECRET_HEADERS
from kedastral.settings.schema import Setting
from kedastral.settings.spelling import NEAR, suggest
from kedastral.settings.types import Header, Name, QueryParam, make_query_param, read_headers, read_key_part
from kedastral.settings.yaml import Kind, Node, Rows, Scalar, Table, YamlError, name_of, read_documents
from kedastral.text import printable

_METADATA = ("name", "namespace", "labels", "annotations")
_FROM_CLUSTER = {
    "creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "finalizers", "generateName", "generation",
    "managedFields", "ownerReferences", "resourceVersion", "selfLink", "uid",
}  # fmt: skip
"""Metadata that Kubernetes adds; ``kubectl get -o yaml`` shows it, and it is ignored here."""
_TOP = ("apiVersion", "kind", "metadata", "spec")
_SPEC_PATHS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    POLICY: (*POLICY_KEYS, ("workload",), ("dataSource",)),
    SOURCE: (*SOURCE_KEYS, *SECRET_KEYS, (HEADERS,), (PARAMS,), ("allowedNamespaces",)),
}
"""The paths that are allowed below ``spec``, by kind."""
_INLINE_SECRETS = {"password": "passwordFile or passwordEnv", "token": "tokenFile or tokenEnv"}
_OF_ALL_NAMESPACES = (
    "must not be given: a DataSource holds for all namespaces; to restrict it, list them in spec.allowedNamespaces"
)


def _paths(settings: Iterable[Setting]) -> Mapping[str, str]:
    return MappingProxyType({setting.name: "spec." + ".".join(setting.path) for setting in settings})


_PATHS = {POLICY: _paths(POLICY_SETTINGS), SOURCE: _paths(s for s in SOURCE_SETTINGS if s.name != HEADERS)}
_SETTINGS = {POLICY: POLICY_SETTINGS, SOURCE: SOURCE_SETTINGS}


def place_in(kind: str, words: str = "", line: int = 0) -> SourceLocation:
    """A document of ``kind``, such as ``web.yaml, document 2``, that begins at ``line``."""
    return SourceLocation(words, _SETTINGS.get(kind, ()), _PATHS.get(kind, {}), line)


@attrs.define
class Document:
    """The content of one document. ``place`` is its file, number and first line, ``layer`` its settings.

    ``name`` is None if it has no valid one; then ``problems`` says so. ``refers`` is the data source that a policy
    names, ``refers_badly`` whether that name cannot be read. ``namespaces`` are those that a source allows.
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
        """Add a problem with the value at ``path``, on ``line``."""
        self.problems.append(f"{self.place.at(line)}: {printable(path)} {wrong}")

    def refuse_setting(self, setting: Setting, raw: RawValue, wrong: str) -> None:
        """Add a problem with the value of ``setting``, which then has no value."""
        self.refuse(raw.path, wrong, raw.line)
        self.layer.put(setting.name, raw, Invalid(raw, self.problems[-1]))

    def take(self, setting: Setting, raw: RawValue) -> None:
        """Read the value of ``setting``."""
        found = parse(setting, raw)
        self.layer.put(setting.name, raw, found)
        if isinstance(found, Invalid):
            self.problems.append(found.problem)


def read_config_documents(
    files: Sequence[ConfigFile], env: Mapping[str, str], pause: Pause = no_pause
) -> tuple[list[Document], list[str]]:
    """Every document of ``files``, valid or not, and all problems; ``env`` has the secrets that they refer to."""
    documents: list[Document] = []
    problems: list[str] = []
    for file in files:
        try:
            nodes = read_documents(file.content, pause)
        except YamlError as error:
            problems.append(f"{file.name}: {error}")
            continue
        for number, node in enumerate(nodes, start=1):
            pause()
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
        return document  # the document is not meant for us
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
    """The kind that is written there, possibly misspelt, else nothing; what is wrong with it is reported."""
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
    """Whether a document is meant for another program, such as a Deployment or a kustomization.yaml."""
    if not version:
        return not {"apiVersion", "kind", "spec"} & set(node.entries)
    return not version.lower().startswith("kedastral")


def _word(node: Node | None) -> str:
    return printable(node.text, 100) if isinstance(node, Scalar) else ""


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
    """The path, node and line of each known value of a spec; unknown ones are refused."""
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
        document.refuse(prefix + key[:100], "is given twice; remove one", line)
    for key, node in table.entries.items():
        if key in known:
            yield key, node
        elif prefix == "spec.auth." and key in _INLINE_SECRETS:
            wrong = f"must not be in a file; use {_INLINE_SECRETS[key]}"
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
    """What is wrong with the type of a value, if anything; a number in quotes is text, and text is not a number."""
    if not isinstance(node, Scalar):
        return f"must be a single value; it is {name_of(node)}"
    if node.kind is Kind.NOTHING:
        return "has no value; give it one, or remove the line"
    if node.kind in _NATIVE.get(setting.kind, {Kind.TEXT}):
        return None
    try:
        setting.read(node.text)
    except ValueError as error:
        must = str(error)
    else:
        must = _PLAIN.get(setting.kind, "text, written in quotes")
    return f"must be {must}, got the {node.kind} {shown_text(setting, node.text)}; change it there"


def _read_secret(document: Document, setting: Setting, raw: RawValue, node: Node, env: Mapping[str, str]) -> None:
    if not isinstance(node, Scalar) or node.kind is not Kind.TEXT:
        document.refuse_setting(setting, raw, f"must be the name of a variable; it is {name_of(node)}")
        return
    text = env.get(node.text.strip(), "")
    if not text.strip():  # the value may be the secret itself: it is not shown
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
    """The valid parameters; the rest is reported without its values."""
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


# Headers of a data source: rows with ``name`` and one of ``value``, ``valueEnv`` and ``valueFile``.

MAX_VALUE_SIZE = 64 * 1024
_VALUES = ("value", "valueEnv", "valueFile")


class HeaderError(ValueError):
    """What is wrong with one row; ``key`` is the key in it."""

    def __init__(self, key: str, words: str) -> None:
        super().__init__(words)
        self.key = key


def _read_headers(document: Document, node: Node, line: int, env: Mapping[str, str]) -> tuple[Header, ...]:
    """The valid headers; the rest is reported without its values."""
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
            raise HeaderError(f".{key}", "is given twice; remove one")
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
