# SPDX-License-Identifier: Apache-2.0
"""Converts the saved state of a workload to bytes and back: the format of files in --state-dir and similar stores.

The first line has the kind, the format, and a digest of the rest; the rest is compressed JSON with the names of the
attributes, except for `STORED_NAMES`. In a document from an older version, new fields have their defaults; fields added
by a newer version are skipped. A part that cannot be read is dropped, and the other parts are used. `FORMAT` changes
only if that is not enough.
"""

import base64
import hashlib
import json
import logging
import zlib
from collections.abc import Callable, Mapping, Sized
from datetime import datetime
from typing import Any, TypeVar, get_args, get_origin

import attrs
import numpy as np
from cattrs import BaseValidationError, Converter
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override
from numpy.typing import NDArray

from kedastral.core.data_quality.findings import Findings
from kedastral.core.forecast import Forecast
from kedastral.core.forecast_status import OK, ForecastStatus, StatusCode
from kedastral.core.kept_state import KeptHistory, KeptState, SourceState, StateBasis
from kedastral.core.planning.service_level import ServiceLevelReport, ServiceLevelState
from kedastral.core.planning.snapshot import Mode, Snapshot
from kedastral.core.planning.stabilization import UnstabilizedPlan
from kedastral.core.planning.steering import SteeringState
from kedastral.core.planning.uncertainty import QUANTILES, Calibration, IntervalForecast
from kedastral.core.series import DataQuality, Observation, Series
from kedastral.core.trigger import ObjectRef
from kedastral.logs import of_many
from kedastral.wire import add_strict_types

FORMAT = 1
"""Documents of other formats are not read."""
STATE, HISTORY = "state", "history"
MAX_BYTES = 2**26
"""The most bytes of an uncompressed document: 64 MiB, over a hundred times what two weeks of minutes take."""
SHORTEST_STEP = 1e-3
"""The shortest step of a plan, in seconds; no settings allow one as short."""
COMPRESSION = 1
"""The fastest level; higher ones save 5 % of a state and nothing of a history."""
STORED_NAMES: Mapping[type[Any], Mapping[str, str]] = {
    SteeringState: {"factor": "safety_factor", "published": "recommended"},
    ServiceLevelState: {"before_stabilization": "recommendations"},
}
"""The names that attributes have in a document, if these differ."""

Document = dict[str, Any]
T = TypeVar("T")
log = logging.getLogger("kedastral.state")


_UNREADABLE = (BaseValidationError, ValueError, TypeError, KeyError, AttributeError, OverflowError)
"""What reading raises if a document is not what was written; AttributeError if an object is missing."""


class StateFormatError(ValueError):
    """The bytes are not a state or history of this format; the message says why."""


@attrs.frozen(kw_only=True)
class _Head:
    """The required fields of a state."""

    workload: str
    saved_at: datetime
    basis: StateBasis
    snapshot: Snapshot


@attrs.frozen(kw_only=True)
class _Quality:
    """How far the newest measurements of a snapshot could be trusted."""

    settling: float = 0.0
    at_least: Observation | None = None


def write_state(state: KeptState) -> bytes:
    """``state`` as bytes. Raises StateFormatError if a number in it is not finite."""
    snapshot, quality = state.snapshot, state.snapshot.quality
    head = _Head(workload=state.workload, saved_at=state.saved_at, basis=state.basis, snapshot=snapshot)
    document = {
        **_converter.unstructure(head),
        "quality": _converter.unstructure(_Quality(settling=quality.settling, at_least=quality.at_least)),
        "service_level": _converter.unstructure(snapshot.service_level, ServiceLevelReport | None),
        "told": state.told,
        "source": _converter.unstructure(state.source, SourceState | None),
        "told_lately": _converter.unstructure(state.told_lately, tuple[tuple[datetime, int], ...]),
        "trigger": _converter.unstructure(state.trigger, ObjectRef | None),
    }
    return _pack(STATE, document)


def read_state(data: bytes) -> KeptState:
    """The state that `write_state` wrote, here or in another version. Raises StateFormatError."""
    document = _unpack(STATE, data)
    head = _structure(document, _Head)
    parts = _Parts(head.workload, document)
    quality = parts.read("quality", _Quality, _Quality())
    snapshot = attrs.evolve(
        head.snapshot,
        quality=DataQuality(quality.settling, quality.at_least),
        service_level=parts.read_report(len(head.snapshot.replicas)),
    )
    return KeptState(
        workload=head.workload,
        saved_at=head.saved_at,
        basis=head.basis,
        snapshot=snapshot,
        told=parts.read_optional("told", int),
        source=parts.read_optional("source", SourceState),
        told_lately=parts.read("told_lately", tuple[tuple[datetime, int], ...], ()),
        trigger=parts.read_optional("trigger", ObjectRef),
    )


