"""What STYLE asks of the library's sources as a whole, counted."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = {
    str(file.relative_to(ROOT / "snnkit")): file.read_text()
    for file in sorted((ROOT / "snnkit").rglob("*.py"))
}

PARAMETERS, SHARE = 8, 0.02
"""More parameters than this are for at most this share of all functions: kernels and the neurons' equations,
whose arguments are the arrays and symbols themselves, are counted with them."""

LINES = 700
LONGER: dict[str, int] = {}
"""Files that may be longer, and how long: the rows of one table each."""

HASATTR = {
    "backend.py": 1,  # what the operating system has
    "compression/bins.py": 1,  # any layer with delays
    "engine/arguments.py": 1,  # a generator is whatever has a `source`
    "machine.py": 1,  # what the operating system has
    "neurons/equations.py": 1,  # names in a user's step
    "training/aware.py": 1,  # modules of the user's
    "training/own.py": 1,  # a network of the user's
}
"""Files that may ask what an object has, and how often."""


def functions(text):
    return [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


def parameters(function):
    """How many a caller may give: `self`, `cls` and autograd's `ctx` are none."""
    a = function.args
    names = [p.arg for p in (*a.posonlyargs, *a.args, *a.kwonlyargs)]
    return len(names) - (bool(names) and names[0] in ("self", "cls", "ctx"))


def test_few_functions_have_more_than_eight_parameters():
    every = {
        f"{name}:{f.lineno} {f.name}": parameters(f)
        for name, text in SOURCES.items()
        for f in functions(text)
    }
    long = {where: count for where, count in every.items() if count > PARAMETERS}
    listed = "\n".join(f"{count:3} {where}" for where, count in long.items())
    assert len(long) <= SHARE * len(every), (
        f"{len(long)} of {len(every)} functions have more than {PARAMETERS} parameters; "
        f"values that travel together are one value:\n{listed}"
    )


def test_no_file_is_too_long_to_be_read():
    lengths = {name: text.count("\n") for name, text in SOURCES.items()}
    long = {name: n for name, n in lengths.items() if n > LONGER.get(name, LINES)}
    assert not long, f"files of more than {LINES} lines hold more than one subject: {long}"


def test_objects_are_hardly_ever_asked_what_they_have():
    """An interface or a table says it; what is left asks objects of the user's or the system's."""
    found = {}
    for name, text in SOURCES.items():
        calls = [
            n
            for n in ast.walk(ast.parse(text))
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == "hasattr"
        ]
        if calls:
            found[name] = len(calls)
    assert found.keys() <= HASATTR.keys(), f"hasattr in {found.keys() - HASATTR.keys()}"
    assert all(count <= HASATTR[name] for name, count in found.items()), found


def test_what_contributing_says_an_addition_costs_is_there():
    """Every file and table that the page names exists, and the tests that show it."""
    rows = [
        line.strip("|").split("|")
        for line in (ROOT / "CONTRIBUTING.md").read_text().splitlines()
        if line.startswith("| ") and "`" in line
    ]
    assert len(rows) == 19
    for what, touch, shown in rows:
        words = touch.split("`")[1::2]
        files = [ROOT / "snnkit" / w for w in words if w.endswith((".py", "/"))]
        assert all(file.exists() for file in files), what
        assert (ROOT / "tests" / shown.strip().strip("`")).exists(), what
        tables = [w.removeprefix("modules.") for w in words if w.isupper() or w.startswith("modules.")]
        texts = "".join(
            file.read_text() for f in files for file in ([f] if f.is_file() else sorted(f.glob("*.py")))
        )
        for table in tables:
            assert f"\n{table}" in texts, f"{what}: no table {table} in {words}"
