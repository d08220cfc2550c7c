# SPDX-License-Identifier: Apache-2.0
"""`LoadFacts`: the few facts a plan takes from the history, kept so that it can be explained and recomputed."""

import math

import attrs
import numpy as np

from kedastral.core.capacity import ReplicaBounds
from kedastral.core.planning.idleness import Idleness, idleness_of
from kedastral.core.planning.stabilization import noise_of, recent_load
from kedastral.core.planning.uncertainty import offset_of
from kedastral.core.series import Series

FIRST_WATCH = 600.0
"""Seconds after a start in which low newest points are not trusted: they may not have settled, and a start often
coincides with the dip of a rollout."""
RECENT = 900.0
"""Seconds before now whose largest load sets the floor during `FIRST_WATCH`."""


@attrs.frozen
class LoadFacts:
    """What the planner knows about the load at one moment; all but ``noise`` and ``idleness`` in units of load.

    ``newest`` is the newest value, None if there is none; ``for_floor`` the load that needs pods at once; ``recent``
    the largest load of the last minutes; ``noise`` a share of the load; ``offset`` is added before taking a logarithm
    (`kedastral.core.planning.uncertainty`). ``idleness`` only matters if the workload may have no pods at all. ``peak``
    is the load whose pods the peak hold keeps, 0 if it keeps none; ``seasonal`` that of the same time on other days, 0
    if it does not count (`kedastral.core.planning.seasonal_peak`); ``cap`` the largest load to plan for
    (`kedastral.core.planning.load_cap`), None if uncapped. ``predicted_peak`` is the regression's quantile of the
    largest load ahead (`kedastral.core.planning.peak_regression`), None without a regression.
    """

    newest: float | None
    for_floor: float
    recent: float
    noise: float
    offset: float
    idleness: Idleness
    peak: float = 0.0
    cap: float | None = None
    predicted_peak: float | None = None
    seasonal: float = 0.0


def read_facts(
    history: Series,
    bounds: ReplicaBounds,
    peak: float = 0.0,
    cap: float | None = None,
    predicted_peak: float | None = None,
    seasonal: float = 0.0,
) -> LoadFacts:
    """The facts of ``history``; the caller supplies those with a default, since it knows what steers them.

    Idleness is judged only if ``bounds`` allow a workload without pods, because it takes a millisecond.
    """
    newest = history.newest
    return LoadFacts(
        newest=None if newest is None else newest.value,
        for_floor=load_for_floor(history),
        recent=recent_load(history),
        noise=noise_of(history),
        offset=offset_of(history),
        idleness=Idleness.BUSY if bounds.min > 0 else idleness_of(history),
        peak=peak,
        cap=cap,
        predicted_peak=predicted_peak,
        seasonal=seasonal,
    )


def load_for_floor(history: Series) -> float:
    """The load that needs pods at once: the newest, just after a start the recent maximum; 0 if none is known."""
    if history.quality.watched >= FIRST_WATCH:
        return history.least_load
    recent = history.values[-math.ceil(RECENT / history.step) :]
    return max(float(np.nan_to_num(recent).max(initial=0.0)), history.least_load)
