"""Where a network's neurons lie on the chip: cores, memory, the limit that binds, a picture.

`placing.place` makes a `Mapping`; one of your own needs no more than the core of each neuron. Values
that a chip marks as unverified make what it says a warning, not a proof.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from ..chips import Chip
from ..errors import ParameterError
from ..files import PathLike, atomic

LIMITS = ("neurons", "memory_bits", "input_axons", "output_axons")
OFF_CHIP = -1

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


@dataclass(frozen=True)
class Mapping:
    """Neurons on cores.

    core   population → int [N]: the core of each neuron, numbered over all chips; −1 (`OFF_CHIP`) is off
           the chip, where only inputs may be: their messages count, and enter at the first tile
    chip   the chip; None where it is not known, as in a mapping by hand
    uses   what each core holds, ``[cores]``; empty where it was not reckoned
    stops  limit → number of cores that it filled
    """

    core: dict[str, np.ndarray]
    chip: Chip | None = None
    uses: list[CoreUse] = field(default_factory=list)
    stops: dict[str, int] = field(default_factory=dict)

    @property
    def cores(self) -> int:
        """Number of cores used: they are numbered from 0 on."""
        return 1 + max((int(core.max(initial=OFF_CHIP)) for core in self.core.values()), default=OFF_CHIP)

    @property
    def chips(self) -> int:
        """Number of chips used."""
        return math.ceil(self.cores / self._chip.cores)

    @property
    def _chip(self) -> Chip:
        if self.chip is None:
            raise ParameterError(
                "this mapping names no chip, so where its cores lie is not known; give Mapping(core, chip)."
            )
        return self.chip

    def position(self, core: int) -> tuple[int, int, int]:
        """(chip, x, y) of the tile that holds a core; see `Chip.tile`."""
        chip, local = divmod(core, self._chip.cores)
        return chip, *self._chip.tile(local)

    def hops(self, source: int, target: int) -> int:
        """Router to router steps from core to core: |Δx| + |Δy|, the chips standing in a row along x."""
        (a, xa, ya), (b, xb, yb) = self.position(source), self.position(target)
        width = self._chip.mesh[0]
        return abs(xa + a * width - xb - b * width) + abs(ya - yb)

    def share(self, limit: str) -> float:
        """The largest part of a limit that any core uses, 0..1."""
        most = max((getattr(use, limit) for use in self.uses), default=0)
        return most / int(getattr(self._chip, limit))

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
        doubtful = " (an unverified value)" if self.binding in self._chip.unverified else ""
        return f"{self.binding}{doubtful} filled {self.stops[self.binding]} cores: {ADVICE[self.binding]}."

    def __str__(self) -> str:
        if self.chip is None:
            return f"{self.cores} cores"
        plural = "s" if self.chips > 1 else ""
        total = self.chips * self.chip.cores
        lines = [f"{self.chip.name}: {self.cores} cores of {total} on {self.chips} chip{plural}"]
        if not self.uses:
            return lines[0]
        lines.append(
            f"{'core':>5} {'neurons':>8} {'synapses':>9} {'in':>6} {'out':>6} {'kB':>7}  populations"
        )
        for i, use in enumerate(self.uses):
            names = ", ".join(f"{name} {n}" for name, n in use.populations.items())
            lines.append(
                f"{i:>5} {use.neurons:>8} {use.synapses:>9} {use.input_axons:>6} {use.output_axons:>6} "
                f"{use.memory_bits / 8192:>7.1f}  {names}"
            )
        return "\n".join([*lines, self.advice])

    def draw(self, path: PathLike) -> None:
        """Write a picture: the mesh of each chip, each core coloured by its population, filled by memory."""
        from matplotlib import colormaps
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch, Rectangle

        chip = self._chip
        width, height = chip.mesh
        names = [name for name, core in self.core.items() if (core != OFF_CHIP).any()]
        colours = dict(zip(names, [colormaps["tab20"](i % 20) for i in range(len(names))], strict=False))
        figure = Figure(figsize=(1.1 * width * self.chips + 3, 1.1 * height + 1), layout="constrained")
        axes = figure.add_subplot(aspect="equal")
        for core in range(0, self.chips * chip.cores, chip.cores_per_tile):
            axes.add_patch(Rectangle(self._corner(core, 0.04), 0.92, 0.92, fill=False, edgecolor="0.8"))
        per_row = math.ceil(math.sqrt(chip.cores_per_tile))
        side = 0.88 / per_row
        for core, use in enumerate(self.uses):
            dy, dx = divmod(core % chip.cores_per_tile, per_row)
            x, y = self._corner(core, 0.06)
            left, top = x + dx * side, y + dy * side
            bottom = top + 0.95 * side
            for name, count in use.populations.items():
                part = use.memory_bits / chip.memory_bits * count / use.neurons
                deep = 0.95 * side * part
                bottom -= deep
                axes.add_patch(Rectangle((left, bottom), 0.95 * side, deep, color=colours[name], lw=0))
            axes.add_patch(Rectangle((left, top), 0.95 * side, 0.95 * side, fill=False, lw=0.5))
        axes.set(
            xlim=(0, self.chips * (width + 0.5) - 0.5),
            ylim=(height, 0),
            xlabel="tile column",
            ylabel="tile row",
            title=f"{chip.name}: {self.cores} cores; filled part = memory used",
        )
        handles = [Patch(color=colour, label=name) for name, colour in colours.items()]
        axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5))
        with atomic(path) as temporary:
            figure.savefig(temporary)

    def _corner(self, core: int, margin: float) -> tuple[float, float]:
        """Upper left corner of a core's tile in the picture, so far inside; chips stand half a tile apart."""
        chip, x, y = self.position(core)
        return x + chip * (self._chip.mesh[0] + 0.5) + margin, y + margin
