# SPDX-License-Identifier: Apache-2.0
"""The metrics: names, types and labels exactly as in the contract, and values that are current at the scrape."""

from datetime import timedelta

import attrs
import pytest
import trio
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from trio.testing import MockClock

from kedastral.core.failures import Failure
from kedastral.errors import ModelError, RemoteError, SourceError, StoreError
from kedastral.serving.metrics import Metrics, observe_seconds
from kedastral.serving.store import MemoryStore
from tests.kept import make_steered_snapshot
from tests.parts import make_snapshot, wall_clock

CONTRACT = {
    "kedastral_adapter_collect_seconds": ("histogram", {"adapter"}),
    "kedastral_model_predict_seconds": ("histogram", {"model"}),
    "kedastral_capacity_compute_seconds": ("histogram", set()),
    "kedastral_forecast_age_seconds": ("gauge", {"workload"}),
    "kedastral_desired_replicas": ("gauge", {"workload"}),
    "kedastral_errors_total": ("counter", {"component", "reason"}),
    "kedastral_scaler_requests_total": ("counter", {"method", "status"}),
    "kedastral_scaler_snapshot_stale_total": ("counter", set()),
    "kedastral_scaler_returned_replicas": ("gauge", {"workload"}),
}
MORE = {
    "kedastral_workload_failing": ("gauge", {"workload", "component", "reason"}),
    "kedastral_ticks_missed_total": ("counter", {"workload"}),
    "kedastral_tick_lag_seconds": ("histogram", set()),
    "kedastral_config_reloads_total": ("counter", {"result"}),
    "kedastral_log_lines_dropped_total": ("counter", set()),
    "kedastral_config_last_reload_successful": ("gauge", set()),
    "kedastral_build_info": ("gauge", {"version"}),
    "kedastral_observed_load": ("gauge", {"workload"}),
    "kedastral_settling_seconds": ("gauge", {"workload"}),
    "kedastral_partial_answer": ("gauge", {"workload"}),
    "kedastral_outlier_points": ("gauge", {"workload"}),
    "kedastral_lost_series": ("gauge", {"workload"}),
    "kedastral_raw_counter": ("gauge", {"workload"}),
    "kedastral_replicas_without_max": ("gauge", {"workload"}),
    "kedastral_forecast_load": ("gauge", {"workload"}),
    "kedastral_scaler_request_seconds": ("histogram", {"method"}),
    "kedastral_forecast_status": ("gauge", {"workload", "status"}),
    "kedastral_model_learn_seconds": ("histogram", {"model"}),
    "kedastral_kept_saves_total": ("counter", {"kind"}),
    "kedastral_kept_bytes_total": ("counter", {"kind"}),
    "kedastral_unsaved_states": ("gauge", set()),
    "kedastral_lost_states_total": ("counter", set()),
    # without samples here, since this snapshot is not steered
    "kedastral_upper_load": ("gauge", set()),
    "kedastral_steering_factor": ("gauge", set()),
    "kedastral_service_level_target": ("gauge", set()),
    "kedastral_budget_spent_ratio": ("gauge", set()),
    "kedastral_short_minutes": ("gauge", set()),
    "kedastral_short_minutes_at_max": ("gauge", set()),
    "kedastral_steering_at_cap": ("gauge", set()),
    "kedastral_steering_hold_seconds": ("gauge", set()),
    "kedastral_steering_seasonal_quantile": ("gauge", set()),
    "kedastral_standing_down": ("gauge", set()),
    "kedastral_quantile_coverage_ratio": ("gauge", set()),
    "kedastral_forecast_loss_ratio": ("gauge", set()),
    "kedastral_lead_error_ratio": ("gauge", set()),
    "kedastral_expert_weight_ratio": ("gauge", set()),
    "kedastral_expert_error_ratio": ("gauge", set()),
    "kedastral_needed_pod_seconds_total": ("counter", set()),
    "kedastral_unserved_pod_seconds_total": ("counter", set()),
    "kedastral_spare_pod_seconds_total": ("counter", set()),
    "kedastral_short_seconds_total": ("counter", set()),
}


