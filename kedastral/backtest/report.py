# SPDX-License-Identifier: Apache-2.0
"""The report's style sheet: system fonts, calm, light and dark, and fit for print."""

import base64
from collections.abc import Iterable, Sequence
from html import escape

from kedastral import __version__
from kedastral.backtest.comparison import PolicyComparison
from kedastral.backtest.plots import Plot, plot_accuracy, plot_curves, plot_load, plot_replicas
from kedastral.backtest.results import (
    AS_SET,
    FIGURES,
    FOOT,
    NOT_ALIKE,
    OF_EACH,
    Results,
    WorkloadResults,
    failed_row,
    oracle_cells,
    policy_name,
    standing_cells,
    workload_name,
)
from kedastral.backtest.shortages import Shortage, show_load
from kedastral.backtest.verdict import Outlook, Verdict
from kedastral.settings.types import write_duration

STYLE = """
:root { --page: #ffffff; --ink: #1f2933; --soft: #52606d; --line: #d5dbe1; --box: #f4f6f8; --good: #2f7d4f;
  --even: #8a6d1a; --bad: #b23b2e; }
@media (prefers-color-scheme: dark) { :root { --page: #141a21; --ink: #e4e9ee; --soft: #a3b1bf; --line: #3a4653;
  --box: #1d2630; --good: #6cc493; --even: #d9b95b; --bad: #ff8a75; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2rem 1.25rem 3rem; }
h1 { font-size: 1.9rem; margin: 0; } h2 { font-size: 1.35rem; margin: 2.4rem 0 .6rem; }
h3 { font-size: 1.05rem; margin: 1.8rem 0 .5rem; }
.sub, .note, footer, caption { color: var(--soft); } .sub { margin: .1rem 0 1.2rem; }
.note, footer { font-size: .88rem; }
.verdict { background: var(--box); border-left: 5px solid var(--even); border-radius: 4px; padding: .9rem 1.2rem; }
.verdict.better { border-color: var(--good); } .verdict.worse { border-color: var(--bad); }
.verdict h2, .verdict h3 { margin: 0 0 .3rem; font-size: .85rem; letter-spacing: .06em; text-transform: uppercase;
  color: var(--soft); }
.verdict p { margin: .4rem 0; } .verdict .words { font-size: 1.15rem; font-weight: 600; }
pre { overflow-x: auto; background: var(--page); border: 1px solid var(--line); border-radius: 4px;
  padding: .6rem .8rem; font: .88rem/1.5 ui-monospace, monospace; }
.wide { overflow-x: auto; } .wide:focus-visible { outline: 2px solid var(--soft); }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
caption { text-align: left; padding: .3rem 0; font-size: .88rem; }
th, td { padding: .32rem .6rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top;
  font-variant-numeric: tabular-nums; }
thead th { border-bottom: 2px solid var(--line); font-weight: 600; vertical-align: bottom; }
tbody th { text-align: left; font-weight: 500; white-space: nowrap; } .text { text-align: left; }
img { display: block; width: 100%; height: auto; }
@media print { main { max-width: none; padding: 0; } section { break-inside: auto; } img, tr { break-inside: avoid; } }
"""


