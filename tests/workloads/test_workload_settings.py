# SPDX-License-Identifier: Apache-2.0
"""How settings become those of a workload."""

from kedastral.core.planning.planner import Workload
from kedastral.core.planning.service_level import ServiceLevelSettings
from kedastral.core.planning.snapshot import Mode
from kedastral.core.planning.stale_policy import OnStale, StalePolicy
from kedastral.core.planning.steering import SteeringSettings
from kedastral.settings.commands import RunSettings
from kedastral.settings.load import load
from kedastral.workloads.planning_settings import workload_of

NEEDED = {"WORKLOAD": "shop", "PROM_URL": "http://prometheus:9090", "PROM_QUERY": "sum(rate(requests[1m]))"}


def workload_with(**env: str) -> Workload:
    """A workload as flags and variables describe it."""
    [settings] = load(RunSettings, {}, NEEDED | {"MODEL": "auto"} | env).settings.fleet.settings.workloads.values()
    return workload_of(settings, None)


def test_what_is_only_observed_is_known_to_the_tick_to_the_scaler_and_to_the_steering() -> None:
    workload = workload_with(MODE="observe", ON_STALE="error")
    assert workload.mode is Mode.OBSERVE
    assert workload.service_level is not None
    assert workload.service_level.steering.observing, "what nobody acts on must not move the factor"
    assert workload.stale == StalePolicy(120.0, OnStale.ERROR, mode=Mode.OBSERVE)


def test_by_default_keda_is_told_what_is_planned() -> None:
    workload = workload_with()
    assert (workload.mode, workload.stale.mode) == (Mode.SCALE, Mode.SCALE)
    assert workload.service_level is not None
    assert not workload.service_level.steering.observing


def test_the_plan_knows_how_long_it_has_to_last() -> None:
    workload = workload_with(INTERVAL="7m", STALE_AFTER="10m")
    assert workload.service_level is not None
    assert workload.service_level.interval == 420.0


def test_a_plan_by_service_level_uses_the_settings_of_its_workload() -> None:
    given = {"LEAD_TIME": "8m", "STALE_AFTER": "3m", "SERVICE_LEVEL": "0.995", "HEADROOM": "1.4", "INTERVAL": "45s"}
    workload = workload_with(**given, REACTIVE_HEADROOM="1.3")
    steering = SteeringSettings(workload.policy, 0.995, 480.0, 180.0)
    assert workload.service_level == ServiceLevelSettings(steering, 1.4, 1.3, interval=45.0)
    without_floor = workload_with(**given, REACTIVE_FLOOR="false")
    assert without_floor.service_level == ServiceLevelSettings(steering, 1.4, None, interval=45.0)
    assert workload_with(MODEL="baseline").service_level is None
