# SPDX-License-Identifier: Apache-2.0
"""The GitHub workflows: pinned actions, minimal permissions, existing targets; and the notes of a release."""

import re
import runpy
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.pages import ROOT, read

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
RELEASE = runpy.run_path(str(ROOT / ".ci" / "release_notes.py"), run_name="release_notes")
find_notes: Callable[[str, str], str] = RELEASE["find_notes"]
require_version: Callable[[str, str], str] = RELEASE["require_version"]
each = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: str(path.name))


def jobs_of(path: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(read(path))["jobs"]
    return found


def lines_of(path: Path) -> list[str]:
    return [
        line for job in jobs_of(path).values() for step in job["steps"] for line in step.get("run", "").splitlines()
    ]


@each
def test_every_action_is_pinned_by_its_hash_with_the_version_beside_it(path: Path) -> None:
    used = re.findall(r"uses: (.+)", read(path))
    assert used
    for action in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", action), action


def test_an_action_is_used_in_one_version_only() -> None:
    pins = {pin for path in WORKFLOWS for pin in re.findall(r"uses: (\S+)", read(path))}
    assert len({pin.partition("@")[0] for pin in pins}) == len(pins)


@each
def test_a_workflow_may_read_and_only_a_job_of_the_release_may_more(path: Path) -> None:
    assert yaml.safe_load(read(path))["permissions"] == {"contents": "read"}
    for job in jobs_of(path).values():
        assert "permissions" not in job or path.name == "release.yaml"


@each
def test_every_job_has_a_time_limit(path: Path) -> None:
    assert all(0 < job["timeout-minutes"] <= 120 for job in jobs_of(path).values())


@each
def test_every_target_and_file_that_a_job_runs_exists(path: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", read(ROOT / "Makefile"), re.MULTILINE))
    for line in lines_of(path):
        for target in re.findall(r"\bmake ([a-z0-9-]+)", line):
            if "apt-get" not in line:
                assert target in targets, line
        for file in re.findall(r"(?<![\w/])((?:\.ci|deploy|tests)/[\w./-]+)", line):
            assert (ROOT / file).exists(), line


def test_the_tests_run_on_every_python_that_is_promised() -> None:
    classifiers = tomllib.loads(read(ROOT / "pyproject.toml"))["project"]["classifiers"]
    promised = [match[1] for text in classifiers if (match := re.fullmatch(r".* :: (3\.\d+)", text))]
    ci = jobs_of(ROOT / ".github" / "workflows" / "ci.yaml")
    assert ci["tests"]["strategy"]["matrix"]["python"] == promised


def test_dependabot_knows_what_there_is() -> None:
    updates = yaml.safe_load(read(ROOT / ".github" / "dependabot.yml"))["updates"]
    assert {one["package-ecosystem"] for one in updates} == {"github-actions", "pip", "docker"}


CHANGELOG = "# Changelog\n\n## [0.2.0] - unreleased\n\n- b\n\n## [0.1.0] - 2026-12-01\n\n### Added\n\n- a\n"


def test_the_notes_of_a_release_are_its_section() -> None:
    assert find_notes(CHANGELOG, "0.1.0") == "### Added\n\n- a"


@pytest.mark.parametrize(
    ("changelog", "version", "why"),
    [
        (CHANGELOG, "0.2.0", "unreleased"),
        (CHANGELOG, "0.3.0", "no section for 0.3.0"),
        ("## [0.1.0] - 2026-12-01\n\n## [0.0.1] - 2026-11-01\n\n- a\n", "0.1.0", "says nothing"),
    ],
)
def test_what_has_no_notes_is_not_released(changelog: str, version: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        find_notes(changelog, version)


def test_only_a_tag_of_the_packages_version_is_released() -> None:
    package = '__version__ = "0.1.0"\n'
    assert require_version("v0.1.0", package) == "0.1.0"
    for tag in ("v0.1.1", "0.1.0", "v0.1.0-rc1"):
        with pytest.raises(ValueError, match="not the version"):
            require_version(tag, package)
