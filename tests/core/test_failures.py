# SPDX-License-Identifier: Apache-2.0
"""The last failure: in plain words without addresses, kept until a tick succeeds."""

from datetime import UTC, datetime

import pytest

from kedastral.core.failures import MAX_REFUSAL_LENGTH, Failure, LastFailure
from kedastral.errors import ModelError, QueryError, SourceError
from tests.parts import make_snapshot

START = datetime(2026, 3, 2, tzinfo=UTC)
REFUSED = QueryError("HTTP 400", reason="refused", refusal="HTTP 400")


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
