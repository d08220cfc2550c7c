# SPDX-License-Identifier: Apache-2.0
"""How far the load may exceed its forecast: calibrated upper quantiles of the largest load in a window.

The pods ordered now must cover the largest load of the whole window in which a later order cannot help. So the maximum
of the window is calibrated, not each step: ``log((actual maximum + offset) / (forecast maximum + offset))``, in units
of a scale that follows the newest residuals, against a threshold that moves until the stated share of windows lies
below it (online quantile tracking: Gibbs and Candes, "Adaptive Conformal Inference Under Distribution Shift", 2021).
The last value, used as a forecast, is calibrated in the same way. While the model's pinball loss is higher than that of
the last value, the model stands down.

A quantile that needs no forecast (`kedastral.core.planning.peak_regression`) is calibrated in the same way. It and the
forecast's quantile are weighted by their losses of the last day, as in forecast combination (Bates and Granger, "The
Combination of Forecasts", 1969).
"""

import math

import attrs
import numpy as np

from kedastral.core.planning.peak_regression import PeakRegression, fit_peak_regression, predict_peaks
from kedastral.core.series import DAY, HOUR, MINUTE, Floats, Series, epoch_seconds

QUANTILES = (0.90, 0.95)
"""The calibrated levels. The planner reads the first: a moderate quantile times an adaptive steering factor is cheaper
than an extreme quantile, because a few weeks of data say little about the tail."""
FAST_HALF_LIFE, SLOW_HALF_LIFE = 30 * MINUTE, DAY
"""Half-lives in seconds of the two residual scales, whose mean is used. The fast one notices a jump within minutes; the
slow one remembers a day, so that a quiet hour does not make the load look quiet. For the fast one, anything from 10 to
60 minutes works as well."""
THRESHOLD_RATE = 0.02
"""How far a threshold moves per window, in scales: an hour of surprises moves it by one."""
INITIAL_THRESHOLDS = (1.28, 1.64)
"""The quantiles of the normal distribution."""
MIN_THRESHOLD, MAX_THRESHOLD = -1.0, 10.0
"""A quantile may lie below a forecast that is always too high, and must reach the tail of a heavy-tailed load."""
INITIAL_SCALE = 0.1
"""The residual scale before any window has ended, about 10 %; it counts as one window."""
MAX_LOG_RATIO = 3.0
"""Residuals and margins are limited to e^3, a factor of twenty. Otherwise a launch from zero would be remembered for
days."""
MAX_INFLUENCE, MIN_INFLUENCE = 6.0, 0.6
"""The limit of one residual: the first number times the scale, and at least the second. An unforeseeable load lies in
every window around it, eight with the defaults, and would widen the margin for hours."""
OFFSET_OF_MEAN, OFFSET_OF_MAX = 1.0, 1e-3
"""The offset in the logarithm, as a share of the last day's mean and of its maximum. Margins are proportional well
above the offset and constant well below it; without it, jumps at quiet hours would widen the margin of busy hours too.
An offset of a twentieth of the mean costs 2.5 % more at the same service level."""
LOSS_HALF_LIFE = 6 * HOUR
"""Half-life in seconds of the loss that makes a model stand down: short enough that a model returns on the same day
that it is right again."""
MIN_WINDOWS = 60
"""Windows that must have ended before a model may stand down: an hour with one-minute steps."""
STAND_DOWN_RATIO, RETURN_RATIO = 1.1, 1.0
"""The model stands down once its loss exceeds the first ratio times that of the last value, and returns below the
second."""

FIRST_WINDOWS = 360
"""The most windows, one per step, on which forecasts are calibrated before the first plan: six hours with one-minute
steps."""
NEGLIGIBLE_LOSS = 0.002
"""A model with a loss below this never stands down: that of a forecast always 2 % too high. After a night without load
both losses are tiny, and their ratio says nothing about the morning."""
REGRESSION_HALF_LIFE, REGRESSION_POWER = DAY, 8.0
"""Half-life in seconds of the losses that weigh the regression against the forecast, and the power they are raised to:
the better one dominates, and equals share. From 6 hours to 3 days and from 4 to 16 plans cost the same."""


