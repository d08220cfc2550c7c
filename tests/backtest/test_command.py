# SPDX-License-Identifier: Apache-2.0
"""`kedastral backtest` as a user meets it: tables, files, and one clear line for each mistake."""

import csv
import gzip
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from kedastral.cli import backtest as command
from kedastral.settings.commands import BacktestSettings
from kedastral.settings.schema import settings_of
from tests.backtest.loads import SHORT, STEP, call, wave, write_csv

pytestmark = pytest.mark.slow

BASELINE = ("--model", "baseline")
"""Planned by a headroom; the tests know its figures."""
POLICIES = ["kedastral", "hpa", "far-end", "fixed"]
"""The policies that can be compared on three days."""


@pytest.fixture(autouse=True)
def no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in settings_of(BacktestSettings):
        monkeypatch.delenv(setting.env, raising=False)


@pytest.fixture
def history(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "shop.csv", wave(432))


def test_a_table_a_verdict_and_flags_are_printed(monkeypatch: pytest.MonkeyPatch, history: Path) -> None:
    ended = call(monkeypatch, "--csv", history, *SHORT, *BASELINE)
    assert ended.code == 0
    assert "shop: 19h40m from 2026-03-04 04:20 UTC" in ended.out
    for name in ("kedastral, headroom 1.2", "HPA at 80 %", "far end only", "fixed", "oracle"):
        assert name in ended.out
    words = " ".join(ended.out.split())
    assert "--max 400 " not in words
    assert "One replay a row; every figure of the verdict is that of a row." in words
    assert "from the load's peak, not from a measurement on your pods" in words
    assert "reached" not in words
    assert re.search(r"--headroom [\d.]+ --lead-time 20m --min 1 --max \d+ --target-per-pod [\d.]+", words)


def test_a_service_level_is_reported_with_its_result(
    monkeypatch: pytest.MonkeyPatch, history: Path, tmp_path: Path
) -> None:
    target, report = tmp_path / "figures.json", tmp_path / "report.html"
    flags = ("--service-level", "0.95", "--target-per-pod", "7.5", "--json", target, "--report", report)
    ended = call(monkeypatch, "--csv", history, *SHORT, *flags)
    slo = json.loads(target.read_text())["workloads"][0]["slo"]
    assert (slo["serviceLevel"], slo["minutesJudged"]) == (0.95, 1180)
    assert slo["reached"] == pytest.approx(1 - slo["minutesShort"] / 1180)
    said = f"service level 0.95: [0-9.]+ % reached; {slo['minutesShort']:.0f} of 1,180 minutes short, error budget 59"
    assert re.search(said, " ".join(ended.out.split()))
    assert re.search(said, report.read_text())
    assert "One replay a row; every figure of the verdict is that of a row" in report.read_text()
    assert " keeps 95 % of the minutes for the fewest pod-hours, " in " ".join(ended.out.split())
    assert "--service-level 0.95 " in " ".join(ended.out.split())
    assert "measurement" not in ended.out


def test_every_figure_is_in_the_json(monkeypatch: pytest.MonkeyPatch, history: Path, tmp_path: Path) -> None:
    other = write_csv(tmp_path / "other.csv", [2 * value for value in wave(432)])
    target = tmp_path / "figures.json"
    ended = call(monkeypatch, "--csv", history, "--csv", other, *SHORT, "--json", target)
    assert ended.code == 0
    assert "all 2 workloads" in ended.out
    document: dict[str, Any] = json.loads(target.read_text())
    assert [one["workload"] for one in document["workloads"]] == ["shop", "other"]
    assert [one["policy"] for one in document["policies"]] == POLICIES
    first, second = (one["policies"] for one in document["workloads"])
    for ours, theirs, both in zip(first, second, document["policies"], strict=True):
        assert ours["costAgainstOracle"] == pytest.approx(theirs["costAgainstOracle"])  # twice the load, twice the pod
        assert both["podHours"] == pytest.approx(ours["podHours"] + theirs["podHours"])
    hpa = next(one for one in first if one["policy"] == "hpa")
    assert hpa["againstHpa80"]["costAtEqualViolation"] <= 1.0
    assert document["verdict"]["outlook"] in {"better", "even", "worse", "too-little"}


