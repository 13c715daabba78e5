"""NIR, the exchange format of neuromorphic software: Graph ↔ NIR's own nodes.

NIR is in continuous time; `CONVENTIONS` says how a framework steps through it, so that its files mean
here what they mean there. A synapse's delay becomes Delay nodes: one group Delay → Linear for each
delay of a projection, merged again when read. A connection that leads back takes one step by itself,
as in all frameworks, so its Delay holds one less.

Pedersen et al., Nature Communications 15, 8122, 2024 (NIR 1.0).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import h5py
import numpy as np

from ..errors import DataError, ExportError, ParameterError, require
from ..files import atomic, open_h5
from ..graph import INPUT, Graph, Population, Projection, conv_geometry, conv_output_shape

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Convention:
    """How a framework turns NIR's continuous time into steps.

    dt        its step, s
    decay     (tau, dt) → what is left after a step
    gain      (tau, dt) → share of r · I that reaches v in a step
    reset     what a spike does to v; NIR itself only knows a reset value
    """

    dt: float
    decay: Callable[[np.ndarray, float], np.ndarray]
    gain: Callable[[np.ndarray, float], np.ndarray]
    reset: str = "hard"


def _euler(tau: np.ndarray, dt: float) -> np.ndarray:
    return 1 - dt / tau


def _euler_gain(tau: np.ndarray, dt: float) -> np.ndarray:
    return dt / tau


def _exponential(tau: np.ndarray, dt: float) -> np.ndarray:
    return np.exp(-dt / tau)


def _exponential_gain(tau: np.ndarray, dt: float) -> np.ndarray:
    return 1 - np.exp(-dt / tau)


CONVENTIONS = {
    "nir": Convention(1e-4, _euler, _euler_gain),
    "exponential": Convention(1e-4, _exponential, _exponential_gain),
    "snntorch": Convention(1e-4, _euler, _euler_gain),
    "spikingjelly": Convention(1e-4, _euler, _euler_gain),
    "norse": Convention(1e-3, _euler, _euler_gain),
    "sinabs": Convention(1.0, _exponential, _exponential_gain, reset="soft"),
    "rockpool": Convention(1e-3, _exponential, _euler_gain, reset="soft"),
}
"""Framework → its steps. Sinabs counts tau in steps. Norse's 1.1 writes tau · dt in place of tau, which
shows in a tau below dt. Rockpool's r holds the factor exp(−dt/tau)."""


def write(graph: Graph, path: PathLike) -> None:
    """Write a float graph as a NIR file; snnkit reads it back to the same graph.

    Neurons: lif (hard reset), if, li, cuba. Raises `ExportError` for what NIR has no node for, and for
    integer graphs, whose meaning NIR cannot carry.
    """
    nir = require("nir", "nir")
    made = to_nir(graph)
    notes = {
        "dt": graph.dt,
        "outputs": graph.outputs,
        "metadata": graph.metadata,
        "populations": {n: list(p.shape) for n, p in graph.populations.items()},
        "projections": [[p.name, p.source, p.target, p.kind, p.options] for p in graph.projections],
    }
    with atomic(path) as temporary:
        nir.write(temporary, made)
        with h5py.File(temporary, "a") as file:
            file["snnkit/notes"] = json.dumps(notes)
            for p in graph.projections:
                if p.delay.any():
                    file[f"snnkit/delay/{p.name}"] = p.delay


