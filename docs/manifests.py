# SPDX-License-Identifier: Apache-2.0
"""Writes the folders of deploy/ that are made from the chart: ``python -m docs.manifests`` (`make manifests`).

Each file of deploy/helm/values is a folder's values. Its first comment becomes the head of deployment.yaml there, and a
comment ``# yours`` behind a setting goes along. PodDisruptionBudget and NetworkPolicy stand in availability.yaml.
"""

import re
import subprocess
import sys
from pathlib import Path

import yaml

from docs.chart import CHART, settings_of_chart
from docs.helm import build_helm, find_helm

DEPLOY = CHART.parents[1]
VALUES = CHART.parent / "values"
RELEASE = NAMESPACE = "kedastral"
_KINDS = ("ServiceAccount", "Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy")
_AVAILABILITY = {"PodDisruptionBudget", "NetworkPolicy"}
_OF_HELM = re.compile(r"^(# Source: .*| *helm\.sh/chart: .*| *app\.kubernetes\.io/managed-by: .*)\n", re.MULTILINE)
_YOURS = re.compile(r"^  (?P<key>\w+): .*?(?P<comment>  # yours.*)$", re.MULTILINE)
_LICENSE = "# SPDX-License-Identifier: Apache-2.0\n#\n"


def render_chart(helm: str, *words: str) -> str:
    """What ``helm template`` prints for the chart. Raises CalledProcessError, whose ``stderr`` says why."""
    command = [helm, "template", RELEASE, str(CHART), "--namespace", NAMESPACE, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - our own words


def write_manifests(helm: str) -> dict[Path, str]:
    """Every file that is made from the chart, with what belongs in it."""
    found: dict[Path, str] = {}
    for values in sorted(VALUES.glob("*.yaml")):
        text = values.read_text(encoding="utf-8")
        documents = _split(_with_comments(render_chart(helm, "--values", str(values)), text))
        made = f"# Made by `make manifests` from the chart and deploy/helm/values/{values.name}.\n"
        prose = "".join(re.findall(r"^#.*\n", text.partition("\n\n")[0] + "\n", re.MULTILINE)[2:])
        folder = DEPLOY / values.stem
        heads = {"deployment.yaml": _LICENSE + prose + "#\n" + made, "availability.yaml": _LICENSE + made}
        for name, head in heads.items():
            here = [one for kind, one in documents if (kind in _AVAILABILITY) is (name == "availability.yaml")]
            if here:
                found[folder / name] = head + "---\n".join(here)
    return found


def _split(rendered: str) -> list[tuple[str, str]]:
    """Kind and text of each object, in the order of `_KINDS`."""
    texts = (one.strip("\n") + "\n" for one in re.split(r"^---\n", rendered, flags=re.MULTILINE))
    found = [(yaml.safe_load(one)["kind"], one) for one in texts if yaml.safe_load(one)]
    return sorted(found, key=lambda one: _KINDS.index(one[0]))


def _with_comments(rendered: str, values: str) -> str:
    """Without what only Helm writes, and with the comments that say which values are the reader's."""
    comments = {found["key"]: found["comment"] for found in _YOURS.finditer(values)}
    variables = {setting.env: comments[key] for key, setting in settings_of_chart().items() if key in comments}
    plain = _OF_HELM.sub("", rendered)
    return re.sub(r"- name: (\w+)$", lambda found: found[0] + variables.get(found[1], ""), plain, flags=re.MULTILINE)


if __name__ == "__main__":
    for path, after in write_manifests(find_helm() or build_helm()).items():
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        path.write_text(after, encoding="utf-8")
        sys.stderr.write(f"{path.relative_to(DEPLOY)}: {'unchanged' if after == before else 'written'}\n")
