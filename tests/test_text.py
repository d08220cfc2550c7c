# SPDX-License-Identifier: Apache-2.0
"""Text from elsewhere fits into one line, whatever it is."""

from hypothesis import given
from hypothesis import strategies as st

from kedastral.text import one_line, printable


@given(st.text(max_size=400), st.integers(1, 50))
def test_a_line_is_one_line_of_at_most_the_limit(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert len(line) <= limit
    assert line.isprintable()
    assert len(line.splitlines()) <= 1


def test_a_short_line_is_left_as_it_is() -> None:
    assert one_line("rate(x[1m]) > 0", 15) == "rate(x[1m]) > 0"


@given(st.text(max_size=400))
def test_a_line_without_a_limit_keeps_every_word(text: str) -> None:
    shown = "".join(char if char.isprintable() else " " for char in text)
    assert one_line(text, None).split() == shown.split()


@given(st.text(max_size=400), st.integers(1, 50))
def test_a_name_keeps_its_length_up_to_the_limit(text: str, limit: int) -> None:
    name = printable(text, limit)
    assert name.isprintable()
    assert len(name) == min(len(text), limit)


def test_what_cannot_be_shown_of_a_name_is_a_question_mark() -> None:
    assert printable("shop\n\x1b[31mweb") == "shop??[31mweb"