def to_nir(graph: Graph) -> Any:
    """The `nir.NIRGraph` of a float graph; times in seconds."""
    nir = require("nir", "nir")
    graph.validate()
    dt = graph.dt * 1e-3
    nodes: dict[str, Any] = {}
    edges: list[tuple[str, str]] = []
    order = {n: i for i, n in enumerate(graph.order())}
    for name, p in graph.populations.items():
        nodes[name] = (
            nir.Input(input_type=np.array(p.shape)) if p.neuron == INPUT else _neuron_node(nir, p, dt)
        )
    biased = {n: p.bias for n, p in graph.populations.items() if np.any(p.bias)}
    loop = graph.components()
    for s in graph.projections:
        back = int(loop[s.source] == loop[s.target] and order[s.source] >= order[s.target])
        bias = biased.pop(s.target, None)
        _projection_nodes(nir, graph, s, dt, back, bias, nodes, edges)
    if biased:
        raise ExportError(
            f"population {next(iter(biased))!r} has a bias and no synapses, which NIR cannot hold."
        )
    for i, name in enumerate(graph.outputs):
        key = "output" if not i else f"output_{i}"
        nodes[key] = nir.Output(output_type=np.array(graph.populations[name].shape))
        edges.append((name, key))
    return nir.NIRGraph(nodes, edges, type_check=False)


def _neuron_node(nir: Any, p: Population, dt: float) -> Any:
    where = f"population {p.name!r}"
    if p.neuron == "loihi":
        raise ExportError(f"{where} is in the chip's integers; write the float graph, or NetX for the chip.")
    if p.options.get("reset", "hard") != "hard":
        raise ExportError(f"{where}: reset {p.options['reset']!r}; NIR's neurons reset to a value (hard).")
    if p.options.get("refractory"):
        raise ExportError(f"{where}: a refractory period, which NIR's neurons do not have.")

    def get(name: str) -> np.ndarray:
        return np.broadcast_to(p.params[name], p.shape).astype(np.float64)

    if p.neuron in ("lif", "if", "li"):
        decay, gain = get("decay"), get("gain") if "gain" in p.params else np.ones(p.shape)
        if (decay == 1).all():
            rest = {"r": gain / dt}
            if p.neuron == "li":
                return nir.I(**rest)
            return nir.IF(**rest, v_threshold=get("v_th"), v_reset=get("v_reset"))
        _needs_leak(where, "decay", decay)
        values = {"tau": dt / (1 - decay), "r": gain / (1 - decay)}
        if p.neuron == "li":
            return nir.LI(**values, v_leak=np.zeros(p.shape))
        return nir.LIF(**values, v_leak=get("v_rest"), v_threshold=get("v_th"), v_reset=get("v_reset"))
    if p.neuron == "cuba":
        syn, mem = get("decay_syn"), get("decay_mem")
        _needs_leak(where, "decay_syn", syn)
        _needs_leak(where, "decay_mem", mem)
        return nir.CubaLIF(
            tau_syn=dt / (1 - syn),
            tau_mem=dt / (1 - mem),
            r=1 / (1 - mem),
            v_leak=np.zeros(p.shape),
            v_threshold=get("v_th"),
            v_reset=get("v_reset"),
            w_in=1 / (1 - syn),
        )
    raise ExportError(f"{where}: neurons of kind {p.neuron!r} have no NIR node; lif, if, li and cuba have.")


def _needs_leak(where: str, name: str, decay: np.ndarray) -> None:
    if (decay >= 1).any() or (decay < 0).any():
        wrong = decay[(decay >= 1) | (decay < 0)].flat[0]
        raise ExportError(
            f"{where}: {name} is {wrong}; NIR takes decays in [0, 1), or 1 for all neurons alike."
        )


