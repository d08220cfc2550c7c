# SPDX-License-Identifier: Apache-2.0
"""Turns the settings of a backtest into scenarios: reads, checks and scales the history of each workload."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import attrs
import numpy as np
import trio

from kedastral.adapters.csv import ExportReading, read_export
from kedastral.adapters.prometheus.range_queries import WHOLE_HISTORY_TIMEOUT, PrometheusHistory, RangeQuery
from kedastral.clock import SystemClock
from kedastral.core.capacity import PlanPolicy
from kedastral.core.data_quality.raw_counter import find_counter
from kedastral.core.model import Model
from kedastral.core.series import DAY, Bools, Series, align_down
from kedastral.core.steps import WHOLE_WITHIN
from kedastral.errors import ConfigError, SourceError, UnfitHistoryError
from kedastral.models import MODELS
from kedastral.settings.commands import BacktestSettings
from kedastral.settings.declarations import (
    HTTP_MODEL,
    BacktestRules,
    ForecastSettings,
    HpaKind,
    LeadSettings,
    PlanSettings,
    ServiceLevel,
    StaleSettings,
)
from kedastral.settings.fleet import DataSourceSettings, WorkloadSettings
from kedastral.settings.types import AUTO, Seconds, write_duration
from kedastral.simulation.cluster import KedaTiming
from kedastral.simulation.hpa import HpaBehavior
from kedastral.simulation.policies import CachedModel, ForecastSchedule, LastWeek, Serving
from kedastral.simulation.replay import Cluster
from kedastral.simulation.trial import MetricsPipeline, Scaling, Trial, scale_trace
from kedastral.workloads.data_sources import DataSourceConnection, DataSources

MAX_GAP_SHARE = 0.5
"""The largest share of judged steps that may be gaps. A history with more gaps is refused."""
LITTLE_JUDGED = 60_000.0
"""The least seconds to judge for a verdict at the usual service level of 0.99. If the default shares would judge less
of a history, more of it is judged."""
SHORT_EVALUATED, SHORT_WARM_UP = 0.5, 0.1
"""The shares of a short history to replay, and to use for warm-up, which is not judged."""


@attrs.frozen
class ReplaySettings:
    """How one workload is replayed. ``plan`` is a template: each workload sets its own target per pod.

    ``service_level`` is the level that Kedastral is steered to; None with a headroom. The headroom of a
    ``calibrated`` model multiplies the upper quantile of the forecast; that of any other model multiplies the forecast.
    """

    plan: PlanPolicy
    calibrated: bool = False
    service_level: float | None = None
    schedule: ForecastSchedule = attrs.field(factory=ForecastSchedule)
    serving: Serving = attrs.field(factory=Serving)
    cluster: Cluster = attrs.field(factory=Cluster)


@attrs.frozen
class Scenario:
    """One workload, ready to be replayed. ``model`` should cache its forecasts, since every setting asks for the same.

    ``sized_by_peak``: the target per pod was derived from the load. ``gives_max``: the maximum was given, and is not
    the default. ``in_files``: the workload is a ForecastPolicy. ``remarks`` say how its history was read and divided,
    if that is not obvious. ``unit`` is that of the load, empty if the history does not name it.
    """

    name: str
    trial: Trial
    model: Model
    settings: ReplaySettings
    sized_by_peak: bool = False
    gives_max: bool = False
    in_files: bool = False
    remarks: tuple[str, ...] = ()
    unit: str = ""

    def plan(self, headroom: float) -> PlanPolicy:
        """The plan policy for this workload's pods."""
        return attrs.evolve(self.settings.plan, target_per_pod=self.trial.target_per_pod, headroom=headroom)

    @property
    def has_week(self) -> bool:
        """Whether at least a week of history lies before the judged part."""
        return self.trial.judged_from >= round(LastWeek.WEEK / self.trial.demand.step)

    @property
    def past_peak(self) -> float:
        """The 99.9th percentile of the load before the replay, or the first value if nothing came before."""
        before = self.trial.measured[: max(1, self.trial.begin)]
        return float(np.percentile(before[np.isfinite(before)], 99.9))  # the first value is no gap


