# SPDX-License-Identifier: Apache-2.0
"""The page in a real Chromium: a thousand workloads, changing load, what-if, dark mode, phone, keyboard, offline."""

import re
from collections.abc import Iterator
from datetime import timedelta

import attrs
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect

from kedastral.core.failures import Failure
from kedastral.core.planning.snapshot import Mode
from kedastral.core.planning.stale_policy import OnStale, StalePolicy
from tests.page.conftest import NOTHING_AT_THE_LEFT_EDGE, PATIENCE
from tests.page.sites import HOSTILE, NOW, LiveSite, day, plan_at

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SHOWN = "#workloads tbody tr:not([hidden])"


class Window:
    """A tab that records console messages, and records and blocks requests to other hosts."""

    def __init__(self, browser: Browser, site: LiveSite, *, width: int = 1200, dark: bool = False) -> None:
        self.site = site
        self.said: list[str] = []
        self.elsewhere: list[str] = []
        self.context = browser.new_context(
            viewport={"width": width, "height": 844}, color_scheme="dark" if dark else "light"
        )
        self.context.set_default_timeout(PATIENCE)
        self.context.route("**/*", self._watch)
        self.page: Page = self.context.new_page()
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: self.said.append(dialog.message))

    def _watch(self, route: Route) -> None:
        if route.request.url.startswith(self.site.url):
            route.continue_()
            return
        self.elsewhere.append(route.request.url)
        route.abort()

    def open(self, path: str) -> Page:
        self.page.goto(self.site.url + path)
        return self.page

    def close(self) -> None:
        """Close it; fails on console messages or on requests to other hosts."""
        self.context.close()
        assert self.said == []
        assert self.elsewhere == []

    def check_access(self) -> None:
        """axe-core finds nothing, and nothing is wider than the window."""
        found = Axe().run(self.page)
        assert found.violations_count == 0, found.generate_report()
        assert self.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.fixture
def site() -> Iterator[LiveSite]:
    with LiveSite() as site:
        yield site


def test_a_thousand_workloads_are_listed_filtered_and_opened_by_keyboard_alone(
    browser: Browser, site: LiveSite
) -> None:
    site.fill([f"team-{i % 40}/service-{i}" for i in range(1000)], NOW)
    site.publish(HOSTILE, NOW, 100.0)
    site.keys.append("shop/away")
    site.failures["shop/away"] = Failure(NOW, "source", "unreachable")
    window = Window(browser, site)
    page = window.open("/")
    expect(page.locator(SHOWN)).to_have_count(1002)
    expect(page.locator("#summary")).to_have_text("1002 in all, 1 needs attention")
    first = page.locator(SHOWN).first
    expect(first).to_contain_text("shop/away")
    expect(first).to_contain_text("its Prometheus cannot be reached")
    expect(page.get_by_role("link", name=HOSTILE)).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type("service-77 ok")
    expect(page.locator(SHOWN)).to_have_count(11)
    window.check_access()
    page.locator("#filter").focus()  # axe moved it
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#content h1")).to_contain_text("service-77")
    window.close()


def test_a_configuration_that_cannot_be_read_is_said_above_the_list(browser: Browser, site: LiveSite) -> None:
    site.publish("shop/web", NOW, 300.0)
    site.readiness.warn("configuration", f"the one in force is older than its files: {HOSTILE}")
    window = Window(browser, site, width=390)
    page = window.open("/")
    expect(page.locator("#warnings")).to_have_text(
        f"configuration: the one in force is older than its files: {HOSTILE}"
    )
    window.check_access()
    site.readiness.warn("configuration", "another file is missing")
    expect(page.locator("#warnings")).to_have_text("configuration: another file is missing")
    site.readiness.warn("configuration", None)
    expect(page.locator("#warnings")).to_be_hidden()
    window.close()


