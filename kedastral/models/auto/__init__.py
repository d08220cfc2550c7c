# SPDX-License-Identifier: Apache-2.0
"""`auto`: an ensemble of experts, from last value to ridge, weighted by their recent errors on the workload.

In the order in which a forecast is made::

    signal.py     a history on one grid and in a log scale
    features.py   the regression's features: recent levels, the same time on other days, the clock
    ridge.py      the regression and how it is fitted
    experts.py    the forecast of each expert
    ensemble.py   the experts' forecasts combined, and scored as the load comes in
    model.py      the model, and its state between two forecasts
"""

from kedastral.models.auto.model import AutoModel

__all__ = ["AutoModel"]
