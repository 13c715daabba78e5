"""The file formats of networks: a row each, told apart by content.

A row brings in what it needs when it is used, so that the command can list the formats without
loading NumPy and h5py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ..errors import DataError, ParameterError

if TYPE_CHECKING:
    from ..files import PathLike
    from ..graph import Graph


@dataclass(frozen=True)
class Format:
    """A file format that a Graph can be written to and read from.

    title   what such a file is called in a sentence
    mark    what in the file tells it from others
    about   what it is, in a few words, for the help of `snnkit export`
    suffix  ending that its files usually have; nothing depends on it
    holds   "floats", or "integers": then what is exported is quantised first
    write   writes a Graph, whole or not at all; raises `ExportError` for what the format has no place for
    unrolls whether `write` takes ``unroll=True``: convolutions with delays as dense layers
    read    gives the Graph of a file; raises `DataError` for a damaged one
    is_one  whether a file is of this format; False for what can't be read at all
    """

    title: str
    mark: str
    about: str
    suffix: str
    holds: Literal["floats", "integers"]
    write: Callable[..., Any]
    read: Callable[[PathLike], Graph]
    is_one: Callable[[PathLike], bool]
    unrolls: bool = False


def _h5_with(test: Callable[[Any], bool]) -> Callable[[PathLike], bool]:
    """Whether a file is HDF5 that passes `test`, which is given the open file."""

    def is_one(path: PathLike) -> bool:
        from ..files import open_h5

        try:
            with open_h5(path) as file:
                return test(file)
        except DataError:
            return False

    return is_one


def _write_graph(graph: Graph, path: PathLike) -> None:
    graph.save(path)


def _read_graph(path: PathLike) -> Graph:
    from ..graph import Graph

    return Graph.load(path)


def _write_netx(graph: Graph, path: PathLike, *, unroll: bool = False) -> None:
    from ..hardware import netx

    netx.write(graph, path, unroll=unroll)


def _read_netx(path: PathLike) -> Graph:
    from ..hardware import netx

    return netx.read(path)


def _write_nir(graph: Graph, path: PathLike) -> None:
    from ..interop import nir

    nir.write(graph, path)


def _read_nir(path: PathLike) -> Graph:
    from ..interop import nir

    return nir.read(path)


FORMATS: dict[str, Format] = {
    "graph": Format(
        title="a graph",
        mark="attribute 'format'",
        about="snnkit's own, in integers",
        suffix=".h5",
        holds="integers",
        write=_write_graph,
        read=_read_graph,
        is_one=_h5_with(lambda file: "format" in file.attrs),
    ),
    "netx": Format(
        title="a NetX file",
        mark="/layer",
        about="Lava's HDF5",
        suffix=".net",
        holds="integers",
        write=_write_netx,
        read=_read_netx,
        is_one=_h5_with(lambda file: "layer" in file),
        unrolls=True,
    ),
    "nir": Format(
        title="NIR",
        mark="/node",
        about="exchange between libraries, in floats",
        suffix=".nir",
        holds="floats",
        write=_write_nir,
        read=_read_nir,
        is_one=_h5_with(lambda file: "node" in file),
    ),
}
"""The formats by the names that ``snnkit export --to`` takes; another is one more row."""


def format_of(name: str) -> Format:
    """The row of a name. Raises `ParameterError` naming those there are."""
    if name not in FORMATS:
        *names, last = FORMATS
        raise ParameterError(f"unknown format {name!r}; known are {', '.join(names)} and {last}.")
    return FORMATS[name]


def load(path: PathLike) -> Graph:
    """The network of a file in any of `FORMATS`, told apart by content.

    Raises `DataError` for a file that is not there, is damaged, or is of no known format.
    """
    for form in FORMATS.values():
        if form.is_one(path):
            return form.read(path)
    from ..files import open_h5

    with open_h5(path):  # says what is wrong with a file that can't be opened
        kinds = [f"{form.title} ({form.mark})" for form in FORMATS.values()]
    raise DataError(f"{path} is neither {', nor '.join(kinds)}.")
