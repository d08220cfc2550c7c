# SPDX-License-Identifier: Apache-2.0
"""A ScaledObject's trigger metadata as a workload: its words are those of a ForecastPolicy, and never an address."""

import difflib
from collections.abc import Mapping

import attrs

from kedastral.config.fields import Setting
from kedastral.config.fleet_settings import DEFAULT_SOURCE, DataSourceSettings, WorkloadSettings, key_of
from kedastral.config.keys import NEAR, QUERY, WORKLOAD_SETTINGS, Place
from kedastral.config.reading import Given, Reading, read_given
from kedastral.config.settling import Layers, Settled, build_workload, settle_workload
from kedastral.config.units import Name, read_key_part, write_duration
from kedastral.config.workload_settings import ForecastSettings
from kedastral.core.trigger import (
    describe_got,
    find_said,
    find_said_twice,
    is_of_variable,
    plain_key,
    read_said,
    said_key,
)
from kedastral.errors import ConfigError

HERE = "trigger metadata"
SHORTEST_INTERVAL = 5.0
"""Seconds. KEDA and the HPA ask every 15 s or more seldom: oftener only costs the others."""
MOST_POINTS = 50_000
"""Steps of history: a month of minutes. Memory is shared by all who may write a ScaledObject."""
ADDRESSES = frozenset({"model_url"})
"""Settings that only the operator makes: a query's author must not choose where Kedastral connects to."""
OWN = frozenset({"workload", "dataSource", "activation"})
KEDA = frozenset({"scalerAddress", "enableTLS", "unsafeSsl", "tlsCertFile", "caCert", "tlsClientCert", "tlsClientKey"})
"""What KEDA's external scaler reads itself; it hands on the whole metadata."""
BESIDE = frozenset({"type", "metricType", "authenticationRef", "useCachedMetrics"})
"""Keys of a trigger itself."""

SETTINGS: tuple[Setting, ...] = tuple(
    setting for setting in (attrs.evolve(QUERY), *WORKLOAD_SETTINGS) if setting.name not in ADDRESSES
)
BY_KEY: Mapping[str, Setting] = {"query" if s.name == "query" else s.key: s for s in SETTINGS}
NEARLY = 0.8
"""How like a word of a workload another one is, from 0 to 1, to be taken for a mistake."""
_WORDS = tuple(key.lower() for key in ("dataSource", *BY_KEY))
_OTHERS = frozenset(key.lower() for key in (*KEDA, "workload", "activation"))
PLACE = Place(HERE, SETTINGS, {setting.name: key for key, setting in BY_KEY.items()})


def brings_a_workload(metadata: Mapping[str, str]) -> bool:
    """Whether metadata hold a query: other words of a workload beside the name of a configured one are not read."""
    return any(plain_key(key) == "query" for key in metadata)


def describes_a_workload(metadata: Mapping[str, str]) -> bool:
    """Whether metadata mean a workload of their own, rather than naming one that is configured.

    A word that is nearly right counts too: whoever wrote it is told the right one, and not another workload's replicas.
    """
    words = {plain_key(key).lower() for key in metadata} - _OTHERS
    return any(difflib.get_close_matches(word, _WORDS, n=1, cutoff=NEARLY) for word in words)


def read_workload(
    sources: Mapping[str, DataSourceSettings],
    process: Mapping[str, Given],
    owner: tuple[str, str],
    metadata: Mapping[str, str],
) -> WorkloadSettings:
    """The workload of the ScaledObject ``owner``, its namespace and name; ``process`` holds what it does not say.

    Raises ConfigError with all problems at once.
    """
    namespace, name = owner
    own = Reading()
    _read_settings(metadata, own)
    said = find_said(metadata, "workload")
    workload = _read_name(said_key(metadata, "workload"), name if said is None else said, own)
    source = _find_source(sources, namespace, metadata, own)
    under = {} if "workload" in process else {key: given for key, given in process.items() if key != "query"}
    settled = settle_workload(Layers(own, PLACE, under=under), f"of {_shown(key_of(name, namespace))}")
    problems = [*own.problems, *settled.problems]
    if problems or workload is None or source is None:
        raise ConfigError(problems)
    built = build_workload(
        settled.reading.values,
        workload=workload,
        namespace=Name(namespace) if namespace else None,
        data_source=source,
        origin=f"ScaledObject {key_of(name, namespace)}",
        by_default=settled.by_default,
        oddities=_find_own_oddities(settled),
    )
    excess = _find_excess(built.forecast)
    if excess:
        raise ConfigError(excess)
    return built


