# SPDX-License-Identifier: Apache-2.0
"""The ScaledObjects of docs/keda.md and deploy/examples, verbatim, and with the addresses of a case."""

import re
from collections.abc import Mapping

from tests.docs.pages import ROOT, blocks, read
from tests.e2e.case import Case

PAGE = ROOT / "docs" / "keda.md"
EXAMPLES = ROOT / "deploy" / "examples"
KEDASTRAL = re.compile(r"kedastral\.kedastral\.svc\.cluster\.local:8080")
PROMETHEUS = re.compile(r"http://prometheus\.(monitoring|kedastral)\.svc\.cluster\.local:9090")


def documented() -> Mapping[str, str]:
    """The text of each recipe of the page, by its heading."""
    sections = re.split(r"^###? (.+)$", read(PAGE), flags=re.MULTILINE)
    found = {}
    for title, body in zip(sections[1::2], sections[2::2], strict=True):
        for block in blocks(body):
            if "kind: ScaledObject" in block.text:
                found[title] = block.text
    return found


def examples() -> Mapping[str, str]:
    """The text of each ScaledObject in deploy/examples, by the file's name."""
    texts = {path.name: read(path) for path in sorted(EXAMPLES.glob("*.yaml"))}
    return {name: text for name, text in texts.items() if "kind: ScaledObject" in text}


def of_case(text: str, case: Case) -> str:
    """The recipe with ``case``'s own Kedastral and Prometheus."""
    return PROMETHEUS.sub(case.prometheus_address, KEDASTRAL.sub(case.scaler_address(), text))
