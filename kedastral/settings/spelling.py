# SPDX-License-Identifier: Apache-2.0
"""Misspelt words: the key, flag or variable that was meant, also if it was KEDA's or the HPA's name for it."""

import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType

from kedastral.settings.schema import Setting
from kedastral.text import printable

NEAR = 0.65
"""How similar two words must be for one to count as a misspelling of the other; 1 is equal."""
LEAST_IN_COMMON = 3
"""The fewest letters with which one word must begin for it to count as the short form of another."""
OTHERS_NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "minreplicas": ("min",),
        "minreplicacount": ("min",),
        "idlereplicacount": ("min",),
        "maxreplicas": ("max",),
        "maxreplicacount": ("max",),
        "threshold": ("targetPerPod",),
        "target": ("targetPerPod",),
        "targetvalue": ("targetPerPod",),
        "averagevalue": ("targetPerPod",),
        "targetaveragevalue": ("targetPerPod",),
        "activationthreshold": ("activation",),
        "serveraddress": ("dataSource", "url", "promUrl"),
        "prometheusurl": ("dataSource", "url", "promUrl"),
        "metricname": ("metric",),
        "pollinginterval": ("interval",),
        "promql": ("query", "promQuery"),
        "fallback": ("onStale",),
        "buckettime": ("prewarm",),
    }
)
"""KEDA's and the HPA's names, in lower case, and our keys that mean the same."""


def suggest(key: str, known: Iterable[str]) -> str:
    """A hint about an unknown key: the one that was meant, or all known keys."""
    everything: Collection[str] = list(known)
    near = find_near(key, everything)
    near = near or _find_by_beginning(key, everything)
    return f"did you mean {near}?" if near else f"there are {', '.join(everything)}"


def _find_by_beginning(key: str, known: Iterable[str]) -> str | None:
    """The only one of ``known`` that begins as ``key`` does, one of both being shorter: ``maximum`` for ``max``."""
    letters = _letters(key)
    near = [
        name
        for name in known
        if min(len(letters), len(_letters(name))) >= LEAST_IN_COMMON
        and (letters.startswith(_letters(name)) or _letters(name).startswith(letters))
    ]
    return near[0] if len(near) == 1 else None


def find_near(key: str, known: Iterable[str], cutoff: float = NEAR) -> str | None:
    """The one of ``known`` that ``key`` was meant to be: misspelt, or by KEDA's or the HPA's name.

    ``cutoff`` is how similar a misspelling must be; 1 is equal. Hyphens, underscores and case do not matter.
    """
    by_letters = {_letters(name): name for name in known}
    letters = _letters(key)
    for name in OTHERS_NAMES.get(letters, ()):
        if name.lower() in by_letters:
            return by_letters[name.lower()]
    near = difflib.get_close_matches(letters, by_letters, n=1, cutoff=cutoff)
    return by_letters[near[0]] if near else None


def means_other_name(key: str) -> bool:
    """Whether ``key`` is KEDA's or the HPA's name for something that is named differently here."""
    return _letters(key) in OTHERS_NAMES


def _letters(name: str) -> str:
    return re.sub(r"[-_]", "", name).lower()


NEAR_VARIABLE = 0.9
"""How similar a variable must be to a known one to count as a misspelling; the environment is full of others."""


def find_misspelt_variables(env: Mapping[str, str], known: Iterable[Setting], given: Collection[str]) -> list[str]:
    """A warning for each unused variable that looks like one of ``known``, unless that one is set.

    ``given`` are the names of settings that are set in any way. KEDA's names count if they have two or more words.
    """
    names = {setting.env: setting for setting in known}
    by_key = {setting.flag[2:]: setting.env for setting in names.values() if setting.flag is not None}
    lines = []
    for variable in env:
        if "_" not in variable or not env[variable]:
            continue
        near = by_key.get(find_near(variable, by_key, 1.0) or "") if means_other_name(variable) else None
        near = near or find_near(variable, names, NEAR_VARIABLE)
        if near is not None and names[near].name not in given:
            lines.append(f"{printable(variable)} is not read by Kedastral; did you mean {near}?")
    return lines
