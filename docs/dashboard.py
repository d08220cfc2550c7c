# SPDX-License-Identifier: Apache-2.0
"""Makes deploy/grafana/kedastral.json, so that panels are a table of expressions; `make docs` writes the file.

The first row shows all workloads of ``namespace``, the second one ``workload``, the last the processes. ``stale`` and
``lead`` are ``--stale-after`` in seconds and ``--lead-time``; ``deployment`` is a pattern of the Deployments whose pods
kube-state-metrics counts; ``page`` is where Kedastral's own page is.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

FILE = Path(__file__).resolve().parents[1] / "deploy" / "grafana" / "kedastral.json"
SITE = "https://kedastral.io"
"""Where what `make site` builds of these pages is published; the alerts link their runbooks there."""
SOURCE = {"type": "prometheus", "uid": "${source}"}
EVERY = 'workload=~"$namespace.*"'
ONE = 'workload="$workload"'
WIDTH = 24

Json = dict[str, Any]


@attrs.frozen
class Query:
    """One expression of a panel, and the words of its lines; ``{{label}}`` in them is a label's value."""

    expr: str
    legend: str = ""


@attrs.frozen
class Panel:
    """One panel: what it asks, and how it is drawn. ``width`` is of 24; ``details`` go into its JSON as they are."""

    title: str
    meaning: str
    queries: Sequence[Query]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    overrides: Sequence[Json] = ()
    defaults: Mapping[str, Any] = attrs.field(factory=dict)
    details: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen
class Row:
    """A heading with the panels below it, laid out from left to right."""

    title: str
    panels: Sequence[Panel]


def each(metric: str) -> str:
    """The value of each workload; the largest where several pods have one."""
    return f"max by (workload) ({metric}{{{EVERY}}})"


def one(metric: str, *by: str, offset: str = "") -> str:
    """The value of the workload that was chosen, for each value of ``by``; the largest where several pods have one."""
    past = f" offset {offset}" if offset else ""
    return f"max by ({', '.join(('workload', *by))}) ({metric}{{{ONE}}}{past})"


def share(metric: str, of: str) -> str:
    """How much a counter of the workload grows for each unit that another does, over an hour."""
    return " / ".join(f"max by (workload) (rate({name}{{{ONE}}}[1h]))" for name in (metric, of))


def quantile(metric: str, of: float, *by: str) -> str:
    """A quantile of a histogram over ten minutes."""
    return f"histogram_quantile({of}, sum by ({', '.join(('le', *by))}) (rate({metric}_bucket[10m])))"


def because(expr: str, why: str) -> str:
    """``expr`` with the label ``why``, for the table of what needs attention."""
    return f'label_replace({expr}, "why", "{why}", "", "")'


def colour(*steps: tuple[str, float]) -> Json:
    """Colours from thresholds on: green, then each of ``steps``."""
    found: list[Json] = [{"color": "green", "value": None}]
    return {"mode": "absolute", "steps": found + [{"color": name, "value": value} for name, value in steps]}


def named(legend: str, **properties: Any) -> Json:
    """How the lines or the column with this name are drawn."""
    found = [{"id": name.replace("__", "."), "value": value} for name, value in properties.items()]
    return {"matcher": {"id": "byName", "options": legend}, "properties": found}


SHOWN_ALONE = "/d/kedastral?${__url_time_range}&${source:queryparam}&${namespace:queryparam}"
CHOOSE = named("Workload", links=[{"title": "Show it", "url": SHOWN_ALONE + "&var-workload=${__value.text}"}])

ATTENTION = " or ".join(
    (
        because(each("kedastral_workload_failing"), "failing: no new forecast can be made"),
        because(each("kedastral_forecast_age_seconds") + " > $stale", "stale: the forecast is too old"),
        because(each("kedastral_raw_counter") + " == 1", "raw counter: the query needs a rate()"),
        because(each("kedastral_replicas_without_max") + " > 0", "limited by max: the plan asks for more replicas"),
        because(each("kedastral_steering_at_cap") + " == 1", "at cap: more headroom does not help"),
        because(each("kedastral_budget_spent_ratio") + " > 1", "over error budget: under-provisioned for too long"),
        because(each("kedastral_lost_series") + " > 0", "lost series: the load may be more than is measured"),
        because(each("kedastral_partial_answer") + " == 1", "partial: the data source answers in part"),
        because(each("kedastral_standing_down") + " == 1", "standing down: falls back to a naive forecast"),
    )
)
"""Each workload that needs attention with the reasons, as on Kedastral's page."""


