# SPDX-License-Identifier: Apache-2.0
"""A ScaledObject's trigger metadata: the keys of a ForecastPolicy besides KEDA's own, and never an address."""

import difflib
from collections.abc import Mapping

from kedastral.core.trigger import (
    describe_value,
    find_bad_activation,
    find_conflict,
    find_value,
    is_from_variable,
    key_in,
    plain_key,
    read_value,
)
from kedastral.errors import ConfigError
from kedastral.settings.declarations import default_window
from kedastral.settings.fleet import DEFAULT_SOURCE, DataSourceSettings, WorkloadSettings, key_of
from kedastral.settings.kinds import POLICY_SETTINGS
from kedastral.settings.layers import Invalid, Layer, RawValue, SourceLocation, describe, parse
from kedastral.settings.promql import warn_of_raw_counter
from kedastral.settings.resolve import ProcessInput, Resolved, build, check, merge, resolve
from kedastral.settings.rules import RULES, WARNINGS
from kedastral.settings.schema import Setting
from kedastral.settings.spelling import find_near, suggest
from kedastral.settings.types import Name, read_key_part, write_duration
from kedastral.text import printable

_IN_METADATA = "trigger metadata"
_ADDRESSES = frozenset({"model_url"})
"""Settings that only the operator may set: a query's author must not choose where Kedastral connects to."""
OWN_KEYS = frozenset({"workload", "dataSource", "activation"})
KEDA_KEYS = frozenset(
    {"scalerAddress", "enableTLS", "unsafeSsl", "tlsCertFile", "caCert", "tlsClientCert", "tlsClientKey"}
)
"""Keys that KEDA's external scaler reads itself; it passes on the whole metadata."""
BESIDE_METADATA = frozenset({"type", "metricType", "authenticationRef", "useCachedMetrics"})
"""Keys of the trigger itself."""

METADATA_KEYS: Mapping[str, Setting] = {
    setting.key: setting for setting in POLICY_SETTINGS if setting.name not in _ADDRESSES
}
"""The settings that metadata can have, by key."""
_METADATA = SourceLocation(
    _IN_METADATA, tuple(METADATA_KEYS.values()), {setting.name: key for key, setting in METADATA_KEYS.items()}
)
_NEARLY = 0.8
"""How similar, from 0 to 1, an unknown key must be to a key of a workload to count as a misspelling."""
_WORKLOAD_WORDS = tuple(key.lower() for key in ("dataSource", *METADATA_KEYS))
_OTHER_WORDS = frozenset(key.lower() for key in (*KEDA_KEYS, "workload", "activation"))


def has_query(metadata: Mapping[str, str]) -> bool:
    """Whether metadata hold a query: other keys of a workload next to the name of a configured one are ignored."""
    return any(plain_key(key) == "query" for key in metadata)


def describes_a_workload(metadata: Mapping[str, str]) -> bool:
    """Whether metadata describe a workload of their own instead of naming a configured one.

    A misspelt key counts too: the error names the right one, and the author does not get another workload's replicas.
    """
    words = {plain_key(key).lower() for key in metadata} - _OTHER_WORDS
    return any(difflib.get_close_matches(word, _WORKLOAD_WORDS, n=1, cutoff=_NEARLY) for word in words)


def _read_metadata(metadata: Mapping[str, str]) -> tuple[Layer, list[str]]:
    """The settings of metadata, and all that is wrong with their keys and values."""
    layer = Layer()
    problems: list[str] = []
    for given_key in sorted(metadata):  # KEDA sends them in another order each time; the errors must not change
        key = plain_key(given_key)
        if key in KEDA_KEYS:
            continue
        conflict = find_conflict(metadata, key)
        if conflict is not None and key != given_key:
            problems.append(f"{_IN_METADATA}: {printable(conflict, 100)}")
        elif key in METADATA_KEYS:
            setting, text = METADATA_KEYS[key], read_value(metadata, given_key)
            raw = RawValue(text, _IN_METADATA, given_key, hidden=is_from_variable(given_key))
            found = parse(setting, raw)
            layer.put(setting.name, raw, found)
            problems += [found.problem] if isinstance(found, Invalid) else []
        elif key not in OWN_KEYS:
            problems.append(f"{_IN_METADATA}: {_refuse_key(key, given_key)}")
    wrong = find_bad_activation(metadata)
    if wrong is not None:
        problems.append(f"{_IN_METADATA}: {key_in(metadata, 'activation')} {wrong}; change it there")
    return layer, problems


def _refuse_key(key: str, given_key: str) -> str:
    if key in ("modelUrl", "url", "serverAddress"):
        return f"{key} is not allowed there; addresses are configured where Kedastral runs"
    if key in BESIDE_METADATA:
        return f"{key} is not allowed there; it belongs beside metadata, next to type"
    words = {word.lower(): word for word in (*METADATA_KEYS, *OWN_KEYS, *KEDA_KEYS)}
    near = find_near(key, words.values())
    hint = f"did you mean {near}?" if near else suggest(key, ("workload", "dataSource", *METADATA_KEYS))
    return f"{printable(given_key, 100)} is unknown; {hint}"


