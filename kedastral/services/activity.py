# SPDX-License-Identifier: Apache-2.0
"""`ActivityBoard`: tells streams of KEDA's external-push triggers when a workload becomes active or stops being so."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import attrs
import trio

LOOK_EVERY = 1.0
"""Seconds between two looks at what is watched; little beside a lead time of minutes."""

Watched = tuple[str, float]
"""A workload and the activation above which it is active."""


@attrs.define
class ActivityState:
    """The state of one watched pair; None while nothing may be said, and `changed` is set when it changes."""

    active: bool | None
    watchers: int = 0
    changed: trio.Event = attrs.field(factory=trio.Event)

    async def differs_from(self, told: bool | None) -> bool:
        """Wait until there is a state to tell other than ``told``, and return it."""
        while self.active is None or self.active == told:
            await self.changed.wait()
        return self.active


@attrs.frozen
class ActivityBoard:
    """One task looks at all that is watched, each pair once, however many streams watch it.

    An idle stream costs its own suspended task and no timer; a look costs O(watched pairs).
    """

    is_active: Callable[[str, float], bool | None]
    _states: dict[Watched, ActivityState] = attrs.field(factory=dict, init=False)

    @contextmanager
    def watch(self, workload: str, activation: float) -> Iterator[ActivityState]:
        """The state of a workload, kept true while the block runs."""
        key = (workload, activation)
        state = self._states.get(key)
        if state is None:
            state = self._states[key] = ActivityState(self.is_active(*key))
        state.watchers += 1
        try:
            yield state
        finally:
            state.watchers -= 1
            if not state.watchers:
                del self._states[key]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Look every `LOOK_EVERY` seconds until cancelled."""
        task_status.started()
        while True:
            await trio.sleep(LOOK_EVERY)
            self.look()

    def look(self) -> None:
        """Bring every watched state up to date, and wake those whose state has changed."""
        for key, state in self._states.items():
            active = self.is_active(*key)
            if active != state.active:
                state.active = active
                state.changed.set()
                state.changed = trio.Event()