@attrs.frozen
class Calibration:
    """The residuals of one forecast; scales and loss are logarithmic.

    ``thresholds`` and ``coverage`` match `QUANTILES`; ``coverage`` is the share of recent windows that stayed below
    each quantile. ``pinball_loss`` is that of the first quantile, averaged over about `LOSS_HALF_LIFE`. ``lead_error``
    is the absolute error of the forecast one lead time ahead, averaged likewise, in units of load.
    """

    fast_scale: float = INITIAL_SCALE
    slow_scale: float = INITIAL_SCALE
    thresholds: tuple[float, ...] = INITIAL_THRESHOLDS
    coverage: tuple[float, ...] = QUANTILES
    pinball_loss: float = 0.0
    windows: int = 0
    lead_error: float = 0.0

    @property
    def margins(self) -> tuple[float, ...]:
        """How far each quantile lies above the forecast, logarithmic; a higher level never has a smaller margin."""
        scale, highest = (self.fast_scale + self.slow_scale) / 2, -math.inf
        margins = []
        for threshold in self.thresholds:
            highest = max(highest, min(threshold * scale, MAX_LOG_RATIO))
            margins.append(highest)
        return tuple(margins)


@attrs.frozen
class IntervalForecast:
    """The forecast of a window's ``maximum`` with its upper ``quantiles``, in units of load.

    ``at_lead`` is the value forecast one lead time ahead.
    """

    maximum: float
    quantiles: tuple[float, ...]
    at_lead: float


@attrs.frozen
class PendingWindow:
    """A window that has not ended yet. Its first value will be dated ``begins`` (epoch seconds).

    ``lead`` is the index, in the window, of the value one lead time ahead. ``model`` and ``last`` are the forecasts by
    the model and by the last value; ``regressed`` is that by the regression, None without one.
    """

    begins: float
    lead: int
    model: IntervalForecast
    last: IntervalForecast
    regressed: IntervalForecast | None = None


@attrs.frozen
class WindowOutcome:
    """The actual load of a window that has ended: its ``maximum``, and the value ``at_lead``."""

    maximum: float
    at_lead: float


def _around_its_quantile() -> Calibration:
    """The initial calibration of a forecast that is already a quantile."""
    return Calibration(thresholds=(0.0, 0.0))


@attrs.frozen
class RegressionTrial:
    """The ``regression`` of the largest load of a window, None if there is none yet, and its ``calibration``.

    ``loss`` and ``loss_without`` are the pinball losses of the second quantile, by the regression and by the forecast,
    averaged over days. They are in units of load, not logarithmic, because load is what costs pods.
    """

    regression: PeakRegression | None = None
    calibration: Calibration = attrs.field(factory=_around_its_quantile)
    loss: float = 0.0
    loss_without: float = 0.0

    @property
    def weight(self) -> float:
        """The weight of the regression against the forecast, from 0 to 1."""
        largest = max(self.loss, self.loss_without)
        if self.calibration.windows < MIN_WINDOWS or largest <= 0:
            return 0.0
        ours = (self.loss_without / largest) ** REGRESSION_POWER
        return float(ours / (ours + (self.loss / largest) ** REGRESSION_POWER))


@attrs.frozen
class UncertaintyState:
    """What is carried from tick to tick: calibrations and pending windows; plain numbers, so that it can be stored."""

    model: Calibration = attrs.field(factory=Calibration)
    last: Calibration = attrs.field(factory=Calibration)
    pending: tuple[PendingWindow, ...] = ()
    standing_down: bool = False
    regressed: RegressionTrial = attrs.field(factory=RegressionTrial)


def judge_windows(state: UncertaintyState, history: Series, window: int) -> UncertaintyState:
    """``state`` after calibrating on every pending window of ``window`` steps that has ended in ``history``.

    A window has ended once its last value, or a later one, is known. A window with a gap, or one that lies before the
    history, is dropped: nothing can be learnt from missing data.
    """
    newest = history.newest
    # later values may still come
    known_until = -math.inf if newest is None else epoch_seconds(newest.at) + history.step / 2
    ended: list[PendingWindow] = []
    pending: list[PendingWindow] = []
    for each in state.pending:
        (ended if each.begins + (window - 1) * history.step < known_until else pending).append(each)
    if not ended:
        return state
    model, last, regressed, offset = state.model, state.last, state.regressed, offset_of(history)
    for each in ended:
        actual = _values_in_window(history, each.begins, window)
        if actual is not None:
            outcome = WindowOutcome(float(actual.max()), float(actual[min(each.lead, window - 1)]))
            model = _calibrate(model, each.model, outcome, offset, history.step)
            last = _calibrate(last, each.last, outcome, offset, history.step)
            regressed = _try_regression(regressed, each, outcome, offset, history.step)
    judged = UncertaintyState(model, last, tuple(pending), state.standing_down, regressed)
    return attrs.evolve(judged, standing_down=_stands_down(judged))


