# SPDX-License-Identifier: Apache-2.0
"""`Timeline`: load, what KEDA is told, what the HPA wants and what is Ready, second by second; as CSV and as SVG."""

import csv
import itertools
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import MappingProxyType

import attrs
import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from tests.e2e.api import Scale

AWAY = "away"
"""The answer if Kedastral cannot be reached."""
EVERY = 1.0
LONGEST_LOOK = 5.0
"""Seconds for which a sample is valid, if the next one took long."""
COLOURS = MappingProxyType({"kedastral": "#0b6e99", "beside": "#b8621b"})
INK, FAINT, LOAD, ALARM = "#1f2933", "#d5dbe1", "#9aa5b1", "#c0392b"


@attrs.frozen
class Sample:
    """One sample, in seconds since the case began; ``told`` is a number, a gRPC status, `AWAY`, or None: not asked."""

    second: float
    load: float
    told: int | str | None
    scale: Scale

    @property
    def number(self) -> int | None:
        """What was told, if it was a number."""
        return self.told if isinstance(self.told, int) else None


@attrs.define
class Timeline:
    """The samples of one Deployment, with the marks of the case, such as the end of a program."""

    name: str
    needs: float
    """Load that one pod sustains."""
    samples: list[Sample] = attrs.field(factory=list)
    marks: list[tuple[float, str]] = attrs.field(factory=list)

    def between(self, begin: float, end: float) -> list[Sample]:
        """The samples of these seconds, or the one before them if still valid; fails if that is too old."""
        found = [sample for sample in self.samples if begin <= sample.second <= end]
        found = found or [sample for sample in self.samples if begin - LONGEST_LOOK <= sample.second < begin][-1:]
        assert found, f"{self.name} has no sample from {begin:g} s to {end:g} s"
        return found

    def ready(self, begin: float, end: float) -> list[int]:
        """Ready pods in these seconds."""
        return [sample.scale.ready for sample in self.between(begin, end)]

    def wanted(self, begin: float, end: float) -> list[int]:
        """What the HPA wanted in these seconds."""
        return [sample.scale.wanted or 0 for sample in self.between(begin, end)]

    def replicas(self, begin: float, end: float) -> list[int]:
        """The Deployment's replicas in these seconds."""
        return [sample.scale.replicas for sample in self.between(begin, end)]

    def told(self, begin: float, end: float) -> list[int | str | None]:
        """What KEDA was told in these seconds."""
        return [sample.told for sample in self.between(begin, end)]

    def number_at(self, second: float) -> int | None:
        """What was told last before ``second``, if it was a number."""
        return self.between(0, second)[-1].number

    def short_seconds(self, begin: float, end: float) -> float:
        """How long in these seconds fewer pods were Ready than the load needed, in seconds."""
        return sum(EVERY for sample in self.between(begin, end) if sample.scale.ready * self.needs < sample.load - 1e-6)

    def falls(self, begin: float, end: float) -> list[tuple[float, int, int]]:
        """Every scale-down of the Deployment in these seconds: (second, before, after)."""
        found = self.between(begin, end)
        return [
            (after.second, before.scale.replicas, after.scale.replicas)
            for before, after in itertools.pairwise(found)
            if after.scale.replicas < before.scale.replicas
        ]

    def write(self, folder: Path) -> None:
        """The samples as CSV; see `draw` for the picture."""
        folder.mkdir(parents=True, exist_ok=True)
        name = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")
        with (folder / f"{name}.csv").open("w", newline="") as file:
            file.write(f"# {self.name}: {self.needs:g} per pod\n")
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["second", "load", "told", "hpa", "replicas", "ready", "mark"])
            marks = list(self.marks)
            for sample in self.samples:
                said = [marks.pop(0)[1] for _ in range(len(marks)) if marks[0][0] <= sample.second]
                told = "" if sample.told is None else sample.told
                scale = [sample.scale.wanted, sample.scale.replicas, sample.scale.ready]
                writer.writerow([f"{sample.second:.1f}", f"{sample.load:.1f}", told, *scale, "; ".join(said)])


