# SPDX-License-Identifier: Apache-2.0
"""Why there is no new forecast: remembered until there is one, and told briefly and without addresses."""

from datetime import UTC, datetime, timedelta

import attrs

from kedastral.core.failure import LONGEST, Failure, LastFailure
from kedastral.core.snapshot import Snapshot
from kedastral.errors import ModelError, QueryError, SourceError
from tests.services.parts import make_snapshot

NOW = datetime(2026, 3, 2, tzinfo=UTC)


def snapshot_of(made_at: datetime) -> Snapshot:
    snapshot = make_snapshot()
    return attrs.evolve(snapshot, forecast=attrs.evolve(snapshot.forecast, made_at=made_at))


def test_nothing_has_failed_at_first() -> None:
    assert LastFailure().current(None) is None


def test_a_failure_holds_until_a_later_tick_has_given_a_forecast() -> None:
    failed = LastFailure()
    failed.note(SourceError("no answer from http://secret.example", reason="timeout"), NOW)
    assert failed.current(None) == Failure(NOW, "source", "timeout")
    assert failed.current(snapshot_of(NOW - timedelta(seconds=30))) is not None
    assert failed.current(snapshot_of(NOW + timedelta(seconds=30))) is None


def test_a_failure_of_the_tick_that_published_something_else_in_place_of_the_model_holds() -> None:
    failed = LastFailure()
    failed.note(ModelError("it raised", reason="exception"), NOW)
    assert failed.current(snapshot_of(NOW)) is not None


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
    failed = LastFailure(since=NOW)
    assert failed.refused_from_the_start(None) is None
    failed.note(QueryError("HTTP 400", reason="refused", refusal="HTTP 400"), NOW + timedelta(minutes=5))
    before, since = snapshot_of(NOW - timedelta(seconds=1)), snapshot_of(NOW + timedelta(seconds=1))
    assert failed.refused_from_the_start(None) is failed.value
    assert failed.refused_from_the_start(before) is failed.value, "that was another query's"
    assert failed.refused_from_the_start(since) is None, "what has worked may be refused for a while"


def test_a_source_that_is_away_says_nothing_of_the_query() -> None:
    failed = LastFailure(since=NOW)
    failed.note(SourceError("no answer", reason="timeout"), NOW)
    assert failed.refused_from_the_start(None) is None
