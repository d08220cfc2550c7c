# SPDX-License-Identifier: Apache-2.0
"""The ridge of the auto model: hand-worked shrinkage, outliers with little weight, and the rows of a fit."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedastral.core.series import Floats, Ints, Series
from kedastral.models.auto import ridge
from kedastral.models.auto.features import Seasons, compute_common_features, compute_horizon_features, find_seasons
from kedastral.models.auto.ridge import (
    BLOCK,
    FitSettings,
    Ridge,
    RidgeKind,
    _choose_origins,
    _huber_weights,
    compute_level,
    fit_horizon,
    fit_ridge,
)
from kedastral.models.auto.signal import make_signal

START = datetime(2026, 3, 2, tzinfo=UTC)
DAY = 1440


WEEK = RidgeKind("any", 7 * 86400.0)


def seasons_of(values: Floats, step: float = 60.0) -> Seasons:
    history = Series(START, step, values)
    signal = make_signal(history, history.time_at(len(history) - 1))
    assert signal is not None
    return find_seasons(signal, UTC)


def ridge_of(*coefficients: float) -> Ridge:
    """One whose features may be anything."""
    anything = np.full(len(coefficients) - 1, np.inf)
    return Ridge(np.array(coefficients), -anything, anything)


# -- the regression --


def test_a_prediction_is_the_sum_of_the_features_by_their_coefficients_and_the_intercept() -> None:
    assert ridge_of(2.0, -1.0, 5.0).predict(np.array([[1.0, 0.0], [3.0, 4.0]])).tolist() == [7.0, 7.0]


def test_a_feature_far_beyond_all_that_the_fit_has_seen_counts_as_the_end_of_its_range() -> None:
    features, target = line(200, noise=0.0)
    ridge = fit_ridge(features, target, np.ones(200))
    low, high = features.min(axis=0), features.max(axis=0)
    margin = (high - low) / 2
    assert ridge.lowest == pytest.approx(low - margin)
    assert ridge.highest == pytest.approx(high + margin)
    ends = ridge.predict(np.array([ridge.lowest, ridge.highest]))
    assert ridge.predict(np.array([low - 50, high + 50])).tolist() == ends.tolist()
    assert ridge.predict(features).std() == pytest.approx(target.std(), rel=0.15), "within it, all of them count"
    weights = np.where(features[:, 0] > features[:, 0].max() - 1e-9, 0.0, 1.0)
    assert fit_ridge(features, target, weights).highest[0] < ridge.highest[0], "a row without weight was not seen"


def test_what_is_stored_of_a_ridge_gives_it_back() -> None:
    ridge = fit_ridge(*line(100), np.ones(100))
    again = Ridge.from_flat(ridge.flat)
    for name in ("coefficients", "lowest", "highest"):
        assert getattr(again, name).tolist() == getattr(ridge, name).tolist()


def bent(rows: int, seed: int = 3) -> tuple[Floats, Floats]:
    """A target that is no line in its features: the first counts only where the second is above 0."""
    features = np.random.default_rng(seed).normal(0, 1, (rows, 6))
    return features, np.where(features[:, 1] > 0, 2 * features[:, 0], 0.0)


def test_random_features_bend_the_regression() -> None:
    ridges = [fit_ridge(*bent(3000), np.ones(3000), is_random=is_random) for is_random in (False, True)]
    features, target = bent(500, seed=9)
    line, curve = (np.abs(ridge.predict(features) - target).mean() for ridge in ridges)
    assert line > 0.6
    assert curve < line / 2


def test_what_is_fitted_block_by_block_is_the_ridge_of_all_rows() -> None:
    """Against the normal equations of the whole matrix, in double precision."""
    features, target = bent(2 * BLOCK + 17)
    found = fit_ridge(features, target, np.ones(len(target)), is_random=True)
    assert found.random is not None
    scale = np.sqrt((features**2).mean(axis=0))
    design = np.column_stack([features / scale, found.random.transform(features), np.ones(len(features))])
    coefficients = np.linalg.solve(design.T @ design + 10 * np.eye(design.shape[1]), design.T @ target)
    for _ in range(3):
        residuals = target - design @ coefficients
        weights = np.minimum(1.0, 0.3 * 1.4826 * np.median(np.abs(residuals)) / np.abs(residuals))
        weighted = design * weights[:, None] / weights.mean()
        coefficients = np.linalg.solve(weighted.T @ design + 10 * np.eye(design.shape[1]), weighted.T @ target)
    assert found.predict(features) == pytest.approx(design @ coefficients, abs=0.01)


def test_a_refit_follows_features_that_have_grown() -> None:
    """Random features of the old scale would be almost linear."""
    features, target = bent(2000)
    before = fit_ridge(features / 1000, target, np.ones(2000), is_random=True)
    after = fit_ridge(features, target, np.ones(2000), warm_start=before, is_random=True)
    fresh = fit_ridge(features, target, np.ones(2000), is_random=True)
    errors = [np.abs(ridge.predict(features) - target).mean() for ridge in (after, fresh)]
    assert errors[0] < 1.3 * errors[1]


def test_random_features_start_from_a_ridge_without_them() -> None:
    """One round later they are about where four rounds from nothing lead."""
    features, target = bent(3000)
    line = fit_ridge(features, target, np.ones(3000))
    quick, full = (fit_ridge(features, target, np.ones(3000), start, is_random=True) for start in (line, None))
    assert quick.random is not None
    assert np.abs(quick.predict(features) - full.predict(features)).mean() < 0.1 * target.std()


def test_random_features_do_not_extrapolate() -> None:
    ridge = fit_ridge(*bent(500), np.ones(500), is_random=True)
    ends = ridge.predict(np.array([ridge.lowest, ridge.highest]))
    assert ridge.predict(np.array([ridge.lowest - 50, ridge.highest + 50])).tolist() == ends.tolist()


def test_what_is_stored_of_a_ridge_with_random_features_gives_it_back() -> None:
    features, target = bent(100)
    ridge = fit_ridge(features, target, np.ones(100), is_random=True)
    again = Ridge.from_flat(ridge.flat, is_random=True)
    assert again.predict(features).tolist() == ridge.predict(features).tolist()
    assert again.flat.tolist() == ridge.flat.tolist()
    with pytest.raises(ValueError, match="are no ridge"):
        Ridge.from_flat(ridge.flat[:-1], is_random=True)


@pytest.mark.parametrize("size", [0, 2, 3, 6])
def test_other_numbers_of_values_are_no_ridge(size: int) -> None:
    with pytest.raises(ValueError, match=f"{size} values are no ridge"):
        Ridge.from_flat(np.zeros(size))


@pytest.mark.parametrize("rows", [10, 90, 990])
@pytest.mark.parametrize("unit", [1.0, 1000.0])
def test_coefficients_shrink_by_the_penalty_against_the_number_of_rows(rows: int, unit: float) -> None:
    feature = np.resize([unit, -unit], rows)[:, None]
    slope = fit_ridge(feature, 3.0 * feature[:, 0], np.ones(rows)).coefficients
    assert slope == pytest.approx([3 * rows / (rows + 10), 0.0], abs=1e-9)
    level = fit_ridge(np.zeros((rows, 1)), np.full(rows, 5.0), np.ones(rows)).coefficients
    assert level == pytest.approx([0.0, 5 * rows / (rows + 10)])


def line(rows: int, noise: float = 0.1) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(3)
    features = rng.normal(size=(rows, 2))
    return features, features @ [2.0, -1.0] + 4.0 + rng.normal(0, noise, rows)


def test_rows_beyond_the_usual_error_count_by_its_size_and_not_by_its_square() -> None:
    features, target = line(3000)
    target[::20] += 100.0
    found = fit_ridge(features, target, np.ones(3000)).coefficients
    assert found == pytest.approx([2.0, -1.0, 4.0], abs=0.05)  # least squares put the intercept at 9


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
def test_weights_count_against_each_other_and_rows_of_none_not_at_all(factor: float) -> None:
    features, target = line(2000)
    expected = fit_ridge(features, target, np.ones(2000)).coefficients
    weights = np.repeat([factor, 0.0], 2000)
    spoilt = fit_ridge(np.tile(features, (2, 1)), np.append(target, target * -9), weights).coefficients
    assert spoilt == pytest.approx(expected, abs=0.02)
    rare = fit_ridge(np.tile(features, (2, 1)), np.append(target, -target), np.repeat([factor, factor / 99], 2000))
    assert rare.coefficients == pytest.approx(expected, abs=0.05)


def test_weights_of_residuals_by_hand() -> None:
    usual = 0.3 * 1.4826 * 2.0
    sizes = np.array([10.0, -0.5, 3.0, -2.0])
    assert _huber_weights(sizes, np.ones(4)) == pytest.approx([usual / 10, 1.0, usual / 3, usual / 2])
    assert _huber_weights(sizes, np.array([1.0, 0.0, 0.0, 0.0])) == pytest.approx([0.3 * 1.4826, 1.0, 1.0, 1.0])
    usual = 0.3 * 1.4826 * 0.5
    found = _huber_weights(sizes, np.array([1.0, 9.0, 1.0, 1.0]))
    assert found == pytest.approx([usual / 10, usual / 0.5, usual / 3, usual / 2])
    assert _huber_weights(np.zeros(3), np.ones(3)).tolist() == [1.0] * 3


def test_a_refit_begins_with_what_was_found_before() -> None:
    features, target = line(3000)
    target[::4] += 30.0
    cold = fit_ridge(features, target, np.ones(3000))
    warm = fit_ridge(features, target, np.ones(3000), warm_start=ridge_of(2.0, -1.0, 4.0))
    assert warm.coefficients == pytest.approx([2.0, -1.0, 4.0], abs=0.1)
    assert np.abs(warm.coefficients - [2, -1, 4]).max() < np.abs(cold.coefficients - [2, -1, 4]).max()
    constant = np.column_stack([features[:, 0], np.zeros(3000)])
    assert fit_ridge(constant, target, np.ones(3000), warm_start=warm).coefficients[1] == 0.0


# -- the training set --


@settings(max_examples=50, deadline=None)
@given(
    st.integers(2, 20 * 24),
    st.sampled_from([60.0, 300.0]),
    st.integers(1, 200),
    st.integers(0, 300),
    st.sampled_from([7 * 86400.0, 1.5 * 86400.0]),
)
def test_the_rows_of_a_fit_have_a_known_future_and_are_no_older_than_counts(
    hours: int, step: float, ahead: int, held_out: int, half_life: float
) -> None:
    signal = seasons_of(np.ones(round(hours * 3600 / step)), step).signal
    rows = _choose_origins(signal, FitSettings(ahead, RidgeKind("any", half_life), held_out, max_rows=500))
    last = len(signal) - 1 - held_out - ahead
    if rows is None:
        assert last * step < 5 * 3600 or last < 60 + 43200 / step
        return
    assert last * step >= 5 * 3600
    assert (np.diff(rows) >= 0).all()
    assert len(rows) <= 500
    apart = 2 * max((last - rows[0]) / len(rows), 1)
    assert last - apart < rows[-1] <= last
    assert (last - rows[0]) * step <= 3 * half_life + step
    if last - rows[0] < 499:
        assert (np.diff(rows) == 1).all(), "of few each is taken once"
    if last * step > 2 * 86400:
        assert 43200 <= rows[0] * step <= max(43200, last * step - 3 * half_life) + apart * step
    else:
        assert rows[0] <= 1 + apart


def test_rows_that_are_chosen_of_many_cover_every_minute_of_the_hour() -> None:
    signal = seasons_of(np.ones(14 * DAY)).signal
    rows = _choose_origins(signal, FitSettings(10, WEEK))
    assert rows is not None
    assert 2450 <= len(rows) <= 2500
    counts = np.bincount(rows % 60, minlength=60)
    assert counts.min() > 0.7 * counts.mean()


def grown(days: int) -> Floats:
    """Noise around 100 that falls to 50 every second hour."""
    rng = np.random.default_rng(4)
    at = np.arange(days * DAY)
    return np.where(at // 60 % 2, 50.0, 100.0) * np.exp(rng.normal(0, 0.02, len(at)))


def predicted(seasons: Seasons, by: Ridge, rows: Ints, ahead: int) -> Floats:
    features = np.hstack(
        [compute_common_features(seasons, rows), compute_horizon_features(seasons, rows, np.full(len(rows), ahead))]
    )
    return seasons.signal.to_load(compute_level(seasons.signal, rows) + by.predict(features))


def test_a_horizon_is_fitted_to_the_load_that_comes_so_many_steps_later() -> None:
    seasons, ahead = seasons_of(grown(3)), 60
    found = fit_horizon(seasons, FitSettings(ahead, RidgeKind("any", 1.5 * 86400.0), max_rows=800))
    assert found is not None
    rows = np.arange(2 * DAY + 10, 2 * DAY + 600, 60)
    truth = seasons.signal.values[rows + ahead]
    assert predicted(seasons, found, rows, ahead) == pytest.approx(truth, rel=0.15)


def test_what_is_unknown_or_held_out_teaches_nothing() -> None:
    values = grown(2)
    settings_ = FitSettings(30, WEEK, 300, 600)
    usual = fit_horizon(seasons_of(values), settings_)
    assert usual is not None
    later = values.copy()
    later[-270:] = 70.0  # the scale, by the mean of all, is all that may change
    changed = fit_horizon(seasons_of(later), settings_)
    assert changed is not None
    seasons, rows = seasons_of(values), np.arange(1800, 2300, 50)
    assert predicted(seasons, changed, rows, 30) == pytest.approx(predicted(seasons, usual, rows, 30), rel=0.02)


def test_a_short_history_has_no_ridge() -> None:
    settings_ = FitSettings(10, WEEK)
    assert fit_horizon(seasons_of(np.ones(310)), settings_) is None
    assert fit_horizon(seasons_of(np.ones(311)), settings_) is not None
    assert fit_horizon(seasons_of(np.ones(50), 1800.0), settings_) is None
    assert fit_horizon(seasons_of(np.ones(71), 300.0), settings_) is None, "fewer rows than 60"
    assert fit_horizon(seasons_of(np.ones(72), 300.0), settings_) is not None


def test_the_level_is_the_mean_of_five_minutes() -> None:
    signal = seasons_of(np.exp(np.arange(60.0) / 9)).signal
    assert compute_level(signal, np.array([20, 40])) == pytest.approx(
        [signal.logs[16:21].mean(), signal.logs[36:41].mean()]
    )


def weights_of(values: Floats, settings_: FitSettings, monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    """The weight of each row in a fit of ``values``."""
    seen: list[Floats] = []
    monkeypatch.setattr(ridge, "fit_ridge", lambda _features, _target, weights, _before, **_kind: seen.append(weights))
    seasons = seasons_of(values)
    fit_horizon(seasons, settings_)
    rows = _choose_origins(seasons.signal, settings_)
    assert rows is not None
    return dict(zip(rows.tolist(), seen[0].tolist(), strict=True))


def test_a_row_counts_half_after_each_half_life(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = weights_of(np.full(3 * DAY, 50.0), FitSettings(10, RidgeKind("any", 43200.0), max_rows=9999), monkeypatch)
    newest = 3 * DAY - 11
    shares = [weights[newest - back] / weights[newest] for back in (0, 360, 720, 1440, 2159)]
    assert shares == pytest.approx([1.0, 0.5**0.5, 0.5, 0.25, 0.5 ** (2159 / 720)], rel=0.01)
    assert len(weights) == 3 * 720, "and older ones than three half-lives not at all"


def test_a_row_counts_by_the_root_of_its_load_and_where_it_and_its_future_are_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.full(3 * DAY, 0.0)
    values[2000:] = 400.0
    values[3000:3100] = np.nan  # carried for five minutes
    weights = weights_of(values, FitSettings(10, RidgeKind("any", 1e9), max_rows=9999), monkeypatch)
    unit = seasons_of(values).signal.unit
    assert weights[2500] / weights[1900] == pytest.approx((1 + 400 / unit) ** 0.5, rel=0.01)
    unknown = sorted(row for row, weight in weights.items() if weight == 0)
    assert unknown == list(range(2995, 3100))