def test_no_number_is_broken_in_two_lines(browser: Browser, site: LiveSite) -> None:
    site.publish("shop/web", NOW, 41_500_000.0)
    for width in (1200, 760, 390):
        window = Window(browser, site, width=width)
        page = window.open("/workloads/shop/web")
        load = page.locator("#figures div", has_text="Load now").locator("dd span")
        expect(load).to_have_text(re.compile(r"^\d{2,3},\d{3},\d{3}$"))
        lines, inside = load.evaluate(
            "one => [one.getClientRects().length, one.getBoundingClientRect().right"
            " <= one.closest('div').getBoundingClientRect().right]"
        )
        assert (lines, inside) == (1, True), width
        window.close()


def test_a_factor_stands_still_where_max_limits_the_plan(browser: Browser, site: LiveSite) -> None:
    site.publish("shop/web", NOW, 300.0)
    window = Window(browser, site)
    page = window.open("/workloads/shop/web")
    factor = page.locator("#figures div", has_text="Steering factor")
    expect(factor).to_contain_text("it grows while minutes are short of pods, and shrinks while none are")
    site.replace("shop/web", replicas_without_max=99)
    expect(factor).to_contain_text("it stands still while --max limits the plan")
    window.close()


def test_what_is_only_observed_is_marked_and_nothing_says_that_keda_is_told_the_plan(
    browser: Browser, site: LiveSite
) -> None:
    site.publish("shop/web", NOW, 300.0)
    site.publish("shop/seen", NOW, 300.0)
    site.replace("shop/seen", mode=Mode.OBSERVE)
    window = Window(browser, site)
    page = window.open("/")
    expect(page.locator(SHOWN, has_text="observe")).to_have_count(1)
    page.locator("#filter").fill("observe")
    expect(page.locator(SHOWN)).to_have_count(1)
    expect(page.locator(SHOWN)).to_contain_text("shop/seen")
    window.check_access()
    page = window.open("/workloads/shop/seen")
    expect(page.locator("#mode")).to_have_text("mode observe")
    expect(page.locator("#sentence")).to_contain_text("KEDA is told 0, since the mode is observe; the plan says ")
    expect(page.locator("#read")).to_contain_text("In mode observe KEDA is told 0.")
    figures = page.locator("#figures div")
    expect(figures.filter(has_text="Told KEDA")).to_contain_text("0mode observe; planned: ")
    expect(figures.filter(has_text="Next, by the plan")).to_contain_text("; KEDA is still told 0")
    expect(figures.filter(has_text="Steering factor")).to_contain_text("it stands still in mode observe")
    window.check_access()
    site.replace("shop/seen", mode=Mode.SCALE)
    expect(page.locator("#mode")).to_be_hidden()
    expect(page.locator("#read")).to_have_text("KEDA is told the largest number of the shaded lead time, or the floor.")
    window.close()


def test_a_workload_is_shown_as_its_load_changes_and_what_other_settings_would_change(
    browser: Browser, site: LiveSite
) -> None:
    site.publish("shop/web", NOW - timedelta(seconds=30), 300.0)
    window = Window(browser, site, dark=True)
    page = window.open("/workloads/shop/web")
    expect(page.locator("#sentence")).to_contain_text("KEDA is told ")
    expect(page.locator("#load-chart canvas")).to_be_visible()
    expect(page.locator("#stages tbody tr.decided")).to_have_count(1)
    expect(page.locator("#stages tbody tr", has_text="stale-policy").locator("td").nth(2)).to_have_text("same")
    expect(page.locator("#settings tbody")).to_contain_text("policies.yaml, document 3")
    expect(page.locator("#experts tbody tr")).to_have_count(4)
    expect(page.locator("#experts tbody tr").last).to_have_text("random-features0\u00a0%–")
    expect(page.get_by_label("Target per pod")).to_have_attribute("placeholder", "200")
    before = page.locator("#figures dd").first.inner_text()
    site.publish("shop/web", NOW, 2500.0)
    expect(page.locator("#figures dd").first).not_to_have_text(before)
    page.get_by_label("Min").fill("9")
    page.get_by_label("Max").fill("3")
    page.get_by_label("Lead time").fill("soon")
    page.keyboard.press("Enter")
    expect(page.locator("#what-if-wrong li")).to_have_count(1)
    page.get_by_label("Lead time").fill("")
    page.keyboard.press("Enter")
    expect(page.locator("#what-if-wrong li")).to_have_text("min (9) must not be above max (3)")
    page.get_by_label("Max").fill("9")
    page.keyboard.press("Enter")
    expect(page.locator("#what-if-sentence")).to_contain_text("What if: KEDA is told 9 replicas: the maximum decided")
    expect(page.locator("#stages th.tried")).to_be_visible()
    window.check_access()
    # a refused request is a 400, which the browser logs to its console
    window.said = [line for line in window.said if "status of 400" not in line]
    window.close()


