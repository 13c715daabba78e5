"""`snnkit export`: a Graph as a file for other programs and chips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

from ..errors import ParameterError, listed
from ..files import PathLike
from ..graph import INPUT, Graph
from ..hardware.quantise import quantise
from ..hardware.report import Report
from ..neurons.neuron import resolve
from .data import data_of
from .formats import AS_WRITTEN, FORMATS, Reading, format_of, load


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
    reading: Reading = AS_WRITTEN,
    **how: Unpack[Rounding],
) -> dict[str, Any]:
    """Write a network's file in a format of `FORMATS`; what was written, and what quantising changed.

    A format of integers gets the network quantised for Loihi 2, scaled by `calibration` samples of the
    validation part of its data; a network that is in integers already is written as it is.

    unroll  write convolutions with delays as dense layers, for a format that has no place for them
    how     see `Rounding`

    Raises `ParameterError` if the format has nothing to unroll, or if `how` says something of integers where
    none are made: in a format of floats, or of a network that has them already.
    """
    form = format_of(to)
    if unroll and not form.unrolls:
        takes = listed(name for name, row in FORMATS.items() if row.unrolls)
        raise ParameterError(
            f"format {to!r} keeps convolutions with delays as they are; unroll is for {takes}."
        )
    options = {"unroll": True} if unroll else {}
    graph = load(net, reading)
    if form.holds == "floats" or _in_integers(graph):
        if how:
            why = f"format {to!r} holds floats" if form.holds == "floats" else f"{net} is in integers already"
            raise ParameterError(f"{why}, so nothing is rounded; leave out {listed(how)}.")
        form.write(graph, path, **options)
        return {"format": to, "path": str(path), "bytes": Path(path).stat().st_size}
    events = None
    if calibration:
        call = "quantise(graph, calibration=data.valid.events)"
        events = data_of(graph, "valid", settings, calibration, call=call).events
    integer = quantise(graph, calibration=events, **how)
    form.write(integer, path, **options)
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


def _in_integers(graph: Graph) -> bool:
    neurons = [p for p in graph.populations.values() if p.neuron != INPUT]
    return bool(neurons) and all(resolve(p.neuron, p.options).integer for p in neurons)
