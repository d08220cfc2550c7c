# SPDX-License-Identifier: Apache-2.0
"""The directory of --state-dir: one process only, files that are complete or absent, and clear messages otherwise."""

import errno
import logging
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from kedastral.adapters import state_directory
from kedastral.adapters.state_directory import StateDirectory, stem_of
from kedastral.errors import ConfigError, StoreError
from kedastral.state_format import write_state
from tests.kept import make_kept_history, make_kept_state
from tests.parts import START


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[StateDirectory]:
    opened = StateDirectory.open(tmp_path / "state")
    yield opened
    opened.close()


def state_file(directory: StateDirectory, workload: str = "shop") -> Path:
    return directory.path / f"{stem_of(workload)}.state"


def read_aside(directory: StateDirectory) -> bytes:
    """The state of the shop that was set aside."""
    return Path(f"{state_file(directory)}.unreadable").read_bytes()


def files(directory: StateDirectory) -> set[str]:
    """The names of all files but the lock."""
    return {path.name for path in directory.path.iterdir()} - {".lock"}


# --- at the start ---


def test_it_is_made_where_it_is_missing_and_is_nobody_elses_business(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    opened = StateDirectory.open(path)
    assert path.stat().st_mode & 0o777 == 0o700
    assert files(opened) == set()
    opened.close()


def test_two_processes_never_share_it_and_the_second_is_told_who_has_it(tmp_path: Path) -> None:
    directory = StateDirectory.open(tmp_path)
    with pytest.raises(ConfigError) as caught:
        StateDirectory.open(directory.path)
    [words] = caught.value.problems
    assert f"--state-dir {directory.path}: another process uses it" in words
    assert f"process {os.getpid()}" in words
    directory.close()
    StateDirectory.open(tmp_path).close()


def test_the_lock_ends_with_its_process_however_it_ends(tmp_path: Path) -> None:
    hold = "import sys; from pathlib import Path\nfrom kedastral.adapters.state_directory import StateDirectory\n"
    hold += f"StateDirectory.open(Path({str(tmp_path)!r})); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(ConfigError, match=f"process {other.pid}"):
            StateDirectory.open(tmp_path)
        other.kill()
        other.wait()
    StateDirectory.open(tmp_path).close()


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "Permission denied; the process runs as user"),
        (errno.EROFS, "Read-only file system"),
        (errno.ENOSPC, "No space left on device"),
    ],
)
@pytest.mark.parametrize("call", ["open", "fsync"])
def test_one_that_cannot_be_written_is_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str, call: str
) -> None:
    def refuse(*_arguments: object, **_more: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(ConfigError) as caught:
        StateDirectory.open(tmp_path)
    [problem] = caught.value.problems
    assert problem.startswith(f"--state-dir {tmp_path}: must be a directory that this process may write, but: {words}")
    monkeypatch.undo()
    StateDirectory.open(tmp_path).close()


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="must be a directory"):
        StateDirectory.open(tmp_path / "file")


@pytest.mark.parametrize("name", ["shop-1.state.tmp", ".probe.tmp", ".lock"])
def test_a_directory_in_the_place_of_a_file_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(ConfigError, match=f"{tmp_path / name}: Is a directory"):
        StateDirectory.open(tmp_path)


async def test_what_a_killed_process_left_half_written_is_cleared_away(tmp_path: Path) -> None:
    directory = StateDirectory.open(tmp_path)
    await directory.save(make_kept_state())
    (directory.path / "shop-1.state.tmp").write_bytes(b"half")
    directory.close()
    again = StateDirectory.open(directory.path)
    assert files(again) == {state_file(again).name}
    again.close()


# --- writing ---


