# SPDX-License-Identifier: Apache-2.0
"""`play`: KEDA and Kedastral for some hours of virtual time, and the replicas of the Deployment, second by second."""

import bisect
from collections.abc import Callable, Sequence

import attrs
import trio

from .keda import ExternalTrigger, Keda, Trigger
from .scaled_object import ScaledObject, ScaledObjectSpec
from .site import Site, Wanted

RAMP = 95.0
"""The most seconds from an answer to its replicas: a sync, and the HPA's ramp from 1 to 50."""


@attrs.frozen
class Played:
    """What happened: the Deployment's replicas, and what KEDA was told (a number or a status), each by time."""

    site: Site
    seconds: int
    changes: Sequence[tuple[float, int]]
    said: Sequence[tuple[float, float | str]]
    woken: Sequence[float] = ()

    def replicas(self, second: float) -> int:
        """The Deployment's replicas at ``second``."""
        return self.changes[bisect.bisect_right(self.changes, second, key=lambda change: change[0]) - 1][1]

    def told(self, second: float) -> float | str | None:
        """What the HPA was last told, as of ``second``; None before the first answer."""
        at = bisect.bisect_right(self.said, second, key=lambda one: one[0]) - 1
        return self.said[at][1] if at >= 0 else None

    def too_few(self) -> list[tuple[int, int, int | None]]:
        """Every second with fewer replicas than promised: (second, replicas, what the last good plan asks for).

        These are seconds with fewer than the last good plan asks for, after answers have had time to arrive, or with
        fewer than a second before, unless the last good plan asks for as few. Once it has run out, any fall counts.
        """
        wanted, lately, wrong = Wanted(self.site.store.published), list[int](), []
        numbers_since, before = 0.0, self.replicas(0)
        for second in range(self.seconds):
            now, wish = self.replicas(second), wanted.at(second)
            if wish is None or not isinstance(self.told(second), float):
                numbers_since = second + 1
                lately.clear()
            else:
                lately.append(wish)
            recent = lately[-round(RAMP) :]
            short = second - numbers_since > RAMP and now < min(recent)
            fell = now < before and (wish is None or now < min(wish, *lately[-2:], before))
            if short or fell:
                wrong.append((second, now, wish))
            before = now
        return wrong


async def play(
    site: Site,
    spec: ScaledObjectSpec,
    hours: float,
    *,
    first: int = 2,
    beside: Callable[[], Sequence[Trigger]] = tuple,
    push: bool = False,
    activation: str = "0",
) -> Played:
    """Let ``hours`` pass. ``beside`` makes the other triggers of the ScaledObject; ``push``: type external-push."""
    scaled = ScaledObject(spec, first)
    metadata = {"workload": "shop", "activation": activation}
    polled, synced = ExternalTrigger(site.connect, metadata), ExternalTrigger(site.connect, metadata)
    woken: list[float] = []

    def wake() -> None:
        woken.append(trio.current_time())
        scaled.push(trio.current_time())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.run)
        nursery.start_soon(Keda(scaled, [polled, *beside()], [synced, *beside()]).run)
        if push:
            nursery.start_soon(polled.listen, wake)
        await trio.sleep(hours * 3600)
        nursery.cancel_scope.cancel()
    return Played(site, round(hours * 3600), scaled.changes, synced.said, woken)
