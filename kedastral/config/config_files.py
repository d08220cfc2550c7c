# SPDX-License-Identifier: Apache-2.0
"""Which files a configuration is made of, and what is in them; a ConfigMap's folder is read at one moment."""

import stat
from collections.abc import Iterator
from pathlib import Path

import attrs

from kedastral.errors import ConfigError

LARGEST_FILE = 1024 * 1024
"""Bytes. Kubernetes keeps no larger ConfigMap."""
MOST_FILES = 1000
SUFFIXES = (".yaml", ".yml")


@attrs.frozen
class ConfigFile:
    """One file: what it is called in messages, and its bytes."""

    name: str
    content: bytes = attrs.field(repr=False)


def read_config_files(path: Path) -> list[ConfigFile]:
    """The file at ``path``, or those of that folder that end in .yaml or .yml, by name; hidden ones are left alone.

    Raises ConfigError with every file that cannot be read, or is larger than `LARGEST_FILE`.
    """
    files: list[ConfigFile] = []
    problems: list[str] = []
    for name, file in _find_files(path):
        try:
            files.append(ConfigFile(name, _read_bounded(file)))
        except OSError as error:
            problems.append(f"{name}: cannot be read ({error.strerror or error}); see to it, or take it away")
        except ValueError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise ConfigError(problems)
    return files


def _find_files(path: Path) -> Iterator[tuple[str, Path]]:
    """Names as the user knows them, and where to read them."""
    try:
        if not path.is_dir():
            yield printable(str(path)), path
            return
        # kubelet swaps the link ..data in one step: reading behind it, no file is of another version than the rest
        data = path / "..data"
        folder = data.resolve() if data.is_dir() else path
        names = sorted(
            entry.name for entry in folder.iterdir() if entry.suffix in SUFFIXES and not entry.name.startswith(".")
        )
    except (OSError, ValueError) as error:
        words = getattr(error, "strerror", None) or error
        raise ConfigError([f"{printable(str(path))}: cannot be read ({words}); set it with --config"]) from error
    if not names:
        raise ConfigError([f"{printable(str(path))}: holds no file that ends in .yaml or .yml; put one there"])
    if len(names) > MOST_FILES:
        raise ConfigError([f"{printable(str(path))}: must hold at most {MOST_FILES} files, got {len(names)}"])
    for name in names:
        yield printable(str(path / name)), folder / name


def _read_bounded(file: Path) -> bytes:
    """Raises OSError, and ValueError with words for what is no file or too large."""
    if not stat.S_ISREG(file.stat().st_mode):  # opening a pipe would wait for its writer
        raise ValueError("must be a file; it is a folder, a pipe or a device")
    with file.open("rb") as source:
        content = source.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise ValueError(f"must be at most {LARGEST_FILE >> 20} MiB; split it")
    return content


def printable(text: str) -> str:
    """``text`` as one line, cut where it is long."""
    return "".join(c if c.isprintable() else "?" for c in text)[:300]
