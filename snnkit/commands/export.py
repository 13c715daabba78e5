"""`snnkit export`: a Graph as a file for other programs and chips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

from ..errors import ParameterError, listed
from ..files import PathLike
from ..graph import Graph
from ..hardware.quantise import quantise
from ..hardware.report import Report
from .data import data_of
from .formats import FORMATS, format_of


class Rounding(TypedDict, total=False):
    """What the integers may be, as `snnkit.hardware.quantise.quantise` takes it; its defaults hold."""

    bits: int
    long_delays: str
    settled_bias: bool


def export_network(
    net: PathLike,
    to: str,
    path: PathLike,
    settings: Sequence[str] = (),
    *,
    unroll: bool = False,
    calibration: int = 64,
    **how: Unpack[Rounding],
) -> dict[str, Any]:
    """Write a graph file in a format of `FORMATS`; what was written, and what quantising changed.

    A format of integers gets the network quantised for Loihi 2, scaled by `calibration` samples of the
    validation part of its data.

    unroll  write convolutions with delays as dense layers, for a format that has no place for them
    how     see `Rounding`

    Raises `ParameterError` if the format has nothing to unroll, or settled biases but no integers.
    """
    form = format_of(to)
    if unroll and not form.unrolls:
        takes = listed(name for name, row in FORMATS.items() if row.unrolls)
        raise ParameterError(
            f"format {to!r} keeps convolutions with delays as they are; unroll is for {takes}."
        )
    graph = Graph.load(net)
    if form.holds == "floats" and how.get("settled_bias"):
        raise ParameterError(f"format {to!r} holds floats, in which biases are as trained; none are settled.")
    if form.holds == "floats":
        form.write(graph, path)
        return {"format": to, "path": str(path), "bytes": Path(path).stat().st_size}
    events = data_of(graph, "valid", settings, calibration).events if calibration else None
    integer = quantise(graph, calibration=events, **how)
    form.write(integer, path, **({"unroll": True} if unroll else {}))
    report = Report.of(integer)
    return {
        "format": to,
        "path": str(path),
        "bytes": Path(path).stat().st_size,
        "bits": how.get("bits", 8),
        "delays_clipped": report.delays_clipped,
        "relays": report.relays,
        "warnings": report.warnings,
    }
