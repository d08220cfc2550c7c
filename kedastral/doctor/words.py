# SPDX-License-Identifier: Apache-2.0
"""What is shown of a manifest: words that belong there and names of keys, since anything else may be a secret."""

import re

from kedastral.doctor.evidence import KedaTrigger

_GOT = re.compile(r""", got (['"]).*(; [^;]*)$""", re.DOTALL)
"""The value that a problem quotes: it may be a secret that somebody put where it does not belong."""


def without_value(problem: str) -> str:
    """A problem with a setting without the value that it quotes."""
    return _GOT.sub(r"\2", problem)


def fixed_word(text: str) -> str:
    """A word that a manifest has where a fixed word belongs; anything else is not shown, since it may be anything."""
    return text if re.fullmatch(r"[A-Za-z]{1,20}", text) else "of another kind"


def kind_of(trigger: KedaTrigger) -> str:
    """The type of a trigger."""
    return trigger.kind if re.fullmatch(r"[a-z-]{1,40}", trigger.kind) else "other"


def shown_path(path: str, root: str = "spec.") -> str:
    """Where a key stands below ``root``, with dots."""
    return root + ".".join(map(shown_key, path.split(".")))


def shown_key(key: str) -> str:
    """The name of a key that a person chose."""
    return key if re.fullmatch(r"[A-Za-z]{1,40}", key) else "(a key)"
