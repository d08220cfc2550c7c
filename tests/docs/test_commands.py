# SPDX-License-Identifier: Apache-2.0
"""Every command in the documents: its settings are valid, its files exist, and no program is left unchecked."""

import itertools
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from kedastral.cli.main import cli
from kedastral.settings.commands import BY_COMMAND
from tests.docs.pages import PAGES, ROOT, commands, inline_code, read

Words = list[str]
SHOWN = [
    (page, list(itertools.takewhile(lambda word: not word.startswith("#"), words)))
    for page in PAGES
    for words in commands(read(page))
]
EXAMPLE = str(ROOT / "deploy" / "fleet" / "config")
EXAMPLE_FOLDER = {"/etc/kedastral": EXAMPLE, "deployed.yaml": EXAMPLE}
"""The replacement for files of the reader's."""
CONFIGURATION = ROOT / "docs" / "configuration.md"
FOLDERS = ("benchmarks", "deploy", "docs", "kedastral", "proto", "tests")


def check_ours(words: Words, tmp_path: Path) -> None:
    """Its settings are valid; nothing is started, and no Prometheus is asked."""
    command, *rest = [EXAMPLE_FOLDER.get(word, word) for word in words[1:] if word != "--check-queries"]
    for word in rest:
        if word.endswith((".csv", ".csv.gz")):
            (tmp_path / word).write_bytes(b"")
    if command in BY_COMMAND and command not in ("explain", "doctor"):  # these need more than settings
        given = ["validate", "--command", command, *rest]
    else:
        given = [command, *rest, *([] if command in ("validate", "--version") else ["--help"])]
    shown = CliRunner().invoke(cli, given)
    if "localhost:9090" in rest:  # the example of wrong settings
        told = [
            line.removeprefix("kedastral: ") for line in read(CONFIGURATION).splitlines() if "kedastral: --" in line
        ]
        assert str(shown.exception).splitlines() == told
    else:
        assert shown.exit_code == 0, str(shown.exception)


def check_python(words: Words, _: Path) -> None:
    """``python -m MODULE``: the module exists, and knows each flag."""
    assert words[1] == "-m"
    if words[2] in ("json.tool", "pytest"):
        assert all((ROOT / word).exists() for word in words[3:])
        return
    source = read(ROOT / f"{words[2].replace('.', '/')}.py")
    for flag in (word for word in words if word.startswith("--")):
        assert f'"{flag}"' in source, flag


def check_extras(words: Words, _: Path) -> None:
    """``pip install``: the extra or the group is one of the project's."""
    project = tomllib.loads(read(ROOT / "pyproject.toml"))
    for extra in re.findall(r"\[(\w+)\]", " ".join(words)):
        assert extra in project["project"]["optional-dependencies"]


def check_prometheus(words: Words, _: Path) -> None:
    """tests/integration/test_documented_commands.py starts it."""
    assert {word.partition("=")[0] for word in words[1:]} == {
        "--config.file",
        "--storage.tsdb.path",
        "--web.listen-address",
    }


def check_elsewhere(words: Words, _: Path) -> None:
    """It needs a cluster or a container engine, or is part of the shell: other tests check its files."""


CHECKS: dict[str, Callable[[Words, Path], None]] = {
    "kedastral": check_ours,
    "python": check_python,
    "python3": check_python,
    "pip": check_extras,
    "prometheus": check_prometheus,
}
LEFT = {
    "make": "tests/docs/test_documentation.py knows the targets",
    "kubectl": "needs a cluster; tests/docs/test_documentation.py looks at its files, make e2e at the objects",
    "kind": "needs a container engine",
    "k3d": "needs a container engine",
    "helm": "needs a cluster",
    "curl": "tests/integration/test_documented_commands.py asks the paths",
    "grpcurl": "tests/test_reflection.py and tests/process ask the same with grpcio",
    "grep": "of the shell",
    ".": "of the shell",
    "for": "of the shell",
    "do": "of the shell",
    "mv": "of the shell",
    "sleep": "of the shell",
    "done": "of the shell",
}


@pytest.mark.parametrize(
    ("page", "words"), SHOWN, ids=[f"{page.relative_to(ROOT)}-{n}" for n, (page, _) in enumerate(SHOWN)]
)
def test_every_command_is_one_that_works_or_says_why_it_is_not_run(
    page: Path, words: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = words[0].removeprefix(".venv/bin/")
    assert (program in CHECKS) != (program in LEFT), f"{program} in {page.name} has no check"
    if any(word.startswith("deploy/") for word in words):
        monkeypatch.chdir(ROOT)
    else:
        monkeypatch.chdir(tmp_path)
    if program in CHECKS:
        CHECKS[program](words, tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_every_file_and_module_that_the_prose_names_is_there(page: Path) -> None:
    for piece in inline_code(read(page)):
        words = piece.split()
        if words[:2] == ["python", "-m"] and words[2].startswith(("benchmarks.", "tests.")):
            module = ROOT / words[2].replace(".", "/")
            assert module.with_suffix(".py").exists() or (module / "__main__.py").exists(), piece
        elif re.fullmatch(rf"(?:{'|'.join(FOLDERS)})/[\w./-]+", piece):
            assert (ROOT / piece).exists(), piece
