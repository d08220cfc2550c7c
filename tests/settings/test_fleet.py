# SPDX-License-Identifier: Apache-2.0
"""Many workloads and data sources: from files, beside flags, and read again."""

import gc
from pathlib import Path

import pytest
import trustme

from kedastral import cooperative
from kedastral.errors import ConfigError
from kedastral.settings.commands import ForecasterSettings, RunSettings
from kedastral.settings.fleet import WorkloadSettings
from kedastral.settings.load import load
from kedastral.settings.schema import settings_of
from tests.settings.fleets import EXAMPLES, load_fleet, policy, problems_of, source, write

FLAGS = {"--workload": "web", "--prom-url": "http://p:9090", "--prom-query": "up"}


# what is loaded


def test_flags_alone_are_a_fleet_of_one() -> None:
    for kind in (RunSettings, ForecasterSettings):
        fleet = load(kind, FLAGS | {"--lead-time": "2m", "--stale-after": "3m"}, {}).settings.fleet.settings
        assert list(fleet.sources) == ["default"]
        assert fleet.sources["default"].url == "http://p:9090"
        [workload] = fleet.workloads.values()
        assert (workload.key, workload.query, workload.data_source) == ("web", "up", "default")
        assert (workload.serving.lead_time, workload.stale.stale_after) == (120, 180)
        assert workload.origin == "flags and variables"


def test_the_fleet_of_one_has_the_settings_of_the_process() -> None:
    loaded = load(RunSettings, FLAGS | {"--model": "auto", "--min": "1", "--service-level": "0.9"}, {})
    workload = loaded.settings.fleet.settings.workloads["web"]
    for group in (workload.forecast, workload.plan, workload.level, workload.serving, workload.stale):
        for setting in settings_of(type(group)):
            assert getattr(group, setting.name) == loaded.values[setting.name]


def test_the_examples_load() -> None:
    paths = [EXAMPLES / "example-datasource.yaml", EXAMPLES / "example-forecastpolicy.yaml"]
    [source_of_example] = load_fleet(paths[0], {"--allow-scaledobject-workloads": "true"}).settings.sources.values()
    assert source_of_example.login.headers == (("X-Scope-OrgID", "shop"),)
    [workload] = load_fleet(paths[1], {"--prom-url": "http://p"}).settings.workloads.values()
    assert (workload.key, workload.forecast.model, workload.plan.target_per_pod) == ("shop/web", "auto", 200)
    assert workload.forecast.timezone.key == "Europe/Berlin"


def test_the_examples_load_together(tmp_path: Path) -> None:
    for name in ("example-datasource.yaml", "example-forecastpolicy.yaml"):
        (tmp_path / name).write_text((EXAMPLES / name).read_text())
    fleet = load_fleet(tmp_path).settings
    assert fleet.workloads["shop/web"].data_source == "prometheus"
    assert fleet.workloads["shop/web"].origin == f"{tmp_path}/example-forecastpolicy.yaml, document 1"


def test_a_key_is_the_namespace_and_the_name(tmp_path: Path) -> None:
    path = write(
        tmp_path, source(), policy("web", "a"), policy("web", "b"), policy("web"), policy("x", "a", workload="y")
    )
    assert list(load_fleet(path).settings.workloads) == ["a/web", "b/web", "web", "a/y"]