def test_the_timeline_has_every_policy_step_by_step(
    monkeypatch: pytest.MonkeyPatch, history: Path, tmp_path: Path
) -> None:
    target, figures = tmp_path / "timeline.csv", tmp_path / "figures.json"
    assert call(monkeypatch, "--csv", history, *SHORT, *BASELINE, "--timeline", target, "--json", figures).code == 0
    with target.open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:7] == ["timestamp", "policy", "demand", "recommended", "ordered", "ready", "unserved"]
    by_policy: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_policy.setdefault(row["policy"], []).append(row)
    assert {len(of_one) for of_one in by_policy.values()} == {118}
    assert list(by_policy)[2:] == ["far end only", "fixed at the past peak", "oracle"]
    assert list(by_policy)[:2] == ["kedastral", "HPA at 80 %"]
    one = json.loads(figures.read_text())["workloads"][0]
    unserved = sum(float(row["unserved"]) for row in by_policy["HPA at 80 %"])
    demand = sum(float(row["demand"]) for row in by_policy["HPA at 80 %"])
    assert unserved / demand == pytest.approx(one["policies"][1]["unserved"])
    pods = sum(float(row["ordered"]) for row in by_policy["HPA at 80 %"]) * STEP / 3600
    assert pods == pytest.approx(one["policies"][1]["podHours"])


def test_one_variable_names_several_files(monkeypatch: pytest.MonkeyPatch, history: Path, tmp_path: Path) -> None:
    other = write_csv(tmp_path / "other.csv", wave(432))
    monkeypatch.setenv("BACKTEST_CSV", f"{history}\n{other}\n")
    assert "all 2 workloads" in call(monkeypatch, *SHORT, *BASELINE).out


def test_a_pod_of_a_given_size_is_taken_as_it_is(
    monkeypatch: pytest.MonkeyPatch, history: Path, tmp_path: Path
) -> None:
    target = tmp_path / "figures.json"
    flags = ("--target-per-pod", "7.5", "--min", "3", "--max", "9", "--json", target)
    assert call(monkeypatch, "--csv", history, *SHORT, *BASELINE, *flags).code == 0
    one = json.loads(target.read_text())["workloads"][0]
    assert (one["targetPerPod"], one["minReplicas"], one["maxReplicas"]) == (7.5, 3, 9)


def test_without_a_terminal_a_line_a_minute_says_how_far_the_replay_is(capsys: pytest.CaptureFixture[str]) -> None:
    moments = iter([0.0, 59.0, 60.0, 119.0, 125.0, 500.0])
    lines = command.ProgressLines("shop\nweb", 50.0, lambda: next(moments))
    for weight in (10.0, 10.0, 10.0, 5.0, 15.0):
        lines.advance(weight)
    said = capsys.readouterr()
    assert said.out == ""
    assert [line.partition(": replaying ")[2] for line in said.err.splitlines()] == [
        "shop web: 40 %",
        "shop web: 70 %",
        "shop web: 99 %",
    ]


def test_the_lines_follow_the_replay(monkeypatch: pytest.MonkeyPatch, history: Path) -> None:
    monkeypatch.setattr(command, "SECONDS_BETWEEN_LINES", 0.0)
    ended = call(monkeypatch, "--csv", history, *SHORT, *BASELINE, "--jobs", "1")
    shares = [int(share) for share in re.findall(r"^kedastral: replaying shop: (\d+) %$", ended.err, re.MULTILINE)]
    assert shares == sorted(shares)
    assert shares[0] < 10
    assert shares[-1] == 99


@pytest.mark.parametrize(("variable", "flags"), [("", ("--max", "300")), ("300", ())])
def test_a_given_maximum_is_the_one_to_run_with(
    monkeypatch: pytest.MonkeyPatch, history: Path, variable: str, flags: tuple[str, ...]
) -> None:
    monkeypatch.setenv("MAX_REPLICAS", variable)
    ended = call(monkeypatch, "--csv", history, *SHORT, *BASELINE, *flags)
    assert " --max 300 " in " ".join(ended.out.split())


