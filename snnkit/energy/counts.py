"""How often each operation happens: counted spike by spike on real inputs, per layer and per sample.

For a projection, with θ the spikes that enter it and f the number of synapses of a source neuron:

    synops            Σ over spikes of f                       every stored synapse
    synops_effective  Σ over spikes of the synapses ≠ 0        what NeuroBench counts
    synops_dense      steps · synapses                         what a dense machine would do

A SynOp whose spike carries a value other than −1, 0, 1 needs a multiplication and is in `synops_mac`
too. A neuron is *active* in a step if input arrives, a state variable is not 0 when the step begins,
its bias is not 0, or it fires; else it is *idle* (the definition of SANA-FE, Boyle et al. 2025, which
Loihi's published active/inactive figures leave open). All other counts follow from these, the graph
and, for messages and hops, a mapping of neurons to cores.
"""

from __future__ import annotations

from collections.abc import Mapping as MappingType
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from scipy.sparse import csr_matrix

from ..engine.synapses import synapses
from ..errors import ParameterError, ShapeError
from ..events import EventBatch
from ..graph import INPUT, Graph, Population, Projection, conv_geometry
from ..neurons.neuron import NEURONS, resolve
from .mapping import OFF_CHIP, Mapping


@dataclass
class SynapseCounts:
    """What one projection does. Arrays have one entry a sample, ``[B]``.

    inputs, outputs      neurons of its source and target
    synapses, effective  stored synapses, those with weight ≠ 0
    weights              stored words (a convolution shares them)
    max_delay            steps
    spikes               spikes that enter, θ
    kernel_fan_out       of a convolution ⌈kh/s⌉·⌈kw/s⌉·C_out, its fan-out with borders ignored; else 0
    address_fan_out      of a convolution C_out·kh·kw, the weights addressed for a spike; else 0
    spikes_valued        spikes that carry another value than −1, 0, 1
    delayed              (spike, different delay > 0) pairs: entries of a delay queue
    waiting              steps that those entries wait, summed
    peak                 most entries that wait at once
    """

    name: str
    source: str
    target: str
    kind: str
    inputs: int
    outputs: int
    synapses: int
    effective: int
    weights: int
    max_delay: int
    kernel_fan_out: int
    address_fan_out: int
    spikes: np.ndarray
    spikes_valued: np.ndarray
    synops: np.ndarray
    synops_effective: np.ndarray
    synops_mac: np.ndarray
    synops_dense: np.ndarray
    delayed: np.ndarray
    waiting: np.ndarray
    peak: np.ndarray

    @property
    def synops_borderless(self) -> np.ndarray:
        """SynOps by the usual formula, which for a convolution ignores the borders, ``[B]``."""
        return self.spikes * self.kernel_fan_out if self.kernel_fan_out else self.synops

    @property
    def synops_borderless_mac(self) -> np.ndarray:
        """Those of `synops_borderless` that need a multiplication, ``[B]``."""
        return self.spikes_valued * self.kernel_fan_out if self.kernel_fan_out else self.synops_mac

    @property
    def addressed(self) -> np.ndarray:
        """Weights addressed, ``[B]``."""
        return self.spikes * self.address_fan_out if self.address_fan_out else self.synops


@dataclass
class NeuronCounts:
    """What one population does. Arrays have one entry a sample, ``[B]``.

    states     state variables of a neuron, each read and written in every step
    leak_macs  multiplications of one neuron update (its decays)
    biased     neurons with bias ≠ 0
    biases     stored bias words (a convolution has one a channel); 0 if none differs from 0
    active     neuron updates that do work, or None where the potentials are not known
    idle       steps · size − active
    routes     (source core, target core) pairs that carry messages, ``[R, 2]``, or None if not mapped
    messages   messages of each route, ``[R, B]``; one per spike and target core
    """

    name: str
    neuron: str
    size: int
    states: int
    leak_macs: int
    biased: int
    biases: int
    steps: np.ndarray
    spikes: np.ndarray
    active: np.ndarray | None = None
    routes: np.ndarray | None = None
    messages: np.ndarray | None = None

    @property
    def is_input(self) -> bool:
        """True for a source of spikes that is no neuron of the chip."""
        return self.neuron == INPUT

    @property
    def updates(self) -> np.ndarray:
        """Neuron updates, steps · size; 0 where there is no state (an input)."""
        return self.steps * self.size if self.states else np.zeros_like(self.steps)

    @property
    def idle(self) -> np.ndarray | None:
        """Neuron updates that find nothing to do."""
        return None if self.active is None else self.updates - self.active


