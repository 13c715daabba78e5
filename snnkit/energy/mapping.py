"""Where a network's neurons lie on the chip: cores, memory, the limit that binds, a picture.

A core holds neurons together with all synapses that end in them. What a core needs is estimated:

    synapses   per heard neuron the smaller of a dense row (targets in the core × bits) and a list
               (synapses × (bits + index)), bits = weight + delay; a convolution keeps its kernels once
    axons      one entry for each neuron heard
    neurons    u, v, bias, and one slot for every step of delay that its synapses use

Values that a profile marks as unverified make the result a warning, not a proof.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field

import numpy as np

from ..chips import LOIHI2, Chip
from ..engine import synapses
from ..errors import ExportError, ParameterError
from ..files import atomic
from ..graph import INPUT, Graph

LIMITS = ("neurons", "memory_bits", "input_axons", "output_axons")
OFF_CHIP = -1
STRATEGIES = ("packed", "layered")

ADVICE = {
    "neurons": "use fewer neurons",
    "memory_bits": "use fewer weight bits (quantise bits=…), prune synapses, or shorten the longest delay",
    "input_axons": "cut the fan-in, or prune so that neurons of a core hear the same sources",
    "output_axons": "cut the fan-out, or place targets on fewer cores by freeing their memory",
}


@dataclass
class CoreUse:
    """What one core holds: neurons of each population, and how much of each limit is used."""

    populations: dict[str, int]
    synapses: int
    neurons: int
    input_axons: int
    output_axons: int
    synapse_bits: int
    axon_bits: int
    neuron_bits: int
    delay_bits: int

    @property
    def memory_bits(self) -> int:
        """All that lies in the core's memory."""
        return self.synapse_bits + self.axon_bits + self.neuron_bits + self.delay_bits


@dataclass
class Mapping:
    """A placement.

    core   population → int [N]: the core of each neuron, numbered over all chips; −1 for inputs, which
           come from outside
    tiles  int [cores]: the tile of each core, numbered over all chips
    uses   what each core holds
    stops  limit → number of cores that it filled
    """

    chip: Chip
    core: dict[str, np.ndarray]
    tiles: np.ndarray
    uses: list[CoreUse]
    stops: dict[str, int] = field(default_factory=dict)

    @property
    def cores(self) -> int:
        """Number of cores used."""
        return len(self.uses)

    @property
    def chips(self) -> int:
        """Number of chips used."""
        return math.ceil(self.cores / self.chip.cores)

    def position(self, core: int) -> tuple[int, int, int]:
        """(chip, x, y) of a core: tiles are numbered down a column, x = tile // height."""
        per_chip = self.chip.mesh[0] * self.chip.mesh[1]
        chip, tile = divmod(int(self.tiles[core]), per_chip)
        return chip, tile // self.chip.mesh[1], tile % self.chip.mesh[1]

    def hops(self, source: int, target: int) -> int:
        """Router to router steps from core to core: |Δx| + |Δy|, the chips standing in a row along x."""
        (a, xa, ya), (b, xb, yb) = self.position(source), self.position(target)
        return abs(xa + a * self.chip.mesh[0] - xb - b * self.chip.mesh[0]) + abs(ya - yb)

    def share(self, limit: str) -> float:
        """The largest part of a limit that any core uses, 0..1."""
        most = max((getattr(use, limit) for use in self.uses), default=0)
        return most / int(getattr(self.chip, limit))

    @property
    def binding(self) -> str:
        """The limit that filled most cores, or, where none is full, the one used most."""
        if self.stops:
            return max(self.stops, key=lambda name: self.stops[name])
        return max(LIMITS, key=self.share)

    @property
    def advice(self) -> str:
        """What limits the network and what to change."""
        if not self.stops:
            return (
                f"No core is full; most used is {self.binding} "
                f"({100 * self.share(self.binding):.0f} % of a core)."
            )
        doubtful = " (an unverified value)" if self.binding in self.chip.unverified else ""
        return f"{self.binding}{doubtful} filled {self.stops[self.binding]} cores: {ADVICE[self.binding]}."

    def __str__(self) -> str:
        total = self.chips * self.chip.cores
        lines = [
            f"{self.chip.name}: {self.cores} cores of {total} on {self.chips} "
            f"chip{'s' if self.chips > 1 else ''}",
            f"{'core':>5} {'neurons':>8} {'synapses':>9} {'in':>6} {'out':>6} {'kB':>7}  populations",
        ]
        for i, use in enumerate(self.uses):
            names = ", ".join(f"{name} {n}" for name, n in use.populations.items())
            lines.append(
                f"{i:>5} {use.neurons:>8} {use.synapses:>9} {use.input_axons:>6} {use.output_axons:>6} "
                f"{use.memory_bits / 8192:>7.1f}  {names}"
            )
        return "\n".join([*lines, self.advice])

    def draw(self, path: str | os.PathLike[str]) -> None:
        """Write a picture: the mesh of each chip, each core coloured by its population, filled by memory."""
        from matplotlib import colormaps
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch, Rectangle

        width, height = self.chip.mesh
        per_row = math.ceil(math.sqrt(self.chip.cores_per_tile))
        names = [name for name, core in self.core.items() if (core != OFF_CHIP).any()]
        colours = dict(zip(names, [colormaps["tab20"](i % 20) for i in range(len(names))], strict=False))
        figure = Figure(figsize=(1.1 * width * self.chips + 3, 1.1 * height + 1), layout="constrained")
        axes = figure.add_subplot(aspect="equal")
        for tile in range(self.chips * width * height):
            chip, local = divmod(tile, width * height)
            x, y = local // height + chip * (width + 0.5), local % height
            axes.add_patch(Rectangle((x + 0.04, y + 0.04), 0.92, 0.92, fill=False, edgecolor="0.8"))
        for i, use in enumerate(self.uses):
            chip, x, y = self.position(i)
            dy, dx = divmod(i % self.chip.cores_per_tile, per_row)
            side = 0.88 / per_row
            left, top = x + chip * (width + 0.5) + 0.06 + dx * side, y + 0.06 + dy * side
            bottom = top + 0.95 * side
            for name, count in use.populations.items():
                part = use.memory_bits / self.chip.memory_bits * count / use.neurons
                deep = 0.95 * side * part
                bottom -= deep
                axes.add_patch(Rectangle((left, bottom), 0.95 * side, deep, color=colours[name], lw=0))
            axes.add_patch(Rectangle((left, top), 0.95 * side, 0.95 * side, fill=False, lw=0.5))
        axes.set(
            xlim=(0, self.chips * (width + 0.5) - 0.5),
            ylim=(height, 0),
            xlabel="tile column",
            ylabel="tile row",
            title=f"{self.chip.name}: {self.cores} cores; filled part = memory used",
        )
        handles = [Patch(color=colour, label=name) for name, colour in colours.items()]
        axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5))
        with atomic(path) as temporary:
            figure.savefig(temporary)


