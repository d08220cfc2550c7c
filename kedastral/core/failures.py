# SPDX-License-Identifier: Apache-2.0
"""`Failure`: why a tick failed, in plain words for users; `LastFailure` remembers the newest until a tick succeeds."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType

import attrs

from kedastral.errors import QueryError, SourceError, WorkloadError

MAX_REFUSAL_LENGTH = 300
"""How many characters of Prometheus' own error are kept: KEDA shows them in an event."""

FAILURES: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("source", "unreachable"): "its Prometheus cannot be reached",
        ("source", "timeout"): "its Prometheus did not answer in time",
        ("source", "http_status"): "its Prometheus answered with an error",
        ("source", "refused"): "its Prometheus refuses the request",
        ("source", "bad_answer"): "the answer of its Prometheus cannot be used",
        ("source", "credentials"): "the credentials for its Prometheus cannot be read",
        ("source", "empty"): "the query matched nothing",
        ("source", "no_load"): "the query matched, but every value is NaN, infinite or negative",
        ("source", "partial"): "the answers of its Prometheus have been partial for too long",
        ("source", "stale"): "the newest value of the query is too old",
        ("model", "unreachable"): "its model cannot be reached",
        ("model", "timeout"): "its model did not answer in time",
        ("model", "http_status"): "its model answered with an error",
        ("model", "too_large"): "the answer of its model is too large",
        ("model", "bad_answer"): "the answer of its model is not a forecast",
        ("model", "exception"): "its model failed",
        ("model", "no_history"): "there is no history to forecast from",
        ("store", "older"): "a later forecast already exists: another pod made it, or a clock was set back",
    }
)
"""What the components and reasons of the metrics mean, in words for the owner of the workload."""


@attrs.frozen
class Failure:
    """Why a tick failed, and when; ``component`` and ``reason`` as in the metrics.

    ``refusal`` is Prometheus' own error if it rejects the query, since only the query's author can correct it.
    ``status`` is that of the HTTP answer, if it was an error.
    ``followed_by`` is what failed later in the same tick.
    """

    at: datetime
    component: str
    reason: str
    refusal: str = ""
    followed_by: "Failure | None" = None
    status: int | None = None

    @property
    def chain(self) -> "Sequence[Failure]":
        """It and what followed."""
        return [self] if self.followed_by is None else [self, *self.followed_by.chain]

    @property
    def words(self) -> str:
        """One line, without addresses, which only belong in the operator's log."""
        if self.refusal:
            words = f"Prometheus refuses the query: {self.refusal}"
        else:
            known = FAILURES.get((self.component, self.reason), "the newest attempt failed")
            status = "" if self.status is None else f", HTTP {self.status}"
            words = f"{known}{status} ({self.component}: {self.reason})"
        return words if self.followed_by is None else f"{words}; {self.followed_by.words}"


def _describe(error: WorkloadError, at: datetime) -> Failure:
    refusal = error.refusal[:MAX_REFUSAL_LENGTH] if isinstance(error, QueryError) else ""
    followed_by = None if error.followed_by is None else _describe(error.followed_by, at)
    return Failure(at, error.component, error.reason, refusal, followed_by, error.status)


@attrs.define
class LastFailure:
    """Why the newest tick of one workload failed; ``value`` is None once a tick has succeeded.

    ``answered`` is set once the current query has been answered. A workload whose settings have changed starts over,
    since its query may have changed too.
    """

    answered: bool = False
    value: Failure | None = None

    def note(self, error: WorkloadError, at: datetime) -> None:
        """Remember ``error``. If it is not a source error, the source has answered."""
        self.value = _describe(error, at)
        self.answered = self.answered or not isinstance(error, SourceError)

    def note_success(self) -> None:
        """The newest tick published a forecast."""
        self.value, self.answered = None, True

    def refused_from_the_start(self, *, has_plan: bool) -> Failure | None:
        """The failure, if Prometheus rejects the query and it never led to a plan: then the query is wrong.

        A query that has worked before may be rejected temporarily, for instance because of duplicate series. Its plan
        continues.
        """
        failure, worked = self.value, self.answered and has_plan
        return None if failure is None or not failure.refusal or worked else failure
