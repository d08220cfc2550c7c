# SPDX-License-Identifier: Apache-2.0
"""A real Chromium for the tests of pages."""

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.integration.conftest import require_program

PATIENCE = 60_000.0
"""Milliseconds that anything may take on a busy machine."""
NOTHING_AT_THE_LEFT_EDGE = """[...document.querySelectorAll('canvas')].every((one) =>
  one.getContext('2d').getImageData(0, 0, 3, one.height).data.every((part) => part === 0))"""
"""Whether the first pixels of all charts are empty: with a label cut off they would not be."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = require_program("chromium")
    flags = ["--disable-dev-shm-usage", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=flags, timeout=PATIENCE)
        yield browser
        browser.close()