def place(graph: Graph, chip: Chip = LOIHI2, strategy: str = "packed") -> Mapping:
    """Place the neurons of a network (float or integer) on cores.

    strategy  "layered": layer by layer in the order of neurons, each layer on cores of its own;
              "packed": neurons that hear the same sources together, rests of layers share cores, and
              the better of two orders; never more cores than "layered"

    Raises `ExportError` where a single neuron is beyond a core's limits.
    """
    if strategy not in STRATEGIES:
        raise ParameterError(f"strategy {strategy!r} is none of {', '.join(STRATEGIES)}.")
    graph.validate()
    needs = _needs(graph, chip)
    candidates = [_fill(graph, chip, needs, grouped=False, shared=False)]
    if strategy == "packed":
        candidates += [_fill(graph, chip, needs, grouped=g, shared=True) for g in (False, True)]
    return min(candidates, key=lambda mapping: mapping.cores)


@dataclass
class _Need:
    """What the neurons of one population need.

    offsets, sources, bits, index_bits  synapses by target: source (global number), bits of weight and
                                        delay, bits to name the target in a list
    kernels                             (channel [N], bits of one channel's kernel) of each convolution
    delay                               longest delay each neuron's synapses use, steps on the chip [N]
    widths, total                       the values that `bits` takes; number of sources of all populations
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
    needs = {}
    for name, population in graph.populations.items():
        if population.neuron == INPUT:
            continue
        rows: list[list[np.ndarray]] = [[np.zeros(0, np.int64)] * 5]
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
            index = (population.size - 1).bit_length()
            if p.kind == "conv":
                per_channel = population.shape[1] * population.shape[2]
                kernels.append((np.arange(population.size) // per_channel, p.weight[0].size * bits))
                bits = index = 0
            count = int(used.sum())
            rows.append(
                [
                    s.target[used],
                    s.source[used] + first[p.source],
                    np.full(count, bits),
                    np.full(count, index),
                    s.delay[used],
                ]
            )
        target, source, bit, index_bit, delay = (np.concatenate(c) for c in zip(*rows, strict=True))
        order = np.lexsort((source, target))
        longest_of = np.ones(population.size, np.int64)
        np.maximum.at(longest_of, target, delay)
        needs[name] = _Need(
            np.searchsorted(target[order], np.arange(population.size + 1)),
            source[order],
            bit[order],
            index_bit[order],
            kernels,
            longest_of - 1,
            np.unique(bit),
            total,
        )
    return needs


def _piece(chip: Chip, name: str, need: _Need, members: np.ndarray, outputs: np.ndarray) -> _Piece:
    """What `members` need when they lie on one core."""
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
        name,
        members,
        heard,
        len(chosen),
        int(np.minimum(as_list, row * len(members)).sum()) + kernel_bits,
        len(members) * (2 * chip.state_bits + chip.bias_bits + 3),
        int((need.delay[members] + 1).sum()) * chip.delay_slot_bits,
        int(outputs[members].sum()),
    )


def _use(chip: Chip, pieces: list[_Piece]) -> CoreUse:
    heard = len(np.unique(np.concatenate([piece.heard for piece in pieces])))
    return CoreUse(
        {piece.name: len(piece.members) for piece in pieces},
        sum(piece.synapses for piece in pieces),
        sum(len(piece.members) for piece in pieces),
        heard,
        sum(piece.output_axons for piece in pieces),
        sum(piece.synapse_bits for piece in pieces),
        heard * chip.axon_bits,
        sum(piece.neuron_bits for piece in pieces),
        sum(piece.delay_bits for piece in pieces),
    )


def _over(chip: Chip, pieces: list[_Piece]) -> str | None:
    """The first limit that these neurons pass together, or None if they fit on one core."""
    use = _use(chip, pieces)
    return next((name for name in LIMITS if getattr(use, name) > getattr(chip, name)), None)


def _grouped_order(need: _Need, size: int) -> np.ndarray:
    """Neurons so that those which hear the same sources stand together: greedy, nearest next.

    Reverse Cuthill-McKee on the graph of neurons that share a source, by way of the bipartite graph.
    """
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import reverse_cuthill_mckee

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
    tiles = np.arange(len(placed)) // chip.cores_per_tile
    return Mapping(chip, _cores(graph, placed), tiles, uses, stops)


def _cores(graph: Graph, placed: list[list[_Piece]]) -> dict[str, np.ndarray]:
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
    # what is left of each layer goes, largest first, to the fullest core that still has room
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
