"""Float populations in the terms of the chip's neuron, and how calibration data uses them.

`CELLS` says by a neuron's name what it is to the chip; another neuron is one more row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import engine
from ..engine import synapses
from ..errors import ExportError
from ..graph import Graph, Population

DECAYS = ("refuse", "shared", "per_neuron")
"""What may become of decays that differ between the neurons of a population."""

COUNT = 255
"""The largest value that an input spike is taken to carry where calibration does not show it."""


@dataclass(frozen=True)
class Membrane:
    """A population's neurons as the chip computes them, in real numbers; all arrays float ``[N]``.

        i[t] = keep_u · i[t-1] + x[t]
        h[t] = rest + keep_v · (v[t-1] − rest) + gain · i[t]
        s[t] = 1 if h[t] ≥ v_th; v[t] = v_reset where it spikes

    v_th  None for neurons that never spike
    """

    keep_u: np.ndarray
    keep_v: np.ndarray
    gain: np.ndarray
    rest: np.ndarray
    v_th: np.ndarray | None
    v_reset: np.ndarray


def parameter(p: Population, name: str, default: float) -> np.ndarray:
    """Parameter `name` of each neuron, float64 ``[N]``, `default` where the population has none."""
    return p.param(name) if name in p.params else np.full(p.size, default)


def _leaky(p: Population) -> Membrane:
    return Membrane(
        keep_u=np.zeros(p.size),
        keep_v=parameter(p, "decay", 1.0),
        gain=parameter(p, "gain", 1.0),
        rest=parameter(p, "v_rest", 0.0),
        v_th=parameter(p, "v_th", 1.0),
        v_reset=parameter(p, "v_reset", 0.0),
    )


def _current_based(p: Population) -> Membrane:
    return Membrane(
        keep_u=parameter(p, "decay_syn", 0.0),
        keep_v=parameter(p, "decay_mem", 1.0),
        gain=np.ones(p.size),
        rest=np.zeros(p.size),
        v_th=parameter(p, "v_th", 1.0),
        v_reset=parameter(p, "v_reset", 0.0),
    )


def _integrator(p: Population) -> Membrane:
    return replace(_leaky(p), v_th=None)


CELLS: dict[str, Callable[[Population], Membrane]] = {
    "lif": _leaky,
    "if": _leaky,
    "cuba": _current_based,
    "li": _integrator,
}
"""Neuron name → what its populations are in the chip's terms."""


@dataclass(frozen=True)
class Use:
    """How the float network is used by calibration data.

    square  population → mean s² of each neuron, float [N]
    peak    population → largest |h|, or None where there is no data
    graded  whether inputs carry values other than 1; None where there is no data
    """

    square: dict[str, np.ndarray]
    peak: dict[str, float | None]
    graded: bool | None

    @classmethod
    def measure(cls, graph: Graph, calibration: Any) -> Use:
        """Run the float network on `calibration`, an EventBatch or {input: EventBatch}; None: no data."""
        if calibration is None:
            ones = {n: np.ones(p.size) for n, p in graph.populations.items()}
            return cls(square=ones, peak=dict.fromkeys(graph.populations), graded=None)
        given = calibration if isinstance(calibration, dict) else {graph.inputs[0]: calibration}
        result = engine.simulate(graph, given, record=[(n, "h") for n in graph.populations if n not in given])
        peak: dict[str, float | None] = dict.fromkeys(graph.populations)
        square = {}
        for name, population in graph.populations.items():
            events = given[name] if name in given else result.spikes[name]
            values = np.ones(len(events.times)) if events.values is None else events.values
            total = np.bincount(events.neurons, np.square(values, dtype=np.float64), population.size)
            rate = total / max(int(result.steps.sum()), 1)
            square[name] = rate + 1e-4 * rate.mean() + 1e-12
            if name not in given:
                peak[name] = float(np.abs(result.recorded[name, "h"]).max(initial=0))
        graded = any(e.values is not None and (e.values != 1).any() for e in given.values())
        return cls(square=square, peak=peak, graded=graded)


