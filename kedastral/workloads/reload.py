# SPDX-License-Identifier: Apache-2.0
"""`Reloader`: reads the configuration again when its files change, or when asked to; a broken one changes nothing."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, NoReturn, TypeVar

import attrs
import trio

from kedastral.core.trigger import ObjectRef
from kedastral.errors import ConfigError
from kedastral.serving.metrics import Metrics
from kedastral.serving.snapshot_api import Readiness
from kedastral.settings.declarations import FleetSettings, ScaledObjectSettings, WorkloadSettings
from kedastral.settings.resolve import ConfiguredFleet
from kedastral.workloads.fleet import Changes, Fleet, TimeSlice, reconcile
from kedastral.workloads.runner import RunnerBuilder
from kedastral.workloads.scaledobject_workloads import Adoption, FleetResolver

LOOK_EVERY = 2.0
"""Seconds between two looks; what differs is read once two looks agree, so that no half-written file is."""
MOST_LOOKS = 10
ABOUT = "configuration"

T = TypeVar("T")
log = logging.getLogger("kedastral.config")


@attrs.define(eq=False)
class Reloader(Generic[T]):
    """Watches by ``look``, which gives something that differs when the files do; ``load`` and ``look`` may block.

    ``load`` raises ConfigError with all problems; so may ``apply``, which puts what was loaded into effect.
    """

    look: Callable[[], object]
    load: Callable[[], T]
    apply: Callable[[T], Awaitable[Changes]]
    metrics: Metrics
    readiness: Readiness
    _asked: trio.Event = attrs.field(factory=trio.Event, init=False)
    _told: str | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        for result in ("success", "failure"):
            self.metrics.reloads.labels(result)

    def ask(self) -> None:
        """Read the configuration now, changed or not."""
        self._asked.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Watch until cancelled."""
        read = await self._look()
        await self.reload(quiet=True)  # what was changed between the first reading and now
        task_status.started()
        while True:
            asked = await self._wait()
            seen = await self._look()
            if not asked and seen != read:
                seen = await self._settle(seen)
            if asked:
                self._told = None  # whoever asks is answered, though it is the same as before
            if asked or seen != read:
                read = seen
                await self.reload()

    async def reload(self, *, quiet: bool = False) -> None:
        """Load and apply once; a ConfigError is told once, counted, and shown by the readiness.

        Where it is ``quiet`` and nothing has changed, nothing is told.
        """
        try:
            loaded = await trio.to_thread.run_sync(self.load, abandon_on_cancel=True)
            changes = await self.apply(loaded)
        except ConfigError as error:
            self._note_failure(error)
            return
        if quiet and not changes:
            return
        self.metrics.reloads.labels("success").inc()
        self.metrics.reload_worked.set(1)
        self.readiness.warn(ABOUT, None)
        self._told = None
        fields = {name: ", ".join(keys[:20]) for name, keys in attrs.asdict(changes).items() if keys}
        log.info("the configuration was read again: %s", _in_words(changes), extra=fields)

    async def _wait(self) -> bool:
        """Wait for the next look; True where somebody asked."""
        with trio.move_on_after(LOOK_EVERY):
            await self._asked.wait()
        asked, self._asked = self._asked.is_set(), trio.Event()
        return asked

    async def _look(self) -> object:
        return await trio.to_thread.run_sync(self.look, abandon_on_cancel=True)

    async def _settle(self, seen: object) -> object:
        """Look until two looks agree, as long as one may wait for that."""
        for _ in range(MOST_LOOKS):
            await trio.sleep(LOOK_EVERY / 2)
            before, seen = seen, await self._look()
            if seen == before or self._asked.is_set():
                break
        return seen

    def _note_failure(self, error: ConfigError) -> None:
        self.metrics.reloads.labels("failure").inc()
        self.metrics.reload_worked.set(0)
        words = "; ".join(error.problems)
        self.readiness.warn(ABOUT, f"the one that is in force is older than its files: {words[:2000]}")
        if words != self._told:
            for problem in error.problems:
                log.error("the configuration cannot be used, the one before stays: %s", problem)
        self._told = words


