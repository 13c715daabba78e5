"""The Graph of NIR nodes or of a NIR file; `NEURONS` says by a node's type which population it becomes."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Any, Unpack

import numpy as np

from ...errors import DataError, ExportError, require
from ...files import PathLike, open_h5
from ...graph import INPUT, Graph, Population, Projection
from .convention import Choices, Convention, Current, convention_of, whole
from .links import Link, after, merged, projection


def read(
    path: PathLike, convention: str = "nir", *, dt: float | None = None, **choices: Unpack[Choices]
) -> Graph:
    """The Graph of a NIR file.

    convention  how to step: one of `convention.CONVENTIONS`, by the framework that wrote the file
    dt          step in ms; None: the framework's, or what snnkit wrote down
    choices     where a layer was not given its framework's defaults, which the file does not show

    Raises `DataError` for files that are no NIR, `ExportError` for nodes that a Graph has no place for and
    those that the framework does not have, `ParameterError` for an unknown convention or choice.
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
    how = convention_of(convention, node, notes.get("dt") if dt is None else dt, choices)
    graph = _Reader(node, how, [p[0] for p in notes.get("projections", [])]).graph()
    return _restored(graph, notes, delays) if notes else graph


def _restored(graph: Graph, notes: dict[str, Any], delays: dict[str, np.ndarray]) -> Graph:
    """Shapes, kinds, order and metadata that `write` kept; delays of synapses of weight 0 too."""
    populations = {}
    for name, shape in notes["populations"].items():
        populations[name] = replace(graph.populations[name], shape=tuple(shape))
    made = {p.name: p for p in graph.projections}
    projections = []
    for name, source, target, kind, options in notes["projections"]:
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
    return _Reader(node, convention_of(convention, node, dt, choices)).graph()