class ReplayableSettings(Protocol):
    """The part of a workload's settings that a backtest needs, whether they come from flags or from files."""

    @property
    def by_default(self) -> frozenset[str]:
        """The names of the settings that were not given."""
        ...

    @property
    def forecast(self) -> ForecastSettings:
        """The step, horizon, history and model of the forecast."""
        ...

    @property
    def plan(self) -> PlanSettings:
        """How load becomes replicas."""
        ...

    @property
    def level(self) -> ServiceLevel:
        """The service level to reach."""
        ...

    @property
    def serving(self) -> LeadSettings:
        """How the plan is served."""
        ...

    @property
    def stale(self) -> StaleSettings:
        """What applies when the forecast is old."""
        ...


@attrs.frozen
class PrometheusLoad:
    """A load to read from Prometheus: the last ``window`` seconds of ``query``."""

    source: DataSourceSettings
    query: str
    window: float


@attrs.frozen
class BacktestWorkload:
    """One workload to replay. ``load`` is a CSV file, or a query."""

    name: str
    settings: ReplayableSettings
    load: Path | PrometheusLoad


@attrs.frozen
class ReadLoad:
    """The history of one workload; ``remarks`` say how its file was read; none for Prometheus."""

    series: Series
    remarks: tuple[str, ...] = ()
    unit: str = ""


@attrs.frozen
class FailedWorkload:
    """A workload that could not be replayed, while others could."""

    workload: str
    reason: str


def prepare_scenarios(settings: BacktestSettings) -> tuple[list[Scenario], list[FailedWorkload]]:
    """One scenario for each workload, and the workloads whose data source gave no usable history.

    Raises ConfigError with a line for each setting and file that cannot be replayed, and if the only workload has no
    history.
    """
    workloads = find_workloads(settings)
    history = settings.history
    reading = ExportReading(history.time_zone, history.column, history.time_column)
    loads, problems, failed = read_loads(workloads, reading)
    if len(workloads) == 1:
        problems += [one.reason for one in failed]
    scenarios: list[Scenario] = []
    for workload, load in zip(workloads, loads, strict=True):
        if load is None:
            continue
        try:
            scenarios.append(_prepare(workload, load, settings.rules))
        except UnfitHistoryError as error:
            if len(workloads) > 1 and isinstance(workload.load, PrometheusLoad):
                failed.append(FailedWorkload(workload.name, str(error).removeprefix(f"{workload.name}: ")))
            else:
                problems += error.problems
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return scenarios, failed


def find_workloads(settings: BacktestSettings) -> list[BacktestWorkload]:
    """The workloads to replay. Raises ConfigError for those that cannot be replayed."""
    workloads = (
        _of_flags(settings) if settings.fleet is None else _of_files(settings, settings.fleet.settings.workloads)
    )
    wrong = [one for one in workloads if one.settings.forecast.model == HTTP_MODEL]
    if wrong:
        must = "--model must be one that computes in the process for a backtest; got 'http'"
        whose = "" if settings.fleet is None else f" for {', '.join(one.name for one in wrong[:20])}"
        raise ConfigError([must + whose])
    return workloads


def _of_flags(settings: BacktestSettings) -> list[BacktestWorkload]:
    history = settings.history
    if not history.csv:
        assert history.url is not None  # noqa: S101 - checked with the settings
        assert history.query is not None  # noqa: S101
        source = DataSourceSettings(url=history.url, login=settings.login, timeout=Seconds(WHOLE_HISTORY_TIMEOUT))
        return [
            BacktestWorkload(
                history.workload or "prometheus", settings, PrometheusLoad(source, history.query, history.days * DAY)
            )
        ]
    names = _names_of(history.csv)
    alone = history.workload if len(history.csv) == 1 else None
    return [BacktestWorkload(alone or names[path], settings, path) for path in history.csv]


