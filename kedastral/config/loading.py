# SPDX-License-Identifier: Apache-2.0
"""From flags, the environment and files to settings: a flag wins over a variable, then the file, then the default."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import attrs

from kedastral.config.fields import Setting, settings_of
from kedastral.config.fleet import FleetOrigin, limit_problems
from kedastral.config.keys import SOURCE_SETTINGS, WORKLOAD_SETTINGS
from kedastral.config.oddities import WARNINGS
from kedastral.config.process import Process
from kedastral.config.reading import Given, Reading, build, default_of, describe, describe_conflicts, read_given
from kedastral.config.replayed_fleet import read_to_replay
from kedastral.config.settings import BY_COMMAND, BacktestSettings
from kedastral.config.units import write_duration, write_value
from kedastral.errors import ConfigError

T = TypeVar("T")
NEAR = 0.75
"""How much alike two flags must be for one to be taken for a slip of the other; 1 is equal."""
OF_FLEETS = frozenset(
    {"workload", "query"} | {setting.name for setting in (*SOURCE_SETTINGS, *WORKLOAD_SETTINGS) if setting.env}
)
"""Settings that are about workloads and data sources; where a command has a fleet, they are judged there."""


@attrs.frozen
class Loaded(Generic[T]):
    """Settings, and for each by name the value and where it came from; ``warnings`` are lines about odd ones."""

    settings: T
    values: Mapping[str, Any] = attrs.field(repr=False)
    given: Mapping[str, Given]
    warnings: tuple[str, ...] = ()


def load(kind: type[T], flags: Mapping[str, str], env: Mapping[str, str], unknown: Sequence[str] = ()) -> Loaded[T]:
    """Settings of class ``kind`` from ``flags`` (by flag) and ``env`` (by variable; an empty one is not given).

    ``unknown`` are flags that were given and do not exist. Reads the files that the settings name. Raises ConfigError
    with all problems at once.
    """
    known = {setting.name: setting for setting in settings_of(kind)}
    known_flags = {setting.flag for setting in known.values()}
    reading = Reading()
    strangers = [*unknown, *(flag for flag in flags if flag not in known_flags)]
    reading.problems += [_describe_unknown(flag, list(known.values())) for flag in strangers]
    for setting in known.values():
        _read_one(setting, flags, env, reading)
    reading.problems += _find_missing(known.values(), reading)
    has_fleet = _has_fleet(kind, reading)
    own = reading
    if has_fleet:
        own = Reading({name: value for name, value in reading.values.items() if name not in OF_FLEETS}, reading.given)
    reading.problems += describe_conflicts(known, own)
    warnings = tuple(describe_conflicts(known, own, WARNINGS))
    if not has_fleet:
        if reading.problems:
            raise ConfigError(reading.problems)
        return Loaded(build(kind, reading.values), reading.values, reading.given, warnings)
    origin = _origin_of(known, reading, env)
    fleet, problems = read_to_replay(origin) if kind is BacktestSettings else origin.read_as_far_as_possible()
    problems = [*reading.problems, *problems]
    if fleet is None or problems:
        raise ConfigError(limit_problems(problems))
    settings = build(kind, reading.values, fleet=fleet)
    return Loaded(settings, reading.values, reading.given, (*warnings, *fleet.warnings))


def _has_fleet(kind: type[Any], reading: Reading) -> bool:
    """Whether workloads are described: by all that forecast, and by a backtest where files are given."""
    field = next((field for field in attrs.fields(kind) if field.name == "fleet"), None)
    return field is not None and (field.default is attrs.NOTHING or "config" in reading.given)


def _origin_of(known: Mapping[str, Setting], reading: Reading, env: Mapping[str, str]) -> FleetOrigin:
    given = {
        name: given
        for name, given in reading.given.items()
        if name in OF_FLEETS and name in reading.values and not given.is_default
    }
    process = Process(
        given=given,
        known=frozenset(known),
        unknown=frozenset(name for name in known if name in OF_FLEETS and name not in reading.values),
        has_files="config" in reading.given,
        takes_scaledobjects=bool(reading.values.get("allow_scaledobject_workloads")),
    )
    return FleetOrigin(process, reading.values.get("config"), env)


def _read_one(setting: Setting, flags: Mapping[str, str], env: Mapping[str, str], reading: Reading) -> None:
    given = _find(setting, flags, env)
    if given is None:
        reading.values[setting.name] = None
    else:
        read_given(setting, given, reading)


def _find(setting: Setting, flags: Mapping[str, str], env: Mapping[str, str]) -> Given | None:
    if setting.flag is not None and setting.flag in flags:
        return Given(flags[setting.flag], setting.flag)
    if env.get(setting.env):  # an empty variable is how templates leave one out
        return Given(env[setting.env], setting.env)
    return default_of(setting)


def _find_missing(known: Iterable[Setting], reading: Reading) -> list[str]:
    """Lines about what is required and not given; such a setting has no value. Files may say all of it."""
    missing: list[str] = []
    required = [setting for setting in known if setting.required]
    for_files = all("config" in setting.unless and setting.name not in reading.given for setting in required)
    for setting in required:
        if setting.name in reading.given:
            continue
        replaced = [name for name in setting.unless if name in reading.given]
        if any(name not in reading.values or reading.values[name] for name in replaced):
            continue
        files = f"set it with {setting.remedy}, or name files of workloads with --config"
        missing.append(describe(setting, "is required", None, "" if missing or not for_files else files))
    return missing


def _describe_unknown(flag: str, known: Sequence[Setting]) -> str:
    owners = [command for command, kind in BY_COMMAND.items() if flag in {s.flag for s in settings_of(kind)}]
    near = difflib.get_close_matches(flag, [s.flag for s in known if s.flag], n=1, cutoff=NEAR)
    if owners:
        hint = (
            f"it belongs to {', '.join(owners[:-1])} and {owners[-1]}" if owners[1:] else f"it belongs to {owners[0]}"
        )
    else:
        hint = f"did you mean {near[0]}?" if near else "see --help"
    return f"{flag} is no setting of this command; {hint}"


def show(setting: Setting, value: Any) -> str:
    """A setting's value as a person would write it; secrets stay hidden."""
    if value is None:
        return "none"
    if setting.is_secret:
        return "(hidden)"
    if setting.kind == "duration":
        return write_duration(value)
    return write_value(value)
