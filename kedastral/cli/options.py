# SPDX-License-Identifier: Apache-2.0
"""Settings as click options: every flag, with its variable and default in the help text."""

from collections.abc import Callable, Sequence
from typing import Any

import click

from kedastral import __version__
from kedastral.config.fields import Setting, settings_of

HELP = {"help_option_names": ["-h", "--help"], "ignore_unknown_options": True, "allow_extra_args": True}
"""Unknown flags are let through, so that they are reported beside every other problem and not instead of them."""

Command = Callable[..., None]

version_option = click.version_option(__version__, prog_name="kedastral", message="%(prog)s %(version)s")
"""``--version``, the same on the program and on each of its commands."""


def settings_options(*kinds: type[Any]) -> Callable[[Command], Command]:
    """A decorator that gives a command the flags of settings classes. Values stay text: `load` reads them all."""
    by_flag = {setting.flag: setting for kind in reversed(kinds) for setting in settings_of(kind) if setting.flag}

    def decorate(command: Command) -> Command:
        for setting in reversed(by_flag.values()):
            command = _option(setting)(command)
        return version_option(command)

    return decorate


def given_flags(context: click.Context) -> dict[str, str]:
    """The flags that were given, with their text; a repeated one is one line each."""
    given = {}
    for name, value in context.params.items():
        flag = "--" + name.replace("_", "-")
        if isinstance(value, tuple) and value:
            given[flag] = "\n".join(value)
        elif isinstance(value, str):
            given[flag] = value
    return given


def unknown_flags(arguments: Sequence[str]) -> list[str]:
    """The flags among what click could not place; the words after them are taken to be their values."""
    flags = [word.partition("=")[0] for word in arguments if word.startswith("-")]
    return flags or list(arguments[:1])


def _option(setting: Setting) -> Callable[[Command], Command]:
    assert setting.flag is not None  # noqa: S101 - the caller has seen to it
    extra: dict[str, Any] = {}
    if setting.kind == "boolean":  # --flag alone means true
        extra = {"is_flag": False, "flag_value": "true"}
    elif setting.kind in ("header", "files"):
        extra = {"multiple": True}
    return click.option(
        setting.flag, setting.flag[2:].replace("-", "_"), metavar=setting.kind.upper(), help=_help(setting), **extra
    )


def _help(setting: Setting) -> str:
    notes = [setting.env]
    if setting.required:
        notes.append(f"required without {_flag(setting.unless[0])}" if setting.unless else "required")
    elif setting.shown_default:
        notes.append(f"default {setting.shown_default}")
    return f"{setting.meaning[0].upper()}{setting.meaning[1:]}.  [{'; '.join(notes)}]"


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
