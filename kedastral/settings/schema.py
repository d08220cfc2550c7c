# SPDX-License-Identifier: Apache-2.0
"""What a setting is: an attrs field that also has a default, a meaning, bounds, a flag and a variable.

`setting` declares one: the reader follows from the annotation, the flag and the variable from the attribute's name. The
class needs ``field_transformer=declare``, which combines these; `settings_of` lists what was declared.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

import attrs

from kedastral.core.steps import WHOLE_WITHIN
from kedastral.settings.types import value_type

_DECLARED, _SETTING, _GROUP, _DEFAULTS, _DESCRIBED = "declared", "setting", "group", "defaults", "described"


@attrs.frozen
class NumberRange:
    """The numbers between ``low`` and ``high``; ``open_low`` if ``low`` itself is too small.

    Then a number within `WHOLE_WITHIN` of it is too small, too: what is divided by 1e-300 overflows, and no plan grows
    by a factor of 1 + 1e-12.
    """

    low: float
    high: float | None = None
    open_low: bool = False

    def check(self, value: float) -> None:
        """Raise ValueError for a value outside; NaN is always outside."""
        if self.open_low and not value > self.low + WHOLE_WITHIN:
            by = f" by more than {WHOLE_WITHIN:g}" if value > self.low else ""
            raise ValueError(f"greater than {self.low:g}{by}")
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


@attrs.frozen
class Setting:
    """One thing a user can set. ``default`` is the text a user would write; None means there is none.

    ``kind`` is the name of its type in documentation. ``default_note`` is shown for a default that depends on other
    settings. A required setting becomes optional if any setting named in ``unless`` is given. ``path`` is its path
    below ``spec`` in a document. ``flag`` is None and ``env`` empty if there is none.
    """

    name: str
    kind: str
    read: Callable[[str], Any]
    default: str | None
    meaning: str
    bounds: NumberRange | None
    flag: str | None
    env: str
    path: tuple[str, ...]
    required: bool = False
    unless: tuple[str, ...] = ()
    default_note: str | None = None

    def parse(self, text: str) -> Any:
        """The value of ``text``. Raises ValueError with a message that completes "must be ..."."""
        value = self.read(text)
        if self.bounds is not None:
            self.bounds.check(value)
        return value

    @cached_property
    def default_value(self) -> Any:
        """The default value; None if there is none."""
        return None if self.default is None else self.parse(self.default)

    @property
    def key(self) -> str:
        """Its key in documents and trigger metadata."""
        return self.path[-1]

    @property
    def shown_default(self) -> str | None:
        """The default as documentation and help show it."""
        return self.default if self.default is not None else self.default_note

    @property
    def shown(self) -> str:
        """Its name for the user: the flag if there is one."""
        return self.flag or self.env

    @property
    def remedy(self) -> str:
        """How to set it."""
        return f"{self.flag} or {self.env}" if self.flag else self.env

    @property
    def is_secret(self) -> bool:
        """Whether its value must never be shown."""
        return self.kind == "secret"


def setting(default: str | None, meaning: str, bounds: NumberRange | None = None, **stated: Any) -> Any:
    """An attrs field that is a setting. ``default`` is text and is read like any other value; None means none.

    A value outside ``bounds`` is refused, wherever it comes from. ``stated`` are fields of `Setting` that do not follow
    from the annotation and the name: ``flag`` and ``env`` (empty: there is none), ``path`` (with dots), ``required``,
    ``unless`` and ``default_note``. The variable follows from the flag, and the flag from the name; a secret has no
    flag.
    """
    return attrs.field(metadata={_DECLARED: {"default": default, "meaning": meaning, "bounds": bounds, **stated}})


def like(declared: Any, **changes: Any) -> Any:
    """The same setting for another command, with ``changes`` to what was declared."""
    return attrs.field(metadata={_DECLARED: {**declared.metadata[_DECLARED], **changes}})


def declare(_class: type, fields: "list[attrs.Attribute[Any]]") -> "list[attrs.Attribute[Any]]":
    """The ``field_transformer`` of a class with settings."""
    return [_declare_one(field) if _DECLARED in field.metadata else field for field in fields]


def _declare_one(field: "attrs.Attribute[Any]") -> "attrs.Attribute[Any]":
    made = _make_setting(field.name, field.type, field.metadata[_DECLARED])

    def validate(_instance: object, attribute: "attrs.Attribute[Any]", value: Any) -> None:
        try:
            if value is not None and made.bounds is not None:
                made.bounds.check(value)
        except ValueError as error:
            raise ValueError(f"{attribute.name} must be {error}, got {value!r}") from error

    must_be_given = made.required and not made.unless
    return field.evolve(
        default=attrs.NOTHING if must_be_given else made.default_value,
        validator=None if made.bounds is None else validate,
        metadata={_SETTING: made},
        repr=made.kind not in ("header", "parameter"),  # their values may be secrets
    )


def _make_setting(name: str, annotation: object, declared: Mapping[str, Any]) -> Setting:
    kind = value_type(annotation)
    flag = declared.get("flag", "" if kind.name == "secret" else "--" + name.replace("_", "-"))
    words = (flag.removeprefix("--") or name.replace("_", "-")).split("-")
    path = declared.get("path") or words[0] + "".join(word.capitalize() for word in words[1:])
    derived = {
        "flag": flag or None,
        "env": declared.get("env", "_".join(words).upper()),
        "path": tuple(path.split(".")),
    }
    return Setting(name=name, kind=kind.name, read=kind.read, **{**declared, **derived})


def group(kind: type[Any], **defaults: str) -> Any:
    """An attrs field that holds a class of settings; ``defaults`` replaces default texts, by field name."""
    default = attrs.NOTHING if defaults else attrs.Factory(kind)
    return attrs.field(default=default, metadata={_GROUP: kind, _DEFAULTS: defaults})


def described_by(*kinds: type[Any], optional: bool = False) -> Any:
    """An attrs field that holds what the settings of ``kinds`` describe instead of their values."""
    return attrs.field(default=None if optional else attrs.NOTHING, metadata={_DESCRIBED: kinds})


def groups_of(kind: type[Any]) -> Iterator[tuple[str, type[Any]]]:
    """The groups of a settings class: field name and class."""
    for field in attrs.fields(kind):
        if _GROUP in field.metadata:
            yield field.name, field.metadata[_GROUP]


def own_settings_of(kind: type[Any]) -> list[str]:
    """The names of the settings of a settings class itself, without those of its groups."""
    return [field.name for field in attrs.fields(kind) if _SETTING in field.metadata]


def settings_of(kind: type[Any], defaults: Mapping[str, str] | None = None) -> list[Setting]:
    """Every setting of a settings class, including those of its groups, in the order in which they are written."""
    found: list[Setting] = []
    for field in attrs.fields(kind):
        if _SETTING in field.metadata:
            made: Setting = field.metadata[_SETTING]
            replaced = (defaults or {}).get(field.name)
            found.append(made if replaced is None else attrs.evolve(made, default=replaced, required=False))
        elif _GROUP in field.metadata:
            found += settings_of(field.metadata[_GROUP], field.metadata[_DEFAULTS])
        for described in field.metadata.get(_DESCRIBED, ()):
            found += settings_of(described)
    return found


def remedy_of(settings: object, name: str) -> str:
    """How to set the setting ``name`` of an instance of a settings class."""
    return next(setting.remedy for setting in settings_of(type(settings)) if setting.name == name)
