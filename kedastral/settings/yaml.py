# SPDX-License-Identifier: Apache-2.0
"""YAML, strictly: plain trees with places, no tags, no duplicate keys, no bombs, and never a surprise.

It reads the parser's events itself. A value keeps the text it was written as, so that settings are read from files by
the same readers as from flags; an alias is the very tree that its anchor marks and is never copied.
"""

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import attrs
import yaml

from kedastral.cooperative import Rest, no_rest

MOST_DEPTH = 20
"""How deep lists and mappings may lie in each other; nothing that is meant is half as deep."""
MOST_NODES = 200_000
"""Values of one file. A thousand policies with every setting there is have a fifth of it."""

MOST_WORDS = 200
"""Characters that are told of what the parser says."""

_NOTHING = re.compile(r"|~|null|Null|NULL")
_BOOLEAN = re.compile(r"true|True|TRUE|false|False|FALSE|yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF")
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_NUMBER = re.compile(
    r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is ten times as fast, and not everywhere


class Kind(StrEnum):
    """What a plain value is in YAML, as a person would call it."""

    TEXT = "text"
    INTEGER = "whole number"
    NUMBER = "number"
    BOOLEAN = "boolean"
    NOTHING = "nothing"


@attrs.frozen
class Scalar:
    """A value as it was written."""

    kind: Kind
    text: str


@attrs.frozen(eq=False)
class Rows:
    """A list."""

    items: tuple["Node", ...]


@attrs.frozen(eq=False)
class Table:
    """A mapping; ``repeated`` are keys that stand in it more than once."""

    entries: dict[str, "Node"]
    repeated: tuple[str, ...] = ()


Node = Scalar | Rows | Table


def name_of(node: Node) -> str:
    """What a node is, in words that do not say what is in it."""
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
    """The text is no YAML that is accepted here; the message says why and, where it can, in which line."""


def read_documents(content: bytes, rest: Rest = no_rest) -> list[Node | None]:
    """The documents of a file, in order; None is one that holds nothing. Raises YamlError."""
    text = _decode(content)
    try:
        return list(_Builder(yaml.parse(text, Loader=_PARSER), rest).documents())
    except YamlError:
        raise
    except yaml.MarkedYAMLError as error:
        if "nesting depth" in str(error):  # newer versions of libyaml have a limit of their own
            raise YamlError(f"must not be nested deeper than {MOST_DEPTH} levels") from error
        raise YamlError(_words(error, text)) from error
    except (yaml.YAMLError, ValueError, OverflowError, IndexError) as error:  # the parser's own slips are among them
        raise YamlError(f"is no YAML ({_plain(str(error))})") from error


def _decode(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise YamlError("must be UTF-8 text; this is UTF-16 or UTF-32")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise YamlError(f"must be UTF-8 text; byte {error.start + 1} is none") from None
    if "\0" in text:
        raise YamlError(f"must be text; line {text[: text.index(chr(0))].count(chr(10)) + 1} holds a NUL")
    return text


def _words(error: yaml.MarkedYAMLError, text: str) -> str:
    where, tab = "", ""
    if error.problem_mark is not None:
        number = error.problem_mark.line
        line = next(iter(text.splitlines()[number : number + 1]), "")
        where = f"line {number + 1}: "
        tab = "; indent with spaces, not tabs" if "\t" in line[: len(line) - len(line.lstrip())] else ""
    return f"is no YAML ({where}{_plain(error.problem or str(error))}{tab})"


def _plain(words: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in " ".join(words.split()))[:MOST_WORDS]


@attrs.define
class _Builder:
    """Turns events into trees. Its recursion is bounded by `MOST_DEPTH`."""

    events: Iterator[Any]
    rest: Rest = no_rest
    anchors: dict[str, Node | None] = attrs.field(factory=dict)
    nodes: int = 0

    def documents(self) -> Iterator[Node | None]:
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                self.rest()
                self.anchors = {}
                node = self._node(next(self.events), 0)
                yield None if isinstance(node, Scalar) and node.kind is Kind.NOTHING else node

    def _node(self, event: Any, depth: int) -> Node:
        self.nodes += 1
        line = event.start_mark.line + 1
        if self.nodes > MOST_NODES:
            raise YamlError(f"must hold at most {MOST_NODES} values; split it")
        if depth > MOST_DEPTH:
            raise YamlError(f"must not be nested deeper than {MOST_DEPTH} levels (line {line})")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event.anchor, line)
        if event.tag is not None and event.tag != "!":
            raise YamlError(f"must not hold tags such as !{event.tag.rpartition(':')[2][:40]!r} (line {line})")
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        node = self._build(event, depth)
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        return node

    def _alias(self, anchor: Any, line: int) -> Node:
        if anchor not in self.anchors:
            raise YamlError(f"must not use the alias *{anchor[:40]} before its anchor (line {line})")
        node = self.anchors[anchor]
        if node is None:
            raise YamlError(f"must not hold a value that holds itself, *{anchor[:40]} (line {line})")
        return node

    def _build(self, event: Any, depth: int) -> Node:
        if isinstance(event, yaml.ScalarEvent):
            return _scalar(event)
        if isinstance(event, yaml.SequenceStartEvent):
            return Rows(tuple(self._items(depth, yaml.SequenceEndEvent)))
        return self._table(depth)

    def _items(self, depth: int, end: type[Any]) -> Iterator[Node]:
        for event in self.events:
            if isinstance(event, end):
                return
            yield self._node(event, depth + 1)

    def _table(self, depth: int) -> Table:
        entries: dict[str, Node] = {}
        repeated: list[str] = []
        for event in self.events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            if not isinstance(event, yaml.ScalarEvent):
                raise YamlError(f"must have plain words for keys (line {event.start_mark.line + 1})")
            node = self._node(event, depth + 1)
            key = node.text if isinstance(node, Scalar) else ""
            value = self._node(next(self.events), depth + 1)
            if key in entries:
                repeated.append(key)
            entries[key] = value
        return Table(entries, tuple(dict.fromkeys(repeated)))


def _scalar(event: Any) -> Scalar:
    text: str = event.value
    if any("\ud800" <= c <= "\udfff" for c in text) if not text.isascii() else False:
        raise YamlError(f"must not hold half a character (line {event.start_mark.line + 1})")
    if event.style:  # quoted, or a block: text whatever it says
        return Scalar(Kind.TEXT, text)
    for kind, pattern in (
        (Kind.NOTHING, _NOTHING),
        (Kind.BOOLEAN, _BOOLEAN),
        (Kind.INTEGER, _INTEGER),
        (Kind.NUMBER, _NUMBER),
    ):
        if pattern.fullmatch(text):
            return Scalar(kind, text)
    return Scalar(Kind.TEXT, text)
