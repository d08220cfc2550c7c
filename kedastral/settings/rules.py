# SPDX-License-Identifier: Apache-2.0
"""What must hold between settings, and what is worth a warning; a rule runs once all settings it needs have values."""

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import attrs
import httpx

from kedastral.core.data_quality.settling import outlasts_a_missing_value
from kedastral.core.planning.service_level import MIN_HISTORY
from kedastral.core.planning.stale_policy import OnStale
from kedastral.core.planning.steering import STRICT_SERVICE_LEVEL
from kedastral.core.steps import WHOLE_WITHIN
from kedastral.errors import ConfigError
from kedastral.models import MODELS
from kedastral.proxies import read_proxies
from kedastral.secrets import Secret, find_fault_of_secret, fits_header
from kedastral.settings.declarations import HTTP_MODEL, StorageKind, StorageSettings, default_window
from kedastral.settings.schema import Setting, settings_of
from kedastral.settings.types import ListenAddress
from kedastral.settings.types import write_duration as span
from kedastral.tls import find_expiry, find_fault_of_authorities, find_fault_of_pair, make_public_context

MAX_STEPS = 10_080
"""A week of one-minute steps. Every step is planned at every tick and sent in every snapshot."""
MAX_POINTS = 1_000_000
"""Almost two years of one-minute steps; a longer history is probably a mistake in the unit."""
SHORT_RIDE = 300.0
"""Seconds that ``ride-forecast`` should last: a restart of Prometheus takes minutes."""
SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key"})

Values = Mapping[str, Any]
Find = Callable[[Values], str | None]
"""What is wrong with the values, as words that follow the name of the setting to blame; None if nothing is."""


class Origin(StrEnum):
    """Where a setting's value comes from."""

    GIVEN = "given"
    LEFT_OUT = "left out"
    """A document that could set it but leaves it out."""
    DEFAULT = "default"


@attrs.frozen
class Rule:
    """``find`` checks the values of ``needs``; ``blames`` is the setting to change if it finds a problem.

    ``remedy`` says what to do if that is not to set the blamed setting, whose value is then not shown. ``only`` limits
    the rule to values that were given, or to those that a document leaves out.
    """

    blames: str
    needs: tuple[str, ...]
    find: Find
    remedy: str = ""
    only: Origin | None = None


@attrs.frozen
class Finding:
    """A line about a broken rule, and the setting to blame; ``owner`` says whose setting, if a flag broke the rule.

    ``compared`` are the settings that the rule looks at: no two rules blame the same setting and look at the same ones.
    """

    name: str
    line: str
    owner: str = ""
    compared: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """The same for all findings of one rule, and for no other's."""
        return " ".join((self.name, *self.compared))


@attrs.frozen
class Conflict:
    """A broken rule, and what is wrong with the setting that it blames."""

    rule: Rule
    wrong: str


def find_conflicts(values: Values, origin_of: Callable[[str], Origin], rules: Sequence[Rule]) -> Iterator[Conflict]:
    """The ``rules`` that ``values`` break; ``origin_of`` returns where the value of a setting comes from."""
    for rule in rules:
        if all(name in values for name in rule.needs) and rule.only in (None, origin_of(rule.blames)):
            wrong = rule.find(values)
            if wrong is not None:
                yield Conflict(rule, wrong)


# Rules about files: certificates, keys, tokens and passwords.


def go_together(cert: str, key: str, key_flag: str) -> Find:
    """A certificate and its key are given together or not at all."""
    return lambda v: f"and {key_flag} go together" if bool(v[cert]) != bool(v[key]) else None


def fit_each_other(cert: str, key: str, key_flag: str) -> Find:
    """A certificate and its key match."""

    def find(v: Values) -> str | None:
        fault = find_fault_of_pair(v[cert], v[key]) if v[cert] and v[key] else None
        return f"and {key_flag} cannot be used together: {fault}" if fault else None

    return find


def holds_authorities(name: str) -> Find:
    """A CA file holds certificates."""

    def find(v: Values) -> str | None:
        path: Path | None = v[name]
        fault = find_fault_of_authorities(path) if path else None
        return f"cannot be used: {fault}" if fault else None

    return find


def holds_secret(name: str) -> Find:
    """The file of a token or a password holds one that can be sent; the file is read again at every use."""

    def find(v: Values) -> str | None:
        path: Path | None = v[name]
        fault = find_fault_of_secret(path, in_header="token" in name) if path else None
        return f"cannot be used: {path} {fault}" if fault else None

    return find


