# SPDX-License-Identifier: Apache-2.0
"""The kustomizations in deploy/: the real API server accepts every object without a warning."""

import subprocess

import pytest
import yaml

from tests.docs.pages import ROOT
from tests.e2e.api import Document
from tests.e2e.case import Case

pytestmark = pytest.mark.e2e
KUSTOMIZATIONS = sorted(path.parent for path in (ROOT / "deploy").glob("*/kustomization.yaml"))


def test_every_kustomization_is_accepted_without_a_warning(case: Case) -> None:
    assert len(KUSTOMIZATIONS) >= 4
    said = {}
    for number, folder in enumerate(KUSTOMIZATIONS):
        place = f"{case.namespace}-{number}"
        case.add_namespace(place)
        for document in render(folder.name):
            if document["kind"] == "Namespace":
                continue
            if "namespace" in document["metadata"]:
                document["metadata"]["namespace"] = place
            warnings = case.apply(yaml.safe_dump(document), place)
            said[folder.name, document["kind"], document["metadata"]["name"]] = warnings
    kinds = {kind for folder, kind, _ in said if folder == "production"}
    assert kinds >= {"Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"}
    assert not any(said.values()), {what: words for what, words in said.items() if words}


def render(folder: str) -> list[Document]:
    """The objects of ``deploy/folder``, by kubectl."""
    words = ["kubectl", "kustomize", str(ROOT / "deploy" / folder)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return [document for document in yaml.safe_load_all(done.stdout) if document]
