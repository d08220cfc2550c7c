# SPDX-License-Identifier: Apache-2.0
"""The generated files of the Helm chart match the settings and values.yaml; this needs no helm."""

import json

import yaml

from docs import chart
from kedastral.settings.commands import BY_COMMAND
from kedastral.settings.schema import settings_of
from tests.docs.pages import read

DEFAULTS = yaml.safe_load(read(chart.CHART / "values.yaml"))


def test_the_generated_files_are_up_to_date() -> None:
    for path, text in chart.write_files().items():
        assert read(path) == text, f"{path.name}: run `make docs`"


def test_every_setting_of_the_three_commands_is_a_value_or_the_charts_own() -> None:
    schema = json.loads(read(chart.CHART / "values.schema.json"))["properties"]
    values = {*schema["settings"]["properties"], *schema["secretSettings"]["properties"]}
    there = [one for command in chart.COMMANDS for one in settings_of(BY_COMMAND[command]) if one.env]
    assert {chart.key_of(one) for one in there if one.env not in chart.OWN} == values
    assert {one.env for one in there} >= chart.OWN


def test_no_secret_is_a_plain_value() -> None:
    schema = json.loads(read(chart.CHART / "values.schema.json"))["properties"]
    secrets = {key for key, one in chart.settings_of_chart().items() if one.is_secret}
    assert "promToken" in secrets
    assert schema["secretSettings"]["properties"].keys() == secrets
    assert not schema["settings"]["properties"].keys() & secrets


def test_every_value_has_a_comment() -> None:
    commented = {value.path for value in chart.read_values()}

    def leaves(tree: object, path: tuple[str, ...]) -> set[tuple[str, ...]]:
        if path in commented or not isinstance(tree, dict) or not tree:
            return {path}
        return {leaf for key, value in tree.items() for leaf in leaves(value, (*path, key))}

    assert leaves(DEFAULTS, ()) <= commented


def test_the_defaults_are_for_production() -> None:
    assert DEFAULTS["replicas"] == 2
    assert DEFAULTS["onStale"] == "ride-forecast"
    assert DEFAULTS["podDisruptionBudget"]["enabled"]
    assert DEFAULTS["networkPolicy"]["enabled"]
