"""The file formats of networks: a row each, told apart by content.

A row brings in what it needs when it is used, so that the command can list the formats without
loading NumPy and h5py.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ..errors import DataError, ParameterError, choices

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
    read    gives the Graph of a file; raises `DataError` for a damaged one. Takes ``convention=`` and ``dt=``
            (ms) where `stepped`
    stepped whether the file is in continuous time, so that it must be said how to step through it
    is_one  whether a file is of this format; False for what can't be read at all
    """

    title: str
    mark: str
    about: str
    suffix: str
    holds: Literal["floats", "integers"]
    write: Callable[..., Any]
    read: Callable[..., Graph]
    is_one: Callable[[PathLike], bool]
    unrolls: bool = False
    stepped: bool = False


@dataclass(frozen=True)
class Reading:
    """What is said of a file whose format leaves it open; None: not said.

    convention  of a format in continuous time: the framework whose steps are meant, a row of
                `snnkit.interop.nir.convention.CONVENTIONS`; None: as the format's own paper writes it
    dt          length of a step of such a format, ms; None: the framework's, or what the file says
    readout     how classes are read, a name of `snnkit.readouts.READOUTS`; None: what the file says, else by
                spikes of an output that spikes, and by softmax_sum of potentials
    """

    convention: str | None = None
    dt: float | None = None
    readout: str | None = None

    @classmethod
    def said(cls, convention: str | None = None, readout: str | None = None) -> Reading:
        """From what a user writes, NAME or NAME:MS. Raises `ParameterError` for a step that is no number."""
        name, colon, step = (convention or "").partition(":")
        try:
            dt = float(step) if colon else None
        except ValueError:
            dt = 0.0
        if dt is not None and not 0 < dt < float("inf"):
            raise ParameterError(
                f"convention {convention!r}: behind the colon stands the step in ms, a number above 0."
            )
        return cls(name or None, dt, readout)


AS_WRITTEN = Reading()
"""Nothing is said: a file means what its format's own definition says."""


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


def _read_nir(path: PathLike, convention: str | None = None, dt: float | None = None) -> Graph:
    from ..interop import nir

    return nir.read(path, convention or "nir", dt=dt)


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
        stepped=True,
    ),
}
"""The formats by the names that ``snnkit export --to`` takes; another is one more row."""


def format_of(name: str) -> Format:
    """The row of a name. Raises `ParameterError` naming those there are."""
    if name not in FORMATS:
        *names, last = FORMATS
        raise ParameterError(f"unknown format {name!r}; known are {', '.join(names)} and {last}.")
    return FORMATS[name]


def load(path: PathLike, reading: Reading = AS_WRITTEN) -> Graph:
    """The network of a file in any of `FORMATS`, told apart by content; of a run's folder its graph.h5.

    Raises `DataError` for a file that is not there, is damaged, or is of no known format, and
    `ParameterError` where `reading` says what the file does not leave open.
    """
    if os.path.isdir(path):
        path = os.path.join(path, "graph.h5")
    for name, form in FORMATS.items():
        if form.is_one(path):
            return _read_out(form.read(path, **_said(path, name, reading)), reading.readout)
    from ..files import open_h5

    with open_h5(path):  # says what is wrong with a file that can't be opened
        kinds = [f"{form.title} ({form.mark})" for form in FORMATS.values()]
    raise DataError(f"{path} is neither {', nor '.join(kinds)}.")


def _said(path: PathLike, name: str, reading: Reading) -> dict[str, Any]:
    """What the reader of a format is told of how to step."""
    said = {k: v for k in ("convention", "dt") if (v := getattr(reading, k)) is not None}
    if said and not FORMATS[name].stepped:
        stepped = [f"{row.title} ({key})" for key, row in FORMATS.items() if row.stepped]
        raise ParameterError(
            f"{path} is {FORMATS[name].title}, which has its own steps; leave out {' and '.join(said)}, "
            f"which are for {', '.join(stepped)}."
        )
    return said


def _read_out(graph: Graph, kind: str | None) -> Graph:
    """`graph` with a read-out: `kind`, the one that it has, or one that fits its output."""
    from ..neurons.neuron import resolve
    from ..readouts import READOUTS

    if kind is not None and kind not in READOUTS:
        raise ParameterError(f"there is no read-out {kind!r}{choices(kind, READOUTS)}")
    outputs = [graph.populations[name] for name in graph.outputs]
    if kind is None and "readout" not in graph.metadata and outputs:
        spiking = [resolve(p.neuron, p.options).spiking for p in outputs if p.neuron != "input"]
        kind = "spike_count" if all(spiking) else None
    if kind is not None:
        graph.metadata["readout"] = kind
    return graph
