# SPDX-License-Identifier: Apache-2.0
"""Logs: one line per event whatever it contains, the contract's fields, both formats, no secrets, bounded length."""

import ast
import io
import json
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TextIO

import attrs
import pytest
import trio
from trio.testing import MockClock

import kedastral
from kedastral import logs
from kedastral.logs import (
    MAX_NAMES_LENGTH,
    MAX_QUEUED,
    MAX_WRITTEN_AT_ONCE,
    SHOWN_ALONE,
    QueuedHandler,
    RepeatLimit,
    configure_logging,
    count_dropped_lines,
    log_gathered,
    log_stray_errors,
    named,
    of_many,
)
from kedastral.settings.promql import warn_of_raw_counter
from kedastral.settings.rules import Finding
from kedastral.workloads.forecasting import log_warning

pytestmark = pytest.mark.usefixtures("restore_logging")

FORMATS = ("text", "json")
log = logging.getLogger("kedastral.forecaster")


def start(form: str, level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    configure_logging(level, form, stream)
    return stream


def read_json(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_of_json_has_the_contracts_fields_first() -> None:
    stream = start("json")
    log.warning("no new forecast", extra={"reason": "empty", "err": "no series", "workload": "shop"})
    [event] = read_json(stream)
    assert list(event) == ["ts", "level", "component", "workload", "msg", "err", "reason"]
    at = datetime.fromisoformat(event.pop("ts"))
    assert at.utcoffset() == timedelta(0)
    assert event == {
        "level": "warn",
        "component": "forecaster",
        "workload": "shop",
        "msg": "no new forecast",
        "err": "no series",
        "reason": "empty",
    }


def test_a_line_of_text_has_the_same_fields() -> None:
    stream = start("text")
    log.warning("no new forecast", extra={"reason": "empty", "err": "no series", "workload": "shop"})
    assert re.fullmatch(
        r"ts=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=warn component=forecaster workload=shop"
        r' msg="no new forecast" err="no series" reason=empty\n',
        stream.getvalue(),
    )


@pytest.mark.parametrize("form", FORMATS)
def test_arguments_are_put_into_the_message(form: str) -> None:
    stream = start(form)
    log.info("got %s after %d s", "SIGTERM", 3)
    assert "got SIGTERM after 3 s" in stream.getvalue()


def boom() -> None:
    raise ZeroDivisionError("first line\nsecond line")


@pytest.mark.parametrize("form", FORMATS)
def test_a_traceback_stays_on_the_line_of_its_event(form: str) -> None:
    stream = start(form)
    try:
        boom()
    except ZeroDivisionError:
        log.exception("it failed")
        log.exception("it failed", stack_info=True)
    assert stream.getvalue().count("\n") == 2
    for line in stream.getvalue().splitlines():
        assert "in boom" in line
        assert "ZeroDivisionError" in line


def test_a_traceback_is_the_err_of_its_event() -> None:
    stream = start("json")
    try:
        boom()
    except ZeroDivisionError:
        log.exception("it failed")
    [event] = read_json(stream)
    assert (event["level"], event["msg"]) == ("error", "it failed")
    assert event["err"].startswith("Traceback (most recent call last)")
    assert event["err"].endswith("ZeroDivisionError: first line\nsecond line")
    assert "exc_info" not in event


HOSTILE = [
    'x"\nts=1 level=error msg="forged"',
    "x\r\nforged",
    "x\u2028forged\u2029forged\x85forged",
    "\x1b[31mred\x1b[0m\x07\x00",
    '{"level": "error"}',
    "a=b c\\n",
    "\udcff lone",
    "",
    " ",
    "✓ bücher",
    "\u202eright to left",
]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_hostile_text_forges_no_line_and_no_field(form: str, text: str) -> None:
    stream = start(form)
    log.info("seen %s", text, extra={"workload": text, "path": text})
    line = stream.getvalue()
    assert len(line.splitlines()) == 1
    assert all(char.isprintable() for char in line.rstrip("\n"))
    if form == "json":
        [event] = read_json(stream)
        assert (event["workload"], event["path"], event["msg"]) == (text, text, f"seen {text}")
        assert event["level"] == "info"
    else:
        outside = re.sub(r'"(?:[^"\\]|\\.)*"', "", line)
        assert [part.partition("=")[0] for part in outside.split()] == [
            "ts", "level", "component", "workload", "msg", "path",
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("level", "told"),
    [
        ("debug", ["debug", "info", "warn", "error", "critical"]),
        ("info", ["info", "warn", "error", "critical"]),
        ("warn", ["warn", "error", "critical"]),
        ("error", ["error", "critical"]),
    ],
)
@pytest.mark.parametrize("form", FORMATS)
def test_only_the_level_asked_for_and_above_is_logged(form: str, level: str, told: list[str]) -> None:
    stream = start(form, level)
    for number in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
        log.log(number, "x")
    assert re.findall(r'level"?[=:] ?"?(\w+)', stream.getvalue()) == told


@pytest.mark.parametrize(
    ("logger", "component"),
    [
        ("kedastral.forecaster", "forecaster"),
        ("kedastral.app", "app"),
        ("kedastral", "app"),
        ("kedastral.grpclib_trio.connection", "grpc"),
        ("hypercorn.error", "http"),
        ("quart.app", "http"),
        ("trio.serve_listeners", "trio"),
    ],
)
def test_every_logger_is_a_component(logger: str, component: str) -> None:
    stream = start("json")
    logging.getLogger(logger).error("x")
    assert read_json(stream)[0]["component"] == component


def test_an_event_may_name_the_component_that_failed() -> None:
    stream = start("json")
    log.warning("x", extra={"component": "source"})
    assert read_json(stream)[0]["component"] == "source"


@pytest.mark.parametrize("level", ["debug", "info"])
def test_httpx_never_writes_urls_with_their_queries(level: str) -> None:
    stream = start("json", level)
    logging.getLogger("httpx").info("HTTP Request: GET http://p/api?query=secret")
    logging.getLogger("hpack.hpack").debug("Decoded authorization: secret")
    logging.getLogger("httpcore.http11").debug("send_request_headers authorization secret")
    assert stream.getvalue() == ""


def test_configuring_again_replaces_what_was_there() -> None:
    first, second = start("json"), start("text")
    log.info("once")
    assert first.getvalue() == ""
    assert second.getvalue().count("once") == 1


def test_a_warning_of_a_library_is_one_line_too() -> None:
    import warnings

    stream = start("json")
    warnings.simplefilter("always")  # pytest restores the filters
    warnings.warn("overflow\nencountered", RuntimeWarning, stacklevel=1)
    [event] = read_json(stream)
    assert event["level"] == "warn"
    assert "overflow" in event["msg"]


# --- the queue before a file or a pipe ---


@attrs.define
class Pipe:
    """A pipe that `configure_logging` writes to; the test decides when to read."""

    reading: int
    writing: TextIO

    def read_until(self, words: str) -> str:
        text = ""
        while words not in text:
            text += os.read(self.reading, 2**20).decode()
        return text


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        yield Pipe(reading, stream)
        os.close(reading)  # wakes the writer
        for handler in logging.getLogger().handlers:
            handler.flush()  # or it would later write to whatever file gets this descriptor next
        logging.getLogger().handlers.clear()


def test_a_pipe_that_nobody_reads_stops_nobody_and_what_is_dropped_is_counted_and_logged(pipe: Pipe) -> None:
    configure_logging("info", "json", pipe.writing)
    before = count_dropped_lines()
    line = "x" * 1000
    for _ in range(2 * MAX_QUEUED // len(line)):
        log.info(line)
    dropped = count_dropped_lines() - before
    assert dropped > MAX_QUEUED // len(line) / 2
    text = pipe.read_until("log lines were dropped")
    kept = text.count(line)
    assert kept + dropped == 2 * MAX_QUEUED // len(line)
    assert kept * len(line) <= MAX_QUEUED + 2 * MAX_WRITTEN_AT_ONCE
    assert f"{dropped} log lines were dropped" in text
    log.info("and on it goes")
    assert "dropped" not in pipe.read_until("and on it goes").split("log lines were dropped", 1)[-1]


def test_flushing_waits_for_the_lines_before_and_not_for_ever(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "FLUSH_WITHIN", 30.0)
    configure_logging("info", "json", pipe.writing)
    log.info("the last words")
    logging.getLogger().handlers[0].flush()
    os.set_blocking(pipe.reading, False)
    assert "the last words" in os.read(pipe.reading, 2**16).decode()
    monkeypatch.setattr(logs, "FLUSH_WITHIN", 0.05)
    log.info("x" * 2**20)  # more than the pipe holds
    logging.getLogger().handlers[0].flush()


def test_lines_come_in_order_and_whole_through_a_pipe_that_does_not_block(pipe: Pipe) -> None:
    os.set_blocking(pipe.writing.fileno(), False)
    configure_logging("info", "json", pipe.writing)
    for number in range(1000):
        log.info("%d %s", number, "x" * 500)
    log.info("the end")
    lines = pipe.read_until("the end").splitlines()
    assert [json.loads(line)["msg"].split()[0] for line in lines[:1000]] == [str(number) for number in range(1000)]


def test_lines_that_cannot_be_written_are_counted(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+") as stream:
        unwritable = os.open(stream.name, os.O_RDONLY)
        handler = QueuedHandler(unwritable)
        handler.emit(logging.makeLogRecord({"msg": "lost"}))
        handler.flush()
        os.close(unwritable)
    assert handler.dropped == 1


def test_a_mistake_in_a_call_of_the_logger_is_a_line(pipe: Pipe) -> None:
    configure_logging("info", "json", pipe.writing)
    log.info("%d", "no number")
    [event] = [json.loads(line) for line in pipe.read_until("\n").splitlines()]
    assert event["level"] == "error"
    assert "cannot be formatted" in event["msg"]
    assert "TypeError" in event["err"]


def test_what_python_would_print_by_itself_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    stream = start("json")
    log_stray_errors()

    class Fragile:
        def __del__(self) -> None:
            boom()

    Fragile()
    thread = threading.Thread(target=boom, name="worker")
    thread.start()
    thread.join()
    first, second = read_json(stream)
    assert "Fragile" in first["msg"]
    assert second["msg"] == "the thread worker failed"
    assert "ZeroDivisionError" in first["err"]
    assert "ZeroDivisionError" in second["err"]


SOURCES = sorted(Path(kedastral.__file__).parent.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(SOURCES[0].parent)))
def test_no_message_loses_its_second_line(path: Path) -> None:
    """Text in two lines needs parentheses: otherwise its second line is a statement of its own, without effect."""
    statements = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Expr)]
    alone = [str(one.value.value) for one in statements if isinstance(one.value, ast.Constant)]
    is_sentence = re.compile(r"(?s).*\.|.*\n.*|Ellipsis")
    assert [text for text in alone if not is_sentence.fullmatch(text)] == []


def take_lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """The lines since the last call, after those that were held back."""
    log_gathered()
    lines = read_json(stream)
    stream.seek(0)
    stream.truncate()
    return lines


def test_what_a_thousand_workloads_say_is_a_few_lines_that_name_them_all() -> None:
    stream, names = start("json"), [f"shop/workload-{number:03}" for number in range(1000)]
    for number, name in enumerate(names):
        log.warning("the plan says %d now", number, extra=of_many(name))
    lines = take_lines(stream)
    alone, parts = lines[:SHOWN_ALONE], lines[SHOWN_ALONE:]
    assert [line["workload"] for line in alone] == names[:SHOWN_ALONE]
    assert [line["msg"] for line in alone] == [f"the plan says {number} now" for number in range(SHOWN_ALONE)]
    assert [line["msg"] for line in parts] == [
        f"the same for {1000 - SHOWN_ALONE} more workloads, part {number} of 3 of their names; "
        "the newest: the plan says 999 now"
        for number in (1, 2, 3)
    ]
    assert [name for line in parts for name in line["names"].split(", ")] == names[SHOWN_ALONE:]
    for line in parts:
        assert list(line) == ["ts", "level", "component", "msg", "names"]
        assert (line["level"], line["component"]) == ("warn", "forecaster")
        assert len(line["names"]) <= MAX_NAMES_LENGTH


def test_what_different_workloads_say_about_different_things_is_said_of_each() -> None:
    stream = start("json")
    for number in range(2 * SHOWN_ALONE):
        log.warning("%s", f"fault {number}", extra=named(f"workload-{number}", f"fault {number}"))
    assert [line["msg"] for line in take_lines(stream)] == [f"fault {number}" for number in range(2 * SHOWN_ALONE)]
    for number in range(2 * SHOWN_ALONE):
        log.warning("%s", "one fault", extra=named(f"workload-{number}", "one fault"))
    lines = take_lines(stream)
    assert len(lines) == SHOWN_ALONE + 1
    assert list(lines[0]) == ["ts", "level", "component", "msg"]


def test_odd_settings_are_one_event_if_they_break_the_same_rule() -> None:
    stream = start("json")
    for number in range(SHOWN_ALONE + 1):
        [counter] = warn_of_raw_counter(f"w{number}", f"requests_of_{number}_total")
        log_warning(log, counter.line, (f"w{number}", counter))
        age = Finding("stale_after", f"stale after {number}", compared=("interval",))
        log_warning(log, age.line, (f"w{number}", age))
        other = Finding("stale_after", f"stale within {number}", compared=("interval", "step"))
        log_warning(log, other.line, (f"w{number}", other))
        log_warning(log, f"variable {number} is not read", None)
    *alone, of_queries, of_ages, of_others = take_lines(stream)
    assert len(alone) == 3 * SHOWN_ALONE + SHOWN_ALONE + 1
    words = ("newest: the query of workload w5", "newest: stale after 5", "newest: stale within 5")
    assert all(said in line["msg"] for said, line in zip(words, (of_queries, of_ages, of_others), strict=True))


def test_a_workload_that_comes_later_has_a_line_of_its_own_again() -> None:
    stream = start("json")
    for number in range(SHOWN_ALONE + 1):
        log.info("first forecast", extra=of_many(f"early-{number}"))
    *_, told = take_lines(stream)
    assert (told["msg"], told["names"]) == (
        "the same for 1 more workload; the newest: first forecast",
        f"early-{SHOWN_ALONE}",
    )
    log.info("first forecast", extra=of_many("late"))
    [line] = take_lines(stream)
    assert (line["msg"], line["workload"]) == ("first forecast", "late")
    assert take_lines(stream) == []


def test_one_workload_is_never_held_back_for_repeating_itself() -> None:
    stream = start("json")
    for number in range(3 * SHOWN_ALONE):
        log.info("round %d", number, extra=of_many("shop"))
    assert len(take_lines(stream)) == 3 * SHOWN_ALONE


def test_other_words_levels_and_reasons_are_other_events() -> None:
    stream = start("json")
    for number in range(SHOWN_ALONE + 1):
        for reason in ("timeout", "refused"):
            log.warning("no new forecast", extra=of_many(f"w{number}", reason=reason, err=f"{reason} {number}"))
        log.info("no new forecast", extra=of_many(f"w{number}"))
        log.warning("lost series", extra=of_many(f"w{number}"))
    told = take_lines(stream)[4 * SHOWN_ALONE :]
    assert [(line["level"], line["msg"].partition("newest: ")[2], line.get("err")) for line in told] == [
        ("warn", "no new forecast", f"timeout {SHOWN_ALONE}"),
        ("warn", "no new forecast", f"refused {SHOWN_ALONE}"),
        ("info", "no new forecast", None),
        ("warn", "lost series", None),
    ]


def test_only_lines_of_many_are_held_back() -> None:
    stream = start("json")
    for number in range(3 * SHOWN_ALONE):
        log.info("replicas for KEDA 2 -> 3", extra={"workload": f"w{number}"})
    assert len(take_lines(stream)) == 3 * SHOWN_ALONE


def test_a_line_may_be_gathered_by_a_name_that_is_no_field_of_it() -> None:
    stream = start("json")
    for number in range(SHOWN_ALONE + 2):
        log.warning("partial; query: %s", f"up{number}", extra=named(f"up{number}"))
    *alone, told = take_lines(stream)
    assert all(list(line) == ["ts", "level", "component", "msg"] for line in alone)
    assert told["names"] == f"up{SHOWN_ALONE}, up{SHOWN_ALONE + 1}"


def test_at_level_debug_each_line_is_shown() -> None:
    stream = start("json", "debug")
    for number in range(3 * SHOWN_ALONE):
        log.info("first forecast", extra=of_many(f"w{number}"))
    assert len(take_lines(stream)) == 3 * SHOWN_ALONE


def test_what_is_held_back_is_bounded_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_NAMED", 3)
    stream = start("json")
    for number in range(SHOWN_ALONE + 5):
        log.info("first forecast", extra=of_many(f"w{number}"))
    *alone, told = take_lines(stream)
    assert [line["workload"] for line in alone] == [f"w{number}" for number in (0, 1, 2, 3, 4, 8, 9)]
    assert told["names"] == "w5, w6, w7"


def test_a_line_that_cannot_be_formatted_stops_none_of_those_that_were_held_back() -> None:
    stream = start("json")
    for number in range(SHOWN_ALONE + 1):
        log.info("round %d", number if number < SHOWN_ALONE else "x", extra=of_many(f"w{number}"))
        log.info("first forecast", extra=of_many(f"w{number}"))
    broken, told = take_lines(stream)[2 * SHOWN_ALONE :]
    assert broken["msg"].startswith("the same for 1 more workload; the newest: 'round %d', which cannot be formatted")
    assert (broken["names"], told["names"]) == (f"w{SHOWN_ALONE}", f"w{SHOWN_ALONE}")


# --- what lasts ---


async def test_what_lasts_is_logged_at_once_and_then_every_so_many_seconds(autojump_clock: MockClock) -> None:
    limit, logged = RepeatLimit(60.0), []
    for second in range(0, 200, 10):
        logged += [(second, key) for key in ("a", "b") if (key == "a" or second >= 30) and limit.is_due(key)]
        await trio.sleep(10)
    assert logged == [(0, "a"), (30, "b"), (60, "a"), (90, "b"), (120, "a"), (150, "b"), (180, "a")]


async def test_what_is_over_is_logged_at_once_when_it_comes_back() -> None:
    limit = RepeatLimit()
    assert limit.is_due("a")
    assert limit.is_due("b")
    assert limit.forget("a")
    assert not limit.forget("a")
    assert limit.logged == ("b",)
    assert limit.is_due("a")
    assert limit.clear()
    assert not limit.clear()
    assert limit.is_due("b")


async def test_of_too_many_things_the_first_is_forgotten() -> None:
    limit = RepeatLimit(most=2)
    assert [limit.is_due(key) for key in "abacb"] == [True, True, False, True, False]
    assert limit.logged == ("b", "c")
