"""The blocks of the documentation run, page by page, in one namespace and one folder a page.

Python blocks run, and in ``docs/`` shell blocks of `snnkit` commands, each command in its own process; TOML
blocks that begin with the comment ``# NAME.toml`` are written as such files.
"""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from unittest import mock

import numpy as np
import pytest

from snnkit.datasets import DATASETS
from snnkit.energy import estimate, uncertainty
from snnkit.engine import simulate
from snnkit.graph import Graph
from snnkit.hardware import netx
from snnkit.training.run import graph_data

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(python|sh|toml)\n(.*?)^```", re.MULTILINE | re.DOTALL)

NEEDS = {
    "tonic": ("nmnist/nmnist_small.h5", "tonic"),
    "A recurrent network of adaptive neurons with delays": ("fsdd", None),
    "A convolutional network for an event camera, with delays": ("nmnist/nmnist_small.h5", None),
    "SpikingJelly": (None, "spikingjelly"),
    "Norse": (None, "norse"),
    "snnTorch": (None, "snntorch"),
    "sinabs": (None, "sinabs"),
}
"""Sections that need recordings under SNNKIT_DATA, a package, or both; left out where there are none."""

LINES, COMMANDS = 10, 3
"""From one's own data to energy.html and loihi.net in at most so many lines of Python, imports included, or
so many commands."""


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, text, line on the page, and the heading it stands under."""

    language: str
    text: str
    line: int
    section: str

    @property
    def prices(self):
        """Whether it writes the page of what the network costs."""
        return "energy.html" in self.text and self.language != "toml"

    @property
    def whole(self):
        """Whether it goes all the way, to the page and to the chip."""
        return self.prices and "loihi.net" in self.text

    @property
    def steps(self):
        """Its lines that are neither empty nor a comment."""
        return [line for line in self.text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def blocks(page):
    text = page.read_text()
    found = []
    for fence in FENCE.finditer(text):
        if fence[1] == "sh" and page.parent == ROOT:
            continue  # the README's install the library and train for minutes
        before = text[: fence.start()]
        heads = re.findall(r"^#+ (.*)$", FENCE.sub("", before), re.MULTILINE)
        found.append(Block(fence[1], fence[2], before.count("\n") + 1, heads[-1] if heads else ""))
    return found


def can_run(block):
    recordings, package = NEEDS.get(block.section, (None, None))
    there = recordings is None or Path(os.environ.get("SNNKIT_DATA", "nowhere"), recordings).exists()
    return there and (package is None or importlib.util.find_spec(package) is not None)


def is_of_snnkit(value):
    home = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    return str(home or type(value).__module__).split(".")[0] == "snnkit"


def run(block, page, space):
    """Run a block as its reader would; the namespace after it."""
    if block.language == "python":
        if block.whole:  # it must bring all of the library with it, and be given nothing but data
            space = {name: value for name, value in space.items() if not is_of_snnkit(value)}
        exec(compile("\n" * block.line + block.text, str(page), "exec"), space)
    elif block.language == "toml" and (name := re.match(r"# (\w+\.toml)\n", block.text)):
        Path(name[1]).write_text(block.text)
    elif block.language == "sh":
        for line in block.steps:
            command, *arguments = shlex.split(line)
            assert command == "snnkit", f"{page.name}: a shell block runs, and {line!r} is no command"
            done = subprocess.run(
                [sys.executable, "-m", "snnkit", *arguments], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{line}: {done.stderr}"
    return space


def hold_the_page(graph, events):
    """energy.html is the report of this network on these inputs."""
    page = Path("energy.html").read_text()
    assert page.startswith("<!doctype html>")
    synops = simulate(graph, events).counts["synops"]  # the engine counts, as the events go through
    total = np.sum(list(synops.values()), axis=0).mean()
    assert total > 0
    assert f"<b>{total:,.0f}</b><span>SynOps an inference</span>" in page
    price = estimate(graph, events, "cmos45").prices["cmos45"]
    assert f'<td>cmos45</td><td class="n">{uncertainty(price)}</td>' in page
    for name, layer in graph.populations.items():
        row = rf"<td>{re.escape(name)}</td><td>{layer.neuron}</td><td[^>]*>{layer.size:,}</td>"
        assert layer.neuron == "input" or re.search(row, page), f"{name} is not on the page"


def hold_the_chip(graph):
    """loihi.net is, to the library's own reader, the layers of this network in integers."""
    read = netx.read("loihi.net")
    assert [p.size for p in read.populations.values()] == [p.size for p in graph.populations.values()]
    assert {p.neuron for p in read.populations.values()} == {"input", "loihi"}
    assert any(p.delay is not None and np.any(p.delay > 0) for p in read.projections)
    for weight in (p.weight for p in read.projections):
        assert np.array_equal(weight, np.rint(weight))
        assert np.any(weight)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space = {"__name__": "docs"}
    with mock.patch.dict(DATASETS):  # what a page registers is gone after it
        for block in filter(can_run, blocks(page)):
            for name in ("energy.html", "loihi.net"):  # each block makes its own
                Path(name).unlink(missing_ok=True)
            space = run(block, page, space)
            if not block.prices:
                continue
            if block.language == "sh":
                graph = Graph.load("run/graph.h5")
                events = graph_data(graph, "valid").events
            else:
                graph, events = space["graph"], space["splits"].valid.events
            hold_the_page(graph, events)
            if block.whole:
                hold_the_chip(graph)


WAYS = ["A folder of WAVs", "Events in NumPy", "Arrays and a torch Dataset", "tonic"]


@pytest.mark.parametrize("way", WAYS)
def test_from_own_data_to_the_chip_is_a_few_lines(way):
    mine = [b for b in blocks(ROOT / "docs/your-own-data.md") if b.section == way and b.whole]
    lines = [len(b.steps) for b in mine if b.language == "python"]
    commands = [len(b.steps) for b in mine if b.language == "sh"]
    assert lines, f"{way!r} shows no way from the data to energy.html and loihi.net"
    assert max(lines) <= LINES
    assert max(commands, default=0) <= COMMANDS
    assert all(len(line) <= 110 and ";" not in line for b in mine for line in b.steps)
    assert commands or way != "A folder of WAVs"


def test_every_section_that_needs_recordings_is_there():
    sections = {block.section for page in PAGES for block in blocks(page)}
    assert sections >= NEEDS.keys()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_links_of_a_page_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
