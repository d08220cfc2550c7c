# SPDX-License-Identifier: Apache-2.0
"""Why there is no new forecast: remembered until there is one, and told briefly and without addresses."""

from datetime import UTC, datetime

import pytest

from kedastral.core.planning.status import LONGEST, Failure, LastFailure
from kedastral.errors import ModelError, QueryError, SourceError
from tests.parts import make_snapshot

NOW = datetime(2026, 3, 2, tzinfo=UTC)
REFUSED = QueryError("HTTP 400", reason="refused", refusal="HTTP 400")


def test_nothing_has_failed_at_first() -> None:
    assert LastFailure().value is None


def test_a_failure_holds_until_a_tick_succeeds() -> None:
    failed = LastFailure()
    failed.note(SourceError("no answer from http://secret.example", reason="timeout"), NOW)
    assert failed.value == Failure(NOW, "source", "timeout")
    failed.note_success()
    assert failed.value is None


def test_a_failure_that_has_no_words_of_its_own_is_told_by_its_reason() -> None:
    assert Failure(NOW, "source", "new").words == "the newest attempt failed (source: new)"


def test_only_a_refused_query_is_told_in_the_words_of_prometheus() -> None:
    failed = LastFailure()
    failed.note(SourceError("no answer from http://secret.example", reason="timeout"), NOW)
    assert failed.value is not None
    assert failed.value.words == "its Prometheus did not answer in time (source: timeout)"
    failed.note(SourceError("no series at http://secret.example", reason="empty"), NOW)
    assert failed.value.words == "the query matched nothing (source: empty)"
    failed.note(QueryError("at http://secret.example: HTTP 400", reason="refused", refusal="HTTP 400: no" * 99), NOW)
    assert failed.value.words.startswith("Prometheus refuses the query: HTTP 400: no")
    assert len(failed.value.words) < LONGEST + 50


def test_a_query_is_wrong_that_is_refused_before_it_ever_gave_a_forecast() -> None:
    failed, plan = LastFailure(), make_snapshot()
    assert failed.refused_from_the_start(has_plan=False) is None
    failed.note(REFUSED, NOW)
    assert failed.refused_from_the_start(has_plan=False) is failed.value
    assert failed.refused_from_the_start(has_plan=plan is not None) is failed.value, "that was another query's"


@pytest.mark.parametrize("answer", ["forecast", "no forecast"])
def test_a_query_that_was_answered_may_be_refused_for_a_while(answer: str) -> None:
    failed, plan = LastFailure(), make_snapshot()
    failed.note(SourceError("no answer", reason="timeout"), NOW)
    if answer == "forecast":
        failed.note_success()
    else:
        failed.note(ModelError("it raised", reason="exception"), NOW)
    failed.note(REFUSED, NOW)
    assert failed.refused_from_the_start(has_plan=plan is not None) is None
    assert failed.refused_from_the_start(has_plan=False) is failed.value, "there is no plan that goes on"


def test_a_source_that_is_away_says_nothing_of_the_query() -> None:
    failed = LastFailure()
    failed.note(SourceError("no answer", reason="timeout"), NOW)
    assert failed.refused_from_the_start(has_plan=False) is None
