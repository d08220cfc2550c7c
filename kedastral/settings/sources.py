# SPDX-License-Identifier: Apache-2.0
"""What each setting is called in documents and in trigger metadata, derived from the settings themselves."""

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

import attrs

from kedastral.settings.declarations import PrometheusLogin, PrometheusQuery, SourceLimits, WorkloadSettings
from kedastral.settings.rules import CHECKS, SECRET_HEADERS, CrossCheck, Origin, find_conflicts
from kedastral.settings.schema import Setting, groups_of, settings_of

API_VERSION = "kedastral.io/v1alpha1"
POLICY, SOURCE = "ForecastPolicy", "DataSource"
NEAR = 0.65
"""How much alike two words must be for one to be taken for a slip of the other; 1 is equal."""
_NAMES = re.compile(r"--[a-z][a-z-]*|\b[A-Z]+(?:_[A-Z]+)+\b")

Keys = Mapping[tuple[str, ...], Setting]
"""Settings by where they stand below ``spec``."""

_QUERY_KEY = {setting.name: setting for setting in settings_of(PrometheusQuery)}
_LOGIN = {setting.name: setting for setting in settings_of(PrometheusLogin)}
WORKLOAD_SETTINGS: tuple[Setting, ...] = tuple(settings_of(WorkloadSettings))
"""Every setting of one workload but its name, its data source and its query."""
QUERY = attrs.evolve(_QUERY_KEY["query"], required=True)

SOURCE_SETTINGS: tuple[Setting, ...] = (
    attrs.evolve(_QUERY_KEY["url"], required=True),
    *_LOGIN.values(),
    *settings_of(SourceLimits),
)
"""Every setting of one data source."""

_NAMED: dict[tuple[str, ...], Setting] = {(setting.key,): setting for setting in WORKLOAD_SETTINGS}
POLICY_KEYS: Keys = MappingProxyType({("query",): QUERY} | _NAMED)
SOURCE_KEYS: Keys = MappingProxyType(
    {
        ("url",): SOURCE_SETTINGS[0],
        ("auth", "username"): _LOGIN["username"],
        ("auth", "passwordFile"): _LOGIN["password_file"],
        ("auth", "tokenFile"): _LOGIN["token_file"],
        ("tls", "caFile"): _LOGIN["ca_file"],
        ("tls", "certFile"): _LOGIN["cert_file"],
        ("tls", "keyFile"): _LOGIN["key_file"],
    }
    | {tuple(setting.flag.split(".")): setting for setting in settings_of(SourceLimits) if setting.flag}
)
SECRET_KEYS: Keys = MappingProxyType(
    {("auth", "passwordEnv"): _LOGIN["password"], ("auth", "tokenEnv"): _LOGIN["token"]}
)
"""Where a document names the variable that holds a secret."""


@attrs.frozen
class SourceLocation:
    """Where settings were written down other than as flags: a document, or trigger metadata.

    ``paths`` leads to each setting there, by its name; ``settings`` are all that can stand there.
    """

    words: str
    settings: tuple[Setting, ...] = attrs.field(repr=False)
    paths: Mapping[str, str] = attrs.field(repr=False)

    def translate(self, words: str, but: Collection[str] = ()) -> str:
        """``words`` about settings with the names that they have here, for all ``but`` some, not those of flags."""
        here = [setting for setting in self.settings if setting.name in self.paths and setting.name not in but]
        names = {name: self.paths[setting.name] for setting in here for name in (setting.flag, setting.env)}
        return _NAMES.sub(lambda found: names.get(found[0], found[0]), words)


def _paths_of(keys: Keys) -> Mapping[str, str]:
    return MappingProxyType({setting.name: "spec." + ".".join(path) for path, setting in keys.items()})


POLICY_PATHS, SOURCE_PATHS = _paths_of(POLICY_KEYS), _paths_of({**SOURCE_KEYS, **SECRET_KEYS})


def policy_place(words: str) -> SourceLocation:
    """A ForecastPolicy document, such as ``web.yaml, document 2``."""
    return SourceLocation(words, (QUERY, *WORKLOAD_SETTINGS), POLICY_PATHS)


def source_place(words: str) -> SourceLocation:
    """A DataSource document."""
    return SourceLocation(words, SOURCE_SETTINGS, SOURCE_PATHS)


def suggest(key: str, known: Iterable[str]) -> str:
    """A hint about an unknown key: the one that was meant, or all there are."""
    everything: Collection[str] = list(known)
    by_letters = {re.sub(r"[-_]", "", name).lower(): name for name in everything}
    near = difflib.get_close_matches(re.sub(r"[-_]", "", key).lower(), by_letters, n=1, cutoff=NEAR)
    return f"did you mean {by_letters[near[0]]}?" if near else f"there are {', '.join(everything)}"


# --- One setting at a time: from the text that was given for it to its value, or to a line that says what is wrong.

BY_DEFAULT = "default"
MOST_SHOWN = 200
"""Characters of a value that are shown of what was given."""

T = TypeVar("T")
_CREDENTIALS = re.compile(r"^(.*?://)?.*@", re.DOTALL)
_QUERY = re.compile(r"([?#]).*", re.DOTALL)


@attrs.frozen
class RawValue:
    """What was given for a setting, in words a user wrote, and where.

    ``origin`` is a flag, a variable, `BY_DEFAULT`, or the document that holds it; ``path`` leads to it in a document.
    ``assumed``: the document does not say it, but could. ``hidden``: nobody who reads an error may see the text.
    """

    text: str = attrs.field(repr=False)
    origin: str
    path: str | None = None
    assumed: bool = False
    hidden: bool = False

    @property
    def is_default(self) -> bool:
        """Whether nobody said it."""
        return self.assumed or self.origin == BY_DEFAULT


