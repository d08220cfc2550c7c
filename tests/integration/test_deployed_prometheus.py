# SPDX-License-Identifier: Apache-2.0
"""promtool takes the configuration of the trial Prometheus in deploy/, and the alerts, which fire when they should."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.integration.conftest import require_program

pytestmark = pytest.mark.integration

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yaml"


def check(what: str, file: Path) -> None:
    """``promtool check WHAT FILE``; its output becomes the failure message."""
    made = subprocess.run(
        [require_program("promtool"), "check", what, file], check=False, capture_output=True, text=True, timeout=60
    )
    assert made.returncode == 0, made.stdout + made.stderr


def test_promtool_takes_the_alerts() -> None:
    check("rules", ALERTS)


WEB = '{workload="web"}'
SHOP = '{workload="shop"}'
SPENT, SHORT = f"kedastral_budget_spent_ratio{WEB}", f"kedastral_short_seconds_total{WEB}"
LEVEL = {f"kedastral_service_level_target{WEB}": "0.99x80"}
"""It allows 864 seconds of a day."""
FAILING = 'kedastral_workload_failing{workload="web",component="source",reason="%s"}'
ASKED = {'kedastral_scaler_requests_total{method="GetMetrics",status="OK"}': "0+2x2000"}
"""KEDA asks twice a minute, so that its alert is silent."""
ANSWERED = 'kedastral_scaler_request_seconds_bucket{instance="a",method="GetMetrics",le="%s"}'
UP = 'kedastral_storage_up{instance="a",operation="%s"}'
OF_WEB, OF_A = {"workload": "web"}, {"instance": "a"}

# name: series in promtool's notation, a sample a minute; when to look; the alerts that fire then, with their labels
CASES: dict[str, tuple[dict[str, str], str, dict[str, dict[str, str]]]] = {
    "all is well": (
        {
            f"kedastral_forecast_age_seconds{WEB}": "30x100",
            f"kedastral_steering_at_cap{WEB}": "0x100",
            f"kedastral_budget_spent_ratio{WEB}": "0.4x100",
            f"kedastral_standing_down{WEB}": "0x100",
            f"kedastral_lost_series{WEB}": "0x100",
            f"kedastral_raw_counter{WEB}": "0x100",
            UP % "read": "1x100",
            UP % "write": "1x100",
            **{ANSWERED % le: "0+60x100" for le in ("0.001", "1.0", "+Inf")},
            'kedastral_scaler_snapshot_stale_total{instance="a"}': "3x100",
            'kedastral_config_last_reload_successful{instance="a"}': "1x100",
            'kedastral_ticks_missed_total{instance="a",workload="web"}': "2x100",
        },
        "90m",
        {},
    ),
    "failing for 14 minutes": ({FAILING % "empty": "1x60"}, "14m", {}),
    "failing for 16 minutes": ({FAILING % "empty": "1x60"}, "16m", {"KedastralWorkloadFailing": OF_WEB}),
    "failing for one reason and then another": (
        {FAILING % "timeout": "1x9 _x60", FAILING % "unreachable": "_x9 1x60"},
        "16m",
        {"KedastralWorkloadFailing": OF_WEB},
    ),
    "failing with a tick between that worked": ({FAILING % "empty": "1x9 stale 1x9 stale 1x60"}, "16m", {}),
    "at the cap for 59 minutes": ({f"kedastral_steering_at_cap{WEB}": "1x90"}, "59m", {}),
    "at the cap for an hour": (
        {f"kedastral_steering_at_cap{WEB}": "1x90", f"kedastral_steering_at_cap{SHOP}": "0x90"},
        "61m",
        {"KedastralSteeringAtCap": OF_WEB},
    ),
    "limited by --max for fourteen minutes": ({f"kedastral_replicas_without_max{WEB}": "12x60"}, "14m", {}),
    "limited by --max for 16 minutes": (
        {f"kedastral_replicas_without_max{WEB}": "12x8 14x60"},
        "16m",
        {"KedastralLimitedByMax": OF_WEB},
    ),
    "limited by --max until it was raised": ({f"kedastral_replicas_without_max{WEB}": "12x8 stale _x60"}, "16m", {}),
    "a raw counter": ({f"kedastral_raw_counter{WEB}": "1x60"}, "16m", {"KedastralRawCounter": OF_WEB}),
    "a forecast of two minutes": ({f"kedastral_forecast_age_seconds{WEB}": "120x9"}, "5m", {}),
    "a forecast that is stale": (
        {f"kedastral_forecast_age_seconds{WEB}": "121x9"},
        "5m",
        {"KedastralForecastStale": OF_WEB},
    ),
    "stale answers at the start": (
        {'kedastral_scaler_snapshot_stale_total{instance="a"}': "0+2x4 8x60"},
        "20m",
        {},
    ),
    "stale answers all the time": (
        {'kedastral_scaler_snapshot_stale_total{instance="a"}': "0+2x60"},
        "20m",
        {"KedastralAnswersWithoutForecast": OF_A},
    ),
    "files that cannot be read": (
        {'kedastral_config_last_reload_successful{instance="a"}': "0x30"},
        "6m",
        {"KedastralConfigurationBroken": OF_A},
    ),
    "files that were mended": ({'kedastral_config_last_reload_successful{instance="a"}': "0x3 1x30"}, "6m", {}),
    "two of six series lost": ({f"kedastral_lost_series{WEB}": "2x30"}, "16m", {"KedastralLostSeries": OF_WEB}),
    "series lost for ten minutes": ({f"kedastral_lost_series{WEB}": "2x10 0x30"}, "16m", {}),
    "a few beats missed": ({'kedastral_ticks_missed_total{instance="a",workload="web"}': "0x9 3x60"}, "40m", {}),
    "beats missed by two workloads": (
        {f'kedastral_ticks_missed_total{{instance="a",workload="{name}"}}': "0+1x60" for name in ("web", "shop")},
        "40m",
        {"KedastralTicksMissed": OF_A},
    ),
    "answers in a millisecond": ({ANSWERED % le: "0+60x60" for le in ("0.001", "1.0", "+Inf")}, "30m", {}),
    "one answer in ten of more than a second": (
        {ANSWERED % "1.0": "0+54x60", ANSWERED % "2.5": "0+60x60", ANSWERED % "+Inf": "0+60x60"},
        "30m",
        {"KedastralAnswersSlow": OF_A},
    ),
    "Redis cannot be written": (
        {UP % "read": "1x30", UP % "write": "0x30"},
        "6m",
        {"KedastralStorageDown": {**OF_A, "operation": "write"}},
    ),
    "Redis away for two minutes": ({UP % "read": "1x3 0x2 1x30", UP % "write": "1x40"}, "8m", {}),
}
NEVER_ASKED: dict[str, tuple[dict[str, str], str, dict[str, dict[str, str]]]] = {
    "never asked": (
        {'kedastral_scaler_requests_total{method="GetMetrics",status="OK"}': "0x30"},
        "6m",
        {"KedastralNotAsked": {}},
    ),
    "not asked any more": (
        {'kedastral_scaler_requests_total{method="GetMetrics",status="OK"}': "0+2x30 60x30"},
        "50m",
        {"KedastralNotAsked": {}},
    ),
    "not scraped": ({"up": "0x30"}, "6m", {"KedastralNotAsked": {"method": "GetMetrics"}}),
}
OF_DAYS: dict[str, tuple[dict[str, str], str, dict[str, dict[str, str]]]] = {
    "standing down for two hours": ({f"kedastral_standing_down{WEB}": "1x4 0x60"}, "25h", {}),
    "more than the budget, and more than a day's in the last day": (
        {SPENT: "1.01x80", SHORT: "0+20x80", **LEVEL},
        "30h",
        {"KedastralBudgetSpent": OF_WEB},
    ),
    "all of the budget spent": ({SPENT: "1x80", SHORT: "0+20x80", **LEVEL}, "30h", {}),
    "more than the budget by an event of last week": ({SPENT: "2.5x80", SHORT: "90000x80", **LEVEL}, "30h", {}),
    "more than the budget, but less than a day's in the last day": (
        {SPENT: "2.5x80", SHORT: "90000+16x80", **LEVEL},
        "30h",
        {},
    ),
    "an hour short today": ({SPENT: "2.5x80", SHORT: "0x4 3600x80", **LEVEL}, "20h", {"KedastralBudgetSpent": OF_WEB}),
    "an hour short the day before": ({SPENT: "2.5x80", SHORT: "0x4 3600x80", **LEVEL}, "30h", {}),
    "standing down for a day": ({f"kedastral_standing_down{WEB}": "1x60"}, "25h", {"KedastralStandingDown": OF_WEB}),
}
"""With a sample every half hour: each evaluation of promtool is slow."""
GROUPS = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
RULES = {rule["alert"]: rule for group in GROUPS for rule in group["rules"]}


def expect(name: str, fired: dict[str, dict[str, str]]) -> list[dict[str, dict[str, str]]]:
    """What promtool calls the expected alerts of the rule ``name``."""
    if name not in fired:
        return []
    rule, labels = RULES[name], fired[name]
    fill = {f"{{{{ $labels.{label} }}}}": value for label, value in labels.items()}
    annotations = dict(rule["annotations"])
    for slot, value in fill.items():
        annotations["summary"] = annotations["summary"].replace(slot, value)
    return [{"exp_labels": {**rule["labels"], **labels}, "exp_annotations": annotations}]


@pytest.mark.parametrize(
    ("step", "cases", "besides"),
    [("1m", CASES, ASKED), ("1m", NEVER_ASKED, {}), ("30m", OF_DAYS, ASKED)],
    ids=["minutes", "never asked", "days"],
)
def test_each_alert_fires_when_it_should_and_is_silent_else(
    tmp_path: Path,
    step: str,
    cases: dict[str, tuple[dict[str, str], str, dict[str, dict[str, str]]]],
    besides: dict[str, str],
) -> None:
    tests = [
        {
            "name": case,
            "interval": step,
            "input_series": [{"series": key, "values": values} for key, values in {**series, **besides}.items()],
            "alert_rule_test": [
                {"eval_time": at, "alertname": name, "exp_alerts": expect(name, fired)} for name in RULES
            ],
        }
        for case, (series, at, fired) in cases.items()
    ]
    file = tmp_path / "test.yaml"
    written = {"rule_files": [str(ALERTS)], "evaluation_interval": step, "tests": tests}
    file.write_text(yaml.safe_dump(written), encoding="utf-8")
    made = subprocess.run(
        [require_program("promtool"), "test", "rules", file], check=False, capture_output=True, text=True, timeout=60
    )
    assert made.returncode == 0, made.stdout + made.stderr


def test_each_alert_has_a_case_in_which_it_fires_and_one_beside_it_in_which_it_does_not() -> None:
    cases = {**CASES, **NEVER_ASKED, **OF_DAYS}.values()
    assert {name for _, _, fired in cases for name in fired} == RULES.keys()
    for name, rule in RULES.items():
        metrics = set(re.findall(r"kedastral_\w+", rule["expr"]))
        silent = [series for series, _, fired in CASES.values() if name not in fired]
        assert any(metric in key for series in [*silent, ASKED] for key in series for metric in metrics)


def test_promtool_takes_the_configuration_of_the_trial_prometheus(tmp_path: Path) -> None:
    documents = yaml.safe_load_all((DEPLOY / "examples" / "prometheus-test-setup.yaml").read_text(encoding="utf-8"))
    [text] = [document["data"]["prometheus.yml"] for document in documents if document["kind"] == "ConfigMap"]
    config = yaml.safe_load(text)
    for job in config["scrape_configs"]:
        del job["kubernetes_sd_configs"]  # not every build of promtool knows Kubernetes
    file = tmp_path / "prometheus.yml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    check("config", file)
