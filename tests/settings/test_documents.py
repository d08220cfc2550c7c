# SPDX-License-Identifier: Apache-2.0
"""Problems of a document: all at once, each with file, document, key and remedy, and no secret."""

from pathlib import Path

import pytest

from kedastral.settings.kinds import POLICY_KEYS, SOURCE_KEYS, WORKLOAD_SETTINGS
from tests.settings.fleets import load_fleet, policy, problems_of, problems_with_lines, source, write

POLICY_WRONG = {
    # types
    'min: "5"': "spec.min must be a plain whole number, without quotes, got the text '5'; change it there",
    'min: "5.9"': "spec.min must be a whole number, got the text '5.9'; change it there",
    "min: 5.9": "spec.min must be a whole number, got the number '5.9'; change it there",
    "min: 5.0": "spec.min must be a whole number, got the number '5.0'; change it there",
    "min: true": "spec.min must be a whole number, got the boolean 'true'; change it there",
    "min: 010": "spec.min must be a plain whole number, without quotes, got the text '010'; change it there",
    "min: [5]": "spec.min must be a single value; it is a list",
    "min: {a: 5}": "spec.min must be a single value; it is a mapping",
    "min:": "spec.min has no value; give it one, or remove the line",
    'headroom: "1.5"': "spec.headroom must be a plain number, without quotes, got the text '1.5'; change it there",
    "headroom: yes": "spec.headroom must be a finite number, got the boolean 'yes'; change it there",
    "headroom: .nan": "spec.headroom must be a finite number, got '.nan'; change it there",
    "headroom: .inf": "spec.headroom must be a finite number, got '.inf'; change it there",
    "headroom: 1e999": "spec.headroom must be a finite number, got '1e999'; change it there",
    'reactiveFloor: "true"': "spec.reactiveFloor must be true or false, without quotes, got the text 'true'",
    "reactiveFloor: 1": "spec.reactiveFloor must be true or false, without quotes, got the whole number '1'",
    "reactiveFloor: maybe": "spec.reactiveFloor must be true or false, got the text 'maybe'; change it there",
    "step: 60": "spec.step must be a duration such as 30s, 5m, 1h30m or 14d, got the whole number '60'",
    "metric: 5": "spec.metric must be text, written in quotes, got the whole number '5'; change it there",
    "metric: on": "spec.metric must be text, written in quotes, got the boolean 'on'; change it there",
    "onStale: off": (
        "spec.onStale must be one of default-min, ride-forecast, error, got the boolean 'off'; change it there"
    ),
    # values
    "min: -1": "spec.min must be between 0 and 2147483647, got '-1'; change it there",
    "headroom: 0.5": "spec.headroom must be between 1 and 100, got '0.5'; change it there",
    "reactiveHeadroom: 1.0e+308": "spec.reactiveHeadroom must be between 1 and 100, got '1.0e+308'; change it there",
    "prewarmSteps: 31": (
        "spec.prewarmSteps must not reach past the horizon (30m, in steps of 1m), got '31'; change it there"
    ),
    "timezone: Mars": "spec.timezone must be a time zone such as UTC or Europe/Berlin, got 'Mars'; change it there",
    "modelUrl: 'http://joe:hush@m'": (
        "spec.modelUrl must be a URL without user and password in it (they have settings of their own), "
        "got 'http://***@m'; change it there"
    ),
    "workload: a/b": "spec.workload must be a name without /, got 'a/b'; change it there",
    "workload: 5": "spec.workload must be text; it is a whole number; put it in quotes",
    "dataSource: nope": "spec.dataSource must name a DataSource, got 'nope'; there are prom",
    "dataSource: porm": "spec.dataSource must name a DataSource, got 'porm'; did you mean prom?",
    # together
    "leadTime: 1h": "spec.leadTime must be shorter than the horizon (30m), got '1h'; change it there",
    "max: 1": "spec.min must not be above spec.max (1), but is '2' by default; set it there",
    "model: http": "spec.modelUrl is required by the http model; set it there",
    # keys
    "leadTme: 5m": "spec.leadTme is unknown; did you mean leadTime?",
    "lead_time: 5m": "spec.lead_time is unknown; did you mean leadTime?",
    "lead-time: 5m": "spec.lead-time is unknown; did you mean leadTime?",
    "LEAD_TIME: 5m": "spec.LEAD_TIME is unknown; did you mean leadTime?",
    "minReplicas: 5": "spec.minReplicas is unknown; did you mean min?",
    "maxReplicaCount: 5": "spec.maxReplicaCount is unknown; did you mean max?",
    "maximum: 5": "spec.maximum is unknown; did you mean max?",
    "service: 0.99": "spec.service is unknown; did you mean serviceLevel?",
    "threshold: 5": "spec.threshold is unknown; did you mean targetPerPod?",
    "serverAddress: http://p": "spec.serverAddress is unknown; did you mean dataSource?",
    "pollingInterval: 30": "spec.pollingInterval is unknown; did you mean interval?",
    "frobnicate: 5": "spec.frobnicate is unknown; there are",
    "<<: {min: 5}": "spec.<< is unknown; there are",
    "min: 2\n  min: 3": "spec.min is given twice; remove one",
}  # fmt: skip
SOURCE_WRONG = {
    "auth: hush": "spec.auth must be a mapping; it is text",
    "auth: {password: hush}": "spec.auth.password must not be in a file; use passwordFile or passwordEnv",
    "auth: {token: hush}": "spec.auth.token must not be in a file; use tokenFile or tokenEnv",
    "auth: {passwordEnv: hush}": "spec.auth.passwordEnv must name a variable that is set and not empty; set it",
    "auth: {passwordEnv: EMPTY}": "spec.auth.passwordEnv must name a variable that is set and not empty; set it",
    "auth: {passwordEnv: 5}": "spec.auth.passwordEnv must be the name of a variable; it is a whole number",
    "auth: {username: joe}": (
        "spec.auth.username needs a password; set spec.auth.passwordFile or spec.auth.passwordEnv"
    ),
    "auth: {passwordEnv: SET}": "spec.auth.username is required with a password; set it there",
    "auth: {user: joe}": "spec.auth.user is unknown; did you mean username?",
    "tls: {caFile: /nowhere}": "spec.tls.caFile must be a file that can be read (No such file or directory)",
    "tls: {keyFile: /dev/null}": "spec.tls.certFile and spec.tls.keyFile go together; give both, or neither",
    "auth: {tokenFile: /dev/null}": "spec.auth.tokenFile cannot be used: /dev/null is empty; write the secret into",
    "auth: {username: joe, passwordFile: /dev/null}": "spec.auth.passwordFile cannot be used: /dev/null is empty",
    "timeout: 10": "spec.timeout must be a duration such as",
    "timeout: 0s": "spec.timeout must be greater than 0, got '0s'; change it there",
    "limits: {maxConcurrent: 0}": "spec.limits.maxConcurrent must be between 1 and 1000, got '0'; change it there",
    "limits: {maxConcurent: 1}": "spec.limits.maxConcurent is unknown; did you mean maxConcurrent?",
    "limits: 5": "spec.limits must be a mapping; it is a whole number",
    "allowedNamespaces: a": "spec.allowedNamespaces must be a list of names; it is text",
    "allowedNamespaces: [a, 5]": "spec.allowedNamespaces[1] must be text; it is a whole number; put it in quotes",
    "queryParams: [hush]": "spec.queryParams must be a mapping of names and values; it is a list",
    "queryParams: {dedup: true}": "spec.queryParams.dedup must be text; it is a boolean; put it in quotes",
    "queryParams: {dedup: {a: hush}}": "spec.queryParams.dedup must be text; it is a mapping",
    "queryParams: {a: hush, a: hush}": "spec.queryParams.a is given twice; remove one",
    "queryParams: {query: hush}": "spec.queryParams must be other parameters than end, query, start, step, time, which",
    "queryParams: {a b: hush}": (
        "spec.queryParams must be parameters written 'name=value', one per line; change it there"
    ),
    "headers: {A: hush}": "spec.headers must be a list of name and value; it is a mapping",
    "headers: [hush]": "spec.headers[0] must be a mapping of name and value; it is text",
    "headers: [{name: A}]": "spec.headers[0] must have one of value, valueEnv and valueFile",
    "headers: [{name: A, value: hush, valueEnv: SET}]": "spec.headers[0] must have one of value",
    "headers: [{value: hush}]": "spec.headers[0].name is required; set it there",
    "headers: [{name: A, value: a}, {name: Authorization, value: hush}]": (
        "spec.headers[1].value must not carry a secret; use valueEnv or valueFile"
    ),
    "headers: [{name: ' cookie', value: hush}]": "spec.headers[0].value must not carry a secret",
    "headers: [{name: A, value: 5}]": "spec.headers[0].value must be text; it is a whole number; put it in quotes",
    "headers: [{name: A, valeu: hush}]": "spec.headers[0].valeu is unknown; did you mean value?",
    "headers: [{name: A, name: B, value: hush}]": "spec.headers[0].name is given twice; remove one",
    "headers: [{name: A, valueEnv: hush}]": "spec.headers[0].valueEnv must name a variable that is set and not empty",
    "headers: [{name: A, valueFile: /nowhere}]": (
        "spec.headers[0].valueFile must be a file that can be read (No such file or directory)"
    ),
    'headers: [{name: A, value: "hush\\nB: hush"}]': "spec.headers[0] must be a name and a value that HTTP can carry",
    'headers: [{name: "A: x", value: hush}]': "spec.headers[0] must be a name and a value that HTTP can carry",
    "headers: [{name: A, value: hüsh}]": "spec.headers[0] must be a name and a value that HTTP can carry",
}  # fmt: skip
WHOLE_WRONG = {
    "[1]": "it must be a mapping with apiVersion, kind, metadata and spec; it is a list",
    "hush": "it must be a mapping with apiVersion, kind, metadata and spec; it is text",
    "a: 1": "it has no apiVersion and kind; keep it out of the folder",
    "{apiVersion: v1, kind: Secret, data: {a: hush}}": (
        "it is of the unexpected kind Secret of v1; keep it out of the folder"
    ),
    "spec: {query: up}": "apiVersion must be kedastral.io/v1alpha1; change it there",
    policy("x").replace("v1alpha1", "v1"): "apiVersion must be kedastral.io/v1alpha1, got 'kedastral.io/v1'",
    policy("x").replace("kind: ForecastPolicy", "kind: ForcastPolicy"): (
        "kind must be DataSource or ForecastPolicy, got 'ForcastPolicy'; change it there"
    ),
    policy("x").replace("kind: ForecastPolicy", "kind: Secret"): (
        "kind must be DataSource or ForecastPolicy, got 'Secret'; change it there"
    ),
    policy("x").replace("metadata: {name: x}", "metadata: {}"): "metadata.name is required; set it there",
    policy("x").replace("metadata: {name: x}", "metadata: x"): "metadata must be a mapping, not text",
    policy("x").replace("metadata: {name: x}", ""): "metadata is required; set metadata.name there",
    policy("x").replace("{name: x}", "{name: x, nmespace: y}"): "metadata.nmespace is unknown; did you mean namespace?",
    policy("x").replace("{name: x}", "{name: 5}"): "metadata.name must be text; it is a whole number; put it in quotes",
    policy("x").replace("{name: x}", "{name: x/y}"): "metadata.name must be a name without /, got 'x/y'",
    policy("x").replace("spec:", "spec: 5\nspec2:"): "spec2 is unknown; did you mean spec?",
    policy("x").replace("  query: up\n", "  min: 5\n"): "spec.query is required; set it there",
    policy("x", query="' '"): "spec.query must be text, not empty, got ' '; change it there",
    policy("x").partition("spec")[0]: "spec is required; set it there",
    policy("x").replace("spec:\n  query: up\n  targetPerPod: 200", "spec: []"): "spec must be a mapping, not a list",
    source("x").replace("{name: x}", "{name: x, namespace: y}"): (
        "metadata.namespace must not be given: a DataSource holds for all namespaces; to restrict it, list them in "
        "spec.allowedNamespaces"
    ),
    source("x").replace("url: http://x:9090", "timeout: 5s"): "spec.url is required; set it there",
    source("x").replace("http://x:9090", "http://joe:hush@x"): "spec.url must be a URL without user and password in it",
}  # fmt: skip


