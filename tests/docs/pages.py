# SPDX-License-Identifier: Apache-2.0
"""Reads the project's Markdown: pages, tables, code blocks, links, and the commands in shell blocks."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import attrs

ROOT = Path(__file__).resolve().parents[2]
PAGES = tuple(sorted((*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob(".github/**/*.md"))))
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)


@attrs.frozen
class Block:
    """A fenced block of code: its language, which may be empty, and its text."""

    language: str
    text: str


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    """Every fenced block, in order."""
    return [Block(language, text) for language, text in _FENCE.findall(page)]


def prose(page: str) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", page)


def links(page: str) -> list[str]:
    """Every link's target."""
    return _LINK.findall(prose(page))


def anchors(page: str) -> set[str]:
    """The targets of ``#...`` in a page: its headings, as GitHub turns them into anchors."""
    found: set[str] = set()
    for heading in _HEADING.findall(prose(page)):
        words = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.add(words)
    return found


def inline_code(page: str) -> list[str]:
    """Every `piece` of code in the prose."""
    return re.findall(r"`([^`\n]+)`", prose(page))


def tables(page: str) -> list[list[dict[str, str]]]:
    """Every table, as rows of cells by column name, without the backticks around a whole cell."""
    found: list[list[dict[str, str]]] = []
    lines = prose(page).splitlines()
    for at, line in enumerate(lines):
        if not re.fullmatch(r"\|[-| ]+\|", line):
            continue
        names, rows = _cells(lines[at - 1]), []
        for row in lines[at + 1 :]:
            if not row.startswith("|"):
                break
            rows.append(dict(zip(names, _cells(row), strict=True)))
        found.append(rows)
    return found


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def bare(cell: str) -> str:
    """A cell without backticks."""
    return cell.strip("`")


def commands(page: str) -> Iterator[list[str]]:
    """The words of each command in shell blocks: a backslash continues a line, pipes and ``&&`` separate commands."""
    for block in blocks(page):
        if block.language not in ("sh", "console"):
            continue
        text = block.text.replace("\\\n", " ")
        for line in text.splitlines():
            if block.language == "console":
                if not line.startswith("$ "):
                    continue
                line = line[2:]  # noqa: PLW2901 - the prompt is no part of it
            words = shlex.shlex(line, posix=True, punctuation_chars=True)
            words.whitespace_split = True
            yield from _split(list(words))


def _split(words: list[str]) -> Iterator[list[str]]:
    command: list[str] = []
    redirected = False
    for word in words:
        if word.startswith((">", "<")):
            redirected = True
            continue
        if redirected:  # the file of the redirection
            redirected = False
            continue
        if word in ("|", "&&", "||", ";", "&", ";;"):
            if command:
                yield command
            command = []
        else:
            command.append(word)
    if command:
        yield command
