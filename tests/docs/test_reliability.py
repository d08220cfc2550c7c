# SPDX-License-Identifier: Apache-2.0
"""docs/reliability.md: every test that it names exists, and every fault that is played is named."""

import ast
import re

import pytest

from tests.faults.test_inner_faults import MODELS
from tests.faults.test_prometheus_faults import HARMLESS, NO_PLAN

from .pages import ROOT, read

PAGE = ROOT / "docs" / "reliability.md"
NAMED = re.findall(r"\[`(test_\w+)`\]\(([^)]+)\)", read(PAGE))


def test_the_page_names_tests() -> None:
    assert len(NAMED) >= 15
    assert len(re.findall(r"`test_\w+`", read(PAGE))) == len(NAMED)


@pytest.mark.parametrize(("name", "place"), NAMED)
def test_each_test_that_is_named_exists(name: str, place: str) -> None:
    tree = ast.parse(read((PAGE.parent / place).resolve()))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("fault", [*NO_PLAN, *HARMLESS, *MODELS])
def test_each_fault_is_named(fault: str) -> None:
    assert fault in read(PAGE)
