# SPDX-License-Identifier: Apache-2.0
"""`write_whole`: a file that is complete, or as it was before."""

import os
from pathlib import Path

from kedastral.errors import ConfigError


def write_whole(path: Path, text: str) -> None:
    """Write ``text`` to a neighbour of ``path``, then rename; what is no regular file, as a pipe, is written to.

    Whatever interrupts it, no half of a file is left. Raises ConfigError where it cannot be written.
    """
    target = path.resolve()
    try:
        if target.exists() and not target.is_file():
            target.write_text(text, encoding="utf-8")
            return
        _write_and_rename(target, text)
    except OSError as error:
        raise ConfigError([f"{path}: must be a file that can be written; got: {error.strerror or error}"]) from error


def _write_and_rename(target: Path, text: str) -> None:
    neighbour = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with neighbour.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        neighbour.replace(target)
    finally:
        neighbour.unlink(missing_ok=True)