def fits_into_header(name: str) -> Find:
    """A token from a variable can be sent as it is."""

    def find(v: Values) -> str | None:
        token: Secret | None = v[name]
        fits = token is None or fits_header(token.reveal())
        return None if fits else "holds characters that no header can carry, such as the end of a line"

    return find


def needs(name: str, other: str, other_flag: str) -> Find:
    """One setting has no effect without another."""
    return lambda v: f"needs {other_flag}" if v[name] and not v[other] else None


def exclude_each_other(name: str, other: str, other_name: str) -> Find:
    """A secret comes from one place."""
    return lambda v: f"and {other_name} exclude each other" if v[name] and v[other] else None


def is_in_date(cert: str, key: str, *, for_client: bool = False) -> Find:
    """A certificate is currently valid."""

    def find(v: Values) -> str | None:
        if not (v[cert] and v[key]) or find_fault_of_pair(v[cert], v[key]):
            return None
        words = find_expiry(v[cert], v[key], for_client=for_client)
        return f"holds a certificate that {words}, so that nobody will accept it" if words else None

    return find


def stays_secret(token: str, cert: str) -> Find:
    """A token is not sent to our server in plain text."""

    def find(v: Values) -> str | None:
        if v[token] and not v[cert]:
            return "is sent in plain text by its clients, since --http-tls-cert-file is not set"
        return None

    return find


def is_used(name: str) -> Find:
    """TLS settings and secrets are only given with an https:// forecaster."""

    def find(v: Values) -> str | None:
        plain = [url for url in _addresses(v["forecaster_url"]) if not url.startswith("https://")]
        if not v[name] or not plain:
            return None
        which = "is not an https:// address" if plain == _addresses(v["forecaster_url"]) else f"names {plain[0]}"
        if "token" in name:
            return f"is sent in plain text, since --forecaster-url {which}"
        return f"is not used, since --forecaster-url {which}" if which.startswith("is") else None

    return find


def _addresses(value: str | Sequence[str] | None) -> list[str]:
    """The addresses of a setting that names one, several or none."""
    return [value] if isinstance(value, str) else list(value or ())


# Rules: what must hold between settings.


def _one_source(v: Values) -> str | None:
    return "and --storage redis exclude each other" if v["forecaster_url"] and _uses_redis(v) else None


def _redis_has_address(v: Values) -> str | None:
    return "is required by --storage redis" if _uses_redis(v) and not v["redis_url"] else None


def _uses_redis(v: Values) -> bool:
    return bool(v["storage"] is StorageKind.REDIS)


def _can_use_redis(v: Values) -> str | None:
    if _uses_redis(v) and importlib.util.find_spec("coredis") is None:
        return "redis needs the package coredis"
    return None


def _means_redis(setting: Setting) -> Find:
    """A Redis setting differs from its default only if Redis is used."""

    def find(v: Values) -> str | None:
        return None if _uses_redis(v) or v[setting.name] == setting.default_value else "needs --storage redis"

    return find


def _user_has_password(v: Values) -> str | None:
    if v["redis_username"] and not (v["redis_password"] or v["redis_password_file"]):
        return "needs a password"
    return None


def _redis_tls_is_used(name: str) -> Find:
    """TLS settings are only given with an address that uses TLS."""

    def find(v: Values) -> str | None:
        if not v[name] or v["redis_url"] is None or v["redis_url"].tls:
            return None
        return "is not used, since --redis-url is not a rediss address"

    return find


TAKE_ONE_AWAY = "remove one"
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
    if v["horizon"] / v["step"] > MAX_STEPS:
        return f"must be at most {MAX_STEPS} steps of {span(v['step'])}"
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
    if v["window"] / v["step"] > MAX_POINTS:
        return f"must be at most {MAX_POINTS} steps of {span(v['step'])}"
    return None


def _prewarm_in_horizon(v: Values) -> str | None:
    if v["prewarm"] > v["horizon"]:
        return f"must not be longer than the horizon ({span(v['horizon'])})"
    return None


def _prewarm_steps_in_horizon(v: Values) -> str | None:
    if v["prewarm_steps"] is not None and v["prewarm_steps"] * v["step"] > v["horizon"] * (1 + WHOLE_WITHIN):
        return f"must not reach past the horizon ({span(v['horizon'])}, in steps of {span(v['step'])})"
    return None


def _settles_in_window(v: Values) -> str | None:
    window = v["window"] or default_window(str(v["model"]), v["step"])
    if v["settle_after"] is not None and v["settle_after"] >= window:
        return f"must be shorter than the window ({span(window)})"
    return None


