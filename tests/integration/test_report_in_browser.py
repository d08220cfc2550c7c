# SPDX-License-Identifier: Apache-2.0
"""The report in a real Chromium: no console error, no request, every plot drawn.

Its content security policy forbids every request, so that one would be an error on the console: the last test sees to
that.
"""

import base64
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.backtest.loads import SHORT, call, wave, write_csv
from tests.integration.conftest import require_program

pytestmark = pytest.mark.integration

PROBE = """
<script>
addEventListener("load", () => {
  const images = [...document.images].map(image => [image.naturalWidth, image.naturalHeight, image.clientWidth]);
  const loaded = performance.getEntriesByType("resource").map(entry => entry.name);
  const wider = document.documentElement.scrollWidth > innerWidth;
  document.body.dataset.seen = btoa(JSON.stringify({images, loaded, wider}));
});
</script>
"""
"""Put into a copy of the page, whose policy is loosened for it by its script alone; the page itself has no script."""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report as the command writes it, once for all: nothing here changes it."""
    folder = tmp_path_factory.mktemp("report")
    history = write_csv(folder / "shop.csv", wave(432))
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert call(monkeypatch, "--csv", history, *SHORT, "--report", folder / "report.html").code == 0
    return folder / "report.html"


Browse = Callable[..., tuple[str, str]]


@pytest.fixture
def browse(tmp_path: Path) -> Browse:
    """Opens a page; gives its DOM and what the browser logged. Nothing the browser does of itself gets anywhere."""
    chromium = require_program("chromium")

    def open_page(page: Path, *flags: str) -> tuple[str, str]:
        words = [chromium, "--headless", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
        words += ["--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--window-size=1100,900"]
        words += ["--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--v=0"]
        words += [f"--user-data-dir={tmp_path / 'profile'}", *(["--no-sandbox"] if os.geteuid() == 0 else []), *flags]
        ended = subprocess.run(
            [*words, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120, check=True
        )
        return ended.stdout, ended.stderr

    return open_page


def console_lines(log: str) -> list[str]:
    """What pages said on the console, errors of the content security policy among it."""
    return [line for line in log.splitlines() if "CONSOLE" in line]


def probed(report: Path) -> Path:
    """The report with a script in it that looks around."""
    page = report.read_text()
    assert "default-src 'none'" in page
    copy = report.with_name("probed.html")
    loosened = page.replace("default-src 'none'", "default-src 'none'; script-src 'unsafe-inline'", 1)
    copy.write_text(loosened.replace("</body>", PROBE + "</body>"))
    return copy


def seen_in(dom: str) -> dict[str, Any]:
    """What the probe saw."""
    found = re.search(r'data-seen="([^"]+)"', dom)
    assert found is not None, dom[-500:]
    seen: dict[str, Any] = json.loads(base64.b64decode(found[1]))
    return seen


def test_the_report_opens_without_a_word_on_the_console(report: Path, browse: Browse) -> None:
    dom, log = browse(report)
    assert "Verdict" in dom
    assert dom.count("<img") == 4
    assert console_lines(log) == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_plot_is_drawn_and_nothing_is_requested(report: Path, browse: Browse, dark: bool) -> None:
    dom, log = browse(probed(report), f"--blink-settings=preferredColorScheme={0 if dark else 1}")
    seen = seen_in(dom)
    assert len(seen["images"]) == 4
    assert all(width > 500 and height > 200 and shown > 300 for width, height, shown in seen["images"])
    assert [name for name in seen["loaded"] if not name.startswith("data:")] == []
    assert not seen["wider"]
    assert console_lines(log) == []


def test_a_request_would_be_noticed(report: Path, browse: Browse) -> None:
    report.write_text(report.read_text().replace("</main>", '<img src="http://127.0.0.1:9/x.png" alt=""></main>'))
    _, log = browse(report)
    assert any("Content Security Policy" in line for line in console_lines(log))
