# SPDX-License-Identifier: Apache-2.0
"""Layers of settings: raw values with their origins, from flags, variables, a document or metadata.

A `Layer` holds the settings of one of them, and `describe` makes the line about an invalid value.
`kedastral.settings.resolve` applies the precedence.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import attrs

from kedastral.settings.rules import SECRET_HEADERS
from kedastral.settings.schema import Setting

MAX_SHOWN = 200
"""How many characters of a value are shown."""
_CREDENTIALS = re.compile(r"^(.*?://)?.*@", re.DOTALL)
_URL_QUERY = re.compile(r"([?#]).*", re.DOTALL)


# Raw values, and the lines about what is wrong with them.


@attrs.frozen
class RawValue:
    """What was given for a setting, as the user wrote it, and where.

    ``origin`` is a flag, a variable, a document such as ``web.yaml, document 2``, or the trigger metadata; ``path``
    leads to it in a document or metadata, ``line`` is its line in the file. ``hidden``: errors must not show the text.
    """

    text: str = attrs.field(repr=False)
    origin: str
    path: str = ""
    line: int = 0
    hidden: bool = False


@attrs.frozen
class Value:
    """A raw value that was parsed."""

    value: Any = attrs.field(repr=False)
    raw: RawValue


@attrs.frozen
class Invalid:
    """A raw value that is invalid; ``problem`` is the line about it."""

    raw: RawValue
    problem: str


@attrs.frozen
class SourceLocation:
    """A place other than flags where settings can be written: a document, or trigger metadata.

    ``paths`` has the path of each setting there, by name; ``settings`` are those that also have a flag or a variable.
    """

    words: str
    settings: tuple[Setting, ...] = attrs.field(repr=False)
    paths: Mapping[str, str] = attrs.field(repr=False)
    line: int = 0

    def __str__(self) -> str:
        return self.at(self.line)

    def at(self, line: int) -> str:
        """A line in it, as messages refer to it."""
        return f"{self.words} (line {line})" if line else self.words

    def translate(self, words: str, but: Collection[str] = ()) -> str:
        """``words`` about settings, using their names here, except for those in ``but``, which flags set."""
        here = [setting for setting in self.settings if setting.name in self.paths and setting.name not in but]
        names = {name: self.paths[setting.name] for setting in here for name in (setting.flag, setting.env)}
        return _FLAG_OR_VARIABLE.sub(lambda found: names.get(found[0], found[0]), words)


_FLAG_OR_VARIABLE = re.compile(r"--[a-z][a-z-]*|\b[A-Z]+(?:_[A-Z]+)+\b")


def describe(
    setting: Setting, wrong: str, raw: RawValue | None, place: SourceLocation | None = None, remedy: str = ""
) -> str:
    """The line about a setting: where it is, what must hold, what was given, and how to set it, or the ``remedy``.

    If ``raw`` is None, nothing was given, though ``place`` could have.
    """
    got = f", but is {shown_text(setting, setting.default)} by default" if setting.default else ""
    if raw is not None and raw.path:
        where = f"{raw.origin} (line {raw.line})" if raw.line else raw.origin
        shown, got, usual = f"{where}: {raw.path}", f", got {shown_text(setting, raw.text)}", "change it there"
    elif raw is None and place is not None and setting.name in place.paths:
        shown, usual = f"{place}: {place.paths[setting.name]}", "set it there"
    else:
        shown, usual = setting.shown, f"set it with {setting.remedy}"
        got = got if raw is None else f", got {shown_text(setting, raw.text)} from {raw.origin}"
    if remedy or setting.kind in ("secret", "header", "parameter") or (raw is not None and raw.hidden):
        got = ""
    return f"{shown} {wrong}{got}; {remedy or usual}"


def shown_text(setting: Setting, text: str) -> str:
    return repr(without_secrets(text, is_url=setting.kind == "URL")[:MAX_SHOWN])


def without_secrets(text: str, *, is_url: bool = False) -> str:
    """``text`` that is or looks like a URL, even a malformed one, without its user, password and query."""
    if not is_url and "://" not in text:
        return text
    return _URL_QUERY.sub(r"\1***", _CREDENTIALS.sub(r"\1***@", text))


# Layers: the settings of the flags, the environment, one document or the metadata of one trigger.


@attrs.define
class Layer:
    """The settings of one source, by name. Each value is parsed once, when it is first needed."""

    raw: dict[str, RawValue] = attrs.field(factory=dict)
    _parsed: dict[str, Value | Invalid] = attrs.field(factory=dict, repr=False)

    def find(self, setting: Setting) -> Value | Invalid | None:
        """The value of ``setting``, or what is wrong with it; None if it is not given."""
        found = self._parsed.get(setting.name)
        if found is None and setting.name in self.raw:
            found = self._parsed[setting.name] = parse(setting, self.raw[setting.name])
        return found

    def put(self, name: str, raw: RawValue, found: Value | Invalid) -> None:
        """Set the setting ``name`` to ``found``."""
        self.raw[name], self._parsed[name] = raw, found

    def without(self, names: Collection[str]) -> "Layer":
        """The same layer without ``names``."""
        return Layer(
            {name: raw for name, raw in self.raw.items() if name not in names},
            {name: found for name, found in self._parsed.items() if name not in names},
        )

    @property
    def has_invalid(self) -> bool:
        """Whether any parsed value is invalid."""
        return any(isinstance(found, Invalid) for found in self._parsed.values())


def parse(setting: Setting, raw: RawValue) -> Value | Invalid:
    """The value of ``raw``, or what is wrong with it."""
    try:
        value = setting.parse(raw.text)
    except ValueError as error:
        return Invalid(raw, describe(setting, f"must be {error}", raw))
    if setting.kind == "header" and raw.origin == setting.flag:
        # anyone who can list processes can read a flag's value
        secret = [name for name, _ in value if name.lower() in SECRET_HEADERS]
        if secret:
            return Invalid(raw, f"{setting.flag} must not carry a secret ({secret[0]}); give it with {setting.env}")
    return Value(value, raw)


def read_flags(known: Iterable[Setting], flags: Mapping[str, str]) -> Layer:
    """The settings of the command line; ``flags`` are texts by flag."""
    return Layer({s.name: RawValue(flags[s.flag], s.flag) for s in known if s.flag is not None and s.flag in flags})


def read_environment(known: Iterable[Setting], env: Mapping[str, str]) -> Layer:
    """The settings of the environment. An empty variable counts as not given, since templates may leave it empty."""
    return Layer({s.name: RawValue(env[s.env], s.env) for s in known if env.get(s.env)})