@dataclass
class CoreCounts:
    """Work of each core in each step, for the latency: one ``[T, C]`` array a sample and kind of work.

    cores     numbers of the cores in use, ``[C]``
    neurons   neurons on each, inputs not counted, ``[C]``
    work      kind → list over samples. "active", "spikes", "sent", "received" (messages) and
              "synops/dense", "synops/sparse", "synops/conv", "synops/one_to_one"
    """

    cores: np.ndarray
    neurons: np.ndarray
    work: dict[str, list[np.ndarray]]

    @property
    def synops(self) -> dict[str, str]:
        """Kind of projection → the kind of work that is its SynOps."""
        return {work.split("/")[1]: work for work in self.work if work.startswith("synops/")}

    def steps(self, kind: str, sample: int) -> np.ndarray | float:
        """Work of one kind in one sample ``[T, C]``, or 0 where there is none."""
        return self.work[kind][sample] if kind in self.work else 0.0


@dataclass
class Counts:
    """Operations of a network on B samples; see the module for the definitions.

    steps   steps of each sample, ``[B]``
    cores   per-core work, where a mapping was given
    """

    synapses: list[SynapseCounts]
    neurons: list[NeuronCounts]
    steps: np.ndarray
    cores: CoreCounts | None = None
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def synops(self) -> np.ndarray:
        """SynOps of each sample over every stored synapse, ``[B]``."""
        return _sum((s.synops for s in self.synapses), len(self))

    @property
    def synops_effective(self) -> np.ndarray:
        """SynOps of each sample over synapses with weight ≠ 0, ``[B]``."""
        return _sum((s.synops_effective for s in self.synapses), len(self))

    @property
    def spikes(self) -> np.ndarray:
        """Spikes of each sample, inputs not counted, ``[B]``."""
        return _sum((n.spikes for n in self.neurons if not n.is_input), len(self))

    @property
    def spikes_per_synapse(self) -> np.ndarray:
        """SynOps / stored synapses of each sample: the axis of published break-even figures."""
        return self.synops / max(sum(s.synapses for s in self.synapses), 1)

    @property
    def rate(self) -> float:
        """Spikes per neuron and step over all sources of synapses, mean over samples."""
        sources = {s.source for s in self.synapses}
        feeding = [n for n in self.neurons if n.name in sources]
        places = sum(n.size for n in feeding) * float(self.steps.sum())
        return float(sum(n.spikes.sum() for n in feeding)) / places if places else 0.0

    def into(self, name: str) -> list[SynapseCounts]:
        """Counts of the projections into a population."""
        return [s for s in self.synapses if s.target == name]

    def layer(self, name: str) -> tuple[NeuronCounts, list[SynapseCounts]]:
        """A population's counts and those of the projections into it."""
        for neurons in self.neurons:
            if neurons.name == name:
                return neurons, self.into(name)
        raise ParameterError(f"no layer {name!r}; there are {[n.name for n in self.neurons]}.")

    def table(self) -> dict[str, np.ndarray]:
        """Mean and distribution over the samples, one row a part and quantity.

        Columns part, quantity, mean, minimum, p05, median, p95, maximum; pandas takes it as it is.
        """
        rows: list[tuple[str, str, np.ndarray]] = []
        for s in self.synapses:
            for name in _per_sample(s):
                rows.append((s.name, name, getattr(s, name)))
        for n in self.neurons:
            rows += [(n.name, "spikes", n.spikes), (n.name, "updates", n.updates)]
            if n.active is not None:
                rows += [(n.name, "active", n.active), (n.name, "idle", n.updates - n.active)]
            if n.messages is not None:
                rows.append((n.name, "messages", n.messages.sum(0)))
        values = np.array([_distribution(x) for _, _, x in rows]).reshape(len(rows), 6)
        columns = ("mean", "minimum", "p05", "median", "p95", "maximum")
        return {
            "part": np.array([r[0] for r in rows]),
            "quantity": np.array([r[1] for r in rows]),
            **{c: values[:, i] for i, c in enumerate(columns)},
        }

    def memory(self, weight_bits: int = 32, state_bits: int = 32) -> dict[str, np.ndarray]:
        """Reads and writes of each memory, mean a sample, with width and capacity in bits.

        Memories: ``weights`` and ``delay buffer`` (the ring of accumulators at the target, where a
        projection has delays) of each projection, ``state`` of each population.
        """
        rows: list[tuple[str, str, float, float, int, int]] = []
        for s in self.synapses:
            reads = float(s.synops.mean()) if len(self) else 0.0
            rows.append((s.name, "weights", reads, 0.0, weight_bits, s.weights * weight_bits))
            if s.max_delay:
                slots = s.outputs * (s.max_delay + 1)
                drain = float(self.steps.mean()) * s.outputs if len(self) else 0.0
                rows.append(
                    (s.name, "delay buffer", reads + drain, reads + drain, state_bits, slots * state_bits)
                )
        for n in self.neurons:
            if not n.is_input:
                touched = float(n.updates.mean()) * n.states if len(self) else 0.0
                capacity = n.size * n.states * state_bits
                rows.append((n.name, "state", touched, touched, state_bits, capacity))
        names = ("part", "memory", "reads", "writes", "width_bits", "capacity_bits")
        return {name: np.array([r[i] for r in rows]) for i, name in enumerate(names)}

    def select(self, samples: np.ndarray | Sequence[int]) -> Counts:
        """Counts of these samples only, in this order; an index may come twice."""
        index = np.asarray(samples, np.int64)
        cores = self.cores
        if cores is not None:
            work = {k: [v[i] for i in index] for k, v in cores.work.items()}
            cores = replace(cores, work=work)
        return Counts(
            [_map(s, lambda x: x[..., index]) for s in self.synapses],
            [_map(n, lambda x: x[..., index]) for n in self.neurons],
            self.steps[index],
            cores,
            self.notes,
        )


