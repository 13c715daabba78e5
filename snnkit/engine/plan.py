"""A graph made ready to run: order, chunks, rings and packed synapses.

Populations run in groups, the strongly connected parts of the graph, sources before targets. A group
advances by `chunk` steps at a time, the shortest delay that leads back inside it: what a population
sends back cannot arrive earlier, so nothing has to be exchanged within a chunk.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import GraphError, ParameterError, TooLargeError
from ..graph import INPUT, Graph, Population, Projection, conv_geometry
from ..machine import available_memory
from ..neurons.neuron import Neuron, resolve
from . import kernels_cpu
from .synapses import fan_out

WIDE_CHUNK = 1 << 18
"""Neurons × steps that are computed between two deliveries, at most: what stays in the cache."""


@dataclass(frozen=True)
class Types:
    """The number types of a run. wide: sums and parameters; state: what is kept; weight: synapses."""

    wide: np.dtype
    state: np.dtype
    weight: np.dtype

    @property
    def integer(self) -> bool:
        """Whether states and sums are integers."""
        return self.wide.kind == "i"

    @classmethod
    def of(cls, dtype: str) -> Types:
        """The types of a run in "float32", "float64" or "int32"; else `ParameterError`."""
        if dtype in ("float32", "float64"):
            kind = np.dtype(dtype)
            return cls(kind, kind, kind)
        if dtype == "int32":
            return cls(np.dtype(np.int64), np.dtype(np.int32), np.dtype(np.int32))
        raise ParameterError(f"dtype must be 'float32', 'float64' or 'int32', got {dtype!r}.")


@dataclass
class Lane:
    """A projection, packed.

    index       its place among the graph's projections
    size        neurons of its target, O
    longest     its longest delay, steps
    layout      which delivery kernel: "rows", "dense", "one_to_one" or "conv"
    rows        rows of its ring
    arrays      what the delivery kernel takes after the spikes
    per_source  layout "rows": all synapses of a source weigh the same
    shift       options["shift"] of the projection, None where sums are added as they are
    stored      int64 [I], synapses that leave each source neuron
    effective   int64 [I], those of weight ≠ 0
    """

    index: int
    projection: Projection
    size: int
    longest: int
    layout: str
    rows: int = 0
    arrays: tuple[Any, ...] = ()
    per_source: bool = False
    shift: int | None = None
    stored: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    effective: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))


@dataclass
class Unit:
    """A population of N neurons that computes, with its neuron's arrays.

    params   each parameter of the neuron, [N], or [1] where `stride` is 0
    bias     likewise
    stride   0 where every parameter is one number for all neurons, 1 where there is one a neuron
    initial  each variable of its state before the first step, [N]
    kernel   the module with the compiled update, see `kernels_cpu.update_kernel`
    """

    population: Population
    neuron: Neuron
    params: list[np.ndarray]
    bias: np.ndarray
    stride: int
    initial: list[np.ndarray]
    kernel: Any


@dataclass
class Group:
    """Populations that lead to each other, in the order of a step; `chunk` is None without a loop."""

    members: list[str]
    chunk: int | None


@dataclass
class Plan:
    """Everything about a run that does not change while it runs; shared by all threads.

    span    steps of the longest chunk
    units   populations that compute, by name
    lanes   the projections, in the graph's order
    bounds  population → int64 [P + 1]: partition q owns the neurons bounds[q]:bounds[q + 1]
    bytes   what the run takes, see `build`
    """

    graph: Graph
    types: Types
    span: int
    groups: list[Group]
    units: dict[str, Unit]
    lanes: list[Lane]
    bounds: dict[str, np.ndarray]
    bytes: int

    @property
    def parts(self) -> int:
        """In how many partitions each population is cut."""
        return len(next(iter(self.bounds.values()))) - 1


def dtype_of(graph: Graph) -> str:
    """ "int32" for a network of integer neurons, else "float32". Raises `GraphError` if it has both."""
    kinds = {resolve(p.neuron, p.options).integer for p in graph.populations.values() if p.neuron != INPUT}
    if len(kinds) > 1:
        raise GraphError("the graph mixes integer and real-valued neurons; a run has one arithmetic.")
    return "int32" if kinds == {True} else "float32"


def groups_of(graph: Graph) -> list[Group]:
    """The strongly connected parts in topological order, with the longest safe chunk of each."""
    names = graph.order()
    rank = {name: k for k, name in enumerate(names)}
    part = graph.components()
    members: dict[int, list[str]] = {}
    for name in names:
        members.setdefault(part[name], []).append(name)
    groups = []
    waiting = dict(members)
    before = {c: {part[p.source] for p in graph.projections if part[p.target] == c} - {c} for c in members}
    while waiting:
        ready = [c for c in waiting if not before[c] & waiting.keys()]
        for c in ready:
            inside = [
                int(p.delay.min(initial=p.max_delay)) if p.weight.size else 1
                for p in graph.projections
                if part[p.source] == part[p.target] == c and rank[p.target] <= rank[p.source]
            ]
            groups.append(Group(waiting.pop(c), min(inside) if inside else None))
    return groups


def build(
    graph: Graph,
    dtype: str | None = None,
    *,
    parts: int = 1,
    copies: int = 1,
    max_delay: int | None = None,
    memory_limit: int | None = None,
    keep_zeros: bool = False,
) -> Plan:
    """Pack `graph`. Raises `GraphError`, `ParameterError` or, before it allocates, `TooLargeError`.

    parts         partitions of each population, one a thread
    copies        samples that run at a time, each with states and rings of its own
    max_delay     longest delay the rings must hold; a longer one in the graph is an error
    memory_limit  bytes the run may take; default: what the machine has left
    """
    graph.validate()
    for population in graph.populations.values():
        if population.neuron != INPUT:
            resolve(population.neuron, population.options)
    types = Types.of(dtype or dtype_of(graph))
    _check_arithmetic(graph, types)
    for p in graph.projections:
        if max_delay is not None and p.max_delay > max_delay:
            raise GraphError(
                f"projection {p.name!r}: delay {p.max_delay} is longer than the ring of max_delay = "
                f"{max_delay}; leave max_delay out to size the ring by the longest delay."
            )
    groups = groups_of(graph)
    size = sum(p.size for p in graph.populations.values())
    span = max(1, min(1024, WIDE_CHUNK // size))
    chunks = [g.chunk for g in groups if g.chunk]
    if chunks and max(chunks) < span:
        span -= span % max(chunks)
    lanes = [_lane(graph, k, span, types) for k in range(len(graph.projections))]
    needed = _bytes(graph, lanes, span, types, parts, copies)
    limit = available_memory() if memory_limit is None else memory_limit
    if needed > limit:
        raise TooLargeError(
            f"the network needs {needed:,} bytes ({_largest(graph, lanes, types)}) and {limit:,} are to be "
            "had; use float32, fewer synapses, shorter delays or a larger machine."
        )
    bounds = {
        name: np.linspace(0, p.size, parts + 1).astype(np.int64) for name, p in graph.populations.items()
    }
    for lane in lanes:
        _pack(graph, lane, bounds[lane.projection.target], types, keep_zeros)
    units = {n: _unit(p, types) for n, p in graph.populations.items() if p.neuron != INPUT}
    return Plan(
        graph=graph,
        types=types,
        span=span,
        groups=groups,
        units=units,
        lanes=lanes,
        bounds=bounds,
        bytes=needed,
    )


def _check_arithmetic(graph: Graph, types: Types) -> None:
    for name, population in graph.populations.items():
        if population.neuron == INPUT:
            continue
        if resolve(population.neuron, population.options).integer != types.integer:
            raise GraphError(
                f"population {name!r} of neuron {population.neuron!r} needs "
                f"{'floating-point' if types.integer else 'integer'} arithmetic; dtype says otherwise."
            )
        if types.integer:
            arrays = {**population.params, **population.initial, "bias": population.bias}
            for key, value in arrays.items():
                if (value != np.round(value)).any():
                    raise GraphError(f"population {name!r}: {key} must be integers in an integer network.")
    for p in graph.projections:
        where = f"projection {p.name!r}"
        if types.integer and p.weight.dtype.kind not in "iu" and (p.weight != np.round(p.weight)).any():
            raise GraphError(f"{where}: weights must be integers in an integer network; quantise them first.")
        if types.integer and p.weight.size and np.abs(p.weight.astype(np.int64)).max() >= 1 << 31:
            raise GraphError(f"{where}: a weight does not fit 32 bits.")
        if not types.integer and "shift" in p.options:
            raise GraphError(f"{where}: option 'shift' belongs to integer networks.")


def _layout(p: Projection) -> str:
    if p.kind in ("one_to_one", "conv"):
        return p.kind
    if p.kind == "dense" and (p.delay.size == 1 or (p.delay == p.delay.flat[0]).all()):
        return "dense"
    return "rows"


def _lane(graph: Graph, index: int, span: int, types: Types) -> Lane:
    p = graph.projections[index]
    shift = int(p.options["shift"]) if "shift" in p.options else None
    lane = Lane(
        index=index,
        projection=p,
        size=graph.populations[p.target].size,
        longest=p.max_delay,
        layout=_layout(p),
        rows=p.max_delay + span,
        shift=shift or None,
    )
    if lane.layout == "rows":
        lane.per_source = _one_weight_per_source(p)
    return lane


def _one_weight_per_source(p: Projection) -> bool:
    if p.kind == "dense":
        return bool((p.weight == p.weight[:1]).all())
    assert p.indptr is not None
    if not p.weight.size or p.weight.min() == p.weight.max():
        return True
    starts = p.indptr[:-1][np.diff(p.indptr) > 0].astype(np.int64)
    return bool((np.minimum.reduceat(p.weight, starts) == np.maximum.reduceat(p.weight, starts)).all())


def _synapse_bytes(graph: Graph, lane: Lane, types: Types, parts: int) -> int:
    weights = lane.projection.weight.size
    item = types.weight.itemsize
    if lane.layout == "rows":
        sources = graph.populations[lane.projection.source].size
        return weights * (4 + (0 if lane.per_source else item)) + sources * (8 * (parts + 1) + item)
    return weights * (item + (0 if lane.layout == "dense" else 4))


def _bytes(graph: Graph, lanes: list[Lane], span: int, types: Types, parts: int, copies: int) -> int:
    wide = types.wide.itemsize
    shared = sum(_synapse_bytes(graph, lane, types, parts) for lane in lanes)
    own = sum(lane.rows * lane.size * wide for lane in lanes)
    for population in graph.populations.values():
        if population.neuron != INPUT:
            neuron = resolve(population.neuron, population.options)
            arrays = len(neuron.state) + len(neuron.params) + 2
            own += population.size * (arrays * wide + span * (wide + 24 + 2 * wide * neuron.counts))
    return shared + copies * own


def _largest(graph: Graph, lanes: list[Lane], types: Types) -> str:
    if not lanes:
        return "for its neurons"
    lane = max(
        lanes, key=lambda a: _synapse_bytes(graph, a, types, 1) + a.rows * a.size * types.wide.itemsize
    )
    p = lane.projection
    return (
        f"most of it for projection {p.name!r}: {p.weight.size:,} weights and a ring of {lane.rows} steps × "
        f"{lane.size:,} neurons"
    )


def _pack(graph: Graph, lane: Lane, bounds: np.ndarray, types: Types, keep_zeros: bool) -> None:
    """Fill in the lane's arrays for the partitions `bounds` int64 [P + 1] of its target."""
    p = lane.projection
    lane.stored, lane.effective = fan_out(graph, p)
    if lane.layout == "dense":
        delay = int(p.delay.flat[0]) if p.delay.size else 0
        lane.arrays = (np.ascontiguousarray(p.weight.T.astype(types.weight)), delay)
    elif lane.layout == "one_to_one":
        lane.arrays = (p.weight.astype(types.weight), p.delays.astype(np.int64))
    elif lane.layout == "conv":
        source, target = graph.populations[p.source].shape, graph.populations[p.target].shape
        geometry = [n for pair in conv_geometry(p) for n in pair]
        shape = np.array([*source[1:], *target[1:], int(p.options.get("groups", 1)), *geometry], np.int64)
        weight = np.ascontiguousarray(p.weight.astype(types.weight))
        lane.arrays = (weight, np.ascontiguousarray(p.delays.astype(np.int64)), shape)
    else:
        lane.arrays = _pack_rows(graph, lane, bounds, types, keep_zeros)


