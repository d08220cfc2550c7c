# SPDX-License-Identifier: Apache-2.0
"""Writes the pictures of docs/page.md: the page in Chromium, with fixed workloads. `make docs` runs it."""

import os
import shutil
import sys
from datetime import timedelta
from pathlib import Path

from playwright.sync_api import Browser, expect, sync_playwright

from kedastral.core.failures import Failure
from kedastral.core.forecast_status import STANDING_DOWN
from tests.page.sites import NOW, LiveSite

FOLDER = Path(__file__).parents[2] / "docs" / "images"
SHOP = "shop/web"


def fill(site: LiveSite) -> None:
    """Some workloads: one with three hours of plans, one failing, one whose model stands down."""
    for minute in range(180, -1, -1):
        site.publish(SHOP, NOW - timedelta(minutes=minute, seconds=9), 1500.0)
    site.judge(SHOP, 40320.0, 151.0)
    for i, name in enumerate(("cart", "search", "images", "mail", "login", "reports")):
        site.publish(f"shop/{name}", NOW - timedelta(seconds=4 + i), 300.0 * (i + 1))
        site.judge(f"shop/{name}", 40320.0, 45.0 * i)
    site.replace("shop/mail", status=STANDING_DOWN)
    site.replace("shop/reports", replicas_without_max=34)
    site.publish("shop/prices", NOW - timedelta(seconds=500), 700.0)
    site.failures["shop/prices"] = Failure(NOW, "source", "unreachable")


def take(browser: Browser, site: LiveSite) -> None:
    """The list, a workload with a what-if, and both on a phone in dark mode."""
    for name, width, scheme in (("page", 1200, "light"), ("phone", 390, "dark")):
        context = browser.new_context(
            viewport={"width": width, "height": 844},
            color_scheme="dark" if scheme == "dark" else "light",
        )
        tab = context.new_page()
        tab.goto(site.url)
        expect(tab.locator("#workloads tbody tr")).to_have_count(8)
        if name == "page":
            tab.screenshot(path=FOLDER / f"{name}-list.png", clip={"x": 0, "y": 0, "width": width, "height": 500})
        tab.goto(f"{site.url}/workloads/{SHOP}")
        expect(tab.locator("#load-chart canvas")).to_be_visible()
        if name == "page":
            tab.get_by_label("Max").fill("12")
            tab.keyboard.press("Enter")
            expect(tab.locator("#what-if-sentence")).not_to_be_empty()
        tab.evaluate("document.activeElement.blur()")
        tab.screenshot(path=FOLDER / f"{name}-workload.png", full_page=name == "page")
        context.close()


def main() -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("chromium is not installed: the pictures of docs/page.md stay as they are")
    FOLDER.mkdir(exist_ok=True)
    flags = ["--disable-dev-shm-usage", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with LiveSite() as site, sync_playwright() as playwright:
        fill(site)
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        take(browser, site)
        browser.close()


if __name__ == "__main__":
    main()
