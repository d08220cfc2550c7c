# SPDX-License-Identifier: Apache-2.0
"""KEDA can read every ScaledObject and trigger in the documentation and in deploy/ as intended."""

import math
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from kedastral.cli.main import cli
from kedastral.core.forecast import Forecast
from kedastral.core.planning.snapshot import Mode, Snapshot
from kedastral.core.planning.stale_policy import OnStale, StalePolicy
from kedastral.core.serving import decide
from kedastral.settings.fleet import DataSourceSettings
from kedastral.settings.metadata import METADATA_KEYS, OWN_KEYS, read_workload
from kedastral.settings.resolve import ProcessInput
from kedastral.settings.types import HttpUrl
from kedastral.simulation.policies import LastWeek
from tests.docs.pages import PAGES, ROOT, bare, blocks, read, tables
from tests.e2e.pictures import FOLDER, PICTURES
from tests.loop.formula import Formula
from tests.parts import START

pytestmark = pytest.mark.slow

KEDA_PAGE = ROOT / "docs" / "keda.md"
OURS = ("external", "external-push")
KEDAS_KEYS = {"scalerAddress", "enableTLS"}
"""The metadata of an external trigger that KEDA itself reads, including ``unsafeSsl``, which nobody should set."""
NEVER_TAKES_PODS = {"currentReplicas", "currentReplicasIfHigher"}
TLS_PARAMETERS = {"caCert", "tlsClientCert", "tlsClientKey"}
Yaml = dict[str, Any]


@attrs.frozen
class Example:
    """One YAML document, and its place."""

    place: str
    document: Yaml

    @property
    def spec(self) -> Yaml:
        """The spec of a ScaledObject, or only a list of triggers."""
        found: Yaml = self.document.get("spec", self.document)
        return found

    @property
    def triggers(self) -> list[Yaml]:
        """All triggers."""
        return list(self.spec.get("triggers", ()))

    @property
    def ours(self) -> list[Yaml]:
        """The triggers that ask Kedastral."""
        return [trigger for trigger in self.triggers if trigger["type"] in OURS]


def documents_of(text: str, place: str) -> Iterator[Example]:
    for n, document in enumerate(yaml.safe_load_all(text)):
        if isinstance(document, dict):
            yield Example(f"{place}-{n}", document)


def all_examples() -> Iterator[Example]:
    for page in PAGES:
        for n, block in enumerate(blocks(read(page))):
            if block.language in ("yaml", "yml"):
                yield from documents_of(block.text, f"{page.relative_to(ROOT)}-{n}")
    made = sorted(file for file in (ROOT / "deploy").rglob("*.y*ml") if ROOT / "deploy" / "helm" not in file.parents)
    for file in made:  # the chart's templates are no YAML: tests/integration/test_chart.py renders them
        yield from documents_of(read(file), str(file.relative_to(ROOT)))


EXAMPLES = list(all_examples())
SCALING = [example for example in EXAMPLES if example.triggers]
OBJECTS = [example for example in SCALING if example.document.get("kind") == "ScaledObject"]
every_trigger = pytest.mark.parametrize(
    "trigger",
    [trigger for example in SCALING for trigger in example.triggers],
    ids=[f"{example.place}-{trigger['type']}" for example in SCALING for trigger in example.triggers],
)
every_object = pytest.mark.parametrize("example", OBJECTS, ids=[example.place for example in OBJECTS])


def types_below(node: Any) -> Iterator[str]:
    """Every ``metricType`` in a document."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "metricType":
                yield str(value)
            yield from types_below(value)
    elif isinstance(node, list):
        for item in node:
            yield from types_below(item)


def asks_prometheus(example: Example) -> bool:
    """Whether one of KEDA's own triggers asks Prometheus, beside ours."""
    return any(trigger["type"] == "prometheus" for trigger in example.triggers)