def test_what_if_says_where_nothing_changes_and_when_it_next_would(browser: Browser, site: LiveSite) -> None:
    site.publish("shop/web", NOW, 2500.0)
    window = Window(browser, site)
    page = window.open("/workloads/shop/web")
    said = page.locator("#what-if-sentence")
    page.get_by_label("Max").fill("1000")
    page.keyboard.press("Enter")
    expect(said).to_have_text(
        re.compile(r"What if: KEDA is told .* The same as now\. By that plan it will be \d+ from .* on")
    )
    page.get_by_label("Max").fill("3")
    page.keyboard.press("Enter")
    expect(said).to_have_text(re.compile(r"What if: KEDA is told 3 replicas: .*\. By that plan it stays so\.$"))
    page.get_by_label("Max").fill("")
    page.get_by_label("Lead time").fill("8m")
    page.keyboard.press("Enter")
    lead = page.locator("#stages tbody tr", has_text="lead-time").locator("td")
    expect(lead.nth(0)).to_have_text("5 min")
    expect(lead.nth(3)).to_have_text("8 min")
    page.get_by_role("button", name="Clear").click()
    expect(said).to_have_text("")
    window.close()


@pytest.mark.parametrize(
    ("minutes", "short", "cell", "figure"),
    [
        (12, 0, "–not judged yet", "–judged after one hour; so far it is 12 min, at a service level of 99 %"),
        (12, 3, "21 %after 12 min", "21 %of the 12 min judged so far: 3 of 14.4 min without enough pods"),
        (180, 0, "0 %after 3 h", "0 %of the 3 h judged so far: 0 of 14.4 min without enough pods, 14.4 min left"),
        (40320, 10, "2.5 %", "2.5 %of the last 28 days: 10 of 403.2 min without enough pods, 393.2 min left"),
        (14400, 36, "25 %", "25 %of the 10 days judged so far: 36 of 144 min without enough pods, 108 min left"),
        (40320, 504, "125 %", "125 %of the last 28 days: 504 of 403.2 min without enough pods, 100.8 min too many"),
    ],
)  # fmt: skip
def test_an_error_budget_says_of_what_period_it_is_and_what_is_left(
    browser: Browser, site: LiveSite, minutes: float, short: float, cell: str, figure: str
) -> None:
    site.publish("shop/web", NOW, 300.0)
    site.judge("shop/web", minutes, short)
    window = Window(browser, site, width=390)
    page = window.open("/")
    budget = page.locator("#workloads td.budget")
    expect(budget).to_be_visible()
    expect(budget).to_have_text(cell)
    window.check_access()
    page.get_by_role("link", name="shop/web").click()
    expect(page.locator("#figures div", has_text="Error budget spent")).to_contain_text(figure)
    window.close()