def _read_settings(metadata: Mapping[str, str], own: Reading) -> None:
    for given_key in metadata:
        key = plain_key(given_key)
        if key in KEDA:
            continue
        twice = find_said_twice(metadata, key)
        if twice is not None and key != given_key:
            own.problems.append(f"{HERE}: {_shown(twice)}")
        elif key in OWN:
            continue
        elif key in BY_KEY:
            text, hidden = read_said(metadata, given_key), is_of_variable(given_key)
            read_given(BY_KEY[key], Given(text, HERE, given_key, hidden=hidden), own)
        elif key in ("modelUrl", "url", "serverAddress"):
            own.problems.append(f"{HERE}: {key} must not stand there; addresses are configured where Kedastral runs")
        elif key in BESIDE:
            own.problems.append(f"{HERE}: {key} must not stand there; it belongs beside metadata, where type stands")
        else:
            own.problems.append(f"{HERE}: {_shown(given_key)} is unknown; {_hint(key)}")


def _hint(key: str) -> str:
    words = {word.lower(): word for word in (*BY_KEY, *OWN, *KEDA)}
    near = difflib.get_close_matches(key.lower(), words, n=1, cutoff=NEAR)
    return f"did you mean {words[near[0]]}?" if near else f"there are {', '.join(('workload', 'dataSource', *BY_KEY))}"


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:100])


def _read_name(key: str, text: str, own: Reading) -> Name | None:
    try:
        return read_key_part(text)
    except ValueError as error:
        own.problems.append(f"{HERE}: {key} must be {error}{describe_got(key, text)}; change it there")
        return None


def _find_source(
    sources: Mapping[str, DataSourceSettings], namespace: str, metadata: Mapping[str, str], own: Reading
) -> str | None:
    wanted = find_said(metadata, "dataSource")
    allowed = [name for name, s in sources.items() if s.namespaces is None or namespace in s.namespaces]
    shown = f"there {'is' if len(allowed) == 1 else 'are'} {', '.join(allowed[:20])}" if allowed else "there is none"
    if wanted is not None:
        if wanted in allowed:
            return wanted
        # one that is there and not allowed is told of as one that is not there: its name is nobody else's business
        key = said_key(metadata, "dataSource")
        wrong = f"must be one that namespace {_shown(namespace)} may use{describe_got(key, _shown(wanted))}"
        own.problems.append(f"{HERE}: {key} {wrong}; {shown}")
        return None
    if DEFAULT_SOURCE in allowed or len(allowed) == 1:
        return DEFAULT_SOURCE if DEFAULT_SOURCE in allowed else allowed[0]
    own.problems.append(f"{HERE}: dataSource is required; {shown} for namespace {_shown(namespace)}")
    return None


def _find_own_oddities(settled: Settled) -> tuple[str, ...]:
    """What is odd in the metadata themselves; of the process's flags it was told when it started."""
    given = settled.reading.given
    return tuple(line.words for line in settled.oddities if line.name in given and given[line.name].path is not None)


def _find_excess(forecast: ForecastSettings) -> list[str]:
    """What one ScaledObject may not take from all the others."""
    problems = []
    if forecast.interval < SHORTEST_INTERVAL:
        problems.append(f"{HERE}: interval must be at least {write_duration(SHORTEST_INTERVAL)}; change it there")
    if forecast.history_window / forecast.step > MOST_POINTS:
        problems.append(
            f"{HERE}: window must be at most {MOST_POINTS} steps of {write_duration(forecast.step)}, "
            f"got {write_duration(forecast.history_window)!r}; change it there"
        )
    return problems
