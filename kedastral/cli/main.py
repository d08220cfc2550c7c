# SPDX-License-Identifier: Apache-2.0
"""The commands of the program, what they print on errors, and their exit codes."""

import errno
import gc
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, TypeVar

import click
import trio

from kedastral import __version__
from kedastral.app import App, run_until_signal
from kedastral.cli.validate import print_settings
from kedastral.compose import open_forecaster, open_run, open_scaler
from kedastral.errors import BindError, ConfigError, RemoteError
from kedastral.logs import configure_logging, log_gathered, log_stray_errors
from kedastral.serving.listening import raise_limit_of_open_files
from kedastral.settings.commands import (
    BY_COMMAND,
    BacktestSettings,
    DemoSettings,
    DoctorSettings,
    ExplainSettings,
    ForecasterSettings,
    RunSettings,
    ScalerSettings,
)
from kedastral.settings.effect import show
from kedastral.settings.fleet import WorkloadSettings
from kedastral.settings.load import Loaded, load
from kedastral.settings.schema import Setting, settings_of
from kedastral.text import one_line
from kedastral.workloads.forecasting import log_warning

HELP = {"help_option_names": ["-h", "--help"], "ignore_unknown_options": True, "allow_extra_args": True}
"""Unknown flags are let through, so that they are reported along with all other problems, not instead of them."""
FAILED, MISUSED, INTERRUPTED = 1, 2, 130
KEY_SETTINGS = (
    "config", "workload", "url", "forecaster_url", "model", "lead_time", "interval", "stale_after", "on_stale",
)  # fmt: skip
"""What the first line of a process's log shows."""
OF_WORKLOADS = frozenset(setting.name for setting in settings_of(WorkloadSettings))
"""Settings that each workload has its own value of."""

Command = Callable[..., None]
T = TypeVar("T")
Served = TypeVar("Served", RunSettings, ForecasterSettings, ScalerSettings)
log = logging.getLogger("kedastral.app")

version_option = click.version_option(__version__, prog_name="kedastral", message="%(prog)s %(version)s")
"""``--version``, the same on the program and on each of its commands."""


def settings_options(*kinds: type[Any]) -> Callable[[Command], Command]:
    """A decorator that gives a command the flags of settings classes. Values stay text: `load` reads them all."""
    by_flag = {setting.flag: setting for kind in reversed(kinds) for setting in settings_of(kind) if setting.flag}

    def decorate(command: Command) -> Command:
        for setting in reversed(by_flag.values()):
            command = _option(setting)(command)
        return version_option(command)

    return decorate


def given_flags(context: click.Context) -> dict[str, str]:
    """The given flags with their text; a repeated flag has one line for each value."""
    given = {}
    for name, value in context.params.items():
        flag = "--" + name.replace("_", "-")
        if isinstance(value, tuple) and value:
            given[flag] = "\n".join(value)
        elif isinstance(value, str):
            given[flag] = value
    return given


def unknown_flags(arguments: Sequence[str]) -> list[str]:
    """The flags among the arguments that click does not know; the words after them count as their values."""
    flags = [word.partition("=")[0] for word in arguments if word.startswith("-")]
    return flags or list(arguments[:1])


def _option(setting: Setting) -> Callable[[Command], Command]:
    assert setting.flag is not None  # noqa: S101 - the caller ensures it
    extra: dict[str, Any] = {}
    if setting.kind == "boolean":  # --flag alone means true
        extra = {"is_flag": False, "flag_value": "true"}
    elif setting.kind in ("header", "parameter", "files", "URLs"):
        extra = {"multiple": True}
    return click.option(
        setting.flag, setting.flag[2:].replace("-", "_"), metavar=setting.kind.upper(), help=_help(setting), **extra
    )


def _help(setting: Setting) -> str:
    notes = [setting.env]
    if setting.required:
        notes.append(f"required without {_flag(setting.unless[0])}" if setting.unless else "required")
    elif setting.shown_default:
        notes.append(f"default {setting.shown_default}")
    return f"{setting.meaning[0].upper()}{setting.meaning[1:]}.  [{'; '.join(notes)}]"


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


class Program(click.Group):
    """The commands; if nobody reads the output anymore, as after ``| head``, they end with 0.

    click would exit with 1 and not say why.
    """

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Like click's; help and the version are printed here."""
        try:
            return super().make_context(info_name, args, parent, **extra)
        except BrokenPipeError:
            raise click.exceptions.Exit(0) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Like click's."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise click.exceptions.Exit(0) from None


