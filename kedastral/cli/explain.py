# SPDX-License-Identifier: Apache-2.0
"""`kedastral explain`: asks a process why KEDA is told what it is told, and prints a summary and tables."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

import click
import httpx
import trio
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kedastral.adapters.http import (
    PLAIN,
    AnswerEncodedError,
    AnswerTooLargeError,
    WebPageError,
    read_bounded,
    refuse_page,
    shown_url,
    words_of,
)
from kedastral.compose import open_remote
from kedastral.errors import RemoteError, SourceError
from kedastral.settings.commands import ExplainSettings
from kedastral.settings.spelling import find_near
from kedastral.text import one_line

TRIED = {
    "lead_time": "leadTime",
    "target_per_pod": "targetPerPod",
    "service_level": "serviceLevel",
    "headroom": "headroom",
    "min": "min",
    "max": "max",
}
"""The flags of the settings to try, and their parameters in the HTTP API."""
_FLAGS = {parameter: f"--{name.replace('_', '-')}" for name, parameter in TRIED.items()}
_NAMED = re.compile(rf"(?<!['\"\w-])({'|'.join(_FLAGS)})(?= must | \(| and | exclude | needs )")
"""Matches a parameter where an error names it, but not where it quotes what was given."""
ANSWER_WITHIN = 10.0
MAX_BYTES = 2**22
MAX_LINE = 1000
PLAIN_WIDTH = 120
"""The width of the tables if the output is not a terminal."""
MIN_COLUMN = 7
"""The width that a column of the plan keeps in a narrow terminal, where longer cells are folded."""
MIN_WORDS = 24
"""The width from which on the reasons of the stages stand beside their numbers, and not below the table."""
WIDE = 1000
"""More than any table takes, if nothing in it is wrapped."""


def run_explain(settings: ExplainSettings, asked: Mapping[str, str], *, as_json: bool) -> None:
    """Ask, and print the answer. Raises RemoteError; its reason is ``refused`` if the request is invalid."""
    body = trio.run(_ask, settings, "explain", asked)
    if as_json:
        click.echo(body.decode().rstrip())
        return
    try:
        document = json.loads(body)
        print_explanation(document)
    except (ValueError, KeyError, TypeError) as error:
        raise RemoteError("the answer is not an explanation: another version?", reason="bad_answer") from error


def run_status(settings: ExplainSettings, *, as_json: bool) -> None:
    """Ask for all workloads, and print a line for each. Raises RemoteError."""
    body = trio.run(_ask, settings, "api/workloads", {})
    if as_json:
        click.echo(body.decode().rstrip())
        return
    try:
        answer = json.loads(body)
        rows = [_status_cells(one) for one in answer["workloads"]]
        warnings = [str(one) for one in answer.get("warnings", ())]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RemoteError("the answer is not a list of workloads: another version?", reason="bad_answer") from error
    for warning in warnings:
        click.echo(f"warning: {one_line(warning, MAX_LINE)}")
    if not rows:
        click.echo("There is no workload yet.")
        return
    _print_status(rows)


def _print_status(rows: Sequence[Sequence[str]]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH, highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("workload", "state", "load", "told KEDA", "planned", "peak ahead", "error budget spent", "reason"):
        most = BUDGET_WIDTH if name == "error budget spent" else None
        table.add_column(name, justify="right" if name in NUMBERS else "left", overflow="fold", max_width=most)
    is_narrow = console.width < REASON_BESIDE  # then the reasons stand below, as those of `explain`
    if is_narrow:
        table.columns.pop()
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in (row[:-1] if is_narrow else row)))
    console.print(table)
    for name, *_, reason in rows if is_narrow else ():
        if reason:
            console.print(Text(f"{one_line(name)}: {one_line(reason)}"))


DECIDES_WHAT_IS_TOLD = {"stale-policy", "mode"}
"""The stages after the plan: without them it is what KEDA is told that would change."""
NUMBERS = ("load", "told KEDA", "planned", "peak ahead", "error budget spent")
"""Columns of `run_status`; the peak ahead is the maximum of the whole forecast."""
REASON_BESIDE = 100
"""The width of a terminal from which on a reason stands beside its workload."""
BUDGET_WIDTH = 14
"""The width of the error budget, in two lines, or in four with the minutes at --max: the reasons are longest."""
JUDGED_FOR = 60.0
"""Minutes that must have been judged before their share of short ones says anything."""


def _status_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    ahead = max((value for value in row.get("forecast", ()) if value is not None), default=None)
    told = "holds" if row.get("told", 0) is None else _number(row.get("told"))
    load, planned = _number(row.get("load")), _number(row.get("planned"))
    state = row["state"] + (" (observe)" if row.get("mode") == "observe" else "")
    return (
        row["workload"],
        state,
        load,
        told,
        planned,
        _number(ahead),
        _budget_words(row.get("budget")),
        row["reason"],
    )


def _budget_words(budget: Mapping[str, Any] | None) -> str:
    """The share of the error budget that is spent, the short minutes of those allowed, and those of them at --max."""
    if budget is None:
        return ""
    short, judged = budget["minutesShort"], budget["minutesJudged"]
    if judged < JUDGED_FOR and not short:
        return "not judged yet"
    at_max = f"{budget.get('minutesAtMax', 0):,.0f}"
    words = f"{budget['spent'] * 100:,.0f} %: {short:,.0f} of {budget['minutesAllowed']:,.0f} min"
    return words if at_max == "0" else f"{words}, {at_max} of them at --max"


async def _ask(settings: ExplainSettings, path: str, asked: Mapping[str, str]) -> bytes:
    async with open_remote(settings.process.forecaster_url, settings.remote_access) as client:
        status, body = await _read(client, path, asked)
        if status == httpx.codes.OK:
            return body
        where = shown_url(client.base_url)
        if status == httpx.codes.NOT_FOUND and "workload" not in asked:
            raise RemoteError(
                f"{where} has no list of workloads; --url must be the address of `run` or `forecaster`",
                reason="http_status",
            )
        if status == httpx.codes.NOT_FOUND:
            rows = await _list_workloads(client)
            named = _named_briefly(asked["workload"], rows)
            if len(named) == 1:
                asked = {**asked, "workload": named[0]}
                status, body = await _read(client, path, asked)
            if status == httpx.codes.OK:
                return body
            if status == httpx.codes.NOT_FOUND:
                raise RemoteError(f"{where} {_why_none(asked['workload'], named, rows)}", reason="http_status")
    raise _refusal(status, body, where)


async def _read(client: httpx.AsyncClient, path: str, asked: Mapping[str, str]) -> tuple[int, bytes]:
    """Status and body of a response. Raises RemoteError."""
    where = shown_url(client.base_url)
    try:
        with trio.fail_after(ANSWER_WITHIN):
            request = client.build_request("GET", path, params=dict(asked), headers=PLAIN, timeout=None)
            response = await client.send(request, stream=True)
            body = await read_bounded(response, MAX_BYTES)
            await response.aclose()
        refuse_page(body)
    except trio.TooSlowError:
        raise RemoteError(f"{where} gave no answer within {ANSWER_WITHIN:g} s", reason="timeout") from None
    except SourceError as error:
        raise RemoteError(str(error), reason="credentials") from error
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        words = f"{where} cannot be reached: {words_of(error)}; --url is the address of Kedastral's HTTP port"
        raise RemoteError(words, reason="unreachable") from error
    except (AnswerTooLargeError, AnswerEncodedError, WebPageError) as error:
        raise RemoteError(f"{where} gave an unreadable answer: {error}", reason="bad_answer") from error
    return response.status_code, body


async def _list_workloads(client: httpx.AsyncClient) -> dict[str, str] | None:
    """Each workload with its state and reason; None if there is no such list."""
    try:
        _, body = await _read(client, "api/workloads", {})
        return {row["workload"]: _state_words(row) for row in json.loads(body)["workloads"]}
    except (RemoteError, ValueError, KeyError, TypeError):
        return None


def _state_words(row: Mapping[str, Any]) -> str:
    words = f"{row['state']}, {row['reason']}"
    if "told" not in row:
        return words
    told = row["told"]
    return f"{words}; KEDA {'gets an error and holds' if told is None else f'is told {_number(told)}'}"


def _named_briefly(workload: str, rows: Mapping[str, str] | None) -> list[str]:
    """The workloads that are called so without their namespace; none if one is called exactly so."""
    if rows is None or workload in rows:
        return []
    return [key for key in rows if key.rpartition("/")[2] == workload]


def _why_none(workload: str, named: Sequence[str], rows: Mapping[str, str] | None) -> str:
    """Why there is no forecast of ``workload``, as far as the list of workloads says so."""
    name = repr(one_line(workload, 200))
    if rows is None:
        return f"has no forecast of {name}, or none yet"
    if workload in rows:
        return f"has no forecast of {name} yet: {one_line(rows[workload])}"
    if len(named) > 1:
        return f"has several workloads called {name}: {one_line(', '.join(named), 200)}; add the namespace"
    near = find_near(workload, rows)
    return f"has no workload {name}" + (f"; did you mean {one_line(near, 200)}?" if near else "")


def _refusal(status: int, body: bytes, where: str) -> RemoteError:
    try:
        words = _NAMED.sub(lambda found: _FLAGS[found[1]], one_line(str(json.loads(body)["error"])))
    except (ValueError, KeyError, TypeError):
        words = f"status {status}"
    reason = "refused" if status == httpx.codes.BAD_REQUEST else "http_status"
    return RemoteError(words if reason == "refused" else f"{where}: {words}", reason=reason)


def print_explanation(document: Mapping[str, Any]) -> None:
    """First the summary, then the stages, then the plan, next to what was tried."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH, highlight=False)
    other = document.get("whatIf")
    outage = document.get("outage")
    lines = [] if outage is None else [outage["sentence"]]
    lines.append(document["sentence"])
    if other is not None:
        lines.append("What if: " + other["sentence"])
    still = "; KEDA is still told 0" if _is_observed(document) else ""
    if outage is None or outage["followsPlan"]:  # else what comes next is not by the plan
        lines.append(f"By the plan {_next_words(document)}{still}.")
    if other is not None:
        lines.append(f"What if: {_beside(document, other)}by that plan {_next_words(other)}.")
    for line in lines:
        console.print(Text(one_line(line, MAX_LINE)), soft_wrap=True)
    _print_stages(console, document, other)
    _print_plan(console, document, other)


