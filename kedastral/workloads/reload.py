# SPDX-License-Identifier: Apache-2.0
"""`Reloader`: rereads the configuration when its files change."""

import logging
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, NoReturn, TypeVar

import attrs
import trio

from kedastral.errors import ConfigError
from kedastral.serving.metrics import Metrics
from kedastral.serving.readiness import Readiness
from kedastral.workloads.fleet import Changes

CHECK_EVERY = 2.0
"""Seconds between two checks of the files. A change is read once two checks agree, so never half written."""
MAX_CHECKS = 10
"""How many checks may differ before a change is read anyway."""
MAX_KEYS_LOGGED = 20
MAX_WARNING_LENGTH = 2000
SUBJECT = "configuration"

T = TypeVar("T")
log = logging.getLogger("kedastral.config")


@attrs.define(eq=False)
class Reloader(Generic[T]):
    """Rereads the configuration when its files change, or on request; an invalid one changes nothing.

    ``fingerprint`` returns a value that changes when the files do. ``load`` raises ConfigError with all problems;
    ``apply`` puts what was loaded into effect, and may raise it too. The first two may block.
    """

    fingerprint: Callable[[], Hashable]
    load: Callable[[], T]
    apply: Callable[[T], Awaitable[Changes]]
    metrics: Metrics
    readiness: Readiness
    _requested: trio.Event = attrs.field(factory=trio.Event, init=False)
    _logged: str | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        for result in ("success", "failure"):
            self.metrics.reloads.labels(result)

    def request(self) -> None:
        """Reread the configuration now, changed or not."""
        self._requested.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Watch the files until cancelled."""
        applied = await self._check()
        await self.reload(quiet=True)  # apply what has changed since the first read
        task_status.started()
        while True:
            requested = await self._wait()
            found = await self._check()
            if not requested and found != applied:
                found = await self._settle(found)
            if requested:
                self._logged = None  # a request is answered even if the problems are the same as before
            if requested or found != applied:
                applied = found
                await self.reload()

    async def reload(self, *, quiet: bool = False) -> None:
        """Load and apply once. A ConfigError is logged once, counted, and shown in the readiness.

        With ``quiet``, a reload that changes nothing is neither logged nor counted.
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
        self.readiness.warn(SUBJECT, None)
        self._logged = None
        fields = {name: ", ".join(keys[:MAX_KEYS_LOGGED]) for name, keys in attrs.asdict(changes).items() if keys}
        log.info("the configuration was read again: %s", _describe(changes), extra=fields)

    async def _wait(self) -> bool:
        """Wait for the next check; True if a reload was requested."""
        with trio.move_on_after(CHECK_EVERY):
            await self._requested.wait()
        requested, self._requested = self._requested.is_set(), trio.Event()
        return requested

    async def _check(self) -> Hashable:
        return await trio.to_thread.run_sync(self.fingerprint, abandon_on_cancel=True)

    async def _settle(self, found: Hashable) -> Hashable:
        """Check until two checks agree, at most `MAX_CHECKS` times."""
        for _ in range(MAX_CHECKS):
            await trio.sleep(CHECK_EVERY / 2)
            before, found = found, await self._check()
            if found == before or self._requested.is_set():
                break
        return found

    def _note_failure(self, error: ConfigError) -> None:
        self.metrics.reloads.labels("failure").inc()
        self.metrics.reload_worked.set(0)
        words = "; ".join(error.problems)
        self.readiness.warn(SUBJECT, f"the one in force is older than its files: {words[:MAX_WARNING_LENGTH]}")
        if words != self._logged:
            for problem in error.problems:
                log.error("the configuration is invalid; the previous one stays in force: %s", problem)
        self._logged = words


def _describe(changes: Changes) -> str:
    if not changes:
        return "no workload changed"
    return ", ".join(f"{len(keys)} {name}" for name, keys in attrs.asdict(changes).items() if keys)
