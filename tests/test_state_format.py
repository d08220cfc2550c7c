# SPDX-License-Identifier: Apache-2.0
"""States and histories read back as they were written, also from another version; damaged ones are never used."""

import base64
import hashlib
import json
import logging
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kedastral.core.data_quality.findings import Findings
from kedastral.core.data_quality.lost_series import LostSeries
from kedastral.core.data_quality.outliers import Outliers
from kedastral.core.data_quality.settling import SettlingPoint, SettlingState
from kedastral.core.forecast import Experts, Forecast
from kedastral.core.forecast_status import OK, ForecastStatus, StatusCode
from kedastral.core.kept_state import KeptState, SourceState
from kedastral.core.planning.load_cap import MAX_CAP_RELAXATION
from kedastral.core.planning.peak_regression import FEATURES, PeakRegression
from kedastral.core.planning.service_level import ServiceLevelReport, ServiceLevelState
from kedastral.core.planning.snapshot import Mode, Snapshot
from kedastral.core.planning.stabilization import Recommendation, Resumption, UnstabilizedPlan
from kedastral.core.planning.steering import (
    MAX_FACTOR,
    MAX_PEAK_HOLD,
    MIN_FACTOR,
    MIN_PEAK_HOLD,
    Account,
    DaySpent,
    SteeringState,
)
from kedastral.core.planning.uncertainty import (
    Calibration,
    IntervalForecast,
    PendingWindow,
    RegressionTrial,
    UncertaintyState,
)
from kedastral.core.series import DataQuality, Observation, Series
from kedastral.core.trigger import ObjectRef
from kedastral.state_format import StateFormatError, read_history, read_state, write_history, write_state
from tests.kept import BASIS, make_kept_history, make_kept_state
from tests.parts import START

moments = st.integers(0, 10**11).map(
    lambda tenths: datetime(2000, 1, 1, tzinfo=UTC) + timedelta(microseconds=tenths * 37501)
)
loads = st.floats(0, 1e300)
finite = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 10**6)
observations = st.builds(Observation, moments, loads)
texts = st.text(max_size=20)

calibrations = st.builds(
    Calibration, finite, finite, st.tuples(finite, finite), st.tuples(finite, finite), finite, counts
)
positive = st.floats(1e-6, 1e9)
regressions = st.builds(
    PeakRegression, finite, positive, positive, positive,
    st.lists(finite, min_size=FEATURES + 1, max_size=FEATURES + 1).map(tuple), st.floats(0, 1e9),
    *(st.lists(finite, min_size=FEATURES, max_size=FEATURES).map(tuple),) * 2,
)  # fmt: skip
intervals = st.builds(IntervalForecast, loads, st.tuples(loads, loads), loads)
recommendations = st.lists(st.builds(Recommendation, finite, counts), max_size=3).map(tuple)
plans = st.none() | st.builds(UnstabilizedPlan, finite, st.floats(1, 3600), st.lists(counts, max_size=3).map(tuple))
states = st.builds(
    ServiceLevelState,
    st.builds(
        UncertaintyState, calibrations, calibrations,
        st.lists(
            st.builds(PendingWindow, finite, counts, intervals, intervals, st.none() | intervals), max_size=2
        ).map(tuple),
        st.booleans(), st.builds(RegressionTrial, st.none() | regressions, calibrations, finite, finite),
    ),
    st.builds(
        SteeringState,
        st.none() | st.floats(MIN_FACTOR, MAX_FACTOR),
        st.none() | finite,
        recommendations,
        st.lists(st.builds(DaySpent, counts, finite, finite, finite, finite), max_size=3).map(tuple),
        st.builds(Account, finite, finite, finite, finite),
        peak_hold=st.floats(MIN_PEAK_HOLD, MAX_PEAK_HOLD),
        bridged_at=st.none() | finite,
        cap_relaxation=st.floats(1, MAX_CAP_RELAXATION),
        seasonal_quantile=st.floats(0, 1),
    ),
    st.none() | counts, recommendations, plans, plans,
)  # fmt: skip


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    values = draw(st.lists(loads, min_size=1, max_size=5))
    each = st.lists(counts, min_size=len(values), max_size=len(values))
    report = st.builds(
        ServiceLevelReport,
        hnp.arrays(np.float64, len(values), elements=loads),
        finite,
        st.none() | finite,
        finite,
        states,
    )
    return Snapshot(
        draw(texts), draw(texts), Forecast(draw(moments), draw(st.floats(1, 3600)), values), draw(each),
        draw(st.floats(1, 3600)), draw(st.none() | observations), draw(st.none() | counts), draw(st.none() | report),
        draw(st.sampled_from(Mode)), draw(st.builds(ForecastStatus, st.sampled_from(StatusCode), texts)),
        DataQuality(draw(loads), draw(st.none() | observations)),
        Findings(
            draw(st.none() | st.builds(Outliers, counts, observations)),
            draw(st.none() | st.builds(LostSeries, counts, counts, moments)),
            draw(st.booleans()),
        ),
        draw(st.none() | counts),
        draw(st.none() | st.builds(Resumption, moments, st.none() | counts, finite)), draw(st.booleans()),
    )  # fmt: skip


