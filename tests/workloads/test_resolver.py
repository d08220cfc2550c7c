# SPDX-License-Identifier: Apache-2.0
"""Which workload a ScaledObject means."""

import pytest

from kedastral.core.planning.snapshot import Snapshot
from kedastral.core.planning.stale_policy import StalePolicy
from kedastral.core.trigger import ObjectRef
from kedastral.errors import BadTriggerError, UnknownWorkloadError
from kedastral.workloads.resolver import RemoteResolver, pick_workload
from tests.parts import make_snapshot

KEYS = frozenset({"a/shop", "b/shop", "b/pay", "shop", "search", "a/cart", "c/cart"})


def of(workload: str | None, namespace: str = "a") -> ObjectRef:
    return ObjectRef("web", namespace, {} if workload is None else {"workload": workload})


@pytest.mark.parametrize(
    ("workload", "namespace", "key"),
    [
        ("shop", "a", "a/shop"),
        ("shop", "b", "b/shop"),
        ("shop", "elsewhere", "shop"),
        (" shop ", "a", "a/shop"),
        ("search", "a", "search"),
        ("b/pay", "a", "b/pay"),
        ("b/shop", "a", "b/shop"),
        ("shop", "", "shop"),
    ],
)
def test_a_name_is_found_in_the_own_namespace_then_without_one(workload: str, namespace: str, key: str) -> None:
    assert pick_workload(of(workload, namespace), KEYS) == key


def test_keda_may_have_taken_the_name_from_a_variable() -> None:
    assert pick_workload(ObjectRef("web", "a", {"workloadFromEnv": "shop"}), KEYS) == "a/shop"
    with pytest.raises(UnknownWorkloadError, match="no workload by the name that 'workloadFromEnv' gives") as caught:
        pick_workload(ObjectRef("web", "a", {"workloadFromEnv": "s3cret"}), KEYS)
    assert "s3cret" not in str(caught.value)
    with pytest.raises(BadTriggerError, match="workload and workloadFromEnv exclude each other; remove one"):
        pick_workload(ObjectRef("web", "a", {"workload": "shop", "workloadFromEnv": "shop"}), KEYS)


def test_another_namespaces_workload_must_be_named_in_full() -> None:
    with pytest.raises(UnknownWorkloadError, match="there is 'b/pay', to be named in full"):
        pick_workload(of("pay"), KEYS)
    with pytest.raises(BadTriggerError, match="must say which 'cart': a/cart, c/cart"):
        pick_workload(of("cart", "b"), KEYS)


@pytest.mark.parametrize("workload", ["nobody", "a/nobody", "a/", "/", "x" * 70_000])
def test_an_unknown_name_is_said_so_briefly(workload: str) -> None:
    with pytest.raises(UnknownWorkloadError) as caught:
        pick_workload(of(workload), KEYS)
    assert len(str(caught.value)) < 200


def test_a_single_workload_needs_no_name_and_several_do() -> None:
    assert pick_workload(of(None), {"a/shop"}) == "a/shop"
    for keys in (KEYS, frozenset[str]()):
        with pytest.raises(BadTriggerError, match="set metadata 'workload'"):
            pick_workload(of("  "), keys)


class Remote:
    """A reader with the snapshots of ``there``, which records what it was asked to track."""

    def __init__(self, *there: str) -> None:
        self.there = there
        self.tracked: list[str] = []

    def get(self, workload: str) -> Snapshot | None:
        return make_snapshot(workload=workload) if workload in self.there else None

    def newest(self) -> dict[str, Snapshot]:
        return {}

    async def track(self, workload: str) -> None:
        self.tracked.append(workload)

    async def wait_for_change(self, *workloads: str) -> None:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("there", "named", "key", "tracked"),
    [
        (["a/shop", "shop"], "shop", "a/shop", ["a/shop"]),
        (["shop"], "shop", "shop", ["a/shop", "shop"]),
        ([], "shop", "shop", ["a/shop", "shop"]),
        (["shop"], "b/shop", "b/shop", ["b/shop"]),
        (["a/fallback"], None, "a/fallback", ["a/fallback"]),
    ],
)
async def test_a_split_scaler_looks_in_the_own_namespace_first(
    there: list[str], named: str | None, key: str, tracked: list[str]
) -> None:
    reader = Remote(*there)
    assert await RemoteResolver(reader, StalePolicy(), "fallback").find(of(named)) == key
    assert reader.tracked == tracked


@pytest.mark.parametrize(
    "metadata",
    [{"query": "sum(rate(http_requests_total[1m]))", "targetPerPod": "50"}, {"targetPerPodd": "50"}],
    ids=["a description", "a misspelt one"],
)
async def test_what_describes_a_workload_of_its_own_does_not_get_the_default_one_of_a_split_scaler(
    metadata: dict[str, str],
) -> None:
    reader = Remote("fallback")
    with pytest.raises(BadTriggerError, match="describes a workload of its own, which a split scaler does not read"):
        await RemoteResolver(reader, StalePolicy(), "fallback").find(ObjectRef("web", "a", metadata))
    assert reader.tracked == []
    only_keda = {"scalerAddress": "k:8080", "activation": "1", "enableTLS": "true"}
    assert await RemoteResolver(reader, StalePolicy(), "fallback").find(ObjectRef("web", "a", only_keda)) == "fallback"
