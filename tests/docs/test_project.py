# SPDX-License-Identifier: Apache-2.0
"""The project's own files: licence lines, one version everywhere, current generated code, the content of a wheel."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

from kedastral import __version__
from tests.docs.pages import ROOT, read

SPDX = "SPDX-License-Identifier: Apache-2.0"
FOLDERS = ("kedastral", "tests", "proto", "benchmarks", "docs", "deploy", ".github", ".ci")
SOURCES = [
    path
    for path in (
        *(path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*"))),
        *(ROOT / name for name in ("Makefile", "Dockerfile", ".dockerignore")),
    )
    if path.suffix in (".py", ".pyi", ".yaml", ".yml", ".proto", ".sh")
    or path.name in ("Makefile", "Dockerfile", ".dockerignore", "run")
]


def test_every_source_file_begins_with_its_licence() -> None:
    without = [
        str(path.relative_to(ROOT)) for path in SOURCES if not any(SPDX in line for line in read(path).splitlines()[:2])
    ]
    assert len(SOURCES) > 100
    assert without == []


def says_its_job(source: str) -> bool:
    """Whether a docstring follows the licence line, or nothing (an empty package)."""
    return re.match(r'#.*\n+r?"""\S', source) is not None or re.fullmatch(r"#.*\s*", source) is not None


def test_every_module_says_its_job_in_its_first_line() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if path.suffix == ".py" and "_proto" not in path.parts and not says_its_job(read(path))
    ]
    assert silent == []


def test_one_version_is_said_everywhere() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)
    label = re.search(r'org\.opencontainers\.image\.version="([^"]+)"', read(ROOT / "Dockerfile"))
    assert label is not None
    assert label[1] == __version__
    assert f"## [{__version__}]" in read(ROOT / "CHANGELOG.md")
    chart = yaml.safe_load(read(ROOT / "deploy" / "helm" / "kedastral" / "Chart.yaml"))
    assert chart["version"] == chart["appVersion"] == __version__
    images = re.findall(r"\bkedastral:(\d[\w.]*)", "".join(read(page) for page in ROOT.rglob("docs/*.md")))
    assert set(images) == {__version__}
    assert f"Version {__version__}" in read(ROOT / "README.md")


def test_the_licence_is_the_same_everywhere() -> None:
    project = tomllib.loads(read(ROOT / "pyproject.toml"))["project"]
    assert project["license"] == "Apache-2.0"
    assert "Apache License" in read(ROOT / "LICENSE")
    assert 'org.opencontainers.image.licenses="Apache-2.0"' in read(ROOT / "Dockerfile")


def test_generated_code_is_up_to_date(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "proto" / "generate.py", tmp_path], check=True, capture_output=True)
    made = sorted((tmp_path / "kedastral" / "_proto").iterdir())
    assert made
    for fresh in made:
        assert read(fresh) == read(ROOT / "kedastral" / "_proto" / fresh.name), "run `make proto`"


def test_a_wheel_is_made_of_the_package_alone() -> None:
    targets = tomllib.loads(read(ROOT / "pyproject.toml"))["tool"]["hatch"]["build"]["targets"]
    assert targets["wheel"]["packages"] == ["kedastral"]
    assert not [*(ROOT / "kedastral").rglob("test_*.py"), *(ROOT / "kedastral").rglob("*_test.py")]
    assert "exclude" not in targets["wheel"]
    assert (ROOT / "kedastral" / "backtest" / "report.html.j2").is_file()  # included, like all files of the package
    for name in targets["sdist"]["include"]:
        assert list(ROOT.glob(name.removeprefix("/"))), name
