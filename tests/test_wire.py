# SPDX-License-Identifier: Apache-2.0
"""Snapshots as JSON: exact names, a true round trip, and every wrong document refused with the field's name."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedastral.core.forecast import Forecast
from kedastral.core.planning.snapshot import Mode, Snapshot
from kedastral.core.planning.stabilization import Resumption
from kedastral.core.series import Observation
from kedastral.wire import (
    ALL_PROBLEMS_WITHIN,
    WireError,
    dump_json,
    read_snapshot,
    read_time,
    write_snapshot,
    write_time,
)
from tests.parts import make_snapshot

MADE_AT = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
DOCUMENT: dict[str, Any] = {
    "workload": "shop",
    "metric": "http_rps",
    "generatedAt": "2026-03-01T12:00:00.250000Z",
    "stepSeconds": 60,
    "horizonSeconds": 180,
    "values": [400, 500.5, 0],
    "desiredReplicas": [5, 6, 2],
    "leadTimeSeconds": 120,
    "observedAt": "2026-03-01T11:59:00Z",
    "observedValue": 375.25,
    "reactiveReplicas": 5,
    "mode": "scale",
}
SNAPSHOT = Snapshot(
    workload="shop",
    metric="http_rps",
    forecast=Forecast(MADE_AT, 60.0, np.array([400, 500.5, 0])),
    replicas=np.array([5, 6, 2]),
    lead_time=120.0,
    observed=Observation(datetime(2026, 3, 1, 11, 59, tzinfo=UTC), 375.25),
    floor=5,
)

loads = st.floats(0, 1e300)
moments = st.datetimes(datetime(1990, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - drawn in UTC


resumptions = st.builds(Resumption, moments, st.none() | st.integers(0, 2**31 - 1), st.floats(1, 300))


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    values = draw(st.lists(loads, min_size=1, max_size=30))
    replicas = draw(st.lists(st.integers(0, 2**31 - 1), min_size=len(values), max_size=len(values)))
    step = draw(st.sampled_from([0.1, 1.0, 7.5, 60.0, 1 / 3, 86400.0]))
    return Snapshot(
        workload=draw(st.text(min_size=1)),
        metric=draw(st.text(min_size=1)),
        forecast=Forecast(draw(moments), step, np.array(values)),
        replicas=np.array(replicas),
        lead_time=draw(st.sampled_from([0.5, 60.0, 300.0, 1e6])),
        observed=draw(st.none() | st.builds(Observation, moments, loads)),
        floor=draw(st.none() | st.integers(0, 2**31 - 1)),
        mode=draw(st.sampled_from(Mode)),
        resumption=draw(st.none() | resumptions),
        withheld=draw(st.booleans()),
        fingerprint=draw(st.sampled_from(["", "0f3a"])),
    )


@given(snapshots())
def test_what_is_written_is_read_as_the_same(snapshot: Snapshot) -> None:
    assert read_snapshot(dump_json(write_snapshot(snapshot))) == snapshot


def test_the_names_are_exactly_the_contracts() -> None:
    assert write_snapshot(SNAPSHOT) == DOCUMENT
    assert list(write_snapshot(SNAPSHOT)) == list(DOCUMENT)
    assert read_snapshot(json.dumps(DOCUMENT)) == SNAPSHOT


def test_what_is_only_observed_says_so_and_an_older_forecaster_scales() -> None:
    observed = attrs.evolve(SNAPSHOT, mode=Mode.OBSERVE)
    assert write_snapshot(observed) == DOCUMENT | {"mode": "observe"}
    older = {name: value for name, value in DOCUMENT.items() if name != "mode"}
    assert read_snapshot(json.dumps(older)) == SNAPSHOT
    with pytest.raises(WireError, match="dream"):
        read_snapshot(json.dumps(DOCUMENT | {"mode": "dream"}))


def test_what_is_not_there_is_left_out() -> None:
    bare = attrs.evolve(SNAPSHOT, observed=None, floor=None)
    document = write_snapshot(bare)
    assert document.keys() == DOCUMENT.keys() - {"observedAt", "observedValue", "reactiveReplicas"}
    assert read_snapshot(dump_json(document)) == bare
    nulls = dict.fromkeys(("observedAt", "observedValue", "reactiveReplicas"))
    assert read_snapshot(json.dumps({**document, **nulls})) == bare


def test_seconds_given_as_whole_numbers_are_seconds() -> None:
    whole = Snapshot("shop", "m", Forecast(MADE_AT, 60, np.array([1.0])), np.array([1]), 30)
    assert write_snapshot(whole)["leadTimeSeconds"] == 30


def test_fields_that_a_newer_forecaster_adds_are_skipped() -> None:
    more = {**DOCUMENT, "quantiles": {"0.9": [1, 2, 3]}, "workload_": 1, "": None}
    assert read_snapshot(json.dumps(more)) == SNAPSHOT


def test_bytes_are_read_as_text_is() -> None:
    document = {**DOCUMENT, "workload": "bücher-✓"}
    assert read_snapshot(json.dumps(document, ensure_ascii=False).encode()).workload == "bücher-✓"


WRONG: dict[str, list[Any]] = {
    "workload": [None, 1, True, [], {}],
    "withheld": [None, 1, "false"],
    "metric": [None, 1.5, ["m"]],
    "generatedAt": [None, 0, "", "yesterday", "2026-03-01T12:00:00", "2026-03-01", "2026-13-01T00:00:00Z", []],
    "stepSeconds": [None, "60", True, [], 10**400],
    "horizonSeconds": [None, "180", False, {}],
    "values": [None, 1, [None], ["1"], [1, True, 3], [[1], 2, 3], [1, 2, 10**400], {"a": 1}, "abc"],
    "desiredReplicas": [None, 1, [1.5, 2, 3], ["1"], [True, 2, 3], [None], {"a": 1}],
    "leadTimeSeconds": [None, "120", True],
    "observedAt": [0, "noon", "2026-03-01T12:00:00"],
    "observedValue": ["1", True, []],
    "reactiveReplicas": ["5", 5.5, True],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in WRONG.items() for value in values])
def test_a_field_of_a_wrong_kind_is_refused_by_its_name(field: str, value: Any) -> None:
    with pytest.raises(WireError, match=field):
        read_snapshot(json.dumps({**DOCUMENT, field: value}))


OPTIONAL = {"observedAt", "observedValue", "reactiveReplicas", "mode"}


@pytest.mark.parametrize("field", [name for name in DOCUMENT if name not in OPTIONAL])
def test_a_field_that_is_missing_is_refused_by_its_name(field: str) -> None:
    with pytest.raises(WireError, match=field):
        read_snapshot(json.dumps({name: value for name, value in DOCUMENT.items() if name != field}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"values": [1, -1, 3]}, "values must all be >= 0"),
        ({"values": []}, "values must not be empty"),
        ({"values": [1, 2]}, "horizonSeconds is 180, the values reach 120"),
        ({"horizonSeconds": 60}, "horizonSeconds is 60, the values reach 180"),
        ({"desiredReplicas": [1, 2]}, "2 replicas for 3 values"),
        ({"desiredReplicas": [1, -2, 3]}, "replicas must be >= 0"),
        ({"desiredReplicas": [1, 10**30, 3]}, "not a snapshot"),
        ({"stepSeconds": 0, "horizonSeconds": 0}, "step must be"),
        ({"stepSeconds": -60, "horizonSeconds": -180}, "step must be"),
        ({"stepSeconds": 1e300, "horizonSeconds": 3e300}, "before the year 10000|not a snapshot"),
        ({"leadTimeSeconds": 0}, "lead_time must be"),
        ({"leadTimeSeconds": 1e300}, "before the year 10000"),
        ({"reactiveReplicas": -1}, "the floor must be >= 0"),
        ({"generatedAt": "9999-12-31T23:59:00Z"}, "before the year 10000"),
    ],
)
def test_fields_that_do_not_fit_together_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(WireError, match=words):
        read_snapshot(json.dumps({**DOCUMENT, **changes}))


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(WireError) as caught:
        read_snapshot(json.dumps({**DOCUMENT, "workload": 1, "values": [1, "2", None], "generatedAt": "now"}))
    told = str(caught.value)
    assert "must be a string" in told
    assert told.count("must be a number") == 2
    assert "must be an RFC 3339 time with a time zone" in told
    assert [told.index(name) for name in ("workload", "generatedAt", "values")]


@pytest.mark.parametrize(
    "text",
    ["", " ", "{", "<html>", "null", "[]", "1", '"text"', b"\xff\xfe", b"\xed\xa0\x80", "[" * 100_000, "1" * 5000,
     '{"values": NaN}', '{"values": [Infinity]}', '{"values": [-Infinity]}'],
    ids=lambda text: repr(text)[:20],
)  # fmt: skip
def test_what_is_no_json_object_is_refused(text: str | bytes) -> None:
    with pytest.raises(WireError):
        read_snapshot(text)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_a_number_that_is_none_is_refused(number: str) -> None:
    with pytest.raises(WireError):
        read_snapshot(json.dumps(DOCUMENT).replace("500.5", number))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_what_no_parser_knows_is_never_written(number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        dump_json({"values": [number]})
    observed = Observation(MADE_AT, number)
    with pytest.raises(ValueError, match="JSON"):
        dump_json(write_snapshot(attrs.evolve(SNAPSHOT, observed=observed)))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-22T04:27:14Z", datetime(2026, 11, 22, 4, 27, 14, tzinfo=UTC)),
        ("2026-11-22t04:27:14z", datetime(2026, 11, 22, 4, 27, 14, tzinfo=UTC)),
        ("2026-11-22 04:27:14Z", datetime(2026, 11, 22, 4, 27, 14, tzinfo=UTC)),
        ("2026-11-22T04:27:14.5Z", datetime(2026, 11, 22, 4, 27, 14, 500_000, tzinfo=UTC)),
        ("2026-11-22T04:27:14.123456789Z", datetime(2026, 11, 22, 4, 27, 14, 123_456, tzinfo=UTC)),
        ("2026-11-22T04:27:14.123456789+05:30", datetime(2026, 11, 21, 22, 57, 14, 123_456, tzinfo=UTC)),
        ("2026-11-22T04:27:14-08:00", datetime(2026, 11, 22, 12, 27, 14, tzinfo=UTC)),
        ("2026-11-22T04:27:14-00:00", datetime(2026, 11, 22, 4, 27, 14, tzinfo=UTC)),
    ],
)
def test_every_way_to_write_a_time_is_read(text: str, moment: datetime) -> None:
    assert read_time(text) == moment
    assert read_time(text).utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "text", ["", "now", "2026-11-22", "04:27:14Z", "2026-11-22T04:27:14", "0001-01-01T00:00:00+14:00"]
)
def test_what_is_no_time_with_a_zone_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="RFC 3339"):
        read_time(text)


@given(moments)
def test_times_survive_in_every_zone(moment: datetime) -> None:
    assert write_time(moment).endswith("Z")
    assert read_time(write_time(moment)) == moment
    assert write_time(moment.astimezone(timezone(timedelta(hours=-7)))) == write_time(moment)


def test_of_a_long_document_one_problem_is_named_and_its_memory_is_little() -> None:
    with pytest.raises(WireError, match="not a snapshot: workload is missing"):
        read_snapshot(dump_json({"metric": "x", "more": "x" * ALL_PROBLEMS_WITHIN}))
    document = {**write_snapshot(make_snapshot()), "values": ["x"] * ALL_PROBLEMS_WITHIN}
    with pytest.raises(WireError, match="not a snapshot: must be a number"):
        read_snapshot(dump_json(document))
