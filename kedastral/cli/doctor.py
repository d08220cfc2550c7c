# SPDX-License-Identifier: Apache-2.0
"""`kedastral doctor`: reads manifests, queries what it is told to, and prints what the rules find."""

import importlib.util
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
import click
import trio
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kedastral.clock import SystemClock
from kedastral.compose import open_remote
from kedastral.doctor import object_rules, pace_rules, query_rules, scaling_rules, trigger_rules
from kedastral.doctor.diagnosis import Diagnosis, DoctorRule, Severity, examine, worst
from kedastral.doctor.evidence import Evidence, Place, TriggerKey, Unread, each_of_ours, key_of, settings_of_queries
from kedastral.doctor.live import ask_kedastral, ask_queries, try_addresses
from kedastral.doctor.manifests import Manifests, find_patches
from kedastral.doctor.ownership import settle_owners
from kedastral.doctor.report import count_by_severity, write_report, write_sarif
from kedastral.doctor.triggers import read_address, read_described_workload, ways_to_connect
from kedastral.errors import ConfigError, RemoteError
from kedastral.settings.commands import DoctorSettings
from kedastral.settings.fleet import DEFAULT_SOURCE, WorkloadSettings
from kedastral.settings.load import Loaded
from kedastral.text import one_line, printable
from kedastral.wire import dump_json
from kedastral.workloads.data_sources import DataSourceConnection, DataSources

RULES: tuple[DoctorRule, ...] = (
    *trigger_rules.BOOK.rules,
    *scaling_rules.BOOK.rules,
    *object_rules.BOOK.rules,
    *pace_rules.BOOK.rules,
    *query_rules.BOOK.rules,
)
"""Every rule, in the order of docs/doctor.md."""
STDIN = "-"
SUFFIXES = (".yaml", ".yml", ".json")
KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml", "Kustomization")
MAX_FILES = 10_000
PLAIN_WIDTH = 120
"""The width of the table if the output is not a terminal."""
MAX_WORDS = 1000
MAX_NAMED = 5
COLORS = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.INFO: "blue"}


@attrs.frozen
class DoctorCall:
    """What `doctor` should examine besides the settings, and how it should report what it finds."""

    paths: tuple[str, ...] = ()
    namespace: str = ""
    cluster: bool = False
    context: str | None = None
    check_queries: bool = False
    check_addresses: bool = False
    output: str = "table"
    level: Severity = Severity.WARNING


def run_doctor(call: DoctorCall, loaded: Loaded[DoctorSettings]) -> bool:
    """Examine, and print the findings. Returns whether there is no error. Raises ConfigError for wrong use."""
    _check_call(call, loaded)
    manifests = Manifests()
    for file, content in _read_paths(call.paths):
        manifests.read(file, content)
    _require_something(call, loaded, manifests)
    evidence = trio.run(_gather, call, loaded, manifests)
    found = examine(evidence, RULES)
    order = list(Severity)
    shown = [one for one in found if order.index(one.severity) <= order.index(call.level)]
    if call.output == "json":
        click.echo(dump_json(write_report(shown)))
    elif call.output == "sarif":
        click.echo(dump_json(write_sarif(shown, RULES)))
    else:
        _print_table(shown, manifests, evidence)
    return worst(found) is not Severity.ERROR


def _check_call(call: DoctorCall, loaded: Loaded[DoctorSettings]) -> None:
    if not call.paths and not call.cluster and loaded.settings.process.forecaster_url is None and loaded.fleet is None:
        raise ConfigError(
            ["give manifests (files, folders, or - for what kubectl get -o yaml prints), --cluster, --url or --config"]
        )
    if call.check_queries and loaded.fleet is None:
        raise ConfigError(["--check-queries needs a Prometheus; name one with --prom-url, or a DataSource of --config"])
    if call.cluster and importlib.util.find_spec("lightkube") is None:
        raise ConfigError(["--cluster needs the package lightkube; install kedastral[kubernetes]"])


def _require_something(call: DoctorCall, loaded: Loaded[DoctorSettings], manifests: Manifests) -> None:
    """Raise ConfigError if there is nothing to examine: an empty list from kubectl must not pass as healthy."""
    asked = call.cluster or loaded.settings.process.forecaster_url is not None or loaded.fleet is not None
    if not asked and not manifests.count and not manifests.unread:
        raise ConfigError(
            [f"{', '.join(map(printable, call.paths[:MAX_NAMED]))}: must hold at least one object of Kubernetes"]
        )