sources = st.builds(
    SourceState,
    st.builds(
        SettlingState,
        st.lists(st.builds(SettlingPoint, counts, st.none() | loads, loads, loads), max_size=3).map(tuple),
        loads, st.none() | loads,
    ),
    st.none() | moments,
    st.none()
    | st.builds(
        Series, moments, st.floats(1, 3600), hnp.arrays(np.float64, 4, elements=st.floats(allow_infinity=False))
    ),
)  # fmt: skip


@st.composite
def kept_states(draw: st.DrawFn) -> KeptState:
    snapshot = draw(snapshots())
    return KeptState(
        workload=snapshot.workload,
        saved_at=draw(moments),
        basis=attrs.evolve(BASIS, query=draw(texts), settle_after=draw(st.none() | loads), step=draw(st.floats(1, 9))),
        snapshot=snapshot,
        told=draw(st.none() | counts),
        source=draw(st.none() | sources),
        told_lately=tuple(draw(st.lists(st.tuples(moments, counts), max_size=3))),
        trigger=draw(st.none() | st.builds(ObjectRef, texts, texts, st.dictionaries(texts, texts, max_size=3), texts)),
    )


@given(kept_states())
def test_every_state_is_read_as_it_was_written(state: KeptState) -> None:
    assert read_state(write_state(state)) == state


@given(hnp.arrays(np.float32, hnp.array_shapes(max_dims=1, max_side=50), elements=st.floats(width=32)), st.booleans())
def test_every_history_is_read_as_it_was_written_to_the_bit(values: np.ndarray, instant: bool) -> None:
    history = attrs.evolve(make_kept_history(values=values), instant=instant)
    assert read_history(write_history(history)) == history


@pytest.mark.parametrize("mode", Mode)
def test_the_mode_is_read_as_the_member_that_code_compares_with(mode: Mode) -> None:
    state = make_kept_state()
    found = read_state(write_state(attrs.evolve(state, snapshot=attrs.evolve(state.snapshot, mode=mode))))
    assert found.snapshot.mode is mode


def test_what_is_read_cannot_be_written_to() -> None:
    history, state = read_history(write_history(make_kept_history())), read_state(write_state(make_kept_state()))
    assert not history.values.flags.writeable
    assert not state.snapshot.forecast.values.flags.writeable


def test_a_state_and_two_weeks_of_minutes_are_as_small_as_the_documentation_says() -> None:
    noisy = np.random.default_rng(1).gamma(5.0, 100.0, 14 * 1440)
    assert len(write_history(make_kept_history(values=noisy))) < 85_000
    assert len(write_state(make_kept_state())) < 4096


def test_the_experts_of_an_ensemble_are_not_kept() -> None:
    state = make_kept_state()
    experts = Experts(("a", "b"), [300.0], [[0.5], [0.5]], [[1.0], [np.nan]])
    explained = attrs.evolve(state.snapshot, forecast=attrs.evolve(state.snapshot.forecast, experts=experts))
    assert read_state(write_state(attrs.evolve(state, snapshot=explained))) == state


# --- other versions ---