def write_history(history: KeptHistory) -> bytes:
    """``history`` as bytes: 4 per point before compression."""
    document: Document = _converter.unstructure(history)
    return _pack(HISTORY, document)


def read_history(data: bytes) -> KeptHistory:
    """The history that `write_history` wrote. Raises StateFormatError."""
    return _structure(_unpack(HISTORY, data), KeptHistory)


@attrs.frozen
class _Parts:
    """The optional parts of a workload's document: one that cannot be read is dropped, with a log line."""

    workload: str
    document: Document

    def read(self, name: str, kind: type[T], default: T) -> T:
        """The part ``name``, or ``default``."""
        if self.document.get(name) is None:
            return default
        try:
            if attrs.has(kind) and not isinstance(self.document[name], dict):
                raise ValueError("must be an object")
            return _converter.structure(self.document[name], kind)
        except _UNREADABLE as error:
            self._log_dropped(name, _reason(error))
            return default

    def _log_dropped(self, name: str, why: str) -> None:
        words = "%s of the kept state means something else in this version and is dropped: %s"
        log.warning(words, name, why, extra=of_many(self.workload))

    def read_optional(self, name: str, kind: type[T]) -> T | None:
        """The part ``name``, None if there is none."""
        return self.read(name, kind, None)

    def read_report(self, steps: int) -> ServiceLevelReport | None:
        """How a plan of ``steps`` came about; None if there is no report, or it is that of another plan."""
        report = self.read_optional("service_level", ServiceLevelReport)
        if report is not None and len(report.upper) != steps:
            self._log_dropped("service_level", f"{len(report.upper)} upper values for {steps} steps")
            return None
        return report


def _structure(document: Document, kind: type[T]) -> T:
    try:
        return _converter.structure(document, kind)
    except _UNREADABLE as error:
        raise StateFormatError(_reason(error)) from error


def _reason(error: Exception) -> str:
    return f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)


def _pack(kind: str, document: Document) -> bytes:
    try:
        text = json.dumps(document, allow_nan=False, separators=(",", ":"))
    except ValueError as error:
        raise StateFormatError(f"the {kind} holds a number that is not finite") from error
    body = zlib.compress(text.encode(), COMPRESSION)
    return f"kedastral-{kind} {FORMAT} {_digest(body)}\n".encode() + body


def _unpack(kind: str, data: bytes) -> Document:
    head, found, body = data.partition(b"\n")
    words = head.decode("ascii", "replace").split(" ") if found and len(head) < 100 else []
    if len(words) != 3 or words[0] != f"kedastral-{kind}":
        raise StateFormatError(f"not a {kind} of a workload")
    if words[1] != str(FORMAT):
        raise StateFormatError(f"written in format {words[1]}, this version reads {FORMAT}")
    if words[2] != _digest(body):
        raise StateFormatError("damaged: it was truncated or changed")
    inflate = zlib.decompressobj()
    try:
        document = json.loads(inflate.decompress(body, MAX_BYTES))
    except (ValueError, RecursionError, zlib.error) as error:
        raise StateFormatError(f"no JSON of at most {MAX_BYTES} bytes") from error
    if not isinstance(document, dict):
        raise StateFormatError("no JSON object")
    return document


def _digest(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=16).hexdigest()


# The types of the core as JSON


def _is_array(kind: Any) -> bool:
    return get_origin(kind) is np.ndarray


def _dtype_of(kind: Any) -> "np.dtype[Any]":
    """The type of an array's numbers, little-endian on every machine."""
    made: np.dtype[Any] = np.dtype(get_args(get_args(kind)[1])[0]).newbyteorder("<")
    return made


def _write_array(values: NDArray[Any]) -> str:
    return base64.b64encode(values.astype(values.dtype.newbyteorder("<")).tobytes()).decode()


def _read_array(value: Any, kind: Any) -> NDArray[Any]:
    try:
        return np.frombuffer(base64.b64decode(value, validate=True), dtype=_dtype_of(kind))
    except TypeError:
        raise ValueError("must be an array in base64") from None


