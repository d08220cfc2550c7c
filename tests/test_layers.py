# SPDX-License-Identifier: Apache-2.0
"""The layers that ``kedastral/__init__.py`` and ``kedastral/core/__init__.py`` draw, enforced from the imports."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import attrs
import pytest

import kedastral
from kedastral import core

ROOT = Path(kedastral.__file__).parent
MODULES = sorted(path for path in ROOT.rglob("*.py") if "_proto" not in path.parts)
APART = {"grpclib_trio", "trio_connections", "_proto"}
WITHOUT_LAYER = {None, "__init__", "__main__", *APART}
DRAWN = [kedastral, core]
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


def read_layers(package: ModuleType) -> list[set[str]]:
    """The layers that the docstring of ``package`` draws, topmost first: the names in each line."""
    assert package.__doc__ is not None
    drawing = package.__doc__.partition("::\n\n")[2].partition("\n    grpclib_trio")[0].partition("\n\n")[0]
    return [set(re.findall(r"\w+", re.split(r"\s{4,}", line.strip())[0])) for line in drawing.splitlines()]


def layer_name(path: Path, package: ModuleType = kedastral) -> str | None:
    """The part of ``package`` that a module belongs to; None outside the package."""
    folder = Path(str(package.__file__)).parent
    return path.relative_to(folder).parts[0].removesuffix(".py") if path.is_relative_to(folder) else None


def imports_of(path: Path) -> Iterator[Import]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(path, alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            assert node.module is not None
            if node.module in {package.__name__ for package in DRAWN}:
                for alias in node.names:
                    yield Import(path, f"{node.module}.{alias.name}", node.lineno)
            else:
                yield Import(path, node.module, node.lineno)


def ours(found: Import, package: ModuleType = kedastral) -> str | None:
    """The part of ``package`` that is imported, if it is one."""
    inside = found.module.startswith(f"{package.__name__}.")
    name = found.module.removeprefix(f"{package.__name__}.").partition(".")[0]
    return name if inside and name != "__version__" else None


ALL_IMPORTS = [found for path in MODULES for found in imports_of(path)]


@pytest.mark.parametrize("package", DRAWN, ids=lambda package: package.__name__)
def test_the_drawing_can_be_read_and_every_module_is_in_it(package: ModuleType) -> None:
    layers = read_layers(package)
    drawn = set.union(*layers)
    assert sum(map(len, layers)) == len(drawn), "a name is drawn twice"
    assert drawn == {layer_name(path, package) for path in MODULES} - WITHOUT_LAYER


@pytest.mark.parametrize("package", DRAWN, ids=lambda package: package.__name__)
def test_every_import_points_to_a_layer_below_or_the_same(package: ModuleType) -> None:
    height = {name: -depth for depth, names in enumerate(read_layers(package)) for name in names}
    wrong = [
        str(found)
        for found in ALL_IMPORTS
        if (target := ours(found, package)) not in WITHOUT_LAYER
        and (source := layer_name(found.path, package)) not in WITHOUT_LAYER
        and height[str(target)] > height[str(source)]
    ]
    assert wrong == []


@pytest.mark.parametrize("package", DRAWN, ids=lambda package: package.__name__)
def test_what_shares_a_layer_does_not_need_each_other_in_a_circle(package: ModuleType) -> None:
    edges = {(layer_name(found.path, package), ours(found, package)) for found in ALL_IMPORTS}
    circles = sorted((str(a), str(b)) for a, b in edges if a != b and None not in {a, b} and (b, a) in edges)
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
