# SPDX-License-Identifier: Apache-2.0
"""`LastFailure`: why a workload's newest tick gave no forecast, in words that whoever asks for it may read."""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType

import attrs

from kedastral.core.snapshot import Snapshot
from kedastral.errors import QueryError, SourceError, WorkloadError

LONGEST = 300
"""Characters of what is told of a refusal: KEDA shows it in an event."""

WORDS: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("source", "unreachable"): "its Prometheus cannot be reached",
        ("source", "timeout"): "its Prometheus did not answer in time",
        ("source", "http_status"): "its Prometheus answered with an error",
        ("source", "refused"): "its Prometheus refuses the request",
        ("source", "bad_answer"): "what its Prometheus answered is nothing to forecast from",
        ("source", "credentials"): "the credentials for its Prometheus cannot be read",
        ("source", "empty"): "the query matched nothing",
        ("source", "stale"): "the newest value of the query is too old",
        ("model", "unreachable"): "its model cannot be reached",
        ("model", "timeout"): "its model did not answer in time",
        ("model", "http_status"): "its model answered with an error",
        ("model", "too_large"): "its model answered too much",
        ("model", "bad_answer"): "what its model gave is no forecast",
        ("model", "exception"): "its model failed",
        ("model", "no_history"): "there is no history to forecast from",
        ("store", "older"): "there is a later forecast already: the clock was set back",
    }
)
"""What the components and reasons of the metrics mean to whoever has the workload."""


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
        words = WORDS.get((self.component, self.reason), "the newest attempt failed")
        return f"{words} ({self.component}: {self.reason})"


@attrs.define
class LastFailure:
    """Why the newest tick of one member of a fleet failed; its successor, which may ask otherwise, begins without one.

    It holds until a tick succeeds, whatever the clock shows by then. ``answered`` says whether what is asked now was
    ever answered.
    """

    answered: bool = False
    value: Failure | None = None

    def note(self, error: WorkloadError, at: datetime) -> None:
        """Remember ``error``. Where it is not the source's, that has answered."""
        refusal = error.refusal[:LONGEST] if isinstance(error, QueryError) else ""
        self.value = Failure(at, error.component, error.reason, refusal)
        self.answered = self.answered or not isinstance(error, SourceError)

    def note_success(self) -> None:
        """The newest tick gave a forecast."""
        self.value, self.answered = None, True

    def refused_from_the_start(self, newest: Snapshot | None) -> Failure | None:
        """The failure, where the query is refused and has never given anything to plan for: it is wrong.

        A query that has worked may be refused for a while, by series that are there twice: the ``newest`` plan goes on.
        """
        failure, worked = self.value, self.answered and newest is not None
        return None if failure is None or not failure.refusal or worked else failure
