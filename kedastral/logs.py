# SPDX-License-Identifier: Apache-2.0
"""Logs: one line per event on standard error, as logfmt for people or JSON for machines.

Every module logs through the standard library (``logging.getLogger("kedastral.<component>")``, further fields in
``extra``). This module formats its records, and those of the libraries: ``ts, level, component, workload, msg, err``.
"""

import logging
import sys
import traceback
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any, TextIO

import structlog

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
FIRST_KEYS = ("ts", "level", "component", "workload", "msg", "err")
MAX_QUERY_LENGTH = 200
_COMPONENTS = {"hypercorn": "http", "kedastral": "app", "quart": "http"}
_NOISY = dict.fromkeys(("httpx", "httpcore", "hpack", "hypercorn"), logging.WARNING)
"""httpx logs whole URLs, queries included, at info; hpack every header at debug; hypercorn what `app` says already."""

Event = MutableMapping[str, Any]


def configure_logging(level: str, form: str, stream: TextIO | None = None) -> None:
    """Send every record of ``level`` and above to ``stream`` (standard error), as ``form`` ``text`` or ``json``."""
    render = structlog.processors.JSONRenderer() if form == "json" else _render_logfmt
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder(), _name_fields],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _order, render],
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(LEVELS[level])
    logging.captureWarnings(True)
    for name, least in _NOISY.items():
        logging.getLogger(name).setLevel(max(least, LEVELS[level]))


def cut_query(query: str) -> str:
    """A query as a log may show it: on one line, at most `MAX_QUERY_LENGTH` characters."""
    line = " ".join(query.split())
    return line if len(line) <= MAX_QUERY_LENGTH else line[: MAX_QUERY_LENGTH - 1] + "…"


def _name_fields(_logger: object, _method: str, event: Event) -> Event:
    record: logging.LogRecord = event["_record"]
    event["ts"] = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    event["level"] = "warn" if record.levelno == logging.WARNING else record.levelname.lower()
    event.setdefault("component", _component(record.name))
    event["msg"] = event.pop("event")
    if record.exc_info and record.exc_info[1] is not None:
        event["err"] = "".join(traceback.format_exception(*record.exc_info)).strip()
    event.pop("exc_info", None)
    return event


def _component(logger: str) -> str:
    """``kedastral.grpclib_trio.connection`` is ``grpc``; a library is known by what it does for us."""
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