def _few_points_by_default(v: Values) -> str | None:
    window = default_window(v["model"], v["step"])
    if v["window"] is None and window / v["step"] > MAX_POINTS:
        return f"is too short for the {span(window)} of history that {v['model']} wants: at most {MAX_POINTS} steps"
    return None


def _bounds_in_order(v: Values) -> str | None:
    if v["max_replicas"] and v["min_replicas"] > v["max_replicas"]:
        return f"must not be above --max ({v['max_replicas']})"
    return None


def _model_has_url(v: Values) -> str | None:
    if v["model"] == HTTP_MODEL and v["model_url"] is None:
        return "is required by the http model"
    return None


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


def _url_has_query(v: Values) -> str | None:
    if v["csv"]:
        return None
    return "is required with --prom-url" if v["url"] and not v["query"] else None


_LOGIN = ("username", "password", "password_file", "token", "token_file")
RULES: tuple[Rule, ...] = (
    Rule("step", ("step", "horizon"), _step_fits),
    Rule("horizon", ("step", "horizon"), _whole_steps),
    Rule("horizon", ("step", "horizon"), _few_steps),
    Rule("lead_time", ("lead_time", "horizon"), _lead_in_horizon),
    # windows that end after the horizon would pile up and never be judged; the default is shorter than most horizons
    Rule("prewarm", ("prewarm", "horizon"), _prewarm_in_horizon, only=Origin.GIVEN),
    Rule("prewarm_steps", ("prewarm_steps", "step", "horizon"), _prewarm_steps_in_horizon),
    Rule("window", ("window", "step"), _window_fits),
    Rule("settle_after", ("settle_after", "window", "step", "model"), _settles_in_window),
    Rule("step", ("window", "step", "model"), _few_points_by_default, "set a longer one, or a shorter --window"),
    Rule("min_replicas", ("min_replicas", "max_replicas"), _bounds_in_order),
    Rule("model_url", ("model", "model_url"), _model_has_url),
    Rule(
        "password_file",
        ("password_file", "password"),
        exclude_each_other("password_file", "password", "PROM_PASSWORD"),
        TAKE_ONE_AWAY,
    ),
    Rule("token_file", ("token_file", "token"), exclude_each_other("token_file", "token", "PROM_TOKEN"), TAKE_ONE_AWAY),
    Rule("username", _LOGIN, _one_login, TAKE_ONE_AWAY),
    Rule("username", _LOGIN, _name_has_password, "set --prom-password-file or PROM_PASSWORD"),
    Rule("username", _LOGIN, _password_has_name),
    *(
        rule
        for cert, key, key_flag in (
            ("cert_file", "key_file", "--prom-key-file"),
            ("grpc_cert_file", "grpc_key_file", "--grpc-tls-key-file"),
            ("http_cert_file", "http_key_file", "--http-tls-key-file"),
            ("forecaster_cert_file", "forecaster_key_file", "--forecaster-key-file"),
            ("redis_cert_file", "redis_key_file", "--redis-key-file"),
        )
        for rule in (
            Rule(cert, (cert, key), go_together(cert, key, key_flag), GIVE_BOTH),
            Rule(cert, (cert, key), fit_each_other(cert, key, key_flag)),
        )
    ),
    *(
        Rule(name, (name,), holds_authorities(name))
        for name in ("ca_file", "grpc_client_ca_file", "forecaster_ca_file", "redis_ca_file")
    ),
    *(
        Rule(name, (name,), holds_secret(name), "write the secret into that file, or name another one")
        for name in ("password_file", "token_file", "http_token_file", "forecaster_token_file", "redis_password_file")
    ),
    *(
        Rule(name, (name,), fits_into_header(name), "set it to the token alone")
        for name in ("token", "http_token", "forecaster_token")
    ),
    Rule("csv", ("csv", "url"), _one_history, TAKE_ONE_AWAY),
    Rule("csv", ("csv", "url"), _some_history, "give one of them"),
    Rule("query", ("csv", "url", "query"), _url_has_query),
    Rule("http_listen", ("http_listen", "grpc_listen"), _separate_ports),
    Rule(
        "grpc_client_ca_file",
        ("grpc_client_ca_file", "grpc_cert_file"),
        needs("grpc_client_ca_file", "grpc_cert_file", "--grpc-tls-cert-file"),
        "set that too, with its key",
    ),
    *(
        Rule(file, (file, given), exclude_each_other(file, given, given.upper()), TAKE_ONE_AWAY)
        for file, given in (
            ("http_token_file", "http_token"),
            ("forecaster_token_file", "forecaster_token"),
            ("redis_password_file", "redis_password"),
        )
    ),
    Rule("storage", ("storage",), _can_use_redis, "install it with: pip install 'kedastral[redis]'"),
    Rule("redis_url", ("storage", "redis_url"), _redis_has_address),
    Rule("forecaster_url", ("forecaster_url", "storage"), _one_source, TAKE_ONE_AWAY),
    Rule(
        "redis_username",
        ("redis_username", "redis_password", "redis_password_file"),
        _user_has_password,
        "set --redis-password-file or REDIS_PASSWORD",
    ),
    *(
        Rule(one.name, ("storage", one.name), _means_redis(one), "set that too, or remove this", Origin.GIVEN)
        for one in settings_of(StorageSettings)
        if one.name != "storage"
    ),
    *(
        Rule(name, (name, "redis_url"), _redis_tls_is_used(name), "remove it, or use a rediss address")
        for name in ("redis_ca_file", "redis_cert_file")
    ),
)


