# SPDX-License-Identifier: Apache-2.0
"""Settings of one workload: what is forecast, and how load becomes replicas."""

from enum import StrEnum
from zoneinfo import ZoneInfo

import attrs

from kedastral.config.fields import above, at_least, between, setting
from kedastral.config.units import (
    HttpUrl,
    Name,
    Seconds,
    read_choice,
    read_duration,
    read_integer,
    read_name,
    read_number,
    read_url,
    read_zone,
)
from kedastral.core.capacity import MOST_REPLICAS, PlanPolicy, ReplicaBounds, Rounding
from kedastral.models import MODELS

HTTP_MODEL = "http"
DEFAULT_HEADROOM = 1.2
ModelName = StrEnum("ModelName", {name: name for name in (*MODELS, HTTP_MODEL)})  # type: ignore[misc]


@attrs.frozen(kw_only=True)
class WorkloadName:
    """Which workload is forecast."""

    workload: Name = setting(
        "--workload",
        "WORKLOAD",
        read_name,
        "key of the workload; a ScaledObject names it in its trigger metadata",
        required=True,
        kind="name",
    )


@attrs.frozen(kw_only=True)
class FlagWorkload:
    """The workload that flags and the environment describe, where they describe one."""

    workload: Name | None = setting(
        "--workload",
        "WORKLOAD",
        read_name,
        "key of the workload that the settings here describe; a ScaledObject names it in its trigger metadata",
        required=True,
        unless=("config", "allow_scaledobject_workloads"),
        kind="name",
    )


@attrs.frozen(kw_only=True)
class DefaultWorkload:
    """Which workload the split scaler answers for when a ScaledObject names none."""

    workload: Name | None = setting(
        "--workload",
        "WORKLOAD",
        read_name,
        "the workload of a ScaledObject that names none",
        kind="name",
    )


@attrs.frozen(kw_only=True)
class ForecastSettings:
    """What is forecast, how far, and by which model."""

    metric: Name = setting(
        "--metric", "METRIC", read_name, "name of the metric that is forecast", default="http_rps", kind="name"
    )
    horizon: Seconds = setting(
        "--horizon",
        "HORIZON",
        read_duration,
        "how far the forecast reaches; a whole multiple of the step",
        default="30m",
        check=above(0),
        kind="duration",
    )
    step: Seconds = setting(
        "--step",
        "STEP",
        read_duration,
        "grid of history and forecast; finer is noisier, not better",
        default="1m",
        check=above(0),
        kind="duration",
    )
    interval: Seconds = setting(
        "--interval",
        "INTERVAL",
        read_duration,
        "time between two forecasts; KEDA polls every 30 s by default",
        default="30s",
        check=above(0),
        kind="duration",
    )
    window: Seconds | None = setting(
        "--window",
        "WINDOW",
        read_duration,
        "how much history the model sees; by default what the model wants: 14d for auto, 30m for baseline and http",
        check=above(0),
        kind="duration",
    )
    model: ModelName = setting(
        "--model",
        "MODEL",
        read_choice(ModelName),
        "which model forecasts; http asks the one at --model-url",
        default="auto",
        kind="choice",
    )
    timezone: ZoneInfo = setting(
        "--timezone",
        "TIMEZONE",
        read_zone,
        "whose days and weeks the load follows, changes of the clock included; auto looks at it",
        default="UTC",
        kind="time zone",
    )
    model_url: HttpUrl | None = setting(
        "--model-url", "MODEL_URL", read_url, "address of your own model; {model-url}/predict is asked", kind="URL"
    )
    model_timeout: Seconds = setting(
        "--model-timeout",
        "MODEL_TIMEOUT",
        read_duration,
        "how long your own model may take to answer",
        default="5s",
        check=above(0),
        kind="duration",
    )

    @property
    def steps(self) -> int:
        """How many values a forecast has."""
        return round(self.horizon / self.step)

    @property
    def history_window(self) -> float:
        """Seconds of history the model sees."""
        if self.window is not None:
            return self.window
        kind = MODELS.get(str(self.model), MODELS["baseline"])
        return max(kind.default_window, self.step)


@attrs.frozen(kw_only=True)
class PlanSettings:
    """How load becomes replicas."""

    target_per_pod: float = setting(
        "--target-per-pod",
        "TARGET_PER_POD",
        read_number,
        "load that one pod sustains, in the unit of the query",
        default="200",
        check=above(0),
        kind="number",
    )
    headroom: float | None = setting(
        "--headroom",
        "HEADROOM",
        read_number,
        "multiplier on the forecast load: 1.2 leaves a sixth of each pod free. auto is steered to the service level "
        "instead, unless this is given; then it multiplies the upper quantile",
        default_words="1.2",
        check=at_least(1),
        kind="number",
    )
    min_replicas: int = setting(
        "--min",
        "MIN_REPLICAS",
        read_integer,
        "fewest replicas ever planned; two survive the loss of one",
        default="2",
        check=between(0, MOST_REPLICAS),
        kind="integer",
    )
    max_replicas: int = setting(
        "--max",
        "MAX_REPLICAS",
        read_integer,
        "most replicas ever planned; 0 means no maximum",
        default="50",
        check=between(0, MOST_REPLICAS),
        kind="integer",
    )
    up_max_factor: float = setting(
        "--up-max-factor",
        "UP_MAX_FACTOR",
        read_number,
        "how many times larger the plan may get from step to step",
        default="2.0",
        check=above(1),
        kind="number",
    )
    down_max_pct: float = setting(
        "--down-max-pct",
        "DOWN_MAX_PCT",
        read_number,
        "how much smaller the plan may get from step to step, percent",
        default="50",
        check=between(0, 100),
        kind="number",
    )
    prewarm_steps: int = setting(
        "--prewarm-steps",
        "PREWARM_STEPS",
        read_integer,
        "how many steps ahead each step of the plan also covers, against a forecast that is a little late",
        default="2",
        check=at_least(0),
        kind="integer",
    )
    rounding: Rounding = setting(
        "--rounding",
        "ROUNDING",
        read_choice(Rounding),
        "how a fraction of a pod becomes a whole one",
        default="ceil",
        kind="choice",
    )

    @property
    def fixed_headroom(self) -> float:
        """The headroom of models that are not steered."""
        return DEFAULT_HEADROOM if self.headroom is None else self.headroom

    def policy(self) -> PlanPolicy:
        """The planner's own value."""
        return PlanPolicy(
            self.target_per_pod,
            self.fixed_headroom,
            ReplicaBounds(self.min_replicas, self.max_replicas),
            self.up_max_factor,
            self.down_max_pct,
            self.prewarm_steps,
            self.rounding,
        )
