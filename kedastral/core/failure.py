# SPDX-License-Identifier: Apache-2.0
"""`LastFailure`: why a workload's newest tick gave no forecast, in words that whoever asks for it may read."""

from datetime import datetime

import attrs

from kedastral.core.snapshot import Snapshot
from kedastral.errors import QueryError, WorkloadError

LONGEST = 300
"""Characters of what is told of a refusal: KEDA shows it in an event."""


@attrs.frozen
class Failure:
    """What failed ``at`` a moment: ``component`` and ``reason`` as in the metrics.

    ``refusal`` is what Prometheus says of the query, where that is what is wrong: whoever wrote it must change it.
    """

    at: datetime
    component: str
    reason: str
    refusal: str = ""

    @property
    def words(self) -> str:
        """One line, without addresses: those are the operator's business."""
        if self.refusal:
            return f"Prometheus refuses the query: {self.refusal}"
        return f"the newest attempt failed ({self.component}: {self.reason})"

    def is_over(self, newest: Snapshot | None) -> bool:
        """Whether the ``newest`` snapshot is of a later tick, which then did not fail."""
        return newest is not None and newest.made_at > self.at


@attrs.define
class LastFailure:
    """The newest failure of one member of a fleet; its successor, which may ask otherwise, begins without one."""

    value: Failure | None = None

    def note(self, error: WorkloadError, at: datetime) -> None:
        """Remember ``error``."""
        refusal = error.refusal[:LONGEST] if isinstance(error, QueryError) else ""
        self.value = Failure(at, error.component, error.reason, refusal)

    def current(self, newest: Snapshot | None) -> Failure | None:
        """The failure, unless a tick has succeeded since."""
        return None if self.value is None or self.value.is_over(newest) else self.value