GOLDEN = {
    "workload": "shop",
    "saved_at": "2026-03-01T12:00:00Z",
    "basis": {
        "source": "http://prometheus:9090", "query": "sum(rate(requests[2m]))", "step": 60.0, "settle_after": None,
        "model": "auto", "timezone": "UTC", "lead_time": 180.0, "prewarm_steps": 2, "target_per_pod": 100.0,
        "headroom": None, "service_level": 0.99,
    },
    "snapshot": {
        "workload": "shop", "metric": "http_rps",
        "forecast": {
            "made_at": "2026-03-01T12:00:00Z", "step": 60.0,
            "values": base64.b64encode(np.array([300, 500, 800, 600, 900, 900], "<f8").tobytes()).decode(),
            "status": {"code": "ok", "reason": ""},
        },
        "replicas": base64.b64encode(np.array([3, 5, 8, 6, 9, 9], "<i8").tobytes()).decode(),
        "lead_time": 180.0, "observed": {"at": "2026-03-01T12:00:00Z", "value": 375.5}, "floor": 4, "mode": "scale",
        "status": {"code": "ok", "reason": ""},
        "outliers": {"points": 3, "newest": {"at": "2026-03-01T11:00:00Z", "value": 1000000000.0}},
        "lost_series": {"lost": 4, "left": 2, "since": "2026-03-01T11:55:00Z"},
        "raw_counter": True, "replicas_without_max": 14,
        "resumption": {"since": "2026-03-01T11:58:00Z", "served": 9, "left": 120.0}, "withheld": False,
        "min_replicas": None, "fingerprint": "",
    },
    "quality": {"settling": 120.0, "at_least": None},
    "service_level": {
        "upper": base64.b64encode(np.array([375, 625, 1000, 750, 1125, 1125], "<f8").tobytes()).decode(),
        "factor": 1.2345678901234567, "level": 0.99, "budget_spent": 0.3, "load_cap": None,
        "state": {
            "uncertainty": {
                "model": {
                    "fast_scale": 0.1, "slow_scale": 0.2, "thresholds": [1.5, 1.75], "coverage": [0.91, 0.96],
                    "pinball_loss": 0.01, "windows": 77, "lead_error": 3.5,
                },
                "last": {
                    "fast_scale": 0.1, "slow_scale": 0.1, "thresholds": [1.28, 1.64], "coverage": [0.9, 0.95],
                    "pinball_loss": 0.02, "windows": 77, "lead_error": 0.0,
                },
                "pending": [{
                    "begins": 1772366400.0, "lead": 3,
                    "model": {"maximum": 500.0, "quantiles": [600.0, 650.5], "at_lead": 480.25},
                    "last": {"maximum": 500.0, "quantiles": [600.0, 650.5], "at_lead": 480.25},
                    "regressed": {"maximum": 700.0, "quantiles": [750.0, 800.5], "at_lead": 480.25},
                }],
                "standing_down": True,
                "regressed": {
                    "regression": {
                        "fitted_at": 1772355600.0, "step": 60.0, "window": 480.0, "offset": 250.5,
                        "coefficients": [0.0] * 39 + [0.25], "period": 6900.0,
                        "lowest": [-0.5] * 39, "highest": [0.75] * 39,
                    },
                    "calibration": {
                        "fast_scale": 0.1, "slow_scale": 0.1, "thresholds": [1.28, 1.64], "coverage": [0.9, 0.95],
                        "pinball_loss": 0.04, "windows": 300, "lead_error": 0.0,
                    },
                    "loss": 2.5, "loss_without": 3.75,
                },
            },
            "steering": {
                "safety_factor": 1.2345678901234567, "peak_hold": 3600.0, "bridged_at": 1772359200.0,
                "cap_relaxation": 1.0, "seasonal_quantile": 0.25,
                "judged_until": 1772366340.0,
                "recommended": [
                    {"at": 1772366340.0, "replicas": 7, "uncapped": None},
                    {"at": 1772366370.0, "replicas": 8, "uncapped": None},
                ],
                "spent": [
                    {"day": 20512, "minutes": 720.0, "short": 1.5, "resting": 300.0, "at_max": 1.25, "idle": 360.0},
                ],
                "account": {"needed": 100.5, "unserved": 0.25, "spare": 20.0, "short": 2.5},
            },
            "last_recommendation": 8,
            "recommendations": [{"at": 1772366370.0, "replicas": 6, "uncapped": None}],
            "unstabilized": {"at": 1772366400.0, "step": 60.0, "replicas": [3, 5, 8]},
            "last_model_plan": {"at": 1772366400.0, "step": 60.0, "replicas": [3, 5, 9]},
        },
    },
    "told": 8,
    "source": {
        "settling": {
            "points": [
                {"number": 29537880, "value": 5.5, "first_age": 0.0, "changed_age": 90.0},
                {"number": 29537881, "value": None, "first_age": 30, "changed_age": 0},
            ],
            "seconds": 90.0, "read_at": 1772366400.0,
        },
        "watched_since": "2026-03-01T09:00:00Z",
        "counts": {
            "start": "2026-03-01T11:58:00Z", "step": 60.0,
            "values": base64.b64encode(np.array([np.nan, 4, 6], "<f8").tobytes()).decode(),
        },
    },
    "told_lately": [["2026-03-01T11:59:30Z", 7], ["2026-03-01T12:00:00Z", 8]],
    "trigger": {
        "name": "shop", "namespace": "default", "metadata": {"workload": "shop", "query": "up"}, "caller": "10.1.2.3",
    },
}  # fmt: skip
"""`make_kept_state()` as version 0.1.0 writes it in format 1. If this must change, so must `FORMAT`."""


