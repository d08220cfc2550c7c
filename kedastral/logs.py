# SPDX-License-Identifier: Apache-2.0
"""Logs: one line per event on standard error, as logfmt for people or JSON for machines.

Every module logs through the standard library (``logging.getLogger("kedastral.<component>")``, further fields in
``extra``). This module formats its records, and those of the libraries: ``ts, level, component, workload, msg, err``.

A thread writes the lines. Logging only puts them into a queue, so that a pipe that nobody reads blocks nothing.

A thousand workloads can have the same to say at the same time, above all at a start. Such lines get their ``extra``
from `of_many`, and `Gatherer` makes few lines of them.
"""

import logging
import os
import queue
import select
import sys
import threading
import traceback
from collections.abc import Hashable, Iterable, Iterator, MutableMapping, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

import attrs
import structlog
import trio

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
FIRST_KEYS = ("ts", "level", "component", "workload", "msg", "err")
MAX_QUEUED = 4 * 2**20
"""The most bytes of lines that wait to be written, about 20,000 lines; further lines are dropped and counted."""
MAX_WRITTEN_AT_ONCE = 2**16
"""The most bytes that are written at once: what a pipe holds on Linux."""
FLUSH_WITHIN = 0.5
"""Seconds that the end of the process waits for the last lines to be written."""
GATHER_FOR = 60.0
"""Seconds between two calls of `log_gathered`."""
SHOWN_ALONE = 5
"""How many workloads get a line of their own for the same event within `GATHER_FOR` seconds."""
MAX_NAMED = 10_000
"""The most workloads that one event holds back; the lines of others are shown."""
MAX_NAMES_LENGTH = 8000
"""Characters of names in one line: container runtimes split lines of more than 16 KiB."""
REPEAT_AFTER = 600.0
"""Seconds after which a lasting failure is logged again; at each tick, a thousand workloads would flood the log."""
_GATHERS_BY, _ABOUT = "gathers_by", "gathers_about"
_COMPONENTS = {"hypercorn": "http", "kedastral": "app", "quart": "http"}
_NOISY = dict.fromkeys(("httpx", "httpcore", "hpack", "hypercorn"), logging.WARNING)
"""httpx logs whole URLs, including queries, at info; hpack every header at debug; hypercorn what `app` already logs."""

Event = MutableMapping[str, Any]


def configure_logging(level: str, form: str, stream: TextIO | None = None) -> None:
    """Send every record of ``level`` and above to ``stream`` (standard error), as ``form`` ``text`` or ``json``.

    A separate thread writes to a stream that has a file descriptor; other streams are written to directly. At level
    ``debug`` each line is shown; otherwise see `Gatherer`.
    """
    render = structlog.processors.JSONRenderer() if form == "json" else _render_logfmt
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder(), _name_fields],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _order, render],
    )
    handler = _open_handler(stream or sys.stderr)
    handler.setFormatter(formatter)
    if LEVELS[level] > logging.DEBUG:
        handler.addFilter(Gatherer())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(LEVELS[level])
    logging.captureWarnings(True)
    for name, least in _NOISY.items():
        logging.getLogger(name).setLevel(max(least, LEVELS[level]))


def count_dropped_lines() -> int:
    """How many log lines were dropped since the process started, because the queue was full or writing failed.

    0 if logging is not configured.
    """
    return sum(handler.dropped for handler in logging.getLogger().handlers if isinstance(handler, QueuedHandler))


def of_many(workload: str, /, **fields: object) -> dict[str, object]:
    """The ``extra`` of a line about ``workload``, with ``fields``, that many workloads may log at the same time."""
    return {"workload": workload, **named(workload), **fields}


def named(name: str, about: str = "") -> dict[str, object]:
    """As `of_many`, for a line that knows no workload, but a query or a file instead: ``name`` is not a field of it.

    Lines of one call that say different things have a different ``about``: they are no single event.
    """
    return {_GATHERS_BY: name, _ABOUT: about}


@attrs.define(eq=False)
class RepeatLimit:
    """Says when to log what lasts: at once, and then every ``seconds``, on Trio's clock, which is never set back.

    A ``key`` is anything that is logged on its own. Of more than ``most`` keys the first one is forgotten.
    """

    seconds: float = REPEAT_AFTER
    most: int | None = None
    _logged_at: dict[Hashable, float] = attrs.field(factory=dict, init=False)

    def is_due(self, key: Hashable = None) -> bool:
        """Whether to log ``key`` now, which then counts as logged."""
        now, logged_at = trio.current_time(), self._logged_at.get(key)
        if logged_at is not None and now - logged_at < self.seconds:
            return False
        self._logged_at[key] = now
        if self.most is not None and len(self._logged_at) > self.most:
            del self._logged_at[next(iter(self._logged_at))]
        return True

    @property
    def logged(self) -> tuple[Any, ...]:
        """The keys that were logged and are not forgotten."""
        return tuple(self._logged_at)

    def forget(self, key: Hashable) -> bool:
        """Let ``key`` be due at once; returns whether it was logged."""
        return self._logged_at.pop(key, None) is not None

    def clear(self) -> bool:
        """`forget` all keys; returns whether any was logged."""
        had_any = bool(self._logged_at)
        self._logged_at.clear()
        return had_any