def _of_files(settings: BacktestSettings, workloads: Mapping[str, WorkloadSettings]) -> list[BacktestWorkload]:
    """Workloads with their own queries. CSV files replace the query of a single workload."""
    history, fleet = settings.history, settings.fleet
    assert fleet is not None  # noqa: S101 - only called with one
    if not history.csv:
        sources = fleet.settings.sources
        return [
            BacktestWorkload(key, one, PrometheusLoad(sources[one.data_source], one.query, history.days * DAY))
            for key, one in workloads.items()
        ]
    if len(workloads) != 1:
        some = ", ".join(list(workloads)[:20])
        raise ConfigError([f"--csv is the load of one workload: name it with --workload; --config has {some}"])
    key, one = next(iter(workloads.items()))
    names = _names_of(history.csv)
    return [BacktestWorkload(key if len(history.csv) == 1 else names[path], one, path) for path in history.csv]


def _names_of(paths: tuple[Path, ...]) -> dict[Path, str]:
    """File names without their extensions, or whole paths if two names are equal."""
    short = {path: path.name.removesuffix(".gz").removesuffix(".csv") for path in paths}
    return {path: name if list(short.values()).count(name) == 1 else str(path) for path, name in short.items()}


def read_loads(
    workloads: Sequence[BacktestWorkload], reading: ExportReading
) -> tuple[list[ReadLoad | None], list[str], list[FailedWorkload]]:
    """Each workload's load, None if it cannot be read; a line for each bad file; each failed query with its reason."""
    problems: list[str] = []
    failed: list[FailedWorkload] = []
    asked = {one.load.source.name: one.load.source for one in workloads if isinstance(one.load, PrometheusLoad)}
    answers = trio.run(_query_all, workloads, asked, failed) if asked else {}
    loads: list[ReadLoad | None] = []
    for workload in workloads:
        if isinstance(workload.load, PrometheusLoad):
            answer = answers.get(workload.name)
            loads.append(None if answer is None else ReadLoad(answer))
            continue
        try:
            export = read_export(workload.load, reading)
            loads.append(ReadLoad(export.series, (export.understood, *export.warnings), export.unit))
        except ConfigError as error:
            loads.append(None)
            problems += error.problems
    return loads, problems, failed


async def _query_all(
    workloads: Sequence[BacktestWorkload], asked: Mapping[str, DataSourceSettings], failed: list[FailedWorkload]
) -> dict[str, Series]:
    """The answers by workload name. Queries run one after the other, within each data source's limits."""
    answers: dict[str, Series] = {}
    sources, now = DataSources(), SystemClock().now()
    sources.replace(asked)
    try:
        for workload in workloads:
            if isinstance(workload.load, PrometheusLoad):
                connection, step = sources.use(workload.load.source.name), workload.settings.forecast.step
                history = _history_of(workload.load, step, connection)
                try:
                    answers[workload.name] = await history.read(now)
                except SourceError as error:
                    failed.append(FailedWorkload(workload.name, str(error)))
    finally:
        await sources.close()
    return answers


def _history_of(asked: PrometheusLoad, step: float, connection: DataSourceConnection) -> PrometheusHistory:
    query = RangeQuery(asked.query, asked.window, step, step)
    return PrometheusHistory(connection.client, query, limits=connection.limits, timeout=connection.settings.timeout)


