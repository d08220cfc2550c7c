# SPDX-License-Identifier: Apache-2.0
"""`Tracing`: spans of ticks and calls, as far as the rest of the process needs to know; `NO_TRACING` costs nothing."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import attrs

Attributes = Mapping[str, str | int | float | bool]


class Tracing(Protocol):
    """Opens spans; one that is opened inside of another is its child."""

    @property
    def is_on(self) -> bool:
        """Whether spans are recorded at all."""
        ...

    def span(self, name: str, attributes: Attributes) -> AbstractContextManager[None]:
        """A span around the block; what leaves the block is recorded as its failure."""
        ...

    def call(self, service: str, method: str, metadata: Mapping[str, str]) -> AbstractContextManager[None]:
        """A span of a gRPC call around the block, the child of what the caller's ``traceparent`` names."""
        ...

    def note(self, attributes: Attributes) -> None:
        """Add attributes to the span that is open."""
        ...

    def note_failure(self, error: Exception) -> None:
        """Record an expected failure in the span that is open."""
        ...

    async def close(self) -> None:
        """Send what is left, for a second at most."""
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