def test_a_source_says_all_there_is_to_say(tmp_path: Path) -> None:
    issued = trustme.CA().issue_cert("kedastral")
    issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "pem"))
    (tmp_path / "header").write_text("from-file\n")
    more = f"""
  auth: {{username: joe, passwordEnv: PW}}
  tls: {{caFile: {tmp_path}/pem, certFile: {tmp_path}/pem, keyFile: {tmp_path}/pem}}
  headers:
    - {{name: X-Tenant, value: shop}}
    - {{name: Cookie, valueEnv: COOKIE}}
    - {{name: Authorization, valueFile: {tmp_path}/header}}
  queryParams: {{dedup: "true", max_source_resolution: 5m}}
  timeout: 3s
  limits: {{maxConcurrent: 2, maxPerSecond: 0.5}}
  allowedNamespaces: [a, b]
"""
    fleet = load_fleet(write(tmp_path, source("s", more), policy()), env={"PW": "hush\n", "COOKIE": "hush"})
    made = fleet.settings.sources["s"]
    assert made.login.password is not None
    assert made.login.password.reveal() == "hush"
    assert made.login.headers == (("X-Tenant", "shop"), ("Cookie", "hush"), ("Authorization", "from-file"))
    assert made.login.query_params == (("dedup", "true"), ("max_source_resolution", "5m"))
    assert (made.timeout, made.max_concurrent, made.max_per_second) == (3, 2, 0.5)
    assert made.namespaces == {"a", "b"}
    assert made.login.cert_file == tmp_path / "pem"
    assert "hush" not in repr(fleet)


def test_no_namespaces_are_not_all_namespaces(tmp_path: Path) -> None:
    fleet = load_fleet(write(tmp_path, source("none", "  allowedNamespaces: []\n"), policy(dataSource="none")))
    assert fleet.settings.sources["none"].namespaces == frozenset()


def test_what_kubernetes_adds_to_an_object_is_ignored(tmp_path: Path) -> None:
    text = policy().replace("{name: web}", "{name: web, uid: x, resourceVersion: '1', labels: {a: b}, annotations: {}}")
    path = write(tmp_path, source(), text + "status: {anything: [1]}\n")
    assert list(load_fleet(path).settings.workloads) == ["web"]


# which source


def test_a_workload_reads_the_source_it_names_else_that_of_the_flags_else_the_only_one(tmp_path: Path) -> None:
    path = write(tmp_path, source("a"), policy("x"), policy("y", dataSource="a"))
    alone = load_fleet(path).settings.workloads
    beside = load_fleet(path, {"--prom-url": "http://p"}).settings.workloads
    assert [alone[key].data_source for key in ("x", "y")] == ["a", "a"]
    assert [beside[key].data_source for key in ("x", "y")] == ["default", "a"]


def test_with_several_sources_one_must_be_named(tmp_path: Path) -> None:
    assert problems_of(write(tmp_path, source("a"), source("b"), policy())) == (
        "config.yaml, document 3: spec.dataSource is required; name one of a, b there",
    )
    path = write(tmp_path, source("a"), source("default"), policy())
    assert load_fleet(path).settings.workloads["web"].data_source == "default"


def test_a_source_that_is_broken_is_still_one_that_is_named(tmp_path: Path) -> None:
    broken = source("a").replace("http:", "ftp:")
    assert problems_of(write(tmp_path, broken, policy(dataSource="a"))) == (
        "config.yaml, document 1: spec.url must be an http:// or https:// URL, got 'ftp://a:9090'; change it there",
    )


# which of two takes precedence


def spans(fleet_of: dict[str, WorkloadSettings]) -> dict[str, float]:
    return {key: workload.serving.lead_time for key, workload in fleet_of.items()}


def test_a_flag_wins_over_its_variable_which_wins_over_the_file_which_wins_over_the_default(tmp_path: Path) -> None:
    path = write(tmp_path, source(), policy("a", leadTime="2m"), policy("b"))
    flag, variable = {"--lead-time": "4m"}, {"LEAD_TIME": "3m"}
    assert spans(dict(load_fleet(path).settings.workloads)) == {"a": 120, "b": 300}
    assert spans(dict(load_fleet(path, {}, variable).settings.workloads)) == {"a": 180, "b": 180}
    assert spans(dict(load_fleet(path, flag, variable).settings.workloads)) == {"a": 240, "b": 240}
    assert load_fleet(path, {}, variable).warnings == (f"LEAD_TIME wins over spec.leadTime of a in {path}, document 2",)