@pytest.mark.parametrize(
    ("short", "at_max", "words", "warned"),
    [
        (504, 480, "480 of them at --max, 100.8 min too many{}: raise --max, unless done since", True),
        (504, 24, "24 of them at --max, 100.8 min too many{}", True),
        (36, 30, "30 of them at --max, 367.2 min left{}", False),
    ],
)  # fmt: skip
def test_a_spent_error_budget_is_a_warning_that_says_how_much_of_it_max_explains(
    browser: Browser, site: LiveSite, short: float, at_max: float, words: str, warned: bool
) -> None:
    site.publish("shop/web", NOW, 300.0)
    site.judge("shop/web", 40320, short, at_max)
    window = Window(browser, site)
    page = window.open("/workloads/shop/web")
    figure = page.locator("#figures div", has_text="Error budget spent")
    words = f"min without enough pods, {words}".format(", at a service level of 99 %")
    expect(figure).to_contain_text(words)
    assert " ".join(figure.inner_text().split()).endswith(words)
    expect(figure).to_have_class("warned" if warned else "")
    window.check_access()
    window.close()


def test_a_workload_without_a_forecast_says_what_it_waits_for_and_shows_no_empty_charts(
    browser: Browser, site: LiveSite
) -> None:
    site.keys.append("shop/web")
    window = Window(browser, site)
    page = window.open("/")
    expect(page.locator(f"{SHOWN} td:nth-child(4)")).to_have_text("holds")
    page.get_by_role("link", name="shop/web").click()
    expect(page.locator("#state")).to_have_text("waiting")
    expect(page.locator("#sentence")).to_have_text(
        "There is no forecast yet: KEDA gets an error and holds its replicas."
    )
    expect(page.locator("#reason")).to_have_text("")
    expect(page.locator("#waits")).to_contain_text("It waits for its data source to answer the query with a value")
    for name in (
        "Why",
        "What if?",
        "Replicas: planned so far, and ahead",
        "Load: measured, forecast, and planned for",
    ):
        expect(page.get_by_role("heading", name=name)).to_be_hidden()
    window.check_access()
    site.publish("shop/web", NOW, 300.0)
    expect(page.locator("#sentence")).to_contain_text("KEDA is told ")
    expect(page.locator("#waits")).to_be_hidden()
    expect(page.locator("#load-chart canvas")).to_be_visible()
    window.close()


def test_an_unknown_workload_is_called_unknown_and_not_cut_off(browser: Browser, site: LiveSite) -> None:
    window = Window(browser, site)
    page = window.open("/workloads/nothere")
    alert = page.get_by_role("alert").filter(has_text="Kedastral has no workload of this name.")
    expect(alert).to_be_visible()
    expect(page.locator("#connection")).to_have_text("live")
    expect(page.locator("#cut-off")).to_be_hidden()
    expect(page.locator("#known")).to_be_hidden()
    window.check_access()
    alert.get_by_role("link", name="The list").click()
    expect(page.locator("#content h1")).to_have_text("Workloads")
    # the browser logs a 404 to its console
    window.said = [line for line in window.said if "status of 404" not in line]
    window.close()


def test_the_words_of_the_stages_are_explained_by_keyboard_and_on_a_phone(browser: Browser, site: LiveSite) -> None:
    site.publish("shop/web", NOW, 300.0)
    window = Window(browser, site, width=390)
    page = window.open("/workloads/shop/web")
    expect(page.locator("#load-chart canvas")).to_be_visible()
    page.locator("summary").focus()
    page.keyboard.press("Enter")
    for word in ("upper quantile", "steering factor", "planned for", "dead band", "hold"):
        expect(page.locator("dl.words dt", has_text=re.compile(f"^{word}$"))).to_be_visible()
    expect(page.get_by_text("in one window in ten.")).to_be_visible()
    expect(page.get_by_text("Experts are simple forecasts")).to_be_visible()
    expect(page.locator("#figures")).to_contain_text("in the unit of the query")
    expect(page.get_by_text("The table scrolls sideways").first).to_be_visible()
    window.check_access()
    page.set_viewport_size({"width": 1200, "height": 844})
    expect(page.get_by_text("The table scrolls sideways").first).to_be_hidden()
    window.close()