def _prepare(workload: BacktestWorkload, load: ReadLoad, rules: BacktestRules) -> Scenario:
    name, settings, history = workload.name, workload.settings, load.series
    counter = find_counter(history)
    if counter is not None:
        raise UnfitHistoryError([f"{name}: {counter.words}"])
    series = _on_step(name, history, settings.forecast.step)
    _require_fit(name, series.step, settings, rules)
    trial, is_short = _make_trial(name, series, settings, rules)
    remarks = (*load.remarks, _describe_short(trial) if is_short else "")
    return Scenario(
        name,
        trial,
        _model_of(settings.forecast),
        replay_settings_of(settings, rules, series.step),
        sized_by_peak=settings.plan.target_per_pod == AUTO,
        gives_max="max_replicas" not in settings.by_default,
        in_files=isinstance(settings, WorkloadSettings),
        remarks=tuple(filter(None, remarks)),
        unit=load.unit,
    )


def _model_of(forecast: ForecastSettings) -> CachedModel:
    return CachedModel(MODELS[str(forecast.model)].make(forecast.timezone))


def _on_step(name: str, history: Series, step: float) -> Series:
    """Averages finer history to the step; returns coarser history as it is."""
    if history.step >= step - WHOLE_WITHIN:
        return history
    ratio = round(step / history.step)
    if abs(ratio * history.step - step) > WHOLE_WITHIN * step:
        got = write_duration(history.step)
        raise ConfigError([f"{name}: --step must be a whole multiple of the history's step; got {got}"])
    start = align_down(history.start, step)
    before = round((history.start - start).total_seconds() / history.step)
    after = -(before + len(history)) % ratio
    whole = np.concatenate([np.full(before, np.nan), history.values, np.full(after, np.nan)]).reshape(-1, ratio)
    known = np.isfinite(whole)
    counts = known.sum(axis=1)
    means = np.where(known, whole, 0.0).sum(axis=1) / np.maximum(counts, 1)
    return Series(start, step, np.where(counts > 0, means, np.nan))


def _require_fit(name: str, step: float, settings: ReplayableSettings, rules: BacktestRules) -> None:
    """Checks the settings against the history's step, which was unknown before."""
    steps = settings.forecast.horizon / step
    sync = _timing_of(rules).sync_period
    horizon, lead_time = settings.forecast.horizon, settings.serving.lead_time
    found = f"steps of {write_duration(step)} in the history"
    problems = []
    if lead_time < step:
        problems.append(f"{name}: --lead-time must be at least one step; got {write_duration(lead_time)}, and {found}")
    if abs(steps - round(steps)) > WHOLE_WITHIN * max(1.0, steps) or steps < 1:
        problems.append(
            f"{name}: --horizon must be a whole multiple of the step; got {write_duration(horizon)}, and {found}"
        )
    if abs(round(step / sync) * sync - step) > WHOLE_WITHIN * step:
        problems.append(
            f"{name}: the step must be a whole multiple of --sync-period; got {write_duration(sync)}, and {found}"
        )
    if problems:
        raise ConfigError(problems)


def _make_trial(name: str, series: Series, settings: ReplayableSettings, rules: BacktestRules) -> tuple[Trial, bool]:
    """The trial, and whether the history is so short that it is not divided by the default shares."""
    scaling, is_short = _divide(_known_length(series) * series.step, rules)
    try:
        trial = scale_trace(series, scaling)
    except ValueError as error:
        raise _explain_unfit(name, series, scaling) from error
    if trial.gaps > len(trial.judged) * MAX_GAP_SHARE:
        raise _too_many_gaps(name, trial.known)
    target, pipeline = settings.plan.target_per_pod, MetricsPipeline(rules.late, rules.noise)
    size = trial.target_per_pod if target == AUTO else target
    trial = attrs.evolve(trial, pipeline=pipeline, target_per_pod=size)
    if not trial.judged.values[trial.counted(settings.serving.lead_time)].any():
        must = "there must be load at judged steps whose pods could be ordered outside a gap"
        raise UnfitHistoryError([f"{name}: {must}; got none, with {trial.gaps} of {len(trial.judged)} steps missing"])
    return trial, is_short