def concatenate(parts: Sequence[Counts]) -> Counts:
    """Counts of the same network on several batches, put together sample after sample."""
    if not parts:
        raise ParameterError("concatenate needs at least one Counts.")
    first = parts[0]
    cores = first.cores
    if cores is not None:
        kinds = sorted({k for p in parts if p.cores is not None for k in p.cores.work})
        work: dict[str, list[np.ndarray]] = {k: [] for k in kinds}
        for part in parts:
            for k in kinds:
                assert part.cores is not None
                empty = [np.zeros((int(t), len(cores.cores)), np.int32) for t in part.steps]
                work[k] += part.cores.work.get(k, empty)
        cores = replace(cores, work=work)
    return Counts(
        [_join([p.synapses[i] for p in parts]) for i in range(len(first.synapses))],
        [_join([p.neurons[i] for p in parts]) for i in range(len(first.neurons))],
        np.concatenate([p.steps for p in parts]),
        cores,
        first.notes,
    )


def _listed(graph: Graph, p: Projection) -> _Listed:
    """Every stored synapse of a projection as CSR by source."""
    table = synapses(graph, p)
    per_source = np.bincount(table.source, minlength=graph.populations[p.source].size)
    indptr = np.concatenate([[0], np.cumsum(per_source)]).astype(np.int64)
    return _Listed(indptr, table.source, table.target, table.weight, table.delay)


