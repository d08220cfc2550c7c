# SPDX-License-Identifier: Apache-2.0
"""The documentation covers everything that the product has, and nothing that it does not have."""

import itertools
import json
import pydoc
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from grpclib.const import Status

from docs import generate
from kedastral.adapters.http_model import HttpForecaster, open_model_client
from kedastral.cli.main import cli
from kedastral.core.failures import FAILURES
from kedastral.core.series import Series
from kedastral.models import MODELS
from kedastral.settings.commands import BY_COMMAND
from kedastral.settings.rules import WARNINGS
from kedastral.settings.schema import settings_of
from kedastral.wire import dump_json, read_snapshot, snapshot_schema, write_snapshot
from tests.docs import product
from tests.docs.pages import PAGES, ROOT, anchors, bare, blocks, commands, inline_code, links, prose, read, tables

DOCS = ROOT / "docs"
TESTS = {name for path in ROOT.glob("tests/**/*.py") for name in re.findall(r"def (test_\w+)\(", read(path))}
WITH_COMMANDS = [page for page in PAGES if list(commands(read(page)))]
names = [str(page.relative_to(ROOT)) for page in PAGES]
every_page = pytest.mark.parametrize("page", PAGES, ids=names)


def table_of(page: Path, *columns: str) -> list[dict[str, str]]:
    """The rows of all tables of a page that have these columns."""
    return [row for table in tables(read(page)) for row in table if list(row)[: len(columns)] == list(columns)]


# settings


def test_settings_tables_are_what_the_generator_writes() -> None:
    page = read(DOCS / "configuration.md")
    assert generate.render(page) == page, "run `make docs`"


def test_crds_are_what_the_generator_writes() -> None:
    written = generate.write_crds()
    assert {path: read(path) for path in (ROOT / "deploy" / "crds").iterdir()} == written, "run `make docs`"


def settings_section(command: str) -> str:
    return read(DOCS / "configuration.md").split(f"<!-- settings of {command} -->")[1].split("<!-- end -->")[0]


def names_in(text: str) -> set[str]:
    """Flags and variables that a text names; ``A to B`` includes the rows of `run` or `scaler` between them."""
    found = set(re.findall(r"`([^`]+)`", text))
    for first, last in re.findall(r"`([^`]+)` to `([^`]+)`", text):
        for command in ("run", "scaler"):
            rows = tables(settings_section(command))[0]
            shown = [row["flag" if row["flag"] != "(none)" else "variable"].strip("`") for row in rows]
            if first in shown and last in shown:
                found |= set(shown[shown.index(first) : shown.index(last) + 1])
    return found


@pytest.mark.parametrize("command", BY_COMMAND)
def test_every_setting_of_a_command_is_in_its_table_or_named_as_one_of_run(command: str) -> None:
    settings = {f"`{setting.env}`": setting for setting in settings_of(BY_COMMAND[command])}
    rows = {row["variable"]: row for row in tables(settings_section(command))[0]}
    elsewhere = {row["variable"]: row for other in ("scaler", "run") for row in tables(settings_section(other))[0]}
    named = names_in(settings_section(command).partition("As in [")[2])
    common = {variable for variable, setting in settings.items() if (setting.flag or setting.env) in named}
    assert rows.keys() | common == settings.keys()
    assert not rows.keys() & common
    for variable, setting in settings.items():
        row = rows[variable] if variable in rows else elsewhere[variable]
        assert row["flag"] == (f"`{setting.flag}`" if setting.flag else "(none)")
        assert setting.meaning.replace("|", "\\|") in row["meaning"]
        if setting.shown_default:
            assert row["default"] == f"`{setting.shown_default}`"
        else:
            assert row["default"].partition(",")[0] == ("required" if setting.required else "none")
        for name in setting.unless:
            assert f"`--{name.replace('_', '-')}`" in row["default"] or name not in {s.name for s in settings.values()}