@pytest.mark.parametrize("line", POLICY_WRONG)
def test_a_wrong_line_of_a_policy_is_told(tmp_path: Path, line: str) -> None:
    path = write(tmp_path, source(), policy() + f"  {line}\n")
    [problem] = problems_of(path)
    assert problem.startswith(f"config.yaml, document 2: {POLICY_WRONG[line]}")
    assert "hush" not in problem


@pytest.mark.parametrize("line", SOURCE_WRONG)
def test_a_wrong_line_of_a_source_is_told(tmp_path: Path, line: str) -> None:
    [problem] = problems_of(write(tmp_path, source("s", f"  {line}\n"), policy()), env={"SET": "hush", "EMPTY": " "})
    assert problem.startswith(f"config.yaml, document 1: {SOURCE_WRONG[line]}")
    assert "hush" not in problem


@pytest.mark.parametrize("line", POLICY_WRONG)
def test_a_wrong_line_of_a_policy_is_told_with_its_number(tmp_path: Path, line: str) -> None:
    path = write(tmp_path, source(), policy() + f"  {line}\n")
    lines = path.read_text().splitlines()
    is_default = "by default" in POLICY_WRONG[line] or "is required" in POLICY_WRONG[line]
    number = len(lines) - lines[::-1].index("spec:") if is_default else len(lines)
    [problem] = problems_with_lines(path)
    assert problem.startswith(f"config.yaml, document 2 (line {number}): spec.")