def _next_words(document: Mapping[str, Any]) -> str:
    change = document.get("nextChange")
    if change is not None:
        dated = _is_another_day(change, document)
        return f"it will be {change['replicas']} from {_clock(change['at'], dated=dated)} UTC on"
    outage = document.get("outage") or {}
    if outage.get("until") is not None:
        dated = _is_another_day({"at": outage["until"]}, document)
        return f"it stays so until {_clock(outage['until'], dated=dated)} UTC"
    # the floor holds more than the plan, and follows the newest load
    held = document["plan"][-1]["replicas"] < document["planned"]
    return "it stays so while the load stays" if held else "it stays so"


def _is_observed(document: Mapping[str, Any]) -> bool:
    return any(stage["name"] == "mode" and stage["effect"] == "sets" for stage in document["stages"])


def _beside(document: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """A note if what was tried would not change what KEDA is told now."""
    same = all(document.get(name) == other.get(name) for name in ("told", "planned"))
    return "the same as now; " if same else ""


def _tried_cell(stage: Mapping[str, Any], tried: Mapping[str, Any]) -> str:
    """What a stage would lead to, preceded by its own number if that differs and is not the result."""
    value, result = tried.get("value"), tried.get("result")
    if value is None or value in (stage.get("value"), result):
        return _number(result)
    own = _quantity(value, tried["unit"])
    return own if result is None else f"{own} → {_number(result)}"


def _without_cell(stage: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    """The answer without a stage, in a word if it is the answer as it is: so the numbers are what would change it."""
    without = stage.get("without")
    answer = document.get("told" if stage["name"] in DECIDES_WHAT_IS_TOLD else "planned")
    return "same" if without is not None and without == answer else _number(without)


def _quantity(value: float, unit: str) -> str:
    """A number with its unit; whole minutes if there is more than one."""
    return f"{value / 60:g} min" if unit == "s" and value >= 120 and value % 60 == 0 else f"{_number(value)} {unit}"


def _print_stages(console: Console, document: Mapping[str, Any], other: Mapping[str, Any] | None) -> None:
    """The numbers, with the reasons beside them or, in a narrow terminal, below; no number is cut off."""
    columns = ["stage", "number", "leads to", "without it", *(["what if"] if other else [])]
    rows = list(_stage_rows(document, other))
    words = [one_line(stage["words"]) for stage in document["stages"]]
    numbers = _stages_table(columns, rows)
    width = console.measure(numbers, options=console.options.update(width=WIDE)).maximum
    if console.width >= width + MIN_WORDS:
        beside = [[*cells, why] for cells, why in zip(rows, words, strict=True)]
        console.print(_stages_table([*columns, "why"], beside))
        return
    numbers.width = width
    console.print(numbers, crop=False)
    for stage, why in zip(document["stages"], words, strict=True):
        console.print(Text(f"{one_line(stage['name'])}: {why}"))


def _stage_rows(document: Mapping[str, Any], other: Mapping[str, Any] | None) -> Iterator[list[str]]:
    tried = {} if other is None else {stage["name"]: stage for stage in other["stages"]}
    for stage in document["stages"]:
        name, value = stage["name"], stage.get("value")
        number = "" if value is None else _quantity(value, stage["unit"])
        cells = [name + (" *" if name == document["decidedBy"] else ""), number, _number(stage.get("result"))]
        cells.append(_without_cell(stage, document))
        if other is not None:
            cells.append(_tried_cell(stage, tried.get(name, {})))
        yield cells


def _stages_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        right = column not in ("stage", "why")
        table.add_column(column, justify="right" if right else "left", overflow="fold", no_wrap=column != "why")
    for cells in rows:
        table.add_row(*(Text(one_line(cell)) for cell in cells))
    return table


def _print_plan(console: Console, document: Mapping[str, Any], other: Mapping[str, Any] | None) -> None:
    """A row for each run of steps with equal replicas; what `_mark_largest` marks is a row of its own."""
    explained = [document] if other is None else [document, other]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("step at (UTC)", no_wrap=True)
    numbers = ["load", "planned for", "needed", "planned", *(["what if: needed", "what if: planned"] if other else [])]
    for column in numbers:
        table.add_column(column, justify="right", overflow="fold", min_width=MIN_COLUMN)
    plans = zip(*(_mark_largest(one) for one in explained), strict=True)
    dated = any(_is_another_day(document["plan"][i], document) for i in (0, -1))
    longest = 0
    for planned, steps in groupby(plans, key=lambda step: [one["planned"] for one in step]):
        by_plan = list(zip(*steps, strict=True))
        shown = by_plan[0]
        cells = [_between(*(_clock(step["at"], dated=dated) for step in (shown[0], shown[-1])))]
        cells.append(_range([step["load"] for step in shown]))
        cells.append(_range([step["plannedFor"] for step in shown if "plannedFor" in step]))
        for run, number in zip(by_plan, planned, strict=True):
            cells += [_range([step["needed"] for step in run]), number]
        longest = max(longest, len(cells[0]))
        table.add_row(*map(Text, cells))
    least = max(longest, len("step at (UTC)")) + len(numbers) * (MIN_COLUMN + 1) + 1
    if console.width < least:
        table.width = least
    console.print(table, crop=False)


def _mark_largest(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The steps of a plan with their replicas as ``planned``, marked in the step that the answer is read from."""
    for step in document["plan"]:
        mark = "* " if step["at"] == document.get("largestAt") else ""
        yield {**step, "planned": mark + _number(step["replicas"])}


def _range(values: Sequence[float]) -> str:
    return _between(_number(min(values)), _number(max(values))) if values else ""


def _between(first: str, last: str) -> str:
    return first if first == last else f"{first}–{last}"


def _is_another_day(one: Mapping[str, Any], document: Mapping[str, Any]) -> bool:
    """Whether ``one`` is not on the day (UTC) of the answer, so that its time alone is no answer to when."""
    return datetime.fromisoformat(one["at"]).date() != datetime.fromisoformat(document["at"]).date()


def _clock(time: str, *, dated: bool) -> str:
    return f"{datetime.fromisoformat(time):{'%m-%d ' if dated else ''}%H:%M:%S}"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 or float(value).is_integer() else f"{value:.4g}"
