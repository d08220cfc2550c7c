# SPDX-License-Identifier: Apache-2.0
"""Which files a configuration is made of, and what is in them; a ConfigMap's folder is read at one moment."""

import difflib
import stat
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from kedastral.cooperative import Rest, no_rest
from kedastral.errors import ConfigError
from kedastral.settings.rules import SECRET_HEADERS
from kedastral.settings.schema import Setting
from kedastral.settings.sources import (
    API_VERSION,
    MOST_SHOWN,
    NEAR,
    POLICY,
    POLICY_KEYS,
    SECRET_KEYS,
    SOURCE,
    SOURCE_KEYS,
    Keys,
    ParsedValues,
    RawValue,
    read_given,
    suggest,
    without_secrets,
)
from kedastral.settings.types import Header, Name, read_headers, read_key_part
from kedastral.settings.yaml import Kind, Node, Rows, Scalar, Table, YamlError, name_of, read_documents

LARGEST_FILE = 1024 * 1024
"""Bytes. Kubernetes keeps no larger ConfigMap."""
MOST_FILES = 1000
SUFFIXES = (".yaml", ".yml")


@attrs.frozen
class ConfigFile:
    """One file: what it is called in messages, and its bytes."""

    name: str
    content: bytes = attrs.field(repr=False)


def read_config_files(path: Path) -> list[ConfigFile]:
    """The file at ``path``, or those of that folder that end in .yaml or .yml, by name; hidden ones are left alone.

    Raises ConfigError with every file that cannot be read, or is larger than `LARGEST_FILE`.
    """
    files: list[ConfigFile] = []
    problems: list[str] = []
    for name, file in _find_files(path):
        try:
            files.append(ConfigFile(name, _read_bounded(file)))
        except OSError as error:
            problems.append(f"{name}: cannot be read ({error.strerror or error}); see to it, or take it away")
        except ValueError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise ConfigError(problems)
    return files


def _find_files(path: Path) -> Iterator[tuple[str, Path]]:
    """Names as the user knows them, and where to read them."""
    try:
        if not path.is_dir():
            yield printable(str(path)), path
            return
        # kubelet swaps the link ..data in one step: reading behind it, no file is of another version than the rest
        data = path / "..data"
        folder = data.resolve() if data.is_dir() else path
        names = sorted(
            entry.name for entry in folder.iterdir() if entry.suffix in SUFFIXES and not entry.name.startswith(".")
        )
    except (OSError, ValueError) as error:
        words = getattr(error, "strerror", None) or error
        raise ConfigError([f"{printable(str(path))}: cannot be read ({words}); set it with --config"]) from error
    if not names:
        raise ConfigError([f"{printable(str(path))}: holds no file that ends in .yaml or .yml; put one there"])
    if len(names) > MOST_FILES:
        raise ConfigError([f"{printable(str(path))}: must hold at most {MOST_FILES} files, got {len(names)}"])
    for name in names:
        yield printable(str(path / name)), folder / name


def _read_bounded(file: Path) -> bytes:
    """Raises OSError, and ValueError with words for what is no file or too large."""
    if not stat.S_ISREG(file.stat().st_mode):  # opening a pipe would wait for its writer
        raise ValueError("must be a file; it is a folder, a pipe or a device")
    with file.open("rb") as source:
        content = source.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise ValueError(f"must be at most {LARGEST_FILE >> 20} MiB; split it")
    return content


def printable(text: str) -> str:
    """``text`` as one line, cut where it is long."""
    return "".join(c if c.isprintable() else "?" for c in text)[:300]


# --- `look_at`: what differs when a configuration's files do, without reading them.


def look_at(path: Path) -> Hashable:
    """Name, place, size and time of every file at ``path``, a file or a folder; a link counts as what it leads to.

    What cannot be looked at differs from what can. Kubernetes swaps a link when a ConfigMap changes: the place differs.
    """
    try:
        files = sorted(file for file in path.iterdir() if _counts(file)) if path.is_dir() else [path]
        return tuple(_look_at_one(file) for file in files)
    except OSError as error:
        return (type(error).__name__, error.errno)


def _counts(file: Path) -> bool:
    """Whether ``file`` is one that is read, or the link that Kubernetes swaps; others may change as they like."""
    return file.suffix in SUFFIXES or file.name == "..data"


