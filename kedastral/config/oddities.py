# SPDX-License-Identifier: Apache-2.0
"""What can be run with, and is hardly what anybody wants: the warnings about settings."""

from kedastral.config import tls_checks as tls
from kedastral.config.checks import CrossCheck, Said, Values
from kedastral.config.units import write_duration as span
from kedastral.config.workload_settings import HTTP_MODEL
from kedastral.core.capacity import WHOLE_WITHIN
from kedastral.core.serving import OnStale
from kedastral.core.steered import LEAST_HISTORY
from kedastral.core.steering import STRICT
from kedastral.models import MODELS


def _fresh_between_ticks(v: Values) -> str | None:
    if v["stale_after"] <= v["interval"]:
        return f"is not longer than the interval ({span(v['interval'])}), so that forecasts go stale between two ticks"
    return None


def _default_not_below_min(v: Values) -> str | None:
    if v["on_stale"] is OnStale.DEFAULT_MIN and v["default_min"] < v["min_replicas"]:
        return f"is below --min ({v['min_replicas']}), so that a stale forecast asks for fewer replicas than any plan"
    return None


def _promised_for_less_than_weeks(v: Values) -> str | None:
    if v["model"] == "auto" and v["service_level"] >= STRICT - WHOLE_WITHIN:
        minutes = (1 - v["service_level"]) * 7 * 1440
        return f"is a promise over weeks: {minutes:.2g} min a week may be short of pods, and one surprise is that"
    return None


def _window_lets_auto_lead(v: Values) -> str | None:
    if v["model"] == "auto" and v["window"] is not None and v["window"] < LEAST_HISTORY:
        return f"is shorter than {span(LEAST_HISTORY)}, so that auto never leads and the last value is planned for"
    return None


def _namespaces_are_used(v: Values) -> str | None:
    if v["scaledobject_namespaces"] and not v["allow_scaledobject_workloads"]:
        return "is not used, since --allow-scaledobject-workloads is not set"
    return None


def _is_steered(v: Values) -> bool:
    kind = MODELS.get(str(v["model"]))
    return kind is not None and kind.steered


def _floor_has_headroom(v: Values) -> str | None:
    if not v["reactive_floor"]:
        return "is not used, since --reactive-floor is off"
    if _is_steered(v) and v["headroom"] is None:
        return f"is not used, since {v['model']} steers the floor too; it counts with --headroom, or with another model"
    return None


def _level_steers(v: Values) -> str | None:
    if not _is_steered(v):
        return f"is not used, since {v['model']} plans by --headroom; it steers auto"
    if v["headroom"] is not None:
        return "is not used, since --headroom is given, which takes the place of the steered factor"
    return None


def _url_has_model(v: Values) -> str | None:
    return None if v["model"] == HTTP_MODEL else f"is not used, since --model is {v['model']}"


def _target_is_said(v: Values) -> str | None:
    return f"is not given, so that {v['target_per_pod']:g} is assumed: the load of one pod decides almost everything"


TAKE_AWAY = "take it away, or change that"
WARNINGS: tuple[CrossCheck, ...] = (
    CrossCheck("service_level", ("service_level", "model"), _promised_for_less_than_weeks),
    CrossCheck("window", ("window", "model"), _window_lets_auto_lead),
    CrossCheck("stale_after", ("stale_after", "interval"), _fresh_between_ticks),
    CrossCheck("default_min", ("on_stale", "default_min", "min_replicas"), _default_not_below_min),
    CrossCheck(
        "scaledobject_namespaces",
        ("scaledobject_namespaces", "allow_scaledobject_workloads"),
        _namespaces_are_used,
        "set that too, or take this away",
    ),
    CrossCheck(
        "reactive_headroom",
        ("reactive_headroom", "reactive_floor", "headroom", "model"),
        _floor_has_headroom,
        TAKE_AWAY,
        only=Said.GIVEN,
    ),
    CrossCheck("service_level", ("service_level", "headroom", "model"), _level_steers, TAKE_AWAY, only=Said.GIVEN),
    CrossCheck("model_url", ("model_url", "model"), _url_has_model, "set that to http, or take this away", Said.GIVEN),
    CrossCheck("target_per_pod", ("target_per_pod",), _target_is_said, "set it there", only=Said.LEFT_OUT),
    *(
        CrossCheck(cert, (cert, key), tls.is_in_date(cert, key, for_client=for_client), "renew it")
        for cert, key, for_client in (
            ("grpc_cert_file", "grpc_key_file", False),
            ("http_cert_file", "http_key_file", False),
            ("forecaster_cert_file", "forecaster_key_file", True),
            ("cert_file", "key_file", True),
        )
    ),
    *(
        CrossCheck(name, (name, "http_cert_file"), tls.stays_secret(name, "http_cert_file"), "set that and its key")
        for name in ("http_token_file", "http_token")
    ),
    *(
        CrossCheck(name, (name, "forecaster_url"), tls.is_used(name), "take it away, or change the address")
        for name in ("forecaster_ca_file", "forecaster_cert_file", "forecaster_token_file", "forecaster_token")
    ),
)
"""What can be run with, and is hardly what anybody wants."""
