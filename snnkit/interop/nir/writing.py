"""A float Graph as NIR nodes and as a file; `NODES` says by a neuron's name which node it becomes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np

from ...engine import synapses
from ...errors import ExportError, listed, require
from ...files import PathLike, atomic
from ...graph import INPUT, Graph, Population, Projection, conv_geometry
from ...neurons.resets import unusual
from .loops import returning
from .nodes import unused
from .targets import Prepared, parameter, prepared, start_of


def write(graph: Graph, path: PathLike) -> None:
    """Write a float graph as a NIR file; snnkit reads it back to the same graph.

    Neurons: lif (hard reset), if, li, cuba. NIR's potentials start at 0: one that starts at v₀ is written
    less v₀, with its rest, threshold and reset value, which gives the same spikes. Raises `ExportError` for
    what NIR has no node for, and for integer graphs, whose meaning NIR cannot carry.
    """
    nir = require("nir", "nir")
    made = _nodes(nir, graph)
    notes = {
        "dt": graph.dt,
        "outputs": graph.outputs,
        "metadata": graph.metadata,
        "populations": {n: list(p.shape) for n, p in graph.populations.items()},
        "projections": [
            [p.name, p.source, p.target, p.kind, p.options, made.parts[p.name]] for p in graph.projections
        ],
    }
    with atomic(path) as temporary:
        nir.write(temporary, nir.NIRGraph(made.nodes, made.edges, type_check=False))
        with h5py.File(temporary, "a") as file:
            file["snnkit/notes"] = json.dumps(notes)
            for p in graph.projections:
                if p.delay.any():
                    file[f"snnkit/delay/{p.name}"] = p.delay


def to_nir(graph: Graph, convention: str = "nir") -> Any:
    """The `nir.NIRGraph` of a float graph; times in seconds.

    convention  "nir": by NIR's own text, as snnkit reads it; or one of `targets.TARGETS`, the framework whose
                from_nir is to make this network of it (the neurons' options must be its own)

    Raises as `write` does, and `ExportError` naming what the framework would read otherwise.
    """
    nir = require("nir", "nir")
    made = _nodes(nir, graph, convention)
    return nir.NIRGraph(made.nodes, made.edges, type_check=False)


def _nodes(nir: Any, graph: Graph, convention: str = "nir") -> _Nodes:
    graph.validate()
    ready = Prepared(graph, graph.dt * 1e-3) if convention == "nir" else prepared(nir, graph, convention)
    graph = ready.graph
    made = _Nodes(nir, graph, ready.dt, ready)
    for name, p in graph.populations.items():
        if p.neuron == INPUT:
            made.nodes[name] = nir.Input(input_type=np.array(p.shape))
        else:
            made.nodes[name] = ready.nodes[name] if ready.nodes else _neuron_node(nir, p, made.dt)
    biased = {n: p.bias for n, p in graph.populations.items() if np.any(p.bias)}
    back = returning(graph)
    for s in graph.projections:
        made.add(s, int((s.source, s.target) in back), biased.pop(s.target, None))
    for name, bias in biased.items():
        made.hold(name, bias)
    for i, name in enumerate(graph.outputs):
        key = made.unused("output" if not i else f"output_{i}")
        made.nodes[key] = nir.Output(output_type=np.array(graph.populations[name].shape))
        made.edges.append((name, key))
    for name, weights in ready.nested.items():
        (key,) = made.parts[weights]
        made.nest(name, key)
    return made


def _neuron_node(nir: Any, p: Population, dt: float) -> Any:
    where = f"population {p.name!r}"
    if p.neuron == "loihi":
        raise ExportError(f"{where} is in the chip's integers; write the float graph, or NetX for the chip.")
    if p.options.get("reset", "hard") != "hard":
        raise ExportError(f"{where}: reset {p.options['reset']!r}; NIR's neurons reset to a value (hard).")
    if p.options.get("refractory"):
        raise ExportError(f"{where}: a refractory period, which NIR's neurons do not have.")
    for option, given in unusual(p.options).items():
        raise ExportError(
            f"{where}: option {option} = {given}, which a NIR node does not hold; to_nir(graph, convention) "
            f"writes for a framework that has it."
        )
    if p.neuron not in NODES:
        raise ExportError(f"{where}: neurons of kind {p.neuron!r} have no NIR node; {listed(NODES)} have.")
    starts = [name for name, value in p.initial.items() if np.any(value)]
    if starts and (starts != ["v"] or p.neuron not in SHIFTED):
        raise ExportError(
            f"{where} starts with {listed(starts)} other than 0, which NIR cannot say; v of "
            f"{listed(SHIFTED)} may."
        )
    return NODES[p.neuron](nir, p, dt)


def _leaky(nir: Any, p: Population, dt: float) -> Any:
    decay, gain = parameter(p, "decay"), parameter(p, "gain")
    start = start_of(p)
    threshold = {"v_threshold": parameter(p, "v_th") - start, "v_reset": parameter(p, "v_reset") - start}
    if (decay == 1).all():
        return nir.IF(r=gain / dt, **threshold)
    _needs_leak(p, "decay", decay)
    rest = parameter(p, "v_rest") - start
    return nir.LIF(tau=dt / (1 - decay), r=gain / (1 - decay), v_leak=rest, **threshold)


def _integrator(nir: Any, p: Population, dt: float) -> Any:
    decay, gain = parameter(p, "decay"), parameter(p, "gain")
    if (decay == 1).all():
        return nir.I(r=gain / dt)
    _needs_leak(p, "decay", decay)
    return nir.LI(tau=dt / (1 - decay), r=gain / (1 - decay), v_leak=np.zeros(p.shape))


def _current_based(nir: Any, p: Population, dt: float) -> Any:
    syn, mem = parameter(p, "decay_syn"), parameter(p, "decay_mem")
    _needs_leak(p, "decay_syn", syn)
    _needs_leak(p, "decay_mem", mem)
    return nir.CubaLIF(
        tau_syn=dt / (1 - syn),
        tau_mem=dt / (1 - mem),
        r=1 / (1 - mem),
        v_leak=-start_of(p),
        v_threshold=parameter(p, "v_th") - start_of(p),
        v_reset=parameter(p, "v_reset") - start_of(p),
        w_in=1 / (1 - syn),
    )


def _needs_leak(p: Population, name: str, decay: np.ndarray) -> None:
    if (decay >= 1).any() or (decay < 0).any():
        wrong = decay[(decay >= 1) | (decay < 0)].flat[0]
        raise ExportError(
            f"population {p.name!r}: {name} is {wrong}; NIR takes decays in [0, 1), or 1 for all neurons "
            "alike."
        )


NODES: dict[str, Callable[[Any, Population, float], Any]] = {
    "lif": _leaky,
    "if": _leaky,
    "li": _integrator,
    "cuba": _current_based,
}
"""Neuron name → function of the `nir` module, a population with hard reset and the step (s) → its node."""

SHIFTED = ("lif", "if", "cuba")
"""Neurons whose spikes are the same if all potentials are shifted."""


@dataclass
class _Nodes:
    """The nodes and edges of `graph`, gathered; dt in seconds; `ready` says what of them is a framework's.

    parts  projection → the nodes that hold its weights
    """

    nir: Any
    graph: Graph
    dt: float
    ready: Prepared
    nodes: dict[str, Any] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)
    parts: dict[str, list[str]] = field(default_factory=dict)

    def unused(self, name: str) -> str:
        """`name`, or one with a number behind it: populations and weights share one namespace here."""
        return unused(name, {*self.nodes, *self.graph.populations})

    def hold(self, name: str, bias: np.ndarray) -> None:
        """The bias of a population that no weights lead to, behind weights of 0 from an input."""
        if not self.graph.inputs:
            raise ExportError(
                f"population {name!r} has a bias, and neither synapses nor an input to hang it on."
            )
        p, source = self.graph.populations[name], self.graph.populations[self.graph.inputs[0]]
        here = source.name
        if len(source.shape) == 3:
            here = self._put(here, self.unused(f"{name}.flatten"), self._flatten(source))
        full = np.broadcast_to(bias, p.shape).reshape(-1).astype(np.float64)
        node = self.nir.Affine(np.zeros((p.size, source.size)), full)
        self.edges.append((self._put(here, self.unused(f"{name}.bias"), node), name))

    def add(self, p: Projection, back: int, bias: np.ndarray | None) -> None:
        """One group [Delay →] [Flatten →] weights for each delay of the projection.

        back  steps that the connection takes by itself
        bias  of the target, which goes with the first group
        """
        source = self.graph.populations[p.source]
        weight, delay = self._weights(p, back)
        if delay.min(initial=0) < 0:
            raise ExportError(
                f"projection {p.name!r} ({p.source} → {p.target}) leads back with a delay of 0 steps, and "
                f"NIR's loops take a step there; delay it, and {p.target!r} → … → {p.source!r} by less."
            )
        values = np.unique(delay[weight != 0]) if weight.any() else np.zeros(1, np.int64)
        for d in values:
            key = self.unused(p.name if len(values) == 1 else f"{p.name}.d{int(d)}")
            self.nodes[key] = self._weights_node(p, np.where(delay == d, weight, 0), bias)
            self.parts.setdefault(p.name, []).append(key)
            here = p.source
            if d:
                wait = self.nir.Delay(np.full(source.shape, d * self.dt))
                here = self._put(here, self.unused(f"{key}.delay"), wait)
            if len(source.shape) == 3 and p.kind in ("dense", "sparse"):
                here = self._put(here, self.unused(f"{key}.flatten"), self._flatten(source))
            self.edges.append((here, key))
            here = key
            self.edges.append((here, p.target))
            bias = None

    def _flatten(self, source: Population) -> Any:
        return self.nir.Flatten(np.array(source.shape), self.ready.flatten, -1)

    def _put(self, before: str, key: str, node: Any) -> str:
        """Add a node behind another; its name."""
        self.nodes[key] = node
        self.edges.append((before, key))
        return key

    def nest(self, name: str, weights: str) -> None:
        """Put a neuron and the weights that lead back to it into a graph of their own, under its name."""
        shape = np.array(self.graph.populations[name].shape)
        inner = {
            "input": self.nir.Input(shape),
            "neuron": self.nodes[name],
            "weights": self.nodes.pop(weights),
            "output": self.nir.Output(shape),
        }
        edges = [("input", "neuron"), ("neuron", "weights"), ("weights", "neuron"), ("neuron", "output")]
        self.nodes[name] = self.nir.NIRGraph(inner, edges, type_check=False)
        self.edges = [edge for edge in self.edges if weights not in edge]

    def _weights(self, p: Projection, back: int) -> tuple[np.ndarray, np.ndarray]:
        """Weights, and delays less `back` steps; those of a sparse projection as matrices [O, I]."""
        if p.kind != "sparse":
            return p.weight, p.delays - back
        size = self.graph.populations[p.target].size, self.graph.populations[p.source].size
        s = synapses(self.graph, p)
        weight, delay = np.zeros(size), np.zeros(size, np.int64)
        if len(np.unique(s.target * size[1] + s.source)) < len(s.source):
            raise ExportError(
                f"projection {p.name!r} joins a pair of neurons twice; NIR holds one synapse a pair."
            )
        weight[s.target, s.source], delay[s.target, s.source] = s.weight, s.delay - back
        return weight, delay

    def _weights_node(self, p: Projection, weight: np.ndarray, bias: np.ndarray | None) -> Any:
        nir, source, target = self.nir, self.graph.populations[p.source], self.graph.populations[p.target]
        if p.kind == "conv":
            stride, padding, dilation = conv_geometry(p)
            offset = np.zeros(target.shape[0])
            if bias is not None:
                full = np.broadcast_to(bias, target.shape).reshape(target.shape[0], -1)
                if (full != full[:, :1]).any():
                    raise ExportError(
                        f"population {target.name!r}: bias differs within a channel; Conv2d has one each."
                    )
                offset = full[:, 0].copy()
            groups = int(p.options.get("groups", 1))
            return nir.Conv2d(source.shape[1:], weight, stride, padding, dilation, groups, offset)
        if p.kind == "one_to_one" and bias is None:
            return nir.Scale(weight.reshape(source.shape))
        matrix = np.diag(weight) if p.kind == "one_to_one" else weight
        if bias is None and not self.ready.affine:
            return nir.Linear(matrix)
        bias = np.zeros(()) if bias is None else bias
        return nir.Affine(matrix, np.broadcast_to(bias, target.shape).reshape(-1).astype(np.float64))