def test_a_chart_says_no_value_of_a_line_where_it_does_not_run(browser: Browser, site: LiveSite) -> None:
    site.publish("shop/web", NOW, 300.0)
    window = Window(browser, site)
    page = window.open("/workloads/shop/web")
    chart = page.locator("#load-chart .u-over")
    legend = page.locator("#load-chart .u-legend")
    expect(legend).to_have_text("Timeloadforecast a lead time beforeforecastplanned for")
    samples = legend.locator(".u-series:not(:first-child) .u-marker")
    dashes = samples.evaluate_all("(all) => all.map((one) => one.style.borderStyle)")
    assert dashes == ["solid", "dotted", "solid", "dashed"]
    for share, load, forecast in ((0.02, "[0-9]", "–"), (0.98, "–", "[0-9]")):
        width = chart.evaluate("(one) => one.getBoundingClientRect().width")
        chart.hover(position={"x": width * share, "y": 60})
        expect(legend).to_have_text(
            re.compile(f"^Time[0-9:]{{8}}load{load}.*forecast{forecast}.*planned for{forecast}")
        )
    window.close()


def test_the_page_says_since_when_it_is_known_what_was_planned_and_shows_a_pause_as_a_gap(
    browser: Browser, site: LiveSite
) -> None:
    _, before = plan_at("shop/web", NOW - timedelta(hours=1), 300.0)
    site.recent.restore(before, [(NOW - timedelta(hours=2), 3)])
    site.publish("shop/web", NOW, 300.0)
    site.recent.restore(attrs.evolve(before, workload="old"), [(NOW - timedelta(hours=4), 3)])
    site.publish("old", NOW, 300.0)
    window = Window(browser, site)
    page = window.open("/workloads/shop/web")
    expect(page.locator("#planned-since")).to_have_text("What was planned before 07:15:04 UTC is not known here.")
    at = [(NOW - timedelta(minutes=minutes)).timestamp() for minutes in (90, 30)]
    assert page.evaluate(LINED, at) == [True, False]
    page = window.open("/workloads/old")
    expect(page.locator("#replicas-chart canvas")).to_be_visible()
    expect(page.locator("#planned-since")).to_have_text("")
    window.close()


LINED = """(times) => {
    const plot = charts["replicas-chart"].plot, {width, height} = plot.ctx.canvas;
    const pixels = plot.ctx.getImageData(0, 0, width, height).data;
    const isBlue = (i) => pixels[i + 3] > 200 && pixels[i + 2] > pixels[i] + 50;
    return times.map((time) => {
        const x = Math.round(plot.valToPos(time, "x", true)), rows = [...Array(height).keys()];
        return rows.some((y) => isBlue(4 * (y * width + x)));
    });
}"""
"""Whether the line of what was planned passes each time, in light mode."""


def test_the_charts_of_a_new_workload_begin_with_its_first_point(browser: Browser, site: LiveSite) -> None:
    newest = NOW.replace(second=0).timestamp()
    end, least = NOW.timestamp() + 30 * 60, NOW.timestamp() - 30 * 60 / 4
    window = Window(browser, site)
    for key, known, begins in (
        ("old", 481, NOW.timestamp() - 3 * 3600),
        ("new", 20, newest - 19 * 60),
        ("first", 1, least),
    ):
        site.publish(key, NOW, 300.0, known)
        page = window.open(f"/workloads/{key}")
        expect(page.locator("#load-chart canvas")).to_be_visible()
        for chart, begin in (("replicas-chart", least), ("load-chart", begins)):  # there is only one plan of each
            shown = page.evaluate(f"(({{min, max}}) => [min, max])(charts['{chart}'].plot.scales.x)")
            assert shown == pytest.approx([begin, end], abs=0.01), (key, chart)
    page = window.open("/")
    points = {}
    for key in ("old", "new", "first"):
        row = page.locator(SHOWN, has=page.get_by_role("link", name=key, exact=True))
        points[key] = row.locator("svg.spark path.load").get_attribute("d")
    assert points["old"].startswith("M0.0 ")
    assert points["new"].startswith("M0.0 ")
    assert points["first"].startswith("M32.")  # one point beside 30 of the forecast
    window.close()


