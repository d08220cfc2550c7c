# SPDX-License-Identifier: Apache-2.0
"""The status of a forecast in plain words."""

from datetime import UTC, datetime

import numpy as np
import pytest

from kedastral.core.forecast_status import OK, format_span, learning_from, model_failed, span_of, too_little_history
from kedastral.core.series import Series

START = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"), (45, "45 s"), (60, "60 s"), (90, "90 s"), (150, "2 min"), (3600, "60 min"), (5400, "90 min"),
        (3 * 3600, "3 h"), (86400, "24 h"), (30 * 3600, "30 h"), (14 * 86400, "14 d"), (14 * 86400 - 60, "14 d"),
        (7140, "119 min"),
    ],
)  # fmt: skip
def test_a_span_is_written_in_its_largest_fitting_unit(seconds: float, words: str) -> None:
    assert format_span(seconds) == words


def test_a_history_reaches_from_its_first_to_its_newest_value() -> None:
    assert span_of(Series(START, 60.0, np.array([np.nan, 1.0, np.nan, 2.0, np.nan]))) == 180
    assert span_of(Series(START, 60.0, np.array([np.nan]))) == 0


def test_every_reason_is_plain() -> None:
    history = Series(START, 60.0, np.ones(180))
    assert too_little_history(history, 6 * 3600.0).reason == "not enough history: have 3 h, need 6 h"
    assert learning_from(history).reason == "learning from 3 h of history"
    assert model_failed(ValueError("no idea")).reason == "the model failed: no idea"
    assert OK.reason == ""