# Warnings: settings that work, but are hardly what anyone wants.


def _fresh_between_ticks(v: Values) -> str | None:
    if v["stale_after"] <= v["interval"]:
        return f"is not longer than the interval ({span(v['interval'])}), so that forecasts go stale between two cycles"
    return None


def _outlasts_a_missing_value(v: Values) -> str | None:
    if v["interval"] < v["stale_after"] and not outlasts_a_missing_value(v["stale_after"], v["step"]):
        return f"is shorter than the step ({span(v['step'])}), so that one missing value stops forecasts until the next"
    return None


def _default_not_below_min(v: Values) -> str | None:
    if v["on_stale"] is OnStale.DEFAULT_MIN and v["default_min"] < v["min_replicas"]:
        return f"is below --min ({v['min_replicas']}), so that a stale forecast asks for fewer replicas than any plan"
    return None


def _promised_for_less_than_weeks(v: Values) -> str | None:
    if v["model"] == "auto" and v["service_level"] >= STRICT_SERVICE_LEVEL - WHOLE_WITHIN:
        minutes = (1 - v["service_level"]) * 7 * 1440
        return (
            f"is an objective over weeks: {minutes:.2g} min a week may be under-provisioned, and a single surprise "
            "uses that up"
        )
    return None


def _window_lets_auto_lead(v: Values) -> str | None:
    if v["model"] == "auto" and v["window"] is not None and v["window"] < MIN_HISTORY:
        return f"is shorter than {span(MIN_HISTORY)}, so that auto always falls back to a naive forecast"
    return None


def _horizon_holds_prewarm(v: Values) -> str | None:
    steps = v["prewarm_steps"]
    prewarm = v["prewarm"] if steps is None else steps * v["step"]
    if v["lead_time"] < v["horizon"] < v["lead_time"] + prewarm:
        return (
            f"is shorter than the lead time ({span(v['lead_time'])}) and --prewarm ({span(prewarm)}) together, so that "
            "the plan prewarms less"
        )
    return None


def _horizon_lets_ride(v: Values) -> str | None:
    spare = v["horizon"] - v["lead_time"]
    if v["on_stale"] is OnStale.RIDE_FORECAST and 0 < spare < SHORT_RIDE:
        return (
            f"is only {span(spare)} longer than the lead time ({span(v['lead_time'])}): without fresh data "
            "ride-forecast lasts no longer than that"
        )
    return None


def _namespaces_are_used(v: Values) -> str | None:
    if v["scaledobject_namespaces"] and not v["allow_scaledobject_workloads"]:
        return "is not used, since --allow-scaledobject-workloads is not set"
    return None


def _callers_are_known(v: Values) -> str | None:
    if v["allow_scaledobject_workloads"] and v["grpc_client_ca_file"] is None:
        return "lets whoever reaches the gRPC port define workloads, in the name of any namespace"
    return None


def _is_steered(v: Values) -> bool:
    kind = MODELS.get(str(v["model"]))
    return kind is not None and kind.plans_by_service_level


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
        return "is not used, since --headroom is given, which takes the place of the steering factor"
    return None


def _url_has_model(v: Values) -> str | None:
    return None if v["model"] == HTTP_MODEL else f"is not used, since --model is {v['model']}"


def _target_is_said(v: Values) -> str | None:
    return f"is not given, so that {v['target_per_pod']:g} is assumed: the load of one pod decides almost everything"


