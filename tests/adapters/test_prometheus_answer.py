# SPDX-License-Identifier: Apache-2.0
"""Prometheus' JSON as its documentation gives it, and as a broken server might."""

import json
import math
import sys
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedastral.adapters.prometheus import answer as prometheus_answer
from kedastral.adapters.prometheus.answer import (
    MAX_POINTS,
    MAX_SERIES,
    QueryResponse,
    RefusedError,
    describe_no_load,
    error_words,
    find_twins,
    instant_series,
    parse_answer,
    range_series,
    sum_series,
)

GOLDEN = Path(__file__).parent / "golden"
START = datetime(2023, 11, 14, 22, 14, tzinfo=UTC)
T0 = START.timestamp()


def golden(name: str) -> bytes:
    return (GOLDEN / f"{name}.json").read_bytes()


def parsed(kind: str, result: Any) -> QueryResponse:
    return parse_answer(json.dumps({"status": "success", "data": {"resultType": kind, "result": result}}).encode())


def matrix_answer(*series: Any) -> QueryResponse:
    return parsed("matrix", [{"metric": {}, "values": list(points)} for points in series])


def test_several_series_are_summed_per_timestamp_and_absent_ones_skipped() -> None:
    answer = parse_answer(golden("matrix"))
    summed = sum_series(range_series(answer), START, START + timedelta(minutes=5), 60.0)
    np.testing.assert_array_equal(summed.values, [11, 2.5, math.nan, 100, 7, math.nan])


def test_warnings_and_infos_are_kept() -> None:
    answer = parse_answer(golden("matrix"))
    assert answer.warnings == ("exceeded maximum resolution",)
    assert answer.infos[0].startswith("PromQL info")


@pytest.mark.parametrize("warnings", [None, "text", 5, [1, None]])
def test_warnings_of_another_shape_are_ignored(warnings: Any) -> None:
    document = {"status": "success", "data": {"resultType": "matrix", "result": []}, "warnings": warnings}
    assert parse_answer(json.dumps(document).encode()).warnings == ()


def test_an_instant_vector_gives_one_point_per_series() -> None:
    points = instant_series(parse_answer(golden("vector")))
    assert [series[0][1] for series in points[:2]] == [1.5, 2.0]
    assert math.isnan(points[2][0][1])
    assert len(points) == 3


def test_an_instant_scalar_is_one_point() -> None:
    assert instant_series(parse_answer(golden("scalar"))) == [[(1700000040.123, 42.0)]]


def test_the_servers_own_error_is_raised_in_its_words() -> None:
    with pytest.raises(RefusedError, match='bad_data: invalid parameter "query": 1:5: parse error'):
        parse_answer(golden("error"))


@pytest.mark.parametrize("body", [b"<html>", b"", b"[]", b"[" * 100_000, golden("matrix"), b'{"error":"x"}'])
def test_a_body_without_an_error_has_no_error_words(body: bytes) -> None:
    assert error_words(body) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html></html>",
        b"[]",
        b"null",
        b'{"status":"success"}',
        b'{"status":"success","data":[]}',
        b'{"status":"success","data":{"resultType":"matrix"}}',
        b'{"data":{"resultType":"matrix","result":[]}}',
        b'{"status":"success","data":{"resultType":"matrix","result":[]}',
        b"\xff\xfe\xfd",
    ],
)
def test_what_is_no_answer_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_answer(body)


@pytest.mark.parametrize("kind", ["vector", "scalar", "string", "None"])
def test_a_range_query_takes_only_a_matrix(kind: str) -> None:
    with pytest.raises(ValueError, match=f"its result is a {kind}"):
        range_series(QueryResponse(kind, []))


@pytest.mark.parametrize("kind", ["matrix", "string"])
def test_an_instant_query_takes_only_a_vector_or_a_scalar(kind: str) -> None:
    with pytest.raises(ValueError, match=f"its result is a {kind}"):
        instant_series(QueryResponse(kind, []))


