# SPDX-License-Identifier: Apache-2.0
"""What must hold between settings; each check runs where all it needs is there and sound."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

import attrs

from kedastral.config import tls_checks as tls
from kedastral.config.units import ListenAddress
from kedastral.config.units import write_duration as span
from kedastral.config.workload_settings import HTTP_MODEL
from kedastral.core.capacity import WHOLE_WITHIN

MOST_STEPS = 10_080
"""A forecast of a week of minutes. Every step is planned at every tick and sent in every snapshot."""
MOST_POINTS = 1_000_000
"""Almost two years of minutes; more history than that is a mistake in a unit, not a wish."""
SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key"})

Values = Mapping[str, Any]


class Said(StrEnum):
    """Who says what a setting is."""

    GIVEN = "given"
    LEFT_OUT = "left out"
    """A document that could say it, and does not."""
    DEFAULT = "default"


@attrs.frozen
class CrossCheck:
    """``find`` gives what is wrong, as a line without the remedy, or None; ``blames`` is the setting to change.

    ``remedy`` says what to do where it is something else than to set that one; the value then says nothing, and is not
    shown. ``only`` of values that somebody said, or of those that a document leaves out, where it is one of these.
    """

    blames: str
    needs: tuple[str, ...]
    find: Callable[[Values], str | None]
    remedy: str = ""
    only: Said | None = None


@attrs.frozen
class Conflict:
    """A check that failed: the setting to blame, what is wrong with it, and the check's own remedy, if it has one.

    ``left_out``: what is wrong is that nobody says anything.
    """

    blames: str
    wrong: str
    remedy: str = ""
    left_out: bool = False


TAKE_ONE_AWAY = "take one away"
GIVE_BOTH = "give both, or neither"


def _step_fits(v: Values) -> str | None:
    if v["step"] > v["horizon"]:
        return f"must not be longer than the horizon ({span(v['horizon'])})"
    return None


def _whole_steps(v: Values) -> str | None:
    ratio = v["horizon"] / v["step"]
    if v["step"] <= v["horizon"] and abs(ratio - round(ratio)) > WHOLE_WITHIN * ratio:
        return f"must be a whole multiple of the step ({span(v['step'])})"
    return None


def _few_steps(v: Values) -> str | None:
    if v["horizon"] / v["step"] > MOST_STEPS:
        return f"must be at most {MOST_STEPS} steps of {span(v['step'])}"
    return None


def _lead_in_horizon(v: Values) -> str | None:
    if v["lead_time"] >= v["horizon"]:
        return f"must be shorter than the horizon ({span(v['horizon'])})"
    return None


def _window_fits(v: Values) -> str | None:
    if v["window"] is None:
        return None
    if v["window"] < v["step"]:
        return f"must not be shorter than the step ({span(v['step'])})"
    if v["window"] / v["step"] > MOST_POINTS:
        return f"must be at most {MOST_POINTS} steps of {span(v['step'])}"
    return None


def _bounds_in_order(v: Values) -> str | None:
    if v["max_replicas"] and v["min_replicas"] > v["max_replicas"]:
        return f"must not be above --max ({v['max_replicas']})"
    return None


def _model_has_url(v: Values) -> str | None:
    if v["model"] == HTTP_MODEL and v["model_url"] is None:
        return "is required by the http model"
    return None


def _one_password(v: Values) -> str | None:
    return "and PROM_PASSWORD exclude each other" if v["password_file"] and v["password"] else None


def _one_token(v: Values) -> str | None:
    return "and PROM_TOKEN exclude each other" if v["token_file"] and v["token"] else None


def _one_login(v: Values) -> str | None:
    return "and a bearer token exclude each other" if v["username"] and (v["token"] or v["token_file"]) else None


def _name_has_password(v: Values) -> str | None:
    if v["username"] and not (v["password"] or v["password_file"] or v["token"] or v["token_file"]):
        return "needs a password"
    return None


def _password_has_name(v: Values) -> str | None:
    return "is required with a password" if (v["password"] or v["password_file"]) and not v["username"] else None


def _separate_ports(v: Values) -> str | None:
    http: ListenAddress = v["http_listen"]
    grpc: ListenAddress = v["grpc_listen"]
    if http.port and http.port == grpc.port and (http.host == grpc.host or "" in (http.host, grpc.host)):
        return f"must not be the address of the gRPC server ({grpc})"
    return None


def _one_history(v: Values) -> str | None:
    return "and --prom-url exclude each other" if v["csv"] and v["url"] else None


def _some_history(v: Values) -> str | None:
    return "or --prom-url is required, or --config" if not v["csv"] and not v["url"] else None


def _query_has_url(v: Values) -> str | None:
    if v["csv"]:
        return None
    return "is required with --prom-url" if v["url"] and not v["query"] else None


_LOGIN = ("username", "password", "password_file", "token", "token_file")
CHECKS: tuple[CrossCheck, ...] = (
    CrossCheck("step", ("step", "horizon"), _step_fits),
    CrossCheck("horizon", ("step", "horizon"), _whole_steps),
    CrossCheck("horizon", ("step", "horizon"), _few_steps),
    CrossCheck("lead_time", ("lead_time", "horizon"), _lead_in_horizon),
    CrossCheck("window", ("window", "step"), _window_fits),
    CrossCheck("min_replicas", ("min_replicas", "max_replicas"), _bounds_in_order),
    CrossCheck("model_url", ("model", "model_url"), _model_has_url),
    CrossCheck("password_file", ("password_file", "password"), _one_password, TAKE_ONE_AWAY),
    CrossCheck("token_file", ("token_file", "token"), _one_token, TAKE_ONE_AWAY),
    CrossCheck("username", _LOGIN, _one_login, TAKE_ONE_AWAY),
    CrossCheck("username", _LOGIN, _name_has_password, "set --prom-password-file or PROM_PASSWORD"),
    CrossCheck("username", _LOGIN, _password_has_name),
    *(
        check
        for cert, key, key_flag in (
            ("cert_file", "key_file", "--prom-key-file"),
            ("grpc_cert_file", "grpc_key_file", "--grpc-tls-key-file"),
            ("http_cert_file", "http_key_file", "--http-tls-key-file"),
            ("forecaster_cert_file", "forecaster_key_file", "--forecaster-key-file"),
        )
        for check in (
            CrossCheck(cert, (cert, key), tls.go_together(cert, key, key_flag), GIVE_BOTH),
            CrossCheck(cert, (cert, key), tls.fit_each_other(cert, key, key_flag)),
        )
    ),
    *(
        CrossCheck(name, (name,), tls.holds_authorities(name))
        for name in ("ca_file", "grpc_client_ca_file", "forecaster_ca_file")
    ),
    *(
        CrossCheck(name, (name,), tls.holds_secret(name), "write the secret into that file, or name another one")
        for name in ("password_file", "token_file", "http_token_file", "forecaster_token_file")
    ),
    CrossCheck("csv", ("csv", "url"), _one_history, TAKE_ONE_AWAY),
    CrossCheck("csv", ("csv", "url"), _some_history, "give one of them"),
    CrossCheck("query", ("csv", "url", "query"), _query_has_url),
    CrossCheck("http_listen", ("http_listen", "grpc_listen"), _separate_ports),
    CrossCheck(
        "grpc_client_ca_file",
        ("grpc_client_ca_file", "grpc_cert_file"),
        tls.needs("grpc_client_ca_file", "grpc_cert_file", "--grpc-tls-cert-file"),
        "set that too, with its key",
    ),
    *(
        CrossCheck(file, (file, given), tls.exclude_each_other(file, given, given.upper()), TAKE_ONE_AWAY)
        for file, given in (("http_token_file", "http_token"), ("forecaster_token_file", "forecaster_token"))
    ),
)


def find_conflicts(
    values: Values, said: Callable[[str], Said], checks: Sequence[CrossCheck] = CHECKS
) -> Iterator[Conflict]:
    """What each check that fails says; ``said`` tells who says what a setting is."""
    for check in checks:
        if all(name in values for name in check.needs) and check.only in (None, said(check.blames)):
            wrong = check.find(values)
            if wrong is not None:
                yield Conflict(check.blames, wrong, check.remedy, check.only is Said.LEFT_OUT)