def _read_status(value: Any, _kind: object) -> ForecastStatus:
    """A forecast status; one added by a later version is unknown here, and is read as ok."""
    code, reason = (value.get("code"), value.get("reason")) if isinstance(value, Mapping) else (None, "")
    return ForecastStatus(StatusCode(code), str(reason)) if code in set(StatusCode) else OK


def _require_quantiles(quantiles: Sized) -> None:
    """Require as many as `QUANTILES`: planning reads the two in parallel."""
    if len(quantiles) != len(QUANTILES):
        raise ValueError(f"{len(quantiles)} quantiles, this version has {len(QUANTILES)}")


def _check_calibration(read: Calibration) -> None:
    _require_quantiles(read.thresholds)
    _require_quantiles(read.coverage)


def _check_plan(read: UnstabilizedPlan) -> None:
    if read.step < SHORTEST_STEP:
        raise ValueError(f"a plan has steps of {read.step:g} s")


def _check_report(read: ServiceLevelReport) -> None:
    if not np.isfinite(read.upper).all():
        raise ValueError("the upper values must be finite")


def _add_checks(converter: Converter) -> None:
    """Make ``converter`` refuse what is readable but would make planning fail at every tick."""

    def add(kind: type[T], check: Callable[[T], None]) -> None:
        structure = make_dict_structure_fn(kind, converter)

        def read(value: Any, type_of_value: type[T]) -> T:
            found = structure(value, type_of_value)
            check(found)
            return found

        converter.register_structure_hook(kind, read)

    add(Calibration, _check_calibration)
    add(IntervalForecast, lambda read: _require_quantiles(read.quantiles))
    add(UnstabilizedPlan, _check_plan)
    add(ServiceLevelReport, _check_report)


def _keep_stored_names(converter: Converter) -> None:
    """Read and write `STORED_NAMES`."""

    def overrides(kind: type[Any]) -> dict[str, Any]:
        return {name: override(rename=stored) for name, stored in STORED_NAMES[kind].items()}

    # made when they are first needed, with the checks of what they hold
    converter.register_structure_hook_factory(
        STORED_NAMES.__contains__, lambda kind: make_dict_structure_fn(kind, converter, **overrides(kind))
    )
    converter.register_unstructure_hook_factory(
        STORED_NAMES.__contains__, lambda kind: make_dict_unstructure_fn(kind, converter, **overrides(kind))
    )


def _make_converter() -> Converter:
    converter = Converter(detailed_validation=False)
    add_strict_types(converter)
    converter.register_structure_hook(Mode, lambda value, _: Mode(value))  # a plain str is no member of Mode
    converter.register_structure_hook(ForecastStatus, _read_status)
    converter.register_structure_hook_func(_is_array, _read_array)
    converter.register_unstructure_hook_func(_is_array, _write_array)
    omit = override(omit=True)
    converter.register_structure_hook(Forecast, make_dict_structure_fn(Forecast, converter, experts=omit))
    converter.register_unstructure_hook(Forecast, make_dict_unstructure_fn(Forecast, converter, experts=omit))
    converter.register_structure_hook(Series, make_dict_structure_fn(Series, converter, quality=omit))
    converter.register_unstructure_hook(Series, make_dict_unstructure_fn(Series, converter, quality=omit))
    _keep_stored_names(converter)
    _add_checks(converter)
    _add_snapshot(converter)
    return converter


def _add_snapshot(converter: Converter) -> None:
    """Teach ``converter`` to read and write a snapshot, with its findings as fields of its own."""
    elsewhere = dict.fromkeys(("service_level", "quality", "findings", "basis"), override(omit=True))
    read_plan = make_dict_structure_fn(Snapshot, converter, **elsewhere)  # type: ignore[arg-type]
    write_plan = make_dict_unstructure_fn(Snapshot, converter, **elsewhere)  # type: ignore[arg-type]

    def read(document: Document, kind: type[Snapshot]) -> Snapshot:
        return attrs.evolve(read_plan(document, kind), findings=converter.structure(document, Findings))

    def write(snapshot: Snapshot) -> Document:
        return {**write_plan(snapshot), **converter.unstructure(snapshot.findings)}

    converter.register_structure_hook(Snapshot, read)
    converter.register_unstructure_hook(Snapshot, write)


_converter = _make_converter()
