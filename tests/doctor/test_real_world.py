# SPDX-License-Identifier: Apache-2.0
"""`kedastral doctor` on manifests as people have them: it misses nothing, and raises no false alarm."""

from pathlib import Path

import pytest

from tests.cli.test_commands import call
from tests.doctor.real_world import FALLBACK, OURS, REAL_WORLD, TOLERANT, RealWorld, scaled_object
from tests.doctor.test_doctor import diagnose, write


@pytest.mark.parametrize("one", REAL_WORLD, ids=[one.what for one in REAL_WORLD])
def test_all_that_is_wrong_is_said_and_nothing_else(
    one: RealWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    manifests, config = write(tmp_path, one.text, one.settings)
    settings = ("--config", config) if one.settings else ()
    _, found = diagnose(monkeypatch, manifests, *settings, "--level", "info")
    assert sorted((each["rule"], each["severity"]) for each in found) == sorted(one.found), found


@pytest.mark.parametrize("number", [".inf", "-.INF", ".nan", "0.5", "1e", "0x1F"])
def test_a_number_that_is_none_is_said(number: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    manifests, _ = write(tmp_path, scaled_object(OURS, bounds=f"\n  minReplicaCount: 2\n  maxReplicaCount: {number}"))
    _, found = diagnose(monkeypatch, manifests, "--level", "error")
    assert [one["rule"] for one in found] == ["no-whole-number"]


def test_patches_of_a_kustomization_are_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    base, overlay = tmp_path / "base", tmp_path / "overlays" / "production"
    base.mkdir()
    overlay.mkdir(parents=True)
    write(base, scaled_object(OURS, TOLERANT + FALLBACK), "kind: Kustomization\nresources: [web.yaml]\n")
    part = "apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nmetadata: {name: web}\nspec:\n"
    (overlay / "triggers.yaml").write_text(f"{part}  triggers:{OURS}\n")
    (overlay / "bounds.yaml").write_text(f"{part}  maxReplicaCount: 90\n  triggers:{OURS}\n")
    (overlay / "ops.json").write_text('[{"op": "replace", "path": "/spec/maxReplicaCount", "value": 9}]')
    kustomization = overlay / "kustomization.yaml"
    kustomization.write_text(
        "resources: [../../base]\npatches: [{path: triggers.yaml}, {patch: '- op: remove'}, {path: ops.json}]\n"
        "patchesStrategicMerge: [bounds.yaml]\n"
    )
    assert diagnose(monkeypatch, str(tmp_path))[1] == []
    kustomization.write_text("patches: {{ .Values.patches }}\n")
    assert "unreadable" in {one["rule"] for one in diagnose(monkeypatch, str(tmp_path))[1]}


BARE = """
    - type: external
      metricType: Value
      metadata: {scalerAddress: "queue-scaler.tools.svc.cluster.local:6000"}"""


def test_what_is_said_of_a_trigger_that_may_be_ours_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    manifests, _ = write(tmp_path, scaled_object(BARE, bounds="\n  maxReplicaCount: 9"))
    outcome, found = diagnose(monkeypatch, manifests, "--level", "info")
    assert outcome.code == 0, "another vendor's scaler fails no pipeline"
    assert [one["message"] for one in found] == [
        "trigger 1 (external) may be for Kedastral, and has metricType Value",
        "trigger 1 (external) may be for Kedastral, and names no workload",
        "trigger 1 (external) may be for Kedastral: minReplicaCount is not set, so that it is 0",
        "trigger 1 (external) may be for Kedastral: there is no fallback for when Kedastral answers with errors",
    ]
    assert call(monkeypatch, "doctor", manifests).out.splitlines()[-1] == (
        "Looked at 1 object, 0 triggers of Kedastral, 1 that may be, 0 workloads: 1 warning."
    )