def _projection_nodes(
    nir: Any,
    graph: Graph,
    p: Projection,
    dt: float,
    back: int,
    bias: np.ndarray | None,
    nodes: dict[str, Any],
    edges: list[tuple[str, str]],
) -> None:
    """One group [Delay →] [Flatten →] weights for each delay of the projection."""
    source, target = graph.populations[p.source], graph.populations[p.target]
    weight, delay = p.weight, p.delays - back
    if p.kind == "sparse":
        from ..engine import synapses

        s = synapses(graph, p)
        weight, delay = np.zeros((target.size, source.size)), np.zeros((target.size, source.size), np.int64)
        if len(np.unique(s.target * source.size + s.source)) < len(s.source):
            raise ExportError(
                f"projection {p.name!r} joins a pair of neurons twice; NIR holds one synapse a pair."
            )
        weight[s.target, s.source], delay[s.target, s.source] = s.weight, s.delay - back
    if delay.min(initial=0) < 0:
        raise ExportError(f"projection {p.name!r} leads back with a delay of 0 steps.")
    values = np.unique(delay[weight != 0]) if weight.any() else np.zeros(1, np.int64)
    for d in values:
        part = np.where(delay == d, weight, 0)
        key = p.name if len(values) == 1 else f"{p.name}.d{int(d)}"
        here = p.source
        if d:
            nodes[f"{key}.delay"] = nir.Delay(np.full(source.shape, d * dt))
            edges.append((here, f"{key}.delay"))
            here = f"{key}.delay"
        if len(source.shape) == 3 and p.kind in ("dense", "sparse"):
            nodes[f"{key}.flatten"] = nir.Flatten(np.array(source.shape), 0, -1)
            edges.append((here, f"{key}.flatten"))
            here = f"{key}.flatten"
        nodes[key] = _weights_node(nir, p, part, source, target, bias)
        bias = None
        edges += [(here, key), (key, p.target)]


def _weights_node(
    nir: Any,
    p: Projection,
    weight: np.ndarray,
    source: Population,
    target: Population,
    bias: np.ndarray | None,
) -> Any:
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
    if bias is None:
        return nir.Linear(matrix)
    return nir.Affine(matrix, np.broadcast_to(bias, target.shape).reshape(-1).astype(np.float64))


def read(
    path: PathLike, convention: str = "nir", *, dt: float | None = None, reset: str | None = None
) -> Graph:
    """The Graph of a NIR file.

    convention  how to step: one of `CONVENTIONS`, by the framework that wrote the file
    dt          step in ms; None: the framework's, or what snnkit wrote down
    reset       "hard" or "soft" where the framework's usual reset was not used

    Raises `DataError` for files that are no NIR, `ExportError` for nodes that a Graph has no place for.
    """
    nir = require("nir", "nir")
    notes: dict[str, Any] = {}
    delays: dict[str, np.ndarray] = {}
    with open_h5(path) as file:
        if "node" not in file:
            raise DataError(f"{path} is HDF5, but no NIR file: /node is missing.")
        if "snnkit/notes" in file:
            notes = json.loads(file["snnkit/notes"][()])
            delays = {p[0]: file["snnkit/delay"][p[0]][()] for p in notes["projections"] if _has(file, p[0])}
    try:
        node = nir.read(path, type_check=False)
    except (KeyError, ValueError, AssertionError, TypeError) as error:
        raise DataError(f"{path} is a damaged NIR file: {error}.") from error
    graph = from_nir(node, convention, dt=notes.get("dt") if dt is None else dt, reset=reset)
    return _restored(graph, notes, delays) if notes else graph


def _has(file: h5py.File, name: str) -> bool:
    return f"snnkit/delay/{name}" in file


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
        projections.append(Projection(name, source, target, weight, delay, kind, indptr, indices, options))
    return Graph(populations, projections, notes["dt"], notes["outputs"], notes["metadata"]).validate()


def from_nir(
    node: Any, convention: str = "nir", *, dt: float | None = None, reset: str | None = None
) -> Graph:
    """The Graph of a `nir.NIRGraph`; arguments as for `read`."""
    if convention not in CONVENTIONS:
        raise ParameterError(f"NIR convention {convention!r} is none of {', '.join(CONVENTIONS)}.")
    how = CONVENTIONS[convention]
    step = how.dt if dt is None else dt * 1e-3
    if convention == "rockpool" and dt is None:
        step = _rockpool_step(node, step)
    how = replace(how, dt=step, reset=reset or how.reset)
    return _Reader(node, how, convention).graph()


