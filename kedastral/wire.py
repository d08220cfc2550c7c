# SPDX-License-Identifier: Apache-2.0
"""Converts snapshots, and the request and response of an HTTP model, to JSON and back; only here names are camelCase.

`snapshot_schema` describes the JSON of a snapshot.
"""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from types import NoneType
from typing import Any, NoReturn, TypeAlias, get_args

import attrs
from cattrs import BaseValidationError, Converter
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override
from cattrs.v import format_exception, transform_error

from kedastral.core.data_quality.findings import Findings
from kedastral.core.data_quality.lost_series import LostSeries
from kedastral.core.data_quality.outliers import Outliers
from kedastral.core.explanation.outage import Outage
from kedastral.core.explanation.stages import Change, Explanation, PlannedStep, Stage
from kedastral.core.forecast import Forecast
from kedastral.core.forecast_status import OK, ForecastStatus, StatusCode
from kedastral.core.planning.snapshot import Mode, Snapshot
from kedastral.core.planning.stabilization import Resumption
from kedastral.core.series import Observation, Series, fill_gaps

JsonValue: TypeAlias = "str | int | float | bool | Sequence[JsonValue] | Mapping[str, JsonValue] | None"

SNAPSHOT_FORMAT = 1
"""The version of a snapshot's JSON; adding a field does not change it."""
ALL_PROBLEMS_WITHIN = 2**16
"""The largest document, in bytes, whose problems are all named: each takes 1.5 kB, and a bad document has thousands."""


class WireError(ValueError):
    """A document that cannot be read; the message names each problem and where it is."""


@attrs.frozen(kw_only=True)
class _ExpertDocument:
    """One expert of the forecast's ensemble, at the horizon nearest to the lead time."""

    name: str
    ahead_seconds: float
    weight: float
    error: float | None = None


@attrs.frozen(kw_only=True)
class _SnapshotDocument:
    """The snapshot as in JSON, before names become camelCase. Fields are added, never renamed or removed."""

    workload: str
    metric: str
    generated_at: datetime
    step_seconds: float
    horizon_seconds: float
    values: tuple[float, ...]
    desired_replicas: tuple[int, ...]
    lead_time_seconds: float
    observed_at: datetime | None = None
    observed_value: float | None = None
    reactive_replicas: int | None = None
    status: str = ""
    reason: str = ""
    upper_values: tuple[float, ...] = ()
    service_level: float | None = None
    steering_factor: float | None = None
    budget_spent: float | None = None
    at_cap: bool = False
    hold_seconds: float | None = None
    seasonal_quantile: float | None = None
    load_cap: float | None = None
    mode: str = ""
    experts: tuple[_ExpertDocument, ...] = ()
    settling_seconds: float = 0.0
    partial: bool = False
    outlier_points: int = 0
    newest_outlier_at: datetime | None = None
    newest_outlier_value: float | None = None
    lost_series: int = 0
    series_left: int = 0
    series_lost_at: datetime | None = None
    raw_counter: bool = False
    replicas_without_max: int | None = None
    min_replicas: int | None = None
    resumed_at: datetime | None = None
    served_before: int | None = None
    resumption_seconds: float = 0.0
    withheld: bool = False
    fingerprint: str = ""


