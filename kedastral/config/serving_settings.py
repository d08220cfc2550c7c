# SPDX-License-Identifier: Apache-2.0
"""Settings of what KEDA is told: the service level, the lead time, the floor, and what holds when data is stale."""

import attrs

from kedastral.config.fields import above, at_least, between, setting
from kedastral.config.units import Seconds, read_boolean, read_choice, read_duration, read_integer, read_number
from kedastral.core.capacity import MOST_REPLICAS
from kedastral.core.serving import OnStale, StalePolicy
from kedastral.core.snapshot import Mode


@attrs.frozen(kw_only=True)
class ServiceLevel:
    """What is promised."""

    service_level: float = setting(
        "--service-level",
        "SERVICE_LEVEL",
        read_number,
        "share of minutes that is to have enough pods, 0.5 to 0.9999; steers auto, unless --headroom is given. 0.999 "
        "is a promise over weeks",
        default="0.99",
        check=between(0.5, 0.9999),
        kind="number",
    )


@attrs.frozen(kw_only=True)
class LeadSettings:
    """How the plan is read for KEDA."""

    lead_time: Seconds = setting(
        "--lead-time",
        "LEAD_TIME",
        read_duration,
        "from asking for a pod to the pod Ready, KEDA's and the HPA's delays included; replicas are told this early",
        default="5m",
        check=above(0),
        kind="duration",
    )
    reactive_floor: bool = setting(
        "--reactive-floor",
        "REACTIVE_FLOOR",
        read_boolean,
        "never tell KEDA less than the newest measured load needs, whatever the forecast says",
        default="true",
        kind="boolean",
    )
    reactive_headroom: float = setting(
        "--reactive-headroom",
        "REACTIVE_HEADROOM",
        read_number,
        "multiplier on the newest load for that floor. It counts under a fixed headroom: with --headroom, or a model "
        "other than auto; a steered floor follows the steering",
        default="1.1",
        check=at_least(1),
        kind="number",
    )


@attrs.frozen(kw_only=True)
class ServingSettings(LeadSettings):
    """How the plan is read for KEDA, and whether KEDA is told."""

    mode: Mode = setting(
        "--mode",
        "MODE",
        read_choice(Mode),
        "what KEDA is told: by scale what is planned; by observe always 0, while all is forecast, planned, measured "
        "and shown: a second trigger then decides alone, and without one the workload would go to its minimum",
        default="scale",
        kind="choice",
    )


@attrs.frozen(kw_only=True)
class FreshnessSettings:
    """When a forecast is stale, for those who only report it."""

    stale_after: Seconds = setting(
        "--stale-after",
        "STALE_AFTER",
        read_duration,
        "age at which a forecast, or the newest measurement, is stale",
        default="2m",
        check=above(0),
        kind="duration",
    )


@attrs.frozen(kw_only=True)
class StaleSettings(FreshnessSettings):
    """When a forecast is stale, and what KEDA is told then."""

    on_stale: OnStale = setting(
        "--on-stale",
        "ON_STALE",
        read_choice(OnStale),
        "what KEDA is told then: the default minimum, the old plan while it lasts, or an error so that KEDA holds",
        default="default-min",
        kind="choice",
    )
    default_min: int = setting(
        "--default-min",
        "DEFAULT_MIN",
        read_integer,
        "replicas told when stale under default-min",
        default="2",
        check=between(0, MOST_REPLICAS),
        kind="integer",
    )

    def policy(self) -> StalePolicy:
        """The serving rule's own value."""
        return StalePolicy(self.stale_after, self.on_stale, self.default_min)