@click.group(
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Predictive autoscaling companion for KEDA: forecasts a workload's load from Prometheus, plans the replicas "
    "it will need, and tells KEDA a lead time early.",
    epilog="Every flag has an environment variable; a flag wins over its variable, which wins over "
    "the files of --config, which win over the default.",
)
@version_option
def cli() -> None:
    """The program; its commands follow."""


@cli.command(context_settings=HELP)
@settings_options(RunSettings)
@click.pass_context
def run(context: click.Context, /, **_flags: object) -> None:
    """Forecaster, snapshot server and KEDA scaler in one process.

    --workload, --prom-url and --prom-query describe one workload; --config names files that describe many.
    """
    _serve(_load(RunSettings, context), open_run)


@cli.command(context_settings=HELP)
@settings_options(ForecasterSettings)
@click.pass_context
def forecaster(context: click.Context, /, **_flags: object) -> None:
    """The forecaster and its snapshot server alone; `scaler` reads it over HTTP.

    --workload, --prom-url and --prom-query describe one workload; --config names files that describe many.
    """
    _serve(_load(ForecasterSettings, context), open_forecaster)


@cli.command(context_settings=HELP)
@settings_options(ScalerSettings)
@click.pass_context
def scaler(context: click.Context, /, **_flags: object) -> None:
    """The KEDA scaler alone, reading snapshots from a `forecaster`."""
    _serve(_load(ScalerSettings, context), open_scaler)


@cli.command(context_settings=HELP)
@click.argument("workload")
@click.option("--json", "as_json", is_flag=True, help="Print the server's answer unchanged.")
@click.option("--lead-time", metavar="DURATION", help="What if the lead time were this?")
@click.option("--target-per-pod", metavar="NUMBER", help="What if a pod sustained this load?")
@click.option("--service-level", metavar="NUMBER", help="What if this were the service level?")
@click.option("--headroom", metavar="NUMBER", help="What if this were the headroom?")
@click.option("--min", metavar="INTEGER", help="What if these were the fewest replicas?")
@click.option("--max", metavar="INTEGER", help="What if these were the most replicas?")
@settings_options(ExplainSettings)
@click.pass_context
def explain(context: click.Context, /, workload: str, *, as_json: bool, **_flags: object) -> None:
    """Show why KEDA is told what it is told about WORKLOAD. Asks a running process; changes nothing."""
    from kedastral.cli.explain import TRIED, run_explain  # noqa: PLC0415 - only this command needs it

    asked = {"workload": workload}
    for name, parameter in TRIED.items():
        value = context.params.pop(name)
        if value is not None:
            asked[parameter] = value
    del context.params["workload"], context.params["as_json"]
    settings = _load(ExplainSettings, context).settings
    try:
        run_explain(settings, asked, as_json=as_json)
    except RemoteError as error:
        _complain(str(error))
        sys.exit(MISUSED if error.reason == "refused" else FAILED)


@cli.command(context_settings=HELP)
@click.option("--json", "as_json", is_flag=True, help="Print the server's answer unchanged.")
@settings_options(ExplainSettings)
@click.pass_context
def status(context: click.Context, /, *, as_json: bool, **_flags: object) -> None:
    """Every workload of a running process: its state, its load, what KEDA is told and why; most urgent first."""
    from kedastral.cli.explain import run_status  # noqa: PLC0415 - only this command needs it

    del context.params["as_json"]
    settings = _load(ExplainSettings, context).settings
    try:
        run_status(settings, as_json=as_json)
    except RemoteError as error:
        _complain(str(error))
        sys.exit(FAILED)


