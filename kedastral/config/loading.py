# SPDX-License-Identifier: Apache-2.0
"""From flags and the environment to settings: a flag wins over a variable, which wins over the default."""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import attrs

from kedastral.config.checks import SECRET_HEADERS, WARNINGS, find_conflicts
from kedastral.config.fields import Setting, groups_of, settings_of
from kedastral.config.settings import BY_COMMAND
from kedastral.config.units import write_duration, write_value
from kedastral.errors import ConfigError

NEAR = 0.75
"""How much alike two flags must be for one to be taken for a slip of the other; 1 is equal."""

T = TypeVar("T")
_CREDENTIALS = re.compile(r"^(.*?://)?.*@", re.DOTALL)
_QUERY = re.compile(r"([?#]).*", re.DOTALL)


@attrs.frozen
class Given:
    """What was given for a setting, in words a user wrote, and where: ``--step``, ``STEP`` or the default."""

    text: str = attrs.field(repr=False)
    origin: str


@attrs.frozen
class Loaded(Generic[T]):
    """Settings, and for each by name the value and where it came from; ``warnings`` are lines about odd ones."""

    settings: T
    values: Mapping[str, Any] = attrs.field(repr=False)
    given: Mapping[str, Given]
    warnings: tuple[str, ...] = ()


@attrs.define
class _Reading:
    values: dict[str, Any] = attrs.field(factory=dict)
    given: dict[str, Given] = attrs.field(factory=dict)
    problems: list[str] = attrs.field(factory=list)


def load(kind: type[T], flags: Mapping[str, str], env: Mapping[str, str], unknown: Sequence[str] = ()) -> Loaded[T]:
    """Settings of class ``kind`` from ``flags`` (by flag) and ``env`` (by variable).

    ``unknown`` are flags that were given and do not exist. Raises ConfigError with all problems at once.
    """
    known = settings_of(kind)
    known_flags = {setting.flag for setting in known}
    reading = _Reading()
    strangers = [*unknown, *(flag for flag in flags if flag not in known_flags)]
    reading.problems += [_describe_unknown(flag, known) for flag in strangers]
    for setting in known:
        _read_one(setting, flags, env, reading)
    by_name = {setting.name: setting for setting in known}
    for name, wrong in find_conflicts(reading.values):
        reading.problems.append(_describe(by_name[name], wrong, reading.given.get(name)))
    if reading.problems:
        raise ConfigError(reading.problems)
    odd = find_conflicts(reading.values, WARNINGS)
    warnings = tuple(_describe(by_name[name], words, reading.given.get(name)) for name, words in odd)
    return Loaded(_build(kind, reading.values), reading.values, reading.given, warnings)


def _read_one(setting: Setting, flags: Mapping[str, str], env: Mapping[str, str], reading: _Reading) -> None:
    given = _find(setting, flags, env)
    if given is None:
        if setting.required:
            reading.problems.append(_describe(setting, "is required", None))
        else:
            reading.values[setting.name] = None
        return
    reading.given[setting.name] = given
    try:
        value = setting.read(given.text)
        setting.check(value)
    except ValueError as error:
        reading.problems.append(_describe(setting, f"must be {error}", given))
        return
    exposed = _exposed_secret(setting, value, given)
    if exposed:
        reading.problems.append(exposed)
        return
    reading.values[setting.name] = value


def _find(setting: Setting, flags: Mapping[str, str], env: Mapping[str, str]) -> Given | None:
    if setting.flag is not None and setting.flag in flags:
        return Given(flags[setting.flag], setting.flag)
    if setting.env in env:
        return Given(env[setting.env], setting.env)
    if setting.default is not None:
        return Given(setting.default, "default")
    return None


def _exposed_secret(setting: Setting, value: Any, given: Given) -> str | None:
    """A flag's value can be read by everyone who can list processes: no secret may be in one."""
    if setting.kind == "header" and given.origin == setting.flag:
        secret = [name for name, _ in value if name.lower() in SECRET_HEADERS]
        if secret:
            return f"{setting.flag} must not carry a secret ({secret[0]}); give it with {setting.env}"
    return None


def _describe(setting: Setting, wrong: str, given: Given | None) -> str:
    got = ""
    if given is not None and setting.kind not in ("secret", "header"):
        origin = "by default" if given.origin == "default" else f"from {given.origin}"
        got = f", got {_without_secrets(setting, given.text)[:200]!r} {origin}"
    return f"{setting.shown} {wrong}{got}; set it with {setting.remedy}"


def _without_secrets(setting: Setting, text: str) -> str:
    """``text`` that is or looks like a URL, without its user, password and query, however badly it is written."""
    if setting.kind != "URL" and "://" not in text:
        return text
    return _QUERY.sub(r"\1***", _CREDENTIALS.sub(r"\1***@", text))


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


def _build(kind: type[T], values: Mapping[str, Any]) -> T:
    groups = {}
    for name, group_kind, _ in groups_of(kind):
        groups[name] = group_kind(**{field.name: values[field.name] for field in attrs.fields(group_kind)})
    return kind(**groups)


def show(setting: Setting, value: Any) -> str:
    """A setting's value as a person would write it; secrets stay hidden."""
    if value is None:
        return "none"
    if setting.is_secret:
        return "(hidden)"
    if setting.kind == "duration":
        return write_duration(value)
    return write_value(value)