def _read_workload_name(metadata: Mapping[str, str], default: str, problems: list[str]) -> Name | None:
    """The name that metadata give their workload, else ``default``; what is wrong with it is added to ``problems``."""
    said = find_value(metadata, "workload")
    text = default if said is None else said
    try:
        return read_key_part(text)
    except ValueError as error:
        key = key_in(metadata, "workload")
        problems.append(f"{_IN_METADATA}: {key} must be {error}{describe_value(key, text)}; change it there")
        return None


# The workload that the metadata describe.

MIN_INTERVAL = 5.0
"""Seconds. KEDA and the HPA ask at most every 15 s: a shorter interval only slows down others."""
MAX_POINTS = 50_000
"""Steps of history: a month of minutes. All who may write a ScaledObject share the memory."""


def read_workload(
    sources: Mapping[str, DataSourceSettings],
    process: ProcessInput,
    namespace: str,
    name: str,
    metadata: Mapping[str, str],
) -> WorkloadSettings:
    """The workload of the ScaledObject ``namespace``/``name``; ``process`` provides what its metadata leave out.

    Raises ConfigError with all problems at once.
    """
    layer, problems = _read_metadata(metadata)
    workload = _read_workload_name(metadata, name, problems)
    source = _find_allowed_source(sources, namespace, metadata, problems)
    resolved = resolve(POLICY_SETTINGS, (layer, *(() if process.gives("workload") else process.layers)))
    problems += [describe(setting, "is required", None, _METADATA) for setting in resolved.missing]
    whose = f"of {printable(key_of(name, namespace), 100)}"
    problems += merge(check(resolved, RULES, _METADATA, whose))
    problems += _find_excess(resolved)
    if problems or workload is None or source is None:
        raise ConfigError(problems)
    odd = [one for one in check(resolved, WARNINGS, _METADATA, whose) if _is_of_metadata(resolved, one.name)]
    query, hidden = resolved.values["query"], resolved.given["query"].hidden
    return build(
        WorkloadSettings,
        resolved.values,
        query=query,
        workload=workload,
        namespace=Name(namespace) if namespace else None,
        data_source=source,
        origin=f"ScaledObject {key_of(name, namespace)}",
        by_default=resolved.by_default,
        warnings=(*odd, *warn_of_raw_counter(key_of(workload, namespace), query, hidden=hidden)),
    )


def _is_of_metadata(resolved: Resolved, name: str) -> bool:
    """Whether metadata give a setting, or could; warnings about the process's own flags came at its start."""
    raw = resolved.given.get(name)
    return name in _METADATA.paths if raw is None else raw.path != ""


def _find_allowed_source(
    sources: Mapping[str, DataSourceSettings], namespace: str, metadata: Mapping[str, str], problems: list[str]
) -> str | None:
    wanted = find_value(metadata, "dataSource")
    allowed = [name for name, s in sources.items() if s.namespaces is None or namespace in s.namespaces]
    shown = f"there {'is' if len(allowed) == 1 else 'are'} {', '.join(allowed[:20])}" if allowed else "there is none"
    if wanted is not None:
        if wanted in allowed:
            return wanted
        # one that exists but is not allowed gets the same answer as a missing one, so that names are not revealed
        key = key_in(metadata, "dataSource")
        whose, value = printable(namespace, 100), describe_value(key, printable(wanted, 100))
        wrong = f"must be one that namespace {whose} may use{value}"
        problems.append(f"{_IN_METADATA}: {key} {wrong}; {shown}")
        return None
    if DEFAULT_SOURCE in allowed or len(allowed) == 1:
        return DEFAULT_SOURCE if DEFAULT_SOURCE in allowed else allowed[0]
    problems.append(f"{_IN_METADATA}: dataSource is required; {shown} for namespace {printable(namespace, 100)}")
    return None


def _find_excess(resolved: Resolved) -> list[str]:
    """The limits that one ScaledObject exceeds, which would be at the expense of the others."""
    values, problems = resolved.values, []
    if "interval" in values and values["interval"] < MIN_INTERVAL:
        problems.append(_describe_excess(resolved, "interval", f"must be at least {write_duration(MIN_INTERVAL)}"))
    if values.keys() >= {"window", "step", "model"}:
        window = values["window"] or default_window(str(values["model"]), values["step"])
        if window / values["step"] > MAX_POINTS:
            must = f"must be at most {MAX_POINTS} steps of {write_duration(values['step'])}"
            by_default = "" if values["window"] else f", but is {write_duration(window)!r} by default"
            problems.append(_describe_excess(resolved, "window", must + by_default))
    return problems


def _describe_excess(resolved: Resolved, name: str, must: str) -> str:
    """The line about a setting that exceeds a limit of ScaledObjects; a flag that gives it is fine for others."""
    raw = resolved.given.get(name)
    remedy = "" if raw is None or raw.path else f"set {METADATA_KEYS[name].key} in the {_IN_METADATA}"
    return describe(METADATA_KEYS[name], must, raw, _METADATA, remedy)