class _Reader:
    """Walks NIR's nodes: neurons become populations, the paths between them projections."""

    def __init__(self, node: Any, how: Convention, names: Collection[str] = ()) -> None:
        self.how, self.names = how, names
        self.nodes: dict[str, Any] = {}
        self.into: dict[str, list[str]] = {}
        self._inline(node, "")
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.populations: dict[str, Population] = {}

    def _inline(self, graph: Any, prefix: str) -> None:
        """Nodes of nested graphs by their full names; their ports pass through."""
        for name, node in graph.nodes.items():
            key = prefix + name
            self.into.setdefault(key, [])
            if type(node).__name__ == "NIRGraph":
                self._inline(node, key + ".")
            else:
                self.nodes[key] = node
        for a, b in graph.edges:
            a, b = (str(n.decode() if isinstance(n, bytes) else n) for n in (a, b))
            self.into[self._port(graph, prefix, b, "input")].append(self._port(graph, prefix, a, "output"))

    def _port(self, graph: Any, prefix: str, name: str, side: str) -> str:
        """The node that stands for `name` at this end of an edge."""
        node = graph.nodes.get(name)
        if node is None:
            raise DataError(f"NIR: an edge names {prefix + name!r}, which is no node.")
        if type(node).__name__ != "NIRGraph":
            return prefix + name
        ports = node.inputs if side == "input" else node.outputs
        return f"{prefix}{name}.{next(iter(ports))}"

    def is_inner_port(self, key: str) -> bool:
        """Whether the node only passes on what enters or leaves a nested graph."""
        return "." in key and type(self.nodes[key]).__name__ in ("Input", "Output")

    def is_population(self, key: str) -> bool:
        """Whether the node has neurons or feeds the network."""
        kind = type(self.nodes[key]).__name__
        return kind in NEURONS or (kind == "Input" and not self.is_inner_port(key))

    def graph(self) -> Graph:
        """All nodes as one Graph."""
        targets = [k for k in self.nodes if self.is_population(k)]
        for key in targets:
            if type(self.nodes[key]).__name__ == "Input":
                self.shapes[key] = _shape(self.nodes[key].input_type["input"])
        links = self._all_links(targets)
        projections: list[Projection] = []
        for key in targets:
            if type(self.nodes[key]).__name__ == "Input":
                self.populations[key] = Population(key, INPUT, self.shapes[key])
            else:
                projections += self._population(key, self.shapes[key], links[key])
        outputs = []
        for key, node in self.nodes.items():
            if type(node).__name__ != "Output" or self.is_inner_port(key):
                continue
            for link in self._links(key):
                if link.weights.kind == "identity" and not link.delay:
                    outputs.append(link.source)
                else:  # the network ends in weights: a read-out without memory holds their sum
                    name = f"{key}.sum"
                    self.populations[name] = Population(
                        name, "li", link.shape, {"decay": np.zeros(()), "gain": np.ones(())}
                    )
                    made = projection(link, name, np.ones(link.size), self.how.dt)
                    if link.bias is not None:
                        self.populations[name].bias = link.bias.reshape(link.shape)
                    projections.append(made)
                    outputs.append(name)
        graph = Graph(self.populations, projections, self.how.dt * 1e3, list(dict.fromkeys(outputs)))
        return self._one_step_back(graph).validate()

    def _one_step_back(self, graph: Graph) -> Graph:
        """A connection within a loop takes one step; the order of the file breaks the loop."""
        loop = graph.components()
        position = self._depth(graph)
        for p in graph.projections:
            if loop[p.source] == loop[p.target] and position[p.source] >= position[p.target]:
                p.delay = (p.delay + 1).astype(np.int32)
        return graph

    def _depth(self, graph: Graph) -> dict[str, int]:
        depth = dict.fromkeys(graph.inputs, 0)
        waiting = list(graph.inputs)
        while waiting:
            here = waiting.pop(0)
            for p in graph.out_of(here):
                if p.target not in depth:
                    depth[p.target] = depth[here] + 1
                    waiting.append(p.target)
        return {n: depth.get(n, 0) for n in graph.populations}

    def _all_links(self, targets: list[str]) -> dict[str, list[Link]]:
        """Links into each population, walked in an order in which sources have their shapes."""
        links: dict[str, list[Link]] = {}
        waiting = [k for k in targets if k not in self.shapes]
        while waiting:
            ready = []
            for key in waiting:
                shape = _known(self.nodes[key]) or self._incoming_shape(key)
                if shape is not None:
                    self.shapes[key] = shape
                    ready.append(key)
            if not ready:
                raise ExportError(f"NIR: the shapes of {waiting} cannot be told from the file.")
            waiting = [k for k in waiting if k not in ready]
        for key in targets:
            if type(self.nodes[key]).__name__ != "Input":
                links[key] = self._links(key)
                for link in links[key]:  # a convolution's output tells more than a flat parameter array
                    if len(link.shape) == 3 and np.prod(link.shape) == np.prod(self.shapes[key]):
                        self.shapes[key] = link.shape
        return links

    def _incoming_shape(self, key: str) -> tuple[int, ...] | None:
        try:
            links = self._links(key)
        except KeyError:
            return None
        return links[0].shape if links else None

    def _links(self, key: str) -> list[Link]:
        """All paths back from node `key` to populations."""
        return [link for before in self.into[key] for link in self._path(before, ())]

    def _path(self, key: str, seen: tuple[str, ...]) -> Iterator[Link]:
        if key in seen:
            raise ExportError(f"NIR: nodes {[*seen, key]} form a loop without a neuron.")
        if self.is_population(key):
            yield Link(key, key, source_shape=self.shapes[key], shape=self.shapes[key])
            return
        for before in self.into[key]:
            for link in self._path(before, (*seen, key)):
                yield link if self.is_inner_port(key) else after(key, self.nodes[key], link)

    def _population(self, key: str, shape: tuple[int, ...], links: list[Link]) -> list[Projection]:
        node, kind = self.nodes[key], type(self.nodes[key]).__name__
        size = int(np.prod(shape))
        if kind in self.how.lacks:
            raise ExportError(
                f"NIR: node {key!r} is of type {kind}, which the framework of this convention neither writes "
                "nor reads as such; name the one that wrote the file."
            )
        population, gain = NEURONS[kind](self.how, key, node, shape)
        bias = np.zeros(size)
        for link in links:
            if link.bias is not None:
                bias = bias + link.bias
        bias = bias * gain + np.broadcast_to(population.bias, shape).reshape(-1)
        per_channel = bias.reshape(shape[0], -1)
        if not bias.any():
            population.bias = np.zeros(())
        elif len(shape) == 3 and not np.ptp(per_channel, axis=1).any():
            population.bias = per_channel[:, :1, None]
        else:
            population.bias = bias.reshape(shape)
        self.populations[key] = population
        return merged([projection(link, key, gain, self.how.dt) for link in links], self.names)


