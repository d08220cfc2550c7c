# SPDX-License-Identifier: Apache-2.0
"""`Forecasting`: the forecasting half of a process, which puts a configuration into effect."""

import logging
from collections.abc import Sequence

import attrs

from kedastral.cooperative import TimeSlice
from kedastral.errors import ConfigError
from kedastral.logs import named
from kedastral.settings.fleet import ConfiguredFleet, FleetSettings
from kedastral.settings.rules import Finding
from kedastral.workloads.fleet import Changes, Fleet, reconcile
from kedastral.workloads.runner import RunnerBuilder
from kedastral.workloads.scaledobject_workloads import REMOVE_AFTER, FleetResolver

log = logging.getLogger("kedastral.config")


@attrs.define
class Forecasting:
    """The forecasting half of a process: the fleet, the resolver of its workloads, and the builder of its runners.

    ``warnings`` are those of the current configuration.
    """

    fleet: Fleet
    resolver: FleetResolver
    builder: RunnerBuilder
    warnings: Sequence[str] = ()

    def start(self, settings: FleetSettings) -> None:
        """Put the first configuration into effect, before the fleet runs. Raises ConfigError."""
        self.builder.sources.replace(settings.sources)
        for workload in settings.workloads.values():
            self.fleet.put(self.builder.build(workload))

    async def restore_all(self) -> None:
        """Answer KEDA from what the previous process saved, and bring back the workloads that ScaledObjects described.

        Those that KEDA has not asked for within `REMOVE_AFTER` seconds are not restored.
        """
        keeper = self.fleet.keeper
        if keeper is None:
            return
        states, now, taken = await keeper.load_all(), keeper.clock.now(), 0
        for state in states:
            runner = self.fleet.runners.get(state.workload)
            if runner is None and state.trigger is not None:
                asked_for = abs((now - state.saved_at).total_seconds()) < REMOVE_AFTER
                if asked_for and self.resolver.restore(state.trigger) == state.workload:
                    runner = self.fleet.runners.get(state.workload)
            if runner is not None:
                await keeper.restore(runner, state)
                taken += 1
        unreadable = keeper.states.unreadable
        if states or unreadable:
            words = f"; the state of {unreadable} cannot be read" if unreadable else ""
            saved = len(states) + unreadable
            log.info("continues from the state of %d of %d saved workloads%s", taken, saved, words)

    async def apply(self, configured: ConfiguredFleet) -> Changes:
        """Put ``configured`` into effect while the fleet runs, also for the workloads of ScaledObjects.

        Raises ConfigError, and then the previous configuration stays in force.
        """
        reader, before = self.resolver.reader, None
        if reader is not None:  # together with the data sources: KEDA may ask in between
            before, reader.configured = reader.configured, configured
        try:
            changes = await self._reconcile(configured.settings)
        except ConfigError:
            if reader is not None and before is not None:
                reader.configured = before
                await self.resolver.reread()
            raise
        await self.resolver.reread()
        await self._warn(configured)
        return changes

    async def _reconcile(self, settings: FleetSettings) -> Changes:
        resolver, sources = self.resolver, self.builder.sources
        undo = sources.replace(settings.sources)
        try:
            return await reconcile(
                self.fleet, self.builder, settings.workloads, resolver.configured, resolver.unregister
            )
        except ConfigError:
            undo()
            raise
        finally:
            await sources.close_unused()  # no release will close those that no workload uses

    async def _warn(self, configured: ConfiguredFleet) -> None:
        """Log the warnings that are new."""
        known, time_slice, warned = set(self.warnings), TimeSlice(), configured.warned
        self.warnings = configured.warnings
        for warning in self.warnings:
            await time_slice.pause()
            if warning not in known:
                log_warning(log, warning, warned.get(warning))


def log_warning(to: logging.Logger, line: str, about: tuple[str, Finding] | None) -> None:
    """Log a line about odd settings, ``about`` one workload or several; a thousand workloads may have one each."""
    to.warning("%s", line, extra=None if about is None else named(about[0], about[1].kind))