def write_time(moment: datetime) -> str:
    """RFC 3339 in UTC: ``2026-11-22T04:27:14.123456Z``."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def read_time(text: object) -> datetime:
    """An aware UTC datetime from RFC 3339; raises ValueError if there is no time zone."""
    if not isinstance(text, str):
        raise ValueError("must be an RFC 3339 time")
    try:
        moment = datetime.fromisoformat(text.upper())  # RFC 3339 allows "t" and "z" in lower case
        if moment.tzinfo is None:
            raise ValueError
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("must be an RFC 3339 time with a time zone") from None


def dump_json(document: object) -> str:
    """Strict JSON: NaN and infinity raise ValueError instead of becoming tokens that parsers do not know."""
    return json.dumps(document, allow_nan=False, separators=(",", ":"))


def write_snapshot(snapshot: Snapshot) -> dict[str, Any]:
    """The snapshot in its JSON form, ready for `dump_json`."""
    document = _document_of(snapshot)
    for add in (_add_status, _add_service_level, _add_resumption, _add_outliers, _add_lost_series):
        document = add(document, snapshot)
    written: dict[str, Any] = _converter.unstructure(document)
    return written


def _document_of(snapshot: Snapshot) -> _SnapshotDocument:
    """The fields that every snapshot has."""
    forecast, observed = snapshot.forecast, snapshot.observed
    return _SnapshotDocument(
        workload=snapshot.workload,
        metric=snapshot.metric,
        generated_at=snapshot.made_at,
        step_seconds=forecast.step,
        horizon_seconds=forecast.horizon,
        values=tuple(forecast.values.tolist()),
        desired_replicas=tuple(snapshot.replicas.tolist()),
        lead_time_seconds=snapshot.lead_time,
        observed_at=observed.at if observed else None,
        observed_value=observed.value if observed else None,
        reactive_replicas=snapshot.floor,
        mode=snapshot.mode,
        settling_seconds=snapshot.quality.settling,
        partial=snapshot.quality.at_least is not None,
        withheld=snapshot.withheld,
        raw_counter=snapshot.findings.raw_counter,
        replicas_without_max=snapshot.replicas_without_max,
        min_replicas=snapshot.min_replicas,
        fingerprint=snapshot.fingerprint,
        experts=tuple(
            _ExpertDocument(name=one.name, ahead_seconds=one.ahead, weight=one.weight, error=one.error)
            for one in forecast.experts_at(snapshot.lead_time)
        ),
    )


def _add_status(document: _SnapshotDocument, snapshot: Snapshot) -> _SnapshotDocument:
    """Add the status; under a fixed headroom only if something is wrong."""
    status = snapshot.status
    if snapshot.service_level is None and status.is_ok:
        return document
    return attrs.evolve(document, status=status.code, reason=status.reason)


def _add_service_level(document: _SnapshotDocument, snapshot: Snapshot) -> _SnapshotDocument:
    if (steered := snapshot.service_level) is None:
        return document
    return attrs.evolve(
        document,
        upper_values=tuple(steered.upper.tolist()),
        service_level=steered.level,
        steering_factor=steered.factor,
        budget_spent=steered.budget_spent,
        at_cap=steered.is_factor_at_max,
        hold_seconds=steered.peak_hold,
        seasonal_quantile=steered.seasonal_quantile,
        load_cap=steered.load_cap,
    )


def _add_resumption(document: _SnapshotDocument, snapshot: Snapshot) -> _SnapshotDocument:
    if (resumed := snapshot.resumption) is None:
        return document
    return attrs.evolve(
        document, resumed_at=resumed.since, served_before=resumed.served, resumption_seconds=resumed.left
    )


def _add_outliers(document: _SnapshotDocument, snapshot: Snapshot) -> _SnapshotDocument:
    if (outliers := snapshot.findings.outliers) is None:
        return document
    newest = outliers.newest
    return attrs.evolve(
        document, outlier_points=outliers.points, newest_outlier_at=newest.at, newest_outlier_value=newest.value
    )


def _add_lost_series(document: _SnapshotDocument, snapshot: Snapshot) -> _SnapshotDocument:
    if (lost := snapshot.findings.lost_series) is None:
        return document
    return attrs.evolve(document, lost_series=lost.lost, series_left=lost.left, series_lost_at=lost.since)


def snapshot_schema() -> Mapping[str, JsonValue]:
    """The JSON Schema of what `write_snapshot` returns. Fields that have their default value are left out."""
    return _schema_of(_SnapshotDocument)


def write_explanation(explanation: Explanation) -> dict[str, Any]:
    """The explanation of an answer, ready for `dump_json`."""
    written: dict[str, Any] = _converter.unstructure(explanation)
    return written


def explanation_schema() -> Mapping[str, JsonValue]:
    """The JSON Schema of what `write_explanation` returns. Fields that are None are left out."""
    return _schema_of(Explanation)


def _schema_of(document: type[attrs.AttrsInstance]) -> Mapping[str, JsonValue]:
    fields = attrs.fields(document)
    properties: dict[str, JsonValue] = {camel_case(field.name): _schema_of_type(field.type) for field in fields}
    required = [camel_case(field.name) for field in fields if field.default is attrs.NOTHING]
    return {"type": "object", "required": required, "properties": properties}


_SCALARS: Mapping[type[str | float | datetime], Mapping[str, JsonValue]] = {
    str: {"type": "string"},
    float: {"type": "number"},
    int: {"type": "integer"},
    bool: {"type": "boolean"},
    datetime: {"type": "string", "format": "date-time"},
}


def _schema_of_type(kind: type | None) -> Mapping[str, JsonValue]:
    """The schema of a field's type: a scalar, a document, a tuple of either, or one of these or None."""
    if kind is not None and kind in _SCALARS:
        return _SCALARS[kind]
    if kind is not None and attrs.has(kind):
        return _schema_of(kind)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return _SCALARS[str]
    inner, other = get_args(kind)
    if other is Ellipsis:
        return {"type": "array", "items": _schema_of_type(inner)}
    assert other is NoneType  # noqa: S101 - no field is of another kind
    return _schema_of_type(inner)


