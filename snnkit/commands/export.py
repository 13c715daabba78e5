"""`snnkit export`: a Graph as a file for other programs and chips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import ParameterError, listed
from ..files import PathLike
from ..graph import Graph
from ..hardware.quantise import quantise
from ..hardware.report import Report
from .data import data_of
from .formats import FORMATS, format_of


def export_network(
    net: PathLike,
    to: str,
    path: PathLike,
    settings: Sequence[str] = (),
    *,
    bits: int = 8,
    long_delays: str = "refuse",
    unroll: bool = False,
    calibration: int = 64,
) -> dict[str, Any]:
    """Write a graph file in a format of `FORMATS`; what was written, and what quantising changed.

    A format of integers gets the network quantised for Loihi 2, scaled by `calibration` samples of the
    validation part of its data.

    unroll  write convolutions with delays as dense layers, for a format that has no place for them

    Raises `ParameterError` if the format has nothing to unroll.
    """
    form = format_of(to)
    if unroll and not form.unrolls:
        takes = listed(name for name, row in FORMATS.items() if row.unrolls)
        raise ParameterError(
            f"format {to!r} keeps convolutions with delays as they are; unroll is for {takes}."
        )
    graph = Graph.load(net)
    if form.holds == "floats":
        form.write(graph, path)
        return {"format": to, "path": str(path), "bytes": Path(path).stat().st_size}
    events = None
    if calibration:
        call = "quantise(graph, calibration=data.valid.events)"
        events = data_of(graph, "valid", settings, calibration, call=call).events
    integer = quantise(graph, bits=bits, calibration=events, long_delays=long_delays)
    form.write(integer, path, **({"unroll": True} if unroll else {}))
    report = Report.of(integer)
    return {
        "format": to,
        "path": str(path),
        "bytes": Path(path).stat().st_size,
        "bits": bits,
        "delays_clipped": report.delays_clipped,
        "relays": report.relays,
        "warnings": report.warnings,
    }