def pack(document: dict[str, Any], head: str = "kedastral-state 1") -> bytes:
    """``document`` with the header and the digest of a state, whatever it contains."""
    body = zlib.compress(json.dumps(document).encode())
    whole = write_state(make_kept_state())
    digest = hashlib.blake2b(body, digest_size=16).hexdigest()
    assert whole.startswith(b"kedastral-state 1 ")
    return f"{head} {digest}\n".encode() + body


def document() -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(GOLDEN))
    return copy


def test_the_format_of_the_first_version_is_still_read() -> None:
    assert read_state(pack(document())) == make_kept_state()


def test_it_is_still_written() -> None:
    body = zlib.decompress(write_state(make_kept_state()).partition(b"\n")[2])
    assert json.loads(body) == GOLDEN


def test_fields_that_a_later_version_added_are_skipped() -> None:
    newer = document()
    newer["colour"] = "blue"
    newer["snapshot"]["colour"] = newer["basis"]["colour"] = newer["service_level"]["state"]["colour"] = "blue"
    assert read_state(pack(newer)) == make_kept_state()


def test_fields_that_an_earlier_version_did_not_have_are_as_at_a_start() -> None:
    older = document()
    del older["snapshot"]["withheld"]
    del older["snapshot"]["fingerprint"]
    del older["service_level"]["state"]["steering"]["peak_hold"]
    del older["service_level"]["state"]["uncertainty"]["regressed"]
    del older["service_level"]["state"]["uncertainty"]["pending"][0]["regressed"]
    del older["service_level"]["state"]["steering"]["cap_relaxation"]
    del older["service_level"]["state"]["steering"]["spent"][0]["resting"]
    del older["service_level"]["state"]["steering"]["spent"][0]["at_max"]
    del older["service_level"]["state"]["steering"]["spent"][0]["idle"]
    del older["service_level"]["state"]["steering"]["account"]["short"]
    del older["service_level"]["state"]["steering"]["recommended"][0]["uncapped"]
    del older["told_lately"], older["quality"]
    found = read_state(pack(older))
    assert found.told_lately == ()
    assert found.snapshot.quality == DataQuality()
    assert found.snapshot.service_level is not None
    assert found.snapshot.service_level.state.steering.peak_hold == MIN_PEAK_HOLD
    assert found.snapshot.service_level.state.steering.minutes_at_max == 0
    assert found.snapshot.service_level.state.steering.minutes_idle == 0


def test_a_status_that_a_later_version_added_is_read_as_ok() -> None:
    newer = document()
    newer["snapshot"]["status"] = {"code": "daydreaming", "reason": "it is spring"}
    assert read_state(pack(newer)).snapshot.status == OK


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("trigger metadata", ["workload", "shop"]),
        ("service_level upper", base64.b64encode(np.array([np.nan] * 6).tobytes()).decode()),
        ("service_level upper", base64.b64encode(np.ones(5).tobytes()).decode()),
        ("service_level state uncertainty last thresholds", [1.28, 1.64, 2.33]),
        ("service_level state uncertainty model coverage", []),
        ("service_level state uncertainty pending 0 last quantiles", [600.0]),
        ("service_level state uncertainty regressed regression coefficients", [0.5] * 12),
        ("service_level state uncertainty regressed regression lowest", [0.5] * 12),
        ("service_level state unstabilized step", 0.0),
        ("service_level state last_model_plan step", -60.0),
    ],
)
def test_what_would_stop_a_tick_is_dropped_with_its_part(path: str, value: object) -> None:
    changed, (part, *below, last) = document(), path.split()
    place: Any = changed[part]
    for key in below:
        place = place[int(key) if key.isdecimal() else key]
    place[last] = value
    without = document()
    del without[part]
    assert read_state(pack(changed)) == read_state(pack(without))


