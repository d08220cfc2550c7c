# SPDX-License-Identifier: Apache-2.0
"""The precedence of settings: flags over variables over documents and trigger metadata over defaults.

`resolve` takes each setting from the first layer that gives it, `check` applies the rules to the result, and `build`
makes a settings class from it. `ProcessInput` says which flags and variables win over a workload's own settings.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import attrs

from kedastral.settings.declarations import PrometheusLogin
from kedastral.settings.fleet import DataSourceSettings
from kedastral.settings.layers import Invalid, Layer, RawValue, SourceLocation, Value, describe
from kedastral.settings.rules import Finding, Origin, Rule, find_conflicts
from kedastral.settings.schema import Setting, groups_of, own_settings_of

T = TypeVar("T")


@attrs.define
class Resolved:
    """The resolved values, by name, and the raw values that were given.

    ``missing`` are required and were not given; neither they nor the invalid ones have a value.
    """

    settings: Mapping[str, Setting]
    values: dict[str, Any] = attrs.field(factory=dict)
    given: dict[str, RawValue] = attrs.field(factory=dict)
    missing: list[Setting] = attrs.field(factory=list)
    problems: list[str] = attrs.field(factory=list)

    @property
    def by_default(self) -> frozenset[str]:
        """The names of the settings that were not given."""
        return frozenset(self.values.keys() - self.given.keys())

    @property
    def is_whole(self) -> bool:
        """Whether every setting has a value."""
        return len(self.values) == len(self.settings)


def resolve(settings: Iterable[Setting], layers: Sequence[Layer]) -> Resolved:
    """The value of each of ``settings`` from the first of ``layers`` that gives it, else its default."""
    resolved = Resolved({setting.name: setting for setting in settings})
    for name, setting in resolved.settings.items():
        found = _find_first(setting, layers)
        if isinstance(found, Value):
            resolved.values[name], resolved.given[name] = found.value, found.raw
        elif isinstance(found, Invalid):
            resolved.problems.append(found.problem)
        elif setting.required:
            resolved.missing.append(setting)
        else:
            resolved.values[name] = setting.default_value
    return resolved


def _find_first(setting: Setting, layers: Sequence[Layer]) -> Value | Invalid | None:
    for layer in layers:
        found = layer.find(setting)
        if found is not None:
            return found
    return None


def check(
    resolved: Resolved, rules: Sequence[Rule], place: SourceLocation | None = None, owner: str = ""
) -> Iterator[Finding]:
    """What ``rules`` find in settings that ``place`` could have given; ``owner`` says whose they are."""

    def origin_of(name: str) -> Origin:
        if name in resolved.given:
            return Origin.GIVEN
        return Origin.LEFT_OUT if place is not None and name in place.paths else Origin.DEFAULT

    for conflict in find_conflicts(resolved.values, origin_of, rules):
        name, wrong, remedy = conflict.rule.blames, conflict.wrong, conflict.rule.remedy
        raw = resolved.given.get(name)
        if place is not None:
            by_flags = {one for one, given in resolved.given.items() if not given.path}
            wrong, remedy = place.translate(wrong, by_flags), place.translate(remedy, by_flags)
            if conflict.rule.only is Origin.LEFT_OUT:  # one line, however many leave it out
                yield Finding(name, f"{place.paths[name]} {wrong}; {remedy}", owner, conflict.rule.needs)
                continue
        is_own = raw.path != "" if raw is not None else place is not None and name in place.paths
        line = describe(resolved.settings[name], wrong, raw, place, remedy)
        yield Finding(name, line, "" if is_own or place is None else owner, conflict.rule.needs)


def merge(findings: Iterable[Finding]) -> list[str]:
    """The lines of ``findings``, each once: a flag that is wrong for a thousand workloads is one problem."""
    owners: dict[str, list[str]] = {}
    for finding in findings:
        owners.setdefault(finding.line, []).append(finding.owner)
    return [line + _name_owners(found) for line, found in owners.items()]


def _name_owners(owners: Sequence[str]) -> str:
    more = f", and {len(owners) - 1} more" if owners[1:] else ""
    return f" ({owners[0]}{more})" if owners[0] else ""


def build(kind: type[T], values: Mapping[str, Any], **more: Any) -> T:
    """A settings class from the values of its settings; ``more`` are its other fields.

    A setting that has no value because another one replaces it gets its default.
    """
    groups = {name: build(group_kind, values) for name, group_kind in groups_of(kind)}
    own = {name: values[name] for name in own_settings_of(kind) if name in values}
    return kind(**groups, **own, **more)


def build_source(values: Mapping[str, Any], **more: Any) -> DataSourceSettings:
    """The settings of a data source; ``more`` is its name, the namespaces that may use it, and its origin."""
    login = PrometheusLogin(**{field.name: values[field.name] for field in attrs.fields(PrometheusLogin)})
    own = {name: values[name] for name in ("url", "timeout", "max_concurrent", "max_per_second")}
    return DataSourceSettings(login=login, **own, **more)


@attrs.frozen
class ProcessInput:
    """The flags and variables for workloads and data sources.

    ``layers`` are the flags and the environment, ``known`` the names of all settings that the command has, ``workload``
    the workload that they name. ``has_files`` and ``takes_scaledobjects``: workloads may also come from there.
    """

    layers: tuple[Layer, ...] = ()
    known: frozenset[str] = frozenset()
    workload: str | None = None
    has_files: bool = False
    takes_scaledobjects: bool = False

    def find(self, name: str) -> RawValue | None:
        """What is given for the setting ``name``, valid or not."""
        return next((layer.raw[name] for layer in self.layers if name in layer.raw), None)

    def gives(self, *names: str) -> list[str]:
        """Those of ``names`` that are given, valid or not."""
        return [name for name in names if self.find(name) is not None]

    @property
    def describes_a_workload(self) -> bool:
        """Whether flags and variables are about one workload rather than about all of them."""
        return bool(self.gives("workload")) or not (self.has_files or self.takes_scaledobjects)

    def layers_of(self, key: str | None) -> tuple[Layer, ...]:
        """What wins over the document of the workload ``key``."""
        return () if self.describes_a_workload and key != self.workload else self.layers

    def without(self, names: Collection[str]) -> "ProcessInput":
        """The same input without ``names``."""
        return attrs.evolve(self, layers=tuple(layer.without(names) for layer in self.layers))
