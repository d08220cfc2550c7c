# SPDX-License-Identifier: Apache-2.0
"""kubectl builds every kustomization of deploy/."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.integration

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
KUSTOMIZATIONS = sorted(file.parent for file in DEPLOY.rglob("kustomization.yaml"))


@pytest.mark.parametrize("folder", KUSTOMIZATIONS, ids=[str(folder.relative_to(DEPLOY)) for folder in KUSTOMIZATIONS])
def test_kubectl_builds_it_with_one_deployment_and_one_service(folder: Path) -> None:
    kubectl = shutil.which("kubectl")
    if (
        kubectl is None
    ):  # Debian's is too old to know patches, so nothing asks for it; tests/docs/test_deploy.py reads all
        pytest.skip("kubectl is not installed")
    made = subprocess.run([kubectl, "kustomize", folder], check=False, capture_output=True, text=True, timeout=60)
    assert made.returncode == 0, made.stderr
    kinds = [document["kind"] for document in yaml.safe_load_all(made.stdout)]
    assert (kinds.count("Deployment"), kinds.count("Service")) == (1, 1)
