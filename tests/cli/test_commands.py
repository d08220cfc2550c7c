# SPDX-License-Identifier: Apache-2.0
"""The commands as a user meets them: help, versions, all problems at once, one per line, no traceback."""

import io
import json
import logging
import os
import runpy
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import attrs
import pytest
import trio

import kedastral
from kedastral.cli import main
from kedastral.cli import main as main_function
from kedastral.settings.commands import DemoSettings, ForecasterSettings, RunSettings, ScalerSettings
from kedastral.settings.schema import settings_of
from tests.settings.fleets import policy, source, write

KINDS = {"run": RunSettings, "forecaster": ForecasterSettings, "scaler": ScalerSettings, "demo": DemoSettings}
COMMANDS = [*KINDS, "validate"]
SOUND = ["--workload", "shop", "--prom-url", "http://prometheus:9090", "--prom-query", "sum(rate(x[1m]))"]


@attrs.frozen
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def problems(self) -> list[str]:
        """The lines on standard error; fails unless each is one of our problems."""
        lines = self.err.splitlines()
        assert all(line.startswith("kedastral: ") for line in lines), self.err
        return [line.removeprefix("kedastral: ") for line in lines]


@pytest.fixture(autouse=True)
def clean_world(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Remove the variables of the machine that configure a command, and restore logging."""
    for kind in KINDS.values():
        for setting in settings_of(kind):
            monkeypatch.delenv(setting.env, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(False)
    root.handlers[:], root.level = handlers, level


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str, env: Mapping[str, str] | None = None) -> Outcome:
    """Run the program in this process."""
    out, err = io.StringIO(), io.StringIO()
    with monkeypatch.context() as world, redirect_stdout(out), redirect_stderr(err):
        world.setattr(sys, "argv", ["kedastral", *arguments])
        for name, value in (env or {}).items():
            world.setenv(name, value)
        try:
            main_function()
            code: object = 0
        except SystemExit as end:
            code = end.code
    assert "Traceback" not in err.getvalue()
    return Outcome(int(str(code or 0)), out.getvalue(), err.getvalue())


def test_the_version_is_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(monkeypatch, "--version") == Outcome(0, f"kedastral {kedastral.__version__}\n", "")


def test_help_lists_every_command(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = call(monkeypatch, "--help")
    assert outcome.code == 0
    assert outcome.err == ""
    assert all(f"\n  {command} " in outcome.out for command in COMMANDS)


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_shows_every_flag_with_its_variable_and_default(
    monkeypatch: pytest.MonkeyPatch, command: str, flag: str
) -> None:
    outcome = call(monkeypatch, command, flag)
    assert outcome.code == 0
    assert outcome.err == ""
    words = "".join(outcome.out.split())  # lines are broken at hyphens, too
    for setting in settings_of(KINDS.get(command, RunSettings)):
        if setting.flag:
            assert setting.flag in words
            assert f"[{setting.env}" in words
            if setting.default and command in KINDS:
                assert "".join(f"default {setting.default}]".split()) in words


@pytest.mark.parametrize("command", COMMANDS)
def test_the_version_is_told_by_every_command(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    assert call(monkeypatch, command, "--version") == Outcome(0, f"kedastral {kedastral.__version__}\n", "")


def test_without_a_command_the_help_is_shown_as_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = call(monkeypatch)
    assert outcome.code == 2
    assert "Usage: " in outcome.err


@pytest.mark.parametrize("word", ["walk", "ru", "RUN", "--nothing"])
def test_an_unknown_command_is_one_line(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    outcome = call(monkeypatch, word)
    assert (outcome.code, outcome.out) == (2, "")
    assert len(outcome.problems) == 1
    assert word in outcome.err


@pytest.mark.parametrize("command", ["run", "forecaster", "validate"])
def test_what_is_required_is_asked_for_all_at_once(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    outcome = call(monkeypatch, command)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.problems == [
        "--workload is required; set it with --workload or WORKLOAD, or name files of workloads with --config",
        "--prom-url is required; set it with --prom-url or PROM_URL",
        "--prom-query is required; set it with --prom-query or PROM_QUERY",
    ]


def test_the_scaler_needs_its_forecaster(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = call(monkeypatch, "scaler")
    assert outcome.code == 2
    assert outcome.problems == ["--forecaster-url is required; set it with --forecaster-url or FORECASTER_URL"]


@pytest.mark.parametrize("command", ["run", "forecaster", "validate"])
def test_every_problem_is_told_at_once_a_line_each(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    wrong = ["--step", "fast", "--min", "5.9", "--unknown", "--headroom=0.5", "extra", "--horizen", "1h"]
    outcome = call(monkeypatch, command, *SOUND, *wrong, env={"TARGET_PER_POD": "nan", "LOG_LEVEL": "loud"})
    assert (outcome.code, outcome.out) == (2, "")
    told = outcome.problems
    for words in (
        "--unknown is an unknown flag",
        "--horizen is an unknown flag; did you mean --horizon?",
        "--step must be a duration such as 30s, 5m, 1h30m or 14d, got 'fast' from --step; set it with --step or STEP",
        "--min must be a whole number, got '5.9' from --min; set it with --min or MIN_REPLICAS",
        "--headroom must be between 1 and 100, got '0.5' from --headroom",
        "--target-per-pod must be a finite number, got 'nan' from TARGET_PER_POD",
        "--log-level must be one of debug, info, warn, error, got 'loud' from LOG_LEVEL",
    ):
        assert sum(line.startswith(words) for line in told) == 1, (words, told)


def test_settings_that_do_not_fit_together_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = call(monkeypatch, "validate", *SOUND, "--lead-time", "1h", "--min", "9", "--max", "3")
    assert outcome.code == 2
    assert len(outcome.problems) == 2


def test_a_flag_without_its_value_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = call(monkeypatch, "run", *SOUND, "--step")
    assert outcome.code == 2
    assert len(outcome.problems) == 1
    assert "--step" in outcome.err


def test_a_word_too_many_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = call(monkeypatch, "validate", *SOUND, "now")
    assert outcome.code == 2
    assert outcome.problems == ["now is an unknown argument; see --help"]


def test_hostile_text_in_a_problem_stays_on_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = call(monkeypatch, "validate", *SOUND, "--step", "1m\nkedastral: all is well\x1b[2J")
    assert outcome.code == 2
    assert len(outcome.problems) == 1
    assert "\x1b" not in outcome.err


def test_validate_shows_what_was_given_and_how_much_was_not(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = call(monkeypatch, "validate", *SOUND, "--step", "30s", env={"STEP": "2m", "MAX_REPLICAS": "0"})
    assert (outcome.code, outcome.err) == (0, "")
    *given, others, last = outcome.out.splitlines()
    assert dict(line.split(" = ", 1) for line in given) == {
        "--workload": "shop (from --workload)",
        "--prom-url": "http://prometheus:9090 (from --prom-url)",
        "--prom-query": "sum(rate(x[1m])) (from --prom-query)",
        "--step": "30s (from --step)",
        "--max": "0 (from MAX_REPLICAS)",
    }
    assert others == f"{len(settings_of(RunSettings)) - 5} settings have their default; --defaults shows them."
    assert last == "The settings are sound. Prometheus was not asked; --check-queries asks it."


def test_validate_shows_every_setting_if_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = call(monkeypatch, "validate", "--defaults", *SOUND)
    rows = dict(line.split(" = ", 1) for line in outcome.out.splitlines()[:-1])
    assert rows["--horizon"] == "30m (default)"
    assert rows["--workload"] == "shop (from --workload)"
    assert {setting.shown for setting in settings_of(RunSettings)} == rows.keys()


QUERY = 'sum(rate(http_requests_total{path=~"/[a-z]+/[b]x[/b]",code!~"5.."}[1m]))' + " + 0 * sum(up)" * 20


@pytest.mark.parametrize(
    ("flags", "headroom", "window"),
    [
        ((), "none (steered to the service level) (default)", "14d (what auto wants) (default)"),
        (("--model", "baseline"), "1.2 (default)", "30m (what baseline wants) (default)"),
        (("--headroom", "1.5", "--window", "2d"), "1.5 (from --headroom)", "2d (from --window)"),
    ],
)
def test_validate_shows_what_is_in_effect(
    monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], headroom: str, window: str
) -> None:
    lines = call(monkeypatch, "validate", "--defaults", *SOUND, *flags).out.splitlines()
    assert {f"--headroom = {headroom}", f"--window = {window}"} <= set(lines)


def test_validate_cuts_no_value_where_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = call(monkeypatch, "validate", *SOUND, "--prom-query", QUERY + "\n+ 1", env={"COLUMNS": "40"})
    assert f"--prom-query = {QUERY} + 1 (from --prom-query)" in outcome.out.splitlines()


def test_validate_cuts_no_value_in_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys, "argv", ["kedastral", "validate", *SOUND, "--prom-query", QUERY])
    with redirect_stdout(screen):
        main_function()
    cells = [line.split("│")[2] for line in screen.getvalue().splitlines() if line.count("│") == 4]
    assert "".join(QUERY.split()) in "".join("".join(cells).split())
    assert "…" not in screen.getvalue()


ODD = ["--stale-after", "30s", "--min", "3"]
STALE_WORDS = (
    "--stale-after is not longer than the interval (30s), so that forecasts go stale between two cycles, "
    "got '30s' from --stale-after; set it with --stale-after or STALE_AFTER"
)
MIN_WORDS = (
    "--default-min is below --min (3), so that a stale forecast asks for fewer replicas than any plan, "
    "but is '2' by default; set it with --default-min or DEFAULT_MIN"
)
ODD_WORDS = [STALE_WORDS, MIN_WORDS]


def test_validate_warns_of_settings_that_are_sound_but_odd(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = call(monkeypatch, "validate", *SOUND, *ODD)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.splitlines()[-3:-1] == [f"warning: {words}" for words in ODD_WORDS]


def test_a_process_begins_with_its_key_settings_and_its_warnings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def end_at_once(_app: object) -> None:
        await trio.lowlevel.checkpoint()

    @asynccontextmanager
    async def open_nothing(*_settings: object) -> AsyncIterator[None]:
        yield

    for command in ("run", "scaler"):
        monkeypatch.setattr(sys.modules["kedastral.cli.main"], f"open_{command}", open_nothing)
    monkeypatch.setattr(sys.modules["kedastral.cli.main"], "run_until_signal", end_at_once)
    outcome = call(monkeypatch, "run", *SOUND, *ODD, "--lead-time", "4m", "--log-format", "json")
    first, *warnings, _ = [json.loads(line) for line in outcome.err.splitlines()]
    told = {"workload": "shop", "workloads": "1", "url": "http://prometheus:9090", "lead_time": "4m", "interval": "30s"}
    assert first.items() >= (told | {"stale_after": "30s", "on_stale": "default-min"}).items()
    assert first["model"]
    assert [(one["level"], one["msg"]) for one in warnings] == [("warn", words) for words in ODD_WORDS]
    path = str(write(tmp_path, source(), policy("web", leadTime="2m"), policy("api", onStale="ride-forecast")))
    outcome = call(monkeypatch, "run", "--config", path, "--log-format", "json")
    first = json.loads(outcome.err.splitlines()[0])
    assert (first["config"], first["workloads"]) == (path, "2")
    assert not first.keys() & {"model", "lead_time", "interval", "stale_after", "on_stale"}, "each has its own"
    outcome = call(monkeypatch, "scaler", "--forecaster-url", "http://f:8081", "--log-format", "json")
    first = json.loads(outcome.err.splitlines()[0])
    assert first["forecaster_url"] == "http://f:8081"
    assert not first.keys() & {"workload", "workloads"}


def test_validate_checks_the_settings_of_other_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["validate", "--command", "scaler", "--forecaster-url", "http://forecaster:8081", "--listen", ":9"]
    outcome = call(monkeypatch, *arguments)
    assert (outcome.code, outcome.err) == (0, "")
    assert "http://forecaster:8081" in outcome.out
    assert "--prom-url" not in outcome.out
    assert call(monkeypatch, "validate", "--command", "scaler", *SOUND).code == 2


def test_validate_never_shows_a_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hush-file\n")
    secrets = {"PROM_PASSWORD": "hush-password", "PROM_HEADER": "Authorization: hush-header\nX-Scope: hush-scope"}
    outcome = call(monkeypatch, "validate", *SOUND, "--prom-username", "me", env=secrets)
    assert (outcome.code, outcome.err) == (0, "")
    assert "(hidden)" in outcome.out
    assert "hush" not in outcome.out
    token = call(monkeypatch, "validate", *SOUND, "--prom-token-file", str(tmp_path / "token"))
    assert token.code == 0
    assert "hush" not in token.out


def test_a_problem_never_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["validate", "--workload", "shop", "--prom-query", "up", "--prom-url", "http://me:hush@prometheus"]
    secrets = {"PROM_PASSWORD": "hush", "PROM_TOKEN": "hush", "PROM_HEADER": "hush", "PROM_USERNAME": "x"}
    outcome = call(monkeypatch, *arguments, "--prom-header", "Authorization: Bearer hush", env=secrets)
    assert outcome.code == 2
    assert outcome.problems
    assert "hush" not in outcome.err


def test_a_bug_is_a_traceback_in_the_log_and_a_failed_exit(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_settings: object) -> object:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(sys.modules["kedastral.cli.main"], "open_run", fail)
    err = io.StringIO()
    with redirect_stderr(err):
        monkeypatch.setattr(sys, "argv", ["kedastral", "run", *SOUND, "--log-format", "json"])
        with pytest.raises(SystemExit) as end:
            main()
    assert end.value.code == 1
    [line] = err.getvalue().splitlines()
    assert "ZeroDivisionError: a bug" in line
    assert "the process ends" in line


def test_an_interrupt_before_the_services_are_up_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_arguments: object, **_more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(trio, "run", interrupt)
    assert call(monkeypatch, "run", *SOUND).code == 130


def test_python_m_kedastral_is_the_same_program(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "argv", ["kedastral", "--version"])
    monkeypatch.delitem(sys.modules, "kedastral.__main__", raising=False)  # runpy warns about imported modules
    with redirect_stdout(out):
        runpy.run_module("kedastral", run_name="__main__")
    assert out.getvalue() == f"kedastral {kedastral.__version__}\n"
    assert os.environ["COLUMNS"] == "200"