class _Listed(NamedTuple):
    indptr: np.ndarray
    source: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    delay: np.ndarray


def count(
    graph: Graph,
    spikes: MappingType[str, EventBatch],
    recorded: MappingType[tuple[str, str], np.ndarray] | None = None,
    *,
    lengths: np.ndarray | None = None,
    mapping: Mapping | None = None,
) -> Counts:
    """Operations behind given spikes.

    spikes    population → its spikes, inputs included
    recorded  (population, state variable) → its value after each step ``[T, B, N]``, as the engine
              records it; without it nobody knows which neurons were idle, and `active` stays None
    lengths   steps that count, of each sample ``[B]``; default: the batch's own
    mapping   neurons → cores; without it there are no messages, hops nor per-core work
    """
    missing = [name for name in graph.populations if name not in spikes]
    if missing:
        raise ParameterError(f"count needs the spikes of every population; {missing} are missing.")
    batch = {len(events) for events in spikes.values()}
    if len(batch) != 1:
        raise ShapeError(f"populations have spikes of different numbers of samples: {sorted(batch)}.")
    if lengths is None:
        lengths = np.max([e.lengths for e in spikes.values()], axis=0)
    steps = np.asarray(lengths, np.int64)
    if steps.shape != (batch.pop(),):
        raise ShapeError(f"lengths has shape {steps.shape} for {len(next(iter(spikes.values())))} samples.")
    events = {name: _Events(spikes[name], steps) for name in graph.populations}

    listed = {p.name: _listed(graph, p) for p in graph.projections}
    result = Counts(
        [_synapse_counts(graph, p, listed[p.name], events[p.source], steps) for p in graph.projections],
        [_neuron_counts(p, events[p.name], steps) for p in graph.populations.values()],
        steps,
    )
    active = None if recorded is None else _activity(graph, listed, events, recorded, steps)
    if active is not None:
        for n in result.neurons:
            if not n.is_input:
                n.active = np.array([a.sum() for a in active[n.name]], np.int64)
    if mapping is not None:
        _map_counts(result, graph, listed, events, active, mapping)
    return result


class _Events:
    """The spikes of one population that lie inside the steps that count."""

    def __init__(self, events: EventBatch, steps: np.ndarray) -> None:
        sample = np.repeat(np.arange(len(events)), np.diff(events.offsets))
        inside = events.times < steps[sample]
        self.sample, self.times = sample[inside], events.times[inside]
        self.neurons = events.neurons[inside]
        values = np.ones(0) if events.values is None else events.values[inside]
        self.valued = np.zeros(len(self.times), bool)
        if events.values is not None:
            self.valued = ~np.isin(values, (-1, 0, 1))
        self.batch = len(events)
        self.offsets = np.searchsorted(self.sample, np.arange(self.batch + 1))

    def total(self, weight: np.ndarray | None = None, only: np.ndarray | None = None) -> np.ndarray:
        """Σ over the spikes of each sample of ``weight[neuron]``, ``[B]``."""
        sample, neurons = self.sample, self.neurons
        if only is not None:
            sample, neurons = sample[only], neurons[only]
        weights = None if weight is None else weight[neurons]
        return np.rint(np.bincount(sample, weights, self.batch)).astype(np.int64)

    def of(self, b: int) -> tuple[np.ndarray, np.ndarray]:
        """Times and neurons of one sample."""
        part = slice(self.offsets[b], self.offsets[b + 1])
        return self.times[part], self.neurons[part]


