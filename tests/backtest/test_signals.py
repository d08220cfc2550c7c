# SPDX-License-Identifier: Apache-2.0
"""Signals to a backtest with several processes: those that are not ignored end it."""

import signal
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from kedastral.backtest.processes import _end_on_signals

ENDING = (signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def ignored(request: pytest.FixtureRequest) -> Iterator[tuple[signal.Signals, ...]]:
    """Ignores those of `ENDING` that a test asks for, as whoever started the backtest may have done."""
    given: tuple[signal.Signals, ...] = request.param
    before = {each: signal.signal(each, signal.SIG_IGN if each in given else signal.SIG_DFL) for each in ENDING}
    yield given
    for each, handler in before.items():
        signal.signal(each, handler)


async def waiting_that_gets(*numbers: signal.Signals) -> None:
    """Wait as a backtest does while these signals come; returns if it would go on."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_end_on_signals)
        await trio.testing.wait_all_tasks_blocked()
        for number in numbers:
            signal.raise_signal(number)
        await trio.testing.wait_all_tasks_blocked(0.01)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("ignored", [(), (signal.SIGTERM,), (signal.SIGHUP,), ENDING], indirect=True)
async def test_a_signal_that_is_ignored_stays_so_even_if_all_are(ignored: tuple[signal.Signals, ...]) -> None:
    await waiting_that_gets(*ignored)


@pytest.mark.parametrize(
    ("ignored", "number"),
    [((), signal.SIGTERM), ((), signal.SIGHUP), ((signal.SIGHUP,), signal.SIGTERM), ((signal.SIGTERM,), signal.SIGHUP)],
    indirect=["ignored"],
)
async def test_a_signal_that_is_not_ignored_ends_the_backtest(number: signal.Signals) -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        await waiting_that_gets(number)
    [error] = caught.value.exceptions
    assert isinstance(error, SystemExit)
    assert error.code == 128 + number