def _divide(seconds: float, rules: BacktestRules) -> tuple[Scaling, bool]:
    """How much of a history of ``seconds`` is replayed and judged, and whether its shortness decided that."""
    usual = Scaling()
    if rules.evaluated is None and rules.warm_up is None:
        is_short = seconds * usual.evaluated - usual.warm_up < LITTLE_JUDGED
        return (Scaling(SHORT_EVALUATED, seconds * SHORT_WARM_UP), True) if is_short else (usual, False)
    evaluated = usual.evaluated if rules.evaluated is None else rules.evaluated
    return Scaling(evaluated, usual.warm_up if rules.warm_up is None else rules.warm_up), False


def _describe_short(trial: Trial) -> str:
    demand, judged = trial.demand, trial.judged
    warm_up = (trial.judged_from - trial.begin) * demand.step
    return (
        f"only {write_duration(len(demand) * demand.step)} of history, so the last half of it is replayed, "
        f"{write_duration(warm_up)} as warm-up, and {write_duration(len(judged) * judged.step)} are judged; the "
        "verdict has little weight, as the model has not seen a whole week"
    )


def _known_length(series: Series) -> int:
    """The number of steps from the first value on."""
    known = np.flatnonzero(np.isfinite(series.values))
    return len(series) - int(known[0]) if len(known) else 0


def _too_many_gaps(name: str, known: Bools) -> UnfitHistoryError:
    must = f"at least {1 - MAX_GAP_SHARE:.0%} of the judged steps must have a value"
    return UnfitHistoryError([f"{name}: {must}; got {int(known.sum())} of {len(known)}"])


def _explain_unfit(name: str, series: Series, rules: Scaling) -> UnfitHistoryError:
    """Why nothing is left to judge, and the remedy. Prometheus may have less history than was asked for."""
    length = _known_length(series)
    replayed = round(length * rules.evaluated)
    hint = "or set --evaluated and --warm-up"
    judged = replayed - round(rules.warm_up / series.step)
    if judged > 0:
        known = np.isfinite(series.values[-judged:])
        if not known.any():
            return _too_many_gaps(name, known)
        return UnfitHistoryError([f"{name}: the judged part of the history is 0 throughout; give another, {hint}"])
    needed = (rules.warm_up + 10 * series.step) / rules.evaluated
    must = f"the history must be longer: at least {needed / DAY:.2g} days with load at their end"
    span = write_duration(length * series.step) if length else "none"
    spent = f"{write_duration(replayed * series.step)} of it replayed, {write_duration(rules.warm_up)} of warm-up"
    return UnfitHistoryError([f"{name}: {must}, {hint}; got {span} ({spent})"])


def replay_settings_of(settings: ReplayableSettings, rules: BacktestRules, step: float) -> ReplaySettings:
    """The settings in the form that the simulation needs."""
    forecast, serving = settings.forecast, settings.serving
    plan = attrs.evolve(settings.plan, target_per_pod=1.0).policy(step)
    calibrated = MODELS[str(forecast.model)].plans_by_service_level
    return ReplaySettings(
        plan,
        calibrated,
        settings.level.service_level if calibrated and settings.plan.headroom is None else None,
        ForecastSchedule(max(forecast.history_window, step), forecast.horizon, forecast.interval),
        Serving(serving.lead_time, serving.floor_headroom, settings.stale.policy()),
        Cluster(serving.lead_time, plan.bounds, _timing_of(rules), _behavior_of(rules)),
    )


def _timing_of(rules: BacktestRules) -> KedaTiming:
    default = KedaTiming.KUBERNETES if rules.hpa is HpaKind.KUBERNETES else KedaTiming()
    return attrs.evolve(
        default,
        sync_period=rules.sync_period or default.sync_period,
        polling_interval=rules.polling_interval or default.polling_interval,
    )


def _behavior_of(rules: BacktestRules) -> HpaBehavior | None:
    return HpaBehavior.KUBERNETES if rules.hpa is HpaKind.KUBERNETES else None