def _look_at_one(file: Path) -> object:
    try:
        found = file.stat()
    except OSError as error:
        return (file.name, error.errno)
    return (file.name, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


# --- Headers of a data source: rows of ``name`` and one of ``value``, ``valueEnv`` and ``valueFile``.

VALUES = ("value", "valueEnv", "valueFile")
LARGEST_VALUE = 64 * 1024


class HeaderError(ValueError):
    """What is wrong with one row; ``key`` is where in it."""

    def __init__(self, key: str, words: str) -> None:
        super().__init__(words)
        self.key = key


@attrs.frozen
class Headers:
    """The headers that are sound, and the rest as pairs of path and what is wrong, without their values."""

    headers: tuple[Header, ...] = attrs.field(repr=False)
    problems: tuple[tuple[str, str], ...] = ()


def read_header_rows(node: Node, where: str, env: Mapping[str, str]) -> Headers:
    """The headers in ``node``, which stands at the path ``where``; ``env`` has the values that they refer to."""
    if not isinstance(node, Rows):
        return Headers((), ((where, f"must be a list of name and value; it is {name_of(node)}"),))
    headers: list[Header] = []
    problems: list[tuple[str, str]] = []
    for index, row in enumerate(node.items):
        try:
            headers.append(_read_row(row, env))
        except HeaderError as error:
            problems.append((f"{where}[{index}]{error.key}", str(error)))
    return Headers(tuple(headers), tuple(problems))


def _read_row(row: Node, env: Mapping[str, str]) -> Header:
    if not isinstance(row, Table):
        raise HeaderError("", f"must be a mapping of name and value; it is {name_of(row)}")
    for key in (*row.repeated, *row.entries):
        if key in row.repeated:
            raise HeaderError(f".{key[:100]}", "stands there twice; take one away")
        if key not in ("name", *VALUES):
            raise HeaderError(f".{key[:100]}", f"is unknown; {suggest(key[:100], ('name', *VALUES))}")
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
            quotes = "; put it in quotes" if isinstance(node, Scalar) and node.kind is not Kind.NOTHING else ""
            raise HeaderError(f".{key}", f"must be text; it is {name_of(node)}{quotes}")
        yield key, node.text


def _find_value(key: str, text: str, env: Mapping[str, str]) -> str:
    if key == "valueEnv":
        if not env.get(text, "").strip():
            raise HeaderError(
                ".valueEnv", "must name a variable that is set and not empty; set it where Kedastral runs"
            )
        return env[text].strip()
    if key == "valueFile":
        try:
            with Path(text).open("rb") as file:
                return file.read(LARGEST_VALUE).decode().strip()
        except (OSError, ValueError) as error:
            words = getattr(error, "strerror", None) or "it is no UTF-8 text"
            raise HeaderError(".valueFile", f"must be a file that can be read ({words}); change it there") from None
    return text


def _make_header(name: str, value: str, key: str) -> Header:
    try:
        headers = read_headers(f"{name}: {value}")
    except ValueError:
        headers = ()
    if len(headers) != 1 or headers[0][0] != name:
        raise HeaderError(
            "" if key == "value" else f".{key}", "must be a name and a value that HTTP can carry in a line"
        )
    return headers[0]


# --- DataSource and ForecastPolicy documents: from a tree of YAML to what was given in them, and all that is wrong.

LEAVES = {POLICY: ("workload", "dataSource"), SOURCE: ("headers", "allowedNamespaces")}
"""Keys of a spec that are no settings."""
IGNORED = {"status"}
METADATA = ("name", "namespace", "labels", "annotations")
FROM_CLUSTER = {
    "creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "finalizers", "generateName", "generation",
    "managedFields", "ownerReferences", "resourceVersion", "selfLink", "uid",
}  # fmt: skip
"""What Kubernetes adds to metadata; ``kubectl get -o yaml`` shows it, and it says nothing to us."""
INLINE_SECRETS = {("auth", "password"): "passwordFile or passwordEnv", ("auth", "token"): "tokenFile or tokenEnv"}

OF_ALL_NAMESPACES = (
    "must not be given: a DataSource holds for all namespaces; to restrict it, list them in spec.allowedNamespaces"
)


@attrs.define
class Document:
    """What one document gives. ``place`` is its file and number, ``reading`` holds its settings by name.

    ``name`` is None where it has none that can be used; then ``reading.problems`` says so. ``refers`` is the data
    source that a policy names, ``namespaces`` are those that a source allows.
    """

    kind: str
    place: str
    name: Name | None = None
    namespace: Name | None = None
    refers: Name | None = None
    namespaces: frozenset[str] | None = None
    reading: ParsedValues = attrs.field(factory=ParsedValues)

    def refuse(self, path: str, wrong: str) -> None:
        """Add a problem with what stands at ``path``."""
        self.reading.problems.append(f"{self.place}: {printable(path)} {wrong}")


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
                problems += document.reading.problems
    return documents, problems


def _read_document(place: str, node: Node, env: Mapping[str, str]) -> Document:
    document = Document("", place)
    if not isinstance(node, Table):
        document.refuse("it", f"must be a mapping with apiVersion, kind, metadata and spec; it is {name_of(node)}")
        return document
    document.kind = _read_kind(document, node) or ""
    if not document.kind:
        return document  # whatever else is in it, it was not meant for us
    known = ("apiVersion", "kind", "metadata", "spec")
    entries = dict(_known_entries(document, node, "", (*known, *IGNORED), known))
    _read_metadata(document, entries.get("metadata"))
    spec = entries.get("spec")
    if isinstance(spec, Table):
        _read_spec(document, spec, env)
    else:
        document.refuse(
            "spec", "is required; set it there" if spec is None else f"must be a mapping, not {name_of(spec)}"
        )
    return document


def _read_kind(document: Document, node: Table) -> str | None:
    """The kind that is written, or nearly written, there; what is wrong with it is told."""
    version, kind = (_word(node.entries.get(key)) for key in ("apiVersion", "kind"))
    near = difflib.get_close_matches(kind, (SOURCE, POLICY), n=1, cutoff=NEAR)
    if not near and _is_foreign(version, node):
        shown = f" but a {kind} of {version}" if kind and version else ""
        document.refuse("it", f"is no document of Kedastral's{shown}; keep it out of the folder")
        return None
    if version != API_VERSION:
        document.refuse("apiVersion", f"must be {API_VERSION}{_got(version)}; change it there")
    if kind not in (SOURCE, POLICY) and (near or version in (API_VERSION, "")):
        document.refuse("kind", f"must be {SOURCE} or {POLICY}{_got(kind)}; change it there")
    return near[0] if near else None


def _is_foreign(version: str, node: Table) -> bool:
    """Whether a document was meant for somebody else, such as a Deployment or a kustomization.yaml."""
    if not version:
        return not {"apiVersion", "kind", "spec"} & set(node.entries)
    return not version.lower().startswith("kedastral")


def _word(node: Node | None) -> str:
    return printable(node.text)[:100] if isinstance(node, Scalar) else ""


def _got(word: str) -> str:
    return f", got {word!r}" if word else ""


def _read_metadata(document: Document, node: Node | None) -> None:
    if not isinstance(node, Table):
        wrong = "is required" if node is None else f"must be a mapping, not {name_of(node)}"
        document.refuse("metadata", f"{wrong}; set metadata.name there")
        return
    entries = dict(_known_entries(document, node, "metadata.", (*METADATA, *FROM_CLUSTER), METADATA))
    if "name" in entries:
        document.name = _read_name(document, "metadata.name", entries["name"])
    else:
        document.refuse("metadata.name", "is required; set it there")
    if "namespace" in entries and document.kind == SOURCE:
        document.refuse("metadata.namespace", OF_ALL_NAMESPACES)
    elif "namespace" in entries:
        document.namespace = _read_name(document, "metadata.namespace", entries["namespace"])


def _read_spec(document: Document, spec: Table, env: Mapping[str, str]) -> None:
    keys = POLICY_KEYS if document.kind == POLICY else SOURCE_KEYS
    secrets: Keys = {} if document.kind == POLICY else SECRET_KEYS
    leaves = [*keys, *secrets, *((key,) for key in LEAVES[document.kind])]
    for path, node in _find_leaves(document, spec, leaves):
        where = "spec." + ".".join(path)
        if path in keys:
            _read_setting(document, keys[path], where, node)
        elif path in secrets:
            _read_secret(document, secrets[path], where, node, env)
        else:
            _read_leaf(document, path[0], where, node, env)


def _read_leaf(document: Document, key: str, where: str, node: Node, env: Mapping[str, str]) -> None:
    match key:
        case "workload":
            document.name = _read_name(document, where, node) or document.name
        case "dataSource":
            document.refers = _read_name(document, where, node)
            document.reading.given["data_source"] = RawValue("", document.place, where)
        case "allowedNamespaces":
            document.namespaces = _read_names(document, where, node)
        case _:
            found = read_header_rows(node, where, env)
            for path, wrong in found.problems:
                document.refuse(path, wrong)
            document.reading.values["headers"] = found.headers


def _find_leaves(
    document: Document, table: Table, leaves: Collection[tuple[str, ...]], prefix: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Node]]:
    """Where each known value of a spec stands, and its node; what is not known is refused."""
    depth = len(prefix)
    known = list(dict.fromkeys(leaf[depth] for leaf in leaves if leaf[:depth] == prefix))
    hints = {path[-1]: f"must not stand in a file; use {words}" for path, words in INLINE_SECRETS.items()}
    hints = hints if prefix == ("auth",) else {}
    dotted = ".".join(("spec", *prefix)) + "."
    for key, node in _known_entries(document, table, dotted, known, known, hints):
        path = (*prefix, key)
        if path in leaves:
            yield path, node
        elif isinstance(node, Table):
            yield from _find_leaves(document, node, leaves, path)
        else:
            document.refuse(dotted + key, f"must be a mapping; it is {name_of(node)}")


