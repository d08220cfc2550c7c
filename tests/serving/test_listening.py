# SPDX-License-Identifier: Apache-2.0
"""Sockets that servers listen on: where asked, on every address if none is given, and one clear line on failure."""

import resource
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kedastral.errors import BindError
from kedastral.serving.listening import (
    ConnectionShares,
    describe_listener,
    limit_of_memory,
    limit_of_open_files,
    open_listener,
    raise_limit_of_open_files,
    share_of_memory,
    share_open_files,
)
from kedastral.settings.types import ListenAddress


def reaches(family: socket.AddressFamily, host: str, port: int) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(10)
        return client.connect_ex((host, port)) == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_it_listens_where_asked_on_a_port_of_its_own(host: str) -> None:
    with open_listener(ListenAddress(host, 0), "--listen") as listener:
        assert not listener.getblocking()
        assert listener.getsockname()[1] > 0
        assert reaches(listener.family, listener.getsockname()[0], listener.getsockname()[1])


def test_without_a_host_it_listens_on_ipv4_and_ipv6_alike() -> None:
    with open_listener(ListenAddress("", 0), "--listen") as listener:
        port = listener.getsockname()[1]
        assert describe_listener(listener) == f":{port}"
        assert reaches(socket.AF_INET, "127.0.0.1", port)
        if listener.family == socket.AF_INET6:
            assert reaches(socket.AF_INET6, "::1", port)


def test_without_ipv6_it_listens_on_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with open_listener(ListenAddress("", 0), "--listen") as listener:
        assert listener.family == socket.AF_INET
        assert describe_listener(listener) == f":{listener.getsockname()[1]}"


@pytest.mark.parametrize("host", ["127.0.0.1", ""])
def test_a_port_in_use_is_one_line_with_the_remedy(host: str) -> None:
    with open_listener(ListenAddress("", 0), "--listen") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BindError) as caught:
            open_listener(ListenAddress(host, port), "--grpc-listen")
    assert str(caught.value) == (
        f"cannot listen on {host}:{port}: address already in use; set another address with --grpc-listen"
    )


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "a" * 70 + ".example", "256.1.1.1"])
def test_a_host_that_is_not_ours_is_one_line(host: str) -> None:
    with pytest.raises(BindError, match=r"\Acannot listen on .*; set another address with --listen\Z") as caught:
        open_listener(ListenAddress(host, 0), "--listen")
    assert "\n" not in str(caught.value)
    assert "errno" not in str(caught.value).lower()


def test_an_ipv6_address_is_written_in_brackets() -> None:
    try:
        listener = open_listener(ListenAddress("::1", 0), "--listen")
    except BindError:
        pytest.skip("this machine has no IPv6")
    with listener:
        assert describe_listener(listener) == f"[::1]:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    ("limit", "shares"),
    [
        (16, ConnectionShares(1, 1)),
        (64, ConnectionShares(22, 10)),
        (1024, ConnectionShares(512, 256)),
        (20_000, ConnectionShares(13_163, 6581)),
    ],
)
def test_servers_share_what_files_there_are_and_leave_some(limit: int, shares: ConnectionShares) -> None:
    assert share_open_files(limit) == shares


MIB = 2**20


@pytest.mark.parametrize(
    ("limit", "share"),
    [(None, 128 * MIB), (256 * MIB, 64 * MIB), (32 * MIB, 16 * MIB), (2**40, 256 * MIB)],
)
def test_clients_of_grpc_may_hold_a_quarter_of_the_memory(limit: int | None, share: int) -> None:
    assert share_of_memory(limit) == share


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, None),
        ({"memory.max": "max\n"}, None),
        ({"memory.max": "268435456\n"}, 256 * MIB),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
        ({"memory/memory.limit_in_bytes": "268435456\n"}, 256 * MIB),
        ({"memory.max": "no number"}, None),
    ],
)
def test_the_limit_of_memory_is_that_of_the_container(tmp_path: Path, files: dict[str, str], limit: int | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert limit_of_memory(tmp_path) == limit


def test_the_limit_of_memory_may_be_that_of_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text(str(512 * MIB))
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256 * MIB, resource.RLIM_INFINITY))
    assert limit_of_memory(tmp_path) == 256 * MIB


@pytest.fixture
def open_files() -> Iterator[tuple[int, int]]:
    """The original limits, which are restored."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_limit_of_open_files_is_raised_as_far_as_it_may(open_files: tuple[int, int]) -> None:
    _, most = open_files
    resource.setrlimit(resource.RLIMIT_NOFILE, (most // 2, most))
    raise_limit_of_open_files()
    assert limit_of_open_files() == most


def test_no_limit_of_open_files_is_a_large_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert limit_of_open_files() == sys.maxsize
