# SPDX-License-Identifier: Apache-2.0
"""`setting`: an attrs field that also says its flag, variable, unit, default and meaning."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from kedastral.settings.types import read_file_path

Read = Callable[[str], Any]
Check = Callable[[Any], None]
_KEY = "kedastral.setting"
_DEFAULTS = "kedastral.defaults"


@attrs.frozen
class Setting:
    """One thing a user can set. ``default`` is the text a user would write; None means there is none.

    ``default_words`` is what is said of the default where code finds it, since it depends on other settings.
    ``unless`` names settings of which any one, when given, makes a required one optional.
    """

    name: str
    flag: str | None
    env: str
    default: str | None
    read: Read
    check: Check
    meaning: str
    required: bool = False
    kind: str = "text"
    default_words: str | None = None
    unless: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What a file and a ScaledObject call it: the flag in camel case."""
        first, *rest = (self.flag or "").removeprefix("--").split("-")
        return first + "".join(word.capitalize() for word in rest)

    @property
    def shown_default(self) -> str | None:
        """The default as documentation and help show it."""
        return self.default if self.default is not None else self.default_words

    @property
    def shown(self) -> str:
        """What the user calls it: the flag where there is one."""
        return self.flag or self.env

    @property
    def remedy(self) -> str:
        """How to set it."""
        return f"{self.flag} or {self.env}" if self.flag else self.env

    @property
    def is_secret(self) -> bool:
        """Whether its value must never be shown."""
        return self.kind == "secret"


def _accept(_value: Any) -> None:
    """The check of a setting whose reader says all there is to say."""


def setting(
    flag: str | None,
    env: str,
    read: Read,
    meaning: str,
    *,
    default: str | None = None,
    check: Check = _accept,
    **more: Any,
) -> Any:
    """An attrs field for one setting; ``default`` is text and is read like any other value.

    ``check`` raises ValueError with words that complete "must be ..."; the field's validator runs it too, so that a
    value made in code is held to the same. ``more`` is ``required``, ``unless``, ``kind`` and ``default_words`` of
    `Setting`.
    """
    template = Setting("", flag, env, default, read, check, meaning, **more)

    def validate(_instance: object, attribute: "attrs.Attribute[Any]", value: Any) -> None:
        if value is None:
            return
        try:
            check(value)
        except ValueError as error:
            raise ValueError(f"{attribute.name} must be {error}, got {value!r}") from error

    metadata = {_KEY: template}
    harmless = template.kind != "header"  # a header's value may be a secret
    if template.required and not template.unless:
        return attrs.field(validator=validate, metadata=metadata, repr=harmless)
    value = None if default is None else read(default)
    return attrs.field(default=value, validator=validate, metadata=metadata, repr=harmless, kw_only=True)


def file_setting(flag: str, env: str, meaning: str) -> Any:
    """A `setting` that is the path of a file which can be read; none by default."""
    return setting(flag, env, read_file_path, meaning, kind="file")


def group(kind: type[Any], **defaults: str) -> Any:
    """An attrs field that holds a class of settings; ``defaults`` replaces default texts, by field name."""
    default = attrs.NOTHING if defaults else attrs.Factory(kind)
    return attrs.field(default=default, metadata={_DEFAULTS: defaults, "kind": kind}, kw_only=True)


def groups_of(kind: type[Any]) -> Iterator[tuple[str, type[Any], Mapping[str, str]]]:
    """The groups of a settings class: field name, class, replaced defaults."""
    for field in attrs.fields(kind):
        if _DEFAULTS in field.metadata:
            yield field.name, field.metadata["kind"], field.metadata[_DEFAULTS]


def settings_of(kind: type[Any], defaults: Mapping[str, str] | None = None) -> list[Setting]:
    """Every setting of a settings class, those of its groups included, in the order they are written."""
    found: list[Setting] = []
    for field in attrs.fields(kind):
        if _KEY in field.metadata:
            template: Setting = field.metadata[_KEY]
            replaced = (defaults or {}).get(field.name, template.default)
            required = template.required and replaced is None
            found.append(attrs.evolve(template, name=field.name, default=replaced, required=required))
        elif _DEFAULTS in field.metadata:
            found.extend(settings_of(field.metadata["kind"], field.metadata[_DEFAULTS]))
    return found


def remedy_of(settings: object, name: str) -> str:
    """How to set the setting ``name`` of an instance of a settings class."""
    return next(setting.remedy for setting in settings_of(type(settings)) if setting.name == name)


@attrs.frozen
class NumberRange:
    """A check that a number lies between ``low`` and ``high``; ``open_low`` when ``low`` itself is too little."""

    low: float
    high: float | None = None
    open_low: bool = False

    def __call__(self, value: Any) -> None:
        """Raises ValueError; NaN lies nowhere."""
        if self.open_low and not value > self.low:
            raise ValueError(f"greater than {self.low:g}")
        if self.high is None and not self.open_low and not value >= self.low:
            raise ValueError(f"at least {self.low:g}")
        if self.high is not None and not self.low <= value <= self.high:
            raise ValueError(f"between {self.low} and {self.high}")


def above(limit: float) -> NumberRange:
    """A number greater than ``limit``."""
    return NumberRange(limit, open_low=True)


def at_least(limit: float) -> NumberRange:
    """A number of ``limit`` or more."""
    return NumberRange(limit)


def between(low: float, high: float) -> NumberRange:
    """A number from ``low`` to ``high``, both included."""
    return NumberRange(low, high)
