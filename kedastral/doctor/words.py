# SPDX-License-Identifier: Apache-2.0
"""What may be shown of a manifest: fixed words and names of keys, since anything else may be a secret."""

import re

from kedastral.doctor.evidence import KedaTrigger, ScalingObject

_GOT = re.compile(r""", got (['"]).*(; [^;]*)$""", re.DOTALL)
"""Matches the value that a problem quotes: it may be a misplaced secret."""


def without_value(problem: str) -> str:
    """A problem with a setting, without the value that it quotes."""
    return _GOT.sub(r"\2", problem)


def fixed_word(text: str) -> str:
    """A word from a manifest where only certain words are valid; anything else is not shown, as it may be secret."""
    return text if re.fullmatch(r"[A-Za-z]{1,30}", text) else "of another kind"


def kind_of(trigger: KedaTrigger) -> str:
    """The type of a trigger."""
    return trigger.kind if re.fullmatch(r"[A-Za-z-]{1,40}", trigger.kind) else "other"


def trigger_words(one: ScalingObject, trigger: KedaTrigger) -> str:
    """A trigger by its number in its object, and its type."""
    return f"trigger {one.triggers.index(trigger) + 1} ({kind_of(trigger)})"


def shown_path(path: str, root: str = "spec.") -> str:
    """The path of a key below ``root``, with dots."""
    return root + ".".join(map(shown_key, path.split(".")))


def shown_key(key: str) -> str:
    """The name of a key chosen by the user."""
    return key if re.fullmatch(r"[A-Za-z_]{1,40}", key) else "(a key)"