@pytest.mark.parametrize(
    "result",
    [
        None,
        {},
        ["x"],
        [{}],
        [{"metric": {}}],
        [{"values": None}],
        [{"values": [5]}],
        [{"values": [[1]]}],
        [{"values": [[1, "2", "3"]]}],
        [{"values": [["1", "2"]]}],
        [{"values": [[True, "2"]]}],
        [{"values": [[None, "2"]]}],
    ],
)
def test_a_matrix_of_another_shape_is_refused(result: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        range_series(parsed("matrix", result))


@pytest.mark.parametrize("value", ["", "x", "1_000", "0x10", "١", None, True, [], {}, "NaN", 10**400])
def test_an_unparsable_value_is_a_gap(value: Any) -> None:
    [[(at, number)]] = range_series(matrix_answer([[T0, value]]))
    assert at == T0
    assert math.isnan(number)


def test_a_point_before_or_after_the_range_is_no_point_though_the_grid_is_near() -> None:
    points = [(T0 - 25, 1.0), (T0 + 60 + 25, 2.0), (T0 - 60, 3.0), (T0 + 120, 4.0)]
    summed = sum_series([points], START, START + timedelta(minutes=1), 60.0)
    assert np.isnan(summed.values).all()


def test_prometheus_rounding_to_milliseconds_does_not_put_a_point_outside() -> None:
    summed = sum_series([[(T0 - 0.0005, 1.0), (T0 + 60.0005, 2.0)]], START, START + timedelta(minutes=1), 60.0)
    np.testing.assert_array_equal(summed.values, [1, 2])


def test_of_duplicate_timestamps_the_last_counts_even_where_it_is_a_gap() -> None:
    points = [(T0, 1.0), (T0 + 60, 1.0), (T0, 5.0), (T0 + 60, math.nan)]
    summed = sum_series([points], START, START + timedelta(minutes=1), 60.0)
    np.testing.assert_array_equal(summed.values, [5, math.nan])


def test_a_sum_that_overflows_is_the_largest_load() -> None:
    summed = sum_series([[(T0, 1.7e308)], [(T0, 1.7e308)]], START, START, 60.0)
    assert summed.values.tolist() == [sys.float_info.max]


SIZE = 8
texts = st.sampled_from(["NaN", "+Inf", "-Inf", "-1", "-0.5", "x", "", None, True, "1e999"])
good = st.floats(min_value=0, max_value=1e6)
times = st.one_of(
    st.integers(-3, SIZE + 3).map(lambda index: T0 + index * 60.0),
    st.sampled_from([1e300, T0 - 20, T0 + SIZE * 60.0]),
)
samples = st.tuples(times, st.one_of(texts, good))


@given(st.lists(st.lists(samples, max_size=12), max_size=4))
def test_no_gap_ever_reaches_the_series_as_a_number(series: list[list[tuple[float, Any]]]) -> None:
    document = [[[at, str(value) if isinstance(value, float) else value] for at, value in points] for points in series]
    end = START + timedelta(minutes=SIZE - 1)
    summed = sum_series(range_series(matrix_answer(*document)), START, end, 60.0)
    for index, got in enumerate(summed.values):
        last_of_each = [[value for at, value in points if at == T0 + index * 60.0][-1:] for points in series]
        due = [value for last in last_of_each for value in last if isinstance(value, float)]
        if due:
            assert got == pytest.approx(sum(due))
        else:
            assert math.isnan(got)


odd_times = st.one_of(
    st.integers(-(10**12), 10**12),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none(),
    st.text(),
)
odd_values = st.one_of(texts, st.floats().map(repr), st.text(max_size=5), st.integers(), st.lists(st.integers()))
odd_samples = st.one_of(
    st.tuples(st.integers(0, 2 * 10**9), st.floats().map(repr)).map(list),
    st.tuples(odd_times, odd_values).map(list),
    st.lists(st.integers(), max_size=3),
    st.text(min_size=2, max_size=2),
)


@given(st.lists(odd_samples, max_size=6))
def test_a_series_read_at_once_says_what_its_samples_say_one_by_one(values: list[Any]) -> None:
    document = {"status": "success", "data": {"resultType": "matrix", "result": [{"metric": {}, "values": values}]}}
    try:
        due = [prometheus_answer._point(pair) for pair in json.loads(json.dumps(values))]
    except ValueError:
        with pytest.raises(ValueError, match="sample"):
            range_series(parse_answer(json.dumps(document).encode()))
        return
    [got] = range_series(parse_answer(json.dumps(document).encode()))
    np.testing.assert_array_equal(np.array(got).reshape(-1, 2), np.array(due).reshape(-1, 2))


@pytest.mark.parametrize("label", ["x", [[1, "2"]]])
def test_a_label_called_values_is_no_series(label: Any) -> None:
    result = [{"metric": {"values": label}, "values": [[T0, "5"]]}]
    document = {"status": "success", "data": {"resultType": "matrix", "result": result}}
    [[point]] = range_series(parse_answer(json.dumps(document).encode()))
    assert tuple(point) == (T0, 5.0)


def test_many_series_take_the_memory_of_their_numbers_and_not_that_of_their_lists() -> None:
    values = [[int(T0) + 60 * index, "123.456"] for index in range(500)]
    document = {"status": "success", "data": {"resultType": "matrix", "result": [{"values": values}] * 40}}
    body = json.dumps(document).encode()
    tracemalloc.start()
    try:
        series = range_series(parse_answer(body))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    numbers = 40 * 500 * 16
    assert sum(np.asarray(points).nbytes for points in series) == numbers
    assert peak < 4 * numbers + len(body)


def test_more_series_or_points_than_anybody_asks_for_are_refused() -> None:
    with pytest.raises(ValueError, match="more than 100000 series"):
        parsed("matrix", [{"metric": {}, "values": []}] * (MAX_SERIES + 1))
    assert len(range_series(parsed("matrix", [{"values": [[T0, "1"]] * MAX_POINTS}]))[0]) == MAX_POINTS
    with pytest.raises(ValueError, match="more than 50000 values"):
        parsed("matrix", [{"values": [[T0, "1"]] * (MAX_POINTS + 1)}])


def test_warnings_without_end_are_one_and_series_may_be_missing() -> None:
    document = {"status": "success", "data": {"resultType": "matrix", "result": []}, "warnings": ["x"] * 100_000}
    answer = parse_answer(json.dumps(document).encode())
    assert answer.warnings == ("more than 256 KiB of warnings",)
    assert answer.is_partial


def test_the_words_of_an_error_are_cut_where_they_have_no_end() -> None:
    words = error_words(json.dumps({"status": "error", "errorType": "bad_data", "error": "x" * 2**20}).encode())
    assert words is not None
    assert words.startswith('bad_data: "xxx')
    assert len(words) < 2**18 + 20


def test_the_labels_of_very_many_series_are_not_compared() -> None:
    pair = [labelled(RISING, pod="a" * 1000, prometheus=name) for name in "xy"]
    assert find_twins(parsed("matrix", pair)) is not None
    others = [labelled([float(n)], pod=f"{n}" + "b" * 1000) for n in range(1100)]
    assert find_twins(parsed("matrix", [*pair, *others])) is None


@given(st.lists(samples, max_size=12, unique_by=lambda point: str(point[0])), st.randoms(use_true_random=False))
def test_order_does_not_matter(points: list[tuple[float, Any]], random: Any) -> None:
    shuffled = random.sample(points, len(points))
    end = START + timedelta(minutes=SIZE - 1)
    one, other = (
        sum_series(range_series(matrix_answer(each)), START, end, 60.0)
        for each in ([[at, value] for at, value in points], [[at, value] for at, value in shuffled])
    )
    assert one == other


@pytest.mark.parametrize(
    ("several", "words"),
    [
        ([], "the query matched nothing"),
        ([[]], "the query matched 1 series without a load: no value in the time asked for"),
        ([[(T0, 5.0)]], "the query matched 1 series without a load: no value in the time asked for"),
        (
            [[(T0, math.nan), (T0 + 60, math.inf)], [(T0, -math.inf), (T0 + 60, -1.0), (T0 + 120, math.nan)]],
            "the query matched 2 series without a load: of 5 values 2 NaN, 2 infinite, 2 negative",
        ),
    ],
)
def test_no_load_is_told_apart_from_no_series(several: list[Any], words: str) -> None:
    assert describe_no_load(several) == words


def labelled(values: list[float], **labels: str) -> dict[str, Any]:
    return {"metric": labels, "values": [[T0 + 60 * n, str(value)] for n, value in enumerate(values)]}


RISING = [float(n) for n in range(20)]
OTHER = [1.0 + n for n in range(20)]


@pytest.mark.parametrize(
    "pair",
    [
        (labelled(RISING, pod="a", prometheus="x"), labelled(RISING, pod="a", prometheus="y")),
        (labelled(RISING, pod="a", prometheus_replica="0"), labelled(OTHER, pod="a", prometheus_replica="1")),
        (labelled([0.0], pod="a", __replica__="0"), labelled([0.0], pod="a", __replica__="1")),
    ],
)
def test_two_series_of_an_ha_pair_are_found_among_others(pair: tuple[Any, Any]) -> None:
    others = [labelled([7.0 * n for n in range(20)], pod="b"), labelled([3.0] * 20, pod="c")]
    answer = parsed("matrix", [others[0], pair[0], others[1], pair[1]])
    assert find_twins(answer) == (json.dumps(pair[0]["metric"]), json.dumps(pair[1]["metric"]))


@pytest.mark.parametrize(
    "pair",
    [
        (labelled([0.0] * 20, pod="a"), labelled([0.0] * 20, pod="b")),
        (labelled([1.0, 2.0, 3.0, 2.0] * 5, pod="a"), labelled([1.0, 2.0, 3.0, 2.0] * 5, pod="b")),
        (labelled(RISING[:9], pod="a"), labelled(RISING[:9], pod="b")),
        (labelled(RISING, pod="a"), labelled(OTHER, pod="b")),
        (labelled(RISING, replica="0"), labelled(OTHER, replica="1")),
        (labelled(RISING, pod="a", prometheus_replica="0"), labelled(OTHER, pod="b", prometheus_replica="1")),
        ({"values": []}, {"values": []}),
    ],
)
def test_series_that_may_be_alike_by_chance_are_no_ha_pair(pair: tuple[Any, Any]) -> None:
    assert find_twins(parsed("matrix", list(pair))) is None
