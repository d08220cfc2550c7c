# SPDX-License-Identifier: Apache-2.0
"""Whatever a file holds, it is loaded or refused in lines: never a traceback, and never a wait.

``make configurations`` runs 10,000 examples; a normal run has fewer.
"""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from kedastral.errors import ConfigError
from kedastral.settings.kinds import API_VERSION, POLICY, POLICY_KEYS, SOURCE, SOURCE_KEYS
from kedastral.settings.types import ReadChoice
from tests.settings.fleets import load_fleet, policy, source

EXAMPLES = int(os.environ.get("CONFIGURATIONS", "200"))
MAX_LINE_LENGTH = 2000

KEYS = sorted({part for path in (*POLICY_KEYS, *SOURCE_KEYS) for part in path})
OTHER_KEYS = [
    "apiVersion", "kind", "metadata", "spec", "name", "namespace", "workload", "dataSource", "headers", "value",
    "queryParams",
    "status", "valueEnv", "allowedNamespaces", "password", "passwordEnv", "<<", "leadTme", "", "null", "5", "yes",
    "a.b", "\ufeff",
]  # fmt: skip
WORDS = [
    "kedastral.io/v1alpha1", "ForecastPolicy", "DataSource", "up", "prom", "http://prom:9090", "ftp://x", "5m", "30m",
    "0s", "1e999", "5.9", "-1", "auto", "http", "true", "error", "UTC", "Mars/Base", "a/b", "HOME", "/dev/null",
    "/nowhere", "\ud83d", "\x85", "\u2028", "*x", "&x", "!!python/object:os.system", "{}", "- -", "x" * 500,
]  # fmt: skip
NUMBERS = (
    st.integers(-(10**20), 10**20) | st.floats() | st.sampled_from([0, 1, 2, 5, 10, 60, 0.5, 0.99, 1.2, 2**31, 10**400])
)
SCALARS: st.SearchStrategy[Any] = st.sampled_from(WORDS) | NUMBERS | st.booleans() | st.none() | st.text(max_size=10)
TREES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(KEYS + OTHER_KEYS) | st.text(max_size=5), inner, max_size=5)
    ),
    max_leaves=12,
)


LIKELY: dict[str, list[Any]] = {
    "duration": ["1m", "2m", "3m", "4m"], "integer": [3, 5, 50], "number": [1.2, 2, 50, 0.99], "boolean": [True],
    "name": ["web", "rps"], "time zone": ["UTC", "Asia/Tokyo"], "URL": ["http://a/b"], "PromQL": ["up"],
}  # fmt: skip
"""Values that mostly fit, by the kind of a setting."""


@st.composite
def likely_documents(draw: st.DrawFn) -> dict[str, Any]:
    """A document that mostly loads."""
    kind, keys = draw(st.sampled_from([(POLICY, POLICY_KEYS), (POLICY, POLICY_KEYS), (SOURCE, SOURCE_KEYS)]))
    spec: dict[str, Any] = {"query": "up", "dataSource": "other"} if kind == POLICY else {"url": "http://prom:9090"}
    for path in draw(st.lists(st.sampled_from([path for path in keys if len(path) == 1]), max_size=4)):
        setting = keys[path]
        words = setting.read.words if isinstance(setting.read, ReadChoice) else LIKELY[setting.kind]
        if setting.name not in ("horizon", "step", "model"):
            spec[path[0]] = draw(st.sampled_from(words))
    name = draw(st.text("abcdef", min_size=3, max_size=5))
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """A document that is nearly valid."""
    kind = draw(st.sampled_from(["ForecastPolicy", "DataSource"]))
    name = draw(st.sampled_from(["web", "api", "prom"]))
    tree: dict[str, Any] = {
        "apiVersion": "kedastral.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {"query": "up"} if kind == "ForecastPolicy" else {"url": "http://prom:9090"},
    }
    for _ in range(draw(st.integers(0, 3))):
        target = draw(st.sampled_from([tree, tree["metadata"], tree["spec"], tree["spec"], tree["spec"]]))
        target = target if isinstance(target, dict) else tree
        target[draw(st.sampled_from(KEYS + OTHER_KEYS))] = draw(TREES)
        tree = {**tree, "metadata": tree.get("metadata") or {}, "spec": tree.get("spec") or {}}
    return tree


