# SPDX-License-Identifier: Apache-2.0
"""`look_at`: what differs when a configuration's files do, without reading them."""

from pathlib import Path

from kedastral.config.config_files import SUFFIXES


def look_at(path: Path) -> object:
    """Name, place, size and time of every file at ``path``, a file or a folder; a link counts as what it leads to.

    What cannot be looked at differs from what can. Kubernetes swaps a link when a ConfigMap changes: the place differs.
    """
    try:
        files = sorted(file for file in path.iterdir() if _counts(file)) if path.is_dir() else [path]
        return tuple(_look_at_one(file) for file in files)
    except OSError as error:
        return (type(error).__name__, error.errno)


def _counts(file: Path) -> bool:
    """Whether ``file`` is one that is read, or the link that Kubernetes swaps; others may change as they like."""
    return file.suffix in SUFFIXES or file.name == "..data"


def _look_at_one(file: Path) -> object:
    try:
        found = file.stat()
    except OSError as error:
        return (file.name, error.errno)
    return (file.name, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