@dataclass(frozen=True)
class Cell:
    """A float population in the terms of the chip's neuron; arrays float ``[N]``.

    row        weights and bias are multiplied by this (gain / unit)
    unit       potential that counts as 1: the threshold above rest; 1 for a read-out
    keep_u     what u keeps of itself in a step
    keep_v     what v keeps
    bias       added to the input in every step, in the float network's units
    spikes     False for a read-out
    strict     whether it spikes above 1 only, not at it
    refractory steps for which v rests after a spike
    start_u, start_v  where current and potential start, in units of `unit`
    """

    name: str
    shape: tuple[int, ...]
    row: np.ndarray
    unit: np.ndarray
    keep_u: np.ndarray
    keep_v: np.ndarray
    bias: np.ndarray
    spikes: bool
    strict: bool
    refractory: int
    start_u: np.ndarray
    start_v: np.ndarray

    @classmethod
    def of(cls, p: Population, decays: str, graph: Graph, use: Use) -> Cell:
        """The cell of a population; `decays` is one of `DECAYS`.

        Raises `ExportError` naming the population, and the neuron where one is to blame, for what the
        chip's neuron cannot do.
        """
        where = f"population {p.name!r}"
        if p.neuron not in CELLS:
            raise ExportError(
                f"{where}: neurons of kind {p.neuron!r} have no counterpart on Loihi; "
                f"{', '.join(CELLS)} have."
            )
        membrane = CELLS[p.neuron](p)
        unit, spikes = _unit(where, p, membrane, graph, use)
        wait = np.unique(parameter(p, "refractory", 0.0)) if p.options.get("refractory") else np.zeros(1)
        if len(wait) > 1:
            raise ExportError(f"{where}: refractory periods differ ({wait.min():g}..{wait.max():g} steps).")
        keeps = []
        for name, value in (("decay_syn", membrane.keep_u), ("decay", membrane.keep_v)):
            if np.ptp(value) > 0 and decays == "refuse":
                raise ExportError(
                    f"{where}: {name} differs between neurons ({value.min():g}..{value.max():g}); the chip's "
                    "tools take one value a population. Pass decays='shared' or decays='per_neuron'."
                )
            keeps.append(np.full(p.size, value.mean()) if decays == "shared" else value)
        begins = {
            key: np.broadcast_to(p.initial.get(key, np.zeros(())), p.shape).reshape(-1).astype(np.float64)
            for key in ("i", "v")
        }
        return cls(
            name=p.name,
            shape=p.shape,
            row=membrane.gain / unit,
            unit=unit,
            keep_u=keeps[0],
            keep_v=keeps[1],
            bias=np.broadcast_to(p.bias, p.shape).reshape(-1).astype(np.float64),
            spikes=spikes,
            strict=bool(p.options.get("strict")),
            refractory=int(wait[0]),
            start_u=begins["i"] / unit,
            start_v=(begins["v"] - membrane.rest) / unit,
        )


def _unit(where: str, p: Population, membrane: Membrane, graph: Graph, use: Use) -> tuple[np.ndarray, bool]:
    """The potential that counts as 1, ``[N]``, and whether the neurons can spike at all."""
    for name, value, top in (("decay_syn", membrane.keep_u, 1.0), ("decay", membrane.keep_v, 1.0 + 1e-12)):
        wrong = ~((value >= 0) & (value < top))
        if wrong.any():
            raise ExportError(
                f"{where}, neuron {np.argmax(wrong)}: {name} is {value[wrong][0]}, must lie in [0, 1)."
            )
    if p.options.get("floor"):
        raise ExportError(
            f"{where}: a floor under v (v_min); Loihi's potential has none but -2^23. Train without v_min."
        )
    if membrane.v_th is None:
        return np.ones(p.size), False
    unit = membrane.v_th - membrane.rest
    if (unit > _reach(graph, p, membrane, use)).all():
        return np.ones(p.size), False
    most = p.options.get("max_spikes", 1)
    if most != 1:
        raise ExportError(
            f"{where}: max_spikes = {most}; Loihi's neuron spikes once a step. Train with max_spikes=1."
        )
    reset = p.options.get("reset", "hard")
    if reset != "hard":
        raise ExportError(
            f"{where}: reset {reset!r}; Loihi's neuron resets to 0 (hard) only: nothing is left of what was "
            "above the threshold, and no synapse gives it back. Train with reset = 'hard'; a network "
            "compressed to T = 1 needs none."
        )
    if (unit <= 0).any():
        raise ExportError(
            f"{where}, neuron {np.argmax(unit <= 0)}: threshold {unit.min():g} above rest; it must be "
            "positive."
        )
    apart = np.abs(membrane.v_reset - membrane.rest) > 1e-9 * unit
    if apart.any():
        raise ExportError(
            f"{where}, neuron {np.argmax(apart)}: v_reset {membrane.v_reset[apart][0]:g} is not "
            f"the resting potential {membrane.rest[apart][0]:g}; Loihi's neuron resets to rest."
        )
    return unit, True


def _reach(graph: Graph, p: Population, membrane: Membrane, use: Use) -> np.ndarray:
    """A potential that no input can exceed ``[N]``; 100 times what calibration shows is beyond it too."""
    total = np.abs(np.broadcast_to(p.bias, p.shape)).reshape(-1).astype(np.float64)
    for projection in graph.into(p.name):
        s = synapses(graph, projection)
        total = total + np.bincount(s.target, np.abs(s.weight), p.size) * (
            COUNT if use.graded is not False else 1
        )
    with np.errstate(divide="ignore", invalid="ignore"):  # without a leak there is no bound, but for no input
        bound = total * membrane.gain / ((1 - membrane.keep_u) * (1 - membrane.keep_v))
    bound = np.where(total == 0, 0.0, bound)
    peak = use.peak.get(p.name)
    return bound if peak is None else np.minimum(bound, 100 * peak + total * membrane.gain)
