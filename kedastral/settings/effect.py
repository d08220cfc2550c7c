# SPDX-License-Identifier: Apache-2.0
"""How the value of a setting is shown, what one without a value amounts to, and where one is too small for the load."""

from collections.abc import Mapping
from typing import Any

from kedastral.core.capacity import round_replicas
from kedastral.models import MODELS
from kedastral.settings.declarations import DEFAULT_HEADROOM, PlanSettings, default_window
from kedastral.settings.fleet import WorkloadSettings
from kedastral.settings.schema import Setting, groups_of, settings_of
from kedastral.settings.types import write_duration, write_value
from kedastral.text import one_line

VALUE_SHOWN = 100
"""Characters of a value, such as a query, in the log."""

_UNSET = {"settle_after": "none (learned from the query)", "prewarm_steps": "none (--prewarm counts)"}


def show(setting: Setting, value: Any) -> str:
    """A setting's value as a person would write it; secrets stay hidden."""
    if value is None:
        return "none"
    if setting.is_secret:
        return "(hidden)"
    if setting.kind == "duration":
        return write_duration(value)
    return write_value(value)


def show_in_effect(setting: Setting, values: Mapping[str, Any]) -> str:
    """The value of ``setting`` among ``values``; if it has none, what follows from the other settings."""
    value, model = values[setting.name], values.get("model")
    if value is not None or model is None:
        return show(setting, value)
    if setting.name == "headroom":
        return _describe_headroom(str(model))
    if setting.name == "window":
        return f"{write_duration(default_window(str(model), values['step']))} (what {model} wants)"
    return _UNSET.get(setting.name, show(setting, value))


def describe_changes(before: WorkloadSettings, now: WorkloadSettings) -> list[str]:
    """Each setting whose value differs, with the old and the new one: ``leadTime 8m -> 4m``."""
    old, new = _values_of(before), _values_of(now)
    settings = [each for _, kind in groups_of(WorkloadSettings) for each in settings_of(kind)]
    found = [
        (each.key, show_in_effect(each, old), show_in_effect(each, new))
        for each in settings
        if old[each.name] != new[each.name]
    ]
    own = [("query", before.query, now.query), ("dataSource", before.data_source, now.data_source)]
    changed = [*(each for each in own if each[1] != each[2]), *found]
    return [f"{name} {one_line(was, VALUE_SHOWN)} -> {one_line(is_now, VALUE_SHOWN)}" for name, was, is_now in changed]


def _values_of(workload: WorkloadSettings) -> dict[str, Any]:
    groups = [(getattr(workload, field), kind) for field, kind in groups_of(WorkloadSettings)]
    return {each.name: getattr(group, each.name) for group, kind in groups for each in settings_of(kind)}


def _describe_headroom(model: str) -> str:
    """The headroom that a model's forecasts are planned with by default."""
    steered = model in MODELS and MODELS[model].plans_by_service_level
    return "none (steered to the service level)" if steered else write_value(DEFAULT_HEADROOM)


def describe_need(load: float, plan: PlanSettings) -> str:
    """How many replicas a load needs, without headroom and bounds."""
    return f"{max(round_replicas(load / plan.target_per_pod, plan.rounding), 0.0):,.0f}"


def describe_lack(largest: float, plan: PlanSettings) -> str:
    """In words that the ``largest`` load needs more replicas than ``max``, even without headroom; empty if not."""
    needed, most = round_replicas(largest / plan.target_per_pod, plan.rounding), plan.max_replicas
    if not most or needed <= most:
        return ""
    return f"{largest:,.6g} needs {needed:,.0f} replicas at {plan.target_per_pod:,.6g} a pod, and max is {most}"