def test_a_value_between_two_gaps_is_drawn_too(browser: Browser, site: LiveSite) -> None:
    newest = NOW.replace(second=0).timestamp()
    site.publish("first", NOW, 300.0, 1)
    site.publish("holes", NOW, 300.0, gaps=[*range(1, 20), *range(21, 40), 45, 47])
    window = Window(browser, site)
    page = window.open("/")
    for key, dots in (("first", 1), ("holes", 2)):
        row = page.locator(SHOWN, has=page.get_by_role("link", name=key, exact=True))
        path = row.locator("svg.spark path.load").get_attribute("d")
        assert path is not None
        assert path.count("h0") == dots
    for key, minutes in (("first", [0]), ("holes", [0, 20, 46, 60])):
        page = window.open(f"/workloads/{key}")
        expect(page.locator("#load-chart canvas")).to_be_visible()
        times = [newest - 60 * minute for minute in minutes]
        assert page.evaluate(DRAWN, times) == times, key
    window.close()


def test_forecasts_have_the_dates_of_the_loads_that_they_are_of(browser: Browser, site: LiveSite) -> None:
    for minutes in (20, 10, 0):
        site.publish("shop/web", NOW - timedelta(minutes=minutes), 300.0)
    window = Window(browser, site)
    page = window.open("/workloads/shop/web")
    expect(page.locator("#load-chart canvas")).to_be_visible()
    lines = page.evaluate("charts['load-chart'].plot.data")
    for line, points in ((1, 360), (2, 3), (3, 30)):
        drawn = [(at, value) for at, value in zip(lines[0], lines[line], strict=True) if value is not None]
        assert len(drawn) == points, line
        assert [value for _, value in drawn] == pytest.approx([day(at, 300.0) for at, _ in drawn], rel=1e-3), line
    window.close()


def test_what_is_planned_for_is_filled_only_where_it_is_above_the_forecast(browser: Browser, site: LiveSite) -> None:
    site.publish("shop/web", NOW, 300.0)
    window = Window(browser, site)
    for share, filled in ((1.5, True), (0.5, False)):
        page = window.open("/workloads/shop/web")
        expect(page.locator("#load-chart canvas")).to_be_visible()
        assert page.evaluate(FILLED, share) == [filled, False], share
    window.close()


FILLED = """async (share) => {
    newest.explanation.plan.forEach((step) => { step.load = 100; step.plannedFor = 100 * share; });
    drawCharts(newest);
    await null;  // uPlot draws at the end of the current task
    const plot = charts["load-chart"].plot, {height} = plot.ctx.canvas;
    const x = Math.round(plot.valToPos(secondsOf(newest.explanation.plan[20].at), "x", true)) + 3;
    const column = plot.ctx.getImageData(x, 0, 1, height).data;
    const pixel = (load) => column[4 * Math.round(plot.valToPos(load, "y", true)) + 3];
    return [50 + 50 * share, 100 + 50 * share].map((load) => pixel(load) > 0);
}"""
"""Whether there is colour between the forecast and what is planned for, and whether there is above both."""


DRAWN = """(times) => {
    const plot = charts["load-chart"].plot, {width, height} = plot.ctx.canvas;
    const pixels = plot.ctx.getImageData(0, 0, width, height).data;
    return times.filter((time) => {
        const load = plot.data[1][plot.data[0].indexOf(time)];
        const [x, y] = [plot.valToPos(time, "x", true), plot.valToPos(load, "y", true)].map(Math.round);
        const [red, , blue, solid] = pixels.slice(4 * (y * width + x));
        return solid > 200 && blue > red + 50;
    });
}"""
"""The times whose load has the colour of the load where it should be, in light mode."""