def _synapse_counts(
    graph: Graph, p: Projection, listed: _Listed, events: _Events, steps: np.ndarray
) -> SynapseCounts:
    indptr, origin, targets, weight, delay = listed
    n_in, n_out = graph.populations[p.source].size, graph.populations[p.target].size
    fan_out = np.diff(indptr)
    effective = np.bincount(origin, weight != 0, n_in)
    spikes, synops = events.total(), events.total(fan_out)
    kernel = address = 0
    if p.kind == "conv":
        (sy, sx), _, _ = conv_geometry(p)
        c_out, _, ky, kx = p.weight.shape
        c_out //= int(p.options.get("groups", 1))
        kernel, address = c_out * -(-ky // sy) * -(-kx // sx), c_out * ky * kx
    pairs = np.unique(np.stack([origin[delay > 0], delay[delay > 0]], 1), axis=0)
    entries = np.bincount(pairs[:, 0], minlength=n_in)
    wait = np.bincount(pairs[:, 0], pairs[:, 1], n_in)
    return SynapseCounts(
        p.name,
        p.source,
        p.target,
        p.kind,
        n_in,
        n_out,
        len(targets),
        int(np.count_nonzero(weight)),
        p.weight.size,
        p.max_delay if len(targets) else 0,
        kernel,
        address,
        spikes,
        np.bincount(events.sample[events.valued], minlength=events.batch),
        synops,
        events.total(effective),
        events.total(fan_out, events.valued),
        steps * len(targets),
        events.total(entries),
        events.total(wait),
        _peak(pairs, n_in, events, steps),
    )


def _peak(pairs: np.ndarray, n_in: int, events: _Events, steps: np.ndarray) -> np.ndarray:
    """Most entries of a delay queue that wait at the end of a step, ``[B]``."""
    peak = np.zeros(events.batch, np.int64)
    if not len(pairs):
        return peak
    longest = int(pairs[:, 1].max())
    uses = np.zeros((n_in, longest + 1), np.int64)
    uses[pairs[:, 0], pairs[:, 1]] = 1
    for b in range(events.batch):
        times, neurons = events.of(b)
        entered = np.zeros((int(steps[b]), longest + 1), np.int64)
        np.add.at(entered, times, uses[neurons])
        waiting = np.zeros(int(steps[b]), np.int64)
        for d in range(1, longest + 1):
            total = np.cumsum(entered[:, d])
            waiting += total
            waiting[d:] -= total[:-d]
        peak[b] = waiting.max(initial=0)
    return peak


def states_of(population: Population) -> int:
    """State variables of one neuron."""
    if population.neuron == INPUT:
        return 0
    return len(resolve(population.neuron, population.options).state)


COUNTERS = ("wait", "clock")
"""State variables that only count steps: they decay not, and running they make no neuron active."""


def leak_macs(population: Population) -> int:
    """Multiplications of one update: one for each state variable that decays by a factor other than 1."""
    if population.neuron == INPUT:
        return 0
    decays = [v != 1 for k, v in population.params.items() if k.startswith("decay")]
    decays += [population.params[k] != 0 for k in ("du", "dv") if k in population.params]  # Loihi's 1 − decay
    if decays:
        return sum(bool(d.any()) for d in decays)
    state = resolve(population.neuron, population.options).state
    return 0 if population.neuron == "if" else sum(name not in COUNTERS for name in state)


def _bias(population: Population) -> np.ndarray:
    """What is added in every step, from the population or, on a chip, from the neuron's parameter."""
    if population.neuron == INPUT:
        return np.zeros(())
    bias = population.bias
    return bias + population.params["bias"] if "bias" in population.params else bias


def _neuron_counts(population: Population, events: _Events, steps: np.ndarray) -> NeuronCounts:
    bias = _bias(population)
    biased = int(np.count_nonzero(np.broadcast_to(bias, population.shape)))
    return NeuronCounts(
        population.name,
        population.neuron,
        population.size,
        states_of(population),
        leak_macs(population),
        biased,
        bias.size if biased else 0,
        steps,
        events.total(),
    )


@njit(cache=True)
def _mark_arrivals(times, neurons, indptr, targets, delay, arrived):  # type: ignore[no-untyped-def]
    """arrived[t + d, target] = True for each spike and synapse that still arrives in time."""
    steps = arrived.shape[0]
    for e in range(len(times)):
        for s in range(indptr[neurons[e]], indptr[neurons[e] + 1]):
            t = times[e] + delay[s]
            if t < steps:
                arrived[t, targets[s]] = True


def _activity(
    graph: Graph,
    listed: dict[str, _Listed],
    events: dict[str, _Events],
    recorded: MappingType[tuple[str, str], np.ndarray],
    steps: np.ndarray,
) -> dict[str, list[np.ndarray]]:
    """Population → for each sample which neuron is active in which step, bool ``[T, N]``."""
    result: dict[str, list[np.ndarray]] = {}
    for name, population in graph.populations.items():
        if population.neuron == INPUT:
            continue
        state = resolve(population.neuron, population.options).state
        variables = {v: recorded[name, v] for v in state if (name, v) in recorded and v not in COUNTERS}
        if not variables:
            raise ParameterError(
                f"count was given recorded states, but none of population {name!r}; record its "
                "potentials too, or give none at all."
            )
        bias = np.broadcast_to(_bias(population), population.shape).reshape(-1) != 0
        result[name] = []
        awake = bias.copy()  # in step 0
        for variable in variables:
            awake |= _initial(population, variable) != 0
        for b, T in enumerate(steps):
            active = np.zeros((int(T), population.size), bool)
            for p in graph.into(name):
                times, neurons = events[p.source].of(b)
                table = listed[p.name]
                _mark_arrivals(times, neurons, table.indptr, table.target, table.delay, active)
            active |= bias
            for variable, x in variables.items():
                if x.shape[0] < T or x.shape[2] != population.size:
                    raise ShapeError(
                        f"recorded {name!r}, {variable!r} has shape {x.shape}; sample {b} has {T} steps "
                        f"of {population.size} neurons."
                    )
                if T:
                    active[0] |= awake
                    active[1:] |= x[: T - 1, b] != 0
            active[events[name].of(b)] = True
            result[name].append(active)
    return result


def _initial(population: Population, variable: str) -> np.ndarray:
    """Start value of a state variable, ``[N]``."""
    value: Any = 0.0
    if population.neuron in NEURONS:
        value = dict(resolve(population.neuron, population.options).initial).get(variable, 0.0)
    value = population.initial.get(variable, value)
    return np.broadcast_to(value, population.shape).reshape(-1)


def _map_counts(
    result: Counts,
    graph: Graph,
    listed: dict[str, _Listed],
    events: dict[str, _Events],
    active: dict[str, list[np.ndarray]] | None,
    mapping: Mapping,
) -> None:
    """Add messages, routes and the work of each core."""
    place: dict[str, np.ndarray] = {}
    for name, population in graph.populations.items():
        if name not in mapping.core:
            raise ParameterError(f"the mapping places no population {name!r}; map every one.")
        core = np.asarray(mapping.core[name], np.int64).reshape(-1)
        if core.shape != (population.size,):
            raise ShapeError(
                f"the mapping gives {core.size} cores for {population.size} neurons of {name!r}."
            )
        place[name] = core
    used = np.unique(np.concatenate([np.zeros(0, np.int64), *place.values()]))
    used = used[used >= 0]
    for name, core in place.items():
        outside = core < 0
        if graph.populations[name].neuron != INPUT and outside.any():
            raise ParameterError(
                f"the mapping puts neuron {int(np.argmax(outside))} of {name!r} off the chip; only inputs "
                "may be there."
            )
    # position in `used`; len(used) stands for off the chip
    place = {n: np.where(core < 0, len(used), np.searchsorted(used, core)) for n, core in place.items()}
    neurons = np.zeros(len(used), np.int64)
    for name, core in place.items():
        if graph.populations[name].neuron != INPUT:
            neurons += np.bincount(core, minlength=len(used))

    kinds = ["active", "spikes", "sent", "received", *{f"synops/{p.kind}" for p in graph.projections}]
    work = {
        kind: [np.zeros((int(T), len(used)), np.int32) for T in result.steps]
        for kind in kinds
        if kind != "active" or active is not None
    }
    for n in result.neurons:
        core = place[n.name]
        fan: dict[tuple[str, str], np.ndarray] = {}
        for p in graph.out_of(n.name):
            table = listed[p.name]
            index = table.source * len(used) + place[p.target][table.target]
            fan[p.name, p.kind] = np.bincount(index, minlength=n.size * len(used)).reshape(n.size, len(used))
        reach = np.zeros((n.size, len(used)), bool)
        for cores in fan.values():
            reach |= cores > 0
        n.routes, n.messages = _routes(core, reach, used, events[n.name])
        # what one spike of each neuron does to each core, side by side: one product counts it all
        here = np.zeros((n.size, len(used) + 1), np.int32)
        here[np.arange(n.size), core] = 1
        here = here[:, :-1]
        tables = {"sent": here * reach.sum(1, dtype=np.int32)[:, None], "received": reach}
        for (_, kind), cores in fan.items():
            tables[f"synops/{kind}"] = tables.get(f"synops/{kind}", 0) + cores
        if not n.is_input:
            tables["spikes"] = here
        effects = np.concatenate([t.astype(np.int32) for t in tables.values()], axis=1)
        order = np.argsort(core, kind="stable")
        starts = np.flatnonzero(np.diff(core[order], prepend=-1))
        for b, T in enumerate(result.steps):
            times, who = events[n.name].of(b)
            fired = csr_matrix((np.ones(len(times), np.int32), (times, who)), shape=(int(T), n.size))
            for kind, part in zip(tables, np.split(fired @ effects, len(tables), axis=1), strict=True):
                work[kind][b] += part
            if active is not None and not n.is_input and T:
                busy = active[n.name][b][:, order]
                work["active"][b][:, core[order][starts]] += np.add.reduceat(
                    busy, starts, axis=1, dtype=np.int32
                )
    result.cores = CoreCounts(used, neurons, work)


def _routes(
    core: np.ndarray, reach: np.ndarray, used: np.ndarray, events: _Events
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of cores that exchange messages, ``[R, 2]``, and how many in each sample, ``[R, B]``."""
    fired = np.zeros((events.batch, len(core)), np.int64)
    np.add.at(fired, (events.sample, events.neurons), 1)
    pairs, counts = [], []
    for a in np.unique(core):
        here = core == a
        for c in np.flatnonzero(reach[here].any(0)):
            pairs.append((used[a] if a < len(used) else OFF_CHIP, used[c]))
            counts.append(fired[:, here] @ reach[here, c])
    return (
        np.array(pairs, np.int64).reshape(-1, 2),
        np.array(counts, np.int64).reshape(-1, events.batch),
    )


def _per_sample(part: SynapseCounts | NeuronCounts) -> list[str]:
    return [
        f.name for f in fields(part) if isinstance(getattr(part, f.name), np.ndarray) and f.name != "routes"
    ]


def _map(part: Any, function: Any) -> Any:
    return replace(part, **{name: function(getattr(part, name)) for name in _per_sample(part)})


def _join(parts: Sequence[Any]) -> Any:
    names = _per_sample(parts[0])
    return replace(parts[0], **{n: np.concatenate([getattr(p, n) for p in parts], axis=-1) for n in names})


def _sum(arrays: Any, batch: int) -> np.ndarray:
    total = np.zeros(batch, np.int64)
    for array in arrays:
        total = total + array
    return total


def _distribution(x: np.ndarray) -> tuple[float, ...]:
    if not len(x):
        return (0.0,) * 6
    low, median, high = np.quantile(x, (0.05, 0.5, 0.95))
    return float(x.mean()), float(x.min()), float(low), float(median), float(high), float(x.max())
