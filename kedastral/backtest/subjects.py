# SPDX-License-Identifier: Apache-2.0
"""What is replayed: each workload's name and settings, and where its load comes from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import attrs
import trio

from kedastral.adapters.csv_history import read_csv_history
from kedastral.adapters.prometheus import RangeQuery
from kedastral.adapters.prometheus_history import TIMEOUT, PrometheusHistory
from kedastral.clock import SystemClock
from kedastral.config.fleet_settings import DataSourceSettings, WorkloadSettings
from kedastral.config.serving_settings import LeadSettings, ServiceLevel, StaleSettings
from kedastral.config.settings import BacktestSettings
from kedastral.config.units import Seconds
from kedastral.config.workload_settings import HTTP_MODEL, ForecastSettings, PlanSettings
from kedastral.core.series import Series
from kedastral.errors import ConfigError, SourceError
from kedastral.members import Connection, DataSources

DAY = 86400.0


class Replayed(Protocol):
    """The settings of one workload, as far as they are replayed; those of flags and those of files have them."""

    @property
    def forecast(self) -> ForecastSettings:
        """What is forecast, and by which model."""
        ...

    @property
    def plan(self) -> PlanSettings:
        """How load becomes replicas."""
        ...

    @property
    def level(self) -> ServiceLevel:
        """What is promised."""
        ...

    @property
    def serving(self) -> LeadSettings:
        """How the plan is read."""
        ...

    @property
    def stale(self) -> StaleSettings:
        """What holds when it is old."""
        ...


@attrs.frozen
class Asked:
    """A query, and the data source it is put to; ``window`` seconds of history up to now."""

    source: DataSourceSettings
    query: str
    window: float


@attrs.frozen
class Subject:
    """One workload: ``load`` is the file that holds it, or what Prometheus is asked."""

    name: str
    settings: Replayed
    load: Path | Asked


def find_subjects(settings: BacktestSettings) -> list[Subject]:
    """All that are replayed. Raises ConfigError for those that cannot be."""
    subjects = _of_flags(settings) if settings.fleet is None else _of_files(settings, settings.fleet.settings.workloads)
    wrong = [one for one in subjects if one.settings.forecast.model == HTTP_MODEL]
    if wrong:
        must = "--model must be one that computes in the process for a backtest; got 'http'"
        whose = "" if settings.fleet is None else f" for {', '.join(one.name for one in wrong[:20])}"
        raise ConfigError([must + whose])
    return subjects


def _of_flags(settings: BacktestSettings) -> list[Subject]:
    history = settings.history
    if not history.csv:
        assert history.url is not None  # noqa: S101 - the cross checks have seen to both
        assert history.query is not None  # noqa: S101
        source = DataSourceSettings(url=history.url, login=settings.login, timeout=Seconds(TIMEOUT))
        return [Subject(history.workload or "prometheus", settings, Asked(source, history.query, history.days * DAY))]
    names = _names_of(history.csv)
    alone = history.workload if len(history.csv) == 1 else None
    return [Subject(alone or names[path], settings, path) for path in history.csv]


def _of_files(settings: BacktestSettings, workloads: Mapping[str, WorkloadSettings]) -> list[Subject]:
    """Workloads with their own queries; where CSV files are given, they are the load of the one workload there is."""
    history, fleet = settings.history, settings.fleet
    assert fleet is not None  # noqa: S101 - only called with one
    if not history.csv:
        sources = fleet.settings.sources
        return [
            Subject(key, one, Asked(sources[one.data_source], one.query, history.days * DAY))
            for key, one in workloads.items()
        ]
    if len(workloads) != 1:
        some = ", ".join(list(workloads)[:20])
        raise ConfigError([f"--csv is the load of one workload: name it with --workload; --config has {some}"])
    key, one = next(iter(workloads.items()))
    names = _names_of(history.csv)
    return [Subject(key if len(history.csv) == 1 else names[path], one, path) for path in history.csv]


def _names_of(paths: tuple[Path, ...]) -> dict[Path, str]:
    """File names without their endings, whole paths where two are the same."""
    short = {path: path.name.removesuffix(".gz").removesuffix(".csv") for path in paths}
    return {path: name if list(short.values()).count(name) == 1 else str(path) for path, name in short.items()}


@attrs.frozen
class Failed:
    """A workload that could not be replayed, and why: the others are."""

    name: str
    reason: str


def read_loads(subjects: Sequence[Subject]) -> tuple[list[Series | None], list[str], list[Failed]]:
    """The load of each, None where it cannot be read; a line for each file, a reason for each refused question."""
    problems: list[str] = []
    failed: list[Failed] = []
    asked = {one.load.source.name: one.load.source for one in subjects if isinstance(one.load, Asked)}
    answers = trio.run(_ask_all, subjects, asked, failed) if asked else {}
    loads: list[Series | None] = []
    for subject in subjects:
        if isinstance(subject.load, Asked):
            loads.append(answers.get(subject.name))
            continue
        try:
            loads.append(read_csv_history(subject.load))
        except ConfigError as error:
            loads.append(None)
            problems += error.problems
    return loads, problems, failed


async def _ask_all(
    subjects: Sequence[Subject], asked: Mapping[str, DataSourceSettings], failed: list[Failed]
) -> dict[str, Series]:
    """What the data sources answer, by the name of the subject: one question after the other, as each allows."""
    answers: dict[str, Series] = {}
    sources, now = DataSources(), SystemClock().now()
    sources.replace(asked)
    try:
        for subject in subjects:
            if isinstance(subject.load, Asked):
                connection, step = sources.use(subject.load.source.name), subject.settings.forecast.step
                history = _history_of(subject.load, step, connection)
                try:
                    answers[subject.name] = await history.read(now)
                except SourceError as error:
                    failed.append(Failed(subject.name, str(error)))
    finally:
        await sources.close()
    return answers


def _history_of(asked: Asked, step: float, connection: Connection) -> PrometheusHistory:
    query = RangeQuery(asked.query, asked.window, step, step)
    return PrometheusHistory(connection.client, query, limits=connection.limits, timeout=connection.settings.timeout)
