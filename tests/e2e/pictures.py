# SPDX-License-Identifier: Apache-2.0
"""The timelines of docs/keda.md, drawn from those that `make e2e` recorded: ``python -m tests.e2e.pictures``.

``--take build/e2e --versions 'Kubernetes ..., KEDA ...'`` copies what a run wrote into ``recorded`` first.
"""

import argparse
import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import attrs

from tests.e2e.model import read_timeline
from tests.e2e.timeline import draw

RECORDED = Path(__file__).parent / "recorded"
FOLDER = Path(__file__).resolve().parents[2] / "docs" / "timelines"
SETTING = "HPA sync 5 s, downscale stabilization 20 s where the ScaledObject says nothing"


@attrs.frozen
class Recording:
    """The source of a timeline: the case's folder and the file of `Timeline.write`; and its ScaledObject."""

    case: str
    file: str
    scaled_object: str = "no behavior in the ScaledObject"


RECIPE = 'recipe "Predicted" of docs/keda.md'
RECORDINGS: Mapping[str, Recording] = MappingProxyType(
    {
        "no-behavior": Recording("pods-are-ready-when-the-load-comes-where-a-plain-t", "kedastral"),
        "plain-trigger": Recording(
            "pods-are-ready-when-the-load-comes-where-a-plain-t", "a-prometheus-trigger-alone", "type prometheus"
        ),
        "killed-then-frozen": Recording("kedastral-killed-and-frozen", "killed-then-frozen"),
        "plan-runs-out": Recording("a-plan-that-runs-out", "runs-on"),
        "predicted-prometheus-away": Recording("prometheus-away-then-kedastral-too", "predicted", RECIPE),
        "predicted-kedastral-away": Recording("kedastral-away", "predicted", RECIPE),
        "error": Recording("error-holds-and-default-min-lets-go", "error"),
        "default-min": Recording("error-holds-and-default-min-lets-go", "default-min"),
        "from-zero": Recording(
            "from-zero-and-back-over-two-nights",
            "from-zero",
            'recipe "From zero", polled every 5 s, cooldown 10 s',
        ),
        "observe": Recording(
            "observe-leaves-the-decision-to-the-other-trigger", "observe", "a prometheus trigger beside it, no behavior"
        ),
    }
)


@attrs.frozen
class Picture:
    """Recordings, one panel each, and their titles."""

    title: str
    recordings: Sequence[str]

    @property
    def source(self) -> str:
        """The recordings by name, with a digest of their content, which reveals outdated pictures."""
        digest = hashlib.sha256()
        for name in self.recordings:
            digest.update((RECORDED / f"{name}.csv").read_bytes())
        return f"{', '.join(self.recordings)} {digest.hexdigest()[:16]}"


PICTURES: Mapping[str, Picture] = MappingProxyType(
    {
        "ahead": Picture(
            "Lead time 60 s, pods Ready after 20 s: Kedastral, and a prometheus trigger alone",
            ("no-behavior", "plain-trigger"),
        ),
        "ride-forecast": Picture(
            "ride-forecast: the plan goes up and down by wall clock without Prometheus", ("predicted-prometheus-away",)
        ),
        "plan-runs-out": Picture("ride-forecast, horizon 3 min: held once the plan is used up", ("plan-runs-out",)),
        "error": Picture("error: held as soon as the forecast is stale", ("error",)),
        "default-min": Picture("default-min (2): let go as soon as the forecast is stale", ("default-min",)),
        "gone": Picture("Kedastral is down: held, and fallback does not begin", ("predicted-kedastral-away",)),
        "from-zero": Picture("external-push, two nights: awake a lead time early, asleep after it", ("from-zero",)),
        "observe": Picture("observe: KEDA is told 0, the reactive trigger decides", ("observe",)),
    }
)


def take(results: Path, versions: str) -> None:
    """Copy the recordings of a run into the repository, with the ``versions`` used in the first line."""
    for name, one in RECORDINGS.items():
        text = (results / one.case / f"{one.file}.csv").read_text()
        (RECORDED / f"{name}.csv").write_text(f"# make e2e: {versions}; {SETTING}; {one.scaled_object}\n{text}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw every picture, with ``--take`` from a new run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--take", type=Path, metavar="FOLDER", help="results of a run of make e2e")
    parser.add_argument("--versions", default="", help="of Kubernetes, KEDA and kwok; needed with --take")
    given = parser.parse_args(arguments)
    if given.take is not None:
        if not given.versions:
            parser.error("--take needs --versions")
        take(given.take, given.versions)
    shutil.rmtree(FOLDER, ignore_errors=True)
    for name, picture in PICTURES.items():
        timelines = [read_timeline(RECORDED / f"{one}.csv") for one in picture.recordings]
        draw(timelines, FOLDER / f"{name}.svg", picture.title, source=picture.source)


if __name__ == "__main__":
    main()
