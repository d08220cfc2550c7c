# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, and what the caller is to do about it.

::

    KedastralError
    ├── ConfigError        the user must change something; exit code 2
    ├── BindError          a port cannot be had; exit code 1
    └── WorkloadError      expected at run time: touches one workload, retried at its next tick
        ├── SourceError    the load could not be read
        │   └── QueryError       because of how it is asked for: whoever wrote the query must change it
        ├── ModelError     no forecast could be made
        │   └── NotLearntError   the model has to learn from the history first
        ├── StoreError     the snapshot could not be kept
        └── RemoteError    the forecaster's snapshot could not be read

Anything else that leaves a service is a bug, and ends the process loudly.
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


class NotLearntError(ModelError):
    """The model has to learn from this history first, which takes too long for a tick."""


class StoreError(WorkloadError):
    """The store refused or lost a snapshot."""

    component = "store"


class RemoteError(WorkloadError):
    """The split scaler could not read a snapshot from its forecaster."""

    component = "client"