def dump(trees: list[Any], *, flow: bool) -> bytes:
    try:
        return yaml.safe_dump_all(trees, default_flow_style=flow, allow_unicode=True).encode(errors="surrogatepass")
    except yaml.YAMLError:
        return json.dumps(trees).encode()


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A configuration that loads, or did before somebody edited it."""
    names = draw(st.lists(st.sampled_from(["web", "api", "shop"]), min_size=1, max_size=3))
    content = bytearray("\n---\n".join([source(), *map(policy, names)]).encode())
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(content)))
        new = draw(
            st.sampled_from([b"\t", b"\x00", b"\xff", b"'", b'"', b"*a", b"&a ", b"!!x ", b"- ", b": ", b"\n", b"{"])
        )
        content[at : at + draw(st.integers(0, 3))] = new
    return bytes(content)


def repeat_keys(count: int) -> bytes:
    return (policy() + "  min: 2\n" * count).encode()


def make_bomb(levels: int) -> bytes:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    lines.append(f"metadata: *a{levels - 1}\nspec: {{headers: *a{levels - 1}, allowedNamespaces: *a{levels - 1}}}")
    return ("apiVersion: kedastral.io/v1alpha1\nkind: DataSource\n" + "\n".join(lines)).encode()


def nest(depth: int) -> bytes:
    return (policy() + "  metric: " + "[{a: " * depth).encode()


def pad(size: int) -> bytes:
    return policy().encode() + b"# " + b"x" * size


def enlarge(size: int) -> bytes:
    return (policy() + "  metric: " + "x" * size).encode()


MAKERS: list[tuple[Callable[[int], bytes], int]] = [
    (repeat_keys, 300), (make_bomb, 40), (nest, 5000), (pad, 10 * 1024 * 1024), (enlarge, 20_000),
]  # fmt: skip
EXTREMES = st.sampled_from(MAKERS).flatmap(lambda made: st.integers(1, made[1]).map(made[0]))
SPECIAL = "{}[]:,-?&*!|>'\"%@`#\n\t \x00\x85\u2028\ufeff\x1b~<=0123456789abctrue"
LIKELY_CONTENTS = st.builds(dump, st.lists(likely_documents(), min_size=1, max_size=4), flow=st.booleans())
CONTENTS = st.one_of(
    LIKELY_CONTENTS,
    st.builds(dump, st.lists(documents(), max_size=3), flow=st.booleans()),
    damaged(),
    damaged(),
    st.builds(dump, st.lists(TREES, max_size=3), flow=st.booleans()),
    st.text(SPECIAL, max_size=60).map(lambda text: text.encode()),
    st.text(max_size=60).map(lambda text: text.encode("utf-16")),
    st.binary(max_size=60),
    EXTREMES,
)
ODD_FLAGS: list[dict[str, str]] = [
    {"--prom-url": "http://p"}, {"--allow-scaledobject-workloads": "true"}, {"--lead-time": "10m"}, {"--min": "x"},
    {"--workload": "web"}, {"--workload": "own", "--prom-query": "up"}, {"--prom-query": "up"}, {"--horizon": "10m"},
    {"--workload": "", "--config": "/nowhere"},
]  # fmt: skip
NO_FLAGS: dict[str, str] = {}
FLAGS = st.just(NO_FLAGS) | st.sampled_from(ODD_FLAGS)


@settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(st.lists(LIKELY_CONTENTS, min_size=1, max_size=2) | st.lists(CONTENTS, min_size=1, max_size=2), FLAGS)
def test_any_configuration_loads_or_is_refused_in_lines(contents: list[bytes], flags: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for number, content in enumerate([*contents, source("other").encode()]):
            (Path(folder) / f"{number}.yaml").write_bytes(content)
        try:
            fleet = load_fleet(Path(folder), flags)
        except ConfigError as error:
            problems = error.problems
            event("refused")
        else:
            event("loaded")
            assert fleet.read_again() == fleet
            assert all(workload.data_source in fleet.settings.sources for workload in fleet.settings.workloads.values())
            assert all(key == workload.key for key, workload in fleet.settings.workloads.items())
            return
    assert problems
    assert all(line and line.isprintable() and len(line) < MAX_LINE_LENGTH for line in problems)