def test_flags_beside_a_named_workload_are_about_that_one_alone(tmp_path: Path) -> None:
    path = write(tmp_path, source(), policy("a", "shop", leadTime="2m"), policy("b", leadTime="2m"))
    of_file = load_fleet(path, {"--workload": "shop/a", "--lead-time": "4m"})
    assert spans(dict(of_file.settings.workloads)) == {"shop/a": 240, "b": 120}
    of_flags = load_fleet(path, {"--workload": "c", "--prom-query": "up", "--lead-time": "4m"})
    assert spans(dict(of_flags.settings.workloads)) == {"shop/a": 120, "b": 120, "c": 240}
    assert of_flags.settings.workloads["c"].data_source == "prom"
    assert of_flags.warnings == ()


def test_the_query_of_a_file_may_be_replaced_for_the_workload_that_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, source(), policy("a"))
    fleet = load_fleet(path, {"--workload": "a", "--prom-query": "down"})
    assert fleet.settings.workloads["a"].query == "down"


def test_flags_that_contradict_the_files_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, source(), policy())
    assert problems_of(path, {"--prom-query": "up"}) == (
        "--prom-query must be given with --workload, since one workload has one query; set both or neither",
    )
    assert problems_of(path, {"--workload": "other"}) == (
        "--prom-query is required with --workload, which no document describes; set it with --prom-query or PROM_QUERY",
    )
    path = write(tmp_path, source("default"), policy())
    assert problems_of(path, {"--prom-url": "http://p"}) == (
        "config.yaml, document 1: data source default already exists, from --prom-url; give one another name",
    )


def test_a_login_without_its_address_is_warned_of(tmp_path: Path) -> None:
    path = write(tmp_path, source(), policy())
    [warning] = load_fleet(path, {"--prom-username": "joe"}, {"PROM_PASSWORD": "x"}).warnings
    assert warning.startswith("--prom-username is not used: it goes with --prom-url")


def test_a_flag_that_breaks_a_workload_of_a_file_names_both(tmp_path: Path) -> None:
    path = write(tmp_path, source(), policy(horizon="10m", leadTime="2m"))
    assert problems_of(path, {"--lead-time": "20m"}) == (
        (
            "--lead-time must be shorter than the horizon (10m), got '20m' from --lead-time; "
            "set it with --lead-time or LEAD_TIME (web in config.yaml, document 2)"
        ),
    )


def test_a_flag_that_is_wrong_for_many_workloads_is_one_line(tmp_path: Path) -> None:
    path = write(tmp_path, source(), *(policy(f"w{number}") for number in range(500)))
    [problem] = problems_of(path, {"--lead-time": "1h"})
    assert problem.endswith("LEAD_TIME (w0 in config.yaml, document 2, and 499 more)")
    [warning] = load_fleet(path, {"--stale-after": "10s"}).warnings
    assert warning.endswith(f"STALE_AFTER (w0 in {path}, document 2, and 499 more)")


def test_a_flag_is_called_by_its_name_where_it_breaks_the_line_of_a_file(tmp_path: Path) -> None:
    assert problems_of(write(tmp_path, source(), policy(min="3")), {"--max": "2"}) == (
        "config.yaml, document 2: spec.min must not be above --max (2), got '3'; change it there",
    )


def test_a_flag_that_does_not_fit_the_defaults_may_fit_the_files(tmp_path: Path) -> None:
    path = write(tmp_path, source(), policy(horizon="1h"))
    assert load_fleet(path, {"--lead-time": "40m"}).settings.workloads["web"].serving.lead_time == 2400


# nothing at all


def test_files_without_a_workload_are_refused_unless_scaledobjects_bring_them(tmp_path: Path) -> None:
    path = write(tmp_path, source())
    [problem] = problems_of(path)
    assert problem.startswith("--config names no workload; add a ForecastPolicy")
    [problem] = problems_of(path, {"--min": "x"})
    assert problem.startswith("--min must be a whole number")
    assert load_fleet(path, {"--allow-scaledobject-workloads": "true"}).settings.workloads == {}


