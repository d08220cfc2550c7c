# SPDX-License-Identifier: Apache-2.0
"""Writes the tables of docs/configuration.md from the settings themselves: ``python docs/generate.py`` (`make docs`).

What stands between ``<!-- settings of COMMAND -->`` and the next ``<!-- end -->`` is replaced; the prose stays.
"""

import re
import sys
from pathlib import Path
from typing import Any

from kedastral.cli.main import COMMANDS
from kedastral.config.fields import Setting, settings_of

PAGE = Path(__file__).resolve().parent / "configuration.md"
_TABLE = re.compile(r"(<!-- settings of (?P<command>[a-z]+) -->\n).*?(<!-- end -->)", re.DOTALL)
HEAD = "| flag | variable | kind | default | meaning |\n|---|---|---|---|---|\n"


def render(page: str) -> str:
    """``page`` with every table made anew; raises KeyError for a command that does not exist."""
    return _TABLE.sub(lambda found: found[1] + write_table(COMMANDS[found["command"]]) + found[3], page)


def write_table(settings: type[Any]) -> str:
    """One row per setting of a settings class, in the order of ``--help``."""
    return "\n" + HEAD + "".join(_row(setting) for setting in settings_of(settings)) + "\n"


def _row(setting: Setting) -> str:
    flag = f"`{setting.flag}`" if setting.flag else "(none)"
    default = f"`{setting.shown_default}`" if setting.shown_default else "required" if setting.required else "none"
    cells = (flag, f"`{setting.env}`", setting.kind, default, setting.meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


if __name__ == "__main__":
    before = PAGE.read_text(encoding="utf-8")
    after = render(before)
    PAGE.write_text(after, encoding="utf-8")
    sys.stderr.write(f"{PAGE.name}: {'unchanged' if after == before else 'written'}\n")
