# SPDX-License-Identifier: Apache-2.0
"""Readiness: every service up, and draining not begun."""

from kedastral.serving.readiness import Readiness


def test_it_waits_for_every_service_and_names_those_missing() -> None:
    readiness = Readiness.of({"http", "grpc"})
    assert readiness.obstacle == "starting: waiting for grpc, http"
    readiness.mark_up("grpc")
    assert readiness.obstacle == "starting: waiting for http"
    readiness.mark_up("http")
    assert readiness.obstacle is None


def test_draining_is_for_good() -> None:
    readiness = Readiness.of({"http"})
    readiness.begin_drain()
    assert readiness.obstacle == "shutting down"
    readiness.mark_up("http")
    assert readiness.obstacle == "shutting down"


def test_marking_twice_or_what_is_not_waited_for_changes_nothing() -> None:
    readiness = Readiness.of({"http"})
    for service in ("http", "http", "other"):
        readiness.mark_up(service)
    assert readiness.obstacle is None