def read_snapshot(text: str | bytes) -> Snapshot:
    """A snapshot from JSON; unknown fields are skipped.

    Raises WireError, which names every problem; for a document beyond `ALL_PROBLEMS_WITHIN` bytes only the first.
    """
    try:
        parsed = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise WireError(f"not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise WireError("not a snapshot: must be a JSON object")
    try:
        converter = _converter if len(text) <= ALL_PROBLEMS_WITHIN else _first_problem_converter
        return _to_snapshot(converter.structure(parsed, _SnapshotDocument))
    except BaseValidationError as error:
        problems = transform_error(error, path="snapshot", format_exception=_format)
        raise WireError("; ".join(map(_name_as_sent, problems))) from error
    except (ValueError, OverflowError, TypeError, KeyError) as error:
        raise WireError(f"not a snapshot: {_name_problem(error)}") from error


def write_predict_request(history: Series, made_at: datetime, steps: int) -> bytes:
    """The body of ``POST /predict``: one row per step, gaps forward-filled, rows before the first value left out."""
    rows = [
        {"ts": write_time(at), "value": float(value), "hour": at.hour, "dayOfWeek": at.weekday()}
        for at, value in ((history.time_at(index), value) for index, value in enumerate(fill_gaps(history.values)))
        if math.isfinite(value)
    ]
    request = {
        "now": write_time(made_at),
        "horizonSeconds": _write_number(steps * history.step),
        "stepSeconds": _write_number(history.step),
        "features": rows,
    }
    return dump_json(request).encode()


def read_predict_response(body: bytes, steps: int) -> list[float]:
    """The ``steps`` finite numbers of a model's ``{"metric": "...", "values": [...]}``; raises ValueError.

    `Forecast` checks that they can be loads. ``metric`` is not needed, and unknown keys are skipped.
    """
    try:
        answer = json.loads(body, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise WireError("it is nested too deeply") from error
    if not isinstance(answer, dict) or not isinstance(answer.get("values"), list):
        raise WireError("it has no list of values")
    if not isinstance(answer.get("metric", ""), str):
        raise WireError("its metric is not text")
    values = answer["values"]
    if len(values) != steps:
        raise WireError(f"it has {len(values)} values, but {steps} were asked for")
    return [_read_value(index, value) for index, value in enumerate(values)]


def _read_value(index: int, value: object) -> float:
    try:
        return _read_number(value, float)
    except (ValueError, OverflowError) as error:
        raise WireError(f"values[{index}] {error}") from error


def _to_snapshot(document: _SnapshotDocument) -> Snapshot:
    forecast = Forecast(document.generated_at, document.step_seconds, document.values)
    if not math.isclose(document.horizon_seconds, forecast.horizon):
        raise ValueError(f"horizonSeconds is {document.horizon_seconds:g}, the values reach {forecast.horizon:g}")
    observed = _observation(document.observed_at, document.observed_value)
    return Snapshot(
        document.workload, document.metric, forecast, document.desired_replicas, document.lead_time_seconds,
        observed, document.reactive_replicas, mode=Mode(document.mode or Mode.SCALE), status=_status_of(document),
        findings=_findings_of(document), replicas_without_max=document.replicas_without_max,
        min_replicas=document.min_replicas, resumption=_resumption_of(document), withheld=document.withheld,
        fingerprint=document.fingerprint,
    )  # fmt: skip


def _findings_of(document: _SnapshotDocument) -> Findings:
    newest, since = _observation(document.newest_outlier_at, document.newest_outlier_value), document.series_lost_at
    return Findings(
        outliers=None if newest is None else Outliers(document.outlier_points, newest),
        lost_series=None if since is None else LostSeries(document.lost_series, document.series_left, since),
        raw_counter=document.raw_counter,
    )


def _observation(at: datetime | None, value: float | None) -> Observation | None:
    return None if at is None or value is None else Observation(at, value)


def _resumption_of(document: _SnapshotDocument) -> Resumption | None:
    if document.resumed_at is None:
        return None
    return Resumption(document.resumed_at, document.served_before, document.resumption_seconds)


def _status_of(document: _SnapshotDocument) -> ForecastStatus:
    """The forecast status; one added by a later version is unknown here, and is read as ok."""
    return ForecastStatus(StatusCode(document.status), document.reason) if document.status in set(StatusCode) else OK


def camel_case(name: str) -> str:
    """``lead_time_seconds`` as ``leadTimeSeconds``."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def _read_number(value: Any, _type: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be a number")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("must be a finite number")
    return number


def _read_integer(value: Any, _type: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("must be a whole number")
    return value


def _read_flag(value: Any, _type: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _read_string(value: Any, _type: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a string")
    return value


def _name_problem(error: Exception) -> str:
    return f"{camel_case(str(error.args[0]))} is missing" if isinstance(error, KeyError) else str(error)


def _format(error: BaseException, kind: type[Any] | None) -> str:
    """The message of our own readers if they raised the error, else that of cattrs."""
    return str(error) if isinstance(error, ValueError | OverflowError) else format_exception(error, kind)


def _name_as_sent(problem: str) -> str:
    """``... @ snapshot.step_seconds`` with the name used in the document: ``snapshot.stepSeconds``."""
    words, at, path = problem.rpartition(" @ ")
    return words + at + camel_case(path)


def _write_number(number: float) -> float | int:
    """60 instead of 60.0, as every other program writes seconds."""
    return int(number) if float(number).is_integer() and abs(number) < 2**53 else number


def add_strict_types(converter: Converter) -> None:
    """Make ``converter`` strict: no conversion between numbers, flags, text and times, and only finite numbers."""
    converter.register_structure_hook(float, _read_number)
    converter.register_structure_hook(int, _read_integer)
    converter.register_structure_hook(bool, _read_flag)
    converter.register_structure_hook(str, _read_string)
    converter.register_structure_hook(datetime, lambda value, _: read_time(value))
    converter.register_unstructure_hook(datetime, write_time)


def _make_converter(*, all_problems: bool) -> Converter:
    converter = Converter(detailed_validation=all_problems)
    add_strict_types(converter)
    converter.register_unstructure_hook(float, _write_number)
    for document in (_ExpertDocument, _SnapshotDocument, Stage, Change, PlannedStep, Outage, Explanation):
        names = {field.name: override(rename=camel_case(field.name)) for field in attrs.fields(document)}
        # cattrs takes the overrides of fields as keywords among its own, which type hints cannot express
        unstructure = make_dict_unstructure_fn(
            document,
            converter,
            _cattrs_omit_if_default=True,
            **names,  # type: ignore[arg-type]
        )
        converter.register_unstructure_hook(document, unstructure)
        structure = make_dict_structure_fn(document, converter, **names)  # type: ignore[arg-type]
        converter.register_structure_hook(document, structure)
    return converter


_converter = _make_converter(all_problems=True)
_first_problem_converter = _make_converter(all_problems=False)
