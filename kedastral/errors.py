# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, and what the caller does about it.

::

    KedastralError
    ├── ConfigError               the user must change the settings; exit code 2
    │   └── UnfitHistoryError     `backtest` cannot replay this history
    ├── BindError                 a port is not available; exit code 1
    ├── BadTriggerError           a ScaledObject's trigger metadata are wrong: INVALID_ARGUMENT
    ├── UnknownWorkloadError      a ScaledObject names a workload that does not exist: NOT_FOUND
    ├── TooManyWorkloadsError     ScaledObjects brought as many workloads as allowed: RESOURCE_EXHAUSTED
    └── WorkloadError             expected at run time: affects one workload, which retries at its next tick
        ├── SourceError           the load could not be read
        │   ├── QueryError        Prometheus rejects the query; whoever wrote it must change it
        │   └── NotServedError    the server has no range queries
        ├── ModelError            no forecast could be made
        │   └── NotFittedError    the model must be fitted to the history first
        ├── StoreError            the snapshot could not be kept
        └── RemoteError           the forecaster's snapshot could not be read

Any other exception that leaves a service is a bug and ends the process.
"""

from collections.abc import Sequence


class KedastralError(Exception):
    """Root of all that Kedastral raises on purpose."""


class ConfigError(KedastralError):
    """Settings that cannot be run with; ``problems`` holds one line for each, all of them at once."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class BindError(KedastralError):
    """An address cannot be listened on."""


class WorkloadError(KedastralError):
    """Something expected failed for one workload; its next tick tries again.

    ``component`` and ``reason`` are short and of a fixed set: they are labels of ``kedastral_errors_total``.
    """

    component = "forecaster"

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class SourceError(WorkloadError):
    """The load could not be read, or what came back cannot be forecast from."""

    component = "source"


class QueryError(SourceError):
    """The query itself is refused; ``refusal`` says how, without the address of who refuses it."""

    def __init__(self, message: str, *, reason: str, refusal: str) -> None:
        super().__init__(message, reason=reason)
        self.refusal = refusal


class ModelError(WorkloadError):
    """The model gave no forecast that can be used."""

    component = "model"


class NotFittedError(ModelError):
    """The model has to learn from this history first, which takes too long for a tick."""


class StoreError(WorkloadError):
    """The store refused or lost a snapshot."""

    component = "store"


class RemoteError(WorkloadError):
    """The split scaler could not read a snapshot from its forecaster."""

    component = "client"


class UnknownWorkloadError(KedastralError):
    """The ScaledObject names a workload that is not configured."""


class BadTriggerError(KedastralError):
    """The ScaledObject's trigger metadata cannot be used; the message says what to change."""


class TooManyWorkloadsError(KedastralError):
    """ScaledObjects have brought as many workloads as they may."""


class NotServedError(SourceError):
    """The endpoint is not there (404, 405, 501): what the URL points to does not serve this kind of query."""


class UnfitHistoryError(ConfigError):
    """A history that cannot be replayed, whatever the settings."""