def _rockpool_step(graph: Any, step: float) -> float:
    """Rockpool writes r = tau · exp(−dt/tau) / dt, from which dt comes back by Lambert's W."""
    from scipy.special import lambertw

    for node in graph.nodes.values():
        tau = getattr(node, "tau_mem", getattr(node, "tau", None))
        if type(node).__name__ == "NIRGraph":
            return _rockpool_step(node, step)
        if tau is not None and np.all(node.r > 0):
            return float(np.median(tau * lambertw(1 / np.asarray(node.r, np.float64)).real))
    return step


@dataclass
class _Link:
    """What lies between two populations: weights and what they add up to, delay in seconds.

    shape       of what comes out, without time; flattened where the path flattens
    made_shape  of what the weights give, before that
    """

    name: str
    source: str
    shape: tuple[int, ...]
    kind: str = "identity"
    weight: np.ndarray | None = None
    options: dict[str, Any] | None = None
    delay: float = 0.0
    bias: np.ndarray | None = None
    delays: np.ndarray | None = None
    source_shape: tuple[int, ...] = ()
    made_shape: tuple[int, ...] = ()


class _Reader:
    """Walks NIR's nodes: neurons become populations, the paths between them projections."""

    def __init__(self, node: Any, how: Convention, convention: str) -> None:
        self.how, self.convention = how, convention
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
        return "." in key and type(self.nodes[key]).__name__ in ("Input", "Output")

    def is_population(self, key: str) -> bool:
        kind = type(self.nodes[key]).__name__
        return kind in NEURONS or (kind == "Input" and not self.is_inner_port(key))

    def graph(self) -> Graph:
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
                if link.kind == "identity" and not link.delay:
                    outputs.append(link.source)
                else:  # the network ends in weights: a read-out without memory holds their sum
                    name = f"{key}.sum"
                    self.populations[name] = Population(
                        name, "li", link.shape, {"decay": np.zeros(()), "gain": np.ones(())}
                    )
                    made = self._projection(link, name, np.ones(int(np.prod(link.shape))))
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

    def _all_links(self, targets: list[str]) -> dict[str, list[_Link]]:
        """Links into each population, walked in an order in which sources have their shapes."""
        links: dict[str, list[_Link]] = {}
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

    def _links(self, key: str) -> list[_Link]:
        """All paths back from node `key` to populations."""
        return [link for before in self.into[key] for link in self._path(before, ())]

    def _path(self, key: str, seen: tuple[str, ...]) -> Iterator[_Link]:
        if key in seen:
            raise ExportError(f"NIR: nodes {[*seen, key]} form a loop without a neuron.")
        if self.is_population(key):
            yield _Link(key, key, self.shapes[key], source_shape=self.shapes[key])
            return
        for before in self.into[key]:
            for link in self._path(before, (*seen, key)):
                yield self._apply(key, self.nodes[key], link)

    def _apply(self, key: str, node: Any, link: _Link) -> _Link:
        """The link with one more node at its end."""
        kind = type(node).__name__
        if self.is_inner_port(key):
            return link
        if kind == "Flatten":
            return replace(link, shape=(int(np.prod(link.shape)),))
        if kind == "Delay":
            delay = np.unique(node.delay)
            if link.kind != "identity" and len(delay) > 1:
                raise ExportError(f"NIR: node {key!r} delays neurons differently behind weights.")
            if len(delay) > 1:
                each = np.broadcast_to(node.delay, link.shape).reshape(-1).astype(np.float64)
                return replace(link, delays=each + (0 if link.delays is None else link.delays))
            return replace(link, delay=link.delay + float(delay[0]))
        if kind in ("Linear", "Affine"):
            weight = np.asarray(node.weight, np.float64)
            bias = np.asarray(node.bias, np.float64).reshape(-1) if kind == "Affine" else None
            return self._then(key, link, "dense", weight, {}, (weight.shape[0],), bias)
        if kind == "Scale":
            scale = np.broadcast_to(np.asarray(node.scale, np.float64), link.shape).reshape(-1)
            return self._then(key, link, "one_to_one", scale, {}, link.shape, None)
        if kind in ("Conv2d", "SumPool2d", "AvgPool2d"):
            return self._convolve(key, node, link)
        raise ExportError(f"NIR: node {key!r} is a {kind}, which a Graph has no place for.")

    def _convolve(self, key: str, node: Any, link: _Link) -> _Link:
        if len(link.shape) != 3:
            raise ExportError(f"NIR: node {key!r} needs an image (C, H, W), gets shape {link.shape}.")
        if type(node).__name__ == "Conv2d":
            if isinstance(node.padding, str):
                raise ExportError(f"NIR: node {key!r} has padding {node.padding!r}; write it as numbers.")
            weight = np.asarray(node.weight, np.float64)
            geometry = {"stride": node.stride, "padding": node.padding, "dilation": node.dilation}
            groups, bias = int(node.groups), np.asarray(node.bias, np.float64)
        else:
            size = np.broadcast_to(node.kernel_size, 2).astype(int)
            value = 1.0 / size.prod() if type(node).__name__ == "AvgPool2d" else 1.0
            weight = np.full((link.shape[0], 1, *size), value)
            geometry = {"stride": node.stride, "padding": node.padding, "dilation": 1}
            groups, bias = link.shape[0], np.zeros(1)
        options: dict[str, Any] = {
            k: [int(n) for n in np.broadcast_to(np.asarray(v), 2)] for k, v in geometry.items()
        }
        options["groups"] = groups
        shape = conv_output_shape(
            f"NIR node {key!r}", Projection(key, "", "", weight, options=options), link.shape
        )
        spread = None
        if bias.any():
            spread = np.broadcast_to(bias.reshape(-1, 1, 1), shape).reshape(-1)
        return self._then(key, link, "conv", weight, options, shape, spread)

    def _then(
        self,
        key: str,
        link: _Link,
        kind: str,
        weight: np.ndarray,
        options: dict[str, Any],
        shape: tuple[int, ...],
        bias: np.ndarray | None,
    ) -> _Link:
        if kind == "dense" and weight.shape[1] != int(np.prod(link.shape)):
            raise ExportError(
                f"NIR: node {key!r} has weights {weight.shape}, but gets {int(np.prod(link.shape))} inputs."
            )
        made: dict[str, Any] = {"kind": kind, "weight": weight, "options": options, "bias": bias}
        after = replace(link, name=key, shape=shape, made_shape=shape, **made)
        if link.kind == "identity":
            return after
        second = _matrix(kind, weight, options, link.shape, shape)
        assert link.weight is not None
        first = _matrix(link.kind, link.weight, link.options or {}, link.source_shape, link.made_shape)
        carried = None if link.bias is None else second @ link.bias
        total = carried if bias is None else bias if carried is None else bias + carried
        return replace(
            after, kind="dense", weight=np.asarray((second @ first).todense()), options={}, bias=total
        )

    def _projection(self, link: _Link, target: str, gain: np.ndarray) -> Projection:
        """The projection of a link whose target multiplies its input by `gain` [N]."""
        kind, weight = link.kind, link.weight
        if weight is None:
            kind, weight = "one_to_one", np.ones(int(np.prod(link.shape)))
        if (gain != 1).any():
            if kind == "conv":
                per_channel = gain.reshape(link.shape[0], -1)
                if np.ptp(per_channel, axis=1).any():
                    raise ExportError(f"NIR: gains of {target!r} differ within a channel of a convolution.")
                weight = weight * per_channel[:, :1, None, None]
            else:
                weight = weight * (gain[:, None] if kind == "dense" else gain)
        steps = link.delay / self.how.dt
        each = np.asarray(steps if link.delays is None else steps + link.delays / self.how.dt)
        whole = np.round(each)
        if (np.abs(each - whole) > 1e-3).any():
            raise ExportError(
                f"NIR: the delay before {link.name!r}, {1e3 * link.delay:g} ms, is no whole number of steps "
                f"of {1e3 * self.how.dt:g} ms; pass another dt."
            )
        delay = whole.astype(np.int32)
        if delay.ndim and kind == "conv":
            raise ExportError(f"NIR: different delays before the convolution {link.name!r}.")
        options = dict(link.options or {})
        return Projection(link.name, link.source, target, weight, delay, kind, options=options)

    def _population(self, key: str, shape: tuple[int, ...], links: list[_Link]) -> list[Projection]:
        node, kind = self.nodes[key], type(self.nodes[key]).__name__
        size = int(np.prod(shape))
        population, gain = NEURONS[kind](self, key, node, shape)
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
        return _merged([self._projection(link, key, gain) for link in links])

    def leak(self, tau: Any, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """decay and gain of time constants in seconds."""
        tau = np.asarray(tau, np.float64)
        if self.convention == "norse" and (tau < self.how.dt).all():
            tau = tau / self.how.dt  # norse 1.1 writes tau · dt
        tau = _fit(tau, shape)
        decay, gain = self.how.decay(tau, self.how.dt), self.how.gain(tau, self.how.dt)
        if (decay < 0).any():
            raise ExportError(
                f"NIR: a time constant of {1e3 * float(tau.min()):g} ms is below the step of "
                f"{1e3 * self.how.dt:g} ms; pass a smaller dt."
            )
        return decay, gain

    def lif(self, key: str, node: Any, shape: tuple[int, ...]) -> tuple[Population, np.ndarray]:
        decay, gain = self.leak(node.tau, shape)
        gain = gain * _fit(node.r, shape)
        if self.convention == "rockpool":
            gain = gain / self.how.decay(_fit(node.tau, shape), self.how.dt)
        params = {"decay": decay, "gain": gain, "v_rest": _fit(node.v_leak, shape)} | self.threshold(
            node, shape
        )
        options = {"reset": self.how.reset} if self.how.reset != "hard" else {}
        return Population(key, "lif", shape, _plain(params), options=options), np.ones(int(np.prod(shape)))

    def integrate(self, key: str, node: Any, shape: tuple[int, ...]) -> tuple[Population, np.ndarray]:
        gain = _fit(node.r, shape) * self.how.dt
        params = {"decay": np.ones(()), "gain": gain, "v_rest": np.zeros(())} | self.threshold(node, shape)
        options = {"reset": self.how.reset} if self.how.reset != "hard" else {}
        return Population(key, "lif", shape, _plain(params), options=options), np.ones(int(np.prod(shape)))

    def threshold(self, node: Any, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
        return {"v_th": _fit(node.v_threshold, shape), "v_reset": _fit(node.v_reset, shape)}

    def li(self, key: str, node: Any, shape: tuple[int, ...]) -> tuple[Population, np.ndarray]:
        decay, gain = self.leak(node.tau, shape)
        if np.any(node.v_leak):
            raise ExportError(
                f"NIR: node {key!r} leaks towards {np.unique(node.v_leak)}; LI's rest is 0 here."
            )
        params = {"decay": decay, "gain": gain * _fit(node.r, shape)}
        return Population(key, "li", shape, _plain(params)), np.ones(int(np.prod(shape)))

    def summed(self, key: str, node: Any, shape: tuple[int, ...]) -> tuple[Population, np.ndarray]:
        params = {"decay": np.ones(()), "gain": _fit(node.r, shape) * self.how.dt}
        return Population(key, "li", shape, _plain(params)), np.ones(int(np.prod(shape)))

    def cuba(self, key: str, node: Any, shape: tuple[int, ...]) -> tuple[Population, np.ndarray]:
        syn, syn_gain = self.leak(node.tau_syn, shape)
        mem, mem_gain = self.leak(node.tau_mem, shape)
        gain = mem_gain * _fit(node.r, shape)
        if self.convention == "rockpool":  # i = β·(i + x), h = α·v + i
            gain = gain / mem * syn * _fit(node.w_in, shape)
        elif self.convention == "norse":  # i = (1 − dt/tau_syn)·i + x
            gain = gain * _fit(node.w_in, shape)
        else:
            gain = gain * syn_gain * _fit(node.w_in, shape)
        leak = _fit(node.v_leak, shape)
        params = {"decay_syn": syn, "decay_mem": mem}
        params |= {k: v - leak for k, v in self.threshold(node, shape).items()}
        options = {"reset": self.how.reset} if self.how.reset != "hard" else {}
        population = Population(key, "cuba", shape, _plain(params), options=options)
        if leak.any():
            population.initial = {"v": -leak}
        return population, gain.reshape(-1)


NEURONS: dict[str, Callable[[_Reader, str, Any, tuple[int, ...]], tuple[Population, np.ndarray]]] = {
    "LIF": _Reader.lif,
    "IF": _Reader.integrate,
    "LI": _Reader.li,
    "I": _Reader.summed,
    "CubaLIF": _Reader.cuba,
}
"""NIR node → the population that computes it, and what its input is multiplied by."""


def _shape(value: Any) -> tuple[int, ...]:
    shape = tuple(int(n) for n in np.atleast_1d(value))
    while len(shape) > 1 and shape[0] == 1 and len(shape) != 3:
        shape = shape[1:]
    return shape


def _known(node: Any) -> tuple[int, ...] | None:
    """The shape that a neuron's own parameters tell; scalars tell nothing."""
    shapes = [np.shape(v) for k, v in vars(node).items() if k in ("tau", "r", "v_threshold", "tau_mem")]
    largest = max(shapes, key=lambda s: int(np.prod(s)))
    return _shape(largest) if int(np.prod(largest)) > 1 else None


def _fit(value: Any, shape: tuple[int, ...]) -> np.ndarray:
    array = np.asarray(value, np.float64)
    return np.broadcast_to(array.reshape(shape) if array.size == np.prod(shape) else array.reshape(-1), shape)


def _plain(params: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays of one value as scalars."""
    return {
        k: np.asarray(v.flat[0]) if v.size and (v == v.flat[0]).all() else np.array(v)
        for k, v in params.items()
    }


def _matrix(
    kind: str, weight: np.ndarray, options: dict[str, Any], source: tuple[int, ...], target: tuple[int, ...]
) -> Any:
    """Weights of any kind as a sparse matrix [O, I]."""
    from scipy.sparse import csr_matrix

    from ..engine import synapses

    graph = Graph({"a": Population("a", INPUT, source), "b": Population("b", "li", target)}, [])
    if kind == "dense":
        graph.populations["a"].shape = (int(np.prod(source)),)
    s = synapses(graph, Projection("p", "a", "b", weight, kind=kind, options=options))
    return csr_matrix((s.weight, (s.target, s.source)), shape=(int(np.prod(target)), int(np.prod(source))))


def _merged(projections: list[Projection]) -> list[Projection]:
    """Projections between the same ends that differ in delay only, as one with a delay a synapse."""
    groups: dict[Any, list[Projection]] = {}
    for p in projections:
        options = json.dumps(p.options, sort_keys=True)
        groups.setdefault((p.source, p.target, p.kind, options, p.weight.shape), []).append(p)
    merged: list[Projection] = []
    for same in groups.values():
        used = np.sum([p.weight != 0 for p in same], axis=0)
        if len(same) == 1 or (used > 1).any():
            merged += same
            continue
        weight = np.sum([p.weight for p in same], axis=0)
        delay = np.sum([np.where(p.weight != 0, p.delays, 0) for p in same], axis=0).astype(np.int32)
        name = same[0].name.rsplit(".d", 1)[0]
        merged.append(replace(same[0], name=name, weight=weight, delay=delay))
    return merged