async def use_all() -> Metrics:
    """Metrics each of which has been used once."""
    metrics, store = Metrics(), MemoryStore()
    await store.put(attrs.evolve(make_snapshot(), replicas_without_max=14))
    metrics.show_snapshots(store, wall_clock())
    metrics.show_failures(lambda: {"shop": Failure(wall_clock().now(), "source", "refused")})
    metrics.collect_seconds.labels("prometheus").observe(0.2)
    metrics.predict_seconds.labels("baseline").observe(0.2)
    metrics.learn_seconds.labels("auto").observe(0.2)
    metrics.plan_seconds.observe(0.2)
    metrics.count_error(SourceError("away", reason="unreachable"))
    metrics.ticks_missed.labels("shop").inc()
    metrics.tick_lag_seconds.observe(0.01)
    metrics.reloads.labels("success").inc()
    metrics.saved.labels("state").inc()
    metrics.saved_bytes.labels("state").inc(100)
    metrics.scaler_requests.labels("GetMetrics", "OK").inc()
    metrics.scaler_seconds.labels("GetMetrics").observe(0.002)
    metrics.stale_answers.inc()
    metrics.returned_replicas.labels("shop").set(8)
    return metrics


def expose(metrics: Metrics) -> dict[str, Metric]:
    """Our own metric families by their exposed name."""
    families = text_string_to_metric_families(generate_latest(metrics.registry).decode())
    ours = [family for family in families if family.name.startswith("kedastral_")]
    return {family.name + ("_total" if family.type == "counter" else ""): family for family in ours}


async def test_names_types_and_labels_are_the_contracts(autojump_clock: MockClock) -> None:
    families = {name: family for name, family in expose(await use_all()).items() if not name.endswith("_created")}
    seen = {
        name: (family.type, {label for sample in family.samples for label in sample.labels} - {"le"})
        for name, family in families.items()
    }
    assert seen == {**CONTRACT, **MORE}


async def test_every_metric_says_what_it_is(autojump_clock: MockClock) -> None:
    assert all(family.documentation for family in expose(await use_all()).values())


async def test_counters_end_in_total_and_nothing_else_does(autojump_clock: MockClock) -> None:
    page = generate_latest((await use_all()).registry).decode()
    for line in page.splitlines():
        if line.startswith("# TYPE"):
            _, _, name, kind = line.split()
            assert name.endswith("_total") == (kind == "counter"), line


async def test_age_and_replicas_are_those_of_the_scrape(autojump_clock: MockClock) -> None:
    metrics = await use_all()

    def read(name: str) -> list[tuple[dict[str, str], float]]:
        return [(sample.labels, sample.value) for sample in expose(metrics)[name].samples]

    shop = {"workload": "shop"}
    assert read("kedastral_forecast_age_seconds") == [(shop, 0)]
    assert read("kedastral_desired_replicas") == [(shop, 8)]
    await trio.sleep(61)
    assert read("kedastral_forecast_age_seconds") == [(shop, 61)]
    assert read("kedastral_desired_replicas") == [(shop, 9)]


async def test_the_load_is_the_newest_measured_and_what_is_forecast_to_be_that_in_a_lead_time(
    autojump_clock: MockClock,
) -> None:
    """A measured load is that of the step before it: in two minutes, that of the forecast's second minute."""
    metrics, store, clock = Metrics(), MemoryStore(), wall_clock()
    await store.put(make_snapshot([1] * 4, made_at=clock.now(), lead=120, values=[1, 2, 3, 4]))
    metrics.show_snapshots(store, clock)

    def read(name: str) -> list[float]:
        return [sample.value for sample in expose(metrics)[name].samples]

    for seconds, load in ((0, 2.0), (59, 2.0), (1, 3.0), (60, 4.0)):
        await trio.sleep(seconds)
        assert (read("kedastral_observed_load"), read("kedastral_forecast_load")) == ([375.5], [load])
    await trio.sleep(60)
    assert read("kedastral_forecast_load") == [], "the forecast does not reach so far"


