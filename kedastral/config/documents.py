# SPDX-License-Identifier: Apache-2.0
"""DataSource and ForecastPolicy documents: from a tree of YAML to what was given in them, and all that is wrong."""

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence

import attrs

from kedastral.config.config_files import ConfigFile, printable
from kedastral.config.fields import Setting
from kedastral.config.headers import read_header_rows
from kedastral.config.keys import (
    API_VERSION,
    NEAR,
    POLICY,
    POLICY_KEYS,
    SECRET_KEYS,
    SOURCE,
    SOURCE_KEYS,
    Keys,
    suggest,
)
from kedastral.config.reading import MOST_SHOWN, Given, Reading, read_given, without_secrets
from kedastral.config.unhurried import Rest, no_rest
from kedastral.config.units import Name, read_key_part
from kedastral.config.yaml_text import Kind, Node, Rows, Scalar, Table, YamlError, name_of, read_documents

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
    reading: Reading = attrs.field(factory=Reading)

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
            document.reading.given["data_source"] = Given("", document.place, where)
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
        document.reading.given[setting.name] = Given("", document.place, where)
        document.refuse(where, problem)
    elif isinstance(node, Scalar):
        read_given(setting, Given(node.text, document.place, where), document.reading)


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
    read_given(setting, Given(env[name], document.place, where), document.reading)


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
