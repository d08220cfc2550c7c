# SPDX-License-Identifier: Apache-2.0
"""The site: every page is in its navigation, and it builds without broken links."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, read

CONFIG = ROOT / "docs" / "site" / "mkdocs.yml"


def test_every_page_is_in_the_navigation() -> None:
    navigation = read(CONFIG).partition("\nnav:")[2]
    entries = re.findall(r": (\S+)$", navigation, re.MULTILINE)
    folders = {ROOT / "docs" / entry.removesuffix("/*") for entry in entries if entry.endswith("/*")}
    pages = {ROOT / "docs" / entry for entry in entries}
    missing = [page for page in (ROOT / "docs").rglob("*.md") if page not in pages and page.parent not in folders]
    assert missing == [], "name them in docs/site/mkdocs.yml"


@pytest.mark.slow
def test_the_site_is_built_without_a_broken_link(tmp_path: Path) -> None:
    """Strict: a broken link, anchor or navigation entry is an error."""
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--config-file", CONFIG, "--site-dir", tmp_path],
        env={"NO_MKDOCS_2_WARNING": "1", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (built.returncode, built.stdout, built.stderr) == (0, "", "")
    keda = read(tmp_path / "keda.html")
    assert "source/deploy/production/availability.yaml" in keda
    assert (tmp_path / "source/deploy/production/availability.yaml").is_file()
    assert 'href="../architecture.html"' in read(tmp_path / "project" / "CONTRIBUTING.html")
