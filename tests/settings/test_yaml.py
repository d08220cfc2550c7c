# SPDX-License-Identifier: Apache-2.0
"""YAML is read strictly, by either of PyYAML's parsers: odd YAML is refused with a message, nothing is executed."""

import pytest
import yaml

from kedastral.settings import yaml as yaml_text
from kedastral.settings.yaml import Kind, Node, Rows, Scalar, Table, YamlError, read_documents

PARSERS = [yaml_text._PythonLoader, *([yaml_text._CLoader] if hasattr(yaml, "CSafeLoader") else [])]


@pytest.fixture(params=PARSERS, ids=lambda parser: parser.__name__, autouse=True)
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_text, "_LOADER", request.param)


def table(text: str) -> dict[str, Node]:
    [node] = read_documents(text.encode())
    assert isinstance(node, Table)
    return node.entries


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("5", Kind.INTEGER), ("-5", Kind.INTEGER), ("0", Kind.INTEGER), ("'5'", Kind.TEXT), ('"5"', Kind.TEXT),
        ("010", Kind.TEXT), ("0x10", Kind.TEXT), ("1_000", Kind.TEXT), ("1:30", Kind.TEXT),
        ("5.0", Kind.NUMBER), ("1e3", Kind.NUMBER), (".5", Kind.NUMBER), (".nan", Kind.NUMBER), ("-.inf", Kind.NUMBER),
        ("true", Kind.BOOLEAN), ("no", Kind.BOOLEAN), ("'no'", Kind.TEXT), ("y", Kind.TEXT),
        ("", Kind.NOTHING), ("~", Kind.NOTHING), ("null", Kind.NOTHING), ("''", Kind.TEXT),
        ("2026-01-01", Kind.TEXT), ("5m", Kind.TEXT), ("|\n  5", Kind.TEXT),
    ],
)  # fmt: skip
def test_a_value_keeps_its_text_and_has_a_type(text: str, kind: Kind) -> None:
    node = table(f"a: {text}")["a"]
    assert isinstance(node, Scalar)
    assert node.kind is kind


def test_documents_are_counted_with_the_empty_ones() -> None:
    documents = read_documents(b"---\n# nothing\n---\na: 1\n---\n---\n- 1\n...\n")
    assert [type(node) for node in documents] == [type(None), Table, type(None), Rows]
    assert read_documents(b"") == read_documents(b"# nothing\n") == []


def test_a_byte_order_mark_is_left_out() -> None:
    assert read_documents("\ufeffa: 1".encode()) != []


def test_an_alias_is_what_its_anchor_marks() -> None:
    entries = table("a: &x {b: 1}\nc: *x\n")
    assert entries["a"] is entries["c"]


def test_keys_that_stand_twice_are_named() -> None:
    [node] = read_documents(b"a: 1\nb: 2\na: 3\na: 4\n")
    assert isinstance(node, Table)
    assert node.repeated == {"a": 4}


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines)


def test_a_bomb_is_a_small_tree() -> None:
    entries = table(bomb(60))
    assert len(entries) == 60


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: \xff", "must be UTF-8 text; byte 4 is not"),
        (b"a: 1\nb: \x00", "must be text; line 2 holds a NUL"),
        ("a: 1".encode("utf-16"), "must be UTF-8 text; this is UTF-16 or UTF-32"),
        (b"a: \x1b", "is not YAML"),
        (b"a: b: c", "is not YAML (line 1"),
        (b"a:\n\tb: 1", "is not YAML (line 2"),
        (b"a: [1", "is not YAML"),
        (b"a: 'x", "is not YAML"),
        (b'a: "\\UFFFFFFFF"', "is not YAML"),
        (b'a: "\\xZZ"', "is not YAML"),
        (b"%YAML 9.9\n---\na: 1", "is not YAML"),
        (b"%YAML " + b"9" * 5000 + b".1\n---\na: 1", "is not YAML"),
        (b"a: !!python/object:os.system {}", "must not hold tags"),
        (b"a: !!str 5", "must not hold tags"),
        (b"!x\na: 1", "must not hold tags"),
        (b"a: *x", "found undefined alias"),
        (b"a: &x 1\n---\nb: *x", "found undefined alias"),
        (b"a: &x [*x]", "that holds itself"),
        (b"? [a]\n: 1", "plain words for keys (line 1)"),
        (b"? {a: 1}\n: 1", "plain words for keys"),
        (b"&x a: 1\n*x : 2", "plain words for keys"),
        (b"a: " + b"[" * 30 + b"]" * 30, "must not be nested deeper than 20 levels (line 1)"),
        (b"[" * 1_000_000, "must not be nested deeper than 20 levels"),
        (b"{" * 1_000_000, "e"),
        (b"- " * 100_000, "must not be nested deeper than 20 levels"),
    ],
)
def test_what_is_odd_is_refused_in_a_line(content: bytes, words: str) -> None:
    with pytest.raises(YamlError) as caught:
        read_documents(content)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


def test_more_values_than_the_limit_are_refused() -> None:
    """With a limit of 2000: at the product's 200,000, PyYAML's pure Python parser takes half a minute."""
    assert read_documents(b"[" + b"1," * 1990 + b"1]", max_nodes=2000)
    with pytest.raises(YamlError, match="must hold at most 2000 values; split it"):
        read_documents(b"[" + b"1," * 2000 + b"1]", max_nodes=2000)


def test_a_tab_is_named_as_what_it_is() -> None:
    with pytest.raises(YamlError, match="indent with spaces"):
        read_documents(b"a:\n\tb: 1")