@attrs.define
class _Gathered:
    """The workloads with lines of their own about an event, those without, and the newest record of the latter."""

    alone: set[str] = attrs.field(factory=set)
    more: dict[str, None] = attrs.field(factory=dict)
    newest: logging.LogRecord | None = None


class Gatherer(logging.Filter):
    """Holds back lines of `of_many`: within a minute only the first `SHOWN_ALONE` workloads get their own for an event.

    `take` returns a line with the number and the names of the others. Two lines are about the same event if they come
    from the same call, at the same level, for the same ``reason`` or ``status``, and `named` is told the same.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._events: dict[tuple[object, ...], _Gathered] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to show ``record`` now."""
        name = getattr(record, _GATHERS_BY, None)
        if name is None:
            return True
        kinds = (getattr(record, "reason", None), getattr(record, "status", None))
        event = (record.name, record.levelno, record.msg, getattr(record, _ABOUT, ""), *kinds)
        with self._lock:
            found = self._events.setdefault(event, _Gathered())
            if name in found.alone or len(found.alone) < SHOWN_ALONE:
                found.alone.add(name)
                return True
            if len(found.more) >= MAX_NAMED and name not in found.more:
                return True
            found.more[name], found.newest = None, record
            return False

    def take(self) -> Iterator[logging.LogRecord]:
        """What was held back since the last call, as few lines that name all workloads."""
        with self._lock:
            events, self._events = self._events, {}
        for found in events.values():
            if found.newest is not None:
                yield from _sum_up(found.newest, tuple(found.more))


def _sum_up(newest: logging.LogRecord, names: Sequence[str]) -> Iterator[logging.LogRecord]:
    """Lines that say of all ``names`` what ``newest`` says of one."""
    left_out = ("workload", _GATHERS_BY, _ABOUT, "args", "created", "msecs", "relativeCreated")
    fields = {name: value for name, value in vars(newest).items() if name not in left_out}
    parts, more = list(_join(names)), "1 more workload" if len(names) == 1 else f"{len(names)} more workloads"
    for number, part in enumerate(parts, 1):
        which = f", part {number} of {len(parts)} of their names" if parts[1:] else ""
        words = f"the same for {more}{which}; the newest: {_words_of(newest)}"
        yield logging.makeLogRecord({**fields, "msg": words, "names": part})


