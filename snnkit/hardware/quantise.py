"""A float network in Loihi's integers.

Units. A population's potential is measured in thresholds and multiplied by `scale`: one weight unit
is 64 units of v. With K weight units to the threshold,

    weight_int = round(K · gain · weight / v_th)        signed, `bits` wide, times 2^exponent
    vth        = K − 1/64, so that v ≥ 64·K, the float neuron's h ≥ v_th, is v > 64·vth

K is searched so that the weights' rounding, weighted by how often each synapse is used in calibration
data, changes the potentials least. Decays become n/4096.

What a neuron is to the chip stands in `cells`, the search for K in `scale`, latencies and long delays in
`timing`, the report in `report`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..chips import LOIHI2, Chip
from ..errors import ParameterError
from ..events import EventBatch
from ..graph import INPUT, Graph, Population, Projection
from ..metadata import Units
from ..neurons.loihi import ONE
from . import graded, loihi, timing
from .cells import DECAYS, Cell, Use
from .coarser import coarser, coarser_events
from .report import Report
from .scale import Rounding, scaled

Calibration = EventBatch | dict[str, EventBatch] | None


def quantise(
    graph: Graph,
    *,
    chip: Chip = LOIHI2,
    bits: int | dict[str, int] = 8,
    calibration: Calibration = None,
    long_delays: str = "refuse",
    decays: str = "refuse",
    exponents: bool = False,
    bias_exponent: int | None = 6,
    settled_bias: bool = False,
    align: bool = True,
) -> Graph:
    """The network in integers: populations "loihi", weights of 2–8 bits, delays the chip can hold.

    bits           for all projections, or {projection: bits} (8 where not named)
    calibration    a few samples of real input; weighs the rounding by use, and shows how far the
                   read-out's potential reaches and whether inputs carry counts
    long_delays    what becomes of delays beyond the chip's: "refuse"; "clip", they become its longest,
                   counted in the report; "relay", relay neurons pass them on, without loss; or
                   "rescale", the step is made a whole number of times longer, see `coarser`
    decays         where neurons of a population differ: "refuse", "shared" (their mean) or
                   "per_neuron" (runs in the integer model; the chip's own tools take one value)
    exponents      let a projection's weights carry a factor 2^e (Lava takes it, NetX files do not)
    bias_exponent  of the 13-bit biases; 6 is NetX's; None: the finest that fits
    settled_bias   of a current-based neuron: start as if the bias had acted for ever
    align          clear a population's state just before the first input can reach it, or start it so that
                   it is right there, so that biases do not act in the steps of latency before

    Input values that are no integers are given to the chip as such, times a scale; see `graded`.

    The report is in ``metadata["quantisation"]`` (`Report.of`). Raises `ExportError` naming layer and
    value for what the chip does not have: soft reset, a reset that is not the resting potential,
    several spikes a step, a floor under v, neurons of other kinds, thresholds, decays or delays out of range.
    """
    graph.validate()
    _one_of("decays", decays, DECAYS)
    _one_of("long_delays", long_delays, timing.LONG_DELAYS)
    report = Report(chip=chip.name)
    if long_delays == "rescale":
        report.time_factor = timing.coarsening(graph, chip)
        graph, calibration = _rescaled(graph, calibration, report.time_factor)
    graph, calibration, sent = _sent(graph, calibration, report)
    how = Rounding(
        chip=chip,
        bits=_bits(graph, bits, chip),
        exponents=exponents,
        bias_exponent=bias_exponent,
        settled_bias=settled_bias,
    )
    use = Use.measure(graph, calibration)
    latency = timing.latencies(graph)
    biased = any(np.any(p.bias) for p in graph.populations.values())
    populations = {n: replace(p) for n, p in graph.populations.items() if p.neuron == INPUT}
    projections: list[Projection] = []
    scales: dict[str, float | list[float]] = {}
    for name, p in graph.populations.items():
        if p.neuron == INPUT:
            continue
        cell = Cell.of(p, decays, graph, use)
        made, weights = scaled(graph, cell, use, how, latency[name], report)
        if align and "u" in made.initial:
            made = timing.started(made, latency[name], report)
        elif align and biased and not made.initial:
            made = timing.aligned(made, latency[name])
        populations[name] = made
        scales[name] = _plain(ONE * report.populations[name].threshold_units / cell.unit)
        projections += weights
    wiring = timing.Wiring(graph=graph, populations=populations, chip=chip, graded=use.graded, report=report)
    projections = timing.delayed(projections, latency, long_delays, wiring)
    for wire in projections:  # a relay lags behind as much as what it relays
        latency.setdefault(wire.target, latency[wire.source])
    metadata = graph.metadata | timing.late(graph, latency).to_metadata()
    metadata |= Units(scale=scales, graded=use.graded, inputs=sent).to_metadata() | report.to_metadata()
    return loihi.check(_in_order(graph, populations, projections, metadata))


def _one_of(name: str, value: str, known: Any) -> None:
    if value not in known:
        raise ParameterError(f"{name} {value!r} is none of {', '.join(known)}.")


def _rescaled(graph: Graph, calibration: Calibration, factor: int) -> tuple[Graph, Calibration]:
    """The network and its calibration data in steps `factor` times as long."""
    graph = coarser(graph, factor)
    if factor == 1 or calibration is None:
        return graph, calibration
    if isinstance(calibration, dict):
        return graph, {name: coarser_events(events, factor) for name, events in calibration.items()}
    return graph, coarser_events(calibration, factor)


def _sent(
    graph: Graph, calibration: Calibration, report: Report
) -> tuple[Graph, Calibration, dict[str, float]]:
    """The network of integer inputs, its calibration data, and the inputs' scales; see `graded`."""
    given = {graph.inputs[0]: calibration} if isinstance(calibration, EventBatch) else calibration or {}
    scales = graded.scales_of(given)
    if not scales:
        return graph, calibration, {}
    for name, scale in scales.items():
        report.warnings.append(
            f"input {name!r} has values that are no integers; the chip is given round({scale:.6g} · x)"
        )
    events = {n: graded.rounded(e, scales[n]) if n in scales else e for n, e in given.items()}
    return graded.scaled(graph, scales), events, scales


def _bits(graph: Graph, bits: int | dict[str, int], chip: Chip) -> dict[str, int]:
    """Projection → bits. Raises `ParameterError` for names and widths that there are not."""
    names = [p.name for p in graph.projections]
    given = bits if isinstance(bits, dict) else dict.fromkeys(names, bits)
    if unknown := set(given) - set(names):
        raise ParameterError(f"bits names {sorted(unknown)}, which are no projections; there are {names}.")
    for name, value in given.items():
        if not 2 <= value <= chip.weight_bits:
            raise ParameterError(f"projection {name!r}: {value} bits; the chip takes 2..{chip.weight_bits}.")
    return dict.fromkeys(names, chip.weight_bits) | given


def _plain(value: np.ndarray) -> float | list[float]:
    """A number where all are equal, else the list of them."""
    array = np.asarray(value, np.float64)
    return float(array.flat[0]) if np.ptp(array) == 0 else array.reshape(-1).tolist()


def _in_order(
    graph: Graph, populations: dict[str, Population], projections: list[Projection], metadata: dict[str, Any]
) -> Graph:
    """The integer network with its parts in the order of `graph`, what was added last."""
    order = [n for n in graph.populations if n in populations]
    ordered = {n: populations[n] for n in [*order, *(n for n in populations if n not in order)]}
    place = {p.name: i for i, p in enumerate(graph.projections)}
    projections = sorted(projections, key=lambda p: place.get(p.name, len(place)))
    return Graph(ordered, projections, graph.dt, list(graph.outputs), metadata)