def test_there_is_a_recipe_for_each_way_to_use_it() -> None:
    here = [example for example in OBJECTS if example.place.startswith("docs/keda.md")]
    kinds = {
        "predictive and reactive": lambda e: (
            asks_prometheus(e) and "scalingModifiers" not in e.spec.get("advanced", {})
        ),
        "predictive and CPU": lambda e: [trigger["type"] for trigger in e.triggers] == ["external", "cpu"],
        "workload along": lambda e: any("query" in trigger["metadata"] for trigger in e.ours),
        "predictive alone": lambda e: len(e.triggers) == 1 and e.spec["minReplicaCount"] > 0,
        "from zero": lambda e: e.spec["minReplicaCount"] == 0,
        "one formula": lambda e: "scalingModifiers" in e.spec.get("advanced", {}),
        "tolerance": lambda e: "tolerance" in str(e.spec.get("advanced", {})),
        "fallback": lambda e: "fallback" in e.spec,
    }
    assert {name for name, fits in kinds.items() if any(map(fits, here))} == set(kinds)
    assert any(example.document.get("kind") == "TriggerAuthentication" for example in EXAMPLES)
    assert any("authenticationRef" in trigger for example in SCALING for trigger in example.ours)


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.place for example in EXAMPLES])
def test_nothing_is_ever_of_metric_type_value(example: Example) -> None:
    assert set(types_below(example.document)) <= {"AverageValue", "Utilization"}


@every_trigger
def test_a_trigger_says_where_to_ask_and_only_what_is_read(trigger: Yaml) -> None:
    if trigger["type"] not in OURS:
        return
    metadata = trigger["metadata"]
    table = next(table for table in tables(read(KEDA_PAGE)) if list(table[0]) == ["key", "meaning"])
    known = {bare(row["key"]) for row in table} | KEDAS_KEYS | METADATA_KEYS.keys() | OWN_KEYS
    assert metadata.keys() <= known
    assert "unsafeSsl" not in metadata
    assert re.fullmatch(r"[a-z0-9.-]+:\d+", metadata["scalerAddress"])
    assert trigger["metricType"] == "AverageValue"
    assert all(isinstance(value, str) for value in metadata.values()), "trigger metadata are text"
    assert float(metadata.get("activation", "0")) >= 0


def test_triggers_that_bring_their_workload_are_read_and_never_take_pods_for_want_of_data() -> None:
    bringing = [trigger["metadata"] for one in SCALING for trigger in one.ours if "query" in trigger["metadata"]]
    assert len(bringing) == 3, "configuration.md, keda.md and deploy/examples each show one"
    sources = {"prometheus": DataSourceSettings(url=HttpUrl("http://prometheus:9090"))}
    made = [read_workload(sources, ProcessInput(), "shop", "checkout", metadata) for metadata in bringing]
    assert {one.key for one in made} == {"shop/checkout"}
    assert {one.stale.on_stale for one in made} == {OnStale.RIDE_FORECAST}
    assert made[0] == made[1] == made[2]


@every_object
def test_a_scaled_object_says_its_bounds_and_asks_at_a_sensible_pace(example: Example) -> None:
    spec = example.spec
    assert 0 <= spec["minReplicaCount"] < spec["maxReplicaCount"], "KEDA's default minimum is 0: say which is meant"
    assert 10 <= spec.get("pollingInterval", 30) <= 60
    assert spec.get("cooldownPeriod", 300) >= 60
    sleeps, modified = spec["minReplicaCount"] == 0, "scalingModifiers" in spec.get("advanced", {})
    assert ("pollingInterval" in spec) <= (sleeps or modified), "KEDA warns: it has no effect"
    assert ("cooldownPeriod" in spec) <= sleeps, "KEDA warns: it has no effect"
    assert spec["scaleTargetRef"]["name"]


@every_object
def test_where_only_kedastral_is_asked_there_is_a_fallback_that_takes_no_pods(example: Example) -> None:
    if not example.ours:  # what docs/migrate.md begins with
        return
    if asks_prometheus(example) and "scalingModifiers" not in example.spec.get("advanced", {}):
        assert "fallback" not in example.spec, "Prometheus' death would begin it, whatever the plan knows"
        return
    fallback, spec = example.spec["fallback"], example.spec
    modified = "scalingModifiers" in spec.get("advanced", {})
    assert fallback["behavior"] in ({"scalingModifiers"} if modified else NEVER_TAKES_PODS)
    assert 0 < fallback["replicas"] <= spec["maxReplicaCount"], "0 makes an error of KEDA's an inactive workload"
    assert fallback["replicas"] >= spec["minReplicaCount"]
    assert fallback["failureThreshold"] >= 1


@every_object
def test_from_zero_a_stream_wakes_the_workload(example: Example) -> None:
    if example.spec["minReplicaCount"] == 0:
        assert [trigger["type"] for trigger in example.ours] == ["external-push"]
        assert {trigger["metadata"]["activation"] for trigger in example.ours} == {"0"}, "a plan of one pod is active"
        assert "scalingModifiers" not in example.spec.get("advanced", {}), "a formula that fails is inactive"