@attrs.define
class ParsedValues:
    """What was read so far: values that are sound by name, what was given for each, and lines about the rest."""

    values: dict[str, Any] = attrs.field(factory=dict)
    given: dict[str, RawValue] = attrs.field(factory=dict)
    problems: list[str] = attrs.field(factory=list)

    def who_said(self, name: str) -> Origin:
        """Who says what the setting ``name`` is."""
        given = self.given.get(name)
        if given is None or not given.is_default:
            return Origin.DEFAULT if given is None else Origin.GIVEN
        return Origin.LEFT_OUT if given.assumed else Origin.DEFAULT


def read_given(setting: Setting, given: RawValue, reading: ParsedValues) -> None:
    """Add the value of ``setting`` to ``reading``, or a problem."""
    reading.given[setting.name] = given
    try:
        value = setting.read(given.text)
        setting.check(value)
    except ValueError as error:
        reading.problems.append(describe(setting, f"must be {error}", given))
        return
    exposed = _exposed_secret(setting, value, given)
    if exposed:
        reading.problems.append(exposed)
        return
    reading.values[setting.name] = value


def default_of(setting: Setting) -> RawValue | None:
    """What holds where nothing is given; None where nothing does."""
    return None if setting.default is None else RawValue(setting.default, BY_DEFAULT)


def _exposed_secret(setting: Setting, value: Any, given: RawValue) -> str | None:
    """A flag's value can be read by everyone who can list processes: no secret may be in one."""
    if setting.kind == "header" and given.origin == setting.flag:
        secret = [name for name, _ in value if name.lower() in SECRET_HEADERS]
        if secret:
            return f"{setting.flag} must not carry a secret ({secret[0]}); give it with {setting.env}"
    return None


def describe(setting: Setting, wrong: str, given: RawValue | None, remedy: str = "") -> str:
    """The line about a setting: what must hold, what was given, and how to set it, or the ``remedy`` that was found."""
    has_place = given is not None and given.path is not None
    if remedy:
        shown = f"{given.origin}: {given.path}" if given is not None and has_place else setting.shown
        return f"{shown} {wrong}; {remedy}"
    if given is not None and has_place:
        remedy = "set it there" if given.assumed else "change it there"
        return f"{given.origin}: {given.path} {wrong}{_got(setting, given)}; {remedy}"
    return f"{setting.shown} {wrong}{_got(setting, given)}; set it with {setting.remedy}"


def _got(setting: Setting, given: RawValue | None) -> str:
    if given is None or given.hidden or setting.kind in ("secret", "header"):
        return ""
    shown = repr(without_secrets(given.text, is_url=setting.kind == "URL")[:MOST_SHOWN])
    if given.path is not None:
        return "" if given.assumed and not given.text else f", got {shown}" + (" by default" if given.assumed else "")
    return f", got {shown} " + ("by default" if given.is_default else f"from {given.origin}")


def without_secrets(text: str, *, is_url: bool = False) -> str:
    """``text`` that is or looks like a URL, without its user, password and query, however badly it is written."""
    if not is_url and "://" not in text:
        return text
    return _QUERY.sub(r"\1***", _CREDENTIALS.sub(r"\1***@", text))


def describe_conflicts(
    known: Mapping[str, Setting], reading: ParsedValues, checks: Sequence[CrossCheck] = CHECKS
) -> Iterator[str]:
    """A line for each of ``checks`` that the values read fail."""
    for found in find_conflicts(reading.values, reading.who_said, checks):
        yield describe(known[found.blames], found.wrong, reading.given.get(found.blames), found.remedy)


def build(kind: type[T], values: Mapping[str, Any], **more: Any) -> T:
    """A settings class from the values of its settings; ``more`` are its fields that are no groups."""
    groups = {}
    for name, group_kind, _ in groups_of(kind):
        groups[name] = group_kind(**{field.name: values[field.name] for field in attrs.fields(group_kind)})
    return kind(**groups, **more)


# --- `ProcessInput`: what flags and variables say of workloads and data sources, and of which workload they say it.

_OF_WORKLOADS = frozenset({"query", *(setting.name for setting in WORKLOAD_SETTINGS)})


def _frozen(given: Mapping[str, RawValue]) -> Mapping[str, RawValue]:
    return MappingProxyType(dict(given))


@attrs.frozen
class ProcessInput:
    """What flags and variables say of workloads and data sources, by the name of the setting.

    ``unknown`` are settings that were given and cannot be read, ``known`` all that the command has. ``has_files`` and
    ``takes_scaledobjects``: workloads may come from there too.
    """

    given: Mapping[str, RawValue] = attrs.field(converter=_frozen)
    known: frozenset[str] = frozenset()
    unknown: frozenset[str] = frozenset()
    has_files: bool = False
    takes_scaledobjects: bool = False

    @property
    def describes_a_workload(self) -> bool:
        """Whether flags and variables are about one workload, rather than about all there are."""
        return "workload" in self.given or not (self.has_files or self.takes_scaledobjects)

    @property
    def workload(self) -> str | None:
        """The workload that they name."""
        return self.given["workload"].text.strip() if "workload" in self.given else None

    def over(self, key: str | None) -> Mapping[str, RawValue]:
        """What wins over the document of the workload ``key``."""
        if self.describes_a_workload and key != self.workload:
            return {}
        return {name: given for name, given in self.given.items() if name in _OF_WORKLOADS}
