# SPDX-License-Identifier: Apache-2.0
"""`HistoryCache`: the newest points of one load, kept between ticks, so that only what is new need be read; pure."""

import attrs
import numpy as np
from numpy.typing import NDArray

from kedastral.core.series import Floats

Kept = NDArray[np.float32]

UNREAD = np.float32(-1)
"""Marks a point that has yet to be read. A load is never negative, and NaN is a point that was read and is a gap."""


@attrs.frozen
class Stretch:
    """The points of the grid from number ``first`` to number ``last``, both included."""

    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first + 1


def _require_one(_instance: object, attribute: "attrs.Attribute[int]", value: int) -> None:
    if value < 1:
        raise ValueError(f"{attribute.name} must be at least 1, got {value!r}")


@attrs.define(eq=False)
class HistoryCache:
    """The newest ``window`` points of a grid in a ring of float32: 4 bytes a point, and nothing else that grows.

    Points are numbered from the epoch, one a step. The caller moves the window on, reads what is unread, newest first,
    and lays it in. Whenever the window moves, the newest ``overlap`` points become unread again: samples may have come
    late. Where the newest points were gaps, up to ``patience`` of them, the overlap begins before those: what is late
    then mostly comes all at once. What is read later replaces all of what was read before, also where it has a gap now.
    """

    window: int = attrs.field(validator=_require_one)
    overlap: int = attrs.field(validator=_require_one)
    patience: int = 0
    _newest: int | None = attrs.field(default=None, init=False)
    _settled: int = attrs.field(default=0, init=False)
    _ring: Kept = attrs.field(init=False, repr=False)

    @_ring.default
    def _all_unread(self) -> Kept:
        return np.full(self.window, UNREAD, dtype=np.float32)

    def move_to(self, newest: int) -> None:
        """Let the window end with point ``newest``; the points that are new in it, and the overlap, are unread.

        All of it is unread after a pause as long as the window, and where the clock went back by more than the overlap:
        what was read ahead of time may be wrong.
        """
        before = self._newest
        if before is None or newest < before - self.overlap:
            self._ring.fill(UNREAD)
            self._settled = newest - self.window
        else:
            self._settled = max(min(self._settled, newest - self.overlap), newest - self.window)
            # Going back, the places of points from the future become those of the oldest ones: unread just as well.
            self._lay(self._settled + 1, np.full(min(max(newest, before) - self._settled, self.window), UNREAD))
        self._newest = newest

    def next_unread(self, most: int) -> Stretch | None:
        """The newest stretch of unread points, its newest ``most`` at the utmost; None where all has been read."""
        values = self._in_order()
        unread = np.flatnonzero(values < 0)
        if not len(unread):
            return None
        breaks = np.flatnonzero(np.diff(unread) > 1)
        last = int(unread[-1])
        first = max(int(unread[breaks[-1] + 1 if len(breaks) else 0]), last - most + 1)
        return Stretch(self._oldest + first, self._oldest + last)

    def lay(self, stretch: Stretch, values: Floats) -> None:
        """Keep what was read of ``stretch``: ``len(stretch)`` values, NaN for a gap, none of them negative.

        What float32 cannot hold (3.4e38) is a gap. Points outside the window are left out.
        """
        if len(values) != len(stretch):
            raise ValueError(f"{len(values)} values for {len(stretch)} points")
        if self._newest is None:
            raise ValueError("the window is nowhere yet")
        first, last = max(stretch.first, self._oldest), min(stretch.last, self._newest)
        if first > last:
            return
        with np.errstate(over="ignore", under="ignore"):
            kept = values[first - stretch.first : last - stretch.first + 1].astype(np.float32)
        kept[~np.isfinite(kept)] = np.nan
        self._lay(first, kept)
        if last == self._newest:
            self._settled = max(self._settled, last - self._gaps_at_the_end() - self.overlap)

    def newest_part(self) -> Kept:
        """The values that end with the newest point, back to the first unread one; shape (n,), NaN is a gap."""
        values = self._in_order()
        unread = np.flatnonzero(values < 0)
        return values[unread[-1] + 1 :] if len(unread) else values

    def known_part(self) -> Kept:
        """The values from the oldest point that has been read to the newest; what is unread among them is a gap."""
        values = self._in_order()
        read = np.flatnonzero(~(values < 0))
        values[values < 0] = np.nan
        return values[read[0] if len(read) else len(values) :]

    @property
    def unread(self) -> int:
        """How many points of the window have yet to be read."""
        return int(np.count_nonzero(self._ring < 0))

    def _gaps_at_the_end(self) -> int:
        """How many of the newest points are gaps, up to ``patience``."""
        newest_first = self._in_order()[::-1][: self.patience]
        known = np.flatnonzero(~np.isnan(newest_first))
        return int(known[0]) if len(known) else len(newest_first)

    @property
    def _oldest(self) -> int:
        return (self._newest or 0) - self.window + 1

    def _in_order(self) -> Kept:
        """A copy, oldest first."""
        return np.roll(self._ring, -(self._oldest % self.window))

    def _lay(self, first: int, values: NDArray[np.floating]) -> None:
        at = first % self.window
        head = min(len(values), self.window - at)
        self._ring[at : at + head] = values[:head]
        self._ring[: len(values) - head] = values[head:]