def _directory_is_used(v: Values) -> str | None:
    if v["state_dir"] is not None and _uses_redis(v):
        return "is not used, since --storage redis keeps the state of workloads there"
    return None


TAKE_AWAY = "remove it, or change that"
WARNINGS: tuple[Rule, ...] = (
    Rule("state_dir", ("state_dir", "storage"), _directory_is_used, TAKE_AWAY),
    Rule("service_level", ("service_level", "model"), _promised_for_less_than_weeks),
    Rule("window", ("window", "model"), _window_lets_auto_lead),
    Rule("horizon", ("horizon", "lead_time", "prewarm", "prewarm_steps", "step"), _horizon_holds_prewarm),
    Rule("horizon", ("horizon", "lead_time", "on_stale"), _horizon_lets_ride),
    Rule("stale_after", ("stale_after", "interval"), _fresh_between_ticks),
    Rule("stale_after", ("stale_after", "interval", "step"), _outlasts_a_missing_value),
    Rule("default_min", ("on_stale", "default_min", "min_replicas"), _default_not_below_min),
    Rule(
        "scaledobject_namespaces",
        ("scaledobject_namespaces", "allow_scaledobject_workloads"),
        _namespaces_are_used,
        "set that too, or remove this",
    ),
    Rule(
        "allow_scaledobject_workloads",
        ("allow_scaledobject_workloads", "grpc_client_ca_file"),
        _callers_are_known,
        "set --grpc-tls-client-ca-file, so that only KEDA can",
    ),
    Rule(
        "reactive_headroom",
        ("reactive_headroom", "reactive_floor", "headroom", "model"),
        _floor_has_headroom,
        TAKE_AWAY,
        only=Origin.GIVEN,
    ),
    Rule("service_level", ("service_level", "headroom", "model"), _level_steers, TAKE_AWAY, only=Origin.GIVEN),
    Rule("model_url", ("model_url", "model"), _url_has_model, "set that to http, or remove this", Origin.GIVEN),
    Rule("target_per_pod", ("target_per_pod",), _target_is_said, "set it there", only=Origin.LEFT_OUT),
    *(
        Rule(cert, (cert, key), is_in_date(cert, key, for_client=for_client), "renew it")
        for cert, key, for_client in (
            ("grpc_cert_file", "grpc_key_file", False),
            ("http_cert_file", "http_key_file", False),
            ("forecaster_cert_file", "forecaster_key_file", True),
            ("redis_cert_file", "redis_key_file", True),
            ("cert_file", "key_file", True),
        )
    ),
    *(
        Rule(name, (name, "http_cert_file"), stays_secret(name, "http_cert_file"), "set that and its key")
        for name in ("http_token_file", "http_token")
    ),
    *(
        Rule(name, (name, "forecaster_url"), is_used(name), "remove it, or change the address")
        for name in ("forecaster_ca_file", "forecaster_cert_file", "forecaster_token_file", "forecaster_token")
    ),
)
"""Valid settings that are probably mistakes."""


# The environment: proxies and authorities for the addresses that settings name.


@attrs.frozen
class Destination:
    """An address that requests will be sent to; ``has_authorities`` if a CA file says which authorities to trust."""

    url: str
    has_authorities: bool = False


def find_destinations(values: Values) -> Iterator[Destination]:
    """The addresses that a process with these settings sends requests to."""
    for name, ca_file in (("url", "ca_file"), ("forecaster_url", "forecaster_ca_file")):
        for url in _addresses(values.get(name)):
            yield Destination(url, bool(values.get(ca_file)))
    if values.get("model") == HTTP_MODEL and values.get("model_url"):
        yield Destination(values["model_url"])


def find_faults_of_environment(destinations: Iterable[Destination], environ: Mapping[str, str]) -> list[str]:
    """A line for each invalid variable about proxies or authorities that a request would need."""
    proxies = read_proxies(environ)
    faults: dict[str, None] = {}
    needs_authorities = False
    for destination in destinations:
        url = httpx.URL(destination.url)
        needs_authorities |= url.scheme == "https" and not destination.has_authorities
        try:
            proxy = proxies.find(url)
        except ConfigError as error:
            faults |= dict.fromkeys(error.problems)
        else:
            needs_authorities |= proxy is not None and proxy.scheme == "https"
    if needs_authorities:
        try:
            make_public_context(environ)
        except ConfigError as error:
            faults |= dict.fromkeys(error.problems)
    return list(faults)