OF_EVERY_PROGRAM = {
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "REQUEST_METHOD",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_SDK_DISABLED",
    "OTEL_SERVICE_NAME",
    "OTEL_TRACES_EXPORTER",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
}
"""Standard variables that Kedastral reads like other programs."""


def test_every_variable_of_opentelemetry_that_the_code_reads_is_documented() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "kedastral").rglob("*.py"))
    documented = read(DOCS / "operations.md")
    assert [name for name in sorted(set(re.findall(r'"(OTEL_[A-Z_]+)"', sources))) if name not in documented] == []


@every_page
def test_flags_and_variables_in_prose_exist(page: Path) -> None:
    flags, variables = product.all_flags(), product.all_variables() | OF_EVERY_PROGRAM
    statuses = {status.name for status in Status}
    for piece in inline_code(read(page)):
        if piece.startswith("--"):
            assert re.split(r"[ =]", piece)[0] in flags, piece
        for word in re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", piece):
            assert word in variables | statuses, f"{word} in `{piece}`"
        if assigned := re.match(r"([A-Z][A-Z_]+)=", piece):
            assert assigned[1] in variables, piece


@every_page
def test_commands_of_ours_in_prose_exist(page: Path) -> None:
    for piece in inline_code(read(page)):
        if piece.startswith(("kedastral ", ".venv/bin/kedastral ", "make ")):
            check_command(piece.split())


# commands


def check_command(words: list[str]) -> None:
    """The parts of a shell command that are ours: make targets, kedastral's subcommands and flags, paths."""
    program = words[0].removeprefix(".venv/bin/")
    if program == "make":
        targets = re.findall(r"^([a-z0-9-]+):", read(ROOT / "Makefile"), re.MULTILINE)
        assert {word for word in words[1:] if word != "-s"} <= set(targets), " ".join(words)
    elif program == "kedastral":
        check_kedastral(words[1:])
    elif program == "kubectl":
        for flag, path in itertools.pairwise(words):
            if flag in ("-f", "-k"):
                assert (ROOT / path).exists(), path
                assert flag == "-f" or (ROOT / path / "kustomization.yaml").exists(), path


def check_kedastral(words: list[str]) -> None:
    if words[0].startswith("-"):
        assert set(words) <= {"--version", "--help"}
        return
    assert words[0] in cli.commands, words[0]
    known = product.flags_of(words[0])
    for word in words[1:]:
        if word.startswith("-") and word != "-":  # standard input
            assert word.partition("=")[0] in known, f"kedastral {words[0]} has no {word}"


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=[str(page.relative_to(ROOT)) for page in WITH_COMMANDS])
def test_commands_in_shell_blocks_exist(page: Path) -> None:
    for words in commands(read(page)):
        check_command([word for word in words if not word.startswith("#")])


def test_the_readme_has_the_two_commands_that_try_it() -> None:
    assert ["make", "demo"] in [words[:2] for words in commands(read(ROOT / "README.md"))]
    assert ["make", "test"] in [words[:2] for words in commands(read(ROOT / "README.md"))]


def test_every_make_target_is_explained() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):.*## ", read(ROOT / "Makefile"), re.MULTILINE)) - {"help"}
    explained = {bare(row["target"]).removeprefix("make ") for row in table_of(ROOT / "CONTRIBUTING.md", "target")}
    assert explained == targets


def test_example_of_wrong_settings_is_what_validate_says() -> None:
    page = read(DOCS / "configuration.md")
    said = next(block.text for block in blocks(page) if "$ kedastral validate" in block.text)
    for line in said.splitlines()[1:]:
        assert line.startswith("kedastral: --")


# metrics


def test_every_metric_is_documented_with_its_type_and_labels() -> None:
    documented = {
        product.Metric(bare(row["name"]), row["type"], tuple(re.findall(r"`(\w+)`", row["labels"])))
        for row in table_of(DOCS / "metrics.md", "name", "type", "labels")
    }
    assert documented == product.metrics()


