# SPDX-License-Identifier: Apache-2.0
"""The cluster starts once; then all selected cases run at the same time, and pytest waits for each in turn.

A case is a test that takes ``case`` (and parameters), with the marker ``e2e``. It runs in a thread of its own, in its
own namespace, so that a run takes as long as its longest case.
"""

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e import binaries, named_cluster
from tests.e2e.api import ClusterView, open_api
from tests.e2e.case import Case, Stage
from tests.e2e.programs import Programs
from tests.e2e.resource_metrics import CpuUse
from tests.e2e.sandbox import Sandbox

SELECTED = "KEDASTRAL_E2E"
"""Set by `make e2e`."""
BIN, RESULTS, AT_ONCE = "KEDASTRAL_E2E_BIN", "KEDASTRAL_E2E_RESULTS", "KEDASTRAL_E2E_AT_ONCE"
"""The binaries; the folder for timelines and the logs of failed cases; how many cases run at the same time."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if SELECTED not in os.environ:
        mine = [item for item in items if item.get_closest_marker("e2e")]
        config.hook.pytest_deselected(items=mine)
        items[:] = [item for item in items if item not in mine]


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    """The running cluster."""
    results = Path(os.environ.get(RESULTS, "build/e2e")).absolute()
    results.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        home = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="kedastral-e2e-", ignore_cleanup_errors=True))
        )
        programs = stack.enter_context(Programs(results / "log"))
        if BIN in os.environ:
            network = Sandbox(home)
            cpu = CpuUse()
            api = stack.enter_context(binaries.control_plane(Path(os.environ[BIN]), programs, home, cpu))
            config = str(home / "kubeconfig")
            yield Stage(api, ClusterView(api), network, results, home, binaries.pod_template, config, cpu)
        else:
            api = stack.enter_context(open_api(programs))
            machine = named_cluster.MachineNetwork(api)
            config = os.environ["KUBECONFIG"]
            yield Stage(api, ClusterView(api), machine, results, home, named_cluster.pod_template, config)


@pytest.fixture(scope="session")
def playing(stage: Stage, request: pytest.FixtureRequest) -> Iterator[Mapping[str, "Future[None]"]]:
    """Every selected case by its id, started."""
    cases = [
        item for item in request.session.items if isinstance(item, pytest.Function) and "case" in item.fixturenames
    ]
    at_once = int(os.environ.get(AT_ONCE, "16"))
    with ThreadPoolExecutor(at_once) as pool:
        yield {item.nodeid: pool.submit(_play, item, stage) for item in cases}
        pool.shutdown(wait=True, cancel_futures=True)


def _play(item: pytest.Function, stage: Stage) -> None:
    name = re.sub(r"[^a-z0-9]+", "-", item.name.removeprefix("test_").lower()).strip("-")[:50]
    given = item.callspec.params if hasattr(item, "callspec") else {}
    with ExitStack() as stack:
        case = Case(name, stage, stack)
        try:
            item.obj(case=case, **given)
        finally:
            case.write()


@pytest.fixture
def case(playing: Mapping[str, "Future[None]"], request: pytest.FixtureRequest) -> "Future[None]":
    """The `Case` in a test; pytest itself gets its result."""
    return playing[request.node.nodeid]


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    future = pyfuncitem.funcargs.get("case")
    if not isinstance(future, Future):
        return None
    future.result()
    return True
