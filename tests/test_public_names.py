"""Names that others write down: each subpackage's ``__all__``, what texts point to, commands they show."""

import importlib
import importlib.util
import inspect
import pkgutil
import re
from pathlib import Path

import pytest
import typer

import snnkit
from snnkit import cli

ROOT = Path(__file__).parents[1]
PARTS = ["snnkit"]
PARTS += [f"snnkit.{module.name}" for module in pkgutil.iter_modules(snnkit.__path__) if module.ispkg]
CONTRACTS = {part: importlib.import_module(part) for part in PARTS}
NAMES = [(part, name) for part, module in CONTRACTS.items() for name in getattr(module, "__all__", ())]
POINTER = re.compile(r"`snnkit((?:\.\w+)+)")
"""A name in backticks, `snnkit.engine.simulate`."""
TEXTS = [
    path
    for pattern in ("*.md", "docs/**/*.md", "snnkit/**/*.py", "experiments/*.py", "benchmarks/*.py")
    for path in sorted(ROOT.glob(pattern))
]

COMMAND = re.compile(r"(?:^[# ]*|`)snnkit ([a-z]+)\b([^\n`]*)", re.MULTILINE)
"""A command line in a page or at the head of a configuration: `snnkit train FILE.toml --out FOLDER`."""
PAGES = [
    path for pattern in ("*.md", "docs/**/*.md", "experiments/*.toml") for path in sorted(ROOT.glob(pattern))
]


@pytest.mark.parametrize(("part", "name"), NAMES, ids=lambda text: text)
def test_a_public_name_is_there_and_says_what_it_is(part, name):
    found = getattr(CONTRACTS[part], name)
    if inspect.isclass(found) or callable(found):
        assert inspect.getdoc(found), f"{part}.{name} has no docstring"


@pytest.mark.parametrize("part", [part for part in PARTS if hasattr(CONTRACTS[part], "__all__")])
def test_a_contract_names_each_thing_once(part):
    names = CONTRACTS[part].__all__
    assert len(set(names)) == len(names)
    assert not [name for name in names if name.startswith("_")]


def test_a_name_of_the_front_door_is_that_of_its_subpackage():
    for name in snnkit.__all__:
        found = getattr(snnkit, name)
        homes = [m for part, m in CONTRACTS.items() if part != "snnkit" and name in getattr(m, "__all__", ())]
        assert all(getattr(home, name) is found for home in homes)
        assert inspect.ismodule(found) or found.__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'Trainers'"):
        _ = snnkit.Trainers


def is_there(dotted):
    """Whether a module of snnkit, or something in one, has this name; looked for as an import would."""
    words = dotted.split(".")
    for cut in range(len(words), 0, -1):
        module = ".".join(words[:cut])
        try:
            if importlib.util.find_spec(module) is None:
                continue
        except ModuleNotFoundError:
            continue
        if cut == len(words):
            return True
        found = importlib.import_module(module)
        for word in words[cut:]:
            if not hasattr(found, word):
                return False
            found = getattr(found, word)
        return True
    return False


@pytest.mark.parametrize(
    "text", [t for t in TEXTS if POINTER.search(t.read_text())], ids=lambda path: str(path.relative_to(ROOT))
)
def test_what_a_text_points_to_is_there(text):
    missing = [name for name in POINTER.findall(text.read_text()) if not is_there(f"snnkit{name}")]
    assert not missing, f"{text.relative_to(ROOT)} points to snnkit{missing[0]}, which is not there"


@pytest.mark.parametrize(
    "page", [p for p in PAGES if COMMAND.search(p.read_text())], ids=lambda path: str(path.relative_to(ROOT))
)
def test_a_command_that_a_page_shows_has_these_options(page):
    commands = typer.main.get_command(cli.app).commands
    for command, rest in COMMAND.findall(page.read_text()):
        assert command in commands, f"snnkit {command}"
        known = {option for parameter in commands[command].params for option in parameter.opts}
        for option in re.findall(r"(?<=\s)--?[a-z][a-z-]*", rest):
            assert option in known, f"snnkit {command} {option}"


def test_a_name_that_is_not_there_is_found_out():
    assert is_there("snnkit.engine.simulate")
    assert is_there("snnkit.energy.tune.SPACE")
    assert not is_there("snnkit.engine.simulated")
    assert not is_there("snnkit.training.runs.load_data")
