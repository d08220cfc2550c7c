# SPDX-License-Identifier: Apache-2.0
"""promtool takes the alerts and the configuration of the trial Prometheus in deploy/."""

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.integration.conftest import require_program

pytestmark = pytest.mark.integration

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


def check(what: str, file: Path) -> None:
    """``promtool check WHAT FILE``; its words are the failure's."""
    made = subprocess.run(
        [require_program("promtool"), "check", what, file], check=False, capture_output=True, text=True, timeout=60
    )
    assert made.returncode == 0, made.stdout + made.stderr


def test_promtool_takes_the_alerts() -> None:
    check("rules", DEPLOY / "prometheus" / "alerts.yaml")


def test_promtool_takes_the_configuration_of_the_trial_prometheus(tmp_path: Path) -> None:
    documents = yaml.safe_load_all((DEPLOY / "examples" / "prometheus-test-setup.yaml").read_text(encoding="utf-8"))
    [text] = [document["data"]["prometheus.yml"] for document in documents if document["kind"] == "ConfigMap"]
    config = yaml.safe_load(text)
    for job in config["scrape_configs"]:
        del job["kubernetes_sd_configs"]  # not every build of promtool knows Kubernetes
    file = tmp_path / "prometheus.yml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    check("config", file)