def _words_of(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001  # a mistake in a logging call must stop neither this line nor those after
        return f"{record.msg!r}, which cannot be formatted: {error!r}"


def _join(names: Iterable[str]) -> Iterator[str]:
    """``names`` separated by commas, in parts of at most `MAX_NAMES_LENGTH` characters."""
    part = ""
    for name in (each[:MAX_NAMES_LENGTH] for each in names):
        if part and len(part) + len(name) + 2 > MAX_NAMES_LENGTH:
            yield part
            part = ""
        part += f", {name}" if part else name
    yield part


def log_gathered() -> None:
    """Log what was held back since the last call; see `Gatherer`."""
    for handler in logging.getLogger().handlers:
        for one in handler.filters:
            if isinstance(one, Gatherer):
                for record in one.take():
                    handler.handle(record)


def log_stray_errors() -> None:
    """Log the errors that Python itself would print to standard error, which may block if nobody reads it.

    These are errors in destructors, and in threads that nobody waits for.
    """

    def log_unraisable(stray: "sys.UnraisableHookArgs") -> None:
        _log_stray(stray.err_msg or f"exception ignored in {stray.object!r}", stray.exc_value)

    def log_in_thread(stray: threading.ExceptHookArgs) -> None:
        _log_stray(f"the thread {stray.thread.name if stray.thread else '?'} failed", stray.exc_value)

    sys.unraisablehook, threading.excepthook = log_unraisable, log_in_thread


def _log_stray(words: str, error: BaseException | None) -> None:
    logging.getLogger("kedastral.app").error(words, exc_info=error)


def _open_handler(stream: TextIO) -> logging.Handler:
    try:
        return QueuedHandler(stream.fileno())
    except (OSError, AttributeError):  # io.UnsupportedOperation is an OSError; a closed stderr is None
        return logging.StreamHandler(stream)


class QueuedHandler(logging.Handler):
    """Formats records, and lets a thread write them to the file ``descriptor``.

    At most `MAX_QUEUED` bytes wait. Lines beyond that, and lines that cannot be written, are counted as ``dropped``;
    a line says so once the lines before it are written. `flush` waits at most `FLUSH_WITHIN` seconds; Python calls it
    at exit, so a final traceback is still written, while a hanging reader does not keep the process alive.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        # SimpleQueue uses no Python lock, so a signal handler or destructor that logs cannot block on it
        self._queue: queue.SimpleQueue[bytes | threading.Event] = queue.SimpleQueue()
        # only one side changes each of these, the first two under the handler's lock
        self._refused = 0
        self._bytes_queued = 0
        self._failed = 0
        self._bytes_taken = 0
        self._logged = 0
        threading.Thread(target=self._keep_writing, name="kedastral-log", daemon=True).start()

    @property
    def dropped(self) -> int:
        """How many lines were not and will not be written."""
        return self._refused + self._failed

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the line of ``record``, or count it as dropped."""
        try:
            line = self._encode(record)
        except Exception as error:  # noqa: BLE001  # a mistake in a logging call must not stop its caller
            line = self._encode(_report(record, error))
        if self._bytes_queued - self._bytes_taken + len(line) > MAX_QUEUED:
            self._refused += 1
            return
        self._bytes_queued += len(line)
        self._queue.put(line)

    def flush(self) -> None:
        """Wait until what was logged so far is written, for `FLUSH_WITHIN` seconds at most."""
        reached = threading.Event()
        self._queue.put(reached)
        reached.wait(FLUSH_WITHIN)

    def _encode(self, record: logging.LogRecord) -> bytes:
        return (self.format(record) + "\n").encode(errors="backslashreplace")

    def _keep_writing(self) -> None:
        while True:
            lines, reached = self._take()
            if lines:
                self._write_lines(lines)
            if self.dropped > self._logged and self._queue.empty():  # after the lines that were logged before it
                self._log_dropped()
            if reached is not None:
                reached.set()

    def _take(self) -> tuple[list[bytes], threading.Event | None]:
        """Wait for lines, and take as many as can be written at once; the event belongs to a `flush` after them."""
        lines: list[bytes] = []
        size = 0
        while size < MAX_WRITTEN_AT_ONCE and not (lines and self._queue.empty()):
            item = self._queue.get()
            if isinstance(item, threading.Event):
                return lines, item
            lines.append(item)
            size += len(item)
        return lines, None

    def _write_lines(self, lines: Iterable[bytes]) -> None:
        data = b"".join(lines)
        try:
            self._write(data)
        except OSError:  # the reader is gone, or the disk is full
            self._failed += data.count(b"\n")
        self._bytes_taken += len(data)

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # another process that shares the pipe has made it non-blocking
                room = select.poll()
                room.register(self._descriptor, select.POLLOUT)
                room.poll()

    def _log_dropped(self) -> None:
        number = self.dropped - self._logged
        words = "%d log lines were dropped: earlier lines were not read in time or could not be written"
        record = logging.LogRecord(__name__, logging.WARNING, __file__, 0, words, (number,), None)
        try:
            self._write(self._encode(record))
        except OSError:
            return
        self._logged += number


def _report(record: logging.LogRecord, error: Exception) -> logging.LogRecord:
    """A record for the line that says that ``record`` cannot be formatted."""
    words = "a log line of %s, line %d, cannot be formatted"
    return logging.LogRecord(
        record.name, logging.ERROR, record.pathname, record.lineno, words, (record.pathname, record.lineno),
        (type(error), error, error.__traceback__),
    )  # fmt: skip


def _name_fields(_logger: object, _method: str, event: Event) -> Event:
    record: logging.LogRecord = event["_record"]
    event["ts"] = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    event["level"] = "warn" if record.levelno == logging.WARNING else record.levelname.lower()
    event.setdefault("component", _component(record.name))
    event["msg"] = event.pop("event")
    for name in (_GATHERS_BY, _ABOUT):
        event.pop(name, None)
    if record.exc_info and record.exc_info[1] is not None:
        event["err"] = "".join(traceback.format_exception(*record.exc_info)).strip()
    event.pop("exc_info", None)
    return event


def _component(logger: str) -> str:
    """``kedastral.grpclib_trio.connection`` is ``grpc``; a library is named after what it does for us."""
    first, *rest = logger.split(".")
    if first == "kedastral" and rest:
        return "grpc" if rest[0] == "grpclib_trio" else rest[0]
    return _COMPONENTS.get(first, first)


def _order(_logger: object, _method: str, event: Event) -> Event:
    ordered = {key: event.pop(key) for key in FIRST_KEYS if key in event}
    return {**ordered, **event}


def _render_logfmt(_logger: object, _method: str, event: Event) -> str:
    return " ".join(f"{key}={_quote(value)}" for key, value in event.items())


def _quote(value: Any) -> str:
    text = str(value)
    if text and not any(c.isspace() or c in '"=' or not c.isprintable() for c in text):
        return text
    escaped = (
        text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    )
    return '"' + "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in escaped) + '"'
