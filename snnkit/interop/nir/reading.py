"""The Graph of NIR nodes or of a NIR file; `NEURONS` says by a node's type which population it becomes."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Unpack

import numpy as np

from ...errors import DataError, ExportError, require
from ...files import PathLike, open_h5
from ...graph import INPUT, Graph, Population, Projection
from .convention import Choices, Convention, Current, check_written, convention_of, floor_of, whole
from .links import Flow, Link, after, merged, named_apart, projection, together, whole_steps
from .loops import returning
from .nodes import Nodes, arriving, inlined, shapes, unused
from .weights import IDENTITY, Weights

_log = logging.getLogger(__name__)


def read(
    path: PathLike, convention: str = "nir", *, dt: float | None = None, **choices: Unpack[Choices]
) -> Graph:
    """The Graph of a NIR file.

    convention  how to step: one of `convention.CONVENTIONS`, by the framework that wrote the file
    dt          step in ms; None: the framework's, that which r shows, or what snnkit wrote down. Where a
                framework's files hold decays of a step (snntorch, sinabs) it is the name of the step only
    choices     where a layer was not given its framework's defaults, which the file does not show

    The metadata of a file that others wrote hold the "convention" it was read by.

    Raises `DataError` for files that are no NIR, `ExportError` for nodes that a Graph has no place for and
    those that the framework does not write so, `ParameterError` for an unknown convention or choice.
    """
    nir = require("nir", "nir")
    notes: dict[str, Any] = {}
    delays: dict[str, np.ndarray] = {}
    with open_h5(path) as file:
        if "node" not in file:
            raise DataError(f"{path} is HDF5, but no NIR file: /node is missing.")
        if "snnkit/notes" in file:
            notes = json.loads(file["snnkit/notes"][()])
            kept = {p[0]: f"snnkit/delay/{p[0]}" for p in notes["projections"]}
            delays = {name: file[place][()] for name, place in kept.items() if place in file}
    try:
        node = nir.read(path, type_check=False)
    except (KeyError, ValueError, AssertionError, TypeError) as error:
        raise DataError(f"{path} is a damaged NIR file: {error}.") from error
    nodes = inlined(node)
    how = convention_of(convention, nodes.nodes, notes.get("dt") if dt is None else dt, choices)
    parts = {key: p[0] for p in notes.get("projections", []) for key in p[5]}
    graph = _Reader(nodes, convention, how, parts).graph()
    if notes:
        return _restored(graph, notes, delays)
    graph.metadata["convention"] = convention
    return graph


def _restored(graph: Graph, notes: dict[str, Any], delays: dict[str, np.ndarray]) -> Graph:
    """Shapes, kinds, order and metadata that `write` kept; delays of synapses of weight 0 too."""
    populations = {}
    for name, shape in notes["populations"].items():
        populations[name] = replace(graph.populations[name], shape=tuple(shape))
    made = {p.name: p for p in graph.projections}
    projections = []
    for name, source, target, kind, options, _ in notes["projections"]:
        p = made[name]
        delay = delays.get(name, np.zeros((), np.int32))
        indptr = indices = None
        weight = p.weight
        if kind == "one_to_one":
            weight = np.diag(weight).copy() if weight.ndim == 2 else weight
        elif kind == "sparse":
            o, i = np.nonzero(weight)
            order = np.lexsort((o, i))
            o, i, weight = o[order], i[order], weight[o[order], i[order]]
            indptr, indices = np.searchsorted(i, np.arange(populations[source].size + 1)), o
            delay = p.delays[o, i] if p.delay.ndim else p.delay
        projections.append(
            Projection(
                name=name,
                source=source,
                target=target,
                weight=weight,
                delay=delay,
                kind=kind,
                indptr=indptr,
                indices=indices,
                options=options,
            )
        )
    return Graph(populations, projections, notes["dt"], notes["outputs"], notes["metadata"]).validate()


def from_nir(
    node: Any, convention: str = "nir", *, dt: float | None = None, **choices: Unpack[Choices]
) -> Graph:
    """The Graph of a `nir.NIRGraph`; arguments as for `read`, which says what is raised.

    Raises `DataError` for edges that lead nowhere too.
    """
    nodes = inlined(node)
    return _Reader(nodes, convention, convention_of(convention, nodes.nodes, dt, choices), {}).graph()


class _Reader:
    """Walks NIR's nodes: neurons become populations, the paths between them projections.

    convention  name of the convention `how`
    parts       node → the projection that it was written for
    """

    def __init__(self, nodes: Nodes, convention: str, how: Convention, parts: Mapping[str, str]) -> None:
        self.nodes, self.convention, self.how, self.parts = nodes, convention, how, parts
        self.shapes = shapes(self.nodes, self._own_shape)
        self.flows: dict[str, Flow] = {}
        self.populations: dict[str, Population] = {}
        self.projections: list[Projection] = []

    def _own_shape(self, key: str) -> tuple[int, ...] | None:
        node, kind = self.nodes.nodes[key], self.nodes.kind(key)
        if kind == "Input":
            return _shape(node.input_type["input"])
        return _known(node) if kind in NEURONS else None

    def is_population(self, key: str) -> bool:
        """Whether the node has neurons or feeds the network."""
        return self.nodes.kind(key) in (*NEURONS, "Input")

    def graph(self) -> Graph:
        """All nodes as one Graph."""
        outputs: list[str] = []
        for key in self.nodes.nodes:
            if self.nodes.kind(key) == "Input":
                self.populations[key] = Population(key, INPUT, self.shapes[key])
            elif self.is_population(key):
                self._population(key)
        for key in self.nodes.nodes:
            if self.nodes.kind(key) == "Output":
                outputs += self._output(key)
        projections = named_apart(self.projections)
        step = self.how.dt if self.how.named is None else self.how.named
        graph = Graph(self.populations, projections, step * 1e3, list(dict.fromkeys(outputs)))
        back = returning(graph)
        for p in projections:
            if (p.source, p.target) in back:
                p.delay = (p.delay + 1).astype(np.int32)
        return graph.validate()

    def _arriving(self, key: str, seen: tuple[str, ...] = ()) -> Flow:
        """What arrives at a node."""
        counts = Counter(self.nodes.into[key])
        return together(self._leaving(before, (*seen, key)).times(n) for before, n in counts.items())

    def _leaving(self, key: str, seen: tuple[str, ...]) -> Flow:
        """What leaves a node."""
        if self.is_population(key):
            return Flow((Link(key, key, (self.shapes[key], self.shapes[key])),))
        if key in seen:
            raise ExportError(f"NIR: nodes {[*seen[seen.index(key) :], key]} form a loop without a neuron.")
        if key not in self.flows:
            flow = self._arriving(key, seen)
            if self.nodes.kind(key):
                flow = after(key, self.nodes.nodes[key], flow, arriving(self.nodes, key, self.shapes))
            self.flows[key] = flow
        return self.flows[key]

    def _population(self, key: str) -> None:
        node, kind, shape = self.nodes.nodes[key], self.nodes.kind(key), self.shapes[key]
        if kind in self.how.lacks:
            raise ExportError(
                f"NIR: node {key!r} is of type {kind}, which the framework of this convention does not "
                "write; name the one that wrote the file."
            )
        check_written(self.convention, self.how, key, node)
        population, gain = NEURONS[kind](self.how, key, node, shape)
        self.populations[key] = population
        self._connect(key, gain)

    def _output(self, key: str) -> list[str]:
        """The populations whose spikes leave by node `key`, or a read-out without memory of their sum."""
        flow = self._arriving(key)
        if not flow.constants and all(link.weights is IDENTITY and _at_once(link) for link in flow.links):
            return [link.source for link in flow.links]
        shape = arriving(self.nodes, key, self.shapes)
        name = self._unused(f"{key}.sum")
        self.populations[name] = Population(name, "li", shape, {"decay": np.zeros(()), "gain": np.ones(())})
        self._connect(name, np.ones(int(np.prod(shape))), key)
        return [name]

    def _connect(self, name: str, gain: np.ndarray, key: str | None = None) -> None:
        """Projections and bias of what arrives at a node into its population."""
        flow, population = self._arriving(key or name), self.populations[name]
        for size in [link.size for link in flow.links] + [len(value) for _, value in flow.constants]:
            if size != population.size:
                raise ExportError(
                    f"NIR: {size} values lead to node {key or name!r}, which has {population.size}."
                )
        bias = np.broadcast_to(population.bias, population.shape).reshape(-1).astype(np.float64)
        links = list(flow.links)
        for since, value in flow.constants:
            if whole_steps(since, self.how.dt, name):
                weights = Weights("dense", value[:, None])
                ends = ((1,), population.shape)
                links.append(Link(f"{name}.bias", self._clock(), ends, weights, delay=since))
            else:
                bias = bias + value * gain
        population.bias = _compact(bias, population.shape)
        made = [projection(link, name, gain, self.how.dt) for link in links]
        self.projections += merged(made, self.parts)

    def _clock(self) -> str:
        """The population whose one neuron spikes at every step: a bias behind a delay starts late."""
        clocks = [n for n, p in self.populations.items() if n not in self.nodes.nodes and p.neuron == "lif"]
        if clocks:
            return clocks[0]
        name = self._unused("clock")
        ones = {"gain": np.ones(()), "v_th": np.ones(())}
        zeros = dict.fromkeys(("decay", "v_reset", "v_rest"), np.zeros(()))
        self.populations[name] = Population(name, "lif", (1,), ones | zeros, np.ones(()))
        return name

    def _unused(self, name: str) -> str:
        return unused(name, {*self.nodes.nodes, *self.populations})


def _at_once(link: Link) -> bool:
    return not link.delay and link.before is None and link.behind is None


def _compact(bias: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A bias [N] as 0, as one value a channel, or in the population's shape."""
    channels = bias.reshape(shape[0], -1)
    if not bias.any():
        return np.zeros(())
    if len(shape) == 3 and not np.ptp(channels, axis=1).any():
        return channels[:, :1, None]
    return bias.reshape(shape)


