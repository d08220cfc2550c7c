# SPDX-License-Identifier: Apache-2.0
"""`Findings`: what is odd about the history that a plan was made from."""

import attrs

from kedastral.core.data_quality.lost_series import LostSeries
from kedastral.core.data_quality.outliers import Outliers


@attrs.frozen
class Findings:
    """What is odd about a workload's history."""

    outliers: Outliers | None = None
    """The points that look like measurement faults, and are left out; None if there are none."""
    lost_series: LostSeries | None = None
    """The series that disappeared with their load while the pods stayed; None if there are none."""
    raw_counter: bool = False
    """Whether it looks like a raw counter, which is no load."""


NOTHING_ODD = Findings()
