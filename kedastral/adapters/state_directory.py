# SPDX-License-Identifier: Apache-2.0
"""`StateDirectory`: a `kedastral.core.ports.StateStore` in a directory of one process, two files for each workload.

A file is written next to the one that it replaces, flushed to disk, and renamed: a reader finds either the old or the
new file, complete, even after a crash of the process or the machine. All I/O happens in one worker thread at a time.

If the disk hangs, the thread cannot be cancelled, only abandoned: it may still write its file once the disk answers.
Later accesses therefore wait until it has ended, and `close` leaves the directory locked: the system releases the lock
with the last thread of the process, after which nothing of it can write. The process need not wait for it to exit,
since Trio's threads are daemons.

The lock is that of a file in the directory. If somebody deletes that file or the directory, the lock protects nothing
that another process would see; so before each access it is compared with the file that is there, and taken again.
"""

import errno
import fcntl
import hashlib
import logging
import os
import re
import socket
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

import attrs
import trio

from kedastral.core.kept_state import KeptHistory, KeptState
from kedastral.errors import ConfigError, StoreError
from kedastral.logs import named
from kedastral.state_format import StateFormatError, read_history, read_state, write_history, write_state

STATE, HISTORY = ".state", ".history"
UNREADABLE, HALF_WRITTEN = ".unreadable", ".tmp"
ENDINGS = [kind + aside for kind in (STATE, HISTORY) for aside in ("", UNREADABLE)]
OUR_FILES = re.compile(rf"([A-Za-z0-9_-]+)({STATE}|{HISTORY})({UNREADABLE})?")
LOCK, PROBE = ".lock", ".probe"
READABLE_LENGTH = 80
"""How many characters of a workload's name its file name shows; a digest of the whole name follows."""
REASONS = {
    errno.ENOSPC: "disk_full",
    errno.EDQUOT: "disk_full",
    errno.EROFS: "read_only",
    errno.EACCES: "denied",
    errno.EPERM: "denied",
}
"""The reasons of system errors in metrics; any other is ``io``."""

OF_ONE_FILE = frozenset({errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP})
"""Read errors that only concern that file, not the disk or the process: other files may still be readable."""

HANGS_AFTER = 30.0
"""Seconds after which an access counts as failed. A disk that is only slow takes less, even if many accesses wait."""

T = TypeVar("T")
log = logging.getLogger("kedastral.state")


