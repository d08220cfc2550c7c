# SPDX-License-Identifier: Apache-2.0
"""What holds for one workload or data source in the end: the flag, the variable, the document or the default."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from kedastral.config.checks import CHECKS, CrossCheck, find_conflicts
from kedastral.config.fields import Setting
from kedastral.config.fleet_settings import DataSourceSettings, WorkloadSettings
from kedastral.config.keys import QUERY, SOURCE_SETTINGS, WORKLOAD_SETTINGS, Place
from kedastral.config.oddities import WARNINGS
from kedastral.config.reading import BY_DEFAULT, Given, Reading, build, default_of, describe, read_given
from kedastral.config.source_settings import PrometheusLogin

NOTHING: Reading = Reading()


@attrs.frozen
class Line:
    """What is wrong or odd, and the setting to blame; ``whose``, where a flag is to blame for one of many."""

    name: str
    words: str
    whose: str = ""


def say_together(lines: Iterable[Line]) -> list[str]:
    """The words of ``lines``, each once: a flag that is wrong for a thousand workloads is one problem."""
    whose: dict[str, list[str]] = {}
    for line in lines:
        whose.setdefault(line.words, []).append(line.whose)
    return [words + _of_whom(owners) for words, owners in whose.items()]


def _of_whom(owners: Sequence[str]) -> str:
    more = f", and {len(owners) - 1} more" if owners[1:] else ""
    return f" ({owners[0]}{more})" if owners[0] else ""


@attrs.define
class Settled:
    """What holds; ``conflicts`` are about what does not go together, ``oddities`` about what hardly is meant."""

    reading: Reading = attrs.field(factory=Reading)
    conflicts: list[Line] = attrs.field(factory=list)
    oddities: list[Line] = attrs.field(factory=list)

    @property
    def problems(self) -> list[str]:
        """One line each."""
        return [*self.reading.problems, *say_together(self.conflicts)]

    @property
    def by_default(self) -> frozenset[str]:
        """The names of the settings that nobody gave."""
        return frozenset(name for name, given in self.reading.given.items() if given.is_default)


@attrs.frozen
class Layers:
    """Where settings of one thing come from, the strongest first.

    ``over`` wins over ``own``, what ``place`` says (None: nothing but flags), which wins over ``under``; then come the
    defaults. ``unknown`` are settings that were given and cannot be read: nobody knows what holds.
    """

    own: Reading = NOTHING
    place: Place | None = None
    over: Mapping[str, Given] = attrs.field(factory=dict)
    under: Mapping[str, Given] = attrs.field(factory=dict)
    unknown: frozenset[str] = frozenset()


def settle(settings: Iterable[Setting], layers: Layers, whose: str = "") -> Settled:
    """What holds for ``settings``; ``whose`` names the one they are of, for lines that blame a flag."""
    settled = Settled()
    known = {setting.name: setting for setting in settings}
    for setting in known.values():
        if setting.name not in layers.unknown:
            _settle_one(setting, layers, settled.reading)
    settled.conflicts += _describe_all(known, settled, layers, whose, CHECKS)
    settled.oddities += _describe_all(known, settled, layers, whose, WARNINGS)
    return settled


def _settle_one(setting: Setting, layers: Layers, reading: Reading) -> None:
    name, own = setting.name, layers.own
    if name in layers.over:
        read_given(setting, layers.over[name], reading)
    elif name in own.values or name in own.given:
        if name in own.values:  # else it was told what is wrong with it
            reading.values[name] = own.values[name]
            reading.given[name] = own.given.get(name) or _assumed(setting, layers.place, "")
    elif name in layers.under:
        read_given(setting, layers.under[name], reading)
    else:
        _settle_default(setting, layers.place, reading)


def _settle_default(setting: Setting, place: Place | None, reading: Reading) -> None:
    given = default_of(setting)
    if setting.required and place is not None:
        reading.problems.append(describe(setting, "is required", _assumed(setting, place, "")))
    elif given is None:
        reading.values[setting.name] = None
        if place is not None and setting.name in place.paths:
            reading.given[setting.name] = _assumed(setting, place, "")
    else:
        read_given(setting, given if place is None else _assumed(setting, place, given.text), reading)


def _assumed(setting: Setting, place: Place | None, text: str) -> Given:
    if place is None or setting.name not in place.paths:
        return Given(text, BY_DEFAULT)
    return Given(text, place.words, place.paths[setting.name], assumed=True)


def _describe_all(
    known: Mapping[str, Setting], settled: Settled, layers: Layers, whose: str, checks: Sequence[CrossCheck]
) -> Iterator[Line]:
    place, given = layers.place, settled.reading.given
    from_flags = {name for name in known if name in given and given[name].path is None}
    for found in find_conflicts(settled.reading.values, settled.reading.who_said, checks):
        name = found.blames
        words, remedy = (t if place is None else place.translate(t, from_flags) for t in (found.wrong, found.remedy))
        if found.left_out and place is not None:  # one line, however many leave it out
            yield Line(name, f"{place.paths[name]} {words}; {remedy}", whose)
            continue
        is_own = place is None or (name in given and name not in from_flags)
        yield Line(name, describe(known[name], words, given.get(name), remedy), "" if is_own else whose)


def settle_workload(layers: Layers, whose: str = "", *, needs_query: bool = True) -> Settled:
    """What holds for a workload; flags alone may leave its query out, which is then told elsewhere."""
    query = (QUERY,) if needs_query else ()
    return settle((*query, *WORKLOAD_SETTINGS), layers, whose)


def settle_source(layers: Layers) -> Settled:
    """What holds for a data source."""
    return settle(SOURCE_SETTINGS, layers)


def build_workload(values: Mapping[str, Any], **more: Any) -> WorkloadSettings:
    """The settings of a workload; ``more`` is its name, namespace, data source, origin and ``by_default``."""
    return build(WorkloadSettings, values, query=values["query"], **more)


def build_source(values: Mapping[str, Any], **more: Any) -> DataSourceSettings:
    """The settings of a data source; ``more`` is its name, the namespaces that may use it, and its origin."""
    login = PrometheusLogin(**{field.name: values[field.name] for field in attrs.fields(PrometheusLogin)})
    return DataSourceSettings(
        url=values["url"],
        login=login,
        timeout=values["timeout"],
        max_concurrent=values["max_concurrent"],
        max_per_second=values["max_per_second"],
        **more,
    )