def _known_entries(
    document: Document,
    table: Table,
    prefix: str,
    known: Collection[str],
    shown: Collection[str],
    hints: Mapping[str, str] | None = None,
) -> Iterator[tuple[str, Node]]:
    for key in table.repeated:
        document.refuse(prefix + key[:100], "stands there twice; take one away")
    for key, node in table.entries.items():
        if key in known:
            yield key, node
        elif hints and key in hints:
            document.refuse(prefix + key, hints[key])
        else:
            document.refuse(prefix + key[:100], f"is unknown; {suggest(key[:100], shown)}")


def _read_setting(document: Document, setting: Setting, where: str, node: Node) -> None:
    problem = find_wrong_type(setting, node)
    if problem is not None:
        document.reading.given[setting.name] = RawValue("", document.place, where)
        document.refuse(where, problem)
    elif isinstance(node, Scalar):
        read_given(setting, RawValue(node.text, document.place, where), document.reading)


NATIVE = {"integer": {Kind.INTEGER}, "number": {Kind.INTEGER, Kind.NUMBER}, "boolean": {Kind.BOOLEAN}}
"""The kinds of settings that YAML has types for; all others are text."""

PLAIN = {
    "integer": "a plain whole number, without quotes",
    "number": "a plain number, without quotes",
    "boolean": "true or false, without quotes",
}


