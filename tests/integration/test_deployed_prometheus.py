# SPDX-License-Identifier: Apache-2.0
"""promtool takes the alerts and the configuration of the trial Prometheus in deploy/."""

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.integration.conftest import require_program

pytestmark = pytest.mark.integration

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yaml"


def check(what: str, file: Path) -> None:
    """``promtool check WHAT FILE``; its words are the failure's."""
    made = subprocess.run(
        [require_program("promtool"), "check", what, file], check=False, capture_output=True, text=True, timeout=60
    )
    assert made.returncode == 0, made.stdout + made.stderr


def test_promtool_takes_the_alerts() -> None:
    check("rules", ALERTS)


def fire(tmp_path: Path, series: dict[str, str], at: str) -> set[str]:
    """The alerts of workload web that fire ``at`` a time, of ``series`` in promtool's notation, a sample a minute."""
    rules = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))
    names = [rule["alert"] for rule in rules["groups"][0]["rules"]]
    fired = set()
    for name in names:
        asked = {
            "rule_files": [str(ALERTS)],
            "evaluation_interval": "1m",
            "tests": [
                {
                    "interval": "1m",
                    "input_series": [{"series": key, "values": values} for key, values in series.items()],
                    "alert_rule_test": [{"eval_time": at, "alertname": name, "exp_alerts": []}],
                }
            ],
        }
        file = tmp_path / "test.yaml"
        file.write_text(yaml.safe_dump(asked), encoding="utf-8")
        made = subprocess.run(
            [require_program("promtool"), "test", "rules", str(file)],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert made.returncode == 0 or "exp:" in made.stdout + made.stderr, made.stdout + made.stderr
        if made.returncode:
            fired.add(name)
    return fired


FAILING = 'kedastral_workload_failing{workload="web",component="source",reason="%s"}'


@pytest.mark.parametrize(
    ("series", "at", "fired"),
    [
        ({FAILING % "empty": "1x60"}, "14m", set()),
        ({FAILING % "empty": "1x60"}, "16m", {"KedastralWorkloadFailing"}),
        ({FAILING % "timeout": "1x9 _x60", FAILING % "unreachable": "_x9 1x60"}, "16m", {"KedastralWorkloadFailing"}),
        ({'kedastral_steering_at_cap{workload="web"}': "1x90"}, "59m", set()),
        ({'kedastral_steering_at_cap{workload="web"}': "1x90"}, "61m", {"KedastralSteeringAtCap"}),
        ({'kedastral_budget_spent_ratio{workload="web"}': "1x30"}, "20m", set()),
        ({'kedastral_budget_spent_ratio{workload="web"}': "1.01x30"}, "20m", {"KedastralBudgetSpent"}),
        ({'kedastral_standing_down{workload="web"}': "1x119 0x2000"}, "1500m", set()),
        ({'kedastral_standing_down{workload="web"}': "1x1600"}, "1500m", {"KedastralStandingDown"}),
        ({'kedastral_forecast_age_seconds{workload="web"}': "121x9"}, "5m", {"KedastralForecastStale"}),
    ],
)
def test_an_alert_fires_when_it_should(tmp_path: Path, series: dict[str, str], at: str, fired: set[str]) -> None:
    asked = {'kedastral_scaler_requests_total{method="GetMetrics",status="OK"}': "0+2x2000"}
    assert fire(tmp_path, series | asked, at) == fired


def test_promtool_takes_the_configuration_of_the_trial_prometheus(tmp_path: Path) -> None:
    documents = yaml.safe_load_all((DEPLOY / "examples" / "prometheus-test-setup.yaml").read_text(encoding="utf-8"))
    [text] = [document["data"]["prometheus.yml"] for document in documents if document["kind"] == "ConfigMap"]
    config = yaml.safe_load(text)
    for job in config["scrape_configs"]:
        del job["kubernetes_sd_configs"]  # not every build of promtool knows Kubernetes
    file = tmp_path / "prometheus.yml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    check("config", file)
