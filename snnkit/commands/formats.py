"""The file formats of networks, told apart by content."""

from __future__ import annotations

from pathlib import Path

from ..errors import DataError
from ..files import PathLike, open_h5
from ..graph import Graph
from ..hardware import netx
from ..interop import nir


def load(path: PathLike) -> Graph:
    """A graph file, a NetX file or a NIR file, told apart by content."""
    path = Path(path)
    with open_h5(path) as file:
        if "format" in file.attrs:
            kind = "graph"
        elif "layer" in file:
            kind = "netx"
        elif "node" in file:
            kind = "nir"
        else:
            raise DataError(
                f"{path} is neither a graph (attribute 'format'), nor a NetX file (/layer), nor NIR (/node)."
            )
    if kind == "graph":
        return Graph.load(path)
    return netx.read(path) if kind == "netx" else nir.read(path)