def test_the_labels_of_a_large_load_are_not_cut_off(browser: Browser, site: LiveSite) -> None:
    site.publish("shop/web", NOW, 3e7)
    window = Window(browser, site)
    page = window.open("/workloads/shop/web")
    expect(page.locator("#load-chart canvas")).to_be_visible()
    assert page.evaluate(NOTHING_AT_THE_LEFT_EDGE)
    window.close()


def test_on_a_phone_both_pages_fit(browser: Browser, site: LiveSite) -> None:
    site.publish("a-namespace-with-a-long-name/" + "a-workload-with-a-long-name-" * 3, NOW, 300.0)
    site.publish(HOSTILE, NOW, 100.0)
    window = Window(browser, site, width=390)
    page = window.open("/")
    expect(page.locator(SHOWN)).to_have_count(2)
    window.check_access()
    page.get_by_role("link", name=HOSTILE).click()
    expect(page.locator("#content h1")).to_have_text(HOSTILE)
    expect(page.locator("#load-chart canvas")).to_be_visible()
    window.check_access()
    row = page.locator("#stages tbody tr").last
    gap = "(row) => parseFloat(getComputedStyle(row.cells[3]).paddingRight)"
    assert row.evaluate(gap) >= 5, "the numbers run into the words"
    window.close()


def test_on_a_phone_a_name_has_its_own_line_and_is_not_broken_into_letters(browser: Browser, site: LiveSite) -> None:
    site.publish("shop/byinstance", NOW, 300.0)
    site.replace("shop/byinstance", replicas_without_max=34, mode=Mode.OBSERVE)
    window = Window(browser, site, width=390)
    page = window.open("/")
    row = page.locator(SHOWN).first
    expect(row.locator("td:nth-child(4)")).to_have_text(re.compile(r"^0 planned \d+$"))
    name, state = (row.locator(f"td:nth-child({i}) {tag}").bounding_box() for i, tag in ((2, "a"), (1, "span")))
    assert name is not None
    assert state is not None
    assert name["width"] > 100
    assert name["height"] < 30
    assert name["y"] + name["height"] <= state["y"]
    window.check_access()
    window.close()


@pytest.mark.parametrize("width", [720, 960, 1110])
def test_in_half_a_screen_the_list_fits_and_its_reasons_can_be_read(
    browser: Browser, site: LiveSite, width: int
) -> None:
    site.publish("shop/web", NOW, 300.0)
    refusal = "HTTP 400: bad_data: 1:45: parse error: unclosed left parenthesis"
    site.failures["shop/query"] = Failure(NOW, "source", "refused", refusal)
    site.keys.append("shop/query")
    window = Window(browser, site, width=width)
    page = window.open("/")
    expect(page.locator(SHOWN)).to_have_count(2)
    window.check_access()
    reason = page.locator(f"{SHOWN} td:last-child").first
    expect(reason).to_contain_text(refusal)
    assert reason.evaluate("(cell) => cell.clientWidth") >= 150
    window.close()


def test_a_page_that_is_cut_off_says_so_and_goes_on_when_kedastral_is_back(browser: Browser, site: LiveSite) -> None:
    site.publish("shop/web", NOW, 300.0)
    window = Window(browser, site)
    page = window.open("/workloads/shop/web")
    expect(page.locator("#connection")).to_have_text("live")
    site.stop()
    expect(page.get_by_role("alert").first).to_contain_text(
        "Disconnected: Kedastral does not answer. Everything below is from"
    )
    expect(page.locator("#sentence")).to_contain_text("KEDA is told ")
    site.start()
    expect(page.locator("#connection")).to_have_text("live")
    expect(page.locator("#cut-off")).to_be_hidden()
    # refused, reset or without an answer: that depends on where the browser was when the server went
    window.said = [line for line in window.said if "Failed to load resource: net::" not in line]
    window.close()


