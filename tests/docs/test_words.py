# SPDX-License-Identifier: Apache-2.0
"""Texts for users use the standard terms of KEDA, the HPA, Prometheus, SRE and scikit-learn, and none of our own."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

INSTEAD = {
    r"(?<!error )(?<!error_)\bbudgets?\b(?! \d)": "error budget",
    r"\bpromis(e|es|ed)\b": "service level objective, or: met",
    r"(?<!must )\bbeats?\b(?! steering)": "cycle",
    r"\bticks?\b": "cycle",
    r"\b(replicas|what is|what was) told\b|\btold last\b": "told KEDA, or: planned",
    r"\bloses? to the last value\b|\bthat of (repeating )?the last value\b|\bthe last value is planned for\b": (
        "naive forecast, and: falls back to it"
    ),
    r"\bis no (setting|document)\b": "unknown flag, or: unexpected kind",
    r"\bminutes? in violation\b": "under-provisioned, or: short of pods",
    r"\bknobs?\b": "setting",
    r"\bforetold\b": "forecast",
}
"""Terms to avoid in texts for users, and their replacements."""
OURS = re.compile("|".join(INSTEAD), re.IGNORECASE)
PACKAGE = ROOT / "kedastral"
INTERNAL = {"simulation/curves.py", "simulation/cluster.py"}
"""Modules with errors that only programmers see."""
PAGES = sorted(
    path
    for path in (*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "runbooks").glob("*.md"), ROOT / "README.md")
    # pages about design and measurements use the names in the code
    if path.name
    not in {"architecture.md", "benchmarks.md", "planner-experiments.md", "planner-measurements.md", "upstream.md"}
)
CODE = re.compile(r"```.*?```|`[^`]*`|\]\([^)]*\)|<[^>]*>", re.DOTALL)


def texts_of(path: Path) -> Iterator[tuple[int, str]]:
    """Every string of a module with a space that is not a docstring, with its line."""
    tree = ast.parse(path.read_text())
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone
        if is_text and " " in node.value:
            yield node.lineno, node.value


def found_in(text: str) -> list[str]:
    return [match.group() for match in OURS.finditer(text)]


def test_help_errors_logs_and_metrics_say_it_in_standard_words() -> None:
    modules = [path for path in PACKAGE.rglob("*.py") if "_proto" not in path.parts]
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {found_in(text)} in {text!r}"
        for path in sorted(modules)
        if str(path.relative_to(PACKAGE)) not in INTERNAL
        for line, text in texts_of(path)
        if found_in(text)
    ]
    assert len(modules) > 100
    assert wrong == []


def test_the_page_and_the_report_say_it_in_standard_words() -> None:
    pages = [*(PACKAGE / "serving" / "page").glob("*.html"), *(PACKAGE / "backtest").glob("*.j2")]
    assert len(pages) > 3
    assert {path.name: found for path in pages if (found := found_in(CODE.sub("", path.read_text())))} == {}
    script = (PACKAGE / "serving" / "page" / "page.js").read_text()
    assert re.findall(r'"Budget|(?<!rror )\bbudget [a-z]', script) == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_the_documents_say_it_in_standard_words(path: Path) -> None:
    assert found_in(CODE.sub("", path.read_text())) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("over budget", ["budget"]),
        ("the error budget is spent", []),
        ("retried at its next tick", ["tick"]),
        ("times the error of repeating the last value, that of the last value", ["that of the last value"]),
        ("a fixed headroom beats steering here", []),
    ],
)
def test_words_of_our_own_are_found(text: str, found: list[str]) -> None:
    assert found_in(text) == found
