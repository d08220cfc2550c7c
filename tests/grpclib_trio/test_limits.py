# SPDX-License-Identifier: Apache-2.0
"""Limits that make no sense are refused when they are written, not when they are reached."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from kedastral.grpclib_trio import Limits
from kedastral.grpclib_trio.limits import MemoryAccount, MemoryBudget


@pytest.mark.parametrize("name", [f.name for f in attrs.fields(Limits)])
@pytest.mark.parametrize("value", [0, -1])
def test_limits_are_above_zero(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name} must be greater than zero"):
        Limits(**{name: value})


@pytest.mark.parametrize(
    "values",
    [
        {"max_message_bytes": 2, "max_buffered_bytes": 1},
        {"memory_bytes": 2**20 - 1},
        {"stream_window_bytes": 2**31},
        {"connection_window_bytes": 2**31},
        {"connection_window_bytes": 65_535},
    ],
)
def test_limits_that_contradict_each_other_or_http2_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must have room|HTTP/2 windows"):
        Limits(**values)


def test_counts_are_whole_numbers() -> None:
    with pytest.raises(TypeError):
        Limits(max_streams=1.5)


def test_one_connection_has_room_for_thousands_of_streams() -> None:
    assert Limits().max_streams >= 1_000
    assert Limits().max_message_bytes == 4 * 1024 * 1024


def open_accounts(limit: int, *hosts: str) -> tuple[list[MemoryAccount], list[int]]:
    """An account for each host, and the numbers of those that were evicted, in order."""
    budget, evicted = MemoryBudget(limit), list[int]()
    return [budget.open_account(host, lambda i=i: evicted.append(i)) for i, host in enumerate(hosts)], evicted  # type: ignore[misc]


def test_what_is_given_back_can_be_taken_again() -> None:
    [account], _ = open_accounts(800, "a")
    assert account.take(700)
    assert not account.take(1)
    account.give_back(100)
    assert account.take(100)
    account.close()
    assert not account.take(1)


def test_the_last_eighth_is_for_what_is_urgent() -> None:
    [account], evicted = open_accounts(800, "a")
    assert account.take(700)
    assert not account.take(1)
    assert account.take(100, urgent=True)
    assert not account.take(1, urgent=True)
    assert evicted == []


def test_who_wants_more_gets_it_from_the_largest_connection_of_the_host_that_holds_more() -> None:
    [small, large, own, middle], evicted = open_accounts(800, "a", "a", "b", "c")
    assert small.take(100)
    assert large.take(350)
    assert own.take(50)
    assert middle.take(200)
    assert own.take(100)
    assert evicted == [1]
    assert not large.take(1)
    assert [each.held for each in (small, large, own, middle)] == [100, 350, 150, 200]


def test_nobody_gets_memory_from_those_who_hold_less() -> None:
    [large, small, same_host], evicted = open_accounts(800, "a", "b", "a")
    assert large.take(500)
    assert small.take(200)
    assert not large.take(1)
    assert not same_host.take(1)  # a host cannot gain by opening more connections
    assert evicted == []


def test_a_closed_account_leaves_nothing() -> None:
    budget = MemoryBudget(800)
    account = budget.open_account("a", lambda: None)
    assert budget.hosts == {}
    assert account.take(10)
    account.close()
    account.give_back(10)
    assert (budget.held, budget.hosts) == (0, {})


def test_what_is_in_memory_beyond_the_budget_evicts_its_owner() -> None:
    [account], evicted = open_accounts(800, "a")
    account.charge(800)
    assert evicted == []
    account.charge(1)
    account.charge(1)
    assert evicted == [0]
