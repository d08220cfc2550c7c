# SPDX-License-Identifier: Apache-2.0
"""`Tracing`: spans of ticks and calls, as the rest of the process sees them; `NO_TRACING` costs nothing."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import attrs

Attributes = Mapping[str, str | int | float | bool]


class Tracing(Protocol):
    """Opens spans; one that is opened inside another is its child."""

    @property
    def is_on(self) -> bool:
        """Whether spans are recorded at all."""
        ...

    def span(self, name: str, attributes: Attributes) -> AbstractContextManager[None]:
        """A span around the block; an exception that leaves the block is recorded as its failure."""
        ...

    def call(self, service: str, method: str, metadata: Mapping[str, str]) -> AbstractContextManager[None]:
        """A span for a gRPC call around the block, a child of the span that the caller's ``traceparent`` names."""
        ...

    def note(self, attributes: Attributes) -> None:
        """Add attributes to the current span."""
        ...

    def note_failure(self, error: Exception) -> None:
        """Record an expected failure in the current span."""
        ...

    async def close(self) -> None:
        """Send what is left, for at most a second."""
        ...


_NOTHING = nullcontext()


@attrs.frozen
class NoTracing:
    """Records nothing."""

    is_on: bool = attrs.field(default=False, init=False)

    def span(self, name: str, attributes: Attributes) -> AbstractContextManager[None]:
        """See `Tracing.span`."""
        del name, attributes
        return _NOTHING

    def call(self, service: str, method: str, metadata: Mapping[str, str]) -> AbstractContextManager[None]:
        """See `Tracing.call`."""
        del service, method, metadata
        return _NOTHING

    def note(self, attributes: Attributes) -> None:
        """See `Tracing.note`."""

    def note_failure(self, error: Exception) -> None:
        """See `Tracing.note_failure`."""

    async def close(self) -> None:
        """See `Tracing.close`."""


NO_TRACING = NoTracing()
