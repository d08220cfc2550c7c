# SPDX-License-Identifier: Apache-2.0
"""The steps of the Dockerfile in an empty folder, and the wheel that they build.

Docker's part is left out: the base image (this machine's Python stands in for it), the layers, and that pip is removed
from the base.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

import attrs
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.docs.dockerfile import Instruction, instructions, last_stage
from tests.docs.pages import ROOT
from tests.waiting import PATIENCE

pytestmark = [pytest.mark.integration, pytest.mark.slow]

NOBODY = 65532
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
# `doctor --cluster` is for an engineer's machine: the image lacks the extra `kubernetes`
NOT_IN_THE_IMAGE = ["kedastral.doctor.cluster", "kedastral.doctor.kubeconfig"]
NAME_WHAT_CANNOT_BE_IMPORTED = """
import importlib, pkgutil, kedastral
for found in pkgutil.walk_packages(kedastral.__path__, "kedastral."):
    if not found.name.endswith("__main__"):
        try:
            importlib.import_module(found.name)
        except ModuleNotFoundError:
            print(found.name)
"""
INSTALLERS = {"pip", "setuptools", "wheel", "hatchling", "build", "uv", "pytest"}


def run_to_the_end(words: list[str | Path], cwd: Path = ROOT) -> str:
    """The output of a program, which must succeed."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(words, env=env, cwd=cwd, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
    return done.stdout


def as_nobody() -> int | None:
    """The id of the image's user, which only root may switch to."""
    return NOBODY if os.geteuid() == 0 else None


def may_run(python: str | Path) -> bool:
    """Whether the image's user may run ``python``, which is at least 3.11 and makes virtual environments."""
    words = [python, "-c", "import sys, venv; sys.exit(sys.version_info < (3, 11))"]
    try:
        return subprocess.run(words, check=False, user=as_nobody(), group=as_nobody()).returncode == 0
    except OSError:
        return False


@attrs.frozen
class BuildStage:
    """The first stage of the Dockerfile below ``root``, which stands for the root of the file system."""

    root: Path
    base: str

    @classmethod
    def prepare(cls, root: Path) -> "BuildStage":
        """An empty root with only a Python for the build tools."""
        own = f"{sys.base_exec_prefix}/bin/python3"  # others cannot read below /root
        stage = cls(root, next(filter(may_run, (own, "/usr/bin/python3", "/usr/local/bin/python3")), own))
        (root / "src").mkdir()
        run_to_the_end([stage.base, "-m", "venv", "--without-pip", root / "tools"])
        return stage

    def follow(self, instruction: Instruction) -> None:
        """One COPY or RUN."""
        if instruction.word == "COPY":
            *sources, target = instruction.rest.split()
            for source in sources:
                self._copy(ROOT / source, self.root / "src" / target)
        elif instruction.word == "RUN":
            run_to_the_end(["sh", "-c", self._moved(instruction.rest)], cwd=self.root / "src")

    def _copy(self, source: Path, place: Path) -> None:
        if source.is_dir():
            shutil.copytree(source, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, place)

    def _moved(self, line: str) -> str:
        """The same for the Pythons and folders here."""
        pip = " ".join([*PIP, "--python", f"{self.root}/tools/bin/python"])  # a second --python wins
        line = re.sub("^python -m venv", f"{self.base} -m venv", line)
        line = re.sub("^python -m pip", pip, line)
        # What pip keeps is only kept out of a layer. To compile all of the packages takes longer than all else here.
        line = line.replace("--no-cache-dir", "--no-compile" if "--require-hashes" in line else "")
        return re.sub(r"(?<=\s)(?=/(app|wheels)\b)", str(self.root), line)


@pytest.fixture
def built() -> Iterator[BuildStage]:
    with tempfile.TemporaryDirectory(prefix="kedastral-image-") as made:  # pytest's own folders are closed to others
        root = Path(made).resolve()
        root.chmod(0o755)
        stage = BuildStage.prepare(root)
        for instruction in instructions():
            if instruction.stage == 0:
                stage.follow(instruction)
        yield stage


def packages(place: Path) -> dict[str, list[Requirement]]:
    """Each package installed in ``place`` and what it requires."""
    return {
        canonicalize_name(one.name): [Requirement(line) for line in one.requires or ()]
        for one in distributions(path=[str(place)])
    }


def required_by(name: str, installed: dict[str, list[Requirement]]) -> set[str]:
    """``name`` and all its requirements without extras, recursively."""
    found: set[tuple[str, str]] = set()  # with the extra that is asked for
    left = {(name, "")}
    while left:
        found.add(last := left.pop())
        for one in installed[last[0]]:
            if one.marker is None or one.marker.evaluate({"extra": last[1]}):
                left |= {(canonicalize_name(one.name), extra) for extra in one.extras | {""}} - found
    return {package for package, _ in found}


def play_demo(program: list[str], variables: dict[str, str]) -> str:
    """The output of ten minutes of the demo's load, run as the image's user, who may write nowhere here."""
    done = subprocess.run(
        [*program, "demo", "--duration", "10m", "--speed", "600"],
        env={"SCALER_LISTEN": "127.0.0.1:0", "FORECASTER_LISTEN": "127.0.0.1:0", "PATH": "/usr/bin:/bin", **variables},
        cwd="/",
        user=as_nobody(),
        group=as_nobody(),
        extra_groups=None if as_nobody() is None else [],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# one test, since to install takes most of its time, and two processes of pytest would each do it
def test_the_images_steps_make_an_installation_that_is_whole_and_runs_without_rights_or_extras(
    built: BuildStage,
) -> None:
    python = built.root / "app" / "bin" / "python"
    [place] = (built.root / "app" / "lib").glob("python*/site-packages")
    compiled = {path.name.partition(".")[0] for path in (place / "kedastral").rglob("*.pyc")}
    assert compiled == {path.stem for path in (ROOT / "kedastral").rglob("*.py")}, "the file system may be read-only"
    assert run_to_the_end([python, "-I", "-c", NAME_WHAT_CANNOT_BE_IMPORTED]).split() == NOT_IN_THE_IMAGE
    assert "No broken requirements" in run_to_the_end([*PIP, "--python", python, "check"])
    installed = packages(place)
    assert not INSTALLERS & installed.keys()

    only_extras = installed.keys() - required_by("kedastral", installed)
    assert "coredis" in only_extras
    run_to_the_end([*PIP, "--python", python, "uninstall", "--yes", *sorted(only_extras)])
    [user], [entry] = last_stage("USER"), last_stage("ENTRYPOINT")
    assert user.partition(":")[0] == str(NOBODY)
    variables = dict(word.split("=") for line in last_stage("ENV") for word in line.split())
    if not may_run(python):
        pytest.skip(f"all is well but the run as another user: {built.base} lies where only root may look")
    assert "pod-hours" in play_demo([f"{built.root}{word}" for word in json.loads(entry)], variables)
