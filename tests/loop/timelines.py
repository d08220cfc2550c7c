# SPDX-License-Identifier: Apache-2.0
"""The timelines of docs/keda.md, drawn from the loop itself: ``python -m tests.loop.timelines`` (`make docs`)."""

import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import attrs
import trio
from trio.testing import MockClock

from kedastral.core.capacity import ReplicaBounds
from kedastral.core.serving import Mode, OnStale, StalePolicy

from .keda import ReactiveTrigger
from .play import Played, play
from .scaled_object import PROMPT, RECOMMENDED, Fallback, ScaledObjectSpec
from .site import Outages, Site, Wanted

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "timelines"
STALE_AFTER = 120.0
LEFT, RIGHT, TOP, BOTTOM, WIDTH, HEIGHT = 40.0, 740.0, 44.0, 164.0, 760, 206
HEAD = (
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11">'
)
EVERY = 5
"""Seconds from sample to sample."""


@attrs.frozen
class Scene:
    """A few hours, and what to write above them. ``away`` are the outages by their words."""

    title: str
    played: Played
    away: Sequence[tuple[str, float, float]] = ()


def rush(second: float) -> float:
    """500, a rush to 2,000 that the plan knows of, and little afterwards."""
    return 2000.0 if 2700 <= second < 4500 else 500.0 if second < 2700 else 300.0


def from_nothing(second: float) -> float:
    """Nothing but from 45 to 75 minutes."""
    return 1500.0 if 2700 <= second < 4500 else 0.0


async def play_ride() -> Scene:
    away = (2100.0, 6300.0)
    site = Site(rush, StalePolicy(STALE_AFTER, OnStale.RIDE_FORECAST), Outages(prometheus=(away,)))
    played = await play(site, ScaledObjectSpec(fallback=Fallback(6), behavior=PROMPT), 2, first=6)
    title = "ride-forecast, fallback currentReplicasIfHigher: the plan goes on by wall clock, then KEDA holds"
    return Scene(title, played, (("Prometheus is away", *away),))


async def play_error() -> Scene:
    away = (2100.0, 4800.0)
    site = Site(rush, StalePolicy(STALE_AFTER, OnStale.ERROR), Outages(prometheus=(away,)))
    played = await play(site, ScaledObjectSpec(behavior=PROMPT), 1.5, first=6)
    title = "error: KEDA holds as soon as the forecast is stale"
    return Scene(title, played, (("Prometheus is away", *away),))


async def play_default_min() -> Scene:
    away = (2100.0, 4800.0)
    site = Site(rush, StalePolicy(STALE_AFTER, OnStale.DEFAULT_MIN, 2), Outages(prometheus=(away,)))
    played = await play(site, ScaledObjectSpec(behavior=PROMPT), 1.5, first=6)
    title = "default-min: KEDA is told 2 as soon as the forecast is stale, whatever was planned"
    return Scene(title, played, (("Prometheus is away", *away),))


async def play_gone() -> Scene:
    away = (2100.0, 4800.0)
    site = Site(rush, StalePolicy(STALE_AFTER, OnStale.RIDE_FORECAST), Outages(kedastral=(away,)))
    played = await play(site, ScaledObjectSpec(fallback=Fallback(8), behavior=PROMPT), 1.5, first=6)
    title = "Kedastral cannot be reached: KEDA holds, and its fallback (8) never begins"
    return Scene(title, played, (("Kedastral is away", *away),))


async def play_zero() -> Scene:
    site = Site(from_nothing, StalePolicy(STALE_AFTER, OnStale.RIDE_FORECAST), bounds=ReplicaBounds(0, 50))
    spec = ScaledObjectSpec(bounds=ReplicaBounds(0, 50), behavior=RECOMMENDED)
    played = await play(site, spec, 1.75, first=0, push=True)
    title = "external-push from zero: awake a lead time (5 min) early, asleep after need and cooldown"
    return Scene(title, played, (("load", 2700.0, 4500.0),))


async def play_observe() -> Scene:
    policy = StalePolicy(STALE_AFTER, OnStale.ERROR, mode=Mode.OBSERVE)
    beside = ReactiveTrigger(lambda: rush(trio.current_time()), 90.0)
    played = await play(
        Site(rush, policy), ScaledObjectSpec(behavior=RECOMMENDED), 1.5, first=6, beside=lambda: [beside]
    )
    title = "observe: KEDA is told 0, a reactive trigger decides alone; the plan is what would have been told"
    return Scene(title, played, (("load", 2700.0, 4500.0),))


SCENES: dict[str, Callable[[], Awaitable[Scene]]] = {
    "ride-forecast": play_ride,
    "error": play_error,
    "default-min": play_default_min,
    "gone": play_gone,
    "from-zero": play_zero,
    "observe": play_observe,
}