async def test_a_lead_time_within_the_first_step_has_its_forecast_and_a_plan_from_the_future_has_none(
    autojump_clock: MockClock,
) -> None:
    metrics, store, clock = Metrics(), MemoryStore(), wall_clock()
    metrics.show_snapshots(store, clock)
    for minutes, loads in ((0, [1.0]), (2, [])):
        made_at = clock.now() + timedelta(minutes=minutes)
        await store.put(make_snapshot([1] * 4, made_at=made_at, lead=30, values=[1, 2, 3, 4]))
        assert [sample.value for sample in expose(metrics)["kedastral_forecast_load"].samples] == loads


@pytest.mark.parametrize(
    ("load_cap", "planned_for"), [(None, [[30.0], [45.0], [60.0], []]), (50.0, [[30.0], [45.0], [50.0], []])]
)
async def test_what_pods_are_planned_for_is_the_upper_quantile_times_the_factor_a_lead_time_from_now_up_to_the_cap(
    autojump_clock: MockClock, load_cap: float | None, planned_for: list[list[float]]
) -> None:
    """Nothing once the forecast does not reach so far."""
    metrics, store, clock = Metrics(), MemoryStore(), wall_clock()
    made = make_snapshot([1] * 4, made_at=clock.now(), lead=120, values=[1, 2, 3, 4])
    report = attrs.evolve(make_steered_snapshot().service_level, upper=[10, 20, 30, 40], factor=1.5, load_cap=load_cap)
    await store.put(attrs.evolve(made, service_level=report))
    metrics.show_snapshots(store, clock)
    seen = []
    for _ in planned_for:
        seen.append([sample.value for sample in expose(metrics)["kedastral_upper_load"].samples])
        await trio.sleep(60)
    assert seen == planned_for


async def test_a_workload_without_a_forecast_has_neither_age_nor_replicas(autojump_clock: MockClock) -> None:
    metrics = Metrics()
    metrics.show_snapshots(MemoryStore(), wall_clock())
    families = expose(metrics)
    assert families["kedastral_forecast_age_seconds"].samples == []
    assert families["kedastral_desired_replicas"].samples == []


async def test_any_name_of_a_workload_makes_a_page_that_can_be_read(autojump_clock: MockClock) -> None:
    metrics, store = Metrics(), MemoryStore()
    names = {'a"b', "a\\b", "a b", "✓", "{}", "x" * 1000}
    for name in names:
        await store.put(make_snapshot(workload=name))
    metrics.show_snapshots(store, wall_clock())
    assert {s.labels["workload"] for s in expose(metrics)["kedastral_desired_replicas"].samples} == names


@pytest.mark.parametrize(
    ("kind", "component"),
    [(SourceError, "source"), (ModelError, "model"), (StoreError, "store"), (RemoteError, "client")],
)
def test_a_failure_is_counted_under_its_component_and_reason(
    kind: type[SourceError | ModelError | StoreError | RemoteError], component: str
) -> None:
    metrics = Metrics()
    for _ in range(3):
        metrics.count_error(kind("words", reason="why"))
    [sample] = [s for s in expose(metrics)["kedastral_errors_total"].samples if s.name.endswith("_total")]
    assert (sample.labels, sample.value) == ({"component": component, "reason": "why"}, 3)


def test_two_processes_worth_of_metrics_live_side_by_side() -> None:
    one, two = Metrics(), Metrics()
    one.stale_answers.inc()
    assert one.registry.get_sample_value("kedastral_scaler_snapshot_stale_total") == 1
    assert two.registry.get_sample_value("kedastral_scaler_snapshot_stale_total") == 0


def test_the_process_itself_is_shown() -> None:
    page = generate_latest(Metrics().registry).decode()
    for name in ("process_cpu_seconds_total", "process_open_fds", "python_info", "python_gc_collections_total"):
        assert f"\n{name}" in page


def test_what_fails_is_timed_too() -> None:
    seen: list[float] = []

    def fail() -> None:
        with observe_seconds(seen.append):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert len(seen) == 1
    assert seen[0] >= 0
