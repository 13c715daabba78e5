"""What a chip can hold, as data. A profile is data: make another with `dataclasses.replace`."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import ParameterError

NO_LIMIT = 1 << 62
"""Stands for a limit that a chip does not have or that nobody has told."""


@dataclass(frozen=True)
class Chip:
    """Limits of a chip of Loihi's kind.

    cores, cores_per_tile, mesh     neuron cores of one chip, cores that share a router, and the mesh of
                                    tiles (width, height)
    column_major                    tiles are numbered down a column (x = tile // height, y = tile % height),
                                    else along a row
    neurons                         per core
    memory_bits                     per core: synapses, axons, neuron state and delay buffers together
    input_axons, output_axons       per core: different neurons heard, and (neuron, core) pairs sent to
    weight_bits                     largest; of mixed sign one is the sign
    max_delay                       steps that a synapse can hold a spike back
    delay_slot_bits                 one neuron's buffer for one step of delay
    vth_bits                        of the threshold's mantissa
    bias_bits, bias_exponent        signed mantissa; largest exponent
    state_bits                      of u and of v
    axon_bits                       memory of one input axon
    cells                           the neurons that it computes, by their names in `snnkit.neurons`
    unverified                      fields whose value no primary source was found for; what a placement
                                    says of them is a warning, no proof
    """

    name: str
    cores: int
    cores_per_tile: int
    mesh: tuple[int, int]
    neurons: int
    memory_bits: int = NO_LIMIT
    input_axons: int = NO_LIMIT
    output_axons: int = NO_LIMIT
    weight_bits: int = 8
    max_delay: int = 62
    delay_slot_bits: int = 16
    vth_bits: int = 17
    bias_bits: int = 13
    bias_exponent: int = 7
    state_bits: int = 24
    axon_bits: int = 64
    cells: tuple[str, ...] = ("lif", "if", "cuba", "li")
    column_major: bool = True
    unverified: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        counts = ("cores", "cores_per_tile", "neurons", "memory_bits", "input_axons", "output_axons")
        for name in (*counts, "weight_bits", "state_bits"):
            if getattr(self, name) < 1:
                raise ParameterError(
                    f"chip {self.name!r}: {name} is {getattr(self, name)}, must be at least 1."
                )
        if self.mesh[0] * self.mesh[1] * self.cores_per_tile != self.cores:
            raise ParameterError(
                f"chip {self.name!r}: a mesh of {self.mesh[0]} × {self.mesh[1]} tiles with "
                f"{self.cores_per_tile} cores each has not {self.cores} cores."
            )
        for name in self.unverified:
            if name not in self.__dataclass_fields__:
                raise ParameterError(f"chip {self.name!r}: unverified field {name!r} is unknown.")

    def tile(self, core: int) -> tuple[int, int]:
        """(x, y) of the tile that holds a core, numbered 0 to cores − 1 on its chip."""
        number, (width, height) = core // self.cores_per_tile, self.mesh
        return divmod(number, height) if self.column_major else (number % width, number // width)


LOIHI1 = Chip(
    name="Loihi 1",
    cores=128,
    cores_per_tile=4,
    mesh=(8, 4),
    neurons=1024,
    memory_bits=2 * 1024 * 1024,
    input_axons=4096,
    output_axons=4096,
    weight_bits=8,
    unverified=("input_axons", "output_axons", "delay_slot_bits", "axon_bits"),
)
"""Davies et al., IEEE Micro 38(1), 2018: 128 cores of 1024 neurons, 2 Mb of SRAM each."""

LOIHI2 = Chip(
    name="Loihi 2",
    cores=128,
    cores_per_tile=4,
    mesh=(8, 4),
    neurons=8192,
    memory_bits=192 * 1024 * 8,
    input_axons=4096,
    output_axons=4096,
    weight_bits=8,
    unverified=(
        "cores_per_tile",
        "mesh",
        "neurons",
        "memory_bits",
        "input_axons",
        "output_axons",
        "delay_slot_bits",
        "axon_bits",
    ),
)
"""128 cores and a million neurons a chip (Intel's product texts); what a core holds is unofficial."""

CHIPS = {"loihi1": LOIHI1, "loihi2": LOIHI2}
"""The profiles by the names that configurations use."""
