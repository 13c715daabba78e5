"""The import order of the design, no circles, and which parts must not load torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "snnkit"
ORDER = [
    {"errors", "backend", "files", "jit", "machine", "memory", "events", "chips", "readouts", "metadata"},
    {"graph"},
    {"neurons"},
    {"delays"},
    {"engine", "datasets"},
    {"training"},
    {"compression"},
    {"hardware", "energy", "interop"},
    {"report"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
LEVEL = {part: level for level, parts in enumerate(ORDER) for part in parts}
FILES = sorted(ROOT.rglob("*.py"))


def module_of(file: Path) -> str:
    name = ".".join(file.relative_to(ROOT.parent).with_suffix("").parts)
    return name.removesuffix(".__init__")


MODULES = {module_of(file): file for file in FILES}


def imported(file: Path) -> set[str]:
    """Modules of snnkit that a file imports, at its head or inside functions, by their full names."""
    package = list(file.relative_to(ROOT.parent).parts[:-1])
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                found.add(inner if inner in MODULES else source)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & MODULES.keys()


def part_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_a_file_imports_only_from_below(file):
    part = part_of(module_of(file))
    if part not in LEVEL:
        return
    for other in imported(file):
        if part_of(other) not in LEVEL or part_of(other) == part:
            continue
        below = LEVEL[part_of(other)] < LEVEL[part]
        ground = LEVEL[part] == LEVEL[part_of(other)] == 0
        assert below or ground, f"{file} imports {other}, which is not below it"


def test_every_part_has_its_place_in_the_order():
    parts = {part_of(module) for module in MODULES} - {""}
    assert parts == LEVEL.keys()


def test_no_modules_import_each_other_in_a_circle():
    """Imports inside functions and for types included; a package's own `__init__` is a module too."""
    above = {module: imported(file) - {module} for module, file in MODULES.items()}
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> None:
        if module in path:
            circle = [*path[path.index(module) :], module]
            raise AssertionError(f"an import circle: {' → '.join(circle)}")
        if module not in done:
            for other in sorted(above[module]):
                visit(other, [*path, module])
            done.add(module)

    for module in above:
        visit(module, [])


@pytest.mark.parametrize("part", ["graph", "events", "neurons", "engine", "hardware", "energy"])
def test_a_chip_engineer_needs_no_torch(part):
    code = f"import sys, snnkit.{part}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_front_door_loads_no_torch_for_a_graph():
    code = (
        "import sys, snnkit; a = 'numpy' in sys.modules\n"
        "from snnkit import energy_page, estimate, netx, quantise, simulate\n"
        "sys.exit(a or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_commands_help_loads_no_arrays():
    code = "import sys, snnkit.cli; sys.exit(not {'numpy', 'torch', 'numba', 'h5py'}.isdisjoint(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