LONG = 1.0
"""s; a time constant from which a file may have been written in other units."""


def leak(how: Convention, key: str, tau: Any, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """decay and gain of node `key`'s time constants in seconds, float64 of `shape`.

    A time constant of seconds in a file that does not hold seconds is warned of: it may be another's.

    Raises `ExportError` naming the node and a time constant below the step.
    """
    tau = fit(how.tau(np.asarray(tau, np.float64), how.dt), shape)
    if how.seconds is not None and LONG <= tau.max() < np.inf:
        _log.warning(
            "NIR: node %r has a time constant of %g s by this convention; if the file holds seconds, read it "
            "by the convention %s.", key, tau.max(), how.seconds,
        )  # fmt: skip
    decay, gain = how.decay(tau, how.dt), how.gain(tau, how.dt)
    decay = np.where(np.abs(decay) < 1e-6, np.maximum(decay, 0), decay)  # files hold tau in float32
    if (decay < 0).any():
        raise ExportError(
            f"NIR: node {key!r}: a time constant of {1e3 * float(tau.min()):g} ms is below the step of "
            f"{1e3 * how.dt:g} ms; pass a smaller dt."
        )
    return decay, gain


def _times(gain: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """gain · factor, where an infinite factor is tau/dt beside a gain of dt/tau."""
    endless = np.isinf(factor)
    return np.where(endless, 1.0, gain * np.where(endless, 1.0, factor))


def _leaky(how: Convention, key: str, node: Any, shape: tuple[int, ...]) -> tuple[Population, np.ndarray]:
    decay, gain = leak(how, key, node.tau, shape)
    rest = fit(node.v_leak, shape)
    gain = whole(_times(how.leaky(gain, decay), fit(node.r, shape)))
    params = {"decay": decay, "gain": gain, "v_rest": rest}
    population = _spiking(how, key, "lif", shape, params | _threshold(node, shape))
    return _started(how, node, population), np.ones(int(np.prod(shape)))


def _without_leak(
    how: Convention, key: str, node: Any, shape: tuple[int, ...]
) -> tuple[Population, np.ndarray]:
    gain = fit(node.r, shape) * (how.dt if how.by_dt else 1)
    params = {"decay": np.ones(()), "gain": gain, "v_rest": np.zeros(())} | _threshold(node, shape)
    if how.floor is not None and floor_of(how, key) is None:
        params["v_min"] = how.floor * params["v_th"]
    population = _spiking(how, key, "lif", shape, params)
    return _started(how, node, population), np.ones(int(np.prod(shape)))


def _integrator(
    how: Convention, key: str, node: Any, shape: tuple[int, ...]
) -> tuple[Population, np.ndarray]:
    decay, gain = leak(how, key, node.tau, shape)
    if np.any(node.v_leak):
        raise ExportError(f"NIR: node {key!r} leaks towards {np.unique(node.v_leak)}; LI's rest is 0 here.")
    if floor_of(how, key) is not None:
        raise ExportError(
            f"NIR: node {key!r} is an LI, which has no floor v_min here; where it had none, give v_min by "
            "node, as {'1': -1.0}."
        )
    params = {"decay": decay, "gain": how.read_out(gain, decay) * fit(node.r, shape)}
    return Population(key, "li", shape, _plain(params)), np.ones(int(np.prod(shape)))


def _sum(how: Convention, key: str, node: Any, shape: tuple[int, ...]) -> tuple[Population, np.ndarray]:
    params = {"decay": np.ones(()), "gain": fit(node.r, shape) * how.dt}
    return Population(key, "li", shape, _plain(params)), np.ones(int(np.prod(shape)))


def _current_based(
    how: Convention, key: str, node: Any, shape: tuple[int, ...]
) -> tuple[Population, np.ndarray]:
    syn, syn_gain = leak(how, key, node.tau_syn, shape)
    mem, mem_gain = leak(how, key, node.tau_mem, shape)
    w_in = fit(node.w_in, shape)
    syn_gain, w_in = np.where(np.isinf(w_in), 1.0, syn_gain), np.where(np.isinf(w_in), 1.0, w_in)
    step = Current(gain=_times(mem_gain, fit(node.r, shape)), mem=mem, syn=syn, syn_gain=syn_gain)
    gain = whole(how.current(step) * w_in)
    rest = fit(node.v_leak, shape)
    params = {"decay_syn": syn, "decay_mem": mem}
    params |= {k: v - rest for k, v in _threshold(node, shape).items()}
    population = _spiking(how, key, "cuba", shape, params, rest)
    return _started(how, node, population, rest), gain.reshape(-1)


def _started(how: Convention, node: Any, p: Population, rest: np.ndarray | float = 0.0) -> Population:
    """The population with its start, v counted from `rest`."""
    start = fit(how.start(node), p.shape) - rest
    if start.any():
        p.initial = {"v": start}
    return p


def _threshold(node: Any, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {"v_th": fit(node.v_threshold, shape), "v_reset": fit(node.v_reset, shape)}


def _a_step_later(key: str, params: dict[str, np.ndarray], rest: np.ndarray | float) -> np.ndarray:
    """What is subtracted at once where the threshold is in the next step, after v has decayed."""
    decay = params["decay_mem"] if "decay_mem" in params else params["decay"]
    if not (decay > 0).all():
        raise ExportError(
            f"NIR: node {key!r} has no memory, and a threshold that is subtracted a step later."
        )
    return (params["v_th"] + rest) / decay


def _spiking(
    how: Convention, key: str, neuron: str, shape: tuple[int, ...], params: dict[str, np.ndarray],
    rest: np.ndarray | float = 0.0,
) -> Population:  # fmt: skip
    """A population that spikes, its v counted from `rest`."""
    options: dict[str, Any] = {"reset": how.reset} if how.reset != "hard" else {}
    if how.strict:
        options["strict"] = True
    if how.reset == "subtract":
        params = params | {"v_reset": _a_step_later(key, params, rest)}
    if how.max_spikes != 1:
        options["max_spikes"] = how.max_spikes
    v_min = floor_of(how, key)
    if v_min is not None:
        params = params | {"v_min": fit(v_min, shape) - rest}
    if "v_min" in params:
        options["floor"] = True
    if how.max_spikes != 1 and (np.any(rest) or (params["v_th"] <= 0).any()):
        raise ExportError(
            f"NIR: node {key!r} may spike several times a step, once for each multiple of its threshold, "
            "which must then be above 0, and v_leak 0; pass max_spikes=1 if it spikes once."
        )
    return Population(key, neuron, shape, _plain(params), options=options)


NEURONS: dict[str, Callable[[Convention, str, Any, tuple[int, ...]], tuple[Population, np.ndarray]]] = {
    "LIF": _leaky,
    "IF": _without_leak,
    "LI": _integrator,
    "I": _sum,
    "CubaLIF": _current_based,
}
"""Type of a node → function of convention, name, node and shape → the population that computes it, and what
its input is multiplied by, float [N]."""


def _shape(value: Any) -> tuple[int, ...]:
    shape = tuple(int(n) for n in np.atleast_1d(value))
    while len(shape) > 1 and shape[0] == 1 and len(shape) != 3:
        shape = shape[1:]
    return shape


def _known(node: Any) -> tuple[int, ...] | None:
    """The shape that a neuron's own parameters tell; scalars tell nothing."""
    shapes = [np.shape(v) for k, v in vars(node).items() if k in ("tau", "r", "v_threshold", "tau_mem")]
    largest = max(shapes, key=lambda s: int(np.prod(s)), default=())
    return _shape(largest) if int(np.prod(largest)) > 1 else None


def fit(value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A node's parameter, float64 of `shape`."""
    array = np.asarray(value, np.float64)
    return np.broadcast_to(array.reshape(shape) if array.size == np.prod(shape) else array.reshape(-1), shape)


def _plain(params: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays of one value as scalars."""
    return {
        k: np.asarray(v.flat[0]) if v.size and (v == v.flat[0]).all() else np.array(v)
        for k, v in params.items()
    }
