# SPDX-License-Identifier: Apache-2.0
"""Reloads: when the files have changed and are stable, or on request; a broken configuration changes nothing."""

import logging
from collections.abc import Callable

import attrs
import pytest
import trio

from kedastral.errors import ConfigError
from kedastral.serving.metrics import Metrics
from kedastral.serving.readiness import Readiness
from kedastral.workloads import reload
from kedastral.workloads.fleet import Changes
from kedastral.workloads.reload import Reloader


@attrs.define
class Files:
    """Files with one text; ``seen`` counts the checks."""

    text: str = "first"
    looks: int = 0
    loads: int = 0
    applied: list[str] = attrs.field(factory=list)

    def look(self) -> str:
        self.looks += 1
        return self.text

    def load(self) -> str:
        self.loads += 1
        if "broken" in self.text:
            raise ConfigError([f"{self.text}: spec.query is required", "spec.step must be a duration"])
        return self.text

    async def apply(self, text: str) -> Changes:
        await trio.lowlevel.checkpoint()
        if "refused" in text:
            raise ConfigError(["the certificate cannot be loaded"])
        self.applied.append(text)
        return Changes(added=("a/shop",)) if text == "second" else Changes()


@attrs.define
class Rig:
    files: Files
    metrics: Metrics
    readiness: Readiness
    reloader: Reloader[str]

    def counted(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


@pytest.fixture
def rig() -> Rig:
    files, metrics, readiness = Files(), Metrics(), Readiness.of(())
    return Rig(files, metrics, readiness, Reloader(files.look, files.load, files.apply, metrics, readiness))


@pytest.fixture
async def running(monkeypatch: pytest.MonkeyPatch, rig: Rig, nursery: trio.Nursery) -> Rig:
    """Checks follow each other at once: they run in a thread, which no virtual clock waits for."""
    monkeypatch.setattr(reload, "CHECK_EVERY", 0.001)
    await nursery.start(rig.reloader.run)
    return rig


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(30):
        while not condition():  # noqa: ASYNC110 - many things are waited for, none has an event
            await trio.sleep(0.001)


async def test_nothing_is_read_while_nothing_differs(running: Rig) -> None:
    await until(lambda: running.files.looks > 20)
    assert running.files.loads == 1  # at the start, for changes in the meantime


async def test_a_change_is_read_and_told(running: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    running.files.text = "second"
    await until(lambda: "second" in running.files.applied)
    looks = running.files.looks
    await until(lambda: running.files.looks > looks + 20)
    assert running.files.applied == ["first", "second"]
    assert running.counted("kedastral_config_reloads_total", result="success") == 1
    assert running.counted("kedastral_config_last_reload_successful") == 1
    assert [record.getMessage() for record in caplog.records] == ["the configuration was read again: 1 added"]
    assert vars(caplog.records[0])["added"] == "a/shop"


async def test_what_still_changes_is_not_read_before_it_holds_still(rig: Rig, nursery: trio.Nursery) -> None:
    texts = iter(["first", "half", "more", "whole", "whole", "whole"])
    read: list[str] = []

    def look() -> str:
        rig.files.text = next(texts, "whole")
        return rig.files.text

    async def apply(_: object) -> Changes:
        await trio.lowlevel.checkpoint()
        return Changes()

    reloader = Reloader(look, lambda: read.append(rig.files.text), apply, rig.metrics, rig.readiness)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reload, "CHECK_EVERY", 0.001)
        await nursery.start(reloader.run)
        await until(lambda: "whole" in read)
    assert "half" not in read
    assert "more" not in read


async def test_whoever_asks_has_it_read_at_once_and_without_a_change(rig: Rig, nursery: trio.Nursery) -> None:
    await nursery.start(rig.reloader.run)  # with its own pace of seconds
    rig.reloader.request()
    await until(lambda: rig.files.applied == ["first", "first"])


@pytest.mark.parametrize("text", ["broken", "refused"])
async def test_a_broken_configuration_changes_nothing_and_is_told_once(
    rig: Rig, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    rig.files.text = text
    for _ in range(3):
        await rig.reloader.reload()
    assert rig.files.applied == []
    assert rig.counted("kedastral_config_reloads_total", result="failure") == 3
    assert rig.counted("kedastral_config_last_reload_successful") == 0
    assert len(caplog.records) == (2 if text == "broken" else 1)
    assert all("the previous one stays in force: " in record.getMessage() for record in caplog.records)
    [warning] = rig.readiness.warnings
    assert warning.startswith("configuration: the one in force is older than its files: ")
    assert rig.readiness.obstacle is None


async def test_once_it_is_mended_the_warning_is_gone_and_the_next_failure_is_told_again(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    for text in ("refused", "second", "refused"):
        rig.files.text = text
        await rig.reloader.reload()
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    rig.files.text = "second"
    await rig.reloader.reload()
    assert rig.readiness.warnings == []
    assert rig.counted("kedastral_config_last_reload_successful") == 1


async def test_a_bug_leaves(rig: Rig) -> None:
    reloader: Reloader[str] = Reloader(rig.files.look, lambda: 1 / 0, rig.files.apply, rig.metrics, rig.readiness)  # type: ignore[arg-type, return-value]
    with pytest.raises(ZeroDivisionError):
        await reloader.reload()


async def test_whoever_asks_is_told_though_it_is_broken_as_before(
    rig: Rig, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    rig.files.text = "refused"
    await nursery.start(rig.reloader.run)
    for told in (2, 3):
        rig.reloader.request()
        await until(lambda told=told: len(caplog.records) == told)
