"""Placing a network's neurons on the cores of a chip.

A core holds neurons together with all synapses that end in them. What a core needs is estimated:

    synapses   per heard neuron the smaller of a dense row (targets in the core × bits) and a list
               (synapses × (bits + index)), bits = weight + delay; a convolution keeps its kernels once
    axons      one entry for each neuron heard
    neurons    u, v, bias, and one slot for every step of delay that its synapses use
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import reverse_cuthill_mckee

from ..chips import LOIHI2, Chip
from ..engine import synapses
from ..errors import ExportError, ParameterError
from ..graph import INPUT, Graph
from .mapping import ADVICE, LIMITS, OFF_CHIP, CoreUse, Mapping

STRATEGIES = ("packed", "layered", "neurons_only")


def place(graph: Graph, chip: Chip = LOIHI2, strategy: str = "packed") -> Mapping:
    """Place the neurons of a network (float or integer) on cores.

    strategy  "packed": neurons that hear the same sources together, rests of layers share cores, and
              the better of two orders; never more cores than "layered";
              "layered": layer by layer in the order of neurons, each layer on cores of its own;
              "neurons_only": likewise, but inputs are placed too (that is where their messages start),
              and of a core's limits only the number of neurons counts; one chip

    Raises `ExportError` naming the neuron that is beyond a core's limits, or the delay that is beyond the
    chip's; with "neurons_only", how many cores the network needs and the chip has. Raises
    `ParameterError` for an unknown strategy.
    """
    if strategy not in STRATEGIES:
        raise ParameterError(f"strategy {strategy!r} is none of {', '.join(STRATEGIES)}.")
    if strategy == "neurons_only":
        return _neurons_only(graph, chip)
    graph.validate()
    needs = _needs(graph, chip)
    candidates = [_fill(graph, chip, needs, grouped=False, shared=False)]
    if strategy == "packed":
        candidates += [_fill(graph, chip, needs, grouped=g, shared=True) for g in (False, True)]
    return min(candidates, key=lambda mapping: mapping.cores)


def _neurons_only(graph: Graph, chip: Chip) -> Mapping:
    """One population after another, each from a fresh core on, filling core after core."""
    core: dict[str, np.ndarray] = {}
    first = 0
    for name in graph.order():
        size = graph.populations[name].size
        core[name] = first + np.arange(size) // chip.neurons
        first += -(-size // chip.neurons)
    if first > chip.cores:
        raise ExportError(
            f"the network needs {first} cores of {chip.neurons} neurons, the chip has {chip.cores}; "
            "several chips are not priced."
        )
    return Mapping(core, chip)


@dataclass(frozen=True)
class _Need:
    """What the N neurons of one population need; S synapses end in them.

    offsets     ``[N + 1]``: the synapses of target n are offsets[n] to offsets[n + 1] of the next three
    sources     source of each synapse, numbered over all populations, ``[S]``
    bits        of its weight and delay, ``[S]``
    index_bits  to name its target in a list, ``[S]``
    kernels     (channel of each neuron ``[N]``, bits of one channel's kernel) of each convolution
    delay       longest delay that each neuron's synapses use, steps on the chip, ``[N]``
    widths      the values that `bits` takes, ascending
    total       number of neurons of all populations
    """

    offsets: np.ndarray
    sources: np.ndarray
    bits: np.ndarray
    index_bits: np.ndarray
    kernels: list[tuple[np.ndarray, int]]
    delay: np.ndarray
    widths: np.ndarray
    total: int


@dataclass
class _Piece:
    """Neurons of one population that lie on one core, and what they need there."""

    name: str
    members: np.ndarray
    heard: np.ndarray
    synapses: int
    synapse_bits: int
    neuron_bits: int
    delay_bits: int
    output_axons: int


def _needs(graph: Graph, chip: Chip) -> dict[str, _Need]:
    first, total = {}, 0
    for name, population in graph.populations.items():
        first[name] = total
        total += population.size
    return {
        name: _need(graph, chip, name, first, total)
        for name, population in graph.populations.items()
        if population.neuron != INPUT
    }


def _need(graph: Graph, chip: Chip, name: str, first: dict[str, int], total: int) -> _Need:
    """What population `name` needs; first: population → number of its first neuron."""
    population = graph.populations[name]
    columns: list[list[np.ndarray]] = [[np.zeros(0, np.int64)] * 5]
    kernels = []
    for p in graph.into(name):
        s = synapses(graph, p)
        used = s.weight != 0
        longest = max(int(s.delay[used].max(initial=0)) - 1, 0)
        if longest > chip.max_delay:
            raise ExportError(
                f"projection {p.name!r}: delay {longest} is beyond {chip.name}'s {chip.max_delay} steps."
            )
        bits = int(p.options.get("bits", chip.weight_bits)) + longest.bit_length()
        index_bits = (population.size - 1).bit_length()
        if p.kind == "conv":
            per_channel = population.shape[1] * population.shape[2]
            kernels.append((np.arange(population.size) // per_channel, p.weight[0].size * bits))
            bits = index_bits = 0
        count = int(used.sum())
        of_each = [np.full(count, bits), np.full(count, index_bits)]
        columns.append([s.target[used], s.source[used] + first[p.source], *of_each, s.delay[used]])
    target, source, bit, index_bit, delay = (np.concatenate(c) for c in zip(*columns, strict=True))
    order = np.lexsort((source, target))
    longest_of = np.ones(population.size, np.int64)
    np.maximum.at(longest_of, target, delay)
    return _Need(
        offsets=np.searchsorted(target[order], np.arange(population.size + 1)),
        sources=source[order],
        bits=bit[order],
        index_bits=index_bit[order],
        kernels=kernels,
        delay=longest_of - 1,
        widths=np.unique(bit),
        total=total,
    )


def _piece(chip: Chip, name: str, need: _Need, members: np.ndarray, outputs: np.ndarray) -> _Piece:
    """What `members` (int ``[M]``) need on one core; outputs: cores that each neuron sends to, ``[N]``."""
    sizes = need.offsets[members + 1] - need.offsets[members]
    chosen = np.repeat(need.offsets[members] - np.concatenate([[0], np.cumsum(sizes)[:-1]]), sizes)
    chosen = chosen + np.arange(len(chosen))
    sources, bits = need.sources[chosen], need.bits[chosen]
    as_list = np.bincount(sources, bits + need.index_bits[chosen], need.total)
    row = np.full(need.total, -1)
    for width in need.widths:  # ascending: the widest synapse sets the row's width
        row[sources if len(need.widths) == 1 else sources[bits == width]] = width
    heard = np.flatnonzero(row >= 0)
    as_list, row = as_list[heard], row[heard]
    kernel_bits = sum(len(np.unique(channel[members])) * bits for channel, bits in need.kernels)
    return _Piece(
        name=name,
        members=members,
        heard=heard,
        synapses=len(chosen),
        synapse_bits=int(np.minimum(as_list, row * len(members)).sum()) + kernel_bits,
        neuron_bits=len(members) * (2 * chip.state_bits + chip.bias_bits + 3),
        delay_bits=int((need.delay[members] + 1).sum()) * chip.delay_slot_bits,
        output_axons=int(outputs[members].sum()),
    )


def _use(chip: Chip, pieces: list[_Piece]) -> CoreUse:
    heard = len(np.unique(np.concatenate([piece.heard for piece in pieces])))
    return CoreUse(
        populations={piece.name: len(piece.members) for piece in pieces},
        synapses=sum(piece.synapses for piece in pieces),
        neurons=sum(len(piece.members) for piece in pieces),
        input_axons=heard,
        output_axons=sum(piece.output_axons for piece in pieces),
        synapse_bits=sum(piece.synapse_bits for piece in pieces),
        axon_bits=heard * chip.axon_bits,
        neuron_bits=sum(piece.neuron_bits for piece in pieces),
        delay_bits=sum(piece.delay_bits for piece in pieces),
    )


def _over(chip: Chip, pieces: list[_Piece]) -> str | None:
    """The first limit that these neurons pass together, or None if they fit on one core."""
    use = _use(chip, pieces)
    return next((name for name in LIMITS if getattr(use, name) > getattr(chip, name)), None)


def _grouped_order(need: _Need, size: int) -> np.ndarray:
    """Neurons (int ``[size]``) so that those which hear the same sources stand together: nearest next.

    Reverse Cuthill-McKee on the graph of neurons that share a source, by way of the bipartite graph.
    """
    names, source = np.unique(need.sources, return_inverse=True)
    target = np.repeat(np.arange(size), np.diff(need.offsets))
    nodes = size + len(names)
    ones = np.ones(len(source), np.int8)
    both = csr_matrix((ones, (target, source + size)), shape=(nodes, nodes))
    order = np.asarray(reverse_cuthill_mckee(both + both.T, symmetric_mode=True))
    return order[order < size].astype(np.int64)


def _fill(graph: Graph, chip: Chip, needs: dict[str, _Need], *, grouped: bool, shared: bool) -> Mapping:
    outputs = {name: np.ones(p.size, np.int64) for name, p in graph.populations.items()}
    placed: list[list[_Piece]] = []
    stops: dict[str, int] = {}
    for _ in range(8):  # how many cores a neuron sends to is known only when its targets lie
        placed, stops = _pack(graph, chip, needs, outputs, grouped, shared)
        core = _cores(graph, placed)
        sends = _sends(graph, core)
        used = [sum(int(sends[p.name][p.members].sum()) for p in pieces) for pieces in placed]
        fits = max(used, default=0) <= chip.output_axons
        outputs = sends if fits else {n: np.maximum(sends[n], outputs[n]) for n in sends}
        if fits:
            break
    for pieces in placed:
        for piece in pieces:
            piece.output_axons = int(outputs[piece.name][piece.members].sum())
    if any(sum(p.output_axons for p in pieces) > chip.output_axons for pieces in placed):
        stops["output_axons"] = stops.get("output_axons", 0) + 1
    uses = [_use(chip, pieces) for pieces in placed]
    return Mapping(_cores(graph, placed), chip, uses, stops)


def _cores(graph: Graph, placed: list[list[_Piece]]) -> dict[str, np.ndarray]:
    """Population → int [N]: the core of each neuron."""
    core = {name: np.full(p.size, OFF_CHIP) for name, p in graph.populations.items()}
    for i, pieces in enumerate(placed):
        for piece in pieces:
            core[piece.name][piece.members] = i
    return core


def _sends(graph: Graph, core: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Population → int [N]: to how many cores each neuron sends."""
    count = 1 + max((int(c.max(initial=0)) for c in core.values()), default=0)
    hears = {name: np.zeros((p.size, count), bool) for name, p in graph.populations.items()}
    for p in graph.projections:
        s = synapses(graph, p)
        used = s.weight != 0
        hears[p.source][s.source[used], core[p.target][s.target[used]]] = True
    return {name: flags.sum(1) for name, flags in hears.items()}


def _pack(
    graph: Graph,
    chip: Chip,
    needs: dict[str, _Need],
    outputs: dict[str, np.ndarray],
    grouped: bool,
    shared: bool,
) -> tuple[list[list[_Piece]], dict[str, int]]:
    """What lies on each core, and limit → cores that it filled.

    outputs  population → to how many cores each neuron sends, ``[N]``
    grouped  neurons that hear the same sources come one after another
    shared   cores that a layer does not fill take the rests of others
    """
    full: list[list[_Piece]] = []
    rests: list[list[_Piece]] = []
    stops: dict[str, int] = {}
    for name in (n for n in graph.order() if n in needs):
        need, size = needs[name], graph.populations[name].size
        order = _grouped_order(need, size) if grouped else np.arange(size)
        start, count = 0, 64
        while start < size:
            count, stop = _most(chip, name, need, order[start:], outputs[name], count)
            piece = _piece(chip, name, need, order[start : start + count], outputs[name])
            (full if stop else rests).append([piece])
            if stop:
                stops[stop] = stops.get(stop, 0) + 1
            start += count
    if not shared:
        return full + rests, stops
    # what is left of each layer goes, largest first, to the fullest core that still holds it
    for rest in sorted(rests, key=lambda pieces: -_use(chip, pieces).memory_bits):
        for pieces in sorted(full, key=lambda pieces: -_use(chip, pieces).memory_bits):
            if not _over(chip, pieces + rest):
                pieces.extend(rest)
                break
        else:
            full.append(rest)
    return full, stops


def _most(
    chip: Chip, name: str, need: _Need, order: np.ndarray, outputs: np.ndarray, guess: int
) -> tuple[int, str | None]:
    """How many of the neurons, from the first on, fit on an empty core, and the limit that ends it."""

    def stop(count: int) -> str | None:
        return _over(chip, [_piece(chip, name, need, order[:count], outputs)])

    if (limit := stop(1)) is not None:
        alone = _use(chip, [_piece(chip, name, need, order[:1], outputs)])
        raise ExportError(
            f"population {name!r}, neuron {order[0]}: needs {limit} = {getattr(alone, limit)}, but a core of "
            f"{chip.name} has {getattr(chip, limit)}; {ADVICE[limit]}."
        )
    fits, too_many, reach = 1, len(order) + 1, guess
    while too_many - fits > 1:
        middle = min(reach, len(order)) if reach else (fits + too_many) // 2
        if stop(middle) is None:
            fits, reach = middle, 2 * middle if reach and middle < len(order) else 0
        else:
            too_many, reach = middle, 0
    return fits, stop(too_many) if too_many <= len(order) else None
