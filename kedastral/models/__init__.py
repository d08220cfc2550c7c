# SPDX-License-Identifier: Apache-2.0
"""The models that run in this process, by name. A new model is one file here and one line below."""

from collections.abc import Callable, Mapping
from datetime import UTC, tzinfo
from types import MappingProxyType

import attrs

from kedastral.core.model import Model
from kedastral.core.series import DAY, MINUTE
from kedastral.models.auto import AutoModel
from kedastral.models.baseline import Baseline
from kedastral.models.naive import LastValue, SeasonalNaive


@attrs.frozen
class ModelKind:
    """How a model is made, and how much history it wants by default (``default_window``, seconds).

    ``maker`` takes the time zone whose days the seasons follow. If ``plans_by_service_level``, the plan is made from
    the forecast's uncertainty and a service level, else from a headroom. A ``heavy`` model takes so long that it runs
    in a thread.
    """

    maker: Callable[[tzinfo], Model]
    default_window: float
    plans_by_service_level: bool = False
    heavy: bool = False

    def make(self, timezone: tzinfo = UTC) -> Model:
        """A new model, for one workload."""
        return self.maker(timezone)


MODELS: Mapping[str, ModelKind] = MappingProxyType(
    {
        Baseline.name: ModelKind(lambda _: Baseline(), default_window=30 * MINUTE),
        AutoModel.name: ModelKind(AutoModel, default_window=14 * DAY, plans_by_service_level=True, heavy=True),
        SeasonalNaive.name: ModelKind(lambda _: SeasonalNaive(), default_window=8 * DAY),
        LastValue.name: ModelKind(lambda _: LastValue(), default_window=30 * MINUTE),
    }
)
"""Every model that runs in this process, by the name that ``--model`` takes."""
