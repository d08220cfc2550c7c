# SPDX-License-Identifier: Apache-2.0
"""`LoadFacts`: the little that a plan reads of the history, kept so that the plan can be explained and made again."""

import attrs

from kedastral.core.capacity import Idleness, ReplicaBounds, idleness_of, load_for_floor
from kedastral.core.planning.stabilization import noise_of, recent_load
from kedastral.core.planning.uncertainty import offset_of
from kedastral.core.series import Series


@attrs.frozen
class LoadFacts:
    """What the planner knows of the load at one moment; all but ``noise`` and ``idleness`` in units of load.

    ``newest`` is the newest value, None where none is known; ``for_floor`` the load that needs pods at once; ``recent``
    the largest of the last minutes; ``noise`` a share of the load; ``offset`` is added before a logarithm
    (`kedastral.core.planning.uncertainty`). ``idleness`` is only looked at where there may be no pods at all. ``peak``
    is the load of which the peak hold keeps the pods, 0 where it keeps none; ``cap`` the load above which nothing is
    planned (`kedastral.core.planning.load_cap`), None without one. ``predicted_peak`` is the quantile of the largest
    load ahead by regression (`kedastral.core.planning.peak_regression`), None without one.
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


def read_facts(
    history: Series,
    bounds: ReplicaBounds,
    peak: float = 0.0,
    cap: float | None = None,
    predicted_peak: float | None = None,
) -> LoadFacts:
    """The facts of ``history``; those with a default are found by the caller, who knows what steers them.

    Only where ``bounds`` allow a workload without pods is its idleness looked at: that takes a millisecond.
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
    )
