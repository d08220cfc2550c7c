# SPDX-License-Identifier: Apache-2.0
"""`change_over`: a running fleet becomes what is wanted, in pieces between which KEDA is answered."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
import trio

from kedastral.errors import ConfigError
from kedastral.services.fleet import Fleet, Member

AT_ONCE = 0.001
"""Seconds of work before everybody else has a turn. With thousands of workloads all of it takes a second."""


Make = Callable[[str, Member | None], Member]
"""Makes the member with a key, after the one that had it before."""


@attrs.frozen
class Changes:
    """What `change_over` did, by key."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


@attrs.define
class Pieces:
    """Long work on the event loop, in pieces of `AT_ONCE`; ask for a `rest` between any two of its steps."""

    _began: float = attrs.field(factory=time.perf_counter, init=False)

    async def rest(self) -> None:
        """Let the others run if it has been long enough."""
        if time.perf_counter() - self._began >= AT_ONCE:
            await trio.lowlevel.checkpoint()
            self._began = time.perf_counter()


@attrs.frozen
class _Made:
    """A member that is to come after ``before``."""

    member: Member
    before: Member | None


async def change_over(
    fleet: Fleet,
    wanted: Mapping[str, Any],
    make: Make,
    among: Iterable[str],
    fits: Callable[[Member, Any], bool],
    settle: Callable[[str], None],
) -> Changes:
    """Make the members of ``fleet`` with the keys ``among`` those that are ``wanted``, settings by key.

    A member that still ``fits`` stays as it is; ``settle`` hears of each wanted key that is there. Others may put
    members meanwhile. All new members are made before the first is put: a ConfigError of ``make`` leaves the fleet as
    it was. Not to be called twice at a time.
    """
    gone = set(among) - set(wanted)
    made = await _make_all(fleet, wanted, make, fits)
    added: list[str] = []
    changed: list[str] = []
    for key, settings in wanted.items():
        before = fleet.members.get(key)
        one = made.pop(key, None)
        if one is not None and one.before is not before:  # a ScaledObject was quicker
            await one.member.close(before)
            one = None
        if one is None and (before is None or not fits(before, settings)):
            one = _Made(make(key, before), before)
        if one is not None:
            (added if before is None else changed).append(key)
            fleet.put(one.member)
        settle(key)
        await trio.lowlevel.checkpoint()  # each newcomer's first tick has a turn of its own
    removed = sorted(key for key in gone if key in fleet.members)
    for key in removed:
        fleet.remove(key)
        await trio.lowlevel.checkpoint()
    return Changes(tuple(added), tuple(sorted(changed)), tuple(removed))


async def _make_all(
    fleet: Fleet, wanted: Mapping[str, Any], make: Make, fits: Callable[[Member, Any], bool]
) -> dict[str, _Made]:
    made: dict[str, _Made] = {}
    pieces = Pieces()
    try:
        for key, settings in wanted.items():
            await pieces.rest()
            before = fleet.members.get(key)
            if before is None or not fits(before, settings):
                made[key] = _Made(make(key, before), before)
    except ConfigError:
        for one in made.values():
            await one.member.close(one.before)
        raise
    return made