@every_page
def test_metrics_that_are_named_exist(page: Path) -> None:
    series: set[str] = set()
    for metric in product.metrics():
        parts = ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ()
        series |= {metric.name, *(metric.name + part for part in parts)}
    for name in re.findall(r"\bkedastral_\w+", read(page)):
        assert name in series | {"kedastral_client"}, name


def test_alerts_on_what_is_absent_name_what_they_miss() -> None:
    page, alerts = read(DOCS / "metrics.md"), read(ROOT / "deploy" / "prometheus" / "alerts.yaml")
    [shown] = [block.text for block in blocks(page) if block.language == "yaml"]
    groups = [group for text in (alerts, shown) for group in yaml.safe_load(text)["groups"]]
    by_name = {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}
    assert "absent(kedastral_scaler_requests_total" in by_name["KedastralNotAsked"]
    assert "workload=" in by_name["KedastralNoForecast"]
    for block in blocks(page):
        assert "absent(kedastral_forecast_age_seconds)" not in block.text


def test_every_warning_of_settings_is_documented() -> None:
    rows = table_of(DOCS / "configuration.md", "warning", "why")
    shown = {setting.name: setting.shown for kind in BY_COMMAND.values() for setting in settings_of(kind)}
    documented = {name for row in rows for name in re.findall(r"`(--[\w-]+|[A-Z_]+)`", row["warning"])}
    assert {shown[check.blames] for check in WARNINGS} <= documented


def test_every_reason_of_an_error_is_documented_under_its_component() -> None:
    documented = {
        (bare(row["component"]), reason)
        for row in table_of(DOCS / "metrics.md", "component", "reasons")
        for reason in re.findall(r"`(\w+)`", row["reasons"])
    }
    assert product.literal_reasons() <= documented
    told = {(component, reason) for component, reason in documented if component in ("source", "model")}
    assert told == {pair for pair in FAILURES if pair[0] != "store"}
    source = "\n".join(read(file) for file in (ROOT / "kedastral").rglob("*.py"))
    for component, reason in documented:
        assert f'"{reason}"' in source, f"{component}/{reason}"


# HTTP and gRPC


def test_every_endpoint_has_its_section() -> None:
    sections = set(re.findall(r"^## `GET (/\S*)`$", read(DOCS / "http-api.md"), re.MULTILINE))
    assert sections == product.endpoints()
    section = read(DOCS / "http-api.md").split("## TLS and the token")[0]
    for path in product.endpoints(serves_forecasts=False):
        assert f"`{path}`" in section, "http-api.md says what the scaler serves"


def test_the_example_snapshot_is_one_and_its_fields_are_all_explained() -> None:
    page = read(DOCS / "http-api.md")
    example = json.loads(next(block.text for block in blocks(page) if '"desiredReplicas"' in block.text))
    assert write_snapshot(read_snapshot(json.dumps(example))) == example
    explained = {
        name for row in table_of(DOCS / "http-api.md", "field") for name in re.findall(r"`(\w+)`", row["field"])
    }
    assert explained == example.keys()


def test_every_field_of_the_openapi_schema_is_explained() -> None:
    page = DOCS / "http-api.md"
    rows = [row["field"] for row in table_of(page, "field")] + [row["more"] for row in table_of(page, "more")]
    schema = json.loads(dump_json(snapshot_schema()))
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == schema["properties"].keys()


def test_every_rpc_is_documented() -> None:
    assert {bare(row["RPC"]) for row in table_of(DOCS / "keda.md", "RPC")} == product.rpcs()


def test_trigger_metadata_is_what_the_scaler_reads() -> None:
    source = "".join(read(ROOT / "kedastral" / name) for name in ("serving/scaler.py", "core/trigger.py"))
    read_by_us = set(re.findall(r'find_value\((?:self\.)?metadata, "(\w+)"', source))
    assert {bare(row["key"]) for row in table_of(DOCS / "keda.md", "key")} == read_by_us | {"scalerAddress"}


