# SPDX-License-Identifier: Apache-2.0
"""Every setting that cannot be run with gives one line: what must hold, what was given, and how to set it."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedastral.errors import ConfigError
from kedastral.settings.commands import DemoSettings, ForecasterSettings, RunSettings, ScalerSettings
from kedastral.settings.load import load
from kedastral.settings.schema import Setting, settings_of
from kedastral.settings.spelling import find_misspelt_variables

NEEDED = {
    "WORKLOAD": "shop",
    "PROM_URL": "http://prometheus:9090",
    "PROM_QUERY": "sum(rate(http_requests_total[1m]))",
    "FORECASTER_URL": "http://forecaster:8081",
}
RUN: dict[str, Setting] = {setting.flag or setting.env: setting for setting in settings_of(RunSettings)}

DURATIONS = ["--horizon", "--step", "--lead-time", "--interval", "--window", "--model-timeout", "--stale-after"]
NUMBERS = ["--target-per-pod", "--headroom", "--up-max-factor", "--down-max-pct", "--reactive-headroom"]
INTEGERS = ["--min", "--max", "--prewarm-steps", "--default-min"]
URLS = ["--prom-url", "--model-url"]
ADDRESSES = ["--http-listen", "--grpc-listen"]
CHOICES = {
    "--model": "baseline, auto, seasonal-naive, last-value, http",
    "--rounding": "ceil, round, floor",
    "--on-stale": "default-min, ride-forecast, error",
    "--log-level": "debug, info, warn, error",
    "--log-format": "text, json",
}
A_DURATION = "must be a duration such as 30s, 5m, 1h30m or 14d"
AN_ADDRESS = "must be an address such as :8080, 127.0.0.1:8080 or [::1]:8080"
A_URL = "must be an http:// or https:// URL"
HEADROOMS = ["--headroom", "--reactive-headroom"]
NO_NUMBER = ["nan", "NaN", "inf", "-inf", "Infinity", "1e999", "", "five", "1,2"]

WRONG: list[tuple[str, str, str]] = [
    # no span, or none at all
    *((flag, text, A_DURATION) for flag in DURATIONS for text in ["", "-5m", "5", "5 m", "nan", "inf", "soon", "true"]),
    *((flag, "0s", "must be greater than 0") for flag in DURATIONS),
    *((flag, "0.4ms", "must be a duration of whole milliseconds") for flag in DURATIONS),
    *((flag, "3661d", "must be a duration of at most ten years") for flag in DURATIONS),
    # spans that do not fit each other: the defaults are a horizon of 30m, a step of 1m and a lead time of 5m
    ("--step", "31m", "must not be longer than the horizon (30m)"),
    ("--horizon", "30m30s", "must be a whole multiple of the step (1m)"),
    ("--horizon", "8d", "must be at most 10080 steps of 1m"),
    ("--lead-time", "30m", "must be shorter than the horizon (30m)"),
    ("--lead-time", "1h", "must be shorter than the horizon (30m)"),
    ("--window", "59s", "must not be shorter than the step (1m)"),
    ("--window", "2000d", "must be at most 1000000 steps of 1m"),
    # numbers
    *((flag, text, "must be a finite number") for flag in NUMBERS for text in NO_NUMBER),
    ("--target-per-pod", "0", "must be greater than 0"),
    ("--target-per-pod", "-1", "must be greater than 0"),
    ("--target-per-pod", "1e-300", "must be greater than 0 by more than 1e-09"),
    *((flag, text, "must be between 1 and 100") for flag in HEADROOMS for text in ["0.99", "120", "1e308"]),
    ("--up-max-factor", "1", "must be greater than 1"),
    ("--up-max-factor", "0.5", "must be greater than 1"),
    ("--up-max-factor", "1.0000000001", "must be greater than 1 by more than 1e-09"),
    ("--down-max-pct", "-0.1", "must be between 0 and 100"),
    ("--down-max-pct", "100.1", "must be between 0 and 100"),
    # whole numbers
    *((flag, text, "must be a whole number") for flag in INTEGERS for text in [*NO_NUMBER, "5.9", "5.0", "1e3", "5_0"]),
    ("--min", "-1", "must be between 0 and 2147483647"),
    ("--max", "-1", "must be between 0 and 2147483647"),
    ("--max", "2147483648", "must be between 0 and 2147483647"),
    ("--default-min", "-1", "must be between 0 and 2147483647"),
    ("--prewarm-steps", "-1", "must be at least 0"),
    *(("--prewarm-steps", text, "must not reach past the horizon (30m, in steps of 1m)") for text in ["31", "9" * 18]),
    *(("--prewarm", text, "must not be longer than the horizon (30m)") for text in ["31m", "3660d"]),
    *(("--settle-after", text, "must be shorter than the window (14d)") for text in ["14d", "3660d"]),
    ("--min", "51", "must not be above --max (50)"),
    # words
    *(
        (flag, text, "must be true or false")
        for flag in ["--reactive-floor", "--grpc-reflection"]
        for text in ["", "maybe"]
    ),
    *((flag, text, f"must be one of {words}") for flag, words in CHOICES.items() for text in ["", "none", "INFO"]),
    *(
        (flag, text, "must be a name, not empty")
        for flag in ["--workload", "--metric", "--prom-username"]
        for text in ["", " "]
    ),
    ("--workload", "a\nb", "must be a name without control characters"),
    ("--prom-query", "", "must be text, not empty"),
    ("--prom-query", " \n", "must be text, not empty"),
    # addresses
    *(
        (flag, text, A_URL)
        for flag in URLS
        for text in ["", "prometheus:9090", "ftp://prometheus", "http://", "http://a b"]
    ),
    *((flag, text, AN_ADDRESS) for flag in ADDRESSES for text in ["", "8080", "host", "::1:80", ":http"]),
    *((flag, ":65536", "must be an address whose port is at most 65535") for flag in ADDRESSES),
    ("--http-listen", ":8080", "must not be the address of the gRPC server (:8080)"),
    ("--http-listen", "127.0.0.1:8080", "must not be the address of the gRPC server (:8080)"),
    # files
    *(
        (flag, "/does/not/exist", "must be a file that can be read (No such file or directory)")
        for flag in [
            "--prom-password-file",
            "--prom-token-file",
            "--prom-ca-file",
            "--prom-cert-file",
            "--prom-key-file",
        ]
    ),
]


def problems_of(
    kind: type[Any], flags: dict[str, str], env: dict[str, str], unknown: tuple[str, ...] = ()
) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(kind, flags, env, unknown)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def needed_but(env: str) -> dict[str, str]:
    return {name: text for name, text in NEEDED.items() if name != env}


@pytest.mark.parametrize(("flag", "text", "wrong"), WRONG)
def test_a_wrong_flag_is_one_line(flag: str, text: str, wrong: str) -> None:
    env = RUN[flag].env

    assert problems_of(RunSettings, {flag: text}, NEEDED) == (
        f"{flag} {wrong}, got {text!r} from {flag}; set it with {flag} or {env}",
    )


@pytest.mark.parametrize(("flag", "text", "wrong"), [row for row in WRONG if row[1]])
def test_a_wrong_variable_is_one_line(flag: str, text: str, wrong: str) -> None:
    env = RUN[flag].env

    assert problems_of(RunSettings, {}, NEEDED | {env: text}) == (
        f"{flag} {wrong}, got {text!r} from {env}; set it with {flag} or {env}",
    )


@pytest.mark.parametrize("setting", RUN.values(), ids=lambda setting: setting.env)
def test_an_empty_variable_is_not_given(setting: Setting) -> None:
    env = NEEDED | {setting.env: ""}

    if setting.required:
        assert problems_of(RunSettings, {}, env) == (f"{setting.flag} is required; set it with {setting.remedy}",)
    else:
        assert load(RunSettings, {}, env).settings == load(RunSettings, {}, NEEDED).settings


@pytest.mark.parametrize(
    ("kind", "flag", "env"),
    [
        (RunSettings, "--workload", "WORKLOAD"),
        (RunSettings, "--prom-url", "PROM_URL"),
        (RunSettings, "--prom-query", "PROM_QUERY"),
        (ForecasterSettings, "--workload", "WORKLOAD"),
        (ForecasterSettings, "--prom-url", "PROM_URL"),
        (ForecasterSettings, "--prom-query", "PROM_QUERY"),
        (ScalerSettings, "--forecaster-url", "FORECASTER_URL"),
    ],
)
def test_what_is_required_and_missing_is_one_line(kind: type[Any], flag: str, env: str) -> None:
    assert problems_of(kind, {}, needed_but(env)) == (f"{flag} is required; set it with {flag} or {env}",)


def test_the_http_model_requires_its_url() -> None:
    assert problems_of(RunSettings, {"--model": "http"}, NEEDED) == (
        "--model-url is required by the http model; set it with --model-url or MODEL_URL",
    )


@pytest.mark.parametrize("step", ["1s", "1s200ms"])
def test_a_step_that_is_too_short_for_the_history_of_its_model_is_refused_with_what_would_do(step: str) -> None:
    words = "--step is too short for the 14d of history that auto wants: at most 1000000 steps"
    problems = problems_of(RunSettings, {"--step": step}, NEEDED)
    assert problems == (f"{words}; set a longer one, or a shorter --window",)
    load(RunSettings, {"--step": step, "--window": "11d"}, NEEDED)
    load(RunSettings, {"--step": step, "--model": "baseline"}, NEEDED)


@pytest.mark.parametrize(("flags", "given"), [({}, "but is '2' by default"), ({"--min": "9"}, "got '9' from --min")])
def test_a_default_that_does_not_fit_says_that_it_is_one(flags: dict[str, str], given: str) -> None:
    assert problems_of(RunSettings, {**flags, "--max": "1"}, NEEDED) == (
        f"--min must not be above --max (1), {given}; set it with --min or MIN_REPLICAS",
    )


@pytest.mark.parametrize(
    "flags",
    [
        {"--min": "60", "--max": "0"},
        {"--min": "50"},
        {"--max": "2"},
        {"--min": "0", "--max": "0"},
        {"--step": "30m"},
        {"--horizon": "7d"},
        {"--lead-time": "29m59s"},
        {"--window": "1m"},
        {"--step": "100ms"},
        {"--step": "7s", "--horizon": "12m50s"},
        {"--headroom": "1"},
        {"--down-max-pct": "0"},
        {"--down-max-pct": "100"},
        {"--prewarm-steps": "0"},
        {"--default-min": "0"},
        {"--http-listen": ":0", "--grpc-listen": ":0"},
        {"--http-listen": "127.0.0.1:80", "--grpc-listen": "127.0.0.2:80"},
        {"--model": "http", "--model-url": "http://model"},
    ],
    ids=str,
)
def test_what_lies_just_inside_is_accepted(flags: dict[str, str]) -> None:
    step = flags.get("--step")
    more = {"--horizon": "15m", "--lead-time": "1m", "--window": "27h46m"} if step == "100ms" else {}

    assert isinstance(load(RunSettings, more | flags, NEEDED).settings, RunSettings)


def test_all_problems_are_told_at_once() -> None:
    problems = problems_of(
        RunSettings,
        {"--headroom": "0.5", "--min": "five", "--lead-time": "2h", "--model": "http"},
        {"PROM_URL": "prometheus", "UP_MAX_FACTOR": "nan"},
        ("--hedroom", "--frobnicate"),
    )

    assert sorted(line.split()[0] for line in problems) == [
        "--frobnicate", "--headroom", "--hedroom", "--lead-time", "--min", "--model-url", "--prom-query", "--prom-url",
        "--up-max-factor", "--workload",
    ]  # fmt: skip


def test_a_setting_that_cannot_be_read_is_not_compared_with_others() -> None:
    problems = problems_of(RunSettings, {"--horizon": "long", "--step": "0s", "--max": "-1", "--min": "9"}, NEEDED)

    assert [line.split()[0] for line in problems] == ["--horizon", "--step", "--max"]


def test_an_unknown_flag_is_refused_and_the_nearest_named() -> None:
    assert problems_of(RunSettings, {}, NEEDED, ("--headrom",)) == (
        "--headrom is an unknown flag; did you mean --headroom?",
    )
    assert problems_of(RunSettings, {}, NEEDED, ("--xyzzy",)) == ("--xyzzy is an unknown flag; see --help",)


@pytest.mark.parametrize(
    ("kind", "flag", "hint"),
    [
        (ForecasterSettings, "--grpc-listen", "it belongs to run and demo"),
        (ForecasterSettings, "--http-listen", "it belongs to run, scaler and demo; here it is --listen"),
        (ScalerSettings, "--grpc-listen", "it belongs to run and demo; here it is --listen"),
        (ForecasterSettings, "--on-stale", "it belongs to run, scaler, doctor, demo and backtest"),
        (ScalerSettings, "--log", "see --help"),
        (RunSettings, "--forecaster-url", "it belongs to scaler"),
        (RunSettings, "--model-uri", "did you mean --model-url?"),
        (RunSettings, "--min-replica-count", "did you mean --min?"),
        (RunSettings, "--maxReplicas", "did you mean --max?"),
        (RunSettings, "--threshold", "did you mean --target-per-pod?"),
        (RunSettings, "--server-address", "did you mean --prom-url?"),
        (RunSettings, "--polling-interval", "it belongs to backtest; did you mean --interval?"),
    ],
)
def test_a_flag_of_another_command_names_those_it_belongs_to(kind: type[Any], flag: str, hint: str) -> None:
    assert problems_of(kind, {}, NEEDED, (flag,)) == (f"{flag} is an unknown flag; {hint}",)


@pytest.mark.parametrize(
    ("flags", "odd"),
    [
        ({}, []),
        ({"--stale-after": "30s"}, ["--stale-after"]),
        ({"--stale-after": "31s"}, ["--stale-after"]),
        ({"--stale-after": "59s"}, ["--stale-after"]),
        ({"--stale-after": "1m"}, []),
        ({"--step": "2m"}, []),
        ({"--step": "10m"}, ["--stale-after"]),
        ({"--step": "10m", "--stale-after": "10m"}, []),
        ({"--min": "3"}, ["--default-min"]),
        ({"--min": "3", "--default-min": "3"}, []),
        ({"--min": "3", "--on-stale": "error"}, []),
    ],
    ids=str,
)
def test_sound_settings_that_are_odd_are_warned_of(flags: dict[str, str], odd: list[str]) -> None:
    warnings = load(RunSettings, flags, NEEDED).warnings
    assert [words.split()[0] for words in warnings] == odd
    assert all("; set it with " in words for words in warnings)


def test_a_stale_after_that_no_missing_value_fits_into_is_explained() -> None:
    [warning] = load(RunSettings, {"--step": "10m"}, NEEDED).warnings
    assert warning == (
        "--stale-after is shorter than the step (10m), so that one missing value stops forecasts until the next, "
        "but is '2m' by default; set it with --stale-after or STALE_AFTER"
    )


@pytest.fixture
def token(tmp_path: Path) -> str:
    """A file that holds a token."""
    path = tmp_path / "token"
    path.write_text("open-sesame\n")
    return str(path)


def test_namespaces_of_scaled_objects_that_are_not_allowed_are_warned_of() -> None:
    flags = {"--scaledobject-namespaces": "shop"}
    [warning] = load(RunSettings, flags, NEEDED).warnings
    assert warning == (
        "--scaledobject-namespaces is not used, since --allow-scaledobject-workloads is not set; set that too, or "
        "remove this"
    )
    allowed = load(RunSettings, {**flags, "--allow-scaledobject-workloads": "true"}, NEEDED)
    assert not [warning for warning in allowed.warnings if "--scaledobject-namespaces" in warning]


@pytest.mark.parametrize(
    ("env", "wrong"),
    [
        ({"PROM_PASSWORD": "x"}, "--prom-username is required with a password"),
        ({"PROM_USERNAME": "joe"}, "--prom-username needs a password; set --prom-password-file or PROM_PASSWORD"),
        (
            {"PROM_USERNAME": "joe", "PROM_TOKEN": "x"},
            "--prom-username and a bearer token exclude each other; remove one",
        ),
        (
            {"PROM_PASSWORD": "x", "PROM_PASSWORD_FILE": __file__, "PROM_USERNAME": "joe"},
            "--prom-password-file and PROM_PASSWORD exclude each other",
        ),
        ({"PROM_TOKEN": "x", "PROM_TOKEN_FILE": "TOKEN"}, "--prom-token-file and PROM_TOKEN exclude"),
        ({"PROM_CERT_FILE": "/dev/null"}, "--prom-cert-file and --prom-key-file go together"),
        ({"PROM_KEY_FILE": "/dev/null"}, "--prom-cert-file and --prom-key-file go together"),
        ({"PROM_PASSWORD": " "}, "PROM_PASSWORD must be text, not empty"),
        ({"PROM_QUERY_PARAM": "time=hush"}, "--prom-query-param must be other parameters than end, query, start, step"),
        ({"PROM_HEADER": "nonsense"}, "--prom-header must be headers written 'Name: value', one per line"),
    ],
    ids=str,
)
def test_a_login_that_cannot_work_is_one_line(env: dict[str, str], wrong: str, token: str) -> None:
    problems = problems_of(
        RunSettings, {}, NEEDED | {name: token if text == "TOKEN" else text for name, text in env.items()}
    )

    assert len(problems) == 1
    assert problems[0].startswith(wrong)
    assert "; " in problems[0]


@pytest.mark.parametrize(
    "env",
    [
        {"PROM_USERNAME": "joe", "PROM_PASSWORD": "x"},
        {"PROM_USERNAME": "joe", "PROM_PASSWORD_FILE": __file__},
        {"PROM_TOKEN": "x"},
        {"PROM_TOKEN_FILE": "TOKEN"},
    ],
    ids=str,
)
def test_a_login_that_can_work_is_accepted(env: dict[str, str], token: str) -> None:
    given = {name: token if text == "TOKEN" else text for name, text in env.items()}
    assert isinstance(load(RunSettings, {}, NEEDED | given).settings, RunSettings)


TEXTS = (
    st.text(max_size=30)
    | st.text("0123456789.eE+-_smhdw:/[]@ ", max_size=30)
    | st.from_regex(r"-?[0-9]{1,12}(\.[0-9]{1,6})?(ms|s|m|h|d|w)?", fullmatch=True)
    | st.sampled_from([text for _, text, _ in WRONG])
    | st.sampled_from(["9" * 5000, "0." + "0" * 400 + "1ms", "http://[", "http://[v1.x]", "//", "\x00"])
)


@pytest.mark.parametrize("kind", [RunSettings, ForecasterSettings, ScalerSettings, DemoSettings])
@given(st.data())
def test_any_text_gives_settings_or_one_line_for_each_problem(kind: type[Any], data: st.DataObject) -> None:
    flags, env = {}, dict(NEEDED)
    for setting in data.draw(st.lists(st.sampled_from(settings_of(kind)), min_size=1, max_size=4)):
        text = data.draw(TEXTS)
        if setting.flag and data.draw(st.booleans()):
            flags[setting.flag] = text
        else:
            env[setting.env] = text

    try:
        loaded = load(kind, flags, env)
    except ConfigError as error:
        problems = error.problems
    else:
        assert isinstance(loaded.settings, kind)
        return
    assert problems
    for line in problems:
        assert line.isprintable()
        assert "; " in line
        assert len(line) < 600


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("MIN_REPLICA", "MIN_REPLICAS"),
        ("MIN_REPLICA_COUNT", "MIN_REPLICAS"),
        ("POLLING_INTERVAL", "INTERVAL"),
        ("PROMETHEUS_URL", "PROM_URL"),
        ("LEADTIME_", "LEAD_TIME"),
    ],
)
def test_a_variable_that_nobody_reads_is_a_warning_that_names_the_near_one(variable: str, meant: str) -> None:
    warnings = find_misspelt_variables({variable: "5"}, settings_of(RunSettings), ())
    assert warnings == [f"{variable} is not read by Kedastral; did you mean {meant}?"]


def test_variables_of_others_are_no_slips_of_ours() -> None:
    others = {"PATH": "x", "HTTP_PROXY": "x", "WEB_SERVICE_HOST": "x", "REDIS_PORT": "x", "MINREPLICAS": "3"}
    assert find_misspelt_variables(others, settings_of(RunSettings), ()) == []
    assert find_misspelt_variables({"MIN_REPLICA": ""}, settings_of(RunSettings), ()) == []
    assert find_misspelt_variables({"MIN_REPLICA": "5"}, settings_of(RunSettings), ("min_replicas",)) == []


def test_a_warning_is_told_once() -> None:
    loaded = load(RunSettings, {}, {**NEEDED, "MIN_REPLICA": "5"})
    assert list(loaded.warnings).count("MIN_REPLICA is not read by Kedastral; did you mean MIN_REPLICAS?") == 1
    assert len(loaded.warnings) == len(set(loaded.warnings))
