# SPDX-License-Identifier: Apache-2.0
"""Strict YAML: plain trees in which everything has its line, without tags, duplicate keys or expansion bombs.

A value keeps its original text, so that the same readers serve files and flags. An alias is the tree that its anchor
marks, never a copy.
"""

import re
from collections.abc import Mapping
from enum import StrEnum

import attrs
import yaml

from kedastral.cooperative import Pause, no_pause
from kedastral.text import one_line

MAX_DEPTH = 20
"""How deep lists and mappings may be nested; a real configuration is not half as deep."""
MAX_NODES = 200_000
"""The most values of one file. A thousand policies with every possible setting have a fifth of that."""
MAX_MESSAGE = 200
"""How many characters of the parser's message are shown."""
PARSER_DEPTH = 1000
"""The most levels passed to libyaml: PyYAML recurses into them in C, and older versions have no limit."""

_TOO_DEEP = f"must not be nested deeper than {MAX_DEPTH} levels"
_BRACKET = re.compile(r"[\[\]{}]")
_INDENT = re.compile(rf"^[ ?:-]{{{PARSER_DEPTH}}}", re.MULTILINE)


class Kind(StrEnum):
    """The type of a plain value in YAML, by its usual name."""

    TEXT = "text"
    INTEGER = "whole number"
    NUMBER = "number"
    BOOLEAN = "boolean"
    NOTHING = "nothing"


_PLAIN_KINDS = {
    Kind.NOTHING: re.compile(r"|~|null|Null|NULL"),
    Kind.BOOLEAN: re.compile(r"true|True|TRUE|false|False|FALSE|yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF"),
    Kind.INTEGER: re.compile(r"[-+]?(0|[1-9][0-9]*)"),
    Kind.NUMBER: re.compile(
        r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
    ),
}


@attrs.frozen
class Scalar:
    """A value as it was written."""

    kind: Kind
    text: str
    line: int


@attrs.frozen(eq=False)
class Rows:
    """A list."""

    items: tuple["Node", ...]
    line: int


@attrs.frozen(eq=False)
class Table:
    """A mapping; ``lines`` are those of its keys, ``repeated`` the keys that occur more than once, with their line."""

    entries: Mapping[str, "Node"]
    lines: Mapping[str, int]
    line: int
    repeated: Mapping[str, int]


Node = Scalar | Rows | Table


def name_of(node: Node) -> str:
    """What kind of node it is, without revealing its content."""
    match node:
        case Rows():
            return "a list"
        case Table():
            return "a mapping"
        case Scalar(kind=Kind.NOTHING):
            return "empty"
        case Scalar(kind=Kind.TEXT):
            return "text"
        case _:
            return f"a {node.kind}"


class YamlError(ValueError):
    """The text is not YAML that is accepted here; the message says why and, if known, on which line."""


class _Untagged:
    """Gives a value without a tag its `Kind` as the tag, so that any other tag was written by the user."""

    def resolve(self, kind: type[yaml.Node], value: str, implicit: tuple[bool, bool]) -> Kind:
        """Called by PyYAML for every value without a tag; ``implicit[0]`` if it is neither quoted nor a block."""
        if kind is yaml.ScalarNode and implicit[0]:
            for plain, pattern in _PLAIN_KINDS.items():
                if pattern.fullmatch(value):
                    return plain
        return Kind.TEXT


class _PythonLoader(_Untagged, yaml.SafeLoader):
    pass


_LOADER: type[yaml.SafeLoader] | type["yaml.CSafeLoader"] = _PythonLoader
if hasattr(yaml, "CSafeLoader"):  # libyaml is ten times faster, but not available everywhere

    class _CLoader(_Untagged, yaml.CSafeLoader):
        pass

    _LOADER = _CLoader


def read_documents(
    content: bytes, pause: Pause = no_pause, max_depth: int = MAX_DEPTH, max_nodes: int = MAX_NODES
) -> list[Node | None]:
    """The documents of a file, in order; None for an empty one. Raises YamlError."""
    text = _decode(content)
    _require_shallow(text)
    try:
        documents: list[Node | None] = []
        builder = _Builder(max_depth, max_nodes)
        for root in yaml.compose_all(text, Loader=_LOADER):
            pause()
            documents.append(builder.build_document(root))
    except YamlError:
        raise
    except RecursionError as error:
        raise YamlError(_TOO_DEEP) from error
    except yaml.MarkedYAMLError as error:
        if "nesting depth" in str(error):  # newer versions of libyaml have their own limit
            raise YamlError(_TOO_DEEP) from error
        raise YamlError(_describe(error, text)) from error
    except (yaml.YAMLError, ValueError, OverflowError, IndexError) as error:  # the parser's own bugs are among them
        raise YamlError(f"is not YAML ({one_line(str(error), MAX_MESSAGE)})") from error
    return documents