def _in_words(changes: Changes) -> str:
    if not changes:
        return "no workload changed"
    return ", ".join(f"{len(keys)} {name}" for name, keys in attrs.asdict(changes).items() if keys)


# --- `Forecasting`: the forecasting half of a process, and how it follows the configuration while it runs.

MOST_TOLD = 10_000
"""Workloads whose warnings are remembered, so that they are not told again; many more than may be there at once."""


@attrs.define
class TriggerReader:
    """Reads what ScaledObjects say of their workloads, by the newest configuration."""

    configured: ConfiguredFleet
    namespaces: frozenset[str]
    _told: dict[str, tuple[str, ...]] = attrs.field(factory=dict, init=False)

    def read(self, ref: ObjectRef) -> WorkloadSettings:
        """The workload that ``ref`` brings. Raises ConfigError with all that is wrong with its metadata."""
        if self.namespaces and ref.namespace not in self.namespaces:
            raise ConfigError([f"ScaledObjects of namespace {ref.namespace!r} may not bring workloads here"])
        read = self.configured.workload_from_metadata(ref.namespace, ref.name, ref.metadata)
        self._tell(read)
        return read

    def _tell(self, read: WorkloadSettings) -> None:
        """Log what is odd, once: KEDA brings the same again and again."""
        if self._told.get(read.key, ()) == read.warnings:
            return
        if len(self._told) >= MOST_TOLD:
            self._told.clear()
        self._told[read.key] = read.warnings
        for words in read.warnings:
            log.warning("%s: %s", read.origin, words)


@attrs.frozen
class Forecasting:
    """A fleet, the directory of its workloads, and what makes its members."""

    fleet: Fleet
    directory: FleetResolver
    builder: RunnerBuilder

    def begin(self, settings: FleetSettings) -> None:
        """Take in the workloads that are configured. Raises ConfigError."""
        self.builder.sources.replace(settings.sources)
        for workload in settings.workloads.values():
            self.fleet.put(self.builder.build(workload))

    def adopt(self, rules: ScaledObjectSettings, configured: ConfiguredFleet) -> TriggerReader:
        """Take in the workloads that ScaledObjects bring, by ``rules``."""
        reader, builder = TriggerReader(configured, frozenset(rules.scaledobject_namespaces)), self.builder
        self.directory.adoption = Adoption(reader.read, builder.build, rules.max_scaledobject_workloads, builder.fits)
        return reader

    async def change(self, settings: FleetSettings) -> Changes:
        """Make the fleet what ``settings`` say, while it runs; what ScaledObjects brought stays.

        Raises ConfigError, and then nothing has changed.
        """
        builder, directory = self.builder, self.directory
        undo = builder.sources.replace(settings.sources)
        try:
            return await reconcile(
                self.fleet,
                settings.workloads,
                lambda key, member: builder.build(settings.workloads[key], member),
                directory.configured,
                builder.fits,
                lambda key: directory.hand_over((key,)),
            )
        except ConfigError:
            undo()
            raise
        finally:
            await builder.sources.close_unused()  # with no user there is none whose leaving would do it


@attrs.define
class Following:
    """Puts what was read again into effect; ``told`` are the warnings of what is in force."""

    forecasting: Forecasting
    told: Sequence[str]
    reader: TriggerReader | None = None

    async def follow(self, read: ConfiguredFleet) -> Changes:
        """Make all of it so. Raises ConfigError, and then what was in force is again."""
        reader, before = self.reader, None
        if reader is not None:  # from the moment that its data sources are used: KEDA asks meanwhile
            before, reader.configured = reader.configured, read
        try:
            changes = await self.forecasting.change(read.settings)
        except ConfigError:
            if reader is not None and before is not None:
                reader.configured = before
                await self.forecasting.directory.read_again()
            raise
        if reader is not None:
            await self.forecasting.directory.read_again()
        await self._tell(read.warnings)
        return changes

    async def _tell(self, warnings: Sequence[str]) -> None:
        """Log those that are new."""
        known, pieces = set(self.told), TimeSlice()
        self.told = warnings
        for warning in warnings:
            await pieces.rest()
            if warning not in known:
                log.warning(warning)
