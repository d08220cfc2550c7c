# SPDX-License-Identifier: Apache-2.0
"""The layers that ``kedastral/__init__.py`` draws, enforced from the imports."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

import kedastral

ROOT = Path(kedastral.__file__).parent
MODULES = sorted(path for path in ROOT.rglob("*.py") if "_proto" not in path.parts)
APART = {"grpclib_trio", "trio_connections", "_proto"}
PURE = {"core", "models", "simulation"}
WALL_CLOCK = {
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
    "time": {"time", "time_ns", "localtime", "gmtime", "ctime", "strftime"},
}
FOREIGN_TO_THE_PURE = {"trio", "httpx", "logging", "time", "os", "io", "socket", "random", "asyncio", "threading"}


@attrs.frozen
class Import:
    """One import: the importer, the imported module, and the line."""

    path: Path
    module: str
    line: int

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line} imports {self.module}"


def read_layers() -> list[set[str]]:
    """The layers of the drawing, topmost first: the names in each line."""
    assert kedastral.__doc__ is not None
    drawing = kedastral.__doc__.partition("::\n\n")[2].partition("\n    grpclib_trio")[0]
    return [set(re.findall(r"\w+", re.split(r"\s{4,}", line.strip())[0])) for line in drawing.splitlines()]


def layer_name(path: Path) -> str:
    first = path.relative_to(ROOT).parts[0]
    return first.removesuffix(".py")


def imports_of(path: Path) -> Iterator[Import]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(path, alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            assert node.module is not None
            if node.module == "kedastral":
                for alias in node.names:
                    yield Import(path, f"kedastral.{alias.name}", node.lineno)
            else:
                yield Import(path, node.module, node.lineno)


def ours(found: Import) -> str | None:
    """The part of Kedastral that is imported, if it is one."""
    package, _, rest = found.module.partition(".")
    name = rest.partition(".")[0]
    return name if package == "kedastral" and name != "__version__" else None


ALL_IMPORTS = [found for path in MODULES for found in imports_of(path)]


def test_the_drawing_can_be_read_and_every_module_is_in_it() -> None:
    layers = read_layers()
    drawn = set.union(*layers)
    assert sum(map(len, layers)) == len(drawn), "a name is drawn twice"
    there = {layer_name(path) for path in MODULES} - {"__init__", "__main__"}
    assert drawn == there - APART


def test_every_import_points_to_a_layer_below_or_the_same() -> None:
    height = {name: -depth for depth, names in enumerate(read_layers()) for name in names}
    wrong = [
        str(found)
        for found in ALL_IMPORTS
        if (target := ours(found)) is not None
        and (source := layer_name(found.path)) not in {"__init__", "__main__", *APART}
        and target not in APART
        and height[target] > height[source]
    ]
    assert wrong == []


def test_what_shares_a_layer_does_not_need_each_other_in_a_circle() -> None:
    edges = {
        (layer_name(f.path), ours(f)) for f in ALL_IMPORTS if ours(f) is not None and ours(f) != layer_name(f.path)
    }
    circles = sorted({tuple(sorted((a, b or ""))) for a, b in edges if (b, a) in edges})
    assert circles == []


def test_the_transport_and_the_contract_know_nothing_of_kedastral() -> None:
    wrong = [
        str(found) for found in ALL_IMPORTS if layer_name(found.path) in APART and ours(found) not in {None, *APART}
    ]
    assert wrong == []


@pytest.mark.parametrize("package", ["trio", "httpx", "logging", "time", "os", "socket", "random", "threading"])
def test_what_is_pure_does_no_io_keeps_no_log_and_waits_for_nothing(package: str) -> None:
    wrong = [
        str(found)
        for found in ALL_IMPORTS
        if layer_name(found.path) in PURE and found.module.partition(".")[0] == package
    ]
    assert wrong == []


SEE_PORTS_ONLY = {
    "workloads": {"tick.py", "ticker.py", "training.py"},
    "serving": {"scaler.py", "snapshot_api.py", "metrics.py", "store.py"},
}


def test_services_see_ports_only() -> None:
    services = [ROOT / folder / name for folder, names in SEE_PORTS_ONLY.items() for name in names]
    assert all(path.exists() for path in services)
    assert [str(f) for f in ALL_IMPORTS if f.path in services and ours(f) in {"adapters", "settings"}] == []


def test_nothing_imports_asyncio() -> None:
    assert [str(found) for found in ALL_IMPORTS if found.module.partition(".")[0] == "asyncio"] == []


def calls_in(path: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))


def test_only_the_clock_reads_wall_time() -> None:
    wrong = []
    for path in MODULES:
        for call in calls_in(path):
            match call.func:
                case ast.Attribute(value=ast.Name(id=holder) | ast.Attribute(attr=holder), attr=name):
                    if name in WALL_CLOCK.get(holder, ()):
                        wrong.append(f"{path.relative_to(ROOT)}:{call.lineno}")
    assert [place.partition(":")[0] for place in wrong] == ["clock.py"], wrong
    names = {alias.name for path in MODULES for node in ast.walk(ast.parse(path.read_text()))
             if isinstance(node, ast.ImportFrom) and node.module == "time" for alias in node.names}  # fmt: skip
    assert names <= {"perf_counter", "monotonic"}


def test_no_two_classes_share_a_name() -> None:
    places: dict[str, list[str]] = {}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_only_the_command_line_prints_or_exits() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path in MODULES
        if layer_name(path) not in {"cli", "__main__"}  # the entry point belongs to the command line
        for call in calls_in(path)
        if ast.unparse(call.func) in {"print", "sys.exit", "exit", "click.echo", "sys.stdout.write"}
    ]
    assert wrong == []
