# SPDX-License-Identifier: Apache-2.0
"""Headers of a data source: rows of ``name`` and one of ``value``, ``valueEnv`` and ``valueFile``."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

from kedastral.config.checks import SECRET_HEADERS
from kedastral.config.keys import suggest
from kedastral.config.units import Header, read_headers
from kedastral.config.yaml_text import Kind, Node, Rows, Scalar, Table, name_of

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
