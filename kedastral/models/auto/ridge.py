# SPDX-License-Identifier: Apache-2.0
"""Ridge regression on absolute errors: weighted, penalised, and not moved by the few minutes that nothing foretold."""

import attrs
import numpy as np

from kedastral.core.series import Floats

PENALTY = 10.0
"""On standardised features, against the number of rows; anything from 3 to 30 forecasts alike."""
ROBUST = 1.0
"""Residuals beyond this many typical ones count by their size, no longer by its square (Huber, 1964).

Low, since forecasts are judged by absolute errors, and load jumps more often than a normal law has it.
"""
FIRST_ROUNDS = 4
LATER_ROUNDS = 1
"""Solutions a fit takes: reweighting goes on from the weights before, so that refits need fewer."""
NORMAL = 1.4826
"""The standard deviation of a normal law over the median of its absolute values."""


@attrs.frozen(eq=False)
class Ridge:
    """``weights`` (k + 1,), the last one the constant."""

    weights: Floats

    def predict(self, features: Floats) -> Floats:
        """One value for each row of ``features`` (r, k)."""
        values: Floats = features @ self.weights[:-1] + self.weights[-1]
        return values


def fit_ridge(features: Floats, target: Floats, importance: Floats, before: Ridge | None = None) -> Ridge:
    """Fit ``target`` (r,) on ``features`` (r, k); rows count by ``importance`` (r,), >= 0.

    Ridge regression by the normal equations (Hoerl and Kennard, 1970), reweighted to Huber's loss (Holland and
    Welsch, 1977), from the weights of ``before`` on where there are any.
    """
    scale = np.sqrt(np.mean(features**2, axis=0))
    scale[scale < 1e-9] = np.inf
    design = np.column_stack([features / scale, np.ones(len(features))])
    scale = np.append(scale, 1.0)
    if before is None:
        weights, rounds = _solve(design, target, importance), FIRST_ROUNDS - 1
    else:
        weights, rounds = before.weights * np.where(np.isfinite(scale), scale, 0.0), LATER_ROUNDS
    for _ in range(rounds):
        weights = _solve(design, target, importance * _trust(target - design @ weights, importance))
    return Ridge(weights / scale)


def _trust(residuals: Floats, importance: Floats) -> Floats:
    """Huber's weight of each row, its typical residual being the median that the importances give."""
    sizes = np.abs(residuals)
    order = np.argsort(sizes)
    half = np.cumsum(importance[order])
    typical = NORMAL * float(sizes[order[np.searchsorted(half, half[-1] / 2)]])
    return np.minimum(1.0, ROBUST * typical / np.maximum(sizes, 1e-12)) if typical > 1e-12 else np.ones(len(sizes))


def _solve(design: Floats, target: Floats, importance: Floats) -> Floats:
    total = float(importance.sum())
    share = importance * (len(importance) / total) if total > 0 else importance
    weighted = design * share[:, None]
    gram: Floats = weighted.T @ design
    gram[np.diag_indices_from(gram)] += PENALTY
    return np.asarray(np.linalg.solve(gram, weighted.T @ target), dtype=np.float64)
