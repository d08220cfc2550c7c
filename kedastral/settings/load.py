# SPDX-License-Identifier: Apache-2.0
"""The settings of a command, from its flags, the environment and the files that they name."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import attrs

from kedastral.errors import ConfigError
from kedastral.settings.commands import BY_COMMAND, BacktestSettings, DoctorSettings
from kedastral.settings.fleet import ConfiguredFleet
from kedastral.settings.fleet_reader import FleetReader, limit_problems
from kedastral.settings.kinds import OF_FLEETS
from kedastral.settings.layers import Layer, RawValue, describe, read_environment, read_flags
from kedastral.settings.replay import read_to_replay
from kedastral.settings.resolve import ProcessInput, Resolved, build, check, merge, resolve
from kedastral.settings.rules import RULES, WARNINGS, find_destinations, find_faults_of_environment
from kedastral.settings.schema import Setting, settings_of
from kedastral.settings.spelling import find_misspelt_variables, find_near, means_other_name

T = TypeVar("T")
NEAR_FLAG = 0.75
"""How similar two flags must be for one to count as a misspelling of the other; 1 is equal."""


@attrs.frozen
class Loaded(Generic[T]):
    """Settings, with the value of each by name, and what was given unless it is the default.

    ``fleet`` is what the command forecasts, if anything; ``warnings`` are lines about odd settings.
    """

    settings: T
    values: Mapping[str, Any] = attrs.field(repr=False)
    given: Mapping[str, RawValue]
    fleet: ConfiguredFleet | None = None
    warnings: tuple[str, ...] = ()

    def origin_of(self, name: str) -> str:
        """The flag or variable that gave the setting ``name``, or ``default``."""
        return self.given[name].origin if name in self.given else "default"


def load(kind: type[T], flags: Mapping[str, str], env: Mapping[str, str], unknown: Sequence[str] = ()) -> Loaded[T]:
    """Settings of class ``kind`` from ``flags`` (by flag) and ``env`` (by variable; an empty one counts as not given).

    ``unknown`` are given flags that do not exist. Reads the files that the settings name. Raises ConfigError with all
    problems at once.
    """
    known = settings_of(kind)
    layers = (read_flags(known, flags), read_environment(known, env))
    resolved = resolve(known, layers)
    has_fleet = _has_fleet(kind, layers)
    if not has_fleet:  # then the settings of a fleet are not required
        resolved.missing = [setting for setting in resolved.missing if setting.name not in OF_FLEETS]
    known_flags = {setting.flag for setting in known}
    strangers = [*unknown, *(flag for flag in flags if flag not in known_flags)]
    problems = [*(_describe_unknown(flag, known) for flag in strangers), *resolved.problems]
    problems += _find_missing(resolved)
    resolved.values |= dict.fromkeys([setting.name for setting in resolved.missing])
    judged = attrs.evolve(resolved, values=_without_fleet(resolved.values)) if has_fleet else resolved
    problems += [*merge(check(judged, RULES)), *find_faults_of_environment(find_destinations(resolved.values), env)]
    warnings = merge(check(judged, WARNINGS))
    ours = {setting.env for every in BY_COMMAND.values() for setting in settings_of(every)}
    strange = {variable: env[variable] for variable in env if variable not in ours}
    warnings += find_misspelt_variables(strange, known, resolved.given)
    fleet = None
    if has_fleet:
        reader = FleetReader(
            _read_process(resolved, layers), resolved.values.get("config"), MappingProxyType(dict(env))
        )
        fleet, more = read_to_replay(reader) if kind in READ_ELSEWHERE else reader.read()
        problems = list(dict.fromkeys([*problems, *more]))
        warnings += fleet.warnings if fleet is not None else ()
    if problems:
        raise ConfigError(limit_problems(problems) if has_fleet else problems)
    others: dict[str, Any] = {"fleet": fleet} if has_fleet else {}
    if kind is BacktestSettings:
        others["by_default"] = resolved.by_default
    settings = build(kind, resolved.values, **others)
    return Loaded(settings, resolved.values, resolved.given, fleet, tuple(dict.fromkeys(warnings)))


READ_ELSEWHERE = (BacktestSettings, DoctorSettings)
"""Commands that may reach data sources at another address than Kedastral does: `read_to_replay`."""
OF_DOCTOR = ("config", "workload", "query", "allow_scaledobject_workloads")


def _has_fleet(kind: type[Any], layers: Iterable[Layer]) -> bool:
    """Whether the command has workloads: always if it forecasts, else if settings that describe them are given."""
    field = attrs.fields_dict(kind).get("fleet")
    is_required = field is not None and field.default is attrs.NOTHING
    telling = OF_DOCTOR if kind is DoctorSettings else ("config",)
    return is_required or (field is not None and any(name in layer.raw for layer in layers for name in telling))


def _without_fleet(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in OF_FLEETS}


def _read_process(resolved: Resolved, layers: Sequence[Layer]) -> ProcessInput:
    return ProcessInput(
        tuple(layer.without(resolved.settings.keys() - OF_FLEETS) for layer in layers),
        frozenset(resolved.settings),
        resolved.values.get("workload"),
        has_files=any("config" in layer.raw for layer in layers),
        takes_scaledobjects=bool(resolved.values.get("allow_scaledobject_workloads")),
    )


def _find_missing(resolved: Resolved) -> list[str]:
    """Lines about required settings that are not given, unless another given setting replaces them."""
    lines: list[str] = []
    required = [setting for setting in resolved.settings.values() if setting.required]
    for_files = all("config" in one.unless and one in resolved.missing for one in required)
    for setting in resolved.missing:
        if any(resolved.values.get(name) or _is_invalid(name, resolved) for name in setting.unless):
            continue
        files = f"set it with {setting.remedy}, or name files of workloads with --config"
        lines.append(describe(setting, "is required", None, None, "" if lines or not for_files else files))
    return lines


def _is_invalid(name: str, resolved: Resolved) -> bool:
    """Whether a setting was given but is invalid: then it is unknown whether it replaces another."""
    setting = resolved.settings.get(name)
    return setting is not None and name not in resolved.values and setting not in resolved.missing


def _describe_unknown(flag: str, known: Sequence[Setting]) -> str:
    owners = [command for command, kind in BY_COMMAND.items() if flag in {s.flag for s in settings_of(kind)}]
    flags = [s.flag for s in known if s.flag]
    near = find_near(flag, flags, NEAR_FLAG)
    if owners:
        hint = f"it belongs to {' and '.join(filter(None, (', '.join(owners[:-1]), owners[-1])))}"
        hint += f"; did you mean {near}?" if near and means_other_name(flag) else ""
        # the address of a process with one server, or of the first of two
        alone = flag == "--http-listen" or (flag == "--grpc-listen" and "--http-listen" in flags)
        hint += "; here it is --listen" if alone and "--listen" in flags else ""
    else:
        hint = f"did you mean {near}?" if near else "see --help"
    kind = "flag" if flag.startswith("-") else "argument"
    return f"{flag} is an unknown {kind}; {hint}"