def test_lines_are_counted_through_all_documents_of_a_file(tmp_path: Path) -> None:
    more = """\
  limits:
    maxConcurrent: 0
  headers:
    - name: X
      value: x
    - name: Y
      vaule: y
  allowedNamespaces:
    - a
    - 5
"""
    problems = problems_with_lines(write(tmp_path, source("s", more), "a: 1", "- b"))
    assert [line[: line.index(")")] for line in problems] == [
        "config.yaml, document 1 (line 7",
        "config.yaml, document 1 (line 12",
        "config.yaml, document 1 (line 15",
        "config.yaml, document 2 (line 18",
        "config.yaml, document 3 (line 20",
    ]


@pytest.mark.parametrize("text", WHOLE_WRONG, ids=range(len(WHOLE_WRONG)))
def test_a_wrong_document_is_told(tmp_path: Path, text: str) -> None:
    problems = problems_of(write(tmp_path, source(), policy(), text))
    assert any(line.startswith(f"config.yaml, document 3: {WHOLE_WRONG[text]}") for line in problems), problems
    assert "hush" not in str(problems)


def test_a_document_that_is_not_meant_for_us_is_one_line(tmp_path: Path) -> None:
    foreign = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: 5, x: y}\nspec: {replicas: 2}\n"
    assert len(problems_of(write(tmp_path, source(), policy(), foreign))) == 1


