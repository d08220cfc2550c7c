# SPDX-License-Identifier: Apache-2.0
"""Which files a configuration consists of, reading them as of one moment, and whether they have changed since."""

import stat
from collections.abc import Hashable, Iterator
from pathlib import Path

import attrs

from kedastral.errors import ConfigError
from kedastral.text import printable

MAX_FILE_SIZE = 1024 * 1024
"""Bytes. Kubernetes allows no larger ConfigMap."""
MAX_FILES = 1000
SUFFIXES = (".yaml", ".yml")


@attrs.frozen
class ConfigFile:
    """One file: its name in messages, and its bytes."""

    name: str
    content: bytes = attrs.field(repr=False)


def read_config_files(path: Path) -> list[ConfigFile]:
    """The file at ``path``, or the .yaml and .yml files of that folder, by name; hidden ones are ignored.

    Raises ConfigError with every file that cannot be read, or is larger than `MAX_FILE_SIZE`.
    """
    files: list[ConfigFile] = []
    problems: list[str] = []
    for name, file in _find_files(path):
        try:
            files.append(ConfigFile(name, _read_bounded(file)))
        except OSError as error:
            problems.append(f"{name}: cannot be read ({error.strerror or error}); fix it, or remove it")
        except ValueError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise ConfigError(problems)
    return files


def _find_files(path: Path) -> Iterator[tuple[str, Path]]:
    """The names of files as the user knows them, and where to read them."""
    try:
        if not path.is_dir():
            yield printable(str(path)), path
            return
        # kubelet swaps the link ..data in one step: when read through it, all files are of the same version
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
    if len(names) > MAX_FILES:
        raise ConfigError([f"{printable(str(path))}: must hold at most {MAX_FILES} files, got {len(names)}"])
    for name in names:
        yield printable(str(path / name)), folder / name


def _read_bounded(file: Path) -> bytes:
    """Raises OSError, and ValueError with a message for what is not a file or too large."""
    if not stat.S_ISREG(file.stat().st_mode):  # opening a pipe would wait for its writer
        raise ValueError("must be a file; it is a folder, a pipe or a device")
    with file.open("rb") as source:
        content = source.read(MAX_FILE_SIZE + 1)
    if len(content) > MAX_FILE_SIZE:
        raise ValueError(f"must be at most {MAX_FILE_SIZE >> 20} MiB; split it")
    return content


def look_at(path: Path) -> Hashable:
    """A value that changes when the files at ``path``, a file or a folder, do: names, locations, sizes and times.

    Links are followed: Kubernetes swaps a link when a ConfigMap changes. No file is read.
    """
    try:
        files = sorted(file for file in path.iterdir() if _counts(file)) if path.is_dir() else [path]
        return tuple(_look_at_one(file) for file in files)
    except OSError as error:
        return (type(error).__name__, error.errno)


def _counts(file: Path) -> bool:
    """Whether ``file`` is one that is read, or the link that Kubernetes swaps; changes of others do not matter."""
    return file.suffix in SUFFIXES or file.name == "..data"


def _look_at_one(file: Path) -> object:
    try:
        found = file.stat()
    except OSError as error:
        return (file.name, error.errno)
    return (file.name, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
