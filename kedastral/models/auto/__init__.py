# SPDX-License-Identifier: Apache-2.0
"""`auto`: experts from last value to ridge, weighed by how well each has forecast this workload lately.

In the order in which a forecast comes about::

    signal.py     a history as the model sees it        seasons.py   the same time of other days
    features.py   what the ridge sees at an origin      ridge.py     the regression     fitting.py   its training
    experts.py    all forecasts of all experts          ensemble.py  what each is worth
    learner.py    what is kept between ticks            model.py     the model
"""

from kedastral.models.auto.model import AutoModel

__all__ = ["AutoModel"]
