# SPDX-License-Identifier: Apache-2.0
"""`Scores`: how far off each expert has been lately, and how much each is worth."""

import attrs
import numpy as np

from kedastral.core.series import Floats
from kedastral.models.auto.signal import DAY

SHARPNESS = 8.0
"""The power of an expert's inverse error that it weighs by: the best lead, the good still help."""
HALF_LIFE = 0.5 * DAY
"""Seconds after which an error counts half: shorter forgets the night's best by noon, longer keeps yesterday's."""
LEAST = 1e-6
"""Of the largest error: experts that are this good are equals."""


@attrs.frozen(eq=False)
class Scores:
    """``errors`` (experts, knots): discounted sums of absolute errors, in units of the load times seconds."""

    errors: Floats

    def add(self, errors: Floats, elapsed: float) -> "Scores":
        """With ``errors`` (experts, knots) that held for ``elapsed`` seconds; NaN where nothing is known."""
        fade = 0.5 ** (elapsed / HALF_LIFE)
        known = np.isfinite(errors)
        return Scores(np.where(known, self.errors * fade + np.where(known, errors, 0.0) * elapsed, self.errors))

    def weights(self, usable: Floats) -> Floats:
        """The weight of each expert at each knot, each column adding up to 1; 0 where ``usable`` is NaN.

        Inverse errors to the power `SHARPNESS`: Bates and Granger (1969) weigh by inverse squared errors.
        """
        floor = LEAST * float(self.errors.max()) + 1e-300
        errors = np.where(np.isfinite(usable), np.maximum(self.errors, floor), np.inf)
        shares = (errors.min(axis=0) / errors) ** SHARPNESS
        weights: Floats = shares / shares.sum(axis=0)
        return weights


def no_scores(experts: int, knots: int) -> Scores:
    """Nothing known yet: all experts are equals."""
    return Scores(np.zeros((experts, knots)))
