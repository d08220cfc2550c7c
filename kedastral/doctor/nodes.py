# SPDX-License-Identifier: Apache-2.0
"""Reads values from the tree of a manifest: what is at a path, or nothing if the tree has another shape."""

import json
import re
from collections.abc import Mapping, Sequence

from kedastral.doctor.evidence import ObjectName, Place
from kedastral.settings.yaml import Kind, Node, Rows, Scalar, Table
from kedastral.wire import JsonValue

MERGE = "<<"
"""The key of a mapping that merges others into it."""
_JSON_KINDS = {type(None): Kind.NOTHING, bool: Kind.BOOLEAN, int: Kind.INTEGER, float: Kind.NUMBER}
MOST = 1e10
"""More than any number that is read here."""


def tree_of(value: JsonValue) -> Node:
    """A tree from JSON values, as a Kubernetes client returns them; without line numbers."""
    if isinstance(value, Mapping):
        return Table({str(key): tree_of(one) for key, one in value.items()}, {}, 0, {})
    if isinstance(value, str):
        return Scalar(Kind.TEXT, value, 0)
    if isinstance(value, Sequence):
        return Rows(tuple(map(tree_of, value)), 0)
    return Scalar(_JSON_KINDS[type(value)], json.dumps(value), 0)


def node_at(node: Node | None, *path: str) -> Node | None:
    """What is at ``path`` below ``node``."""
    for key in path:
        node = node.entries.get(key) if isinstance(node, Table) else None
    return node


def text_at(node: Node | None, *path: str) -> str:
    """The text, or the number as written, at ``path``; otherwise an empty string."""
    found = node_at(node, *path)
    return found.text if isinstance(found, Scalar) and found.kind is not Kind.NOTHING else ""


def integer_at(node: Node | None, *path: str) -> int | None:
    """The integer at ``path``; None if there is none."""
    found = node_at(node, *path)
    if isinstance(found, Scalar) and found.kind is Kind.NUMBER and is_whole(found):
        whole = float(found.text)  # kubectl reads 2.0 as 2
        return int(whole) if abs(whole) < MOST else None
    text = text_at(found)
    return int(text) if re.fullmatch(r"[-+]?[0-9]{1,10}", text) else None


def rows_at(node: Node | None, *path: str) -> tuple[Node, ...]:
    """The items of the list at ``path``; empty if there is no list."""
    found = node_at(node, *path)
    return found.items if isinstance(found, Rows) else ()


def texts_at(node: Node | None, *path: str) -> dict[str, str]:
    """The mapping at ``path``, without what is empty, and without the lists and mappings in it."""
    found = node_at(node, *path)
    if not isinstance(found, Table):
        return {}
    scalars = ((key, one) for key, one in found.entries.items() if isinstance(one, Scalar))
    return {key: one.text for key, one in scalars if one.kind is not Kind.NOTHING}


def place_of(file: str, node: Node | None) -> Place:
    """Where ``node`` stands in a file."""
    return Place(file, 0 if node is None else node.line)


def name_of(node: Table, kind: str) -> ObjectName:
    """The name of an object, and its namespace if it says one."""
    return ObjectName(kind, text_at(node, "metadata", "name"), text_at(node, "metadata", "namespace"))


def is_whole(value: Scalar) -> bool:
    """Whether it is a whole number, including ``2.0``, or empty, which counts as left out."""
    if value.kind is Kind.NUMBER:
        # infinity and "not a number" have a dot in YAML
        return not value.text.lstrip("+-").lower().startswith((".i", ".n")) and float(value.text).is_integer()
    return value.kind in (Kind.INTEGER, Kind.NOTHING)
