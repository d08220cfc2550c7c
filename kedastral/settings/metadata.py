# SPDX-License-Identifier: Apache-2.0
"""A ScaledObject's trigger metadata: the words of a ForecastPolicy, beside KEDA's own, and never an address."""

import difflib
from collections.abc import Mapping

from kedastral.core.trigger import (
    describe_value,
    find_conflict,
    find_value,
    is_from_variable,
    key_in,
    plain_key,
    read_value,
)
from kedastral.settings.kinds import POLICY_SETTINGS
from kedastral.settings.layers import Invalid, Layer, RawValue, SourceLocation, parse
from kedastral.settings.schema import Setting
from kedastral.settings.spelling import find_near
from kedastral.settings.types import Name, read_key_part

IN_METADATA = "trigger metadata"
_ADDRESSES = frozenset({"model_url"})
"""Settings that only the operator makes: a query's author must not choose where Kedastral connects to."""
OWN_KEYS = frozenset({"workload", "dataSource", "activation"})
KEDA_KEYS = frozenset(
    {"scalerAddress", "enableTLS", "unsafeSsl", "tlsCertFile", "caCert", "tlsClientCert", "tlsClientKey"}
)
"""What KEDA's external scaler reads itself; it hands on the whole metadata."""
_BESIDE = frozenset({"type", "metricType", "authenticationRef", "useCachedMetrics"})
"""Keys of a trigger itself."""

METADATA_KEYS: Mapping[str, Setting] = {
    setting.key: setting for setting in POLICY_SETTINGS if setting.name not in _ADDRESSES
}
"""The settings that metadata can make, by key."""
METADATA = SourceLocation(
    IN_METADATA, tuple(METADATA_KEYS.values()), {setting.name: key for key, setting in METADATA_KEYS.items()}
)
_NEARLY = 0.8
"""How like a word of a workload another one is, from 0 to 1, to be taken for a mistake."""
_WORKLOAD_WORDS = tuple(key.lower() for key in ("dataSource", *METADATA_KEYS))
_OTHER_WORDS = frozenset(key.lower() for key in (*KEDA_KEYS, "workload", "activation"))


def brings_a_workload(metadata: Mapping[str, str]) -> bool:
    """Whether metadata hold a query: other words of a workload beside the name of a configured one are not read."""
    return any(plain_key(key) == "query" for key in metadata)


def describes_a_workload(metadata: Mapping[str, str]) -> bool:
    """Whether metadata mean a workload of their own, rather than naming one that is configured.

    A misspelt word counts too: the error names the right one, and the author does not get another workload's replicas.
    """
    words = {plain_key(key).lower() for key in metadata} - _OTHER_WORDS
    return any(difflib.get_close_matches(word, _WORKLOAD_WORDS, n=1, cutoff=_NEARLY) for word in words)


def read_metadata(metadata: Mapping[str, str]) -> tuple[Layer, list[str]]:
    """The settings of metadata, and all that is wrong with their keys and values."""
    layer = Layer()
    problems: list[str] = []
    for given_key in metadata:
        key = plain_key(given_key)
        if key in KEDA_KEYS:
            continue
        conflict = find_conflict(metadata, key)
        if conflict is not None and key != given_key:
            problems.append(f"{IN_METADATA}: {one_line(conflict)}")
        elif key in METADATA_KEYS:
            setting, text = METADATA_KEYS[key], read_value(metadata, given_key)
            raw = RawValue(text, IN_METADATA, given_key, hidden=is_from_variable(given_key))
            found = parse(setting, raw)
            layer.put(setting.name, raw, found)
            problems += [found.problem] if isinstance(found, Invalid) else []
        elif key not in OWN_KEYS:
            problems.append(f"{IN_METADATA}: {_refuse_key(key, given_key)}")
    return layer, problems


def _refuse_key(key: str, given_key: str) -> str:
    if key in ("modelUrl", "url", "serverAddress"):
        return f"{key} must not stand there; addresses are configured where Kedastral runs"
    if key in _BESIDE:
        return f"{key} must not stand there; it belongs beside metadata, where type stands"
    words = {word.lower(): word for word in (*METADATA_KEYS, *OWN_KEYS, *KEDA_KEYS)}
    near = find_near(key, words.values())
    all_keys = ", ".join(("workload", "dataSource", *METADATA_KEYS))
    hint = f"did you mean {near}?" if near else f"there are {all_keys}"
    return f"{one_line(given_key)} is unknown; {hint}"


def read_workload_name(metadata: Mapping[str, str], default: str, problems: list[str]) -> Name | None:
    """The name that metadata give their workload, else ``default``; what is wrong with it is added to ``problems``."""
    said = find_value(metadata, "workload")
    text = default if said is None else said
    try:
        return read_key_part(text)
    except ValueError as error:
        key = key_in(metadata, "workload")
        problems.append(f"{IN_METADATA}: {key} must be {error}{describe_value(key, text)}; change it there")
        return None


def one_line(text: str) -> str:
    """``text`` of somebody else's, short and on one line."""
    return "".join(c if c.isprintable() else "?" for c in text[:100])