def add_forecast(
    state: UncertaintyState,
    history: Series,
    values: Floats,
    window: int,
    lead_steps: int | None = None,
    predicted_peak: float | None = None,
) -> UncertaintyState:
    """``state`` with the forecast ``values``, made from ``history``, to be judged once its window has ended.

    ``values[0]`` forecasts the value that follows ``history``; ``predicted_peak`` is the regression's prediction for
    the window. The lead time overlaps the first ``lead_steps`` steps of the window, by default all of them. One window
    begins at each step: a second forecast from the same history changes nothing. Pending windows that begin later than
    this one are dropped: the clock has been set back since.
    """
    begins = epoch_seconds(history.time_at(len(history)))
    newest = history.newest
    if state.pending and state.pending[-1].begins > begins + history.step / 2:
        earlier = tuple(each for each in state.pending if each.begins <= begins + history.step / 2)
        state = attrs.evolve(state, pending=earlier)  # otherwise they would keep out all others until they have ended
    if newest is None or (state.pending and state.pending[-1].begins >= begins - history.step / 2):
        return state
    offset, lead = offset_of(history), min(lead_steps or window, len(values)) - 1
    model = _interval_forecast(state.model, float(values[:window].max()), float(values[lead]), offset)
    last = _interval_forecast(state.last, newest.value, newest.value, offset)
    regressed = None
    if predicted_peak is not None:
        regressed = _interval_forecast(state.regressed.calibration, predicted_peak, float(values[lead]), offset)
    added = PendingWindow(begins, lead, model, last, regressed)
    return attrs.evolve(state, pending=(*state.pending, added))


def calibrate_last(history: Series, window: int, lead_steps: int | None = None) -> Calibration:
    """The calibration of the last value, as if it had forecast the last `FIRST_WINDOWS` windows of ``history``.

    It needs no model. So the first plan has a margin that fits the load even if the model still waits for its turn to
    learn, or fails. After a day without load it is the initial one: that day says nothing about the load that returns.
    ``window`` and ``lead_steps`` as in `add_forecast`.
    """
    calibration, offset, values = Calibration(), offset_of(history), history.values
    if offset <= 0:
        return calibration
    lead = min(lead_steps or window, window) - 1
    for begins in range(max(len(values) - window + 1 - FIRST_WINDOWS, 1), len(values) - window + 1):
        last, actual = float(values[begins - 1]), values[begins : begins + window]
        if math.isfinite(last) and np.isfinite(actual).all():
            forecast = _interval_forecast(calibration, last, last, offset)
            outcome = WindowOutcome(float(actual.max()), float(actual[lead]))
            calibration = _calibrate(calibration, forecast, outcome, offset, history.step)
    return calibration


def keep_regression(state: UncertaintyState, history: Series, window: int, *, may_fit: bool = True) -> UncertaintyState:
    """``state`` with a regression for windows of ``window`` steps, refitted if that is due and ``may_fit``.

    There is none after a day without load, or with too little history: then only the forecast counts.
    """
    before, offset = state.regressed.regression, offset_of(history)
    if before is not None and before.holds_for(history, window):
        return state
    regression = fit_peak_regression(history, window, offset) if may_fit and offset > 0 else None
    return attrs.evolve(state, regressed=attrs.evolve(state.regressed, regression=regression))


def predict_window(state: UncertaintyState, history: Series) -> float | None:
    """The largest load that the regression predicts for the window after ``history``; None without a regression."""
    regression = state.regressed.regression
    return None if regression is None else float(predict_peaks(regression, history, 1)[0])


def margin_of(
    trial: RegressionTrial, margin: float, expected: Floats, offset: float, predicted_peak: float | None
) -> float:
    """How far the upper quantile lies above the forecast, logarithmic: ``margin`` blended with the regression's.

    ``margin`` is that of the forecast ``expected`` alone; ``predicted_peak`` is `predict_window` at the same moment.
    """
    if predicted_peak is None or trial.regression is None or offset <= 0:
        return margin
    largest = float(expected[: trial.regression.window_steps].max())
    regressed = _log_ratio(predicted_peak, largest, offset) + trial.calibration.margins[0]
    return margin + trial.weight * (regressed - margin)


def upper_path(values: Floats, margin: float, offset: float) -> Floats:
    """Each of ``values`` raised by the logarithmic ``margin``."""
    return np.maximum((values + offset) * math.exp(margin) - offset, 0.0)


def offset_of(history: Series) -> float:
    """The offset to add before taking a logarithm, in units of load; 0 if the last day has no load."""
    recent = history.values[-max(1, round(DAY / history.step)) :]
    recent = recent[np.isfinite(recent)]
    return max(OFFSET_OF_MEAN * float(recent.mean()), OFFSET_OF_MAX * float(recent.max())) if len(recent) else 0.0


