# SPDX-License-Identifier: Apache-2.0
"""From settings to workloads that can be replayed: history read, put on the forecast's step, checked and scaled."""

import attrs
import numpy as np

from kedastral.backtest.contest import Arena, Rules
from kedastral.backtest.subjects import Asked, Failed, Replayed, Subject, find_subjects, read_loads
from kedastral.config.backtest_settings import AUTO, BacktestRules, HpaKind
from kedastral.config.fleet_settings import WorkloadSettings
from kedastral.config.settings import BacktestSettings
from kedastral.config.units import write_duration
from kedastral.config.workload_settings import ForecastSettings
from kedastral.core.capacity import WHOLE_WITHIN, PlanPolicy, ReplicaBounds
from kedastral.core.series import Series, align_down
from kedastral.errors import ConfigError
from kedastral.models import MODELS
from kedastral.simulation.hpa_behavior import HpaBehavior
from kedastral.simulation.keda import KedaTiming
from kedastral.simulation.policies.remembered import Remembered
from kedastral.simulation.policies.ticks import Reading, Serving
from kedastral.simulation.replay import Cluster
from kedastral.simulation.trial import Scaling, Trial, scale_trace

MOST_GAPS = 0.5
"""The share of the judged steps that may be gaps: what is carried over more than half of them is no history."""


class _UnfitHistoryError(ConfigError):
    """A history that cannot be replayed, whatever the settings."""


def prepare_arenas(settings: BacktestSettings) -> tuple[list[Arena], list[Failed]]:
    """One arena a workload; of several whose data sources are asked, those that have no history failed.

    Raises ConfigError, a line for each setting and file that cannot be replayed, all at once; and where the only
    workload has no history.
    """
    subjects = find_subjects(settings)
    loads, problems, failed = read_loads(subjects)
    if len(subjects) == 1:
        problems += [one.reason for one in failed]
    arenas: list[Arena] = []
    for subject, load in zip(subjects, loads, strict=True):
        if load is None:
            continue
        try:
            arenas.append(_prepare(subject, load, settings.rules))
        except _UnfitHistoryError as error:
            if len(subjects) > 1 and isinstance(subject.load, Asked):
                failed.append(Failed(subject.name, str(error).removeprefix(f"{subject.name}: ")))
            else:
                problems += error.problems
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return arenas, failed


def _prepare(subject: Subject, history: Series, rules: BacktestRules) -> Arena:
    name, settings = subject.name, subject.settings
    series = _on_step(name, history, settings.forecast.step)
    _require_fit(name, series.step, settings, rules)
    trial = _scale(name, series, settings.plan.target_per_pod, rules)
    return Arena(
        name,
        trial,
        _model_of(settings.forecast),
        rules_of(settings, rules, series.step),
        sized_by_peak=settings.plan.target_per_pod == AUTO,
        in_files=isinstance(settings, WorkloadSettings),
    )


def _model_of(forecast: ForecastSettings) -> Remembered:
    return Remembered(MODELS[str(forecast.model)].make(forecast.timezone))


def _on_step(name: str, history: Series, step: float) -> Series:
    """Finer history as means over the step; coarser history as it is."""
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


def _require_fit(name: str, step: float, settings: Replayed, rules: BacktestRules) -> None:
    """What must hold between the history's step and the settings, which only now are both known."""
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


def _scale(name: str, series: Series, target: float, rules: BacktestRules) -> Trial:
    try:
        trial = scale_trace(series, Scaling(rules.evaluated, rules.warm_up))
    except ValueError as error:
        raise _unfit(name, series, rules) from error
    if trial.gaps > len(trial.judged) * MOST_GAPS:
        must = f"at least {1 - MOST_GAPS:.0%} of the judged steps must have a value"
        raise _UnfitHistoryError([f"{name}: {must}; got {len(trial.judged) - trial.gaps} of {len(trial.judged)}"])
    return trial if target == AUTO else attrs.evolve(trial, target_per_pod=target)


def _unfit(name: str, series: Series, rules: BacktestRules) -> _UnfitHistoryError:
    """Why nothing is left to judge, with the remedy. Prometheus is asked for days, and may have minutes."""
    known = np.flatnonzero(np.isfinite(series.values))
    length = len(series) - int(known[0]) if len(known) else 0
    replayed = round(length * rules.evaluated)
    hint = "or set --evaluated and --warm-up"
    if replayed > round(rules.warm_up / series.step):
        return _UnfitHistoryError([f"{name}: the judged part of the history is 0 throughout; give another, {hint}"])
    needed = (rules.warm_up + 10 * series.step) / rules.evaluated
    must = f"the history must be longer: at least {needed / 86400:.2g} days with load at their end"
    span = write_duration(length * series.step) if length else "none"
    spent = f"{write_duration(replayed * series.step)} of it replayed, {write_duration(rules.warm_up)} of warm-up"
    return _UnfitHistoryError([f"{name}: {must}, {hint}; got {span} ({spent})"])


def rules_of(settings: Replayed, rules: BacktestRules, step: float) -> Rules:
    """The settings as the simulation takes them."""
    forecast, serving, plan = settings.forecast, settings.serving, settings.plan
    bounds = ReplicaBounds(plan.min_replicas, plan.max_replicas)
    floor = serving.reactive_headroom if serving.reactive_floor else None
    calibrated = MODELS[str(forecast.model)].steered
    return Rules(
        PlanPolicy(
            1.0, plan.fixed_headroom, bounds, plan.up_max_factor, plan.down_max_pct, plan.prewarm_steps, plan.rounding
        ),
        calibrated,
        settings.level.service_level if calibrated and plan.headroom is None else None,
        Reading(max(forecast.history_window, step), forecast.horizon, forecast.interval),
        Serving(serving.lead_time, floor, settings.stale.policy()),
        Cluster(serving.lead_time, bounds, _timing_of(rules), _behavior_of(rules)),
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