def test_a_history_whose_model_is_no_object_is_none() -> None:
    changed = json.loads(zlib.decompress(write_history(make_kept_history()).partition(b"\n")[2]))
    changed["model"] = {"forecaster": [], "version": "9", "memory": [1.0]}
    body = zlib.compress(json.dumps(changed).encode())
    head = f"kedastral-history 1 {hashlib.blake2b(body, digest_size=16).hexdigest()}\n"
    with pytest.raises(StateFormatError):
        read_history(head.encode() + body)


@pytest.mark.parametrize("part", ["service_level", "source", "told", "told_lately", "trigger", "quality"])
def test_a_part_that_cannot_be_read_is_dropped_and_the_others_are_used(
    part: str, caplog: pytest.LogCaptureFixture
) -> None:
    changed = document()
    changed[part] = {"all": "different"} if part in ("told", "told_lately") else ["different"]
    with caplog.at_level(logging.WARNING):
        found = read_state(pack(changed))
    assert found.snapshot.replicas.tolist() == [3, 5, 8, 6, 9, 9]
    without = document()
    del without[part]
    assert found == read_state(pack(without))
    assert [record.getMessage().partition(" ")[0] for record in caplog.records] == [part]


def test_a_factor_outside_the_bounds_of_this_version_drops_the_steering_alone() -> None:
    changed = document()
    changed["service_level"]["state"]["steering"]["safety_factor"] = 99.0
    found = read_state(pack(changed))
    assert found.snapshot.service_level is None
    assert found.source == make_kept_state().source


@pytest.mark.parametrize("missing", ["workload", "saved_at", "basis", "snapshot"])
def test_without_its_core_a_state_is_none(missing: str) -> None:
    changed = document()
    del changed[missing]
    with pytest.raises(StateFormatError, match=f"{missing} is missing"):
        read_state(pack(changed))


# --- damage ---


def test_another_format_is_refused_by_its_number() -> None:
    with pytest.raises(StateFormatError, match="written in format 2, this version reads 1"):
        read_state(pack(document(), "kedastral-state 2"))


@pytest.mark.parametrize("data", [b"", b"\n", b"hello\nworld", b"\x00" * 200, write_history(make_kept_history())])
def test_what_is_no_state_is_refused(data: bytes) -> None:
    with pytest.raises(StateFormatError, match="not a state"):
        read_state(data)


@given(st.data())
def test_a_state_that_was_cut_off_or_changed_is_never_used(data: st.DataObject) -> None:
    whole = write_state(make_kept_state())
    if data.draw(st.booleans()):
        damaged = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        at = data.draw(st.integers(0, len(whole) - 1))
        damaged = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    with pytest.raises(StateFormatError):
        read_state(damaged)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("saved_at",), "noon"),
        (("saved_at",), 12),
        (("basis", "step"), "60"),
        (("basis", "prewarm_steps"), 2.5),
        (("snapshot", "withheld"), 1),
        (("snapshot", "replicas"), "!"),
        (("snapshot", "replicas"), [1, 2]),
        (("snapshot", "forecast", "values"), base64.b64encode(np.array([1.0, np.nan]).tobytes()).decode()),
        (("snapshot", "forecast"), None),
        (("workload",), 5),
    ],
)
def test_values_of_another_kind_are_refused(path: tuple[str, ...], value: object) -> None:
    changed = document()
    place = changed
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    with pytest.raises(StateFormatError):
        read_state(pack(changed))


def test_a_document_that_inflates_without_end_is_refused() -> None:
    bomb = {"workload": "x" * (2**26)}
    with pytest.raises(StateFormatError, match="no JSON of at most"):
        read_state(pack(bomb))


def test_times_keep_their_microseconds() -> None:
    state = attrs.evolve(make_kept_state(), saved_at=START + timedelta(microseconds=123457))
    assert read_state(write_state(state)).saved_at == state.saved_at
