# SPDX-License-Identifier: Apache-2.0
"""One setting at a time: from the text that was given for it to its value, or to a line that says what is wrong."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import attrs

from kedastral.config.checks import CHECKS, SECRET_HEADERS, CrossCheck, Said, find_conflicts
from kedastral.config.fields import Setting, groups_of

BY_DEFAULT = "default"
MOST_SHOWN = 200
"""Characters of a value that are shown of what was given."""

T = TypeVar("T")
_CREDENTIALS = re.compile(r"^(.*?://)?.*@", re.DOTALL)
_QUERY = re.compile(r"([?#]).*", re.DOTALL)


@attrs.frozen
class Given:
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
class Reading:
    """What was read so far: values that are sound by name, what was given for each, and lines about the rest."""

    values: dict[str, Any] = attrs.field(factory=dict)
    given: dict[str, Given] = attrs.field(factory=dict)
    problems: list[str] = attrs.field(factory=list)

    def who_said(self, name: str) -> Said:
        """Who says what the setting ``name`` is."""
        given = self.given.get(name)
        if given is None or not given.is_default:
            return Said.DEFAULT if given is None else Said.GIVEN
        return Said.LEFT_OUT if given.assumed else Said.DEFAULT


def read_given(setting: Setting, given: Given, reading: Reading) -> None:
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


def default_of(setting: Setting) -> Given | None:
    """What holds where nothing is given; None where nothing does."""
    return None if setting.default is None else Given(setting.default, BY_DEFAULT)


def _exposed_secret(setting: Setting, value: Any, given: Given) -> str | None:
    """A flag's value can be read by everyone who can list processes: no secret may be in one."""
    if setting.kind == "header" and given.origin == setting.flag:
        secret = [name for name, _ in value if name.lower() in SECRET_HEADERS]
        if secret:
            return f"{setting.flag} must not carry a secret ({secret[0]}); give it with {setting.env}"
    return None


def describe(setting: Setting, wrong: str, given: Given | None, remedy: str = "") -> str:
    """The line about a setting: what must hold, what was given, and how to set it, or the ``remedy`` that was found."""
    has_place = given is not None and given.path is not None
    if remedy:
        shown = f"{given.origin}: {given.path}" if given is not None and has_place else setting.shown
        return f"{shown} {wrong}; {remedy}"
    if given is not None and has_place:
        remedy = "set it there" if given.assumed else "change it there"
        return f"{given.origin}: {given.path} {wrong}{_got(setting, given)}; {remedy}"
    return f"{setting.shown} {wrong}{_got(setting, given)}; set it with {setting.remedy}"


def _got(setting: Setting, given: Given | None) -> str:
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
    known: Mapping[str, Setting], reading: Reading, checks: Sequence[CrossCheck] = CHECKS
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
