# SPDX-License-Identifier: Apache-2.0
"""All errors that Kedastral raises on purpose, as one tree, and what each means for the user.

::

    KedastralError
    ├── ConfigError               the user must change the settings; exit code 2
    │   └── UnfitHistoryError     `backtest` cannot replay this history
    ├── BindError                 a port is not available; exit code 1
    ├── BadTriggerError           a ScaledObject's trigger metadata are wrong: INVALID_ARGUMENT
    ├── UnknownWorkloadError      a ScaledObject names a workload that does not exist: NOT_FOUND
    ├── TooManyWorkloadsError     ScaledObjects describe as many workloads as allowed: RESOURCE_EXHAUSTED
    └── WorkloadError             expected at run time: affects one workload, which retries at its next tick
        ├── SourceError           the load could not be read
        │   ├── LowerBoundError   only a lower bound of it could (`kedastral.core.ports`, as it holds a history)
        │   ├── QueryError        Prometheus rejects the query; its author must change it
        │   └── NotServedError    the server has no range queries
        ├── ModelError            no forecast could be made
        │   └── NotFittedError    the model must be fitted to the history first
        ├── StoreError            the snapshot could not be kept
        └── RemoteError           the forecaster's snapshot could not be read

Modules that know nothing about workloads raise their own ValueErrors (`WireError`, `YamlError`); their callers turn
these into one of the above. Any other exception that leaves a service is a bug and ends the process.
"""

from collections.abc import Sequence


class KedastralError(Exception):
    """The root of all errors that Kedastral raises on purpose."""


class ConfigError(KedastralError):
    """The settings are invalid; ``problems`` has one line for each problem, all of them at once."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class UnfitHistoryError(ConfigError):
    """`backtest` cannot replay this history, whatever the settings."""


class BindError(KedastralError):
    """The process cannot listen on an address."""


class BadTriggerError(KedastralError):
    """The ScaledObject's trigger metadata are invalid; the message says what to change."""


class UnknownWorkloadError(KedastralError):
    """The ScaledObject names a workload that does not exist."""


class TooManyWorkloadsError(KedastralError):
    """ScaledObjects already describe as many workloads as allowed."""


class WorkloadError(KedastralError):
    """Something expected failed for one workload; its next tick tries again.

    ``component`` and ``reason`` are short words from a fixed set: labels of ``kedastral_errors_total``.
    ``status`` is that of the HTTP answer, if there was one that said why. ``followed_by`` is what failed later in the
    same tick.
    """

    component = "forecaster"

    def __init__(self, message: str, *, reason: str, status: int | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.status = status
        self.followed_by: WorkloadError | None = None

    @property
    def chain(self) -> "Sequence[WorkloadError]":
        """It and what followed."""
        return [self] if self.followed_by is None else [self, *self.followed_by.chain]


class SourceError(WorkloadError):
    """The load could not be read, or no forecast can be made from it."""

    component = "source"


class QueryError(SourceError):
    """Prometheus rejects the query itself; ``refusal`` is its reason, without its address."""

    def __init__(self, message: str, *, reason: str, refusal: str) -> None:
        super().__init__(message, reason=reason)
        self.refusal = refusal


class NotServedError(SourceError):
    """The endpoint is missing (404, 405, 501): the server does not offer this kind of query."""


class ModelError(WorkloadError):
    """The model returned no usable forecast."""

    component = "model"


class NotFittedError(ModelError):
    """The model must be fitted to this history first, which takes too long for a tick."""


class StoreError(WorkloadError):
    """The store refused or lost a snapshot."""

    component = "store"


class RemoteError(WorkloadError):
    """The split scaler could not read a snapshot from its forecaster."""

    component = "client"
