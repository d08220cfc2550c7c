# SPDX-License-Identifier: Apache-2.0
"""`Reloader`: reads the configuration again when its files change, or when asked to; a broken one changes nothing."""

import logging
from collections.abc import Awaitable, Callable
from typing import Generic, NoReturn, TypeVar

import attrs
import trio

from kedastral.errors import ConfigError
from kedastral.metrics import Metrics
from kedastral.services.changeover import Changes
from kedastral.services.readiness import Readiness

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
