"""How often each operation happens, per layer and per sample: the records; `counting` fills them.

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

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import numpy as np

from ..errors import ParameterError
from ..graph import INPUT

Part = TypeVar("Part", "SynapseCounts", "NeuronCounts")


@dataclass
class SynapseCounts:
    """What one projection does. Arrays have one entry a sample, ``[B]``.

    inputs, outputs      neurons of its source and target
    synapses, effective  stored synapses, those with weight ≠ 0
    weights              stored words (a convolution shares them); 0 of a pooling layer, whose SynOps are
                         additions and read no weight
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
        """Neuron updates, steps · size, ``[B]``; 0 where there is no state (an input)."""
        return self.steps * self.size if self.states else np.zeros_like(self.steps)

    @property
    def idle(self) -> np.ndarray | None:
        """Neuron updates that find nothing to do, ``[B]``."""
        return None if self.active is None else self.updates - self.active


@dataclass
class UnseenCounts:
    """MACs of a module that are counted nowhere else, and so not priced: `EnergyMonitor` met them.

    name        the innermost module that ran them
    module      its type
    operations  torch's names for what it ran: "addmm", "bmm", …
    macs        multiply-accumulates, zeros included, mean of the batch for each of its samples, ``[B]``
    """

    name: str
    module: str
    operations: tuple[str, ...]
    macs: np.ndarray


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
    unseen  what else multiplies, and is neither counted nor priced
    """

    synapses: list[SynapseCounts]
    neurons: list[NeuronCounts]
    steps: np.ndarray
    cores: CoreCounts | None = None
    unseen: list[UnseenCounts] = field(default_factory=list)

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
        """SynOps / stored synapses of each sample, ``[B]``: the axis of published break-even figures."""
        return self.synops / max(sum(s.synapses for s in self.synapses), 1)

    @property
    def rate(self) -> float:
        """Spikes per neuron and step over all sources of synapses, mean over samples."""
        sources = {s.source for s in self.synapses}
        feeding = [n for n in self.neurons if n.name in sources]
        places = sum(n.size for n in feeding) * float(self.steps.sum())
        return float(sum(n.spikes.sum() for n in feeding)) / places if places else 0.0

    def unseen_share(self) -> dict[str, tuple[float, float]]:
        """Module → its unseen MACs a sample, and their share of all that a dense machine would do."""
        if not self.unseen or not len(self):
            return dict.fromkeys((u.name for u in self.unseen), (0.0, 0.0))
        macs = {u.name: float(u.macs.mean()) for u in self.unseen}
        known = float(_sum((s.synops_dense for s in self.synapses), len(self)).mean())
        total = known + sum(macs.values())
        return {name: (own, own / total if total else 0.0) for name, own in macs.items()}

    def notes(self) -> list[str]:
        """What these counts, and so every price of them, leave out, in words."""
        share = self.unseen_share()
        return [
            f"Not counted: {u.name!r} ({u.module}: {', '.join(u.operations)}), {share[u.name][0]:,.0f} MACs "
            f"an inference, {100 * share[u.name][1]:.3g} % of all MACs of the network."
            for u in self.unseen
        ]

    def into(self, name: str) -> list[SynapseCounts]:
        """Counts of the projections into a population."""
        return [s for s in self.synapses if s.target == name]

    def layer(self, name: str) -> tuple[NeuronCounts, list[SynapseCounts]]:
        """A population's counts and those of the projections into it.

        Raises `ParameterError` naming the layers, if there is no such one.
        """
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
            if s.weights:
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
        """Counts of these samples (int ``[S]``) only, in this order; an index may come twice."""
        index = np.asarray(samples, np.int64)
        cores = self.cores
        if cores is not None:
            work = {k: [v[i] for i in index] for k, v in cores.work.items()}
            cores = replace(cores, work=work)
        return Counts(
            synapses=[_map(s, lambda x: x[..., index]) for s in self.synapses],
            neurons=[_map(n, lambda x: x[..., index]) for n in self.neurons],
            steps=self.steps[index],
            cores=cores,
            unseen=[replace(u, macs=u.macs[index]) for u in self.unseen],
        )


def concatenate(parts: Sequence[Counts]) -> Counts:
    """Counts of the same network on several batches, put together sample after sample.

    Raises `ParameterError` if there are none.
    """
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
        synapses=[_join([p.synapses[i] for p in parts]) for i in range(len(first.synapses))],
        neurons=[_join([p.neurons[i] for p in parts]) for i in range(len(first.neurons))],
        steps=np.concatenate([p.steps for p in parts]),
        cores=cores,
        unseen=_join_unseen(parts),
    )


def _per_sample(part: SynapseCounts | NeuronCounts) -> list[str]:
    """Names of the fields with one entry a sample, in their last axis."""
    return [
        f.name for f in fields(part) if isinstance(getattr(part, f.name), np.ndarray) and f.name != "routes"
    ]


def _map(part: Part, function: Callable[[np.ndarray], np.ndarray]) -> Part:
    changed: dict[str, Any] = {name: function(getattr(part, name)) for name in _per_sample(part)}
    return replace(part, **changed)


def _join(parts: Sequence[Part]) -> Part:
    names = _per_sample(parts[0])
    joined: dict[str, Any] = {n: np.concatenate([getattr(p, n) for p in parts], axis=-1) for n in names}
    return replace(parts[0], **joined)


def _join_unseen(parts: Sequence[Counts]) -> list[UnseenCounts]:
    """Module after module; 0 for the samples of a batch in which one did nothing."""
    every = {u.name: u for part in parts for u in part.unseen}
    found: dict[str, list[np.ndarray]] = {name: [] for name in every}
    ran: dict[str, dict[str, None]] = {name: {} for name in every}
    for part in parts:
        macs = {u.name: u.macs for u in part.unseen}
        for name, batches in found.items():
            batches.append(macs.get(name, np.zeros(len(part))))
        for u in part.unseen:
            ran[u.name].update(dict.fromkeys(u.operations))
    return [
        replace(u, operations=tuple(ran[name]), macs=np.concatenate(found[name])) for name, u in every.items()
    ]


def most_waiting(fired: np.ndarray, pairs: np.ndarray, steps: int) -> np.ndarray:
    """Most entries of a delay queue that wait at the end of a step, ``[B]``.

    fired  which places fired in which step, bool ``[T, B, N]``
    pairs  each (place, different delay > 0) once, int ``[P, 2]``
    steps  steps that are run, T or more
    """
    peak = np.zeros(fired.shape[1], np.int64)
    if not len(pairs):
        return peak
    waiting = np.zeros((steps, fired.shape[1]), np.int64)
    for d in np.unique(pairs[:, 1]):
        entered = np.zeros_like(waiting)
        entered[: len(fired)] = fired[:, :, pairs[pairs[:, 1] == d, 0]].sum(2)
        total = np.cumsum(entered, 0)
        waiting += total
        waiting[d:] -= total[:-d]
    return np.asarray(waiting.max(0, initial=0))


def _sum(arrays: Iterable[np.ndarray], batch: int) -> np.ndarray:
    """Their sum ``[B]``, int64; zeros where there are none."""
    total = np.zeros(batch, np.int64)
    for array in arrays:
        total = total + array
    return total


def _distribution(x: np.ndarray) -> tuple[float, ...]:
    """Mean, minimum, p05, median, p95 and maximum of ``x [B]``; zeros where there are no samples."""
    if not len(x):
        return (0.0,) * 6
    low, median, high = np.quantile(x, (0.05, 0.5, 0.95))
    return float(x.mean()), float(x.min()), float(low), float(median), float(high), float(x.max())
