# SPDX-License-Identifier: Apache-2.0
"""`DoctorRule`: a named rule with its severity and its page of the manual, and `Diagnosis`: what a rule has found."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum

import attrs

from kedastral.doctor.evidence import Evidence, ObjectName, Place
from kedastral.doctor.words import trigger_words

PAGE = "docs/doctor.md"
"""The page that explains each rule, under a heading with its name."""


class Severity(StrEnum):
    """How bad a diagnosis is: an error loses load or pods, a warning may do so, an info is worth knowing."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@attrs.frozen
class Symptom:
    """What a rule finds: the object, the message, the place, and the remedy if it is not the rule's own.

    ``milder`` makes it one step less severe than its rule, as does ``later``: it only matters once the workload is no
    longer in mode observe.
    """

    about: ObjectName
    sentence: str
    place: Place | None = None
    remedy: str = ""
    milder: bool = False
    later: bool = False


@attrs.frozen
class DoctorRule:
    """A rule: ``title`` says what it finds, ``why`` why it matters, ``remedy`` what to do; ``find`` is pure."""

    name: str
    severity: Severity
    title: str
    why: str
    remedy: str
    find: Callable[[Evidence], Iterator[Symptom]] = attrs.field(repr=False)

    @property
    def link(self) -> str:
        """Where the manual explains it."""
        return f"{PAGE}#{self.name}"


@attrs.frozen
class Diagnosis:
    """One finding as the user sees it."""

    rule: DoctorRule
    severity: Severity
    about: ObjectName
    sentence: str
    remedy: str
    place: Place | None = None


@attrs.define
class RuleBook:
    """The rules of one subject, in the order in which they are written; `rule` is a decorator that adds one."""

    rules: list[DoctorRule] = attrs.field(factory=list)

    def rule(
        self, name: str, severity: Severity, *, title: str, why: str, remedy: str
    ) -> Callable[[Callable[[Evidence], Iterator[Symptom]]], Callable[[Evidence], Iterator[Symptom]]]:
        """Add the decorated function as the rule ``name``."""

        def add(find: Callable[[Evidence], Iterator[Symptom]]) -> Callable[[Evidence], Iterator[Symptom]]:
            self.rules.append(DoctorRule(name, severity, title, why, remedy, find))
            return find

        return add


_MILDER = {Severity.ERROR: Severity.WARNING, Severity.WARNING: Severity.INFO, Severity.INFO: Severity.INFO}
_ORDER = list(Severity)


def examine(evidence: Evidence, rules: Iterable[DoctorRule]) -> list[Diagnosis]:
    """What ``rules`` find in ``evidence``, worst first, without duplicates.

    What they find in an object that only may be scaled by Kedastral says so, and is one step less severe.
    """
    unsure = {one.name: trigger_words(one, one.ours[0]) for one in evidence.perhaps_scaled_by_us}
    found = {
        _diagnose(rule, symptom, unsure.get(symptom.about)): None for rule in rules for symptom in rule.find(evidence)
    }
    return sorted(found, key=lambda one: _ORDER.index(one.severity))


def _diagnose(rule: DoctorRule, symptom: Symptom, perhaps: str | None) -> Diagnosis:
    """``perhaps`` names the trigger that may be for Kedastral; None if one surely is."""
    severity, sentence = rule.severity, symptom.sentence
    if symptom.milder:
        severity = _MILDER[severity]
    if symptom.later:
        severity, sentence = _MILDER[severity], f"{sentence}, which matters once the mode is scale"
    if perhaps is not None:
        severity, rest = _MILDER[severity], sentence.removeprefix(f"{perhaps} ")
        sentence = f"{perhaps} may be for Kedastral" + (f": {rest}" if rest == sentence else f", and {rest}")
    return Diagnosis(rule, severity, symptom.about, sentence, symptom.remedy or rule.remedy, symptom.place)


def worst(found: Sequence[Diagnosis]) -> Severity | None:
    """The severity of the worst of ``found``; None if it is empty."""
    return min((one.severity for one in found), key=_ORDER.index, default=None)