class Recorder:
    """Takes a sample each second in a thread of its own, until it is closed."""

    def __init__(self, timeline: Timeline, look: Callable[[], Sample]) -> None:
        self._timeline = timeline
        self._look = look
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._record, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more samples."""
        self._closing.set()
        self._thread.join()

    def _record(self) -> None:
        due = time.monotonic()
        while True:
            due = max(due + EVERY, time.monotonic())
            if self._closing.wait(due - time.monotonic()):
                return
            try:
                self._timeline.samples.append(self._look())
            except (AssertionError, OSError) as error:  # a failed sample is a gap
                self._timeline.marks.append(
                    (self._timeline.samples[-1].second if self._timeline.samples else 0, str(error))
                )


def draw(timelines: Sequence[Timeline], path: Path, title: str, source: str = "") -> None:
    """One panel for each timeline, one below the other, as SVG; the load in pods that it needs.

    The file names the ``source`` of the samples.
    """
    with mpl.rc_context(
        {
            "svg.hashsalt": "kedastral",  # the same picture of the same samples
            "svg.fonttype": "none",
            "font.family": "sans-serif",
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
    ):
        figure = Figure(figsize=(9.6, 0.6 + 1.9 * len(timelines)), layout="constrained")
        FigureCanvasSVG(figure)
        panels = figure.subplots(len(timelines), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        for axes, timeline in zip(panels, timelines, strict=True):
            samples, marks = list(timeline.samples), list(timeline.marks)  # the recorder may still add to them
            _draw_panel(axes, attrs.evolve(timeline, samples=samples, marks=marks))
        panels[0].legend(loc="lower left", bbox_to_anchor=(0, 1.12), ncols=5, frameon=False)
        panels[-1].set_xlabel("seconds")
        panels[-1].set_ylim(bottom=0)
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, color=INK)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None, "Source": source or None})


def _draw_panel(axes: Axes, timeline: Timeline) -> None:
    seconds = [sample.second for sample in timeline.samples]
    need = [sample.load / timeline.needs for sample in timeline.samples]
    axes.fill_between(seconds, need, color=LOAD, alpha=0.45, lw=0, label="load, in pods")
    for begin, end in _silences(timeline.samples):
        axes.axvspan(begin, end, color=ALARM, alpha=0.15, lw=0)
    told = [float("nan") if sample.number is None else sample.number for sample in timeline.samples]
    if any(sample.told is not None for sample in timeline.samples):
        axes.step(seconds, told, where="post", color=COLOURS["kedastral"], lw=1.6, ls="--", label="told")
    wanted = [float("nan") if sample.scale.wanted is None else sample.scale.wanted for sample in timeline.samples]
    axes.step(seconds, wanted, where="post", color=COLOURS["beside"], lw=1.2, label="HPA")
    ready = [sample.scale.ready for sample in timeline.samples]
    axes.step(seconds, ready, where="post", color=INK, lw=1.4, label="Ready pods")
    for second, words in timeline.marks:
        axes.axvline(second, color=FAINT, lw=0.8)
        axes.annotate(words, (second, 1), xycoords=("data", "axes fraction"), fontsize=7, rotation=0, va="bottom")
    axes.set_title(timeline.name, loc="right", fontsize=8)
    axes.set_ylabel("pods")


def _silences(samples: Sequence[Sample]) -> Iterator[tuple[float, float]]:
    """The spans in which KEDA should have got a number but did not."""
    begin = None
    for sample in samples:
        silent = isinstance(sample.told, str)
        if silent and begin is None:
            begin = sample.second
        elif not silent and begin is not None:
            yield begin, sample.second
            begin = None
    if begin is not None:
        yield begin, samples[-1].second
