# SPDX-License-Identifier: Apache-2.0
"""Turns a workload's settings into what planning and saved state need: `Workload` and `StateBasis`."""

import hashlib

import attrs

from kedastral.core.kept_state import StateBasis
from kedastral.core.planning.planner import Workload
from kedastral.core.planning.service_level import ServiceLevelGoal
from kedastral.models import MODELS
from kedastral.settings.declarations import HTTP_MODEL
from kedastral.settings.fleet import WorkloadSettings
from kedastral.workloads.data_sources import DataSourceConnection, identify_source


def workload_of(settings: WorkloadSettings, connection: DataSourceConnection | None) -> Workload:
    """The settings of one workload, which reads from ``connection``, in the form that planning uses."""
    forecast, plan, serving = settings.forecast, settings.plan, settings.serving
    policy, floor = plan.policy(forecast.step), serving.floor_headroom
    goal, kind = ServiceLevelGoal(settings.level.service_level, plan.headroom), MODELS.get(str(forecast.model))
    return Workload(
        name=settings.key,
        metric=forecast.metric,
        steps=forecast.steps,
        lead_time=serving.lead_time,
        policy=policy,
        reactive_headroom=floor,
        goal=goal if kind is not None and kind.plans_by_service_level else None,
        stale=settings.policy(),
        interval=forecast.interval,
        fingerprint=_hash(attrs.astuple(basis_of(settings, connection)), policy, floor),
    )


def basis_of(settings: WorkloadSettings, connection: DataSourceConnection | None) -> StateBasis:
    """The settings that the meaning of a workload's state depends on."""
    forecast = settings.forecast
    return StateBasis(
        source="" if connection is None else identify_source(connection.settings),
        query=settings.query,
        step=forecast.step,
        settle_after=forecast.settle_after,
        model=f"{forecast.model} {forecast.model_url}" if forecast.model == HTTP_MODEL else str(forecast.model),
        timezone=forecast.timezone.key,
        lead_time=settings.serving.lead_time,
        prewarm_steps=settings.plan.prewarm_at(forecast.step),
        target_per_pod=settings.plan.target_per_pod,
        headroom=settings.plan.headroom,
        service_level=settings.level.service_level,
    )


def _hash(*settings: object) -> str:
    """A hash of the settings that determine the replicas for a given load; it does not reveal them."""
    return hashlib.blake2b(repr(settings).encode(), digest_size=8).hexdigest()