def _interval_forecast(calibration: Calibration, maximum: float, at_lead: float, offset: float) -> IntervalForecast:
    quantiles = (max((maximum + offset) * math.exp(margin) - offset, 0.0) for margin in calibration.margins)
    return IntervalForecast(maximum, tuple(quantiles), at_lead)


def _calibrate(
    calibration: Calibration, forecast: IntervalForecast, outcome: WindowOutcome, offset: float, step: float
) -> Calibration:
    """``calibration`` after one more window."""
    windows = calibration.windows + 1
    limit = max(MAX_INFLUENCE * (calibration.fast_scale + calibration.slow_scale) / 2, MIN_INFLUENCE)
    residual = min(abs(_log_ratio(outcome.maximum, forecast.maximum, offset)), limit)
    below = [1.0 if outcome.maximum <= quantile * (1 + 1e-9) else 0.0 for quantile in forecast.quantiles]
    excess = _log_ratio(outcome.maximum, forecast.quantiles[0], offset)
    loss = max(QUANTILES[0] * excess, (QUANTILES[0] - 1) * excess)
    fast, slow = _weight(FAST_HALF_LIFE, step, windows), _weight(SLOW_HALF_LIFE, step, windows)
    loss_weight = _weight(LOSS_HALF_LIFE, step, windows)
    return Calibration(
        fast_scale=_update_mean(calibration.fast_scale, residual, fast),
        slow_scale=_update_mean(calibration.slow_scale, residual, slow),
        thresholds=tuple(map(_move_threshold, calibration.thresholds, below, QUANTILES)),
        coverage=tuple(_update_mean(mean, new, slow) for mean, new in zip(calibration.coverage, below, strict=True)),
        pinball_loss=_update_mean(calibration.pinball_loss, loss, loss_weight),
        windows=windows,
        lead_error=_update_mean(calibration.lead_error, abs(outcome.at_lead - forecast.at_lead), loss_weight),
    )


def _try_regression(
    trial: RegressionTrial, window: PendingWindow, outcome: WindowOutcome, offset: float, step: float
) -> RegressionTrial:
    """``trial`` after one more window."""
    if window.regressed is None:
        return trial
    calibration = _calibrate(trial.calibration, window.regressed, outcome, offset, step)
    weight = _weight(REGRESSION_HALF_LIFE, step, calibration.windows)
    loss = _update_mean(trial.loss, _loss_of(window.regressed, outcome), weight)
    without = _update_mean(trial.loss_without, _loss_of(window.model, outcome), weight)
    return RegressionTrial(trial.regression, calibration, loss, without)


def _loss_of(forecast: IntervalForecast, outcome: WindowOutcome) -> float:
    """The pinball loss of the second quantile (Koenker and Bassett, "Regression Quantiles", 1978), in units of load."""
    excess = outcome.maximum - forecast.quantiles[1]
    return max(QUANTILES[1] * excess, (QUANTILES[1] - 1) * excess)


def _move_threshold(threshold: float, below: float, level: float) -> float:
    return min(max(threshold + THRESHOLD_RATE * (level - below), MIN_THRESHOLD), MAX_THRESHOLD)


def _stands_down(state: UncertaintyState) -> bool:
    """Whether the leading one of forecast and regression is worse than the last value."""
    ratio = RETURN_RATIO if state.standing_down else STAND_DOWN_RATIO
    least = max(state.last.pinball_loss * ratio, NEGLIGIBLE_LOSS)
    trial = state.regressed
    leads = trial.regression is not None and trial.weight > 0.5  # without history there is no regression
    leading = trial.calibration if leads else state.model
    return leading.windows >= MIN_WINDOWS and leading.pinball_loss > least


def _weight(half_life: float, step: float, windows: int) -> float:
    """The weight of the newest window: as in a plain mean at first, later as in an exponential one."""
    return float(max(1 - 0.5 ** (step / half_life), 1 / (windows + 1)))


def _update_mean(mean: float, value: float, weight: float) -> float:
    return mean + weight * (value - mean)


def _log_ratio(actual: float, forecast: float, offset: float) -> float:
    if offset <= 0:  # no load at all for a day
        return 0.0
    return min(max(math.log((actual + offset) / (forecast + offset)), -MAX_LOG_RATIO), MAX_LOG_RATIO)


def _values_in_window(history: Series, begins: float, window: int) -> Floats | None:
    """The values of a window; None if one of them is missing."""
    first = round((begins - epoch_seconds(history.start)) / history.step)
    values = history.values[first : first + window] if first >= 0 else history.values[:0]
    return values if len(values) == window and np.isfinite(values).all() else None