@attrs.define(eq=False)
class StateDirectory:
    """The states and histories in ``path``, which this process owns exclusively while it runs; see `open`."""

    path: Path
    _lock: int
    unreadable: int = attrs.field(default=0, init=False)
    _threads: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(1), init=False)

    @classmethod
    def open(cls, path: Path) -> "StateDirectory":
        """The directory ``path``, created if it is missing. Blocks briefly.

        Raises ConfigError if another process uses it, or it cannot be written.
        """
        with _explain(path):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = _take_lock(path)
        try:
            with _explain(path):
                _write_whole(path / PROBE, b"kedastral can write here\n")
                (path / PROBE).unlink()
                for left in path.glob(f"*{HALF_WRITTEN}"):
                    left.unlink()
        except BaseException:
            os.close(lock)
            raise
        return cls(path, lock)

    def close(self) -> None:
        """Let another process use the directory; if a thread may still write to it, not before this process ends."""
        if self._threads.borrowed_tokens:
            log.warning("--state-dir %s hangs, and may not have what is newest", self.path)
            return
        os.close(self._lock)

    async def load_all(self) -> Mapping[str, KeptState]:
        """See `kedastral.core.ports.StateStore.load_all`."""
        return await self._in_thread(self._read_all)

    async def load(self, workload: str) -> KeptState | None:
        """See `kedastral.core.ports.StateStore.load`."""
        return await self._in_thread(self._read, self._file(workload, STATE), read_state)

    async def save(self, state: KeptState) -> int:
        """See `kedastral.core.ports.StateStore.save`."""
        return await self._in_thread(self._write, state.workload, STATE, partial(write_state, state), state.saved_at)

    async def load_history(self, workload: str) -> KeptHistory | None:
        """See `kedastral.core.ports.StateStore.load_history`."""
        return await self._in_thread(self._read, self._file(workload, HISTORY), read_history)

    async def save_history(self, history: KeptHistory) -> int:
        """See `kedastral.core.ports.StateStore.save_history`."""
        return await self._in_thread(self._write, history.workload, HISTORY, partial(write_history, history), None)

    async def remove(self, workload: str) -> None:
        """See `kedastral.core.ports.StateStore.remove`."""
        await self._in_thread(self._remove, stem_of(workload))

    async def remove_unsaved(self, since: datetime, current: Collection[str]) -> int:
        """See `kedastral.core.ports.StateStore.remove_unsaved`; files that were set aside are removed too."""
        kept = {stem_of(workload) for workload in current}
        return await self._in_thread(self._remove_older, since.timestamp(), kept)

    def _file(self, workload: str, ending: str) -> Path:
        return self.path / (stem_of(workload) + ending)

    async def _in_thread(self, call: Callable[..., T], *args: object) -> T:
        def call_locked() -> T:
            self._keep_lock()
            return call(*args)

        try:
            with trio.fail_after(HANGS_AFTER):
                return await trio.to_thread.run_sync(call_locked, limiter=self._threads, abandon_on_cancel=True)
        except trio.TooSlowError as error:
            words = f"--state-dir {self.path}: the disk did not answer within {HANGS_AFTER:g} s"
            raise StoreError(words, reason="timeout") from error
        except ConfigError as error:
            raise StoreError(str(error), reason="in_use") from error
        except OSError as error:
            reason = REASONS.get(error.errno or 0, "io")
            raise StoreError(f"--state-dir {self.path}: {_words_of(error, self.path)}", reason=reason) from error
        except StateFormatError as error:
            raise StoreError(f"the state cannot be saved: {error}", reason="bad_state") from error

    def _keep_lock(self) -> None:
        """Take the lock again if the directory or its lock file was replaced since.

        Raises OSError if the directory is gone, ConfigError if another process has the lock by now.
        """
        if not self.path.is_dir():  # and is not made again: its disk may not be mounted
            raise FileNotFoundError(errno.ENOENT, "the directory was removed", str(self.path))
        if _is_lock_of(self.path, self._lock):
            return
        lock = _take_lock(self.path)
        os.close(self._lock)
        self._lock = lock
        log.warning("--state-dir %s was replaced while the process ran, and is locked again", self.path)

    def _read_all(self) -> Mapping[str, KeptState]:
        """All readable states. Raises OSError if there are some, but none can be read."""
        found, failed = dict[str, KeptState](), list[OSError]()
        paths = sorted(self.path.glob(f"*{STATE}"))
        for path in paths:
            try:
                state = self._read(path, read_state)
            except OSError as error:
                failed.append(error)
                continue
            if state is not None:
                found[state.workload] = state
        if failed and not found:
            raise failed[0]
        if failed:
            log.warning("%d kept files cannot be read: %s", len(failed), failed[0])
        self.unreadable = len(paths) - len(found)
        return found

    def _read(self, path: Path, read: "Callable[[bytes], Kept]") -> "Kept | None":
        try:
            kept = read(path.read_bytes())
            if stem_of(kept.workload) + path.suffix != path.name:
                raise StateFormatError(f"of another workload, {kept.workload!r:.100}")
        except FileNotFoundError:
            return None
        except StateFormatError as error:
            why = str(error)
        except OSError as error:
            if error.errno not in OF_ONE_FILE:
                raise
            why = error.strerror or str(error)
        else:
            return kept
        aside = path.with_name(path.name + UNREADABLE)
        path.replace(aside)
        log.warning("a kept file cannot be used, and is now %s: %s", aside, why, extra=named(path.stem))
        return None

    def _write(self, workload: str, ending: str, write: Callable[[], bytes], at: datetime | None) -> int:
        data, path = write(), self._file(workload, ending)
        _write_whole(path, data, None if at is None else at.timestamp())
        return len(data)

    def _remove(self, stem: str) -> None:
        for ending in ENDINGS:  # without listing the directory, which may be large
            with suppress(FileNotFoundError, IsADirectoryError):  # a directory is not ours, even under such a name
                (self.path / (stem + ending)).unlink()

    def _remove_older(self, since: float, kept: Collection[str]) -> int:
        newest: dict[str, float] = {}
        for path in self.path.iterdir():
            found = OUR_FILES.fullmatch(path.name)
            if found is not None and path.is_file():
                newest[found[1]] = max(newest.get(found[1], 0.0), path.stat().st_mtime)
        gone = [stem for stem, at in newest.items() if stem not in kept and at < since]
        for stem in gone:
            self._remove(stem)
        return len(gone)