def test_the_hpa_of_kubernetes_is_slower(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    jump = write_csv(tmp_path / "jump.csv", [10.0] * 60 + [1000.0] * 12)
    figures = {}
    for kind in ("unlimited", "kubernetes"):
        target = tmp_path / f"{kind}.json"
        flags = ("--hpa", kind, "--target-per-pod", "10", "--polling-interval", "1m", "--sync-period", "1m")
        assert call(monkeypatch, "--csv", jump, *SHORT, *BASELINE, *flags, "--json", target).code == 0
        figures[kind] = json.loads(target.read_text())["workloads"][0]["policies"][1]
    assert figures["kubernetes"]["unserved"] > figures["unlimited"]["unserved"]


def test_finer_history_is_averaged_to_the_step(monkeypatch: pytest.MonkeyPatch, history: Path, tmp_path: Path) -> None:
    halves = [value + way for value in wave(432) for way in (-5.0, 5.0)]
    fine = write_csv(tmp_path / "fine.csv", halves, STEP / 2)
    documents = []
    for path in (history, fine):
        target = tmp_path / "figures.json"
        assert call(monkeypatch, "--csv", path, *SHORT, *BASELINE, "--json", target).code == 0
        documents.append(json.loads(target.read_text())["workloads"][0])
    coarse, averaged = ({key: one[key] for key in one if key != "workload"} for one in documents)
    for name in ("costAgainstOracle", "unserved", "violation", "podHours"):
        assert averaged["policies"][1][name] == pytest.approx(coarse["policies"][1][name], rel=1e-6)
    assert averaged["stepSeconds"] == STEP


def rows(*lines: str) -> bytes:
    return "\n".join(("timestamp,value", *lines, "")).encode()


WRONG = {
    "nothing in it": (b"", "must hold at least two rows"),
    "a header only": (rows(), "must hold at least two rows"),
    "two values for one time": (
        rows("2026-03-02T00:10:00Z,1", "2026-03-02T00:20:00Z,1", "2026-03-02T00:20:00Z,2"),
        "line 4: one time must have one value; export one series, choose it with --column, or name the --time-zone",
    ),
    "one time": (rows("2026-03-02T00:10:00Z,1", "2026-03-02T00:10:00Z,1"), "at least two different times; got one"),
    "no number": (
        rows("2026-03-02T00:00:00Z,1", "2026-03-02T00:10:00Z,many"),
        "line 3: a value must be a finite number",
    ),
    "below zero": (rows("2026-03-02T00:00:00Z,-1", "2026-03-02T00:10:00Z,1"), "line 2: a load must not be negative"),
    "no time": (rows("yesterday,1"), "line 2: a time must be ISO 8601, a date with a time of day, or seconds or"),
    "one column": (rows("2026-03-02T00:00:00Z"), "line 2: it must have two columns at least, a time and a value"),
    "three columns": (
        rows("2026-03-02T00:00:00Z,1,2"),
        "it must be clear which column is the load; choose it with --column NAME; got the columns '2', '3'",
    ),
    "a NUL": (rows("2026-03-02T00:00:00Z,1\0"), "line 2: it must be text; got a NUL byte"),
    "no UTF-8": (rows("2026-03-02T00:00:00Z,1").replace(b",1", b",\xff"), "it must be text in UTF-8"),
    "a changing step": (
        rows("0,1", "600,1", "1200,1", "1600,1"),
        "line 5: rows must be about whole steps (600 s) apart; export them with one fixed step; got 400 s after",
    ),
    "too short": (rows("0,1", "600,1", "1200,1"), "the history must be longer"),
    "gaps before a little": (
        rows(*(f"{i * 600},{1 if i > 50 else ''}" for i in range(54))),
        "; got 30m (10m of it replayed, 2h of warm-up)",
    ),
    "only gaps": (rows("0,", "600,", "1200,"), "must hold at least one value; got only gaps"),
    "broken gzip": (b"\x1f\x8bnot gzip", "must be a file that can be read, plain or gzipped"),
    "half of a gzip": (gzip.compress(rows(*(f"{i * 600},1" for i in range(500))))[:-20], "plain or gzipped"),
    "an endless line": (b"1" * 5000, "it must hold at least two rows with a time and a value"),
    "zero throughout": (rows(*(f"{i * 600},0" for i in range(432))), "is 0 throughout"),
    "a raw counter": (
        rows(*(f"{i * 600},{i * 5000}" for i in range(500))),
        "take rate() of it, such as sum(rate(",
    ),
    "a finer step that does not fit": (rows(*(f"{i * 420},1" for i in range(900))), "--step must be a whole multiple"),
}


@pytest.mark.parametrize("wrong", WRONG, ids=lambda name: str(name).replace(" ", "-"))
def test_wrong_history_is_one_line_and_exit_2(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wrong: str) -> None:
    content, said = WRONG[wrong]
    path, target = tmp_path / "wrong.csv", tmp_path / "figures.json"
    path.write_bytes(content)
    ended = call(monkeypatch, "--csv", path, *SHORT, "--json", target)
    assert ended.code == 2
    assert ended.out == ""
    assert len(ended.err.splitlines()) == 1, ended.err
    assert ended.err.startswith("kedastral: ")
    assert "wrong" in ended.err
    assert said in ended.err
    assert not target.exists()


def test_every_wrong_history_is_named_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_bytes(b"")
    ended = call(monkeypatch, "--csv", tmp_path / "a.csv", "--csv", tmp_path / "b.csv")
    assert ended.code == 2
    assert [line.count("must hold") for line in ended.err.splitlines()] == [1, 1]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "--csv or --prom-url is required"),
        (("--csv", "/no/such/file"), "--csv must be a file that can be read"),
        (("--csv", "HISTORY", "--prom-url", "http://prometheus.test"), "--csv and --prom-url exclude each other"),
        (("--prom-url", "http://prometheus.test"), "--prom-query is required with --prom-url"),
        (("--csv", "HISTORY", "--target-per-pod", "big"), "--target-per-pod must be a finite number, or auto"),
        (("--csv", "HISTORY", "--target-per-pod", "0"), "--target-per-pod must be greater than 0"),
        (("--csv", "HISTORY", "--json", "/no/such/folder/x"), "--json must be a file in an existing folder"),
        (("--csv", "HISTORY", "--hpa", "magic"), "--hpa must be one of unlimited, kubernetes"),
        (("--csv", "HISTORY", "--model", "http", "--model-url", "http://m.test"), "--model must be one that computes"),
        (("--csv", "HISTORY", "--lead-time", "5m"), "at least one step; got 5m, and steps of 10m in the history"),
        (("--csv", "HISTORY", "--horizon", "25m", "--lead-time", "20m"), "--horizon must be a whole multiple"),
        (("--csv", "HISTORY", "--lead-time", "20m", "--sync-period", "7m"), "a whole multiple of --sync-period"),
        (("--csv", "HISTORY", "--lead-tine", "5m"), "did you mean --lead-time?"),
    ],
)
def test_a_wrong_setting_is_one_line_and_exit_2(
    monkeypatch: pytest.MonkeyPatch, history: Path, flags: tuple[str, ...], said: str
) -> None:
    ended = call(monkeypatch, *(str(history) if word == "HISTORY" else word for word in flags))
    assert ended.code == 2
    assert ended.out == ""
    assert said in ended.err
    assert len(ended.err.splitlines()) == 1, ended.err