def test_a_prometheus_that_is_gone_is_said_on_both_pages_until_it_is_back(browser: Browser, site: LiveSite) -> None:
    for minute in range(15, -1, -1):
        site.publish("shop/web", NOW - timedelta(minutes=minute), 300.0)
    window = Window(browser, site)
    page = window.open("/workloads/shop/web")
    expect(page.locator("#sentence")).to_contain_text("KEDA is told ")
    error = page.locator("#figures div", has_text="Recent forecast error")
    expect(error).to_contain_text("mean error 5 min ahead, in the unit of the query")
    site.failures["shop/web"] = Failure(NOW, "source", "unreachable")
    expect(page.locator("#state")).to_have_text("failing")
    expect(page.locator("#reason")).to_contain_text("its Prometheus cannot be reached")
    expect(page.locator("#sentence")).to_contain_text("KEDA is told ")
    window.check_access()
    page.get_by_role("link", name="All workloads").click()
    expect(page.locator(SHOWN).first).to_contain_text("its Prometheus cannot be reached")
    del site.failures["shop/web"]
    expect(page.locator("#summary")).to_have_text("1 in all, none needs attention")
    window.close()


def test_what_keda_is_told_in_an_outage_is_drawn_and_the_plan_is_not_called_next(
    browser: Browser, site: LiveSite
) -> None:
    drawn = """() => charts["replicas-chart"].plot.series.map((one) => one.label)"""
    for policy, label, words, read in (
        (OnStale.DEFAULT_MIN, True, "KEDA is told the default minimum, 2, until there is one", "2until there is a new"),
        (OnStale.ERROR, False, "KEDA gets an error and holds its replicas until there is one", "nothinguntil there is"),
    ):
        site.policy, key = StalePolicy(120.0, policy), f"shop/{policy}"
        for minute in range(60, 32, -1):
            site.publish(key, NOW - timedelta(minutes=minute), 300.0)
        site.failures[key] = Failure(NOW, "source", "http_status")
        window = Window(browser, site, dark=label)
        page = window.open(f"/workloads/{key}")
        expect(page.locator("#reason")).to_contain_text(
            "No new forecast since 08:42:04 UTC, for 33 min: its Prometheus"
        )
        expect(page.locator("#reason")).to_contain_text(words)
        expect(page.locator("#figures div", has_text="Next")).to_contain_text(f"Next{read}")
        expect(page.locator("#read")).to_have_text("KEDA is not told the plan now.")
        expect(page.locator("#replicas-chart canvas")).to_be_visible()
        assert ("told KEDA instead" in page.evaluate(drawn)) is label
        assert len(page.evaluate("charts['replicas-chart'].time.held")) == (not label)
        window.check_access()
        window.close()


def test_where_a_token_is_asked_for_the_tab_keeps_it(browser: Browser) -> None:
    with LiveSite(token="open-sesame") as site:
        site.publish("shop/web", NOW, 300.0)
        window = Window(browser, site)
        page = window.open("/")
        page.get_by_label("Bearer token").fill("wrong")
        page.get_by_role("button", name="Show").click()
        expect(page.locator("#login-wrong")).to_have_text("The token is wrong.")
        window.check_access()
        page.get_by_label("Bearer token").fill("open-sesame")
        page.keyboard.press("Enter")
        page.get_by_role("link", name="shop/web").click()
        expect(page.locator("#sentence")).to_contain_text("KEDA is told ")
        assert page.evaluate("localStorage.length") == 0
        assert page.evaluate("document.cookie") == ""
        window.said = [line for line in window.said if "status of 401" not in line]
        window.close()
