# SPDX-License-Identifier: Apache-2.0
"""Writes what `kedastral doctor` has found, as JSON or as SARIF 2.1.0, which code hosts show next to the lines."""

from collections.abc import Sequence
from urllib.parse import quote

from kedastral import __version__
from kedastral.doctor.diagnosis import Diagnosis, DoctorRule, Severity
from kedastral.wire import JsonValue

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
"""SARIF's level for each severity."""


def count_by_severity(found: Sequence[Diagnosis]) -> dict[str, int]:
    """How many findings there are of each severity."""
    return {str(severity): sum(one.severity is severity for one in found) for severity in Severity}


def write_report(found: Sequence[Diagnosis]) -> dict[str, JsonValue]:
    """The findings as one document: ``summary`` by severity, and a list."""
    return {"version": __version__, "summary": count_by_severity(found), "findings": [_describe(one) for one in found]}


def _describe(one: Diagnosis) -> dict[str, JsonValue]:
    about = {"kind": one.about.kind, "namespace": one.about.namespace or None, "name": one.about.name}
    place = {"file": None, "line": None}
    return {
        "rule": one.rule.name,
        "severity": str(one.severity),
        "object": about,
        **(place if one.place is None else {"file": one.place.file, "line": one.place.line or None}),
        "message": one.sentence,
        "remedy": one.remedy,
        "help": one.rule.link,
    }


def write_sarif(found: Sequence[Diagnosis], rules: Sequence[DoctorRule]) -> dict[str, JsonValue]:
    """A log of one run; every rule is described, whether or not it found something."""
    numbers = {rule.name: number for number, rule in enumerate(rules)}
    driver: dict[str, JsonValue] = {
        "name": "kedastral doctor",
        "semanticVersion": __version__,
        "rules": [_describe_rule(rule) for rule in rules],
    }
    results = [_result(one, numbers[one.rule.name]) for one in found]
    return {
        "$schema": SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}],
    }


def _describe_rule(rule: DoctorRule) -> dict[str, JsonValue]:
    return {
        "id": rule.name,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.why},
        "help": {"text": f"{rule.remedy[0].upper()}{rule.remedy[1:]}. See {rule.link}."},
        "defaultConfiguration": {"level": LEVELS[rule.severity]},
    }


def _result(one: Diagnosis, number: int) -> dict[str, JsonValue]:
    location: dict[str, JsonValue] = {"logicalLocations": [{"fullyQualifiedName": str(one.about), "kind": "resource"}]}
    if one.place is not None and one.place.line:
        location["physicalLocation"] = {
            "artifactLocation": {"uri": _uri(one.place.file)},
            "region": {"startLine": one.place.line},
        }
    return {
        "ruleId": one.rule.name,
        "ruleIndex": number,
        "level": LEVELS[one.severity],
        "message": {"text": f"{one.about}: {one.sentence}; {one.remedy}"},
        "locations": [location],
    }


def _uri(file: str) -> str:
    """A file's name as a relative or absolute URI reference."""
    path = quote(file.replace("\\", "/"), safe="/._-~+@")
    return f"file://{path}" if path.startswith("/") else path