def test_the_readme_is_short_and_shows_a_whole_scaled_object() -> None:
    page = read(ROOT / "README.md")
    assert len(page.splitlines()) <= 120
    shown = [yaml.safe_load(block.text)["kind"] for block in blocks(page) if block.language == "yaml"]
    assert "ScaledObject" in shown


# models


def test_every_model_has_its_section() -> None:
    sections = set(re.findall(r"^## `([\w-]+)`$", read(DOCS / "models.md"), re.MULTILINE))
    assert sections == MODELS.keys()


@pytest.fixture
def sample_model() -> Any:
    """The address of the sample server of docs/models.md, running."""
    code = next(block.text for block in blocks(read(DOCS / "models.md")) if block.language == "python")
    space: dict[str, Any] = {"__name__": "sample"}
    exec(compile(code, "docs/models.md", "exec"), space)
    quiet = type("Quiet", (space["Model"],), {"log_message": lambda *_: None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


async def test_the_sample_model_speaks_the_protocol(sample_model: str) -> None:
    history = Series(datetime(2026, 3, 2, 9, tzinfo=UTC), 60.0, [100.0, 110.0, 120.0, 130.0, 140.0, 150.0])
    async with open_model_client(sample_model) as client:
        forecast = await HttpForecaster(client, 5.0).forecast(history, history.time_at(5), 3)
    assert forecast.values.tolist() == [160.0, 170.0, 180.0]


async def test_the_example_question_is_what_is_sent() -> None:
    sent = {}

    async def answer(request: httpx.Request) -> httpx.Response:
        sent.update(json.loads(await request.aread()))
        return httpx.Response(200, json={"metric": "http_rps", "values": [1.0] * 30})

    history = Series(datetime(2026, 3, 2, 9, 14, tzinfo=UTC), 60.0, [801.5, 805.1])
    made_at = datetime(2026, 3, 2, 9, 15, 4, 98711, tzinfo=UTC)
    async with open_model_client("http://model.test", transport=httpx.MockTransport(answer)) as client:
        await HttpForecaster(client, 5.0).forecast(history, made_at, 30)
    example = json.loads(next(block.text for block in blocks(read(DOCS / "models.md")) if '"features"' in block.text))
    assert example == sent


# form


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(read(page)):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        aim = (page.parent / path).resolve() if path else page
        assert aim.exists(), target
        assert aim.is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(read(aim)), target


PARSERS: dict[str, Callable[[str], object]] = {"json": json.loads, "yaml": lambda text: list(yaml.safe_load_all(text))}


@every_page
def test_examples_parse(page: Path) -> None:
    for block in blocks(read(page)):
        if block.language in PARSERS:
            PARSERS[block.language](block.text)


def test_pages_have_one_title() -> None:
    for page in PAGES:
        if not page.is_relative_to(ROOT / ".github"):  # a template has none
            assert len(re.findall(r"^# ", prose(read(page)), re.MULTILINE)) == 1, page


def test_every_guide_can_be_reached_from_the_readme() -> None:
    reached, left = set(), [ROOT / "README.md"]
    while left:
        page = left.pop()
        reached.add(page)
        for target in links(read(page)):
            aim = (page.parent / target.partition("#")[0]).resolve()
            if aim.suffix == ".md" and aim.exists() and aim not in reached:
                left.append(aim)
    assert {page for page in PAGES if page.parent == DOCS} <= reached


@every_page
def test_files_and_names_of_the_code_exist(page: Path) -> None:
    for piece in inline_code(read(page)):
        if re.fullmatch(r"(kedastral|tests|benchmarks)/[\w/]+(\.py)?", piece):
            assert (ROOT / piece).exists(), piece
        elif re.fullmatch(r"kedastral(\.\w+){2,}", piece):
            assert pydoc.locate(piece) is not None, piece
        elif re.fullmatch(r"test_\w+", piece):
            assert piece in TESTS, piece
