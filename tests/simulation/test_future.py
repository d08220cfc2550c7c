# SPDX-License-Identifier: Apache-2.0
"""Only the oracle sees the future: if the future changes, every earlier decision must stay the same."""

from collections.abc import Callable, Sequence

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.core.series import Floats
from kedastral.models.baseline import Baseline
from kedastral.simulation.cluster import KedaTiming
from kedastral.simulation.hpa import HpaBehavior, HpaMetric
from kedastral.simulation.policies import CachedModel, FarEndOnly, Fixed, Kedastral, LastWeek, Oracle, Reactive
from kedastral.simulation.replay import Cluster, replay
from kedastral.simulation.trial import CombinedTriggers, Policy, View
from tests.simulation.demands import TARGET, trial_of

STEP = 21600.0  # long, so that a week is 28 steps
CLUSTER = Cluster(lead_time=2 * STEP, timing=KedaTiming(sync_period=STEP / 2, polling_interval=STEP / 2))
PLAN = PlanPolicy(TARGET, bounds=ReplicaBounds(1, 400))

POLICIES: dict[str, Callable[[], Policy]] = {
    "reactive": lambda: Reactive(TARGET),
    "reactive, Kubernetes' pace": lambda: Reactive(TARGET, behavior=HpaBehavior.KUBERNETES),
    "last week": lambda: LastWeek(TARGET),
    "fixed": lambda: Fixed(7),
    "kedastral": lambda: Kedastral(Baseline(), PLAN),
    "kedastral, remembered": lambda: Kedastral(CachedModel(Baseline()), PLAN),
    "far end": lambda: FarEndOnly(Baseline(), PLAN),
    "together": lambda: CombinedTriggers("both", (LastWeek(TARGET), Reactive(TARGET))),
}

demands = st.lists(st.floats(0, 300), min_size=36, max_size=48)


def decisions(policy: Policy, values: Sequence[float]) -> tuple[Floats, Floats]:
    supply = replay(policy, trial_of(values, step=STEP), CLUSTER).supply
    return supply.recommended, supply.ordered


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=25, deadline=None)
@given(demands, st.integers(1, 35), st.lists(st.floats(0, 300), min_size=48, max_size=48))
def test_no_decision_before_a_change_of_the_future_changes(
    name: str, values: list[float], last: int, others: list[float]
) -> None:
    # the same up to and including minute `last`, anything after it; the order made at its end takes effect in the next
    changed = values[: last + 1] + others[last + 1 : len(values)]
    recommended, ordered = decisions(POLICIES[name](), values)
    recommended_then, ordered_then = decisions(POLICIES[name](), changed)
    np.testing.assert_array_equal(recommended_then[: last + 1], recommended[: last + 1])
    np.testing.assert_array_equal(ordered_then[: last + 1], ordered[: last + 1])


def test_the_oracle_does_see_it() -> None:
    # otherwise the test above would prove nothing
    stabilize, rising = [20.0] * 40, [20.0] * 20 + [90.0] * 20
    recommended, _ = decisions(Oracle(stabilize, TARGET, 2), stabilize)
    foreseen, _ = decisions(Oracle(rising, TARGET, 2), rising)
    # minute 18, at its end, sees minutes 19 and 20
    assert (recommended[18], foreseen[17], foreseen[18]) == (2, 2, 9)


@attrs.define
class Witness:
    """Gives no metrics, and records what it was shown."""

    shown: list[View] = attrs.field(factory=list)
    name: str = "witness"
    behavior: HpaBehavior = HpaBehavior.DIRECT

    def ask(self, view: View) -> Sequence[HpaMetric]:
        self.shown.append(view)
        return (HpaMetric(None),)


def test_a_policy_is_shown_the_steps_that_have_ended() -> None:
    values = [1.0, 2.0, 3.0]
    witness = Witness()
    replay(witness, trial_of(values), Cluster(timing=KedaTiming(sync_period=30.0)))
    # twice a minute; nothing of minute 0 before its end at 60 s
    assert [(view.now, view.seen.tolist()) for view in witness.shown] == [
        (60.0, [1.0]),
        (90.0, [1.0]),
        (120.0, [1.0, 2.0]),
        (150.0, [1.0, 2.0]),
        (180.0, [1.0, 2.0, 3.0]),
    ]
    assert not any(view.seen.flags.writeable for view in witness.shown)