@every_object
def test_tolerances_are_zero_where_kedastral_is_asked(example: Example) -> None:
    behavior = example.spec.get("advanced", {}).get("horizontalPodAutoscalerConfig", {}).get("behavior")
    if behavior is None or not example.ours:  # the last: what docs/migrate.md begins with
        return
    assert {behavior[way]["tolerance"] for way in ("scaleUp", "scaleDown")} == {0}
    place = ROOT / re.sub(r"(-\d+)+$", "", example.place)
    assert "HPAConfigurableTolerance" in read(place)


# formulas


@every_object
def test_a_formula_takes_the_larger_of_both_and_goes_on_without_either(example: Example) -> None:
    modifiers = example.spec.get("advanced", {}).get("scalingModifiers")
    if modifiers is None:
        return
    predicted, reactive = example.triggers
    assert predicted in example.ours
    one, other, formula = predicted["name"], reactive["name"], Formula.of(modifiers["formula"])
    threshold = float(reactive["metadata"]["threshold"])
    assert (modifiers["target"], modifiers["metricType"]) == ("1", "AverageValue")
    assert formula.value({one: 20.0, other: 5 * threshold}) == 20
    assert formula.value({one: 3.0, other: 5 * threshold}) == 5
    assert formula.value({one: None, other: 5 * threshold}) == 5, "once it has failed long enough"
    assert formula.value({one: 20.0, other: None}) == 20, "the plan stays in force"
    assert formula.value({one: None, other: None}) is None, "then KEDA holds"


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("max(a ?? 0, b / 100)", 5),
        ("max(a ?? (b / 50), (a ?? 0) / 50)", 10),
        ("min(b, 3)", 3),
        ("a ?? b ?? 1", 500),
    ],
)
def test_the_formulas_are_read_as_written(text: str, result: float) -> None:
    assert Formula.of(text).value({"a": None, "b": 500.0}) == result


def test_a_trigger_authentication_gives_what_kedas_external_scaler_reads() -> None:
    found = [example for example in EXAMPLES if example.document.get("kind") == "TriggerAuthentication"]
    assert found
    for example in found:
        references = example.spec["secretTargetRef"]
        assert {reference["parameter"] for reference in references} <= TLS_PARAMETERS
        assert all(reference["name"] and reference["key"] for reference in references)
    for example in SCALING:
        for trigger in example.ours:
            if "authenticationRef" in trigger:
                assert trigger["metadata"]["enableTLS"] == "true"
                assert trigger["authenticationRef"]["name"] in {one.document["metadata"]["name"] for one in found}


# which answer, when

STALE_AFTER, LEAD, HORIZON = 120.0, 300.0, 1800.0
AGES = {
    "fresh": (0.0, STALE_AFTER),
    "stale, the last plan covers now + lead time": (STALE_AFTER + 1, HORIZON - LEAD - 1),
    "stale, the last plan is used up": (HORIZON - LEAD, 10 * HORIZON),
    "stale": (STALE_AFTER + 1, 10 * HORIZON),
    "no forecast since the start": (math.nan,),
    "`--mode observe`, fresh or stale": (0.0, HORIZON, math.nan),
}
ANSWERS = {
    "the plan": 7,
    "the last plan": 7,
    "UNAVAILABLE": None,
    "`--default-min`": 3,
    "0": 0,
}
ACTIVE = {"as the plan says": True, "UNAVAILABLE": None, "false": False}
STREAM = {"as the plan says": ("active",), "silent": ("held", "assumed"), "false": ("inactive",)}


def answer_table() -> list[dict[str, str]]:
    return next(table for table in tables(read(KEDA_PAGE)) if "situation" in table[0])


@pytest.mark.parametrize("row", answer_table(), ids=lambda row: f"{row['situation']} {row['`--on-stale`']}")
def test_the_table_of_answers_is_what_is_answered(row: dict[str, str]) -> None:
    if row["GetMetrics"] == "no answer":
        return
    made = Snapshot("shop", "rps", Forecast(START, 60.0, np.full(30, 700.0)), [7] * 30, LEAD)
    named = re.findall(r"[a-z-]+", row["`--on-stale`"])
    for on_stale in OnStale if named == ["any"] else [OnStale(name) for name in named if name != "or"]:
        mode = Mode.OBSERVE if "observe" in row["situation"] else Mode.SCALE
        policy = StalePolicy(STALE_AFTER, on_stale, default_min=3, mode=mode)
        for age in AGES[row["situation"]]:
            missing = math.isnan(age)
            now = START + timedelta(seconds=0 if missing else age)
            decision = decide(None if missing else made, now, policy)
            assert decision.replicas == ANSWERS[row["GetMetrics"]]
            told = None if decision.replicas is None else decision.is_active(0)
            assert told is ACTIVE[row["IsActive"]]
            assert decision.activity(0).value in STREAM[row["StreamIsActive"]]


