# SPDX-License-Identifier: Apache-2.0
"""The demo's screen at 80x24 and 120x40: nothing is cut off, one chart, shortages by kind, a conclusion at the end."""

import io
from datetime import timedelta

import attrs
import pytest
from rich.console import Console, RenderableType

from kedastral.adapters.synthetic import SyntheticLoad
from kedastral.cli.demo_screen import AHEAD, COLUMN_SECONDS, Column, DemoState, conclude, draw, draw_summary
from kedastral.demo import BEGIN, SYNC_PERIOD, DemoComparison
from kedastral.settings.commands import DemoSettings
from kedastral.settings.load import load

SIZES = [(80, 24), (120, 40)]
LABELS = (
    "load now; forecast at the lead",
    "replicas asked for / pods Ready",
    "load not served now",
    "minutes short of pods, foreseeable",
    "minutes short of pods, by surprise",
    "load not served so far",
    "pod-hours",
)
LEGEND = "█ load │ █ forecast   Ready: ━ kedastral ┄ HPA   beyond: ▒ ▓ HPA only"


def after(hours: float, replicas: int = 20) -> DemoState:
    """The demo after some hours, with Kedastral always asking for the same."""
    comparison = DemoComparison.begin(SyntheticLoad(noise=0.0), load_settings())
    past = []
    while comparison.at < hours * 3600:
        comparison.advance(replicas)
        if round(comparison.at / SYNC_PERIOD) % round(COLUMN_SECONDS / SYNC_PERIOD) == 0:
            ready = (one.ready * comparison.target_per_pod for one in (comparison.predictive, comparison.reactive))
            past.append(Column(comparison.load_now, *ready))
    forecast = [comparison.load.at(comparison.moment + timedelta(minutes=3 * i)) for i in range(AHEAD)]
    setup = "480 times as fast as life · model baseline · lead 20m"
    where = "kedastral explain demo-shop --url http://localhost:18081 · Ctrl-C ends"
    return DemoState(comparison, past, forecast, forecast[1], setup, where)


def load_settings() -> DemoSettings:
    return load(DemoSettings, {}, {}).settings


def screen(shown: RenderableType, width: int, height: int = 24) -> list[str]:
    """The screen of a terminal of that size."""
    out = io.StringIO()
    Console(file=out, width=width, height=height, force_terminal=True, color_system=None).print(shown)
    return out.getvalue().splitlines()


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("hours", [0.0, 1.0])
def test_nothing_is_cut_off(width: int, height: int, hours: float) -> None:
    lines = screen(draw(after(hours), width, height), width, height)
    assert max(map(len, lines)) <= width
    assert len(lines) < height - 1  # the page's address stands above, the cursor below
    text = "\n".join(lines)
    assert "…" not in text
    for words in (*LABELS, LEGEND, "reactive HPA at 80%", "Ctrl-C ends", "lead 20m"):
        assert words in text, words


def test_load_and_capacity_stand_in_one_picture() -> None:
    lines = screen(draw(after(1.0, replicas=9), 80, 24), 80)
    picture = lines[3:11]
    assert all("│" in line for line in picture)
    drawn = "".join(picture)
    for mark in "█━┄▒":  # the load, both capacities, and in the campaign load beyond nine pods
        assert mark in drawn
    assert "now 09:44" in lines[11]
    assert lines[11].rstrip().endswith("10:14")


def test_a_larger_terminal_has_a_larger_picture() -> None:
    small, large = (len(screen(draw(after(1.0), *size), *size)) for size in SIZES)
    assert large - small == 8


def test_the_first_frame_says_that_the_model_learns() -> None:
    state = attrs.evolve(after(0.0), learning_seconds=7.4, forecast=(), at_lead=None, past=[Column(420.0)] * 60)
    lines = screen(draw(state, 80, 24), 80)
    assert lines[0].startswith(" Monday 08:45 ")
    assert lines[1] == " learning from the history … 7 s; then the day begins"
    assert "█" in "".join(lines[3:11])
    assert len(lines) < 23


def test_shortages_in_a_flash_are_surprises_and_all_others_are_foreseeable() -> None:
    comparison = after(0.0).comparison
    flash = [i for i in range(14 * 60) if comparison.load.is_flash_at(BEGIN + timedelta(minutes=i))]
    comparison.at = (flash[0] - 30) * 60.0
    while comparison.at < (flash[-1] + 31) * 60:
        comparison.advance(3)  # never enough
    ours = comparison.predictive
    assert ours.surprised_seconds == len(flash) * 60 == 12 * 60
    assert ours.foreseeable_seconds == ours.short_seconds - 12 * 60 == 60 * 60


def concluding(ours: tuple[float, float, float], theirs: tuple[float, float, float], hours: float = 24.0) -> str:
    """The conclusion from minutes short, minutes short by surprise, and pod-hours of both."""
    comparison = DemoComparison.begin(SyntheticLoad(), load_settings())
    comparison.at = hours * 3600
    for one, (short, surprised, pods) in ((comparison.predictive, ours), (comparison.reactive, theirs)):
        one.short_seconds, one.surprised_seconds, one.pod_seconds = short * 60, surprised * 60, pods * 3600
    return conclude(comparison)


def test_the_conclusion_is_in_words() -> None:
    assert concluding((4, 3, 310), (52, 10, 280)) == (
        "Rises that the history shows, such as the campaign: Kedastral was short of pods for 1 min, the reactive HPA "
        "at 80% for 42 min. The flash, which no history shows: Kedastral was short of pods for 3 min, the reactive HPA "
        "at 80% for 10 min. Kedastral used 11% more pod-hours."
    )
    assert concluding((0, 0, 270), (0, 0, 300)) == (
        "Rises that the history shows, such as the campaign: nobody was short of pods. Kedastral used 10% fewer "
        "pod-hours."
    )
    assert concluding((1, 0, 300), (9, 0, 300)).endswith("Both used the same pod-hours.")
    assert concluding((0, 0, 1), (0, 0, 1), hours=0.5).startswith("Less than an hour")


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_summary_fits(width: int, height: int) -> None:
    lines = screen(draw_summary(after(2.0).comparison), width, height)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "2.0 hours of the demo's time" in text
    for words in LABELS[3:]:
        assert words in text