# Manifests.


def _read_paths(paths: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Each file's name and bytes. Raises ConfigError with all files that cannot be read."""
    problems: list[str] = []
    for text in paths:
        if text == STDIN:
            yield object_rules.STDIN_FILE, sys.stdin.buffer.read()
            continue
        try:
            for file in _find_files(Path(text)):
                yield printable(str(file)), file.read_bytes()
        except OSError as error:
            problems.append(f"{printable(text)}: cannot be read ({(error.strerror or str(error)).lower()})")
        except ValueError as error:
            problems.append(f"{printable(text)}: {error}")
    if problems:
        raise ConfigError(problems)


def _find_files(path: Path) -> Sequence[Path]:
    """The file at ``path``, or all files below a folder, without hidden ones, templates of charts and patches."""
    if not path.is_dir():
        return [path]
    patches = {
        (kustomization.parent / name).resolve()
        for kustomization in path.rglob("[kK]ustomization*")
        if kustomization.name in KUSTOMIZATIONS and kustomization.is_file()
        for name in find_patches(kustomization.read_bytes())
    }
    charts = [chart.parent / "templates" for chart in path.rglob("Chart.yaml")]
    files = sorted(
        file
        for suffix in SUFFIXES
        for file in path.rglob(f"*{suffix}")
        if file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
        and not any(file.is_relative_to(templates) for templates in charts)
        and file.resolve() not in patches
    )
    if len(files) > MAX_FILES:
        raise ValueError(f"must hold at most {MAX_FILES} files, got {len(files)}")
    if not files:
        raise ValueError("holds no file that ends in .yaml, .yml or .json")
    return files


# The evidence.


async def _gather(call: DoctorCall, loaded: Loaded[DoctorSettings], manifests: Manifests) -> Evidence:
    is_complete = call.cluster and await _read_cluster(call, manifests)
    settled = settle_owners((*manifests.objects, *manifests.jobs), manifests.services)
    evidence = Evidence(
        objects=settled[: len(manifests.objects)],
        jobs=settled[len(manifests.objects) :],
        hpas=tuple(manifests.hpas),
        scalables=tuple(manifests.scalables),
        pods=tuple(manifests.pods),
        default_requests=tuple(manifests.default_requests),
        authentications=manifests.authentications,
        warnings=loaded.warnings,
        namespace=call.namespace,
        is_complete=is_complete,
    )
    if loaded.fleet is not None and _names_workloads(loaded):
        evidence = attrs.evolve(evidence, workloads=loaded.fleet.settings.workloads)
    evidence = attrs.evolve(evidence, described=_read_described(evidence))
    evidence = await _ask_running(evidence, loaded, manifests)
    if call.check_addresses:
        asked = [
            (trigger.address, tls)
            for one, trigger, _ in each_of_ours(evidence)
            if read_address(trigger.address) is not None
            for tls in ways_to_connect(evidence, one, trigger)
        ]
        evidence = attrs.evolve(evidence, addresses=await try_addresses(asked))
    if call.check_queries:
        evidence = await _ask_prometheus(evidence, loaded)
    return attrs.evolve(evidence, unread=tuple(manifests.unread))


def _names_workloads(loaded: Loaded[DoctorSettings]) -> bool:
    """Whether the settings define workloads: an address of Prometheus alone does not."""
    return any(name in loaded.given for name in ("config", "workload"))


async def _read_cluster(call: DoctorCall, manifests: Manifests) -> bool:
    from kedastral.doctor.cluster import read_cluster  # noqa: PLC0415 - needs an extra

    return await trio.to_thread.run_sync(read_cluster, manifests, call.namespace, call.context, abandon_on_cancel=True)


def _read_described(evidence: Evidence) -> dict[TriggerKey, WorkloadSettings]:
    found = {}
    for one, trigger, _ in each_of_ours(evidence):
        if trigger.describes_workload:
            try:
                found[key_of(trigger, one)] = read_described_workload(evidence, one, trigger)
            except ConfigError:
                continue  # a rule reports what is wrong
    return found


async def _ask_running(evidence: Evidence, loaded: Loaded[DoctorSettings], manifests: Manifests) -> Evidence:
    url = loaded.settings.process.forecaster_url
    if url is None:
        return evidence
    named = [trigger.workload for _, trigger, _ in each_of_ours(evidence)]
    try:
        async with open_remote(url, loaded.settings.remote_access) as client:
            running = await ask_kedastral(client, [name for name in named if name])
    except RemoteError as error:
        remedy = "correct --url: it is the HTTP port, such as http://localhost:8081, of kedastral run or forecaster"
        manifests.unread.append(Unread(Place("the running Kedastral"), str(error), remedy))
        return evidence
    workloads = {**running.workloads, **(evidence.workloads or {})}
    return attrs.evolve(evidence, workloads=workloads, states=running.states)


async def _ask_prometheus(evidence: Evidence, loaded: Loaded[DoctorSettings]) -> Evidence:
    if loaded.fleet is None:
        return evidence
    sources = DataSources()
    sources.replace(loaded.fleet.settings.sources)
    names = tuple(loaded.fleet.settings.sources)

    def find(workload: WorkloadSettings) -> DataSourceConnection | None:
        for name in (workload.data_source, DEFAULT_SOURCE, *(names if len(names) == 1 else ())):
            if name in names:
                return sources.use(name)
        return None

    try:
        asked = [(one, connection) for one in settings_of_queries(evidence) if (connection := find(one)) is not None]
        return attrs.evolve(evidence, answers=await ask_queries(asked, SystemClock().now()))
    finally:
        await sources.close()


# What is printed.


def _print_table(found: Sequence[Diagnosis], manifests: Manifests, evidence: Evidence) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH, highlight=False)
    if found:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("", "object", "what is wrong, and what to do"):
            table.add_column(name, overflow="fold")
        for one in found:
            table.add_row(*_cells(one))
        console.print(table)
    counts = [_count(count, name) for name, count in count_by_severity(found).items() if count]
    result = ", ".join(counts) if counts else "nothing found"
    ours = sum(len(one.ours) for one in evidence.scaled_by_us if not one.is_unsure)
    perhaps = sum(len(one.ours) for one in evidence.scaled_by_us if one.is_unsure)
    workloads = len(evidence.workloads or {})
    looked = (
        f"{_count(manifests.count, 'object')}, {_count(ours, 'trigger')} of Kedastral, "
        f"{f'{perhaps} that may be, ' if perhaps else ''}{_count(workloads, 'workload')}"
    )
    console.print(Text(f"Looked at {looked}: {result}."), soft_wrap=True)
    unchecked = _find_unchecked(evidence)
    if unchecked:
        names = ", ".join(unchecked[:MAX_NAMED])
        more = f" and {_count(len(unchecked) - MAX_NAMED, 'other')}" if len(unchecked) > MAX_NAMED else ""
        what = "the workload" if len(unchecked) == 1 else "the workloads"
        words = f"Not checked: whether Kedastral has {what} {names}{more}, and the settings; give --config or --url."
        console.print(Text(one_line(words, MAX_WORDS)), soft_wrap=True)


def _find_unchecked(evidence: Evidence) -> Sequence[str]:
    """The workloads that triggers name, if nothing tells which ones there are."""
    if evidence.workloads is not None:
        return []
    return list(
        dict.fromkeys(
            trigger.workload
            if "/" in trigger.workload or not (namespace := evidence.namespace_of(one.name))
            else f"{namespace}/{trigger.workload}"
            for one, trigger, _ in each_of_ours(evidence)
            if trigger.workload and not trigger.describes_workload
        )
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _cells(one: Diagnosis) -> tuple[Text, Text, Text]:
    words = Text(one_line(one.sentence, MAX_WORDS))
    words.append(f"\n{one_line(one.remedy, MAX_WORDS)}", style="italic")
    words.append(f"\n{one.rule.link}\n", style="dim")
    about = Text(one_line(str(one.about)))
    if one.place is not None:
        about.append(f"\n{one_line(str(one.place))}", style="dim")
    return Text(str(one.severity), style=COLORS[one.severity]), about, words