@cli.command(context_settings=HELP)
@click.argument("paths", nargs=-1, metavar="[MANIFESTS]...")
@click.option(
    "-n",
    "--namespace",
    metavar="NAMESPACE",
    help="Namespace of objects that name none; with --cluster, the only one to read.",
)
@click.option("--cluster", is_flag=True, help="Read the objects from the cluster of your kubeconfig.")
@click.option(
    "--context", "kube_context", metavar="NAME", help="Context of the kubeconfig; the current one by default."
)
@click.option("--check-queries", is_flag=True, help="Ask Prometheus about the query of each workload.")
@click.option("--check-addresses", is_flag=True, help="Connect to each scalerAddress from this machine.")
@click.option("--output", type=click.Choice(("table", "json", "sarif")), default="table", show_default=True)
@click.option(
    "--level",
    type=click.Choice(("error", "warning", "info")),
    default="warning",
    show_default=True,
    help="Lowest severity that is shown.",
)
@settings_options(DoctorSettings)
@click.pass_context
def doctor(context: click.Context, /, **_flags: object) -> None:
    """Find what is wrong with ScaledObjects, HPAs, Deployments, settings and queries, and say how to fix it.

    MANIFESTS are files, folders, or - for what `kubectl get -o yaml` prints. Exit code 1: there is an error.
    """
    from kedastral.cli.doctor import DoctorCall, run_doctor  # noqa: PLC0415 - only this command needs it
    from kedastral.doctor.diagnosis import Severity  # noqa: PLC0415

    own = {name: context.params.pop(name) for name in (*OF_DOCTOR, "kube_context")}
    flags = [word for word in own["paths"] if word.startswith("-") and word != "-"]
    paths = tuple(word for word in own.pop("paths") if word not in flags)
    call = DoctorCall(
        paths=paths,
        namespace=own.pop("namespace") or "",
        context=own.pop("kube_context"),
        level=Severity(own.pop("level")),
        **own,
    )
    given = given_flags(context)
    if "--prom-url" in given and not given.keys() & {"--workload", "--config", "--prom-query"}:
        given.setdefault("--allow-scaledobject-workloads", "true")  # an address alone is for workloads of ScaledObjects
    loaded = load(DoctorSettings, given, os.environ, [flag.partition("=")[0] for flag in flags])
    if not run_doctor(call, loaded):
        sys.exit(FAILED)


OF_DOCTOR = ("paths", "namespace", "cluster", "check_queries", "check_addresses", "output", "level")
"""The parameters of `doctor` that are not settings, as named in `DoctorCall`."""


@cli.command(context_settings=HELP)
@settings_options(DemoSettings)
@click.pass_context
def demo(context: click.Context, /, **_flags: object) -> None:
    """Show a day of realistic load in minutes, with the code of `run`; needs nothing else."""
    from kedastral.cli.demo import run_demo  # noqa: PLC0415 - only the demo draws

    settings = _load(DemoSettings, context).settings
    configure_logging(settings.logs.level, settings.logs.format)
    _exit_cleanly(run_demo, settings)


@cli.command(context_settings=HELP)
@settings_options(BacktestSettings)
@click.pass_context
def backtest(context: click.Context, /, **_flags: object) -> None:
    """Replay history through the code of `run`, and compare its cost and unserved load with a plain HPA.

    The history comes from --csv, from --prom-url and --prom-query, or from the policies in --config.
    """
    from kedastral.cli.backtest import run_backtest  # noqa: PLC0415 - only this command needs it

    loaded = _load(BacktestSettings, context)
    if loaded.fleet is not None:
        _tell_warnings(loaded.fleet.warnings)
    try:
        failed = run_backtest(loaded.settings)
    except KeyboardInterrupt:
        _complain("interrupted; unfinished results are not written")
        sys.exit(INTERRUPTED)
    if failed:
        _complain(*failed)
        sys.exit(FAILED)


@cli.command(context_settings=HELP)
@click.option(
    "--command",
    type=click.Choice(list(BY_COMMAND)),
    default="run",
    show_default=True,
    help="The command whose settings to check.",
)
@click.option(
    "--check-queries", is_flag=True, help="Ask Prometheus about each query; exit 1 if one gives no load, or is wrong."
)
@click.option("--defaults", is_flag=True, help="Show the settings that have their default, too.")
@settings_options(*BY_COMMAND.values())
@click.pass_context
def validate(context: click.Context, /, command: str, *, check_queries: bool, defaults: bool, **_flags: object) -> None:
    """Check the settings and show what was given and where it comes from; exit 2 if any is wrong."""
    del context.params["command"], context.params["check_queries"], context.params["defaults"]
    loaded = _load(BY_COMMAND[command], context)
    if check_queries and loaded.fleet is None:
        raise ConfigError([f"--check-queries needs workloads with queries; {command} was given none"])
    print_settings(command, loaded, os.environ, defaults=defaults, asked=check_queries)
    if not check_queries or loaded.fleet is None:
        return
    from kedastral.cli.check_queries import check_all_queries  # noqa: PLC0415 - only this flag needs it

    if not check_all_queries(loaded.fleet.settings):
        sys.exit(FAILED)


