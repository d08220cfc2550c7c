# SPDX-License-Identifier: Apache-2.0
"""The status of a forecast in plain words, and the last failure: kept until a tick succeeds, without addresses."""

from datetime import UTC, datetime

import numpy as np
import pytest

from kedastral.core.planning.status import (
    MAX_REFUSAL_LENGTH,
    OK,
    Failure,
    LastFailure,
    format_span,
    learning_from,
    model_failed,
    span_of,
    too_little_history,
)
from kedastral.core.series import Series
from kedastral.errors import ModelError, QueryError, SourceError
from tests.parts import make_snapshot

START = datetime(2026, 3, 2, tzinfo=UTC)
REFUSED = QueryError("HTTP 400", reason="refused", refusal="HTTP 400")


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


# -- the last failure --


def test_nothing_has_failed_at_first() -> None:
    assert LastFailure().value is None


def test_a_failure_stays_until_a_tick_succeeds() -> None:
    failed = LastFailure()
    failed.note(SourceError("no answer from http://secret.example", reason="timeout"), START)
    assert failed.value == Failure(START, "source", "timeout")
    failed.note_success()
    assert failed.value is None


def test_a_failure_without_words_of_its_own_shows_its_reason() -> None:
    assert Failure(START, "source", "new").words == "the newest attempt failed (source: new)"


def test_a_later_forecast_may_be_another_pods() -> None:
    assert "another pod made it, or a clock was set back" in Failure(START, "store", "older").words


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (SourceError("at http://secret.example", reason="http_status", status=503),
         "its Prometheus answered with an error, HTTP 503 (source: http_status)"),
        (SourceError("at http://secret.example", reason="refused", status=401),
         "its Prometheus refuses the request, HTTP 401 (source: refused)"),
        (ModelError("at http://secret.example", reason="http_status", status=500),
         "its model answered with an error, HTTP 500 (model: http_status)"),
    ],
)  # fmt: skip
def test_the_status_of_an_answer_is_shown(error: SourceError | ModelError, words: str) -> None:
    failed = LastFailure()
    failed.note(error, START)
    assert failed.value is not None
    assert failed.value.words == words


def test_only_a_rejected_query_is_shown_in_the_words_of_prometheus() -> None:
    failed = LastFailure()
    failed.note(SourceError("no answer from http://secret.example", reason="timeout"), START)
    assert failed.value is not None
    assert failed.value.words == "its Prometheus did not answer in time (source: timeout)"
    failed.note(SourceError("no series at http://secret.example", reason="empty"), START)
    assert failed.value.words == "the query matched nothing (source: empty)"
    failed.note(QueryError("at http://secret.example: HTTP 400", reason="refused", refusal="HTTP 400: no" * 99), START)
    assert failed.value.words.startswith("Prometheus refuses the query: HTTP 400: no")
    assert len(failed.value.words) < MAX_REFUSAL_LENGTH + 50


def test_a_query_that_is_rejected_before_it_ever_gave_a_forecast_is_wrong() -> None:
    failed, plan = LastFailure(), make_snapshot()
    assert failed.refused_from_the_start(has_plan=False) is None
    failed.note(REFUSED, START)
    assert failed.refused_from_the_start(has_plan=False) is failed.value
    assert failed.refused_from_the_start(has_plan=plan is not None) is failed.value, "that was another query's"


@pytest.mark.parametrize("answer", ["forecast", "no forecast"])
def test_a_query_that_was_answered_may_be_rejected_for_a_while(answer: str) -> None:
    failed, plan = LastFailure(), make_snapshot()
    failed.note(SourceError("no answer", reason="timeout"), START)
    if answer == "forecast":
        failed.note_success()
    else:
        failed.note(ModelError("it raised", reason="exception"), START)
    failed.note(REFUSED, START)
    assert failed.refused_from_the_start(has_plan=plan is not None) is None
    assert failed.refused_from_the_start(has_plan=False) is failed.value, "there is no plan that goes on"


def test_an_unreachable_source_says_nothing_about_the_query() -> None:
    failed = LastFailure()
    failed.note(SourceError("no answer", reason="timeout"), START)
    assert failed.refused_from_the_start(has_plan=False) is None