def leak(how: Convention, tau: Any, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """decay and gain of a node's time constants in seconds, float64 of `shape`.

    Raises `ExportError` for time constants below the step.
    """
    tau = fit(how.tau(np.asarray(tau, np.float64), how.dt), shape)
    decay, gain = how.decay(tau, how.dt), how.gain(tau, how.dt)
    if (decay < 0).any():
        raise ExportError(
            f"NIR: a time constant of {1e3 * float(tau.min()):g} ms is below the step of "
            f"{1e3 * how.dt:g} ms; pass a smaller dt."
        )
    return decay, gain


def _leaky(how: Convention, key: str, node: Any, shape: tuple[int, ...]) -> tuple[Population, np.ndarray]:
    decay, gain = leak(how, node.tau, shape)
    rest = fit(node.v_leak, shape)
    gain = whole(how.leaky(gain, decay) * fit(node.r, shape))
    params = {"decay": decay, "gain": gain, "v_rest": rest}
    population = _spiking(how, key, "lif", shape, params | _threshold(node, shape))
    return _started(how, node, population), np.ones(int(np.prod(shape)))


def _without_leak(
    how: Convention, key: str, node: Any, shape: tuple[int, ...]
) -> tuple[Population, np.ndarray]:
    gain = fit(node.r, shape) * (how.dt if how.by_dt else 1)
    params = {"decay": np.ones(()), "gain": gain, "v_rest": np.zeros(())} | _threshold(node, shape)
    if how.floor is not None and how.v_min is None:
        params["v_min"] = how.floor * params["v_th"]
    population = _spiking(how, key, "lif", shape, params)
    return _started(how, node, population), np.ones(int(np.prod(shape)))


def _integrator(
    how: Convention, key: str, node: Any, shape: tuple[int, ...]
) -> tuple[Population, np.ndarray]:
    decay, gain = leak(how, node.tau, shape)
    if np.any(node.v_leak):
        raise ExportError(f"NIR: node {key!r} leaks towards {np.unique(node.v_leak)}; LI's rest is 0 here.")
    params = {"decay": decay, "gain": gain * fit(node.r, shape)}
    return Population(key, "li", shape, _plain(params)), np.ones(int(np.prod(shape)))


def _sum(how: Convention, key: str, node: Any, shape: tuple[int, ...]) -> tuple[Population, np.ndarray]:
    params = {"decay": np.ones(()), "gain": fit(node.r, shape) * how.dt}
    return Population(key, "li", shape, _plain(params)), np.ones(int(np.prod(shape)))


def _current_based(
    how: Convention, key: str, node: Any, shape: tuple[int, ...]
) -> tuple[Population, np.ndarray]:
    syn, syn_gain = leak(how, node.tau_syn, shape)
    mem, mem_gain = leak(how, node.tau_mem, shape)
    step = Current(gain=mem_gain * fit(node.r, shape), mem=mem, syn=syn, syn_gain=syn_gain)
    gain = whole(how.current(step) * fit(node.w_in, shape))
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


def _spiking(
    how: Convention, key: str, neuron: str, shape: tuple[int, ...], params: dict[str, np.ndarray],
    rest: np.ndarray | float = 0.0,
) -> Population:  # fmt: skip
    """A population that spikes, its v counted from `rest`."""
    options: dict[str, Any] = {"reset": how.reset} if how.reset != "hard" else {}
    if how.strict:
        options["strict"] = True
    if how.max_spikes != 1:
        options["max_spikes"] = how.max_spikes
    if how.v_min is not None:
        params = params | {"v_min": fit(how.v_min, shape) - rest}
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
