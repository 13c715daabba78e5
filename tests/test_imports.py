"""The import order of the design, and which parts must not load torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "snnkit"
ORDER = [
    {"errors", "backend", "files", "jit", "memory", "events", "chips", "readouts", "metadata"},
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
]
LEVEL = {part: level for level, parts in enumerate(ORDER) for part in parts}


def imported_parts(file: Path) -> set[str]:
    """Top-level parts of snnkit that a file imports, at its head or inside functions."""
    package = file.relative_to(ROOT.parent).with_suffix("").parts
    parts = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: -node.level]
            names = [node.module.split(".")] if node.module else [[a.name] for a in node.names]
            for name in names:
                full = [*base, *name]
                if len(full) > 1:
                    parts.add(full[1])
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("snnkit."):
            parts.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            parts |= {a.name.split(".")[1] for a in node.names if a.name.startswith("snnkit.")}
    return parts


@pytest.mark.parametrize("file", sorted(ROOT.rglob("*.py")), ids=lambda f: str(f.relative_to(ROOT)))
def test_a_file_imports_only_from_below(file):
    part = file.relative_to(ROOT).with_suffix("").parts[0]
    if part == "__init__":
        return
    for other in imported_parts(file) & LEVEL.keys():
        same_or_lower = other == part or LEVEL[other] < LEVEL[part]
        base = LEVEL[part] == LEVEL[other] == 0
        assert same_or_lower or base, f"{file} ({part}) imports {other}, which is not below it"


@pytest.mark.parametrize("part", ["graph", "events", "neurons", "engine", "hardware", "energy"])
def test_a_chip_engineer_needs_no_torch(part):
    code = f"import sys, snnkit.{part}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
