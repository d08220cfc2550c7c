# SPDX-License-Identifier: Apache-2.0
"""`ActivityNotifier`: tells streams of KEDA's external-push triggers when a workload becomes active or stops being
so."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import attrs
import trio

from kedastral.core.serving import Activity

LOOK_EVERY = 1.0
"""Seconds between two looks at what is watched; little beside a lead time of minutes."""


@attrs.frozen
class Watched:
    """A workload, the activation above which it is active, and the namespace of those who asked for it."""

    workload: str
    activation: float
    namespace: str = ""


@attrs.define
class ActivityState:
    """The state of what is watched, and `changed` is set when it changes."""

    activity: Activity
    watchers: int = 0
    changed: trio.Event = attrs.field(factory=trio.Event)

    async def differs_from(self, seen: Activity | None) -> Activity:
        """Wait until the state is another than ``seen``, and return it."""
        while self.activity is seen:
            await self.changed.wait()
        return self.activity


@attrs.define
class ActivityNews:
    """What one stream has to say: the state, once there is a plan to know it by, and then every change."""

    state: ActivityState
    _seen: Activity | None = attrs.field(default=None, init=False)
    _told: Activity | None = attrs.field(default=None, init=False)
    _assumed: bool = attrs.field(default=False, init=False)

    async def next(self) -> bool:
        """Wait for something to tell. False is only told of a plan that says so, never for want of one.

        True is told once more where IsActive has been answering false meanwhile, by ``default-min``: the workload may
        be asleep.
        """
        while True:
            self._seen = await self.state.differs_from(self._seen)
            self._assumed |= self._seen is Activity.ASSUMED
            if self._seen in (Activity.ASSUMED, Activity.HELD):
                continue
            if self._seen is not self._told or (self._assumed and self._seen is Activity.ACTIVE):
                self._told, self._assumed = self._seen, False
                return self._told is Activity.ACTIVE


@attrs.frozen
class ActivityNotifier:
    """One task looks at all that is watched, each once, however many streams watch it.

    An idle stream costs its own suspended task and no timer; a look costs O(what is watched).
    """

    activity_of: Callable[[Watched], Activity]
    _states: dict[Watched, ActivityState] = attrs.field(factory=dict, init=False)

    @contextmanager
    def watch(self, key: Watched) -> Iterator[ActivityState]:
        """The state of a workload, kept true while the block runs."""
        state = self._states.get(key)
        if state is None:
            state = self._states[key] = ActivityState(self.activity_of(key))
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
            activity = self.activity_of(key)
            if activity is not state.activity:
                state.activity = activity
                state.changed.set()
                state.changed = trio.Event()