def main() -> None:
    """The program. Exit code 0: success; 1: it failed; 2: wrong options or configuration; 130: interrupted."""
    try:
        _run_command()
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _complain(f"cannot write: {os.strerror(error.errno).lower()}")
        sys.exit(FAILED)
    finally:
        _flush_outputs()


def _run_command() -> None:
    try:
        cli.main(prog_name="kedastral", standalone_mode=False)
    except ConfigError as error:
        _complain(*error.problems)
        sys.exit(MISUSED)
    except click.exceptions.NoArgsIsHelpError as error:
        _tell(error.format_message())
        sys.exit(MISUSED)
    except click.ClickException as error:
        _complain(error.format_message().replace("\n", " "))
        sys.exit(MISUSED)
    except BindError as error:
        _complain(str(error))
        sys.exit(FAILED)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    except SystemExit as end:
        if not _reader_has_gone(end):
            raise
        sys.exit(0)


def _load(kind: type[T], context: click.Context) -> Loaded[T]:
    return load(kind, given_flags(context), os.environ, unknown_flags(context.args))


def _serve(loaded: Loaded[Served], open_app: Callable[[Served], AbstractAsyncContextManager[App]]) -> None:
    configure_logging(loaded.settings.logs.level, loaded.settings.logs.format)
    log_stray_errors()
    raise_limit_of_open_files()

    async def serve() -> None:
        warned = {} if loaded.fleet is None else loaded.fleet.warned
        try:
            async with open_app(loaded.settings) as app:
                log.info("kedastral %s", __version__, extra=_key_settings(loaded))
                for warning in loaded.warnings:
                    log_warning(log, warning, warned.get(warning))
                gc.freeze()  # loaded objects stay: garbage collection can skip them
                await run_until_signal(app)
        finally:
            log_gathered()
        log.info("stopped")

    _exit_cleanly(serve)


def _key_settings(loaded: Loaded[Any]) -> dict[str, str]:
    """The most informative settings of a process, as fields of its first log line."""
    known = {setting.name: setting for setting in settings_of(type(loaded.settings))}
    values = loaded.values
    in_files = loaded.fleet is not None and loaded.fleet.path is not None  # which may say otherwise than the flags
    names = [name for name in KEY_SETTINGS if not (in_files and name in OF_WORKLOADS)]
    shown = {name: show(known[name], values[name]) for name in names if values.get(name) is not None}
    return shown if loaded.fleet is None else {**shown, "workloads": str(len(loaded.fleet.settings.workloads))}


def _exit_cleanly(main: Callable[..., Any], *arguments: object) -> None:
    """Run ``main``; expected errors are left to the caller, a bug leads to a logged traceback and exit code 1."""
    try:
        trio.run(main, *arguments, strict_exception_groups=True)
    except (BindError, ConfigError, KeyboardInterrupt):
        raise
    except BaseException as error:
        if _reader_has_gone(error):
            sys.exit(0)
        log.critical("the process ends: unexpected error in a service", exc_info=True)
        sys.exit(FAILED)


def _reader_has_gone(error: BaseException) -> bool:
    """Whether this comes from writing to a pipe that nobody reads anymore, as with ``| head``: not a failure.

    rich turns that error into an exit with code 1.
    """
    if isinstance(error, BaseExceptionGroup):
        return all(map(_reader_has_gone, error.exceptions))
    return isinstance(error.__context__ if isinstance(error, SystemExit) else error, BrokenPipeError)


def _complain(*problems: str) -> None:
    for problem in problems:
        _tell(f"kedastral: {problem}")


def _tell_warnings(warnings: Sequence[str]) -> None:
    for warning in warnings:
        _tell(f"kedastral: warning: {one_line(warning, None)}")


def _tell(words: str) -> None:
    """Write it to stderr; if that is closed, the exit code must suffice."""
    with suppress(OSError, ValueError):
        click.echo(words, err=True)


def _flush_outputs() -> None:
    """Flush the outputs, and drop what cannot be written: otherwise the interpreter would change the exit code."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
