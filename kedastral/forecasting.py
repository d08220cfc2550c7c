# SPDX-License-Identifier: Apache-2.0
"""`Forecasting`: the forecasting half of a process, and how it follows the configuration while it runs."""

import logging
from collections.abc import Sequence

import attrs

from kedastral.config.fleet import ConfiguredFleet
from kedastral.config.fleet_settings import FleetSettings, WorkloadSettings
from kedastral.config.process_settings import ScaledObjectSettings
from kedastral.errors import ConfigError
from kedastral.members import MemberBuilder
from kedastral.services.adoption import Adoption, FleetDirectory
from kedastral.services.changeover import Changes, Pieces, change_over
from kedastral.services.directory import ObjectRef
from kedastral.services.fleet import Fleet

log = logging.getLogger("kedastral.config")
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
        if self._told.get(read.key, ()) == read.oddities:
            return
        if len(self._told) >= MOST_TOLD:
            self._told.clear()
        self._told[read.key] = read.oddities
        for words in read.oddities:
            log.warning("%s: %s", read.origin, words)


@attrs.frozen
class Forecasting:
    """A fleet, the directory of its workloads, and what makes its members."""

    fleet: Fleet
    directory: FleetDirectory
    builder: MemberBuilder

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
            return await change_over(
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
        known, pieces = set(self.told), Pieces()
        self.told = warnings
        for warning in warnings:
            await pieces.rest()
            if warning not in known:
                log.warning(warning)
