# SPDX-License-Identifier: Apache-2.0
"""The replayed tick against that of the service: the same history gives the same snapshot and answer to KEDA."""

from datetime import datetime

import attrs
import numpy as np

from kedastral.adapters.in_process import InProcessForecaster
from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.core.series import Series
from kedastral.core.serving import StalePolicy, decide
from kedastral.models.baseline import Baseline
from kedastral.serving.store import MemoryStore
from kedastral.simulation.policies import ForecastSchedule, Kedastral, Serving
from kedastral.simulation.trial import View
from kedastral.workloads.tick import ForecastLoop, Workload
from tests.simulation.demands import START

PLAN = PlanPolicy(10.0, headroom=1.2, bounds=ReplicaBounds(1, 400), up_max_factor=1.5, down_max_pct=20.0)


@attrs.define
class Now:
    """A clock set by the test, and a source that reads what the replay's policy is shown at that moment."""

    view: View
    name: str = "shown"
    speed: float = 1.0

    def now(self) -> datetime:
        return self.view.at

    async def history(self, now: datetime) -> Series:
        return self.view.history(1800.0)


async def test_the_replay_answers_what_the_service_would() -> None:
    minutes = np.arange(240)
    demand = 100 + 80 * np.sin(minutes / 20) + np.where(minutes % 60 < 5, 150.0, 0.0)
    policy = Kedastral(Baseline(), PLAN, ForecastSchedule(1800.0, 1800.0), Serving(300.0, 1.1))
    shown, store = Now(View(START, 60.0, 60.0, demand[:1], 1)), MemoryStore()
    loop = ForecastLoop(Workload("w", "m", 30, 300.0, PLAN, 1.1), shown, InProcessForecaster(Baseline()), store, shown)
    for ended in range(1, len(demand) + 1):
        shown.view = View(START, 60.0, 60.0 * ended, demand[:ended], 1)
        await loop.tick()
        served = decide(store.get("w"), shown.now(), StalePolicy()).replicas
        assert [metric.value for metric in policy.ask(shown.view)] == [served]