# --- The report: one HTML page that needs nothing else, no script, no request, light and dark.

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""What the page may load: what it carries, and nothing else."""


def write_page(results: Results) -> str:
    """The whole page; needs matplotlib."""
    names = ", ".join(workload.name for workload in results.workloads)
    several = len(results.workloads) > 1
    body = [
        "<header><h1>Backtest</h1>",
        f"<p class=sub>{escape(names)}</p></header>",
        _verdict(results.verdict, level=2) if results.verdict else f"<p class=words>{escape(NOT_ALIKE)}</p>",
        *([_of_each(results)] if several or results.failed else []),
        *([_overall(results)] if several and results.standings else []),
        *(_workload(workload, alone=not several) for workload in results.workloads),
        _rules(),
        f"<footer>kedastral {escape(__version__)}</footer>",
    ]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            '<link rel="icon" href="data:,">',
            f"<title>Backtest of {escape(names)}</title>",
            f"<style>{STYLE}</style>",
            "</head>",
            "<body><main>",
            *body,
            "</main></body>",
            "</html>\n",
        ]
    )


def _verdict(verdict: Verdict, *, level: int) -> str:
    remark = f"<p>{escape(verdict.remark)}</p>" if verdict.remark else ""
    command = f"<pre>{escape(_command(verdict))}</pre>" if verdict.outlook is Outlook.BETTER else ""
    return (
        f'<section class="verdict {verdict.outlook}" aria-label="Verdict"><h{level}>Verdict</h{level}>'
        f"<p class=words>{escape(verdict.words)}</p><p>{escape(verdict.advice)}</p>{remark}{command}</section>"
    )


def _command(verdict: Verdict) -> str:
    """What to run, with words in capitals for what a backtest does not know."""
    caution = [f"# {verdict.caution}"] if verdict.caution else []
    if verdict.spec:
        return "\n".join([*caution, "spec:", *(f"  {line}" for line in verdict.spec)])
    words = ("kedastral run", "--workload NAME", "--prom-url http://PROMETHEUS:9090", "--prom-query 'QUERY'")
    return "\n".join([*caution, " \\\n  ".join([*words, *verdict.flags])])


def _of_each(results: Results) -> str:
    rows = [(workload_name(one), *standing_cells(one.ours)) for one in results.workloads]
    rows += [failed_row(one) for one in results.failed]
    return f"<section><h2>Each workload</h2>{_table(OF_EACH, ('workload', *FIGURES), rows)}</section>"


def _overall(results: Results) -> str:
    rows = [(policy_name(standing.contestant), *standing_cells(standing)) for standing in results.standings]
    table = _table("All workloads: geometric means; hours, minutes summed", ("policy", *FIGURES), rows)
    return f"<section><h2>All workloads</h2>{table}<p class=note>{escape(FOOT)}</p></section>"


def _workload(workload: WorkloadResults, *, alone: bool) -> str:
    contest = workload.contest
    parts = [
        f"<h2>{escape(workload.name)}</h2>",
        f"<p>{escape(_setting(workload))}</p>",
        "" if alone else _verdict(workload.verdict, level=3),
        _figures(workload),
        "<h3>Load and forecast</h3>",
        _image(plot_load(contest)),
        f"<p class=note>{escape(_band(contest))}</p>",
        "<h3>Replicas</h3>",
        _image(plot_replicas(contest)),
        "<p class=note>Grey: pods needed. Line: pods ready. Red marks: minutes with load unserved.</p>",
        "<h3>Cost against service</h3>",
        _image(plot_curves(workload.standings)),
        f"<p class=note>{AS_SET}: where the curves cross the vertical line through the HPA's large mark.</p>",
        "<h3>Accuracy</h3>",
        _image(plot_accuracy(workload.accuracy)),
        "<h3>The worst shortages</h3>",
        _worst(workload.worst),
    ]
    return f"<section>{''.join(parts)}</section>"


def _band(contest: PolicyComparison) -> str:
    name = contest.arena.model.name
    if contest.arena.rules.calibrated:
        return f"The forecast of {name} alone; the band of uncertainty around it, which is planned for, is not drawn."
    return f"{name} gives no band of uncertainty, so none is drawn."


def _setting(workload: WorkloadResults) -> str:
    contest = workload.contest
    judged, rules = contest.arena.trial.judged, contest.arena.rules
    return (
        f"Judged from {judged.start:%Y-%m-%d %H:%M} to {judged.time_at(len(judged)):%Y-%m-%d %H:%M} UTC in steps of "
        f"{write_duration(judged.step)}. A pod sustains {show_load(contest.arena.trial.target_per_pod)} and takes "
        f"{write_duration(rules.cluster.lead_time)} from the order until it serves; {rules.plan.bounds.min} to "
        f"{rules.plan.bounds.max or 'any number of'} pods. Forecasts by {contest.arena.model.name}."
    )


def _figures(workload: WorkloadResults) -> str:
    rows = [(policy_name(standing.contestant), *standing_cells(standing)) for standing in workload.standings]
    rows.append(("oracle (sees the future)", *oracle_cells(workload.contest.oracle)))
    promise = "" if workload.promise is None else f"<p>Kedastral: {escape(workload.promise.words)}.</p>"
    table = _table(AS_SET, ("policy", *FIGURES), rows)
    return f"{table}{promise}<p class=note>{escape(FOOT)}</p>"


def _worst(worst: Sequence[Shortage]) -> str:
    if not worst:
        return "<p>No load went unserved.</p>"
    rows = [
        (
            f"{one.at:%Y-%m-%d %H:%M}",
            show_load(one.load),
            f"{one.ready:g}",
            show_load(one.unserved),
            write_duration(one.lasted),
            one.reason,
        )
        for one in worst
    ]
    head = ("UTC", "load", "pods ready", "unserved", "shortage lasted", "why")
    return _table("The worst step of each of Kedastral's worst shortages", head, rows, words=(5,))


def _rules() -> str:
    return (
        "<section><h2>What was simulated</h2><p>Every policy saw the load up to the minute it decided in, and no more; "
        "only the oracle knew what was to come. Pods served one lead time after they were asked for. Load that found "
        "no pod was lost, not queued. Node provisioning, failing pods and the effect of a shortage on the load itself "
        "are left out.</p></section>"
    )


def _table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], words: Sequence[int] = ()) -> str:
    """The first cell of each row is its header; columns in ``words`` hold text, the others figures."""
    titles = "".join(f'<th scope="col"{_words(i, words)}>{escape(title)}</th>' for i, title in enumerate(head))
    lines = []
    for first, *cells in rows:
        figures = "".join(f"<td{_words(i, words)}>{escape(cell)}</td>" for i, cell in enumerate(cells, 1))
        lines.append(f'<tr><th scope="row">{escape(first)}</th>{figures}</tr>')
    body = f"<caption>{escape(caption)}</caption><thead><tr>{titles}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return f'<div class=wide tabindex=0 role=region aria-label="{escape(caption)}"><table>{body}</table></div>'


def _words(column: int, words: Sequence[int]) -> str:
    return " class=text" if column == 0 or column in words else ""


def _image(plot: Plot) -> str:
    light, dark = (f"data:image/png;base64,{base64.b64encode(png).decode()}" for png in (plot.light, plot.dark))
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{escape(plot.alt)}"></picture>'
    )
