# SPDX-License-Identifier: Apache-2.0
"""`kedastral explain`: first the sentence, then the tables, and errors in words."""

import itertools
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from kedastral.cli import explain
from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.core.explanation.explain import explain as explain_answer
from kedastral.core.explanation.what_if import OtherSettings, what_if
from kedastral.core.failures import Failure
from kedastral.core.planning.snapshot import Mode
from kedastral.core.planning.stale_policy import OnStale, StalePolicy
from kedastral.settings.declarations import RemoteAccess
from kedastral.wire import dump_json, write_explanation
from tests.cli.test_commands import Outcome, call
from tests.core.test_explain import flat

Answer = Callable[[httpx.Request], httpx.Response]
SNAPSHOT = flat(1000.0, PlanPolicy(100.0, 1.2, ReplicaBounds(2, 50)))


def document(*, tried: bool = False) -> str:
    written = write_explanation(explain_answer(SNAPSHOT, SNAPSHOT.made_at, StalePolicy()))
    if tried:
        other = what_if(SNAPSHOT, OtherSettings(min=20, lead_time=120.0))
        written["whatIf"] = write_explanation(explain_answer(other, SNAPSHOT.made_at, StalePolicy()))
    return dump_json(written)


def run(monkeypatch: pytest.MonkeyPatch, answer: Answer, *words: str, command: str = "explain") -> Outcome:
    def open_remote(url: str, access: RemoteAccess) -> httpx.AsyncClient:
        assert isinstance(access, RemoteAccess)
        return httpx.AsyncClient(base_url=url, transport=httpx.MockTransport(answer))

    monkeypatch.setattr(explain, "open_remote", open_remote)
    return call(monkeypatch, command, *words)


def test_the_sentence_comes_first_and_each_stage_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = run(monkeypatch, lambda _: httpx.Response(200, text=document()), "shop")
    lines = outcome.out.splitlines()
    assert outcome.code == 0
    assert lines[0].startswith("KEDA is told 12 replicas: the forecast decided: 1,000 is the load expected")
    assert any(line.split()[:1] == ["target-per-pod"] for line in lines)
    assert "what if" not in outcome.out


def test_flags_of_what_is_tried_are_asked_as_parameters_and_shown_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[httpx.URL] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url)
        return httpx.Response(200, text=document(tried=True))

    outcome = run(monkeypatch, answer, "shop/web", "--url", "http://k:1/base", "--min", "20", "--lead-time=2m")
    assert dict(asked[0].params) == {"workload": "shop/web", "min": "20", "leadTime": "2m"}
    assert asked[0].path == "/base/explain"
    assert "What if: KEDA is told 20 replicas: the minimum decided" in outcome.out
    assert "what if: planned" in outcome.out
    [lead] = [line for line in outcome.out.splitlines() if line.split()[:1] == ["lead-time"]]
    assert lead.split()[1:6] == ["5", "min", "same", "2", "min"]
    assert "What if: by that plan it stays so.\n" in outcome.out


def test_what_the_answer_would_be_without_a_stage_is_a_number_only_where_it_would_be_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = json.loads(document()) | {"told": 0, "planned": 12}
    answers = {"min": 11, "max": 12, "stale-policy": 12, "mode": 0}
    for stage in whole["stages"]:
        stage["without"] = answers.get(stage["name"])
    out = run(monkeypatch, lambda _: httpx.Response(200, text=dump_json(whole)), "shop").out
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.split()}
    assert [rows[name][index] for name, index in (("min", 4), ("max", 4), ("mode", 2))] == ["11", "same", "same"]
    assert rows["stale-policy"][1:5] == ["2", "min", "12", "12"]


