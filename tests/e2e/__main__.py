# SPDX-License-Identifier: Apache-2.0
"""`make e2e`: look whether the loop can run here, then run the suite; arguments are pytest's.

With KEDASTRAL_E2E_BIN the suite runs in Linux namespaces of its own: no ports collide, the names of
Services are lines of its own /etc/hosts, and every program ends with pytest, however that ends.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.e2e import binaries, sandbox

BIN, CONFIG, SELECTED = "KEDASTRAL_E2E_BIN", "KEDASTRAL_E2E_KEDA_CONFIG", "KEDASTRAL_E2E"
"""The folder of binaries; KEDA's manifests; set where the suite is meant to run at all."""
TOOLS = ("kubectl", "prometheus", "promtool")
NEITHER = f"""\
set KUBECONFIG to a cluster with KEDA, or {BIN} to a folder with {", ".join(binaries.NAMES)}, which needs no cluster"""


def main(arguments: Sequence[str]) -> int:
    """Run pytest, or say in one line what is missing and return 2."""
    problem = find_problem()
    if problem:
        print(f"make e2e: {problem}", file=sys.stderr)  # noqa: T201
        return 2
    os.environ[SELECTED] = "1"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-m",
        "not faults",  # pyproject.toml excludes e2e as well
        *(arguments or ["-v"]),
        str(Path(__file__).parent),
    ]
    if BIN in os.environ:
        command = [*sandbox.command(), *command]
    return subprocess.call(command)


def find_problem() -> str:
    """Why the loop cannot run here, or nothing."""
    if BIN not in os.environ and "KUBECONFIG" not in os.environ:
        return NEITHER
    missing = list(_missing())
    if missing:
        return "; ".join(missing)
    if BIN in os.environ and (refused := sandbox.find_refusal()):
        return f"{BIN} needs namespaces of its own, as root or where users may make them: {refused}"
    if BIN not in os.environ:
        asked = subprocess.run(
            ["kubectl", "get", "crd", "scaledobjects.keda.sh"], check=False, capture_output=True, text=True
        )
        if asked.returncode:
            return f"KUBECONFIG must name a cluster with KEDA: {asked.stderr.strip()}"
    return ""


def _missing() -> Iterator[str]:
    for tool in TOOLS:
        if shutil.which(tool) is None:
            yield f"{tool} is not installed"
    if BIN in os.environ:
        folder = Path(os.environ[BIN])
        for name in binaries.NAMES:
            if not os.access(folder / name, os.X_OK):
                yield f"{folder / name} is no program ({BIN})"
        manifests = binaries.keda_config(folder)
        if not (manifests / binaries.CRDS).is_dir():
            yield f"{manifests / binaries.CRDS} is not there: {CONFIG} names the folder config of KEDA's source"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
