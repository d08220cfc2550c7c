# SPDX-License-Identifier: Apache-2.0
"""Trigger metadata as a workload: the keys of a ForecastPolicy, KEDA's own keys, and no address."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedastral.errors import ConfigError
from kedastral.settings.commands import RunSettings
from kedastral.settings.fleet import ConfiguredFleet, WorkloadSettings
from kedastral.settings.load import load
from kedastral.settings.metadata import METADATA_KEYS, describes_a_workload
from tests.settings.fleets import load_fleet, policy, source, write

ALLOW = {"--allow-scaledobject-workloads": "true"}
FROM_KEDA = {"scalerAddress": "kedastral:8080", "enableTLS": "true", "unsafeSsl": "false", "activation": "3"}
TENANT = source("tenant", "  allowedNamespaces: [shop]\n")


def fleet_of(flags: dict[str, str] | None = None) -> ConfiguredFleet:
    return load(RunSettings, {"--prom-url": "http://p", **ALLOW, **(flags or {})}, {}).settings.fleet


def read(metadata: dict[str, str], flags: dict[str, str] | None = None) -> WorkloadSettings:
    return fleet_of(flags).workload_from_metadata("shop", "web", metadata)


def problems_of(metadata: dict[str, str], fleet: ConfiguredFleet | None = None, namespace: str = "shop") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        (fleet or fleet_of()).workload_from_metadata(namespace, "web", metadata)
    assert all(line.isprintable() for line in caught.value.problems)
    return list(caught.value.problems)


def test_a_query_is_enough() -> None:
    workload = read({"query": "up", **FROM_KEDA})
    assert (workload.key, workload.query, workload.data_source) == ("shop/web", "up", "default")
    assert workload.origin == "ScaledObject shop/web"


def test_every_setting_is_said_in_the_words_of_a_policy() -> None:
    workload = read(
        {
            "query": "up", "workload": "api", "targetPerPod": "50", "leadTime": "2m", "serviceLevel": "0.95",
            "min": "1", "reactiveFloor": "false", "onStale": "error", "timezone": "Europe/Berlin", "model": "auto",
        }
    )  # fmt: skip
    assert workload.key == "shop/api"
    assert (workload.plan.target_per_pod, workload.plan.min_replicas) == (50, 1)
    assert (workload.serving.lead_time, workload.serving.reactive_floor) == (120, False)
    assert (workload.forecast.model, workload.stale.on_stale) == ("auto", "error")


def test_keda_may_have_taken_any_value_from_a_variable(tmp_path: Path) -> None:
    assert read({"queryFromEnv": "up", "targetPerPodFromEnv": "70"}).plan.target_per_pod == 70
    fleet = load_fleet(write(tmp_path, source("one"), source("two"), policy(dataSource="one")), ALLOW)
    metadata = {"queryFromEnv": "up", "dataSourceFromEnv": "two", "workloadFromEnv": "api", "activationFromEnv": "3"}
    workload = fleet.workload_from_metadata("shop", "web", metadata)
    assert (workload.key, workload.data_source) == ("shop/api", "two")


@pytest.mark.parametrize("key", ["query", "dataSource", "workload", "activation", "targetPerPod"])
def test_a_value_and_one_of_a_variable_are_one_too_many(key: str) -> None:
    value = "5" if key in ("activation", "targetPerPod") else "default"
    metadata = {"query": "up"} | dict.fromkeys((key, key + "FromEnv"), value)
    assert problems_of(metadata) == [f"trigger metadata: {key} and {key}FromEnv exclude each other; remove one"]


def test_what_is_wrong_with_a_value_of_a_variable_is_told_by_its_key() -> None:
    problems = problems_of({"query": "up", "workloadFromEnv": "a/b", "dataSourceFromEnv": "x", "minFromEnv": "no"})
    assert [line.split()[2] for line in problems] == ["minFromEnv", "workloadFromEnv", "dataSourceFromEnv"]


def test_what_is_blank_around_the_value_of_a_variable_is_no_part_of_it() -> None:
    values = {"query": "up", "targetPerPod": "100", "leadTime": "2m", "model": "auto", "onStale": "error", "max": "9"}
    values |= {"workload": "api", "dataSource": "default", "activation": "3", "timezone": "UTC", "reactiveFloor": "no"}
    for text in (" {} ", "{}\n"):
        assert read({f"{key}FromEnv": text.format(value) for key, value in values.items()}) == read(values)


def test_the_value_of_a_variable_is_never_shown_where_it_is_wrong() -> None:
    keys = [key for key in (*METADATA_KEYS, "dataSource", "workload") if key not in ("query", "metric")]
    lines = problems_of({"query": "up"} | {f"{key}FromEnv": "s3/cret" for key in keys})
    assert [key for key in keys if not any(f" {key}FromEnv must be " in line for line in lines)] == []
    assert "s3" not in "".join(lines)
    [line] = problems_of({"query": "up", "leadTimeFromEnv": "1h"})
    assert line == "trigger metadata: leadTimeFromEnv must be shorter than the horizon (30m); change it there"


def test_all_that_is_wrong_is_said_at_once_and_in_the_same_order_however_keda_sends_it() -> None:
    metadata = {"query": "up", "interval": "1s", "min": "x", "activation": "-1", "dataSource": "y", "Max": "3"}
    problems = problems_of(metadata)
    assert sorted(line.split()[2] for line in problems) == ["Max", "activation", "dataSource", "interval", "min"]
    assert problems_of(dict(reversed(metadata.items()))) == problems


def test_a_flag_beyond_the_limits_of_scaledobjects_is_blamed_with_what_the_author_can_do() -> None:
    assert problems_of({"query": "up"}, fleet_of({"--interval": "1s"})) == [
        "--interval must be at least 5s; set interval in the trigger metadata"
    ]
    assert read({"query": "up", "interval": "10s"}, {"--interval": "1s"}).forecast.interval == 10


def test_the_same_metadata_are_the_same_workload() -> None:
    assert read({"query": "up", "min": "1"}) == read({"min": "1", "query": "up", "scalerAddress": "other"})


def test_flags_hold_where_metadata_say_nothing() -> None:
    flags = {"--lead-time": "4m", "--min": "3"}
    workload = read({"query": "up", "min": "1"}, flags)
    assert (workload.serving.lead_time, workload.plan.min_replicas) == (240, 1)


def test_flags_beside_a_named_workload_are_about_that_one_alone() -> None:
    workload = read({"query": "up"}, {"--lead-time": "4m", "--workload": "own", "--prom-query": "down"})
    assert (workload.serving.lead_time, workload.query) == (300, "up")


@pytest.mark.parametrize(
    ("metadata", "wrong"),
    [
        ({"targetPerPod": "x"}, "targetPerPod must be a finite number, got 'x'; change it there"),
        (
            {"targetPerPod": "1e-300"},
            "targetPerPod must be greater than 0 by more than 1e-09, got '1e-300'; change it there",
        ),
        ({"min": "5.9"}, "min must be a whole number, got '5.9'; change it there"),
        (
            {"prewarmSteps": "31"},
            "prewarmSteps must not reach past the horizon (30m, in steps of 1m), got '31'; change it there",
        ),
        ({"min": "9", "max": "3"}, "min must not be above max (3), got '9'; change it there"),
        ({"leadTime": "1h"}, "leadTime must be shorter than the horizon (30m), got '1h'; change it there"),
        ({"leadTimeFromEnv": ""}, "leadTimeFromEnv must be a duration such as 30s, 5m, 1h30m or 14d; change it there"),
        ({"query": " "}, "query must be text, not empty, got ' '; change it there"),
        ({"workload": "a/b"}, "workload must be a name without /, got 'a/b'; change it there"),
        ({"targetPerPodd": "5"}, "targetPerPodd is unknown; did you mean targetPerPod?"),
        ({"scalerAdress": "5"}, "scalerAdress is unknown; did you mean scalerAddress?"),
        ({"lead_time": "5m"}, "lead_time is unknown; did you mean leadTime?"),
        ({"minimum": "5"}, "minimum is unknown; did you mean min?"),
        ({"minReplicaCount": "5"}, "minReplicaCount is unknown; did you mean min?"),
        ({"threshold": "5"}, "threshold is unknown; did you mean targetPerPod?"),
        ({"x\ny": "5"}, "x?y is unknown; there are workload, dataSource, query"),
        ({"interval": "1s"}, "interval must be at least 5s, got '1s'; change it there"),
        ({"window": "60d"}, "window must be at most 50000 steps of 1m, got '60d'; change it there"),
        ({"step": "5s"}, "window must be at most 50000 steps of 5s, but is '14d' by default; set it there"),
        ({"intervalFromEnv": "1s"}, "intervalFromEnv must be at least 5s; change it there"),
        ({"activation": "x"}, "activation must be a number of at least 0, got 'x'; change it there"),
        ({"activation": "1_0"}, "activation must be a number of at least 0, got '1_0'; change it there"),
        ({"activationFromEnv": "-1"}, "activationFromEnv must be a number of at least 0; change it there"),
        ({"metricType": "Value"}, "metricType is not allowed there; it belongs beside metadata, next to type"),
        ({"modelUrl": "http://evil"}, "modelUrl is not allowed there; addresses are configured where Kedastral runs"),
        ({"serverAddress": "http://evil"}, "serverAddress is not allowed there; addresses are configured"),
        ({"url": "http://evil"}, "url is not allowed there; addresses are configured where Kedastral runs"),
        ({"dataSource": "x"}, "dataSource must be one that namespace shop may use, got 'x'; there is default"),
    ],
    ids=str,
)
def test_a_bad_value_is_one_line_in_the_words_of_the_metadata(metadata: dict[str, str], wrong: str) -> None:
    [problem] = problems_of({"query": "up"} | metadata)
    assert problem.startswith(f"trigger metadata: {wrong}")


def test_the_model_over_http_is_the_operators_to_allow() -> None:
    [problem] = problems_of({"query": "up", "model": "http"})
    assert problem.startswith("--model-url is required by the http model; set it with --model-url")
    workload = read({"query": "up", "model": "http"}, {"--model-url": "http://m"})
    assert workload.forecast.model_url == "http://m"


def test_all_problems_come_at_once() -> None:
    assert len(problems_of({"targetPerPod": "x", "minn": "1", "dataSource": "y", "modelUrl": "z"})) == 5


def test_only_sources_that_allow_the_namespace_can_be_used(tmp_path: Path) -> None:
    fleet = load_fleet(write(tmp_path, TENANT, source("open"), policy(dataSource="open")), ALLOW)
    assert fleet.workload_from_metadata("shop", "web", {"query": "up", "dataSource": "tenant"}).data_source == "tenant"
    assert fleet.workload_from_metadata("other", "web", {"query": "up"}).data_source == "open"
    assert problems_of({"query": "up", "dataSource": "tenant"}, fleet, "other") == [
        "trigger metadata: dataSource must be one that namespace other may use, got 'tenant'; there is open"
    ]
    assert problems_of({"query": "up"}, fleet) == [
        "trigger metadata: dataSource is required; there are tenant, open for namespace shop"
    ]


def test_a_namespace_without_a_source_is_told_so(tmp_path: Path) -> None:
    fleet = load_fleet(write(tmp_path, TENANT), ALLOW)
    assert problems_of({"query": "up"}, fleet, "other") == [
        "trigger metadata: dataSource is required; there is none for namespace other"
    ]


def test_metadata_that_only_name_a_workload_describe_none() -> None:
    assert not describes_a_workload({"workload": "web", **FROM_KEDA})
    assert not describes_a_workload({"workloadFromEnv": "web", "activationFromEnv": "3", **FROM_KEDA})
    for key in (*METADATA_KEYS, "dataSource", "queryFromEnv", "dataSourceFromEnv"):
        assert describes_a_workload({"workload": "web", key: "x"})


@pytest.mark.parametrize(("key", "meant"), [("Query", True), ("qurey", True), ("targetPerPods", True), ("team", False)])
def test_a_word_that_is_nearly_right_describes_a_workload_too(key: str, meant: bool) -> None:
    assert describes_a_workload({key: "x", **FROM_KEDA}) == meant


FLEET = fleet_of()


@given(
    st.dictionaries(
        st.builds(
            str.__add__,
            st.sampled_from([*METADATA_KEYS, "dataSource", "workload", "activation", "scalerAddress"]),
            st.sampled_from(["", "FromEnv"]),
        )
        | st.text(max_size=20),
        st.text(max_size=20) | st.sampled_from(["5", "5m", "1e999", "auto", "true", "UTC", "http", "\ud800"]),
    ),
    st.text(max_size=10),
)
def test_any_metadata_are_a_workload_or_lines_about_it(metadata: dict[str, str], namespace: str) -> None:
    try:
        workload = FLEET.workload_from_metadata(namespace, "web", metadata)
    except ConfigError as error:
        problems = error.problems
    else:
        assert workload.data_source == "default"
        return
    assert problems
    assert all(line.isprintable() and len(line) < 900 for line in problems)
