# SPDX-License-Identifier: Apache-2.0
"""The report of a backtest in a real Chromium, from a file and without a network: light, dark, and on a phone."""

from pathlib import Path

import attrs
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from kedastral.backtest.comparison import compare_policies, policies_to_compare
from kedastral.backtest.report import write_page
from kedastral.backtest.results import evaluate
from tests.backtest.scenarios import LastValue, noisy, scenario_of
from tests.page.conftest import NOTHING_AT_THE_LEFT_EDGE, PATIENCE
from tests.page.sites import HOSTILE

pytestmark = [pytest.mark.integration, pytest.mark.slow]

CHARTS = 10
"""Two charts of the load, five of policies, two of cost against service, one of accuracy."""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on a workload whose name would run a script if it were not escaped."""
    scenario = attrs.evolve(scenario_of(noisy(1, 300), begin=100, model=LastValue()), name=HOSTILE)
    results = evaluate([compare_policies(scenario, policies_to_compare(1.2, swept=False))])
    target = tmp_path_factory.mktemp("report") / "report.html"
    target.write_text(write_page(results))
    return target


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1200, True), (390, False)])
def test_a_report_draws_its_charts_offline_and_runs_nothing_else(
    browser: Browser, report: Path, width: int, dark: bool
) -> None:
    said: list[str] = []
    asked: list[str] = []
    context = browser.new_context(
        viewport={"width": width, "height": 844}, color_scheme="dark" if dark else "light", offline=True
    )
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    page.wait_for_selector(f"body[data-drawn='{CHARTS}']")
    assert page.locator(".chart canvas").count() == CHARTS
    assert page.locator("h2", has_text=HOSTILE).count() == 1
    drawn = (
        "[...document.querySelectorAll('canvas')].every((one) => new Set(one.getContext('2d')"
        ".getImageData(0, 0, one.width, one.height).data).size > 9)"
    )
    assert page.evaluate(drawn)
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert back == ("rgb(16, 22, 29)" if dark else "rgb(255, 255, 255)")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    context.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def test_the_labels_of_large_loads_are_not_cut_off(browser: Browser, tmp_path: Path) -> None:
    scenario = scenario_of(noisy(1, 300) * 1e5, begin=100, model=LastValue())
    target = tmp_path / "report.html"
    target.write_text(write_page(evaluate([compare_policies(scenario, policies_to_compare(1.2, swept=False))])))
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(target.as_uri())
    page.wait_for_selector(f"body[data-drawn='{CHARTS}']")
    assert page.evaluate(NOTHING_AT_THE_LEFT_EDGE)
    page.close()


def test_a_load_of_which_every_second_step_is_a_gap_is_drawn(browser: Browser, tmp_path: Path) -> None:
    scenario = scenario_of(noisy(1, 300), begin=100, model=LastValue())
    scenario = attrs.evolve(scenario, trial=attrs.evolve(scenario.trial, gap_steps=tuple(range(101, 300, 2))))
    target = tmp_path / "report.html"
    target.write_text(write_page(evaluate([compare_policies(scenario, policies_to_compare(1.2, swept=False))])))
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(target.as_uri())
    page.wait_for_selector("body[data-drawn]")
    assert page.locator(".chart").first.locator("canvas").evaluate(BLUE) > 100
    page.close()


BLUE = """(canvas) => {
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    let count = 0;
    for (let i = 0; i < pixels.length; i += 4) if (pixels[i + 3] > 200 && pixels[i + 2] > pixels[i] + 100) count += 1;
    return count;
}"""
"""How many pixels have the colour of the load."""


def test_a_script_that_is_not_the_reports_own_does_not_run(browser: Browser, report: Path, tmp_path: Path) -> None:
    tampered = tmp_path / "tampered.html"
    tampered.write_text(report.read_text().replace("</main>", "<script>document.title = 'ran'</script></main>"))
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(tampered.as_uri())
    page.wait_for_selector(f"body[data-drawn='{CHARTS}']")
    assert page.title().startswith("Backtest of")
    page.close()
