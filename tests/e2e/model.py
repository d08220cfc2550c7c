# SPDX-License-Identifier: Apache-2.0
"""Compares the model of KEDA and the HPA, of tests/loop and kedastral/simulation, with a recorded `Timeline`."""

import csv
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from kedastral.simulation.hpa import HpaBehavior
from tests.e2e.api import Scale
from tests.e2e.timeline import AWAY, Sample, Timeline
from tests.loop.scaled_object import RECOMMENDED, ScaledObject, ScaledObjectSpec, TriggerAnswer

HEAD = re.compile(r"# (.+): ([0-9.e+]+) per pod")
SYNC = 5.0
"""Seconds between two decisions of the HPA here; as `binaries.TIME_LAPSE` says, like the window of `ABSENT`."""
LOOK = 2.0
"""Seconds by which a sample may be late: one between samples, one until the view of the cluster is refreshed."""
ABSENT = attrs.evolve(HpaBehavior.ABSENT, down=attrs.evolve(HpaBehavior.ABSENT.down, stabilization_window=20.0))
"""A ScaledObject without any behavior."""
RECIPE = attrs.evolve(RECOMMENDED, down=attrs.evolve(RECOMMENDED.down, stabilization_window=60.0))
"""Recipe "Predicted" of docs/keda.md."""


def play(samples: Sequence[Sample], spec: ScaledObjectSpec, phase: float) -> Iterator[tuple[Sample, int]]:
    """Each sample with the replicas of the model, which gets what was told; its syncs start ``phase`` seconds later."""
    scaled = ScaledObject(spec, samples[0].scale.replicas)
    due = samples[0].second + phase
    for sample in samples:
        if sample.second >= due:
            scaled.sync(due, [_answer(sample)])
            due += SYNC
        yield sample, scaled.replicas


def _answer(sample: Sample) -> TriggerAnswer:
    if sample.number is None:
        return TriggerAnswer(reached=sample.told != AWAY)
    return TriggerAnswer(float(sample.number), sample.number > 0)


def find_strays(samples: Sequence[Sample], spec: ScaledObjectSpec) -> list[tuple[float, int, int]]:
    """The samples at which the model differs from the Deployment within one sync: (second, model, Deployment).

    It starts when KEDA has made the HPA. The seconds of the real syncs are unknown: the phase that agrees best is used.
    """
    with_hpa = list(itertools.dropwhile(lambda sample: sample.scale.wanted is None, samples))
    return min((_strays(list(play(with_hpa, spec, phase))) for phase in range(int(SYNC))), key=len)


def _strays(played: Sequence[tuple[Sample, int]]) -> list[tuple[float, int, int]]:
    strays = []
    for sample, replicas in played:
        near = [one.scale.replicas for one, _ in played if abs(one.second - sample.second) <= SYNC + LOOK]
        if not min(near) <= replicas <= max(near):
            strays.append((sample.second, replicas, sample.scale.replicas))
    return strays


def read_timeline(path: Path) -> Timeline:
    """What `Timeline.write` wrote."""
    with path.open(newline="") as file:
        lines = list(file)
    heads = [HEAD.fullmatch(line.strip()) for line in lines if line.startswith("#")]
    name, needs = next(head.groups() for head in heads if head)
    timeline = Timeline(name, float(needs))
    for row in csv.DictReader(line for line in lines if not line.startswith("#")):
        if row["mark"]:
            timeline.marks.append((float(row["second"]), row["mark"]))
        wanted = int(row["hpa"]) if row["hpa"] else None
        told = int(row["told"]) if row["told"].isdigit() else row["told"] or None
        scale = Scale(wanted, int(row["replicas"]), int(row["ready"]))
        timeline.samples.append(Sample(float(row["second"]), float(row["load"]), told, scale))
    return timeline