def test_scaledobjects_alone_need_a_data_source_and_nothing_more() -> None:
    fleet = load(RunSettings, {"--allow-scaledobject-workloads": "true", "--prom-url": "http://p"}, {}).settings.fleet
    assert (list(fleet.settings.sources), list(fleet.settings.workloads)) == (["default"], [])
    with pytest.raises(ConfigError, match="--prom-url is required"):
        load(RunSettings, {"--allow-scaledobject-workloads": "true"}, {})
    with pytest.raises(ConfigError, match="--workload is required"):
        load(RunSettings, {"--allow-scaledobject-workloads": "false", "--prom-url": "http://p"}, {})


def test_a_config_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    assert problems_of(tmp_path / "gone") == (
        (
            "--config must be an existing file or folder (No such file or directory), got 'gone' from --config; set it "
            "with --config or KEDASTRAL_CONFIG"
        ),
    )


# reloads


def test_reading_again_sees_the_files_of_now_and_the_flags_of_then(tmp_path: Path) -> None:
    path = write(tmp_path, source(), policy("a"), policy("b", min="3"))
    before = load_fleet(path, {"--lead-time": "4m"})
    write(tmp_path, policy("a"), policy("c"), source())
    after = before.read_again()
    assert list(after.settings.workloads) == ["a", "c"]
    assert after.settings.workloads["a"] == before.settings.workloads["a"]
    assert after.settings.workloads["c"].serving.lead_time == 240


def test_reading_what_is_broken_again_raises_all_problems_and_changes_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, source(), policy("a"))
    fleet = load_fleet(path)
    write(tmp_path, source(), policy("a", min="x", leadTime="1h"))
    with pytest.raises(ConfigError) as caught:
        fleet.read_again()
    assert len(caught.value.problems) == 2
    path.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        fleet.read_again()
    assert list(fleet.settings.workloads) == ["a"]


def test_flags_alone_read_again_are_the_same() -> None:
    fleet = load(RunSettings, FLAGS, {}).settings.fleet
    assert fleet.read_again() == fleet


def test_reading_again_leaves_the_interpreter_to_others_and_garbage_lying(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 3 * cooperative.STEPS_BEFORE_PAUSE
    fleet = load_fleet(write(tmp_path, source(), *(policy(f"w{number}") for number in range(count))))
    collecting: list[bool] = []
    monkeypatch.setattr(cooperative.time, "sleep", lambda _seconds: collecting.append(gc.isenabled()))
    assert gc.isenabled()
    assert len(fleet.read_again().settings.workloads) == count
    assert gc.isenabled()
    assert len(collecting) >= 9  # parsed, read and put together
    assert not any(collecting)


def test_garbage_is_collected_again_though_nothing_could_be_read(tmp_path: Path) -> None:
    fleet = load_fleet(write(tmp_path, source(), policy("a")))
    write(tmp_path, "{")
    with pytest.raises(ConfigError):
        fleet.read_again()
    assert gc.isenabled()


def test_a_target_that_documents_leave_out_is_one_warning(tmp_path: Path) -> None:
    bare = "apiVersion: kedastral.io/v1alpha1\nkind: ForecastPolicy\nmetadata: {name: w%d}\nspec: {query: up}\n"
    path = write(tmp_path, source(), *(bare % number for number in range(500)), policy("told", targetPerPod="50"))
    [warning] = load_fleet(path).warnings
    assert warning == (
        "spec.targetPerPod is not given, so that 200 is assumed: the load of one pod decides almost everything; set it "
        f"there (w0 in {path}, document 2, and 499 more)"
    )
    assert load_fleet(path, {"--target-per-pod": "70"}).warnings[1:] == ()


def test_what_does_nothing_in_a_document_has_the_names_of_the_document(tmp_path: Path) -> None:
    path = write(tmp_path, source(), policy(model="baseline", serviceLevel="0.95", reactiveFloor="false"))
    [warning] = load_fleet(path).warnings
    assert warning.endswith(
        "spec.serviceLevel is not used, since baseline plans by spec.headroom; it steers auto; remove it, or change "
        "that"
    )