def _stat(title: str, meaning: str, expr: str, *steps: tuple[str, float], unit: str = "short") -> Panel:
    return Panel(
        title,
        meaning,
        [Query(expr)],
        unit,
        kind="stat",
        width=4,
        height=4,
        defaults={"thresholds": colour(*steps)},
        details={"options": {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"}},
    )


def _table(columns: Mapping[str, str], **units: Json) -> Json:
    """A table's details: one row for each workload, whose columns are the values of the queries, A to Z."""
    names = {"workload": "Workload", **columns}
    hidden = {"Time": True}
    return {
        "transformations": [
            {"id": "merge", "options": {}},
            {"id": "organize", "options": {"excludeByName": hidden, "renameByName": names}},
        ],
        "options": {"showHeader": True, "cellHeight": "sm"},
        **units,
    }


OVERVIEW = Row(
    "All workloads",
    [
        _stat(
            "Workloads",
            "Workloads that are forecast.",
            f"count(count by (workload) (kedastral_ticks_missed_total{{{EVERY}}})) or vector(0)",
        ),
        _stat(
            "Failing",
            "Workloads whose newest cycle gave no forecast.",
            f"count({each('kedastral_workload_failing')}) or vector(0)",
            ("red", 1),
        ),
        _stat(
            "Stale",
            "Workloads whose forecast is older than --stale-after; KEDA is told what --on-stale says.",
            f"count({each('kedastral_forecast_age_seconds')} > $stale) or vector(0)",
            ("red", 1),
        ),
        _stat(
            "Over budget",
            "Workloads that were short of pods for more minutes than their service level allows.",
            f"count({each('kedastral_budget_spent_ratio')} > 1) or vector(0)",
            ("orange", 1),
        ),
        _stat(
            "Questions from KEDA, a minute",
            "Nothing here: the ScaledObject is wrong, KEDA is down, or the network forbids it.",
            'sum(rate(kedastral_scaler_requests_total{method="GetMetrics"}[5m])) * 60',
        ),
        _stat(
            "Answers without a forecast, a minute",
            "KEDA asked, and the forecast was missing or stale.",
            "sum(rate(kedastral_scaler_snapshot_stale_total[5m])) * 60",
            ("red", 0.01),
        ),
        Panel(
            "Needs attention",
            "Each workload that needs somebody, and why. Empty is good.",
            [Query(ATTENTION)],
            kind="table",
            width=10,
            height=9,
            overrides=[CHOOSE],
            details=_table({"why": "Why", "Value": "Value"}),
        ),
        Panel(
            "Every workload",
            "What each has now. Error and loss compare with the last value: below 100 % the forecast earns its place.",
            [
                Query(each("kedastral_observed_load")),
                Query(each("kedastral_desired_replicas")),
                Query(each("kedastral_scaler_returned_replicas")),
                Query(each("kedastral_budget_spent_ratio")),
                Query(each("kedastral_lead_error_ratio")),
                Query(each("kedastral_forecast_age_seconds")),
            ],
            kind="table",
            width=14,
            height=9,
            overrides=[
                named("Error budget spent", unit="percentunit"),
                named("Error", unit="percentunit"),
                named("Age", unit="s"),
                CHOOSE,
            ],
            details=_table(
                {
                    "Value #A": "Load",
                    "Value #B": "Wanted",
                    "Value #C": "Told",
                    "Value #D": "Error budget spent",
                    "Value #E": "Error",
                    "Value #F": "Age",
                }
            ),
        ),
    ],
)

BAND = [
    named("forecast", custom__lineStyle={"fill": "dash", "dash": [8, 6]}),
    named("planned for", custom__fillBelowTo="forecast", custom__lineWidth=1, custom__fillOpacity=12),
]

WORKLOAD = Row(
    "One workload: $workload",
    [
        Panel(
            "Load: measured, and what was forecast for it",
            "Forecast and planned for are those of a lead time before: did the load come to where it was expected? Set "
            "the lead time above.",
            [
                Query(one("kedastral_observed_load"), "measured"),
                Query(one("kedastral_forecast_load", offset="$lead"), "forecast"),
                Query(one("kedastral_upper_load", offset="$lead"), "planned for"),
            ],
            width=12,
            overrides=BAND,
        ),
        Panel(
            "Load ahead",
            "What is measured now, and what is forecast and planned for a lead time from now.",
            [
                Query(one("kedastral_observed_load"), "measured"),
                Query(one("kedastral_forecast_load"), "forecast"),
                Query(one("kedastral_upper_load"), "planned for"),
            ],
            width=12,
            overrides=BAND,
        ),
        Panel(
            "Replicas: planned, told KEDA, ordered, Ready",
            "What the plan says, what KEDA was last told, what the Deployment orders, what is Ready. The last two "
            "need kube-state-metrics, and the Deployment's name above.",
            [
                Query(one("kedastral_desired_replicas"), "planned"),
                Query(one("kedastral_scaler_returned_replicas"), "told KEDA"),
                Query('kube_deployment_spec_replicas{deployment=~"$deployment"}', "ordered {{deployment}}"),
                Query('kube_deployment_status_replicas_ready{deployment=~"$deployment"}', "Ready {{deployment}}"),
            ],
            width=12,
            defaults={"custom": {"lineInterpolation": "stepAfter"}},
        ),
        Panel(
            "Is the forecast used",
            "ok, or why something else is planned for.",
            [Query(one("kedastral_forecast_status", "status") + " == 1", "{{status}}")],
            width=12,
            kind="state-timeline",
            details={"options": {"showValue": "never", "mergeValues": True}},
        ),
        Panel(
            "Error and loss, against the last value",
            "Below 100 % the forecast earns its place.",
            [
                Query(one("kedastral_lead_error_ratio"), "error"),
                Query(one("kedastral_forecast_loss_ratio"), "loss of the quantile"),
            ],
            "percentunit",
        ),
        Panel(
            "Coverage of the 0.90 quantile",
            "Should stay near 90 %.",
            [Query(one("kedastral_quantile_coverage_ratio"), "now")],
            "percentunit",
        ),
        Panel(
            "Load without a pod, in hindsight",
            "Share of the load that found no pod.",
            [Query(share("kedastral_unserved_pod_seconds_total", "kedastral_needed_pod_seconds_total"), "now")],
            "percentunit",
        ),
        Panel(
            "Spare pods, in hindsight",
            "Pods that stood idle for each that was needed.",
            [Query(share("kedastral_spare_pod_seconds_total", "kedastral_needed_pod_seconds_total"), "now")],
            "percentunit",
        ),
        Panel(
            "Budget of the service level spent",
            "100 % is all of the minutes that may be short of pods, over four weeks.",
            [
                Query(one("kedastral_budget_spent_ratio"), "spent"),
                Query(one("kedastral_service_level_target"), "service level"),
            ],
            "percentunit",
        ),
        Panel(
            "Short minutes",
            "Minutes judged short of pods, over four weeks. Only a higher --max would have helped those at --max.",
            [
                Query(one("kedastral_short_minutes"), "all"),
                Query(one("kedastral_short_minutes_at_max"), "at --max"),
                Query(
                    f"max by (workload) (increase(kedastral_short_seconds_total{{{ONE}}}[1d])) / 60", "in the last day"
                ),
            ],
        ),
        Panel(
            "Steering",
            "What the upper quantile is multiplied by; 1 of at cap says that it cannot rise any further.",
            [
                Query(one("kedastral_steering_factor"), "factor"),
                Query(one("kedastral_steering_at_cap"), "at cap"),
            ],
        ),
        Panel(
            "Pods kept after a peak",
            "How long the pods of a past peak are kept, since no factor could cover its return.",
            [Query(one("kedastral_steering_hold_seconds"), "now")],
            "s",
        ),
        Panel(
            "Pods for the load of other days",
            "The share of the last days whose load at this time gets its pods ahead.",
            [Query(one("kedastral_steering_seasonal_quantile"), "now")],
            "percentunit",
        ),
        Panel(
            "Quality of the measurements",
            "Points left out as measurement faults, series that disappeared with their load, and partial answers.",
            [
                Query(one("kedastral_outlier_points"), "outliers"),
                Query(one("kedastral_lost_series"), "lost series"),
                Query(one("kedastral_partial_answer"), "partial"),
            ],
        ),
        Panel(
            "Weight of the experts",
            "Who is listened to, one lead time ahead.",
            [Query(one("kedastral_expert_weight_ratio", "expert"), "{{expert}}")],
            "percentunit",
            width=12,
        ),
        Panel(
            "Errors of the experts, against the last value",
            "Who would have been right.",
            [Query(one("kedastral_expert_error_ratio", "expert"), "{{expert}}")],
            "percentunit",
            width=12,
        ),
        Panel(
            "Age of the forecast",
            "Compare with --stale-after.",
            [Query(one("kedastral_forecast_age_seconds"), "now")],
            "s",
        ),
        Panel(
            "Failures",
            "1 while the newest cycle of a workload gave no forecast, by reason; empty when all is well.",
            [
                Query(
                    one("kedastral_workload_failing", "component", "reason"),
                    "{{component}}, {{reason}}",
                )
            ],
        ),
        Panel(
            "Late points",
            "The age after which points of the query no longer change; younger ones are not used.",
            [Query(one("kedastral_settling_seconds"), "now")],
            "s",
        ),
    ],
)

PROCESS = Row(
    "The process",
    [
        Panel(
            "Cycles per minute",
            "Plans made, and cycles skipped because the previous one took longer than --interval.",
            [
                Query("sum(rate(kedastral_capacity_compute_seconds_count[5m])) * 60", "plans"),
                Query("sum(rate(kedastral_ticks_missed_total[5m])) * 60", "missed"),
            ],
        ),
        Panel(
            "Errors per minute",
            "docs/metrics.md has the reasons.",
            [Query("sum by (component, reason) (rate(kedastral_errors_total[5m])) * 60", "{{component}}, {{reason}}")],
        ),
        Panel(
            "Time of a cycle, 95 %",
            "Reading the load, forecasting, planning; how late cycles begin grows when the process has too much to do.",
            [
                Query(quantile("kedastral_adapter_collect_seconds", 0.95), "reading"),
                Query(quantile("kedastral_model_predict_seconds", 0.95, "model"), "forecasting ({{model}})"),
                Query(quantile("kedastral_capacity_compute_seconds", 0.95), "planning"),
                Query(quantile("kedastral_tick_lag_seconds", 0.95), "late"),
            ],
            "s",
        ),
        Panel(
            "gRPC latency, 99 %",
            "How long KEDA waits for an answer; it gives up after 3 s.",
            [Query(quantile("kedastral_scaler_request_seconds", 0.99, "method"), "{{method}}")],
            "s",
        ),
        Panel(
            "gRPC calls per second",
            "The two streams stay open until KEDA ends them: CANCELLED is their ordinary end.",
            [Query("sum by (method, status) (rate(kedastral_scaler_requests_total[5m]))", "{{method}} {{status}}")],
        ),
        Panel(
            "Learning, 95 %",
            "Time to learn from a history before the first forecast, or the margin of a new lead time.",
            [Query(quantile("kedastral_model_learn_seconds", 0.95, "model"), "{{model}}")],
            "s",
        ),
        Panel(
            "Configuration",
            "1 while the configuration in force is the one in the files.",
            [
                Query("min by (instance) (kedastral_config_last_reload_successful)", "in force {{instance}}"),
                Query("sum by (result) (increase(kedastral_config_reloads_total[1h]))", "reloads: {{result}}"),
            ],
        ),
        Panel(
            "What a restart keeps",
            "Workloads whose newest state is not saved, or was not when another pod took over, bytes written a second, "
            "and log lines that were dropped.",
            [
                Query("sum(kedastral_unsaved_states)", "unsaved states"),
                Query("sum(increase(kedastral_lost_states_total[1h]))", "lost states an hour"),
                Query("sum by (kind) (rate(kedastral_kept_saves_total[5m]))", "saves a second: {{kind}}"),
                Query("sum by (kind) (rate(kedastral_kept_bytes_total[5m]))", "bytes a second: {{kind}}"),
                Query("sum(increase(kedastral_log_lines_dropped_total[5m]))", "log lines dropped"),
            ],
        ),
        Panel(
            "Redis",
            "Only with --storage redis: whether it answers, and forecasts that are not there yet.",
            [
                Query("min by (operation) (kedastral_storage_up)", "up: {{operation}}"),
                Query("sum(kedastral_storage_pending_writes)", "pending"),
                Query("sum by (outcome) (rate(kedastral_storage_writes_total[5m]))", "writes a second: {{outcome}}"),
            ],
        ),
        Panel(
            "Pods that share the work",
            "Only with --storage redis: the pods that each knows, and the workloads that each forecasts.",
            [
                Query("kedastral_pods", "pods, says {{instance}}"),
                Query("kedastral_workloads_held", "workloads of {{instance}}"),
            ],
        ),
        Panel(
            "Memory",
            "Resident memory of each process.",
            [Query("process_resident_memory_bytes and on (instance) kedastral_build_info", "{{instance}}")],
            "bytes",
        ),
        Panel(
            "Processor",
            "Cores that each process uses.",
            [Query("rate(process_cpu_seconds_total[5m]) and on (instance) kedastral_build_info", "{{instance}}")],
        ),
    ],
)

ROWS = (OVERVIEW, WORKLOAD, PROCESS)

WORDS = f"""\
Nothing here? `kubectl -n kedastral logs deploy/kedastral` says what fails. The [page]($page/) of Kedastral explains
each number of a workload; so does `kedastral explain`. `kedastral doctor --cluster` finds what is wrong with
ScaledObjects, settings and queries, with the remedy. [Alerts and what to do about them]({SITE}/runbooks/) ·
[every metric]({SITE}/metrics/)"""


def _variables() -> list[Json]:
    keys = "label_values(kedastral_ticks_missed_total, workload)"
    query = {"type": "query", "datasource": SOURCE, "refresh": 2, "sort": 1}
    namespace = {"name": "namespace", "label": "Namespace", "query": keys, "regex": "/^(?<value>(?<text>[^\\/]+)\\/)/"}
    every = {"includeAll": True, "multi": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"}}
    workload = {"name": "workload", "label": "Workload"}
    of_namespace = {"query": f"label_values(kedastral_ticks_missed_total{{{EVERY}}}, workload)"}
    return [
        {"name": "source", "type": "datasource", "query": "prometheus", "label": "Prometheus"},
        {**query, **namespace, **every},
        {**query, **workload, **of_namespace},
        _text("deployment", "Deployment (a pattern)", ""),
        _text("lead", "Lead time", "5m"),
        _text("stale", "Stale after (seconds)", "120"),
        _text("page", "Kedastral's page", "http://localhost:8081"),
    ]


def _text(name: str, label: str, value: str) -> Json:
    current = {"text": value, "value": value}
    return {"name": name, "type": "textbox", "label": label, "query": value, "current": current}


def _panels() -> Iterator[Json]:
    number, top = 1, 2
    place = {"h": 2, "w": WIDTH, "x": 0, "y": 0}
    options = {"mode": "markdown", "content": WORDS}
    yield {"id": number, "type": "text", "title": "", "gridPos": place, "options": options}
    for row in ROWS:
        number += 1
        yield {"id": number, "type": "row", "title": row.title, "gridPos": {"h": 1, "w": WIDTH, "x": 0, "y": top}}
        top += 1
        left = highest = 0
        for panel in row.panels:
            if left + panel.width > WIDTH:
                left, top, highest = 0, top + highest, 0
            number += 1
            yield _panel(panel, number, left, top)
            left, highest = left + panel.width, max(highest, panel.height)
        top += highest


def _panel(panel: Panel, number: int, left: int, top: int) -> Json:
    is_now = panel.kind in ("table", "stat")
    asked: Json = {"instant": True, "range": False} if is_now else {}
    if panel.kind == "table":
        asked["format"] = "table"
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.meaning,
        "datasource": SOURCE,
        "gridPos": {"h": panel.height, "w": panel.width, "x": left, "y": top},
        "fieldConfig": {"defaults": {"unit": panel.unit, **panel.defaults}, "overrides": list(panel.overrides)},
        "targets": [
            {"refId": chr(ord("A") + at), "expr": query.expr, "legendFormat": query.legend, **asked}
            for at, query in enumerate(panel.queries)
        ],
        **panel.details,
    }


def _link(title: str, url: str) -> Json:
    return {"title": title, "type": "link", "icon": "external link", "url": url, "targetBlank": True, "tags": []}


def make_dashboard() -> Json:
    """The dashboard, as Grafana imports it."""
    return {
        "title": "Kedastral",
        "uid": "kedastral",
        "schemaVersion": 39,
        "version": 2,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "tags": ["keda", "autoscaling"],
        "links": [
            _link("Kedastral's page", "$page/"),
            _link("Runbooks", f"{SITE}/runbooks/"),
            _link("Metrics", f"{SITE}/metrics/"),
        ],
        "templating": {"list": _variables()},
        "annotations": {"list": []},
        "panels": list(_panels()),
    }


def render() -> str:
    """The file's text."""
    return json.dumps(make_dashboard(), indent=1) + "\n"