Kept = TypeVar("Kept", KeptState, KeptHistory)


def stem_of(workload: str) -> str:
    """The name of a workload's files without their ending: readable, and unique for every workload.

    It has only letters, digits, ``-`` and ``_``, at most 113 of them, and is unique regardless of case.
    """
    digest = hashlib.blake2b(workload.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9_-]', '_', workload)[:READABLE_LENGTH]}-{digest}"


def _write_whole(path: Path, data: bytes, modified_at: float | None = None) -> None:
    """Replace ``path`` with a file of ``data``, or leave it as it is. Raises OSError."""
    beside = path.with_name(path.name + HALF_WRITTEN)
    is_new = not path.exists()
    try:
        file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(file, "wb") as opened:
            opened.write(data)
            opened.flush()
            os.fsync(file)
        if modified_at is not None:
            os.utime(beside, (modified_at, modified_at))
        beside.replace(path)
    except OSError:
        with suppress(OSError):
            beside.unlink()
        raise
    if is_new:  # a replaced file's name is already on disk: after a power loss it has old or new data
        _flush_directory(path.parent)


def _flush_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _open_lock(path: Path) -> int:
    return os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _is_lock_of(path: Path, lock: int) -> bool:
    """Whether ``lock`` is the lock file that is in ``path`` now."""
    with suppress(FileNotFoundError):
        return os.path.samestat((path / LOCK).stat(), os.fstat(lock))
    return False


def _take_lock(path: Path) -> int:
    """Open and lock the lock file of ``path``; once more if it was replaced in between. Raises as `_lock` does."""
    for is_last in (False, True):
        lock = _open_lock(path)
        try:
            _lock(lock, path)
            if is_last or _is_lock_of(path, lock):
                break
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)
    return lock


def _lock(lock: int, path: Path) -> None:
    """Lock ``path`` for as long as the process lives, however it ends. Raises ConfigError if another one has it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(lock, 200).decode("ascii", "replace").strip() or "unknown"
        raise ConfigError(
            [f"--state-dir {path}: another process uses it ({owner}); give each process a directory of its own"]
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"host {socket.gethostname()}, process {os.getpid()}\n".encode(), 0)


@contextmanager
def _explain(path: Path) -> Iterator[None]:
    """Raise ConfigError if the system refuses something in ``path``."""
    try:
        yield
    except OSError as error:
        words = f"--state-dir {path}: must be a directory that this process may write, but: "
        words += _words_of(error, path)
        if REASONS.get(error.errno or 0) == "denied":
            words += f"; the process runs as user {os.geteuid()}, group {os.getegid()}{_owner_of(path)}"
        raise ConfigError([words]) from error


def _words_of(error: OSError, directory: Path) -> str:
    """What the system refused, and for which file in ``directory``, if it says so."""
    words, name = error.strerror or str(error), str(error.filename or "")
    return f"{name}: {words}" if name not in ("", str(directory)) else words


def _owner_of(path: Path) -> str:
    with suppress(OSError):
        found = path.stat()
        return (
            f", and the directory belongs to user {found.st_uid}, group {found.st_gid}, mode {found.st_mode & 0o7777:o}"
        )
    return ""