def test_no_output_takes_the_place_of_the_history_or_of_another(
    monkeypatch: pytest.MonkeyPatch, history: Path, tmp_path: Path
) -> None:
    link, before = tmp_path / "link.csv", history.read_bytes()
    link.symlink_to(history)
    ended = call(
        monkeypatch, "--csv", history, "--json", link, "--timeline", tmp_path / "a", "--report", tmp_path / "a"
    )
    assert ended.code == 2
    assert [line.split(" must be a file of its own")[0] for line in ended.err.splitlines()] == [
        "kedastral: --json", "kedastral: --report",
    ]  # fmt: skip
    assert history.read_bytes() == before


def test_gaps_are_told_and_more_of_them_than_history_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    values: list[float | None] = list(wave(432))
    values[-10:-5] = [None] * 5
    ended = call(monkeypatch, "--csv", write_csv(tmp_path / "few.csv", values), *SHORT)
    assert ended.code == 0
    words = " ".join(ended.out.split())
    assert "5 of 118 judged steps were gaps, in which policies saw no load. 70 of 1,180 minutes do not count: " in words
    values[-90:-5] = [None] * 85
    ended = call(monkeypatch, "--csv", write_csv(tmp_path / "many.csv", values), *SHORT)
    assert ended.code == 2
    assert "at least 50% of the judged steps must have a value; got 33 of 118" in ended.err
    values[-130:] = [None] * 130
    ended = call(monkeypatch, "--csv", write_csv(tmp_path / "none.csv", values), *SHORT)
    assert ended.code == 2
    assert "at least 50% of the judged steps must have a value; got 0 of 118" in ended.err


