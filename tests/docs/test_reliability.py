# SPDX-License-Identifier: Apache-2.0
"""docs/reliability.md and SECURITY.md: every test that they name exists, and they name every tested fault."""

import ast
import re
from pathlib import Path

import pytest

from tests.faults.test_inner_faults import MODELS
from tests.faults.test_prometheus_faults import HARMLESS, NO_PLAN

from .pages import ROOT, read

PAGE = ROOT / "docs" / "reliability.md"
PAGES = (PAGE, ROOT / "SECURITY.md")


def named(page: Path) -> list[tuple[str, str]]:
    return re.findall(r"\[`(test_\w+)`\]\(([^)]+)\)", read(page))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_page_names_tests(page: Path) -> None:
    assert len(named(page)) >= 15
    assert len(re.findall(r"`test_\w+`", read(page))) == len(named(page))


@pytest.mark.parametrize(("page", "name", "place"), [(page, *one) for page in PAGES for one in named(page)])
def test_each_test_that_is_named_exists(page: Path, name: str, place: str) -> None:
    tree = ast.parse(read((page.parent / place).resolve()))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("fault", [*NO_PLAN, *HARMLESS, *MODELS])
def test_each_fault_is_named(fault: str) -> None:
    assert fault in read(PAGE)