def test_steps_with_equal_replicas_are_one_row_but_the_one_that_the_answer_is_read_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    planned = [4, 4, 12, 12, 12, 5, 5, 5, 5, 6]
    steps = [
        {"at": f"2026-03-01T12:{minute:02}:07Z", "load": 1000.0 + minute, "upper": 1100.0, "plannedFor": 1210.0}
        | {"needed": pods // 2, "replicas": pods}
        for minute, pods in enumerate(planned)
    ]
    whole = {**json.loads(document()), "plan": steps, "largestAt": "2026-03-01T12:03:07Z"}
    rows = plan_of(run(monkeypatch, lambda _: httpx.Response(200, text=dump_json(whole)), "shop"))
    assert rows == [
        ["12:00:07–12:01:07", "1,000–1,001", "1,210", "2", "4"],
        ["12:02:07", "1,002", "1,210", "6", "12"],
        ["12:03:07", "1,003", "1,210", "6", "*", "12"],
        ["12:04:07", "1,004", "1,210", "6", "12"],
        ["12:05:07–12:08:07", "1,005–1,008", "1,210", "2", "5"],
        ["12:09:07", "1,009", "1,210", "3", "6"],
    ]
    other = [{**step, "needed": 3 + i, "replicas": 20 if i < 4 else 5} for i, step in enumerate(steps)]
    whole["whatIf"] = {**whole, "plan": other, "largestAt": steps[0]["at"]}
    rows = plan_of(run(monkeypatch, lambda _: httpx.Response(200, text=dump_json(whole)), "shop", "--min", "5"))
    assert [" ".join(row[3:]) for row in rows] == [
        "2 4 3 * 20",
        "2 4 4 20",
        "6 12 5 20",
        "6 * 12 6 20",
        "6 12 7 5",
        "2 5 8–11 5",
        "3 6 12 5",
    ]
    del whole["largestAt"], whole["whatIf"]
    rows = plan_of(run(monkeypatch, lambda _: httpx.Response(200, text=dump_json(whole)), "shop"))
    assert [row[0] for row in rows] == ["12:00:07–12:01:07", "12:02:07–12:04:07", "12:05:07–12:08:07", "12:09:07"]
    for step in steps:
        del step["plannedFor"]  # of another process, of which no more is known, or of another version
    rows = plan_of(run(monkeypatch, lambda _: httpx.Response(200, text=dump_json(whole)), "shop"))
    assert rows[0] == ["12:00:07–12:01:07", "1,000–1,001", "2", "4"]


def test_a_flat_plan_takes_two_rows_and_its_json_all_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = plan_of(run(monkeypatch, lambda _: httpx.Response(200, text=document()), "shop"))
    assert [row[0] for row in rows] == ["14:30:00", "14:31:00–14:59:00"]
    assert len(json.loads(document())["plan"]) == 30


def test_a_narrow_terminal_cuts_no_number_of_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain, "PLAIN_WIDTH", 80)
    whole = json.loads(document(tried=True))
    for explained in (whole, whole["whatIf"]):
        explained["plan"][-1]["load"] = 987654.0
    lines = run(
        monkeypatch, lambda _: httpx.Response(200, text=dump_json(whole)), "shop", "--min", "5"
    ).out.splitlines()
    assert "…" not in "".join(lines)
    assert "1,000–987,654" in "".join(line[19:32].strip() for line in lines[-4:])


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
@pytest.mark.parametrize("tried", [False, True])
def test_no_terminal_is_too_narrow_for_the_numbers(monkeypatch: pytest.MonkeyPatch, width: int, *, tried: bool) -> None:
    monkeypatch.setattr(explain, "PLAIN_WIDTH", width)
    flags = ("--min", "20") if tried else ()
    out = run(monkeypatch, lambda _: httpx.Response(200, text=document(tried=tried)), "shop", *flags).out
    stages, _, plan = out.partition("step at")
    [limits] = [line.split() for line in stages.splitlines() if line.split()[:1] == ["change-limits"]]
    assert limits[:5] == ["change-limits", "12", "pods", "12", "same"]
    rows = [line.split() for line in plan.splitlines()[-3:] if line.strip()]
    assert rows[0] == ["14:30:00", "1,000", "1,200", "12", "*", "12", *(["20", "*", "20"] if tried else [])]
    words = " ".join(stages.split())  # beside the numbers they may be wrapped, but never to a few letters
    assert "a step may have" in words
    assert len(out.splitlines()) < 75


