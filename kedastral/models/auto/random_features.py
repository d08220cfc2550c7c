# SPDX-License-Identifier: Apache-2.0
"""`RandomFeatures`: the features that make a ridge regression nonlinear.

Each is a hinge of a random combination of a few features of the ridge, so the regression can bend: "the load rises at
this hour, but only if it is above yesterday's". The combinations are drawn once and never fitted, so that what remains
is still a linear fit with one solution (Rahimi and Recht, *Weighted Sums of Random Kitchen Sinks*, 2008).
"""

from functools import cache

import attrs
import numpy as np
from numpy.typing import NDArray

from kedastral.core.series import Floats
from kedastral.models.auto.features import LEAST_SCALE

Singles = NDArray[np.float32]
"""Single precision halves the time of a fit, and the penalty of a ridge is far larger than what it rounds."""

COUNT = 500
"""How many: with 300 the forecast is 1 % less accurate. The time of a fit grows faster than their number."""
FEWEST, MOST = 2, 5
"""How many features a combination has. Combinations of all features are less accurate."""
WIDEST_OFFSET = 1.5
"""Where the hinges are, in standard deviations."""
SEED = 1


@attrs.frozen(eq=False)
class RandomFeatures:
    """Made for features (r, k) with the means ``center`` (k,) and the standard deviations ``scale`` (k,)."""

    center: Floats
    scale: Floats

    @classmethod
    def fitted(cls, features: Floats) -> "RandomFeatures":
        """Those for ``features`` (r, k)."""
        return cls(features.mean(axis=0), np.maximum(features.std(axis=0), LEAST_SCALE))

    def transform(self, features: Floats) -> Singles:
        """The random features (r, COUNT) of ``features`` (r, k)."""
        combinations, offsets = _combinations(len(self.center))
        standard = ((features - self.center) / self.scale).astype(np.float32)
        values: Singles = standard @ combinations
        values -= offsets
        return np.maximum(values, np.float32(0.0), out=values)


@cache
def _combinations(count: int) -> tuple[Singles, Singles]:
    """The weights (count, COUNT) and offsets (COUNT,) of the combinations of ``count`` features.

    Saved coefficients belong to them. So they come from the legacy generator: numpy keeps its numbers the same in all
    versions (NEP 19).
    """
    random = np.random.RandomState(SEED)
    weights = np.zeros((count, COUNT), dtype=np.float32)
    for column in weights.T:
        size = min(int(random.randint(FEWEST, MOST + 1)), count)
        chosen = random.permutation(count)[:size]
        column[chosen] = random.standard_normal(size) / np.sqrt(size)
    return weights, random.uniform(-WIDEST_OFFSET, WIDEST_OFFSET, COUNT).astype(np.float32)