def draw(scene: Scene) -> str:
    """The scene as SVG: the last good plan by wall clock, what KEDA was told, and the Deployment's replicas."""
    played, seconds = scene.played, scene.played.seconds
    wanted = Wanted(played.site.store.published)
    samples = range(0, seconds + 1, EVERY)
    plan = [(second, wanted.at(second)) for second in samples]
    told = [(second, played.told(second)) for second in samples]
    ours = [(second, played.replicas(second)) for second in samples]
    numbers = [(second, what if isinstance(what, float) else None) for second, what in told]
    most = max(value or 0 for line in (plan, numbers, ours) for _, value in line)
    axes = _Axes(seconds, most)
    parts = [
        HEAD,
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT:g}" y="16" font-size="12" font-weight="bold">{escape(scene.title)}</text>',
        *(axes.band(begin, end, "#eceff1", words) for words, begin, end in scene.away),
        *(axes.band(begin, end, "#ffcdd2", "") for begin, end in _runs(told)),
        *axes.grid(),
        axes.line(plan, '#9e9e9e" stroke-width="5" stroke-opacity="0.6'),
        axes.line(numbers, '#1565c0" stroke-width="2" stroke-dasharray="5 3'),
        axes.line(ours, '#000" stroke-width="1.5'),
        _legend(),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


@attrs.frozen
class _Axes:
    seconds: int
    most: float

    def x(self, second: float) -> float:
        return LEFT + (RIGHT - LEFT) * second / self.seconds

    def y(self, replicas: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * replicas / self.most

    def band(self, begin: float, end: float, colour: str, words: str) -> str:
        """A span of time, shaded, its words above."""
        x, width = self.x(begin), self.x(end) - self.x(begin)
        shade = f'<rect x="{x:.1f}" y="{TOP:g}" width="{width:.1f}" height="{BOTTOM - TOP:g}" fill="{colour}"/>'
        return shade + (f'<text x="{x:.1f}" y="{TOP - 8:g}" fill="#546e7a">{escape(words)}</text>' if words else "")

    def grid(self) -> Iterator[str]:
        """Replicas at the left, half hours below."""
        yield f'<path d="M{LEFT:g} {TOP:g}V{BOTTOM:g}H{RIGHT:g}" fill="none" stroke="#607d8b"/>'
        for replicas in sorted({0, round(self.most / 2), round(self.most)}):
            y = self.y(replicas) + 4
            yield f'<text x="{LEFT - 6:g}" y="{y:.1f}" text-anchor="end">{replicas}</text>'
        for second in range(0, self.seconds + 1, 1800):
            words = f"{second // 3600}:{second % 3600 // 60:02d}"
            yield f'<text x="{self.x(second):.1f}" y="{BOTTOM + 14:g}" text-anchor="middle">{words}</text>'

    def line(self, samples: Sequence[tuple[int, float | None]], style: str) -> str:
        """Steps, broken where there is no number."""
        path, before = "", None
        for second, value in samples:
            if value is not None and before is None:
                path += f"M{self.x(second):.1f} {self.y(value):.1f}"
            elif value is None and before is not None:
                path += f"H{self.x(second):.1f}"
            elif value is not None and value != before:
                path += f"H{self.x(second):.1f}V{self.y(value):.1f}"
            before = value
        path += f"H{RIGHT:g}" if before is not None else ""
        return f'<path d="{path}" fill="none" stroke="{style}"/>'


def _runs(told: Sequence[tuple[int, float | str | None]]) -> Iterator[tuple[int, int]]:
    """The spans in which KEDA got no number."""
    begin = None
    for second, what in told:
        if isinstance(what, str) and begin is None:
            begin = second
        elif not isinstance(what, str) and begin is not None:
            yield begin, second
            begin = None


def _legend() -> str:
    shown = (
        ('#9e9e9e" stroke-width="5" stroke-opacity="0.6', "the last good plan, by wall clock"),
        ('#1565c0" stroke-width="2" stroke-dasharray="5 3', "what KEDA is told"),
        ('#000" stroke-width="1.5', "replicas of the Deployment"),
        ('#ffcdd2" stroke-width="10', "no number"),
    )
    parts = []
    for x, (style, words) in zip((40, 250, 410, 610), shown, strict=True):
        parts.append(f'<path d="M{x} 194H{x + 24}" stroke="{style}"/><text x="{x + 30}" y="198">{words}</text>')
    return "".join(parts)


def main() -> None:
    """Write every timeline."""
    logging.disable(logging.CRITICAL)
    FOLDER.mkdir(exist_ok=True)
    for name, scene in SCENES.items():
        played = trio.run(scene, clock=MockClock(autojump_threshold=0))
        (FOLDER / f"{name}.svg").write_text(draw(played), encoding="utf-8")


if __name__ == "__main__":
    main()
