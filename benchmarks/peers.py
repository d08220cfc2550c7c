# SPDX-License-Identifier: Apache-2.0
"""Heavy libraries behind the model port, for comparison; none is tuned per trace: ``pip install --group peers``."""

import importlib.util
import warnings
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import attrs
import numpy as np

from kedastral.core.forecast import Forecast
from kedastral.core.model import Model
from kedastral.core.series import Floats, Series, fill_gaps

DAY = 86400.0
LAGS = (0, 1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 45, 60, 90, 120)
MEANS = (3, 5, 10, 15, 30, 60, 120, 240)
KNOTS = (1, 2, 3, 5, 10, 15, 30)
"""Steps ahead for which LightGBM has a separate model; in between its forecast is interpolated linearly."""
TREES, LEAVES, RATE = 200, 31, 0.05


def installed_peers() -> Sequence[Model]:
    """The peers whose library is installed."""
    peers: list[Model] = []
    if importlib.util.find_spec("lightgbm"):
        peers.append(LightGbm())
    if importlib.util.find_spec("statsforecast"):
        peers += [Statistical("theta", "DynamicOptimizedTheta"), Statistical("holt", "Holt")]
    return peers


@attrs.frozen
class LightGbm:
    """Direct gradient boosting on lags, means, the clock and the same time of other days; absolute error."""

    name: str = "lightgbm"

    def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        """See `kedastral.core.model.Model.forecast`."""
        load = _filled(history)
        knots = [knot for knot in KNOTS if knot <= min(steps, round(900 / history.step) + 1)]
        values = [self._at(load, history, knot) for knot in knots]
        return Forecast(made_at, history.step, np.maximum(np.interp(np.arange(1, steps + 1), knots, values), 0))

    def _at(self, load: Floats, history: Series, ahead: int) -> float:
        import lightgbm  # noqa: PLC0415 - an optional library

        rows = np.arange(max(LAGS), len(load))
        features = _features(load, rows, ahead, history)
        # relative to the level: trees cannot extrapolate
        level = np.array([load[rows - k] for k in range(5)]).mean(axis=0)
        past = rows + ahead < len(load)
        options = {
            "objective": "l1", "num_leaves": LEAVES, "learning_rate": RATE, "verbose": -1, "num_threads": 1, "seed": 1,
        }  # fmt: skip
        data = lightgbm.Dataset(features[past], load[rows[past] + ahead] - level[past])
        model = lightgbm.train(options, data, TREES)
        return float(level[-1] + np.asarray(model.predict(features[-1:]))[0])


@attrs.frozen
class Statistical:
    """A statsforecast model on the last three days, without a season: fitting one of 1,440 minutes takes minutes."""

    name: str
    model: str

    def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        """See `kedastral.core.model.Model.forecast`."""
        from statsforecast import models  # noqa: PLC0415 - an optional library

        load = _filled(history)[-round(3 * DAY / history.step) :]
        kind: Any = getattr(models, self.model)
        fitted = kind(season_length=1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = fitted.forecast(load, h=steps)["mean"]
        return Forecast(made_at, history.step, np.maximum(np.nan_to_num(values), 0))


def _features(load: Floats, rows: Any, ahead: int, history: Series) -> Floats:
    sums = np.concatenate([[0.0], np.cumsum(load)])
    columns = [load[rows - lag] for lag in LAGS]
    for span in MEANS:
        begin = np.maximum(rows + 1 - span, 0)
        columns.append((sums[rows + 1] - sums[begin]) / (rows + 1 - begin))
    for days in (1, 2, 3, 7):
        back = rows + ahead - round(days * DAY / history.step)
        columns.append(np.where(back >= 0, load[np.maximum(back, 0)], np.nan))
        columns.append(np.where(back >= ahead, load[np.maximum(back - ahead, 0)], np.nan))
    seconds = history.start.timestamp() + (rows + ahead) * history.step
    columns += [seconds % DAY, seconds % 3600.0, seconds // DAY % 7]
    return np.column_stack(columns)


def _filled(history: Series) -> Floats:
    carried = fill_gaps(history.values)
    return carried[np.isfinite(carried)]