def test_a_word_that_is_nearly_right_does_not_hide_what_else_is_wrong(tmp_path: Path) -> None:
    text = policy(min="x").replace("kind: ForecastPolicy", "kind: forecastPolicy")
    assert len(problems_of(write(tmp_path, source(), text))) == 2


def test_all_problems_of_all_files_come_at_once(tmp_path: Path) -> None:
    write(tmp_path, source(), policy("a", min="x", leadTime="1h"), policy("b", dataSource="x"), name="a.yaml")
    write(tmp_path, policy("a"), policy("c", hedroom="1"), name="b.yaml")
    (tmp_path / "c.yaml").write_bytes(b"\xff")
    (tmp_path / "d.yaml").write_bytes(b"a: [")
    places = [line.partition(": ")[0] for line in problems_of(tmp_path)]
    assert sorted(places) == [
        "a.yaml, document 2", "a.yaml, document 2", "a.yaml, document 3", "b.yaml, document 1", "b.yaml, document 2",
        "c.yaml", "d.yaml",
    ]  # fmt: skip


def test_two_of_a_name_are_refused_and_both_places_named(tmp_path: Path) -> None:
    write(tmp_path, source(), policy("a", "x"), name="a.yaml")
    write(tmp_path, source(), policy("b", "x", workload="a"), name="b.yaml")
    problems = problems_of(tmp_path)
    assert len(problems) == 2
    assert (
        "b.yaml, document 1: data source prom already exists, from a.yaml, document 1; give one another name"
        in problems
    )
    assert "b.yaml, document 2: workload x/a already exists, from a.yaml, document 2; give one another name" in problems


def test_too_many_problems_are_counted(tmp_path: Path) -> None:
    keys = "".join(f"  key{number}: 1\n" for number in range(1000))
    problems = problems_of(write(tmp_path, source(), policy() + keys))
    assert len(problems) == 201
    assert problems[-1] == "and 800 more problems"


def test_what_is_odd_in_a_document_is_warned_of(tmp_path: Path) -> None:
    path = write(tmp_path, source(), policy(min="3"), policy("x", staleAfter="10s"))
    assert [line.partition(": ")[2] for line in load_fleet(path).warnings] == [
        (
            "spec.defaultMin is below spec.min (3), so that a stale forecast asks for fewer replicas than any plan, "
            "but is '2' by default; set it there"
        ),
        (
            "spec.staleAfter is not longer than the interval (30s), so that forecasts go stale between two cycles, "
            "got '10s'; change it there"
        ),
    ]


def test_every_setting_of_a_workload_is_a_key_of_its_own() -> None:
    keys = {path[-1] for path in POLICY_KEYS}
    assert len(keys) == len(WORKLOAD_SETTINGS) + 1
    assert {"query", "leadTime", "targetPerPod", "serviceLevel", "min", "max", "onStale", "defaultMin"} <= keys
    assert len({setting.name for setting in SOURCE_KEYS.values()}) == len(SOURCE_KEYS)
