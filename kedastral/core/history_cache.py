# SPDX-License-Identifier: Apache-2.0
"""`HistoryCache`: the newest points of one load, kept between ticks so that only new ones must be read; pure."""

import attrs
import numpy as np
from numpy.typing import NDArray

from kedastral.core.series import Floats

Values = NDArray[np.float32]
"""Loads, oldest first; NaN for a gap."""

LARGEST = float(np.finfo(np.float32).max)
"""3.4e38, the largest float32."""
UNREAD = np.float32(-1)
"""Marks a point that has not been read yet. A load is never negative, and NaN is a gap that has been read."""


@attrs.frozen
class Span:
    """The grid points from number ``first`` to number ``last``, both included."""

    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first + 1


def _require_one(_instance: object, attribute: "attrs.Attribute[int]", value: int) -> None:
    if value < 1:
        raise ValueError(f"{attribute.name} must be at least 1, got {value!r}")


@attrs.define(eq=False)
class HistoryCache:
    """The newest ``window`` points of a grid in a ring buffer of float32: 4 bytes a point, and nothing else that grows.

    Points are numbered from the epoch, one per step. The caller moves the window on (`move_to`), reads the unread
    points, newest first (`next_unread`), and stores their values (`put`). Whenever the window moves, the newest
    ``overlap`` points become unread again, since samples may arrive late. If the newest points are gaps, up to
    ``patience`` of them, the overlap begins before these gaps: late samples mostly arrive all at once. A later answer
    replaces an earlier one, even with a gap.
    """

    window: int = attrs.field(validator=_require_one)
    overlap: int = attrs.field(validator=_require_one)
    patience: int = 0
    _newest: int | None = attrs.field(default=None, init=False)
    _final: int = attrs.field(default=0, init=False)
    """The newest point that is not read again."""
    _ring: Values = attrs.field(init=False, repr=False)

    @_ring.default
    def _all_unread(self) -> Values:
        return np.full(self.window, UNREAD, dtype=np.float32)

    def move_to(self, newest: int) -> None:
        """Move the window to end with point ``newest``; its new points and the overlap become unread.

        The whole window becomes unread after a pause as long as the window, or if the clock went back by more than the
        overlap: values read at a wrong time may be wrong.
        """
        before = self._newest
        if before is None or newest < before - self.overlap:
            self._ring.fill(UNREAD)
            self._final = newest - self.window
        else:
            self._final = max(min(self._final, newest - self.overlap), newest - self.window)
            # If the window moves back, its oldest points take the places of points from the future.
            self._write(self._final + 1, np.full(min(max(newest, before) - self._final, self.window), UNREAD))
        self._newest = newest

    def next_unread(self, limit: int) -> Span | None:
        """The newest contiguous unread points, at most ``limit`` of them; None if all have been read."""
        values = self._in_order()
        unread = np.flatnonzero(values < 0)
        if not len(unread):
            return None
        breaks = np.flatnonzero(np.diff(unread) > 1)
        last = int(unread[-1])
        first = max(int(unread[breaks[-1] + 1 if len(breaks) else 0]), last - limit + 1)
        return Span(self._oldest + first, self._oldest + last)

    def put(self, span: Span, values: Floats) -> None:
        """Store the values of ``span``: ``len(span)`` of them, NaN for a gap, none negative.

        Values above `LARGEST` are stored as `LARGEST`. Points outside the window are ignored.
        """
        if len(values) != len(span):
            raise ValueError(f"{len(values)} values for {len(span)} points")
        if self._newest is None:
            raise ValueError("the window has not been set: call move_to first")
        first, last = max(span.first, self._oldest), min(span.last, self._newest)
        if first > last:
            return
        with np.errstate(under="ignore"):
            kept = np.minimum(values[first - span.first : last - span.first + 1], LARGEST).astype(np.float32)
        self._write(first, kept)
        if last == self._newest:
            self._final = max(self._final, last - self._gaps_at_the_end() - self.overlap)

    def newest_part(self) -> Values:
        """The values after the last unread point, up to the newest; shape (n,), NaN is a gap."""
        values = self._in_order()
        unread = np.flatnonzero(values < 0)
        return values[unread[-1] + 1 :] if len(unread) else values

    @property
    def newest_span(self) -> Span | None:
        """The span of `newest_part`; None if it is empty."""
        size = len(self.newest_part())
        return None if self._newest is None or not size else Span(self._newest - size + 1, self._newest)

    def newest_known(self, count: int) -> tuple[Span, Floats] | None:
        """The ``count`` points up to the newest one that holds a value; None if nothing is known."""
        values = self._in_order()
        known = np.flatnonzero(values >= 0)
        if not len(known):
            return None
        last = int(known[-1])
        first = max(last - count + 1, 0)
        kept = values[first : last + 1]
        return Span(self._oldest + first, self._oldest + last), np.where(kept < 0, np.nan, kept).astype(np.float64)

    def known_part(self) -> Values:
        """The values from the oldest point that has been read to the newest; unread points among them are gaps."""
        values = self._in_order()
        read = np.flatnonzero(~(values < 0))
        values[values < 0] = np.nan
        return values[read[0] if len(read) else len(values) :]

    @property
    def unread(self) -> int:
        """How many points of the window have not been read yet."""
        return int(np.count_nonzero(self._ring < 0))

    def _gaps_at_the_end(self) -> int:
        """How many of the newest points are gaps, up to ``patience``."""
        newest_first = self._in_order()[::-1][: self.patience]
        known = np.flatnonzero(~np.isnan(newest_first))
        return int(known[0]) if len(known) else len(newest_first)

    @property
    def _oldest(self) -> int:
        return (self._newest or 0) - self.window + 1

    def _in_order(self) -> Values:
        """A copy, oldest first."""
        return np.roll(self._ring, -(self._oldest % self.window))

    def _write(self, first: int, values: NDArray[np.floating]) -> None:
        at = first % self.window
        head = min(len(values), self.window - at)
        self._ring[at : at + head] = values[:head]
        self._ring[: len(values) - head] = values[head:]
