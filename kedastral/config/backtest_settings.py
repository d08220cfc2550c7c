# SPDX-License-Identifier: Apache-2.0
"""Settings that `backtest` has beside those of `run`: which history, by which rules, and where the results go."""

from enum import StrEnum
from pathlib import Path

import attrs

from kedastral.config.fields import above, at_least, between, setting
from kedastral.config.units import (
    HttpUrl,
    Name,
    Seconds,
    read_choice,
    read_duration,
    read_file_paths,
    read_name,
    read_number,
    read_output_path,
    read_text,
    read_url,
)
from kedastral.config.workload_settings import PlanSettings


class Auto(float):
    """A pod as large as the history says; infinite, so that no plan takes it for a number."""

    def __repr__(self) -> str:
        return "auto"


AUTO = Auto("inf")


class HpaKind(StrEnum):
    """How the HPA around every policy behaves."""

    UNLIMITED = "unlimited"
    KUBERNETES = "kubernetes"


def read_target(text: str) -> float:
    """A number above 0, or ``auto``."""
    if text == "auto":
        return AUTO
    try:
        return read_number(text)
    except ValueError:
        raise ValueError("a finite number, or auto") from None


@attrs.frozen(kw_only=True)
class HistorySettings:
    """Which history is replayed: CSV files, or a query to Prometheus."""

    csv: tuple[Path, ...] = setting(
        "--csv",
        "BACKTEST_CSV",
        read_file_paths,
        "history as timestamp,value, gzipped or not; repeatable (in the variable one a line), a workload each",
        default="",
        kind="files",
    )
    url: HttpUrl | None = setting(
        "--prom-url", "PROM_URL", read_url, "base address of Prometheus; a path prefix is kept", kind="URL"
    )
    query: str | None = setting(
        "--prom-query",
        "PROM_QUERY",
        read_text,
        "PromQL whose value is the load; several series are summed",
        kind="PromQL",
    )
    days: float = setting(
        "--days",
        "BACKTEST_DAYS",
        read_number,
        "how many days of history to read from Prometheus, up to now",
        default="14",
        check=between(1, 400),
        kind="number",
    )
    workload: Name | None = setting(
        "--workload",
        "WORKLOAD",
        read_name,
        "with --config the ForecastPolicy that is replayed, by default each of them; else what the tables call a "
        "single workload, by default the name of its file, or prometheus",
        kind="name",
    )


@attrs.frozen(kw_only=True)
class BacktestPlan(PlanSettings):
    """How load becomes replicas; a pod's share may be found from the history."""

    target_per_pod: float = setting(
        "--target-per-pod",
        "TARGET_PER_POD",
        read_target,
        "load that one pod sustains, in the unit of the query",
        default="auto",
        check=above(0),
        kind="number",
    )


@attrs.frozen(kw_only=True)
class BacktestRules:
    """How policies are judged."""

    evaluated: float = setting(
        "--evaluated",
        "BACKTEST_EVALUATED",
        read_number,
        "share of the history, at its end, that is replayed; what lies before is what policies know",
        default="0.3",
        check=between(0.01, 1),
        kind="number",
    )
    warm_up: Seconds = setting(
        "--warm-up",
        "BACKTEST_WARM_UP",
        read_duration,
        "begin of the replay that does not count, so that no policy is judged by how it starts",
        default="1d",
        check=at_least(0),
        kind="duration",
    )
    hpa: HpaKind = setting(
        "--hpa",
        "BACKTEST_HPA",
        read_choice(HpaKind),
        "HPA around the policies: kubernetes has its default behavior for all, unlimited no limits of rate",
        default="unlimited",
        kind="choice",
    )
    sync_period: Seconds | None = setting(
        "--sync-period",
        "BACKTEST_SYNC_PERIOD",
        read_duration,
        "time between two decisions of the HPA; by default 1m, and 15s with --hpa kubernetes",
        check=above(0),
        kind="duration",
    )
    polling_interval: Seconds | None = setting(
        "--polling-interval",
        "BACKTEST_POLLING_INTERVAL",
        read_duration,
        "time between two polls of KEDA; by default 1m, and 30s with --hpa kubernetes",
        check=above(0),
        kind="duration",
    )


@attrs.frozen(kw_only=True)
class BacktestOutput:
    """Where results go beside the tables in the terminal."""

    json: Path | None = setting(
        "--json", "BACKTEST_JSON", read_output_path, "file for every figure, as JSON", kind="file"
    )
    timeline: Path | None = setting(
        "--timeline",
        "BACKTEST_TIMELINE",
        read_output_path,
        "file for what every policy did, step by step, as CSV",
        kind="file",
    )
    report: Path | None = setting(
        "--report",
        "BACKTEST_REPORT",
        read_output_path,
        "file for a report with plots, as one HTML page that needs nothing else; wants matplotlib",
        kind="file",
    )