def test_a_plan_that_reaches_into_another_day_has_the_days(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, first = json.loads(document()), datetime(2026, 3, 31, 23, 58, tzinfo=UTC)
    whole |= {"at": "2026-03-31T23:58:09Z", "nextChange": {"at": "2026-04-02T00:00:00Z", "replicas": 5}}
    whole["plan"] = [
        {**whole["plan"][0], "at": f"{first + timedelta(minutes=i):%Y-%m-%dT%H:%M:%SZ}", "replicas": 4 + (i >= 1442)}
        for i in range(1445)
    ]
    outcome = run(monkeypatch, lambda _: httpx.Response(200, text=dump_json(whole)), "shop")
    assert "By the plan it will be 5 from 04-02 00:00:00 UTC on." in outcome.out
    rows = [line.split("  ")[0] for line in outcome.out.partition("step at")[2].splitlines()[2:] if line.strip()]
    assert [row.strip() for row in rows] == ["03-31 23:58:00–04-01 23:59:00", "04-02 00:00:00–04-02 00:02:00"]
    whole |= {"at": "2026-04-01T00:01:00Z", "plan": whole["plan"][:3]}  # made before midnight
    outcome = run(monkeypatch, lambda _: httpx.Response(200, text=dump_json(whole)), "shop")
    assert "03-31 23:58:00–04-01 00:00:00" in outcome.out


def plan_of(outcome: Outcome) -> list[list[str]]:
    """The cells of each row of the plan."""
    _, _, table = outcome.out.partition("step at")
    return [row for line in table.splitlines()[2:] if (row := line.split())]


def test_a_what_if_that_changes_nothing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    same = document()
    text = dump_json({**json.loads(same), "whatIf": json.loads(same)})
    outcome = run(monkeypatch, lambda _: httpx.Response(200, text=text), "shop", "--max", "50")
    assert "What if: the same as now; by that plan it stays so.\n" in outcome.out


def test_a_floor_above_the_plan_holds_while_the_load_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    known = json.loads(document())
    known.update(nextChange=None, planned=known["plan"][-1]["replicas"] + 1)
    outcome = run(monkeypatch, lambda _: httpx.Response(200, text=dump_json(known)), "shop")
    assert outcome.out.splitlines()[1] == "By the plan it stays so while the load stays."


def test_in_mode_observe_the_next_change_is_the_plans_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    said = explain_answer(SNAPSHOT, SNAPSHOT.made_at, StalePolicy(mode=Mode.OBSERVE))
    outcome = run(monkeypatch, lambda _: httpx.Response(200, text=dump_json(write_explanation(said))), "shop")
    first, second = outcome.out.splitlines()[:2]
    assert first.startswith("KEDA is told 0, since the mode is observe; the plan says 12 replicas: the forecast ")
    assert second == "By the plan it stays so; KEDA is still told 0."


@pytest.mark.parametrize(
    ("on_stale", "minutes", "lines"),
    [
        (
            OnStale.RIDE_FORECAST,
            3,
            ["No new forecast since", "KEDA is told 12", "By the plan it stays so until 14:55:00 UTC."],
        ),
        (OnStale.RIDE_FORECAST, 28, ["No new forecast since", "KEDA is told no number", ""]),
        (OnStale.DEFAULT_MIN, 3, ["No new forecast since", "KEDA is told 2", ""]),
    ],
)
def test_an_outage_comes_first_and_the_plan_only_where_it_counts(
    monkeypatch: pytest.MonkeyPatch, on_stale: OnStale, minutes: float, lines: list[str]
) -> None:
    now, failure = SNAPSHOT.made_at + timedelta(minutes=minutes), Failure(SNAPSHOT.made_at, "source", "unreachable")
    said = explain_answer(SNAPSHOT, now, StalePolicy(on_stale=on_stale), failure)
    out = run(monkeypatch, lambda _: httpx.Response(200, text=dump_json(write_explanation(said))), "shop").out
    assert [line[: len(words)] for line, words in zip(out.splitlines(), lines, strict=False)] == lines
    assert ": its Prometheus cannot be reached (source: unreachable). " in out.splitlines()[0]


def test_a_refusal_names_the_flags_and_leaves_what_it_quotes(monkeypatch: pytest.MonkeyPatch) -> None:
    said = (
        "leadTime must be a duration, got 'leadTime must'; min (9) must not be above max (3); "
        "serviceLevel and headroom exclude each other"
    )
    outcome = run(monkeypatch, lambda _: httpx.Response(400, json={"error": said}), "shop", "--lead-time", "10")
    assert outcome.code == 2
    assert (
        "--lead-time must be a duration, got 'leadTime must'; --min (9) must not be above --max (3); "
        "--service-level and --headroom exclude each other"
    ) in outcome.err


def test_json_is_the_answer_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = run(monkeypatch, lambda _: httpx.Response(200, text=document() + "\n"), "shop", "--json")
    assert json.loads(outcome.out) == json.loads(document())


@pytest.mark.parametrize(
    ("response", "code", "words"),
    [
        (httpx.Response(400, json={"error": "min must be 1; max must be 2"}), 2, "--min must be 1; --max must be 2"),
        (httpx.Response(404, json={"error": "x"}), 1, "has no forecast of 'shop', or none yet"),
        (httpx.Response(401, json={"error": "a bearer token is required"}), 1, "a bearer token is required"),
        (httpx.Response(502, text="oops"), 1, "status 502"),
        (httpx.Response(200, text="<html><title>Login</title>"), 1, "it is an HTML page ('Login')"),
        (httpx.Response(200, json={"other": 1}), 1, "the answer is not an explanation"),
    ],
    ids=["refused", "unknown", "token", "broken", "page", "other"],
)
def test_what_goes_wrong_is_said_in_a_line(
    monkeypatch: pytest.MonkeyPatch, response: httpx.Response, code: int, words: str
) -> None:
    outcome = run(monkeypatch, lambda _: response, "shop")
    assert (outcome.code, outcome.out) == (code, "")
    assert words in outcome.err


@pytest.mark.parametrize(
    ("workload", "words"),
    [
        ("new", "has no forecast of 'new' yet: waiting, no forecast\n"),
        ("lost", "has no forecast of 'lost' yet: failing, no data; KEDA is told 2\n"),
        ("held", "has no forecast of 'held' yet: failing, no data; KEDA gets an error and holds\n"),
        ("web", "has no forecast of 'shop/web' yet: ok"),
        ("shop/wbe", "has no workload 'shop/wbe'; did you mean shop/web?"),
        ("entirely-other", "has no workload 'entirely-other'\n"),
    ],
)
def test_why_there_is_no_forecast_of_a_workload_is_said(
    monkeypatch: pytest.MonkeyPatch, workload: str, words: str
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/workloads":
            return httpx.Response(200, text=WORKLOADS)
        return httpx.Response(404, json={"error": "not found"})

    outcome = run(monkeypatch, answer, workload)
    assert (outcome.code, outcome.out) == (1, "")
    assert words in outcome.err


@pytest.mark.parametrize("tried", [(), ("--min", "20")])
def test_a_name_without_its_namespace_is_enough_if_it_is_unique(
    monkeypatch: pytest.MonkeyPatch, tried: tuple[str, ...]
) -> None:
    asked: list[dict[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/workloads":
            return httpx.Response(200, text=WORKLOADS)
        asked.append(dict(request.url.params))
        if request.url.params["workload"] != "shop/web":
            return httpx.Response(404, json={"error": "not found"})
        return httpx.Response(200, text=document(tried=bool(tried)))

    outcome = run(monkeypatch, answer, "web", *tried)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("KEDA is told 12 replicas")
    assert asked == [{"workload": name} | ({"min": "20"} if tried else {}) for name in ("web", "shop/web")]


def test_a_name_that_two_namespaces_have_is_refused_with_both(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"workload": f"{space}/web", "state": "ok", "reason": ""} for space in ("shop", "test")]

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/workloads":
            return httpx.Response(200, json={"workloads": rows})
        return httpx.Response(404, json={"error": "not found"})

    outcome = run(monkeypatch, answer, "web")
    assert outcome.code == 1
    assert "has several workloads called 'web': shop/web, test/web; add the namespace" in outcome.err


def test_a_refusal_of_what_is_tried_on_a_short_name_is_said_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/workloads":
            return httpx.Response(200, text=WORKLOADS)
        if request.url.params["workload"] == "web":
            return httpx.Response(404, json={"error": "not found"})
        return httpx.Response(400, json={"error": "min must be at most max"})

    outcome = run(monkeypatch, answer, "web", "--min", "20")
    assert (outcome.code, outcome.out) == (2, "")
    assert "--min must be at most max" in outcome.err


def test_a_server_that_is_away_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused", request=request)

    outcome = run(monkeypatch, answer, "shop")
    assert outcome.code == 1
    assert "http://localhost:8081 cannot be reached: connection refused" in outcome.err


WORKLOADS = (
    '{"at":"x","workloads":[{"workload":"shop/web","state":"ok","urgency":3,"reason":"","load":1200.0,"told":12,'
    '"planned":12,"forecast":[900.0,3300.0,null]},'
    '{"workload":"seen","state":"ok","urgency":3,"reason":"","mode":"observe","load":1200.0,"told":0,"planned":30},'
    '{"workload":"new","state":"waiting","urgency":2,"reason":"no forecast"},'
    '{"workload":"lost","state":"failing","urgency":0,"reason":"no data","told":2},'
    '{"workload":"held","state":"failing","urgency":0,"reason":"no data","told":null}]}'
)


def test_status_is_a_table_of_the_workloads(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(200, text=WORKLOADS)

    outcome = run(monkeypatch, answer, "--url", "http://k:1/base", command="status")
    rows = [line.split() for line in outcome.out.splitlines()]
    assert asked == ["/base/api/workloads"]
    assert (outcome.code, outcome.err) == (0, "")
    assert ["workload", "state", "load", "told", "KEDA", "planned", "peak", "ahead", "spent", "reason"] in rows
    assert ["shop/web", "ok", "1,200", "12", "12", "3,300"] in rows
    assert ["seen", "ok", "(observe)", "1,200", "0", "30"] in rows
    assert ["new", "waiting", "no", "forecast"] in rows
    assert ["lost", "failing", "2", "no", "data"] in rows
    assert ["held", "failing", "holds", "no", "data"] in rows


@pytest.mark.parametrize(
    ("judged", "short", "at_max", "spent", "words"),
    [
        (40320.0, 1105.6, 1050.0, 27.42, "2,742 %: 1,106 of 403 min, 1,050 of them at --max"),
        (40320.0, 1105.6, 0.4, 2.742, "274 %: 1,106 of 403 min"),
        (40320.0, 1105.6, None, 2.742, "274 %: 1,106 of 403 min"),  # from an earlier version
        (40320.0, 0.0, 0.0, 0.0, "0 %: 0 of 403 min"),
        (40.0, 0.0, 0.0, 0.0, "not judged yet"),
        (40.0, 3.0, 0.0, 0.2083, "21 %: 3 of 403 min"),
    ],
)
def test_status_says_how_many_minutes_were_short(
    monkeypatch: pytest.MonkeyPatch, judged: float, short: float, at_max: float | None, spent: float, words: str
) -> None:
    document = json.loads(WORKLOADS)
    [web] = [row for row in document["workloads"] if row["workload"] == "shop/web"]
    web["budget"] = {
        "spent": spent, "minutesJudged": judged, "minutesShort": short, "minutesAllowed": 403.2,
        **({} if at_max is None else {"minutesAtMax": at_max}),
    }  # fmt: skip
    out = run(monkeypatch, lambda _: httpx.Response(200, text=json.dumps(document)), command="status").out
    first, *more = out[out.index("shop/web ") :].splitlines()
    lines = [first, *itertools.takewhile(lambda line: line.startswith("  "), more)]
    assert " ".join(" ".join(lines).split()[6:]) == words


def test_a_narrow_terminal_has_the_reasons_below_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain, "PLAIN_WIDTH", 80)
    out = run(monkeypatch, lambda _: httpx.Response(200, text=WORKLOADS), command="status").out
    assert "reason" not in out
    assert out.rstrip().splitlines()[-3:] == ["new: no forecast", "lost: no data", "held: no data"]


def test_status_begins_with_the_warnings_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    warned = {**json.loads(WORKLOADS), "warnings": ["configuration: web.yaml is\nbroken"]}
    for rows in (warned["workloads"], []):
        text = json.dumps({**warned, "workloads": rows})
        outcome = run(monkeypatch, lambda _, text=text: httpx.Response(200, text=text), command="status")
        assert outcome.out.splitlines()[0] == "warning: configuration: web.yaml is broken"
        assert outcome.code == 0


def test_status_without_workloads_or_a_list_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = run(monkeypatch, lambda _: httpx.Response(200, text='{"workloads":[]}'), command="status")
    assert (outcome.code, outcome.out) == (0, "There is no workload yet.\n")
    outcome = run(monkeypatch, lambda _: httpx.Response(404), "--url", "http://scaler:8082", command="status")
    words = "http://scaler:8082 has no list of workloads; --url must be the address of `run` or `forecaster`"
    assert (outcome.code, outcome.problems) == (1, [words])


def test_status_as_json_is_the_answer_and_another_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = run(monkeypatch, lambda _: httpx.Response(200, text=WORKLOADS + "\n"), "--json", command="status")
    assert json.loads(outcome.out) == json.loads(WORKLOADS)
    outcome = run(monkeypatch, lambda _: httpx.Response(200, text="[]"), command="status")
    assert (outcome.code, len(outcome.problems)) == (1, 1)