def _pack_rows(graph: Graph, lane: Lane, bounds: np.ndarray, types: Types, keep_zeros: bool) -> Any:
    """(ptr int64 [I, P + 1], offsets uint32 [S], weight [S] or [I]): see `kernels_cpu.pack_rows`."""
    p = lane.projection
    sources = graph.populations[p.source].size
    if p.kind == "dense":
        indptr = np.arange(sources + 1, dtype=np.int64) * lane.size
        indices = np.tile(np.arange(lane.size, dtype=np.int32), sources)
        weight, delay = p.weight.T.reshape(-1), p.delays.T.reshape(-1)
    else:
        assert p.indptr is not None
        assert p.indices is not None
        indptr, indices = p.indptr.astype(np.int64), np.ascontiguousarray(p.indices, np.int32)
        weight, delay = p.weight, p.delay.reshape(-1)
    if not weight.flags.c_contiguous:
        weight = np.ascontiguousarray(weight)
    if delay.dtype not in (np.uint8, np.int32) or not delay.flags.c_contiguous:
        delay = np.ascontiguousarray(delay, np.int32)
    one_delay = len(delay) == 1 and len(indices) != 1
    if not len(delay):
        delay = np.zeros(1, np.int32)
    count = len(indices) if keep_zeros else int(lane.effective.sum())
    if (lane.longest + 1) * lane.size >= 1 << 32:
        raise TooLargeError(
            f"projection {p.name!r}: {lane.longest + 1} delays × {lane.size:,} targets are "
            f"{(lane.longest + 1) * lane.size:,} places to address, more than 2^32."
        )
    offsets = np.empty(count, np.uint32)
    packed = np.empty(0 if lane.per_source else count, types.weight)
    ptr = np.zeros((sources, len(bounds)), np.int64)
    synapses = (indptr, indices, weight, delay)
    kernels_cpu.pack_rows(synapses, one_delay, lane.size, bounds, (ptr, offsets, packed), keep_zeros)
    if lane.per_source:
        packed = np.zeros(sources, types.weight)
        some = np.diff(indptr) > 0
        packed[some] = weight[indptr[:-1][some]]
    return ptr, offsets, packed