def find_wrong_type(setting: Setting, node: Node) -> str | None:
    """What is wrong with the type of a value, if something is; a number in quotes is text, and text is no number."""
    if not isinstance(node, Scalar):
        return f"must be a single value; it is {name_of(node)}"
    if node.kind is Kind.NOTHING:
        return "has no value; give it one, or take the line away"
    wanted = NATIVE.get(setting.kind, {Kind.TEXT})
    if node.kind in wanted:
        return None
    shown = without_secrets(node.text, is_url=setting.kind == "URL")[:MOST_SHOWN]
    try:
        setting.read(node.text)
    except ValueError as error:
        must = str(error)
    else:
        must = PLAIN.get(setting.kind, "text, written in quotes")
    return f"must be {must}, got the {node.kind} {shown!r}; change it there"


def _read_secret(document: Document, setting: Setting, where: str, node: Node, env: Mapping[str, str]) -> None:
    if not isinstance(node, Scalar) or node.kind is not Kind.TEXT:
        document.refuse(where, f"must be the name of a variable; it is {name_of(node)}")
        return
    name = node.text.strip()
    if not env.get(name, "").strip():  # what stands there may be the secret itself: it is not shown
        document.refuse(where, "must name a variable that is set and not empty; set it where Kedastral runs")
        return
    read_given(setting, RawValue(env[name], document.place, where), document.reading)


def _read_name(document: Document, where: str, node: Node) -> Name | None:
    if not isinstance(node, Scalar) or node.kind is not Kind.TEXT:
        quotes = "; put it in quotes" if isinstance(node, Scalar) and node.kind is not Kind.NOTHING else ""
        document.refuse(where, f"must be text; it is {name_of(node)}{quotes}")
        return None
    try:
        return read_key_part(node.text)
    except ValueError as error:
        document.refuse(where, f"must be {error}, got {node.text[:100]!r}; change it there")
        return None


def _read_names(document: Document, where: str, node: Node) -> frozenset[str] | None:
    if not isinstance(node, Rows):
        document.refuse(where, f"must be a list of names; it is {name_of(node)}")
        return None
    names = [_read_name(document, f"{where}[{index}]", item) for index, item in enumerate(node.items)]
    return frozenset(name for name in names if name is not None)
