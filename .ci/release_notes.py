# SPDX-License-Identifier: Apache-2.0
"""Prints the section of CHANGELOG.md for a tag: ``python .ci/release_notes.py v0.1.0``.

Ends with 1 where the tag is not the version of the package, or its section is missing, empty or still unreleased.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def find_notes(changelog: str, version: str) -> str:
    """The text below the heading of ``version``. Raises ValueError where it cannot be released."""
    heading = re.search(rf"^## \[{re.escape(version)}\](.*)$", changelog, re.MULTILINE)
    if heading is None:
        raise ValueError(f"CHANGELOG.md has no section for {version}")
    if not re.fullmatch(r" - \d{4}-\d{2}-\d{2}", heading[1]):
        raise ValueError(f"CHANGELOG.md says of {version}:{heading[1]}; a date belongs there")
    notes = re.split(r"^## ", changelog[heading.end() :], maxsplit=1, flags=re.MULTILINE)[0].strip()
    if not notes:
        raise ValueError(f"CHANGELOG.md says nothing of {version}")
    return notes


def require_version(tag: str, package: str) -> str:
    """The version that ``tag`` names. Raises ValueError unless it is that of the package's ``__init__.py``."""
    found = re.search(r'^__version__ = "(.+)"$', package, re.MULTILINE)
    if found is None or tag != f"v{found[1]}":
        raise ValueError(f"the tag {tag} is not the version of the package")
    return found[1]


if __name__ == "__main__":
    try:
        version = require_version(sys.argv[1], (ROOT / "kedastral" / "__init__.py").read_text(encoding="utf-8"))
        sys.stdout.write(find_notes((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), version) + "\n")
    except ValueError as error:
        sys.exit(str(error))
