# SPDX-License-Identifier: Apache-2.0
"""The tables of a backtest in terminals of any width."""

import io

import pytest
from rich.console import Console

from kedastral.cli.backtest import print_tables

FIGURES = ("1.234", "12.345", "123,456", "12,345,678", "3,456", "0.12", "7.89", "4.56")
ROWS = [("kedastral, service level 0.999", *FIGURES), ("last week + HPA at 80 %", *FIGURES)]


@pytest.mark.parametrize("width", [40, 60, 79, 80, 100, 110, 120, 160])
def test_no_figure_is_cut_at_any_width(width: int) -> None:
    text = io.StringIO()
    print_tables(Console(width=width, file=text), "shop", ROWS)
    words = text.getvalue().split()
    assert max(map(len, text.getvalue().splitlines())) <= width
    assert {figure: words.count(figure) for figure in FIGURES} == dict.fromkeys(FIGURES, 2)