def test_every_policy_is_in_the_table_for_every_age() -> None:
    rows = [row for row in answer_table() if "stale" in row["situation"] and "observe" not in row["situation"]]
    assert {name for row in rows for name in re.findall(r"[a-z-]+", row["`--on-stale`"])} == {*OnStale}


# the timelines


@pytest.mark.parametrize("name", PICTURES)
def test_a_timeline_is_drawn_from_what_was_recorded(name: str) -> None:
    assert PICTURES[name].source in read(FOLDER / f"{name}.svg"), "run `make docs`"
    assert f"](timelines/{name}.svg)" in read(KEDA_PAGE)


def test_no_timeline_is_left_over() -> None:
    assert {Path(file).stem for file in FOLDER.iterdir()} == set(PICTURES)


def test_every_case_that_the_page_names_is_one() -> None:
    linked = re.findall(r"\[(test_\w+)\]\(\.\./(tests/[\w/]+\.py)\)", read(KEDA_PAGE))
    assert len(linked) > 10
    for case, path in linked:
        assert f"def {case}(" in read(ROOT / path), case


# the migration

MIGRATION = ROOT / "docs" / "migrate.md"


def migration() -> list[Yaml]:
    """The specs of the ScaledObjects of docs/migrate.md: before, both triggers, Kedastral alone, from a plain HPA."""
    return [example.spec for example in OBJECTS if example.place.startswith("docs/migrate.md")]


def hpa_of(spec: Yaml) -> Yaml:
    found: Yaml = spec["advanced"]["horizontalPodAutoscalerConfig"]
    return found


def test_each_step_changes_what_the_table_says_and_nothing_else() -> None:
    before, both, alone, over = migration()
    steps = (before, both, alone)
    for key in ("scaleTargetRef", "minReplicaCount", "maxReplicaCount"):
        assert before[key] == both[key] == alone[key] == over[key]
    assert {hpa_of(spec)["name"] for spec in steps} == {"web-hpa"}, "the HPA keeps its name"
    assert both["triggers"] == [*alone["triggers"], *before["triggers"]], "the old threshold stays"
    exact = {"tolerance": 0}
    assert hpa_of(both)["behavior"] == {
        "scaleUp": exact,
        "scaleDown": {**hpa_of(before)["behavior"]["scaleDown"], **exact},
    }
    assert "fallback" not in both
    assert alone["fallback"] == {**before["fallback"], "behavior": "currentReplicasIfHigher"}
    assert [trigger["type"] for trigger in over["triggers"]] == ["external", "cpu"]


def test_the_files_of_the_migration_are_valid_and_agree_with_its_objects(tmp_path: Path) -> None:
    [files] = [block.text for block in blocks(read(MIGRATION)) if "kind: ForecastPolicy" in block.text]
    (tmp_path / "workloads.yaml").write_text(files)
    shown = CliRunner().invoke(cli, ["validate", "--config", str(tmp_path)])
    assert (shown.exit_code, "shop/web" in shown.output, "mode observe" in shown.output) == (0, True, True)
    _, policy = yaml.safe_load_all(files)
    spec, before = policy["spec"], migration()[0]
    trigger = before["triggers"][0]["metadata"]
    assert (spec["min"], spec["max"]) == (before["minReplicaCount"], before["maxReplicaCount"])
    assert spec["query"] == trigger["query"]
    assert float(trigger["threshold"]) / spec["targetPerPod"] == pytest.approx(0.83, abs=0.01)
    assert "167 / 0.83 = 200" in read(MIGRATION)


# last week's load


def test_the_recipe_of_last_weeks_load_is_what_the_backtest_replays() -> None:
    [now, week] = sorted(
        (
            trigger["metadata"]
            for example in SCALING
            for trigger in example.triggers
            if trigger.get("name") in ("last-week", "now")
        ),
        key=lambda metadata: len(metadata["query"]),
    )
    assert week["query"] == f"max_over_time({now['query']}[30m:1m] offset 6d23h30m)"
    assert (LastWeek.WEEK - LastWeek.RANGE, LastWeek.RANGE) == (6 * 86400 + 23.5 * 3600, 1800)
    assert float(week["threshold"]) == float(now["threshold"]) == 0.85 * 200
    assert "170 is 85 % of 200" in read(KEDA_PAGE)
