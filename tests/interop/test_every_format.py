"""What every file format of networks must do; a new one is a row of `FORMATS`."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import h5py
import numpy as np
import pytest

from snnkit.commands.formats import FORMATS
from snnkit.errors import DataError, ExportError, GraphError
from snnkit.graph import Graph
from snnkit.hardware.quantise import quantise
from tests.helpers import networks
from tests.helpers.engine_graphs import conv_graph, random_graph
from tests.helpers.graphs import assert_same_graph

pytest.importorskip("nir")


@dataclass(frozen=True)
class Format:
    """
    name     of the row of `FORMATS` that writes and reads
    held     networks that come back whole, to `rtol`
    refused  networks that can't be held, and how they are refused
    """

    name: str
    held: dict[str, Callable[[], Graph]]
    refused: dict[str, tuple[Callable[[], Graph], type[Exception], str]]
    rtol: float = 0.0

    def write(self, graph, path):
        FORMATS[self.name].write(graph, path)

    def read(self, path):
        return FORMATS[self.name].read(path)


def integer(**options):
    return quantise(networks.network(**options), calibration=networks.spikes())


def small(**options):
    return networks.network((5, 4, 3), longest=3, **options)


def changed(**changes):
    graph = networks.network()
    graph.populations["hidden0"] = replace(graph.populations["hidden0"], **changes)
    return graph


def without_a_loops_delay():
    graph = networks.network(recurrent=True)
    for p in graph.projections:
        p.delay = 0 * p.delay
    return graph


def conv():
    return conv_graph(np.random.default_rng(0), {"stride": 2, "padding": 1, "groups": 2})


CASES = {
    "graph": Format(
        "graph",
        held={"float": networks.network, "integer": integer, "kinds": lambda: random_graph(3), "conv": conv},
        refused={
            "loop": (
                without_a_loops_delay,
                GraphError,
                r"'hidden0'.* form a loop of projections with delay 0",
            ),
            "nameless": (lambda: changed(name="x"), GraphError, "'hidden0'"),
        },
    ),
    "netx": Format(
        "netx",
        held={"integer": integer, "without bias": lambda: integer(bias=0.0)},
        refused={
            "float": (networks.network, ExportError, "'hidden0' has neurons of kind 'lif'"),
            "recurrent": (lambda: integer(recurrent=True), ExportError, "'hidden0': recurrence with delays"),
        },
    ),
    "nir": Format(
        "nir",
        held={"small": small, "float": networks.network, "loops": lambda: small(recurrent=True)},
        refused={
            "integer": (integer, ExportError, "'hidden0' is in the chip's integers"),
            "soft": (lambda: changed(options={"reset": "soft"}), ExportError, "'hidden0': reset 'soft'"),
        },
        rtol=1e-12,
    ),
}

HELD = [(name, kind) for name, form in CASES.items() for kind in form.held]
REFUSED = [(name, kind) for name, form in CASES.items() for kind in form.refused]


def test_every_format_of_the_library_has_its_cases():
    assert CASES.keys() == FORMATS.keys()


@pytest.mark.parametrize(("name", "kind"), HELD)
def test_what_is_written_is_read_back_equal(name, kind, tmp_path):
    form = CASES[name]
    graph = form.held[kind]()
    form.write(graph, tmp_path / "a")
    assert_same_graph(graph, form.read(tmp_path / "a"), rtol=form.rtol)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(("name", "kind"), HELD)
def test_writing_twice_gives_the_same_bytes(name, kind, tmp_path):
    form = CASES[name]
    form.write(form.held[kind](), tmp_path / "a")
    form.write(form.held[kind](), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(("name", "kind"), REFUSED)
def test_what_cannot_be_held_is_refused_by_name_and_leaves_no_file(name, kind, tmp_path):
    form = CASES[name]
    make, error, message = form.refused[kind]
    with pytest.raises(error, match=message):
        form.write(make(), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "kind"), REFUSED)
def test_a_file_survives_a_refused_write(name, kind, tmp_path):
    form = CASES[name]
    form.write(next(iter(form.held.values()))(), tmp_path / "a")
    before = (tmp_path / "a").read_bytes()
    with pytest.raises((ExportError, GraphError)):
        form.write(form.refused[kind][0](), tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
@pytest.mark.parametrize("name", CASES)
def test_a_truncated_file_is_a_named_error(name, share, tmp_path):
    form = CASES[name]
    form.write(next(iter(form.held.values()))(), tmp_path / "a")
    whole = (tmp_path / "a").read_bytes()
    (tmp_path / "cut").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=r"cut is no readable HDF5 file"):
        form.read(tmp_path / "cut")


@pytest.mark.parametrize("name", CASES)
def test_what_is_no_such_file_is_a_named_error(name, tmp_path):
    with pytest.raises(DataError, match=r"none does not exist"):
        CASES[name].read(tmp_path / "none")
    with h5py.File(tmp_path / "other", "w") as file:
        file["x"] = 1
    with pytest.raises(DataError, match=r"other is HDF5, but no"):
        CASES[name].read(tmp_path / "other")


@pytest.mark.parametrize("name", CASES)
def test_a_file_that_lost_a_part_is_a_named_error(name, tmp_path):
    """Each dataset and attribute of the file in turn: nothing worse than an error that says so."""
    form = CASES[name]
    form.write(next(iter(form.held.values()))(), tmp_path / "a")
    whole = (tmp_path / "a").read_bytes()
    places = []

    def note(place, part):
        places.extend([(place, None)] * isinstance(part, h5py.Dataset))
        places.extend((place, key) for key in part.attrs)

    with h5py.File(tmp_path / "a") as file:
        file.visititems(note)
    assert len(places) > 10
    for place, key in places:
        (tmp_path / "b").write_bytes(whole)
        with h5py.File(tmp_path / "b", "a") as file:
            if key is None:
                del file[place]
            else:
                del file[place].attrs[key]
        with suppress(DataError, ExportError, GraphError):
            form.read(tmp_path / "b").validate()