def _decode(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise YamlError("must be UTF-8 text; this is UTF-16 or UTF-32")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise YamlError(f"must be UTF-8 text; byte {error.start + 1} is not") from None
    if "\0" in text:
        raise YamlError(f"must be text; line {text[: text.index(chr(0))].count(chr(10)) + 1} holds a NUL")
    return text


def _require_shallow(text: str) -> None:
    """Refuse text that may be nested too deep for the parser: by unclosed brackets, or by a line's indentation."""
    depth = 0
    for bracket in _BRACKET.finditer(text):
        depth = depth + 1 if bracket[0] in "[{" else max(0, depth - 1)
        if depth > PARSER_DEPTH:
            raise YamlError(_TOO_DEEP)
    if _INDENT.search(text):
        raise YamlError(_TOO_DEEP)


def _describe(error: yaml.MarkedYAMLError, text: str) -> str:
    where, tab = "", ""
    if error.problem_mark is not None:
        number = error.problem_mark.line
        line = next(iter(text.splitlines()[number : number + 1]), "")
        where = f"line {number + 1}: "
        tab = "; indent with spaces, not tabs" if "\t" in line[: len(line) - len(line.lstrip())] else ""
    return f"is not YAML ({where}{one_line(error.problem or str(error), MAX_MESSAGE)}{tab})"


@attrs.define
class _Builder:
    """Turns PyYAML's nodes into trees. Its recursion is bounded by ``max_depth``."""

    max_depth: int
    max_nodes: int
    nodes: int = 0
    _made: dict[int, Node | None] = attrs.field(factory=dict)
    """The trees of one document by the identity of PyYAML's node; None while one is being built."""

    def build_document(self, root: yaml.Node) -> Node | None:
        self._made = {}
        node = self._build(root, 0)
        return None if isinstance(node, Scalar) and node.kind is Kind.NOTHING else node

    def _build(self, node: yaml.Node, depth: int) -> Node:
        self.nodes += 1
        line = node.start_mark.line + 1
        if self.nodes > self.max_nodes:
            raise YamlError(f"must hold at most {self.max_nodes} values; split it")
        if depth > self.max_depth:
            raise YamlError(f"must not be nested deeper than {self.max_depth} levels (line {line})")
        if id(node) in self._made:  # an alias
            made = self._made[id(node)]
            if made is None:
                raise YamlError(f"must not hold a value that holds itself (line {line})")
            return made
        if not isinstance(node.tag, Kind):
            raise YamlError(f"must not hold tags such as !{node.tag.rpartition(':')[2][:40]!r} (line {line})")
        self._made[id(node)] = None
        made = self._made[id(node)] = self._build_new(node, line, depth)
        return made

    def _build_new(self, node: yaml.Node, line: int, depth: int) -> Node:
        if isinstance(node, yaml.SequenceNode):
            return Rows(tuple(self._build(item, depth + 1) for item in node.value), line)
        if isinstance(node, yaml.MappingNode):
            return self._build_table(node, line, depth)
        text: str = node.value
        if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
            raise YamlError(f"must not hold half a surrogate pair (line {line})")
        return Scalar(Kind(node.tag), text, line)

    def _build_table(self, node: yaml.MappingNode, line: int, depth: int) -> Table:
        entries: dict[str, Node] = {}
        lines: dict[str, int] = {}
        repeated: dict[str, int] = {}
        for name, value in node.value:
            at = name.start_mark.line + 1
            if not isinstance(name, yaml.ScalarNode) or id(name) in self._made:
                raise YamlError(f"must have plain words for keys (line {at})")
            key = self._build(name, depth + 1)
            made = self._build(value, depth + 1)
            if isinstance(key, Scalar):
                if key.text in entries:
                    repeated[key.text] = at
                entries[key.text], lines[key.text] = made, at
        return Table(entries, lines, line, repeated)
