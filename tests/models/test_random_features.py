# SPDX-License-Identifier: Apache-2.0
"""The random features of the nonlinear ridge: what they are, and that they are the same everywhere."""

import numpy as np
import pytest

from kedastral.models.auto.random_features import COUNT, RandomFeatures, _combinations


def test_each_is_a_hinge_of_a_combination_of_standardised_features() -> None:
    features = np.random.default_rng(5).normal(3, 2, (40, 9))
    made = RandomFeatures.fitted(features)
    weights, offsets = _combinations(9)
    standard = (features - features.mean(axis=0)) / features.std(axis=0)
    assert made.transform(features) == pytest.approx(np.maximum(standard @ weights - offsets, 0), abs=1e-5)


@pytest.mark.parametrize("count", [1, 2, 9, 44])
def test_a_combination_has_two_to_five_features_or_all_that_there_are(count: int) -> None:
    weights, offsets = _combinations(count)
    sizes = np.count_nonzero(weights, axis=0)
    assert (sizes.min(), sizes.max()) == (min(2, count), min(5, count))
    assert weights.shape == (count, COUNT)
    assert np.abs(offsets).max() <= 1.5


def test_saved_coefficients_find_the_same_combinations_with_another_numpy() -> None:
    """The numbers of numpy's legacy generator, from numpy 1.26; NEP 19 promises that they stay."""
    weights, offsets = _combinations(44)
    assert np.flatnonzero(weights[:, 0]).tolist() == GOLDEN_FEATURES
    assert weights[weights[:, 0] != 0, 0] == pytest.approx(GOLDEN_WEIGHTS, abs=1e-6)
    assert offsets[:3] == pytest.approx(GOLDEN_OFFSETS, abs=1e-6)


GOLDEN_FEATURES = [2, 3, 30]
GOLDEN_WEIGHTS = [-0.5068318, -0.0995515, 0.0243721]
GOLDEN_OFFSETS = [1.0216683, 0.4919493, -0.4513711]


def test_a_feature_that_never_varied_is_no_division_by_zero() -> None:
    features = np.column_stack([np.full(20, 7.0), np.arange(20.0)])
    assert np.isfinite(RandomFeatures.fitted(features).transform(features + 1e-9)).all()