def _unit(population: Population, types: Types) -> Unit:
    neuron = resolve(population.neuron, population.options)
    missing = [p for p in neuron.params if p not in population.params]
    if missing:
        raise GraphError(
            f"population {population.name!r}: neuron {neuron.name!r} needs the parameters "
            f"{', '.join(neuron.params)}; {', '.join(missing)} not given."
        )
    for name in neuron.positive:
        if not (population.params[name] > 0).all():
            raise GraphError(
                f"population {population.name!r}: {name} must be above 0 for the options "
                f"{population.options}, got {np.min(population.params[name]):g}."
            )
    start: dict[str, Any] = {**neuron.start, **population.initial}
    unknown = [k for k in start if k not in neuron.state]
    if unknown:
        raise GraphError(
            f"population {population.name!r}: initial value for {unknown[0]!r}, but the state of neuron "
            f"{neuron.name!r} is {', '.join(neuron.state) or 'empty'}."
        )
    initial = [
        np.ascontiguousarray(np.broadcast_to(start[v], population.shape).reshape(-1).astype(types.state))
        for v in neuron.state
    ]
    arrays = [population.params[p] for p in neuron.params] + [population.bias]
    stride = int(any(np.size(a) and np.min(a) != np.max(a) for a in arrays))
    flat = [
        np.ascontiguousarray(
            np.broadcast_to(a, population.shape).reshape(-1)[: None if stride else 1]
        ).astype(types.wide)
        for a in arrays
    ]
    kernel = kernels_cpu.update_kernel(neuron, types.wide.name)
    return Unit(
        population=population,
        neuron=neuron,
        params=flat[:-1],
        bias=flat[-1],
        stride=stride,
        initial=initial,
        kernel=kernel,
    )