async def test_files_are_read_by_their_user_alone_and_written_in_a_thread(
    directory: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    flush = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: threads.append(threading.get_ident()) or flush(file))
    await directory.save(make_kept_state())
    await directory.save_history(make_kept_history())
    assert [path.stat().st_mode & 0o777 for path in directory.path.iterdir()] == [0o600] * 3
    assert len(threads) == 4, "each file and, since both are new, the directory"
    assert threading.get_ident() not in threads
    await directory.save(make_kept_state())
    assert len(threads) == 5


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, "disk_full"),
        (errno.EDQUOT, "disk_full"),
        (errno.EROFS, "read_only"),
        (errno.EACCES, "denied"),
        (errno.EIO, "io"),
    ],
)
@pytest.mark.parametrize("call", ["os.open", "os.fsync", "pathlib.Path.replace"])
async def test_wherever_writing_fails_the_file_before_is_still_there_and_nothing_beside_it(
    directory: StateDirectory, monkeypatch: pytest.MonkeyPatch, number: int, reason: str, call: str
) -> None:
    await directory.save(make_kept_state(told=1))

    def refuse(*_arguments: object, **_more: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(call, refuse)
    with pytest.raises(StoreError) as caught:
        await directory.save(make_kept_state(told=2))
    monkeypatch.undo()
    assert caught.value.reason == reason
    assert str(caught.value) == f"--state-dir {directory.path}: {os.strerror(number)}"
    assert files(directory) == {state_file(directory).name}
    assert await directory.load("shop") == make_kept_state(told=1)
    await directory.save(make_kept_state(told=3))
    assert await directory.load("shop") == make_kept_state(told=3)


# --- a disk that hangs ---


@attrs.define
class HangingDisk:
    """A disk that has taken one write and does not flush it until `answer`; at the latest when the test gives up."""

    directory: StateDirectory
    reached: threading.Event = attrs.field(factory=threading.Event)
    answers: threading.Event = attrs.field(factory=threading.Event)

    def flush(self, _file: int) -> None:
        self.reached.set()
        self.answers.wait(10)
        self.answers.set()

    async def hold(self, save: Callable[[], Awaitable[object]], nursery: trio.Nursery) -> None:
        """Begin to ``save``; returns once its thread hangs."""
        nursery.start_soon(save)
        await trio.to_thread.run_sync(self.reached.wait)

    async def answer(self) -> None:
        """Answer; returns once the thread that hung has ended."""
        self.answers.set()
        await self.directory.load("nobody")


@pytest.fixture
def disk(directory: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> HangingDisk:
    hanging = HangingDisk(directory)
    monkeypatch.setattr(os, "fsync", hanging.flush)
    return hanging


@pytest.mark.parametrize("waiting", [0, 3], ids=["alone", "with others behind it"])
async def test_whoever_waits_for_a_disk_that_hangs_can_be_cancelled(
    directory: StateDirectory, disk: HangingDisk, mock_clock: MockClock, waiting: int
) -> None:
    async with trio.open_nursery() as nursery:
        await disk.hold(partial(directory.save, make_kept_state()), nursery)
        for _ in range(waiting):
            nursery.start_soon(directory.load, "shop")
        nursery.cancel_scope.cancel()
    assert not disk.answers.is_set()
    assert trio.current_time() == mock_clock.current_time() == 0.0
    await disk.answer()


async def test_an_access_that_hangs_fails_and_those_after_it_work_once_the_disk_answers(
    directory: StateDirectory, disk: HangingDisk, mock_clock: MockClock
) -> None:
    failed = list[StoreError]()

    async def fail(access: Callable[[], Awaitable[object]]) -> None:
        with pytest.raises(StoreError) as caught:
            await access()
        failed.append(caught.value)

    async with trio.open_nursery() as nursery:
        await disk.hold(partial(fail, partial(directory.save, make_kept_state(told=1))), nursery)
        nursery.start_soon(fail, partial(directory.load, "shop"))
        await wait_all_tasks_blocked()
        mock_clock.jump(state_directory.HANGS_AFTER - 0.1)
        await wait_all_tasks_blocked()
        assert failed == []
        mock_clock.jump(0.1)
    assert not disk.answers.is_set()
    assert [error.reason for error in failed] == ["timeout"] * 2
    assert str(failed[0]) == f"--state-dir {directory.path}: the disk did not answer within 30 s"
    await disk.answer()
    assert await directory.load("shop") == make_kept_state(told=1), "the disk had taken it, and answers late"
    await directory.save(make_kept_state(told=2))
    assert await directory.load("shop") == make_kept_state(told=2)


async def test_what_is_saved_after_a_save_that_hangs_is_not_overwritten_by_it(
    directory: StateDirectory, disk: HangingDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hangs before it opens its file: once the disk answers, it would replace whatever is there."""
    write, second_wrote = state_directory._write_whole, threading.Event()

    def write_late(path: Path, data: bytes, modified_at: float | None = None) -> None:
        if disk.reached.is_set():
            write(path, data, modified_at)
            second_wrote.set()
        else:
            disk.flush(0)
            write(path, data, modified_at)

    monkeypatch.setattr(os, "fsync", lambda _file: None)
    monkeypatch.setattr(state_directory, "_write_whole", write_late)
    async with trio.open_nursery() as nursery:
        await disk.hold(partial(directory.save, make_kept_state(told=1)), nursery)
        nursery.cancel_scope.cancel()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(directory.save, make_kept_state(told=2))
        assert not await trio.to_thread.run_sync(second_wrote.wait, 0.2), "it waits for the first to end"
        await disk.answer()
    assert await directory.load("shop") == make_kept_state(told=2)


async def test_no_other_process_has_it_while_a_thread_may_still_write(
    directory: StateDirectory, disk: HangingDisk, caplog: pytest.LogCaptureFixture
) -> None:
    async with trio.open_nursery() as nursery:
        await disk.hold(partial(directory.save, make_kept_state()), nursery)
        nursery.cancel_scope.cancel()
    directory.close()
    assert caplog.messages == [f"--state-dir {directory.path} hangs, and may not have what is newest"]
    with pytest.raises(ConfigError, match="another process uses it"):
        StateDirectory.open(directory.path)
    await disk.answer()


# --- a directory that is replaced while the process runs ---


def replace_directory(directory: StateDirectory) -> None:
    """Delete it, and make it again without its files."""
    shutil.rmtree(directory.path)
    directory.path.mkdir()


def count_open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def delete_lock(directory: StateDirectory) -> None:
    (directory.path / ".lock").unlink()


@pytest.mark.parametrize("change", [replace_directory, delete_lock])
async def test_it_is_locked_again_before_the_next_access(
    directory: StateDirectory, change: Callable[[StateDirectory], None], caplog: pytest.LogCaptureFixture
) -> None:
    await directory.save(make_kept_state())
    change(directory)
    await directory.save(make_kept_state())
    with pytest.raises(ConfigError, match=f"another process uses it .*process {os.getpid()}"):
        StateDirectory.open(directory.path)
    await directory.save(make_kept_state(told=2))
    assert await directory.load("shop") == make_kept_state(told=2)
    assert caplog.messages == [f"--state-dir {directory.path} was replaced while the process ran, and is locked again"]
    before = count_open_files()
    change(directory)
    await directory.save(make_kept_state())
    assert count_open_files() == before, "the former lock is closed"


@pytest.mark.parametrize("change", [replace_directory, delete_lock])
async def test_one_that_another_process_has_taken_meanwhile_is_neither_read_nor_changed(
    directory: StateDirectory, change: Callable[[StateDirectory], None]
) -> None:
    change(directory)
    other = StateDirectory.open(directory.path)
    await other.save(make_kept_state(told=7))
    os.utime(state_file(other), (0, 0))
    before, descriptors = state_file(other).read_bytes(), count_open_files()
    for access in (
        partial(directory.save, make_kept_state(told=1)),
        partial(directory.save_history, make_kept_history()),
        partial(directory.load, "shop"),
        partial(directory.remove, "shop"),
        partial(directory.remove_unsaved, START, ()),
    ):
        with pytest.raises(StoreError, match=f"--state-dir {directory.path}: another process uses it") as caught:
            await access()
        assert caught.value.reason == "in_use"
    assert state_file(other).read_bytes() == before
    assert count_open_files() == descriptors
    other.close()
    await directory.save(make_kept_state(told=3))
    assert await directory.load("shop") == make_kept_state(told=3)


async def test_one_that_another_process_takes_while_it_is_locked_again_is_not_changed(
    directory: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    others, open_lock = list[StateDirectory](), state_directory._open_lock

    def open_late(path: Path) -> int:
        lock = open_lock(path)
        monkeypatch.setattr(state_directory, "_open_lock", open_lock)
        delete_lock(directory)
        others.append(StateDirectory.open(path))
        return lock

    delete_lock(directory)
    monkeypatch.setattr(state_directory, "_open_lock", open_late)
    descriptors = count_open_files()
    with pytest.raises(StoreError, match="another process uses it"):
        await directory.save(make_kept_state())
    [other] = others
    assert not state_file(other).exists()
    other.close()
    assert count_open_files() == descriptors


async def test_one_that_is_gone_is_not_made_again(directory: StateDirectory) -> None:
    shutil.rmtree(directory.path)
    with pytest.raises(StoreError) as caught:
        await directory.save(make_kept_state())
    assert str(caught.value) == f"--state-dir {directory.path}: the directory was removed"
    assert caught.value.reason == "io"
    assert not directory.path.exists()


# --- files that cannot be used ---


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def change(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def another_format(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"kedastral-state 1", b"kedastral-state 2", 1))


def another_workload(path: Path) -> None:
    path.write_bytes(write_state(make_kept_state("pay")))


DAMAGE: dict[Callable[[Path], None], str] = {
    cut_off: "damaged",
    empty: "not a state",
    change: "damaged",
    another_format: "written in format 2",
    another_workload: "of another workload, 'pay'",
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
async def test_a_file_that_cannot_be_used_is_set_aside_with_one_line_and_the_others_are_read(
    directory: StateDirectory, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("shop", "fine"):
        await directory.save(make_kept_state(name))
    damage(state_file(directory))
    damaged = state_file(directory).read_bytes()
    with caplog.at_level(logging.WARNING):
        assert set(await directory.load_all()) == {"fine"}
        assert directory.unreadable == 1
        assert set(await directory.load_all()) == {"fine"}
        assert directory.unreadable == 0
        assert await directory.load("shop") is None
    [record] = caplog.records
    assert f"{state_file(directory)}.unreadable: " in record.getMessage()
    assert DAMAGE[damage] in record.getMessage()
    assert read_aside(directory) == damaged
    await directory.save(make_kept_state())
    assert set(await directory.load_all()) == {"fine", "shop"}


async def test_a_history_that_cannot_be_used_is_set_aside_as_well(directory: StateDirectory) -> None:
    await directory.save(make_kept_state())
    await directory.save_history(make_kept_history())
    path = directory.path / f"{stem_of('shop')}.history"
    cut_off(path)
    assert await directory.load_history("shop") is None
    assert await directory.load("shop") is not None
    assert path.with_name(path.name + ".unreadable").exists()


# --- old files ---


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP])
async def test_a_file_that_may_not_be_read_is_set_aside_as_well(
    directory: StateDirectory, number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("shop", "other"):
        await directory.save(make_kept_state(name))
    refuse(state_file(directory), number, monkeypatch)
    assert set(await directory.load_all()) == {"other"}
    assert read_aside(directory) == write_state(make_kept_state())
    [record] = caplog.records
    assert os.strerror(number) in record.getMessage()


async def test_where_one_file_cannot_be_read_for_now_it_stays_and_the_others_are_read(
    directory: StateDirectory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("shop", "other"):
        await directory.save(make_kept_state(name))
    refuse(state_file(directory), errno.EIO, monkeypatch)
    assert set(await directory.load_all()) == {"other"}
    assert [record.getMessage() for record in caplog.records] == [
        f"1 kept files cannot be read: [Errno {errno.EIO}] Input/output error"
    ]
    with pytest.raises(StoreError):
        await directory.load("shop")
    monkeypatch.undo()
    assert await directory.load("shop") is not None


def refuse(path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make reading ``path`` fail."""
    read = Path.read_bytes

    def read_or_refuse(self: Path) -> bytes:
        if self == path:
            raise OSError(number, os.strerror(number))
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", read_or_refuse)


async def test_old_files_are_removed_without_a_look_at_all_the_others_for_each(
    directory: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        await directory.save(make_kept_state(f"gone {number}"))
    looks = []

    def watch(name: str) -> None:
        look = getattr(os, name)

        def look_and_count(*path: Path) -> object:
            looks.append(path)
            return look(*path)

        monkeypatch.setattr(os, name, look_and_count)

    watch("listdir")
    watch("scandir")
    assert await directory.remove_unsaved(START + timedelta(days=8), ()) == 20
    assert len(looks) == 1
    assert files(directory) == set()


async def test_old_files_are_removed_with_what_was_set_aside_and_no_others(directory: StateDirectory) -> None:
    old, since = START - timedelta(days=8), START - timedelta(days=7)
    for name in ("gone", "here", "young"):
        at = START if name == "young" else old
        await directory.save(attrs.evolve(make_kept_state(name), saved_at=at))
        await directory.save_history(make_kept_history(name))
        os.utime(directory.path / f"{stem_of(name)}.history", (at.timestamp(), at.timestamp()))
    shutil.copy2(state_file(directory, "gone"), f"{state_file(directory, 'gone')}.unreadable")
    for foreign in ("notes.txt", "lost+found", "other.tmp", "x.state.bak"):
        (directory.path / foreign).write_text("")
        os.utime(directory.path / foreign, (0, 0))
    assert await directory.remove_unsaved(since, {"here"}) == 1
    assert set(await directory.load_all()) == {"here", "young"}
    assert not [name for name in files(directory) if name.startswith("gone")]
    assert {"notes.txt", "lost+found", "other.tmp", "x.state.bak"} <= files(directory)


async def test_a_directory_with_the_name_of_a_file_keeps_no_other_file_from_being_removed(
    directory: StateDirectory,
) -> None:
    for name in ("a", "b", "c"):
        await directory.save(make_kept_state(name))
        os.utime(state_file(directory, name), (0, 0))
    for taken in (f"{stem_of('a')}.history", f"{stem_of('none')}.state.unreadable"):
        (directory.path / taken).mkdir()
        os.utime(directory.path / taken, (0, 0))
    assert await directory.remove_unsaved(START, ()) == 3
    assert await directory.load_all() == {}
    assert await directory.remove_unsaved(START, ()) == 0


# --- names ---


@pytest.mark.parametrize("name", ["shop", "prod/shop", "..", "x" * 5000, "ü/✓", "\0", "a b", ".hidden", "-rf"])
def test_a_file_name_is_safe_and_readable_whatever_the_workload_is_called(name: str) -> None:
    stem = stem_of(name)
    assert len(stem) <= 113
    assert all(char.isascii() and (char.isalnum() or char in "-_") for char in stem)
    assert stem.startswith("".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in name)[:80])


def test_names_that_differ_in_case_alone_have_files_that_differ_in_more() -> None:
    assert stem_of("shop").lower() != stem_of("SHOP").lower()


async def test_many_at_once_are_written_one_after_the_other(
    directory: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once, most, flush = 0, 0, os.fsync

    def watched(file: int) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        flush(file)
        at_once -= 1

    monkeypatch.setattr(os, "fsync", watched)
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(directory.save, make_kept_state(f"w{number}"))
    assert most == 1
    assert len(await directory.load_all()) == 20