class Page(HTMLParser):
    """What a page would load, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]


def test_the_report_carries_all_it_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    history = write_csv(tmp_path / "<b>shop & co.csv", wave(432))
    target = tmp_path / "report.html"
    assert call(monkeypatch, "--csv", history, *SHORT, "--report", target).code == 0
    text, page = target.read_text(), Page()
    page.feed(text)
    assert page.addresses
    assert all(address.startswith("data:") for address in page.addresses)
    assert "&lt;b&gt;shop &amp; co" in text
    assert not {"iframe", "object", "img"} & {tag for tag, _ in page.tags}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on") or name == "style"]
    assert "url(" not in text
    drawn = [attributes for _, attributes in page.tags if attributes.get("class") == "chart"]
    assert [attributes["data-chart"] for attributes in drawn] == [f"{i}" for i in range(9)]
    assert all(attributes["aria-label"] for attributes in drawn)
    charts = json.loads(text.partition('id="charts">')[2].partition("</script>")[0])
    assert len(charts) == 9
    for chart in charts:
        points = len(chart.get("x", chart["lines"][0]))
        assert [len(line) for line in chart["lines"]] == [points] * len(chart["names"])
    policies = [attributes["content"] or "" for _, attributes in page.tags if "http-equiv" in attributes]
    assert [policy.partition(";")[0] for policy in policies] == ["default-src 'none'"]
    assert "unsafe" not in policies[0]
    assert all(attributes.get("scope") for tag, attributes in page.tags if tag == "th")
    assert ("<pre>kedastral run" in text) == ('class="verdict better' in text)
    assert "The plan also covers its band of uncertainty" in text
    assert text.index("Verdict") < text.index("<table")


def test_the_same_history_gives_the_same_report(monkeypatch: pytest.MonkeyPatch, history: Path, tmp_path: Path) -> None:
    texts = []
    for name in ("one.html", "two.html"):
        assert call(monkeypatch, "--csv", history, *SHORT, "--report", tmp_path / name).code == 0
        texts.append((tmp_path / name).read_bytes())
    assert texts[0] == texts[1]


# files are whole or not there


def test_what_was_there_is_replaced_at_once(tmp_path: Path) -> None:
    target = tmp_path / "figures.json"
    target.write_text("old")
    command.write_whole(target, "new")
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_an_interrupted_write_leaves_what_was_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    target = tmp_path / "figures.json"
    target.write_text("old")

    def interrupt(_descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        command.write_whole(target, "new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        command.write_whole(pipe, "text")
        assert os.read(reader, 100) == b"text"
    finally:
        os.close(reader)
    assert pipe.is_fifo()


@pytest.fixture
def busy(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """The command in its own process, with enough work to be interrupted."""
    history = write_csv(tmp_path / "long.csv", wave(20_000, 60.0), 60.0)
    words = [sys.executable, "-m", "kedastral", "backtest", "--csv", str(history)]
    words += ["--json", str(tmp_path / "out" / "figures.json"), "--report", str(tmp_path / "out" / "report.html")]
    (tmp_path / "out").mkdir()
    # not measured: KeyboardInterrupt inside the tracer of coverage leaves its lock taken, and the process waits
    unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    running = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=unmeasured)
    yield running
    running.kill()
    running.wait()
    for stream in (running.stdout, running.stderr):
        assert stream is not None
        stream.close()


@pytest.mark.process
def test_ctrl_c_ends_with_one_line_and_no_file(busy: "subprocess.Popen[bytes]", tmp_path: Path) -> None:
    assert busy.stderr is not None
    assert busy.stderr.readline().startswith(b"kedastral: long: 13d21h20m")  # what comes next is the replay
    busy.send_signal(signal.SIGINT)
    out, err = busy.communicate(timeout=60)
    assert busy.returncode == 130
    assert out == b""
    assert err.decode().strip().splitlines() == ["kedastral: interrupted; unfinished results are not written"]
    assert list((tmp_path / "out").iterdir()) == []
