# SPDX-License-Identifier: Apache-2.0
"""Finds the program `helm`, or builds it with Go, once, into build/helm."""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
VERSION = "v4.3.1"
BUILT = ROOT / "build" / "helm" / VERSION / "helm"


def find_helm() -> str | None:
    """The path of helm: ``HELM``, else one that was built, else one that is installed; None where there is none."""
    given = os.environ.get("HELM")
    return given or (str(BUILT) if BUILT.exists() else None) or shutil.which("helm")


def can_build_helm() -> bool:
    """Whether Go is there."""
    return shutil.which("go") is not None


def build_helm() -> str:
    """Builds helm where it is not built yet, which takes minutes the first time. Raises CalledProcessError."""
    BUILT.parent.mkdir(parents=True, exist_ok=True)
    with (BUILT.parent / "lock").open("w") as lock:  # several processes may want it at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if BUILT.exists():
            return str(BUILT)
        module = f"helm.sh/helm/{VERSION.partition('.')[0]}/cmd/helm@{VERSION}"
        with TemporaryDirectory(dir=BUILT.parent) as made:
            run_go("install", module, GOBIN=made)
            (Path(made) / BUILT.name).rename(BUILT)  # in one step: `find_helm` looks without the lock, and Go may copy
    return str(BUILT)


def run_go(*words: str, **environment: str) -> str:
    """What ``go WORDS`` prints. Raises CalledProcessError."""
    env = {**os.environ, "GOFLAGS": "-mod=mod", **environment}
    done = subprocess.run(["go", *words], check=True, capture_output=True, text=True, env=env, cwd=ROOT)  # noqa: S603,S607 - Go from the PATH is meant
    return done.stdout
